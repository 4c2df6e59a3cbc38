"""Compiled covariances of energies, forces and virials with the sparse points of a SOAP term."""

from __future__ import annotations

import math

import numpy as np

from gapfactory.compiled import compiled
from gapfactory.potentials.gap.engine._dot_product import SparsePoints, products, slopes
from gapfactory.potentials.gap.engine._simd import fma, load, mul, splat, store, total
from gapfactory.potentials.gap.engine._soap import (
    Basis,
    Neighbourhood,
    expand,
    gather,
    harmonics,
    largest_neighbourhood,
    new_neighbourhood,
    power_spectrum,
    radial_row,
)

__all__ = ["add_rows"]

# Derivatives of one centre that go through the matrix product together; a multiple of 4.
_ROWS = 64


@compiled
def _add_derivative(
    k: int, g: int, basis: Basis, near: Neighbourhood, by: np.ndarray, strain: np.ndarray
) -> None:
    """Add the derivative of the coefficients by the position of neighbour k of group g, and by strain.

    by (3 * n_c,) is by x, y, z; strain (6 * n_c,) by xx, yy, zz, yz, xz, xy.
    """
    n_pad = basis.n_pad
    width = basis.n_species * n_pad
    n_c = (basis.l_max + 1) ** 2 * width
    radial_row(k, 0, True, basis, near)
    ux = near.x[k]
    uy = near.y[k]
    uz = near.z[k]
    r = near.r[k]
    rx = splat(ux * r)
    ry = splat(uy * r)
    rz = splat(uz * r)
    damping = splat(near.damping[k])
    slope = splat(near.slope[k])
    around = splat(near.damping[k] / r)
    for n in range(0, n_pad, 8):
        for l in range(basis.l_max + 1):  # noqa: E741 - the degree is called l everywhere in the field
            value = load(near.row, l * n_pad + n)
            outward = fma(slope, value, mul(damping, load(near.derivative, l * n_pad + n)))
            tangent = mul(around, value)
            for lm in range(l * l, (l + 1) * (l + 1)):
                at = 8 * lm + k - 8 * g
                y = near.ylm[at]
                gx = near.gx[at]
                gy = near.gy[at]
                gz = near.gz[at]
                along = gx * ux + gy * uy + gz * uz
                dx = fma(outward, splat(y * ux), mul(tangent, splat(gx - along * ux)))
                dy = fma(outward, splat(y * uy), mul(tangent, splat(gy - along * uy)))
                dz = fma(outward, splat(y * uz), mul(tangent, splat(gz - along * uz)))
                to = lm * width + near.channel[g] * n_pad + n
                store(by, to, fma(splat(1.0), dx, load(by, to)))
                store(by, to + n_c, fma(splat(1.0), dy, load(by, to + n_c)))
                store(by, to + 2 * n_c, fma(splat(1.0), dz, load(by, to + 2 * n_c)))
                store(strain, to, fma(rx, dx, load(strain, to)))
                store(strain, to + n_c, fma(ry, dy, load(strain, to + n_c)))
                store(strain, to + 2 * n_c, fma(rz, dz, load(strain, to + 2 * n_c)))
                store(strain, to + 3 * n_c, fma(ry, dz, load(strain, to + 3 * n_c)))
                store(strain, to + 4 * n_c, fma(rx, dz, load(strain, to + 4 * n_c)))
                store(strain, to + 5 * n_c, fma(rx, dy, load(strain, to + 5 * n_c)))


@compiled
def _spectrum_derivative(
    by: np.ndarray,
    begin: int,
    c: np.ndarray,
    p: np.ndarray,
    norm: float,
    normalise: bool,
    basis: Basis,
    out: np.ndarray,
    to: int,
    d: int,
) -> None:
    """Write the derivative of the descriptor to out[to : to + d], given by[begin:], that of c."""
    n_max = basis.n_max
    n_pad = basis.n_pad
    width = basis.n_species * n_pad
    at = to
    for l in range(basis.l_max + 1):  # noqa: E741
        factor = splat(math.sqrt(2.0 / (2.0 * l + 1.0)))
        for a in range(basis.n_species * n_max):
            row = (a // n_max) * n_pad + a % n_max
            for s in range(a // n_max + 1):
                count = n_max if s < a // n_max else a % n_max + 1
                for n in range(0, count, 8):
                    value = splat(0.0)
                    other = splat(0.0)
                    column = s * n_pad + n
                    for lm in range(l * l, (l + 1) * (l + 1)):
                        k = lm * width
                        value = fma(splat(c[k + row]), load(by, begin + k + column), value)
                        other = fma(splat(by[begin + k + row]), load(c, k + column), other)
                    # beyond count: overwritten by the next row, or cleared at the end, as in power_spectrum
                    store(out, at + n, mul(fma(splat(1.0), value, other), factor))
                at += count
            out[at - 1] *= math.sqrt(0.5)
    for k in range(at, to + d):
        out[k] = 0.0
    if normalise:
        along = splat(0.0)
        for k in range(0, d, 8):
            along = fma(load(out, to + k), load(p, k), along)
        minus = splat(-total(along))
        inverse = splat(1.0 / norm)
        for k in range(0, d, 8):
            store(out, to + k, mul(inverse, fma(minus, load(p, k), load(out, to + k))))


@compiled
def _flush(
    derivatives: np.ndarray,
    count: int,
    target: np.ndarray,
    own: int,
    factors: np.ndarray,
    sparse: SparsePoints,
    kernels: np.ndarray,
    centre: np.ndarray,
    out: np.ndarray,
) -> None:
    """Subtract factors times (derivatives . points) from rows target of out.

    target[row + _ROWS] is the component of a force row and -1 for virials. What a force row loses, the centre's
    row own + component gains: moving all atoms together changes nothing.
    """
    if count == 0:
        return
    d = sparse.width
    rows = (count + 3) // 4 * 4
    derivatives[count * d : rows * d] = 0.0
    for begin in range(0, sparse.n_points, sparse.block):
        end = min(begin + sparse.block, sparse.n_points)
        n = end - begin
        real = min(end, out.shape[1]) - begin
        if real <= 0:
            continue
        products(derivatives, rows, sparse.points, begin, end, d, kernels)
        centre[:] = 0.0
        touched = False
        for row in range(count):
            component = target[row + _ROWS]
            to = out[target[row]]
            at = row * n
            if component >= 0:
                touched = True
                shift = component * sparse.block
                for m in range(real):
                    change = factors[begin + m] * kernels[at + m]
                    to[begin + m] -= change
                    centre[shift + m] += change
            else:
                for m in range(real):
                    to[begin + m] -= factors[begin + m] * kernels[at + m]
        if touched:
            for component in range(3):
                to = out[own + component]
                shift = component * sparse.block
                for m in range(real):
                    to[begin + m] += centre[shift + m]


@compiled
def add_rows(
    centres: np.ndarray,
    cell_of: np.ndarray,
    offsets: np.ndarray,
    first: np.ndarray,
    neighbour: np.ndarray,
    vector: np.ndarray,
    distance: np.ndarray,
    channels: np.ndarray,
    basis: Basis,
    normalise: bool,
    sparse: SparsePoints,
    out: np.ndarray,
) -> int:
    """Add the covariances of all centres to out (R, M); return the first centre without density, or -1.

    For a centre the derivatives of its descriptor by the positions of the distinct neighbours (images summed)
    and by strain are the rows of one matrix product with the sparse points.
    """
    d = sparse.width
    n_c = (basis.l_max + 1) ** 2 * basis.n_species * basis.n_pad
    near = new_neighbourhood(
        largest_neighbourhood(centres, first, distance, basis.cutoff, basis.n_species), basis
    )
    all_c = np.empty((4, n_c))
    all_p = np.zeros(4 * d)
    norms = np.empty(4)
    overlaps = np.empty((4, sparse.n_points))
    by = np.empty(3 * n_c)
    strain = np.empty(6 * n_c)
    derivatives = np.empty(_ROWS * d)
    target = np.empty(2 * _ROWS, dtype=np.int64)
    kernels = np.empty(_ROWS * sparse.block)
    centre = np.empty(3 * sparse.block)
    factors = np.empty(sparse.n_points)
    for at in range(centres.shape[0]):
        i = centres[at]
        member = at % 4
        if member == 0:
            # the matrix product takes descriptors by fours
            for k in range(min(4, centres.shape[0] - at)):
                other = centres[at + k]
                groups = gather(other, first, neighbour, vector, distance, channels, basis, near)
                expand(channels[other], groups, basis, near, all_c[k])
                norms[k] = power_spectrum(all_c[k], basis, all_p, k * d, d)
                if norms[k] == 0.0:
                    return other
                if normalise:
                    all_p[k * d : (k + 1) * d] /= norms[k]
            for begin in range(0, sparse.n_points, sparse.block):
                end = min(begin + sparse.block, sparse.n_points)
                products(all_p, 4, sparse.points, begin, end, d, kernels)
                for k in range(4):
                    overlaps[k, begin:end] = kernels[k * (end - begin) : (k + 1) * (end - begin)]
        c = all_c[member]
        p = all_p[member * d : (member + 1) * d]
        norm = norms[member]
        cell = cell_of[i]
        energy_row = 7 * cell + 3 * offsets[cell]
        groups = gather(i, first, neighbour, vector, distance, channels, basis, near)
        factors[:] = overlaps[member]
        slopes(factors, 0, sparse.n_points, sparse.zeta)
        for m in range(out.shape[1]):
            factors[m] *= sparse.weights[m]
            out[energy_row, m] += factors[m] * overlaps[member, m]
            factors[m] *= sparse.zeta
        own = energy_row + 1 + 3 * (i - offsets[cell])
        count = 0
        strain[:] = 0.0
        by[:] = 0.0
        for g in range(groups):
            harmonics(g, True, basis, near)
            for k in range(8 * g, 8 * g + near.filled[g]):
                _add_derivative(k, g, basis, near, by, strain)
                j = near.partner[k]
                following = k + 1 if k + 1 < 8 * g + near.filled[g] else 8 * (g + 1)
                if following < 8 * groups and near.partner[following] == j:
                    continue
                if j != i:
                    if count + 3 > _ROWS:
                        _flush(derivatives, count, target, own, factors, sparse, kernels, centre, out)
                        count = 0
                    for component in range(3):
                        _spectrum_derivative(
                            by, component * n_c, c, p, norm, normalise, basis, derivatives, count * d, d
                        )
                        target[count] = energy_row + 1 + 3 * (j - offsets[cell]) + component
                        target[count + _ROWS] = component
                        count += 1
                by[:] = 0.0
        if count + 6 > _ROWS:
            _flush(derivatives, count, target, own, factors, sparse, kernels, centre, out)
            count = 0
        for component in range(6):
            _spectrum_derivative(
                strain, component * n_c, c, p, norm, normalise, basis, derivatives, count * d, d
            )
            target[count] = energy_row + 1 + 3 * (offsets[cell + 1] - offsets[cell]) + component
            target[count + _ROWS] = -1
            count += 1
        _flush(derivatives, count, target, own, factors, sparse, kernels, centre, out)
    return -1
