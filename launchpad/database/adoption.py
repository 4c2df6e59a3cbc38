"""Labels of other groups: taken over where they are granted, as if a campaign of this group had made them.

What comes from another group is not trusted further than its numbers: the structure is one's own, everything else is
validated, and the label says where it came from (`LabelDocument.origin`).
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from gapfactory.errors import GapFactoryError, StateError
from launchpad.database.connection import NOT_AUTHORISED
from launchpad.database.data_sets import require_same_data
from launchpad.database.documents import LabelDocument, now
from launchpad.database.labels import settle, store_once
from launchpad.database.packing import pack_atoms, unpack_array

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymongo.database import Database

    from launchpad.database.labels import Subject

__all__ = ["adopt_from_groups"]

logger = logging.getLogger("launchpad.labels")

#: Labels asked for at once.
_BATCH = 200
#: What is taken over of a label as it is.
_TAKEN = ("energy", "forces", "stress", "seconds", "engine", "version", "details", "attempts", "history")


def adopt_from_groups(
    database: Database[Any],
    wanted: Sequence[tuple[Subject, int]],
    groups: Sequence[str],
    engine: str,
    data: Mapping[str, str],
) -> set[str]:
    """Store labels that other groups have and grant; return the keys of those that were found.

    A group that has granted nothing, or takes its grant back, is no fault: there is only nothing to be had from it.

    Parameters
    ----------
    database
        With durable writes.
    wanted
        What has no label, and the generation from whose fit on it counts (`save_outcome`).
    groups
        The accepted ones, in the order in which they are asked.
    engine
        Name of the engine.
    data
        sha256 of this machine's data sets by species; labels of others are left alone.
    """
    from pymongo.errors import OperationFailure

    found: set[str] = set()
    for group in groups:
        missing = [(subject, enters) for subject, enters in wanted if subject.key not in found]
        try:
            for start in range(0, len(missing), _BATCH):
                found |= _adopt(database, missing[start : start + _BATCH], group, engine, data)
        except OperationFailure as error:
            if error.code != NOT_AUTHORISED:
                raise
            logger.info("group %s does not grant its labels to this user (any more)", group)
    return found


def _adopt(
    database: Database[Any],
    wanted: Sequence[tuple[Subject, int]],
    group: str,
    engine: str,
    data: Mapping[str, str],
) -> set[str]:
    theirs = database.client[group]
    keys = [subject.key for subject, _ in wanted]
    documents = {d["_id"]: d for d in theirs.labels.find({"_id": {"$in": keys}, "status": "done"})}
    levels = {subject.settings_hash for subject, _ in wanted if subject.key in documents}
    names = [f"level/{level}/{symbol}" for level in sorted(levels) for symbol in data]
    recorded = (
        {d["_id"]: d["sha256"] for d in theirs.label_data.find({"_id": {"$in": names}})} if names else {}
    )
    found = set()
    for subject, enters in wanted:
        document = documents.get(subject.key)
        if document is None:
            continue
        symbols = sorted(set(subject.atoms.get_chemical_symbols()) & set(data))
        if any(recorded.get(f"level/{subject.settings_hash}/{name}") != data[name] for name in symbols):
            logger.info("label %s of group %s has other data sets than this machine", subject.key, group)
            continue
        try:
            label = _checked(subject, document, group)
            hashes = {name: data[name] for name in symbols}
            require_same_data(database, subject.campaign, engine, [subject.settings_hash], hashes)
        except (ValueError, TypeError, KeyError, StateError, GapFactoryError) as error:
            logger.warning("label %s of group %s is not taken over: %s", subject.key, group, error)
            continue
        store_once(database, label.to_bson())
        settle(database, subject, enters)
        found.add(subject.key)
    return found


def _checked(subject: Subject, document: dict[str, Any], group: str) -> LabelDocument:
    """Return another group's label as one's own.

    Raises
    ------
    ValueError
        Its numbers are not those of this structure, or it is no label.
    """
    import numpy as np

    forces = unpack_array(document["forces"])
    stress = None if document["stress"] is None else unpack_array(document["stress"])
    if forces.shape != (len(subject.atoms), 3) or (stress is not None and stress.shape != (6,)):
        msg = f"forces of shape {forces.shape} for {len(subject.atoms)} atoms"
        raise ValueError(msg)
    numbers = [np.asarray(document["energy"], float), forces, *([] if stress is None else [stress])]
    if not all(np.all(np.isfinite(values)) for values in numbers):
        msg = "it holds numbers that are not finite"
        raise ValueError(msg)
    return LabelDocument(
        id=subject.key,
        structure_hash=subject.structure_hash,
        settings_hash=subject.settings_hash,
        kind=subject.kind,
        status="done",
        atoms=pack_atoms(subject.atoms),
        campaign=subject.campaign,
        created=now(),
        origin={"group": group, "label": str(document["_id"]), "campaign": str(document["campaign"])},
        **{name: document[name] for name in _TAKEN if name in document},
    )
