"""Compiled loops over pairs. Imported lazily: numba takes a second to load."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gapfactory.potentials.gap.engine._exp import exp

__all__ = ["add_pairs", "add_rows", "add_splines", "cutoff_function", "describe"]

# Sums may be reordered (that vectorises them); the order depends on the number of terms only.
_FAST = {"contract", "reassoc", "nsz", "arcp"}


@njit(cache=True, nogil=True, error_model="numpy")
def cutoff_function(r: float, cutoff: float, width: float) -> tuple[float, float]:
    """Return QUIP's cutoff function, which falls from 1 to 0 over `width` before `cutoff`, and its slope."""
    if r >= cutoff:
        return 0.0, 0.0
    if r <= cutoff - width:
        return 1.0, 0.0
    phase = math.pi * (r - cutoff + width) / width
    return 0.5 * (math.cos(phase) + 1.0), -0.5 * math.pi / width * math.sin(phase)


@njit(cache=True, nogil=True, error_model="numpy")
def _partner(number: int, a: int, b: int) -> int:
    """Return the element that pairs with `number` in a term for a and b, or -1."""
    if number == a:
        return b
    if number == b:
        return a
    return -1


@njit(cache=True, nogil=True, error_model="numpy")
def add_pairs(
    offsets: np.ndarray,
    numbers: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    a: int,
    b: int,
    cutoff: float,
    turn: float,
    split: int,
    per_length: np.ndarray,
    table: np.ndarray,
    wanted: bool,
    energies: np.ndarray,
    forces: np.ndarray,
    virials: np.ndarray,
) -> None:
    """Add the energy of every ordered pair to its first atom.

    Parameters
    ----------
    turn, split, per_length
        Below `turn` (Å) piece k of the table begins at k / per_length[0]; from there on piece split + k begins
        at turn + k / per_length[1].
    table : (pieces, 6)
        Polynomials on [0, 1], in eV.
    """
    last = table.shape[0] - 1
    for c in range(offsets.shape[0] - 1):
        xx = 0.0
        yy = 0.0
        zz = 0.0
        yz = 0.0
        xz = 0.0
        xy = 0.0
        for i in range(offsets[c], offsets[c + 1]):
            partner = _partner(numbers[i], a, b)
            if partner < 0:
                continue
            energy = 0.0
            fx = 0.0
            fy = 0.0
            fz = 0.0
            for p in range(first[i], first[i + 1]):
                r = distance[p]
                if r >= cutoff or numbers[neighbour[p]] != partner:
                    continue
                if r < turn:
                    scale = per_length[0]
                    t = r * scale
                    k = min(int(t), split - 1)
                    t -= k
                else:
                    scale = per_length[1]
                    t = (r - turn) * scale
                    k = int(t)
                    t -= k
                    k = min(k + split, last)
                c1 = table[k, 1]
                c2 = table[k, 2]
                c3 = table[k, 3]
                c4 = table[k, 4]
                c5 = table[k, 5]
                energy += table[k, 0] + t * (c1 + t * (c2 + t * (c3 + t * (c4 + t * c5))))
                if wanted:
                    slope = c1 + t * (2.0 * c2 + t * (3.0 * c3 + t * (4.0 * c4 + t * 5.0 * c5)))
                    slope *= scale / r
                    x = vector[p, 0]
                    y = vector[p, 1]
                    z = vector[p, 2]
                    gx = slope * x
                    gy = slope * y
                    gz = slope * z
                    fx += gx
                    fy += gy
                    fz += gz
                    xx -= gx * x
                    yy -= gy * y
                    zz -= gz * z
                    yz -= gy * z
                    xz -= gx * z
                    xy -= gx * y
            energies[i] += energy
            if wanted:
                # the reverse pair pulls as hard
                forces[i, 0] += 2.0 * fx
                forces[i, 1] += 2.0 * fy
                forces[i, 2] += 2.0 * fz
        if wanted:
            virials[c, 0, 0] += xx
            virials[c, 1, 1] += yy
            virials[c, 2, 2] += zz
            virials[c, 1, 2] += yz
            virials[c, 2, 1] += yz
            virials[c, 0, 2] += xz
            virials[c, 2, 0] += xz
            virials[c, 0, 1] += xy
            virials[c, 1, 0] += xy


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _kernels(
    r: float,
    points: np.ndarray,
    scale: float,
    weights: np.ndarray,
    f0: np.ndarray,
    value: np.ndarray,
    slope: np.ndarray,
) -> None:
    """Write the kernels (without cutoff function) of a distance with every sparse point, and their slopes."""
    for m in range(weights.shape[0]):
        d = (points[m] - r) * scale
        k = weights[m] * exp(-d * d)
        value[m] = k + f0[m]
        slope[m] = 2.0 * scale * d * k


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def add_rows(
    offsets: np.ndarray,
    numbers: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    a: int,
    b: int,
    cutoff: float,
    width: float,
    count: float,
    points: np.ndarray,
    scale: float,
    weights: np.ndarray,
    f0: np.ndarray,
    out: np.ndarray,
) -> None:
    """Add the covariances of energy, forces and virial of every cell with every sparse point.

    Parameters
    ----------
    count
        How often QUIP counts an ordered pair: 1, or 1/2 where it lists a pair once.
    points, weights, f0 : (M,)
        Sparse distances (Å), delta^2 and f0^2 times the points' cutoff factors (eV^2).
    scale
        1 / (theta sqrt(2)).
    out : (R, M)
        Rows as in `PairEngine.rows`.
    """
    n_sparse = weights.shape[0]
    value = np.empty(n_sparse)
    slope = np.empty(n_sparse)
    for c in range(offsets.shape[0] - 1):
        begin = 7 * c + 3 * offsets[c]
        virial = begin + 1 + 3 * (offsets[c + 1] - offsets[c])
        for i in range(offsets[c], offsets[c + 1]):
            partner = _partner(numbers[i], a, b)
            if partner < 0:
                continue
            force = begin + 1 + 3 * (i - offsets[c])
            for p in range(first[i], first[i + 1]):
                r = distance[p]
                if r >= cutoff or numbers[neighbour[p]] != partner:
                    continue
                _kernels(r, points, scale, weights, f0, value, slope)
                factor, fall = cutoff_function(r, cutoff, width)
                factor *= count
                fall *= count
                x = vector[p, 0]
                y = vector[p, 1]
                z = vector[p, 2]
                inverse = 1.0 / r
                for m in range(n_sparse):
                    out[begin, m] += factor * value[m]
                    g = (factor * slope[m] + fall * value[m]) * inverse
                    out[force, m] += 2.0 * g * x
                    out[force + 1, m] += 2.0 * g * y
                    out[force + 2, m] += 2.0 * g * z
                    out[virial, m] -= g * x * x
                    out[virial + 1, m] -= g * y * y
                    out[virial + 2, m] -= g * z * z
                    out[virial + 3, m] -= g * y * z
                    out[virial + 4, m] -= g * x * z
                    out[virial + 5, m] -= g * x * y


@njit(cache=True, nogil=True, error_model="numpy")
def describe(
    numbers: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    a: int,
    b: int,
    cutoff: float,
    width: float,
    once: bool,
    fill: bool,
    values: np.ndarray,
    members: np.ndarray,
    factors: np.ndarray,
) -> int:
    """Return how many descriptors there are; if `fill`, write them.

    Parameters
    ----------
    once
        List each pair from one side only (QUIP's closed clusters).
    values : (D, 1), members : (D, 2), factors : (D,)
        Distances, both atoms, cutoff function.
    """
    count = 0
    for i in range(numbers.shape[0]):
        partner = _partner(numbers[i], a, b)
        if partner < 0:
            continue
        for p in range(first[i], first[i + 1]):
            j = neighbour[p]
            if distance[p] >= cutoff or numbers[j] != partner:
                continue
            if once and (j < i or (j == i and not precedes(vector[p]))):
                continue
            if fill:
                values[count, 0] = distance[p]
                members[count, 0] = i
                members[count, 1] = j
                factors[count] = cutoff_function(distance[p], cutoff, width)[0]
            count += 1
    return count


@njit(cache=True, nogil=True, error_model="numpy")
def precedes(vector: np.ndarray) -> bool:
    """Return whether an atom counts before its image at `vector`: true for one of a vector and its negative."""
    if vector[2] != 0.0:
        return bool(vector[2] > 0.0)
    if vector[1] != 0.0:
        return bool(vector[1] > 0.0)
    return bool(vector[0] > 0.0)


@njit(cache=True, nogil=True, error_model="numpy")
def add_splines(
    offsets: np.ndarray,
    channels: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    start: np.ndarray,
    knots: np.ndarray,
    cubic: np.ndarray,
    wanted: bool,
    energies: np.ndarray,
    forces: np.ndarray,
    virials: np.ndarray,
) -> None:
    """Add half the energy of every ordered pair to its first atom.

    Parameters
    ----------
    channels : (N,)
        Index of each atom's element, -1 for an element without a table.
    start : (n, n, 2)
        First and last knot of the spline of two elements; -1 where there is none.
    knots : (K,), cubic : (K, 4)
        Of all splines. Row k holds the polynomial in r - knots[k] from there to the next knot, constant first;
        below the first knot its linear part goes on.
    """
    for c in range(offsets.shape[0] - 1):
        for i in range(offsets[c], offsets[c + 1]):
            a = channels[i]
            if a < 0:
                continue
            for p in range(first[i], first[i + 1]):
                j = neighbour[p]
                b = channels[j]
                if b < 0 or start[a, b, 0] < 0:
                    continue
                low = start[a, b, 0]
                high = start[a, b, 1]
                r = distance[p]
                if r >= knots[high]:
                    continue
                if r < knots[low]:
                    t = r - knots[low]
                    value = cubic[low, 0] + t * cubic[low, 1]
                    slope = cubic[low, 1]
                else:
                    while high - low > 1:
                        middle = (low + high) // 2
                        if knots[middle] > r:
                            high = middle
                        else:
                            low = middle
                    t = r - knots[low]
                    value = cubic[low, 0] + t * (cubic[low, 1] + t * (cubic[low, 2] + t * cubic[low, 3]))
                    slope = cubic[low, 1] + t * (2.0 * cubic[low, 2] + t * 3.0 * cubic[low, 3])
                energies[i] += 0.5 * value
                if wanted:
                    slope /= r
                    for k in range(3):
                        forces[i, k] += slope * vector[p, k]
                        for q in range(3):
                            virials[c, k, q] -= 0.5 * slope * vector[p, k] * vector[p, q]
