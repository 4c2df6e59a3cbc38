"""What people do with campaigns: submit, look, ask why, retry, resume, cancel. The CLI and the dashboard call these."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

from gapfactory.errors import StateError
from gapfactory.protocols.kinds import kind_of_protocol
from gapfactory.protocols.planner import recipe_of
from launchpad import quarantine, queries
from launchpad.database import campaigns
from launchpad.database.audit import audit
from launchpad.database.connection import durable
from launchpad.database.dataset import all_items, with_labels
from launchpad.database.documents import generation_id, is_data_id, label_id
from launchpad.database.labels import count_done
from launchpad.diagnostics import search_counts
from launchpad.given_potential import take_over_potential
from launchpad.operations.quotas import planned_for, require_quota
from launchpad.operations.removals import removals_of
from launchpad.ranking import failed_relaxations
from launchpad.reference_relaxations import retry_relaxations
from launchpad.states import CampaignState

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from launchpad.database.dataset import LabelledItem
    from launchpad.queue import Queue

__all__ = ["cancel", "explain", "label_overview", "resume", "retry", "status", "submit", "versions"]


def versions() -> dict[str, str]:
    """Return the versions of what decides a campaign's numbers."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name in (
        "gapfactory",
        "ase",
        "numpy",
        "scipy",
        "numba",
        "spglib",
        # cells to measure vibrations by are theirs
        "phonopy",
        "symfc",
        "quippy-ase",
        "FireWorks",
        "gpaw",
        "gpaw-data",
    ):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def submit(
    queue: Queue, campaign: Campaign, text: str, directory: Path | None = None
) -> Literal["new", "updated", "unchanged"]:
    """Store a campaign and put its first generation on the queue; again for the same file changes nothing.

    Parameters
    ----------
    queue, campaign, text
        Where, what, and its file.
    directory
        Where the file is, for the files of a potential that it names.

    Returns
    -------
    str
        ``new``; ``updated`` when the campaign was there and took over changed operational settings; ``unchanged``.

    Raises
    ------
    StateError
        A campaign of this name exists with other settings, or the quota of the group does not allow a new one.
    MissingEngineError
        The reference code is not installed here.
    FitError
        The program that fits is not installed here.
    """
    from gapfactory.potentials.gap import check_backend
    from gapfactory.reference import check_engine
    from launchpad.database.indexes import ensure_indexes
    from launchpad.own_data import take_over_data
    from launchpad.workflows.generation import submit_generation

    check_engine(campaign.reference, tuple(campaign.species_table))
    if campaign.potential == "gap" and recipe_of(campaign, 0).fits:
        check_backend(campaign.gap)
    database = durable(queue.db)
    ensure_indexes(database)
    _require_source(database, campaign)
    if database.campaigns.find_one({"_id": campaign.name}, {"_id": 1}) is None:
        require_quota(database, campaign.name, planned_for(campaign, 0))
    take_over_potential(database, campaign, directory)
    campaigns.require_same(database, campaign, text)
    take_over_data(database, campaign, directory)
    created = campaigns.create_campaign(database, campaign, text, versions())
    if created != "unchanged":
        audit(database, "campaign.submitted", campaign=campaign.name, how=created)
    submit_generation(queue, campaign, 0)
    return created


def _require_source(database: Database[Any], campaign: Campaign) -> None:
    """Refuse a file that asks for structures of another campaign which nobody has chosen."""
    key = generation_id(campaign.name, 0)
    if campaign.source is not None and not database.selections.find_one({"_id": key}, {"_id": 1}):
        msg = (
            f"campaign {campaign.name!r} labels structures of campaign {campaign.source.campaign!r}, and they are not "
            "chosen yet: 'gapfactory campaign relabel' chooses them and submits the campaign"
        )
        raise StateError(msg)


def status(database: Database[Any], name: str, *, labels: int | None = None) -> dict[str, Any]:
    """Return where a campaign stands, as plain JSON data; `labels`: how many are done, where the caller counted."""
    record = campaigns.require_campaign(database, name)
    # read as stored: checking the settings takes longer than all the rest
    settings = record["settings"]
    kind = kind_of_protocol(settings)
    generation = record["generation"]
    planned = _relaxations_planned(record, generation)
    # evidence and fit reports are large, and this is asked every second
    metrics = list(
        database.metrics.find(
            {"campaign": name},
            {
                "generation": 1,
                "labels": 1,
                "decision": 1,
                "reason": 1,
                "evidence.headline": 1,
                "evidence.searches": 1,
                **({"evidence.ranking": 1} if kind.ranks else {}),
            },
        ).sort("generation", 1)
    )
    potential = database.potentials.find_one(
        {"campaign": name}, {"generation": 1, "digest": 1}, sort=[("generation", -1)]
    )
    if labels is None:
        labels = _labels_done(database, record, metrics[-1] if metrics else None)
    return {
        "campaign": name,
        "state": record["state"],
        "reason": record["reason"],
        "generation": generation,
        "generations": kind.generations(settings),
        "label_budget": settings["stop"]["label_budget"],
        "labels": labels,
        "tasks": queries.task_counts(database, name, generation),
        "relaxations": queries.relaxation_counts(database, name, generation),
        "relaxations_planned": planned,
        "potential": None
        if potential is None
        else {"generation": potential["generation"], "digest": potential["digest"]},
        "assessments": [
            {
                "generation": m["generation"],
                "labels": m["labels"],
                "decision": m["decision"],
                "reason": m["reason"],
                **m.get("evidence", {}).get("headline", {}),
            }
            for m in metrics
        ],
        "searches": [asdict(found) for found in search_counts(metrics)],
        "ranking": metrics[-1].get("evidence", {}).get("ranking") if metrics else None,
        "created": record["created"].isoformat(),
        "updated": record["updated"].isoformat(),
    }


def _relaxations_planned(record: dict[str, Any], generation: int) -> int:
    """Return how many cells a generation relaxes; settings are checked only where they say more than one number."""
    settings = record["settings"]
    kind = kind_of_protocol(settings)
    if kind.ranks:
        recipe = recipe_of(campaigns.campaign_of(record), generation)
        return recipe.n_cells or recipe.reference_relaxations
    if not generation or settings.get("source"):
        return 0
    if settings.get("vibrations") and generation == kind.generations(settings) - 1:
        return 0
    # campaigns of earlier versions have no components
    several = settings.get("components") or settings.get("robustness")
    if several or settings["protocol"] != "de-novo-2019":
        return campaigns.campaign_of(record).cells_of(generation)
    return int(settings["schedule"]["cells_per_generation"])


def _labels_done(database: Database[Any], record: dict[str, Any], assessed: dict[str, Any] | None) -> int:
    """Return how many picks are labelled, without those that came with their labels.

    Every label of an assessed generation is decided: it is there, or it is among the few that failed. Only what was
    chosen after the newest assessment is looked at one by one.
    """
    if kind_of_protocol(record["settings"]).ranks:
        # each stage has a level of its own, and there are few of them
        overview = label_overview(database, campaigns.campaign_of(record))
        return sum(entry.label is not None and entry.label.status == "done" for entry in overview)
    name, newest = record["_id"], assessed["generation"] if assessed else -1
    level = campaigns.levels_of(record)["crystal"]
    ids = [
        key
        for selection in database.selections.find(
            {"campaign": name, "generation": {"$gt": newest}}, {"train": 1, "test": 1}
        )
        for key in (*selection["train"], *selection["test"])
        if not is_data_id(key)
    ]
    fields = {"hash": 1, "info.levels": 1}
    found = list(database.structures.find({"_id": {"$in": ids}}, fields)) if ids else []
    hashes = {d["hash"] for d in found}
    # what another campaign chose is labelled again at this one's level
    levels = [{} if record["settings"].get("source") else d["info"].get("levels", {}) for d in found]
    own = (label_id(d["hash"], of.get("crystal", level)) for d, of in zip(found, levels, strict=True))
    since = count_done(database, set(own), name)
    if assessed is None:
        return since
    chosen = database.selections.aggregate(
        [
            {"$match": {"campaign": name, "generation": {"$lte": newest}}},
            {"$project": {"generation": 1, "picks": {"$add": [{"$size": "$train"}, {"$size": "$test"}]}}},
        ]
    )
    picks = {entry["generation"]: entry["picks"] for entry in chosen if entry["picks"]}
    given = database.structures.count_documents(
        {"campaign": name, "generation": {"$in": sorted(picks)}, "stage": "data"}
    )
    failed = {
        entry["structure_hash"]
        for entry in database.labels.find(
            {"campaign": name, "status": "failed", "settings_hash": level, "kind": "crystal"},
            {"structure_hash": 1},
        )
    }
    return sum(picks.values()) - given - len(failed - hashes) + since


def label_overview(database: Database[Any], campaign: Campaign) -> list[LabelledItem]:
    """Return every structure that was chosen for labelling so far, with its label if there is one."""
    return with_labels(database, campaign, all_items(database, campaign))


def explain(
    database: Database[Any], name: str, *, files: bool = False, labels: Collection[str] = ()
) -> dict[str, Any]:
    """Return why a campaign is where it is: what runs, what failed and with which words, what to do.

    Parameters
    ----------
    database, name
        The campaign.
    files
        With the ends of the files kept of failed calculations.
    labels
        Of the structures that could not be labelled, only these.
    """
    record = campaigns.require_campaign(database, name)
    campaign = campaigns.campaign_of(record)
    failed = queries.failed_tasks(database, name)
    open_tasks = queries.unfinished_tasks(database, name)
    postponed = queries.postponed_tasks(database, name)
    overview = label_overview(database, campaign)
    quarantined = quarantine.quarantined(overview, files=files, labels=labels)
    advice = []
    state = CampaignState(record["state"])
    if failed and not (state is CampaignState.HALTED and quarantined):
        advice.append(f"mend the cause of the failed task, then 'gapfactory campaign resume {name} --run'")
    if state is CampaignState.HALTED and quarantined:
        advice.append(
            f"mend what kept structures from being labelled, then 'gapfactory campaign retry {name} --run'"
        )
    if postponed:
        advice.append("mend the cause (space, network, memory); what waits is tried again by itself")
    if state is CampaignState.CANCELLED:
        advice.append(f"'gapfactory campaign resume {name} --run' takes it up again")
    if (
        not state.ended
        and not failed
        and not any(task["state"] in ("RUNNING", "RESERVED") for task in open_tasks)
    ):
        advice += _too_large(database, name)
        advice += _troubles(database)
        advice.append("nothing is running: start workers with 'gapfactory worker start'")
    return {
        "campaign": name,
        "state": record["state"],
        "reason": record["reason"],
        "failed_tasks": failed,
        "open_tasks": [{"fw_id": t["fw_id"], "name": t["name"], "state": t["state"]} for t in open_tasks],
        "postponed_tasks": postponed,
        "quarantined": quarantined,
        "relaxations": failed_relaxations(database, campaign),
        "energy_outliers": quarantine.energy_outliers_of(overview),
        "removed": removals_of(database, name),
        "advice": advice,
    }


def _troubles(database: Database[Any]) -> list[str]:
    """Say why living workers take nothing."""
    from launchpad.workers.registry import list_workers

    return sorted(
        {
            f"on {worker['host']} {worker['trouble']}"
            for worker in list_workers(database)
            if worker["alive"] and worker.get("trouble")
        }
    )


def _too_large(database: Database[Any], name: str) -> list[str]:
    """Say which tasks could start, but need more than any worker has."""
    from launchpad.queue.offer import Offer
    from launchpad.workers.registry import list_workers

    offers = [
        (worker["categories"], Offer(worker.get("cores"), worker.get("memory_gb")))
        for worker in list_workers(database)
        if worker["alive"] and worker["kind"] in {"worker", "push"}
    ]
    if not offers:
        return []
    return [
        f"{row['n']} {row['kind']} tasks need {', '.join(f'{key} {value:g}' for key, value in row['needs'].items())}, "
        "which no worker has: start larger ones (--cores, --memory-gb)"
        for row in queries.needs_of_ready_tasks(database, name)
        if not any(
            (not kinds or row["kind"] in kinds) and offer.meets(row["needs"]) for kinds, offer in offers
        )
    ]


def resume(queue: Queue, name: str, *, retry_labels: bool = False) -> dict[str, int]:
    """Put a halted, cancelled or failed campaign back on the queue, where it stopped.

    Parameters
    ----------
    queue
        The queue.
    name
        The campaign.
    retry_labels
        As `retry` without a choice.

    Raises
    ------
    StateError
        The campaign has ended by its own stop rule.
    """
    if retry_labels:
        return retry(queue, name)
    with _noted(queue, name, "campaign.resumed") as details:
        details.update(_resume(queue, name, 0, 0))
    return details


def retry(
    queue: Queue, name: str, *, labels: Collection[str] = (), fault: str | None = None
) -> dict[str, int]:
    """Label quarantined structures again where a fit will still use them, and resume the campaign.

    Without a choice, what failed of the named phases' curves and of the relaxations of a ranking is computed again too.

    Parameters
    ----------
    queue, name
        The campaign.
    labels
        Ids of structures; all by default.
    fault
        Only those that ended with this kind of fault.

    Raises
    ------
    StateError
        The campaign has ended by its own stop rule: no fit will use another label.
    NotFoundError, InputError
        There is no such structure or kind of fault.
    """
    database = durable(queue.db)
    record = campaigns.require_campaign(database, name)
    campaign = campaigns.campaign_of(record)
    _refuse_done(record, name)
    chosen = quarantine.choose(database, campaign, labels=labels, fault=fault)
    # before anything is put on the queue: a task that starts in a cancelled campaign does nothing
    campaigns.set_state(database, name, CampaignState.RUNNING, "resumed")
    with _noted(queue, name, "campaign.retried") as details:
        forgotten, rerun = quarantine.try_again(queue, campaign, chosen)
        if not labels and fault is None:
            more = _retry_curves(queue, campaign)
            forgotten, rerun = forgotten + more[0], rerun + more[1]
            more = retry_relaxations(queue, campaign)
            forgotten, rerun = forgotten + more[0], rerun + more[1]
        details.update(_resume(queue, name, forgotten, rerun))
    return details


@contextmanager
def _noted(queue: Queue, name: str, event: str) -> Iterator[dict[str, int]]:
    """Note in the audit trail what is done in the block; that it was begun, if a workflow is busy all the time."""
    from fireworks.core.launchpad import LockedWorkflowError

    details: dict[str, int] = {}
    try:
        yield details
    except LockedWorkflowError:
        audit(durable(queue.db), event, campaign=name, unfinished=True, **details)
        raise
    audit(durable(queue.db), event, campaign=name, **details)


def _refuse_done(record: dict[str, Any], name: str) -> None:
    if record["state"] == CampaignState.DONE:
        msg = (
            f"campaign {name!r} is done ({record['reason']}); submit a new one with a larger budget under "
            "another name"
        )
        raise StateError(msg)


def _resume(queue: Queue, name: str, forgotten: int, rerun: int) -> dict[str, int]:
    from launchpad.workflows.generation import submit_generation

    database = durable(queue.db)
    record = campaigns.require_campaign(database, name)
    campaign = campaigns.campaign_of(record)
    _refuse_done(record, name)
    require_quota(database, name)
    # first of all: a task that starts in a cancelled campaign does nothing
    campaigns.set_state(database, name, CampaignState.RUNNING, "resumed")
    for fw_id in quarantine.undecided_tasks(database, campaign):
        queue.rerun_fw(fw_id)
        rerun += 1
    for fw_id in _ended_by_cancellation(database, name):
        queue.rerun_fw(fw_id)
        rerun += 1
    for task in database.fireworks.find(
        {"spec.campaign": name, "state": {"$in": ["FIZZLED", "DEFUSED"]}}, {"fw_id": 1, "state": 1}
    ).sort("fw_id", 1):
        if task["state"] == "DEFUSED":
            queue.reignite_fw(task["fw_id"])
        else:
            queue.rerun_fw(task["fw_id"])
        rerun += 1
    # a submitter that was killed half-way is completed; a generation that is there already stays as it is
    for generation in range(record["generation"] + 1):
        submit_generation(queue, campaign, generation)
    return {"rerun": rerun, "labels_forgotten": forgotten}


def _ended_by_cancellation(database: Database[Any], name: str) -> list[int]:
    """Return the tasks that ended without work because their campaign was cancelled, or halted by a quota."""
    tasks = [
        task["fw_id"]
        for task in database.fireworks.find({"spec.campaign": name, "state": "COMPLETED"}, {"fw_id": 1})
    ]
    return sorted(
        database.launches.distinct(
            "fw_id",
            {
                "fw_id": {"$in": tasks},
                "state": "COMPLETED",
                "$or": [{"action.stored_data.cancelled": True}, {"action.stored_data.halted": True}],
            },
        )
    )


def _retry_curves(queue: Queue, campaign: Campaign) -> tuple[int, int]:
    """Forget what failed of the named phases' curves, and compute it again; a stored assessment stays as it is."""
    from launchpad.database.curves import forget_failed_curves

    database = durable(queue.db)
    forgotten = forget_failed_curves(database, campaign.name)
    if not forgotten:
        return 0, 0
    rerun = 0
    for task in database.fireworks.find(
        {"spec.campaign": campaign.name, "spec._tasks.what": "phase", "state": "COMPLETED"}, {"fw_id": 1}
    ).sort("fw_id", 1):
        queue.rerun_fw(task["fw_id"])
        rerun += 1
    return forgotten, rerun


def cancel(queue: Queue, name: str) -> int:
    """End a campaign: nothing new starts, what runs is let finish. Nothing stored is deleted; `resume` takes it up.

    Returns
    -------
    int
        Tasks that will not start.
    """
    database = durable(queue.db)
    record = campaigns.require_campaign(database, name)
    if CampaignState(record["state"]) is CampaignState.DONE:
        msg = f"campaign {name!r} is done already; there is nothing to cancel"
        raise StateError(msg)
    if not campaigns.set_state(database, name, CampaignState.CANCELLED, "cancelled by a person"):
        msg = f"campaign {name!r} has just ended; there is nothing to cancel"
        raise StateError(msg)
    with _noted(queue, name, "campaign.cancelled") as details:
        details["tasks"] = 0
        for task in database.fireworks.find(
            {"spec.campaign": name, "state": {"$in": ["READY", "WAITING"]}}, {"fw_id": 1}
        ).sort("fw_id", 1):
            # one that has started meanwhile is let finish
            details["tasks"] += queue.defuse_fw(task["fw_id"]) is not None
    return details["tasks"]
