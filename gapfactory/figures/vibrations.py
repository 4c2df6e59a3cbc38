"""Phonon bands with densities of states, and errors of elastic constants.

As in Figs. 1-3 and 5-8 of Allen and Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import EvidenceError
from gapfactory.figures._style import COLOURS, GREY, legend_outside, new_figure, style_axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gapfactory.analysis.elasticity import ElasticComparison
    from gapfactory.analysis.phonons import PhononPath, Phonons

__all__ = ["elastic_errors_picture", "phonon_picture"]


def phonon_picture(
    reference: Phonons | None, potentials: Sequence[Phonons] = (), *, title: str | None = None
) -> Figure:
    """Draw bands along the path, and densities of states beside them, imaginary frequencies below zero.

    Parameters
    ----------
    reference
        Drawn dashed in black, on top; or None.
    potentials
        Drawn in colours and named by their `method`; on the same path (`phonons(..., like=reference)`).
    title
        Above the bands.

    Raises
    ------
    EvidenceError
        There is nothing to draw, or the paths differ.
    """
    every = [*potentials, *([] if reference is None else [reference])]
    if not every:
        raise EvidenceError("no phonons to draw")
    path = every[-1].path
    for one in every:
        if one.path.wave_vectors.shape != path.wave_vectors.shape or not np.allclose(
            one.path.wave_vectors, path.wave_vectors, atol=1e-8
        ):
            raise EvidenceError(
                f"phonons of {one.method!r} are on another path; make them with phonons(..., like=reference)"
            )
    figure = new_figure(7.6, 3.8)
    bands, dos = figure.subplots(1, 2, sharey=True, width_ratios=[3.2, 1.0])
    style_axes(bands, "", "frequency (THz)")
    style_axes(dos, "states per THz and cell", "")
    if title:
        # names come from outside: a dollar sign in one begins no formula
        bands.set_title(title, fontsize=9.0, loc="left", parse_math=False)
    for k, one in enumerate(every):
        last = reference is not None and k == len(every) - 1
        colour = "black" if last else COLOURS[k % (len(COLOURS) - 1)]
        line, width = ("--", 1.0) if last else ("-", 1.4)
        for number, piece in enumerate(_pieces(path)):
            for branch in range(one.bands.shape[1]):
                bands.plot(
                    path.distances[piece],
                    one.bands[piece, branch],
                    linestyle=line,
                    linewidth=width,
                    color=colour,
                    label=_plain(one.method) if number == branch == 0 else None,
                )
        dos.plot(one.dos, one.dos_frequencies, linestyle=line, linewidth=width, color=colour)
    _ticks(bands, path)
    lowest = min(one.lowest for one in every)
    unstable = any(not one.stable for one in every)
    for ax in (bands, dos):
        ax.axhline(0.0, color=GREY, linewidth=0.8)
        if unstable:
            ax.axhspan(1.1 * lowest, 0.0, color="#f0e2d8", zorder=0, linewidth=0)
    if unstable:
        bands.set_ylabel("frequency (THz), imaginary below zero", fontsize=9.0)
    bands.set_ylim(1.1 * lowest if unstable else 0.0, 1.05 * max(one.highest for one in every))
    bands.set_xlim(path.distances[0], path.distances[-1])
    dos.set_xlim(left=0.0)
    legend_outside(figure, [bands])
    return figure


def _plain(name: str) -> str:
    """Return a name from outside so that a dollar sign in it begins no formula."""
    return name.replace("$", r"\$")


def _pieces(path: PhononPath) -> list[slice]:
    ends = [0, *path.breaks, len(path.distances)]
    return [slice(a, b) for a, b in pairwise(ends)]


def _ticks(axes: Axes, path: PhononPath) -> None:
    """Name the corners of the path; the two at a break share a tick."""
    places: list[float] = []
    names: list[str] = []
    for k, name in path.labels:
        shown = "Γ" if name == "G" else name
        if places and abs(path.distances[k] - places[-1]) < 1e-9:
            names[-1] += f"|{shown}"
        else:
            places.append(float(path.distances[k]))
            names.append(shown)
    axes.set_xticks(places, names)
    axes.grid(True, axis="x", color="#a0a0a0", linewidth=0.6)


def elastic_errors_picture(
    comparisons: Mapping[str, ElasticComparison], *, title: str | None = None
) -> Figure:
    """Draw the errors of bulk modulus, shear modulus and elastic constants in percent of the reference.

    Parameters
    ----------
    comparisons
        By name of crystal or potential, in the order in which they are drawn. A constant that the reference has as zero
        is left out.
    title
        Above the bars.

    Raises
    ------
    EvidenceError
        There is nothing to draw.
    """
    if not comparisons:
        raise EvidenceError("no elastic constants to draw")
    errors = {
        name: {r["constant"]: r["error_percent"] for r in found.rows() if r["error_percent"] is not None}
        for name, found in comparisons.items()
    }
    constants = list(dict.fromkeys(c for found in errors.values() for c in found))
    # in the order of tables: moduli, then C11, C12, ...
    constants.sort(key=lambda c: (len(c), c))
    figure = new_figure(max(5.0, 1.6 + 0.32 * len(constants) * (1 + len(errors))), 3.4)
    axes = figure.subplots()
    style_axes(axes, "", "error (% of the reference)")
    if title:
        axes.set_title(title, fontsize=9.0, loc="left", parse_math=False)
    width = 0.8 / len(errors)
    for k, (name, found) in enumerate(errors.items()):
        at = [i - 0.4 + (k + 0.5) * width for i, c in enumerate(constants) if c in found]
        axes.bar(
            at,
            [found[c] for c in constants if c in found],
            width,
            color=COLOURS[k % len(COLOURS)],
            label=_plain(name),
        )
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    shown = [c if len(c) == 1 else f"$C_{{{c[1:]}}}$" for c in constants]
    axes.set_xticks(range(len(constants)), shown)
    axes.grid(False, axis="x")
    legend_outside(figure, [axes])
    return figure
