"""Whether two crystals are the same structure: in any setting, cell or orientation, slightly strained, atoms shaken.

Volume per atom and the similarity of averaged SOAP vectors rule out nearly every pair. For the rest, the candidate is
reduced to its primitive cell, each way to lay its lattice on the target's within the strain that is allowed is found,
the strain is taken out, and ASE's `SymmetryEquivalenceCheck` decides on the positions. Mirror images count as the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from gapfactory._spglib import ask_spglib
from gapfactory.descriptors.settings import SimilaritySettings
from gapfactory.errors import InputError
from gapfactory.settings import Settings
from gapfactory.structures import composition_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray

__all__ = [
    "Match",
    "MatchSettings",
    "StructureMatcher",
    "Target",
    "prepare_target",
    "same_structure",
    "shape_vectors",
    "strain_of_match",
]

#: relative difference of metric tensors under which two cells are one, for the symmetry of the target's lattice
_SAME_METRIC = 1e-3
#: Å, tried in turn when a candidate's smaller cell is sought: shaken atoms hide it from a sharp tolerance
_REDUCTION_TOLERANCES = (0.2, 0.1, 0.03, 1e-3)

#: Å, when a target's primitive cell is sought: minima have atoms off their places by about a hundredth of an Å
_TARGET_TOLERANCE = 0.03


class MatchSettings(Settings):
    """When two crystals count as the same structure.

    Defaults are measured on strained, shaken and re-cut crystals against random cells (docs/reference/phases.md).
    Lengths are in units of a = (volume per atom)^(1/3), about 2 Å in boron and 2.7 Å in silicon.
    """

    volume_tolerance: float = Field(default=0.25, gt=0, lt=1)
    """Largest relative difference of the volume per atom; below it both are scaled to the same volume."""
    strain_tolerance: float = Field(default=0.06, gt=0, le=0.2)
    """Largest principal strain between the two lattices, after scaling."""
    site_tolerance: float = Field(default=0.15, gt=0, le=0.3)
    """Largest distance between an atom and its counterpart when one pair of atoms is laid on each other, in a."""
    least_similarity: float = Field(default=0.96, ge=0, le=1)
    """Smallest scalar product of the averaged SOAP vectors of a match; below it no position is compared."""
    soap: SimilaritySettings = SimilaritySettings(
        n_max=12,
        l_max=8,
        atom_sigma=0.12,
        cutoff=2.6,
        cutoff_transition_width=0.6,
        central_weight=0.0,
        zeta=1,
    )
    """Averaged SOAP of the structure scaled to one atom per unit volume: lengths in a."""


@dataclass(frozen=True)
class Match:
    """A candidate that is one of the targets.

    Parameters
    ----------
    target
        Index of the target.
    strain
        Largest principal strain between the lattices, at equal volume.
    volume_ratio
        Volume per atom of the candidate over that of the target.
    similarity
        Scalar product of the averaged SOAP vectors.
    """

    target: int
    strain: float
    volume_ratio: float
    similarity: float


@dataclass(frozen=True)
class Target:
    """A crystal that others are compared with.

    Parameters
    ----------
    atoms
        Its primitive cell, Niggli reduced, first vector along x.
    formula
        Its composition.
    volume
        Å^3 per atom.
    rotations
        Proper symmetry operations of its lattice, in its own basis.
    """

    atoms: Atoms
    formula: str
    volume: float
    rotations: frozenset[tuple[int, ...]]


def same_structure(first: Atoms, second: Atoms, settings: MatchSettings | None = None) -> bool:
    """Return whether two periodic structures are the same, as the settings say."""
    return StructureMatcher([first], settings).match([second])[0] is not None


class StructureMatcher:
    """Finds targets among candidates.

    Parameters
    ----------
    targets
        Periodic crystals; any cell.
    settings
        Tolerances.

    Raises
    ------
    InputError
        A target is not periodic in three directions, or has no volume.
    """

    def __init__(self, targets: Sequence[Atoms], settings: MatchSettings | None = None) -> None:
        self.settings = settings or MatchSettings()
        self._targets = [prepare_target(atoms) for atoms in targets]
        self._species = tuple(sorted({int(z) for t in targets for z in t.numbers}))
        self._vectors = self._soap([t.atoms for t in self._targets])

    def match(self, candidates: Sequence[Atoms], *, cores: int = 1) -> list[Match | None]:
        """Return for each candidate the target that it is, or None.

        A candidate that fits several targets is given to the most similar one.

        Parameters
        ----------
        candidates
            Periodic structures; one that is not periodic in three directions, or holds other species, is no match.
        cores
            Threads of the SOAP vectors; results do not depend on it.
        """
        found: list[Match | None] = [None] * len(candidates)
        known = set(self._species)
        possible = [
            i
            for i, atoms in enumerate(candidates)
            if len(atoms)
            and all(atoms.pbc)
            and set(atoms.numbers.tolist()) <= known
            and self._possible(atoms)
        ]
        if not possible:
            return found
        vectors = self._soap([candidates[i] for i in possible], cores)
        similarities = _products(vectors, self._vectors)
        for row, i in enumerate(possible):
            atoms = candidates[i]
            for k in np.argsort(-similarities[row], kind="stable"):
                if similarities[row, k] < self.settings.least_similarity:
                    break
                target = self._targets[int(k)]
                ratio = float(atoms.get_volume()) / len(atoms) / target.volume
                if self._near(atoms, target):
                    strain = strain_of_match(atoms, target, self.settings)
                    if strain is not None:
                        found[i] = Match(int(k), strain, ratio, float(similarities[row, k]))
                        break
        return found

    def similarities(self, candidates: Sequence[Atoms]) -> NDArray[np.float64]:
        """Return the (n, targets) scalar products of averaged SOAP vectors that `least_similarity` is about."""
        return _products(self._soap(candidates), self._vectors)

    def _possible(self, atoms: Atoms) -> bool:
        return any(self._near(atoms, target) for target in self._targets)

    def _near(self, atoms: Atoms, target: Target) -> bool:
        """Whether volume, number of atoms and composition allow a match."""
        if len(atoms) % len(target.atoms):
            return False
        ratio = float(atoms.get_volume()) / len(atoms) / target.volume
        low = 1.0 - self.settings.volume_tolerance
        return low <= ratio <= 1.0 / low and composition_of(atoms) == target.formula

    def _soap(self, structures: Sequence[Atoms], cores: int = 1) -> NDArray[np.float64]:
        return shape_vectors(structures, self._species, self.settings, cores=cores)


def shape_vectors(
    structures: Sequence[Atoms], species: Sequence[int], settings: MatchSettings, *, cores: int = 1
) -> NDArray[np.float64]:
    """Return averaged SOAP vectors (n, d) of structures scaled to one atom per unit volume; they have length 1.

    Parameters
    ----------
    structures
        With a cell.
    species
        Atomic numbers that may occur, ascending.
    settings
        Their `soap`.
    cores
        Threads; results do not depend on it.
    """
    from gapfactory.descriptors import average_soap

    scaled = []
    for atoms in structures:
        unit = atoms.copy()
        unit.calc = None
        unit.set_cell(unit.cell * (len(unit) / unit.get_volume()) ** (1.0 / 3.0), scale_atoms=True)
        scaled.append(unit)
    return average_soap(scaled, species=tuple(species), settings=settings.soap, cores=cores)


def _products(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return scalar products (n, m) whose bits do not depend on n, as those of a matrix product do."""
    return np.asarray(np.einsum("id,kd->ik", left, right))


def _plain(atoms: Atoms) -> Atoms:
    """Return species, positions and cell only: constraints and results must not travel."""
    from ase import Atoms

    return Atoms(atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=True)


def prepare_target(atoms: Atoms) -> Target:
    """Return a crystal, any cell of it, ready for `strain_of_match`.

    Raises
    ------
    InputError
        It is not periodic in three directions, or has no volume.
    """
    from ase.build import niggli_reduce

    if not len(atoms) or not all(atoms.pbc) or atoms.cell.rank != 3:
        raise InputError(f"target {atoms.symbols!s} must have atoms and be periodic in three directions")
    smallest = _reduced(_plain(atoms), _TARGET_TOLERANCE)
    niggli_reduce(smallest)
    standard, _ = smallest.cell.standard_form()
    smallest.set_cell(standard, scale_atoms=True)
    metric = smallest.cell.array
    own = _lattice_maps(metric, metric, _SAME_METRIC)
    return Target(
        smallest,
        composition_of(smallest),
        float(smallest.get_volume()) / len(smallest),
        frozenset(tuple(m.ravel().tolist()) for m, _ in own),
    )


def _reduced(atoms: Atoms, symprec: float) -> Atoms:
    """Return the primitive cell that spglib finds within a tolerance (Å), not idealised; or the atoms as they are."""
    from ase import Atoms

    found = ask_spglib(
        "standardize_cell",
        (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers),
        to_primitive=True,
        no_idealize=True,
        symprec=symprec,
    )
    if found is None:
        return atoms
    lattice, positions, numbers = found
    return Atoms(numbers, cell=lattice, scaled_positions=positions, pbc=True)


def strain_of_match(candidate: Atoms, target: Target, settings: MatchSettings) -> float | None:
    """Return the largest principal strain of the lattice correspondence under which the structures agree, or None."""
    from ase.geometry import minkowski_reduce

    cell = _plain(candidate)
    n = len(target.atoms)
    for symprec in _REDUCTION_TOLERANCES if len(cell) != n else ():
        smaller = _reduced(cell, symprec)
        if len(smaller) == n:
            cell = smaller
            break
    if len(cell) != n:
        return None
    # the same volume, so that strain is a change of shape only
    cell.set_cell(cell.cell * (target.volume * n / cell.get_volume()) ** (1.0 / 3.0), scale_atoms=True)
    lattice, _ = minkowski_reduce(cell.cell.array)
    if np.linalg.det(lattice) < 0:
        lattice = -lattice
    fractional = cell.positions @ np.linalg.inv(lattice)
    tried: list[NDArray[np.int64]] = []
    for rows, strain in _lattice_maps(lattice, target.atoms.cell.array, settings.strain_tolerance):
        # correspondences that differ by a symmetry of the target's lattice are compared by ASE in one call
        inverses = [np.rint(np.linalg.inv(m)).astype(np.int64) for m in tried]
        if any(tuple((rows @ inverse).ravel().tolist()) in target.rotations for inverse in inverses):
            continue
        tried.append(rows)
        unstrained = target.atoms.copy()
        unstrained.numbers = cell.numbers
        unstrained.set_scaled_positions(fractional @ np.linalg.inv(rows))
        if _tolerant_check()(n, settings.site_tolerance).compare(target.atoms.copy(), unstrained):
            return strain
    return None


def _lattice_maps(
    lattice: NDArray[np.float64], onto: NDArray[np.float64], largest: float
) -> list[tuple[NDArray[np.int64], float]]:
    """Return integer matrices M of determinant 1 with M @ lattice like `onto` up to a rotation, least strained first.

    Parameters
    ----------
    lattice, onto
        (3, 3) reduced lattice vectors in rows, of equal volume.
    largest
        Largest principal value of the Green strain between the two.

    Returns
    -------
    list
        (M, largest absolute principal strain).
    """
    grid = np.array([v for v in product((-2, -1, 0, 1, 2), repeat=3) if any(v)], dtype=np.int64)
    real = grid @ lattice
    lengths = np.linalg.norm(real, axis=1)
    wanted = np.linalg.norm(onto, axis=1)
    # |E| <= s bounds squared lengths to (1 +- 2 s)
    near = [np.flatnonzero(np.abs((lengths / w) ** 2 - 1.0) <= 2.0 * largest + 1e-9) for w in wanted]
    a, b, c = (k.ravel() for k in np.meshgrid(*near, indexing="ij"))
    determinant = np.einsum("ij,ij->i", np.cross(grid[a], grid[b]), grid[c])
    keep = determinant == 1
    a, b, c = a[keep], b[keep], c[keep]
    if not len(a):
        return []
    rows = np.stack([grid[a], grid[b], grid[c]], axis=1)
    gradient = np.linalg.inv(onto) @ np.stack([real[a], real[b], real[c]], axis=1)
    green = 0.5 * (gradient @ gradient.transpose(0, 2, 1) - np.eye(3))
    strain = np.abs(np.linalg.eigvalsh(green)).max(axis=1)
    order = [int(k) for k in np.argsort(np.round(strain, 9), kind="stable") if strain[k] <= largest]
    return [(rows[k], float(strain[k])) for k in order]


@cache
def _tolerant_check() -> Any:
    """Return ASE's check for cells that are equal and atoms that are not quite, with two of its parts replaced.

    ASE repeats atoms at a face of the cell only within 1e-4 Å of it: a shaken atom that has crossed a face would find
    no counterpart. Here they are repeated within the tolerance of positions. And ASE takes every vector between two
    atoms for a lattice vector when it looks for operations, so that it finds doubled hcp equal to dhcp, where bonds are
    as long as lattice vectors. Here the operations are those of the lattice.
    """
    from ase.utils.structure_comparator import SymmetryEquivalenceCheck

    class Check(SymmetryEquivalenceCheck):
        def __init__(self, n_atoms: int, site_tolerance: float) -> None:
            # lattices are equal when it is called: ASE divides `ltol` by the number of atoms
            super().__init__(  # type: ignore[no-untyped-call]
                angle_tol=0.5, ltol=_SAME_METRIC * n_atoms, stol=site_tolerance, vol_tol=1e-3
            )

        def _expand(self, ref_atoms: Atoms, tol: float = 0.0) -> Any:
            edge = float(ref_atoms.get_volume() / len(ref_atoms)) ** (1.0 / 3.0)
            return super()._expand(  # type: ignore[no-untyped-call]
                ref_atoms, tol=max(tol, self.stol * edge)
            )

        def _get_rotation_reflection_matrices(self) -> NDArray[np.float64]:
            reference: Any = self.s1
            cell = reference.cell.array
            proper = [np.linalg.inv(cell) @ (m @ cell) for m, _ in _lattice_maps(cell, cell, _SAME_METRIC)]
            # ASE applies them to columns
            return np.array([sign * r.T for r in proper for sign in (1.0, -1.0)])

    return Check
