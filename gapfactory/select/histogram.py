"""Boltzmann-biased flat histogram: draw low energies often, and every energy sometimes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gapfactory.errors import SelectionError

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import ArrayLike, NDArray

__all__ = ["draw", "flat_histogram", "histogram_counts", "log_weights", "relative_to_similar_volume"]


def _checked(values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        msg = f"a histogram needs a list of at least one value, not shape {array.shape}"
        raise SelectionError(msg)
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array))[0])
        msg = f"value {bad} is {array[bad]}: leave out structures without a finite energy before selecting"
        raise SelectionError(msg)
    return array


def histogram_counts(
    values: ArrayLike, *, bins: int | Literal["auto"]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]:
    """Return numpy's histogram and the bin of every value.

    Parameters
    ----------
    values : (n,)
        Energies or enthalpies per atom, in eV.
    bins
        Number of equally wide bins, or ``"auto"``.

    Returns
    -------
    counts : (bins,)
        Values in each bin.
    edges : (bins + 1,)
        Edges in eV; the last bin is closed.
    member : (n,)
        Bin of each value, by the same edges.

    Raises
    ------
    SelectionError
        If there are no values, or one is not finite.
    """
    array = _checked(values)
    chosen: Any = bins
    edges = np.histogram_bin_edges(array, bins=chosen)
    # searchsorted on numpy's own edges: counts and members cannot disagree by rounding
    member = np.clip(np.searchsorted(edges, array, side="right") - 1, 0, len(edges) - 2)
    counts = np.bincount(member, minlength=len(edges) - 1)
    return counts.astype(np.int64), edges, member.astype(np.int64)


def log_weights(values: ArrayLike, *, kT: float, bins: int | Literal["auto"]) -> NDArray[np.float64]:
    """Return the logarithm of each value's (unnormalised) probability.

    The probability is inverse to the density of the value's histogram bin, times ``exp(-(H - H_min) / kT)``
    (Bernstein et al. 2019, Methods, "Iterative generation of reference data").

    Parameters
    ----------
    values : (n,)
        Enthalpies per atom, in eV.
    kT
        In eV; infinite for no bias.
    bins
        As for :func:`histogram_counts`.

    Raises
    ------
    SelectionError
        If kT is not positive, or the values cannot be used.
    """
    if not kT > 0.0:
        msg = f"kT = {kT} eV must be positive; use infinity for no Boltzmann bias"
        raise SelectionError(msg)
    array = _checked(values)
    counts, _, member = histogram_counts(array, bins=bins)
    bias = np.zeros_like(array) if math.isinf(kT) else (array - array.min()) / kT
    return np.asarray(-np.log(counts[member]) - bias)


def draw(log_weight: NDArray[np.float64], n: int, rng: Generator) -> NDArray[np.int64]:
    """Draw n indices one after another without replacement, with probabilities proportional to the weights.

    Adding Gumbel noise to the logarithms and taking the largest sums draws from exactly that distribution,
    and cannot run out of weights that underflow to zero. Returned in the order drawn; ties go to the lower
    index.
    """
    keys = log_weight + rng.gumbel(size=log_weight.shape)
    return np.argsort(-keys, kind="stable")[:n].astype(np.int64)


def flat_histogram(
    values: ArrayLike, n: int, *, kT: float, bins: int | Literal["auto"], rng: Generator
) -> NDArray[np.int64]:
    """Draw n of the values by the Boltzmann-biased flat histogram.

    Parameters
    ----------
    values : (N,)
        Enthalpies per atom, in eV, in an order that does not depend on chance (by id).
    n
        How many to draw, without replacement; all are returned when there are no more than n.
    kT
        Temperature of the bias in eV.
    bins
        Bins of the histogram.
    rng
        The stream of this decision.

    Returns
    -------
    (min(n, N),) array
        Indices in ascending order.

    Raises
    ------
    SelectionError
        If n is negative, kT not positive, or the values are empty or not finite.
    """
    weights = log_weights(values, kT=kT, bins=bins)
    if n < 0:
        msg = f"cannot draw {n} structures; ask for zero or more"
        raise SelectionError(msg)
    if n >= len(weights):
        return np.arange(len(weights), dtype=np.int64)
    return np.sort(draw(weights, n, rng))


def relative_to_similar_volume(
    energies: NDArray[np.float64], volumes: NDArray[np.float64], *, window: float
) -> NDArray[np.float64]:
    """Return energies (n,) in eV/atom above the lowest at volumes (n,) closer than `window` Å^3/atom."""
    order = np.argsort(volumes, kind="stable")
    sorted_volumes = volumes[order]
    sorted_energies = energies[order]
    low = np.searchsorted(sorted_volumes, sorted_volumes - window, side="right")
    high = np.searchsorted(sorted_volumes, sorted_volumes + window, side="left")
    result = np.empty_like(energies)
    for position, index in enumerate(order):
        # a volume always counts as similar to itself, also where the window is lost in rounding
        first, last = min(low[position], position), max(high[position], position + 1)
        result[index] = energies[index] - sorted_energies[first:last].min()
    return result
