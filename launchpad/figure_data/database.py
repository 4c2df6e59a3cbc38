"""The labelled structures of a campaign (Figs. 1a and 1b)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from gapfactory.errors import EvidenceError, InputError, NotFoundError
from gapfactory.origins import origin_in_words
from launchpad.assessment import reference_curve
from launchpad.database.dataset import pick_items, with_labels
from launchpad.database.results import metrics_of
from launchpad.figure_data.request import Gathered, opened
from launchpad.hulls import formation_data
from launchpad.training_set import last_frames, origin_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo.database import Database

    from gapfactory.analysis.database_overview import DatabaseOverview, DatabasePoint
    from gapfactory.analysis.energy_volume import EnergyVolumeCurve
    from gapfactory.campaign import Campaign
    from launchpad.database.dataset import LabelledItem
    from launchpad.database.labels import StoredLabel
    from launchpad.figure_data.request import Request

__all__ = ["energy_boxes", "energy_volume", "formation_energies", "labelled_points"]


def energy_volume(database: Database[Any], request: Request) -> Gathered:
    """Return Fig. 1a: the labelled structures over volume."""
    from gapfactory.figures import database_energy_volume

    _, data, notes = _overview(database, request, "phase")
    return Gathered(database_energy_volume(data, by=request.by), data.rows(), notes)


def energy_boxes(database: Database[Any], request: Request) -> Gathered:
    """Return Fig. 1b: how energies are spread, by generation, component and origin."""
    from gapfactory.figures import database_boxes

    _, data, notes = _overview(database, request, "hull")
    return Gathered(database_boxes(data), data.box_rows(), notes)


def formation_energies(database: Database[Any], request: Request) -> Gathered:
    """Return formation energies over composition, counted from the line between the outermost ones."""
    from gapfactory.figures import formation_energies as drawn

    campaign = opened(database, request)
    if len(campaign.species_table) != 2:
        raise InputError(
            f"campaign {campaign.name!r} is of {', '.join(sorted(campaign.species_table))}: formation energies are "
            "drawn of two elements; energy-volume and energy-boxes are for any number"
        )
    entries = [entry for _, entry, _ in _labelled(database, campaign, request.generation)]
    metrics = [
        record
        for record in metrics_of(database, campaign.name)
        if request.generation is None or record["generation"] <= request.generation
    ]
    found = formation_data(database, campaign, entries, metrics)
    if found is None:
        raise NotFoundError(
            f"campaign {campaign.name!r} has no labelled structures of two compositions yet; 'gapfactory campaign "
            f"status {campaign.name}' shows how far it is"
        )
    return Gathered(drawn(found.hull, found.known), found.rows())


def _overview(
    database: Database[Any], request: Request, usual: Literal["hull", "phase"]
) -> tuple[Campaign, DatabaseOverview, tuple[str, ...]]:
    from gapfactory.analysis.database_overview import database_overview

    campaign = opened(database, request)
    points = labelled_points(database, campaign, request.generation)
    if not points:
        raise NotFoundError(
            f"campaign {request.campaign!r} has no labelled structures yet; 'gapfactory campaign status "
            f"{request.campaign}' shows how far it is"
        )
    wanted = request.zero or (usual if campaign.element is not None else "hull")
    zero = _zero(database, campaign, points) if wanted == "phase" else None
    below = "" if zero is None else _below(points, zero)
    data = database_overview(points, zero=zero)
    return campaign, data, (below,) if below else ()


def labelled_points(
    database: Database[Any], campaign: Campaign, generation: int | None
) -> list[DatabasePoint]:
    """Return every labelled pick of the generations so far."""
    from gapfactory.analysis.database_overview import DatabasePoint

    entries = _labelled(database, campaign, generation)
    last = last_frames(database, [entry.item for _, entry, _ in entries])
    species = sorted(campaign.species_table)
    components = {entry.item.info.get("component") for _, entry, _ in entries}
    found = []
    for of, entry, label in entries:
        item = entry.item
        symbols, n = item.atoms.get_chemical_symbols(), len(item.atoms)
        found.append(
            DatabasePoint(
                id=item.id,
                generation=of,
                component=str(item.info.get("component") or "") if len(components) > 1 else "",
                origin=origin_in_words(origin_of(item, last)),
                volume=float(item.atoms.get_volume()) / n,
                energy=label.energy / n,
                fractions=tuple(symbols.count(symbol) / n for symbol in species[1:]),
            )
        )
    return found


def _labelled(
    database: Database[Any], campaign: Campaign, generation: int | None
) -> list[tuple[int, LabelledItem, StoredLabel]]:
    """Return the picks of the generations so far whose labels are done, each with its generation and label."""
    chosen = database.selections.find({"campaign": campaign.name}, {"generation": 1}).sort("generation", 1)
    return [
        (of, entry, entry.label)
        for of in [selection["generation"] for selection in chosen]
        if generation is None or of <= generation
        for entry in with_labels(database, campaign, pick_items(database, campaign, of))
        if entry.label is not None and entry.label.status == "done"
    ]


def _zero(database: Database[Any], campaign: Campaign, points: Sequence[DatabasePoint]) -> tuple[str, float]:
    """Return the named phase of lowest energy by the reference; without its curves, the lowest labelled structure."""
    if campaign.element is None:
        raise InputError(
            f"campaign {campaign.name!r} has several elements: energies above one phase say nothing; take --zero hull"
        )
    lowest: list[tuple[float, str]] = []
    for name in campaign.phase_names():
        curve = reference_curve(database, campaign, name)
        if curve is not None and len(curve.volumes):
            lowest.append((_minimum(curve), name))
    if lowest:
        energy, name = min(lowest)
        return name, energy
    return "the lowest labelled structure", min(point.energy for point in points)


def _minimum(curve: EnergyVolumeCurve) -> float:
    """Return the energy of a phase, eV/atom: of its equation of state, or of the lowest point where it has none."""
    from gapfactory.analysis.energy_volume import fit_equation_of_state

    try:
        return fit_equation_of_state(curve).energy
    except EvidenceError:
        return float(curve.energies.min())


def _below(points: Sequence[DatabasePoint], zero: tuple[str, float]) -> str:
    lowest = min(points, key=lambda p: p.energy)
    if lowest.energy >= zero[1] - 1e-4:
        return ""
    return f"{lowest.id} lies {1000 * (zero[1] - lowest.energy):.1f} meV/atom below {zero[0]}"
