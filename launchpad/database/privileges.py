"""What each role of a group may do with each collection of its database; the roles are made from this table.

MongoDB has no prohibitions, only grants, so whatever may be written is listed by name: a collection that is not in
`WRITES` can be read by people and written by nobody but the server's administrator. ``docs/reference/security.md``
shows the same table, and a test compares both with what the code writes. For the same reason a viewer may read what is
listed there, but for `HIDDEN`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "AUDIT",
    "OPERATIONS",
    "OWNED",
    "ROLES",
    "SHARES",
    "WORKED_OUT",
    "WRITES",
    "RoleName",
    "mongo_role",
    "privileges_of",
    "role_needed",
]

RoleName = Literal["owner", "member", "dashboard", "worker", "viewer"]

#: The roles, from the one that may do everything to the one that only looks.
ROLES: Final[tuple[RoleName, ...]] = ("owner", "member", "dashboard", "worker", "viewer")

#: Who did what: nobody of the group may change or remove an entry.
AUDIT: Final = "audit"
#: Whom the group grants what, and from whom it accepts labels.
SHARES: Final = "shares"

#: Retention policy and quotas of the group.
OPERATIONS: Final = "operations"
#: What owners alone of people may write; the dashboard keeps its accounts for them.
OWNED: Final = frozenset({SHARES, OPERATIONS, "dashboard_users", "dashboard_tokens"})
#: Hashes of passwords and tokens: nobody who only looks, or computes, has to read them.
HIDDEN: Final = frozenset({"dashboard_users", "dashboard_tokens", "dashboard_logins"})

#: What the dashboard works out of the rest: it may be removed at any time.
WORKED_OUT: Final = frozenset({"dashboard_rows", "dashboard_results", "dashboard_parts"})

#: Letter -> MongoDB's action on a collection.
_ACTIONS: Final = {"f": "find", "i": "insert", "u": "update", "r": "remove", "x": "createIndex"}

#: Collection -> what a worker, the dashboard and a member may do with it, a letter per action (`_ACTIONS`).
WRITES: Final[dict[str, tuple[str, str, str]]] = {
    # what campaigns store
    "campaigns": ("fu", "fu", "fiurx"),
    "structures": ("fiu", "f", "fiurx"),
    "relaxations": ("fiu", "f", "fiurx"),
    "anneals": ("fiur", "f", "fiurx"),
    "selections": ("fiu", "f", "fiurx"),
    "labels": ("fiur", "fiur", "fiurx"),
    "label_claims": ("fiur", "f", "fiurx"),
    "label_data": ("fiu", "f", "fiurx"),
    "label_hand_backs": ("fiur", "f", "fiurx"),
    "curves": ("fiu", "fr", "fiurx"),
    "curve_points": ("fiu", "fr", "fiurx"),
    "networks": ("fiu", "f", "fiurx"),
    "potentials": ("fiu", "f", "fiurx"),
    "potential_files.files": ("fiur", "f", "fiurx"),
    "potential_files.chunks": ("fir", "f", "fiurx"),
    "metrics": ("fiu", "f", "fiurx"),
    "vibrations": ("fiu", "f", "fiurx"),
    # FireWorks' own
    "fireworks": ("fiu", "fiu", "fiurx"),
    "launches": ("fiu", "f", "fiurx"),
    "workflows": ("fiu", "fiu", "fiurx"),
    "fw_id_assigner": ("fu", "fu", "fiurx"),
    "fw_gridfs.files": ("fir", "f", "fiurx"),
    "fw_gridfs.chunks": ("fir", "f", "fiurx"),
    "offline_runs": ("f", "f", "fiurx"),
    # the queue's own
    "queue_journal": ("fiur", "fiur", "fiurx"),
    "queue_retries": ("fiu", "f", "fiurx"),
    "queue_leases": ("fiur", "f", "fiurx"),
    "queue_meta": ("f", "f", "fiurx"),
    "workers": ("fiur", "fu", "fiurx"),
    # the operator's: what a policy removed, who was told of what
    "removals": ("f", "f", "fiurx"),
    "notices": ("fiur", "f", "fiurx"),
    # whoever may write the dashboard's accounts can do what the dashboard can
    "dashboard_users": ("", "fiur", "f"),
    "dashboard_tokens": ("", "fir", "f"),
    "dashboard_logins": ("", "fiur", "fiurx"),
    # see WORKED_OUT
    "dashboard_rows": ("", "fiurx", "fiurx"),
    "dashboard_results": ("", "fiur", "fiurx"),
    "dashboard_parts": ("", "fir", "fiurx"),
    # policies and quotas, and who may what; an owner may write OWNED as well
    OPERATIONS: ("f", "f", "f"),
    SHARES: ("f", "f", "f"),
    AUDIT: ("", "fi", "fix"),
}

_LOOK: Final = ("listCollections", "listIndexes", "collStats", "dbStats")
_USERS: Final = (
    "createUser",
    "dropUser",
    "changePassword",
    "changeCustomData",
    "viewUser",
    "createRole",
    "dropRole",
    "grantRole",
    "revokeRole",
    "viewRole",
)

#: Command of the wire protocol -> the action that it needs, for messages.
_COMMANDS: Final = {
    "find": "find",
    "aggregate": "find",
    "count": "find",
    "distinct": "find",
    "getMore": "find",
    "insert": "insert",
    "update": "update",
    "findAndModify": "update",
    "delete": "remove",
    "create": "insert",
    "createIndexes": "createIndex",
    "updateUser": "changePassword",
    "usersInfo": "viewUser",
    "rolesInfo": "viewRole",
    "grantRolesToUser": "grantRole",
    "revokeRolesFromUser": "revokeRole",
    "updateRole": "revokeRole",
    "grantPrivilegesToRole": "grantRole",
    "revokePrivilegesFromRole": "revokeRole",
    "dropAllUsersFromDatabase": "dropUser",
}
_REFUSED = re.compile(r"not authorized on (\S+) to execute command \{ (\w+): (?:\"([^\"]*)\")?")


def mongo_role(role: str) -> str:
    """Return the name of a role in the group's database."""
    return f"gapfactory_{role}"


def _on_collection(role: RoleName, collection: str) -> list[str]:
    worker, dashboard, member = WRITES[collection]
    letters = {"owner": member, "member": member, "dashboard": dashboard, "worker": worker, "viewer": ""}[
        role
    ]
    if role == "viewer" and collection not in HIDDEN:
        letters = "f"
    if role == "owner" and collection in OWNED:
        letters = "fiur"
    return [_ACTIONS[letter] for letter in letters]


def privileges_of(role: RoleName, group: str) -> list[dict[str, Any]]:
    """Return what a role may do, as ``createRole`` takes it.

    Parameters
    ----------
    role
        One of `ROLES`.
    group
        The group's database.
    """
    everywhere = [
        *_LOOK,
        *(("find",) if role in ("owner", "member") else ()),
        *(_USERS if role == "owner" else ()),
    ]
    found = [{"resource": {"db": group, "collection": ""}, "actions": sorted(everywhere)}]
    for collection in WRITES:
        actions = sorted(_on_collection(role, collection))
        if actions:
            found.append({"resource": {"db": group, "collection": collection}, "actions": actions})
    return found


def _allows(role: RoleName, action: str, collection: str) -> bool:
    privileges = privileges_of(role, "")
    return any(
        action in privilege["actions"] and privilege["resource"]["collection"] in ("", collection)
        for privilege in privileges
    )


def role_needed(refusal: str) -> Sequence[RoleName]:
    """Return which roles may do what a server refused, by its words; none where no role of a group may.

    Parameters
    ----------
    refusal
        ``not authorized on DATABASE to execute command { COMMAND: "COLLECTION" ...``.
    """
    match = _REFUSED.search(refusal)
    if match is None:
        return []
    _, command, collection = match.groups()
    action = _COMMANDS.get(command, command)
    return [role for role in reversed(ROLES) if _allows(role, action, collection or "")]
