"""Phonon bands with densities of states, and errors of elastic constants.

As in Figs. 1-3 and 5-8 of Allen and Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gapfactory.errors import EvidenceError
from gapfactory.figures._style import COLOURS, GREY, legend_outside, new_figure, style_axes

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gapfactory.analysis.elasticity import ElasticComparison
    from gapfactory.analysis.phonons import PhononPath, Phonons

__all__ = [
    "REFERENCE_LINE",
    "PhononPanel",
    "draw_bands",
    "elastic_errors_picture",
    "finish_bands",
    "mark_imaginary",
    "phonon_picture",
    "phonon_pictures",
]

#: The reference is dashed and black in every figure.
REFERENCE_LINE: Final[dict[str, Any]] = {"color": "black", "linestyle": "--", "linewidth": 1.0}


@dataclass(frozen=True)
class PhononPanel:
    """What is drawn of one crystal.

    Attributes
    ----------
    title
        Above the bands; may be empty.
    reference
        Drawn dashed in black, on top; or None.
    potentials
        Drawn in colours and named by their `method`; on the same path (`phonons(..., like=reference)`).
    """

    title: str
    reference: Phonons | None
    potentials: tuple[Phonons, ...] = ()

    @property
    def every(self) -> tuple[Phonons, ...]:
        """All of them, the reference last.

        Raises
        ------
        EvidenceError
            There is nothing to draw, or the paths differ.
        """
        found = (*self.potentials, *(() if self.reference is None else (self.reference,)))
        if not found:
            raise EvidenceError("no phonons to draw")
        path = found[-1].path
        for one in found:
            if one.path.wave_vectors.shape != path.wave_vectors.shape or not np.allclose(
                one.path.wave_vectors, path.wave_vectors, atol=1e-8
            ):
                raise EvidenceError(
                    f"phonons of {one.method!r} are on another path; make them with phonons(..., like=reference)"
                )
        return found


def phonon_picture(
    reference: Phonons | None, potentials: Sequence[Phonons] = (), *, title: str | None = None
) -> Figure:
    """Draw bands along the path, and densities of states beside them, imaginary frequencies below zero.

    Parameters
    ----------
    reference, potentials, title
        As in `PhononPanel`.

    Raises
    ------
    EvidenceError
        There is nothing to draw, or the paths differ.
    """
    return phonon_pictures([PhononPanel(title or "", reference, tuple(potentials))])


def phonon_pictures(panels: Sequence[PhononPanel]) -> Figure:
    """Draw bands and densities of states of several crystals, one below the other (Figs. 1, 2, 3 and 8).

    Raises
    ------
    EvidenceError
        As `phonon_picture`.
    """
    if not panels:
        raise EvidenceError("no phonons to draw")
    figure = new_figure(7.6, 0.4 + 3.4 * len(panels))
    axes = figure.subplots(len(panels), 2, sharey="row", width_ratios=[3.2, 1.0], squeeze=False)
    for (bands, dos), panel in zip(axes, panels, strict=True):
        every = panel.every
        unstable = any(not one.stable for one in every)
        style_axes(bands, "", "frequency (THz), imaginary below zero" if unstable else "frequency (THz)")
        style_axes(dos, "states per THz and cell" if panel is panels[-1] else "", "")
        if panel.title:
            # names come from outside: a dollar sign in one begins no formula
            bands.set_title(panel.title, fontsize=9.0, loc="left", parse_math=False)
        for one, style in _styled(panel):
            draw_bands(bands, one, label=_plain(one.method), **style)
            dos.plot(one.dos, one.dos_frequencies, **style)
        lowest = min(one.lowest for one in every)
        limits = (1.1 * lowest if unstable else 0.0, 1.05 * max(one.highest for one in every))
        for ax in (bands, dos):
            mark_imaginary(ax, limits)
        finish_bands(bands, every[-1].path)
        bands.set_ylim(*limits)
        dos.set_xlim(left=0.0)
    legend_outside(figure, [bands for bands, _ in axes])
    return figure


def _styled(panel: PhononPanel) -> Iterator[tuple[Phonons, dict[str, Any]]]:
    """Yield phonons with their line, the reference last."""
    for k, one in enumerate(panel.potentials):
        yield one, {"color": COLOURS[k % (len(COLOURS) - 1)], "linestyle": "-", "linewidth": 1.4}
    if panel.reference is not None:
        yield panel.reference, REFERENCE_LINE


def draw_bands(axes: Axes, found: Phonons, *, label: str | None = None, **style: Any) -> None:
    """Draw the branches along the path, unbroken pieces apart; one line has the label."""
    for number, piece in enumerate(_pieces(found.path)):
        for branch in range(found.bands.shape[1]):
            axes.plot(
                found.path.distances[piece],
                found.bands[piece, branch],
                label=label if number == branch == 0 else None,
                **style,
            )


def mark_imaginary(axes: Axes, limits: tuple[float, float]) -> None:
    """Draw the line at zero; shade what is below it, where the axis begins below it."""
    axes.axhline(0.0, color=GREY, linewidth=0.8)
    if limits[0] < 0:
        axes.axhspan(limits[0], 0.0, color="#f0e2d8", zorder=0, linewidth=0)


def finish_bands(axes: Axes, path: PhononPath, *, least: float = 0.02) -> None:
    """Name the corners of the path and let it fill the axis; `least` is the room of a letter, as a part of the path."""
    _ticks(axes, path, least)
    axes.set_xlim(path.distances[0], path.distances[-1])


def _plain(name: str) -> str:
    """Return a name from outside so that a dollar sign in it begins no formula."""
    return name.replace("$", r"\$")


def _pieces(path: PhononPath) -> list[slice]:
    ends = [0, *path.breaks, len(path.distances)]
    return [slice(a, b) for a, b in pairwise(ends)]


def _ticks(axes: Axes, path: PhononPath, least: float) -> None:
    """Name the corners of the path; the two at a break share a tick, one too close to its neighbour stands lower."""
    places: list[float] = []
    names: list[str] = []
    for k, name in path.labels:
        shown = "Γ" if name == "G" else name
        if places and abs(path.distances[k] - places[-1]) < 1e-9:
            names[-1] += f"|{shown}"
        else:
            places.append(float(path.distances[k]))
            names.append(shown)
    least *= float(path.distances[-1])
    for k in range(1, len(places)):
        room = least * (1.0 + 0.35 * (len(names[k]) + len(names[k - 1]) - 2))
        if places[k] - places[k - 1] < room and not names[k - 1].startswith("\n"):
            names[k] = f"\n{names[k]}"
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
