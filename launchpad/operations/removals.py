"""What was removed by policy, and where it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymongo.database import Database

__all__ = ["removals_of"]


def removals_of(database: Database[Any], campaign: str) -> list[dict[str, Any]]:
    """Return what was removed of a campaign and has not been brought back, and where it is, as plain data."""
    query = {"counts.campaign": campaign, "restored": {"$exists": False}}
    return [
        {
            "text": _words(record, count),
            "removal": record["_id"],
            "at": record["at"].isoformat(timespec="seconds"),
            "by": record["by"],
            "kind": count["kind"],
            "documents": count["documents"],
            "archive": f"{record['host']}:{record['file']}" if count["action"] == "archive" else "",
            "sha256": record["sha256"] if count["action"] == "archive" else "",
        }
        for record in database.removals.find(query).sort("_id", 1)
        for count in record["counts"]
        if count["campaign"] == campaign
    ]


def _words(record: dict[str, Any], count: dict[str, Any]) -> str:
    where = f"archived in {record['file']} on {record['host']}" if count["action"] == "archive" else "deleted"
    what = f"{count['documents']} {count['kind'].replace('_', ' ')}"
    return f"removed by policy on {record['at']:%Y-%m-%d} by {record['by']}: {what}, {where}"
