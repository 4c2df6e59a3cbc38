"""insert, update, delete, findAndModify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.embedded.commands.registry import Context, command
from launchpad.embedded.errors import CommandError
from launchpad.embedded.projections import compile_projection
from launchpad.embedded.updates import compile_update, upsert_seed
from launchpad.embedded.wire import decode, raw_document

if TYPE_CHECKING:
    from collections.abc import Callable

    from launchpad.embedded.collection import Collection, Record

__all__: list[str] = []


def _target(context: Context) -> str:
    name = context.collection_name()
    if name.startswith("system."):
        raise CommandError(13, f"writing to {context.database}.{name} is not allowed; use the user commands")
    return name


def _statements(
    context: Context, statements: list[Any], run: Callable[[Any], int]
) -> tuple[int, list[dict[str, Any]]]:
    """Run the statements of a write command; each is undone by itself when it fails."""
    total, errors = 0, []
    for position, statement in enumerate(statements):
        mark = context.transaction.mark()
        try:
            total += run(statement)
        except CommandError as error:
            context.transaction.rollback(mark)
            errors.append(error.write_error(position))
            if context.command.get("ordered", True):
                break
    return total, errors


def _reply(total: int, errors: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    reply = {"n": total, **more}
    if errors:
        reply["writeErrors"] = errors
    return reply


def _decoded(statement: Any) -> dict[str, Any]:
    return decode(statement) if isinstance(statement, bytes) else statement


@command("insert", action="insert")
def insert(context: Context) -> dict[str, Any]:
    """Insert documents."""
    collection = context.store.ensure(context.database, _target(context))

    def run(document: Any) -> int:
        collection.insert(document, context.transaction)
        return 1

    return _reply(*_statements(context, context.documents("documents"), run))


def _first(collection: Collection, query: dict[str, Any], sort: Any = None) -> Record | None:
    found = collection.find(query, sort, limit=1)
    return found[0] if found else None


@command("update", action="update")
def update(context: Context) -> dict[str, Any]:
    """Update or replace documents."""
    name = _target(context)
    statements = [_decoded(statement) for statement in context.documents("updates")]
    if any(statement.get("upsert") for statement in statements):
        context.require("insert", collection=name)
    modified = 0
    upserted: list[dict[str, Any]] = []

    def run(statement: Any) -> int:
        nonlocal modified
        _refuse_collation(statement)
        query, many = statement.get("q") or {}, bool(statement.get("multi"))
        if many and not _has_operators(statement.get("u")):
            raise CommandError(9, "multi update is not supported for replacement-style update")
        change = compile_update(statement.get("u"), statement.get("arrayFilters"))
        collection = context.store.get(context.database, name)
        matched = 0
        if collection is not None:
            found = collection.find(query, statement.get("sort"), limit=0 if many else 1)
            matched = len(found)
            for record in found:
                modified += (
                    collection.replace(record, change(record.copy(), False), context.transaction)
                    is not record
                )
        if not matched and statement.get("upsert"):
            collection = context.store.ensure(context.database, name)
            record = collection.insert(change(upsert_seed(query), True), context.transaction)
            upserted.append({"index": len(seen), "_id": record.document["_id"]})
            matched = 1
        seen.append(1)
        return matched

    seen: list[int] = []
    total, errors = _statements(context, statements, run)
    more: dict[str, Any] = {"nModified": modified}
    if upserted:
        more["upserted"] = upserted
    return _reply(total, errors, **more)


def _has_operators(change: Any) -> bool:
    return isinstance(change, list) or (isinstance(change, dict) and next(iter(change), "").startswith("$"))


def _refuse_collation(statement: dict[str, Any]) -> None:
    if statement.get("collation"):
        raise CommandError(238, "collations are not supported by the embedded server")


@command("delete", action="remove")
def delete(context: Context) -> dict[str, Any]:
    """Delete documents."""
    collection = context.store.get(context.database, _target(context))

    def run(statement: Any) -> int:
        statement = _decoded(statement)
        _refuse_collation(statement)
        if collection is None:
            return 0
        found = collection.find(statement.get("q") or {}, limit=context_limit(statement))
        for record in found:
            collection.delete(record, context.transaction)
        return len(found)

    return _reply(*_statements(context, context.documents("deletes"), run))


def context_limit(statement: dict[str, Any]) -> int:
    """Return the limit of a delete statement: 0 (all) or 1."""
    limit = statement.get("limit", 0)
    if limit not in (0, 1):
        raise CommandError(9, f"the limit of a delete must be 0 or 1, not {limit!r}")
    return int(limit)


@command("findAndModify", action="find")
def find_and_modify(context: Context) -> dict[str, Any]:
    """Update, replace or remove one document and return it."""
    body = context.command
    _refuse_collation(body)
    name = _target(context)
    remove, change = bool(body.get("remove")), body.get("update")
    if remove == (change is not None):
        raise CommandError(9, "findAndModify needs either 'remove' or 'update'")
    context.require("remove" if remove else "update", collection=name)
    if body.get("upsert"):
        context.require("insert", collection=name)
    compiled = None if remove else compile_update(change, body.get("arrayFilters"))
    query = body.get("query") or {}
    collection = context.store.get(context.database, name)
    old = None if collection is None else _first(collection, query, body.get("sort"))
    new: Record | None = None
    last: dict[str, Any] = {"n": int(old is not None)}
    if collection is not None and old is not None:
        if compiled is None:
            collection.delete(old, context.transaction)
        else:
            new = collection.replace(old, compiled(old.copy(), False), context.transaction)
    elif compiled is not None and body.get("upsert"):
        collection = context.store.ensure(context.database, name)
        new = collection.insert(compiled(upsert_seed(query), True), context.transaction)
        last = {"n": 1, "upserted": new.document["_id"]}
    if compiled is not None:
        last = {"n": last["n"], "updatedExisting": old is not None, **last}
    shown = new if body.get("new") else old
    projection = compile_projection(body.get("fields") or {})
    value: Any = None
    if shown is not None:
        value = raw_document(shown.raw) if projection is None else projection(shown.document)
    return {"lastErrorObject": last, "value": value}
