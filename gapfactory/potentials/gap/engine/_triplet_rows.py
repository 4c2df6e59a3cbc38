"""Compiled covariances of triplets with every sparse point. Imported lazily: numba takes a second to load."""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gapfactory.potentials.gap.engine._exp import exp
from gapfactory.potentials.gap.engine._triplet import (
    ANGLE,
    _descriptor,
    _neighbours_of,
    _own,
    _slots,
    _weight,
)

__all__ = ["add_triplet_rows"]

_FAST = {"contract", "reassoc", "nsz", "arcp"}


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _kernels(
    points: np.ndarray, y: np.ndarray, weights: np.ndarray, value: np.ndarray, slope: np.ndarray
) -> None:
    """Write the kernels of a descriptor with every sparse point, summed over permutations, and their gradients.

    `points` is (3, n M), permutation by permutation; `slope` (3, M) is by the scaled descriptor.
    """
    n_sparse = value.shape[0]
    y0 = y[0]
    y1 = y[1]
    y2 = y[2]
    for begin in range(0, points.shape[1], n_sparse):
        for m in range(n_sparse):
            d0 = points[0, begin + m] - y0
            d1 = points[1, begin + m] - y1
            d2 = points[2, begin + m] - y2
            k = weights[m] * exp(-(d0 * d0 + d1 * d1 + d2 * d2))
            if begin == 0:
                value[m] = k
                slope[0, m] = 2.0 * k * d0
                slope[1, m] = 2.0 * k * d1
                slope[2, m] = 2.0 * k * d2
            else:
                value[m] += k
                slope[0, m] += 2.0 * k * d0
                slope[1, m] += 2.0 * k * d1
                slope[2, m] += 2.0 * k * d2


@njit(cache=True, nogil=True, error_model="numpy", fastmath=_FAST)
def _pull(
    into_a: np.ndarray,
    into_b: np.ndarray,
    energy: np.ndarray,
    factor: float,
    value: np.ndarray,
    slope: np.ndarray,
    along: np.ndarray,
    away: np.ndarray,
) -> None:
    """Add a triplet to the energy row and to the derivatives by its two neighbours.

    `along` and `away` (4, 3) are what the value and the three slopes contribute to either neighbour.
    """
    for m in range(value.shape[0]):
        k = value[m]
        s0 = slope[0, m]
        s1 = slope[1, m]
        s2 = slope[2, m]
        energy[m] += factor * k
        for n in range(3):
            into_a[n, m] += k * along[0, n] + s0 * along[1, n] + s1 * along[2, n] + s2 * along[3, n]
            into_b[n, m] += k * away[0, n] + s0 * away[1, n] + s1 * away[2, n] + s2 * away[3, n]


@njit(cache=True, nogil=True, error_model="numpy")
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
    points, weights, f0 : (3, n M), (M,), (M,)
        Scaled sparse points in all permutations; delta^2 and f0^2 times the points' factors, eV^2.
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
    n_sparse = weights.shape[0]
    pairs = np.empty(most, dtype=np.int64)
    radius = np.empty(most)
    fall = np.empty((most, 2))
    pull = np.empty((most, 3, n_sparse))
    value = np.empty(n_sparse)
    slope = np.empty((3, n_sparse))
    slots = np.empty(3, dtype=np.int64)
    x = np.empty(3)
    y = np.empty(3)
    own_slope = np.empty(3)
    by = np.empty((4, 3))
    between = np.empty(3)
    along = np.empty((4, 3))
    away = np.empty((4, 3))
    for c in range(offsets.shape[0] - 1):
        begin = 7 * c + 3 * offsets[c]
        virial = begin + 1 + 3 * (offsets[c + 1] - offsets[c])
        for i in range(offsets[c], offsets[c + 1]):
            count = _neighbours_of(
                i, kind, wanted_numbers, cutoff, width, numbers, first, neighbour, vector, distance, pairs,
                radius, fall,
            )  # fmt: skip
            if count < 2:
                continue
            pull[:count] = 0.0
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
                    _kernels(points, y, weights, value, slope)
                    if orders.shape[0] > 1:
                        own = _own(orders, y, own_slope)
                        root = 1.0 / math.sqrt(own)
                        for m in range(n_sparse):
                            value[m] *= root
                            for k in range(3):
                                slope[k, m] = slope[k, m] * root - 0.5 * value[m] * own_slope[k] / own
                    for m in range(n_sparse):
                        value[m] += f0[m]
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
                            along[k, n] = by[k, 0] * vector[p, n] + by[k, 2] * between[n]
                            away[k, n] = by[k, 1] * vector[q, n] - by[k, 2] * between[n]
                    _pull(pull[a], pull[b], out[begin], factor, value, slope, along, away)
            for a in range(count):
                p = pairs[a]
                own_row = begin + 1 + 3 * (i - offsets[c])
                row = begin + 1 + 3 * (neighbour[p] - offsets[c])
                vx = vector[p, 0]
                vy = vector[p, 1]
                vz = vector[p, 2]
                for m in range(n_sparse):
                    gx = pull[a, 0, m]
                    gy = pull[a, 1, m]
                    gz = pull[a, 2, m]
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
