"""Phonons and elastic constants: a document for each crystal, method and study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.database.documents import generation_id

if TYPE_CHECKING:
    from pymongo.database import Database

    from launchpad.database.documents import VibrationDocument

__all__ = ["save_vibrations", "vibration_id", "vibrations_of"]


def vibration_id(campaign: str, generation: int, parent: str, method: str, variant: str = "") -> str:
    """Return the natural key of the vibrations of one crystal by one method."""
    return "/".join(
        (generation_id(campaign, generation), "vibrations", parent, method, *filter(None, (variant,)))
    )


def save_vibrations(database: Database[Any], document: VibrationDocument) -> None:
    """Store phonons and elastic constants under their natural key."""
    database.vibrations.replace_one({"_id": document.id}, document.to_bson(), upsert=True)


def vibrations_of(
    database: Database[Any],
    campaign: str,
    *,
    parent: str | None = None,
    method: str | None = None,
    variant: str | None = None,
) -> list[dict[str, Any]]:
    """Return the documents of a campaign, ordered by crystal, method (the potential first) and study."""
    asked = {"parent": parent, "method": method, "variant": variant}
    query = {"campaign": campaign, **{key: value for key, value in asked.items() if value is not None}}
    found = list(database.vibrations.find(query))
    return sorted(found, key=lambda d: (d["parent"], d["method"], d["variant"]))
