"""The crystals whose vibrations a campaign learns: found, relaxed by the reference, stored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from gapfactory.campaign.parents import given_parent, idealised, place_on_path
from gapfactory.errors import NotFoundError, StateError
from gapfactory.protocols.planner import generations_of
from launchpad.database.documents import StructureDocument, structure_id
from launchpad.database.packing import pack_atoms, unpack_atoms
from launchpad.database.results import frame_atoms, save_structures, structure_documents
from launchpad.hand_backs import forget_hand_backs, hand_back, own_fault
from launchpad.labelling import require_data_sets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from launchpad.tasks.base import TaskContext

__all__ = ["Parent", "parents_of", "relax_parent", "search_minima", "vibration_generation"]

#: Relaxations of the last search that minima are looked for among, from the lowest.
_LOOKED_AT = 500


@dataclass(frozen=True)
class Parent:
    """A crystal as it is after the reference has relaxed it.

    Attributes
    ----------
    name
        Its name in the campaign.
    index
        Its number.
    crystal
        The primitive cell.
    grid
        k-points of the primitive cell that all its labels share; None where the reference has none.
    reason
        Why it cannot be used; empty where it can.
    """

    name: str
    index: int
    crystal: Atoms
    grid: tuple[int, int, int] | None
    reason: str


def vibration_generation(campaign: Campaign) -> int:
    """Return the number of the generation that learns the vibrations."""
    return generations_of(campaign) - 1


def parents_of(database: Database[Any], campaign: Campaign) -> tuple[Parent, ...]:
    """Return the crystals that are stored, in the order of their names in the campaign.

    Raises
    ------
    NotFoundError
        One that the campaign file names is not stored yet; minima may be fewer than were asked for.
    """
    names = campaign.vibration_settings.names()
    found = []
    for document in structure_documents(database, campaign.name, vibration_generation(campaign), "parent"):
        info, grid = document["info"], document["info"]["kpoints"]
        crystal = unpack_atoms(document["atoms"])
        found.append(
            Parent(
                info["parent"],
                document["index"],
                crystal,
                None if grid is None else tuple(grid),
                info["reason"],
            )
        )
    missing = {*campaign.vibration_settings.parents} - {parent.name for parent in found}
    if missing:
        msg = f"{', '.join(sorted(missing))}: not relaxed by the reference yet; rerun the reference-parent tasks"
        raise NotFoundError(msg)
    return _distinct(campaign, sorted(found, key=lambda parent: names.index(parent.name)))


def _distinct(campaign: Campaign, parents: Sequence[Parent]) -> tuple[Parent, ...]:
    """Return the crystals with a reason for each minimum that the reference has turned into another of them."""
    from gapfactory.analysis.matching import StructureMatcher

    found: list[Parent] = []
    for parent in parents:
        usable = [other for other in found if not other.reason]
        if parent.name not in campaign.vibration_settings.parents and not parent.reason and usable:
            match = StructureMatcher([other.crystal for other in usable]).match([parent.crystal])[0]
            if match is not None:
                same = usable[match.target].name
                found.append(replace(parent, reason=f"relaxed by the reference, it is {same}"))
                continue
        found.append(parent)
    return tuple(found)


def relax_parent(context: TaskContext, name: str) -> dict[str, Any]:
    """Relax a crystal with the reference and store it, unless it is stored.

    Raises
    ------
    StateError
        A crystal that the campaign file names cannot be relaxed.
    TransientFault
        A fault of the machine: the task is run again.
    """
    campaign, database = context.campaign, context.database
    settings = campaign.vibration_settings
    index = settings.names().index(name)
    key = structure_id(campaign.name, context.generation, "parent", index)
    if database.structures.find_one({"_id": key}, {"_id": 1}) is not None:
        return {"parent": name, "reused": 1}
    crystal = _before(database, campaign, context.generation, name)
    if crystal is None:
        return {"parent": name, "note": "the last search has no further minimum"}
    grid = _primitive_grid(campaign, name, crystal)
    given = settings.parent(name)
    relaxed, steps, reason = crystal, 0, ""
    if given is None or given.relaxed:
        relaxed, steps, reason = _relaxed(context, name, crystal, grid)
    if reason and given is not None:
        msg = (
            f"vibrations.parents.{name}: the reference cannot relax it: {reason}. Loosen vibrations.relax, raise the "
            f"reference's cutoff, or set vibrations.parents.{name}.relax to false, in a campaign of another name"
        )
        raise StateError(msg)
    _store(context, key, index, relaxed, {"parent": name, "kpoints": grid, "steps": steps, "reason": reason})
    return {"parent": name, "steps": steps, **({"note": reason} if reason else {})}


def _store(context: TaskContext, key: str, index: int, crystal: Atoms, info: dict[str, Any]) -> None:
    from gapfactory.structures import composition_of, structure_hash

    document = StructureDocument(
        id=key,
        campaign=context.campaign.name,
        generation=context.generation,
        stage="parent",
        index=index,
        composition=composition_of(crystal),
        hash=structure_hash(crystal),
        atoms=pack_atoms(crystal),
        info=info,
    )
    save_structures(context.database, [document])


def _before(database: Database[Any], campaign: Campaign, generation: int, name: str) -> Atoms | None:
    """Return a crystal before it is relaxed; None for a minimum that the search has not."""
    settings = campaign.vibration_settings
    given = settings.parent(name)
    if given is None:
        rank = settings.names().index(name) - len(settings.parents)
        minima = search_minima(database, campaign, generation)
        return minima[rank] if rank < len(minima) else None
    if given.bain is None:
        return given_parent(campaign, name)
    other = structure_id(campaign.name, generation, "parent", settings.names().index(given.bain.of))
    document = database.structures.find_one({"_id": other})
    if document is None:
        msg = (
            f"{given.bain.of}, whose volume {name} takes, is not relaxed yet; rerun its reference-parent task"
        )
        raise NotFoundError(msg)
    return place_on_path(unpack_atoms(document["atoms"]), given.bain.eta)


def _primitive_grid(campaign: Campaign, name: str, crystal: Atoms) -> tuple[int, int, int] | None:
    """Return the k-points that all labels of a crystal share: a multiple of the grids of wave vectors."""
    from gapfactory.reference import DftSettings
    from gapfactory.reference.kpoints import primitive_grid

    reference = campaign.reference
    if not isinstance(reference, DftSettings):
        return None
    if reference.kpoint_grid is not None:
        return reference.kpoint_grid
    divisions = campaign.vibration_settings.divisions_of(name)
    return primitive_grid(crystal, reference.kpoint_density, divisions)


def _relaxed(
    context: TaskContext, name: str, crystal: Atoms, grid: tuple[int, int, int] | None
) -> tuple[Atoms, int, str]:
    """Return the relaxed crystal, steps, and why it failed; one that meets faults again and again has failed."""
    from gapfactory.reference import relax_phase_reference, settings_hash
    from gapfactory.search import left_phase

    campaign, database = context.campaign, context.database
    relax = campaign.vibration_settings.relax
    reference = campaign.reference if grid is None else campaign.reference.with_grid(grid)
    require_data_sets(context, crystal.get_chemical_symbols(), [settings_hash(reference, "crystal")])
    own = f"parent/{campaign.name}/{name}"
    try:
        point = relax_phase_reference(crystal, reference, context.workdir / "parent", relax_settings=relax)
    except Exception as error:
        fault = own_fault(error)
        if not fault:
            raise
        _, reason = hand_back(database, own, name, fault, error)
        return crystal, 0, reason
    forget_hand_backs(database, [own])
    if point.atoms is None:
        return crystal, point.n_steps, point.outcome.reason
    return (
        point.atoms,
        point.n_steps,
        left_phase(crystal, point.atoms, tolerance=relax.symmetry_tolerance),
    )


def search_minima(database: Database[Any], campaign: Campaign, generation: int) -> list[Atoms]:
    """Return the lowest distinct minima of the newest search before a generation, primitive, lowest first.

    Energies are those of the potential that relaxed them. Cells under pressure and those of diagnostic searches count
    too: the reference relaxes each at no pressure.
    """
    from gapfactory.analysis.matching import StructureMatcher

    settings = campaign.vibration_settings
    of: dict[str, Any] = {"campaign": campaign.name}
    newest = database.relaxations.find_one(
        {**of, "generation": {"$lt": generation}}, {"generation": 1}, sort=[("generation", -1)]
    )
    if newest is None:
        return []
    of = {**of, "generation": newest["generation"]}
    light = dict.fromkeys(("final_energy_per_atom", "status", "index"), 1)
    rows = [row for row in database.relaxations.find(of, light) if row["status"] == "converged"]
    rows = [row for row in rows if row["final_energy_per_atom"] is not None]
    rows.sort(key=lambda row: (row["final_energy_per_atom"], row["index"]))
    found: list[Atoms] = []
    for row in rows[:_LOOKED_AT]:
        relaxation = database.relaxations.find_one({"_id": row["_id"]})
        if relaxation is None:
            continue
        crystal = idealised(frame_atoms(relaxation, relaxation["n_frames"] - 1))
        if crystal is None or len(crystal) > settings.largest_minimum:
            continue
        if found and StructureMatcher(found).match([crystal])[0] is not None:
            continue
        found.append(crystal)
        if len(found) == settings.minima:
            break
    return found
