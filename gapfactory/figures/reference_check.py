"""Convergence of a reference engine: noise of labels and their cost at every level of k-point density and cutoff."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory.errors import EvidenceError
from gapfactory.figures._style import COLOURS, GREY, new_figure, style_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gapfactory.reference.selfcheck_judge import LadderResult, LevelResult, Tolerances

__all__ = ["convergence_plot"]

_NAMES = {"kpoint_density": "k-points per 1/Å (with 2π)", "cutoff_eV": "cutoff (eV)"}
# a difference below this is drawn here: logarithms have no zero
_FLOOR = 1e-5


def convergence_plot(ladders: Sequence[LadderResult], tolerances: Tolerances) -> Figure:
    """Draw the noise of energies, forces and stress and the time of a label over each setting.

    Parameters
    ----------
    ladders
        One row of panels each.
    tolerances
        Drawn as lines; what is below is good enough.

    Raises
    ------
    EvidenceError
        There is no ladder with two levels.
    """
    rows = [ladder for ladder in ladders if len(ladder.levels) > 1]
    if not rows:
        raise EvidenceError("no ladder with two levels to draw")
    figure = new_figure(11.0, 0.5 + 2.5 * len(rows))
    axes = figure.subplots(len(rows), 4, squeeze=False)
    for row, ladder in zip(axes, rows, strict=True):
        name = _NAMES[ladder.key]
        below = ladder.levels[:-1]
        energies = [
            (level.value, level.energy_noise_meV) for level in below if level.energy_noise_meV is not None
        ]
        _noise(row[0], energies, tolerances.noise_energy_meV, COLOURS[0])
        _cells(row[0], below)
        _noise(
            row[1], [(level.value, level.force_noise) for level in below], tolerances.noise_force, COLOURS[1]
        )
        _noise(
            row[2],
            [(level.value, level.stress_noise_GPa) for level in below],
            tolerances.noise_stress_GPa,
            COLOURS[2],
        )
        timed = [(level.value, level.seconds) for level in ladder.levels if level.seconds > 0]
        row[3].plot(*zip(*timed, strict=True), marker="o", markersize=4, color=COLOURS[3])
        row[3].set_ylim(0, 1.08 * max((seconds for _, seconds in timed), default=1.0))
        against = f"noise against {ladder.levels[-1].value:g}"
        words = (
            ("meV/atom", f"relative energies: {against}"),
            ("eV/Å", "forces"),
            ("GPa", "stress"),
            ("s", "wall time of a label"),
        )
        for ax, (unit, title) in zip(row, words, strict=True):
            style_axes(ax, name, unit, title=title)
            _mark(ax, ladder)
    handles, names = [], []
    for ax in axes.flat:
        for handle, text in zip(*ax.get_legend_handles_labels(), strict=True):
            if text not in names:
                handles.append(handle)
                names.append(text)
    figure.legend(handles, names, loc="outside lower center", ncols=len(names), fontsize=8, frameon=False)
    return figure


def _noise(ax: Axes, points: Sequence[tuple[float, float]], tolerance: float, colour: str) -> None:
    if points:
        x, y = zip(*points, strict=True)
        ax.plot(x, [max(v, _FLOOR) for v in y], marker="o", markersize=4, color=colour, label=None)
    ax.set_yscale("log")
    _plain_ticks(ax)
    ax.axhline(tolerance, color=GREY, linewidth=1.0, linestyle="--", label="allowed noise")


def _plain_ticks(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=8))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _cells(ax: Axes, levels: Sequence[LevelResult]) -> None:
    for k, level in enumerate(levels):
        values = [max(abs(v), _FLOOR) for v in level.differences_meV.values()]
        ax.plot(
            [level.value] * len(values),
            values,
            linestyle="none",
            marker=".",
            markersize=4,
            color=GREY,
            alpha=0.6,
            label="single structures" if k == 0 else None,
        )


def _mark(ax: Axes, ladder: LadderResult) -> None:
    # every panel of a row has the whole range, with the level that all others are compared to
    values = [level.value for level in ladder.levels]
    margin = 0.05 * (values[-1] - values[0])
    ax.set_xlim(values[0] - margin, values[-1] + margin)
    ax.axvline(ladder.current, color=GREY, linewidth=1.0, linestyle=":", label="present setting")
    if ladder.recommended is not None:
        ax.axvline(ladder.recommended, color=COLOURS[4], linewidth=4.0, alpha=0.35, label="recommended")
