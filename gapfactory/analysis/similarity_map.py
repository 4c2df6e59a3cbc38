"""Similarity map of several campaigns (Bernstein et al. 2019, Fig. 5).

Cells are rescaled to a shortest bond of 1 Å, described by the configuration-averaged SOAP of the whole cell
without regard to species, and projected on the first two components of a centred kernel PCA.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import EvidenceError
from gapfactory.settings import Settings
from gapfactory.structures import composition_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "MapSettings",
    "SimilarityMap",
    "coordination_number",
    "kernel_pca",
    "rescale_to_unit_bond",
    "shortest_bond",
    "similarity_map",
]

#: every atom is described as this species: the map compares geometry, not chemistry
_ANY_SPECIES = 1


class MapSettings(Settings):
    """The descriptor of the map, in multiples of the shortest bond r0 (paper, Methods)."""

    n_max: int = 16
    """Radial functions."""
    l_max: int = 16
    """Angular momenta."""
    atom_sigma_in_r0: float = 0.1
    """Width of the atomic density."""
    cutoff_in_r0: float = 2.5
    """Cutoff of the neighbourhood."""
    cutoff_transition_in_r0: float = 0.5
    """Width over which the density goes to zero at the cutoff (not stated in the paper)."""
    zeta: int = 4
    """Exponent of the kernel (Eq. 4)."""
    coordination_in_r0: float = 1.2
    """Neighbours up to this distance are counted for the colour."""


@dataclass(frozen=True)
class SimilarityMap:
    """Two-dimensional map of structures.

    Parameters
    ----------
    groups
        Name of the campaign or system of each structure, length n.
    coordinates
        Shape (n, 2), arbitrary units.
    coordination
        Mean coordination number of each structure, shape (n,).
    explained
        Share of the kernel's variance along each axis, shape (2,).
    compositions
        Reduced formula of each structure, length n.
    """

    groups: tuple[str, ...]
    coordinates: NDArray[np.float64]
    coordination: NDArray[np.float64]
    explained: NDArray[np.float64]
    compositions: tuple[str, ...]


def shortest_bond(atoms: Atoms) -> float:
    """Return the shortest interatomic distance in Å, periodic images included.

    Raises
    ------
    EvidenceError
        A single atom without periodicity has no bond.
    """
    from ase.neighborlist import neighbor_list

    if len(atoms) < 2 and not atoms.pbc.any():
        raise EvidenceError("a single atom in vacuum has no shortest bond and no place on the map")
    cutoff = 2.0
    # the longest distance that can be the shortest one: an image of the atom itself, or the farthest atom
    limit = float(
        np.linalg.norm(atoms.cell.array, axis=1).max() + np.ptp(atoms.positions, axis=0).sum() + cutoff
    )
    while True:
        distances = neighbor_list("d", atoms, cutoff)
        if len(distances):
            return float(distances.min())
        if cutoff > limit:
            raise EvidenceError(f"no neighbours within {cutoff:.1f} Å in {atoms.symbols!s}")
        cutoff *= 1.5


def rescale_to_unit_bond(atoms: Atoms) -> Atoms:
    """Return a copy, all atoms of one species, scaled so that the shortest bond is 1 Å."""
    from ase import Atoms as AseAtoms

    factor = 1.0 / shortest_bond(atoms)
    return AseAtoms(
        numbers=np.full(len(atoms), _ANY_SPECIES),
        positions=atoms.positions * factor,
        cell=atoms.cell.array * factor,
        pbc=atoms.pbc,
    )


def coordination_number(atoms: Atoms, factor: float = 1.2) -> float:
    """Return the mean number of neighbours within `factor` times the shortest bond."""
    from ase.neighborlist import neighbor_list

    # a hair more, so that shells of exactly equal distance are not split by rounding
    first = neighbor_list("i", atoms, factor * shortest_bond(atoms) * (1.0 + 1e-9))
    return float(len(first) / len(atoms))


def kernel_pca(kernel: ArrayLike, n_components: int = 2) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return coordinates (n, n_components) and explained share (n_components,) of a centred kernel PCA.

    The sign of each axis is fixed (largest absolute coordinate positive), so that equal data give equal maps.

    Parameters
    ----------
    kernel
        Symmetric, shape (n, n).

    Raises
    ------
    EvidenceError
        The kernel is not square and symmetric, or has fewer structures than components.
    """
    k = np.asarray(kernel, dtype=float)
    if k.ndim != 2 or k.shape[0] != k.shape[1] or not np.allclose(k, k.T, atol=1e-8):
        raise EvidenceError(f"the kernel must be square and symmetric, got shape {k.shape}")
    n = len(k)
    if n <= n_components:
        raise EvidenceError(f"{n} structures are too few for a map of {n_components} dimensions")
    centred = k - k.mean(axis=0)[None, :] - k.mean(axis=1)[:, None] + k.mean()
    values, vectors = np.linalg.eigh(0.5 * (centred + centred.T))
    values, vectors = np.maximum(values[::-1], 0.0), vectors[:, ::-1]
    total = values.sum()
    if total <= 0:
        raise EvidenceError("all structures are identical under this kernel; there is nothing to map")
    coordinates = vectors[:, :n_components] * np.sqrt(values[:n_components])
    signs = np.sign(coordinates[np.abs(coordinates).argmax(axis=0), np.arange(n_components)])
    signs[signs == 0] = 1.0
    return coordinates * signs, values[:n_components] / total


def similarity_map(
    groups: Mapping[str, Sequence[Atoms]], settings: MapSettings | None = None
) -> SimilarityMap:
    """Map the structures of one or several campaigns together.

    Parameters
    ----------
    groups
        Structures by name of campaign or system, drawn in this order. Isolated atoms cannot be mapped.
    settings
        Descriptor and kernel.

    Raises
    ------
    EvidenceError
        Fewer than three structures, or one without bonds.
    """
    from gapfactory.descriptors import SimilaritySettings, average_soap

    settings = settings or MapSettings()
    names = tuple(name for name, members in groups.items() for _ in members)
    cells = [rescale_to_unit_bond(atoms) for members in groups.values() for atoms in members]
    if len(cells) < 3:
        raise EvidenceError(f"{len(cells)} structures are too few for a similarity map; give at least 3")
    vectors = average_soap(
        cells,
        species=[_ANY_SPECIES],
        settings=SimilaritySettings(
            n_max=settings.n_max,
            l_max=settings.l_max,
            atom_sigma=settings.atom_sigma_in_r0,
            cutoff=settings.cutoff_in_r0,
            cutoff_transition_width=settings.cutoff_transition_in_r0,
            zeta=settings.zeta,
        ),
    )
    coordinates, explained = kernel_pca((vectors @ vectors.T) ** settings.zeta)
    return SimilarityMap(
        groups=names,
        coordinates=coordinates,
        coordination=np.array([coordination_number(c, settings.coordination_in_r0) for c in cells]),
        explained=explained,
        compositions=tuple(composition_of(atoms) for members in groups.values() for atoms in members),
    )
