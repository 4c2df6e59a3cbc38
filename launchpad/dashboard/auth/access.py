"""Roles, permissions, and the gate that every request passes: what is not declared is refused."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from flask import Flask

    from launchpad.dashboard.auth.accounts import Account

__all__ = ["Permission", "Role", "allows", "lower", "lowest", "needs", "public", "undeclared"]


class Role(StrEnum):
    """Roles of people in the dashboard, each with what the one before may do."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"


class Permission(StrEnum):
    """What a route needs."""

    #: look at everything of the group
    READ = "read"
    #: rerun, pause, resume, cancel, change priorities
    OPERATE = "operate"
    #: users and their roles, the audit trail; by login only, never by token
    ADMINISTER = "administer"
    #: one's own password and tokens; by login only, so that a stolen token makes no other one
    OWN = "own"


_RANK: Final = {Role.VIEWER: 0, Role.OPERATOR: 1, Role.ADMIN: 2}
_LOWEST: Final = {
    Permission.READ: Role.VIEWER,
    Permission.OPERATE: Role.OPERATOR,
    Permission.ADMINISTER: Role.ADMIN,
    Permission.OWN: Role.VIEWER,
}
_ATTRIBUTE: Final = "gapfactory_needs"


@dataclass(frozen=True)
class _Public:
    reason: str


def allows(role: Role, permission: Permission) -> bool:
    """Return whether a role includes a permission."""
    return _RANK[role] >= _RANK[_LOWEST[permission]]


def lowest(permission: Permission) -> Role:
    """Return the role from which on a permission is included."""
    return _LOWEST[permission]


def lower(one: Role, other: Role) -> Role:
    """Return the role that may less."""
    return min(one, other, key=_RANK.__getitem__)


def needs(permission: Permission) -> Callable[[Any], Any]:
    """Declare what a view needs."""

    def mark(view: Any) -> Any:
        setattr(view, _ATTRIBUTE, permission)
        return view

    return mark


def public(reason: str) -> Callable[[Any], Any]:
    """Declare that a view needs no login, and why that is right."""

    def mark(view: Any) -> Any:
        setattr(view, _ATTRIBUTE, _Public(reason))
        return view

    return mark


def declared(view: Any) -> Permission | None:
    """Return what a view needs, None for a public one.

    Raises
    ------
    AttributeError
        Nothing was declared.
    """
    found = getattr(view, _ATTRIBUTE)
    return None if isinstance(found, _Public) else found


def undeclared(app: Flask) -> list[str]:
    """Return the endpoints that declare nothing; an application with any does not start."""
    return sorted(name for name, view in app.view_functions.items() if not hasattr(view, _ATTRIBUTE))


def may(account: Account | None, permission: Permission) -> bool:
    """Return whether whoever asks has a permission (for templates, which hide what would be refused)."""
    return account is not None and allows(account.role, permission)
