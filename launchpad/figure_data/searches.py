"""What the diagnostic searches of a campaign found: how often a known phase came out, at how many labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pymongo.database import Database

__all__ = ["search_rows"]


def search_rows(database: Database[Any], campaign: str) -> list[dict[str, Any]]:
    """Return one flat row for each generation, component and phase that was looked for; counts that were stored.

    ``labels`` is what the potential of that search was trained on; ``share_low_95`` and ``share_high_95`` bound the
    share of `found` in `attempts` (relaxations that ended without failing); ``first`` names a relaxation.
    """
    rows = []
    fields = {"generation": 1, "evidence.searches": 1}
    for record in database.metrics.find({"campaign": campaign}, fields).sort("generation", 1):
        # campaigns of an earlier version have none
        for component, search in sorted(record["evidence"].get("searches", {}).items()):
            for phase, counted in search["targets"].items():
                rows.append(
                    {
                        "generation": record["generation"],
                        "labels": next((at["labels"] for at in counted["by_labels"]), None),
                        "component": component,
                        "phase": phase,
                        "cells": search["cells"],
                        "attempts": counted["attempts"],
                        "found": counted["found"],
                        "share": counted["rate"],
                        "share_low_95": counted["rate_low_95"],
                        "share_high_95": counted["rate_high_95"],
                        "first": counted["first"],
                        "rank": counted["rank"],
                    }
                )
    return rows
