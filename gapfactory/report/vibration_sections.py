"""Sections on vibrations and elasticity (2022): phonons and elastic constants of each crystal, and studies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory import figures
from gapfactory.analysis.vibration_overview import (
    LearningFit,
    bain_places,
    elastic_rows,
    learning_rows,
    verdict,
)
from gapfactory.figures import PhononPanel
from gapfactory.report.section import make_section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.analysis.vibration_overview import CrystalVibrations
    from gapfactory.report.data import ReportData, VibrationEvidence
    from gapfactory.report.section import Section

__all__ = ["vibration_sections"]


def vibration_sections(data: ReportData) -> tuple[Section, ...]:
    """Return phonons and elastic constants of a campaign that measures them; studies only where it has them."""
    found = data.vibrations
    if found is None:
        return ()
    # most campaigns have no study of this kind
    learnt = [(c, fits) for c in found.crystals if (fits := LearningFit.of(c))]
    on_path = bain_places(found.crystals)
    return (
        _phonons(found),
        _elastic(found),
        *([_bain(on_path)] if on_path else []),
        *(_learning(crystal, fits, several=len(learnt) > 1) for crystal, fits in learnt),
        *([_static(found)] if any(c.by("static") for c in found.crystals) else []),
    )


def _said(found: VibrationEvidence) -> str:
    said = [judged[1] for c in found.crystals if (judged := verdict(c, found.limits)) is not None]
    return "".join(f" {text[:1].upper()}{text[1:]}." for text in (*said, *found.missing))


def _phonons(found: VibrationEvidence) -> Section:
    shown = [c for c in found.crystals if c.eta is None] or list(found.crystals)
    panels = [
        PhononPanel(
            c.title, c.reference.phonons, tuple(p.vibrations.phonons for p in c.potentials if not p.variant)
        )
        for c in shown
    ]
    rows = []
    for crystal in found.crystals:
        judged = verdict(crystal, found.limits)
        own = crystal.by("")
        if judged is None or own is None:
            continue
        by = own.comparison.phonons
        rows.append(
            (
                crystal.title,
                "passes" if judged[0] else "fails",
                by.rmse_THz,
                by.largest_THz,
                by.path_rmse_THz,
                by.reference_lowest_THz,
                by.potential_lowest_THz,
                by.reference_stable,
                by.potential_stable,
            )
        )
    return make_section(
        "phonons",
        "Phonons",
        "Frequencies along the standard path and density of states of each crystal, dashed by the reference; imaginary "
        f"ones are below zero.{_said(found)}",
        missing=f"No phonons have been measured.{_said(found)}",
        draw=(lambda: figures.phonon_pictures(panels)) if panels else None,
        header=(
            "crystal",
            "verdict",
            "rmse_THz",
            "largest_THz",
            "path_rmse_THz",
            "reference_lowest_THz",
            "potential_lowest_THz",
            "reference_stable",
            "potential_stable",
        ),
        rows=rows,
    )


def _elastic(found: VibrationEvidence) -> Section:
    compared = {
        c.title: own.comparison.elastic
        for c in found.crystals
        if (own := c.by("")) is not None and own.comparison.elastic is not None
    }
    _, missing = elastic_rows(found.crystals, {"": "potential"})
    rows = [
        (c.title, r["quantity"], r["unit"], r["reference"], r["potential"], r["error_percent"])
        for c in found.crystals
        if (own := c.by("")) is not None
        for r in own.comparison.rows()
    ]
    without = "".join(f" {text}." for text in missing)
    return make_section(
        "elastic_constants",
        "Elastic constants",
        "Errors of the bulk and the shear modulus (Hill) and of the independent elastic constants of each relaxed "
        f"crystal, in percent of the reference; the table has lattice parameters as well.{without}",
        missing=f"No crystal has elastic constants by both.{without}",
        draw=(lambda: figures.elastic_errors_picture(compared)) if compared else None,
        header=("crystal", "quantity", "unit", "reference", "potential", "error_percent"),
        rows=rows,
    )


def _bain(path: Sequence[CrystalVibrations]) -> Section:
    return make_section(
        "bain_path",
        "Bain's path",
        "Phonons at one volume from body-centred cubic (top) to face-centred cubic (bottom), dashed by the reference.",
        missing="No place on the path was measured.",
        draw=lambda: figures.bain_picture(path),
        header=(
            "eta",
            "crystal",
            "trained_on",
            "rmse_THz",
            "reference_lowest_THz",
            "potential_lowest_THz",
        ),
        rows=(
            (
                c.eta,
                c.title,
                c.trained,
                own.comparison.phonons.rmse_THz,
                own.comparison.phonons.reference_lowest_THz,
                own.comparison.phonons.potential_lowest_THz,
            )
            for c in path
            if (own := c.by("")) is not None
        ),
    )


def _learning(crystal: CrystalVibrations, fits: Sequence[LearningFit], *, several: bool) -> Section:
    rows = learning_rows(crystal)
    return make_section(
        f"phonons_learning_{_key(crystal.name)}" if several else "phonons_learning",
        f"More and more labels: {crystal.title}",
        "Phonons by fits to random parts of the labels. Bars are labels, sparse points and errors of frequencies; "
        "on the left the sparse points come from all frames, labelled or not, on the right from those of the fit.",
        missing="No such fit was made.",
        draw=lambda: figures.phonon_learning_picture(crystal, fits),
        header=tuple(rows[0]),
        rows=(tuple(row.values()) for row in rows),
    )


def _key(name: str) -> str:
    """Return a name as a part of a file's name."""
    return "".join(c if c.isascii() and c.isalnum() else "-" for c in name)


def _static(found: VibrationEvidence) -> Section:
    names = {"static": "constant sigmas", "": "sigmas by component"}
    rows, _ = elastic_rows(found.crystals, names)
    compared = {
        f"{c.title}, {name}": by.comparison.elastic
        for c in found.crystals
        if c.by("static") is not None
        for variant, name in names.items()
        if (by := c.by(variant)) is not None and by.comparison.elastic is not None
    }
    return make_section(
        "constant_sigmas",
        "Constant expected errors",
        "Errors of elastic constants by the potential, whose expected errors follow the size of each component, and by "
        "one with constant ones.",
        missing="No crystal has elastic constants by both.",
        draw=(lambda: figures.elastic_errors_picture(compared)) if compared else None,
        header=tuple(rows[0]) if rows else (),
        rows=(tuple(row.values()) for row in rows),
    )
