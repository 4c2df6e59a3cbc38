"""Diagnostic searches: how often relaxations of cells that are not labelled end in a known phase (2018)."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gapfactory.protocols.planner import recipe_of
from launchpad.database.packing import unpack_array
from launchpad.database.potentials import relaxing_potential
from launchpad.database.results import frame_atoms

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pymongo.database import Database

    from gapfactory.analysis.rediscovery import Minimum, SearchCount
    from gapfactory.campaign import Campaign
    from gapfactory.protocols.recipe import CellRange

__all__ = ["diagnostic_searches", "minima_of", "search_counts", "stored_searches"]


def diagnostic_searches(database: Database[Any], campaign: Campaign, generation: int) -> dict[str, Any]:
    """Return what the diagnostic searches of a generation found, by component.

    Returns
    -------
    dict
        Per component: ``cells``; ``ends``, relaxations that did not fail; ``potential`` and ``labels``, the generation
        of the potential that relaxed them and how many structures that was trained on (None where it is no fitted one
        of the campaign); ``targets``, per phase as
        `gapfactory.analysis.rediscovery.Rediscovery.as_dict` counts it.
    """
    from gapfactory.analysis.rediscovery import rediscovery

    recipe = recipe_of(campaign, generation)
    looked = [part for part in recipe.cells if not (part.labelled and recipe.fits)]
    found = {}
    for part in looked:
        potential, labels = None, None
        if recipe.fits:
            record = relaxing_potential(database, campaign.name, generation, after_fit=part.after_fit)
            potential, labels = record["generation"], len(record["trained_on"])
        ends = _ends(database, campaign, generation, part, labels or 0)
        targets = {name: campaign.phase_of(name).atoms for name in campaign.target_phases(part.component)}
        found[part.component] = {
            "cells": part.stop - part.start,
            "ends": len(ends),
            "potential": potential,
            "labels": labels,
            "targets": {result.target: result.as_dict() for result in rediscovery(ends, targets)},
        }
    return found


def _ends(
    database: Database[Any], campaign: Campaign, generation: int, part: CellRange, labels: int
) -> list[Minimum]:
    query = {
        "campaign": campaign.name,
        "generation": generation,
        "index": {"$gte": part.start, "$lt": part.stop},
        "status": {"$ne": "failed"},
    }
    return minima_of(database.relaxations.find(query).sort("index", 1), labels)


def minima_of(relaxations: Iterable[dict[str, Any]], labels: int) -> list[Minimum]:
    """Return where relaxations ended; with enthalpies only where all were under one pressure, else none compare.

    Parameters
    ----------
    relaxations
        Their documents.
    labels
        What the potential was trained on that relaxed them.
    """
    from gapfactory.analysis.rediscovery import Minimum

    found, pressures = [], set()
    for relaxation in relaxations:
        atoms = frame_atoms(relaxation, -1)
        enthalpy = float(unpack_array(relaxation["enthalpies"])[-1]) / len(atoms)
        pressures.add(relaxation["pressure_gpa"])
        found.append(Minimum(relaxation["_id"], atoms, labels, enthalpy))
    return found if len(pressures) < 2 else [replace(minimum, energy=None) for minimum in found]


def search_counts(metrics: Iterable[Mapping[str, Any]]) -> list[SearchCount]:
    """Return how often each target was found, one row for each search and target, in the order of the generations.

    Parameters
    ----------
    metrics
        ``generation`` and ``evidence.searches`` of each assessment.
    """
    from gapfactory.analysis.rediscovery import SearchCount

    rows = []
    for entry in metrics:
        for search, found in sorted(entry.get("evidence", {}).get("searches", {}).items()):
            for target, counts in found["targets"].items():
                labels = [row["labels"] for row in counts["by_labels"]]
                rows.append(
                    SearchCount(
                        generation=entry["generation"],
                        search=search,
                        # assessments of an earlier version do not say it; all were with the one before
                        potential=found.get("potential", entry["generation"] - 1),
                        labels=found.get("labels", labels[0] if labels else None),
                        target=target,
                        cells=found["cells"],
                        attempts=counts["attempts"],
                        found=counts["found"],
                        rate_low_95=counts["rate_low_95"],
                        rate_high_95=counts["rate_high_95"],
                        first=counts["first"],
                        rank=counts["rank"],
                    )
                )
    return rows


def stored_searches(database: Database[Any], campaign: str) -> list[SearchCount]:
    """Return what the assessments of a campaign stored of its diagnostic searches."""
    fields = {"generation": 1, "evidence.searches": 1}
    return search_counts(database.metrics.find({"campaign": campaign}, fields).sort("generation", 1))
