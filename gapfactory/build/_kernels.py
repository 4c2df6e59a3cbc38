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
def shortest_ratio(lattice: Any, fractional: Any, instances: Any, separation: Any) -> Any:
    """Smallest distance over minimum separation of all pairs, atoms with their own images included.

    Two atoms of one instance, i.e. of one copy of a unit, count with each other's further images only; coordinates
    are not wrapped, so that the difference of theirs is the vector within the unit.
    """
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
            w0, w1, w2 = np.rint(f0), np.rint(f1), np.rint(f2)
            f0 -= w0
            f1 -= w1
            f2 -= w2
            together = instances[i] == instances[j]
            nearest = np.inf
            for a in range(-n0, n0 + 1):
                for b in range(-n1, n1 + 1):
                    for c in range(-n2, n2 + 1):
                        if together and a == w0 and b == w1 and c == w2:
                            continue
                        g0, g1, g2 = f0 + a, f1 + b, f2 + c
                        x = g0 * lattice[0, 0] + g1 * lattice[1, 0] + g2 * lattice[2, 0]
                        y = g0 * lattice[0, 1] + g1 * lattice[1, 1] + g2 * lattice[2, 1]
                        z = g0 * lattice[0, 2] + g1 * lattice[1, 2] + g2 * lattice[2, 2]
                        nearest = min(nearest, x * x + y * y + z * z)
            best = min(best, np.sqrt(nearest) / separation[i, j])
    return best


@compiled
def _cartesian(lattice: Any, fractional: Any) -> Any:
    result = np.zeros((fractional.shape[0], 3))
    for o in range(fractional.shape[0]):
        for a in range(3):
            for k in range(3):
                result[o, a] += fractional[o, k] * lattice[k, a]
    return result


@compiled
def _solve3(matrix: Any, right: Any) -> Any:
    """Solve a symmetric positive definite system of three equations by Cramer's rule."""
    a, b, c = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    d, e, f = matrix[1, 1], matrix[1, 2], matrix[2, 2]
    p, q, r = d * f - e * e, c * e - b * f, b * e - c * d
    s, t, u = a * f - c * c, b * c - a * e, a * d - b * b
    determinant = a * p + b * q + c * r
    result = np.empty(3)
    result[0] = (p * right[0] + q * right[1] + r * right[2]) / determinant
    result[1] = (q * right[0] + s * right[1] + t * right[2]) / determinant
    result[2] = (r * right[0] + t * right[1] + u * right[2]) / determinant
    return result


@compiled
def _move_body(lattice: Any, inverse: Any, points: Any, shifts: Any) -> None:
    """Move a body by the mean shift of its touched atoms and turn it as their shifts about its centre ask.

    The turn is the one that fits those shifts best; it is limited to half a radian.
    """
    m = points.shape[0]
    position = _cartesian(lattice, points)
    shift = _cartesian(lattice, shifts)
    centre = np.zeros(3)
    mean = np.zeros(3)
    touched = 0
    for o in range(m):
        for a in range(3):
            centre[a] += position[o, a] / m
            mean[a] += shift[o, a]
        if _norm2(shift[o]) > 0.0:
            touched += 1
    if touched == 0:
        return
    for a in range(3):
        mean[a] /= touched
    torque = np.zeros(3)
    inertia = np.zeros((3, 3))
    for o in range(m):
        for a in range(3):
            position[o, a] -= centre[a]
        x, y, z = position[o, 0], position[o, 1], position[o, 2]
        if _norm2(shift[o]) > 0.0:
            u, v, w = shift[o, 0] - mean[0], shift[o, 1] - mean[1], shift[o, 2] - mean[2]
            torque[0] += y * w - z * v
            torque[1] += z * u - x * w
            torque[2] += x * v - y * u
        for a in range(3):
            inertia[a, a] += _norm2(position[o]) * touched / m
            for b in range(3):
                inertia[a, b] -= position[o, a] * position[o, b] * touched / m
    trace = inertia[0, 0] + inertia[1, 1] + inertia[2, 2]
    for a in range(3):  # a line does not resist turning about itself
        inertia[a, a] += 1e-3 * trace
    turn = _solve3(inertia, torque)
    angle = np.sqrt(_norm2(turn))
    axis = turn / angle if angle > 0.0 else turn
    angle = min(angle, 0.5)
    cosine, sine = np.cos(angle), np.sin(angle)
    for o in range(m):
        x, y, z = position[o, 0], position[o, 1], position[o, 2]
        along = (axis[0] * x + axis[1] * y + axis[2] * z) * (1.0 - cosine)
        position[o, 0] = (
            cosine * x + sine * (axis[1] * z - axis[2] * y) + along * axis[0] + centre[0] + mean[0]
        )
        position[o, 1] = (
            cosine * y + sine * (axis[2] * x - axis[0] * z) + along * axis[1] + centre[1] + mean[1]
        )
        position[o, 2] = (
            cosine * z + sine * (axis[0] * y - axis[1] * x) + along * axis[2] + centre[2] + mean[2]
        )
    points[:] = _cartesian(inverse, position)


@compiled
def _confine(lattice: Any, inverse: Any, half_axes: Any, points: Any) -> None:
    """Bring the centre of a body back into an ellipsoid about the origin, along the ellipsoid's radius."""
    m = points.shape[0]
    position = _cartesian(lattice, points)
    centre = np.zeros(3)
    for o in range(m):
        for a in range(3):
            centre[a] += position[o, a] / m
    reach = 0.0
    for a in range(3):
        reach += (centre[a] / half_axes[a]) ** 2
    reach = np.sqrt(reach)
    if reach <= 1.0:
        return
    for a in range(3):
        if np.isfinite(half_axes[a]):
            back = centre[a] * (1.0 - 1.0 / reach)
            for o in range(m):
                position[o, a] -= back
    points[:] = _cartesian(inverse, position)


@compiled
def push(
    lattice: Any,
    inverse: Any,
    rotations: Any,
    inverse_rotations: Any,
    translations: Any,
    points: Any,
    members: Any,
    orders: Any,
    bodies: Any,
    instances: Any,
    half_axes: Any,
    separation: Any,
    step: float,
    stall: int,
) -> Any:
    """Push atoms apart, symmetry kept, until no pair is nearer than its separation or progress stalls.

    Every pair nearer than d1 moves apart along its connection by sqrt(d1^2 - d^2) / 2 each, times `step`;
    displacements are averaged over the operations, so each orbit moves as one (AIRSS's put-and-shake,
    described in its manual); a body of several atoms moves and turns as a whole. Progress is fewer contacts or less
    total overlap.

    Parameters
    ----------
    lattice, inverse
        Rows and their inverse, (3, 3).
    rotations, inverse_rotations, translations
        Operations on fractional coordinates, (g, 3, 3), (g, 3, 3), (g, 3).
    points
        One fractional point per orbit of atoms, (o, 3).
    members
        Atom on which operation g puts the point of orbit o, (o, g).
    orders
        Number of operations that act on each orbit, (o,): all, or only the identity for one without symmetry.
    bodies
        Body of each point, (o,), ascending; the points of one body keep their distances.
    instances
        Copy of a unit that each atom belongs to, (n,); pairs of one copy are pushed apart only from further images.
    half_axes
        Points are kept within the ellipsoid about the origin with these half axes, (3,), Å; infinite: free.
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
    n_orbits = members.shape[0]
    confined = np.isfinite(half_axes).any()
    heights = _heights(lattice)
    largest = separation.max()
    n0 = int(largest / heights[0] + 0.5)
    n1 = int(largest / heights[1] + 0.5)
    n2 = int(largest / heights[2] + 0.5)
    fractional = np.zeros((n, 3))
    displacement = np.zeros((n, 3))
    shifts = np.zeros((n_orbits, 3))
    current = points.copy()
    best_points = points.copy()
    best_overlap = np.inf
    since = 0
    steps = 0
    while True:
        for o in range(n_orbits):
            for g in range(orders[o]):
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
                w0, w1, w2 = np.rint(f0), np.rint(f1), np.rint(f2)
                f0 -= w0
                f1 -= w1
                f2 -= w2
                together = instances[i] == instances[j]
                for a in range(-n0, n0 + 1):
                    for b in range(-n1, n1 + 1):
                        for c in range(-n2, n2 + 1):
                            g0, g1, g2 = f0 + a, f1 + b, f2 + c
                            x = g0 * lattice[0, 0] + g1 * lattice[1, 0] + g2 * lattice[2, 0]
                            y = g0 * lattice[0, 1] + g1 * lattice[1, 1] + g2 * lattice[2, 1]
                            z = g0 * lattice[0, 2] + g1 * lattice[1, 2] + g2 * lattice[2, 2]
                            d2 = x * x + y * y + z * z
                            if d2 >= limit2 or (together and a == w0 and b == w1 and c == w2):
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
            for g in range(orders[o]):
                i = members[o, g]
                for a in range(3):
                    part = 0.0
                    for k in range(3):
                        part += displacement[i, k] * inverse[k, a]
                    for b in range(3):
                        shift[b] += inverse_rotations[g, b, a] * part
            for a in range(3):
                shift[a] *= step / orders[o]
                shifts[o, a] = shift[a]
                current[o, a] += shift[a]
                moved = max(moved, abs(shift[a]))
        first = 0
        while first < n_orbits:
            last = first + 1
            while last < n_orbits and bodies[last] == bodies[first]:
                last += 1
            if last - first > 1:
                for o in range(first, last):
                    for a in range(3):
                        current[o, a] -= shifts[o, a]
                _move_body(lattice, inverse, current[first:last], shifts[first:last])
            if confined:
                _confine(lattice, inverse, half_axes, current[first:last])
            first = last
        steps += 1
        if moved < 1e-12:  # only sites without freedom overlap
            break
    for o in range(n_orbits):
        for g in range(orders[o]):
            i = members[o, g]
            for a in range(3):
                fractional[i, a] = translations[g, a]
                for b in range(3):
                    fractional[i, a] += rotations[g, a, b] * best_points[o, b]
    return fractional, best_points, steps
