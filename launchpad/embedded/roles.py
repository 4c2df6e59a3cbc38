"""Roles and what they allow: MongoDB's own, those that users define, and the question whether an action is allowed.

A privilege is a resource (a collection, all ordinary collections of a database, the whole server) with actions of
MongoDB's names. Everything is decided by privileges; a role is a named list of them, kept in ``admin.system.roles``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from launchpad.embedded.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from launchpad.embedded.collection import Record
    from launchpad.embedded.store import Store

__all__ = [
    "CLUSTER",
    "Kept",
    "Privileges",
    "Role",
    "Roles",
    "granted",
    "is_built_in",
    "parse_roles",
    "privileges_of_built_in",
]

Role = tuple[str, str]

#: Stands for the database of an action on the server as a whole.
CLUSTER: Final = "\0cluster"

_READ: Final = frozenset(
    {
        "changeStream",
        "collStats",
        "dbHash",
        "dbStats",
        "find",
        "killCursors",
        "listIndexes",
        "listCollections",
    }
)
_WRITE: Final = frozenset(
    {
        "convertToCapped",
        "createCollection",
        "dropCollection",
        "createIndex",
        "dropIndex",
        "insert",
        "remove",
        "renameCollectionSameDB",
        "update",
    }
)
_ADMINISTER: Final = frozenset(
    {
        "bypassDocumentValidation",
        "collMod",
        "collStats",
        "compact",
        "convertToCapped",
        "createCollection",
        "createIndex",
        "dbStats",
        "dropCollection",
        "dropDatabase",
        "dropIndex",
        "enableProfiler",
        "listIndexes",
        "listCollections",
        "reIndex",
        "renameCollectionSameDB",
        "validate",
    }
)
_USERS: Final = frozenset(
    {
        "changeCustomData",
        "changePassword",
        "createRole",
        "createUser",
        "dropRole",
        "dropUser",
        "grantRole",
        "revokeRole",
        "setAuthenticationRestriction",
        "viewRole",
        "viewUser",
    }
)
_MONITOR: Final = frozenset({"listDatabases", "serverStatus", "hostInfo", "getParameter", "replSetGetStatus"})

#: Roles on the database that they are granted on.
_ON_DATABASE: Final[dict[str, frozenset[str]]] = {
    "read": _READ,
    "readWrite": _READ | _WRITE,
    "dbAdmin": _ADMINISTER,
    "userAdmin": _USERS,
    "dbOwner": _READ | _WRITE | _ADMINISTER | _USERS,
}
#: Roles of ``admin``: actions on every database, and on the server as a whole.
_EVERYWHERE: Final[dict[str, tuple[frozenset[str], frozenset[str]]]] = {
    "root": (_READ | _WRITE | _ADMINISTER | _USERS, _MONITOR | {"shutdown"}),
    "readAnyDatabase": (_READ, frozenset({"listDatabases"})),
    "readWriteAnyDatabase": (_READ | _WRITE, frozenset({"listDatabases"})),
    "dbAdminAnyDatabase": (_ADMINISTER, frozenset({"listDatabases"})),
    "userAdminAnyDatabase": (_USERS, frozenset({"listDatabases"})),
    "clusterMonitor": (frozenset(), _MONITOR),
    "clusterAdmin": (frozenset({"dropDatabase"}), _MONITOR | {"shutdown"}),
}
#: Whose collections with names ``system.`` are part of "every collection".
_OVER_SYSTEM: Final = frozenset({"root"})


@dataclass
class Privileges:
    """What somebody may do.

    Attributes
    ----------
    granted
        (database, collection) -> actions; an empty name stands for all of them, collections named ``system.``
        excepted.
    everything
        Actions on every resource, ``system.`` collections included.
    """

    granted: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))
    everything: set[str] = field(default_factory=set)

    def allow(self, database: str, collection: str, actions: Iterable[str]) -> None:
        """Add actions on a resource."""
        self.granted[database, collection].update(actions)

    def add(self, other: Privileges) -> None:
        """Add all of another's."""
        for (database, collection), actions in other.granted.items():
            self.allow(database, collection, actions)
        self.everything |= other.everything

    def allows(self, action: str, database: str, collection: str = "") -> bool:
        """Tell whether an action is allowed on a collection, or on a database where `collection` is empty."""
        if action in self.everything or "anyAction" in self.everything:
            return True
        resources = {(database, collection)}
        if database != CLUSTER:
            resources.add(("", collection))
            if not collection.startswith("system."):
                resources |= {(database, ""), ("", "")}
        return any(
            action in actions or "anyAction" in actions
            for actions in (self.granted.get(resource, ()) for resource in resources)
        )

    def sees(self, database: str) -> bool:
        """Tell whether a database appears in this one's list of databases."""
        return bool(self.everything) or any(
            where in ("", database) and "find" in actions for (where, _), actions in self.granted.items()
        )

    def documents(self) -> list[dict[str, Any]]:
        """Return them as MongoDB shows privileges."""
        shown = [
            {"resource": _resource(database, collection), "actions": sorted(actions)}
            for (database, collection), actions in sorted(self.granted.items())
            if actions
        ]
        if self.everything:
            shown.append({"resource": {"anyResource": True}, "actions": sorted(self.everything)})
        return shown


def _resource(database: str, collection: str) -> dict[str, Any]:
    return {"cluster": True} if database == CLUSTER else {"db": database, "collection": collection}


def is_built_in(name: Any, database: Any) -> bool:
    """Tell whether a role is one of MongoDB's own."""
    return isinstance(database, str) and (
        name in _ON_DATABASE or (name in _EVERYWHERE and database == "admin")
    )


def privileges_of_built_in(name: str, database: str) -> Privileges:
    """Return what one of MongoDB's own roles allows."""
    found = Privileges()
    found.allow(database, "", _ON_DATABASE.get(name, ()))
    if name in _EVERYWHERE and database == "admin":
        everywhere, server = _EVERYWHERE[name]
        found.allow("", "", everywhere)
        found.allow(CLUSTER, "", server)
        if name in _OVER_SYSTEM:
            found.everything |= everywhere
    return found


def parse_roles(
    roles: Any, database: str, exists: Callable[[Any, Any], bool] = is_built_in
) -> list[dict[str, str]]:
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
        if not isinstance(role, str | dict):
            raise CommandError(14, f"a role is a name or a document with 'role' and 'db', not {role!r}")
        name, where = (role, database) if isinstance(role, str) else (role.get("role"), role.get("db"))
        if not isinstance(name, str) or not isinstance(where, str) or not exists(name, where):
            raise CommandError(31, f"Could not find role: {name}@{where}")
        parsed.append({"role": name, "db": where})
    return parsed


def parse_privileges(privileges: Any, database: str) -> Privileges:
    """Check privileges as ``createRole`` takes them.

    Raises
    ------
    CommandError
        One is malformed, or reaches beyond the role's database (only roles of ``admin`` may).
    """
    if not isinstance(privileges, list):
        raise CommandError(14, "'privileges' must be an array")
    found = Privileges()
    for privilege in privileges:
        resource = privilege.get("resource") if isinstance(privilege, dict) else None
        actions = privilege.get("actions") if isinstance(privilege, dict) else None
        if not isinstance(resource, dict) or not isinstance(actions, list) or not actions:
            raise CommandError(
                9, f"a privilege needs 'resource' and a nonempty list 'actions', not {privilege!r}"
            )
        if not all(isinstance(action, str) and action for action in actions):
            raise CommandError(9, f"actions are names, not {actions!r}")
        if resource.get("anyResource") is True and database == "admin":
            found.everything.update(actions)
        elif resource.get("cluster") is True and database == "admin":
            found.allow(CLUSTER, "", actions)
        elif isinstance(resource.get("db"), str) and isinstance(resource.get("collection"), str):
            if database not in ("admin", resource["db"]):
                raise CommandError(
                    9,
                    f"Roles on the '{database}' database cannot be granted privileges that target {resource!r}",
                )
            found.allow(resource["db"], resource["collection"], actions)
        else:
            raise CommandError(9, f"{resource!r} is no resource for a role of {database!r}")
    return found


def granted(document: dict[str, Any]) -> list[Role]:
    """Return what the list of roles of a stored user or role names."""
    return [(role["role"], role["db"]) for role in document["roles"]]


class Kept:
    """Documents of a collection of ``admin``, each known by a database and a name: roles and users.

    Parameters
    ----------
    store
        Where they are kept, changed through its transaction.
    collection
        Their collection.
    """

    def __init__(self, store: Store, collection: str) -> None:
        self._store = store
        self._kept = collection

    def _record(self, database: str, name: str) -> Record | None:
        collection = self._store.get("admin", self._kept)
        if collection is None:
            return None
        found = collection.find({"_id": f"{database}.{name}"}, limit=1)
        return found[0] if found else None

    def get(self, database: str, name: str) -> dict[str, Any] | None:
        """Return the document of one that was made here, None if there is none."""
        record = self._record(database, name)
        return None if record is None else record.document

    def listing(self, database: str | None) -> list[dict[str, Any]]:
        """Return the documents of one database, or of all."""
        collection = self._store.get("admin", self._kept)
        if collection is None:
            return []
        query = {} if database is None else {"db": database}
        return [record.document for record in collection.find(query, {"_id": 1})]


class Roles(Kept):
    """Roles that users defined, in ``admin.system.roles``."""

    def __init__(self, store: Store) -> None:
        super().__init__(store, "system.roles")

    def exists(self, name: Any, database: Any) -> bool:
        """Tell whether there is a role, MongoDB's own or one that a user defined."""
        return is_built_in(name, database) or self.get(str(database), str(name)) is not None

    def privileges(self, roles: Iterable[Role]) -> Privileges:
        """Return what roles allow together, with the roles that they inherit from."""
        found, seen, waiting = Privileges(), set(), list(roles)
        while waiting:
            name, database = waiting.pop()
            if (name, database) in seen:
                continue
            seen.add((name, database))
            if is_built_in(name, database):
                found.add(privileges_of_built_in(name, database))
                continue
            role = self.get(database, name)
            if role is not None:
                found.add(parse_privileges(role["privileges"], database))
                waiting += granted(role)
        return found

    def create(self, database: str, name: Any, privileges: Any, roles: Any) -> None:
        """Add a role.

        Raises
        ------
        CommandError
            When it exists, or a name, privilege or role is not usable.
        """
        if not isinstance(name, str) or not name:
            raise CommandError(2, "createRole needs a nonempty name")
        if self.exists(name, database):
            raise CommandError(51002, f'Role "{name}@{database}" already exists')
        document = {
            "_id": f"{database}.{name}",
            "role": name,
            "db": database,
            "privileges": parse_privileges(privileges, database).documents(),
            "roles": self._parents(database, name, roles),
        }
        self._store.ensure("admin", self._kept).insert(document, self._store.transaction)

    def _parents(self, database: str, name: str, roles: Any) -> list[dict[str, str]]:
        parsed = parse_roles(roles, database, self.exists)
        for role in parsed:
            if database not in ("admin", role["db"]):
                raise CommandError(
                    9, f"Roles on the '{database}' database cannot be granted roles from other databases"
                )
            if (role["role"], role["db"]) == (name, database):
                raise CommandError(49, f"a role cannot be granted to itself: {name}@{database}")
        return parsed

    def change(self, database: str, name: str, **changes: Any) -> None:
        """Replace a role's ``privileges`` or ``roles``.

        Raises
        ------
        CommandError
            When there is none of this name, or a privilege or role is not usable.
        """
        record = self._required(database, name)
        document = record.copy()
        if "privileges" in changes:
            document["privileges"] = parse_privileges(changes["privileges"], database).documents()
        if "roles" in changes:
            document["roles"] = self._parents(database, name, changes["roles"])
        self._store.ensure("admin", self._kept).replace(record, document, self._store.transaction)

    def drop(self, database: str, name: str) -> None:
        """Remove a role, also from the roles that inherit from it.

        Raises
        ------
        CommandError
            When there is none of this name.
        """
        collection, record = self._store.ensure("admin", self._kept), self._required(database, name)
        collection.delete(record, self._store.transaction)
        gone = {"role": name, "db": database}
        for heir in collection.find({"roles": gone}):
            document = heir.copy()
            document["roles"] = [role for role in document["roles"] if role != gone]
            collection.replace(heir, document, self._store.transaction)

    def _required(self, database: str, name: str) -> Record:
        if is_built_in(name, database):
            raise CommandError(49, f"{name}@{database} is a built-in role and cannot be modified")
        record = self._record(database, name)
        if record is None:
            raise CommandError(31, f"Role '{name}@{database}' not found")
        return record
