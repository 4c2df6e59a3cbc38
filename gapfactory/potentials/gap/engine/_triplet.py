"""Compiled loops over triplets. Imported lazily: numba takes a second to load."""

from __future__ import annotations

import math

import numpy as np

from gapfactory.compiled import compiled
from gapfactory.potentials.gap.engine._exp import exp
from gapfactory.potentials.gap.engine._pair import cutoff_function, precedes
from gapfactory.potentials.gap.engine._simd import LANES, add, fma, load, mul, splat, sub, total

__all__ = ["ANGLE", "CLOSED", "COMPACT", "add_triplets", "describe_triplets"]

#: kinds of triplets: of `angle_3b`, and of `distance_Nb` with and without compact_clusters
ANGLE = 0
COMPACT = 1
CLOSED = 2


@compiled
def _sum_points(
    points: np.ndarray, weights: np.ndarray, y0: float, y1: float, y2: float
) -> tuple[float, float, float, float]:
    """Return sum_m w_m exp(-|p_m - y|^2), and its gradient by y.

    `points` are the three components after one another, as many of each as `weights`: a multiple of eight.
    """
    count = weights.shape[0]
    nothing = splat(0.0)
    total_k = nothing
    total_0 = nothing
    total_1 = nothing
    total_2 = nothing
    at_0 = splat(y0)
    at_1 = splat(y1)
    at_2 = splat(y2)
    for m in range(0, count, LANES):
        d0 = sub(load(points, m), at_0)
        d1 = sub(load(points, count + m), at_1)
        d2 = sub(load(points, 2 * count + m), at_2)
        square = fma(d2, d2, fma(d1, d1, mul(d0, d0)))
        k = mul(load(weights, m), exp(sub(nothing, square)))
        total_k = add(total_k, k)
        total_0 = fma(k, d0, total_0)
        total_1 = fma(k, d1, total_1)
        total_2 = fma(k, d2, total_2)
    return total(total_k), 2.0 * total(total_0), 2.0 * total(total_1), 2.0 * total(total_2)


@compiled
def _own(orders: np.ndarray, y: np.ndarray, gradient: np.ndarray) -> float:
    """Return S = sum over permutations of exp(-|y_p - y|^2), and write its gradient by y."""
    result = 0.0
    gradient[:] = 0.0
    for p in range(orders.shape[0]):
        square = 0.0
        for k in range(3):
            square += (y[orders[p, k]] - y[k]) ** 2
        value = math.exp(-square)
        result += value
        for k in range(3):
            slope = -2.0 * (y[orders[p, k]] - y[k]) * value
            gradient[orders[p, k]] += slope
            gradient[k] -= slope
    return result


@compiled
def _neighbours_of(
    i: int,
    kind: int,
    wanted: np.ndarray,
    cutoff: float,
    width: float,
    numbers: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    pairs: np.ndarray,
    radius: np.ndarray,
    fall: np.ndarray,
) -> int:
    """Write pair, distance and cutoff function (value, slope) of the neighbours that can be in a triplet."""
    centre = numbers[i]
    if kind == ANGLE:
        if centre != wanted[0]:
            return 0
    elif centre != wanted[0] and centre != wanted[1] and centre != wanted[2]:
        return 0
    count = 0
    for p in range(first[i], first[i + 1]):
        r = distance[p]
        if r >= cutoff:
            continue
        number = numbers[neighbour[p]]
        if number != wanted[1] and number != wanted[2] and (kind == ANGLE or number != wanted[0]):
            continue
        pairs[count] = p
        radius[count] = r
        fall[count, 0], fall[count, 1] = cutoff_function(r, cutoff, width)
        count += 1
    return count


@compiled
def _slots(kind: int, wanted: np.ndarray, centre: int, a: int, b: int, slots: np.ndarray) -> bool:
    """Return whether three elements are a triplet of the term.

    Writes which component of the descriptor the distances centre-a, centre-b and a-b are. QUIP sorts the atoms
    of a triplet by element, all of them or (compact clusters) those that are not the centre.
    """
    slots[0] = 0
    slots[1] = 1
    slots[2] = 2
    if kind == ANGLE:
        return (a == wanted[1] and b == wanted[2]) or (a == wanted[2] and b == wanted[1])
    low = min(centre, a, b)
    high = max(centre, a, b)
    middle = centre + a + b - low - high
    if low != wanted[0] or middle != wanted[1] or high != wanted[2]:
        return False
    if kind == COMPACT:
        if a > b:
            slots[0] = 1
            slots[1] = 0
        return True
    # places of centre, a and b; atoms of one element may change places, the kernel is symmetric in them
    place_a = int(centre <= a) + int(b < a)
    place_b = int(centre <= b) + int(a <= b)
    place_c = 3 - place_a - place_b
    # the distances are r01, r02, r12
    slots[0] = place_c + place_a - 1
    slots[1] = place_c + place_b - 1
    slots[2] = place_a + place_b - 1
    return True


@compiled
def _weight(
    kind: int, fall: np.ndarray, a: int, b: int, r: float, cutoff: float, width: float
) -> tuple[float, float, float, float]:
    """Return the factor of a triplet seen from its centre, and its slopes by the three distances.

    QUIP lists a triplet of `angle_3b` twice. A triplet of closed clusters is listed once, with the factor
    f_ia f_ib + f_ia f_ab + f_ib f_ab - 2 f_ia f_ib f_ab; what is returned, summed over its three atoms as
    centres, is that.
    """
    fa = fall[a, 0]
    fb = fall[b, 0]
    da = fall[a, 1]
    db = fall[b, 1]
    if kind == ANGLE:
        return 2.0 * fa * fb, 2.0 * da * fb, 2.0 * fa * db, 0.0
    if kind == COMPACT:
        return fa * fb, da * fb, fa * db, 0.0
    fc, dc = cutoff_function(r, cutoff, width)
    third = 1.0 - 2.0 / 3.0 * fc
    return fa * fb * third, da * fb * third, fa * db * third, -2.0 / 3.0 * fa * fb * dc


@compiled
def _descriptor(
    kind: int,
    ra: float,
    rb: float,
    rc: float,
    slots: np.ndarray,
    scale: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
) -> None:
    """Write the descriptor and the descriptor times `scale`."""
    if kind == ANGLE:
        x[0] = ra + rb
        x[1] = (ra - rb) ** 2
        x[2] = rc
    else:
        x[slots[0]] = ra
        x[slots[1]] = rb
        x[slots[2]] = rc
    for k in range(3):
        y[k] = x[k] * scale[k]


@compiled
def add_triplets(
    offsets: np.ndarray,
    numbers: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    kind: int,
    wanted_numbers: np.ndarray,
    cutoff: float,
    width: float,
    orders: np.ndarray,
    scale: np.ndarray,
    points: np.ndarray,
    weights: np.ndarray,
    f0: float,
    wanted: bool,
    energies: np.ndarray,
    forces: np.ndarray,
    virials: np.ndarray,
) -> None:
    """Add the energies of triplets.

    Parameters
    ----------
    wanted_numbers : (3,)
        Elements of the term.
    orders : (n, 3)
        Permutations of the descriptor.
    scale : (3,)
        1 / (theta sqrt(2)).
    points, weights : (3 K,), (K,)
        Scaled sparse points in all permutations, first components first, and alpha delta^2 times their
        factors, eV. K is a multiple of eight; surplus points have no weight.
    f0
        f0^2 times the sum of the coefficients, eV.
    """
    most = 0
    for i in range(numbers.shape[0]):
        most = max(most, first[i + 1] - first[i])
    pairs = np.empty(most, dtype=np.int64)
    radius = np.empty(most)
    fall = np.empty((most, 2))
    pull = np.empty((most, 3))
    share = np.empty(most)
    slots = np.empty(3, dtype=np.int64)
    x = np.empty(3)
    y = np.empty(3)
    own_slope = np.empty(3)
    g = np.empty(3)
    for c in range(offsets.shape[0] - 1):
        for i in range(offsets[c], offsets[c + 1]):
            count = _neighbours_of(
                i, kind, wanted_numbers, cutoff, width, numbers, first, neighbour, vector, distance, pairs,
                radius, fall,
            )  # fmt: skip
            if count < 2:
                continue
            pull[:count] = 0.0
            share[:count] = 0.0
            energy = 0.0
            for b in range(1, count):
                q = pairs[b]
                rb = radius[b]
                for a in range(b):
                    p = pairs[a]
                    if not _slots(
                        kind, wanted_numbers, numbers[i], numbers[neighbour[p]], numbers[neighbour[q]], slots
                    ):
                        continue
                    ra = radius[a]
                    dx = vector[p, 0] - vector[q, 0]
                    dy = vector[p, 1] - vector[q, 1]
                    dz = vector[p, 2] - vector[q, 2]
                    rc = math.sqrt(dx * dx + dy * dy + dz * dz)
                    factor, fall_a, fall_b, fall_c = _weight(kind, fall, a, b, rc, cutoff, width)
                    _descriptor(kind, ra, rb, rc, slots, scale, x, y)
                    value, g[0], g[1], g[2] = _sum_points(points, weights, y[0], y[1], y[2])
                    if orders.shape[0] > 1:
                        own = _own(orders, y, own_slope)
                        root = 1.0 / math.sqrt(own)
                        value *= root
                        for k in range(3):
                            g[k] = g[k] * root - 0.5 * value * own_slope[k] / own
                    value += f0
                    for k in range(3):
                        g[k] *= scale[k]
                    part = factor * value
                    if kind == ANGLE:
                        energy += part
                    else:
                        energy += part / 3.0
                        share[a] += part / 3.0
                        share[b] += part / 3.0
                    if not wanted:
                        continue
                    if kind == ANGLE:
                        by_a = g[0] + 2.0 * (ra - rb) * g[1]
                        by_b = g[0] - 2.0 * (ra - rb) * g[1]
                        by_c = g[2]
                    else:
                        by_a = g[slots[0]]
                        by_b = g[slots[1]]
                        by_c = g[slots[2]]
                    by_a = (factor * by_a + fall_a * value) / ra
                    by_b = (factor * by_b + fall_b * value) / rb
                    by_c = (factor * by_c + fall_c * value) / rc
                    pull[a, 0] += by_a * vector[p, 0] + by_c * dx
                    pull[a, 1] += by_a * vector[p, 1] + by_c * dy
                    pull[a, 2] += by_a * vector[p, 2] + by_c * dz
                    pull[b, 0] += by_b * vector[q, 0] - by_c * dx
                    pull[b, 1] += by_b * vector[q, 1] - by_c * dy
                    pull[b, 2] += by_b * vector[q, 2] - by_c * dz
            energies[i] += energy
            if kind != ANGLE:
                for a in range(count):
                    energies[neighbour[pairs[a]]] += share[a]
            if wanted:
                for a in range(count):
                    p = pairs[a]
                    j = neighbour[p]
                    for k in range(3):
                        forces[j, k] -= pull[a, k]
                        forces[i, k] += pull[a, k]
                        for n in range(3):
                            virials[c, k, n] -= vector[p, k] * pull[a, n]


@compiled
def describe_triplets(
    offsets: np.ndarray,
    numbers: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    kind: int,
    wanted_numbers: np.ndarray,
    cutoff: float,
    width: float,
    fill: bool,
    values: np.ndarray,
    members: np.ndarray,
    factors: np.ndarray,
) -> int:
    """Return how many descriptors there are; if `fill`, write them.

    Parameters
    ----------
    values : (D, 3), members : (D, 3), factors : (D,)
        Descriptors, atoms (centre first), cutoff factors.
    """
    most = 0
    for i in range(numbers.shape[0]):
        most = max(most, first[i + 1] - first[i])
    pairs = np.empty(most, dtype=np.int64)
    radius = np.empty(most)
    fall = np.empty((most, 2))
    slots = np.empty(3, dtype=np.int64)
    x = np.empty(3)
    y = np.empty(3)
    ones = np.ones(3)
    found = 0
    for i in range(numbers.shape[0]):
        count = _neighbours_of(
            i, kind, wanted_numbers, cutoff, width, numbers, first, neighbour, vector, distance, pairs, radius,
            fall,
        )  # fmt: skip
        for b in range(1, count):
            for a in range(b):
                p = pairs[a]
                q = pairs[b]
                j = neighbour[p]
                k = neighbour[q]
                if not _slots(kind, wanted_numbers, numbers[i], numbers[j], numbers[k], slots):
                    continue
                square = 0.0
                for n in range(3):
                    square += (vector[p, n] - vector[q, n]) ** 2
                rc = math.sqrt(square)
                factor = fall[a, 0] * fall[b, 0]
                if kind == CLOSED and rc < cutoff:
                    # seen from all three atoms: listed at the one that comes first
                    if j < i or (j == i and not precedes(vector[p])):
                        continue
                    if k < i or (k == i and not precedes(vector[q])):
                        continue
                    fc = cutoff_function(rc, cutoff, width)[0]
                    factor += fc * (fall[a, 0] + fall[b, 0] - 2.0 * factor)
                for _ in range(2 if kind == ANGLE else 1):
                    if fill:
                        _descriptor(kind, radius[a], radius[b], rc, slots, ones, x, y)
                        for n in range(3):
                            values[found, n] = x[n]
                        members[found, 0] = i
                        members[found, 1] = j
                        members[found, 2] = k
                        factors[found] = factor
                    found += 1
    return found
