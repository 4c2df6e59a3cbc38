"""Settings of random cells and dimers; lengths and volumes in units of the characteristic radius r."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from gapfactory.settings import Settings

__all__ = ["BuildSettings", "DimerSettings"]


class BuildSettings(Settings):
    """Random cells; where the paper (Bernstein et al. 2019, Methods) gives a number, it is the default."""

    atoms_min: int = Field(6, ge=1, le=200)
    """Smallest number of atoms in a cell."""

    atoms_max: int = Field(24, ge=1, le=200)
    """Largest number of atoms in a cell. Compounds use multiples of the formula unit in between."""

    symmetry_operations_min: int = Field(1, ge=1, le=48)
    """Smallest number of symmetry operations (point-group order; operations of the primitive cell)."""

    symmetry_operations_max: int = Field(8, ge=1, le=48)
    """Largest number of symmetry operations. The orders that exist are 1, 2, 3, 4, 6, 8, 12, 16, 24, 48."""

    minimum_separation_in_r: float = Field(1.8, gt=0)
    """Minimum separation of two atoms, in units of r (of the mean r for two species)."""

    slack: float = Field(0.25, ge=0, lt=1)
    """No pair, periodic images included, is nearer than (1 - slack) x minimum separation, whatever happens.
    Atoms are pushed towards the full separation; the slack is opened only step by step, see `slack_step`."""

    slack_step: float = Field(0.01, gt=0, le=1)
    """The first attempt at a cell must meet the full minimum separation; each failed one is followed by one
    that may fall short by this much more, up to `slack`."""

    volume_in_r3_covalent: float = Field(14.5, gt=0)
    """Mean volume per atom of a covalent species, in units of r^3."""

    volume_in_r3_metallic: float = Field(5.5, gt=0)
    """Mean volume per atom of a metallic species, in units of r^3."""

    narrow_volume_spread: float = Field(0.05, ge=0, lt=1)
    """Narrow cells: the volume is drawn uniformly within +- this fraction of the mean."""

    wide_volume_spread: float = Field(0.25, ge=0, lt=1)
    """Wide cells: the volume is drawn uniformly within +- this fraction of the mean."""

    initial_wide_fraction: float = Field(0.5, ge=0, le=1)
    """Fraction of wide cells in generation 0; later generations have narrow cells only."""

    odd_fraction: float = Field(0.2, ge=0, le=1)
    """Fraction of narrow cells with an odd number of atoms, where an odd number can be had. Wide cells are
    even."""

    tries: int = Field(100, ge=1)
    """Attempts (space group, lattice, positions) at one cell before it is given up."""

    push_stall: int = Field(100, ge=1)
    """Pushing ends after this many steps without fewer or milder overlaps."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for low, high in (("atoms_min", "atoms_max"), ("symmetry_operations_min", "symmetry_operations_max")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} = {getattr(self, low)} is above {high} = {getattr(self, high)}: "
                    f"lower {low} or raise {high}"
                )
        return self


class DimerSettings(Settings):
    """Dimers in vacuum over a wide range of bond lengths, which teach the repulsion at short range.

    The paper states no numbers. The range is that of the authors' later program, 0.65 to 2.5 times the
    minimum separation, i.e. 1.17 r to 4.5 r (which is also the range of SOAP for covalent species).
    """

    bond_lengths: int = Field(40, ge=2)
    """Number of bond lengths for each pair of species, equally spaced."""

    shortest_in_r: float = Field(1.17, gt=0)
    """Shortest bond length in units of the pair's mean r."""

    longest_in_r: float = Field(4.5, gt=0)
    """Longest bond length in units of the pair's mean r."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.shortest_in_r >= self.longest_in_r:
            raise ValueError(
                f"shortest_in_r = {self.shortest_in_r} is not below longest_in_r = {self.longest_in_r}: "
                "lower the first or raise the second"
            )
        return self
