"""People of a group: names, roles and scrypt hashes in the collection ``dashboard_users``.

Whatever is changed of an account, by the command line or in the browser, is in the audit trail, and ends what was open
under the account before.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import InputError, NotFoundError
from launchpad.dashboard.auth.access import Role
from launchpad.database.audit import audit

if TYPE_CHECKING:
    from pymongo.database import Database

__all__ = [
    "Account",
    "add_account",
    "change_password",
    "check_password",
    "end_logins",
    "find_account",
    "list_accounts",
    "remove_account",
    "set_role",
]

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_.@-]{0,63}")
_SHORTEST: Final = 10
_LONGEST: Final = 1000
#: Parameters of scrypt: 16 MB and some 50 ms a try.
_METHOD: Final = "scrypt:16384:8:1"
#: Checked for names that do not exist, so that the time of an answer does not tell.
_NOBODY: Final = (
    "scrypt:16384:8:1$gapfactorynobody$"
    "0000000000000000000000000000000000000000000000000000000000000000"
    "0000000000000000000000000000000000000000000000000000000000000000"
)


@dataclass(frozen=True)
class Account:
    """Who asks.

    Attributes
    ----------
    name
        The login.
    role
        The role in this group.
    epoch
        Logins made under another one are over: it grows with every change of password or role.
    """

    name: str
    role: Role
    epoch: int = 0


def add_account(database: Database[Any], name: str, password: str, role: Role) -> Account:
    """Make an account.

    Raises
    ------
    InputError
        The name cannot be used or exists, or the password is too short.
    """
    from pymongo.errors import DuplicateKeyError

    if not _NAME.fullmatch(name):
        raise InputError(f"{name!r} is no usable name: a letter, then up to 63 letters, digits and _ . @ -")
    # by the clock: no login of an earlier account of this name is one of this
    now = time.time()
    account = Account(name, role, int(now))
    document = {
        "_id": name,
        "role": role.value,
        "hash": _hashed(password),
        "epoch": account.epoch,
        "created": now,
    }
    try:
        database.dashboard_users.insert_one(document)
    except DuplicateKeyError as error:
        raise InputError(
            f"there is an account {name!r} already; change its password or role instead"
        ) from error
    audit(database, "dashboard.account", name=name, what="made", role=role.value)
    return account


def find_account(database: Database[Any], name: str) -> Account | None:
    """Return an account, or None."""
    found = database.dashboard_users.find_one({"_id": name}, {"role": 1, "epoch": 1})
    return None if found is None else Account(found["_id"], Role(found["role"]), int(found["epoch"]))


def check_password(database: Database[Any], name: str, password: str) -> Account | None:
    """Return the account if the password is right; a wrong name takes as long as a wrong password."""
    from werkzeug.security import check_password_hash

    found = database.dashboard_users.find_one({"_id": name}) if _NAME.fullmatch(name) else None
    right = check_password_hash(found["hash"] if found else _NOBODY, password[: _LONGEST + 1])
    if found is None or not right:
        return None
    return Account(found["_id"], Role(found["role"]), int(found["epoch"]))


def change_password(database: Database[Any], name: str, password: str) -> None:
    """Give an account another password; its logins and tokens end.

    Raises
    ------
    NotFoundError
        There is no such account.
    InputError
        The password is too short.
    """
    _change(database, name, {"hash": _hashed(password)})
    _end_tokens(database, name)
    audit(database, "dashboard.account", name=name, what="given a new password")


def set_role(database: Database[Any], name: str, role: Role) -> None:
    """Give an account another role; its logins end.

    Raises
    ------
    NotFoundError
        There is no such account.
    """
    _change(database, name, {"role": role.value})
    audit(database, "dashboard.account", name=name, what="given a role", role=role.value)


def remove_account(database: Database[Any], name: str) -> None:
    """Remove an account; its logins and tokens end.

    Raises
    ------
    NotFoundError
        There is no such account.
    """
    if not database.dashboard_users.delete_one({"_id": name}).deleted_count:
        raise NotFoundError(f"there is no account {name!r}")
    end_logins(database, name)
    _end_tokens(database, name)
    audit(database, "dashboard.account", name=name, what="removed")


def end_logins(database: Database[Any], name: str) -> int:
    """End all logins of an account; return how many there were."""
    return int(database.dashboard_logins.delete_many({"login": name}).deleted_count)


def _end_tokens(database: Database[Any], name: str) -> None:
    keys = [token["_id"] for token in database.dashboard_tokens.find({"owner": name}, {"_id": 1})]
    database.dashboard_tokens.delete_many({"_id": {"$in": keys}})
    database.dashboard_logins.delete_many({"_id": {"$in": [f"token:{key}" for key in keys]}})


def list_accounts(database: Database[Any]) -> list[Account]:
    """Return all accounts by name."""
    return [
        Account(found["_id"], Role(found["role"]), int(found["epoch"]))
        for found in database.dashboard_users.find({}, {"role": 1, "epoch": 1}).sort("_id", 1)
    ]


def _hashed(password: str) -> str:
    from werkzeug.security import generate_password_hash

    if len(password) < _SHORTEST:
        raise InputError(f"the password has {len(password)} characters; at least {_SHORTEST} are needed")
    if len(password) > _LONGEST:
        raise InputError(f"the password has {len(password)} characters; at most {_LONGEST} are looked at")
    return generate_password_hash(password, method=_METHOD)


def _change(database: Database[Any], name: str, changes: dict[str, Any]) -> None:
    done = database.dashboard_users.update_one({"_id": name}, {"$set": changes, "$inc": {"epoch": 1}})
    if not done.matched_count:
        raise NotFoundError(f"there is no account {name!r}")
    end_logins(database, name)
