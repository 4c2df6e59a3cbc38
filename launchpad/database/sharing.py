"""Groups share with each other: read access to labels or potentials, or to a snapshot of one campaign.

MongoDB's privileges end at collections. Labels and potentials are collections: a role of the giving group's database
reads them and is granted to users of the other group, which needs rights on the giving database alone. One campaign is
copied into a database of its own (``GROUP--CAMPAIGN``), which the commands that read open like any group's; making a
database needs the server's administrator.

What is granted is kept in `SHARES` of the giving group, from whom labels are accepted in `SHARES` of the taking one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import DatabaseError, InputError, NotFoundError
from launchpad.database.audit import audit
from launchpad.database.connection import NOT_AUTHORISED, durable
from launchpad.database.documents import now
from launchpad.database.potentials import BUCKET
from launchpad.database.privileges import SHARES, mongo_role
from launchpad.database.users import OUTSIDE, checked_group, ensure_roles

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pymongo import MongoClient
    from pymongo.database import Database

__all__ = [
    "PARTS",
    "Share",
    "accept",
    "accepted_groups",
    "decline",
    "grant",
    "grant_campaign",
    "list_shares",
    "revoke",
    "snapshot_name",
]

#: What can be granted as such -> the collections that are read.
PARTS: Final[dict[str, tuple[str, ...]]] = {
    "labels": ("labels", "label_data"),
    "potentials": ("potentials", f"{BUCKET}.files", f"{BUCKET}.chunks"),
}
#: Collections of one campaign, with the field that names it.
_OF_CAMPAIGN: Final = {
    "campaigns": "_id",
    "structures": "campaign",
    "relaxations": "campaign",
    "selections": "campaign",
    "metrics": "campaign",
    "vibrations": "campaign",
    "potentials": "campaign",
}
_ROLE_EXISTS, _USER_NOT_FOUND, _ROLE_NOT_FOUND = 51002, 11, 31
#: Documents copied at once.
_BATCH: Final = 200


@dataclass(frozen=True)
class Share:
    """One line of what a group grants or accepts.

    Attributes
    ----------
    direction
        ``to`` another group, or accepted ``from`` it.
    group
        The other group.
    what
        ``labels``, ``potentials`` or ``campaign NAME``.
    users
        Of the other group, ``name@database``, that were granted it; none for what is accepted.
    database
        Where the snapshot of a campaign is.
    """

    direction: str
    group: str
    what: str
    users: tuple[str, ...] = ()
    database: str = ""


def grant(
    client: MongoClient[Any], group: str, to: str, what: Sequence[str], users: Sequence[str] = ()
) -> list[str]:
    """Let users of another group read labels or potentials; return whom.

    Parameters
    ----------
    client
        Logged in as an owner of the giving group, or as the server's administrator.
    group
        Who gives.
    to
        Who takes.
    what
        Of `PARTS`.
    users
        Of the other group. By default all that it has now; these only the administrator can see. Users with a
        certificate are named by its subject.

    Raises
    ------
    InputError
        Nothing, or something unknown, is granted; or the users cannot be seen and none is named.
    NotFoundError
        The other group has no such user.
    """
    _check(group, to, what)
    names = list(users) or _users_of(client, to)
    for part in what:
        role = f"gapfactory_share_{part}"
        privileges = [
            {"resource": {"db": group, "collection": name}, "actions": ["find"]} for name in PARTS[part]
        ]
        _make_role(client[group], role, privileges)
        _grant_role(client, client[group], role, to, part, names)
    return names


def _check(group: str, to: str, what: Sequence[str]) -> None:
    checked_group(group)
    if checked_group(to) == group:
        msg = f"a group needs no grant for what is its own ({group!r})"
        raise InputError(msg)
    unknown = [part for part in what if part not in PARTS]
    if unknown or not what:
        msg = f"{', '.join(unknown) or 'nothing'} cannot be shared as such; {', '.join(PARTS)} or one campaign can"
        raise InputError(msg)


def _users_of(client: MongoClient[Any], group: str) -> list[str]:
    from pymongo.errors import OperationFailure

    try:
        names = [str(user["user"]) for user in client[group].command("usersInfo", 1)["users"]]
    except OperationFailure as error:
        if error.code != NOT_AUTHORISED:
            raise
        msg = f"only the server's administrator can see the users of {group!r}: ask its owner and name them (--user)"
        raise InputError(msg) from error
    if not names:
        msg = f"group {group!r} has no users"
        raise NotFoundError(msg)
    return names


def _place(group: str, name: str) -> str:
    """Return a user as ``name@database``."""
    return f"{name}@{OUTSIDE if '=' in name else group}"


def _make_role(database: Database[Any], role: str, privileges: list[dict[str, Any]]) -> None:
    from pymongo.errors import OperationFailure

    try:
        database.command("createRole", role, privileges=privileges, roles=[])
    except OperationFailure as error:
        if error.code != _ROLE_EXISTS:
            raise
        database.command("updateRole", role, privileges=privileges, roles=[])


def _grant_role(
    client: MongoClient[Any],
    source: Database[Any],
    role: str,
    to: str,
    what: str,
    names: Sequence[str],
    snapshot: str = "",
) -> None:
    """Grant a role to users one by one; whatever ends this, what was granted is on the list and can be taken back."""
    from pymongo.errors import OperationFailure

    granted: list[str] = []
    try:
        for name in names:
            _note(source, to, what, _place(to, name), snapshot)
            home = client[OUTSIDE if "=" in name else to]
            try:
                home.command("grantRolesToUser", name, roles=[{"role": role, "db": snapshot or source.name}])
            except OperationFailure as error:
                if error.code == _USER_NOT_FOUND:
                    _strike(source, to, what, _place(to, name))
                    msg = f"group {to!r} has no user {name!r}"
                    msg += f"; {what} can be read by {', '.join(granted)} so far" if granted else ""
                    raise NotFoundError(msg) from error
                raise
            granted.append(name)
    finally:
        if granted:
            copy = {"copy": snapshot} if snapshot else {}
            audit(source, "share.granted", group=to, what=what, users=granted, **copy)


def _note(database: Database[Any], to: str, what: str, user: str, snapshot: str) -> None:
    database[SHARES].update_one(
        {"_id": f"to/{to}/{what}"},
        {
            "$set": {"direction": "to", "group": to, "what": what, "database": snapshot, "at": now()},
            "$addToSet": {"users": user},
        },
        upsert=True,
    )


def _strike(database: Database[Any], to: str, what: str, user: str) -> None:
    key = {"_id": f"to/{to}/{what}"}
    database[SHARES].update_one(key, {"$pull": {"users": user}})
    database[SHARES].delete_one({**key, "users": []})


def snapshot_name(group: str, campaign: str) -> str:
    """Return the database that holds the snapshot of a campaign.

    Raises
    ------
    InputError
        The name is no name of a database: too long, or with a dot.
    """
    name = f"{group}--{campaign}"
    if len(name) > 63 or "." in name:
        msg = f"{name!r} is no usable name of a database (up to 63 characters, no dot); the campaign cannot be shared"
        raise InputError(msg)
    return name


def grant_campaign(
    client: MongoClient[Any], group: str, to: str, campaign: str, users: Sequence[str] = ()
) -> str:
    """Copy one campaign as it is now into a database of its own and let users of another group read it.

    Granting it again brings the copy up to date. The queue's documents are not copied.

    Parameters
    ----------
    client
        Logged in as the server's administrator.
    group, to, users
        As `grant`.
    campaign
        Name of the campaign.

    Returns
    -------
    str
        Name of the database.

    Raises
    ------
    InputError, NotFoundError
        As `grant`; a database of this name is something else.
    DatabaseError
        It is not the administrator who is logged in.
    """
    from pymongo.errors import OperationFailure

    from launchpad.database.campaigns import require_campaign

    _check(group, to, ["labels"])
    source, name = client[group], snapshot_name(group, campaign)
    require_campaign(source, campaign)
    names = list(users) or _users_of(client, to)
    target = durable(client[name])
    try:
        used = bool(target.list_collection_names())
    except OperationFailure as error:
        if error.code != NOT_AUTHORISED:
            raise
        msg = (
            "a shared campaign is a copy in a database of its own, which only the server's administrator can make: ask "
            f"for 'gapfactory share grant {to} --campaign {campaign}' on {group!r}"
        )
        raise DatabaseError(msg) from error
    if used and not _is_copy(target, group, campaign):
        msg = f"database {name!r} exists and is no snapshot of this campaign; nothing was changed"
        raise InputError(msg)
    target["snapshot"].replace_one(
        {"_id": "of"}, {"group": group, "campaign": campaign, "at": now()}, upsert=True
    )
    _copy_campaign(source, target, campaign)
    ensure_roles(client, name, ["viewer"], snapshot=True)
    _grant_role(client, source, mongo_role("viewer"), to, f"campaign {campaign}", names, name)
    return name


def _is_copy(database: Database[Any], group: str, campaign: str) -> bool:
    """Tell whether a database is the snapshot of this campaign: names alone can mean two of them, as in a--b--c."""
    of = database["snapshot"].find_one({"_id": "of"})
    return of is not None and (of["group"], of["campaign"]) == (group, campaign)


def _copy_campaign(source: Database[Any], target: Database[Any], campaign: str) -> None:
    from launchpad.database.campaigns import campaign_of, require_campaign
    from launchpad.database.dataset import all_items, label_key
    from launchpad.database.documents import own_label_id
    from launchpad.database.indexes import ensure_indexes

    ensure_indexes(target)
    for collection, field in _OF_CAMPAIGN.items():
        _copy(source, target, collection, {field: campaign})
    settings = campaign_of(require_campaign(source, campaign))
    # what the campaign alone says about a label may have gone meanwhile
    target.labels.delete_many({})
    keys = sorted({label_key(settings, item) for item in all_items(source, settings)})
    for start in range(0, len(keys), _BATCH):
        some = keys[start : start + _BATCH]
        own = [own_label_id(key, campaign) for key in some]
        pointers = [d["target"] for d in source.labels.find({"_id": {"$in": own}, "status": "altered"})]
        _copy(source, target, "labels", {"_id": {"$in": [*some, *own, *pointers]}})
    files = {
        file["sha256"]
        for potential in source.potentials.find({"campaign": campaign})
        for file in potential["files"]
    }
    _copy(source, target, f"{BUCKET}.chunks", {"files_id": {"$in": sorted(files)}})
    _copy(source, target, f"{BUCKET}.files", {"_id": {"$in": sorted(files)}})


def _copy(source: Database[Any], target: Database[Any], name: str, query: dict[str, Any]) -> None:
    from pymongo import ReplaceOne

    batch = []
    for document in source[name].find(query):
        batch.append(ReplaceOne({"_id": document["_id"]}, document, upsert=True))
        if len(batch) == _BATCH:
            target[name].bulk_write(batch)
            batch = []
    if batch:
        target[name].bulk_write(batch)


def revoke(client: MongoClient[Any], group: str, to: str, what: Sequence[str]) -> list[str]:
    """Take back what was granted; return what there was to take back.

    Parameters
    ----------
    client, group, to
        As `grant`; for a campaign, `grant_campaign`. Its snapshot is dropped when nobody may read it any more.
    what
        ``labels``, ``potentials`` or ``campaign NAME``.
    """
    from pymongo.errors import OperationFailure

    database, gone = client[checked_group(group)], []
    for part in what:
        record = database[SHARES].find_one({"_id": f"to/{to}/{part}"})
        if record is None:
            continue
        # the list is the owners', who must not send an administrator to another database than their own
        snapshot = "" if part in PARTS else snapshot_name(group, part.removeprefix("campaign "))
        where = snapshot or group
        role = mongo_role("viewer") if snapshot else f"gapfactory_share_{part}"
        there = bool(snapshot) and bool(client[snapshot].list_collection_names())
        if there and not _is_copy(client[snapshot], group, part.removeprefix("campaign ")):
            msg = f"database {snapshot!r} is no snapshot of this campaign; nothing was changed"
            raise InputError(msg)
        for user in record["users"]:
            name, _, home = user.rpartition("@")
            try:
                client[home].command("revokeRolesFromUser", name, roles=[{"role": role, "db": where}])
            except OperationFailure as error:
                if error.code not in (_USER_NOT_FOUND, _ROLE_NOT_FOUND):  # removed meanwhile
                    raise
        others = {"_id": {"$ne": record["_id"]}, "direction": "to", "what": part}
        if snapshot and database[SHARES].find_one(others) is None:
            client[snapshot].command("dropAllRolesFromDatabase")
            client.drop_database(snapshot)
        # last: cut off before, it is simply repeated
        database[SHARES].delete_one({"_id": record["_id"]})
        audit(database, "share.revoked", group=to, what=part)
        gone.append(part)
    return gone


def accept(database: Database[Any], group: str) -> None:
    """Use the labels of another group from now on, as far as it grants them; see `launchpad.labelling`."""
    if checked_group(group) == database.name:
        msg = f"a group uses its own labels anyway ({group!r})"
        raise InputError(msg)
    database[SHARES].update_one(
        {"_id": f"from/{group}/labels"},
        {"$set": {"direction": "from", "group": group, "what": "labels", "at": now()}},
        upsert=True,
    )
    audit(database, "share.accepted", group=group)


def decline(database: Database[Any], group: str) -> bool:
    """Use the labels of another group no more; those that were taken over stay. Return whether they were used."""
    gone = database[SHARES].delete_one({"_id": f"from/{group}/labels"}).deleted_count
    if gone:
        audit(database, "share.declined", group=group)
    return bool(gone)


def accepted_groups(database: Database[Any]) -> list[str]:
    """Return the groups whose labels may be taken over, by name."""
    return sorted(record["group"] for record in database[SHARES].find({"direction": "from"}, {"group": 1}))


def list_shares(database: Database[Any]) -> list[Share]:
    """Return what a group grants and accepts."""
    return [
        Share(d["direction"], d["group"], d["what"], tuple(sorted(d.get("users", ()))), d.get("database", ""))
        for d in database[SHARES].find().sort("_id", 1)
    ]
