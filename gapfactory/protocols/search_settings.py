"""Settings of a search that fits nothing: the potential that relaxes the cells, and the stages of the ranking."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from gapfactory.analysis.ranking import RankSettings
from gapfactory.search.settings import PhaseRelaxSettings
from gapfactory.settings import Settings

__all__ = ["GivenPotentialSettings", "RankingSettings", "SearchSettings"]


class GivenPotentialSettings(Settings):
    """A potential that exists: of a campaign of the same database, or in files."""

    campaign: str | None = None
    """The campaign that has fitted it; or give `file`. Its files are taken over when this campaign is submitted, and
    what becomes of the other one changes nothing afterwards."""
    generation: int | Literal["newest"] = "newest"
    """With `campaign`: which one."""
    file: str | None = None
    """Directory with the files of a potential as `gapfactory campaign export` writes it, or a file in it; the path is
    counted from the campaign file. They are stored when the campaign is submitted, and then read no more."""
    files: dict[str, str] = Field(default_factory=dict)
    """With `file`: names and sha256 of what was found there when the campaign file was read; the campaign is about
    these."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.campaign is None) == (self.file is None):
            msg = "give exactly one of 'campaign' and 'file', or say 'potential: reference'"
            raise ValueError(msg)
        if self.file is None and self.files:
            msg = "'files' says what was found under 'file': leave it out"
            raise ValueError(msg)
        if self.file is not None and self.generation != "newest":
            msg = "'generation' is for the potential of a campaign: leave it out"
            raise ValueError(msg)
        if isinstance(self.generation, int) and self.generation < 0:
            msg = "generations count from 0"
            raise ValueError(msg)
        return self


class RankingSettings(Settings):
    """One stage of the ranking: the lowest distinct structures of the stage before, calculated by the reference."""

    do: Literal["single-points", "relax"] = "single-points"
    """Whether each is calculated as it is, or relaxed."""
    within_eV: float = Field(default=0.5, gt=0)
    """Only structures within this energy per atom (enthalpy, under pressure) above the best of their composition in the
    stage before; the search itself is the stage before the first."""
    most: int = Field(default=100, ge=1)
    """At most so many, the lowest first, in turn of each composition."""
    reference: dict[str, Any] = Field(default_factory=dict)
    """What is different from the campaign's `reference` in this stage, e.g. `{cutoff_eV: 600}`; settings with another
    `engine` stand for themselves."""
    pressure_GPa: float | None = None
    """Pressure under which it relaxes and ranks; by default the mean one of the search (`relax`)."""
    relax: PhaseRelaxSettings = PhaseRelaxSettings()
    """With `do: relax`: when a relaxation by the reference has converged, and how many steps it may take."""
    keep_symmetry: bool = False
    """With `do: relax`: keep the space group that the structure has."""


class SearchSettings(Settings):
    """`protocol: search`: random cells relaxed with a potential that exists, then ranked by the reference in stages."""

    potential: Literal["reference"] | GivenPotentialSettings = "reference"
    """What relaxes the cells: `reference`, where the campaign's reference is itself a potential (engine `ase`), or
    `{campaign: NAME, generation: 3}`, or `{file: DIRECTORY}`."""
    ranking: tuple[RankingSettings, ...] = ()
    """Stages that follow the search, in order; none: its energies are the last word."""
    targets: tuple[str, ...] = ()
    """Named phases of the element that are looked for among all minima of the search; how often each is found is told
    by component."""
    same: RankSettings = RankSettings()
    """When two minima count as encounters of one structure; the lowest stands for all."""
    listed: int = Field(default=50, ge=1)
    """Structures of each table of the ranking at least, where so many distinct ones were found."""

    @field_validator("targets")
    @classmethod
    def _distinct(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value):
            msg = "targets has a phase twice"
            raise ValueError(msg)
        return value
