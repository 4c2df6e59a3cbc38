"""The recipe of one generation: which cells, relaxed how, which structures are labelled, which potential is fitted.

Planner, tasks, cost estimate and reports ask the recipe; only the protocols know how they come to it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gapfactory.build.settings import BuildSettings
    from gapfactory.build.starts import StartSettings
    from gapfactory.campaign import Campaign
    from gapfactory.potentials.eddp.settings import EddpSettings
    from gapfactory.potentials.gap.settings import GapSettings
    from gapfactory.search.settings import RelaxSettings

__all__ = [
    "CellRange",
    "GenerationRecipe",
    "builds",
    "cell_ranges",
    "diagnostic_ranges",
    "relax_settings",
]


@dataclass(frozen=True)
class CellRange:
    """The cells ``start <= i < stop`` of a generation, which one component of the campaign makes.

    Attributes
    ----------
    component
        Name of the component.
    start, stop
        Indices of the cells.
    build
        How they are made.
    labelled
        Whether their structures may be labelled; those of a diagnostic search are only relaxed.
    after_fit
        Whether they are relaxed with the potential that their own generation has fitted, not with the one before.
    relaxed
        What differs from how the generation relaxes: fields of `RelaxSettings`.
    made_of
        Where they are no random cells: what molecular dynamics begins with, made of a known crystal.
    """

    component: str
    start: int
    stop: int
    build: BuildSettings
    labelled: bool = True
    after_fit: bool = False
    relaxed: Mapping[str, Any] = field(default_factory=dict)
    made_of: StartSettings | None = None


@dataclass(frozen=True)
class GenerationRecipe:
    """What one generation does.

    Attributes
    ----------
    generation
        0 for the first.
    title
        What it is for, in a word or two.
    cells
        Random cells by component, in the order of their indices; empty where none are made.
    relax
        How the cells are relaxed with the potential before; None: they are labelled as they were made.
    picks
        How structures are chosen to be labelled: ``funnel`` (histogram and CUR), ``cells`` (all that were made),
        ``snapshots`` (of every relaxation), ``ends`` (of the best ones, with copies shaken out of them), ``dynamics``
        (where runs of molecular dynamics failed, and what else they came across), ``frames`` (of crystals, to learn
        their vibrations), ``ranked`` (the lowest of the generation before), ``given`` (chosen before the campaign
        began), ``data`` (only the labels that the campaign is given), ``none``.
    train, test
        Structures labelled for training and for testing, at most; distorted crystals are among them.
    noise
        Training structures labelled once more to measure the noise of the labels.
    early_steps
        With ``snapshots``: optimiser steps after which a structure is taken, besides the end of the relaxation.
    crystals
        Names of the groups of distorted crystals that this generation makes and labels.
    trained_crystals
        Names of those in the training set of its potential.
    potential
        Settings of its potential; their class tells the family.
    fits
        Whether there is a potential of its own; a search that only ranks fits none, and needs no isolated atoms and
        curves of phases to judge one by.
    reference_relaxations
        Chosen structures that the reference relaxes instead of labelling them as they are, at most.
    """

    generation: int
    title: str
    cells: tuple[CellRange, ...]
    relax: RelaxSettings | None
    picks: Literal[
        "funnel", "cells", "snapshots", "ends", "dynamics", "frames", "ranked", "given", "data", "none"
    ]
    train: int
    test: int
    potential: GapSettings | EddpSettings
    noise: int = 0
    early_steps: tuple[int, ...] = ()
    crystals: tuple[str, ...] = ()
    trained_crystals: tuple[str, ...] = ()
    fits: bool = True
    reference_relaxations: int = 0

    @property
    def n_cells(self) -> int:
        """Random cells of all components."""
        return self.cells[-1].stop if self.cells else 0

    @property
    def labels(self) -> int:
        """Labels for training and for testing, at most."""
        return self.train + self.test

    @property
    def n_labelled(self) -> int:
        """Cells whose structures may be labelled; they are the first ones."""
        return max((part.stop for part in self.cells if part.labelled), default=0)

    @property
    def n_before_fit(self) -> int:
        """Cells that are relaxed before the potential is fitted; they are the first ones."""
        return max((part.stop for part in self.cells if not part.after_fit), default=0)

    def relax_of(self, part: CellRange) -> RelaxSettings | None:
        """Return how these cells are relaxed; None: they are not."""
        return None if self.relax is None else self.relax.model_copy(update=dict(part.relaxed))

    def cell_range(self, index: int) -> CellRange:
        """Return the range that holds cell number `index`.

        Raises
        ------
        IndexError
            The generation has no such cell.
        """
        for found in self.cells:
            if found.start <= index < found.stop:
                return found
        msg = f"generation {self.generation} has {self.n_cells} cells, none has the number {index}"
        raise IndexError(msg)


#: Name of the component of a campaign that names none.
PLAIN = "random"


def builds(campaign: Campaign) -> dict[str, BuildSettings]:
    """Return how cells are made, by component; a campaign that labels another one's structures makes none."""
    if campaign.source is not None:
        return {}
    labelled = any(component.labelled for component in campaign.components.values())
    plain = {} if labelled else {PLAIN: campaign.build}
    return plain | {name: component.build for name, component in sorted(campaign.components.items())}


def cell_ranges(campaign: Campaign, generation: int) -> tuple[CellRange, ...]:
    """Return the cells of a generation by component, in the order of the components' names.

    Those of diagnostic searches come last, so that they change no other cell.
    """
    initial = generation == 0
    labelled = {name: c for name, c in campaign.components.items() if c.labelled}
    if not labelled:
        schedule = campaign.schedule
        cells = schedule.initial_cells if initial else None
        found = [CellRange(PLAIN, 0, cells or schedule.cells_per_generation, campaign.build)]
    else:
        found = []
        for name, component in sorted(labelled.items()):
            start = found[-1].stop if found else 0
            cells = component.initial_cells if initial else None
            stop = start + (cells or component.cells)
            found.append(CellRange(name, start, stop, component.build, relaxed=component.relaxed))
    return (*found, *diagnostic_ranges(campaign, generation, found[-1].stop))


def diagnostic_ranges(campaign: Campaign, generation: int, start: int = 0) -> tuple[CellRange, ...]:
    """Return the cells of the diagnostic searches of a generation, numbered from `start` on.

    Those with the potential that the generation has fitted come last, so that the others need not wait for it.
    """
    found: list[CellRange] = []
    searches = {name: c for name, c in campaign.components.items() if not c.labelled}
    for name, component in sorted(searches.items(), key=lambda entry: (entry[1].potential, entry[0])):
        final = component.potential == "final"
        if final:
            wanted = generation == campaign.schedule.generations - 1
        else:
            wanted = component.generations is None or generation in component.generations
        if generation and wanted:
            stop = start + component.cells
            found.append(CellRange(name, start, stop, component.build, False, final, component.relaxed))
            start = stop
    return tuple(found)


def relax_settings(campaign: Campaign, generation: int) -> RelaxSettings:
    """Return how the cells of a generation are relaxed: before the generation of the first pressure, at none."""
    relax = campaign.relax
    if generation >= relax.pressure_from_generation:
        return relax
    return _at_scale(relax, 0.0)


def _at_scale(relax: RelaxSettings, scale_GPa: float) -> RelaxSettings:
    """Return the settings with pressures of Eq. 5 of this scale."""
    return relax.model_copy(update={"pressure_scale_GPa": scale_GPa, "pressure_range_GPa": None})
