"""Diagnostic searches: how often relaxations of cells that are not labelled end in a known phase (2018)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.protocols.planner import recipe_of
from launchpad.database.packing import unpack_array
from launchpad.database.potentials import preceding_potential
from launchpad.database.results import frame_atoms

if TYPE_CHECKING:
    from pymongo.database import Database

    from gapfactory.analysis.rediscovery import Minimum
    from gapfactory.campaign import Campaign
    from gapfactory.protocols.recipe import CellRange

__all__ = ["diagnostic_searches"]


def diagnostic_searches(database: Database[Any], campaign: Campaign, generation: int) -> dict[str, Any]:
    """Return what the diagnostic searches of a generation found with the potential before, by component.

    Returns
    -------
    dict
        Per component: ``cells``; ``ends``, relaxations that did not fail; ``targets``, per phase as
        `gapfactory.analysis.rediscovery.Rediscovery.as_dict` counts it.
    """
    from gapfactory.analysis.phases import named_phase
    from gapfactory.analysis.rediscovery import rediscovery

    looked = [part for part in recipe_of(campaign, generation).cells if not part.labelled]
    if not looked:
        return {}
    found = {}
    for part in looked:
        ends = _ends(database, campaign, generation, part)
        targets = {name: named_phase(name).atoms for name in campaign.target_phases(part.component)}
        found[part.component] = {
            "cells": part.stop - part.start,
            "ends": len(ends),
            "targets": {result.target: result.as_dict() for result in rediscovery(ends, targets)},
        }
    return found


def _ends(database: Database[Any], campaign: Campaign, generation: int, part: CellRange) -> list[Minimum]:
    from gapfactory.analysis.rediscovery import Minimum

    labels = len(preceding_potential(database, campaign.name, generation)["trained_on"])
    query = {
        "campaign": campaign.name,
        "generation": generation,
        "index": {"$gte": part.start, "$lt": part.stop},
        "status": {"$ne": "failed"},
    }
    found = []
    for relaxation in database.relaxations.find(query).sort("index", 1):
        atoms = frame_atoms(relaxation, -1)
        enthalpy = float(unpack_array(relaxation["enthalpies"])[-1]) / len(atoms)
        found.append(Minimum(relaxation["_id"], atoms, labels, enthalpy))
    return found
