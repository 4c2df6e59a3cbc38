"""Phonons and elastic constants of one crystal: which cells to label, what follows from them, potential and reference.

Allen and Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022), sections 3.3 and 4. Phonons of potential and reference
come from the same displaced cells of the reference's crystal; lattice parameters and elastic constants are those of
each one's own relaxed crystal (Table 3).

    >>> planned = vibration_cells(crystal)                                       # doctest: +SKIP
    >>> reference = vibrations_from_labels(planned, forces, stresses)            # labels of planned.cells
    >>> potential = vibrations_by(gap, planned, method="potential", like=reference, relax=PhaseRelaxSettings())
    >>> compare_vibrations(potential, reference).passed()                        # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory._spglib import ask_spglib, symmetry_operations
from gapfactory.analysis.elasticity import (
    ElasticCells,
    ElasticComparison,
    ElasticConstants,
    ElasticSettings,
    compare_elasticity,
    elastic_cells,
    elastic_constants,
    elastic_constants_by,
)
from gapfactory.analysis.force_constant_fit import fit_force_constants
from gapfactory.analysis.force_constants import (
    DisplacementSet,
    crystal_dict,
    crystal_from_dict,
    displacement_set,
    force_constants,
    forces_of,
    oriented_primitive_cell,
)
from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.analysis.phonons import PhononComparison, Phonons, compare_phonons, phonons
from gapfactory.analysis.vibration_settings import VibrationLimits
from gapfactory.build.commensurate import commensurate_grid
from gapfactory.build.nondiagonal import NondiagonalSettings, nondiagonal_cells
from gapfactory.errors import EvidenceError, UnstableCrystalError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from numpy.typing import ArrayLike

    from gapfactory.search.settings import PhaseRelaxSettings

#: Å within which a relaxed crystal has its symmetry, where only the names of its lattice parameters depend on it
_SYMPREC = 1e-3

__all__ = [
    "VibrationCells",
    "VibrationComparison",
    "Vibrations",
    "compare_vibrations",
    "require_symmetric_grid",
    "vibration_cells",
    "vibrations_by",
    "vibrations_from_labels",
]


@dataclass(frozen=True)
class VibrationCells:
    """What has to be labelled of one crystal.

    Parameters
    ----------
    crystal
        The primitive cell at rest, as relaxed.
    phonon
        Supercells with one displaced atom each.
    elastic
        Strained cells, and displaced ones where strain moves atoms.
    diagonal
        The displacements in the diagonal supercell; None for non-diagonal ones.
    phonon_settings
        Grid, displacements, meshes and path.
    grids
        k-points along the vectors of each of `cells`, all those of one grid of the primitive cell; None: none given.
    """

    crystal: Atoms
    phonon: tuple[Atoms, ...]
    elastic: ElasticCells
    diagonal: DisplacementSet | None
    phonon_settings: PhononSettings
    grids: tuple[tuple[int, int, int] | None, ...]

    @property
    def cells(self) -> tuple[Atoms, ...]:
        """All cells in the order of their labels: those of the phonons, then those of the elastic constants."""
        return (*self.phonon, *self.elastic.cells)


def vibration_cells(
    crystal: Atoms,
    phonons: PhononSettings | None = None,
    elastic: ElasticSettings | None = None,
    *,
    kpoints: tuple[int, int, int] | None = None,
) -> VibrationCells:
    """Return the cells whose labels give phonons and elastic constants; the same for the same crystal.

    Parameters
    ----------
    crystal
        Relaxed, any cell of it: the primitive one is taken. Its orientation stays.
    phonons, elastic
        How.
    kpoints
        k-grid of the primitive cell, e.g. of `gapfactory.reference.kpoints.primitive_grid`: every cell is made such
        that it has the same k-points, and `grids` tells its grid.

    Raises
    ------
    InputError
        The k-grid is no multiple of the grid of wave vectors.
    EvidenceError
        No symmetry is found in the crystal, or non-diagonal supercells are wanted for a grid that has not the
        symmetry of the crystal.
    """
    phonons = phonons or PhononSettings()
    primitive = oriented_primitive_cell(crystal, phonons.symmetry_tolerance)
    strained = elastic_cells(primitive, elastic)
    of_elastic = (kpoints,) * len(strained.cells)
    if phonons.supercells == "diagonal":
        planned = displacement_set(primitive, phonons)
        grid = None if kpoints is None else commensurate_grid(planned.matrix, kpoints)
        grids = (*((grid,) * len(planned.cells)), *of_elastic)
        return VibrationCells(primitive, planned.cells, strained, planned, phonons, grids)
    require_symmetric_grid(primitive, phonons)
    supercells = nondiagonal_cells(
        primitive,
        NondiagonalSettings(divisions=phonons.grid, symprec=phonons.symmetry_tolerance),
        kpoints=kpoints,
    )
    displaced = [
        (cell, supercell.grid)
        for supercell in supercells.cells
        for cell in displacement_set(primitive, phonons, matrix=supercell.matrix).cells
    ]
    cells, of_phonons = tuple(cell for cell, _ in displaced), tuple(grid for _, grid in displaced)
    return VibrationCells(primitive, cells, strained, None, phonons, (*of_phonons, *of_elastic))


def require_symmetric_grid(crystal: Atoms, settings: PhononSettings) -> None:
    """Refuse non-diagonal supercells for a grid that an operation of the primitive cell turns into another.

    The non-diagonal supercells hold one point of each star; the other points follow only if the diagonal supercell,
    whose force constants are fitted, has the operation that leads there.

    Raises
    ------
    EvidenceError
        As said.
    """
    if settings.supercells == "diagonal":
        return
    rotations = symmetry_operations(crystal, settings.symmetry_tolerance)[0]
    grid = np.array(settings.grid)
    # W x stays a vector of the diagonal supercell for each vector x of it
    if np.any(rotations * grid[None, None, :] % grid[None, :, None]):
        raise EvidenceError(
            f"the grid {'x'.join(map(str, settings.grid))} has not the symmetry of {crystal.symbols!s}: "
            "give equal divisions along equivalent axes, or supercells: diagonal"
        )


@dataclass(frozen=True)
class Vibrations:
    """Phonons and elastic constants of one crystal by one method.

    Parameters
    ----------
    method
        What computed them, e.g. ``"reference"`` or the name of a potential.
    crystal
        The primitive cell as the method relaxed it.
    phonons
        On the crystal of the reference.
    elastic
        At `crystal`; None where it has none.
    no_elastic
        Why it has none; empty where it has.
    """

    method: str
    crystal: Atoms
    phonons: Phonons
    elastic: ElasticConstants | None
    no_elastic: str

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it."""
        return {
            "method": self.method,
            "crystal": crystal_dict(self.crystal),
            "phonons": self.phonons.as_dict(),
            "elastic": None if self.elastic is None else self.elastic.as_dict(),
            "no_elastic": self.no_elastic,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Vibrations:
        """Return what `as_dict` wrote."""
        elastic = data["elastic"]
        return cls(
            method=str(data["method"]),
            crystal=crystal_from_dict(data["crystal"]),
            phonons=Phonons.from_dict(data["phonons"]),
            elastic=None if elastic is None else ElasticConstants.from_dict(elastic),
            no_elastic=str(data["no_elastic"]),
        )


def vibrations_from_labels(
    planned: VibrationCells,
    forces: Sequence[ArrayLike],
    stresses: Sequence[ArrayLike],
    *,
    method: str = "reference",
    like: Vibrations | None = None,
) -> Vibrations:
    """Return phonons and elastic constants that follow from labels.

    Parameters
    ----------
    planned
        What was labelled.
    forces
        By cell of `planned.cells`: shape (atoms, 3), eV/Å.
    stresses
        By cell of `planned.cells`: shape (6,), eV/Å^3, xx, yy, zz, yz, xz, xy, tension positive as ASE has it. Those of
        `planned.phonon` are not used and may be None.
    method
        What computed them.
    like
        Vibrations of the same crystal to be compared with: path and mesh of the phonons are theirs.

    Raises
    ------
    EvidenceError
        Labels are missing, of another shape, or not finite.
    """
    if not len(forces) == len(stresses) == len(planned.cells):
        raise EvidenceError(
            f"{len(planned.cells)} cells, but forces of {len(forces)} and stresses of {len(stresses)}; label them all"
        )
    count = len(planned.phonon)
    found, reason = _elastic(
        lambda: elastic_constants(planned.elastic, stresses[count:], forces[count:], method=method),
        planned.elastic.settings,
    )
    return Vibrations(
        method, planned.crystal.copy(), _phonons(planned, forces[:count], method, like), found, reason
    )


def vibrations_by(
    calculator: Calculator,
    planned: VibrationCells,
    *,
    method: str,
    like: Vibrations | None = None,
    relax: PhaseRelaxSettings | None,
) -> Vibrations:
    """Return phonons and elastic constants by a calculator with energy, forces and stress.

    Parameters
    ----------
    calculator
        E.g. of a potential.
    planned
        The reference's crystal and displaced cells: phonons are computed on these.
    method
        Name of the calculator.
    like
        Vibrations by the reference: path and mesh of the phonons are theirs.
    relax
        How the calculator's own crystal is found, whose elastic constants are computed; its symmetry stays. None: they
        are those of the reference's crystal, for one that is no minimum of the energy.

    Raises
    ------
    EvidenceError
        The forces do not determine the force constants, or are not finite.
    """
    found = _phonons(planned, forces_of(planned.phonon, calculator), method, like)
    crystal, problem = planned.crystal.copy(), ""
    if relax is not None:
        crystal, problem = _relaxed(planned.crystal, calculator, relax)
    if problem:
        return Vibrations(method, crystal, found, None, problem)
    settings = planned.elastic.settings
    elastic, problem = _elastic(
        lambda: elastic_constants_by(calculator, crystal, settings, method=method), settings
    )
    return Vibrations(method, crystal, found, elastic, problem)


def _phonons(
    planned: VibrationCells, forces: Sequence[ArrayLike], method: str, like: Vibrations | None
) -> Phonons:
    settings = planned.phonon_settings
    # forces at rest drop out: each displacement is there with both signs, in the set or by symmetry
    constants = (
        fit_force_constants(planned.crystal, planned.phonon, forces, settings)
        if planned.diagonal is None
        else force_constants(planned.diagonal, forces)
    )
    return phonons(constants, method=method, like=None if like is None else like.phonons, settings=settings)


def _elastic(
    find: Callable[[], ElasticConstants], settings: ElasticSettings
) -> tuple[ElasticConstants | None, str]:
    """Return elastic constants, or why the crystal has none."""
    try:
        found = find()
    except UnstableCrystalError as error:
        return None, str(error)
    softest = float(found.tensor.eigenvalues[0])
    if softest <= 0:
        return None, f"not stable against strain: the lowest of its Kelvin moduli is {softest:.1f} GPa"
    stress = max(map(abs, found.stress_GPa))
    if stress > settings.stress_limit * softest:
        return None, (
            f"under a stress of {stress:.2f} GPa, more than {100 * settings.stress_limit:.0f} % of the lowest of its "
            f"Kelvin moduli, {softest:.1f} GPa"
        )
    return found, ""


def _relaxed(crystal: Atoms, calculator: Calculator, settings: PhaseRelaxSettings) -> tuple[Atoms, str]:
    """Return the crystal as a calculator relaxes it, and what went wrong, or an empty text."""
    from gapfactory.search.phases import left_phase, relax_phase

    run = relax_phase(crystal, calculator, settings=settings)
    if not len(run):
        return crystal.copy(), f"its relaxation {run.status}: {run.reason}"
    found = crystal.copy()
    found.set_cell(run.cells[-1])
    found.set_positions(run.positions[-1])
    if run.status != "converged":
        return found, f"its relaxation is {run.status}: {run.reason}"
    return found, left_phase(crystal, found, tolerance=settings.symmetry_tolerance)


@dataclass(frozen=True)
class VibrationComparison:
    """Potential against reference.

    Parameters
    ----------
    phonons
        Of the frequencies.
    elastic
        Of the elastic constants; None where one of both has none.
    no_elastic
        Why there is no comparison of elastic constants; empty where there is.
    elastic_expected
        Whether the reference has elastic constants.
    lattice
        Lattice parameters of the conventional cell that symmetry leaves free: name, reference and potential, in Å or
        degrees.
    """

    phonons: PhononComparison
    elastic: ElasticComparison | None
    no_elastic: str
    elastic_expected: bool
    lattice: tuple[tuple[str, float, float], ...]

    def passed(self, limits: VibrationLimits | None = None) -> bool:
        """Return whether the potential is good enough.

        Frequencies and elastic constants are within the limits, and a crystal that is stable by the reference is so by
        the potential. Where the reference has no elastic constants, phonons decide alone.
        """
        limits = limits or VibrationLimits()
        if self.phonons.rmse_THz > limits.phonon_rmse_THz:
            return False
        if self.phonons.reference_stable and not self.phonons.potential_stable:
            return False
        if self.elastic is None:
            return not self.elastic_expected
        return self.elastic.largest_error_percent <= limits.elastic_percent

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for each quantity of the tables: name, unit, reference, potential, error in percent.

        Lattice parameters come first. The error is None where the reference is about zero.
        """
        table = [
            {
                "quantity": name,
                "unit": "Å" if len(name) == 1 else "°",
                "reference": theirs,
                "potential": ours,
                "error_percent": 100.0 * (ours - theirs) / theirs,
            }
            for name, theirs, ours in self.lattice
        ]
        elastic = [] if self.elastic is None else self.elastic.rows()
        table += [
            {
                "quantity": row["constant"],
                "unit": "GPa",
                "reference": row["reference_GPa"],
                "potential": row["potential_GPa"],
                "error_percent": row["error_percent"],
            }
            for row in elastic
        ]
        return table

    def sentence(self) -> str:
        """Return the comparison in words."""
        elastic = self.no_elastic if self.elastic is None else self.elastic.sentence()
        return f"{self.phonons.sentence()}; {elastic}"

    def summary(self) -> dict[str, Any]:
        """Return the figures alone, without bands and densities of states, as plain JSON data."""
        return {
            "rmse_THz": self.phonons.rmse_THz,
            "largest_THz": self.phonons.largest_THz,
            "path_rmse_THz": self.phonons.path_rmse_THz,
            "mesh": list(self.phonons.mesh),
            "potential_lowest_THz": self.phonons.potential_lowest_THz,
            "reference_lowest_THz": self.phonons.reference_lowest_THz,
            "potential_stable": self.phonons.potential_stable,
            "reference_stable": self.phonons.reference_stable,
            "elastic_percent": None if self.elastic is None else self.elastic.largest_error_percent,
            "no_elastic": self.no_elastic,
            "rows": self.rows(),
        }

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON data; `from_dict` reads it. `summary` is much smaller."""
        return {
            "phonons": self.phonons.as_dict(),
            "elastic": None if self.elastic is None else self.elastic.as_dict(),
            "no_elastic": self.no_elastic,
            "elastic_expected": self.elastic_expected,
            "lattice": [list(row) for row in self.lattice],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> VibrationComparison:
        """Return what `as_dict` wrote."""
        elastic = data["elastic"]
        return cls(
            phonons=PhononComparison.from_dict(data["phonons"]),
            elastic=None if elastic is None else ElasticComparison.from_dict(elastic),
            no_elastic=str(data["no_elastic"]),
            elastic_expected=bool(data["elastic_expected"]),
            lattice=tuple((str(name), float(a), float(b)) for name, a, b in data["lattice"]),
        )


def compare_vibrations(potential: Vibrations, reference: Vibrations) -> VibrationComparison:
    """Compare vibrations of one crystal.

    Raises
    ------
    EvidenceError
        Phonons or elastic constants do not pair up.
    """
    elastic = None
    if potential.elastic is not None and reference.elastic is not None:
        elastic = compare_elasticity(potential.elastic, reference.elastic)
    reasons = [
        f"no elastic constants by {who}: {one.no_elastic}"
        for who, one in (("the reference", reference), ("the potential", potential))
        if one.elastic is None
    ]
    return VibrationComparison(
        phonons=compare_phonons(potential.phonons, reference.phonons),
        elastic=elastic,
        no_elastic="; ".join(reasons),
        elastic_expected=reference.elastic is not None,
        lattice=_lattice(potential.crystal, reference.crystal),
    )


def _lattice(potential: Atoms, reference: Atoms) -> tuple[tuple[str, float, float], ...]:
    """Return the free parameters of the conventional cell, by the reference and by the potential.

    Raises
    ------
    EvidenceError
        spglib finds no symmetry in the reference's crystal.
    """
    from ase.cell import Cell

    dataset: Any = ask_spglib(
        "get_symmetry_dataset",
        (reference.cell.array, reference.get_scaled_positions(), reference.numbers),
        symprec=_SYMPREC,
    )
    if dataset is None:
        raise EvidenceError(f"no symmetry found for {reference.symbols!s}; do two atoms coincide?")
    # columns: conventional vectors = vectors of the crystal times the inverse of the transformation
    to_conventional = np.linalg.inv(np.asarray(dataset.transformation_matrix, dtype=float)).T
    theirs, ours = (Cell(to_conventional @ one.cell.array).cellpar() for one in (reference, potential))
    # triclinic, monoclinic, orthorhombic, tetragonal with trigonal and hexagonal (hexagonal axes), cubic
    free = next(
        names
        for last, names in ((2, range(6)), (15, (0, 1, 2, 4)), (74, (0, 1, 2)), (194, (0, 2)), (230, (0,)))
        if dataset.number <= last
    )
    names = ("a", "b", "c", "alpha", "beta", "gamma")
    return tuple((names[k], float(theirs[k]), float(ours[k])) for k in free)
