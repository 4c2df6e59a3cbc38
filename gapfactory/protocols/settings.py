"""Settings of what a generation is made of: components of the cells, snapshots, distorted crystals."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from gapfactory.build.distorted import DistortedSettings
from gapfactory.build.settings import BuildSettings
from gapfactory.settings import Settings

__all__ = ["ComponentSettings", "CrystalSettings", "SnapshotSettings"]


class ComponentSettings(Settings):
    """One kind of random cells among several."""

    cells: int = Field(ge=1)
    """Cells made in every generation after the first."""
    initial_cells: int | None = Field(default=None, ge=1)
    """Cells of the first generation, which are not relaxed; by default as many as later."""
    build: BuildSettings = BuildSettings()
    """How they are made."""
    labelled: bool = True
    """Whether their structures may be labelled. Those of a diagnostic search are not: they are relaxed with each
    potential, and it is counted how often `targets` come out."""
    targets: tuple[str, ...] = ()
    """With `labelled: false`: named phases of the element that are looked for."""
    generations: tuple[int, ...] | None = None
    """With `labelled: false`: the generations that make these cells, each relaxed with the potential before; by default
    all but the first."""

    @model_validator(mode="after")
    def _diagnostic(self) -> Self:
        if self.labelled and (self.targets or self.generations is not None):
            msg = "targets and generations are for a diagnostic search: set labelled to false, or leave them out"
            raise ValueError(msg)
        if not self.labelled and self.initial_cells is not None:
            msg = "the first generation relaxes nothing, so a diagnostic search has no cells: leave initial_cells out"
            raise ValueError(msg)
        return self


class SnapshotSettings(Settings):
    """Which structures of a relaxation are labelled, besides its end (Deringer, Pickard and Csányi 2018)."""

    early_steps: tuple[int, ...] = (5,)
    """Optimiser steps after which a structure is taken (papers: 5). The end, converged or after `relax.max_steps`, is
    always taken, unless the relaxation failed."""
    minima_only_from: int | None = Field(default=None, ge=1)
    """From this generation on, only the ends of the relaxations are taken; by default never."""


class CrystalSettings(Settings):
    """Distorted cells of one known crystal.

    They are labelled in the first generation, and tell the error of every potential that was not trained on them.
    """

    phase: str
    """Named phase of the element."""
    count: int = Field(ge=1)
    """How many distorted cells."""
    joins: Literal["first", "end", "never"] = "end"
    """When they join the training set: in the first generation, in one of its own after the last search, or never."""
    distortion: DistortedSettings = DistortedSettings()
    """How far."""
