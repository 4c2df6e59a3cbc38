"""Settings of what a generation is made of: components of the cells, snapshots, distorted crystals."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from gapfactory.build.discrete import DiscreteSettings  # noqa: TC001 - pydantic
from gapfactory.build.distorted import DistortedSettings
from gapfactory.build.settings import BuildSettings
from gapfactory.search.settings import AnnealSettings  # noqa: TC001 - pydantic
from gapfactory.settings import Settings

__all__ = [
    "ChainSettings",
    "ComponentSettings",
    "CrystalSettings",
    "KnownCrystalSettings",
    "ShakeSettings",
    "SnapshotSettings",
]


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
    potential: Literal["before", "final"] = "before"
    """With `labelled: false`: whether the cells are relaxed with the potential before their generation, or once, in the
    last generation, with the potential that this has fitted (that of `final_fit`)."""
    pressure_scale_GPa: float | None = Field(default=None, ge=0)
    """Taken instead of `relax.pressure_scale_GPa` in every generation: 0 for relaxations at no pressure."""
    relax_cell: Literal["fixed", "variable"] | None = None
    """Taken instead of `relax.cell`: `fixed` for a search in a measured cell, with `build.shape.cell` and a range of
    atoms."""
    anneal: AnnealSettings | Literal["none"] | None = None
    """Taken instead of `relax.anneal`: a hot search of these cells, or `none` for a plain one."""

    @property
    def relaxed(self) -> dict[str, Any]:
        """What its relaxations have of their own, by field of `RelaxSettings`."""
        found: dict[str, Any] = {}
        if self.pressure_scale_GPa is not None:
            found |= {"pressure_scale_GPa": self.pressure_scale_GPa, "pressure_range_GPa": None}
        if self.relax_cell is not None:
            found["cell"] = self.relax_cell
        if self.anneal is not None:
            found["anneal"] = None if self.anneal == "none" else self.anneal
        return found

    @model_validator(mode="after")
    def _diagnostic(self) -> Self:
        of_search = self.targets or self.generations is not None or self.potential != "before"
        if self.labelled and of_search:
            msg = (
                "targets, generations and potential are for a diagnostic search: set labelled to false, or leave them "
                "out"
            )
            raise ValueError(msg)
        if self.potential == "final" and self.generations is not None:
            msg = "potential: final is a search in the last generation only: leave generations out"
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


class ShakeSettings(DistortedSettings):
    """How copies are shaken out of a relaxed cell; defaults of the published chain of EDDPs."""

    volume_low: float = Field(default=1.0, gt=0)
    """Smallest volume factor beside the strain."""
    volume_high: float = Field(default=1.0, gt=0)
    """Largest volume factor beside the strain."""
    strain: float = Field(default=0.02, ge=0, lt=0.3)
    """Components of the symmetric strain are drawn uniformly within +- this (0.02, for boron 0.1)."""
    keep_volume: bool = False
    """Whether the strain's change of volume is taken out."""
    displacement: float = Field(default=0.02, ge=0)
    """Standard deviation of each coordinate's displacement in Å (0.02, for boron 0.1)."""
    nearest: float = Field(default=0.5, gt=0, le=1)
    """No two atoms come nearer than this times the shortest distance in the relaxed cell."""


class ChainSettings(Settings):
    """What a generation of `eddp-chain` labels: the best relaxed cells, and copies shaken out of them.

    Where it is silent, the defaults are those of the published chain (Pickard, Phys. Rev. B 106, 014102 (2022)).
    """

    best: int = Field(default=100, ge=1)
    """Relaxed cells that are taken in each generation, those of the lowest enthalpy at the mean pressure above the
    lowest of their composition."""
    window: float = Field(default=10.0, gt=0)
    """None farther above the lowest of its composition than this, in eV/atom."""
    uncertain: float = Field(default=0.0, ge=0, le=1)
    """Share of `best` that is given first to the ends within the window of which the potential is least certain
    (`relax.max_spread`, which has to be set), so that the spread of the networks steers what is learnt; the others are
    the lowest of the rest."""
    label_ends: bool = True
    """Whether the relaxed cells themselves are labelled too, besides their copies."""
    copies: int = Field(default=10, ge=0)
    """Copies shaken out of each."""
    shake: ShakeSettings = ShakeSettings()
    """How far."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.label_ends and not self.copies:
            msg = "label_ends is false and copies is 0: nothing would be labelled; set one of them"
            raise ValueError(msg)
        return self


class KnownCrystalSettings(Settings):
    """A crystal that a campaign is judged by, and that its searches may look for."""

    file: str | None = None
    """Extended XYZ or CIF file with one crystal, its path counted from the campaign file. It is read together with the
    campaign file, and then no more."""
    structures: str | None = None
    """What was read from `file`, as extended XYZ; the campaign has it from then on. Where it is given, no file is
    read."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if self.file is None and self.structures is None:
            msg = "give 'file': an extended XYZ or CIF file with the crystal"
            raise ValueError(msg)
        return self


class CrystalSettings(Settings):
    """Distorted cells of one known crystal.

    They are labelled in the first generation, and tell the error of every potential that was not trained on them.
    """

    phase: str | None = None
    """Named phase of the element; or give `file`."""
    file: str | None = None
    """Extended XYZ or CIF file with one or more crystals, its path counted from the campaign file. It is read together
    with the campaign file, and then no more."""
    models: DiscreteSettings | None = None
    """With a CIF file whose sites are occupied in part: how structures with whole atoms are drawn, one for each
    distorted cell."""
    structures: str | None = None
    """What was read from `file`, as extended XYZ; the campaign has it from then on. Where it is given, no file is
    read."""
    count: int = Field(ge=1)
    """How many distorted cells; those of a file take its structures in turn."""
    joins: Literal["first", "end", "never"] = "end"
    """When they join the training set: in the first generation, in one of its own after the last search, or never."""
    distortion: DistortedSettings = DistortedSettings()
    """How far. `{volume_low: 1, volume_high: 1, strain: 0, displacement: 0}` takes the crystals as they are."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.phase is None) == (self.file is None and self.structures is None):
            msg = "give exactly one of 'phase' and 'file' ('phase: null' takes away that of a preset)"
            raise ValueError(msg)
        if self.models is not None and self.file is None:
            msg = "models are drawn from a file: give 'file', or leave 'models' out"
            raise ValueError(msg)
        return self
