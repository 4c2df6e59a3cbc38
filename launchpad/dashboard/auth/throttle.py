"""How many passwords may be tried: a guesser is stopped, and nobody can keep others from logging in.

Counting by name alone would let anybody lock a person out; counting by address alone, one careless neighbour behind
the same router. So a browser that has logged in to an account before is known by a signed cookie (`known_browser`),
and has a count of its own that nobody else can use up. Everybody else is counted by name and address together, by
address, and by name: a guesser who keeps a name's count full stops other unknown browsers, never known ones.

Tries are counted before the password is looked at (parallel ones cannot slip through), in the database (processes
count together), for names and groups that do not exist as well (a refusal tells nothing).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import json
import secrets
import time
from typing import TYPE_CHECKING, Any, Final

from flask import current_app, request
from pymongo.errors import DuplicateKeyError

if TYPE_CHECKING:
    from pymongo.database import Database
    from werkzeug.wrappers import Response

    from launchpad.dashboard.settings import DashboardSettings

__all__ = ["Throttle", "known_browser", "remember_browser"]

_TRIES: Final = 5
_MOST_ACCOUNTS: Final = 8


class Throttle:
    """Counts the tries of one login's name, address and browser.

    Parameters
    ----------
    database
        Where the counts are.
    settings
        How many tries are let pass in which time.
    group, name, address
        Of the attempt; stored as hashes, since people type passwords into the wrong field.
    browser
        From `known_browser`; None for one that has not logged in to this account before.
    """

    def __init__(
        self,
        database: Database[Any],
        settings: DashboardSettings,
        group: str,
        name: str,
        address: str,
        browser: str | None = None,
    ) -> None:
        self._logins = database.dashboard_logins
        self._pause = settings.login_pause_s
        net = _network(address)
        counted = (
            {f"browser:{group}:{browser}": settings.login_failures}
            if browser is not None
            else {
                f"address:{net}": settings.login_failures_address,
                f"both:{group}:{name}:{net}": settings.login_failures,
                f"name:{group}:{name}": settings.login_failures_name,
            }
        )
        self._limits = {hashlib.sha256(key.encode()).hexdigest(): limit for key, limit in counted.items()}

    def attempt(self) -> float:
        """Count a try; return for how many seconds no password is looked at, 0 if this one may be."""
        now = time.time()
        self._logins.delete_many({"until": {"$lt": now - self._pause}})
        for key, limit in self._limits.items():
            tries, until = self._count(key, now)
            if tries > limit:
                # what an address that is stopped tries further is not even counted elsewhere
                return until - now
        return 0.0

    def _count(self, key: str, now: float) -> tuple[int, float]:
        """Return the tries of the running period, with this one, and when the period ends."""
        for _ in range(_TRIES):
            found = self._logins.find_one_and_update(
                {"_id": key, "until": {"$gt": now}}, {"$inc": {"tries": 1}}, return_document=True
            )
            if found is not None:
                return int(found["tries"]), float(found["until"])
            try:
                self._logins.update_one(
                    {"_id": key, "until": {"$lte": now}},
                    {"$set": {"tries": 0, "until": now + self._pause}},
                    upsert=True,
                )
            except DuplicateKeyError:
                continue  # another process has just begun the period
        return 1, now + self._pause

    def succeeded(self) -> None:
        """Take the right password out of the counts."""
        self._logins.update_many({"_id": {"$in": list(self._limits)}}, {"$inc": {"tries": -1}})


def known_browser(group: str, name: str) -> str | None:
    """Return the mark of a browser that has logged in to this account before, or None."""
    return _known().get(_account(group, name))


def remember_browser(response: Response, group: str, name: str) -> None:
    """Let a browser be known for the account from now on."""
    # few accounts are used in one browser; the oldest is forgotten
    kept = dict([*_known().items(), (_account(group, name), secrets.token_urlsafe(12))][-_MOST_ACCOUNTS:])
    body = base64.urlsafe_b64encode(json.dumps([int(time.time()), kept]).encode()).decode()
    response.set_cookie(
        _cookie(),
        f"{body}.{_signature(body)}",
        max_age=_known_s(),
        path="/",
        secure=bool(current_app.config["SESSION_COOKIE_SECURE"]),
        httponly=True,
        samesite="Strict",
    )


def _known() -> dict[str, str]:
    """Return the marks of the browser that asks, by account."""
    body, _, signature = request.cookies.get(_cookie(), "").partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(body).encode()):
        return {}
    since, kept = json.loads(base64.urlsafe_b64decode(body))  # ours, by its signature
    return dict(kept) if time.time() - since < _known_s() else {}


def _signature(body: str) -> str:
    key = hashlib.sha256(b"gapfactory known browser:" + bytes(current_app.config["SECRET_KEY"])).digest()
    return hmac.new(key, body.encode(), hashlib.sha256).hexdigest()


def _cookie() -> str:
    return f"{current_app.config['SESSION_COOKIE_NAME']}-browser"


def _known_s() -> int:
    settings: DashboardSettings = current_app.extensions["gapfactory"]["settings"]
    return int(settings.browser_days * 86_400)


def _account(group: str, name: str) -> str:
    return hashlib.sha256(f"{group}:{name}".encode()).hexdigest()[:24]


def _network(address: str) -> str:
    """Return what one person has: an IPv4 address, or the 64 bits that a provider gives a customer."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        return str(found.ipv4_mapped or ipaddress.ip_network((int(found) >> 64 << 64, 64)))
    return str(found)
