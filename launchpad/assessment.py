"""Measure a potential on what it was not trained on; the numbers become the metrics of a generation.

Gathers structures and labels from the database, lets `gapfactory.analysis` judge, and keeps plain data.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from gapfactory.errors import PotentialError
from gapfactory.protocols.planner import recipe_of
from launchpad.database.curves import curve_of
from launchpad.database.dataset import noise_items, pick_items, with_labels
from launchpad.diagnostics import diagnostic_searches
from launchpad.separations import measured_on
from launchpad.tasks.reference import curve_key
from launchpad.training_set import last_frames, origin_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from numpy.typing import NDArray
    from pymongo.database import Database

    from gapfactory.analysis.energy_volume import EnergyVolumeCurve
    from gapfactory.analysis.errors import ErrorRecord
    from gapfactory.campaign import Campaign
    from gapfactory.protocols.recipe import GenerationRecipe
    from gapfactory.reference import Label, LabelNoise
    from launchpad.database.dataset import LabelledItem

__all__ = ["assess", "labelled_picks", "noise_of_labels", "reference_curve"]


def assess(
    database: Database[Any],
    campaign: Campaign,
    generation: int,
    calculator: Calculator,
    preceding: Calculator | None,
    progress: Any = None,
) -> dict[str, Any]:
    """Return everything measured about the potential of one generation, as plain data.

    Parameters
    ----------
    database, campaign, generation
        What to judge.
    calculator
        The potential of this generation.
    preceding
        The potential of the generation before, for Fig. 4; None in the first.
    progress
        Called with a line of text now and then.
    """
    say = progress or (lambda _: None)
    labelled = labelled_picks(database, campaign, generation)
    recipe = recipe_of(campaign, generation)
    held_out = [e for e in labelled if e.item.held_out_of(recipe)]
    energies = [e.label.energy / len(e.item.atoms) for e in labelled if e.label is not None]
    records, unusable = _records(held_out, calculator)
    rows = _errors(records, min(energies, default=None), campaign)
    say(f"{len(held_out)} held-out structures")
    noise = noise_of_labels(database, campaign)
    phases = {name: _phase(database, campaign, name, calculator) for name in campaign.phase_names()}
    scatter, outside = _scatter(database, campaign, generation, preceding)
    levels = _levels(database, campaign, labelled)
    searches = diagnostic_searches(database, campaign, generation)
    return {
        "errors": [row.as_dict() for row in rows],
        "held_out": len(held_out),
        # [id, energy error in eV/atom, root mean square of the force errors in eV/Å or None]
        "held_out_errors": [_residual(record) for record in records],
        # [id, reason] of what this potential, or for the scatter the preceding one, cannot evaluate
        "unusable": [*unusable, *outside],
        "phases": phases,
        "scatter": scatter,
        "headline": _headline(rows, phases, levels) | _found(searches),
        "noise": None if noise is None else asdict(noise),
        "window": _window(records, min(energies, default=0.0), campaign),
        "levels": levels,
        "energies": _boxes(database, labelled, generation),
        "crystals": _crystals(labelled, calculator, recipe),
        "searches": searches,
        "measured": measured_on(campaign, labelled),
    }


def _boxes(database: Database[Any], labelled: Sequence[LabelledItem], generation: int) -> dict[str, Any]:
    """Return the distribution of the reference energies of this generation's picks, by origin."""
    from gapfactory.analysis.energy_distribution import energy_box

    mine = [entry for entry in labelled if entry.item.generation == generation]
    last = last_frames(database, [entry.item for entry in mine])
    found: dict[str, list[float]] = {}
    for entry in mine:
        if entry.label is not None:
            energy = entry.label.energy / len(entry.item.atoms)
            found.setdefault(origin_of(entry.item, last), []).append(energy)
    return {origin: energy_box(energies).as_dict() for origin, energies in sorted(found.items())}


def _crystals(
    labelled: Sequence[LabelledItem], calculator: Calculator, recipe: GenerationRecipe
) -> dict[str, Any]:
    """Return the energy error on each group of distorted crystals, and whether it was trained on (PRL, Fig. 1c)."""
    import numpy as np

    groups: dict[str, list[LabelledItem]] = {}
    for entry in labelled:
        if "crystal" in entry.item.info:
            groups.setdefault(entry.item.info["crystal"], []).append(entry)
    found = {}
    for name, entries in sorted(groups.items()):
        records, _ = _records(entries, calculator)
        errors = [(r.energy_potential - r.energy_reference) / r.n_atoms for r in records]
        found[name] = {
            "n": len(entries),
            "usable": len(errors),
            "energy_rmse_meV": float(1000 * np.sqrt(np.mean(np.square(errors)))) if errors else None,
            "trained": name in recipe.trained_crystals,
        }
    return found


def labelled_picks(database: Database[Any], campaign: Campaign, generation: int) -> list[LabelledItem]:
    """Return every pick of the generations so far that has a label, ordered by id."""
    entries = []
    for earlier in range(generation + 1):
        entries += with_labels(database, campaign, pick_items(database, campaign, earlier))
    good = [e for e in entries if e.label is not None and e.label.usable_in(generation)]
    return sorted(good, key=lambda e: e.item.id)


def _evaluate(atoms: Atoms, calculator: Calculator) -> tuple[float, NDArray[Any], NDArray[Any] | None]:
    work = atoms.copy()
    work.calc = calculator
    energy = float(work.get_potential_energy())
    stress = work.get_stress() if all(work.pbc) else None
    return energy, work.get_forces(), stress


def _record(entry: LabelledItem, calculator: Calculator) -> ErrorRecord:
    from gapfactory.analysis.errors import ErrorRecord

    if entry.label is None:
        msg = f"{entry.item.id} has no label"
        raise ValueError(msg)
    atoms = entry.item.atoms
    energy, forces, stress = _evaluate(atoms, calculator)
    volume = atoms.get_volume() if all(atoms.pbc) else 0.0
    return ErrorRecord(
        id=entry.item.id,
        kind=entry.item.kind,
        n_atoms=len(atoms),
        energy_reference=entry.label.energy,
        energy_potential=energy,
        forces_reference=entry.label.forces,
        forces_potential=forces,
        virial_reference=None if entry.label.stress is None else -volume * entry.label.stress,
        virial_potential=None if stress is None else -volume * stress,
    )


def _records(
    entries: Sequence[LabelledItem], calculator: Calculator
) -> tuple[list[ErrorRecord], list[list[str]]]:
    """Return the records of what the potential can evaluate, and ``[id, reason]`` of the rest."""
    records: list[ErrorRecord] = []
    unusable: list[list[str]] = []
    for entry in entries:
        try:
            records.append(_record(entry, calculator))
        except PotentialError as error:
            unusable.append([entry.item.id, str(error)])
    return records, unusable


def _residual(record: ErrorRecord) -> list[Any]:
    import numpy as np

    forces = record.residuals("forces")
    rms = float(np.sqrt(np.mean(forces**2))) if forces.size else None
    return [record.id, (record.energy_potential - record.energy_reference) / record.n_atoms, rms]


def _errors(records: Sequence[ErrorRecord], lowest: float | None, campaign: Campaign) -> tuple[Any, ...]:
    """Return the error table; its windows count from the lowest energy (eV/atom) of all labels."""
    import numpy as np

    from gapfactory.analysis.errors import error_table

    if not records:
        return ()
    rng = np.random.default_rng([campaign.seed, len(records)])
    return error_table(records, rng=rng, lowest_energy=lowest)


def _window(records: Sequence[ErrorRecord], lowest: float, campaign: Campaign) -> dict[str, Any]:
    """Return the held-out energy error within the window of the convergence criterion."""
    from gapfactory.analysis.learning import low_energy_rmse

    n, rmse = low_energy_rmse(records, lowest, campaign.stop.convergence.energy_window_in_eV)
    return {"n": n, "energy_rmse_eV": rmse if n else None}


def reference_curve(database: Database[Any], campaign: Campaign, phase: str) -> EnergyVolumeCurve | None:
    """Return the reference's curve of a phase, or None while there is none."""
    import numpy as np

    from gapfactory.analysis.energy_volume import EnergyVolumeCurve

    stored = curve_of(database, curve_key(campaign, phase))
    if stored is None:
        return None
    failures = tuple((float(volume), str(reason)) for volume, reason in stored["failures"])
    return EnergyVolumeCurve(
        phase, "reference", np.array(stored["volumes"]), np.array(stored["energies"]), failures
    )


def _phase(database: Database[Any], campaign: Campaign, name: str, calculator: Calculator) -> dict[str, Any]:
    """Return the potential's curve of a phase and its comparison with the reference's."""
    from gapfactory.analysis.energy_volume import compare_phase, energy_volume_curve
    from gapfactory.errors import EvidenceError

    atoms = campaign.phase_of(name).atoms
    curve = energy_volume_curve(atoms, calculator, phase=name, settings=campaign.evidence.curves)
    found: dict[str, Any] = {
        "volumes": curve.volumes.tolist(),
        "energies": curve.energies.tolist(),
        "failures": [list(failure) for failure in curve.failures],
        "comparison": None,
        "note": "",
    }
    reference = reference_curve(database, campaign, name)
    if reference is None:
        found["note"] = "the reference's curve is not there"
        return found
    try:
        found["comparison"] = compare_phase(curve, reference, campaign.evidence.curves).as_dict()
    except EvidenceError as error:
        found["note"] = str(error)
    return found


def _scatter(
    database: Database[Any], campaign: Campaign, generation: int, preceding: Calculator | None
) -> tuple[dict[str, Any] | None, list[list[str]]]:
    """Return energies per atom of this generation's picks by reference and by the preceding potential (Fig. 4).

    The second item lists ``[id, reason]`` of those that the preceding potential cannot evaluate.
    """
    if preceding is None:
        return None, []
    entries = with_labels(database, campaign, pick_items(database, campaign, generation))
    rows = []
    unusable: list[list[str]] = []
    for entry in sorted(entries, key=lambda e: e.item.id):
        if entry.label is not None and entry.label.status == "done":
            atoms = entry.item.atoms
            try:
                predicted = _evaluate(atoms, preceding)[0]
            except PotentialError as error:
                unusable.append([entry.item.id, f"preceding potential: {error}"])
                continue
            rows.append((entry.item.id, entry.label.energy / len(atoms), predicted / len(atoms)))
    names = ("ids", "reference", "predicted")
    return {name: [row[k] for row in rows] for k, name in enumerate(names)}, unusable


def noise_of_labels(database: Database[Any], campaign: Campaign) -> LabelNoise | None:
    """Return how far labels move when the k-point density is raised, or None where no cell has both labels."""
    from gapfactory.reference import label_noise

    if not database.selections.find_one({"campaign": campaign.name, "generation": 0}, {"_id": 1}):
        return None
    plain = _done(with_labels(database, campaign, pick_items(database, campaign, 0)))
    dense = _done(with_labels(database, campaign, noise_items(database, campaign)))
    return label_noise(plain, dense) if set(plain) & set(dense) else None


def _levels(
    database: Database[Any], campaign: Campaign, labelled: Sequence[LabelledItem]
) -> dict[str, Any] | None:
    """Return how labels differ from those that the campaign's source has of the same structures."""
    from gapfactory.analysis.levels import compare_levels
    from gapfactory.errors import EvidenceError, NotFoundError
    from launchpad.database.campaigns import campaign_of, require_campaign

    if campaign.source is None:
        return None
    try:
        source = campaign_of(require_campaign(database, campaign.source.campaign))
        items = [e.item for e in labelled]
        first = _done(with_labels(database, source, items))
        return compare_levels({item.id: item.atoms for item in items}, first, _done(labelled)).as_dict()
    except (EvidenceError, NotFoundError):
        # the other campaign is in another database, or could label none of them
        return None


def _done(entries: Sequence[LabelledItem]) -> dict[str, Label]:
    return {
        entry.item.id: entry.label.as_label()
        for entry in entries
        if entry.label is not None and entry.label.status == "done"
    }


def _headline(rows: Sequence[Any], phases: dict[str, Any], levels: dict[str, Any] | None) -> dict[str, Any]:
    """Return the few numbers that the live progress shows."""
    from gapfactory.analysis.errors import pick_row

    found: dict[str, Any] = {}
    energy, force = pick_row(rows, "energy"), pick_row(rows, "forces")
    if energy is not None:
        found["energy_rmse_meV"] = 1000 * energy.summary.rmse
    if force is not None:
        found["force_rmse_eV_A"] = force.summary.rmse
    if levels is not None:
        found["level_energy_rms_meV"] = levels["aligned_rms_meV"]
        found["level_force_rms_eV_A"] = levels["force_rms"]
    for name, phase in phases.items():
        if phase["comparison"] is not None:
            found[f"{name}_meV"] = phase["comparison"]["energy_error_meV_per_atom"]
            found[f"{name}_volume_percent"] = phase["comparison"]["volume_error_percent"]
    return found


def _found(searches: dict[str, Any]) -> dict[str, str]:
    """Return what diagnostic searches found, in words."""
    words = {}
    for name, found in sorted(searches.items()):
        counts = "; ".join(f"{t} {c['found']} of {c['attempts']}" for t, c in found["targets"].items())
        potential = f"the potential of generation {found['potential']} ({found['labels']} structures)"
        words[f"search {name}"] = f"{counts or 'nothing looked for'} with {potential}"
    return words
