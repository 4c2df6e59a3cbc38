"""How good the potential is: learning curve, energy-volume curves, predicted against reference."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import EvidenceError
from gapfactory.figures._style import COLOURS, GREY, MARKERS, legend_outside, new_figure, style_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from gapfactory.analysis.energy_volume import EnergyVolumeCurve
    from gapfactory.analysis.learning import LearningPoint, PowerLaw

__all__ = ["energy_scatter", "learning_curve", "phase_curves"]


def learning_curve(
    points: Sequence[LearningPoint],
    *,
    floor: float = 0.001,
    forecast: Mapping[str, PowerLaw] | None = None,
    label_noise: float | None = None,
    target: float | None = None,
) -> Figure:
    """Draw errors against the number of labels (Figs. 2 and 3a-c): one panel per unit, logarithmic.

    Energy errors below `floor` (eV/atom) are drawn at the floor, as in the paper.

    Parameters
    ----------
    points
        Any order; one line per series.
    forecast
        Power law per series name, drawn dotted to twice the labels.
    label_noise
        Noise of the labels, eV/atom, drawn as a band.
    target
        Energy error asked for, eV/atom.

    Raises
    ------
    EvidenceError
        No points.
    """
    if not points:
        raise EvidenceError("no learning points to draw")
    units = sorted({p.unit for p in points})
    figure = new_figure(7.2, 3.4 if len(units) == 1 else 2.9 * len(units))
    all_axes = np.atleast_1d(figure.subplots(len(units), 1, sharex=True))
    colour = {name: i for i, name in enumerate(dict.fromkeys(p.series for p in points))}
    for ax, unit in zip(all_axes, units, strict=True):
        is_energy = unit == "eV/atom"
        scale, shown = (1000.0, "meV/atom") if is_energy else (1.0, unit)
        lowest = floor if is_energy else 1e-6
        for name in dict.fromkeys(p.series for p in points if p.unit == unit):
            line = sorted(
                (p for p in points if p.series == name and p.unit == unit), key=lambda p: p.n_labels
            )
            n = np.array([p.n_labels for p in line], dtype=float)
            y = np.maximum([p.error for p in line], lowest) * scale
            style: dict[str, Any] = {
                "color": COLOURS[colour[name] % len(COLOURS)],
                "marker": MARKERS[colour[name] % len(MARKERS)],
            }
            ax.plot(n, y, label=name, markersize=4, linewidth=1.3, **style)
            low = np.maximum([p.low for p in line], lowest) * scale
            high = np.maximum([p.high for p in line], lowest) * scale
            if np.isfinite(low).all() and np.isfinite(high).all():
                ax.fill_between(n, low, high, color=style["color"], alpha=0.18, linewidth=0)
            if forecast and name in forecast:
                ahead = np.geomspace(n.max(), 2.0 * n.max(), 20)
                ax.plot(
                    ahead,
                    np.maximum(forecast[name].predict(ahead), lowest) * scale,
                    color=style["color"],
                    linestyle=":",
                    linewidth=1.2,
                )
        ax.set_yscale("log")
        if is_energy:
            if label_noise:
                ax.axhspan(floor * scale * 0.7, max(label_noise, floor) * scale, color="#eeeeee", zorder=0)
                ax.plot([], [], color="#dddddd", linewidth=6, label="label noise")
            if target:
                ax.axhline(target * scale, color=GREY, linestyle="--", linewidth=1, label="target")
            bottom, top = ax.get_ylim()
            ax.set_ylim(min(bottom, floor * scale * 0.8), max(top, floor * scale * 10))
        # a bootstrap sample of structures whose forces vanish by symmetry must not stretch the axis to nothing
        least = min(max(p.error, lowest) for p in points if p.unit == unit) * scale
        ax.set_ylim(bottom=max(ax.get_ylim()[0], 0.1 * least))
        style_axes(ax, "", f"error ({shown})")
        _plain_log_ticks(ax)
    all_axes[-1].set_xlabel("number of labels", fontsize=9)
    _room_for_single_x(all_axes[-1], [p.n_labels for p in points])
    figure.align_ylabels(list(all_axes))
    legend_outside(figure, list(all_axes))
    return figure


def _plain_log_ticks(ax: Axes) -> None:
    """Write 1, 2, 5, 10 ... instead of powers of ten: errors of a few meV should be readable off the axis."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _room_for_single_x(ax: Axes, values: Sequence[float]) -> None:
    if len(set(values)) == 1:
        ax.set_xlim(values[0] * 0.9 - 1, values[0] * 1.1 + 1)


def phase_curves(curves: Sequence[EnergyVolumeCurve], *, labels: Mapping[str, str] | None = None) -> Figure:
    """Draw energy-volume curves, potential solid and reference dashed (Fig. 3d-f).

    All energies are relative to the minimum of the most stable phase by the reference (by the potential
    where there is no reference). Curves whose minimum is bracketed are drawn through their equation of
    state, others as straight lines between their points.

    Parameters
    ----------
    curves
        Methods ``"potential"`` and ``"reference"``; one colour per phase.
    labels
        Label for the legend by phase name.

    Raises
    ------
    EvidenceError
        No curve has points.
    """
    from matplotlib.lines import Line2D

    from gapfactory.analysis.energy_volume import fit_equation_of_state

    drawn = [c for c in curves if len(c.volumes)]
    if not drawn:
        raise EvidenceError("no energy-volume points to draw")
    reference = [c for c in drawn if c.method == "reference"] or drawn
    zero = min(float(c.energies.min()) for c in reference)
    figure = new_figure(6.8, 4.2)
    ax = figure.subplots()
    phases = list(dict.fromkeys(c.phase for c in drawn))
    for curve in drawn:
        is_reference = curve.method == "reference"
        colour = COLOURS[phases.index(curve.phase) % len(COLOURS)]
        line: dict[str, Any] = {"color": colour, "linestyle": "--" if is_reference else "-", "linewidth": 1.4}
        try:
            eos = fit_equation_of_state(curve)
        except EvidenceError:
            ax.plot(curve.volumes, curve.energies - zero, **line)
        else:
            low, high = eos.fitted_between
            v = np.linspace(low, high, 120)
            ax.plot(v, eos.energies(v) - zero, **line)
            # far from the minimum the equation says nothing: straight lines to those points
            for outside in (curve.volumes <= low, curve.volumes >= high):
                if outside.sum() > 1:
                    ax.plot(curve.volumes[outside], curve.energies[outside] - zero, **line)
        ax.plot(
            curve.volumes,
            curve.energies - zero,
            linestyle="none",
            marker="o" if is_reference else "x",
            markersize=4,
            markerfacecolor="white",
            markeredgecolor=colour,
        )
    for i, phase in enumerate(phases):
        ax.plot([], [], color=COLOURS[i % len(COLOURS)], linewidth=3, label=(labels or {}).get(phase, phase))
    methods = {c.method for c in drawn}
    if methods - {"reference"}:
        ax.add_line(Line2D([], [], color=GREY, linestyle="-", marker="x", markersize=4, label="potential"))
    if "reference" in methods:
        ax.add_line(
            Line2D(
                [], [], color=GREY, linestyle="--", marker="o", markersize=4, mfc="white", label="reference"
            )
        )
    style_axes(ax, "volume (Å$^3$/atom)", "energy (eV/atom)")
    legend_outside(figure, [ax])
    return figure


def energy_scatter(
    reference: ArrayLike,
    predicted: ArrayLike,
    groups: Sequence[str] | None = None,
    *,
    linear_below: float = 0.1,
) -> Figure:
    """Draw predicted against reference energies (Fig. 4), linear below 0.1 eV/atom and logarithmic above.

    Parameters
    ----------
    reference, predicted
        Shape (n,), eV/atom above the lowest reference energy. Predictions below zero are legitimate and
        shown.
    groups
        Name of the colour group of each point, or None.
    linear_below
        Where the axes change, eV/atom.

    Raises
    ------
    EvidenceError
        No points, shapes that do not pair up, or values that are not finite.
    """
    x, y = np.asarray(reference, dtype=float), np.asarray(predicted, dtype=float)
    if x.size == 0 or x.shape != y.shape or x.ndim != 1:
        raise EvidenceError(f"cannot draw {x.shape} reference against {y.shape} predicted energies")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise EvidenceError("energies to draw must be finite")
    names = list(groups) if groups is not None else ["structures"] * x.size
    figure = new_figure(6.6, 4.6)
    ax = figure.subplots()
    for i, name in enumerate(dict.fromkeys(names)):
        mask = np.array([n == name for n in names])
        ax.plot(
            x[mask],
            y[mask],
            linestyle="none",
            marker=MARKERS[(i + 2) % len(MARKERS)],
            markersize=3.5,
            alpha=0.65,
            markeredgewidth=0,
            color=COLOURS[i % len(COLOURS)],
            label=f"{name} ({mask.sum()})",
        )
    top = float(max(x.max(), y.max(), 1.2 * linear_below)) * 1.3
    bottom = float(min(x.min(), y.min(), 0.0))
    bottom = bottom * 1.3 if bottom < 0 else -0.05 * linear_below
    ax.plot([bottom, top], [bottom, top], color=GREY, linewidth=1, zorder=0, label="equal")
    for set_scale, set_limits in ((ax.set_xscale, ax.set_xlim), (ax.set_yscale, ax.set_ylim)):
        set_scale("symlog", linthresh=linear_below, linscale=1.0)
        set_limits(bottom, top)
    _switching_ticks(ax, bottom, top, linear_below)
    for line in (ax.axvline, ax.axhline):
        line(linear_below, color="#bbbbbb", linestyle=":", linewidth=1)
    style_axes(ax, "reference energy (eV/atom)", "predicted energy (eV/atom)")
    legend_outside(figure, [ax])
    return figure


def _switching_ticks(ax: Axes, bottom: float, top: float, switch: float) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    decades = np.arange(0, int(np.ceil(np.log10(max(top / switch, 1.0)))) + 1)
    above = [switch * f * 10.0**d for d in decades for f in (2, 5, 10)]
    below = [-switch * 10.0**d * f for d in decades for f in (1, 2, 5)]
    wanted = [*below, -0.5 * switch, 0.0, 0.5 * switch, switch, *above]
    ticks = sorted({round(t, 10) for t in wanted if bottom <= t <= top})
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(FixedLocator(ticks))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
