"""What a campaign did: energies by generation, selection stages, where the time went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import EvidenceError
from gapfactory.figures._style import COLOURS, GREY, legend_outside, new_figure, style_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

__all__ = ["SelectionStage", "common_edges", "energy_distribution", "selection_histograms", "time_budget"]


@dataclass(frozen=True)
class SelectionStage:
    """Structures that one step of the selection had or kept (Fig. 1b): their energies, or a histogram of them.

    Parameters
    ----------
    name
        E.g. ``"all minima"``, ``"flat histogram"``, ``"CUR"``.
    energies
        Shape (n,), enthalpy or energy per atom, eV; empty where only a histogram is known.
    ids
        Names of the structures, shape (n,), or empty.
    edges, counts
        The histogram, where it is all that is known: shapes (bins + 1,), eV per atom, and (bins,).
    """

    name: str
    energies: tuple[float, ...] = ()
    ids: tuple[str, ...] = ()
    edges: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """How many structures it has."""
        return sum(self.counts) if self.edges else len(self.energies)

    @property
    def lowest(self) -> float:
        """Lowest energy, eV per atom."""
        return self.edges[0] if self.edges else min(self.energies)

    def below(self, share: float) -> float:
        """Return an energy (eV per atom) that at least this share of the structures does not exceed."""
        if not self.edges:
            return float(np.quantile(self.energies, share, method="lower"))
        reached = np.cumsum(self.counts) >= share * sum(self.counts)
        return self.edges[1 + int(np.argmax(reached))]

    def histogram(
        self, zero: float, edges: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64], int]:
        """Return edges, counts and how many of them lie above the last edge and are counted in the last bin.

        Parameters
        ----------
        zero
            What energies count from, eV per atom.
        edges
            Above `zero`; a stage that is a histogram keeps its own up to the last of these.
        """
        top = float(edges[-1])
        if not self.edges:
            above = np.asarray(self.energies) - zero
            counts, _ = np.histogram(np.clip(above, 0.0, top), edges)
            return edges, counts.astype(np.int64), int((above > top).sum())
        own = np.asarray(self.edges) - zero
        kept = max(int((own[:-1] < top).sum()), 1)
        counts = np.asarray(self.counts, dtype=np.int64)
        beyond = int(counts[kept:].sum())
        counts = counts[:kept].copy()
        counts[-1] += beyond
        return own[: kept + 1], counts, beyond


def common_edges(stages: Sequence[SelectionStage], bins: int) -> tuple[float, NDArray[np.float64]]:
    """Return what the energies of all stages count from, and edges up to where most of the first and last lie.

    A few exploded cells, or frames at the start of their paths, must not squeeze the rest into one bin.
    """
    zero = min(s.lowest for s in stages)
    top = max(stages[0].below(0.99), stages[-1].below(0.99)) - zero
    return zero, np.linspace(0.0, top if top > 0 else 1.0, bins + 1)


def _finite(values: ArrayLike, what: str) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    array = np.asarray(values, dtype=float).ravel()
    if not np.isfinite(array).all():
        raise EvidenceError(f"{what} contains values that are not finite; leave failed structures out")
    return array


def energy_distribution(
    by_generation: Mapping[int, ArrayLike], *, quantity: str = "energy above the lowest (eV/atom)"
) -> Figure:
    """Draw the energies of each generation's labelled structures as points, with median and quartiles.

    Parameters
    ----------
    by_generation
        Energies (n,) in eV/atom above the lowest of the campaign, by generation.

    Raises
    ------
    EvidenceError
        There is no energy at all.
    """
    data = {g: _finite(v, f"generation {g}") for g, v in sorted(by_generation.items())}
    data = {g: v for g, v in data.items() if v.size}
    if not data:
        raise EvidenceError("no energies to draw")
    figure = new_figure(max(4.5, 2.5 + 0.35 * len(data)), 3.8)
    ax = figure.subplots()
    # spread points sideways by a fixed sequence: the same data give the same picture
    golden = 0.6180339887498949
    for k, (generation, values) in enumerate(data.items()):
        offsets = ((np.arange(values.size) * golden) % 1.0 - 0.5) * 0.6
        ax.plot(
            generation + offsets,
            np.sort(values),
            linestyle="none",
            marker="o",
            markersize=2.5,
            alpha=0.45,
            markeredgewidth=0,
            color=COLOURS[0],
            label="structures" if k == 0 else None,
        )
        q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
        ax.plot(
            [generation - 0.38, generation + 0.38],
            [median, median],
            color=COLOURS[1],
            linewidth=2,
            label="median" if k == 0 else None,
        )
        ax.vlines(generation, q1, q3, color=COLOURS[1], linewidth=1.2, label="quartiles" if k == 0 else "_")
    pooled = np.concatenate(list(data.values()))
    if pooled.max() > 3.0:
        ax.set_yscale("symlog", linthresh=1.0, linscale=1.5)
        ax.set_ylim(min(0.0, pooled.min()) - 0.05, pooled.max() * 1.3)
        _switch_ticks(ax, float(pooled.max() * 1.3))
    _integer_x(ax, list(data))
    style_axes(ax, "generation", quantity)
    legend_outside(figure, [ax])
    return figure


def _switch_ticks(ax: object, top: float) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    ticks = [t for t in (0, 0.25, 0.5, 0.75, 1, 2, 5, 10, 20, 50, 100, 1000) if t <= top]
    axis = ax.yaxis  # type: ignore[attr-defined]
    axis.set_major_locator(FixedLocator(ticks))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:g}"))


def _integer_x(ax: object, values: Sequence[int]) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_xlim(min(values) - 0.7, max(values) + 0.7)  # type: ignore[attr-defined]
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # type: ignore[attr-defined]


def selection_histograms(stages: Sequence[SelectionStage], *, bins: int = 24) -> Figure:
    """Draw how many structures each selection step kept at which energy (Fig. 1b), one panel per step.

    Raises
    ------
    EvidenceError
        No stage has structures.
    """
    filled = [s for s in stages if s.size]
    if not filled:
        raise EvidenceError("no selection stage has structures to draw")
    for stage in filled:
        _finite(stage.energies, stage.name)
    zero, common = common_edges(filled, bins)
    figure = new_figure(5.6, 1.0 + 1.15 * len(filled))
    all_axes = np.atleast_1d(figure.subplots(len(filled), 1, sharex=True))
    for i, (ax, stage) in enumerate(zip(all_axes, filled, strict=True)):
        edges, counts, beyond = stage.histogram(zero, common)
        ax.bar(edges[:-1], counts, np.diff(edges), align="edge", color=COLOURS[i % len(COLOURS)])
        note = f", {beyond} beyond the axis counted in the last bin" if beyond else ""
        style_axes(ax, "", "structures", title=f"{stage.name}: {stage.size}{note}")
    all_axes[-1].set_xlabel("energy above the lowest (eV/atom)", fontsize=9)
    return figure


def time_budget(seconds: Mapping[int, Mapping[str, float]]) -> Figure:
    """Draw where the time went: hours per generation, stacked by kind of task.

    Parameters
    ----------
    seconds
        Wall seconds by kind of task, by generation.

    Raises
    ------
    EvidenceError
        No time was recorded.
    """
    generations = sorted(seconds)
    kinds = list(dict.fromkeys(k for g in generations for k in seconds[g]))
    total = sum(sum(seconds[g].values()) for g in generations)
    if not total > 0:
        raise EvidenceError("no task times were recorded")
    longest = max(sum(seconds[g].values()) for g in generations)
    unit, scale = next(
        (name, size)
        for name, size in (("hours", 3600.0), ("minutes", 60.0), ("seconds", 1.0))
        if longest > 2 * size or size == 1.0
    )
    figure = new_figure(6.8, max(2.4, 1.2 + 0.28 * len(generations)))
    ax = figure.subplots()
    left = np.zeros(len(generations))
    for i, kind in enumerate(kinds):
        width = np.array([seconds[g].get(kind, 0.0) for g in generations]) / scale
        share = 100 * width.sum() * scale / total
        ax.barh(
            generations,
            width,
            left=left,
            height=0.7,
            color=[*COLOURS, GREY][i % (len(COLOURS) + 1)],
            label=f"{kind} ({share:.0f} %)",
        )
        left += width
    ax.set_yticks(generations)
    ax.set_ylim(max(generations) + 0.6, min(generations) - 0.6)
    style_axes(ax, f"task time ({unit})", "generation")
    legend_outside(figure, [ax])
    return figure
