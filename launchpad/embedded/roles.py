"""Which role allows which kind of action on which database."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from launchpad.embedded.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ROOT", "Action", "Role", "allowed", "parse_roles"]

# "open" needs nothing, "login" any user; the others are granted per database by roles.
Action = Literal["open", "login", "read", "write", "admin", "users", "cluster"]
Role = tuple[str, str]
ROOT: Final[Role] = ("root", "admin")

_ON_DATABASE: Final[dict[str, frozenset[str]]] = {
    "read": frozenset({"read"}),
    "readWrite": frozenset({"read", "write"}),
    "dbAdmin": frozenset({"admin"}),
    "userAdmin": frozenset({"users"}),
    "dbOwner": frozenset({"read", "write", "admin", "users"}),
}
_EVERYWHERE: Final[dict[str, frozenset[str]]] = {
    "root": frozenset({"read", "write", "admin", "users", "cluster"}),
    "readAnyDatabase": frozenset({"read"}),
    "readWriteAnyDatabase": frozenset({"read", "write"}),
    "dbAdminAnyDatabase": frozenset({"admin"}),
    "userAdminAnyDatabase": frozenset({"users"}),
    "clusterMonitor": frozenset({"cluster"}),
    "clusterAdmin": frozenset({"cluster"}),
}


def allowed(roles: Iterable[Role], action: Action, database: str) -> bool:
    """Tell whether one of the roles allows an action on a database."""
    for name, where in roles:
        if action in _EVERYWHERE.get(name, ()) or (
            where == database and action in _ON_DATABASE.get(name, ())
        ):
            return True
    return False


def parse_roles(roles: Any, database: str) -> list[dict[str, str]]:
    """Check a list of roles as ``createUser`` takes it and return it with every database named.

    Raises
    ------
    CommandError
        For a role that does not exist here.
    """
    if not isinstance(roles, list):
        raise CommandError(14, "'roles' must be an array")
    parsed = []
    for role in roles:
        name, where = (role, database) if isinstance(role, str) else (role.get("role"), role.get("db"))
        known = name in _ON_DATABASE or (name in _EVERYWHERE and where == "admin")
        if not known or not isinstance(where, str):
            names = ", ".join([*_ON_DATABASE, *_EVERYWHERE])
            raise CommandError(
                31, f"could not find role: {name}@{where}. Roles of the embedded server: {names}"
            )
        parsed.append({"role": str(name), "db": where})
    return parsed
