"""Known crystals: errors on distorted ones, polymorphs, mixed occupations (Figs. 1c, 2, 3 of 2018); how often found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import EvidenceError
from gapfactory.figures._style import COLOURS, GREY, MARKERS, legend_outside, new_figure, style_axes
from gapfactory.figures.cells import draw_atoms

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from gapfactory.analysis.distorted_errors import DistortedErrors
    from gapfactory.analysis.mixed_occupation import MixedOccupation
    from gapfactory.analysis.polymorphs import Polymorphs
    from gapfactory.analysis.rediscovery import SearchCount

__all__ = ["distorted_crystal_errors", "occupation_models", "polymorph_curves", "search_rates"]

#: Errors below this are drawn at it, eV/atom, as the papers do.
_FLOOR = 1e-4
#: Lines of the potentials, the first is the one that counts.
_LINES: tuple[dict[str, Any], ...] = (
    {"linestyle": "-", "linewidth": 2.2},
    {"linestyle": "--", "linewidth": 1.1},
    {"linestyle": ":", "linewidth": 1.4},
    {"linestyle": "-.", "linewidth": 1.1},
)


def distorted_crystal_errors(data: DistortedErrors, *, labels: dict[str, str] | None = None) -> Figure:
    """Draw the energy error on distorted crystals, one line for each phase, potential after potential (Fig. 1c).

    Raises
    ------
    EvidenceError
        No potential could evaluate any crystal.
    """
    finite = [e.rmse for e in data.errors if np.isfinite(e.rmse)]
    if not finite:
        raise EvidenceError("no potential could evaluate any distorted crystal")
    figure = new_figure(max(6.0, 3.4 + 0.35 * len(data.potentials)), 3.8)
    ax = figure.subplots()
    for k, phase in enumerate(data.phases):
        errors = data.of(phase)
        values = 1000.0 * np.array(
            [e.rmse if not np.isfinite(e.rmse) else max(e.rmse, _FLOOR) for e in errors]
        )
        largest = max(e.n + e.unusable for e in errors)
        ax.plot(
            range(len(errors)),
            values,
            color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)],
            markersize=5.5,
            linewidth=1.3,
            label=f"{(labels or {}).get(phase, phase)} ({largest})",
        )
        trained = [i for i, e in enumerate(errors) if e.trained]
        if trained:
            hollow: dict[str, Any] = {
                "marker": MARKERS[k % len(MARKERS)],
                "mec": COLOURS[k % len(COLOURS)],
                "mfc": "white",
            }
            ax.plot(trained, values[trained], linestyle="none", markersize=5.5, **hollow)
        refused = [i for i, e in enumerate(errors) if e.unusable]
        if refused:
            ax.plot(
                refused,
                values[refused],
                linestyle="none",
                marker="o",
                markersize=10,
                mfc="none",
                mec=GREY,
                label="some refused" if "some refused" not in ax.get_legend_handles_labels()[1] else None,
            )
    if any(e.trained for e in data.errors):
        ax.plot([], [], linestyle="none", marker="o", mfc="white", mec=GREY, label="hollow: trained on")
    ax.set_yscale("log")
    low, high = (1000 * float(x) for x in np.maximum([min(finite), max(finite)], _FLOOR))
    ax.set_ylim(low / 1.6, high * 1.6)
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())
    ax.set_xticks(range(len(data.potentials)), data.potentials)
    ax.set_xlim(-0.5, len(data.potentials) - 0.5)
    style_axes(ax, "potential of generation", "RMSE of energies (meV/atom)")
    legend_outside(figure, [ax], title="distorted crystals")
    return figure


def search_rates(found: Sequence[SearchCount]) -> Figure:
    """Draw how often diagnostic searches found their targets, over the labels of the potential, with 95 % intervals.

    Raises
    ------
    EvidenceError
        No relaxation of any search ended.
    """
    drawn = [s for s in found if s.attempts]
    if not drawn:
        raise EvidenceError("no relaxation of a diagnostic search has ended")
    figure = new_figure(6.4, 3.6)
    ax = figure.subplots()
    for k, (search, target) in enumerate(dict.fromkeys((s.search, s.target) for s in drawn)):
        mine = [s for s in drawn if (s.search, s.target) == (search, target)]
        rates = np.array([100.0 * s.found / s.attempts for s in mine])
        low = np.array([100.0 * s.rate_low_95 for s in mine])
        high = np.array([100.0 * s.rate_high_95 for s in mine])
        ax.errorbar(
            [s.labels or 0 for s in mine],
            rates,
            yerr=[np.maximum(rates - low, 0.0), np.maximum(high - rates, 0.0)],
            color=COLOURS[k % len(COLOURS)],
            marker=MARKERS[k % len(MARKERS)],
            markersize=5.5,
            linewidth=1.3,
            capsize=3,
            label=f"{target} ({search})",
        )
    ax.set_ylim(bottom=0.0)
    style_axes(ax, "structures that the potential was trained on", "found (% of the relaxations)")
    legend_outside(figure, [ax])
    return figure


def polymorph_curves(data: Polymorphs) -> Figure:
    """Draw polymorphs over volume (Fig. 2): symbols of the reference, a thick line of the potential that counts.

    Further potentials are thin, dashed and so on; lines join the energies at the volumes computed.

    Raises
    ------
    EvidenceError
        No curves.
    """
    from matplotlib.lines import Line2D

    if not data.curves:
        raise EvidenceError("no energy-volume curves to draw")
    figure = new_figure(7.0, 4.4)
    ax = figure.subplots()
    labels = dict(data.labels)
    lowest = []
    for curve in data.curves:
        k = data.phases.index(curve.phase)
        colour, y = COLOURS[k % len(COLOURS)], curve.energies - data.zero_energy
        lowest.append((float(y.min()), float(y.max())))
        if curve.method in data.potentials:
            line = _LINES[data.potentials.index(curve.method) % len(_LINES)]
            ax.plot(curve.volumes, y, color=colour, zorder=2, **line)
        else:
            ax.plot(
                curve.volumes,
                y,
                linestyle="none",
                marker=MARKERS[k % len(MARKERS)],
                markersize=5.5,
                mfc="white",
                mec=colour,
                mew=1.3,
                zorder=3,
            )
    handles = [
        Line2D(
            [], [], color=COLOURS[k % len(COLOURS)], marker=MARKERS[k % len(MARKERS)], mfc="white", markersize=5.5,
            label=labels.get(phase, phase),
        )
        for k, phase in enumerate(data.phases)
    ]  # fmt: skip
    if len(data.potentials) < len({c.method for c in data.curves}):
        handles.append(
            Line2D([], [], color=GREY, linestyle="none", marker="o", mfc="white", label="symbols: reference")
        )
    handles += [
        Line2D([], [], color=GREY, label=name, **_LINES[i % len(_LINES)])
        for i, name in enumerate(data.potentials)
    ]
    for handle in handles:
        ax.add_line(handle)
    style_axes(ax, "volume (Å$^3$/atom)", f"energy above {data.zero} (eV/atom)")
    ax.yaxis.label.set_fontsize(8.5 if len(data.zero) < 40 else 7.5)
    legend_outside(figure, [ax])
    return figure


def occupation_models(
    data: MixedOccupation, crystal: Atoms | None = None, partial: ArrayLike | None = None
) -> Figure:
    """Draw the energies of discrete models by reference and potentials, beside the crystal they stand for (Fig. 3).

    Parameters
    ----------
    data
        The models.
    crystal
        With all of its sites, or None.
    partial
        Shape (N,), whether a site of `crystal` is partially occupied: drawn large and black; others small and light.

    Raises
    ------
    EvidenceError
        `partial` does not fit the crystal.
    """
    from matplotlib.ticker import MaxNLocator

    if crystal is None:
        figure = new_figure(6.4, 3.8)
        ax = figure.subplots()
    else:
        mask = np.zeros(len(crystal), dtype=bool) if partial is None else np.asarray(partial, dtype=bool)
        if mask.shape != (len(crystal),):
            raise EvidenceError(f"{mask.shape} marks of partial sites for a crystal of {len(crystal)} atoms")
        figure = new_figure(9.4, 4.0)
        left, ax = figure.subplots(1, 2, width_ratios=(1.0, 1.25))
        draw_atoms(
            left,
            crystal,
            colours=["black" if m else "#d9d9d9" for m in mask],
            sizes=np.where(mask, 0.6, 0.28),
        )
        left.set_title(
            f"{int((~mask).sum())} atoms on full sites (light),\n{int(mask.sum())} on partial ones (black)",
            fontsize=8.5,
            loc="left",
        )
    x = np.arange(1, len(data.models) + 1)
    known = [k for k, m in enumerate(data.models) if m.reference is not None]
    if known:
        ax.plot(
            x[known],
            [1000.0 * (float(data.models[k].reference or 0.0) - data.zero_energy) for k in known],
            linestyle="none",
            marker="o",
            markersize=8,
            mfc="none",
            mec="black",
            mew=1.4,
            label="reference",
        )
    for i, name in enumerate(data.potentials):
        ax.plot(
            x,
            [1000.0 * (dict(m.predicted)[name] - data.zero_energy) for m in data.models],
            linestyle="none",
            marker=("X", "P", "D", "v")[i % 4],
            markersize=6,
            color=COLOURS[i % len(COLOURS)],
            markeredgewidth=0,
            label=name,
        )
    ax.set_xlim(0.4, len(data.models) + 0.6)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    style_axes(ax, "structural model", f"energy above {data.zero} (meV/atom)")
    ax.yaxis.label.set_fontsize(8.5)
    ax.legend(
        loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, fontsize=8, frameon=False, borderaxespad=0.2
    )
    return figure
