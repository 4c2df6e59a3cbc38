"""The collection ``workers``: who works where, on what, and who was told to stop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.database import Database

    from launchpad.queue.identity import ProcessIdentity
    from launchpad.queue.launchpad import Queue

__all__ = ["Registration", "current_versions", "list_workers", "worker_id"]

Kind = Literal["worker", "supervisor", "push"]


def worker_id(identity: ProcessIdentity) -> str:
    """Return the id of a process in the collection."""
    # two clusters may have nodes of one name, and containers small process ids
    return f"{identity.host}:{identity.pid}:{identity.start}:{identity.node_tag}"


def current_versions() -> dict[str, str]:
    """Return the versions of what workers of one queue should have in common."""
    import platform

    import fireworks
    import pymongo

    from gapfactory import __version__

    return {
        "gapfactory": __version__,
        "fireworks": str(fireworks.__version__),
        "pymongo": pymongo.version,
        "python": platform.python_version(),
    }


class Registration:
    """The entry of the calling process.

    Parameters
    ----------
    queue
        The queue.
    kind
        ``worker``, ``supervisor`` or ``push``.
    categories
        What it takes.
    parent
        Id of its supervisor, if any.
    campaigns
        What it is enrolled for; none means every campaign.
    cores, memory_gb
        What one of its tasks may use, where that is said.
    """

    def __init__(
        self,
        queue: Queue,
        kind: Kind,
        categories: Sequence[str],
        parent: str | None = None,
        *,
        campaigns: Sequence[str] = (),
        cores: int | None = None,
        memory_gb: float | None = None,
    ) -> None:
        self.queue = queue
        self.id = worker_id(queue.identity)
        self._fixed: dict[str, Any] = {
            **queue.process_document(),
            "kind": kind,
            "categories": list(categories),
            "campaigns": list(campaigns),
            "cores": cores,
            "memory_gb": memory_gb,
            "supervisor": parent,
            "started": queue.now(),
            "versions": current_versions(),
        }

    def report(
        self, state: str, *, fw_id: int | None = None, done: int = 0, failed: int = 0, trouble: str = ""
    ) -> bool:
        """Write the present state; return whether somebody asked this process to stop."""
        changes = {
            **self._fixed,
            "state": state,
            "killed": False,
            "fw_id": fw_id,
            "done": done,
            "failed": failed,
            "trouble": trouble,
            "heartbeat": self.queue.now(),
            # nothing depends on a host's own clock, except FireWorks' own launchers there: `doctor` shows it
            "clock_offset_s": round(time.time() - self.queue.now(), 3),
        }
        found = self.queue.workers.find_one_and_update(
            {"_id": self.id}, {"$set": changes}, upsert=True, projection={"stop": 1}
        )
        return bool(found and found.get("stop"))


def list_workers(
    database: Database[Any], *, here: bool = False, silent_s: float = 300.0, all_states: bool = False
) -> list[dict[str, Any]]:
    """Return the entries of workers and supervisors, with ``alive`` and ``age_s`` (since it reported).

    ``alive`` is None where it cannot be told; entries of killed processes are there until they are stopped or pruned.

    Parameters
    ----------
    database
        The database.
    here
        Only those of this machine.
    silent_s
        One on another host that has not reported for this long is not counted as alive.
    all_states
        Also those that ended.
    """
    from launchpad.queue.connection import ServerClock
    from launchpad.queue.identity import ProcessIdentity

    now = ServerClock(database.client).now()
    entries = []
    # one that another host took for dead, because it was silent, may live here
    query: dict[str, Any] = {} if all_states else {"$or": [{"state": {"$ne": "stopped"}}, {"killed": True}]}
    for entry in database.workers.find(query, sort=[("_id", 1)]):
        identity = ProcessIdentity.from_document(entry)
        if here and not (identity and identity.here):
            continue
        fate = identity.fate if identity else "unknown"
        alive = {"alive": True, "dead": False}.get(fate)
        if alive is None:
            alive = now - float(entry.get("heartbeat", 0.0)) < silent_s or None
        if entry.get("state") == "stopped" and not (entry.get("killed") and fate == "alive"):
            if not all_states:
                continue
            alive = False
        age = round(max(0.0, now - float(entry.get("heartbeat", 0.0))), 1)
        entries.append({**entry, "alive": alive, "age_s": age})
    return entries
