"""What searches found: structural densities of states, the best structures in pictures and in a table (2024)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchpad.figure_data.request import Gathered

if TYPE_CHECKING:
    from pymongo.database import Database

    from gapfactory.analysis.ranking import Ranking
    from launchpad.figure_data.request import Request
    from launchpad.searches import Search

__all__ = ["best", "frameworks", "structural_density"]


def _searches(database: Database[Any], request: Request, *, within: float | None) -> list[Search]:
    from launchpad.searches import searches_in

    generations = () if request.generation is None else (request.generation,)
    sources = (request.campaign, *request.also)
    return [
        search
        for source in sources
        # that of a source itself goes before the common one
        for search in searches_in(
            lambda: database,
            source,
            generations=() if "@" in source or Path(source).exists() else generations,
            within=within,
        )
    ]


def structural_density(database: Database[Any], request: Request) -> Gathered:
    """Return Figs. 3-5: how the energies of what each search found are spread, every encounter counted."""
    from gapfactory.analysis.structural_density import DensitySettings
    from gapfactory.analysis.structural_density import structural_density as density
    from gapfactory.figures import density_of_structures

    # energies are enough: no geometry is read
    searches = _searches(database, request, within=0.0)
    given = {
        name: [(one.formula, one.enthalpy, one.copies) for one in search.found]
        for name, search in _named(searches).items()
    }
    settings = DensitySettings(largest=request.within)
    if request.smearing is not None:
        settings = settings.model_copy(update={"smearing": request.smearing})
    data = density(given, settings)
    return Gathered(density_of_structures(data), data.rows(), _notes(searches))


def best(database: Database[Any], request: Request) -> Gathered:
    """Return pictures of the lowest structures, equal ones united."""
    from gapfactory.figures import best_structures

    ranking, notes = _ranked(database, request)
    rows = [entry.row(place) for place, entry in enumerate(ranking.entries, 1)]
    return Gathered(best_structures(ranking.entries), rows, notes)


def frameworks(database: Database[Any], request: Request) -> Gathered:
    """Return Table 1: the lowest structures by space group, atoms in the primitive cell, energy and volume."""
    ranking, notes = _ranked(database, request)
    rows = []
    for entry in ranking.entries:
        row = {
            "space_group": entry.symbol or "-",
            "number": entry.number,
            "atoms": entry.primitive_atoms,
            "formula": entry.structure.formula,
            "energy_eV_per_atom": round(entry.relative, 4),
            "volume_A3_per_atom": round(entry.structure.volume, 3),
            "found": entry.copies,
            "name": entry.structure.name,
        }
        rows.append(row)
    return Gathered(None, rows, notes)


def _ranked(database: Database[Any], request: Request) -> tuple[Ranking, tuple[str, ...]]:
    from gapfactory.analysis.ranking import rank_structures

    searches = _searches(database, request, within=request.within)
    found = [one for search in searches for one in search.found]
    return rank_structures(found, within=request.within, top=request.top), _notes(searches)


def _notes(searches: list[Search]) -> tuple[str, ...]:
    return tuple(note for search in searches for note in search.notes)


def _named(searches: list[Search]) -> dict[str, Search]:
    """Return searches by name; the same one at two generations, say, is numbered."""
    found: dict[str, Search] = {}
    for search in searches:
        same = sum(name.split(" #")[0] == search.name for name in found)
        found[f"{search.name} #{same + 1}" if same else search.name] = search
    return found
