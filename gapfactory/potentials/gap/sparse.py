"""Sparse points, chosen here and handed to the fit by file.

`gap_fit`'s own choice of uniform three-body points depends on the order of the rows and its random choices
on its own generator. Here every choice depends on the data alone (sorted by id) and, for SOAP, on a seeded
stream. Descriptors come from the built-in engine for every backend.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import FitError
from gapfactory.potentials.gap.batches import in_batches
from gapfactory.potentials.gap.engine.evaluator import term_engine
from gapfactory.potentials.gap.engine.system import build_system
from gapfactory.potentials.gap.model import empty_term

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.settings import GapSettings
    from gapfactory.potentials.gap.terms import Term

__all__ = [
    "choose",
    "descriptor_values",
    "distance_range",
    "farthest_points",
    "leverage_points",
    "read_sparse_file",
    "soap_vectors",
    "uniform_points",
    "write_sparse_file",
]

#: rows per block of a large matrix; fixed, so that sums do not depend on the machine
BLOCK = 4096


def choose(
    term: Term,
    structures: Sequence[Atoms],
    settings: GapSettings,
    rng: np.random.Generator,
    names: Sequence[str] | None = None,
) -> NDArray[np.float64]:
    """Return the sparse points of one term.

    Parameters
    ----------
    term
        The descriptor.
    structures
        All structures of the fit in the order of their ids; labels are not needed.
    settings
        Numbers of points and length scales, and files of points.
    rng
        Stream of this choice; used by SOAP only.
    names
        What to call the structures in an error; their places by default.

    Returns
    -------
    NDArray
        (n, d) descriptor values, possibly fewer than asked for and (0, d) if the data never show the term.

    Raises
    ------
    FitError
        If a structure has no descriptor (atoms on top of each other) or a file of points is unusable.
    """
    if term.name in settings.sparse_files:
        return read_sparse_file(Path(settings.sparse_files[term.name]), dimension_of(term))
    if term.stage == 0:
        two = settings.two_body
        low, high = distance_range(structures, term.numbers, term.cutoff, names)
        if not np.isfinite(low):
            return np.empty((0, 1))
        spacing = two.least_spacing_in_sigma * two.sigma
        n = max(1, min(two.n_sparse, 1 + int((high - low) / spacing)))
        return np.linspace(low, high, n)[:, None]
    if term.stage == 1:
        three = settings.three_body
        spacing = three.least_spacing_in_sigma * three.sigma
        values = _thinned(descriptor_values(term, structures, names), spacing)
        if three.sparse_method == "uniform":
            return uniform_points(values, three.n_sparse)
        return farthest_points(values, three.n_sparse, spacing)
    vectors = soap_vectors(term, structures, names)
    picked = leverage_points(vectors, settings.soap.n_sparse, rng, settings.soap.duplicate_tolerance)
    return vectors[picked]


def dimension_of(term: Term) -> int:
    """Return the length of a term's descriptor."""
    return empty_term(term.descriptor, term.covariance, 1.0).dimension


def descriptor_values(
    term: Term, structures: Sequence[Atoms], names: Sequence[str] | None = None
) -> Iterator[NDArray[np.float64]]:
    """Yield the (n, d) values of all instances of a descriptor, in the order of structures and atoms.

    Raises
    ------
    FitError
        If a structure cannot be described; it is named, by its place if `names` are not given.
    """
    engine = term_engine(empty_term(term.descriptor, term.covariance, 1.0))

    def describe(chosen: Sequence[Atoms]) -> NDArray[np.float64]:
        found = engine.descriptors(build_system(chosen, term.cutoff))
        if not np.isfinite(found.values).all():
            msg = f"its {term.name} descriptor is not finite"
            raise FitError(msg)
        return found.values[np.argsort(found.centre, kind="stable")]

    yield from in_batches(structures, describe, names=names)


def distance_range(
    structures: Sequence[Atoms], pair: Sequence[int], cutoff: float, names: Sequence[str] | None = None
) -> tuple[float, float]:
    """Return the shortest and longest distance of a pair of species (inf, -inf if there is none).

    In a crystal the longest is taken as the cutoff itself: lattice images fill every distance.
    """
    a, b = pair

    def ends(chosen: Sequence[Atoms]) -> tuple[float, float]:
        system = build_system(chosen, cutoff)
        centre = np.repeat(np.arange(system.n_atoms), np.diff(system.first))
        wanted = (system.numbers[centre] == a) & (system.numbers[system.neighbour] == b)
        distances = system.distance[wanted]
        if len(distances) == 0:
            return np.inf, -np.inf
        crystal = np.array([bool(atoms.pbc.all()) for atoms in chosen])
        inside = crystal[system.cell_of[centre[wanted]]]
        return float(distances.min()), cutoff if inside.any() else float(distances.max())

    found = list(in_batches(structures, ends, names=names))
    return min((low for low, _ in found), default=np.inf), max((high for _, high in found), default=-np.inf)


def _thinned(parts: Iterable[NDArray[np.float64]], spacing: float) -> NDArray[np.float64]:
    """Return one value per occupied box of side `spacing`, the first in lexical order."""
    kept = np.empty((0, 3))
    pending: list[NDArray[np.float64]] = []
    size = 0

    def merge() -> NDArray[np.float64]:
        values = np.concatenate([kept, *pending])
        values = values[np.lexsort(values.T[::-1])]
        _, first = np.unique(np.floor(values / spacing), axis=0, return_index=True)
        return values[np.sort(first)]

    for part in parts:
        pending.append(part)
        size += len(part)
        if size > 64 * BLOCK:
            kept, pending, size = merge(), [], 0
    return merge()


def farthest_points(values: NDArray[np.float64], n: int, spacing: float) -> NDArray[np.float64]:
    """Return up to `n` rows spread as widely as possible, in lexical order; never closer than `spacing`.

    Starts from the first row in lexical order and repeatedly adds the row farthest from all chosen ones.
    """
    if len(values) == 0:
        return values
    values = values[np.lexsort(values.T[::-1])]
    chosen = [0]
    nearest = np.linalg.norm(values - values[0], axis=1)
    while len(chosen) < n:
        k = int(np.argmax(nearest))
        if nearest[k] < spacing:
            break
        chosen.append(k)
        nearest = np.minimum(nearest, np.linalg.norm(values - values[k], axis=1))
    return values[np.sort(chosen)]


def uniform_points(values: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Return up to `n` rows, one from each of `n` occupied boxes of a regular grid, in lexical order.

    The grid spans the data with equally many boxes along each axis, as few as give `n` occupied ones; of more,
    every so many-th is taken. Of a box its first row in lexical order is taken.
    """
    if len(values) == 0:
        return values
    values = values[np.lexsort(values.T[::-1])]
    low, width = values.min(axis=0), np.maximum(np.ptp(values, axis=0), 1e-12)
    first = np.zeros(1, dtype=np.int64)
    for side in range(1, 2 * n + 1):
        box = np.minimum((side * (values - low) / width).astype(np.int64), side - 1)
        _, first = np.unique(box @ side ** np.arange(values.shape[1])[::-1], return_index=True)
        if len(first) >= n:
            break
    first = np.sort(first)
    return values[first[np.unique(np.linspace(0, len(first) - 1, n).round().astype(np.int64))]]


def soap_vectors(
    term: Term, structures: Sequence[Atoms], names: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """Return the (n, d) normalised SOAP vectors of all centres of a term's species.

    Raises
    ------
    FitError
        If a structure cannot be described (atoms on top of each other).
    """
    count = sum(int((atoms.numbers == term.numbers[0]).sum()) for atoms in structures)
    vectors = np.empty((count, dimension_of(term)))
    row = 0
    for values in descriptor_values(term, structures, names):
        vectors[row : row + len(values)] = values
        row += len(values)
    return vectors


def atoms_for_quip(atoms: Atoms, cutoff: float) -> Atoms:
    """Return a bare copy that QUIP accepts: species, positions, cell and periodicity.

    Directions that are not periodic get a box wider than the extent of the structure plus twice the cutoff, so
    that no image is seen along them, whatever cell was given.
    """
    from ase import Atoms as AseAtoms
    from ase.geometry import complete_cell

    bare = AseAtoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    if not atoms.pbc.all():
        side = float(np.ptp(atoms.positions, axis=0).max()) + 2 * cutoff + 5.0
        cell = np.where(atoms.pbc[:, None], atoms.cell.array, 0.0)
        box = np.asarray(complete_cell(cell)) if atoms.pbc.any() else np.eye(3)
        for k in np.flatnonzero(~atoms.pbc):
            box[k] *= side / np.linalg.norm(box[k])
        bare.set_cell(box)
    return bare


def leverage_points(
    vectors: NDArray[np.float64], n: int, rng: np.random.Generator, tolerance: float
) -> NDArray[np.int64]:
    """Return the sorted indices of up to `n` rows drawn without replacement by leverage score, no duplicates.

    The leverage score of a row is its squared norm in the basis of the leading right singular vectors
    (Mahoney and Drineas 2009), found from the small Gram matrix so that millions of rows fit in memory. A
    row whose product with a row already chosen exceeds 1 - `tolerance` is passed over.

    Parameters
    ----------
    vectors
        (m, d) normalised rows.
    """
    m, d = vectors.shape
    if m == 0:
        return np.empty(0, dtype=np.int64)
    gram = np.zeros((d, d))
    for start in range(0, m, BLOCK):
        block = vectors[start : start + BLOCK]
        gram += block.T @ block
    values, basis = np.linalg.eigh(gram)
    rank = min(n, int((values > 1e-10 * values[-1]).sum()))
    scaled = basis[:, -rank:] / np.sqrt(values[-rank:])
    score = np.concatenate([((vectors[s : s + BLOCK] @ scaled) ** 2).sum(axis=1) for s in range(0, m, BLOCK)])
    # Exponential clocks: the rows in order of their first ring are a weighted draw without replacement.
    order = np.argsort(rng.exponential(size=m) / np.maximum(score, 1e-300), kind="stable")
    chosen: list[int] = []
    kept = np.empty((min(n, m), d))
    step = 512
    for start in range(0, m, step):
        rows = order[start : start + step]
        block = vectors[rows]
        limit = 1.0 - tolerance
        fresh = np.ones(len(rows), dtype=bool)
        if chosen:
            fresh = (block @ kept[: len(chosen)].T).max(axis=1) <= limit
        twins = np.triu(block @ block.T > limit, 1)
        for k in np.flatnonzero(fresh):
            if not fresh[k]:
                continue
            fresh &= ~twins[k]
            kept[len(chosen)] = block[k]
            chosen.append(int(rows[k]))
            if len(chosen) == n:
                return np.sort(np.asarray(chosen, dtype=np.int64))
    return np.sort(np.asarray(chosen, dtype=np.int64))


def read_sparse_file(path: Path, dimension: int) -> NDArray[np.float64]:
    """Return the (n, d) sparse points of a file as `write_sparse_file` and gap_fit's users write it.

    Raises
    ------
    FitError
        If it is missing or does not hold whole points of that dimension.
    """
    try:
        values = np.array(path.read_text(encoding="ascii").split(), dtype=np.float64)
    except (OSError, ValueError) as error:
        msg = (
            f"the sparse points in {path} cannot be read: {error}; give a text file with one number per line"
        )
        raise FitError(msg) from None
    if values.size == 0 or values.size % (dimension + 1) or not np.isfinite(values).all():
        msg = (
            f"{path} holds {values.size} numbers: expected, for each sparse point, a cutoff factor and "
            f"{dimension} finite numbers of the descriptor"
        )
        raise FitError(msg)
    return np.ascontiguousarray(values.reshape(-1, dimension + 1)[:, 1:])


def write_sparse_file(path: Path, points: NDArray[np.float64]) -> None:
    """Write sparse points as the program reads them: one number per line, each point after its cutoff factor.

    The factor scales a basis function and cancels in the prediction; it is 1 for all points.
    """
    lines = []
    for point in points:
        lines.append("1.0")
        lines.extend(f"{value:.16e}" for value in point)
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
