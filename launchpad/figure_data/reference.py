"""Reference energies of structures that are no part of the campaign: stored ones, and new ones."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launchpad.database.documents import label_id
from launchpad.database.labels import Subject, labels_of, save_outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from gapfactory.io.structures import GivenStructure

__all__ = ["computed_energies", "stored_energies"]


def stored_energies(
    database: Database[Any], campaign: Campaign, structures: Sequence[GivenStructure]
) -> dict[str, float]:
    """Return the energies (eV) that the database holds for structures of this content."""
    keys = {
        key: label_id(s.structure_hash, s.settings_hash) for key, s in _subjects(campaign, structures).items()
    }
    labels = labels_of(database, list(keys.values()), campaign.name)
    return {
        name: label.energy
        for name, key in keys.items()
        if (label := labels.get(key)) is not None and label.status == "done"
    }


def computed_energies(
    database: Database[Any], campaign: Campaign, structures: Sequence[GivenStructure], *, keep: bool
) -> dict[str, float]:
    """Compute energies (eV) with the campaign's reference; with `keep`, also store the labels as everybody's."""
    from gapfactory.reference import label_structures

    subjects = _subjects(campaign, structures)
    found: dict[str, float] = {}

    def take(outcome: Any) -> None:
        if keep:
            save_outcome(database, subjects[outcome.id], outcome, campaign.reference.engine)
        if outcome.label is not None:
            found[outcome.id] = float(outcome.label.energy)

    with tempfile.TemporaryDirectory(prefix="gapfactory-figure-") as scratch:
        label_structures([(s.id, s.atoms) for s in structures], campaign.reference, Path(scratch), take)
    return found


def _subjects(campaign: Campaign, structures: Sequence[GivenStructure]) -> dict[str, Subject]:
    from gapfactory.reference import kind_of, settings_hash
    from gapfactory.structures import structure_hash

    found = {}
    for s in structures:
        kind = kind_of(s.atoms)
        found[s.id] = Subject(
            campaign.name, structure_hash(s.atoms), settings_hash(campaign.reference, kind), kind, s.atoms
        )
    return found
