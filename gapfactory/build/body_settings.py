"""Settings of units, confinement and structures that start from given positions; lengths in Å, `..._in_r` in r."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from gapfactory.settings import Settings

__all__ = ["AtomShake", "ConfinementSettings", "StartSettings", "UnitSettings"]

Vector = tuple[float, float, float]


class UnitSettings(Settings):
    """A group of atoms that is placed, turned and pushed as one body."""

    name: str = "B12"
    """`B12` (any element: `Si12`) is a regular icosahedron; any other name is one of ASE's molecules (`CH4`, `H2O`),
    unless `symbols` and `positions` are given, which then are the unit. `gapfactory.build.units.unit_from_file` makes
    them from a file."""

    symbols: tuple[str, ...] = ()
    """Chemical symbols of the atoms of a unit that is given explicitly."""

    positions: tuple[Vector, ...] = ()
    """Their Cartesian positions, Å."""

    count: int | None = Field(default=None, ge=1)
    """Units in each formula unit of the composition; by default as many as the atoms of a cell allow."""

    edge_in_r: float = Field(default=2.1, gt=0)
    """Edge of an icosahedron in units of r (boron: 1.76 Å)."""

    amplitude: float = Field(default=0.0, ge=0)
    """Flexible unit: every atom is displaced by a random vector of up to this length (Å), the same in all symmetry
    images. 0: rigid, all distances within the unit are kept."""

    rotation_max: float | None = Field(default=None, ge=0, le=180)
    """Largest angle (degrees) by which the unit is turned from the given orientation; by default any orientation, all
    equally likely. A given angle allows general positions only."""

    flip: bool = False
    """Take the mirror image of the unit in half of the cells."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(self.symbols) != len(self.positions):
            raise ValueError(
                f"unit {self.name!r} has {len(self.symbols)} symbols and {len(self.positions)} positions: "
                "give one position for each symbol"
            )
        return self


class ConfinementSettings(Settings):
    """Structures that are not periodic in three directions."""

    kind: Literal["cluster", "slab"]
    """`cluster`: not periodic, point-group symmetry about the middle. `slab` (also a layer): periodic in two
    directions; no symmetry operation mixes or shifts z."""

    radius: float | None = Field(default=None, gt=0)
    """Cluster: radius (Å) of the sphere that holds the atoms; by default the sphere of the volume of the contents."""

    radius_per_root: float | None = Field(default=None, gt=0)
    """Cluster: radius (Å) over the cube root of the number of atoms (AIRSS's negative `SPHERE`)."""

    half_axes: Vector | None = None
    """Cluster: half axes (Å) of an ellipsoid instead of the sphere. Then the symmetry is restricted to what keeps x, y
    and z apart."""

    width: float | None = Field(default=None, ge=0)
    """Slab: thickness (Å) of the region of the atoms, 0 for a flat layer; by default the cube root of the volume."""

    vacuum: float = Field(default=10.0, ge=0)
    """Empty space (Å) between periodic images: added to the width of a slab or the diameter of a cluster."""

    keep_sides: bool = False
    """Slab: no operation turns the two sides into each other (AIRSS's `SURFACE`)."""

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        of = {
            "cluster": ("radius", "radius_per_root", "half_axes"),
            "slab": ("width",),
        }
        for kind, names in of.items():
            for name in names:
                if kind != self.kind and getattr(self, name) is not None:
                    raise ValueError(f"{name} belongs to a {kind}, not to a {self.kind}: leave it out")
        given = [name for name in of["cluster"] if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} both give the size of the cluster: keep one")
        if self.half_axes is not None and min(self.half_axes) <= 0:
            raise ValueError(f"half_axes = {self.half_axes}: each must be positive")
        return self


class AtomShake(Settings):
    """How one atom, or one rigid unit, of the starting structure is moved."""

    amplitude: float | None = Field(default=None, ge=0)
    """Largest displacement (Å), uniform in the sphere; none: `StartSettings.position_amplitude`."""

    anywhere: bool = False
    """Placed anywhere in the cell instead (and a unit turned at random)."""

    least: float = Field(default=0.0, ge=0)
    """Smallest displacement (Å)."""

    box: tuple[float | None, float | None, float | None] = (None, None, None)
    """Largest displacement (Å) along x, y and z; none: not limited further than by the amplitude."""

    angle: float | None = Field(default=None, ge=0, le=180)
    """Largest turn (degrees) of a unit; none: any."""

    fixed: bool = False
    """Neither shaken nor pushed, and kept where it is when the structure is relaxed."""

    no_move: bool = False
    """Not pushed."""

    permute: bool = False
    """Its species takes part in the permutation."""


class StartSettings(Settings):
    """Structures made from a given one."""

    symbols: tuple[str, ...] = Field(min_length=1)
    """Chemical symbols of the starting structure."""

    positions: tuple[Vector, ...]
    """Cartesian positions, Å."""

    cell: tuple[Vector, Vector, Vector] | None = None
    """Rows: cell vectors, Å; none: a random cell of the volume of the contents."""

    periodic: tuple[bool, bool, bool] = (True, True, True)
    """Along which cell vectors the structure repeats."""

    units: tuple[int, ...] = ()
    """A number for each atom; atoms of equal numbers form a rigid unit. Empty: every atom for itself."""

    atoms: tuple[AtomShake, ...] = ()
    """How each atom is moved (a unit as its first atom); empty: all alike by the amplitudes below."""

    position_amplitude: float = Field(default=0.0, ge=0)
    """Largest displacement (Å) of every atom, uniform in the sphere (AIRSS's `POSAMP`)."""

    cell_amplitude: float = Field(default=0.0, ge=0, lt=1)
    """Random symmetric strain: diagonal elements within +- this, the others within +- half of it (`CELLAMP`)."""

    break_amplitude: float = Field(default=0.0, ge=0)
    """Displacement (Å) of every atom at the very end, after the pushing (`BREAKAMP`)."""

    supercell: tuple[tuple[int, int, int], tuple[int, int, int], tuple[int, int, int]] | None = None
    """Rows: vectors of the supercell in those of the cell; shaken after it was made."""

    supercell_size: int | None = Field(default=None, ge=1)
    """Number of cells of a supercell of random shape, instead of `supercell`."""

    vacancies: dict[str, int] = Field(default_factory=dict)
    """Atoms taken out at random, by species."""

    permute: bool = False
    """Exchange the species of all atoms at random (of the marked ones, if any atom is marked)."""

    permuted_fraction: float = Field(default=1.0, gt=0, le=1)
    """Fraction of these atoms that takes part (`PERMFRAC`)."""

    pushed: bool = True
    """Push atoms apart after the shaking; off, a structure with too short contacts is drawn again."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        n = len(self.symbols)
        if len(self.positions) != n:
            raise ValueError(f"{n} symbols and {len(self.positions)} positions: give one position for each")
        for name in ("units", "atoms"):
            if getattr(self, name) and len(getattr(self, name)) != n:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries for {n} atoms: one for each")
        if self.supercell is not None and self.supercell_size is not None:
            raise ValueError("supercell and supercell_size both make a supercell: keep one")
        if self.cell is None and (self.supercell or self.supercell_size or self.cell_amplitude):
            raise ValueError(
                "a supercell or cell_amplitude needs the cell of the starting structure: give `cell`"
            )
        return self
