"""Sections on what the searches of a campaign gave: energies by origin, known crystals, targets found (2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory import figures
from gapfactory.analysis.database_overview import DatabasePoint, database_overview
from gapfactory.report.section import make_section

if TYPE_CHECKING:
    from gapfactory.report.data import ReportData
    from gapfactory.report.section import Section

__all__ = ["search_sections"]

#: Columns of a ranking.
_RANKED = (
    *(
        "composition",
        "atoms",
        "space_group",
        "enthalpy_eV_per_atom",
        "above_eV_per_atom",
        "before_eV_per_atom",
    ),
    *("volume_A3_per_atom", "encounters", "status", "id", "start"),
)


def search_sections(data: ReportData) -> tuple[Section, ...]:
    """Return the boxes of energies; errors of crystals and diagnostic searches only where the campaign has them."""
    return (
        _boxes(data),
        *([_crystals(data)] if data.crystals is not None else []),
        *([_searches(data)] if data.searches else []),
        *([_ranking(data)] if data.rankings else []),
    )


def _ranking(data: ReportData) -> Section:
    words = []
    for table in data.rankings:
        best = [row for row in table["rows"] if row["above_eV_per_atom"] == 0.0]
        names = "; ".join(
            f"{r['composition']} {r['space_group'] or 'without a space group'}, {r['atoms']} atoms, "
            f"{r['enthalpy_eV_per_atom']:.4f} eV/atom, met {r['encounters']} times"
            for r in best
        )
        words.append(
            f"{table['title'].capitalize()}: {len(table['rows'])} distinct structures, lowest {names}"
        )
    return make_section(
        "ranking",
        "Ranking",
        f"The distinct structures of the search and of each stage after it, by enthalpy per atom. {'. '.join(words)}.",
        missing="Nothing is drawn of a ranking; its table has every structure.",
        draw=None,
        header=("stage", "pressure_GPa", *_RANKED),
        rows=(
            (table["title"], table["pressure_GPa"], *(row[name] for name in _RANKED))
            for table in data.rankings
            for row in table["rows"]
        ),
    )


def _boxes(data: ReportData) -> Section:
    lowest = min((p.energy for p in data.training), default=0.0)
    points = [
        DatabasePoint(p.id, p.generation, p.component, p.origin, p.volume, p.energy) for p in data.training
    ]
    found = database_overview(points, zero=("the lowest", lowest)) if points else None
    rows = [] if found is None else found.box_rows()
    return make_section(
        "energy_boxes",
        "Energies by origin and generation",
        "Reference energies of the labelled structures: median, box of 68 %, whiskers to the whole range. One panel "
        "for what they are, generations side by side, one colour for each component of the cells.",
        missing="No structure has been labelled; boxes come with the first labels.",
        draw=None if found is None else lambda: figures.database_boxes(found),
        header=tuple(rows[0]) if rows else (),
        rows=(tuple(row.values()) for row in rows),
    )


def _crystals(data: ReportData) -> Section:
    found = data.crystals
    rows = [] if found is None else found.rows()
    return make_section(
        "crystal_errors",
        "Errors of distorted crystals",
        "Energy errors of each potential on distorted cells of known crystals; hollow where it was trained on them. "
        "In brackets: how many cells.",
        missing="No distorted crystal has been measured.",
        draw=None if found is None else lambda: figures.distorted_crystal_errors(found),
        header=("crystal", "generation", "n", "energy_rmse_meV_per_atom", "unusable", "trained_on"),
        rows=(
            (r["phase"], r["potential"], r["n"], r["rmse_meV_per_atom"], r["unusable"], r["trained"])
            for r in rows
        ),
    )


def _searches(data: ReportData) -> Section:
    words = ". ".join(found.sentence() for found in data.searches[-4:])
    return make_section(
        "searches",
        "Diagnostic searches",
        "How often relaxations of random cells that are never labelled end in a known structure, over the labels of "
        f"the potential that relaxed them; bars are 95 % intervals. {words}.",
        missing="No diagnostic search has ended.",
        draw=lambda: figures.search_rates(data.searches),
        header=(
            "generation",
            "search",
            "potential",
            "labels",
            "target",
            "cells",
            "attempts",
            "found",
            "rate_low_95",
            "rate_high_95",
        ),
        rows=(
            (
                s.generation,
                s.search,
                s.potential,
                s.labels,
                s.target,
                s.cells,
                s.attempts,
                s.found,
                s.rate_low_95,
                s.rate_high_95,
            )
            for s in data.searches
        ),
    )
