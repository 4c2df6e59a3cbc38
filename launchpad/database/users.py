"""Users of a group's database: four roles as real MongoDB users, their passwords and the files that carry them.

A group is a database, and its users live in it: ``mongodb://user:password@host/group`` needs no ``authSource``.
The roles are MongoDB's own, granted on that database alone:

==========  ==========================  ==================================================================
role        MongoDB's role              for
==========  ==========================  ==================================================================
``owner``   ``dbOwner``                 who adds and removes the users of the group, and may drop the data
``member``  ``readWrite``               people who submit and steer campaigns
``worker``  ``readWrite``               machines: an account of its own per cluster, to be revoked alone
``viewer``  ``read``                    people and programs that only look
==========  ==========================  ==================================================================
"""

from __future__ import annotations

import os
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote_plus

from gapfactory.errors import DatabaseError, InputError, NotFoundError

if TYPE_CHECKING:
    from pathlib import Path

    from pymongo import MongoClient
    from pymongo.database import Database

__all__ = [
    "ROLES",
    "User",
    "add_user",
    "change_password",
    "list_users",
    "remove_user",
    "user_uri",
    "write_secret",
]

#: Our role -> MongoDB's role on the group's database.
ROLES: Final[dict[str, str]] = {
    "owner": "dbOwner",
    "member": "readWrite",
    "worker": "readWrite",
    "viewer": "read",
}
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,37}")
_RESERVED = frozenset({"admin", "local", "config"})
_NOT_FOUND = 11


@dataclass(frozen=True)
class User:
    """A user of a group.

    Attributes
    ----------
    name
        As in the URI.
    role
        One of `ROLES`, or the names of MongoDB's roles if somebody else made the user.
    """

    name: str
    role: str


def _checked(kind: str, name: str) -> str:
    if not _NAME.fullmatch(name) or (kind == "group" and name.lower() in _RESERVED):
        msg = (
            f"{name!r} is no usable name of a {kind}: a letter, then up to 37 letters, digits, '_' and '-'"
            + (f"; {', '.join(sorted(_RESERVED))} are MongoDB's own" if kind == "group" else "")
        )
        raise InputError(msg)
    return name


def add_user(client: MongoClient[Any], group: str, name: str, role: str) -> str:
    """Make a user of a group with a random password of 256 bits; return the password, which is stored nowhere else.

    Parameters
    ----------
    client
        Logged in as the server's administrator, or as an owner of the group.
    group
        The group's database; it need not exist yet.
    name
        The new user.
    role
        One of `ROLES`.

    Raises
    ------
    InputError
        The name or the role cannot be used, or the user exists.
    pymongo.errors.OperationFailure
        Whoever is logged in may not do this.
    """
    from pymongo.errors import OperationFailure

    database = client[_checked("group", group)]
    if role not in ROLES:
        msg = f"{role!r} is no role; the roles are {', '.join(ROLES)}"
        raise InputError(msg)
    password = secrets.token_urlsafe(32)
    try:
        database.command(
            "createUser",
            _checked("user", name),
            pwd=password,
            roles=[{"role": ROLES[role], "db": group}],
            customData={"gapfactory_role": role},
            mechanisms=["SCRAM-SHA-256"],
        )
    except OperationFailure as error:
        if error.code == 51003 or "already exists" in str(error):
            msg = f"user {name!r} of {group!r} exists; remove it first, or give it a new password"
            raise InputError(msg) from error
        raise
    return password


def change_password(client: MongoClient[Any], group: str, name: str) -> str:
    """Give a user a new random password and return it; every new connection needs it.

    Raises
    ------
    NotFoundError
        There is no such user.
    """
    password = secrets.token_urlsafe(32)
    _on_user(client[_checked("group", group)], "updateUser", name, pwd=password)
    return password


def remove_user(client: MongoClient[Any], group: str, name: str) -> None:
    """Remove a user; no new connection is possible.

    Raises
    ------
    NotFoundError
        There is no such user.
    """
    _on_user(client[_checked("group", group)], "dropUser", name)


def _on_user(database: Database[Any], command: str, name: str, **arguments: Any) -> None:
    from pymongo.errors import OperationFailure

    try:
        database.command(command, name, **arguments)
    except OperationFailure as error:
        if error.code == _NOT_FOUND:
            known = ", ".join(user.name for user in list_users(database.client, database.name)) or "none"
            msg = f"{database.name!r} has no user {name!r}; its users: {known}"
            raise NotFoundError(msg) from error
        raise


def list_users(client: MongoClient[Any], group: str) -> list[User]:
    """Return the users of a group in the order of their names, without any credentials."""
    found = client[_checked("group", group)].command("usersInfo", 1)["users"]
    users = []
    for entry in found:
        made = str((entry.get("customData") or {}).get("gapfactory_role"))
        granted = [
            role["role"] if role["db"] == group else f"{role['role']}@{role['db']}" for role in entry["roles"]
        ]
        # what the server grants counts, not what a label says
        users.append(
            User(str(entry["user"]), made if [ROLES.get(made, "")] == granted else ", ".join(sorted(granted)))
        )
    return sorted(users, key=lambda user: user.name)


def user_uri(uri: str, group: str, name: str, password: str, *, ca: str | None = None) -> str:
    """Return the URI by which a user reaches its group: hosts and options of another URI, without its credentials.

    Parameters
    ----------
    uri
        The administrator's.
    group, name, password
        Who connects.
    ca
        Where the certificate of the authority lies on the user's machine (default: as in `uri`).

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
    kept.append(f"authSource={group}")
    return f"{scheme}://{quote_plus(name)}:{quote_plus(password)}@{hosts}/{group}?{'&'.join(kept)}"


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
