"""Compiled search for neighbours. Imported lazily: numba takes a second to load."""

from __future__ import annotations

import math

import numpy as np

from gapfactory.compiled import compiled

__all__ = ["fill_candidates", "geometry", "merge_candidates", "stale_cells"]

# The search is wider than asked by this much (Å): rounding must not lose a pair. `geometry` then decides.
_MARGIN = 1e-7
# From this many atoms on, atoms are sorted into bins; below, every pair of atoms is looked at.
_MANY = 256


@compiled
def _triangular(cell: np.ndarray, lower: np.ndarray, axes: np.ndarray) -> None:
    """Write the orthonormal axes (rows) in which the cell is lower triangular with positive diagonal."""
    for row in range(3):
        for k in range(3):
            axes[row, k] = cell[row, k]
        for _ in range(2):  # twice is enough for orthogonality to rounding, however skew the cell
            for other in range(row):
                part = 0.0
                for k in range(3):
                    part += axes[row, k] * axes[other, k]
                for k in range(3):
                    axes[row, k] -= part * axes[other, k]
        norm = math.sqrt(axes[row, 0] ** 2 + axes[row, 1] ** 2 + axes[row, 2] ** 2)
        for k in range(3):
            axes[row, k] /= norm
        for other in range(3):
            lower[row, other] = 0.0
        for other in range(row + 1):
            for k in range(3):
                lower[row, other] += cell[row, k] * axes[other, k]


@compiled
def _scaled(positions: np.ndarray, lower: np.ndarray, axes: np.ndarray, out: np.ndarray) -> None:
    """Write the scaled positions."""
    for i in range(positions.shape[0]):
        x = 0.0
        y = 0.0
        z = 0.0
        for k in range(3):
            x += positions[i, k] * axes[0, k]
            y += positions[i, k] * axes[1, k]
            z += positions[i, k] * axes[2, k]
        out[i, 2] = z / lower[2, 2]
        out[i, 1] = (y - out[i, 2] * lower[2, 1]) / lower[1, 1]
        out[i, 0] = (x - out[i, 2] * lower[2, 0] - out[i, 1] * lower[1, 0]) / lower[0, 0]


@compiled
def _pairs_of_few(
    scaled: np.ndarray,
    lower: np.ndarray,
    periodic: np.ndarray,
    reach: float,
    base: int,
    fill: bool,
    cursor: np.ndarray,
    neighbour: np.ndarray,
    image: np.ndarray,
) -> None:
    """Look at every pair of atoms of one cell; its images inside the sphere are three nested intervals.

    Nothing outside the sphere is visited, however thin or skew the cell is. A pair is found once and entered
    in both rows, images ascending; rows therefore come out sorted by neighbour.
    """
    n_atoms = scaled.shape[0]
    square = reach * reach
    for i in range(n_atoms):
        for j in range(i, n_atoms):
            f0 = scaled[j, 0] - scaled[i, 0]
            f1 = scaled[j, 1] - scaled[i, 1]
            f2 = scaled[j, 2] - scaled[i, 2]
            begin = cursor[i]
            found = 0
            low2 = 0
            high2 = 0
            if periodic[2]:
                low2 = math.ceil(-reach / lower[2, 2] - f2)
                high2 = math.floor(reach / lower[2, 2] - f2)
                if i == j:
                    low2 = 0
            for k2 in range(low2, high2 + 1):
                s2 = f2 + k2
                z = s2 * lower[2, 2]
                rest2 = square - z * z
                if rest2 <= 0.0:
                    continue
                low1 = 0
                high1 = 0
                if periodic[1]:
                    half = math.sqrt(rest2)
                    shift = s2 * lower[2, 1]
                    low1 = math.ceil((-half - shift) / lower[1, 1] - f1)
                    high1 = math.floor((half - shift) / lower[1, 1] - f1)
                    if i == j and k2 == 0:
                        low1 = 0
                for k1 in range(low1, high1 + 1):
                    s1 = f1 + k1
                    y = s1 * lower[1, 1] + s2 * lower[2, 1]
                    rest1 = rest2 - y * y
                    if rest1 <= 0.0:
                        continue
                    shift = s1 * lower[1, 0] + s2 * lower[2, 0]
                    low0 = 0
                    high0 = 0
                    if periodic[0]:
                        half = math.sqrt(rest1)
                        low0 = math.ceil((-half - shift) / lower[0, 0] - f0)
                        high0 = math.floor((half - shift) / lower[0, 0] - f0)
                    elif (f0 * lower[0, 0] + shift) ** 2 > rest1:
                        continue
                    if i == j and k2 == 0 and k1 == 0:
                        low0 = 1
                    if high0 < low0:
                        continue
                    if fill:
                        for k0 in range(low0, high0 + 1):
                            row = begin + found + k0 - low0
                            neighbour[row] = base + j
                            image[row, 0] = k2
                            image[row, 1] = k1
                            image[row, 2] = k0
                    found += high0 - low0 + 1
            if found == 0:
                continue
            cursor[i] += found
            mirrored = begin
            if i == j:
                if fill:
                    for t in range(found - 1, -1, -1):
                        neighbour[begin + found + t] = base + i
                        for k in range(3):
                            image[begin + found + t, k] = image[begin + t, k]
                    begin += found
            else:
                mirrored = cursor[j]
            cursor[j] += found
            if fill:
                for t in range(found):
                    row = mirrored + found - 1 - t
                    neighbour[row] = base + i
                    for k in range(3):
                        image[row, k] = -image[begin + t, k]


@compiled
def _bins(
    scaled: np.ndarray, lower: np.ndarray, periodic: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return number, origin and width (scaled) of the bins along the three cell vectors.

    Bins are about half the cutoff wide and not many more than there are atoms.
    """
    n_atoms = scaled.shape[0]
    number = np.ones(3, dtype=np.int64)
    origin = np.zeros(3)
    width = np.ones(3)
    # distances between the lattice planes of the lower triangular cell
    inverse01 = -lower[1, 0] / (lower[0, 0] * lower[1, 1])
    inverse12 = -lower[2, 1] / (lower[1, 1] * lower[2, 2])
    inverse02 = -(lower[2, 0] / lower[0, 0] + lower[2, 1] * inverse01) / lower[2, 2]
    height = np.empty(3)
    height[0] = 1.0 / math.sqrt((1.0 / lower[0, 0]) ** 2 + inverse01**2 + inverse02**2)
    height[1] = 1.0 / math.sqrt((1.0 / lower[1, 1]) ** 2 + inverse12**2)
    height[2] = lower[2, 2]
    for k in range(3):
        if not periodic[k]:
            low = scaled[0, k]
            high = scaled[0, k]
            for i in range(n_atoms):
                low = min(low, scaled[i, k])
                high = max(high, scaled[i, k])
            origin[k] = low
            width[k] = max(high - low, 1e-12) * (1.0 + 1e-12)
        number[k] = max(1, int(min(2.0 * width[k] * height[k] / reach, 1024.0)))
    while number[0] * number[1] * number[2] > n_atoms // 3 + 1:
        largest = 0
        for k in range(3):
            if number[k] > number[largest]:
                largest = k
        number[largest] = (number[largest] + 1) // 2
    for k in range(3):
        width[k] /= number[k]
    return number, origin, width


@compiled
def _pairs_of_many(
    scaled: np.ndarray,
    lower: np.ndarray,
    periodic: np.ndarray,
    reach: float,
    base: int,
    fill: bool,
    cursor: np.ndarray,
    neighbour: np.ndarray,
    image: np.ndarray,
) -> None:
    """Look at the atoms of the bins that the sphere around an atom may touch.

    Atom i is entered in the rows of its neighbours, i ascending and bins descending: rows come out sorted by
    neighbour and image without sorting.
    """
    n_atoms = scaled.shape[0]
    number, origin, width = _bins(scaled, lower, periodic, reach)
    n_bins = number[0] * number[1] * number[2]
    whole = np.zeros((n_atoms, 3), dtype=np.int64)
    inside = np.empty((n_atoms, 3))
    where = np.empty(n_atoms, dtype=np.int64)
    start = np.zeros(n_bins + 1, dtype=np.int64)
    for i in range(n_atoms):
        index = 0
        for k in range(2, -1, -1):
            value = scaled[i, k]
            if periodic[k]:
                whole[i, k] = math.floor(value)
                value -= whole[i, k]
            inside[i, k] = value
            cell = min(number[k] - 1, max(0, int((value - origin[k]) / width[k])))
            index = index * number[k] + cell
        where[i] = index
        start[index + 1] += 1
    for b in range(n_bins):
        start[b + 1] += start[b]
    member = np.empty(n_atoms, dtype=np.int64)
    place = start.copy()
    sorted_at = np.empty((n_atoms, 3))
    for i in range(n_atoms):
        row = place[where[i]]
        place[where[i]] += 1
        member[row] = i
        z = inside[i, 2] * lower[2, 2]
        y = inside[i, 1] * lower[1, 1] + inside[i, 2] * lower[2, 1]
        sorted_at[row, 0] = (
            inside[i, 0] * lower[0, 0] + inside[i, 1] * lower[1, 0] + inside[i, 2] * lower[2, 0]
        )
        sorted_at[row, 1] = y
        sorted_at[row, 2] = z
    square = reach * reach
    tiny = 1e-9
    for i in range(n_atoms):
        s0 = inside[i, 0]
        s1 = inside[i, 1]
        s2 = inside[i, 2]
        x_i = s0 * lower[0, 0] + s1 * lower[1, 0] + s2 * lower[2, 0]
        y_i = s1 * lower[1, 1] + s2 * lower[2, 1]
        z_i = s2 * lower[2, 2]
        span = reach / lower[2, 2]
        low2 = math.floor((s2 - span - origin[2]) / width[2] - tiny)
        high2 = math.floor((s2 + span - origin[2]) / width[2] + tiny)
        if not periodic[2]:
            low2 = max(low2, 0)
            high2 = min(high2, number[2] - 1)
        for b2 in range(high2, low2 - 1, -1):
            k2 = b2 // number[2]
            # a bin is an interval of scaled distances; nearest and farthest z decide what is left for y
            near2 = origin[2] + b2 * width[2] - s2
            far2 = near2 + width[2]
            z = 0.0 if near2 * far2 < 0.0 else min(abs(near2), abs(far2)) * lower[2, 2]
            rest2 = square - z * z
            if rest2 < 0.0:
                rest2 = 0.0
            half = math.sqrt(rest2)
            shift_a = near2 * lower[2, 1]
            shift_b = far2 * lower[2, 1]
            bottom = (-half - max(shift_a, shift_b)) / lower[1, 1]
            top = (half - min(shift_a, shift_b)) / lower[1, 1]
            low1 = math.floor((s1 + bottom - origin[1]) / width[1] - tiny)
            high1 = math.floor((s1 + top - origin[1]) / width[1] + tiny)
            if not periodic[1]:
                low1 = max(low1, 0)
                high1 = min(high1, number[1] - 1)
            for b1 in range(high1, low1 - 1, -1):
                k1 = b1 // number[1]
                near1 = origin[1] + b1 * width[1] - s1
                far1 = near1 + width[1]
                y_low = near1 * lower[1, 1] + min(shift_a, shift_b)
                y_high = far1 * lower[1, 1] + max(shift_a, shift_b)
                y = 0.0 if y_low * y_high < 0.0 else min(abs(y_low), abs(y_high))
                rest1 = rest2 - y * y
                if rest1 < 0.0:
                    continue
                half = math.sqrt(rest1)
                c_a = near1 * lower[1, 0]
                c_b = far1 * lower[1, 0]
                d_a = near2 * lower[2, 0]
                d_b = far2 * lower[2, 0]
                bottom = (-half - max(c_a, c_b) - max(d_a, d_b)) / lower[0, 0]
                top = (half - min(c_a, c_b) - min(d_a, d_b)) / lower[0, 0]
                low0 = math.floor((s0 + bottom - origin[0]) / width[0] - tiny)
                high0 = math.floor((s0 + top - origin[0]) / width[0] + tiny)
                if not periodic[0]:
                    low0 = max(low0, 0)
                    high0 = min(high0, number[0] - 1)
                line = ((b2 - k2 * number[2]) * number[1] + b1 - k1 * number[1]) * number[0]
                for b0 in range(high0, low0 - 1, -1):
                    k0 = b0 // number[0]
                    b = line + b0 - k0 * number[0]
                    x0 = k0 * lower[0, 0] + k1 * lower[1, 0] + k2 * lower[2, 0] - x_i
                    y0 = k1 * lower[1, 1] + k2 * lower[2, 1] - y_i
                    z0 = k2 * lower[2, 2] - z_i
                    self_image = k0 == 0 and k1 == 0 and k2 == 0
                    for t in range(start[b], start[b + 1]):
                        x = sorted_at[t, 0] + x0
                        y = sorted_at[t, 1] + y0
                        z = sorted_at[t, 2] + z0
                        if x * x + y * y + z * z > square:
                            continue
                        j = member[t]
                        if self_image and j == i:
                            continue
                        row = cursor[j]
                        cursor[j] += 1
                        if fill:
                            neighbour[row] = base + i
                            image[row, 0] = whole[j, 2] - whole[i, 2] - k2
                            image[row, 1] = whole[j, 1] - whole[i, 1] - k1
                            image[row, 2] = whole[j, 0] - whole[i, 0] - k0


@compiled
def fill_candidates(
    offsets: np.ndarray,
    positions: np.ndarray,
    cells: np.ndarray,
    periodic: np.ndarray,
    chosen: np.ndarray,
    reach: float,
    many: int,
    first: np.ndarray,
    fill: bool,
    neighbour: np.ndarray,
    image: np.ndarray,
) -> None:
    """Count or write the pairs of atoms nearer than `reach` of the chosen cells.

    Parameters
    ----------
    offsets : (S + 1,)
        Atoms of cell c are offsets[c]:offsets[c + 1].
    positions : (N, 3)
        Å.
    cells : (S, 3, 3)
        Three independent vectors each, also along directions that are not periodic, Å.
    periodic : (S, 3)
        Periodic directions.
    chosen : (S,)
        Cells to work on; rows of the others are left alone.
    reach
        Å. A few pairs up to 1e-7 Å farther apart are found too.
    many
        From this many atoms on atoms are sorted into bins; 0 for the default.
    first : (N + 1,)
        Where the row of each atom begins. If not `fill`, the number of candidates of atom i is written to
        first[i].
    neighbour : (P,), image : (P, 3)
        Written if `fill`: index of the neighbour in the batch, and the cell it is in, so that the vector to
        it is r_j - r_i + image @ cell. Sorted by atom, neighbour, image (last component fastest).
    """
    lower = np.empty((3, 3))
    axes = np.empty((3, 3))
    # the search runs over the last vector in its innermost loop, so that images come out in order
    turned = np.empty((3, 3))
    along = np.empty(3, dtype=np.bool_)
    threshold = many if many > 0 else _MANY
    for c in range(offsets.shape[0] - 1):
        if not chosen[c]:
            continue
        begin = offsets[c]
        end = offsets[c + 1]
        for k in range(3):
            turned[k] = cells[c, 2 - k]
            along[k] = periodic[c, 2 - k]
        _triangular(turned, lower, axes)
        scaled = np.empty((end - begin, 3))
        _scaled(positions[begin:end], lower, axes, scaled)
        cursor = np.zeros(end - begin, dtype=np.int64)
        if fill:
            cursor[:] = first[begin:end]
        if end - begin < threshold:
            _pairs_of_few(
                scaled, lower, along, reach + _MARGIN, begin, fill, cursor, neighbour, image
            )  # fmt: skip
        else:
            _pairs_of_many(
                scaled, lower, along, reach + _MARGIN, begin, fill, cursor, neighbour, image
            )  # fmt: skip
        if not fill:
            first[begin:end] = cursor


@compiled
def geometry(
    offsets: np.ndarray,
    positions: np.ndarray,
    cells: np.ndarray,
    cutoff: float,
    candidate_first: np.ndarray,
    candidate: np.ndarray,
    image: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
) -> int:
    """Keep the candidates nearer than `cutoff`; return their number, or -1 - i if an atom sits on atom i.

    The vector of a pair and of its reverse are each other's negative to the last bit, so both are kept or
    neither.
    """
    square = cutoff * cutoff
    kept = 0
    for c in range(offsets.shape[0] - 1):
        a = cells[c]
        for i in range(offsets[c], offsets[c + 1]):
            first[i] = kept
            for p in range(candidate_first[i], candidate_first[i + 1]):
                j = candidate[p]
                k0 = float(image[p, 0])
                k1 = float(image[p, 1])
                k2 = float(image[p, 2])
                x = (positions[j, 0] - positions[i, 0]) + (k0 * a[0, 0] + k1 * a[1, 0] + k2 * a[2, 0])
                y = (positions[j, 1] - positions[i, 1]) + (k0 * a[0, 1] + k1 * a[1, 1] + k2 * a[2, 1])
                z = (positions[j, 2] - positions[i, 2]) + (k0 * a[0, 2] + k1 * a[1, 2] + k2 * a[2, 2])
                r2 = x * x + y * y + z * z
                if r2 >= square:
                    continue
                if r2 < 1e-16:
                    return -1 - i
                neighbour[kept] = j
                vector[kept, 0] = x
                vector[kept, 1] = y
                vector[kept, 2] = z
                distance[kept] = math.sqrt(r2)
                kept += 1
    first[offsets[-1]] = kept
    return kept


@compiled
def merge_candidates(
    offsets: np.ndarray,
    chosen: np.ndarray,
    old_first: np.ndarray,
    old_neighbour: np.ndarray,
    old_image: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    image: np.ndarray,
) -> None:
    """Copy the rows of the cells that are not chosen from an old list to their places in a new one."""
    for c in range(offsets.shape[0] - 1):
        if chosen[c]:
            continue
        to = first[offsets[c]]
        start = old_first[offsets[c]]
        for p in range(old_first[offsets[c + 1]] - start):
            neighbour[to + p] = old_neighbour[start + p]
            for k in range(3):
                image[to + p, k] = old_image[start + p, k]


@compiled
def _divide(old: np.ndarray, new: np.ndarray, out: np.ndarray) -> None:
    """Write the matrix F with old F = new."""
    adjoint = np.empty((3, 3))
    for row in range(3):
        a = (row + 1) % 3
        b = (row + 2) % 3
        for k in range(3):
            c = (k + 1) % 3
            d = (k + 2) % 3
            adjoint[k, row] = old[a, c] * old[b, d] - old[a, d] * old[b, c]
    volume = 0.0
    for k in range(3):
        volume += old[0, k] * adjoint[k, 0]
    for row in range(3):
        for k in range(3):
            value = 0.0
            for q in range(3):
                value += adjoint[row, q] * new[q, k]
            out[row, k] = value / volume


@compiled
def stale_cells(
    offsets: np.ndarray,
    positions: np.ndarray,
    cells: np.ndarray,
    old_positions: np.ndarray,
    old_cells: np.ndarray,
    cutoff: float,
    skin: float,
    stale: np.ndarray,
) -> None:
    """Mark the cells whose candidates, made for cutoff + skin, may miss a pair that is now within cutoff.

    With F the deformation that takes the old cell to the new one and u what each atom moved beyond F, a pair
    at vector v was at (v - u_j + u_i) F^-1. So if |F^-1| (cutoff + max |u_j - u_i|) <= cutoff + skin, every
    pair now within the cutoff was a candidate. |F^-1| is at most 1 plus the Frobenius norm of F^-1 - 1, and
    |u_j - u_i| at most the diagonal of the box of all u, which a translation of all atoms does not change.
    """
    forth = np.empty((3, 3))
    back = np.empty((3, 3))
    low = np.empty(3)
    high = np.empty(3)
    for c in range(offsets.shape[0] - 1):
        begin = offsets[c]
        _divide(old_cells[c], cells[c], forth)
        _divide(cells[c], old_cells[c], back)
        norm = 0.0
        for row in range(3):
            for k in range(3):
                value = back[row, k] - (1.0 if row == k else 0.0)
                norm += value * value
        norm = 1.0 + math.sqrt(norm)
        for i in range(begin, offsets[c + 1]):
            for k in range(3):
                value = positions[i, k]
                for row in range(3):
                    value -= old_positions[i, row] * forth[row, k]
                if i == begin:
                    low[k] = value
                    high[k] = value
                else:
                    low[k] = min(low[k], value)
                    high[k] = max(high[k], value)
        spread = 0.0
        for k in range(3):
            spread += (high[k] - low[k]) ** 2
        # written so that values which are not finite count as stale
        stale[c] = not (norm * (cutoff + math.sqrt(spread)) <= cutoff + skin - 1e-6)
