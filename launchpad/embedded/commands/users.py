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


@command("createUser", action="users")
def create_user(context: Context) -> dict[str, Any]:
    """Add a user."""
    body = context.command
    _only_own_database(context, body.get("roles", []))
    context.users.create(
        context.database,
        body.get("createUser"),
        body.get("pwd"),
        body.get("roles", []),
        body.get("customData"),
    )
    return {}


@command("updateUser", action="users")
def update_user(context: Context) -> dict[str, Any]:
    """Change a user's password, roles or custom data."""
    changes = {key: context.command[key] for key in ("pwd", "roles", "customData") if key in context.command}
    if not changes:
        raise CommandError(2, "updateUser needs 'pwd', 'roles' or 'customData'")
    _only_own_database(context, changes.get("roles", []))
    context.users.change(context.database, context.collection_name(), **changes)
    return {}


@command("grantRolesToUser", "revokeRolesFromUser", action="users")
def change_roles(context: Context) -> dict[str, Any]:
    """Add roles to a user, or take them away."""
    name = context.collection_name()
    user = context.users.get(context.database, name)
    if user is None:
        raise CommandError(11, f"User '{name}@{context.database}' not found")
    asked = context.command.get("roles", [])
    _only_own_database(context, asked)
    roles = parse_roles(asked, context.database)
    kept = [role for role in user["roles"] if role not in roles]
    context.users.change(
        context.database, name, roles=kept + roles if context.name.lower().startswith("grant") else kept
    )
    return {}


def _only_own_database(context: Context, roles: Any) -> None:
    """Keep the owner of one database from granting roles on others."""
    if context.peer.trusted and not context.peer.users:
        return
    mine = [role for user in context.peer.users for role in context.users.roles(*user)]
    if any(name in ("root", "userAdminAnyDatabase") for name, _ in mine):
        return
    for role in parse_roles(roles, context.database):
        if role["db"] != context.database:
            raise CommandError(
                13, f"not authorized to grant {role['role']}@{role['db']} from {context.database}"
            )


@command("dropUser", action="users")
def drop_user(context: Context) -> dict[str, Any]:
    """Remove a user."""
    context.users.drop(context.database, context.collection_name())
    return {}


@command("dropAllUsersFromDatabase", action="users")
def drop_all_users(context: Context) -> dict[str, Any]:
    """Remove the users of a database."""
    users = context.users.listing(context.database)
    for user in users:
        context.users.drop(user["db"], user["user"])
    return {"n": len(users)}


@command("usersInfo", action="login")
def users_info(context: Context) -> dict[str, Any]:
    """Show users, without their credentials unless asked for."""
    which = context.command.get("usersInfo")
    if which == 1:
        users = context.users.listing(context.database)
    elif isinstance(which, dict) and which.get("forAllDBs"):
        users = context.users.listing(None)
    else:
        found = [_one(context, item) for item in (which if isinstance(which, list) else [which])]
        users = [user for user in found if user is not None]
    visible = [user for user in users if _may_see(context, user)]
    return {"users": [_shown(user) for user in visible]}


def _one(context: Context, item: Any) -> dict[str, Any] | None:
    name, database = (item, context.database) if isinstance(item, str) else (item.get("user"), item.get("db"))
    return context.users.get(str(database), str(name))


def _may_see(context: Context, user: dict[str, Any]) -> bool:
    from launchpad.embedded.roles import allowed

    if (context.peer.trusted and not context.peer.users) or (user["db"], user["user"]) in context.peer.users:
        return True
    mine = [role for known in context.peer.users for role in context.users.roles(*known)]
    return allowed(mine, "users", user["db"])


def _shown(user: dict[str, Any]) -> dict[str, Any]:
    shown = {key: value for key, value in user.items() if key != "credentials"}
    return {**shown, "mechanisms": list(user["credentials"])}
