"""Vibrations of a campaign: what is labelled of each crystal, results of reference and potential, their comparison."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import EvidenceError, StateError
from launchpad.database.campaigns import set_state
from launchpad.database.dataset import pick_items, vibration_items, with_labels
from launchpad.database.documents import VibrationDocument, generation_id
from launchpad.database.vibrations import save_vibrations, vibration_id
from launchpad.parents import parents_of, vibration_generation
from launchpad.states import CampaignState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from pymongo.database import Database

    from gapfactory.analysis.vibration_study import StudyFrame
    from gapfactory.analysis.vibrations import VibrationCells, Vibrations
    from gapfactory.campaign import Campaign
    from launchpad.database.dataset import LabelledItem
    from launchpad.parents import Parent

__all__ = [
    "fit_facts",
    "fitted_to",
    "measure_vibrations",
    "planned_cells",
    "reference_vibrations",
    "require_reference",
    "study_frame",
    "vibrations_in_words",
]

#: k-points per 1/Å that labels of a reference without k-points are reckoned to have, where costs are compared.
_DENSITY: Final = 4.0
#: Å; a cell that is made again has the same coordinates but for rounding.
_SAME: Final = 1e-6


def planned_cells(campaign: Campaign, parent: Parent) -> VibrationCells:
    """Return the cells that are labelled to know the vibrations and the elasticity of a crystal."""
    from gapfactory.analysis.vibrations import vibration_cells

    settings = campaign.vibration_settings
    return vibration_cells(parent.crystal, settings.phonons, settings.elastic, kpoints=parent.grid)


def reference_vibrations(
    database: Database[Any], campaign: Campaign, parent: Parent, planned: VibrationCells
) -> tuple[Vibrations | None, str]:
    """Return the reference's phonons and elastic constants of a crystal, or why there are none."""
    from gapfactory.analysis.vibrations import vibrations_from_labels
    from gapfactory.reference.checks import voigt

    entries, reason = _evidence(database, campaign, parent)
    if reason:
        return None, reason
    # the labels belong to the cells as they were made then, perhaps elsewhere: other versions of phonopy or spglib
    # could make others of the same crystal
    stored = [entry.item.atoms for entry in entries]
    if len(stored) != len(planned.cells) or not all(map(_same, stored, planned.cells)):
        return None, (
            "the cells that were labelled are not those that phonopy and spglib make of the crystal here: assess the "
            "campaign with the versions that its select task ran with"
        )
    labels = [entry.label for entry in entries if entry.label is not None]
    forces = [label.forces for label in labels if label.forces is not None]
    # one without stress is missed by `vibrations_from_labels`, which tells of it
    stresses = [s for s in (voigt(label.stress) for label in labels) if s is not None]
    try:
        found = vibrations_from_labels(planned, forces, stresses)
    except EvidenceError as error:
        return None, str(error)
    return found, ""


def _same(first: Atoms, second: Atoms) -> bool:
    import numpy as np

    return (
        len(first) == len(second)
        and bool((first.numbers == second.numbers).all())
        and np.allclose(first.cell.array, second.cell.array, rtol=0, atol=_SAME)
        and np.allclose(first.positions, second.positions, rtol=0, atol=_SAME)
    )


def require_reference(database: Database[Any], campaign: Campaign) -> None:
    """Halt the campaign where the reference could not calculate all that a named crystal is measured by.

    Raises
    ------
    StateError
        As said, unless `vibrations.incomplete` is ``report``.
    """
    settings = campaign.vibration_settings
    if settings.incomplete == "report":
        return
    for parent in parents_of(database, campaign):
        if parent.name not in settings.parents or parent.reason:
            continue
        _, reason = _evidence(database, campaign, parent)
        if reason:
            msg = (
                f"vibrations of {parent.name} cannot be measured: {reason}. Mend the cause, then 'gapfactory campaign "
                f"retry {campaign.name} --run'; or go on without: set vibrations.incomplete to report in the campaign "
                f"file, submit it again, then 'gapfactory campaign resume {campaign.name} --run'"
            )
            set_state(database, campaign.name, CampaignState.HALTED, msg)
            raise StateError(msg)


def _evidence(database: Database[Any], campaign: Campaign, parent: Parent) -> tuple[list[LabelledItem], str]:
    """Return the cells that a crystal is measured by with their labels, and why some are missing."""
    entries = with_labels(database, campaign, vibration_items(database, campaign, "evidence", parent.name))
    lost = [e for e in entries if e.label is None or e.label.status != "done"]
    if not lost:
        return entries, ""
    why = "" if lost[0].label is None else f": {lost[0].label.reason}"
    return entries, (
        f"{len(lost)} of {len(entries)} cells have no label, the first is {lost[0].item.id}{why}; 'gapfactory "
        f"campaign why {campaign.name}' lists them"
    )


def measure_vibrations(
    database: Database[Any],
    campaign: Campaign,
    calculator: Calculator,
    *,
    variant: str = "",
    fit: Mapping[str, Any],
    say: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Measure a potential on every crystal against the reference, store everything, and return the figures alone.

    Parameters
    ----------
    database, campaign
        With labels of the reference.
    calculator
        The potential.
    variant
        The study that fitted it; empty for that of the generation.
    fit
        What it was fitted to.
    say
        Called with a line of text now and then.

    Returns
    -------
    dict
        By crystal: `VibrationComparison.summary` and ``passed``, or ``reason``.
    """
    generation = vibration_generation(campaign)
    found: dict[str, Any] = {}
    for parent in parents_of(database, campaign):
        if parent.reason:
            found[parent.name] = {"reason": parent.reason}
            continue
        planned = planned_cells(campaign, parent)
        reference, reason = reference_vibrations(database, campaign, parent, planned)
        if not variant:
            key = vibration_id(campaign.name, generation, parent.name, "reference")
            save_vibrations(
                database,
                VibrationDocument(
                    id=key,
                    campaign=campaign.name,
                    generation=generation,
                    parent=parent.name,
                    method="reference",
                    data=None if reference is None else reference.as_dict(),
                    reason=reason,
                ),
            )
        found[parent.name] = _measured(
            database, campaign, parent, planned, reference, reason, calculator, variant, fit
        )
        say(f"vibrations of {parent.name}")
    return found


def _measured(
    database: Database[Any],
    campaign: Campaign,
    parent: Parent,
    planned: VibrationCells,
    reference: Vibrations | None,
    reason: str,
    calculator: Calculator,
    variant: str,
    fit: Mapping[str, Any],
) -> dict[str, Any]:
    """Store the potential's vibrations of one crystal, and return the figures of the comparison."""
    from gapfactory.analysis.vibrations import compare_vibrations, vibrations_by
    from gapfactory.errors import PotentialError

    settings, generation = campaign.vibration_settings, vibration_generation(campaign)
    given = settings.parent(parent.name)
    relax = settings.relax_potential if given is None or given.relaxed else None
    data, comparison = None, None
    try:
        potential = vibrations_by(
            calculator, planned, method=variant or "potential", like=reference, relax=relax
        )
        data = potential.as_dict()
        if reference is not None:
            compared = compare_vibrations(potential, reference)
            comparison = compared.summary() | {"passed": compared.passed(settings.limits)}
    except (EvidenceError, PotentialError) as error:
        reason = reason or str(error)
    save_vibrations(
        database,
        VibrationDocument(
            id=vibration_id(campaign.name, generation, parent.name, "potential", variant),
            campaign=campaign.name,
            generation=generation,
            parent=parent.name,
            method="potential",
            variant=variant,
            data=data,
            reason=reason,
            comparison=comparison,
            fit=dict(fit),
        ),
    )
    return {"reason": reason} if comparison is None else comparison


def study_frame(entry: LabelledItem) -> StudyFrame:
    """Return what a study must know of a labelled frame."""
    from gapfactory.analysis.vibration_study import StudyFrame
    from gapfactory.reference.kpoints import kpoint_grid

    info, atoms = entry.item.info, entry.item.atoms
    grid = tuple(info["kpoints"]) if info["kpoints"] is not None else kpoint_grid(atoms, _DENSITY)
    return StudyFrame(entry.item.id, info["kind"], len(atoms), grid, info["parent"])


def fit_facts(n_sparse: int | None, frames: Sequence[StudyFrame]) -> dict[str, Any]:
    """Return what a potential was fitted to: frames, their atoms, sparse points, and what the labels cost (Table 2)."""
    from gapfactory.analysis.vibration_study import frames_cost

    cost = frames_cost(frames)
    return {
        "n_energies": len(frames),
        "n_atoms": sum(frame.atoms for frame in frames),
        "n_sparse": n_sparse,
        "cost": cost.total,
        "cost_table": cost.text(),
    }


def fitted_to(database: Database[Any], campaign: Campaign, generation: int) -> dict[str, Any]:
    """Return the same of the potential of the generation."""
    record = database.potentials.find_one(
        {"_id": generation_id(campaign.name, generation)}, {"trained_on": 1, "report.stages": 1}
    )
    if record is None:
        return {}
    trained = set(record["trained_on"])
    entries = with_labels(database, campaign, pick_items(database, campaign, generation))
    frames = [study_frame(entry) for entry in entries if entry.item.id in trained]
    stages = record["report"].get("stages")
    return fit_facts(sum(stages[-1]["n_sparse"]) if stages else None, frames)


def vibrations_in_words(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the figures of each crystal in a few words, for the live progress."""
    words = {}
    for name, row in sorted(found.items()):
        if row.get("reason"):
            text = row["reason"]
        else:
            percent = row["elastic_percent"]
            elastic = (
                "no elastic constants" if percent is None else f"elastic constants within {percent:.1f} %"
            )
            text = f"phonons {row['rmse_THz']:.3f} THz RMS, {elastic}: {'passed' if row['passed'] else 'not passed'}"
        words[f"vibrations {name}"] = text
    return words
