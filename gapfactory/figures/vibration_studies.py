"""Phonons by fits to more and more labels, and along Bain's path.

As in Figs. 4 and 5 of Allen and Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gapfactory.errors import EvidenceError
from gapfactory.figures._style import COLOURS, GREY, new_figure, style_axes
from gapfactory.figures.vibrations import REFERENCE_LINE, draw_bands, finish_bands, mark_imaginary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from gapfactory.analysis.phonons import Phonons
    from gapfactory.analysis.vibration_overview import CrystalVibrations, LearningFit

__all__ = ["bain_picture", "frequency_limits", "phonon_learning_picture"]

#: A fit to few labels may be anything: the axis ends at these multiples of the reference's highest frequency.
_LEAST, _MOST = -0.75, 1.4
_LABELS, _SPARSE, _ERROR = COLOURS[0], COLOURS[1], COLOURS[2]


def frequency_limits(reference: Phonons, found: Sequence[Phonons]) -> tuple[float, float]:
    """Return a frequency axis that shows all modes, cut where they are far from those of the reference, THz."""
    top = reference.highest
    low = min(0.0, *(float(one.bands.min()) for one in (reference, *found)))
    high = max(float(one.bands.max()) for one in (reference, *found))
    least = min(_LEAST * top, 1.2 * reference.lowest)
    stable = all(one.stable for one in (reference, *found))
    return (0.0 if stable else 1.1 * max(low, least), 1.05 * min(high, _MOST * top))


def phonon_learning_picture(crystal: CrystalVibrations, fits: Sequence[LearningFit]) -> Figure:
    """Draw bands of fits to more and more labels (Fig. 4), with bars of labels, sparse points and errors between them.

    On the left the sparse points come from all frames, on the right from those with the labels of the fit. Lengths of
    bars are relative to the longest of their kind; the numbers stand beside them.

    Parameters
    ----------
    crystal
        Whose phonons.
    fits
        As `LearningFit.of` gives them.

    Raises
    ------
    EvidenceError
        There are none.
    """
    if not fits:
        raise EvidenceError("no fits to parts of the labels to draw")
    sizes = sorted({fit.labels for fit in fits})
    at = {(fit.labels, fit.sparse_of): fit for fit in fits}
    reference = crystal.reference.phonons
    limits = frequency_limits(reference, [fit.found.vibrations.phonons for fit in fits])
    figure = new_figure(9.2, 0.9 + 1.55 * len(sizes))
    axes = figure.subplots(len(sizes), 3, width_ratios=[1.0, 0.62, 1.0], squeeze=False)
    for row, labels in enumerate(sizes):
        last = labels == sizes[-1]
        sides: tuple[tuple[int, Literal["all", "own"]], ...] = ((0, "all"), (2, "own"))
        for column, sparse_of in sides:
            ax = axes[row, column]
            style_axes(ax, "", "THz" if column == 0 else "")
            _panel(ax, reference, at.get((labels, sparse_of)), limits)
            if not last:
                ax.set_xticklabels([])
            if column == 2:
                ax.tick_params(labelleft=False)
        _bars(axes[row, 1], labels, [at.get((labels, key)) for _, key in sides], fits)
    axes[0, 0].set_title("(a) sparse points of all frames", fontsize=9.0, loc="left")
    axes[0, 1].set_title("(a)   |   (b)", fontsize=9.0)
    axes[0, 2].set_title("(b) sparse points of the labelled frames", fontsize=9.0, loc="left")
    _legend(figure, axes[0, 0], axes[0, 1])
    return figure


def _panel(axes: Axes, reference: Phonons, fit: LearningFit | None, limits: tuple[float, float]) -> None:
    mark_imaginary(axes, limits)
    if fit is None:
        axes.text(0.5, 0.5, "not fitted", transform=axes.transAxes, ha="center", color=GREY, fontsize=8.5)
    else:
        draw_bands(
            axes, fit.found.vibrations.phonons, label="potential", color=_LABELS, linestyle="-", linewidth=1.2
        )
    draw_bands(axes, reference, label="reference", **{**REFERENCE_LINE, "linewidth": 0.8})
    finish_bands(axes, reference.path, least=0.035)
    axes.set_ylim(*limits)


def _bars(axes: Axes, labels: int, here: Sequence[LearningFit | None], fits: Sequence[LearningFit]) -> None:
    """Draw the bars of one size: labels across the middle, sparse points and errors to both sides."""
    most = max(fit.labels for fit in fits)
    sparse = max((fit.found.fit.n_sparse or 0 for fit in fits), default=0) or 1
    worst = max(fit.found.comparison.phonons.rmse_THz for fit in fits) or 1.0
    axes.barh(2, 1.2 * labels / most, left=-0.6 * labels / most, height=0.62, color=_LABELS, label="labels")
    _number(axes, 0.6 * labels / most, 2, str(labels))
    for sign, fit in zip((-1, 1), here, strict=True):
        if fit is None:
            continue
        if fit.found.fit.n_sparse is not None:
            length = 0.6 * sign * fit.found.fit.n_sparse / sparse
            axes.barh(1, length, height=0.62, color=_SPARSE, label="sparse points")
            _number(axes, length, 1, str(fit.found.fit.n_sparse))
        error = fit.found.comparison.phonons.rmse_THz
        length = 0.6 * sign * error / worst
        axes.barh(0, length, height=0.62, color=_ERROR, label="RMSE (THz)")
        _number(axes, length, 0, f"{error:.1f}" if error >= 1 else f"{error:.2g}")
    axes.axvline(0.0, color=GREY, linewidth=0.8)
    axes.set_xlim(-1.0, 1.0)
    axes.set_ylim(-0.6, 2.6)
    axes.set_axis_off()


def _number(axes: Axes, x: float, y: float, text: str) -> None:
    axes.annotate(
        text,
        (x, y),
        xytext=(3 if x >= 0 else -3, 0),
        textcoords="offset points",
        va="center",
        ha="left" if x >= 0 else "right",
        fontsize=8,
    )


def _legend(figure: Figure, *axes: Axes) -> None:
    found: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(str(label), handle)
    figure.legend(
        list(found.values()),
        list(found),
        loc="outside lower center",
        ncols=len(found),
        fontsize=8.0,
        frameon=False,
    )


def bain_picture(crystals: Sequence[CrystalVibrations], *, variant: str = "") -> Figure:
    """Draw bands along Bain's path (Fig. 5), body-centred cubic at the top, face-centred cubic at the bottom.

    Parameters
    ----------
    crystals
        At places of the path, each with its `eta`, in any order.
    variant
        Of the potential.

    Raises
    ------
    EvidenceError
        There are none on the path.
    """
    found = sorted((c for c in crystals if c.eta is not None), key=lambda c: c.eta or 0.0)
    if not found:
        raise EvidenceError("no crystals on Bain's path to draw")
    figure = new_figure(6.4, 0.7 + 1.75 * len(found))
    axes = figure.subplots(len(found), 1, squeeze=False)[:, 0]
    for ax, crystal in zip(axes, found, strict=True):
        potential = crystal.by(variant)
        reference = crystal.reference.phonons
        shown = [] if potential is None else [potential.vibrations.phonons]
        limits = frequency_limits(reference, shown)
        style_axes(ax, "", "THz")
        mark_imaginary(ax, limits)
        if potential is not None:
            draw_bands(ax, shown[0], label="potential", color=_LABELS, linestyle="-", linewidth=1.3)
        draw_bands(ax, reference, label="reference", **REFERENCE_LINE)
        finish_bands(ax, reference.path)
        ax.set_ylim(*limits)
        ax.set_title(_place(crystal), fontsize=9.0, loc="left")
        if potential is not None:
            error = f"RMSE {potential.comparison.phonons.rmse_THz:.2f} THz"
            ax.set_title(error, fontsize=8.5, loc="right", color=GREY)
    _legend(figure, *axes)
    return figure


def _place(crystal: CrystalVibrations) -> str:
    """Return the title of a place on the path."""
    ends = {0.0: ", body-centred cubic", 1.0: ", face-centred cubic"}
    eta = crystal.eta or 0.0
    taught = {True: ", trained on", False: ", not trained on", None: ""}[crystal.trained]
    return f"η = {eta:.3g}{ends.get(round(eta, 6), '')}{taught}"
