"""What searches found, to be ranked: ends of relaxations of campaigns, and structures of AIRSS in files."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import InputError, NotFoundError
from gapfactory.units import EV_PER_GPA_A3

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ase import Atoms
    from pymongo.database import Database

    from gapfactory.analysis.ranking import Candidate
    from gapfactory.campaign import Campaign

__all__ = ["Search", "low_ones", "searches_in"]

#: CAMPAIGN, CAMPAIGN/COMPONENT, CAMPAIGN@GENERATION, CAMPAIGN/COMPONENT@GENERATION
_SOURCE: Final = re.compile(
    r"(?P<campaign>[^/@\s]+)(?:/(?P<component>[^/@\s]+))?(?:@(?P<generation>\d{1,6}))?"
)
#: What is read of relaxations before it is known which geometries are wanted.
_LIGHT: Final = (
    "generation",
    "index",
    "status",
    "numbers",
    "pressure_gpa",
    "final_energy_per_atom",
    "final_volume_per_atom",
    "space_group",
    "left_known_space",
    "uncertainty",
)
#: Relaxations whose frames are read at once.
_CHUNK: Final = 200


@dataclass(frozen=True)
class Search:
    """What one search found.

    Attributes
    ----------
    name
        For tables and legends.
    found
        Its structures, in no particular order.
    notes
        What people should know: what was left out, and what energies are compared.
    """

    name: str
    found: tuple[Candidate, ...]
    notes: tuple[str, ...] = ()


def searches_in(
    database: Callable[[], Database[Any]],
    source: str,
    *,
    components: Sequence[str] = (),
    generations: Sequence[int] = (),
    pressure: float | None = None,
    unconverged: bool = False,
    within: float | None = None,
) -> list[Search]:
    """Return what a file, a directory, or each component of a campaign found.

    Parameters
    ----------
    database
        Opens the database; called only for a campaign.
    source
        A file (``.res``, or extended XYZ with ``REF_energy``) or directory that is there, or
        ``CAMPAIGN[/COMPONENT][@GENERATION]``.
    components, generations
        Of a campaign, only these; by default all components, and the newest generation with relaxations.
    pressure
        GPa at which structures are compared: enthalpies are E + p V with the volume at which each was relaxed. To the
        enthalpy in a file it is added. By default the enthalpies of a file as they are, and those of a campaign at the
        pressure of its relaxations, or, where that was random, at none.
    unconverged
        Whether relaxations of a campaign count that ended before they had converged.
    within
        Of a campaign, geometries are read only of structures so far above the lowest of their composition in their
        search (eV/atom); the others are there without.

    Raises
    ------
    InputError
        A file cannot be read, or `source` cannot be understood.
    NotFoundError
        There is no such campaign, component or generation, or nothing that has ended.
    """
    path = Path(source)
    if path.exists():
        if components or generations:
            raise InputError(f"{source} is a file: components and generations are those of a campaign")
        return [_of_files(path, pressure)]
    asked = _SOURCE.fullmatch(source)
    if asked is None:
        raise InputError(
            f"{source!r} is no file here, and no campaign: write CAMPAIGN, CAMPAIGN/COMPONENT or CAMPAIGN@GENERATION"
        )
    if asked["component"] is not None:
        components = (asked["component"],)
    if asked["generation"] is not None:
        generations = (int(asked["generation"]),)
    wanted = _Wanted(tuple(components), tuple(generations), pressure, unconverged, within)
    return _of_campaign(database(), asked["campaign"], wanted)


def _of_files(path: Path, pressure: float | None) -> Search:
    from gapfactory.analysis.ranking import Candidate
    from gapfactory.io.res import read_res
    from gapfactory.io.structures import read_structures

    added = pressure or 0.0
    found = []
    if path.is_dir() or path.suffix == ".res":
        for s in read_res(path):
            if s.enthalpy is None:
                raise InputError(f"{path}: {s.name} has no enthalpy in its title")
            atoms = s.atoms()
            volume = float(atoms.get_volume()) / len(atoms)
            enthalpy = s.enthalpy / len(atoms) + added * volume * EV_PER_GPA_A3
            found.append(
                Candidate(
                    s.name,
                    atoms.numbers,
                    enthalpy,
                    volume,
                    atoms,
                    s.pressure + added,
                    s.copies,
                    search=path.name,
                )
            )
        return Search(path.name, tuple(found))
    for given in read_structures(path):
        if given.energy is None:
            raise InputError(f"{path}: structure {given.id!r} has no REF_energy")
        atoms = given.atoms
        volume = float(atoms.get_volume()) / len(atoms) if atoms.cell.rank == 3 else 0.0
        enthalpy = given.energy / len(atoms) + added * volume * EV_PER_GPA_A3
        found.append(Candidate(given.id, atoms.numbers, enthalpy, volume, atoms, added, search=path.name))
    return Search(path.name, tuple(found))


@dataclass(frozen=True)
class _Wanted:
    components: tuple[str, ...]
    generations: tuple[int, ...]
    pressure: float | None
    unconverged: bool
    within: float | None


def _of_campaign(database: Database[Any], name: str, wanted: _Wanted) -> list[Search]:
    from launchpad.database.campaigns import campaign_of, require_campaign

    campaign = campaign_of(require_campaign(database, name))
    generations = wanted.generations or _newest(database, campaign, wanted.components)
    rows: dict[str, list[dict[str, Any]]] = {}
    for generation in generations:
        for component, found in _relaxations(database, campaign, generation).items():
            if not wanted.components or component in wanted.components:
                rows.setdefault(component, []).extend(found)
    missing = sorted(set(wanted.components) - set(rows))
    if missing or not rows:
        what = f"no component {missing[0]!r}" if missing else "no relaxations"
        raise NotFoundError(
            f"campaign {name!r} has {what} in generation {', '.join(map(str, generations))}; "
            f"'gapfactory campaign show {name}' shows its components"
        )
    searches = [_search(database, campaign, c, found, wanted) for c, found in sorted(rows.items())]
    if not any(search.found for search in searches):
        raise NotFoundError(
            f"no relaxation of campaign {name!r} has ended yet: {'; '.join(searches[0].notes)}"
        )
    return [search for search in searches if search.found]


def _newest(database: Database[Any], campaign: Campaign, components: Sequence[str]) -> tuple[int, ...]:
    """Return the newest generation in which one of the components, or any, was relaxed."""
    stored = {
        row["_id"]
        for row in database.relaxations.aggregate(
            [{"$match": {"campaign": campaign.name}}, {"$group": {"_id": "$generation"}}]
        )
    }
    for generation in sorted(stored, reverse=True):
        names = {part.component for part in _recipe(campaign, generation).cells}
        if not components or names & set(components):
            return (generation,)
    what = f" of {', '.join(components)}" if components else ""
    raise NotFoundError(f"campaign {campaign.name!r} has no relaxations{what} yet")


def _recipe(campaign: Campaign, generation: int) -> Any:
    from gapfactory.protocols.planner import recipe_of

    return recipe_of(campaign, generation)


def _relaxations(
    database: Database[Any], campaign: Campaign, generation: int
) -> dict[str, list[dict[str, Any]]]:
    """Return the relaxations of a generation by component, without their frames."""
    recipe = _recipe(campaign, generation)
    found: dict[str, list[dict[str, Any]]] = {}
    query = {"campaign": campaign.name, "generation": generation}
    for row in database.relaxations.find(query, dict.fromkeys(_LIGHT, 1)).sort("index", 1):
        # a stage of a ranking relaxes by the reference, whatever component they are of
        component = recipe.cell_range(row["index"]).component if recipe.cells else "reference"
        found.setdefault(component, []).append(row)
    return found


def _search(
    database: Database[Any], campaign: Campaign, component: str, rows: list[dict[str, Any]], wanted: _Wanted
) -> Search:
    from gapfactory.analysis.ranking import Candidate
    from launchpad.database.packing import unpack_array
    from launchpad.database.results import in_unknown_space

    good = {"converged", "unconverged"} if wanted.unconverged else {"converged"}
    kept = [r for r in rows if r["status"] in good and r["final_volume_per_atom"] is not None]
    limit = campaign.relax.uncertainty_limit
    known = [r for r in kept if not in_unknown_space(r, limit)]
    notes = []
    if strange := len(kept) - len(known):
        notes.append(
            f"{strange} of {len(rows)} relaxations of {component} ended where the potential is too uncertain, and are "
            "left out"
        )
    if lost := len(rows) - len(kept):
        more = "" if wanted.unconverged else " or did not converge"
        notes.append(f"{lost} of {len(rows)} relaxations of {component} failed{more}, and are left out")
    generations = sorted({r["generation"] for r in known})
    if len(generations) > 1:
        notes.append(f"{component}: energies of generations {generations} are those of different potentials")
    pressures = {float(r["pressure_gpa"]) for r in known}
    pressure = wanted.pressure
    if pressure is None and len(pressures) > 1:
        notes.append(
            f"{component}: relaxed at pressures from {min(pressures):.3g} to {max(pressures):.3g} GPa, compared by "
            "energy at none; --pressure compares enthalpies"
        )
    common = pressures.pop() if len(pressures) == 1 else 0.0
    at = common if pressure is None else pressure
    found = [
        Candidate(
            name=r["_id"],
            numbers=unpack_array(r["numbers"]),
            enthalpy=r["final_energy_per_atom"] + at * r["final_volume_per_atom"] * EV_PER_GPA_A3,
            volume=r["final_volume_per_atom"],
            pressure=float(r["pressure_gpa"]),
            space_group=r.get("space_group"),
            search=f"{campaign.name}/{component}",
        )
        for r in known
    ]
    low = low_ones(found, wanted.within)
    atoms = _geometries(database, low)
    if flat := len(low) - len(atoms):
        notes.append(
            f"{component}: the geometry of {flat} structures was not kept; they are told apart by space group"
        )
    whole = tuple(replace(one, atoms=atoms.get(one.name)) for one in found)
    return Search(f"{campaign.name}/{component}", whole, tuple(notes))


def low_ones(found: Sequence[Candidate], within: float | None) -> list[Candidate]:
    """Return those that lie at most `within` (eV/atom) above the lowest of their composition; None: all."""
    best: dict[Any, float] = {}
    for one in found:
        best[one.counts] = min(best.get(one.counts, one.enthalpy), one.enthalpy)
    return [one for one in found if within is None or one.enthalpy - best[one.counts] <= within]


def _geometries(database: Database[Any], found: list[Candidate]) -> dict[str, Atoms]:
    """Return the ends of relaxations by name; one whose frames were removed has none."""
    from launchpad.database.results import frame_atoms

    atoms = {}
    for start in range(0, len(found), _CHUNK):
        names = [one.name for one in found[start : start + _CHUNK]]
        query = {"_id": {"$in": names}, "positions": {"$exists": True}}
        for row in database.relaxations.find(query, {"numbers": 1, "positions": 1, "cells": 1}):
            atoms[row["_id"]] = frame_atoms(row, -1)
    return atoms
