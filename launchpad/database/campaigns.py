"""Campaign records: the file as given, the resolved settings, and the state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.errors import NotFoundError, StateError
from launchpad.database.documents import CampaignDocument, now
from launchpad.states import CampaignState

if TYPE_CHECKING:
    from pymongo.database import Database

    from gapfactory.campaign import Campaign

__all__ = [
    "campaign_of",
    "create_campaign",
    "list_campaigns",
    "mark_running",
    "require_campaign",
    "set_state",
]


def create_campaign(database: Database[Any], campaign: Campaign, text: str, versions: dict[str, str]) -> bool:
    """Store a campaign; the same file again is no error.

    Returns
    -------
    bool
        True if it is new.

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
        versions=versions,
    ).to_bson()
    key = document.pop("_id")
    result = database.campaigns.update_one({"_id": key}, {"$setOnInsert": document}, upsert=True)
    if result.upserted_id is not None:
        return True
    stored = database.campaigns.find_one({"_id": key}, {"digest": 1})
    if stored is None or stored["digest"] != document["digest"]:
        msg = (
            f"a campaign {campaign.name!r} with other settings is in this database already. Give this one "
            "another "
            f"name ('name: ...' in the file or --name), or 'gapfactory campaign show {campaign.name}' to "
            "compare."
        )
        raise StateError(msg)
    return False


def science_digest(campaign: Campaign) -> str:
    """Return a digest of everything in a campaign that decides its results (not its name or how work is cut)."""
    import hashlib
    import json

    settings = campaign.model_dump(mode="json", exclude={"execution"})
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()


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

    Raises
    ------
    StateError
        It was submitted by a version whose settings this one does not know.
    """
    from pydantic import ValidationError

    from gapfactory.campaign import Campaign

    try:
        return Campaign.model_validate(record["settings"])
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


def list_campaigns(database: Database[Any]) -> list[dict[str, Any]]:
    """Return all campaign records, oldest first."""
    return list(database.campaigns.find({}, {"settings": 0, "file": 0}).sort("created", 1))


def mark_running(database: Database[Any], name: str, generation: int) -> None:
    """Note that work has begun on a generation."""
    database.campaigns.update_one(
        {"_id": name, "state": {"$in": [str(CampaignState.SUBMITTED), str(CampaignState.RUNNING)]}},
        {"$set": {"state": str(CampaignState.RUNNING), "updated": now()}, "$max": {"generation": generation}},
    )


def set_state(database: Database[Any], name: str, state: CampaignState, reason: str) -> None:
    """Record a change of state with its reason."""
    database.campaigns.update_one(
        {"_id": name}, {"$set": {"state": str(state), "reason": reason, "updated": now()}}
    )
