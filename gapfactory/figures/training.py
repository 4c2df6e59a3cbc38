"""What the potential was trained on and how it does there: training set, fit, errors by energy, enthalpies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import EvidenceError
from gapfactory.figures._style import COLOURS, GREY, MARKERS, legend_outside, new_figure, style_axes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from gapfactory.analysis.errors import ErrorRow

__all__ = [
    "ENTHALPY_BINS",
    "SMALLEST_FORCE",
    "SMALLEST_MEV",
    "enthalpy_histograms",
    "error_windows",
    "fit_errors",
    "held_out_errors",
    "training_set",
    "windows_in_order",
]

#: Bins of the enthalpies of one generation.
ENTHALPY_BINS = 30
#: Energy errors below this (meV/atom) are drawn at it on logarithmic axes.
SMALLEST_MEV = 0.01
#: Force errors below this (eV/Å): those of atoms that symmetry keeps in place are zero but for rounding.
SMALLEST_FORCE = 1e-3


def training_set(
    volumes: ArrayLike, energies: ArrayLike, generations: Sequence[int], origins: Sequence[str]
) -> Figure:
    """Draw energies of the labelled structures over volume: colour by generation, symbol by origin.

    Parameters
    ----------
    volumes, energies
        Shape (n,), Å^3/atom and eV/atom above the lowest.
    generations, origins
        Which generation chose each, and what it is, e.g. ``"random cell"``.

    Raises
    ------
    EvidenceError
        No structures, or shapes that do not pair up.
    """
    v, e, g = (np.asarray(a, dtype=float) for a in (volumes, energies, generations))
    _paired(v, e, g)
    figure = new_figure(7.0, 4.4)
    ax = figure.subplots()
    drawn = _by_generation(ax, v, e, g, origins)
    limit = float(np.quantile(e, 0.98))
    hidden = int((e > 1.15 * limit).sum()) if limit > 0 else 0
    if limit > 0:
        ax.set_ylim(-0.04 * limit, 1.15 * limit)
    title = f"{hidden} structure{'s' if hidden > 1 else ''} above the axis not shown" if hidden else None
    style_axes(ax, "volume (Å$^3$/atom)", "energy above the lowest (eV/atom)", title=title)
    _generation_bar(figure, ax, drawn)
    return figure


def fit_errors(
    energies: ArrayLike, errors: ArrayLike, generations: Sequence[int], origins: Sequence[str]
) -> Figure:
    """Draw energy errors of the training set over the reference energy: colour by generation, symbol by origin.

    Parameters
    ----------
    energies
        Shape (n,), eV/atom above the lowest.
    errors
        Shape (n,), potential minus reference, eV/atom.
    generations, origins
        As in `training_set`.

    Raises
    ------
    EvidenceError
        No structures, or shapes that do not pair up.
    """
    e, d, g = (np.asarray(a, dtype=float) for a in (energies, errors, generations))
    _paired(e, d, g)
    figure = new_figure(7.0, 4.2)
    ax = figure.subplots()
    drawn = _by_generation(ax, e, 1000 * d, g, origins)
    ax.axhline(0.0, color=GREY, linewidth=1)
    ax.set_yscale("symlog", linthresh=10.0)
    style_axes(ax, "reference energy above the lowest (eV/atom)", "potential - reference (meV/atom)")
    _generation_bar(figure, ax, drawn)
    return figure


def held_out_errors(
    energies: ArrayLike,
    errors: ArrayLike,
    generations: Sequence[int],
    origins: Sequence[str],
    rows: Sequence[ErrorRow],
) -> Figure:
    """Draw the energy error of each held-out structure over its energy, and the error of each energy window.

    Parameters
    ----------
    energies, errors, generations, origins
        As in `fit_errors`.
    rows
        Error table of the same potential.

    Raises
    ------
    EvidenceError
        No structures, or shapes that do not pair up.
    """
    from gapfactory.analysis.errors import window_rows

    e, d, g = (np.asarray(a, dtype=float) for a in (energies, errors, generations))
    _paired(e, d, g)
    figure = new_figure(7.0, 4.2)
    ax = figure.subplots()
    drawn = _by_generation(ax, e, np.maximum(1000 * np.abs(d), SMALLEST_MEV), g, origins)
    for low, high, row in window_rows(rows, "energy"):
        ends = (low, min(high, max(float(e.max()), low + 0.1)))
        ax.plot(ends, [1000 * row.summary.rmse] * 2, color=GREY, linewidth=2)
    ax.set_xscale("symlog", linthresh=0.1)
    ax.set_yscale("log")
    style_axes(ax, "reference energy above the lowest (eV/atom)", "|potential - reference| (meV/atom)")
    _generation_bar(figure, ax, drawn)
    return figure


def _paired(*arrays: Any) -> None:
    shapes = [a.shape for a in arrays]
    if not arrays[0].size or len(set(shapes)) != 1:
        raise EvidenceError(f"cannot draw arrays of shapes {shapes}")


def _by_generation(ax: Axes, x: Any, y: Any, generations: Any, origins: Sequence[str]) -> Any:
    drawn = None
    for i, origin in enumerate(dict.fromkeys(origins)):
        mask = np.array([o == origin for o in origins])
        drawn = ax.scatter(
            x[mask],
            y[mask],
            c=generations[mask],
            vmin=generations.min(),
            vmax=max(generations.max(), generations.min() + 1),
            cmap="viridis",
            marker=MARKERS[(i + 2) % len(MARKERS)],
            s=16,
            linewidths=0,
            alpha=0.8,
            label=f"{origin} ({mask.sum()})",
        )
    return drawn


def _generation_bar(figure: Figure, ax: Axes, drawn: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    bar = figure.colorbar(drawn, ax=ax, pad=0.02, ticks=MaxNLocator(integer=True))
    bar.set_label("generation", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    legend_outside(figure, [ax])


def error_windows(rows: Mapping[int, Sequence[ErrorRow]]) -> Figure:
    """Draw errors of held-out structures by energy window over the generations: energies above, forces below.

    Raises
    ------
    EvidenceError
        No error is known.
    """
    units = {
        "energy": ("energy error (meV/atom)", 1000.0, SMALLEST_MEV),
        "forces": ("force error (eV/Å)", 1.0, SMALLEST_FORCE),
    }
    wanted = [q for q in units if any(r.quantity == q for found in rows.values() for r in found)]
    if not wanted:
        raise EvidenceError("no errors to draw")
    figure = new_figure(6.8, 1.0 + 2.3 * len(wanted))
    panels = np.atleast_1d(figure.subplots(len(wanted), 1, sharex=True))
    for ax, quantity in zip(panels, wanted, strict=True):
        label, scale, least = units[quantity]
        groups = windows_in_order(
            r.group for g in sorted(rows) for r in rows[g] if r.quantity == quantity and ":" not in r.group
        )
        for i, group in enumerate(groups):
            line = [
                (g, max(scale * r.summary.rmse, least))
                for g in sorted(rows)
                for r in rows[g]
                if (r.quantity, r.group) == (quantity, group) and r.summary.rmse > 0
            ]
            ax.plot(
                [g for g, _ in line],
                [e for _, e in line],
                color=COLOURS[i % len(COLOURS)],
                marker=MARKERS[i % len(MARKERS)],
                markersize=4,
                linewidth=1.3,
                label=group,
            )
        ax.set_yscale("log")
        style_axes(ax, "", label)
    from matplotlib.ticker import MaxNLocator

    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[-1].set_xlabel("generation", fontsize=9)
    legend_outside(figure, list(panels), title="above the lowest")
    return figure


def windows_in_order(groups: Iterable[str]) -> list[str]:
    """Return the names of error groups once each: all structures, then the energy windows from low to high."""
    return sorted(set(groups), key=lambda name: (name != "all", name.startswith("above"), name))


def enthalpy_histograms(by_generation: Mapping[int, ArrayLike]) -> Figure:
    """Draw histograms of the enthalpies where relaxations ended, one panel per generation.

    Parameters
    ----------
    by_generation
        Shape (n,), eV/atom; each panel counts from its own lowest, since each generation has its own potential.

    Raises
    ------
    EvidenceError
        There is no enthalpy.
    """
    filled = {
        g: np.asarray(values, dtype=float) for g, values in sorted(by_generation.items()) if np.size(values)
    }
    if not filled:
        raise EvidenceError("no enthalpies to draw")
    top = float(np.quantile(np.concatenate([v - v.min() for v in filled.values()]), 0.99)) or 1.0
    edges = np.linspace(0.0, top, ENTHALPY_BINS + 1)
    figure = new_figure(5.8, 1.0 + 1.15 * len(filled))
    panels = np.atleast_1d(figure.subplots(len(filled), 1, sharex=True))
    for i, (ax, (generation, values)) in enumerate(zip(panels, filled.items(), strict=True)):
        above = values - values.min()
        ax.hist(np.clip(above, 0.0, top), bins=edges, color=COLOURS[i % len(COLOURS)])
        beyond = int((above > top).sum())
        note = f", {beyond} beyond the axis counted in the last bin" if beyond else ""
        style_axes(ax, "", "structures", title=f"generation {generation}: {values.size}{note}")
    panels[-1].set_xlabel("enthalpy above the lowest of the generation (eV/atom)", fontsize=9)
    return figure
