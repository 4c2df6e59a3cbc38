"""Compiled loops over rigid bodies and their periodic images. Imported only when a structure of bodies is built.

A body is a set of atoms that moves as one; an atom alone is a body too. All coordinates are Cartesian (Å), rows of
`lattice` are its vectors. Symmetry operations are x -> C x + t with C orthogonal. Only one body of each orbit is
stored; body `b` of the structure is the image of that of orbit `owner[b]` under operation `by[b]`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from gapfactory.build._kernels import _heights
from gapfactory.compiled import compiled

__all__ = ["body_ratio", "outside", "push_bodies"]


@compiled
def _images(lattice: Any, periodic: Any, reach: float) -> Any:
    """How many images in each direction a sphere of this radius about a wrapped point meets."""
    heights = _heights(lattice)
    n = np.zeros(3, dtype=np.int64)
    for k in range(3):
        if periodic[k]:
            n[k] = int(reach / heights[k] + 0.5)
    return n


@compiled
def _expand(operations: Any, translations: Any, owner: Any, by: Any, centres: Any, offsets: Any) -> Any:
    """Centres of all bodies, (b, 3), and their atoms relative to them, (b, k, 3)."""
    n = owner.shape[0]
    k = offsets.shape[1]
    where = np.zeros((n, 3))
    atoms = np.zeros((n, k, 3))
    for b in range(n):
        o, g = owner[b], by[b]
        for i in range(3):
            where[b, i] = translations[g, i]
            for j in range(3):
                where[b, i] += operations[g, i, j] * centres[o, j]
        for a in range(k):
            for i in range(3):
                for j in range(3):
                    atoms[b, a, i] += operations[g, i, j] * offsets[o, a, j]
    return where, atoms


@compiled
def _wrapped(lattice: Any, inverse: Any, periodic: Any, p: Any, q: Any) -> Any:
    """Q - p, moved by lattice vectors to fractional coordinates within +-1/2."""
    difference = q - p
    result = difference.copy()
    for k in range(3):
        if periodic[k]:
            f = difference[0] * inverse[0, k] + difference[1] * inverse[1, k] + difference[2] * inverse[2, k]
            turns = np.rint(f)
            for i in range(3):
                result[i] -= turns * lattice[k, i]
    return result


@compiled
def outside(half_axes: Any, x: Any, correction: Any) -> Any:
    """How far (Å) a point is outside the ellipsoid about the origin; an infinite half axis does not confine.

    `correction` receives the displacement that brings it back to the wall along the finite axes.
    """
    scaled = 0.0
    for i in range(3):
        correction[i] = 0.0
        scaled += (x[i] / half_axes[i]) ** 2
    if scaled <= 1.0:
        return 0.0
    factor = 1.0 / np.sqrt(scaled) - 1.0
    out = 0.0
    for i in range(3):
        if half_axes[i] < np.inf:
            correction[i] = factor * x[i]
            out += correction[i] ** 2
    return np.sqrt(out)


@compiled
def body_ratio(
    lattice: Any,
    inverse: Any,
    periodic: Any,
    operations: Any,
    translations: Any,
    owner: Any,
    by: Any,
    centres: Any,
    offsets: Any,
    sizes: Any,
    kinds: Any,
    separation: Any,
    movable: Any,
    enough: float,
) -> Any:
    """Smallest distance over minimum separation of two atoms of different bodies, images included.

    Contacts wider than `enough` times the separation are not looked for: then `enough` is returned. Nor are contacts
    of two bodies that cannot move.
    """
    where, atoms = _expand(operations, translations, owner, by, centres, offsets)
    n = owner.shape[0]
    radius = 0.0
    for b in range(n):
        for a in range(sizes[owner[b]]):
            radius = max(radius, np.sqrt((atoms[b, a] ** 2).sum()))
    images = _images(lattice, periodic, 2.0 * radius + enough * separation.max())
    best = enough
    for p in range(n):
        for q in range(p, n):
            if movable[owner[p]] == 0.0 and movable[owner[q]] == 0.0:
                continue
            d = _wrapped(lattice, inverse, periodic, where[p], where[q])
            for i in range(-images[0], images[0] + 1):
                for j in range(-images[1], images[1] + 1):
                    for k in range(-images[2], images[2] + 1):
                        if p == q and i == 0 and j == 0 and k == 0:
                            continue
                        c0 = d[0] + i * lattice[0, 0] + j * lattice[1, 0] + k * lattice[2, 0]
                        c1 = d[1] + i * lattice[0, 1] + j * lattice[1, 1] + k * lattice[2, 1]
                        c2 = d[2] + i * lattice[0, 2] + j * lattice[1, 2] + k * lattice[2, 2]
                        for s in range(sizes[owner[p]]):
                            for t in range(sizes[owner[q]]):
                                x = c0 + atoms[q, t, 0] - atoms[p, s, 0]
                                y = c1 + atoms[q, t, 1] - atoms[p, s, 1]
                                z = c2 + atoms[q, t, 2] - atoms[p, s, 2]
                                limit = separation[kinds[owner[p], s], kinds[owner[q], t]]
                                best = min(best, np.sqrt(x * x + y * y + z * z) / limit)
    return best


@compiled
def _turn(offsets: Any, axis: Any) -> None:
    """Rotate the rows about `axis` by its length (radians), in place."""
    angle = np.sqrt(axis[0] ** 2 + axis[1] ** 2 + axis[2] ** 2)
    if angle < 1e-14:
        return
    n = axis / angle
    c, s = np.cos(angle), np.sin(angle)
    for a in range(offsets.shape[0]):
        v = offsets[a].copy()
        along = (n[0] * v[0] + n[1] * v[1] + n[2] * v[2]) * (1.0 - c)
        offsets[a, 0] = c * v[0] + s * (n[1] * v[2] - n[2] * v[1]) + along * n[0]
        offsets[a, 1] = c * v[1] + s * (n[2] * v[0] - n[0] * v[2]) + along * n[1]
        offsets[a, 2] = c * v[2] + s * (n[0] * v[1] - n[1] * v[0]) + along * n[2]


@compiled
def _ask(
    b: int,
    share: float,
    w0: float,
    w1: float,
    w2: float,
    at: Any,
    wish: Any,
    moment: Any,
    arm: Any,
    longest: Any,
) -> None:
    """Add an atom's wish (share times w) to its body's translation and moment."""
    x, y, z = share * w0, share * w1, share * w2
    wish[b, 0] += x
    wish[b, 1] += y
    wish[b, 2] += z
    moment[b, 0] += at[1] * z - at[2] * y
    moment[b, 1] += at[2] * x - at[0] * z
    moment[b, 2] += at[0] * y - at[1] * x
    arm[b] += at[0] ** 2 + at[1] ** 2 + at[2] ** 2
    longest[b] = max(longest[b], np.sqrt(x * x + y * y + z * z))


@compiled
def push_bodies(
    lattice: Any,
    inverse: Any,
    periodic: Any,
    operations: Any,
    translations: Any,
    owner: Any,
    by: Any,
    members: Any,
    centres: Any,
    offsets: Any,
    sizes: Any,
    kinds: Any,
    separation: Any,
    movable: Any,
    half_axes: Any,
    step: float,
    stall: int,
) -> Any:
    """Push bodies apart and into their confinement, symmetry kept, until nothing overlaps or progress stalls.

    Two atoms of different bodies nearer than d1 ask to part by sqrt(d1^2 - d^2) / 2 each, as in
    `gapfactory.build._kernels.push`. A body follows the sum of its atoms' wishes, and turns by their moment; neither
    moves an atom further than the largest single wish. Translations are averaged over the operations as vectors and
    turns as axial vectors, so every body keeps its site symmetry.

    Parameters
    ----------
    lattice, inverse, periodic
        Rows, their inverse, and along which of them the structure repeats, (3, 3), (3, 3), (3,).
    operations, translations
        Orthogonal matrices and vectors, (g, 3, 3), (g, 3).
    owner, by
        Orbit of each body and the operation that makes it, (b,), (b,).
    members
        Body on which operation g puts the body of orbit o, (o, g).
    centres, offsets, sizes, kinds
        Of the stored body of each orbit: centre (o, 3), atoms relative to it (o, k, 3), number of atoms (o,), species
        of the atoms (o, k).
    separation
        Minimum separations by species, (s, s), Å.
    movable
        Whether an orbit moves, (o,): 0.0 no, 1.0 yes; contacts among those that do not move are left alone.
    half_axes
        Of the ellipsoid about the origin that atoms are kept in, (3,), Å; infinite: free in that direction.
    step, stall
        Length of a step, and number of steps without progress that ends the pushing.

    Returns
    -------
    centres, offsets, overlap
        With the least overlap seen, and that overlap (0: every wish is met).
    """
    n = owner.shape[0]
    n_orbits, order = members.shape
    x, u = centres.copy(), offsets.copy()
    best_x, best_u = centres.copy(), offsets.copy()
    radii = np.zeros(n_orbits)
    for o in range(n_orbits):
        for a in range(sizes[o]):
            radii[o] = max(radii[o], np.sqrt((offsets[o, a] ** 2).sum()))
    largest = separation.max()
    images = _images(lattice, periodic, 2.0 * radii.max() + largest)
    best, since = np.inf, 0
    wish = np.zeros((n, 3))
    moment = np.zeros((n, 3))
    arm = np.zeros(n)
    longest = np.zeros(n)
    correction = np.zeros(3)
    while True:
        where, atoms = _expand(operations, translations, owner, by, x, u)
        wish[:] = 0.0
        moment[:] = 0.0
        arm[:] = 0.0
        longest[:] = 0.0
        overlap = 0.0
        for p in range(n):
            for q in range(p, n):
                op, oq = owner[p], owner[q]
                share_p, share_q = movable[op], movable[oq]
                if share_p + share_q == 0.0:
                    continue
                share_p, share_q = share_p / (share_p + share_q), share_q / (share_p + share_q)
                near = radii[op] + radii[oq] + largest
                d = _wrapped(lattice, inverse, periodic, where[p], where[q])
                for i in range(-images[0], images[0] + 1):
                    for j in range(-images[1], images[1] + 1):
                        for k in range(-images[2], images[2] + 1):
                            if p == q and i == 0 and j == 0 and k == 0:
                                continue
                            c0 = d[0] + i * lattice[0, 0] + j * lattice[1, 0] + k * lattice[2, 0]
                            c1 = d[1] + i * lattice[0, 1] + j * lattice[1, 1] + k * lattice[2, 1]
                            c2 = d[2] + i * lattice[0, 2] + j * lattice[1, 2] + k * lattice[2, 2]
                            if c0 * c0 + c1 * c1 + c2 * c2 >= near * near:
                                continue
                            for s in range(sizes[op]):
                                for t in range(sizes[oq]):
                                    limit = separation[kinds[op, s], kinds[oq, t]]
                                    v0 = c0 + atoms[q, t, 0] - atoms[p, s, 0]
                                    v1 = c1 + atoms[q, t, 1] - atoms[p, s, 1]
                                    v2 = c2 + atoms[q, t, 2] - atoms[p, s, 2]
                                    d2 = v0 * v0 + v1 * v1 + v2 * v2
                                    if d2 >= limit * limit:
                                        continue
                                    distance = np.sqrt(d2)
                                    overlap += 1.0 - distance / limit
                                    if distance < 1e-8:
                                        continue
                                    amount = np.sqrt(limit * limit - d2) / distance
                                    w0, w1, w2 = amount * v0, amount * v1, amount * v2
                                    _ask(p, -share_p, w0, w1, w2, atoms[p, s], wish, moment, arm, longest)
                                    _ask(q, share_q, w0, w1, w2, atoms[q, t], wish, moment, arm, longest)
        if half_axes.min() < np.inf:
            for b in range(n):
                for a in range(sizes[owner[b]]):
                    out = outside(half_axes, where[b] + atoms[b, a], correction)
                    if out > 1e-9:
                        overlap += out / largest
                        w0, w1, w2 = correction[0], correction[1], correction[2]
                        # twice the way: a wall does not meet one half-way as a partner does
                        _ask(b, 2.0, w0, w1, w2, atoms[b, a], wish, moment, arm, longest)
        since = 0 if overlap < best * (1.0 - 1e-3) else since + 1
        if overlap < best:
            best = overlap
            best_x[:] = x
            best_u[:] = u
        if overlap == 0.0 or since > stall:
            break
        moved = 0.0
        for o in range(n_orbits):
            if movable[o] == 0.0:
                continue
            shift, turn = np.zeros(3), np.zeros(3)
            cap = 0.0
            for g in range(order):
                b = members[o, g]
                c = operations[g]
                # determinant of an orthogonal matrix: +1 or -1; a turn is an axial vector
                sign = (
                    c[0, 0] * (c[1, 1] * c[2, 2] - c[1, 2] * c[2, 1])
                    - c[0, 1] * (c[1, 0] * c[2, 2] - c[1, 2] * c[2, 0])
                    + c[0, 2] * (c[1, 0] * c[2, 1] - c[1, 1] * c[2, 0])
                )
                cap = max(cap, longest[b])
                for i in range(3):
                    for j in range(3):
                        shift[i] += c[j, i] * wish[b, j] / order
                        if arm[b] > 0.0:
                            turn[i] += sign * c[j, i] * moment[b, j] / (arm[b] * order)
            if sizes[o] > 1:
                length = np.sqrt((shift**2).sum())
                if length > cap:
                    shift *= cap / length
                swing = np.sqrt((turn**2).sum()) * radii[o]
                if swing > cap:
                    turn *= cap / swing
                _turn(u[o], step * turn)
                moved = max(moved, min(swing, cap))
            for i in range(3):
                x[o, i] += step * shift[i]
                moved = max(moved, abs(shift[i]))
        if moved < 1e-12:
            break
    return best_x, best_u, best
