"""Tokens for programs: shown once, stored as hashes, never more than their owner may.

A token is a random number of 256 bits, so one round of SHA-256 hides it: there is nothing to guess. Whoever sends one
in ``Authorization: Bearer`` is its owner, with the lower of the token's and the owner's present role.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import InputError, NotFoundError
from launchpad.dashboard.auth.access import Role, lower
from launchpad.dashboard.auth.accounts import Account, find_account

if TYPE_CHECKING:
    from pymongo.database import Database

__all__ = ["Token", "account_of", "list_tokens", "make_token", "remove_token"]

_SHAPE: Final = re.compile(r"gft_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
_LONGEST_NAME: Final = 60
#: The last use is noted at most this often (s): a program that asks every second does not write every second.
_NOTED_S: Final = 60.0
_MOST: Final = 50


@dataclass(frozen=True)
class Token:
    """What is known of a token; the token itself is not.

    Attributes
    ----------
    id
        Part of it that may be seen.
    owner, name, role
        Whose it is, what its owner called it, what it may at most.
    created, expires, used
        Seconds since the epoch; None where it does not expire or was not used yet.
    """

    id: str
    owner: str
    name: str
    role: Role
    created: float
    expires: float | None
    used: float | None


def make_token(
    database: Database[Any], owner: Account, name: str, role: Role, days: float | None
) -> tuple[str, Token]:
    """Make a token; it is returned here and nowhere else.

    Raises
    ------
    InputError
        The role is more than the owner's, the name or the time cannot be used, or there are too many already.
    """
    name = name.strip()
    if not 1 <= len(name) <= _LONGEST_NAME or not name.isprintable():
        raise InputError(f"name: 1 to {_LONGEST_NAME} printable characters that say what the token is for")
    if lower(role, owner.role) is not role:
        raise InputError(
            f"role {role}: more than yours ({owner.role}); a token may at most what its owner may"
        )
    if days is not None and not 0 < days <= 3650:
        raise InputError("days: between 0 and 3650")
    if database.dashboard_tokens.count_documents({"owner": owner.name}) >= _MOST:
        raise InputError(f"you have {_MOST} tokens: remove one that nobody uses")
    key, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    now = time.time()
    token = Token(key, owner.name, name, role, now, None if days is None else now + days * 86_400, None)
    database.dashboard_tokens.insert_one(
        {
            "_id": key,
            "owner": token.owner,
            "name": token.name,
            "role": role.value,
            "hash": _hash(secret),
            "created": token.created,
            "expires": token.expires,
        }
    )
    return f"gft_{key}_{secret}", token


def account_of(database: Database[Any], given: str) -> Account | None:
    """Return whoever a token stands for, None if it is none, expired, or its owner is gone."""
    match = _SHAPE.fullmatch(given)
    found = database.dashboard_tokens.find_one({"_id": match[1]}) if match else None
    if match is None or found is None or not hmac.compare_digest(found["hash"], _hash(match[2])):
        return None
    now = time.time()
    if found["expires"] is not None and found["expires"] < now:
        return None
    owner = find_account(database, found["owner"])
    if owner is None:
        return None
    _note_use(database, match[1], now)
    return Account(owner.name, lower(Role(found["role"]), owner.role), owner.epoch)


def _note_use(database: Database[Any], key: str, now: float) -> None:
    from pymongo.errors import DuplicateKeyError

    try:
        database.dashboard_logins.update_one(
            {"_id": f"token:{key}", "used": {"$lt": now - _NOTED_S}}, {"$set": {"used": now}}, upsert=True
        )
    except DuplicateKeyError:
        return  # noted less than a minute ago


def list_tokens(database: Database[Any], owner: str | None = None) -> list[Token]:
    """Return the tokens of an account, or of all."""
    found = list(
        database.dashboard_tokens.find({} if owner is None else {"owner": owner}, {"hash": 0}).sort(
            "created", 1
        )
    )
    keys = [f"token:{one['_id']}" for one in found]
    used = {one["_id"]: one["used"] for one in database.dashboard_logins.find({"_id": {"$in": keys}})}
    return [
        Token(
            one["_id"], one["owner"], one["name"], Role(one["role"]), one["created"], one["expires"],
            used.get(f"token:{one['_id']}"),
        )
        for one in found
    ]  # fmt: skip


def remove_token(database: Database[Any], key: str, owner: str | None = None) -> None:
    """Remove a token; with `owner`, only one of this account.

    Raises
    ------
    NotFoundError
        There is none.
    """
    match = {"_id": key} if owner is None else {"_id": key, "owner": owner}
    if not database.dashboard_tokens.delete_one(match).deleted_count:
        raise NotFoundError(f"there is no token {key!r}")
    database.dashboard_logins.delete_one({"_id": f"token:{key}"})


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
