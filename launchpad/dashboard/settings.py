"""How the dashboard behaves: every default in one place."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Final

from pydantic import Field

from gapfactory.errors import ServiceError
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DashboardSettings", "read_secret"]

_SECRET_BYTES: Final = 32


class DashboardSettings(Settings):
    """The dashboard. Times are in seconds unless the name says otherwise."""

    host: str = "127.0.0.1"
    """Address to listen at; anything else than this machine belongs behind a server that does TLS."""

    port: int = Field(default=8265, ge=0, le=65535)
    """Port; 0 takes any."""

    processes: int = Field(default=2, ge=1)
    """Server processes."""

    threads: int = Field(default=8, ge=1)
    """Requests that one process answers at once."""

    public_url: str | None = Field(default=None, pattern=r"^https?://[\w.:\[\]-]+$")
    """The address in people's browsers, e.g. ``https://gap.example.org``, when a proxy stands before the dashboard.
    With https, cookies are sent over TLS only."""

    proxies: int = Field(default=0, ge=0)
    """Proxies before the dashboard whose ``X-Forwarded-For`` and ``-Proto`` are believed."""

    session_hours: float = Field(default=12.0, gt=0)
    """A login ends after this time."""

    login_failures: int = Field(default=5, ge=1)
    """So many wrong passwords for a name from one address are looked at in `login_pause_s`; of a browser that logged in
    before, the same number."""

    login_failures_address: int = Field(default=50, ge=1)
    """The same from one address for whatever names, known browsers apart."""

    login_failures_name: int = Field(default=100, ge=1)
    """The same for one name from whatever addresses, known browsers apart."""

    login_pause_s: float = Field(default=300.0, gt=0)
    """The time in which they are counted; after it, the count begins again."""

    browser_days: float = Field(default=180.0, gt=0)
    """A browser is known for so long after a login: guessers at its owner's name do not stop it."""

    request_log: bool = True
    """One line per request on standard error: who, what, how it ended; never arguments, bodies or headers."""

    body_limit_kb: int = Field(default=256, ge=1)
    """Larger requests are refused."""

    silence_s: int = Field(default=10, ge=1)
    """The next part of a request, or room for the next one of an answer, is waited for so long; then it is given up."""

    refresh_s: float = Field(default=5.0, ge=1)
    """Pages look for news this often while they are visible."""

    computations: int = Field(default=1, ge=1)
    """What pages need is worked out by so many child processes of each server process at once."""

    computation_limit_s: float = Field(default=1200.0, gt=0)
    """A computation ends after this time."""

    retry_s: float = Field(default=60.0, ge=0)
    """One that failed is tried again after this time, if somebody asks."""

    results_days: float = Field(default=7.0, gt=0)
    """Results that nobody asked for in so many days are removed."""

    picture_wait_s: float = Field(default=30.0, ge=0)
    """A request for a picture waits so long until it is drawn."""

    charts_s: float = Field(default=30.0, ge=0)
    """Charts of a campaign that changes all the time are computed at most this often, while somebody looks at them."""

    figures_s: float = Field(default=300.0, ge=0)
    """The same of a figure for which all potentials of a campaign are asked."""

    map_points: int = Field(default=1000, ge=10, le=5000)
    """Points of a similarity map; its making grows with the cube of their number."""

    rows_s: float = Field(default=20.0, ge=0)
    """The table of chosen structures is brought up to date at most this often, while somebody looks at it."""

    @property
    def secure(self) -> bool:
        """Whether browsers reach the dashboard by TLS only."""
        return self.public_url is not None and self.public_url.startswith("https://")


def read_secret(path: Path) -> bytes:
    """Return the key that signs cookies, made at the first use; all processes of one dashboard read the same file.

    Raises
    ------
    ServiceError
        Others can read the file, or it is too short to be a key.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    else:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(secrets.token_hex(_SECRET_BYTES) + "\n")
    # its group may read it: that is how Kubernetes hands secrets out
    if path.stat().st_mode & 0o007:
        raise ServiceError(
            f"{path} signs the logins of the dashboard and can be read by everybody: remove it (people log in again)."
        )
    text = path.read_text(encoding="ascii").strip()
    if len(text) < 2 * _SECRET_BYTES:
        raise ServiceError(f"{path} holds no key of {_SECRET_BYTES} bytes: remove it, and a new one is made.")
    return text.encode()
