"""Faults of the machine that a structure brings about again and again: handed back so often, then quarantined.

A fault of the machine fails no structure: the task is run again, later or elsewhere. But one structure may need more
memory than any machine has, or more time than any allocation, and would keep its campaign waiting for ever.
"""

from __future__ import annotations

import errno
import socket
import uuid
from typing import TYPE_CHECKING, Any

from launchpad.database.documents import now
from launchpad.retry import TransientFault, is_transient

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pymongo.database import Database

__all__ = ["HAND_BACKS", "forget_hand_backs", "hand_back", "hand_backs", "own_fault"]

#: How often a structure is handed back before it is quarantined for it: as often as the queue pauses before further
#: tries of a task.
HAND_BACKS = 3
#: Faults that a structure may bring about by its size. A full disk, a missing licence or a lost scratch directory
#: concern every structure alike, and are for the queue and for people.
_MAY_BE_ITS_OWN = frozenset({"memory", "node", "walltime"})


def own_fault(error: Exception) -> str:
    """Return the short name of a fault of the machine that the structure in hand may have brought about, or nothing."""
    from gapfactory.reference.faults import MachineFaultError

    if not is_transient(error):
        return ""
    if isinstance(error, MachineFaultError):
        fault = error.diagnosis.fault.name.lower()
        return fault if fault in _MAY_BE_ITS_OWN else ""
    cause = error.__cause__
    return "memory" if isinstance(cause, OSError) and cause.errno == errno.ENOMEM else ""


def hand_back(
    database: Database[Any], own: str, name: str, fault: str, error: Exception
) -> tuple[tuple[str, ...], str]:
    """Count a fault against what was being calculated: hand the task back, or say why it is quarantined at last.

    Parameters
    ----------
    database
        With durable writes.
    own
        Key of what was calculated and for which campaign.
    name
        The same for people.
    fault
        From `own_fault`.
    error
        What was raised.

    Returns
    -------
    tuple
        A line for every time, and the reason.

    Raises
    ------
    TransientFault
        As long as it has not happened too often.
    """
    from gapfactory.reference.site import end_of_allocation

    # several workers of one allocation may meet its end with the same structure: that is one fault
    what = f"allocation until {end_of_allocation()}" if fault == "walltime" else uuid.uuid4().hex
    line = f"handed back on {socket.gethostname()}: {error}"
    database.label_hand_backs.update_one(
        {"_id": own},
        {"$addToSet": {"met": what}, "$push": {"lines": line}, "$set": {"at": now()}},
        upsert=True,
    )
    record = database.label_hand_backs.find_one({"_id": own}) or {"met": [what], "lines": [line]}
    times = len(record["met"])
    if times <= HAND_BACKS:
        raise TransientFault(
            f"{name}: {error} (time {times} for this structure; it is quarantined after {HAND_BACKS} hand-backs)",
            times=times,
            ends_worker=fault == "walltime",
        ) from error
    reason = f"{error} (quarantined: the same again after {HAND_BACKS} hand-backs to later tries or other machines)"
    return tuple(record["lines"][-2 * HAND_BACKS :]), reason


def hand_backs(database: Database[Any], names: Iterable[str]) -> dict[str, int]:
    """Return how often each of these has been handed back, where it has."""
    found = database.label_hand_backs.find({"_id": {"$in": sorted(names)}}, {"met": 1})
    return {d["_id"]: len(d["met"]) for d in found}


def forget_hand_backs(database: Database[Any], names: Iterable[str]) -> None:
    """Begin to count anew: it is decided."""
    database.label_hand_backs.delete_many({"_id": {"$in": sorted(names)}})
