"""Roles that users define."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.embedded.commands.registry import Context, command
from launchpad.embedded.commands.users import require_for_roles
from launchpad.embedded.errors import CommandError
from launchpad.embedded.roles import (
    CLUSTER,
    is_built_in,
    parse_privileges,
    parse_roles,
    privileges_of_built_in,
)

if TYPE_CHECKING:
    from launchpad.embedded.roles import Privileges

__all__: list[str] = []


def _require_for_privileges(context: Context, action: str, privileges: Any) -> Privileges:
    """Ask for an action on every database that privileges target, on ``admin`` where they target more."""
    wanted = parse_privileges(privileges, context.database)
    for database in {database for database, _ in wanted.granted} | ({""} if wanted.everything else set()):
        context.require(action, database="admin" if database in ("", CLUSTER) else database)
    return wanted


@command("createRole", action="createRole")
def create_role(context: Context) -> dict[str, Any]:
    """Add a role."""
    privileges, roles = context.command.get("privileges"), context.command.get("roles")
    _require_for_privileges(context, "grantRole", privileges)
    require_for_roles(context, "grantRole", roles)
    context.users.changed()
    context.users.defined.create(context.database, context.command.get("createRole"), privileges, roles)
    return {}


@command("updateRole", action="revokeRole")
def update_role(context: Context) -> dict[str, Any]:
    """Replace the privileges of a role, or the roles that it inherits from."""
    changes = {key: context.command[key] for key in ("privileges", "roles") if key in context.command}
    if not changes:
        raise CommandError(2, "updateRole needs 'privileges' or 'roles'")
    if "privileges" in changes:
        _require_for_privileges(context, "grantRole", changes["privileges"])
    require_for_roles(context, "grantRole", changes.get("roles", []))
    context.users.changed()
    context.users.defined.change(context.database, context.collection_name(), **changes)
    return {}


@command("grantPrivilegesToRole", "revokePrivilegesFromRole", action="login")
def change_privileges(context: Context) -> dict[str, Any]:
    """Add privileges to a role, or take them away."""
    grant = context.name.lower().startswith("grant")
    asked = _require_for_privileges(
        context, "grantRole" if grant else "revokeRole", context.command.get("privileges")
    )
    name = context.collection_name()
    role = context.users.defined.get(context.database, name)
    known = parse_privileges([] if role is None else role["privileges"], context.database)
    if grant:
        known.add(asked)
    else:
        known.everything -= asked.everything
        for resource, actions in asked.granted.items():
            known.granted[resource] -= actions
    context.users.changed()
    context.users.defined.change(context.database, name, privileges=known.documents())
    return {}


@command("grantRolesToRole", "revokeRolesFromRole", action="login")
def change_parents(context: Context) -> dict[str, Any]:
    """Let a role inherit from others, or no more."""
    grant = context.name.lower().startswith("grant")
    asked = context.command.get("roles", [])
    require_for_roles(context, "grantRole" if grant else "revokeRole", asked)
    name = context.collection_name()
    parents = parse_roles(asked, context.database, context.users.defined.exists)
    role = context.users.defined.get(context.database, name)
    kept = [parent for parent in ([] if role is None else role["roles"]) if parent not in parents]
    context.users.changed()
    context.users.defined.change(context.database, name, roles=kept + parents if grant else kept)
    return {}


@command("dropRole", action="dropRole")
def drop_role(context: Context) -> dict[str, Any]:
    """Remove a role, also from whoever has it."""
    _drop(context, context.collection_name())
    return {}


@command("dropAllRolesFromDatabase", action="dropRole")
def drop_all_roles(context: Context) -> dict[str, Any]:
    """Remove the roles that were defined on a database."""
    names = [role["role"] for role in context.users.defined.listing(context.database)]
    for name in names:
        _drop(context, name)
    return {"n": len(names)}


def _drop(context: Context, name: str) -> None:
    gone = {"role": name, "db": context.database}
    context.users.defined.drop(context.database, name)
    context.users.changed()
    for user in context.users.listing(None):
        if gone in user["roles"]:
            kept = [role for role in user["roles"] if role != gone]
            context.users.change(user["db"], user["user"], roles=kept)


@command("rolesInfo", action="login")
def roles_info(context: Context) -> dict[str, Any]:
    """Show roles to those who have them and to whoever may see all of a database."""
    which = context.command.get("rolesInfo")
    if which == 1:
        context.require("viewRole")
        roles = context.users.defined.listing(context.database)
    else:
        asked = parse_roles(which if isinstance(which, list) else [which], context.database, lambda *_: True)
        mine = [role for user in context.peer.users for role in context.users.roles(*user)]
        for role in asked:
            if (role["role"], role["db"]) not in mine:
                context.require("viewRole", database=role["db"])
        found = [_document(context, role["role"], role["db"]) for role in asked]
        roles = [role for role in found if role is not None]
    return {"roles": [_shown(context, role) for role in roles]}


def _document(context: Context, name: str, database: str) -> dict[str, Any] | None:
    if is_built_in(name, database):
        privileges = privileges_of_built_in(name, database).documents()
        return {"role": name, "db": database, "privileges": privileges, "roles": []}
    return context.users.defined.get(database, name)


def _shown(context: Context, role: dict[str, Any]) -> dict[str, Any]:
    shown = {**role, "isBuiltin": is_built_in(role["role"], role["db"]), "inheritedRoles": role["roles"]}
    privileges = shown.pop("privileges")
    if context.command.get("showPrivileges"):
        everything = context.users.defined.privileges([(role["role"], role["db"])])
        shown |= {"privileges": privileges, "inheritedPrivileges": everything.documents()}
    return shown
