"""Campaign records: the file as given, the resolved settings, and the state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from gapfactory.errors import NotFoundError, StateError
from launchpad.database.documents import CampaignDocument, now
from launchpad.states import CampaignState

if TYPE_CHECKING:
    from pymongo.database import Database

    from gapfactory.campaign import Campaign

__all__ = [
    "campaign_of",
    "compositions_of",
    "create_campaign",
    "levels_of",
    "list_campaigns",
    "mark_running",
    "require_campaign",
    "require_same",
    "set_state",
]


#: State -> the states that it may follow; nothing overwrites what a person or the stop rule decided.
_FOLLOWS = {
    CampaignState.RUNNING: (
        CampaignState.SUBMITTED,
        CampaignState.RUNNING,
        CampaignState.HALTED,
        CampaignState.CANCELLED,
    ),
    CampaignState.DONE: (CampaignState.SUBMITTED, CampaignState.RUNNING, CampaignState.HALTED),
    CampaignState.HALTED: (CampaignState.SUBMITTED, CampaignState.RUNNING),
    CampaignState.CANCELLED: (
        CampaignState.SUBMITTED,
        CampaignState.RUNNING,
        CampaignState.HALTED,
        CampaignState.CANCELLED,
    ),
}


#: What held for campaigns whose records are older than the setting; a default that changes a result belongs here.
_BEFORE: dict[str, Any] = {"gap": {"backend": "gap_fit"}}

#: Fields of a record that follow from the file.
_OF_SETTINGS = ("file", "settings", "digest", "levels", "compositions")


def create_campaign(
    database: Database[Any], campaign: Campaign, text: str, versions: dict[str, str]
) -> Literal["new", "updated", "unchanged"]:
    """Store a campaign; the same file again is no error, and may change what decides no result.

    Returns
    -------
    str
        ``new``; ``updated`` when only operational settings differed from the stored ones, which they replace;
        ``unchanged``.

    Raises
    ------
    StateError
        A campaign of this name exists with other settings.
    """
    document = CampaignDocument(
        id=campaign.name,
        file=text,
        settings=campaign.model_dump(mode="json"),
        digest=science_digest(campaign),
        levels=_levels(campaign),
        compositions=_compositions(campaign),
        versions=versions,
    ).to_bson()
    key = document.pop("_id")
    result = database.campaigns.update_one({"_id": key}, {"$setOnInsert": document}, upsert=True)
    if result.upserted_id is not None:
        return "new"
    stored = require_campaign(database, campaign.name)
    if stored["settings"] == document["settings"]:
        return "unchanged"
    require_same(database, campaign, text)
    database.campaigns.update_one(
        {"_id": key},
        {"$set": {name: document[name] for name in _OF_SETTINGS} | {"updated": now()}},
    )
    return "updated"


def require_same(database: Database[Any], campaign: Campaign, text: str) -> None:
    """Refuse a campaign whose name another one has; nothing where it is new.

    The same are those that differ in what decides no result, and in data that join later than the next generation: the
    tasks of that may be on the queue already.

    Raises
    ------
    StateError
        A campaign of this name exists with other settings.
    """
    stored = database.campaigns.find_one({"_id": campaign.name})
    if stored is None:
        return
    # not the stored digest: another version may have left other fields out of it
    before = campaign_of(stored)
    added = {
        name: entry
        for name, entry in campaign.data.items()
        if name not in before.data and entry.joins > stored["generation"] + 1
    }
    compared = campaign
    if added:
        kept = {name: entry for name, entry in campaign.data.items() if name not in added}
        compared = campaign.model_copy(update={"data": kept})
    if science_digest(before) == science_digest(compared):
        return
    changed = _changed(_science(before), _science(campaign))
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    same_file = " The file is the same: another version of gapfactory had other defaults."
    msg = (
        f"a campaign {campaign.name!r} with other settings is in this database already "
        f"({', '.join(changed[:3])}{more}).{same_file if stored['file'] == text else ''} Give this one another "
        f"name ('name: ...' in the file or --name), 'gapfactory campaign show {campaign.name}' to compare, or "
        f"'gapfactory campaign resume {campaign.name}' to go on with the stored settings."
    )
    raise StateError(msg)


def science_digest(campaign: Campaign) -> str:
    """Return a digest of everything in a campaign that decides its numbers.

    Not the name, how work is cut and how the fitting program is run, nor the limits on time and attempts (and the like,
    see `EngineSettings.operational`), the quorum, `vibrations.incomplete` and how given labels are verified, that
    decide whether there is a label, a potential, an assessment: a person changes them to go on.
    """
    import hashlib
    import json

    return hashlib.sha256(json.dumps(_science(campaign), sort_keys=True).encode()).hexdigest()


def _science(campaign: Campaign) -> dict[str, Any]:
    return campaign.model_dump(
        mode="json",
        exclude={
            "name": True,
            "execution": True,
            "schedule": {"quorum"},
            "vibrations": {"incomplete"},
            "reference": set(campaign.reference.operational),
            "gap": {"program": True},
            "data": {"__all__": {"file", "verify", "energy_tolerance", "force_tolerance"}},
        },
    )


def _changed(old: dict[str, Any], new: dict[str, Any], path: str = "") -> list[str]:
    """Return what differs between two nested mappings, as ``key: old, now new``."""
    found = []
    for key in sorted({*old, *new}):
        first, second = old.get(key), new.get(key)
        if isinstance(first, dict) and isinstance(second, dict):
            found += _changed(first, second, f"{path}{key}.")
        elif first != second:
            found.append(f"{path}{key}: {_short(first)}, now {_short(second)}")
    return found


def _short(value: Any, most: int = 80) -> str:
    text = " ".join(str(value).split())
    return text if len(text) <= most else f"{text[: most - 3]}..."


def require_campaign(database: Database[Any], name: str) -> dict[str, Any]:
    """Return the record of a campaign.

    Raises
    ------
    NotFoundError
        There is none of this name; the message names those there are.
    """
    record = database.campaigns.find_one({"_id": name})
    if record is None:
        import difflib

        names = sorted(document["_id"] for document in database.campaigns.find({}, {"_id": 1}))
        near = difflib.get_close_matches(name, names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names) or 'none yet'}"
        msg = f"no campaign {name!r} in this database; {hint}"
        raise NotFoundError(msg)
    return dict(record)


def campaign_of(record: dict[str, Any]) -> Campaign:
    """Return the resolved campaign of a record.

    A setting that the record does not have is what it was before there was such a setting, whatever its default is now.

    Raises
    ------
    StateError
        It was submitted by a version whose settings this one does not know.
    """
    from pydantic import ValidationError

    from gapfactory.campaign import Campaign
    from gapfactory.campaign.load import merge

    try:
        return Campaign.model_validate(merge(_BEFORE, record["settings"]))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        made = record.get("versions", {}).get("gapfactory", "an unknown version")
        msg = (
            f"campaign {record['_id']!r} was submitted by gapfactory {made}, whose settings this version does not "
            f"read ({key}: {first['msg']}). Go on with that version, or submit it again under another name; labels "
            "that exist are reused."
        )
        raise StateError(msg) from error


def levels_of(record: dict[str, Any]) -> dict[str, str]:
    """Return the hash of the settings of each kind of label (``crystal``, ``isolated``, ``dimer``), and of ``noise``.

    Parameters
    ----------
    record
        Of a campaign: ``levels``, ``settings`` and ``versions``.
    """
    # records of earlier versions do not say it
    return dict(record.get("levels") or _levels(campaign_of(record)))


def compositions_of(record: dict[str, Any]) -> tuple[str, ...]:
    """Return the composition groups that a campaign's file allows; `record` as for `levels_of`."""
    return tuple(record.get("compositions") or _compositions(campaign_of(record)))


def _levels(campaign: Campaign) -> dict[str, str]:
    from gapfactory.reference import settings_hash

    reference = campaign.reference
    kinds: tuple[Literal["crystal", "isolated", "dimer"], ...] = ("crystal", "isolated", "dimer")
    return {kind: settings_hash(reference, kind) for kind in kinds} | {
        "noise": settings_hash(reference.with_higher_density(), "crystal")
    }


def _compositions(campaign: Campaign) -> list[str]:
    from ase import Atoms

    from gapfactory.structures import composition_of

    return sorted(
        {
            composition_of(Atoms("".join(symbol * count for symbol, count in formula.items())))
            for formula, _ in campaign.formulas
        }
    )


def list_campaigns(database: Database[Any]) -> list[dict[str, Any]]:
    """Return all campaign records, oldest first."""
    return list(database.campaigns.find({}, {"settings": 0, "file": 0}).sort("created", 1))


def mark_running(database: Database[Any], name: str, generation: int) -> None:
    """Note that work has begun on a generation."""
    database.campaigns.update_one(
        {"_id": name, "state": {"$in": [str(CampaignState.SUBMITTED), str(CampaignState.RUNNING)]}},
        {"$set": {"state": str(CampaignState.RUNNING), "updated": now()}, "$max": {"generation": generation}},
    )


def set_state(database: Database[Any], name: str, state: CampaignState, reason: str) -> bool:
    """Record a change of state with its reason, if the present state allows it.

    Returns
    -------
    bool
        False if it does not: a campaign that was cancelled is not done or halted afterwards, and one that is done
        stays so.
    """
    result = database.campaigns.update_one(
        {"_id": name, "state": {"$in": [str(before) for before in _FOLLOWS[state]]}},
        {"$set": {"state": str(state), "reason": reason, "updated": now(), "since": now()}},
    )
    return bool(result.matched_count)
