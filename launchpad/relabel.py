"""Label structures of a campaign again at another level, as a campaign of its own that fits and judges on them.

The new campaign has one generation without cells and selection: what it labels is chosen here from what the other one
chose, and stays where it is. Nothing of the other campaign is changed; labels go through the shared store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from gapfactory.errors import InputError, NotFoundError
from launchpad.database import campaigns
from launchpad.database.connection import durable
from launchpad.database.dataset import pick_items, with_labels
from launchpad.database.documents import SelectionDocument, generation_id
from launchpad.database.results import save_selection

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from launchpad.database.dataset import LabelledItem
    from launchpad.queue import Queue

__all__ = ["relabel"]


def relabel(
    queue: Queue,
    name: str,
    new_name: str,
    changes: Mapping[str, Any],
    *,
    which: Literal["all", "minima"] = "all",
    lowest: int | None = None,
    labels: Collection[str] = (),
) -> tuple[Campaign, Literal["new", "updated", "unchanged"]]:
    """Put a campaign on the queue that labels structures of another one again; the same again changes nothing.

    Parameters
    ----------
    queue
        The queue.
    name
        The campaign whose structures are labelled again; it may still be running.
    new_name
        Name of the new campaign.
    changes
        Of the reference settings.
    which
        ``all`` picks, or ``minima``: the converged endpoints of relaxations among them.
    lowest
        Only so many of lowest energy per atom by the other campaign's labels, in turn from each composition.
    labels
        Only the structures of these ids.

    Returns
    -------
    tuple
        The campaign, and what `service.submit` says.

    Raises
    ------
    InputError
        The settings are the same, or no structure is left to train on.
    NotFoundError
        There is no such campaign or structure.
    CampaignFileError
        The settings cannot be used.
    StateError, MissingEngineError, FitError
        As `service.submit`.
    """
    from gapfactory.campaign import campaign_from_mapping, to_yaml
    from gapfactory.campaign.load import settings_from
    from gapfactory.reference import settings_hash
    from launchpad import service

    database = durable(queue.db)
    source = campaigns.campaign_of(campaigns.require_campaign(database, name))
    stored = database.selections.find_one({"_id": generation_id(new_name, 0)})
    if stored is None or database.campaigns.find_one({"_id": new_name}, {"_id": 1}) is None:
        chosen = _choose(database, source, which, lowest, labels)
        train = [e.item.id for e in chosen if e.item.role == "train"]
        test = [e.item.id for e in chosen if e.item.role == "test"]
        stored = None
    else:
        # the other campaign may have gone on since
        train, test = stored["train"], stored["test"]
    if not train:
        msg = (
            f"none of the chosen structures of campaign {name!r} is for training ({len(test)} are held out): "
            "choose more"
        )
        raise InputError(msg)
    described = f"{which if lowest is None else f'lowest {lowest}'}{' of those named' if labels else ''}"
    content = {
        **source.model_dump(mode="json"),
        "name": new_name,
        "preset": None,
        "source": {"campaign": name, "which": described},
        "reference": settings_from(source, changes),
        "schedule": {"generations": 1, "quorum": source.schedule.quorum},
        "stop": {"label_budget": len(train) + len(test)},
        # whatever chose them: here they are given
        "protocol": "de-novo-2019",
        "components": {},
        "crystals": {},
        "data": {},
        "final_fit": None,
        "vibrations": None,
        "search": None,
    }
    content["select"] |= {
        "labels_per_generation": len(train),
        "held_out_per_generation": len(test),
        "noise_cells": 0,
    }
    campaign = campaign_from_mapping(content)
    if all(
        settings_hash(campaign.reference, kind) == settings_hash(source.reference, kind)
        for kind in ("crystal", "isolated", "dimer")
    ):
        msg = f"these are the settings of campaign {name!r} already: change some (--k-density, --set, --engine-file)"
        raise InputError(msg)
    if stored is None:
        save_selection(
            database,
            SelectionDocument(
                id=generation_id(new_name, 0),
                campaign=new_name,
                generation=0,
                train=train,
                test=test,
                report={"source": name, "which": described, "picks": []},
            ),
        )
    return campaign, service.submit(queue, campaign, to_yaml(campaign.model_dump(mode="json")))


def _choose(
    database: Database[Any], source: Campaign, which: str, lowest: int | None, labels: Collection[str]
) -> list[LabelledItem]:
    """Return the structures that are to be labelled again, in the order in which they were chosen first."""
    generations = sorted(
        s["generation"] for s in database.selections.find({"campaign": source.name}, {"generation": 1})
    )
    entries = [
        entry
        for generation in generations
        for entry in with_labels(database, source, pick_items(database, source, generation))
    ]
    unknown = sorted(set(labels) - {e.item.id for e in entries})
    if unknown:
        msg = f"{unknown[0]!r} is not among the {len(entries)} structures that campaign {source.name!r} chose to label"
        raise NotFoundError(msg)
    if labels:
        entries = [e for e in entries if e.item.id in labels]
    if which == "minima":
        entries = _minima(database, entries)
    if lowest is not None:
        entries = _lowest(entries, lowest)
    if not entries:
        msg = f"campaign {source.name!r} has no such structures yet ({which}): choose others, or wait"
        raise InputError(msg)
    return entries


def _minima(database: Database[Any], entries: list[LabelledItem]) -> list[LabelledItem]:
    """Return those that are the converged endpoint of their relaxation."""
    parents = sorted({e.item.info["relaxation"] for e in entries if "relaxation" in e.item.info})
    last = {
        d["_id"]: d["n_frames"] - 1
        for d in database.relaxations.find({"_id": {"$in": parents}, "status": "converged"}, {"n_frames": 1})
    }
    return [e for e in entries if last.get(e.item.info.get("relaxation")) == e.item.info.get("frame", -1)]


def _lowest(entries: list[LabelledItem], number: int) -> list[LabelledItem]:
    """Return so many of lowest energy per atom, one of each composition in turn: energies of two cannot be compared."""
    from gapfactory.structures import composition_of

    groups: dict[str, list[tuple[float, int]]] = {}
    for index, entry in enumerate(entries):
        if entry.label is not None and entry.label.status == "done":
            atoms = entry.item.atoms
            groups.setdefault(composition_of(atoms), []).append((entry.label.energy / len(atoms), index))
    ranked = sorted(
        (rank, composition, index)
        for composition, rows in groups.items()
        for rank, (_, index) in enumerate(sorted(rows))
    )
    return [entries[index] for index in sorted(index for _, _, index in ranked[:number])]
