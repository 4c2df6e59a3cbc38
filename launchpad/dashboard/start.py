"""What is looked at before the dashboard starts."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from gapfactory.errors import InputError, ServiceError
from launchpad.dashboard.auth.access import Role

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["check_assets", "checked_role", "default_secret_file", "read_groups"]

_GROUP: Final = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,37}")


def check_assets() -> None:
    """Refuse to start without the scripts that the pages load.

    Raises
    ------
    ServiceError
        Some are missing.
    """
    from launchpad.dashboard.assets import missing

    absent = missing()
    if absent:
        raise ServiceError(
            f"scripts of the pages are missing ({', '.join(asset.name for asset in absent)}): "
            "'python -m launchpad.dashboard.assets' fetches them from their packages."
        )


def default_secret_file() -> Path:
    """Return where the key that signs logins lies unless another file is named."""
    state = os.environ.get("XDG_STATE_HOME")
    place = (Path(state) if state else Path.home() / ".local" / "state") / "gapfactory"
    place.mkdir(parents=True, exist_ok=True, mode=0o700)
    return place / "dashboard-secret"


def read_groups(given: Sequence[str], default: Callable[[], str]) -> dict[str, str]:
    """Return the URI of each group's database by the group's name.

    Parameters
    ----------
    given
        ``NAME=FILE`` each: URIs hold passwords, and command lines can be read by others.
    default
        Returns the only database where no group is given.

    Raises
    ------
    InputError
        A group is not given as it should be, or its file cannot be used.
    """
    from launchpad.queue.connection import database_name

    if not given:
        uri = default()
        return {database_name(uri): uri}
    groups = {}
    for text in given:
        name, equals, file = text.partition("=")
        if not equals or not _GROUP.fullmatch(name):
            raise InputError(f"--group {text!r}: expected NAME=FILE, such as si=/etc/gapfactory/si.uri")
        path = Path(file)
        try:
            if path.stat().st_mode & 0o007:
                raise InputError(f"{path} holds a password and can be read by everybody: chmod 600 it.")
            groups[name] = path.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InputError(f"--group {name}: {path} cannot be read ({error.strerror}).") from error
    return groups


def checked_role(text: str) -> Role:
    """Return a role by its name.

    Raises
    ------
    InputError
        There is no such role.
    """
    try:
        return Role(text)
    except ValueError as error:
        raise InputError(f"{text!r} is no role; the roles are {', '.join(Role)}") from error
