"""Digests of what a campaign made: equal for equal results, whatever the name, the workers and the times."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from launchpad.database.campaigns import campaign_of, require_campaign
from launchpad.database.dataset import atom_items, pick_items, with_labels
from launchpad.database.packing import unpack_array

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymongo.database import Database

    from launchpad.database.dataset import LabelledItem

__all__ = ["campaign_digests", "relaxation_digest"]

#: Fields of a relaxation that are results; times and names are not.
_RELAXATION = ("numbers", "steps", "positions", "cells", "energies", "enthalpies", "max_forces")


def campaign_digests(database: Database[Any], name: str) -> dict[str, str]:
    """Return a sha256 (hex) for structures, relaxations, selections, labels, training set and each potential."""
    campaign = campaign_of(require_campaign(database, name))
    generations = sorted(
        s["generation"] for s in database.selections.find({"campaign": name}, {"generation": 1})
    )
    entries = with_labels(database, campaign, atom_items(database, campaign))
    for generation in generations:
        entries += with_labels(database, campaign, pick_items(database, campaign, generation))
    potentials = sorted(database.potentials.find({"campaign": name}), key=lambda p: p["generation"])
    return {
        "structures": _digest(
            (d["generation"], d["stage"], d["index"], d["hash"])
            for d in sorted(
                database.structures.find(
                    {"campaign": name}, {"generation": 1, "stage": 1, "index": 1, "hash": 1}
                ),
                # of data of two names, structures have the same number
                key=lambda d: (d["generation"], d["stage"], d["index"], d["hash"]),
            )
        ),
        "relaxations": _digest(_relaxations(database, name)),
        "selections": _digest(
            (e.item.generation, e.item.role, e.item.hash) for e in entries if e.item.kind == "crystal"
        ),
        "labels": _digest(_labels(entries)),
        "training set": _digest(
            (p["generation"], *(key.removeprefix(name) for key in p["trained_on"])) for p in potentials
        ),
        **{f"potential {p['generation']}": p["digest"] for p in potentials},
    }


def _relaxations(database: Database[Any], name: str) -> Iterable[tuple[Any, ...]]:
    for document in database.relaxations.find({"campaign": name}).sort([("generation", 1), ("index", 1)]):
        # of one whose frames were archived its tombstone knows the digest
        known = document.get("pruned", {}).get("digest")
        yield document["generation"], document["index"], known or relaxation_digest(document)


def relaxation_digest(document: dict[str, Any]) -> str:
    """Return the sha256 (hex) of the results of one stored relaxation."""
    arrays = (unpack_array(document[field]).tobytes() for field in _RELAXATION)
    return _digest([(document["status"], document["pressure_gpa"], *arrays)])


def _labels(entries: list[LabelledItem]) -> Iterable[tuple[Any, ...]]:
    for entry in entries:
        label = entry.label
        if label is None:
            yield (entry.item.hash, "none")
        elif label.status == "failed":
            yield (entry.item.hash, "failed", label.reason)
        else:
            yield (
                entry.item.hash,
                label.energy,
                b"" if label.forces is None else label.forces.tobytes(),
                b"" if label.stress is None else label.stress.tobytes(),
            )


def _digest(rows: Iterable[tuple[Any, ...]]) -> str:
    h = hashlib.sha256()
    for row in rows:
        for value in row:
            # floats by their exact hexadecimal form; a separator keeps fields apart
            data = (
                value
                if isinstance(value, bytes)
                else (value.hex() if isinstance(value, float) else str(value)).encode()
            )
            h.update(len(data).to_bytes(8, "little"))
            h.update(data)
    return h.hexdigest()
