"""Hulls of the labelled structures: energy over volume of one element, formation energies of two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.assessment import reference_curve

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from gapfactory.report import FormationData, HullData
    from launchpad.database.dataset import LabelledItem

__all__ = ["formation_data", "hull_data"]


def hull_data(campaign: Campaign, entries: Sequence[LabelledItem]) -> HullData | None:
    """Return labels that are done over volume with their lower hull; None for compounds and too few of them."""
    import numpy as np
    from scipy.spatial import ConvexHull, QhullError

    from gapfactory.potentials.gap import distance_to_hull
    from gapfactory.report import HullData

    if campaign.element is None or len(entries) < 3:
        return None
    volumes = np.array([e.item.atoms.get_volume() / len(e.item.atoms) for e in entries])
    energies = np.array([e.label.energy / len(e.item.atoms) for e in entries if e.label is not None])
    distances = distance_to_hull(volumes, energies)
    try:
        corners = ConvexHull(np.column_stack([volumes, energies])).vertices
    except QhullError:
        return None
    low = np.array(sorted(c for c in corners if distances[c] < 1e-9))
    order = low[np.argsort(volumes[low])]
    ids = tuple(e.item.id for e in entries)
    return HullData(volumes, energies, volumes[order], energies[order], distances, ids)


def formation_data(
    database: Database[Any],
    campaign: Campaign,
    entries: Sequence[LabelledItem],
    metrics: list[dict[str, Any]],
) -> FormationData | None:
    """Return formation energies of a campaign of two elements; None where there are no two compositions."""
    from collections import Counter

    from gapfactory.analysis.formation import formation_hull
    from gapfactory.errors import EvidenceError
    from gapfactory.report import FormationData

    if len(campaign.species_table) != 2:
        return None
    energies = [e.label.energy / len(e.item.atoms) for e in entries if e.label is not None]
    try:
        hull = formation_hull([Counter(e.item.atoms.get_chemical_symbols()) for e in entries], energies)
    except EvidenceError:
        return None  # the report says what it takes
    newest = metrics[-1]["evidence"].get("phases", {}) if metrics else {}
    known = {}
    for name in campaign.phase_names():
        reference = reference_curve(database, campaign, name)
        if reference is None or not len(reference.energies):
            continue
        symbols = campaign.phase_of(name).atoms.get_chemical_symbols()
        fraction = symbols.count(hull.elements[1]) / len(symbols)
        fitted = newest.get(name, {}).get("energies") or []
        known[name] = (
            fraction,
            hull.energy(fraction, float(reference.energies.min())),
            hull.energy(fraction, min(fitted)) if fitted else None,
        )
    return FormationData(hull, tuple(e.item.id for e in entries), known)
