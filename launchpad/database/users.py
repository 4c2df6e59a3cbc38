"""Users of a group's database: five roles as real MongoDB roles, passwords, and the files that carry them.

A group is a database, and its users live in it: ``mongodb://user:password@host/group`` needs no ``authSource``. Users
whose certificate speaks for them (X.509) live in ``$external``, as MongoDB wants it.

=============  ======================================================================================================
role           for
=============  ======================================================================================================
``owner``      who adds and removes the users of the group and shares with other groups, besides what a member may
``member``     people who submit and steer campaigns, import and export
``dashboard``  the service that shows the group in browsers: what its pages read, and what people may do there
``worker``     machines: what tasks, queue and reaper write, and nothing else; an account of its own per cluster
``viewer``     people and programs that only look
=============  ======================================================================================================

What each may do stands in `launchpad.database.privileges`; here it becomes roles of the group's database.
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus

from gapfactory.errors import DatabaseError, InputError, NotFoundError
from launchpad.database.audit import audit
from launchpad.database.connection import NOT_AUTHORISED, durable
from launchpad.database.migrations import RESERVED
from launchpad.database.privileges import ROLES, mongo_role, privileges_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymongo import MongoClient
    from pymongo.database import Database

    from launchpad.database.privileges import RoleName

__all__ = [
    "OUTSIDE",
    "User",
    "add_user",
    "change_password",
    "checked_group",
    "elsewhere",
    "ensure_roles",
    "list_users",
    "prepare_group",
    "remove_user",
    "require_place",
    "upgrade_users",
    "user_uri",
    "write_secret",
]

#: The database of users whom a certificate speaks for.
OUTSIDE: Final = "$external"
#: MongoDB's own roles that earlier versions granted, on the group's database.
_BEFORE: Final = {"owner": "dbOwner", "member": "readWrite", "worker": "readWrite", "viewer": "read"}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,37}")
_NOT_FOUND, _ROLE_EXISTS, _USER_EXISTS = 11, 51002, 51003


@dataclass(frozen=True)
class User:
    """A user of a group.

    Attributes
    ----------
    name
        As in the URI.
    role
        One of `ROLES`, or the names of the roles on the group's database if somebody else granted them.
    """

    name: str
    role: str


def checked_group(name: str) -> str:
    """Return a usable name of a group.

    Raises
    ------
    InputError
        It is none.
    """
    if not _NAME.fullmatch(name) or name.lower() in RESERVED:
        msg = (
            f"{name!r} is no usable name of a group: a letter, then up to 37 letters, digits, '_' and '-'; "
            f"{', '.join(sorted(RESERVED))} are MongoDB's own"
        )
        raise InputError(msg)
    return name


def _checked_user(name: str, *, outside: bool) -> str:
    # the subject of a certificate, as MongoDB compares it: RFC 2253, e.g. CN=cluster-a,OU=groups,O=Example
    if not outside and not _NAME.fullmatch(name):
        msg = f"{name!r} is no usable name of a user: a letter, then up to 37 letters, digits, '_' and '-'"
        raise InputError(msg)
    if outside and ("=" not in name or len(name) > 1024 or not name.isprintable()):
        msg = (
            f"{name!r} is no subject of a certificate; 'openssl x509 -in FILE -noout -subject -nameopt RFC2253' "
            "prints it"
        )
        raise InputError(msg)
    return name


def ensure_roles(
    client: MongoClient[Any], group: str, roles: Sequence[RoleName] = ROLES, *, snapshot: bool = False
) -> list[str]:
    """Make the roles of a group, or bring them to what this version grants; return those that were not so before.

    Parameters
    ----------
    client
        Logged in as the server's administrator, or as an owner of the group.
    group
        The database.
    roles
        Which.
    snapshot
        The database is the snapshot of a campaign, and no group's.

    Raises
    ------
    pymongo.errors.OperationFailure
        Whoever is logged in may not do this.
    """
    from pymongo.errors import OperationFailure

    database = client[group if snapshot else checked_group(group)]
    changed: list[str] = []
    for role in roles:
        name, wanted = mongo_role(role), privileges_of(role, group)
        found = database.command("rolesInfo", name, showPrivileges=True)["roles"]
        if found and _same(found[0]["privileges"], wanted):
            continue
        changed.append(role)
        if not found:
            try:
                database.command("createRole", name, privileges=wanted, roles=[])
            except OperationFailure as error:
                if error.code != _ROLE_EXISTS:  # somebody else has made it just now
                    raise
            else:
                continue
        database.command("updateRole", name, privileges=wanted, roles=[])
    return changed


def _same(first: list[dict[str, Any]], second: list[dict[str, Any]]) -> bool:
    def plain(privileges: list[dict[str, Any]]) -> dict[str, list[str]]:
        return {str(p["resource"].get("collection")): sorted(p["actions"]) for p in privileges}

    return plain(first) == plain(second)


def prepare_group(client: MongoClient[Any], group: str) -> None:
    """Make what the accounts of workers may not: ids, the identity of the database, all indexes.

    Where whoever is logged in may manage users only, the first member who connects does it.
    """
    from pymongo import ASCENDING, IndexModel
    from pymongo.errors import OperationFailure

    from launchpad.database.indexes import ensure_indexes
    from launchpad.database.potentials import BUCKET
    from launchpad.queue.connection import prepare

    database = durable(client[group])
    try:
        prepare(database)
        ensure_indexes(database)
        for bucket in (BUCKET, "fw_gridfs"):
            # as the driver would at the first file
            name = IndexModel([("filename", ASCENDING), ("uploadDate", ASCENDING)])
            chunk = IndexModel([("files_id", ASCENDING), ("n", ASCENDING)], unique=True)
            database[f"{bucket}.files"].create_indexes([name])
            database[f"{bucket}.chunks"].create_indexes([chunk])
    except OperationFailure as error:
        if error.code != NOT_AUTHORISED:
            raise


def add_user(client: MongoClient[Any], group: str, name: str, role: str, *, certificate: bool = False) -> str:
    """Make a user of a group with a random password of 256 bits; return the password, which is stored nowhere else.

    The roles of the group are made, or brought to what this version grants, on the way.

    Parameters
    ----------
    client
        Logged in as the server's administrator, or as an owner of the group.
    group
        The group's database; it need not exist yet.
    name
        The new user; with `certificate`, the subject of its certificate.
    role
        One of `ROLES`.
    certificate
        A certificate speaks for the user (X.509): there is no password, and the text returned is empty. Only the
        server's administrator can make such users.

    Raises
    ------
    InputError
        The name or the role cannot be used, or the user exists.
    pymongo.errors.OperationFailure
        Whoever is logged in may not do this.
    """
    from pymongo.errors import OperationFailure

    _checked_user(name, outside=certificate)
    if role not in ROLES:
        msg = f"{role!r} is no role; the roles are {', '.join(ROLES)}"
        raise InputError(msg)
    ensure_roles(client, group)
    prepare_group(client, group)
    password = "" if certificate else secrets.token_urlsafe(32)
    entry: dict[str, Any] = {} if certificate else {"pwd": password, "mechanisms": ["SCRAM-SHA-256"]}
    try:
        client[OUTSIDE if certificate else group].command(
            "createUser",
            name,
            roles=[{"role": mongo_role(role), "db": group}],
            customData={"gapfactory_role": role},
            **entry,
        )
    except OperationFailure as error:
        if error.code == _USER_EXISTS or "already exists" in str(error):
            msg = f"user {name!r} of {group!r} exists; remove it first, or give it a new password"
            raise InputError(msg) from error
        raise
    audit(client[group], "user.added", user=name, role=role, certificate=certificate)
    return password


def change_password(client: MongoClient[Any], group: str, name: str) -> str:
    """Give a user a new random password and return it; every new connection needs it.

    Raises
    ------
    NotFoundError
        There is no such user.
    """
    password = secrets.token_urlsafe(32)
    _on_user(client[checked_group(group)], "updateUser", name, pwd=password)
    audit(client[group], "user.password", user=name)
    return password


def remove_user(client: MongoClient[Any], group: str, name: str) -> None:
    """Remove a user; no new connection is possible.

    Raises
    ------
    NotFoundError
        There is no such user.
    """
    outside = "=" in name
    _on_user(client[checked_group(group)], "dropUser", name, outside=outside)
    audit(client[group], "user.removed", user=name)


def _on_user(
    database: Database[Any], command: str, name: str, *, outside: bool = False, **arguments: Any
) -> None:
    from pymongo.errors import OperationFailure

    try:
        (database.client[OUTSIDE] if outside else database).command(command, name, **arguments)
    except OperationFailure as error:
        if error.code == _NOT_FOUND:
            known = ", ".join(user.name for user in list_users(database.client, database.name)) or "none"
            msg = f"{database.name!r} has no user {name!r}; its users: {known}"
            raise NotFoundError(msg) from error
        raise


def list_users(client: MongoClient[Any], group: str) -> list[User]:
    """Return the users of a group in the order of their names, without any credentials.

    Those with certificates are seen by the server's administrator only.
    """
    return sorted(
        (User(str(entry["user"]), _shown_role(entry, group)) for entry in _entries(client, group)),
        key=lambda user: user.name,
    )


def _entries(client: MongoClient[Any], group: str) -> list[dict[str, Any]]:
    from pymongo.errors import OperationFailure

    found = list(client[checked_group(group)].command("usersInfo", 1)["users"])
    try:
        outside = client[OUTSIDE].command("usersInfo", 1)["users"]
    except OperationFailure as error:
        if error.code != NOT_AUTHORISED:
            raise
        outside = []
    return found + [user for user in outside if any(role["db"] == group for role in user["roles"])]


def _shown_role(entry: dict[str, Any], group: str) -> str:
    """Return what the server grants, not what a label says; what other groups grant is theirs to show."""
    granted = sorted(role["role"] for role in entry["roles"] if role["db"] == group)
    if len(granted) == 1:
        for role in ROLES:
            if granted[0] == mongo_role(role):
                return role
    more = sorted(f"{role['role']}@{role['db']}" for role in entry["roles"] if role["db"] == "admin")
    return ", ".join(granted + more)


def upgrade_users(client: MongoClient[Any], group: str) -> list[User]:
    """Bring the roles of a group to what this version grants, and users made by earlier versions to them.

    A user of whom it is not known what he was made for (one that was not made by gapfactory, or that was granted more
    by hand) stays as he is.

    Parameters
    ----------
    client
        Logged in as the server's administrator, or as an owner of the group.
    group
        The group.

    Returns
    -------
    list of User
        Those that were changed, with their roles.
    """
    ensure_roles(client, group)
    prepare_group(client, group)
    changed = []
    for entry in _entries(client, group):
        role = str((entry.get("customData") or {}).get("gapfactory_role"))
        here = {granted["role"] for granted in entry["roles"] if granted["db"] == group}
        before = _BEFORE.get(role, "")
        if before not in here or here - {before, mongo_role(role)}:
            continue
        # in two steps: replacing the whole list would need rights on the databases of groups that share
        own = client[entry["db"]]
        own.command("grantRolesToUser", entry["user"], roles=[{"role": mongo_role(role), "db": group}])
        own.command("revokeRolesFromUser", entry["user"], roles=[{"role": before, "db": group}])
        audit(client[group], "user.upgraded", user=entry["user"], role=role)
        changed.append(User(str(entry["user"]), role))
    return changed


def user_uri(
    uri: str, group: str, name: str, password: str, *, ca: str | None = None, key: str | None = None
) -> str:
    """Return the URI by which a user reaches its group: hosts and options of another URI, without its credentials.

    Parameters
    ----------
    uri
        The administrator's.
    group, name, password
        Who connects.
    ca
        Where the certificate of the authority lies on the user's machine (default: as in `uri`).
    key
        Where certificate and private key of the user lie on that machine: they speak for the user, and the name and
        the password are left out.

    Raises
    ------
    DatabaseError
        The text is not a MongoDB URI.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        msg = "the URI of the database must start with mongodb:// or mongodb+srv://"
        raise DatabaseError(msg)
    head, at, place = rest.rpartition("@")
    hosts, _, tail = (place if at else head or rest).partition("/")
    dropped = {"authsource", "authmechanism", "tlscertificatekeyfile"} | ({"tlscafile"} if ca else set())
    kept = [
        option
        for option in tail.partition("?")[2].replace(";", "&").split("&")
        if option and option.split("=")[0].lower() not in dropped
    ]
    if ca:
        kept.append(f"tlsCAFile={quote_plus(ca, safe='/')}")
    if key:
        kept += ["tls=true"] if not any(option.lower() in ("tls=true", "ssl=true") for option in kept) else []
        kept.append(f"tlsCertificateKeyFile={quote_plus(key, safe='/')}")
        kept.append(f"authMechanism=MONGODB-X509&authSource={quote_plus(OUTSIDE)}")
        return f"{scheme}://{hosts}/{group}?{'&'.join(kept)}"
    kept.append(f"authSource={group}")
    return f"{scheme}://{quote_plus(name)}:{quote_plus(password)}@{hosts}/{group}?{'&'.join(kept)}"


def elsewhere(uri: str, database: str) -> str:
    """Return the URI by which the same user, who logs in as before, reaches another database.

    Raises
    ------
    DatabaseError
        The text is not a MongoDB URI, or names no database.
    """
    head, _, options = uri.partition("?")
    place, slash, own = head.rpartition("/")
    if "://" not in place or not slash or not own:
        msg = (
            "the URI names no database, hence no group: expected mongodb://[user:password@]host[:port]/group"
        )
        raise DatabaseError(msg)
    kept = [option for option in options.replace(";", "&").split("&") if option]
    if "@" in place and not any(option.lower().startswith("authsource=") for option in kept):
        kept.append(f"authSource={own}")
    return f"{place}/{database}" + (f"?{'&'.join(kept)}" if kept else "")


def require_place(path: Path) -> None:
    """Make sure that `write_secret` can write a file, before what it is to hold comes into being.

    Raises
    ------
    InputError
        There is no such directory, it cannot be written to, or the path is one.
    """
    if path.is_dir():
        msg = f"{path} is a directory; name a file for the URI. Nothing was changed"
        raise InputError(msg)
    trial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        os.close(os.open(trial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        trial.unlink()
    except OSError as error:
        msg = (
            f"{path} cannot be written: {error.strerror}. Nothing was changed; name another file for the URI"
        )
        raise InputError(msg) from error


def write_secret(path: Path, text: str) -> None:
    """Write a file that only its owner may read, from the first byte; an older one is replaced in one step."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as stream:
            stream.write(text + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
