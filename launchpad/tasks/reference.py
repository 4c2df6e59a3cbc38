"""Run the reference method on structures that have no label yet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fireworks import explicit_serialize

from launchpad.database.dataset import (
    atom_items,
    label_hash,
    noise_items,
    pick_items,
    store_atoms,
    with_labels,
)
from launchpad.database.documents import CurveDocument
from launchpad.database.labels import curve_of, save_curve, save_failed_label, save_label
from launchpad.tasks.base import CampaignTask, TaskContext

if TYPE_CHECKING:
    from gapfactory.analysis.energy_volume import EnergyVolumeCurve
    from gapfactory.campaign import Campaign
    from gapfactory.reference import CurvePoint, LabelOutcome
    from launchpad.database.dataset import Item

__all__ = ["ReferenceTask", "curve_key", "curve_volumes"]


@explicit_serialize
class ReferenceTask(CampaignTask):
    """Label the isolated atoms and dimers, a range of picks, the noise cells, or the curve of a named phase."""

    required_params: ClassVar[tuple[str, ...]] = (*CampaignTask.required_params, "what")
    optional_params: ClassVar[tuple[str, ...]] = ("start", "stop", "phase")

    def work(self, context: TaskContext) -> dict[str, Any]:
        """Label what is missing; every result is stored as soon as it exists."""
        campaign, database = context.campaign, context.database
        if self["what"] == "phase":
            return _label_phase(context, self["phase"])
        if self["what"] == "atoms":
            store_atoms(database, campaign)
            items = atom_items(database, campaign)
        elif self["what"] == "noise":
            items = noise_items(database, campaign)
        else:
            items = pick_items(database, campaign, context.generation)[self["start"] : self["stop"]]
        return _label_items(context, items)


def _label_items(context: TaskContext, items: list[Item]) -> dict[str, Any]:
    from gapfactory.reference import label_structures

    campaign, database = context.campaign, context.database
    missing = {
        entry.item.id: entry.item for entry in with_labels(database, campaign, items) if entry.label is None
    }
    counts = {"reused": len(items) - len(missing), "labelled": 0, "failed": 0}

    def store(outcome: LabelOutcome) -> None:
        item = missing[outcome.id]
        key = (item.hash, label_hash(campaign, item), item.kind, item.atoms)
        if outcome.label is None:
            save_failed_label(
                database, campaign.name, *key, campaign.reference.engine, outcome.reason, outcome.attempts
            )
            counts["failed"] += 1
        else:
            save_label(database, campaign.name, *key, outcome.label, outcome.attempts)
            counts["labelled"] += 1

    if missing:
        noise = items[0].role == "noise"
        label_structures(
            [(item.id, item.atoms) for item in missing.values()],
            campaign.reference.with_higher_density() if noise else campaign.reference,
            context.workdir / "reference",
            store,
        )
    return counts


def curve_volumes(campaign: Campaign, phase: str) -> list[float]:
    """Return the volumes (Å^3/atom) at which a named phase is computed, ascending."""
    atoms = _phase_atoms(campaign, phase)
    return [
        float(atoms.get_volume() / len(atoms) * factor)
        for factor in sorted(campaign.evidence.curves.volume_factors)
    ]


def curve_key(campaign: Campaign, phase: str) -> str:
    """Return the key under which the reference's curve of a phase is shared by all campaigns."""
    import hashlib
    import json

    from gapfactory.reference import settings_hash
    from gapfactory.structures import structure_hash

    how = [
        structure_hash(_phase_atoms(campaign, phase)),
        settings_hash(campaign.reference, "crystal"),
        campaign.evidence.curves.relax.digest(),
        curve_volumes(campaign, phase),
    ]
    return hashlib.sha256(json.dumps(how).encode()).hexdigest()


def _phase_atoms(campaign: Campaign, name: str) -> Any:
    from gapfactory.analysis.phases import named_phases

    return next(phase.atoms for phase in named_phases(str(campaign.element)) if phase.name == name)


def _label_phase(context: TaskContext, phase: str) -> dict[str, Any]:
    from gapfactory.analysis.energy_volume import next_volumes
    from gapfactory.reference import energy_volume_reference, settings_hash

    campaign, database = context.campaign, context.database
    key = curve_key(campaign, phase)
    if curve_of(database, key) is not None:
        return {"phase": phase, "reused": 1}
    points: list[CurvePoint] = []
    wanted = curve_volumes(campaign, phase)
    while wanted:
        points += energy_volume_reference(
            _phase_atoms(campaign, phase),
            wanted,
            campaign.reference,
            context.workdir / "curve",
            relax_settings=campaign.evidence.curves.relax,
        )
        curve = _curve(campaign, phase, points)
        wanted = next_volumes(curve, campaign.evidence.curves)
    seconds = sum(point.outcome.label.walltime_s for point in points if point.outcome.label is not None)
    save_curve(
        database,
        CurveDocument(
            id=key,
            phase=phase,
            settings_hash=settings_hash(campaign.reference, "crystal"),
            campaign=campaign.name,
            volumes=curve.volumes.tolist(),
            energies=curve.energies.tolist(),
            failures=list(curve.failures),
            seconds=seconds,
        ),
    )
    return {"phase": phase, "points": len(curve.volumes), "failed": len(curve.failures)}


def _curve(campaign: Campaign, phase: str, points: list[CurvePoint]) -> EnergyVolumeCurve:
    """Return the points as a curve; those that failed or became another phase are listed with their reasons."""
    import numpy as np

    from gapfactory.analysis.energy_volume import EnergyVolumeCurve
    from gapfactory.search import left_phase

    atoms, tolerance = _phase_atoms(campaign, phase), campaign.evidence.curves.relax.symmetry_tolerance
    good: list[tuple[float, float]] = []
    failures: list[tuple[float, str]] = []
    for point in points:
        reason = point.outcome.reason
        if point.atoms is not None:
            reason = left_phase(atoms, point.atoms, tolerance=tolerance)
        if point.energy_per_atom is None or reason:
            failures.append((point.volume_per_atom, reason))
        else:
            good.append((point.volume_per_atom, point.energy_per_atom))
    volumes, energies = np.array(good, dtype=float).reshape(-1, 2).T
    return EnergyVolumeCurve(phase, "reference", volumes, energies, tuple(sorted(failures)))
