"""Compiled covariances of triplets with every sparse point. Imported lazily: numba takes a second to load."""

from __future__ import annotations

import math

import numpy as np

from gapfactory.compiled import compiled
from gapfactory.potentials.gap.engine._exp import exp
from gapfactory.potentials.gap.engine._simd import LANES, add, fma, load, mul, splat, store, sub
from gapfactory.potentials.gap.engine._triplet import (
    ANGLE,
    _descriptor,
    _neighbours_of,
    _own,
    _slots,
    _weight,
)

__all__ = ["add_triplet_rows"]


@compiled
def _add_triplet(
    count: int,
    points: np.ndarray,
    weights: np.ndarray,
    f0: np.ndarray,
    y: np.ndarray,
    root: float,
    own_slope: np.ndarray,
    factor: float,
    shares: np.ndarray,
    into_a: int,
    into_b: int,
    energy: np.ndarray,
    pull: np.ndarray,
) -> None:
    """Add a triplet to the energy row and to the derivatives by its two neighbours.

    Parameters
    ----------
    count
        Sparse points, a multiple of eight.
    points
        Component by component, permutation by permutation within a component.
    root, own_slope
        1 / sqrt(S), and the gradient of S over 2 S, of the triplet's own normalisation.
    shares : (24,)
        What the kernel and its three slopes contribute: first to the derivatives by the first neighbour's x,
        y, z (four numbers each), then to those by the second's.
    into_a, into_b
        Where their rows begin in `pull`.
    """
    nothing = splat(0.0)
    whole = points.shape[0] // 3
    at_0 = splat(y[0])
    at_1 = splat(y[1])
    at_2 = splat(y[2])
    two = splat(2.0)
    for m in range(0, count, LANES):
        value = nothing
        s0 = nothing
        s1 = nothing
        s2 = nothing
        for p in range(m, whole, count):
            d0 = sub(load(points, p), at_0)
            d1 = sub(load(points, whole + p), at_1)
            d2 = sub(load(points, 2 * whole + p), at_2)
            k = exp(sub(nothing, fma(d2, d2, fma(d1, d1, mul(d0, d0)))))
            value = add(value, k)
            s0 = fma(k, d0, s0)
            s1 = fma(k, d1, s1)
            s2 = fma(k, d2, s2)
        scale = mul(load(weights, m), splat(root))
        value = mul(value, scale)
        scale = mul(scale, two)
        s0 = fma(value, splat(-own_slope[0]), mul(s0, scale))
        s1 = fma(value, splat(-own_slope[1]), mul(s1, scale))
        s2 = fma(value, splat(-own_slope[2]), mul(s2, scale))
        value = add(value, load(f0, m))
        store(energy, m, fma(value, splat(factor), load(energy, m)))
        for n in range(3):
            row = into_a + n * count + m
            more = fma(value, splat(shares[4 * n]), load(pull, row))
            more = fma(s0, splat(shares[4 * n + 1]), more)
            more = fma(s1, splat(shares[4 * n + 2]), more)
            store(pull, row, fma(s2, splat(shares[4 * n + 3]), more))
            row = into_b + n * count + m
            more = fma(value, splat(shares[4 * n + 12]), load(pull, row))
            more = fma(s0, splat(shares[4 * n + 13]), more)
            more = fma(s1, splat(shares[4 * n + 14]), more)
            store(pull, row, fma(s2, splat(shares[4 * n + 15]), more))


@compiled
def add_triplet_rows(
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
    f0: np.ndarray,
    out: np.ndarray,
) -> None:
    """Add the covariances of energy, forces and virial of every cell with every sparse point.

    Parameters
    ----------
    points, weights, f0 : (3 n K,), (K,), (K,)
        Scaled sparse points in all n permutations, first components first; delta^2 and f0^2 times the points'
        factors, eV^2. K is M rounded up to a multiple of eight.
    out : (R, M)
        Rows as in `TripletEngine.rows`.
    """
    most = 0
    for i in range(numbers.shape[0]):
        near = 0
        for p in range(first[i], first[i + 1]):
            if distance[p] < cutoff:
                near += 1
        most = max(most, near)
    n_sparse = out.shape[1]
    padded = weights.shape[0]
    pairs = np.empty(most, dtype=np.int64)
    radius = np.empty(most)
    fall = np.empty((most, 2))
    pull = np.empty(most * 3 * padded)
    energy = np.empty(padded)
    shares = np.empty(24)
    slots = np.empty(3, dtype=np.int64)
    x = np.empty(3)
    y = np.empty(3)
    own_slope = np.empty(3)
    by = np.empty((4, 3))
    between = np.empty(3)
    for c in range(offsets.shape[0] - 1):
        begin = 7 * c + 3 * offsets[c]
        virial = begin + 1 + 3 * (offsets[c + 1] - offsets[c])
        energy[:] = 0.0
        for i in range(offsets[c], offsets[c + 1]):
            count = _neighbours_of(
                i, kind, wanted_numbers, cutoff, width, numbers, first, neighbour, vector, distance, pairs,
                radius, fall,
            )  # fmt: skip
            if count < 2:
                continue
            pull[: count * 3 * padded] = 0.0
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
                    square = 0.0
                    for n in range(3):
                        between[n] = vector[p, n] - vector[q, n]
                        square += between[n] ** 2
                    rc = math.sqrt(square)
                    factor, fall_a, fall_b, fall_c = _weight(kind, fall, a, b, rc, cutoff, width)
                    _descriptor(kind, ra, rb, rc, slots, scale, x, y)
                    root = 1.0
                    own_slope[:] = 0.0
                    if orders.shape[0] > 1:
                        own = _own(orders, y, own_slope)
                        root = 1.0 / math.sqrt(own)
                        for k in range(3):
                            own_slope[k] *= 0.5 / own
                    # row 0: of the value, by the three distances; rows 1 to 3: of the slopes
                    by[:] = 0.0
                    by[0, 0] = fall_a / ra
                    by[0, 1] = fall_b / rb
                    by[0, 2] = fall_c / rc
                    if kind == ANGLE:
                        bend = 2.0 * (ra - rb) * scale[1] * factor
                        by[1, 0] = factor * scale[0] / ra
                        by[1, 1] = factor * scale[0] / rb
                        by[2, 0] = bend / ra
                        by[2, 1] = -bend / rb
                        by[3, 2] = factor * scale[2] / rc
                    else:
                        by[1 + slots[0], 0] = factor * scale[slots[0]] / ra
                        by[1 + slots[1], 1] = factor * scale[slots[1]] / rb
                        by[1 + slots[2], 2] = factor * scale[slots[2]] / rc
                    for k in range(4):
                        for n in range(3):
                            shares[4 * n + k] = by[k, 0] * vector[p, n] + by[k, 2] * between[n]
                            shares[4 * n + 12 + k] = by[k, 1] * vector[q, n] - by[k, 2] * between[n]
                    _add_triplet(
                        padded, points, weights, f0, y, root, own_slope, factor, shares, 3 * a * padded,
                        3 * b * padded, energy, pull,
                    )  # fmt: skip
            for a in range(count):
                p = pairs[a]
                own_row = begin + 1 + 3 * (i - offsets[c])
                row = begin + 1 + 3 * (neighbour[p] - offsets[c])
                vx = vector[p, 0]
                vy = vector[p, 1]
                vz = vector[p, 2]
                place = 3 * a * padded
                for m in range(n_sparse):
                    gx = pull[place + m]
                    gy = pull[place + padded + m]
                    gz = pull[place + 2 * padded + m]
                    out[row, m] -= gx
                    out[row + 1, m] -= gy
                    out[row + 2, m] -= gz
                    out[own_row, m] += gx
                    out[own_row + 1, m] += gy
                    out[own_row + 2, m] += gz
                    out[virial, m] -= vx * gx
                    out[virial + 1, m] -= vy * gy
                    out[virial + 2, m] -= vz * gz
                    out[virial + 3, m] -= vy * gz
                    out[virial + 4, m] -= vx * gz
                    out[virial + 5, m] -= vx * gy
        for m in range(n_sparse):
            out[begin, m] += energy[m]
