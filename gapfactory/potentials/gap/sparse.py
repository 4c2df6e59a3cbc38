"""Sparse points, chosen here and handed to the fit by file.

`gap_fit`'s own choice of uniform three-body points depends on the order of the rows and its random choices
on its own generator. Here every choice depends on the data alone (sorted by id) and, for SOAP, on a seeded
stream.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import FitError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.settings import GapSettings
    from gapfactory.potentials.gap.terms import Term

__all__ = [
    "angle_descriptors",
    "choose",
    "distance_range",
    "farthest_points",
    "leverage_points",
    "soap_vectors",
    "write_sparse_file",
]

#: rows per block of a large matrix; fixed, so that sums do not depend on the machine
BLOCK = 4096


def choose(
    term: Term, structures: Sequence[Atoms], settings: GapSettings, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the sparse points of one term.

    Parameters
    ----------
    term
        The descriptor.
    structures
        All structures of the fit in the order of their ids.
    settings
        Numbers of points and length scales.
    rng
        Stream of this choice; used by SOAP only.

    Returns
    -------
    NDArray
        (n, d) descriptor values, possibly fewer than asked for and (0, d) if the data never show the term.
    """
    if term.stage == 0:
        two = settings.two_body
        low, high = distance_range(structures, term.numbers, term.cutoff)
        if not np.isfinite(low):
            return np.empty((0, 1))
        spacing = two.least_spacing_in_sigma * two.sigma
        n = max(1, min(two.n_sparse, 1 + int((high - low) / spacing)))
        return np.linspace(low, high, n)[:, None]
    if term.stage == 1:
        three = settings.three_body
        values = _thinned(
            (angle_descriptors(atoms, term.numbers, term.cutoff) for atoms in structures),
            three.least_spacing_in_sigma * three.sigma,
        )
        return farthest_points(values, three.n_sparse, three.least_spacing_in_sigma * three.sigma)
    vectors = soap_vectors(term, structures)
    picked = leverage_points(vectors, settings.soap.n_sparse, rng, settings.soap.duplicate_tolerance)
    return vectors[picked]


def distance_range(structures: Iterable[Atoms], pair: Sequence[int], cutoff: float) -> tuple[float, float]:
    """Return the shortest and longest distance of a pair of species (inf, -inf if there is none).

    In a crystal the longest is taken as the cutoff itself: lattice images fill every distance.
    """
    from ase.neighborlist import neighbor_list

    a, b = pair
    shortest, longest = np.inf, -np.inf
    for atoms in structures:
        numbers = atoms.numbers
        if a not in numbers or b not in numbers:
            continue
        reach = min(cutoff, 1.25 * shortest if np.isfinite(shortest) else 3.0)
        while True:
            i, j, d = neighbor_list("ijd", atoms, reach)
            d = d[(numbers[i] == a) & (numbers[j] == b)]
            if len(d) or reach >= cutoff or (np.isfinite(shortest) and longest >= cutoff):
                break
            reach = min(cutoff, 2 * reach)
        if len(d):
            shortest = min(shortest, float(d.min()))
            longest = max(longest, cutoff if atoms.pbc.all() else float(d.max()))
    return shortest, longest


def angle_descriptors(atoms: Atoms, triple: Sequence[int], cutoff: float) -> NDArray[np.float64]:
    """Return the (n, 3) values (r1 + r2, (r1 - r2)^2, r12) of every pair of neighbours of the centres.

    Units A, A^2, A. Each unordered pair is counted once, where QUIP's `angle_3b` gives the same value twice.
    """
    from ase.neighborlist import neighbor_list

    centre, a, b = triple
    numbers = atoms.numbers
    if not {centre, a, b} <= set(numbers.tolist()):
        return np.empty((0, 3))
    i, j, d, vector = neighbor_list("ijdD", atoms, cutoff)
    keep = numbers[i] == centre
    i, d, vector, z = i[keep], d[keep], vector[keep], numbers[j[keep]]
    found = []
    for atom in np.unique(i):
        mine = np.flatnonzero(i == atom)
        p, q = np.triu_indices(len(mine), 1)
        p, q = mine[p], mine[q]
        wanted = ((z[p] == a) & (z[q] == b)) | ((z[p] == b) & (z[q] == a))
        p, q = p[wanted], q[wanted]
        r12 = np.linalg.norm(vector[p] - vector[q], axis=1)
        found.append(np.column_stack([d[p] + d[q], (d[p] - d[q]) ** 2, r12]))
    return np.concatenate(found) if found else np.empty((0, 3))


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


def soap_vectors(term: Term, structures: Sequence[Atoms]) -> NDArray[np.float64]:
    """Return the (n, d) normalised SOAP vectors of all centres of a term's species.

    Raises
    ------
    FitError
        If the descriptor is not finite for some structure (atoms on top of each other).
    """
    from quippy.descriptors import Descriptor

    descriptor = Descriptor(term.descriptor)
    counts = [int((atoms.numbers == term.numbers[0]).sum()) for atoms in structures]
    vectors = np.empty((sum(counts), descriptor.dimensions()))
    row = 0
    for k, (atoms, count) in enumerate(zip(structures, counts, strict=True)):
        if count == 0:
            continue
        # A bare copy: QUIP's conversion chokes on foreign info and arrays.
        try:
            values = np.asarray(descriptor.calc(atoms_for_quip(atoms, term.cutoff))["data"])
        except RuntimeError as error:
            msg = f"QUIP cannot describe structure {k} ({atoms.symbols}): {str(error).strip()}; quarantine it"
            raise FitError(msg) from None
        if values.shape != (count, vectors.shape[1]) or not np.isfinite(values).all():
            msg = (
                f"SOAP of structure {k} ({atoms.symbols}) is not finite or has shape {values.shape}: "
                "quarantine it"
            )
            raise FitError(msg)
        vectors[row : row + count] = values
        row += count
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


def write_sparse_file(path: Path, points: NDArray[np.float64]) -> None:
    """Write sparse points as the program reads them: one number per line, each point after its cutoff factor.

    The factor scales a basis function and cancels in the prediction; it is 1 for all points.
    """
    lines = []
    for point in points:
        lines.append("1.0")
        lines.extend(f"{value:.16e}" for value in point)
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
