"""Pictures of cells: where the atoms are, how close they come, what the cell looks like."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import EvidenceError
from gapfactory.figures._style import COLOURS, GREY, legend_outside, new_figure, style_axes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike, NDArray

__all__ = ["cell_pictures", "draw_atoms", "level_differences"]

#: Atoms are drawn at this fraction of their covalent radius, so that those behind are seen.
_SIZE = 0.55
#: Two atoms closer than this times the sum of their covalent radii are joined, below `_CLOSE` in red.
_BOND, _CLOSE = 1.2, 0.7
_PER_ROW = 4
#: Pairs of a cell's corners, numbered by their three bits, that an edge joins.
_EDGES = [(i, i | 1 << k) for i in range(8) for k in range(3) if not i & 1 << k]


def cell_pictures(structures: Sequence[tuple[str, Atoms]]) -> Figure:
    """Draw each structure in its cell, seen a little from above, with the shortest distance between two atoms.

    Parameters
    ----------
    structures
        (title, structure); atoms are drawn inside their cell. Lines join close atoms of one cell, red ones atoms closer
        than 0.7 of the sum of their covalent radii.

    Raises
    ------
    EvidenceError
        There are none.
    """
    if not structures:
        raise EvidenceError("no structures to draw")
    columns = min(len(structures), _PER_ROW)
    rows = math.ceil(len(structures) / columns)
    figure = new_figure(2.15 * max(columns, 2), 2.5 * rows)
    axes = np.atleast_1d(figure.subplots(rows, columns)).ravel()
    for ax, (title, atoms) in zip(axes, structures, strict=False):
        _draw(ax, title, atoms)
    for ax in axes[len(structures) :]:
        ax.set_axis_off()
    return figure


def _view() -> NDArray[np.float64]:
    """Return the rotation to screen axes (right, up, towards the eye): z is up, seen from the front and above."""
    turn, tilt = np.radians(25.0), np.radians(15.0)
    right = np.array([np.cos(turn), np.sin(turn), 0.0])
    eye = np.array([np.sin(turn) * np.cos(tilt), -np.cos(turn) * np.cos(tilt), np.sin(tilt)])
    return np.array([right, np.cross(eye, right), eye])


def _draw(ax: Axes, title: str, atoms: Atoms) -> None:
    draw_atoms(ax, atoms)
    # names come from outside: a dollar sign in one begins no formula
    ax.set_title(f"{title}\n{_facts(atoms)}", fontsize=7, linespacing=1.3, parse_math=False)


def draw_atoms(
    ax: Axes, atoms: Atoms, *, colours: Sequence[Any] | None = None, sizes: ArrayLike | None = None
) -> None:
    """Draw atoms inside their cell, seen a little from above, those in front last.

    Parameters
    ----------
    ax
        Where; its limits and aspect are set.
    atoms
        The structure.
    colours
        One colour for each atom; by default those of the elements, and contacts that are too short in red.
    sizes
        Shape (N,): radius of each atom as a fraction of its covalent radius.
    """
    from ase.data import covalent_radii
    from ase.data.colors import jmol_colors
    from matplotlib.patches import Circle

    view = _view()
    shown = atoms.copy()
    if shown.pbc.any():
        shown.wrap()
    points = shown.positions @ view.T
    radii = covalent_radii[shown.numbers]
    drawn = radii * (np.full(len(shown), _SIZE) if sizes is None else np.asarray(sizes, dtype=float))
    if shown.pbc.any():
        corners = np.array([[i >> k & 1 for k in range(3)] for i in range(8)]) @ shown.cell.array @ view.T
        for i, j in _EDGES:
            ax.plot(*corners[[i, j], :2].T, color=GREY, linewidth=0.8, zorder=1, solid_capstyle="round")
    else:
        corners = points
    _draw_bonds(ax, points, radii, warn=colours is None)
    depth = points[:, 2]
    for order, k in enumerate(np.argsort(depth, kind="stable")):
        circle = Circle(
            tuple(points[k, :2]),
            float(drawn[k]),
            facecolor=jmol_colors[shown.numbers[k]] if colours is None else colours[k],
            edgecolor="black",
            linewidth=0.6 if len(shown) < 60 else 0.4,
            alpha=0.85 if colours is None else 1.0,
            zorder=4 + order / (1 + len(shown)),
        )
        ax.add_patch(circle)
    every = np.concatenate([corners[:, :2], points[:, :2]])
    middle = (every.min(axis=0) + every.max(axis=0)) / 2.0
    # a lone atom does not fill its picture
    half = np.maximum(np.ptp(every, axis=0) / 2.0 + float(drawn.max()) + 0.1, 2.0)
    ax.set_xlim(middle[0] - half[0], middle[0] + half[0])
    ax.set_ylim(middle[1] - half[1], middle[1] + half[1])
    ax.set_aspect("equal")
    ax.set_axis_off()


def _draw_bonds(ax: Axes, points: NDArray[np.float64], radii: NDArray[np.float64], *, warn: bool) -> None:
    """Join atoms of one cell that are close; with `warn`, those that are too close in red and in front."""
    apart = np.linalg.norm(points[:, None] - points[None], axis=-1) / (radii[:, None] + radii[None])
    for i, j in np.argwhere(np.tril(apart < _BOND, -1)):
        close = warn and apart[i, j] < _CLOSE
        colour, width = (COLOURS[1], 2.4) if close else ("#8a8a8a", 1.2)
        ax.plot(*points[[i, j], :2].T, color=colour, linewidth=width, zorder=6 if close else 2)


def _facts(atoms: Atoms) -> str:
    facts = [atoms.get_chemical_formula()]
    shortest = _shortest(atoms)
    if shortest is not None:
        facts.append(f"shortest {shortest:.2f} Å")
    if atoms.pbc.all():
        facts.append(f"{atoms.get_volume() / len(atoms):.1f} Å³/atom")
    return ", ".join(facts)


def _shortest(atoms: Atoms) -> float | None:
    """Return the shortest distance between two atoms or periodic images, in Å; None for one atom alone."""
    from ase.neighborlist import neighbor_list

    reach = 2.0
    if len(atoms) == 1 and not atoms.pbc.any():
        return None
    for _ in range(4):
        distances: Any = neighbor_list("d", atoms, reach)
        if len(distances):
            return float(distances.min())
        reach *= 2.0
    return None


def level_differences(energies: ArrayLike, differences: ArrayLike) -> Figure:
    """Draw how energies at a second level differ from those at a first, constants per species taken out.

    Parameters
    ----------
    energies
        Shape (n,), at the first level, eV/atom.
    differences
        Shape (n,), second minus first without the constants, eV/atom.

    Raises
    ------
    EvidenceError
        No structures, or shapes that do not pair up.
    """
    e, d = np.asarray(energies, dtype=float), 1000.0 * np.asarray(differences, dtype=float)
    if e.size == 0 or e.shape != d.shape:
        raise EvidenceError(f"cannot draw energies {e.shape} and differences {d.shape}")
    figure = new_figure(6.4, 3.6)
    ax = figure.subplots()
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    rms = float(np.sqrt(np.mean(d**2)))
    ax.plot(
        e - e.min(), d, linestyle="none", marker="o", markersize=3.5, alpha=0.6, markeredgewidth=0, color=COLOURS[0],
        label=f"structures ({e.size})",
    )  # fmt: skip
    ax.axhspan(-rms, rms, color=COLOURS[0], alpha=0.10, linewidth=0, label=f"RMS {rms:.3g} meV/atom")
    style_axes(ax, "energy above the lowest, first level (eV/atom)", "second minus first level (meV/atom)")
    legend_outside(figure, [ax])
    return figure
