"""Compiled dot-product kernel between descriptors and sparse points: two small matrix products and a power.

Not BLAS: with a few tens of descriptors per block OpenBLAS reaches a quarter of what these loops reach, may start
threads of its own, and may round a row differently depending on how many others are in the block. Here a row's
result depends on that row only.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from gapfactory.compiled import compiled
from gapfactory.potentials.gap.engine._simd import WIDE, fma, load, mul, splat, store, total

__all__ = ["ROWS", "SparsePoints", "accumulate", "covariance_block", "products", "slopes"]

#: descriptors are handled in groups of this size; arrays of descriptors have a multiple of it as rows
ROWS = 4


class SparsePoints(NamedTuple):
    """Sparse points laid out for the compiled loops.

    Attributes
    ----------
    points : (M * d,)
        Row-major; M a multiple of 8 and d of 16, both padded with zeros.
    weights : (M,)
        Of the kernels in the energy, eV; zero for padding.
    n_points, width
        M and d.
    block
        Points handled at once (a multiple of 8), so that they stay in the second-level cache.
    zeta
        Exponent of the kernel.
    """

    points: np.ndarray
    weights: np.ndarray
    n_points: int
    width: int
    block: int
    zeta: float


@compiled
def _products_in_small_tiles(
    p: np.ndarray, rows: int, q: np.ndarray, begin: int, end: int, d: int, out: np.ndarray
) -> None:
    """Do what :func:`products` does where registers hold less than eight doubles."""
    n = end - begin
    for m in range(0, n, 2):
        q0 = (begin + m) * d
        q1 = q0 + d
        for a in range(0, rows, 2):
            p0 = a * d
            p1 = p0 + d
            c00 = splat(0.0)
            c01 = splat(0.0)
            c10 = splat(0.0)
            c11 = splat(0.0)
            for i in range(0, d, 8):
                x0 = load(p, p0 + i)
                x1 = load(p, p1 + i)
                y = load(q, q0 + i)
                c00 = fma(x0, y, c00)
                c10 = fma(x1, y, c10)
                y = load(q, q1 + i)
                c01 = fma(x0, y, c01)
                c11 = fma(x1, y, c11)
            o = a * n + m
            out[o] = total(c00)
            out[o + 1] = total(c01)
            out[o + n] = total(c10)
            out[o + n + 1] = total(c11)


@compiled
def _accumulate_in_small_tiles(
    weights: np.ndarray, rows: int, q: np.ndarray, begin: int, end: int, d: int, out: np.ndarray
) -> None:
    """Do what :func:`accumulate` does where registers hold less than eight doubles."""
    n = end - begin
    for i in range(0, d, 8):
        for a in range(0, rows, 4):
            k0 = a * n
            k1 = k0 + n
            k2 = k1 + n
            k3 = k2 + n
            o = a * d + i
            c0 = load(out, o)
            c1 = load(out, o + d)
            c2 = load(out, o + 2 * d)
            c3 = load(out, o + 3 * d)
            z = begin * d + i
            for m in range(n):
                y = load(q, z)
                c0 = fma(splat(weights[k0 + m]), y, c0)
                c1 = fma(splat(weights[k1 + m]), y, c1)
                c2 = fma(splat(weights[k2 + m]), y, c2)
                c3 = fma(splat(weights[k3 + m]), y, c3)
                z += d
            store(out, o, c0)
            store(out, o + d, c1)
            store(out, o + 2 * d, c2)
            store(out, o + 3 * d, c3)


@compiled
def products(p: np.ndarray, rows: int, q: np.ndarray, begin: int, end: int, d: int, out: np.ndarray) -> None:
    """Write the dot products of p (rows, d) with points begin:end of q to out (rows, end - begin), all flat.

    rows and end - begin must be multiples of 4.
    """
    if not WIDE:
        _products_in_small_tiles(p, rows, q, begin, end, d, out)
        return
    n = end - begin
    for a in range(0, rows, 4):
        p0 = a * d
        p1 = p0 + d
        p2 = p1 + d
        p3 = p2 + d
        for m in range(0, n, 4):
            q0 = (begin + m) * d
            q1 = q0 + d
            q2 = q1 + d
            q3 = q2 + d
            c00 = splat(0.0)
            c01 = splat(0.0)
            c02 = splat(0.0)
            c03 = splat(0.0)
            c10 = splat(0.0)
            c11 = splat(0.0)
            c12 = splat(0.0)
            c13 = splat(0.0)
            c20 = splat(0.0)
            c21 = splat(0.0)
            c22 = splat(0.0)
            c23 = splat(0.0)
            c30 = splat(0.0)
            c31 = splat(0.0)
            c32 = splat(0.0)
            c33 = splat(0.0)
            for i in range(0, d, 8):
                x0 = load(p, p0 + i)
                x1 = load(p, p1 + i)
                x2 = load(p, p2 + i)
                x3 = load(p, p3 + i)
                y = load(q, q0 + i)
                c00 = fma(x0, y, c00)
                c10 = fma(x1, y, c10)
                c20 = fma(x2, y, c20)
                c30 = fma(x3, y, c30)
                y = load(q, q1 + i)
                c01 = fma(x0, y, c01)
                c11 = fma(x1, y, c11)
                c21 = fma(x2, y, c21)
                c31 = fma(x3, y, c31)
                y = load(q, q2 + i)
                c02 = fma(x0, y, c02)
                c12 = fma(x1, y, c12)
                c22 = fma(x2, y, c22)
                c32 = fma(x3, y, c32)
                y = load(q, q3 + i)
                c03 = fma(x0, y, c03)
                c13 = fma(x1, y, c13)
                c23 = fma(x2, y, c23)
                c33 = fma(x3, y, c33)
            o = a * n + m
            out[o] = total(c00)
            out[o + 1] = total(c01)
            out[o + 2] = total(c02)
            out[o + 3] = total(c03)
            o += n
            out[o] = total(c10)
            out[o + 1] = total(c11)
            out[o + 2] = total(c12)
            out[o + 3] = total(c13)
            o += n
            out[o] = total(c20)
            out[o + 1] = total(c21)
            out[o + 2] = total(c22)
            out[o + 3] = total(c23)
            o += n
            out[o] = total(c30)
            out[o + 1] = total(c31)
            out[o + 2] = total(c32)
            out[o + 3] = total(c33)


@compiled
def accumulate(
    weights: np.ndarray, rows: int, q: np.ndarray, begin: int, end: int, d: int, out: np.ndarray
) -> None:
    """Add weights (rows, end - begin) times points begin:end of q to out (rows, d), all flat."""
    if not WIDE:
        _accumulate_in_small_tiles(weights, rows, q, begin, end, d, out)
        return
    n = end - begin
    for a in range(0, rows, 4):
        k0 = a * n
        k1 = k0 + n
        k2 = k1 + n
        k3 = k2 + n
        for i in range(0, d, 16):
            o0 = a * d + i
            o1 = o0 + d
            o2 = o1 + d
            o3 = o2 + d
            c00 = load(out, o0)
            c01 = load(out, o0 + 8)
            c10 = load(out, o1)
            c11 = load(out, o1 + 8)
            c20 = load(out, o2)
            c21 = load(out, o2 + 8)
            c30 = load(out, o3)
            c31 = load(out, o3 + 8)
            z = begin * d + i
            for m in range(n):
                y0 = load(q, z)
                y1 = load(q, z + 8)
                g = splat(weights[k0 + m])
                c00 = fma(g, y0, c00)
                c01 = fma(g, y1, c01)
                g = splat(weights[k1 + m])
                c10 = fma(g, y0, c10)
                c11 = fma(g, y1, c11)
                g = splat(weights[k2 + m])
                c20 = fma(g, y0, c20)
                c21 = fma(g, y1, c21)
                g = splat(weights[k3 + m])
                c30 = fma(g, y0, c30)
                c31 = fma(g, y1, c31)
                z += d
            store(out, o0, c00)
            store(out, o0 + 8, c01)
            store(out, o1, c10)
            store(out, o1 + 8, c11)
            store(out, o2, c20)
            store(out, o2 + 8, c21)
            store(out, o3, c30)
            store(out, o3 + 8, c31)


@compiled
def slopes(x: np.ndarray, begin: int, n: int, zeta: float) -> None:
    """Replace x[begin : begin + n], n a multiple of 8, by x^(zeta - 1).

    Kernels of power spectra cannot be negative; where rounding makes one so and the exponent is not an integer,
    it is zero.
    """
    whole = int(zeta)
    if zeta == whole:
        for i in range(begin, begin + n, 8):
            value = load(x, i)
            power = splat(1.0)
            for _ in range(whole - 1):
                power = mul(power, value)
            store(x, i, power)
    else:
        for i in range(begin, begin + n):
            x[i] = math.pow(x[i], zeta - 1.0) if x[i] > 0.0 else 0.0


@compiled
def covariance_block(
    p: np.ndarray,
    rows: int,
    sparse: SparsePoints,
    gradient: bool,
    energies: np.ndarray,
    slope: np.ndarray,
    kernels: np.ndarray,
) -> None:
    """Sum the kernels of all sparse points for a block of descriptors.

    Parameters
    ----------
    p : (rows * d,)
        Descriptors, row-major; rows a multiple of 4, surplus rows zero.
    gradient
        Whether the derivative is wanted.
    energies : (rows,)
        Written: sum_m weights[m] (p . q_m)^zeta.
    slope : (rows * d,)
        Written: its derivative by p.
    kernels : (rows * sparse.block,)
        Scratch.
    """
    d = sparse.width
    power = np.empty(8)
    for a in range(rows):
        energies[a] = 0.0
    if gradient:
        slope[: rows * d] = 0.0
    zeta = sparse.zeta
    whole = int(zeta)
    for begin in range(0, sparse.n_points, sparse.block):
        end = min(begin + sparse.block, sparse.n_points)
        n = end - begin
        products(p, rows, sparse.points, begin, end, d, kernels)
        for a in range(rows):
            summed = splat(0.0)
            for m in range(0, n, 8):
                k = a * n + m
                value = load(kernels, k)
                weight = load(sparse.weights, begin + m)
                if zeta == whole:
                    for _ in range(whole - 1):
                        weight = mul(weight, value)
                else:
                    store(power, 0, value)
                    slopes(power, 0, 8, zeta)
                    weight = mul(weight, load(power, 0))
                summed = fma(weight, value, summed)
                store(kernels, k, mul(weight, splat(zeta)))
            energies[a] += total(summed)
        if gradient:
            accumulate(kernels, rows, sparse.points, begin, end, d, slope)
