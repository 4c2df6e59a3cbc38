"""What a group uses of its database, and how much it may: asked before work is put on the queue."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import StateError
from launchpad.operations.stored import quota_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from launchpad.operations.settings import Quota

__all__ = ["QuotaUse", "Use", "exceeded", "measure", "planned_for", "remedy", "require_quota", "usage"]

logger = logging.getLogger("launchpad.operations")

#: What to do then with a campaign that halted.
_RESUME: Final = "'gapfactory campaign resume NAME --run'"
#: Collections whose documents belong to campaigns, and the field that says to which.
_OWNED = {
    "structures": "campaign",
    "relaxations": "campaign",
    "anneals": "campaign",
    "selections": "campaign",
    "labels": "campaign",
    "curves": "campaign",
    "networks": "campaign",
    "potentials": "campaign",
    "metrics": "campaign",
    "vibrations": "campaign",
    "fireworks": "spec.campaign",
}


@dataclass(frozen=True)
class Use:
    """What a campaign has of one kind.

    Attributes
    ----------
    campaign
        Empty for what belongs to none or to many.
    kind
        Collection, or ``potential files``.
    documents
        How many.
    megabytes
        What that is (MB, 1e6 bytes): by the mean size of the collection's documents; exact for files and totals.
    """

    campaign: str
    kind: str
    documents: int
    megabytes: float


@dataclass(frozen=True)
class QuotaUse:
    """How much of one limit is used.

    Attributes
    ----------
    name
        ``structures``, ``labels``, ``gigabytes`` or ``core_hours``.
    used
        At this moment.
    limit
        None: there is none.
    """

    name: str
    used: float
    limit: float | None

    @property
    def share(self) -> float:
        """Used part of the limit; 0 without one, more than 1 where a limit of 0 is used."""
        if self.limit is None:
            return 0.0
        return self.used / self.limit if self.limit else (2.0 if self.used else 1.0)


def usage(database: Database[Any]) -> list[Use]:
    """Return documents and bytes by campaign and kind: counts from indexes and statistics, no document is read."""
    campaigns = sorted(d["_id"] for d in database.campaigns.find({}, {"_id": 1}))
    found, rest = [], []
    for name in sorted(database.list_collection_names()):
        if name.startswith(("system.", "potential_files.")):
            continue
        statistics = database.command("collStats", name)
        total, size = int(statistics["count"]), float(statistics["size"])
        mean = size / total / 1e6 if total else 0.0
        owned = 0
        for campaign in campaigns if name in _OWNED else ():
            number = int(database[name].count_documents({_OWNED[name]: campaign}))
            owned += number
            if number:
                found.append(Use(campaign, name, number, round(number * mean, 3)))
        if total > owned:
            rest.append(Use("", name, total - owned, round((total - owned) * mean, 3)))
    for campaign in campaigns:
        files = {
            file["sha256"]: file["size"]
            for record in database.potentials.find(
                {"campaign": campaign, "pruned": {"$exists": False}}, {"files.sha256": 1, "files.size": 1}
            )
            for file in record["files"]
        }
        if files:
            found.append(Use(campaign, "potential files", len(files), round(sum(files.values()) / 1e6, 3)))
    return sorted(found, key=lambda use: (use.campaign, use.kind)) + rest


def measure(
    database: Database[Any],
    quota: Quota | None = None,
    *,
    limited: bool = False,
    known: Mapping[str, float | None] | None = None,
) -> list[QuotaUse]:
    """Return how much of each limit is used; `limited`: only of those that are set, and nothing else is counted.

    `known` are uses that the caller counted already; one that is None is left out.
    """
    known = known or {}
    limits = quota or quota_of(database)
    measures: dict[str, Callable[[Database[Any]], float]] = {
        "structures": lambda database: float(database.structures.estimated_document_count()),
        "labels": lambda database: float(database.labels.count_documents({"status": "done"})),
        "gigabytes": lambda database: float(database.command("dbStats")["dataSize"]) / 1e9,
        "core_hours": _core_hours,
    }
    found = []
    for name, used in measures.items():
        if limited and getattr(limits, name) is None:
            continue
        use = known[name] if name in known else used(database)
        if use is not None:
            found.append(QuotaUse(name, use, getattr(limits, name)))
    return found


def _core_hours(database: Database[Any]) -> float:
    seconds = 0.0
    for row in database.launches.aggregate(
        [
            {"$match": {"state": "COMPLETED"}},
            {"$group": {"_id": None, "seconds": {"$sum": "$action.stored_data.seconds"}}},
        ]
    ):
        seconds = float(row["seconds"])
    return seconds / 3600.0


def planned_for(campaign: Campaign, generation: int) -> dict[str, float]:
    """Return what a generation is going to add to what has a limit and can be told before."""
    from gapfactory.campaign import sizes
    from gapfactory.protocols.planner import recipe_of
    from launchpad.database.dataset import make_atoms

    recipe = recipe_of(campaign, generation)
    picks = recipe.labels
    crystals = sum(campaign.crystals[name].count for name in recipe.crystals)
    # from generation 1 on, chosen frames are structures of their own; the first one labels atoms and dimers too
    beside = 0 if generation or not recipe.fits else sum(len(atoms) for _, atoms in make_atoms(campaign))
    if recipe.picks == "frames":
        # each is a structure of its own, whatever it is for
        settings, measured = campaign.vibration_settings, len(sizes.evidence(campaign))
        unlabelled = settings.unlabelled * len(settings.trained())
        labels = picks + measured + beside
        return {"structures": float(labels + unlabelled + len(settings.names())), "labels": float(labels)}
    return {
        "structures": float(recipe.n_cells + (picks if generation else beside + crystals)),
        "labels": float(picks + beside),
    }


def exceeded(database: Database[Any], planned: Mapping[str, float]) -> str:
    """Return which limit does not allow what is planned, with the remedy, or nothing.

    Where most of a limit is used, that is logged.

    Parameters
    ----------
    database
        The database.
    planned
        From `planned_for`; empty to look at what is used already.
    """
    quota = quota_of(database)
    for found in measure(database, quota, limited=True):
        if found.limit is None:
            continue
        more = planned.get(found.name, 0.0)
        if found.used + more > found.limit or found.used >= found.limit:
            comes = f" and {more:g} more would come" if more else ""
            return (
                f"quota of the group: {found.used:.4g} of {found.limit:g} {found.name.replace('_', ' ')} are used"
                f"{comes}. Nothing is lost: {remedy(found.name)}, then {_RESUME}"
            )
        if found.share >= quota.warn_at:
            logger.warning(
                "quota of the group: %.4g of %g %s are used",
                found.used,
                found.limit,
                found.name.replace("_", " "),
            )
    return ""


def remedy(name: str) -> str:
    """Return what helps where a limit is reached: what a policy removes takes bytes away, and no document."""
    option = name.replace("_", "-")
    room = "make room ('gapfactory db usage', 'gapfactory db prune') or " if name == "gigabytes" else ""
    return f"{room}have an owner raise it ('gapfactory db quota set --{option} N')"


def require_quota(database: Database[Any], name: str, planned: Mapping[str, float] | None = None) -> None:
    """Refuse work that the quota does not allow.

    Parameters
    ----------
    database
        The database.
    name
        The campaign, for the text.
    planned
        What a new campaign is going to add; one that is there needs none.

    Raises
    ------
    StateError
        With the limit and the remedy.
    """
    reason = exceeded(database, planned or {})
    if reason:
        again = "submit it again" if planned else _RESUME.replace("NAME", name)
        raise StateError(reason.replace(_RESUME, again))
