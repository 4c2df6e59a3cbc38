"""Whether a potential can be used: the course of molecular dynamics, and energies of close contacts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import EvidenceError
from gapfactory.figures._style import COLOURS, GREY, legend_outside, new_figure, style_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gapfactory.analysis.contacts import ContactCurve
    from gapfactory.analysis.dynamics import Dynamics
    from gapfactory.analysis.stability import Trial

__all__ = ["contact_curves", "dynamics_trace", "trial_times"]

#: energies beyond this (eV, eV/atom) are drawn logarithmically
_LINEAR = 1.0


def dynamics_trace(dynamics: Dynamics) -> Figure:
    """Draw temperature, potential energy and shortest distance over time, one panel each.

    Parameters
    ----------
    dynamics
        The run; where it ended early, its end is marked.

    Raises
    ------
    EvidenceError
        The run has no trace.
    """
    if not len(dynamics.times):
        raise EvidenceError("molecular dynamics ended before there was anything to draw")
    figure = new_figure(6.8, 5.0)
    panels = figure.subplots(3, 1, sharex=True)
    rows = (
        (dynamics.temperatures, "temperature (K)"),
        (1000.0 * dynamics.energies, "potential energy\n(meV/atom)"),
        (dynamics.shortest, "shortest\ndistance (Å)"),
    )
    for k, (ax, (values, label)) in enumerate(zip(panels, rows, strict=True)):
        marker = "o" if len(values) < 3 else None
        ax.plot(dynamics.times, values, color=COLOURS[k], linewidth=1.0, marker=marker, markersize=3)
        style_axes(ax, "", label)
        if not dynamics.survived:
            ax.axvline(
                dynamics.reached_ps, color=COLOURS[1] if k != 1 else COLOURS[0], linewidth=1.2, linestyle="--"
            )
    panels[0].axhline(dynamics.temperature_K, color=GREY, linewidth=1.0, linestyle=":")
    outcome = "survived" if dynamics.survived else f"ended at {dynamics.reached_ps:.3g} ps"
    style_axes(
        panels[0],
        "",
        "temperature (K)",
        title=f"{dynamics.n_atoms} atoms at {dynamics.temperature_K:.0f} K (dotted), "
        f"{dynamics.duration_ps:.3g} ps wanted: {outcome}",
    )
    panels[-1].set_xlabel("time (ps)", fontsize=9)
    panels[-1].set_xlim(0.0, (dynamics.duration_ps if dynamics.survived else dynamics.reached_ps) * 1.02)
    return figure


def contact_curves(curves: Sequence[ContactCurve]) -> Figure:
    """Draw energies of close contacts: pairs of atoms in one panel, the compressed crystal in the other.

    Distances are in units of the equilibrium, energies linear up to 1 eV and logarithmic beyond. A cross marks where
    the energy stops rising, the grey band what has to be repulsive.

    Raises
    ------
    EvidenceError
        There is no curve.
    """
    if not curves:
        raise EvidenceError("close contacts were not scanned")
    groups = [
        ([c for c in curves if c.kind != "crystal"], "energy (eV)", "pairs of atoms"),
        ([c for c in curves if c.kind == "crystal"], "energy (eV/atom)", "the whole crystal"),
    ]
    groups = [group for group in groups if group[0]]
    figure = new_figure(7.6, 1.0 + 2.3 * len(groups))
    panels = np.atleast_1d(figure.subplots(len(groups), 1, sharex=True))
    drawn = 0
    for ax, (members, label, title) in zip(panels, groups, strict=True):
        for curve in members:
            _draw(ax, curve, COLOURS[drawn % len(COLOURS)])
            drawn += 1
        _energy_axis(ax, members)
        style_axes(ax, "", label, title=title)
        ax.axhline(0.0, color=GREY, linewidth=0.8)
    ends = [float(end / c.equilibrium) for c in curves for end in (c.distances.min(), c.distances.max())]
    panels[-1].set_xlim(min(*ends, *(c.wanted for c in curves)) - 0.02, max(ends) + 0.02)
    panels[-1].set_xlabel("distance / equilibrium distance", fontsize=9)
    legend_outside(figure, list(panels))
    return figure


def _draw(ax: Axes, curve: ContactCurve, colour: str) -> None:
    x = curve.distances / curve.equilibrium
    ax.plot(x, curve.energies, color=colour, linewidth=1.4, label=curve.title)
    if curve.hole:
        ax.plot(
            [curve.repulsive_to / curve.equilibrium],
            [curve.barrier],
            linestyle="none",
            marker="x",
            markersize=7,
            markeredgewidth=1.8,
            color=colour,
            label="stops rising",
        )


def _energy_axis(ax: Axes, members: Sequence[ContactCurve]) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    low = min(float(c.energies.min()) for c in members)
    high = max(float(c.energies.max()) for c in members)
    wanted = members[0].wanted
    ax.axvspan(wanted, 1.0, color="#000000", alpha=0.05, linewidth=0, label="has to be repulsive")
    ax.set_yscale("symlog", linthresh=_LINEAR, linscale=0.39)  # the scale whose slope is continuous
    ax.set_ylim(min(-0.25, low * 1.4), max(1.2, high * 1.4))
    ticks = (
        [0.0]
        + ([0.5] if max(high, -low) < 20 else [])
        + [sign * 10.0**k for k in range(6) for sign in (1, -1)]
    )
    bottom, top = ax.get_ylim()
    ax.yaxis.set_major_locator(FixedLocator(sorted(t for t in ticks if bottom <= t <= top)))
    ax.yaxis.set_minor_locator(NullLocator())
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))


def trial_times(trials: Sequence[Trial]) -> Figure:
    """Draw how long potential after potential survived molecular dynamics, over the labels until then.

    Parameters
    ----------
    trials
        At least one, in the order of their generations.

    Raises
    ------
    EvidenceError
        There is none.
    """
    if not trials:
        raise EvidenceError("no potential has been tried in molecular dynamics; there is nothing to draw")
    figure = new_figure(6.8, 3.4)
    ax = figure.subplots()
    labels = [trial.labels for trial in trials]
    ax.plot(labels, [trial.reached_ps for trial in trials], color=GREY, linewidth=1.0, zorder=1)
    for survived, colour, words in ((True, COLOURS[2], "survived"), (False, COLOURS[1], "ended early")):
        mine = [trial for trial in trials if trial.found.survives_dynamics == survived]
        if mine:
            ax.scatter(
                [t.labels for t in mine],
                [t.reached_ps for t in mine],
                s=36,
                color=colour,
                label=words,
                zorder=2,
            )
    for trial in trials:
        ax.annotate(
            str(trial.generation), (trial.labels, trial.reached_ps), (0, 6), textcoords="offset points",
            ha="center", fontsize=8, color=GREY,
        )  # fmt: skip
    wanted = [trial.wanted_ps for trial in trials if trial.wanted_ps is not None]
    if wanted:
        ax.axhline(max(wanted), color=GREY, linewidth=1.0, linestyle=":")
        ax.set_ylim(-0.05 * max(wanted), 1.18 * max(wanted))
    margin = 0.06 * max(max(labels) - min(labels), 10)
    ax.set_xlim(min(labels) - margin, max(labels) + margin)
    style_axes(ax, "labels until then", "time survived (ps)", title="molecular dynamics, by generation")
    ax.legend(fontsize=8, frameon=False)
    return figure
