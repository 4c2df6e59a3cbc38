"""Compiled loops of the SOAP term: expansion, power spectrum, and both backwards."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gapfactory.compiled import compiled
from gapfactory.potentials.gap.engine._dot_product import SparsePoints, covariance_block
from gapfactory.potentials.gap.engine._simd import add, fma, load, mul, splat, store, sub, total

__all__ = [
    "BLOCK",
    "Basis",
    "Neighbourhood",
    "add_energies",
    "describe",
    "expand",
    "gather",
    "harmonics",
    "largest_neighbourhood",
    "new_neighbourhood",
    "power_spectrum",
    "radial_row",
]

#: centres handled at once: enough to use each sparse point many times while it is in the cache
BLOCK = 32


class Basis(NamedTuple):
    """Everything that defines the expansion; see `radial.RadialTable` and `legendre_coefficients`.

    Coefficients of one centre are stored as c[lm * C + channel], lm = l^2 + l + m, with
    C = n_species * n_pad channels (species, n). The power spectrum is stored as (l, a, b <= a) with channels
    without padding, b fastest; QUIP's order has l fastest.
    """

    n_max: int
    l_max: int
    n_pad: int
    n_species: int
    cutoff: float
    width: float
    scale: float
    table: np.ndarray
    central: np.ndarray
    central_everywhere: bool
    start: np.ndarray
    up: np.ndarray
    back: np.ndarray


class Neighbourhood(NamedTuple):
    """Neighbours of one centre in groups of eight of one species, and scratch for one group."""

    x: np.ndarray
    y: np.ndarray
    z: np.ndarray
    r: np.ndarray
    t: np.ndarray
    interval: np.ndarray
    damping: np.ndarray
    slope: np.ndarray
    partner: np.ndarray
    channel: np.ndarray
    filled: np.ndarray
    ylm: np.ndarray
    gx: np.ndarray
    gy: np.ndarray
    gz: np.ndarray
    row: np.ndarray
    derivative: np.ndarray


@compiled
def largest_neighbourhood(
    centres: np.ndarray, first: np.ndarray, distance: np.ndarray, cutoff: float, n_species: int
) -> int:
    """Return how many places the neighbours of any centre need, in groups of eight per species."""
    most = 0
    for i in centres:
        count = 0
        for p in range(first[i], first[i + 1]):
            if distance[p] < cutoff:
                count += 1
        most = max(most, count)
    return (most // 8 + n_species + 1) * 8


@compiled
def new_neighbourhood(size: int, basis: Basis) -> Neighbourhood:
    """Return arrays for `size` neighbours."""
    n_lm = (basis.l_max + 1) ** 2
    n_radial = (basis.l_max + 1) * basis.n_pad
    return Neighbourhood(
        np.zeros(size), np.zeros(size), np.zeros(size), np.ones(size), np.zeros(size),
        np.zeros(size, dtype=np.int64), np.zeros(size), np.zeros(size), np.zeros(size, dtype=np.int64),
        np.zeros(size // 8, dtype=np.int64), np.zeros(size // 8, dtype=np.int64),
        np.zeros(8 * n_lm), np.zeros(8 * n_lm), np.zeros(8 * n_lm), np.zeros(8 * n_lm),
        np.zeros(8 * n_radial), np.zeros(8 * n_radial),
    )  # fmt: skip


@compiled
def gather(
    i: int,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    channels: np.ndarray,
    basis: Basis,
    near: Neighbourhood,
) -> int:
    """Collect the neighbours of atom i by species and return the number of groups of eight."""
    n_radial = (basis.l_max + 1) * basis.n_pad
    last = basis.table.shape[0] // (9 * n_radial) - 1
    groups = 0
    for s in range(basis.n_species):
        at = groups * 8
        begin = at
        for p in range(first[i], first[i + 1]):
            r = distance[p]
            j = neighbour[p]
            if r >= basis.cutoff or channels[j] != s:
                continue
            near.x[at] = vector[p, 0] / r
            near.y[at] = vector[p, 1] / r
            near.z[at] = vector[p, 2] / r
            near.r[at] = r
            k = min(int(r * basis.scale), last)
            near.t[at] = 2.0 * (r * basis.scale - k) - 1.0
            near.interval[at] = k * 9 * n_radial
            damping = 1.0
            slope = 0.0
            if r > basis.cutoff - basis.width:
                phase = math.pi * (r - basis.cutoff + basis.width) / basis.width
                damping = 0.5 * (math.cos(phase) + 1.0)
                slope = -0.5 * math.pi / basis.width * math.sin(phase)
            near.damping[at] = damping
            near.slope[at] = slope
            near.partner[at] = j
            at += 1
        for g in range(begin, at, 8):
            near.channel[g // 8] = s
            near.filled[g // 8] = min(8, at - g)
            groups += 1
        for k in range(at, groups * 8):
            near.x[k] = 0.0
            near.y[k] = 0.0
            near.z[k] = 1.0
    return groups


@compiled
def harmonics(g: int, gradient: bool, basis: Basis, near: Neighbourhood) -> None:
    """Write real spherical harmonics of the directions of group g, [lm * 8 + neighbour].

    The gradient is that of the polynomial in (x, y, z) which the recursion evaluates, so nothing is divided by
    the sine of the polar angle; the caller projects it onto the sphere.
    """
    n = basis.l_max + 1
    x = load(near.x, 8 * g)
    y = load(near.y, 8 * g)
    z = load(near.z, 8 * g)
    zero = splat(0.0)
    cos_m = splat(1.0)
    sin_m = zero
    dcos = zero
    dsin = zero
    for m in range(n):
        value = splat(basis.start[m])
        before = zero
        slope = zero
        slope_before = zero
        for l in range(m, n):  # noqa: E741 - the degree is called l everywhere in the field
            if l > m:
                up = splat(basis.up[l * n + m])
                back = splat(basis.back[l * n + m])
                if gradient:
                    new = sub(mul(up, fma(z, slope, value)), mul(back, slope_before))
                    slope_before = slope
                    slope = new
                following = sub(mul(up, mul(z, value)), mul(back, before))
                before = value
                value = following
            k = 8 * (l * l + l + m)
            store(near.ylm, k, mul(value, cos_m))
            if gradient:
                store(near.gx, k, mul(value, dcos))
                store(near.gy, k, mul(value, sub(zero, dsin)))
                store(near.gz, k, mul(slope, cos_m))
            if m > 0:
                k = 8 * (l * l + l - m)
                store(near.ylm, k, mul(value, sin_m))
                if gradient:
                    store(near.gx, k, mul(value, dsin))
                    store(near.gy, k, mul(value, dcos))
                    store(near.gz, k, mul(slope, sin_m))
        # of the next m: d cos_m / dx = m cos_(m - 1), d sin_m / dx = m sin_(m - 1)
        dcos = mul(splat(m + 1.0), cos_m)
        dsin = mul(splat(m + 1.0), sin_m)
        new = sub(mul(cos_m, x), mul(sin_m, y))
        sin_m = add(mul(cos_m, y), mul(sin_m, x))
        cos_m = new


@compiled
def radial_row(k: int, to: int, gradient: bool, basis: Basis, near: Neighbourhood) -> None:
    """Write the radial functions of neighbour k, without damping, to places to, to + 1, ... of the scratch."""
    n_radial = (basis.l_max + 1) * basis.n_pad
    at = near.interval[k]
    t = splat(near.t[k])
    scale = splat(2.0 * basis.scale)
    for q in range(0, n_radial, 8):
        c = load(basis.table, at + 8 * n_radial + q)
        derivative = splat(0.0)
        if gradient:
            for p in range(7, -1, -1):
                derivative = fma(derivative, t, c)
                c = fma(c, t, load(basis.table, at + p * n_radial + q))
            store(near.derivative, to + q, mul(derivative, scale))
        else:
            for p in range(7, -1, -1):
                c = fma(c, t, load(basis.table, at + p * n_radial + q))
        store(near.row, to + q, c)


@compiled
def expand(own: int, groups: int, basis: Basis, near: Neighbourhood, c: np.ndarray) -> None:
    """Write the expansion coefficients of a centre of species index `own` (-1: not among the species)."""
    n_pad = basis.n_pad
    width = basis.n_species * n_pad
    n_radial = (basis.l_max + 1) * n_pad
    c[:] = 0.0
    for s in range(basis.n_species):
        if s == own or basis.central_everywhere:
            for n in range(n_pad):
                c[s * n_pad + n] = basis.central[n]
    for g in range(groups):
        harmonics(g, False, basis, near)
        for k in range(near.filled[g]):
            radial_row(8 * g + k, k * n_radial, False, basis, near)
            damping = splat(near.damping[8 * g + k])
            for q in range(k * n_radial, (k + 1) * n_radial, 8):
                store(near.row, q, mul(damping, load(near.row, q)))
        for n in range(0, n_pad, 8):
            for l in range(basis.l_max + 1):  # noqa: E741
                for lm in range(l * l, (l + 1) * (l + 1)):
                    to = lm * width + near.channel[g] * n_pad + n
                    value = load(c, to)
                    at = l * n_pad + n
                    for k in range(near.filled[g]):
                        value = fma(splat(near.ylm[8 * lm + k]), load(near.row, at), value)
                        at += n_radial
                    store(c, to, value)


@compiled
def power_spectrum(c: np.ndarray, basis: Basis, out: np.ndarray, begin: int, d: int) -> float:
    """Write the power spectrum to out[begin : begin + d], padded with zeros, and return its norm."""
    n_max = basis.n_max
    n_pad = basis.n_pad
    width = basis.n_species * n_pad
    at = begin
    for l in range(basis.l_max + 1):  # noqa: E741
        factor = math.sqrt(2.0 / (2.0 * l + 1.0))
        for a in range(basis.n_species * n_max):
            row = (a // n_max) * n_pad + a % n_max
            for s in range(a // n_max + 1):
                count = n_max if s < a // n_max else a % n_max + 1
                for n in range(0, count, 8):
                    value = splat(0.0)
                    column = s * n_pad + n
                    for lm in range(l * l, (l + 1) * (l + 1)):
                        value = fma(splat(c[lm * width + row]), load(c, lm * width + column), value)
                    # what is written beyond count is overwritten by the next row, or cleared at the end
                    store(out, at + n, mul(value, splat(factor)))
                at += count
            out[at - 1] *= math.sqrt(0.5)
    for k in range(at, begin + d):
        out[k] = 0.0
    square = splat(0.0)
    for k in range(begin, begin + d, 8):
        value = load(out, k)
        square = fma(value, value, square)
    return math.sqrt(total(square))


@compiled
def _pull_to_coefficients(
    c: np.ndarray, slope: np.ndarray, begin: int, basis: Basis, square: np.ndarray, out: np.ndarray
) -> None:
    """Write the derivative by the coefficients, given slope[begin:], that by the power spectrum."""
    n_max = basis.n_max
    n_pad = basis.n_pad
    width = basis.n_species * n_pad
    at = begin
    for l in range(basis.l_max + 1):  # noqa: E741
        factor = math.sqrt(2.0 / (2.0 * l + 1.0))
        for a in range(basis.n_species * n_max):
            row = (a // n_max) * n_pad + a % n_max
            for b in range(a + 1):
                column = (b // n_max) * n_pad + b % n_max
                value = factor * slope[at]
                if a == b:
                    value *= math.sqrt(2.0)
                square[row * width + column] = value
                square[column * width + row] = value
                at += 1
        for lm in range(l * l, (l + 1) * (l + 1)):
            for n in range(0, width, 8):
                value = splat(0.0)
                for b in range(width):
                    value = fma(splat(c[lm * width + b]), load(square, b * width + n), value)
                store(out, lm * width + n, value)


@compiled
def _pull_to_positions(
    i: int,
    cell: int,
    groups: int,
    basis: Basis,
    near: Neighbourhood,
    slope: np.ndarray,
    forces: np.ndarray,
    virials: np.ndarray,
) -> None:
    """Add forces and virial, given the derivative of the energy of centre i by its coefficients."""
    n_pad = basis.n_pad
    width = basis.n_species * n_pad
    for g in range(groups):
        harmonics(g, True, basis, near)
        for k in range(near.filled[g]):
            where = 8 * g + k
            radial_row(where, 0, True, basis, near)
            plain = splat(0.0)
            radial = splat(0.0)
            along_x = splat(0.0)
            along_y = splat(0.0)
            along_z = splat(0.0)
            for n in range(0, n_pad, 8):
                for l in range(basis.l_max + 1):  # noqa: E741
                    s = splat(0.0)
                    sx = splat(0.0)
                    sy = splat(0.0)
                    sz = splat(0.0)
                    at = l * l * width + near.channel[g] * n_pad + n
                    y = 8 * l * l + k
                    for _ in range(2 * l + 1):
                        value = load(slope, at)
                        s = fma(splat(near.ylm[y]), value, s)
                        sx = fma(splat(near.gx[y]), value, sx)
                        sy = fma(splat(near.gy[y]), value, sy)
                        sz = fma(splat(near.gz[y]), value, sz)
                        at += width
                        y += 8
                    value = load(near.row, l * n_pad + n)
                    plain = fma(s, value, plain)
                    radial = fma(s, load(near.derivative, l * n_pad + n), radial)
                    along_x = fma(sx, value, along_x)
                    along_y = fma(sy, value, along_y)
                    along_z = fma(sz, value, along_z)
            damping = near.damping[where]
            r = near.r[where]
            ux = near.x[where]
            uy = near.y[where]
            uz = near.z[where]
            tx = total(along_x) * damping / r
            ty = total(along_y) * damping / r
            tz = total(along_z) * damping / r
            outward = (
                near.slope[where] * total(plain) + damping * total(radial) - (tx * ux + ty * uy + tz * uz)
            )
            tx += outward * ux
            ty += outward * uy
            tz += outward * uz
            j = near.partner[where]
            forces[j, 0] -= tx
            forces[j, 1] -= ty
            forces[j, 2] -= tz
            forces[i, 0] += tx
            forces[i, 1] += ty
            forces[i, 2] += tz
            virials[cell, 0, 0] -= r * ux * tx
            virials[cell, 0, 1] -= r * ux * ty
            virials[cell, 0, 2] -= r * ux * tz
            virials[cell, 1, 0] -= r * uy * tx
            virials[cell, 1, 1] -= r * uy * ty
            virials[cell, 1, 2] -= r * uy * tz
            virials[cell, 2, 0] -= r * uz * tx
            virials[cell, 2, 1] -= r * uz * ty
            virials[cell, 2, 2] -= r * uz * tz


@compiled
def describe(
    centres: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    channels: np.ndarray,
    basis: Basis,
    normalise: bool,
    out: np.ndarray,
) -> int:
    """Write the descriptors of centres to out (centres, d); return the first null one's position, or -1."""
    d = out.shape[1]
    flat = out.reshape(-1)
    near = new_neighbourhood(
        largest_neighbourhood(centres, first, distance, basis.cutoff, basis.n_species), basis
    )
    c = np.empty((basis.l_max + 1) ** 2 * basis.n_species * basis.n_pad)
    for k in range(centres.shape[0]):
        i = centres[k]
        groups = gather(i, first, neighbour, vector, distance, channels, basis, near)
        expand(channels[i], groups, basis, near, c)
        norm = power_spectrum(c, basis, flat, k * d, d)
        if norm == 0.0:
            return k
        if normalise:
            for e in range(d):
                out[k, e] /= norm
    return -1


@compiled
def add_energies(
    centres: np.ndarray,
    cell_of: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    channels: np.ndarray,
    basis: Basis,
    normalise: bool,
    sparse: SparsePoints,
    gradient: bool,
    energies: np.ndarray,
    forces: np.ndarray,
    virials: np.ndarray,
) -> int:
    """Add energies, forces and virials of all centres; return the first centre without density, or -1.

    Parameters
    ----------
    centres
        Atoms, ascending, that have a descriptor.
    channels : (N,)
        Species index of each atom, -1 for those that the term does not see.
    gradient
        Whether forces and virials are wanted.
    """
    d = sparse.width
    width = basis.n_species * basis.n_pad
    n_c = (basis.l_max + 1) ** 2 * width
    near = new_neighbourhood(
        largest_neighbourhood(centres, first, distance, basis.cutoff, basis.n_species), basis
    )
    block = min(BLOCK, (centres.shape[0] + 3) // 4 * 4)
    c = np.empty((block, n_c))
    p = np.empty(block * d + 8)
    slope = np.empty(block * d)
    norms = np.empty(block)
    energy = np.empty(block)
    kernels = np.empty(block * sparse.block)
    square = np.zeros(width * width)
    derivative = np.empty(n_c)
    for begin in range(0, centres.shape[0], block):
        count = min(block, centres.shape[0] - begin)
        rows = (count + 3) // 4 * 4
        for k in range(count):
            i = centres[begin + k]
            groups = gather(i, first, neighbour, vector, distance, channels, basis, near)
            expand(channels[i], groups, basis, near, c[k])
            norms[k] = power_spectrum(c[k], basis, p, k * d, d)
            if norms[k] == 0.0:
                return i
            if normalise:
                inverse = splat(1.0 / norms[k])
                for e in range(k * d, (k + 1) * d, 8):
                    store(p, e, mul(inverse, load(p, e)))
        p[count * d : rows * d] = 0.0
        covariance_block(p, rows, sparse, gradient, energy, slope, kernels)
        for k in range(count):
            i = centres[begin + k]
            energies[i] += energy[k]
            if not gradient:
                continue
            if normalise:
                along = splat(0.0)
                for e in range(k * d, (k + 1) * d, 8):
                    along = fma(load(p, e), load(slope, e), along)
                minus = splat(-total(along))
                inverse = splat(1.0 / norms[k])
                for e in range(k * d, (k + 1) * d, 8):
                    store(slope, e, mul(inverse, fma(minus, load(p, e), load(slope, e))))
            _pull_to_coefficients(c[k], slope, k * d, basis, square, derivative)
            groups = gather(i, first, neighbour, vector, distance, channels, basis, near)
            _pull_to_positions(i, cell_of[i], groups, basis, near, derivative, forces, virials)
    return -1
