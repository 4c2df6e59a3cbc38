"""What the pages of campaigns ask the database: small projections, no packed arrays."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymongo.database import Database

__all__ = [
    "Difference",
    "campaign_rows",
    "data_state",
    "fit_parameters",
    "forecast",
    "measured_vibrations",
    "newest_assessments",
    "recoveries",
    "setting_differences",
]

#: What a fit reports about its parameters, and of networks how good they are; the rest is measurement.
_PARAMETERS = (
    "family", "backend", "deltas_eV", "e0_eV", "descriptors", "targets", "versions", "threads",
    "split", "members", "errors", "spread_eV",
)  # fmt: skip


#: A parameter of a descriptor and its value, which may be a list in braces.
_ASSIGNED = re.compile(r"(\w+)=(\{[^}]*\}|\S+)")


@dataclass(frozen=True)
class Difference:
    """A setting that is not the same on both sides; None where it is not there."""

    path: str
    left: Any
    right: Any


def campaign_rows(database: Database[Any]) -> list[dict[str, Any]]:
    """Return a line for each campaign, the newest first, with the headline of its newest assessment."""
    from gapfactory.protocols.kinds import kind_of_protocol

    wanted = {
        "state": 1,
        "reason": 1,
        "generation": 1,
        "created": 1,
        "updated": 1,
        "settings.element": 1,
        "settings.composition": 1,
        "settings.protocol": 1,
        "settings.schedule.generations": 1,
        "settings.search.ranking.do": 1,
        # whether there is such a block
        "settings.vibrations.most_frames": 1,
        "settings.stop.label_budget": 1,
        "settings.reference.engine": 1,
    }
    found = []
    records = list(database.campaigns.find({}, wanted).sort("created", -1))
    newest = newest_assessments(database, {record["_id"]: record["generation"] for record in records})
    for record in records:
        settings = record["settings"]
        assessed = newest.get(record["_id"])
        found.append(
            {
                "name": record["_id"],
                "system": settings.get("element") or ", ".join(sorted(settings.get("composition") or {})),
                "engine": settings.get("reference", {}).get("engine", ""),
                "state": record["state"],
                "reason": record["reason"],
                "generation": record["generation"],
                "generations": kind_of_protocol(settings).generations(settings),
                "labels": assessed["labels"] if assessed else 0,
                "label_budget": settings["stop"]["label_budget"],
                "headline": (assessed or {}).get("evidence", {}).get("headline", {}),
                "assessed": assessed["generation"] if assessed else None,
                "created": record["created"],
                "updated": record["updated"],
            }
        )
    return found


def newest_assessments(database: Database[Any], generations: Mapping[str, int]) -> dict[str, dict[str, Any]]:
    """Return the newest assessment of each campaign; `generations` says in which it is.

    That is one of this generation or of the one before; evidence is large, and the others are not read.
    """
    from launchpad.database.documents import generation_id

    fields = {"campaign": 1, "generation": 1, "labels": 1, "evidence.headline": 1}
    ids = [
        generation_id(name, number)
        for name, newest in generations.items()
        for number in range(max(newest - 1, 0), newest + 1)
    ]
    found: dict[str, dict[str, Any]] = {}
    for row in database.metrics.find({"_id": {"$in": ids}}, fields):
        if row["generation"] >= found.get(row["campaign"], row)["generation"]:
            found[row["campaign"]] = row
    return found


def data_state(database: Database[Any], name: str) -> str:
    """Return a text that changes when anything does that a chart of the campaign shows; counts and times only.

    Raises
    ------
    NotFoundError
        There is no such campaign.
    """
    from launchpad.database.campaigns import require_campaign

    record = require_campaign(database, name)
    mine = {"campaign": name}
    metrics = database.metrics.find_one(mine, {"created": 1}, sort=[("generation", -1)])
    parts = [
        record["updated"].isoformat(),
        record["state"],
        metrics["created"].isoformat() if metrics else "",
        *(
            str(database[collection].count_documents(mine))
            for collection in ("selections", "metrics", "potentials", "labels", "vibrations")
        ),
        # a failed one that is mended is as many as before
        str(database.labels.count_documents({**mine, "status": "failed"})),
    ]
    return "/".join(parts)


#: Figure of a study -> the variants that it needs.
_STUDIES = {
    "phonons-primitives": ("primitives",),
    "phonons-diagonal": ("diagonal", "equal-cost"),
    "phonons-static": ("static",),
    "elastic-static": ("static",),
}


def measured_vibrations(database: Database[Any], name: str) -> dict[str, Any]:
    """Return what the page of vibrations says before its charts come.

    ``asked`` whether the campaign is to measure any; ``limits``; ``crystals``, each with the comparison of the newest
    potential, or the reason why there is none; ``absent``, figures of studies that it does not have.

    Raises
    ------
    NotFoundError
        There is no such campaign.
    """
    from launchpad.database.campaigns import require_campaign

    block = require_campaign(database, name)["settings"].get("vibrations")
    # everything but bands and densities of states, which are long
    fields = dict.fromkeys(("generation", "parent", "method", "variant", "reason", "comparison", "fit"), 1)
    rows = list(database.vibrations.find({"campaign": name}, fields))
    newest = max((row["generation"] for row in rows), default=0)
    rows = [row for row in rows if row["generation"] == newest]
    variants = {row["variant"] for row in rows}
    absent = {key for key, wanted in _STUDIES.items() if not variants.issuperset(wanted)}
    if not any(variant.startswith("learning-") for variant in variants):
        absent.add("phonons-learning")
    parents = (block or {}).get("parents") or {}
    if not any((parents.get(row["parent"]) or {}).get("bain") for row in rows):
        absent.add("phonons-bain")
    own = [row for row in rows if row["method"] == "potential" and not row["variant"]]
    metrics = database.metrics.find_one({"campaign": name, "generation": newest}, {"evidence.vibrations": 1})
    # one that could not be measured at all has no document
    judged = {} if metrics is None else metrics["evidence"].get("vibrations") or {}
    known = {row["parent"] for row in own}
    own += [
        {"parent": parent, "reason": row["reason"], "comparison": None}
        for parent, row in judged.items()
        if row.get("reason") and parent not in known
    ]
    return {
        "asked": block is not None,
        "limits": (block or {}).get("limits"),
        "crystals": sorted(own, key=lambda row: str(row["parent"])),
        "absent": frozenset(absent),
    }


def forecast(database: Database[Any], name: str) -> list[dict[str, Any]]:
    """Return by held-out series the labels at which its error reaches the target, as the learning curve forecasts it.

    The target is ``stop.convergence.energy_error_in_eV``; without it, half of the error now.
    """
    from gapfactory.analysis.learning import fit_power_law
    from gapfactory.errors import EvidenceError
    from launchpad.database.campaigns import require_campaign

    # read as stored: making a campaign of it takes longer than the rest, and the first page asks for many
    stop = require_campaign(database, name)["settings"].get("stop") or {}
    asked_eV = (stop.get("convergence") or {}).get("energy_error_in_eV")
    rows = list(
        database.metrics.find({"campaign": name}, {"labels": 1, "given": 1, "evidence.headline": 1}).sort(
            "generation", 1
        )
    )
    found = []
    for key, series, unit, scale, asked in (
        ("energy_rmse_meV", "held-out energy", "meV/atom", 1.0, asked_eV),
        ("force_rmse_eV_A", "held-out forces", "eV/Å", 1.0, None),
    ):
        line = [
            (row["labels"] + row.get("given", 0), row["evidence"]["headline"][key] * scale)
            for row in rows
            if row["evidence"].get("headline", {}).get(key) is not None
        ]
        if not line:
            continue
        now = line[-1][1]
        target = now / 2 if asked is None else asked * 1000
        entry: dict[str, Any] = {
            "series": series,
            "unit": unit,
            "now": now,
            "target": target,
            "halved": asked is None,
            "labels": None,
            "note": "",
        }
        try:
            law = fit_power_law([n for n, _ in line], [error for _, error in line])
        except EvidenceError as error:
            entry["note"] = str(error)
        else:
            labels = law.labels_for(target)
            # a law through a handful of points says nothing about a thousand times their number
            if labels is None:
                entry["note"] = "the error does not fall with the number of labels"
            elif labels > 1000 * line[-1][0]:
                entry["note"] = "the error falls too slowly to say"
            else:
                entry["labels"] = max(round(labels), line[-1][0] if now <= target else 0)
        found.append(entry)
    return found


def recoveries(database: Database[Any], name: str) -> dict[str, Any]:
    """Return what could not be labelled and why, and what the recovery did, from the labels of this campaign."""
    from launchpad.dashboard.queries.provenance import labelling_tasks
    from launchpad.quarantine import fault_advice

    fields = {
        "fault": 1,
        "reason": 1,
        "attempts": 1,
        "history": 1,
        "structure_hash": 1,
        "kind": 1,
        "engine": 1,
        "retry_in": 1,
        "created": 1,
    }
    # in the order of an index, so that no more than is shown is read
    cursor = database.labels.find({"campaign": name, "status": "failed"}, fields).sort("fault", 1)
    failed = [label | {"advice": fault_advice(label["fault"])} for label in cursor.limit(_SHOWN + 1)]
    by_fault: dict[str, int] = {}
    for row in database.labels.aggregate(
        [
            {"$match": {"campaign": name, "status": "failed"}},
            {"$group": {"_id": "$fault", "n": {"$sum": 1}}},
        ]
    ):
        by_fault[str(row["_id"] or "unknown")] = int(row["n"])
    recovered = list(
        database.labels.find(
            {"campaign": name, "status": "done", "attempts": {"$gt": 1}},
            {
                "structure_hash": 1,
                "attempts": 1,
                "history": 1,
                "details.recovery": 1,
                "seconds": 1,
                "enters": 1,
                "created": 1,
            },
        )
        .sort("attempts", -1)
        .limit(_SHOWN)
    )
    failed_shown = failed[:_SHOWN]
    hashes = [label["structure_hash"] for label in (*failed_shown, *recovered)]
    ids: dict[str, str] = {}
    for structure in database.structures.find({"hash": {"$in": hashes}, "campaign": name}, {"hash": 1}).sort(
        "_id", 1
    ):
        ids.setdefault(structure["hash"], structure["_id"])
    late = {
        ids[label["structure_hash"]]: int(label.get("enters") or 0)
        for label in (*failed_shown, *recovered)
        if label["structure_hash"] in ids
    }
    tasks = labelling_tasks(database, name, late)
    for label in (*failed_shown, *recovered):
        label["structure"] = ids.get(label["structure_hash"])
        label["task"] = tasks.get(label["structure"])
    return {
        "failed": failed_shown,
        "more": len(failed) > _SHOWN,
        "by_fault": dict(sorted(by_fault.items(), key=lambda item: -item[1])),
        "recovered": recovered,
    }


_SHOWN = 100


def fit_parameters(database: Database[Any], name: str, generation: int) -> dict[str, Any]:
    """Return the parameters of the fit of a generation, without its measurements.

    Raises
    ------
    NotFoundError
        There is no such potential.
    """
    from launchpad.database.potentials import require_potential

    potential = require_potential(database, name, generation)
    report = potential["report"]
    return {
        "trained_on": len(potential["trained_on"]),
        **{key: report[key] for key in _PARAMETERS if key in report and key != "descriptors"},
        "descriptors": _by_name(report.get("descriptors") or ()),
        "files": {f["name"]: f["sha256"] for f in potential["files"]},
    }


def _by_name(descriptors: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return descriptors, written as ``soap l_max=3 delta=0.5 ...``, as ``{name: {parameter: value}}``."""
    names = [text.split(maxsplit=1)[0] for text in descriptors]
    return {
        name if names.count(name) == 1 else f"{name} {number}": dict(_ASSIGNED.findall(text))
        for number, (name, text) in enumerate(zip(names, descriptors, strict=True))
    }


def setting_differences(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    """Return what differs between two nested mappings, by dotted path."""
    first, second = flat(left), flat(right)
    return [
        Difference(path, first.get(path), second.get(path))
        for path in sorted({*first, *second})
        if first.get(path) != second.get(path)
    ]


def flat(settings: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return nested settings as ``{dotted path: value}``; lists stay whole."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            found |= flat(value, f"{above}{key}.")
        else:
            found[f"{above}{key}"] = value
    return found
