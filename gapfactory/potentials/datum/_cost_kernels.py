"""Compiled loop over atoms and target environments. Imported lazily: numba takes a second to load."""

from __future__ import annotations

import math

import numpy as np

from gapfactory.compiled import compiled

__all__ = ["costs"]


@compiled
def costs(
    kinds: np.ndarray,
    local: np.ndarray,
    target_kinds: np.ndarray,
    targets: np.ndarray,
    counts: np.ndarray,
    scale: float,
    alpha: float,
    energies: np.ndarray,
    gradient: np.ndarray,
) -> None:
    """Write the cost of each atom and its derivatives by the local vector.

    Parameters
    ----------
    kinds, local : (N,), (N, L)
        Species and local vector of each atom.
    target_kinds, targets, counts : (T,), (T, L), (T,)
        Distinct environments of the targets and how many atoms have each.
    scale
        beta / D^2, with the length D of the full vector.
    alpha
        Of Eq. 3; 0 for the hard minimum, Eq. 2.
    energies, gradient : (N,), (N, L)
        Results.
    """
    length = local.shape[1]
    n_targets = targets.shape[0]
    square = np.empty(n_targets)
    share = np.empty(n_targets)
    every = 0.0
    for j in range(n_targets):
        every += counts[j]
    for i in range(kinds.shape[0]):
        nearest = 0
        for j in range(n_targets):
            # blocks of another species of centre are zero where these are not, and two one-body features differ
            apart = kinds[i] != target_kinds[j]
            total = 2.0 if apart else 0.0
            for k in range(length):
                if apart:
                    total += local[i, k] * local[i, k] + targets[j, k] * targets[j, k]
                else:
                    total += (local[i, k] - targets[j, k]) ** 2
            square[j] = total
            if total < square[nearest]:
                nearest = j
        least = math.log1p(scale * square[nearest])
        energies[i] = least
        if alpha > 0.0:
            together = 0.0
            for j in range(n_targets):
                share[j] = counts[j] * math.exp(-alpha * (math.log1p(scale * square[j]) - least))
                together += share[j]
            energies[i] = least - math.log(together / every) / alpha
            for j in range(n_targets):
                share[j] /= together
        else:
            share[:] = 0.0
            share[nearest] = 1.0
        gradient[i] = 0.0
        for j in range(n_targets):
            if share[j] == 0.0:
                continue
            slope = 2.0 * scale * share[j] / (1.0 + scale * square[j])
            same = kinds[i] == target_kinds[j]
            for k in range(length):
                gradient[i, k] += slope * (local[i, k] - targets[j, k] if same else local[i, k])
