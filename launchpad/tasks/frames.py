"""The choice of the 2022 protocol: frames of the relaxed crystals, and the cells that tell their vibrations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from gapfactory.errors import StateError
from gapfactory.seeds import Stage
from launchpad.database.documents import StructureDocument, structure_id
from launchpad.database.packing import pack_atoms
from launchpad.database.results import save_structures
from launchpad.parents import parents_of
from launchpad.vibrations import planned_cells

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ase import Atoms

    from gapfactory.campaign import Campaign
    from gapfactory.protocols.recipe import GenerationRecipe
    from gapfactory.select import SelectionReport
    from launchpad.parents import Parent
    from launchpad.tasks.base import TaskContext

__all__ = ["take_frames"]

#: Numbers of the random streams that each crystal has for itself.
_STREAMS: Final = 100_000
#: Documents of one write.
_BATCH: Final = 500


def take_frames(context: TaskContext, recipe: GenerationRecipe) -> SelectionReport:
    """Store the frames of every crystal, labelled or not, and the cells that are labelled to measure by.

    Raises
    ------
    StateError
        No crystal is left to train on.
    """
    from gapfactory.select import Pick, SelectionReport
    from gapfactory.select.labels import noise_picks

    usable, notes = _usable(context)
    settings = context.campaign.vibration_settings
    trained = [parent for parent in usable if parent.name in settings.trained()]
    if not trained:
        msg = f"no crystal is left to learn vibrations of: {'; '.join(notes) or 'the search has no minimum'}"
        raise StateError(msg)
    frames = _documents(context, "displaced", (f for parent in trained for f in _frames(context, parent)))
    evidence = _documents(context, "evidence", (e for parent in usable for e in _evidence(context, parent)))
    groups = [frames, evidence]
    if settings.studies.diagonal:
        groups.append(
            _documents(context, "diagonal", (d for parent in trained for d in _diagonal(context, parent)))
        )
    for group in groups:
        for start in range(0, len(group), _BATCH):
            save_structures(context.database, group[start : start + _BATCH])
    training = [d for d in frames if d.info["role"] == "train"]
    testing = [d for d in frames if d.info["role"] == "test"]
    picks = [Pick(d.id, "training", d.composition, order, 0.0) for order, d in enumerate(training)]
    picks += [Pick(d.id, "held-out", d.composition, order, 0.0) for order, d in enumerate(testing)]
    wanted = context.campaign.select.model_copy(update={"noise_cells": recipe.noise})
    # a denser grid of a supercell is not the same as that of another: their noise would be that of folding
    whole = {d.id for d in training if d.info["kind"] != "supercell"}
    noise = noise_picks(
        [pick for pick in picks if pick.id in whole], wanted, lambda k: context.rng(Stage.SELECT, k)
    )
    counts = {"crystals": len(trained), "frames": len(picks), "evidence": len(evidence)}
    return SelectionReport(tuple(picks), noise, (), counts, tuple(notes))


def _usable(context: TaskContext) -> tuple[list[Parent], list[str]]:
    """Return the crystals that can be used, and why others cannot."""
    every = parents_of(context.database, context.campaign)
    notes = [f"{parent.name} is left out: {parent.reason}" for parent in every if parent.reason]
    return [parent for parent in every if not parent.reason], notes


def _frames(context: TaskContext, parent: Parent) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    """Yield the frames of a crystal: for training, for testing, and for sparse points only."""
    from gapfactory.build.nondiagonal import nondiagonal_cells
    from gapfactory.build.vibration_frames import frame_count, vibration_frame

    settings = context.campaign.vibration_settings
    frames = settings.frames_of(parent.name)
    cells = nondiagonal_cells(parent.crystal, frames.supercells, kpoints=parent.grid)
    train = min(settings.most_frames, frame_count(cells, frames))
    # what is held out, or not labelled, are further variants: beyond all that may be trained on
    beyond = frame_count(cells, frames)
    numbers = [(number, "train") for number in range(train)]
    numbers += [(beyond + k, "test") for k in range(settings.held_out)]
    numbers += [(beyond + settings.held_out + k, "unlabelled") for k in range(settings.unlabelled)]
    for number, role in numbers:
        rng = context.rng(Stage.SUPERCELL, parent.index * _STREAMS + number)
        frame = vibration_frame(parent.crystal, cells, number, rng, frames)
        yield (
            frame.atoms,
            {
                "parent": parent.name,
                "number": number,
                "role": role,
                "kind": frame.kind,
                "supercell": frame.cell,
                "kpoints": frame.grid,
            },
        )


def _evidence(context: TaskContext, parent: Parent) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    planned = planned_cells(context.campaign, parent)
    for number, (atoms, grid) in enumerate(zip(planned.cells, planned.grids, strict=True)):
        what = "phonons" if number < len(planned.phonon) else "elastic"
        yield atoms, {"parent": parent.name, "number": number, "what": what, "kpoints": grid}


def _diagonal(context: TaskContext, parent: Parent) -> Iterator[tuple[Atoms, dict[str, Any]]]:
    """Yield the diagonal supercells with one displaced atom (Fig. 3)."""
    import numpy as np

    from gapfactory.build.commensurate import commensurate_grid
    from gapfactory.build.single_displacements import single_displacements

    wanted = context.campaign.vibration_settings.studies.single
    matrix = np.diag(wanted.divisions)
    grid = None if parent.grid is None else commensurate_grid(matrix, parent.grid)
    for number, atoms in enumerate(single_displacements(parent.crystal, wanted)):
        yield atoms, {"parent": parent.name, "number": number, "kind": "diagonal", "kpoints": grid}


def _documents(
    context: TaskContext,
    stage: Literal["displaced", "evidence", "diagonal"],
    cells: Iterable[tuple[Atoms, dict[str, Any]]],
) -> list[StructureDocument]:
    """Return cells with what is known of each as documents, numbered in their order."""
    from gapfactory.structures import composition_of, structure_hash

    campaign, generation = context.campaign, context.generation
    name = campaign.name
    return [
        StructureDocument(
            id=structure_id(name, generation, stage, index),
            campaign=name,
            generation=generation,
            stage=stage,
            index=index,
            composition=composition_of(atoms),
            hash=structure_hash(atoms),
            atoms=pack_atoms(atoms),
            info=info | _levels(campaign, info["kpoints"]),
        )
        for index, (atoms, info) in enumerate(cells)
    ]


def _levels(campaign: Campaign, grid: tuple[int, int, int] | None) -> dict[str, Any]:
    """Return the hashes of the settings of the labels of a cell that shares the k-points of its crystal."""
    from gapfactory.reference import settings_hash

    if grid is None:
        return {}
    settings = campaign.reference.with_grid(grid)
    noise = settings.with_higher_density()
    return {
        "levels": {"crystal": settings_hash(settings, "crystal"), "noise": settings_hash(noise, "crystal")}
    }
