"""Run the reference method on structures that have no label yet."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar

from fireworks import explicit_serialize

from launchpad.database.claims import Claims
from launchpad.database.curves import CurvePointRecord, curve_of, curve_points, save_curve, save_curve_point
from launchpad.database.dataset import (
    atom_items,
    data_items,
    noise_items,
    pick_items,
    store_atoms,
    vibration_items,
)
from launchpad.database.documents import CurveDocument
from launchpad.hand_backs import forget_hand_backs, hand_back, hand_backs, own_fault
from launchpad.labelling import label_items, late_items, require_data_sets
from launchpad.parents import relax_parent
from launchpad.reference_relaxations import relax_chosen
from launchpad.retry import Backoff
from launchpad.tasks.base import CampaignTask, TaskContext

if TYPE_CHECKING:
    from ase import Atoms

    from gapfactory.analysis.energy_volume import EnergyVolumeCurve
    from gapfactory.campaign import Campaign
    from gapfactory.reference import CurvePoint

__all__ = ["ReferenceTask", "curve_key", "curve_volumes"]


@explicit_serialize
class ReferenceTask(CampaignTask):
    """Label what a part of the campaign needs.

    Isolated atoms and dimers, a range of picks, noise cells, a few of the structures that came with labels, the curve
    of a named phase; of a crystal whose vibrations are learnt, its relaxation and the cells that tell them; relaxations
    of what a search has found.
    """

    required_params: ClassVar[tuple[str, ...]] = (*CampaignTask.required_params, "what")
    optional_params: ClassVar[tuple[str, ...]] = ("start", "stop", "phase", "parent", "part", "parts")

    def work(self, context: TaskContext) -> dict[str, Any]:
        """Label what is missing; every result is stored as soon as it exists."""
        campaign, database = context.campaign, context.database
        if self["what"] == "phase":
            return _label_phase(context, self["phase"])
        if self["what"] == "parent":
            return relax_parent(context, self["parent"])
        if self["what"] == "relaxations":
            return relax_chosen(context, self["start"], self["stop"])
        if self["what"] == "vibrations":
            every = vibration_items(database, campaign, "evidence", self["parent"])
            items = every[self["part"] :: self["parts"]]
        elif self["what"] == "diagonal":
            items = vibration_items(database, campaign, "diagonal")
        elif self["what"] == "atoms":
            store_atoms(database, campaign)
            items = atom_items(database, campaign)
        elif self["what"] == "noise":
            items = noise_items(database, campaign)
        elif self["what"] == "data":
            items = data_items(database, campaign, context.generation)
        else:
            picks = [item for item in pick_items(database, campaign, context.generation) if not item.given]
            items = picks[self["start"] : self["stop"]]
            if self["start"] == 0:
                items += late_items(database, campaign, context.generation)
        return label_items(context, items)


def curve_volumes(campaign: Campaign, phase: str) -> list[float]:
    """Return the volumes (Å^3/atom) at which a named phase is computed, ascending."""
    atoms = campaign.phase_of(phase).atoms
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
        structure_hash(campaign.phase_of(phase).atoms),
        settings_hash(campaign.reference, "crystal"),
        campaign.evidence.curves.relax.digest(),
        curve_volumes(campaign, phase),
        campaign.evidence.curves.extra_volumes,
    ]
    return hashlib.sha256(json.dumps(how).encode()).hexdigest()


def _label_phase(context: TaskContext, phase: str) -> dict[str, Any]:
    """Compute the curve of a phase, unless it is stored; of two campaigns that want it at once, one computes it."""
    campaign, database = context.campaign, context.database
    key = curve_key(campaign, phase)
    with Claims(database, campaign.name) as claims:
        pauses = Backoff(first_s=0.2, largest_s=5.0).pauses()
        while True:
            mine = claims.take([f"curve/{key}"])
            stored = curve_of(database, key)
            # one on which every point failed may have met the limits of the campaign that made it
            if stored is not None and (stored["volumes"] or stored["campaign"] == campaign.name):
                return {"phase": phase, "reused": 1}
            if mine:
                return _compute_curve(context, phase, key)
            time.sleep(next(pauses))


def _compute_curve(context: TaskContext, phase: str, key: str) -> dict[str, Any]:
    """Compute a curve point by point; points that are stored, here or elsewhere, are taken over."""
    from gapfactory.analysis.energy_volume import next_volumes
    from gapfactory.reference import settings_hash

    campaign, database = context.campaign, context.database
    known = curve_points(database, key, campaign.name)
    points: dict[float, CurvePointRecord] = {}
    wanted = curve_volumes(campaign, phase)
    while wanted:
        points |= {volume: known[volume] for volume in wanted if volume in known}
        while missing := [volume for volume in wanted if volume not in points]:
            points |= _compute_points(context, phase, key, missing)
        curve = _curve(phase, list(points.values()))
        wanted = next_volumes(curve, campaign.evidence.curves)
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
            seconds=sum(point.seconds for point in points.values()),
        ),
    )
    return {"phase": phase, "points": len(curve.volumes), "failed": len(curve.failures)}


def _compute_points(
    context: TaskContext, phase: str, key: str, volumes: list[float]
) -> dict[float, CurvePointRecord]:
    """Compute points and store each; one that meets faults of the machine again and again has failed at last.

    Raises
    ------
    TransientFault
        A fault of the machine: the task is run again.
    """
    from gapfactory.reference import energy_volume_reference, settings_hash

    campaign, database = context.campaign, context.database
    atoms, settings = campaign.phase_of(phase).atoms, campaign.evidence.curves.relax
    done: dict[float, CurvePointRecord] = {}

    def keep(record: CurvePointRecord) -> None:
        save_curve_point(database, key, campaign.name, record)
        done[record.volume] = record

    require_data_sets(context, atoms.get_chemical_symbols(), [settings_hash(campaign.reference, "crystal")])
    names = {volume: f"curve/{key}/{volume!r}/{campaign.name}" for volume in volumes}
    times = hand_backs(database, names.values())
    ordered = sorted(volumes, key=lambda volume: (times.get(names[volume], 0), volume))
    try:
        energy_volume_reference(
            atoms,
            ordered,
            campaign.reference,
            context.workdir / "curve",
            relax_settings=settings,
            on_point=lambda point: keep(_record(point, atoms, settings.symmetry_tolerance)),
        )
    except Exception as error:
        fault = own_fault(error)
        left = [volume for volume in ordered if volume not in done]
        if not fault or not left:
            raise
        _, reason = hand_back(database, names[left[0]], f"{phase} at {left[0]:.4g} Å^3/atom", fault, error)
        keep(CurvePointRecord(left[0], None, reason, 0.0))
    forget_hand_backs(database, [names[volume] for volume in done])
    return done


def _record(point: CurvePoint, atoms: Atoms, tolerance: float) -> CurvePointRecord:
    """Return a point as it is stored; one that became another phase has failed."""
    from gapfactory.search import left_phase

    reason = point.outcome.reason
    if point.atoms is not None:
        reason = left_phase(atoms, point.atoms, tolerance=tolerance)
    label = point.outcome.label
    return CurvePointRecord(
        volume=point.volume_per_atom,
        energy=None if reason else point.energy_per_atom,
        reason=reason,
        seconds=0.0 if label is None else label.walltime_s,
    )


def _curve(phase: str, points: list[CurvePointRecord]) -> EnergyVolumeCurve:
    """Return the points as a curve; those that failed are listed with their reasons."""
    import numpy as np

    from gapfactory.analysis.energy_volume import EnergyVolumeCurve

    good = [(point.volume, point.energy) for point in points if point.energy is not None]
    failures = tuple(sorted((point.volume, point.reason) for point in points if point.energy is None))
    volumes, energies = np.array(good, dtype=float).reshape(-1, 2).T
    return EnergyVolumeCurve(phase, "reference", volumes, energies, failures)
