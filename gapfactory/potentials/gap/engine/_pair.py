"""Compiled loops over pairs. Imported lazily: numba takes a second to load."""

from __future__ import annotations

import math

import numpy as np

from gapfactory.compiled import compiled
from gapfactory.potentials.gap.engine._exp import exp
from gapfactory.potentials.gap.engine._simd import LANES, add, fma, load, mul, splat, store, sub

__all__ = ["add_pairs", "add_rows", "add_splines", "cutoff_function", "describe"]


@compiled
def cutoff_function(r: float, cutoff: float, width: float) -> tuple[float, float]:
    """Return QUIP's cutoff function, which falls from 1 to 0 over `width` before `cutoff`, and its slope."""
    if r >= cutoff:
        return 0.0, 0.0
    if r <= cutoff - width:
        return 1.0, 0.0
    phase = math.pi * (r - cutoff + width) / width
    return 0.5 * (math.cos(phase) + 1.0), -0.5 * math.pi / width * math.sin(phase)


@compiled
def _partner(number: int, a: int, b: int) -> int:
    """Return the element that pairs with `number` in a term for a and b, or -1."""
    if number == a:
        return b
    if number == b:
        return a
    return -1


@compiled
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


@compiled
def _add_atom(
    count: int,
    pairs: np.ndarray,
    points: np.ndarray,
    scale: float,
    weights: np.ndarray,
    f0: np.ndarray,
    force: np.ndarray,
    cell: np.ndarray,
) -> None:
    """Write half of the three force rows of an atom and add to energy and virial of its cell.

    Parameters
    ----------
    count
        Pairs of the atom.
    pairs : (7 count,)
        Of each pair: distance; cutoff function; its slope, and itself times 2 scale, over the distance; x, y,
        z. Energies count a pair as often as the cutoff function here says.
    force : (3 K,), cell : (7 K,)
        Rows after one another.
    """
    n_sparse = points.shape[0]
    nothing = splat(0.0)
    steep = splat(scale)
    for m in range(0, n_sparse, LANES):
        point = load(points, m)
        weight = load(weights, m)
        offset = load(f0, m)
        e = load(cell, m)
        xx = load(cell, n_sparse + m)
        yy = load(cell, 2 * n_sparse + m)
        zz = load(cell, 3 * n_sparse + m)
        yz = load(cell, 4 * n_sparse + m)
        xz = load(cell, 5 * n_sparse + m)
        xy = load(cell, 6 * n_sparse + m)
        fx = nothing
        fy = nothing
        fz = nothing
        for p in range(0, 7 * count, 7):
            d = mul(sub(point, splat(pairs[p])), steep)
            k = mul(weight, exp(sub(nothing, mul(d, d))))
            value = add(k, offset)
            e = fma(value, splat(pairs[p + 1]), e)
            # minus the derivative, over the distance
            g = fma(value, splat(-pairs[p + 2]), mul(mul(k, d), splat(-pairs[p + 3])))
            x = splat(pairs[p + 4])
            y = splat(pairs[p + 5])
            z = splat(pairs[p + 6])
            gx = mul(g, x)
            gy = mul(g, y)
            gz = mul(g, z)
            fx = sub(fx, gx)
            fy = sub(fy, gy)
            fz = sub(fz, gz)
            xx = fma(gx, x, xx)
            yy = fma(gy, y, yy)
            zz = fma(gz, z, zz)
            yz = fma(gy, z, yz)
            xz = fma(gx, z, xz)
            xy = fma(gx, y, xy)
        store(force, m, fx)
        store(force, n_sparse + m, fy)
        store(force, 2 * n_sparse + m, fz)
        store(cell, m, e)
        store(cell, n_sparse + m, xx)
        store(cell, 2 * n_sparse + m, yy)
        store(cell, 3 * n_sparse + m, zz)
        store(cell, 4 * n_sparse + m, yz)
        store(cell, 5 * n_sparse + m, xz)
        store(cell, 6 * n_sparse + m, xy)


@compiled
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
    scale: float,
    points: np.ndarray,
    weights: np.ndarray,
    f0: np.ndarray,
    out: np.ndarray,
) -> None:
    """Add the covariances of energy, forces and virial of every cell with every sparse point.

    Parameters
    ----------
    count
        How often QUIP counts an ordered pair: 1, or 1/2 where it lists a pair once.
    scale
        1 / (theta sqrt(2)).
    points, weights, f0 : (K,)
        Sparse distances (Å), delta^2 and f0^2 times the points' cutoff factors (eV^2), with zeros up to a
        multiple of eight.
    out : (R, M)
        Rows as in `PairEngine.rows`.
    """
    n_sparse = out.shape[1]
    padded = points.shape[0]
    most = 0
    for i in range(numbers.shape[0]):
        most = max(most, first[i + 1] - first[i])
    pairs = np.empty(7 * most)
    force = np.empty(3 * padded)
    cell = np.empty(7 * padded)
    for c in range(offsets.shape[0] - 1):
        begin = 7 * c + 3 * offsets[c]
        cell[:] = 0.0
        for i in range(offsets[c], offsets[c + 1]):
            partner = _partner(numbers[i], a, b)
            if partner < 0:
                continue
            found = 0
            for p in range(first[i], first[i + 1]):
                r = distance[p]
                if r >= cutoff or numbers[neighbour[p]] != partner:
                    continue
                factor, fall = cutoff_function(r, cutoff, width)
                row = 7 * found
                pairs[row] = r
                pairs[row + 1] = count * factor
                pairs[row + 2] = count * fall / r
                pairs[row + 3] = count * factor * 2.0 * scale / r
                pairs[row + 4] = vector[p, 0]
                pairs[row + 5] = vector[p, 1]
                pairs[row + 6] = vector[p, 2]
                found += 1
            _add_atom(found, pairs, points, scale, weights, f0, force, cell)
            row = begin + 1 + 3 * (i - offsets[c])
            for k in range(3):
                for m in range(n_sparse):
                    # the reverse pair pulls as hard
                    out[row + k, m] += 2.0 * force[k * padded + m]
        for m in range(n_sparse):
            out[begin, m] += cell[m]
        row = begin + 1 + 3 * (offsets[c + 1] - offsets[c])
        for k in range(6):
            for m in range(n_sparse):
                out[row + k, m] += cell[(k + 1) * padded + m]


@compiled
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


@compiled
def precedes(vector: np.ndarray) -> bool:
    """Return whether an atom counts before its image at `vector`: true for one of a vector and its negative."""
    if vector[2] != 0.0:
        return bool(vector[2] > 0.0)
    if vector[1] != 0.0:
        return bool(vector[1] > 0.0)
    return bool(vector[0] > 0.0)


@compiled
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
