"""Known crystals: distorted ones, polymorphs over volume, mixed occupations (Figs. 1c, 2 and 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.errors import EvidenceError, InputError, NotFoundError
from launchpad.assessment import reference_curve
from launchpad.figure_data.reference import computed_energies, stored_energies
from launchpad.figure_data.request import (
    Gathered,
    energy_per_atom,
    opened,
    other_potential,
    potential_of,
    shown_potential,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray
    from pymongo.database import Database

    from gapfactory.analysis.distorted_errors import TestCrystal
    from gapfactory.analysis.energy_volume import EnergyVolumeCurve
    from gapfactory.build.discrete import DiscreteModels
    from gapfactory.campaign import Campaign
    from gapfactory.io.structures import GivenStructure
    from launchpad.figure_data.request import Potential, Request

__all__ = ["distorted_crystals", "mixed_occupations", "phase_label", "polymorphs"]


def distorted_crystals(database: Database[Any], request: Request) -> Gathered:
    """Return Fig. 1c: the error of every potential on distorted crystals of named phases."""
    from gapfactory.analysis.distorted_errors import distorted_errors, name_potentials
    from gapfactory.figures import distorted_crystal_errors

    campaign = opened(database, request)
    shown_potential(database, request)
    own = _own_crystals(database, campaign)
    notes: list[str] = []
    if request.structures is not None:
        structures = _phases_of(request.structures)
    else:
        structures = own or _made_crystals(campaign, notes)
    crystals, kept, missing = _labelled(database, campaign, structures, request)
    if missing:
        notes.append(missing)
    if not crystals:
        raise EvidenceError(
            f"none of {len(structures)} distorted crystals has a reference energy. {' '.join(notes)}"
        )
    records = {
        record["generation"]: record
        for record in database.potentials.find({"campaign": campaign.name}).sort("generation", 1)
        if request.generation is None or record["generation"] <= request.generation
    }
    trained_on = {generation: frozenset(record["trained_on"]) for generation, record in records.items()}
    names = name_potentials(trained_on, [s.id for s in own])
    predicted = {}
    for generation, record in records.items():
        if record.get("pruned"):
            notes.append(f"the files of the potential of generation {generation} were removed by policy")
            continue
        calculator = potential_of(record, "").load(database)
        predicted[names[generation]] = {s.id: energy_per_atom(s.atoms, calculator) for s in kept}
    if not predicted:
        raise EvidenceError(
            f"no potential of campaign {campaign.name!r} has its files any more: {'; '.join(notes)}. Where they were "
            "archived, 'gapfactory db restore FILE' brings them back"
        )
    errors = distorted_errors(crystals, predicted, {names[g]: ids for g, ids in trained_on.items()})
    if refused := sum(e.unusable for e in errors.errors):
        notes.append(f"{refused} energies were refused by a potential and are in no average")
    labels = {phase: phase_label(phase) for phase in errors.phases}
    return Gathered(distorted_crystal_errors(errors, labels=labels), errors.rows(), tuple(notes))


def _own_crystals(database: Database[Any], campaign: Campaign) -> list[GivenStructure]:
    """Return the distorted crystals that the campaign has labelled."""
    from gapfactory.io.structures import GivenStructure
    from launchpad.assessment import labelled_picks

    newest = database.selections.find_one({"campaign": campaign.name}, sort=[("generation", -1)])
    if newest is None:
        return []
    return [
        GivenStructure(
            e.item.id,
            e.item.atoms,
            str(e.item.info.get("phase") or e.item.info["crystal"]),
            e.label.energy,
            None,
        )
        for e in labelled_picks(database, campaign, newest["generation"])
        if e.label is not None and e.item.info.get("crystal")
    ]


def _phases_of(path: Path) -> list[GivenStructure]:
    """Return the structures of a file, each of which names its phase.

    Raises
    ------
    InputError
        One does not, or the file cannot be read.
    """
    from gapfactory.io.structures import read_structures

    given = read_structures(path)
    nameless = next((s.id for s in given if not s.group), None)
    if nameless is not None:
        raise InputError(f"{path}: structure {nameless!r} has no 'phase' or 'config_type'")
    return given


def _made_crystals(campaign: Campaign, notes: list[str]) -> list[GivenStructure]:
    """Return distorted crystals of the phases that the campaign is judged by; they follow from its seed."""
    from gapfactory.analysis.distorted_errors import DistortedTestSettings
    from gapfactory.build.distorted import distorted_crystal
    from gapfactory.io.structures import GivenStructure
    from gapfactory.seeds import Stage, stream

    if not campaign.phase_names():
        raise EvidenceError(
            f"campaign {campaign.name!r} is judged by no named phases ('gapfactory campaign show {campaign.name}', "
            "evidence.phases); give labelled distorted crystals with --structures FILE"
        )
    settings = DistortedTestSettings()
    known = {name: campaign.phase_of(name).atoms for name in campaign.phase_names()}
    found = []
    for number, name in enumerate(campaign.phase_names()):
        if len(known[name]) > settings.max_atoms:
            notes.append(
                f"{name} has {len(known[name])} atoms in its cell, more than {settings.max_atoms}: left out"
            )
            continue
        for index in range(settings.per_phase):
            rng = stream(campaign.seed, 0, Stage.CRYSTAL, number * settings.per_phase + index)
            atoms = distorted_crystal(known[name], rng).atoms
            found.append(GivenStructure(f"{name}/{index:02d}", atoms, name, None, None))
    return found


def phase_label(name: str) -> str:
    """Return the label of a named phase for figures, or the name itself where it is none."""
    from gapfactory.analysis.phases import named_phases

    element = name.partition("-")[0]
    return next((phase.label for phase in named_phases(element) if phase.name == name), name)


def _labelled(
    database: Database[Any], campaign: Campaign, structures: Sequence[GivenStructure], request: Request
) -> tuple[list[TestCrystal], list[GivenStructure], str]:
    """Return the structures with reference energies, the same as structures, and what is to be said of the others."""
    from gapfactory.analysis.distorted_errors import TestCrystal

    energies = {s.id: s.energy for s in structures if s.energy is not None}
    wanted = [s for s in structures if s.energy is None]
    energies |= stored_energies(database, campaign, wanted)
    wanted = [s for s in wanted if s.id not in energies]
    # an analytic reference takes no time
    if wanted and (request.label or campaign.reference.engine == "ase"):
        energies |= computed_energies(database, campaign, wanted, keep=request.label)
    kept = [s for s in structures if s.id in energies]
    crystals = [TestCrystal(s.id, s.group, energies[s.id] / len(s.atoms)) for s in kept]
    lost = len(structures) - len(kept)
    if not lost:
        return crystals, kept, ""
    if request.label or campaign.reference.engine == "ase":
        return crystals, kept, f"{lost} structures could not be labelled and are left out"
    return (
        crystals,
        kept,
        (
            f"{lost} structures have no reference energy and are left out: --label computes them here with "
            f"{campaign.reference.engine} and keeps them in the database"
        ),
    )


def polymorphs(database: Database[Any], request: Request) -> Gathered:
    """Return Fig. 2: energies of polymorphs over volume by the reference and by one or two potentials."""
    from gapfactory.analysis.polymorphs import polymorphs as gathered
    from gapfactory.figures import polymorph_curves

    campaign = opened(database, request)
    first = shown_potential(database, request, assessed=request.structures is None)
    second = other_potential(database, request, first)
    notes = []
    if second is None:
        notes.append(
            "no other potential was fitted to the same data (a final, tighter fit, say): --against "
            "CAMPAIGN@GENERATION draws any other beside this one"
        )
    shown = [first] if second is None else [first, second]
    if request.structures is not None:
        curves = _curves_of_file(database, request.structures, shown)
    else:
        curves = _stored_curves(database, campaign, shown, notes)
    phases = dict.fromkeys(curve.phase for curve in curves)
    data = gathered(curves, labels=[(phase, phase_label(phase)) for phase in phases])
    return Gathered(polymorph_curves(data), data.rows(), tuple(notes))


def _stored_curves(
    database: Database[Any], campaign: Campaign, shown: Sequence[Potential], notes: list[str]
) -> list[EnergyVolumeCurve]:
    """Return the curves that the assessments stored: of each method, relaxed by itself at each volume."""
    import numpy as np

    from gapfactory.analysis.energy_volume import EnergyVolumeCurve

    if not campaign.phase_names():
        raise EvidenceError(
            f"campaign {campaign.name!r} is judged by no named phases; give polymorphs at several volumes, with "
            "'phase' and REF_energy, by --structures FILE"
        )
    curves = []
    for potential in shown:
        metrics = database.metrics.find_one(
            {"campaign": potential.campaign, "generation": potential.generation}
        )
        if metrics is None:
            raise NotFoundError(
                f"{potential.campaign}@{potential.generation} has not been assessed yet; 'gapfactory campaign status "
                f"{potential.campaign}' shows how far it is"
            )
        for name, phase in metrics["evidence"]["phases"].items():
            if name in campaign.phase_names():
                volumes, energies = np.array(phase["volumes"]), np.array(phase["energies"])
                curves.append(EnergyVolumeCurve(name, potential.name, volumes, energies))
            if failed := len(phase["failures"]):
                notes.append(f"{name} by {potential.name}: {failed} volumes without energy")
    for name in campaign.phase_names():
        curve = reference_curve(database, campaign, name)
        if curve is None:
            notes.append(f"{name}: the reference's curve is not there")
        else:
            curves.append(curve)
    return curves


def _curves_of_file(
    database: Database[Any], path: Path, shown: Sequence[Potential]
) -> list[EnergyVolumeCurve]:
    """Return the reference's energies of a file, and those of the potentials for the same structures."""
    import numpy as np

    from gapfactory.analysis.energy_volume import EnergyVolumeCurve

    given = _phases_of(path)
    methods: list[tuple[str, list[float | None]]] = [
        ("reference", [None if s.energy is None else s.energy / len(s.atoms) for s in given])
    ]
    for potential in shown:
        calculator = potential.load(database)
        methods.append((potential.name, [energy_per_atom(s.atoms, calculator) for s in given]))
    curves = []
    for phase in dict.fromkeys(s.group for s in given):
        for name, energies in methods:
            known = [
                (float(s.atoms.get_volume()) / len(s.atoms), energy)
                for s, energy in zip(given, energies, strict=True)
                if s.group == phase and energy is not None
            ]
            volumes, values = np.array(known, dtype=float).reshape(-1, 2).T
            curves.append(EnergyVolumeCurve(phase, name, volumes, values))
    return curves


def mixed_occupations(database: Database[Any], request: Request) -> Gathered:
    """Return Fig. 3: energies of discrete models of a crystal with partially occupied sites."""
    from gapfactory.analysis.mixed_occupation import mixed_occupation
    from gapfactory.figures import occupation_models
    from gapfactory.io.structures import GivenStructure, read_structures

    campaign = opened(database, request)
    first = shown_potential(database, request)
    second = None if request.against is None else other_potential(database, request, first)
    if request.discrete and request.crystal is None:
        raise InputError("--set says how models are drawn from a crystal: give it by --crystal FILE")
    crystal = None if request.crystal is None else _occupied(request)
    if request.structures is not None:
        given, notes = read_structures(request.structures), []
    elif crystal is not None:
        drawn = crystal.draws(request.models, seed=campaign.seed)
        given = [GivenStructure(f"model-{k}", m.atoms, "", None, m.partial) for k, m in enumerate(drawn, 1)]
        notes = [f"{len(given)} models were drawn from {request.crystal} by the campaign's seed"]
    else:
        raise EvidenceError(
            f"campaign {campaign.name!r} has no models of a crystal with partially occupied sites. Give the crystal by "
            "--crystal FILE (CIF with occupations), from which models are drawn, or models by --structures FILE"
        )
    energies = {s.id: s.energy for s in given if s.energy is not None}
    wanted = [s for s in given if s.energy is None]
    energies |= stored_energies(database, campaign, wanted)
    wanted = [s for s in wanted if s.id not in energies]
    if wanted and request.label:
        energies |= computed_energies(database, campaign, wanted, keep=True)
    if lost := sum(s.id not in energies for s in given):
        notes.append(f"{lost} of {len(given)} models have no reference energy; --label computes them here")
    predicted = {}
    for potential in [first] if second is None else [first, second]:
        calculator = potential.load(database)
        values = [energy_per_atom(s.atoms, calculator) for s in given]
        refused = [s.id for s, value in zip(given, values, strict=True) if value is None]
        if refused:
            raise EvidenceError(
                f"{potential.name} refuses the model {refused[0]!r}: it lies outside of what it knows"
            )
        predicted[potential.name] = [float(value) for value in values if value is not None]
    models = [
        (s.id, len(s.atoms), energies[s.id] / len(s.atoms) if s.id in energies else None) for s in given
    ]
    data = mixed_occupation(models, predicted)
    shown, partial = _picture(crystal, given)
    if shown is None:
        notes.append(
            "the crystal is not drawn: give a CIF with occupations by --crystal FILE, or a column 'occupancy'"
        )
    notes += [
        f"{a.potential}: RMSE {1000 * a.rmse:.2f} meV/atom over {a.n} models, {1000 * a.bias:+.2f} of it in the mean"
        # of two models, or of equal ones, there is no order
        + (f", rank correlation {a.rank_correlation:.2f}" if a.rank_correlation == a.rank_correlation else "")
        for a in data.agreement
    ]
    return Gathered(occupation_models(data, shown, partial), data.rows(), tuple(notes))


def _occupied(request: Request) -> DiscreteModels:
    """Return the models of the crystal that was given.

    Raises
    ------
    InputError
        The file is no CIF of a crystal, or no models of it can be made as they were asked for.
    """
    from pydantic import ValidationError

    from gapfactory.build.discrete import DiscreteModels, DiscreteSettings
    from gapfactory.build.occupation import read_occupied_crystal

    try:
        settings = DiscreteSettings.model_validate({"setting": "as-given", **request.discrete})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc'])) or '--set'}: {e['msg']}" for e in error.errors())
        raise InputError(f"{wrong}. There are: {', '.join(DiscreteSettings.model_fields)}") from error
    return DiscreteModels(read_occupied_crystal(str(request.crystal)), settings)


def _picture(
    crystal: DiscreteModels | None, given: Sequence[GivenStructure]
) -> tuple[Atoms | None, NDArray[np.bool_] | None]:
    """Return all sites of the crystal and which of them are partial; else the first model that says it, or nothing."""
    import numpy as np
    from ase import Atoms

    if crystal is None:
        first = next((s for s in given if s.partial is not None), None)
        return (first.atoms, first.partial) if first is not None else (None, None)
    whole = crystal.crystal
    symbols = [whole.sites[k].occupants[0][0] for k in whole.site_of]
    atoms = Atoms(symbols, cell=whole.cell, scaled_positions=whole.positions, pbc=True)
    return atoms, np.isin(np.arange(len(atoms)), crystal.partial)
