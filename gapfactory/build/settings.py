"""Settings of random cells and dimers. Lengths and volumes are in units of the characteristic radius r, or in Å.

Words of AIRSS's `buildcell` for the same thing are in brackets; docs/reference/builder.md has the whole table.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from gapfactory.build.body_settings import (  # noqa: TC001 - pydantic reads
    ConfinementSettings,
    StartSettings,
    UnitSettings,
)
from gapfactory.build.settings_types import Integers, Interval  # noqa: TC001  (pydantic reads them)
from gapfactory.settings import Settings

__all__ = [
    "BuildSettings",
    "ContentsSettings",
    "CrystalSystem",
    "DimerSettings",
    "SeparationSettings",
    "ShapeSettings",
    "SymmetrySettings",
    "VolumeSettings",
]

CrystalSystem = Literal[
    "triclinic", "monoclinic", "orthorhombic", "tetragonal", "trigonal", "hexagonal", "cubic"
]
PointGroup = Literal[
    "1", "-1", "2", "m", "2/m", "222", "mm2", "mmm", "4", "-4", "4/m", "422", "4mm", "-42m", "4/mmm", "3",
    "-3", "32", "3m", "-3m", "6", "-6", "6/m", "622", "6mm", "-6m2", "6/mmm", "23", "m-3", "432", "-43m",
    "m-3m",
]  # fmt: skip


class ContentsSettings(Settings):
    """How many atoms of which species a cell holds, where this is not left to the range of atoms."""

    formula_units: Integers | None = None
    """Numbers of formula units, e.g. 4, "1-8" or [1, 2, 4] (NFORM): one of them is drawn, in place of `atoms_min`
    and `atoms_max`."""

    composition: Literal["formula", "random", "weighted"] = "formula"
    """`formula`: multiples of the formula unit. `random` (NATOM): the number of atoms is drawn first, then the
    boundaries between the species, each uniformly from 0 to that number. `weighted`: every atom draws its species by
    `weights`."""

    weights: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    """Weights of the species for `weighted`; without them, their numbers in the formula unit."""

    species_present: Integers | None = None
    """For `random` and `weighted`: how many different species a cell may have (FOCUS); others are drawn again."""

    @model_validator(mode="after")
    def _of_one_kind(self) -> Self:
        if self.composition != "formula" and self.formula_units is not None:
            raise ValueError(
                f"composition: {self.composition} has no formula units: leave formula_units out and set atoms_min "
                "and atoms_max"
            )
        if self.weights and self.composition != "weighted":
            raise ValueError("weights are for composition: weighted; set that or leave them out")
        if self.species_present is not None and self.composition == "formula":
            raise ValueError(
                "species_present is for composition: random or weighted; set one or leave it out"
            )
        return self


class VolumeSettings(Settings):
    """Volume of a cell in place of the multiples of r^3; at most one of the three.

    A single value is the mean, varied by `narrow_volume_spread` and `wide_volume_spread` like the default one
    (VARVOL), or kept with `exact`. From a range the volume is drawn uniformly (TARGVOL).
    """

    per_atom: Interval | None = None
    """Å^3 per atom: a number or [low, high]."""

    per_formula_unit: Interval | None = None
    """Å^3 per formula unit (in cells of whole units, per unit): a number or [low, high]."""

    density_g_cm3: Interval | None = None
    """Density in g/cm3: a number or [low, high]. From a range the volume is drawn uniformly."""

    exact: bool = False
    """Keep a single value as it is."""

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [key for key in ("per_atom", "per_formula_unit", "density_g_cm3") if getattr(self, key)]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are both given: keep one of them")
        if self.exact and not given:
            raise ValueError("exact needs a volume: give per_atom, per_formula_unit or density_g_cm3")
        return self

    @property
    def given(self) -> bool:
        """Whether a volume or a density is given."""
        return bool(self.per_atom or self.per_formula_unit or self.density_g_cm3)


class SeparationSettings(Settings):
    """Minimum separations (MINSEP) in Å, in place of `minimum_separation_in_r`."""

    value: Interval | None = None
    """Of every pair that `pairs` does not name: a number, or [low, high] from which each pair of species draws its own
    value for each cell."""

    pairs: dict[str, Interval] = Field(default_factory=dict)
    """Of pairs of species, e.g. {B-B: 1.6, B-O: [1.3, 1.6]}; a range is drawn from for each cell."""

    auto: bool = False
    """Take pairs and volume from the best structures found so far (AUTO): every generation of a campaign measures them
    on the labelled structures of the generations before. In the first generation, and for pairs that the best ones do
    not have, the other values hold."""

    auto_structures: int = Field(10, ge=1)
    """For `auto`: how many structures of each composition are the best, i.e. lowest in energy per atom by the
    reference. Distorted crystals are not among them: they were given, not found."""

    @field_validator("pairs")
    @classmethod
    def _symbols(cls, pairs: dict[str, Interval]) -> dict[str, Interval]:
        named: dict[str, Interval] = {}
        for key, value in pairs.items():
            match = re.fullmatch(r"([A-Z][a-z]?)-([A-Z][a-z]?)", key)
            if match is None:
                raise ValueError(f"{key!r} is not a pair of species such as B-O")
            name = "-".join(sorted(match.groups()))
            if name in named:
                raise ValueError(f"the pair {name} is given twice: keep one of them")
            named[name] = value
        return named


class SymmetrySettings(Settings):
    """Which space groups are imposed, in place of the range of operations.

    With `operations` alone (SYMMOPS) the number of operations is drawn first, then one of its groups. With groups,
    point groups or crystal systems every group that fits all that is asked for is equally probable.
    """

    operations: Integers | None = None
    """Numbers of operations (order of the point group; operations of the primitive cell), e.g. 4, "1-8", [2, 4]."""

    space_groups: Integers | None = None
    """International numbers, e.g. 225, "195-230" or [2, 14, "61-62"] (SYMMNO)."""

    point_groups: tuple[PointGroup, ...] | None = None
    """Point groups by their international symbols, e.g. ["mm2", "4/mmm"]."""

    crystal_systems: tuple[CrystalSystem, ...] | None = None
    """Crystal systems (SYSTEM); groups 143-167 are trigonal, 168-194 hexagonal."""

    symmorphic: bool = False
    """Only the 73 symmorphic groups, which have neither screw axes nor glide planes (SYMMORPHIC)."""

    positions: Literal["any", "general"] = "any"
    """`any`: special positions too, as few as the numbers of atoms allow. `general`: all units and as many atoms as
    possible on general positions, and the rest of the atoms anywhere without symmetry (SYMMOPS=~n)."""

    extra_sites: int = Field(0, ge=0, le=48)
    """Each species, and each kind of unit, may have up to this many more inequivalent sites than the fewest, i.e. more
    special positions (ADJGEN)."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.positions == "general" and self.extra_sites:
            raise ValueError("extra_sites asks for special positions, positions: general for none: drop one")
        if self.space_groups and self.space_groups[-1] > 230:
            raise ValueError(f"there is no space group {self.space_groups[-1]}: numbers go from 1 to 230")
        for key in ("point_groups", "crystal_systems"):
            if getattr(self, key) == ():
                raise ValueError(f"{key} is empty: name at least one, or leave it out")
        return self


class ShapeSettings(Settings):
    """Shape of a cell. Limits hold for the random cell before symmetry is imposed, which makes it more regular."""

    equal_lengths: float = Field(0.4, ge=0.05, le=1)
    """How alike the lengths are, c (CONS): the longest is at most (2 - c)/c times the shortest, 4 at 0.4; 1 for equal
    ones."""

    flatness: float = Field(0.5, ge=0, le=0.95)
    """Smallest volume of a cell over the product of its lengths (ACONS): 1 is orthogonal, 0 is flat."""

    compact: bool = True
    """Give the cell by its shortest vectors, Minkowski-reduced (COMPACT). Never with `cell` or `cellcon`."""

    cell: tuple[float, float, float, float, float, float] | tuple[tuple[float, float, float], ...] | None = (
        None
    )
    """A fixed cell: three lengths in Å and three angles in degrees, or three vectors in Å. Groups that it does not obey
    are left out, and its volume is the volume."""

    cellcon: tuple[float, float, float, float, float, float] | None = None
    """Conditions on a, b, c and the three angles of the cell (CELLCON): 0 free, -1 equal to the others with -1, any
    other value fixed (Å, degrees). At most two lengths may be fixed; the others follow from the volume."""

    @field_validator("cell")
    @classmethod
    def _cell(cls, value: object) -> object:
        if value is not None:
            import numpy as np
            from ase.cell import Cell

            try:
                volume = float(np.linalg.det(Cell.new(value).array))
            except (ValueError, AssertionError, TypeError):
                volume = 0.0
            if not (np.isfinite(volume) and volume > 1.0):
                raise ValueError(
                    f"cell = {value}: give [a, b, c, alpha, beta, gamma] or three right-handed vectors in Å"
                )
        return value

    @model_validator(mode="after")
    def _conditions(self) -> Self:
        if self.cellcon is not None:
            if self.cell is not None:
                raise ValueError("cell and cellcon are both given: keep one of them")
            lengths, angles = self.cellcon[:3], self.cellcon[3:]
            if any(x < 0 and x != -1 for x in self.cellcon) or any(x >= 180 for x in angles):
                raise ValueError(
                    f"cellcon = {list(self.cellcon)}: each is 0 (free), -1 (equal), a length, or an angle below 180"
                )
            if all(x > 0 for x in lengths):
                raise ValueError(
                    "cellcon fixes all three lengths: give the whole cell as `cell`, or free one of them"
                )
        return self


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

    slack_start: float = Field(0.0, ge=0, lt=1)
    """Slack of the first attempt; 0: it must meet the full minimum separation."""

    slack_step: float = Field(0.01, gt=0, le=1)
    """Each failed attempt at a cell is followed by one that may fall short by this much more, up to `slack`
    (AUTOSLACK)."""

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

    contents: ContentsSettings = ContentsSettings()
    """Formula units and stochastic composition."""

    volume: VolumeSettings = VolumeSettings()
    """Volume or density in absolute units."""

    separations: SeparationSettings = SeparationSettings()
    """Minimum separations in Å."""

    symmetry: SymmetrySettings = SymmetrySettings()
    """Space groups and sites."""

    shape: ShapeSettings = ShapeSettings()
    """Shape of the cell."""

    units: tuple[UnitSettings, ...] = ()
    """Groups of atoms that are placed as bodies; the other atoms of the composition are placed one by one."""

    confinement: ConfinementSettings | None = None
    """Clusters and slabs; none: crystals."""

    start: StartSettings | None = None
    """A given structure that is shaken, instead of a random one; composition, volume and symmetry are its own."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for low, high in (
            ("atoms_min", "atoms_max"),
            ("symmetry_operations_min", "symmetry_operations_max"),
            ("slack_start", "slack"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(
                    f"{low} = {getattr(self, low)} is above {high} = {getattr(self, high)}: "
                    f"lower {low} or raise {high}"
                )
        return self

    @model_validator(mode="after")
    def _start_alone(self) -> Self:
        if self.start is not None and (self.units or self.confinement or self.symmetry != SymmetrySettings()):
            raise ValueError(
                "start has its own units and periodicity, and no symmetry: leave out `units`, `confinement`, `symmetry`"
            )
        return self

    @model_validator(mode="after")
    def _together(self) -> Self:
        if self.shape.cell is not None and self.volume.given:
            raise ValueError("shape.cell is fixed and has its volume: leave out `volume`")
        if self.volume.per_formula_unit and self.contents.composition != "formula":
            raise ValueError(
                f"composition: {self.contents.composition} has no formula unit: give volume.per_atom or "
                "volume.density_g_cm3"
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
