"""find, getMore, killCursors, count, distinct, aggregate, explain."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.embedded.aggregation import run_pipeline, unique, whole_argument
from launchpad.embedded.collection import Collection, Record, encode_document
from launchpad.embedded.commands.grouping import from_index
from launchpad.embedded.commands.registry import Context, command
from launchpad.embedded.errors import CommandError
from launchpad.embedded.expressions import path_values
from launchpad.embedded.filters import compile_filter
from launchpad.embedded.planner import group_prefix
from launchpad.embedded.projections import compile_projection
from launchpad.embedded.wire import MAX_DOCUMENT, raw_document

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bson.raw_bson import RawBSONDocument

__all__: list[str] = []

_FIRST_BATCH = 101
_MOST_CURSORS = 2000
_UNSUPPORTED = ("collation", "tailable", "awaitData", "min", "max")


def _refuse(context: Context, *names: str) -> None:
    for name in names:
        if context.command.get(name):
            raise CommandError(238, f"'{name}' is not supported by the embedded server")


def _take(rest: list[Any], count: int | None) -> tuple[list[RawBSONDocument], list[Any]]:
    """Cut a batch off a result: at most `count` items, and not more than fits a reply."""
    batch: list[RawBSONDocument] = []
    size = 0
    for item in rest if count is None else rest[:count]:
        raw = item.raw if isinstance(item, Record) else encode_document(item)
        size += len(raw)
        if batch and size > MAX_DOCUMENT:
            break
        batch.append(raw_document(raw))
    return batch, rest[len(batch) :]


def cursor_reply(
    context: Context, namespace: str, items: list[Any], batch: int | None, *, single: bool
) -> dict[str, Any]:
    """Answer with the first batch of a result and a cursor for the rest."""
    first, rest = _take(items, batch)
    number = 0
    if rest and not single:
        number = context.cursors.open(namespace, context.owner, rest)
        context.cursors.trim(_MOST_CURSORS)
    return {"cursor": {"firstBatch": first, "id": number, "ns": namespace}}


@command("find", action="find")
def find(context: Context) -> dict[str, Any]:
    """Find documents."""
    _refuse(context, *_UNSUPPORTED)
    body = context.command
    name = context.collection_name()
    limit, skip = context.whole("limit"), context.whole("skip")
    if skip < 0:
        raise CommandError(51024, f"'skip' must not be negative, as {skip}")
    batch = context.whole("batchSize", _FIRST_BATCH)
    single = bool(body.get("singleBatch"))
    if limit < 0:
        limit, single = -limit, True
    projection = compile_projection(body.get("projection") or {})
    collection = context.store.get(context.database, name)
    query = body.get("filter") or {}
    records: list[Any] = []
    if collection is None:
        compile_filter(query)  # a malformed filter is an error all the same
    else:
        records = collection.find(query, body.get("sort"), skip=skip, limit=limit)
    items = records if projection is None else _projected(records, projection)
    return cursor_reply(context, f"{context.database}.{name}", items, batch, single=single)


def _projected(records: list[Record], projection: Any) -> list[Any]:
    return [projection(record.document) for record in records]


@command("getMore", action="login", pure=False)
def get_more(context: Context) -> dict[str, Any]:
    """Return the next batch of a cursor."""
    target = context.collection_name("collection")
    if not target.startswith("$cmd."):  # such a list was made for this user alone
        context.require("find", collection=target)
    number = context.whole("getMore")
    namespace, rest = context.cursors.take(number, context.owner)
    if namespace != f"{context.database}.{context.command.get('collection')}":
        context.cursors.put_back(number, namespace, context.owner, rest)
        raise CommandError(13, f"cursor {number} belongs to {namespace}, not to the collection asked for")
    batch, rest = _take(rest, context.whole("batchSize") or None)
    if rest:
        context.cursors.put_back(number, namespace, context.owner, rest)
    return {"cursor": {"nextBatch": batch, "id": number if rest else 0, "ns": namespace}}


@command("killCursors", action="login", pure=False)
def kill_cursors(context: Context) -> dict[str, Any]:
    """Close cursors."""
    killed, missing = [], []
    for number in context.array("cursors"):
        if not isinstance(number, int):
            raise CommandError(14, f"'cursors' must hold the numbers of cursors, not {number!r}")
        try:
            context.cursors.take(number, context.owner)
            killed.append(number)
        except CommandError:
            missing.append(number)
    return {"cursorsKilled": killed, "cursorsNotFound": missing, "cursorsAlive": [], "cursorsUnknown": []}


@command("count", action="find")
def count(context: Context) -> dict[str, Any]:
    """Count matches, as the deprecated ``count`` command does."""
    _refuse(context, "collation")
    collection = context.collection()
    total = 0 if collection is None else collection.count(context.command.get("query") or {})
    skip, limit = context.whole("skip"), abs(context.whole("limit"))
    if skip < 0:
        raise CommandError(51024, f"'skip' must not be negative, as {skip}")
    total = max(0, total - skip)
    return {"n": min(total, limit) if limit else total}


@command("distinct", action="find")
def distinct(context: Context) -> dict[str, Any]:
    """List the distinct values of a field."""
    _refuse(context, "collation")
    collection = context.collection()
    key, query = context.command.get("key"), context.command.get("query") or {}
    if not isinstance(key, str):
        raise CommandError(14, "'key' must be a field name")
    if collection is None:
        return {"values": []}
    fast = group_prefix(list(collection.indexes.values()), query, key)
    if fast is not None:
        values = [value for value, _ in from_index(collection, fast, key)]
        if None not in values:
            return {"values": values}
    found = (record.document for record in collection.find(query))
    return {"values": unique(value for document in found for value in path_values(document, key))}


class _Lookup:
    """Lets ``$lookup`` reach the collections of the same database."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def find(self, collection: str, query: dict[str, Any]) -> Iterable[dict[str, Any]]:
        if collection.startswith("system."):
            raise CommandError(13, f"$lookup from {collection} is not allowed")
        self._context.require("find", collection=collection)
        target = self._context.store.get(self._context.database, collection)
        return [] if target is None else [record.document for record in target.find(query)]


@command("aggregate", action="find")
def aggregate(context: Context) -> dict[str, Any]:
    """Run an aggregation pipeline over one collection."""
    _refuse(context, "collation")
    stages = context.command.get("pipeline")
    if not isinstance(stages, list):
        raise CommandError(14, "'pipeline' must be an array")
    if not isinstance(context.command.get("aggregate"), str):
        raise CommandError(238, "aggregations without a collection are not supported by the embedded server")
    for stage in stages:
        if isinstance(stage, dict) and next(iter(stage), "") in ("$out", "$merge", "$changeStream"):
            raise CommandError(238, f"{next(iter(stage))} is not supported by the embedded server")
    name = context.collection_name()
    collection = context.store.get(context.database, name)
    if collection is None:
        items: list[Any] = list(run_pipeline([], stages, _Lookup(context)))
    else:
        items = list(_aggregate(context, collection, stages))
    options = context.command.get("cursor") or {}
    return cursor_reply(
        context, f"{context.database}.{name}", items, options.get("batchSize", _FIRST_BATCH), single=False
    )


def _aggregate(context: Context, collection: Collection, stages: list[Any]) -> Iterable[Any]:
    """Answer leading $match, $sort, $skip and $limit by a query and counts from an index alone."""
    query: dict[str, Any] = {}
    rest = list(stages)
    if rest and isinstance(rest[0], dict) and list(rest[0]) == ["$match"]:
        query = rest.pop(0)["$match"]
    if rest and isinstance(rest[0], dict) and list(rest[0]) == ["$group"]:
        groups = _counted_groups(collection, query, rest[0]["$group"])
        if groups is not None:
            return run_pipeline(groups, rest[1:], _Lookup(context))
    if (
        rest
        and isinstance(rest[0], dict)
        and list(rest[0]) == ["$count"]
        and isinstance(rest[0]["$count"], str)
    ):
        total = collection.count(query)
        groups = [{rest[0]["$count"]: total}] if total else []
        return run_pipeline(groups, rest[1:], _Lookup(context))
    sort, skip, limit = None, 0, 0
    if rest and isinstance(rest[0], dict) and list(rest[0]) == ["$sort"]:
        sort = rest.pop(0)["$sort"]
    if rest and isinstance(rest[0], dict) and list(rest[0]) == ["$skip"]:
        skip = whole_argument("$skip", rest.pop(0)["$skip"], 0)
    if rest and isinstance(rest[0], dict) and list(rest[0]) == ["$limit"]:
        limit = whole_argument("$limit", rest.pop(0)["$limit"], 1)
    records = collection.find(query, sort, skip=skip, limit=limit)
    if not rest:
        return records
    return run_pipeline((record.document for record in records), rest, _Lookup(context))


def _counted_groups(collection: Collection, query: Any, spec: Any) -> list[dict[str, Any]] | None:
    """Answer a ``$group`` that only counts from index keys; None when it does more."""
    if not isinstance(spec, dict) or not isinstance(query, dict) or "_id" not in spec:
        return None
    counts: dict[str, int] = {}
    for name, accumulator in spec.items():
        if name == "_id":
            continue
        if accumulator == {"$count": {}}:
            counts[name] = 1
        elif isinstance(accumulator, dict) and type(accumulator.get("$sum")) is int and len(accumulator) == 1:
            counts[name] = accumulator["$sum"]
        else:
            return None
    key = spec["_id"]
    if key is None or isinstance(key, int | float) or (isinstance(key, str) and not key.startswith("$")):
        total = collection.count(query)
        return [{"_id": key, **{name: n * total for name, n in counts.items()}}] if total else []
    if not isinstance(key, str) or key.startswith("$$"):
        return None
    fast = group_prefix(list(collection.indexes.values()), query, key[1:])
    if fast is None:
        return None
    groups = from_index(collection, fast, key[1:])
    return [{"_id": value, **{name: n * total for name, n in counts.items()}} for value, total in groups]


@command("explain", action="login")
def explain(context: Context) -> dict[str, Any]:
    """Tell which index a find, count or delete would use."""
    inner = context.command.get("explain")
    if not isinstance(inner, dict):
        raise CommandError(14, "'explain' must be a command document")
    name = str(next(iter(inner.values()), ""))
    context.require("find", collection=name)
    collection = context.store.get(context.database, name)
    plan = None
    if collection is not None:
        query = inner.get("filter") or inner.get("query") or {}
        plan = collection.plan(query, inner.get("sort"), limited=bool(inner.get("limit")))
    if plan is None or not plan.scans:
        return {"queryPlanner": {"winningPlan": {"stage": "COLLSCAN"}}}
    stages = [{"stage": "IXSCAN", "indexName": index.name} for index, _ in plan.scans]
    winning = {"stage": "FETCH", "inputStage": stages[0], "inputStages": stages, "keysExamined": plan.keys}
    return {"queryPlanner": {"winningPlan": winning, "ordered": plan.ordered, "exact": plan.exact}}
