"""Settings of the trial of a potential: molecular dynamics and close contacts."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gapfactory.settings import Settings

__all__ = ["StabilitySettings"]


class StabilitySettings(Settings):
    """Whether a potential can be used: molecular dynamics at a high temperature, and close contacts."""

    enabled: bool = True
    """Whether to try it at all."""
    when: Literal["last", "every"] = "last"
    """After which generations: the last one of the campaign, or every one."""
    duration_ps: float = Field(default=20.0, gt=0)
    """Length of the molecular dynamics at constant temperature, in ps."""
    n_atoms: int = Field(default=64, ge=8, le=2000)
    """Atoms of the supercell, about: a nearly cubic one of the nearest size is taken."""
    temperature_factor: float = Field(default=0.8, gt=0)
    """Temperature in units of the melting point."""
    melting_point_K: float | None = Field(default=None, gt=0)
    """Melting point; by default the tabulated one of the element. Compounds, and elements without one, are taken to
    melt at 1000 K unless it is given here."""
    timestep_fs: float | None = Field(default=None, gt=0, le=10)
    """Time step; by default 2 fs for silicon, scaled by the root of the lightest atom's mass, 0.25 to 3 fs."""
    friction_per_ps: float = Field(default=2.0, gt=0)
    """Friction of the Langevin thermostat, in 1/ps: weak enough that a wrong potential shows in the temperature."""
    nve_ps: float = Field(default=1.0, ge=0)
    """Length of the part without thermostat at the end, in ps, in which the total energy must be conserved."""
    max_drift_meV_per_ps: float = Field(default=5.0, gt=0)
    """Largest slope of the total energy without thermostat, in meV/atom/ps."""
    closest_approach: float = Field(default=0.6, gt=0, lt=1)
    """Two atoms closer than this fraction of the crystal's shortest distance end the run."""
    hole_margin_eV: float = Field(default=0.3, gt=0)
    """An energy per atom lower than every known structure's by more than this is a hole of the potential, in eV."""
    max_rise_eV: float = Field(default=1.0, gt=0)
    """Largest potential energy per atom above the crystal at rest, beyond that of heat (3 kT), in eV."""
    contacts_to: float = Field(default=0.5, gt=0.1, lt=0.85)
    """Close contacts are scanned down to this fraction of the equilibrium distance."""
    repulsive_to: float = Field(default=0.6, gt=0.1, lt=0.85)
    """The energy has to rise down to this fraction of the equilibrium distance."""

    @model_validator(mode="after")
    def _far_enough(self) -> StabilitySettings:
        if self.contacts_to > self.repulsive_to:
            msg = (
                f"contacts_to = {self.contacts_to:g} ends the scan before repulsive_to = {self.repulsive_to:g}: "
                "lower the first or raise the second"
            )
            raise ValueError(msg)
        return self
