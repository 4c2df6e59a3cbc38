"""Authentication and user management."""

from __future__ import annotations

from typing import Any

from launchpad.embedded.auth import Conversation, start_conversation
from launchpad.embedded.commands.registry import Context, command
from launchpad.embedded.errors import CommandError
from launchpad.embedded.roles import parse_roles

__all__ = ["begin", "step_reply"]


def begin(context: Context, database: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Start a SCRAM exchange and return its first reply."""
    conversation = start_conversation(context.users, database, arguments)
    context.peer.conversation = conversation
    context.peer.conversation_id += 1
    return step_reply(context, conversation, conversation.server_first, done=False)


def step_reply(context: Context, conversation: Conversation, payload: bytes, *, done: bool) -> dict[str, Any]:
    """Return one reply of a SCRAM exchange; the user is logged in with the last one."""
    if done:
        user = (conversation.database, conversation.user)
        context.peer.users = [known for known in context.peer.users if known != user] + [user]
        context.peer.conversation = None
    return {"conversationId": context.peer.conversation_id, "done": done, "payload": payload}


@command("saslStart", action="open", pure=False)
def sasl_start(context: Context) -> dict[str, Any]:
    """Start authentication."""
    return begin(context, context.database, context.command)


@command("saslContinue", action="open", pure=False)
def sasl_continue(context: Context) -> dict[str, Any]:
    """Go on with authentication."""
    conversation = context.peer.conversation
    if conversation is None or context.command.get("conversationId") != context.peer.conversation_id:
        raise CommandError(17, "no authentication is under way on this connection")
    payload = bytes(context.command.get("payload", b""))
    if conversation.verified:
        return step_reply(context, conversation, b"", done=True)
    try:
        signature = conversation.finish(payload)
    except CommandError:
        context.peer.conversation = None
        raise
    return step_reply(context, conversation, signature, done=conversation.skip_empty)


@command("logout", action="open", pure=False)
def logout(context: Context) -> dict[str, Any]:
    """Forget the users of this database on this connection."""
    context.peer.users = [user for user in context.peer.users if user[0] != context.database]
    return {}


@command("createUser", action="createUser")
def create_user(context: Context) -> dict[str, Any]:
    """Add a user."""
    body = context.command
    require_for_roles(context, "grantRole", body.get("roles", []))
    context.users.create(
        context.database,
        body.get("createUser"),
        body.get("pwd"),
        body.get("roles", []),
        body.get("customData"),
    )
    return {}


@command("updateUser", action="login")
def update_user(context: Context) -> dict[str, Any]:
    """Change a user's password, roles or custom data."""
    changes = {key: context.command[key] for key in ("pwd", "roles", "customData") if key in context.command}
    if not changes:
        raise CommandError(2, "updateUser needs 'pwd', 'roles' or 'customData'")
    name = context.collection_name()
    own = (context.database, name) in context.peer.users
    for key, action, own_action in (
        ("pwd", "changePassword", "changeOwnPassword"),
        ("customData", "changeCustomData", "changeOwnCustomData"),
    ):
        if key in changes and not (own and context.may(own_action, context.database)):
            context.require(action)
    if "roles" in changes:
        user = context.users.get(context.database, name)
        require_for_roles(context, "grantRole", changes["roles"])
        require_for_roles(context, "revokeRole", [] if user is None else user["roles"])
    context.users.change(context.database, name, **changes)
    return {}


@command("grantRolesToUser", "revokeRolesFromUser", action="login")
def change_roles(context: Context) -> dict[str, Any]:
    """Add roles to a user, or take them away; it is the role's database that must allow it."""
    name = context.collection_name()
    asked, grant = context.command.get("roles", []), context.name.lower().startswith("grant")
    require_for_roles(context, "grantRole" if grant else "revokeRole", asked)
    user = context.users.get(context.database, name)
    if user is None:
        raise CommandError(11, f"User '{name}@{context.database}' not found")
    roles = parse_roles(asked, context.database, context.users.defined.exists)
    kept = [role for role in user["roles"] if role not in roles]
    context.users.change(context.database, name, roles=kept + roles if grant else kept)
    return {}


def require_for_roles(context: Context, action: str, roles: Any) -> None:
    """Ask for an action on the databases of some roles: the owner of one database grants nothing on others."""
    for role in parse_roles(roles, context.database, lambda *_: True):
        context.require(action, database=role["db"])


@command("dropUser", action="dropUser")
def drop_user(context: Context) -> dict[str, Any]:
    """Remove a user."""
    context.users.drop(context.database, context.collection_name())
    return {}


@command("dropAllUsersFromDatabase", action="dropUser")
def drop_all_users(context: Context) -> dict[str, Any]:
    """Remove the users of a database."""
    users = context.users.listing(context.database)
    for user in users:
        context.users.drop(user["db"], user["user"])
    return {"n": len(users)}


@command("usersInfo", action="login")
def users_info(context: Context) -> dict[str, Any]:
    """Show users, without their credentials; those of others to whoever may see them."""
    which = context.command.get("usersInfo")
    if which == 1:
        context.require("viewUser")
        users = context.users.listing(context.database)
    elif isinstance(which, dict) and which.get("forAllDBs"):
        context.require("viewUser", database="admin")
        users = context.users.listing(None)
    else:
        asked = [
            (context.database, item)
            if isinstance(item, str)
            else (str(item.get("db")), str(item.get("user")))
            for item in (which if isinstance(which, list) else [which])
            if isinstance(item, str | dict)
        ]
        for database, name in asked:
            if (database, name) not in context.peer.users:
                context.require("viewUser", database=database)
        found = [context.users.get(database, name) for database, name in asked]
        users = [user for user in found if user is not None]
    return {"users": [_shown(context, user) for user in users]}


def _shown(context: Context, user: dict[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in user.items() if key != "credentials"}
    if context.command.get("showPrivileges"):
        shown["inheritedPrivileges"] = context.users.privileges([(user["db"], user["user"])]).documents()
    return {**shown, "mechanisms": list(user["credentials"])}
