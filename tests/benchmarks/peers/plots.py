"""The pictures of the comparisons: ratios, and growth on logarithmic axes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .tables import TIE, figure_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from .tables import Row, Series

OURS, OTHERS = "#1b6ca8", ("#d1495b", "#66a182", "#edae49", "#7d5ba6")


def draw_ratios(rows: Sequence[Row], path: Path) -> None:
    """Draw how many times better ours is in each row; the line at one is where both are equal."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    height = 0.26 * len(rows) + 1.0
    figure, axes = plt.subplots(figsize=(9.0, height), constrained_layout=True)
    for place, row in enumerate(reversed(rows)):
        better = row.ratio > 1 / (1 + TIE)
        axes.plot([1.0, row.ratio], [place, place], color="#c8c8c8", linewidth=1.0, zorder=1)
        axes.plot(row.ratio, place, "o" if better else "X", color=OURS if better else OTHERS[0], zorder=2)
        axes.annotate(
            figure_text(row.ratio),
            (row.ratio, place),
            xytext=(8 if row.ratio >= 1 else -8, 0),
            textcoords="offset points",
            ha="left" if row.ratio >= 1 else "right",
            va="center",
            fontsize=7,
        )
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [f"{r.task}, {r.size}: {r.peer}" for r in reversed(rows)], fontsize=7)
    ratios = [row.ratio for row in rows]
    axes.set(xscale="log", xlim=(0.4 * min(1.0, *ratios), 3.5 * max(ratios)), ylim=(-0.8, len(rows) - 0.2))
    axes.set_xlabel("times better than the peer (left of 1: the peer is better)")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_growth(series: Sequence[Series], path: Path) -> None:
    """Draw each cost against the size on logarithmic axes, the exponent of each line in its legend."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogFormatterSciNotation, NullLocator

    names = list(dict.fromkeys(one.figure for one in series))
    columns = min(3, len(names))
    lines = -(-len(names) // columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3.9 * columns, 3.3 * lines), squeeze=False, constrained_layout=True
    )
    for panel, name in zip(axes.ravel(), names, strict=False):
        others = iter(OTHERS)
        for one in (s for s in series if s.figure == name):
            ours = one.name.startswith("gapfactory")
            panel.loglog(
                *zip(*one.points, strict=True),
                "o-" if ours else "s--",
                color=OURS if ours else next(others),
                markersize=4,
                label=f"{one.name}: {one.exponent:.2f}",
            )
            panel.set(xlabel=one.x, ylabel=one.y)
        sizes = sorted({x for s in series if s.figure == name for x, _ in s.points})
        while len(sizes) > 5:  # what is left has room for its numbers
            sizes = sizes[::2]
        panel.xaxis.set_major_locator(FixedLocator(sizes))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
        panel.xaxis.set_minor_locator(NullLocator())
        panel.yaxis.set_minor_formatter(LogFormatterSciNotation(minor_thresholds=(0.6, 0.3)))
        panel.set_title(name, fontsize=9)
        panel.legend(frameon=False, fontsize=7, title="exponent", title_fontsize=7)
    for panel in axes.ravel()[len(names) :]:
        panel.set_visible(False)
    figure.savefig(path, dpi=110)
    plt.close(figure)
