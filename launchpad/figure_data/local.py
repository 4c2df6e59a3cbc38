"""Local energies on structures (Fig. 4)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.errors import EvidenceError
from launchpad.figure_data.request import Gathered, opened, other_potential, shown_potential

if TYPE_CHECKING:
    from ase import Atoms
    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from launchpad.figure_data.request import Potential, Request

__all__ = ["local_energies"]


def local_energies(database: Database[Any], request: Request) -> Gathered:
    """Return Fig. 4: local energies on two structures by one potential, or on one structure by two potentials."""
    from gapfactory.analysis.local_energies import local_energies as shared
    from gapfactory.figures import local_energy_pictures

    campaign = opened(database, request)
    first = shown_potential(database, request)
    structures, note = _two_structures(database, campaign, first, request)
    second = None if request.against is None else other_potential(database, request, first)
    if second is None:
        pairs = [(title, atoms, first) for title, atoms in structures[:2]]
    else:
        title, atoms = structures[0]
        pairs = [(title, atoms, p) for p in (first, second)]
    models = [shared(title, p.name, atoms, p.load(database)) for title, atoms, p in pairs]
    return Gathered(
        local_energy_pictures(models), [row for m in models for row in m.rows()], (note,) if note else ()
    )


def _two_structures(
    database: Database[Any], campaign: Campaign, potential: Potential, request: Request
) -> tuple[list[tuple[str, Atoms]], str]:
    """Return the structures of the file, or the labelled ones of lowest and of median energy so far."""
    from gapfactory.io.structures import read_structures
    from launchpad.assessment import labelled_picks

    if request.structures is not None:
        given = read_structures(request.structures)
        more = f"{len(given)} structures in the file, the first two are drawn" if len(given) > 2 else ""
        return [(s.group or s.id, s.atoms) for s in given], more
    generation = potential.generation if potential.campaign == campaign.name else 0
    entries = [
        (entry.label.energy / len(entry.item.atoms), entry.item.id, entry.item.atoms)
        for entry in labelled_picks(database, campaign, generation)
        if entry.label is not None and len(entry.item.atoms) > 1
    ]
    if not entries:
        raise EvidenceError(
            f"campaign {campaign.name!r} has no labelled structures; give some by --structures FILE"
        )
    ordered = sorted(entries, key=lambda e: e[:2])
    chosen = [ordered[0], ordered[len(ordered) // 2]]
    note = "the labelled structures of lowest and of median energy are drawn; --structures FILE draws others"
    return [(name, atoms) for _, name, atoms in chosen], note
