"""Collections, databases and indexes: list, create, drop, rename."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.embedded.commands.reads import cursor_reply
from launchpad.embedded.commands.registry import Context, command
from launchpad.embedded.errors import CommandError
from launchpad.embedded.filters import compile_filter
from launchpad.embedded.roles import CLUSTER

if TYPE_CHECKING:
    from launchpad.embedded.collection import Collection

__all__: list[str] = []


def _existing(context: Context) -> Collection:
    collection = context.collection()
    if collection is None:
        name = f"{context.database}.{context.collection_name()}"
        raise CommandError(26, f"ns not found: {name}")
    return collection


def _writable(name: str) -> None:
    if name.startswith("system."):
        raise CommandError(13, f"the collection {name} cannot be changed directly")


@command("create", action="login")
def create(context: Context) -> dict[str, Any]:
    """Create a collection without special properties."""
    name = context.collection_name()
    if not context.may("createCollection", context.database, name):
        context.require("insert", collection=name)
    _writable(name)
    allowed_keys = {"create", "writeConcern", "comment", "autoIndexId"}
    special = [
        key for key in context.command if key not in allowed_keys and not key.startswith(("$", "lsid", "txn"))
    ]
    if special:
        raise CommandError(238, f"collections with '{special[0]}' are not supported by the embedded server")
    if context.collection() is not None:
        raise CommandError(48, f"Collection {context.database}.{name} already exists.")
    context.store.create(context.database, name)
    return {}


@command("drop", action="dropCollection")
def drop(context: Context) -> dict[str, Any]:
    """Drop a collection; dropping what does not exist succeeds."""
    _writable(context.collection_name())
    collection = context.collection()
    if collection is None:
        return {}
    context.store.drop(collection)
    return {"nIndexesWas": len(collection.indexes), "ns": collection.namespace}


@command("dropDatabase", action="dropDatabase")
def drop_database(context: Context) -> dict[str, Any]:
    """Drop every collection of a database; users remain."""
    for collection in list(context.store.databases.get(context.database, {}).values()):
        if not collection.name.startswith("system."):
            context.store.drop(collection)
    return {"dropped": context.database}


@command("renameCollection", action="login")
def rename_collection(context: Context) -> dict[str, Any]:
    """Rename a collection, also to another database."""
    source, target = (str(context.command.get(key)) for key in ("renameCollection", "to"))
    (database, _, name), (new_database, _, new_name) = source.partition("."), target.partition(".")
    if database == new_database:
        for which in (name, new_name):
            context.require("renameCollectionSameDB", database=database, collection=which)
    else:
        for action in ("find", "dropCollection"):
            context.require(action, database=database, collection=name)
        for action in ("insert", "createIndex"):
            context.require(action, database=new_database, collection=new_name)
    if context.command.get("dropTarget"):
        context.require("dropCollection", database=new_database, collection=new_name)
    _writable(name)
    _writable(new_name)
    collection = context.store.get(database, name)
    if collection is None:
        raise CommandError(26, f"source namespace does not exist: {source}")
    existing = context.store.get(new_database, new_name)
    if existing is collection:
        raise CommandError(20, "cannot rename a collection to itself")
    if existing is not None:
        if not context.command.get("dropTarget"):
            raise CommandError(48, f"target namespace exists: {target}")
        context.store.drop(existing)
    context.store.rename(collection, new_database, new_name)
    return {}


@command("listCollections", action="login")
def list_collections(context: Context) -> dict[str, Any]:
    """List the collections of a database: all, or the names of those that the user may read."""
    only_own = bool(context.command.get("nameOnly") and context.command.get("authorizedCollections"))
    if not only_own:
        context.require("listCollections")
    predicate = compile_filter(context.command.get("filter") or {})
    listed = []
    for name in sorted(context.store.databases.get(context.database, {})):
        entry: dict[str, Any] = {"name": name, "type": "collection"}
        if not context.command.get("nameOnly"):
            entry |= {
                "options": {},
                "info": {"readOnly": False},
                "idIndex": {"v": 2, "key": {"_id": 1}, "name": "_id_"},
            }
        if only_own and not context.may("find", context.database, name):
            continue
        if predicate(entry) and not name.startswith("system."):
            listed.append(entry)
    namespace = f"{context.database}.$cmd.listCollections"
    return cursor_reply(context, namespace, listed, None, single=True)


@command("listDatabases", action="login")
def list_databases(context: Context) -> dict[str, Any]:
    """List the databases the user may read."""
    predicate = compile_filter(context.command.get("filter") or {})
    every = context.may("listDatabases", CLUSTER)
    listed = []
    for name in sorted(context.store.databases):
        if not every and not context.privileges.sees(name):
            continue
        size = sum(collection.bytes for collection in context.store.databases[name].values())
        entry: dict[str, Any] = {"name": name, "sizeOnDisk": size, "empty": False}
        if predicate(entry):
            listed.append({"name": name} if context.command.get("nameOnly") else entry)
    return {"databases": listed, "totalSize": sum(entry.get("sizeOnDisk", 0) for entry in listed)}


@command("createIndexes", action="createIndex")
def create_indexes(context: Context) -> dict[str, Any]:
    """Build indexes, all or none."""
    name = context.collection_name()
    _writable(name)
    existed = context.collection() is not None
    collection = context.store.ensure(context.database, name)
    before = len(collection.indexes)
    specs = context.command.get("indexes")
    if not isinstance(specs, list) or not specs:
        raise CommandError(2, "createIndexes needs a nonempty list 'indexes'")
    for spec in specs:
        context.store.create_index(collection, dict(spec))
    reply: dict[str, Any] = {"numIndexesBefore": before, "numIndexesAfter": len(collection.indexes)}
    if reply["numIndexesAfter"] == before:
        reply["note"] = "all indexes already exist"
    return {**reply, "createdCollectionAutomatically": not existed}


@command("listIndexes", action="listIndexes")
def list_indexes(context: Context) -> dict[str, Any]:
    """List a collection's indexes."""
    collection = _existing(context)
    listed = [index.listing() for index in collection.indexes.values()]
    return cursor_reply(context, collection.namespace, listed, None, single=True)


@command("dropIndexes", "deleteIndexes", action="dropIndex")
def drop_indexes(context: Context) -> dict[str, Any]:
    """Drop indexes by name or key; ``*`` drops all but the one on ``_id``."""
    collection = _existing(context)
    before, which = len(collection.indexes), context.command.get("index")
    if which == "*":
        names = [name for name in collection.indexes if name != "_id_"]
    elif isinstance(which, dict):
        fields = [(path, 1 if direction > 0 else -1) for path, direction in which.items()]
        names = [index.name for index in collection.indexes.values() if index.fields == fields]
        if not names:
            raise CommandError(27, f"can't find index with key: {which}")
    else:
        names = [str(name) for name in (which if isinstance(which, list) else [which])]
    for name in names:
        context.store.drop_index(collection, name)
    return {"nIndexesWas": before}
