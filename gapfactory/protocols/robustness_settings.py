"""Settings of the stage that makes a potential fit for molecular dynamics."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from gapfactory.build.distorted import DistortedSettings
from gapfactory.build.starts import StartSettings
from gapfactory.settings import Settings, require_plain_names

__all__ = ["RobustnessSettings"]


def _starts() -> dict[str, StartSettings]:
    still = DistortedSettings(volume_low=1.0, volume_high=1.0, strain=0.0)
    return {
        "bulk": StartSettings(),
        "liquid": StartSettings(
            temperature_factor=1.5, distortion=DistortedSettings(volume_low=0.9, volume_high=1.15)
        ),
        "surfaces": StartSettings(cells=3, vacuum=8.0, temperature_factor=0.6, distortion=still),
        "vacancies": StartSettings(vacancies=1),
    }


class RobustnessSettings(Settings):
    """Rounds of molecular dynamics after the search; what they come across is labelled, and the potential fitted again.

    The runs begin with the most stable crystal that the reference knows, the one that `evidence.stability` heats, at
    its volume of lowest energy: whole, with vacancies, with free surfaces, and hot enough to melt. Each round is a
    generation of its own. The method's authors go on by hand in this way after their searches; the sizes are ours.
    """

    rounds: int = Field(default=5, ge=1)
    """Rounds at the most, beyond `schedule.generations`."""
    when: Literal["always", "failed"] = "always"
    """Whether there is a first round anyhow, or only where the potential of the search does not survive the molecular
    dynamics of its trial (`evidence.stability`). After each round, one that does ends the stage."""
    starts: dict[str, StartSettings] = Field(default_factory=_starts)
    """Cells that the runs begin with, by name. By default `bulk`, `vacancies` and `surfaces` below melting, and
    `liquid` at 1.5 times the melting point; a file that gives some gives all."""
    time_ps: float = Field(default=2.0, gt=0)
    """Length of a run at constant temperature and volume."""
    timestep_fs: float | None = Field(default=None, gt=0, le=10)
    """Time step; by default that of `evidence.stability`."""
    frames: int = Field(default=20, ge=1)
    """Frames of a run that may be chosen, equally spaced; and where it left known space."""
    closest_approach: float = Field(default=0.55, ge=0, lt=1)
    """A run ends, as failed, when two atoms are nearer than this times the sum of their covalent radii: the last frame
    before is offered first. No reference is asked about atoms that are nearer."""
    max_uncertainty: float | None = Field(default=0.5, gt=0, lt=1)
    """`potential: gap`: a run ends when the potential knows the surroundings of an atom less well than this, and less
    well than those at the start, as in `relax.max_uncertainty`; where it is, is offered first."""
    max_spread: float | None = Field(default=0.2, gt=0)
    """The same for `potential: eddp`, in eV/atom, as in `relax.max_spread`; a single network has none."""
    labels: int = Field(default=24, ge=1)
    """Labels of a round for training, at most: half of them where runs failed or left known space, the others by
    leverage."""
    held_out: int = Field(default=4, ge=0)
    """Labels of a round that are not trained on."""

    @field_validator("starts")
    @classmethod
    def _named(cls, value: dict[str, StartSettings]) -> dict[str, StartSettings]:
        require_plain_names(value)
        if not value:
            msg = "starts is empty: nothing would be run; leave the block 'robustness' out, or name a kind of cell"
            raise ValueError(msg)
        return value
