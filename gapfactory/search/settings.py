"""Settings of the relaxations."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from gapfactory.settings import Settings

__all__ = [
    "AnnealSettings",
    "MinimiserSettings",
    "MobilityScanSettings",
    "PhaseRelaxSettings",
    "RelaxSettings",
]


class MinimiserSettings(Settings):
    """How an enthalpy is minimised: optimiser, stopping rule and guards.

    The optimiser is the L-BFGS of ASE's ``PreconLBFGS`` (Packwood et al., J. Chem. Phys. 144, 164109 (2016)) on
    the positions and the logarithm of the cell's deformation.
    """

    force_threshold: float = Field(default=0.01, gt=0)
    """Residual force on every atom at which a relaxation is converged, in eV/Å (paper: 0.01)."""
    cell_force_threshold: float = Field(default=0.01, gt=0)
    """Residual generalised force of the cell, in eV per atom and unit strain: the largest row norm of
    V (stress + p) / N. At 20 Å^3 per atom the default is 0.08 GPa."""
    max_steps: int = Field(default=500, ge=0)
    """Optimiser steps after which a relaxation stops as unconverged."""
    preconditioner: Literal["none", "exponential"] = "none"
    """Preconditioner of the L-BFGS: none (an initial Hessian of 1 eV/Å^2), or the exponential one with fixed
    length and energy scales."""
    initial_hessian: float = Field(default=70.0, gt=0)
    """Twelve times the energy scale of the exponential preconditioner, in eV/Å^2; without it this has no effect."""
    max_step: float = Field(default=0.2, gt=0, le=1.0)
    """Longest displacement of one atom (or of one row of the scaled cell variables) in a step, in Å; as in ASE,
    a step that this would shorten by less than half goes its full way."""
    min_volume_fraction: float = Field(default=0.5, gt=0, lt=1)
    """A cell below this fraction of its starting volume has collapsed: the relaxation failed."""
    max_volume_fraction: float = Field(default=4.0, gt=1)
    """A cell above this multiple of its starting volume has exploded: the relaxation failed."""
    closest_approach: float = Field(default=0.4, ge=0, lt=1)
    """Two atoms closer than this fraction of the sum of their covalent radii (Cordero 2008, as tabulated by
    ASE) have collapsed onto each other: the relaxation failed."""
    symmetry_tolerance: float = Field(default=0.01, gt=0)
    """Distance within which an operation counts as a symmetry, where symmetry is kept, in Å."""


class MobilityScanSettings(Settings):
    """How the temperature of an anneal is found where it is not given: short runs of the relaxed cell, ever hotter.

    The anneal is run at the highest temperature at which the atoms still sit on sites, so below melting; above it, the
    end would be forgotten like that of a random cell (Pickard 2024 chose his by such runs; the rule is ours). Where
    they sit on none even at the lowest, that is taken.
    """

    lowest_K: float = Field(default=300.0, gt=0)
    """First temperature."""
    highest_K: float = Field(default=3000.0, gt=0)
    """No run is hotter than this."""
    ratio: float = Field(default=1.4, gt=1)
    """Each temperature over the one before."""
    time_ps: float = Field(default=0.5, gt=0)
    """Length of each run at fixed cell; the second half is measured."""
    lindemann: float = Field(default=0.15, gt=0)
    """Root-mean-square displacement of the atoms from their mean places, in units of the mean distance of nearest
    neighbours, beyond which they do not sit on sites any more (Lindemann's criterion)."""


class AnnealSettings(Settings):
    """Molecular dynamics between two relaxations (hot random search: Pickard, Faraday Discuss. 256, 61 (2025)).

    Langevin dynamics at constant temperature, by the splitting BAOAB (Leimkuhler and Matthews, J. Chem. Phys. 138,
    174102 (2013)); there is no quench. A variable cell follows Brownian dynamics of its strain in the enthalpy,
    which is stochastic cell rescaling (Bernetti and Bussi, J. Chem. Phys. 153, 114107 (2020)) with all components of
    the strain and with the mean of the kinetic stress in its place.
    """

    temperature_K: float | None = Field(default=None, gt=0)
    """Temperature: below melting, but high enough for atoms to change places (paper: 1800 K for boron at 10 GPa). By
    default it is found for every cell by `scan`."""
    time_ps: float = Field(default=10.0, gt=0)
    """Length (paper: 10, 25 and 50 ps)."""
    timestep_fs: float = Field(default=1.0, gt=0)
    """Time step; 0.5 with hydrogen."""
    friction_per_ps: float = Field(default=5.0, ge=0)
    """Friction of the thermostat, its inverse being the time in which velocities are forgotten; 0: none, the energy is
    conserved."""
    cell: Literal["fixed", "variable"] = "variable"
    """Whether the cell moves, under the pressure of the relaxation; where `relax.cell` is fixed, it never does."""
    cell_time_ps: float = Field(default=0.5, gt=0)
    """Time in which the volume of a variable cell of the stiffness `bulk_modulus_GPa` comes to rest. A cell that is
    stiffer does so faster."""
    bulk_modulus_GPa: float = Field(default=100.0, gt=0)
    """See `cell_time_ps`; it sets no result, only how fast the cell moves."""
    keep_symmetry: bool = False
    """Keep the space group that the relaxed cell has within `symmetry_tolerance`: velocities, noise and strain are
    projected onto what it leaves free, and the temperature is that of these degrees of freedom."""
    reproject_steps: int = Field(default=100, ge=1)
    """With `keep_symmetry`: after so many steps, positions and cell are made exactly symmetric, against rounding."""
    frames: int = Field(default=10, ge=0)
    """Frames of the anneal that are kept, equally spaced."""
    checkpoint_steps: int = Field(default=1000, ge=1)
    """After so many steps the anneal is stored, so that another worker can go on with it; no result depends on it."""
    scan: MobilityScanSettings = MobilityScanSettings()
    """How the temperature is found where it is not given."""

    @property
    def n_steps(self) -> int:
        """Time steps of the anneal."""
        return max(1, round(1000.0 * self.time_ps / self.timestep_fs))

    @property
    def scan_steps(self) -> int:
        """Time steps of one run of the scan; an even number."""
        return 2 * max(1, round(500.0 * self.scan.time_ps / self.timestep_fs))

    @property
    def ladder(self) -> tuple[float, ...]:
        """Temperatures of the scan in K, ascending; the lowest is always there."""
        found = [self.scan.lowest_K]
        while found[-1] * self.scan.ratio <= self.scan.highest_K:
            found.append(found[-1] * self.scan.ratio)
        return tuple(found)


class RelaxSettings(MinimiserSettings):
    """Relaxation of random cells under a random pressure (paper, Methods, Eq. 5)."""

    pressure_scale_GPa: float = Field(default=1.0, ge=0)
    """p0 of Eq. 5, in GPa."""
    pressure_beta: float = Field(default=0.2, ge=0)
    """beta of Eq. 5: the pressure is exponentially distributed with mean beta p0."""
    pressure_range_GPa: tuple[float, float] | None = None
    """Lowest and highest pressure, between which it is drawn uniformly instead of by Eq. 5, e.g. `[5, 15]` (Pickard
    2024 for boron)."""
    pressure_from_generation: int = Field(default=1, ge=1)
    """The first generation that is relaxed under pressure; earlier ones are relaxed at none."""
    keep_first_steps: int = Field(default=10, ge=0)
    """Every frame up to this step is kept (step 0 is the starting structure)."""
    thinning_ratio: float = Field(default=1.25, ge=1)
    """Later frames are kept when the step number has grown by this ratio since the last one kept (1 keeps
    all). The last frame is always kept."""
    keep_symmetry: bool = False
    """Keep the space group of the starting structure during the relaxation."""
    cell: Literal["fixed", "variable"] = "variable"
    """Whether the cell is relaxed too, or only the atoms in it, as in searches in a measured cell."""
    anneal: AnnealSettings | None = None
    """Hot search: after the relaxation, molecular dynamics and a second relaxation. By default there is none."""
    max_uncertainty: float | None = Field(default=None, gt=0, lt=1)
    """A relaxation ends when the potential knows the surroundings of an atom less well than this, and less well than
    those at the start: it has left known space, and its last frame is offered for labelling. The measure is the
    predictive standard deviation of the SOAP energy over its prior, from 0 (a sparse point) to 1 (nothing is known).
    By default no relaxation ends so."""
    max_spread: float | None = Field(default=None, gt=0)
    """The same for an ephemeral data-derived potential, in its own measure: the standard deviation of the networks'
    energies of the structure, in eV/atom (0.2 in one published implementation)."""
    beyond: Literal["stop", "go-on"] = "stop"
    """What a relaxation or an anneal does beyond `max_uncertainty` or `max_spread`: it ends there, or goes on, and only
    its end is judged: a search leaves it out where that is still beyond the limit. `go-on` is for searches from random
    cells, which begin in unknown space and leave it."""

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if self.max_uncertainty is not None and self.max_spread is not None:
            msg = (
                "max_uncertainty is for potential: gap, max_spread for potential: eddp: leave one of them out"
            )
            raise ValueError(msg)
        low, high = self.pressure_range_GPa or (0.0, 0.0)
        if low > high:
            msg = f"pressure_range_GPa begins at {low:g} and ends at {high:g}: exchange them"
            raise ValueError(msg)
        return self

    @property
    def uncertainty_limit(self) -> float | None:
        """`max_uncertainty` or `max_spread`, whichever is set."""
        return self.max_spread if self.max_uncertainty is None else self.max_uncertainty

    @property
    def stopping_uncertainty(self) -> float | None:
        """The limit at which a relaxation ends; infinite where it goes on and only tells how uncertain its end is."""
        limit = self.uncertainty_limit
        return limit if limit is None or self.beyond == "stop" else math.inf

    @property
    def mean_pressure(self) -> float:
        """Mean of the random pressures, in GPa."""
        if self.pressure_range_GPa is not None:
            return sum(self.pressure_range_GPa) / 2
        return self.pressure_scale_GPa * self.pressure_beta


class PhaseRelaxSettings(MinimiserSettings):
    """Relaxation of named phases, tighter than that of random cells because energies are compared."""

    force_threshold: float = Field(default=0.005, gt=0)
    """Residual force on every atom at which a relaxation is converged, in eV/Å."""
    cell_force_threshold: float = Field(default=0.005, gt=0)
    """Residual generalised force of the cell, in eV per atom and unit strain."""
    max_steps: int = Field(default=200, ge=0)
    """Optimiser steps after which a relaxation stops as unconverged."""
