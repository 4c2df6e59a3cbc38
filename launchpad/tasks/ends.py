"""The choice of the chain of EDDPs: the best relaxed cells of a generation, and copies shaken out of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.seeds import Stage
from gapfactory.units import EV_PER_GPA_A3
from launchpad.database.documents import StructureDocument, structure_id
from launchpad.database.packing import pack_atoms
from launchpad.database.results import save_structures
from launchpad.tasks.pool import frame_id, frames_of, relaxations_of, store_frames

if TYPE_CHECKING:
    from ase import Atoms

    from gapfactory.protocols.recipe import GenerationRecipe
    from gapfactory.select import SelectionReport
    from launchpad.tasks.base import TaskContext

__all__ = ["best_ends", "take_ends"]


def take_ends(context: TaskContext, recipe: GenerationRecipe) -> SelectionReport:
    """Store the best ends of the generation and their shaken copies, all of them for training."""
    from gapfactory.select import Pick, SelectionReport

    wanted, relax = context.campaign.chain, recipe.relax
    pressure = 0.0 if relax is None else relax.mean_pressure
    fields = (
        "composition", "status", "n_frames", "final_energy_per_atom", "final_volume_per_atom", "uncertainty",
        "left_known_space", "_id",
    )  # fmt: skip
    rows = list(relaxations_of(context, fields))
    best = best_ends(rows, pressure, wanted.best, wanted.window, uncertain=wanted.uncertain)
    ends = {frame_id(row["_id"], row["n_frames"] - 1): row for row in best}
    chosen = list(ends)
    if wanted.label_ends:
        more = {
            key: {"snapshot": "end"}
            | ({} if row.get("uncertainty") is None else {"uncertainty": row["uncertainty"]})
            for key, row in ends.items()
        }
        store_frames(context, chosen, more)
    picks: list[tuple[str, str]] = []
    failed = 0
    for place, (key, atoms) in enumerate(zip(chosen, frames_of(context.database, chosen), strict=True)):
        row = ends[key]
        copies = _shaken(context, recipe, atoms, row["_id"], place)
        failed += wanted.copies - len(copies)
        save_structures(context.database, copies)
        if wanted.label_ends:
            picks.append((key, row["composition"]))
        picks += [(copy.id, copy.composition) for copy in copies]
    failures = sum(row["status"] == "failed" for row in rows)
    counts = {"relaxations": len(rows), "failed": failures, "ends": len(chosen), "labelled": len(picks)}
    if relax is not None and relax.uncertainty_limit is not None:
        counts["left known space"] = sum(bool(row.get("left_known_space")) for row in rows)
        counts["least certain ends"] = min(round(wanted.uncertain * wanted.best), len(chosen))
    notes = [
        f"{number} {what}"
        for number, what in (
            (
                min(wanted.best, recipe.n_labelled) - len(chosen),
                "ends fewer than planned: relaxations failed, or ended beyond chain.window",
            ),
            (failed, "copies fewer than planned: shaken, atoms came too near to each other"),
        )
        if number
    ]
    return SelectionReport(
        tuple(Pick(key, "training", group, order, 0.0) for order, (key, group) in enumerate(picks)),
        (),
        (),
        counts,
        tuple(notes),
    )


def best_ends(
    relaxations: list[dict[str, Any]],
    pressure_GPa: float,
    best: int,
    window: float,
    *,
    uncertain: float = 0.0,
) -> list[dict[str, Any]]:
    """Return the least certain relaxations, then those of the lowest enthalpy above the lowest of their composition.

    They ended under different pressures: compared at one, those under a high one are not all above the others.

    Parameters
    ----------
    relaxations
        With composition, status, energy and volume per atom where they ended; and ``uncertainty``, where some are taken
        by it.
    pressure_GPa
        The pressure to compare at.
    best
        So many at the most.
    window
        eV/atom.
    uncertain
        Share of `best` that is taken by uncertainty, largest first.
    """
    ended = [r for r in relaxations if r["status"] != "failed" and r["final_energy_per_atom"] is not None]
    enthalpy = {
        r["_id"]: r["final_energy_per_atom"] + pressure_GPa * r["final_volume_per_atom"] * EV_PER_GPA_A3
        for r in ended
    }
    lowest: dict[str, float] = {}
    for r in ended:
        lowest[r["composition"]] = min(lowest.get(r["composition"], float("inf")), enthalpy[r["_id"]])
    above = [(enthalpy[r["_id"]] - lowest[r["composition"]], r["_id"], r) for r in ended]
    inside = [r for _, _, r in sorted((e for e in above if e[0] <= window), key=lambda entry: entry[:2])]
    told = [r for r in inside if r.get("uncertainty") is not None]
    first = sorted(told, key=lambda r: (-r["uncertainty"], r["_id"]))[: round(uncertain * best)]
    taken = {r["_id"] for r in first}
    return [*first, *(r for r in inside if r["_id"] not in taken)][:best]


def _shaken(
    context: TaskContext, recipe: GenerationRecipe, atoms: Atoms, relaxation: str, place: int
) -> list[StructureDocument]:
    """Return copies shaken out of one end; fewer where atoms came too near to each other."""
    from gapfactory.build.distorted import distorted_crystal
    from gapfactory.errors import BuildError
    from gapfactory.structures import composition_of, structure_hash

    campaign, generation = context.campaign, context.generation
    component = recipe.cell_range(int(relaxation.rsplit("/", 1)[1])).component
    found = []
    for copy in range(campaign.chain.copies):
        index = place * campaign.chain.copies + copy
        try:
            made = distorted_crystal(atoms, context.rng(Stage.SHAKE, index), campaign.chain.shake).atoms
        except BuildError:
            continue
        found.append(
            StructureDocument(
                id=structure_id(campaign.name, generation, "distorted", index),
                campaign=campaign.name,
                generation=generation,
                stage="distorted",
                index=index,
                composition=composition_of(made),
                hash=structure_hash(made),
                atoms=pack_atoms(made),
                info={"relaxation": relaxation, "snapshot": "shaken", "component": component, "number": copy},
            )
        )
    return found
