"""What the database has of the files of a launch, and where the rest lies."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Final

from launchpad.database.documents import generation_id
from launchpad.queries import kept_directory

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.database import Database

__all__ = ["failed_calculations", "whereabouts"]

#: Of a file's end, so much is shown (characters); of the calculations of one task, so many.
_TAIL: Final = 8000
_MOST: Final = 20


def whereabouts(launch: Mapping[str, Any], *, failed: bool) -> str:
    """Say where the files of a launch lie, for people: the dashboard reads no other machine's disk."""
    given = str(launch.get("launch_dir") or "")
    host = str(launch.get("host") or "an unknown host")
    if not given:
        return "nothing is known of its files"
    if launch.get("state") in {"RUNNING", "RESERVED"}:
        return f"on {host} in {given}"
    if PurePath(given).parent.name != "launches":
        return f"on {host} in {given}, where another program than our workers ran it"
    if failed:
        return f"on {host} in {kept_directory(dict(launch))}, as long as it is among the last failed launches there"
    return "removed: workers keep the files of failed launches only"


def failed_calculations(database: Database[Any], task: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the calculations of a reference task that gave no label, with the ends of their files.

    Parameters
    ----------
    task
        Its document.

    Returns
    -------
    list of dict
        ``structure``, ``fault``, ``reason`` and ``files`` (``name``, ``text``) of each, the first few.
    """
    spec = task.get("spec") or {}
    steps: list[Any] = list(spec.get("_tasks") or ())
    work = steps[0] if len(steps) == 1 and isinstance(steps[0], dict) else {}
    start, stop = work.get("start"), work.get("stop")
    if spec.get("_category") != "reference" or work.get("what") != "picks":
        return []
    if not isinstance(start, int) or not isinstance(stop, int) or not isinstance(spec.get("generation"), int):
        return []
    chosen = database.selections.find_one(
        {"_id": generation_id(str(spec.get("campaign")), spec["generation"])}, {"train": 1, "test": 1}
    )
    ids = [*chosen["train"], *chosen["test"]][start:stop] if chosen else []
    names = {row["hash"]: row["_id"] for row in database.structures.find({"_id": {"$in": ids}}, {"hash": 1})}
    found = database.labels.find(
        {"structure_hash": {"$in": sorted(names)}, "status": "failed", "campaign": spec["campaign"]},
        {"structure_hash": 1, "fault": 1, "reason": 1, "files": 1},
    )
    return [
        {
            "structure": names[label["structure_hash"]],
            "fault": label.get("fault") or "",
            "reason": label.get("reason") or "",
            "files": [
                {"name": file["name"], "text": file["text"][-_TAIL:]} for file in label.get("files") or ()
            ],
        }
        for label in found.sort("_id", 1).limit(_MOST)
    ]
