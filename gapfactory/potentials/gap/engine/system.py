"""Cells laid out for compiled loops, with every pair of atoms nearer than a cutoff."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["Cells", "SkinnedSystem", "System", "build_system", "pack"]

# More neighbours per atom than this are a cell collapsed beyond any physics, not a structure.
_MOST_NEIGHBOURS = 200_000.0
# Cells whose volume is this part of the product of their vectors' lengths are taken as degenerate.
_FLAT = 1e-9


@dataclass(frozen=True)
class Cells:
    """A batch of S cells with N atoms, without neighbours.

    Attributes
    ----------
    offsets : (S + 1,)
        Atoms of cell c are offsets[c]:offsets[c + 1].
    numbers : (N,)
        Atomic numbers.
    positions : (N, 3)
        Å; atoms need not be inside the cell.
    cells : (S, 3, 3)
        Vectors as rows, Å; completed to three independent ones where a direction is not periodic.
    periodic : (S, 3)
        Periodic directions.
    volumes : (S,)
        Å^3; of the completed cell, so of no meaning unless all directions are periodic or boxed.
    """

    offsets: NDArray[np.int64]
    numbers: NDArray[np.int64]
    positions: NDArray[np.float64]
    cells: NDArray[np.float64]
    periodic: NDArray[np.bool_]
    volumes: NDArray[np.float64]

    def moved(self, positions: NDArray[np.float64], cells: NDArray[np.float64]) -> Cells:
        """Return the same atoms at other positions (N, 3) in other cells (S, 3, 3), all vectors given.

        Raises
        ------
        InputError
            If a shape differs, a value is not finite, or a cell is degenerate.
        """
        positions = np.ascontiguousarray(positions, dtype=np.float64)
        cells = np.ascontiguousarray(cells, dtype=np.float64)
        if positions.shape != self.positions.shape or cells.shape != self.cells.shape:
            msg = (
                f"positions {positions.shape} and cells {cells.shape} must have the shapes "
                f"{self.positions.shape} and {self.cells.shape} of the batch"
            )
            raise InputError(msg)
        volumes = _checked(self.offsets, positions, cells)
        return Cells(self.offsets, self.numbers, positions, cells, self.periodic, volumes)


@dataclass(frozen=True)
class System:
    """A batch of S cells, N atoms and P ordered pairs of neighbours.

    Attributes
    ----------
    cutoff
        Pairs nearer than this are listed, Å.
    offsets : (S + 1,)
        Atoms of cell c are offsets[c]:offsets[c + 1].
    cell_of : (N,)
        Cell of each atom.
    numbers : (N,)
        Atomic numbers.
    volumes : (S,)
        Å^3.
    periodic : (S, 3)
        Periodic directions.
    first : (N + 1,)
        Pairs of atom i are first[i]:first[i + 1].
    neighbour : (P,)
        The other atom's index in the batch; sorted within an atom, images of one neighbour by the cell they
        are in, first cell vector first. An atom's own images are neighbours; each pair is listed from both
        sides.
    vector : (P, 3)
        From the atom to the neighbour, Å. The reverse pair has exactly the negative vector.
    distance : (P,)
        Å.
    """

    cutoff: float
    offsets: NDArray[np.int64]
    cell_of: NDArray[np.int64]
    numbers: NDArray[np.int64]
    volumes: NDArray[np.float64]
    periodic: NDArray[np.bool_]
    first: NDArray[np.int64]
    neighbour: NDArray[np.int64]
    vector: NDArray[np.float64]
    distance: NDArray[np.float64]

    @property
    def n_cells(self) -> int:
        """Number of cells."""
        return len(self.offsets) - 1

    @property
    def n_atoms(self) -> int:
        """Number of atoms of all cells."""
        return len(self.numbers)


@dataclass(frozen=True)
class _Candidates:
    """Pairs that may be within the cutoff: rows as in :class:`System`, with images instead of vectors."""

    first: NDArray[np.int64]
    neighbour: NDArray[np.int64]
    image: NDArray[np.int32]


def _name(offsets: NDArray[np.int64], cell: int) -> str:
    return f"structure {cell} ({offsets[cell + 1] - offsets[cell]} atoms)"


def _volume(cell: NDArray[np.float64]) -> float:
    return float(abs(np.linalg.det(cell)))


def _checked(
    offsets: NDArray[np.int64], positions: NDArray[np.float64], cells: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the volumes, Å^3; refuse values that are not finite and cells without volume."""
    finite: NDArray[np.bool_] = np.logical_and.reduce(np.isfinite(cells.reshape(-1, 9)), axis=1)
    bad_atoms = np.flatnonzero(~np.isfinite(positions).all(axis=1))
    finite[np.searchsorted(offsets, bad_atoms, side="right") - 1] = False
    if not finite.all():
        msg = (
            f"{_name(offsets, int(np.argmin(finite)))} has positions or cell vectors that are not finite; "
            "leave it out"
        )
        raise InputError(msg)
    a, b, c = cells[:, 0], cells[:, 1], cells[:, 2]
    # written out: LAPACK's determinant may round differently for stacked matrices
    volumes = np.abs(
        a[:, 0] * (b[:, 1] * c[:, 2] - b[:, 2] * c[:, 1])
        - a[:, 1] * (b[:, 0] * c[:, 2] - b[:, 2] * c[:, 0])
        + a[:, 2] * (b[:, 0] * c[:, 1] - b[:, 1] * c[:, 0])
    )
    lengths = np.sqrt((cells**2).sum(axis=2)).prod(axis=1)
    flat = ~(volumes > _FLAT * lengths)
    if flat.any():
        where = int(np.argmax(flat))
        msg = (
            f"{_name(offsets, where)} has null or dependent cell vectors {cells[where].tolist()} along "
            "periodic directions: correct it"
        )
        raise InputError(msg)
    return np.asarray(volumes)


def _completed(cell: NDArray[np.float64], periodic: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the cell (3, 3) with vectors of 1 Å where a direction that is not periodic has none of its own.

    A given vector is kept unless it is dependent on the others.
    """
    if not np.isfinite(cell).all():
        return cell
    given = periodic | cell.any(axis=1)
    if given.all() and _volume(cell) <= _FLAT * float(np.prod(np.linalg.norm(cell, axis=1))):
        given = periodic
    found = np.where(given[:, None], cell, 0.0)
    basis = [row / np.linalg.norm(row) for row in found[given] if row.any()]
    for k in np.flatnonzero(~given).tolist():
        if len(basis) == 2:
            row = np.cross(basis[0], basis[1])
        else:
            axis = np.eye(3)[int(np.argmin(np.abs(basis[0])))] if basis else np.eye(3)[k]
            row = axis - (basis[0] * (basis[0] @ axis) if basis else 0.0)
        length = float(np.linalg.norm(row))
        if not length > _FLAT:  # of dependent vectors: reported with the volume
            return found
        found[k] = row / length
        basis.append(found[k])
    return found


def pack(structures: Sequence[Atoms]) -> Cells:
    """Lay structures out for compiled loops.

    Raises
    ------
    InputError
        If a structure is empty, not finite, or periodic along null or dependent vectors.
    """
    counts = [len(atoms) for atoms in structures]
    if 0 in counts:
        msg = f"structure {counts.index(0)} has no atoms; leave it out"
        raise InputError(msg)
    offsets = np.zeros(len(counts) + 1, dtype=np.int64)
    np.cumsum(counts, out=offsets[1:])
    positions = np.empty((int(offsets[-1]), 3))
    numbers = np.empty(int(offsets[-1]), dtype=np.int64)
    cells = np.empty((len(counts), 3, 3))
    periodic = np.empty((len(counts), 3), dtype=np.bool_)
    for c, atoms in enumerate(structures):
        rows = slice(int(offsets[c]), int(offsets[c + 1]))
        positions[rows] = atoms.arrays["positions"]
        numbers[rows] = atoms.arrays["numbers"]
        cells[c] = atoms.cell.array
        periodic[c] = atoms.pbc
    for c in np.flatnonzero(~periodic.all(axis=1)).tolist():
        cells[c] = _completed(cells[c], periodic[c])
    volumes = _checked(offsets, positions, cells)
    return Cells(offsets, numbers, positions, cells, periodic, volumes)


def _candidates(
    cells: Cells, reach: float, old: _Candidates | None = None, stale: NDArray[np.bool_] | None = None
) -> _Candidates:
    """Return the pairs nearer than `reach`; rows of cells that are not stale are copied from `old`."""
    from gapfactory.potentials.gap.engine._neighbours import fill_candidates, merge_candidates

    counts = np.diff(cells.offsets)
    crowded = cells.periodic.all(axis=1) & (
        4.19 * reach**3 * counts > _MOST_NEIGHBOURS * np.maximum(cells.volumes, 1e-300)
    )
    if crowded.any():
        where = int(np.argmax(crowded))
        msg = (
            f"{_name(cells.offsets, where)} has a volume of {cells.volumes[where]:g} Å^3: more than "
            f"{_MOST_NEIGHBOURS:g} neighbours per atom within {reach:g} Å; leave it out"
        )
        raise InputError(msg)
    n_atoms = len(cells.numbers)
    chosen = np.ones(len(counts), dtype=np.bool_) if stale is None else stale
    first = np.zeros(n_atoms + 1, dtype=np.int64)
    nothing = np.empty(0, dtype=np.int64)
    no_image = np.empty((0, 3), dtype=np.int32)
    where_from = (cells.offsets, cells.positions, cells.cells, cells.periodic, chosen, reach, 0)
    fill_candidates(*where_from, first[1:], False, nothing, no_image)
    if old is not None:
        kept = ~np.repeat(chosen, counts)
        first[1:][kept] = np.diff(old.first)[kept]
    np.cumsum(first, out=first)
    total = int(first[-1])
    neighbour = np.empty(total, dtype=np.int64)
    image = np.empty((total, 3), dtype=np.int32)
    fill_candidates(*where_from, first[:-1], True, neighbour, image)
    if old is not None:
        merge_candidates(cells.offsets, chosen, old.first, old.neighbour, old.image, first, neighbour, image)
    return _Candidates(first, neighbour, image)


def _system(cells: Cells, cutoff: float, candidates: _Candidates) -> System:
    """Keep the candidates that are within the cutoff."""
    from gapfactory.potentials.gap.engine._neighbours import geometry

    total = int(candidates.first[-1])
    first = np.empty(len(cells.numbers) + 1, dtype=np.int64)
    neighbour = np.empty(total, dtype=np.int64)
    vector = np.empty((total, 3))
    distance = np.empty(total)
    kept = geometry(
        cells.offsets, cells.positions, cells.cells, cutoff, candidates.first, candidates.neighbour,
        candidates.image, first, neighbour, vector, distance,
    )  # fmt: skip
    if kept < 0:
        atom = -1 - kept
        where = int(np.searchsorted(cells.offsets, atom, side="right")) - 1
        msg = (
            f"{_name(cells.offsets, where)}: another atom, or an image, sits on atom "
            f"{atom - int(cells.offsets[where])}; move it or leave the structure out"
        )
        raise InputError(msg)
    return System(
        cutoff=cutoff,
        offsets=cells.offsets,
        cell_of=np.repeat(np.arange(len(cells.volumes)), np.diff(cells.offsets)),
        numbers=cells.numbers,
        volumes=cells.volumes,
        periodic=cells.periodic,
        first=first,
        neighbour=neighbour[:kept],
        vector=vector[:kept],
        distance=distance[:kept],
    )


def _positive(name: str, value: float, *, or_null: bool = False) -> float:
    if not (0.0 < value < float("inf") or (or_null and value == 0.0)):
        msg = f"{name} = {value} Å must be positive and finite"
        raise InputError(msg)
    return float(value)


def build_system(structures: Sequence[Atoms] | Cells, cutoff: float) -> System:
    """Return the neighbours within `cutoff` (Å) of all atoms of the structures.

    Directions may be periodic or not in any mix, cells smaller than the cutoff, atoms alone. What is found
    for a structure does not depend, to the last bit, on the others of the batch.

    Raises
    ------
    InputError
        If a structure is empty, not finite, has dependent cell vectors, two atoms at one place, or more than
        2e5 neighbours per atom; or if the cutoff is not positive.
    """
    cells = structures if isinstance(structures, Cells) else pack(structures)
    cutoff = _positive("cutoff", cutoff)
    return _system(cells, cutoff, _candidates(cells, cutoff))


class SkinnedSystem:
    """Neighbours of a batch whose atoms move and whose cells strain, searched again only where needed.

    Pairs up to cutoff + skin are remembered. A cell's pairs are searched again when the bound in
    `_neighbours.stale_cells` can no longer exclude that a pair came in from farther away; the systems returned
    are therefore the ones that :func:`build_system` would return, to the last bit.

    Parameters
    ----------
    structures
        Where the atoms are now.
    cutoff, skin
        Å. A wide skin means fewer searches and more pairs to look at in each call.
    """

    def __init__(self, structures: Sequence[Atoms] | Cells, cutoff: float, skin: float = 0.5) -> None:
        self._cells = structures if isinstance(structures, Cells) else pack(structures)
        self._cutoff = _positive("cutoff", cutoff)
        self._skin = _positive("skin", skin, or_null=True)
        self._at = self._cells.positions.copy()
        self._in = self._cells.cells.copy()
        self._candidates = _candidates(self._cells, self._cutoff + self._skin)
        #: how many times a cell has been searched, the first time included
        self.searches = len(self._cells.volumes)

    @property
    def system(self) -> System:
        """The neighbours at the latest positions."""
        return _system(self._cells, self._cutoff, self._candidates)

    def matches(self, cells: Cells) -> bool:
        """Return whether the batch has the same atoms and periodic directions, so that it can be updated."""
        mine = self._cells
        return (
            np.array_equal(mine.offsets, cells.offsets)
            and np.array_equal(mine.numbers, cells.numbers)
            and np.array_equal(mine.periodic, cells.periodic)
        )

    def update(self, structures: Sequence[Atoms] | Cells) -> System:
        """Return the neighbours for the same atoms at other positions, in other cells.

        Raises
        ------
        InputError
            As :func:`build_system`, and if the atoms are not the same.
        """
        from gapfactory.potentials.gap.engine._neighbours import stale_cells

        cells = structures if isinstance(structures, Cells) else pack(structures)
        if not self.matches(cells):
            msg = "the structures must have the same atoms and periodic directions as before; start anew"
            raise InputError(msg)
        stale = np.empty(len(cells.volumes), dtype=np.bool_)
        stale_cells(
            cells.offsets, cells.positions, cells.cells, self._at, self._in, self._cutoff, self._skin, stale
        )
        if stale.any():
            self._candidates = _candidates(cells, self._cutoff + self._skin, self._candidates, stale)
            atoms = np.repeat(stale, np.diff(cells.offsets))
            self._at[atoms] = cells.positions[atoms]
            self._in[stale] = cells.cells[stale]
            self.searches += int(stale.sum())
        self._cells = cells
        return self.system
