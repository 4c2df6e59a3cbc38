"""Compiled loops over periodic images. Imported only when a cell is built.

Fractional coordinates refer to the rows of `lattice`; `separation` is (n, n) in Å. Differences are wrapped to
[-1/2, 1/2] and images are searched as far as the heights of the cell require, so the result does not rest on
the lattice being reduced; reduction only makes it fast.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gapfactory.compiled import compiled

__all__ = ["minkowski", "push", "shortest_lattice_vector", "shortest_ratio"]


@compiled
def _norm2(v: Any) -> Any:
    return v[0] * v[0] + v[1] * v[1] + v[2] * v[2]


@compiled
def _heights(lattice: Any) -> Any:
    """Distances between opposite faces."""
    cross = np.empty((3, 3))
    for k in range(3):
        a = lattice[(k + 1) % 3]
        b = lattice[(k + 2) % 3]
        cross[k, 0] = a[1] * b[2] - a[2] * b[1]
        cross[k, 1] = a[2] * b[0] - a[0] * b[2]
        cross[k, 2] = a[0] * b[1] - a[1] * b[0]
    volume = abs(lattice[0, 0] * cross[0, 0] + lattice[0, 1] * cross[0, 1] + lattice[0, 2] * cross[0, 2])
    heights = np.empty(3)
    for k in range(3):
        heights[k] = volume / np.sqrt(cross[k, 0] ** 2 + cross[k, 1] ** 2 + cross[k, 2] ** 2)
    return heights


@compiled
def minkowski(lattice: Any) -> Any:
    """Return the integer transformation to a Minkowski-reduced basis (rows, ascending lengths), as floats.

    Each vector, longest first, is shortened by that combination of the two others, with coefficients -1, 0, 1,
    which shortens it most, until none does: such a basis is Minkowski-reduced in three dimensions (I. Semaev,
    Lect. Notes Comput. Sci. 2146, 181 (2001)).
    """
    basis = lattice.copy()
    transformation = np.eye(3)
    while True:
        # insertion sort by length, stable
        for k in range(1, 3):
            m = k
            while m > 0 and _norm2(basis[m]) < _norm2(basis[m - 1]) * (1.0 - 1e-12):
                for a in range(3):
                    basis[m, a], basis[m - 1, a] = basis[m - 1, a], basis[m, a]
                    transformation[m, a], transformation[m - 1, a] = (
                        transformation[m - 1, a],
                        transformation[m, a],
                    )
                m -= 1
        shortened = False
        for k in range(2, -1, -1):
            i, j = (k + 1) % 3, (k + 2) % 3
            best = _norm2(basis[k]) * (1.0 - 1e-12)
            best_p, best_q = 0, 0
            for p in range(-1, 2):
                for q in range(-1, 2):
                    length = _norm2(basis[k] + p * basis[i] + q * basis[j])
                    if length < best:
                        best, best_p, best_q = length, p, q
            if best_p != 0 or best_q != 0:
                basis[k] += best_p * basis[i] + best_q * basis[j]
                transformation[k] += best_p * transformation[i] + best_q * transformation[j]
                shortened = True
                break
        if not shortened:
            return transformation


@compiled
def shortest_lattice_vector(lattice: Any) -> Any:
    """Length of the shortest non-zero lattice vector."""
    best = np.inf
    for k in range(3):
        length = np.sqrt(lattice[k, 0] ** 2 + lattice[k, 1] ** 2 + lattice[k, 2] ** 2)
        best = min(best, length)
    heights = _heights(lattice)
    n0, n1, n2 = int(best / heights[0]), int(best / heights[1]), int(best / heights[2])
    for i in range(-n0, n0 + 1):
        for j in range(-n1, n1 + 1):
            for k in range(-n2, n2 + 1):
                if i == 0 and j == 0 and k == 0:
                    continue
                x = i * lattice[0, 0] + j * lattice[1, 0] + k * lattice[2, 0]
                y = i * lattice[0, 1] + j * lattice[1, 1] + k * lattice[2, 1]
                z = i * lattice[0, 2] + j * lattice[1, 2] + k * lattice[2, 2]
                best = min(best, np.sqrt(x * x + y * y + z * z))
    return best


@compiled
def shortest_ratio(lattice: Any, fractional: Any, separation: Any) -> Any:
    """Smallest distance over minimum separation of all pairs, atoms with their own images included."""
    n = fractional.shape[0]
    own = np.inf
    largest = 0.0
    for i in range(n):
        own = min(own, 1.0 / separation[i, i])
        for j in range(n):
            largest = max(largest, separation[i, j])
    best = shortest_lattice_vector(lattice) * own
    heights = _heights(lattice)
    reach = best * largest
    n0 = int(reach / heights[0] + 0.5)
    n1 = int(reach / heights[1] + 0.5)
    n2 = int(reach / heights[2] + 0.5)
    for i in range(n):
        for j in range(i + 1, n):
            f0 = fractional[j, 0] - fractional[i, 0]
            f1 = fractional[j, 1] - fractional[i, 1]
            f2 = fractional[j, 2] - fractional[i, 2]
            f0 -= np.rint(f0)
            f1 -= np.rint(f1)
            f2 -= np.rint(f2)
            nearest = np.inf
            for a in range(-n0, n0 + 1):
                for b in range(-n1, n1 + 1):
                    for c in range(-n2, n2 + 1):
                        g0, g1, g2 = f0 + a, f1 + b, f2 + c
                        x = g0 * lattice[0, 0] + g1 * lattice[1, 0] + g2 * lattice[2, 0]
                        y = g0 * lattice[0, 1] + g1 * lattice[1, 1] + g2 * lattice[2, 1]
                        z = g0 * lattice[0, 2] + g1 * lattice[1, 2] + g2 * lattice[2, 2]
                        nearest = min(nearest, x * x + y * y + z * z)
            best = min(best, np.sqrt(nearest) / separation[i, j])
    return best


@compiled
def push(
    lattice: Any,
    inverse: Any,
    rotations: Any,
    inverse_rotations: Any,
    translations: Any,
    points: Any,
    members: Any,
    separation: Any,
    step: float,
    stall: int,
) -> Any:
    """Push atoms apart, symmetry kept, until no pair is nearer than its separation or progress stalls.

    Every pair nearer than d1 moves apart along its connection by sqrt(d1^2 - d^2) / 2 each, times `step`;
    displacements are averaged over the operations, so each orbit moves as one (AIRSS's put-and-shake,
    described in its manual). Progress is fewer contacts or less total overlap.

    Parameters
    ----------
    lattice, inverse
        Rows and their inverse, (3, 3).
    rotations, inverse_rotations, translations
        Operations on fractional coordinates, (g, 3, 3), (g, 3, 3), (g, 3).
    points
        One fractional point per orbit, (o, 3).
    members
        Atom on which operation g puts the point of orbit o, (o, g).
    separation
        Minimum separations, (n, n), Å.
    step, stall
        Length of a step, and number of steps without progress that ends the pushing.

    Returns
    -------
    fractional, points, steps
        Coordinates with the least overlap seen, (n, 3), their orbit points, and the number of steps done.
    """
    n = separation.shape[0]
    n_orbits, order = members.shape
    heights = _heights(lattice)
    largest = separation.max()
    n0 = int(largest / heights[0] + 0.5)
    n1 = int(largest / heights[1] + 0.5)
    n2 = int(largest / heights[2] + 0.5)
    fractional = np.zeros((n, 3))
    displacement = np.zeros((n, 3))
    current = points.copy()
    best_points = points.copy()
    best_overlap = np.inf
    since = 0
    steps = 0
    while True:
        for o in range(n_orbits):
            for g in range(order):
                i = members[o, g]
                for a in range(3):
                    fractional[i, a] = translations[g, a]
                    for b in range(3):
                        fractional[i, a] += rotations[g, a, b] * current[o, b]
        displacement[:] = 0.0
        overlap = 0.0
        for i in range(n):
            for j in range(i + 1, n):
                limit = separation[i, j]
                limit2 = limit * limit
                f0 = fractional[j, 0] - fractional[i, 0]
                f1 = fractional[j, 1] - fractional[i, 1]
                f2 = fractional[j, 2] - fractional[i, 2]
                f0 -= np.rint(f0)
                f1 -= np.rint(f1)
                f2 -= np.rint(f2)
                for a in range(-n0, n0 + 1):
                    for b in range(-n1, n1 + 1):
                        for c in range(-n2, n2 + 1):
                            g0, g1, g2 = f0 + a, f1 + b, f2 + c
                            x = g0 * lattice[0, 0] + g1 * lattice[1, 0] + g2 * lattice[2, 0]
                            y = g0 * lattice[0, 1] + g1 * lattice[1, 1] + g2 * lattice[2, 1]
                            z = g0 * lattice[0, 2] + g1 * lattice[1, 2] + g2 * lattice[2, 2]
                            d2 = x * x + y * y + z * z
                            if d2 >= limit2:
                                continue
                            d = np.sqrt(d2)
                            overlap += 1.0 - d / limit
                            if d < 1e-8:  # coincident: no direction; whatever else acts must part them
                                continue
                            amount = 0.5 * np.sqrt(limit2 - d2) / d
                            displacement[i, 0] -= amount * x
                            displacement[i, 1] -= amount * y
                            displacement[i, 2] -= amount * z
                            displacement[j, 0] += amount * x
                            displacement[j, 1] += amount * y
                            displacement[j, 2] += amount * z
        if overlap < best_overlap * (1.0 - 1e-3):
            since = 0
        else:
            since += 1
        if overlap < best_overlap:
            best_overlap = overlap
            best_points[:] = current
        if overlap == 0.0 or since > stall:
            break
        moved = 0.0
        for o in range(n_orbits):
            shift = np.zeros(3)
            for g in range(order):
                i = members[o, g]
                for a in range(3):
                    part = 0.0
                    for k in range(3):
                        part += displacement[i, k] * inverse[k, a]
                    for b in range(3):
                        shift[b] += inverse_rotations[g, b, a] * part
            for a in range(3):
                shift[a] *= step / order
                current[o, a] += shift[a]
                moved = max(moved, abs(shift[a]))
        steps += 1
        if moved < 1e-12:  # only sites without freedom overlap
            break
    for o in range(n_orbits):
        for g in range(order):
            i = members[o, g]
            for a in range(3):
                fractional[i, a] = translations[g, a]
                for b in range(3):
                    fractional[i, a] += rotations[g, a, b] * best_points[o, b]
    return fractional, best_points, steps
