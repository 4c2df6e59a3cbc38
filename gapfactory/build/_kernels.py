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
def shortest_ratio(lattice: Any, fractional: Any, instances: Any, movable: Any, separation: Any) -> Any:
    """Smallest distance over minimum separation of all pairs, atoms with their own images included.

    Pairs of which neither can move are left out.

    Two atoms of one instance, i.e. of one copy of a unit, count with each other's further images only; coordinates
    are not wrapped, so that the difference of theirs is the vector within the unit.
    """
    n = fractional.shape[0]
    own = np.inf
    largest = 0.0
    for i in range(n):
        if movable[i] > 0.0:
            own = min(own, 1.0 / separation[i, i])
        for j in range(n):
            largest = max(largest, separation[i, j])
    if own == np.inf:
        return own
    best = shortest_lattice_vector(lattice) * own
    heights = _heights(lattice)
    reach = best * largest
    n0 = int(reach / heights[0] + 0.5)
    n1 = int(reach / heights[1] + 0.5)
    n2 = int(reach / heights[2] + 0.5)
    for i in range(n):
        for j in range(i + 1, n):
            if movable[i] + movable[j] == 0.0:
                continue
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
def _limited(v: Any, most: float) -> Any:
    """Return the vector, no longer than this."""
    length = np.sqrt(_norm2(v))
    return v * (most / length) if length > most else v


@compiled
def _move_body(lattice: Any, inverse: Any, points: Any, shifts: Any) -> None:
    """Move a body by the sum of the shifts that its atoms ask for, and turn it by their moment about its centre.

    Neither moves an atom further than the largest of these shifts.
    """
    m = points.shape[0]
    position = _cartesian(lattice, points)
    shift = _cartesian(lattice, shifts)
    centre = np.zeros(3)
    for o in range(m):
        for a in range(3):
            centre[a] += position[o, a] / m
    whole, moment = np.zeros(3), np.zeros(3)
    largest, arm, radius = 0.0, 0.0, 0.0
    for o in range(m):
        x, y, z = position[o, 0] - centre[0], position[o, 1] - centre[1], position[o, 2] - centre[2]
        away = x * x + y * y + z * z
        radius = max(radius, np.sqrt(away))
        length = np.sqrt(_norm2(shift[o]))
        if length == 0.0:
            continue
        largest = max(largest, length)
        arm += away
        for a in range(3):
            whole[a] += shift[o, a]
        moment[0] += y * shift[o, 2] - z * shift[o, 1]
        moment[1] += z * shift[o, 0] - x * shift[o, 2]
        moment[2] += x * shift[o, 1] - y * shift[o, 0]
    if largest == 0.0:
        return
    whole = _limited(whole, largest)
    turn = np.zeros(3)
    if arm > 0.0:
        turn = _limited(moment / arm, largest / radius)
    angle = np.sqrt(_norm2(turn))
    axis = turn / angle if angle > 0.0 else turn
    cosine, sine = np.cos(angle), np.sin(angle)
    for o in range(m):
        x, y, z = position[o, 0] - centre[0], position[o, 1] - centre[1], position[o, 2] - centre[2]
        along = (axis[0] * x + axis[1] * y + axis[2] * z) * (1.0 - cosine)
        position[o, 0] = cosine * x + sine * (axis[1] * z - axis[2] * y) + along * axis[0]
        position[o, 1] = cosine * y + sine * (axis[2] * x - axis[0] * z) + along * axis[1]
        position[o, 2] = cosine * z + sine * (axis[0] * y - axis[1] * x) + along * axis[2]
        for a in range(3):
            position[o, a] += centre[a] + whole[a]
    points[:] = _cartesian(inverse, position)


@compiled
def _outside(half_axes: Any, x: Any, correction: Any) -> Any:
    """How far (Å) a point is outside the ellipsoid about the origin; an infinite half axis does not confine.

    `correction` receives the displacement that brings it back to the wall along the finite axes.
    """
    scaled = 0.0
    for a in range(3):
        correction[a] = 0.0
        scaled += (x[a] / half_axes[a]) ** 2
    if scaled <= 1.0:
        return 0.0
    factor = 1.0 / np.sqrt(scaled) - 1.0
    for a in range(3):
        if half_axes[a] < np.inf:
            correction[a] = factor * x[a]
    return np.sqrt(_norm2(correction))


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
    movable: Any,
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
    rotations, inverse_rotations
        Rotations of the operations on fractional coordinates, (g, 3, 3).
    translations
        Their translations for each orbit, (o, g, 3), lattice translations included, so that every copy of a body is
        whole.
    points
        One fractional point per orbit of atoms, (o, 3); of a body that operations leave in place, one per atom.
    members
        Atom on which operation g puts the point of orbit o, (o, g).
    orders
        Number of operations that act on each orbit, (o,): all, or only the identity for one without symmetry.
    bodies
        Body of each point, (o,), ascending; the points of one body keep their distances.
    instances
        Copy of a unit that each atom belongs to, (n,); pairs of one copy are pushed apart only from further images.
    movable
        1.0 for each atom that moves, 0.0 for others, (n,): those leave the whole way to their partners, and contacts
        among them are left alone.
    half_axes
        Atoms are brought into the ellipsoid about the origin with these half axes, (3,), Å; infinite: free.
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
    correction = np.zeros(3)
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
                    fractional[i, a] = translations[o, g, a]
                    for b in range(3):
                        fractional[i, a] += rotations[g, a, b] * current[o, b]
        displacement[:] = 0.0
        overlap = 0.0
        for i in range(n):
            for j in range(i + 1, n):
                if movable[i] + movable[j] == 0.0:
                    continue
                share_i = movable[i] / (movable[i] + movable[j])
                share_j = 1.0 - share_i
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
                            amount = np.sqrt(limit2 - d2) / d
                            displacement[i, 0] -= share_i * amount * x
                            displacement[i, 1] -= share_i * amount * y
                            displacement[i, 2] -= share_i * amount * z
                            displacement[j, 0] += share_j * amount * x
                            displacement[j, 1] += share_j * amount * y
                            displacement[j, 2] += share_j * amount * z
        if confined:
            position = _cartesian(lattice, fractional)
            for i in range(n):
                out = _outside(half_axes, position[i], correction)
                if out > 1e-9:
                    overlap += out / largest
                    for a in range(3):  # twice the way: a wall does not meet one half-way as a partner does
                        displacement[i, a] += 2.0 * correction[a]
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
            first = last
        steps += 1
        if moved < 1e-12:  # only sites without freedom overlap
            break
    for o in range(n_orbits):
        for g in range(orders[o]):
            i = members[o, g]
            for a in range(3):
                fractional[i, a] = translations[o, g, a]
                for b in range(3):
                    fractional[i, a] += rotations[g, a, b] * best_points[o, b]
    return fractional, best_points, steps
