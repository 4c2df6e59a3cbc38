"""Compiled loops over small networks. Imported lazily: numba takes a second to load.

Weights are flat, in the order of the published files: of each layer the matrix by columns (nodes fastest), then the
offsets. Hidden nodes give 2 tanh(x) + 1e-6 x, the output node is linear.
"""

from __future__ import annotations

import math

import numpy as np

from gapfactory.compiled import compiled

__all__ = ["energy_rows", "force_rows", "predict"]

# the slope that a saturated node keeps, as in the published programs
_LEAK = 1e-6


@compiled
def _layer(
    weights: np.ndarray, at: int, values: np.ndarray, v: int, n_in: int, out: np.ndarray, n_out: int
) -> None:
    """Write W x + b to out[:n_out]."""
    bias = at + n_in * n_out
    for h in range(n_out):
        out[h] = weights[bias + h]
    for d in range(n_in):
        x = values[v + d]
        for h in range(n_out):
            out[h] += weights[at + d * n_out + h] * x


@compiled
def _forward(
    sizes: np.ndarray,
    weights: np.ndarray,
    values: np.ndarray,
    slopes: np.ndarray,
    curves: np.ndarray,
    work: np.ndarray,
) -> float:
    """Return the output; `values` begins with the inputs, those of the nodes and their derivatives are appended."""
    at = 0
    v = 0
    for layer in range(1, sizes.shape[0]):
        n_in = sizes[layer - 1]
        n_out = sizes[layer]
        _layer(weights, at, values, v, n_in, work, n_out)
        at += (n_in + 1) * n_out
        v += n_in
        if layer == sizes.shape[0] - 1:
            return work[0]
        for h in range(n_out):
            t = math.tanh(work[h])
            values[v + h] = 2.0 * t + _LEAK * work[h]
            slopes[v + h] = 2.0 * (1.0 - t * t) + _LEAK
            curves[v + h] = -4.0 * t * (1.0 - t * t)
    return 0.0


@compiled
def energy_rows(
    sizes: np.ndarray,
    weights: np.ndarray,
    inputs: np.ndarray,
    offsets: np.ndarray,
    wanted: bool,
    energies: np.ndarray,
    rows: np.ndarray,
) -> None:
    """Add up the network's outputs over the atoms of each structure, and their derivatives by the weights.

    Parameters
    ----------
    sizes : (layers,)
        Nodes of each layer, inputs first.
    weights : (P,)
        Flat weights.
    inputs : (N, D)
        Standardised features.
    offsets : (S + 1,)
        Atoms of structure c are offsets[c]:offsets[c + 1].
    wanted
        Whether derivatives are.
    energies : (S,), rows : (S, P)
        Overwritten.
    """
    depth = sizes.shape[0]
    n_values = 0
    widest = 1
    for layer in range(depth):
        n_values += sizes[layer]
        widest = max(widest, sizes[layer])
    values = np.empty(n_values)
    slopes = np.empty(n_values)
    curves = np.empty(n_values)
    work = np.empty(widest)
    delta = np.empty(widest)
    below = np.empty(widest)
    for c in range(offsets.shape[0] - 1):
        energies[c] = 0.0
        if wanted:
            rows[c, :] = 0.0
        for i in range(offsets[c], offsets[c + 1]):
            for d in range(sizes[0]):
                values[d] = inputs[i, d]
            energies[c] += _forward(sizes, weights, values, slopes, curves, work)
            if not wanted:
                continue
            delta[0] = 1.0
            at = weights.shape[0]
            v = n_values - sizes[depth - 1]
            for layer in range(depth - 1, 0, -1):
                n_in = sizes[layer - 1]
                n_out = sizes[layer]
                at -= (n_in + 1) * n_out
                v -= n_in
                for h in range(n_out):
                    rows[c, at + n_in * n_out + h] += delta[h]
                for d in range(n_in):
                    x = values[v + d]
                    back = 0.0
                    for h in range(n_out):
                        rows[c, at + d * n_out + h] += delta[h] * x
                        back += weights[at + d * n_out + h] * delta[h]
                    below[d] = back
                if layer > 1:
                    for d in range(n_in):
                        delta[d] = below[d] * slopes[v + d]


@compiled
def force_rows(
    sizes: np.ndarray,
    weights: np.ndarray,
    inputs: np.ndarray,
    directions: np.ndarray,
    wanted: bool,
    slopes_out: np.ndarray,
    rows: np.ndarray,
) -> None:
    """Add up the derivatives of the outputs along given directions, and their derivatives by the weights.

    Parameters
    ----------
    inputs : (n, D)
        Standardised features of the atoms of one structure.
    directions : (n, R, D)
        Derivative of the inputs of each atom by R coordinates.
    slopes_out : (R,), rows : (R, P)
        Overwritten.
    """
    depth = sizes.shape[0]
    n_values = 0
    widest = 1
    for layer in range(depth):
        n_values += sizes[layer]
        widest = max(widest, sizes[layer])
    values = np.empty(n_values)
    slopes = np.empty(n_values)
    curves = np.empty(n_values)
    along = np.empty(n_values)  # derivative of values along the direction
    before = np.empty(n_values)  # the same before the nodes' function
    work = np.empty(widest)
    delta = np.empty(widest)  # adjoint of `before`
    delta_u = np.empty(widest)  # adjoint of the nodes' arguments
    next_delta = np.empty(widest)
    next_u = np.empty(widest)
    slopes_out[:] = 0.0
    if wanted:
        rows[:, :] = 0.0
    for i in range(inputs.shape[0]):
        for d in range(sizes[0]):
            values[d] = inputs[i, d]
        _forward(sizes, weights, values, slopes, curves, work)
        for r in range(directions.shape[1]):
            moves = False
            for d in range(sizes[0]):
                along[d] = directions[i, r, d]
                moves = moves or along[d] != 0.0
            if not moves:
                continue
            at = 0
            v = 0
            for layer in range(1, depth):
                n_in = sizes[layer - 1]
                n_out = sizes[layer]
                for h in range(n_out):
                    work[h] = 0.0
                for d in range(n_in):
                    x = along[v + d]
                    for h in range(n_out):
                        work[h] += weights[at + d * n_out + h] * x
                at += (n_in + 1) * n_out
                v += n_in
                if layer == depth - 1:
                    slopes_out[r] += work[0]
                else:
                    for h in range(n_out):
                        before[v + h] = work[h]
                        along[v + h] = work[h] * slopes[v + h]
            if not wanted:
                continue
            delta[0] = 1.0
            delta_u[0] = 0.0
            v = n_values - sizes[depth - 1]
            at = weights.shape[0]
            for layer in range(depth - 1, 0, -1):
                n_in = sizes[layer - 1]
                n_out = sizes[layer]
                at -= (n_in + 1) * n_out
                v -= n_in
                for h in range(n_out):
                    rows[r, at + n_in * n_out + h] += delta_u[h]
                for d in range(n_in):
                    by_along = 0.0
                    by_value = 0.0
                    for h in range(n_out):
                        w = at + d * n_out + h
                        rows[r, w] += delta[h] * along[v + d] + delta_u[h] * values[v + d]
                        by_along += weights[w] * delta[h]
                        by_value += weights[w] * delta_u[h]
                    if layer > 1:
                        slope = slopes[v + d]
                        next_delta[d] = by_along * slope
                        next_u[d] = by_along * before[v + d] * curves[v + d] + by_value * slope
                if layer > 1:
                    for d in range(n_in):
                        delta[d] = next_delta[d]
                        delta_u[d] = next_u[d]


@compiled
def predict(
    kinds: np.ndarray,
    features: np.ndarray,
    sizes: np.ndarray,
    weights: np.ndarray,
    scales: np.ndarray,
    means: np.ndarray,
    parts: np.ndarray,
    wanted: bool,
    energies: np.ndarray,
    gradient: np.ndarray,
) -> None:
    """Evaluate an ensemble for every atom.

    Parameters
    ----------
    kinds : (N,)
        Species of each atom.
    features : (N, L)
        Local vectors.
    sizes : (layers,)
        Nodes of each layer, L first.
    weights : (S, K, P)
        Of each species and member; the first layer takes local vectors as they are.
    scales, means, parts : (K,)
        Of each member: unit (eV) and origin (eV) of the output, share of the ensemble.
    wanted
        Whether gradients are.
    energies : (K, N)
        By each member, eV. Overwritten.
    gradient : (N, L)
        Derivative of the ensemble's energy by the local vector, eV. Overwritten.
    """
    depth = sizes.shape[0]
    n_values = 0
    widest = 1
    for layer in range(depth):
        n_values += sizes[layer]
        widest = max(widest, sizes[layer])
    values = np.empty(n_values)
    slopes = np.empty(n_values)
    curves = np.empty(n_values)
    work = np.empty(widest)
    delta = np.empty(widest)
    below = np.empty(widest)
    for i in range(kinds.shape[0]):
        for d in range(sizes[0]):
            values[d] = features[i, d]
            if wanted:
                gradient[i, d] = 0.0
        for member in range(parts.shape[0]):
            own = weights[kinds[i], member]
            energies[member, i] = means[member] + scales[member] * _forward(
                sizes, own, values, slopes, curves, work
            )
            if not wanted:
                continue
            delta[0] = parts[member] * scales[member]
            at = own.shape[0]
            v = n_values - sizes[depth - 1]
            for layer in range(depth - 1, 0, -1):
                n_in = sizes[layer - 1]
                n_out = sizes[layer]
                at -= (n_in + 1) * n_out
                v -= n_in
                for d in range(n_in):
                    back = 0.0
                    for h in range(n_out):
                        back += own[at + d * n_out + h] * delta[h]
                    if layer > 1:
                        below[d] = back * slopes[v + d]
                    else:
                        gradient[i, d] += back
                if layer > 1:
                    for d in range(n_in):
                        delta[d] = below[d]
