"""The selection experiment (Fig. 2 of Bernstein et al. 2019): error against labels by method of selection.

Above: error of the ground state's energy and error on held-out structures. Below: the lowest-energy structure of
chosen cycles.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import EvidenceError
from gapfactory.figures._style import GREY, MARKERS, new_figure, style_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

__all__ = ["CycleStructure", "MethodErrors", "selection_experiment"]

#: the paper's colours: random grey, CUR on vectors green, CUR on kernels purple; more rows take the others
_METHOD_COLOURS = {"random": GREY, "cur-vectors": "#1b9e4b", "cur-kernel": "#7b3294"}
_OTHER_COLOURS = ("#E69F00", "#0072B2", "#D55E00")
#: rows of the view's axes: a general direction, so that rows of atoms do not hide each other
_VIEW_ANGLES = (0.30, 0.22)


@dataclass(frozen=True)
class MethodErrors:
    """Errors of one method of selection in several runs that differ by their seed only.

    Parameters
    ----------
    method
        ``"random"``, ``"cur-vectors"``, ``"cur-kernel"``, or another name for a further row.
    label
        Text of the legend.
    labels : (G,)
        Labels spent when each generation's potential was fitted, ascending.
    ground_state : (S, G)
        Absolute error of the optimised ground state's energy by seed and generation, eV/atom; infinite
        where the potential has no such minimum.
    held_out : (S, G)
        Error on held-out structures, eV/atom; infinite where it is not a number.
    """

    method: str
    label: str
    labels: NDArray[np.int64]
    ground_state: NDArray[np.float64]
    held_out: NDArray[np.float64]

    def __post_init__(self) -> None:
        generations = len(self.labels)
        for name in ("ground_state", "held_out"):
            shape = np.shape(getattr(self, name))
            if len(shape) != 2 or shape[0] == 0 or shape[1] != generations or generations == 0:
                raise EvidenceError(
                    f"{self.method}: {name} has shape {shape}; give one row per seed and one column for each "
                    f"of the {generations} label counts"
                )
            if np.isnan(getattr(self, name)).any():
                raise EvidenceError(
                    f"{self.method}: {name} contains NaN; give infinity where a potential failed"
                )


@dataclass(frozen=True)
class CycleStructure:
    """The lowest-energy structure (by reference) that was labelled in one cycle.

    Parameters
    ----------
    point
        Letter in the figure, ``"A"``, ``"B"``, ``"C"``.
    labels
        Labels spent up to this cycle.
    atoms
        The structure, periodic.
    energy_above
        Reference energy above the ground state, eV/atom.
    coordination
        Mean number of neighbours within `bond_length`.
    space_group
        International Tables number, None where none was found.
    bond_length
        Bonds are drawn up to this distance, Å.
    """

    point: str
    labels: int
    atoms: Atoms
    energy_above: float
    coordination: float
    space_group: int | None
    bond_length: float


def selection_experiment(
    methods: Sequence[MethodErrors],
    structures: Sequence[CycleStructure] = (),
    *,
    phase: str = "ground state",
    floor: float = 0.001,
) -> Figure:
    """Draw the experiment: medians over the seeds with the range between the best and the worst seed.

    Energy errors below `floor` (eV/atom) are drawn at the floor, as in the paper. Infinite errors are drawn
    as crosses at the upper edge; there is no median where half of the seeds failed.

    Parameters
    ----------
    methods
        One entry per method.
    structures
        Points A, B, C ... of one method, drawn below.
    phase
        Name of the ground state, for the axis.
    floor
        Smallest energy error drawn, eV/atom.

    Raises
    ------
    EvidenceError
        There is no method, or one is given twice.
    """
    names = [m.method for m in methods]
    if not names or len(set(names)) != len(names):
        raise EvidenceError(f"give each method of selection once, and at least one; got {names}")
    figure = new_figure(8.6, 6.0 if structures else 3.3)
    if structures:
        upper, lower = np.ravel(np.asarray(figure.subfigures(2, 1, height_ratios=(1.25, 1.0))))
        pair = upper.subplots(1, 2)
        for ax, structure in zip(np.atleast_1d(lower.subplots(1, len(structures))), structures, strict=True):
            _draw_structure(ax, structure)
    else:
        pair = figure.subplots(1, 2)
    others = iter(_OTHER_COLOURS * len(names))
    colours = [_METHOD_COLOURS.get(name) or next(others) for name in names]
    for ax, quantity, title in zip(
        pair,
        ("ground_state", "held_out"),
        (f"optimised {phase}", "held-out structures"),
        strict=True,
    ):
        tables = [np.maximum(np.asarray(getattr(m, quantity), dtype=float), floor) * 1000 for m in methods]
        finite = np.concatenate([t[np.isfinite(t)] for t in tables])
        top = 3.0 * float(finite.max()) if finite.size else 1.0e3
        lost = 0
        for k, (method, table) in enumerate(zip(methods, tables, strict=True)):
            lost += int((~np.isfinite(table)).sum())
            _draw_method(ax, method, np.minimum(table, top), np.isfinite(table), colours[k], MARKERS[k % 7])
        ax.set_yscale("log")
        bottom = min(float(finite.min()) if finite.size else 1.0, top / 10) / 1.5
        ax.set_ylim(bottom, 1.35 * top if lost else 0.6 * top)
        _plain_ticks(ax)
        style_axes(ax, "number of labels", f"error of {title} (meV/atom)")
        ax.yaxis.label.set_fontsize(8)
        if lost:
            what = "no minimum" if quantity == "ground_state" else "not finite"
            ax.text(
                0.01,
                0.02,
                f"× {what}",
                transform=ax.transAxes,
                ha="left",
                va="bottom",
                fontsize=7,
                color=GREY,
            )
    _mark_points(pair[0], structures)
    figure.legend(
        *pair[0].get_legend_handles_labels(),
        loc="outside upper center",
        ncols=min(3, len(names)),
        fontsize=8,
        frameon=False,
    )
    return figure


def _draw_method(
    ax: Axes,
    method: MethodErrors,
    table: NDArray[np.float64],
    good: NDArray[np.bool_],
    colour: str,
    marker: str,
) -> None:
    n = np.asarray(method.labels)
    ax.fill_between(n, table.min(axis=0), table.max(axis=0), color=colour, alpha=0.14, linewidth=0)
    for row, fine in zip(table, good, strict=True):
        ax.plot(n, row, color=colour, linewidth=0.5, alpha=0.45)
        ax.plot(n[~fine], row[~fine], linestyle="none", marker="x", markersize=4, color=colour, alpha=0.7)
    seeds = f"{len(table)} seed" + ("s" if len(table) > 1 else "")
    failed = ~good
    # no median where half of the runs failed: a point there would look like a measured value
    median = np.where(2 * failed.sum(axis=0) >= len(table), np.nan, np.median(table, axis=0))
    ax.plot(
        n,
        median,
        color=colour,
        linewidth=2.0,
        marker=marker,
        markersize=4.5,
        label=f"{method.label} ({seeds})",
    )


def _plain_ticks(ax: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    bottom, top = ax.get_ylim()
    ax.yaxis.set_major_locator(
        LogLocator(subs=(1.0,) if top > 300 * bottom else (1.0, 2.0, 5.0), numticks=20)
    )
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def _mark_points(ax: Axes, structures: Sequence[CycleStructure]) -> None:
    """Write A, B, C above the label counts where the structures below were found."""
    for structure in structures:
        ax.axvline(structure.labels, color="#b0b0b0", linewidth=0.7, linestyle=":", zorder=0)
        ax.annotate(
            structure.point,
            (structure.labels, 1.0),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            fontsize=9,
            fontweight="bold",
        )


def _ball(
    structure: CycleStructure, radius: float = 6.4
) -> tuple[NDArray[np.float64], list[tuple[int, int]]]:
    """Return positions (n, 3) of a ball cut from the crystal, turned to the view, and its bonds."""
    from ase.build import niggli_reduce
    from ase.geometry import cellpar_to_cell

    work = structure.atoms.copy()
    niggli_reduce(work)
    work.set_cell(cellpar_to_cell(work.cell.cellpar()), scale_atoms=True)
    heights = work.get_volume() / np.linalg.norm(
        np.cross(np.roll(work.cell.array, -1, axis=0), np.roll(work.cell.array, -2, axis=0)), axis=1
    )
    repeats = [2 * int(np.ceil(radius / h)) + 1 for h in heights]
    block = work.repeat(repeats)
    middle = np.array([0.5, 0.5, 0.5]) @ block.cell.array
    centre = block.positions[np.argmin(np.linalg.norm(block.positions - middle, axis=1))]
    points = block.positions - centre
    points = points[np.linalg.norm(points, axis=1) < radius]
    a, b = _VIEW_ANGLES
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    tilt = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    points = points @ (tilt @ turn).T
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    bonds = [
        (int(i), int(j))
        for i, j in zip(*np.nonzero(np.triu(distances < structure.bond_length, 1)), strict=True)
    ]
    return points[:, [0, 2, 1]] * np.array([1.0, 1.0, -1.0]), bonds


def _draw_structure(ax: Axes, structure: CycleStructure) -> None:
    """Draw a ball of the crystal: what is nearer is drawn later and darker."""
    points, bonds = _ball(structure)
    depth = points[:, 2]
    span = float(np.ptp(depth)) or 1.0
    shade = 0.25 + 0.75 * (depth - depth.min()) / span
    for i, j in sorted(bonds, key=lambda bond: depth[bond[0]] + depth[bond[1]]):
        ends = points[[i, j]]
        level = float(shade[[i, j]].mean())
        ax.plot(ends[:, 0], ends[:, 1], color="#5a4a6e", alpha=level, linewidth=1.4 * level, zorder=level)
    order = np.argsort(depth)
    ax.scatter(
        points[order, 0],
        points[order, 1],
        s=18 + 26 * shade[order],
        c=[(0.78 - 0.42 * s, 0.70 - 0.42 * s, 0.84 - 0.32 * s) for s in shade[order]],
        edgecolors="white",
        linewidths=0.4,
        zorder=2,
    )
    ax.set_aspect("equal")
    ax.set_axis_off()
    group = f"space group {structure.space_group}" if structure.space_group else "no space group"
    ax.set_title(
        f"{structure.point}: {structure.labels} labels\n{1000 * structure.energy_above:.0f} meV/atom above the "
        f"ground state\n{structure.coordination:.1f} neighbours, {group}",
        fontsize=8,
    )
