"""Trained networks of EDDPs: one document each, until a fit weighs them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.database.documents import structure_id

if TYPE_CHECKING:
    from pymongo.database import Database

    from launchpad.database.documents import NetworkDocument

__all__ = ["network_id", "networks_of", "save_network"]


def network_id(campaign: str, generation: int, index: int) -> str:
    """Return the natural key of network number `index` of a generation."""
    return structure_id(campaign, generation, "network", index)


def save_network(database: Database[Any], document: NetworkDocument) -> None:
    """Store a network; one trained on other data is replaced."""
    database.networks.replace_one({"_id": document.id}, document.to_bson(), upsert=True)


def networks_of(
    database: Database[Any], campaign: str, generation: int, key: str, start: int, stop: int
) -> dict[int, dict[str, Any]]:
    """Return the networks ``start <= i < stop`` that were trained on what `key` stands for, by number."""
    asked = {"campaign": campaign, "generation": generation, "index": {"$gte": start, "$lt": stop}}
    return {found["index"]: found for found in database.networks.find(asked) if found["key"] == key}
