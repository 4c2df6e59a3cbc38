"""Separations and volumes that a campaign measures on its own best structures (`build.separations.auto`).

They are measured once, by the assessment of a generation, kept with its metrics, and hold for the cells of the next
one: its tasks read the same numbers, whoever runs them and whatever labels come later.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from gapfactory.protocols.recipe import builds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.database import Database

    from gapfactory.build import Measured
    from gapfactory.campaign import Campaign
    from launchpad.database.dataset import LabelledItem

__all__ = ["MeasuredSeparations", "measured_before", "measured_on"]


@dataclass(frozen=True)
class MeasuredSeparations:
    """What was measured, and the generation whose assessment did it."""

    generation: int
    values: Measured


def measured_on(campaign: Campaign, labelled: Sequence[LabelledItem]) -> dict[str, Any]:
    """Return what each component with `separations.auto` takes from labelled structures, as plain data.

    Parameters
    ----------
    campaign
        The campaign.
    labelled
        Its picks with usable labels, of all generations so far.

    Returns
    -------
    dict
        By component: separations (Å), volume_per_atom (Å^3), and ids of the structures that they were measured on.
    """
    from gapfactory.build import best_structures, measure

    found = [
        (entry.item.id, entry.item.atoms, entry.label.energy)
        for entry in labelled
        if entry.label is not None and "crystal" not in entry.item.info
    ]
    result: dict[str, Any] = {}
    for name, build in builds(campaign).items():
        if not build.separations.auto:
            continue
        best = best_structures(found, build.separations.auto_structures)
        if best:
            measured = measure([atoms for _, atoms, _ in best])
            result[name] = {**asdict(measured), "structures": [key for key, _, _ in best]}
    return result


def measured_before(
    database: Database[Any], campaign: str, generation: int
) -> dict[str, MeasuredSeparations]:
    """Return what the last assessment before a generation measured, by component; nothing in the first generation."""
    from gapfactory.build import Measured

    stored = database.metrics.find_one(
        {"campaign": campaign, "generation": {"$lt": generation}},
        {"generation": 1, "evidence.measured": 1},
        sort=[("generation", -1)],
    )
    if stored is None:
        return {}
    # assessments of earlier versions have nothing measured
    entries = stored.get("evidence", {}).get("measured", {})
    return {
        name: MeasuredSeparations(
            stored["generation"], Measured(entry["separations"], entry["volume_per_atom"])
        )
        for name, entry in entries.items()
    }
