"""Settings of vibrations and elasticity: which crystals, the frames that teach them, how both are measured."""

from __future__ import annotations

from math import lcm
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from gapfactory.analysis.elasticity import ElasticSettings
from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.analysis.vibration_settings import StudySettings, VibrationLimits
from gapfactory.build.prototypes import Prototype  # noqa: TC001 - pydantic
from gapfactory.build.vibration_frames import FrameSettings
from gapfactory.search.settings import PhaseRelaxSettings
from gapfactory.settings import Settings, require_plain_names, without_nulls

__all__ = ["BainSettings", "ParentSettings", "VibrationSettings"]


class BainSettings(Settings):
    """A place on Bain's path from body-centred to face-centred cubic, at the volume of another crystal."""

    of: str
    """Name of the crystal whose relaxed volume per atom is kept."""
    eta: float = Field(ge=0, le=1)
    """0 is body-centred cubic, 1 face-centred cubic (Allen and Bartók 2022, Eq. 7)."""


class ParentSettings(Settings):
    """One crystal whose vibrations and elasticity are learnt and measured.

    Give one of `prototype`, `phase`, `file` and `bain`.
    """

    prototype: Prototype | None = None
    """Simple crystal of the campaign's element: fcc, bcc, hcp, sc or diamond. It begins with the lattice parameters
    that ASE has, or with the volume of the element's usual crystal."""
    phase: str | None = None
    """Named phase of the element."""
    file: str | None = None
    """Extended XYZ or CIF file with one crystal, its path counted from the campaign file. It is read together with the
    campaign file, and then no more. Symmetry that it has within `vibrations.relax.symmetry_tolerance` is made exact."""
    structures: str | None = None
    """What was read from `file`, as extended XYZ; the campaign has it from then on."""
    bain: BainSettings | None = None
    """A place on Bain's path."""
    relax: bool | None = None
    """Whether the reference relaxes cell and atoms first, the symmetry kept; by default all but places on Bain's
    path."""
    trained: bool = True
    """Whether frames of it are labelled and trained on. One that is not is measured only."""
    frames: FrameSettings | None = None
    """Its frames, where they are not those of `vibrations.frames`."""

    @property
    def relaxed(self) -> bool:
        """Whether the reference relaxes it first."""
        return self.bain is None if self.relax is None else self.relax

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = (
            self.prototype is not None,
            self.phase is not None,
            self.file is not None or self.structures is not None,
            self.bain is not None,
        )
        if sum(given) != 1:
            msg = "give exactly one of 'prototype', 'phase', 'file' and 'bain'"
            raise ValueError(msg)
        return self


class VibrationSettings(Settings):
    """Vibrations and elasticity (Allen and Bartók 2022): frames of crystals to learn from, and how well it was learnt.

    With the protocol `ndsc-2022` they are the whole campaign. Any search campaign with this block ends with a
    generation of its own for them, after the last search, on the labels that it has and the new ones.
    """

    parents: dict[str, ParentSettings] = Field(default_factory=dict)
    """Crystals by name; null takes one of a preset away."""
    minima: int = Field(default=0, ge=0, le=50)
    """So many of the lowest distinct minima of the last search are taken too, by the names `minimum-1`, `minimum-2`,
    ... Each is relaxed by the reference first; one that this makes equal to another, or cannot relax, is left out."""
    largest_minimum: int = Field(default=12, ge=1)
    """Atoms in the primitive cell of a minimum at the most."""
    frames: FrameSettings = FrameSettings()
    """Frames of every crystal."""
    most_frames: int = Field(default=1200, ge=1)
    """Labels for training of one crystal at the most; what is beyond is left out, the last variants first."""
    held_out: int = Field(default=8, ge=0)
    """Frames of every trained crystal that are labelled and not trained on, to tell errors of energies and forces."""
    unlabelled: int = Field(default=0, ge=0)
    """Frames of every trained crystal that are not labelled: sparse points are chosen from them as well (section 4 of
    the paper, and Fig. 4)."""
    relax: PhaseRelaxSettings = PhaseRelaxSettings(force_threshold=0.002, cell_force_threshold=0.002)
    """How the reference relaxes the crystals."""
    relax_potential: PhaseRelaxSettings = PhaseRelaxSettings(force_threshold=1e-4, cell_force_threshold=1e-4)
    """How a potential relaxes them for its own lattice parameters and elastic constants: tighter, since it costs
    nothing, so that a lattice parameter shows what differs and not where the reference stopped."""
    phonons: PhononSettings = PhononSettings()
    """How phonons are worked out."""
    elastic: ElasticSettings = ElasticSettings()
    """How elastic constants are worked out."""
    studies: StudySettings = StudySettings()
    """Further fits to parts of the same labels, for comparison: the paper's Figs. 1, 3, 4, 7 and 8."""
    incomplete: Literal["halt", "report"] = "halt"
    """What happens where the reference cannot calculate all the cells that a named crystal is measured by: the campaign
    waits for a person (`campaign retry`), or goes on and reports it. It may be changed on a campaign that waits."""
    limits: VibrationLimits = VibrationLimits()
    """When a crystal passes."""

    @field_validator("parents", mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return without_nulls(value)

    @field_validator("parents")
    @classmethod
    def _plain_names(cls, value: dict[str, ParentSettings]) -> dict[str, ParentSettings]:
        require_plain_names(value)
        return value

    def names(self) -> tuple[str, ...]:
        """Return the names of all crystals: those that are named, by name, then the minima."""
        return (*sorted(self.parents), *(f"minimum-{rank}" for rank in range(1, self.minima + 1)))

    def parent(self, name: str) -> ParentSettings | None:
        """Return the settings of a named crystal; None for a minimum."""
        return self.parents.get(name)

    def trained(self) -> tuple[str, ...]:
        """Return the names of the crystals that are trained on."""
        return tuple(n for n in self.names() if n not in self.parents or self.parents[n].trained)

    def frames_of(self, name: str) -> FrameSettings:
        """Return how the frames of a crystal are made."""
        parent = self.parents.get(name)
        return self.frames if parent is None or parent.frames is None else parent.frames

    def divisions_of(self, name: str) -> tuple[int, int, int]:
        """Return the smallest grid that has all wave vectors of a crystal's cells: of its frames, evidence, studies."""
        grids = [self.frames_of(name).supercells.divisions, self.phonons.grid]
        if self.studies.diagonal:
            grids.append(self.studies.single.divisions)
        first, second, third = (lcm(*along) for along in zip(*grids, strict=True))
        return first, second, third
