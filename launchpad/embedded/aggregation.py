"""Aggregation pipelines over iterables of documents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Protocol

from launchpad.embedded.accumulators import compile_group
from launchpad.embedded.errors import CommandError
from launchpad.embedded.expressions import compile_expression, compile_fields, path_values
from launchpad.embedded.filters import compile_filter
from launchpad.embedded.projections import compile_projection
from launchpad.embedded.sorting import compile_sort
from launchpad.embedded.values import MISSING, encode, is_whole

__all__ = ["Source", "compile_document_stages", "run_pipeline", "whole_argument"]

Documents = Iterable[dict[str, Any]]
Stage = Callable[[Documents], Documents]


class Source(Protocol):
    """Where ``$lookup`` finds the documents of other collections."""

    def find(self, collection: str, query: dict[str, Any]) -> Documents:
        """Return the documents of a collection of the same database that match."""
        ...


def run_pipeline(
    documents: Documents, stages: list[Any], source: Source, variables: dict[str, Any] | None = None
) -> Documents:
    """Run stages over documents, lazily where a stage allows it.

    Raises
    ------
    CommandError
        For an unknown stage or a malformed argument; the message names it.
    """
    for stage in stages:
        documents = compile_stage(stage, source, variables or {})(documents)
    return documents


def compile_stage(stage: Any, source: Source, variables: dict[str, Any]) -> Stage:
    """Compile one stage document such as ``{"$match": {...}}``."""
    if not isinstance(stage, dict) or len(stage) != 1:
        raise CommandError(40323, "a pipeline stage must be a document with exactly one field")
    name, argument = next(iter(stage.items()))
    if name in _DOCUMENT_STAGES:
        transform = _document_stage(name, argument)
        return lambda documents: map(transform, documents)
    if name == "$match":
        predicate = compile_filter(argument, variables=variables)
        return lambda documents: filter(predicate, documents)
    if name == "$lookup":
        return _lookup(argument, source, variables)
    if name == "$facet":
        return _facet(argument, source, variables)
    builder = _STAGES.get(name)
    if builder is None:
        raise CommandError(40324, f"unrecognized pipeline stage name: '{name}'")
    return builder(argument)


_DOCUMENT_STAGES = ("$project", "$addFields", "$set", "$unset", "$replaceRoot", "$replaceWith")


def _document_stage(name: str, argument: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    if name in ("$addFields", "$set"):
        fields = compile_fields(_document(name, argument))
        return lambda document: fields(document, document)
    if name == "$unset":
        names = argument if isinstance(argument, list) else [argument]
        if not names or not all(isinstance(field, str) for field in names):
            raise CommandError(31002, "$unset needs a field name, or a list of them")
        name, argument = "$project", dict.fromkeys(names, 0)
    if name == "$project":
        if not _document(name, argument):
            raise CommandError(51272, "$project needs at least one field")
        projection = compile_projection(argument)
        return projection or (lambda document: document)
    root = compile_expression(
        argument if name == "$replaceWith" else _document(name, argument).get("newRoot")
    )

    def replace(document: dict[str, Any]) -> dict[str, Any]:
        value = root(document, {"ROOT": document})
        if not isinstance(value, dict):
            raise CommandError(40228, "'newRoot' must evaluate to a document")
        return value

    return replace


def _document(name: str, argument: Any) -> dict[str, Any]:
    if not isinstance(argument, dict):
        raise CommandError(15955, f"the {name} stage needs a document")
    return argument


def compile_document_stages(stages: list[Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Compile the pipeline of an update, where only stages of one document to one are allowed."""
    steps = []
    for stage in stages:
        if not isinstance(stage, dict) or len(stage) != 1 or next(iter(stage)) not in _DOCUMENT_STAGES:
            raise CommandError(9, f"an update pipeline may hold only {', '.join(_DOCUMENT_STAGES)}")
        steps.append(_document_stage(*next(iter(stage.items()))))

    def run(document: dict[str, Any]) -> dict[str, Any]:
        for step in steps:
            document = step(document)
        return document

    return run


def whole_argument(name: str, argument: Any, least: int) -> int:
    """Return the whole number that a stage needs."""
    if not is_whole(argument) or not least <= argument < 2**63:
        raise CommandError(15957, f"{name} needs an integer of at least {least}, not {argument!r}")
    return int(argument)


def _limit(argument: Any) -> Stage:
    count = whole_argument("$limit", argument, 1)
    return lambda documents: islice(documents, count)


def _skip(argument: Any) -> Stage:
    count = whole_argument("$skip", argument, 0)
    return lambda documents: islice(documents, count, None)


def _sort(argument: Any) -> Stage:
    order = compile_sort(argument)
    return lambda documents: order(list(documents))


def _count(argument: Any) -> Stage:
    if not isinstance(argument, str) or not argument or argument.startswith("$") or "." in argument:
        raise CommandError(40156, "the count field must be a nonempty name without $ and dots")

    def run(documents: Documents) -> Documents:
        total = sum(1 for _ in documents)
        return [{argument: total}] if total else []

    return run


def _unwind(argument: Any) -> Stage:
    options = {"path": argument} if isinstance(argument, str) else argument
    path = options.get("path") if isinstance(options, dict) else None
    if not isinstance(path, str) or not path.startswith("$"):
        raise CommandError(28818, f"the path of $unwind must start with '$', not {path!r}")
    name, keep, index_name = (
        path[1:],
        options.get("preserveNullAndEmptyArrays"),
        options.get("includeArrayIndex"),
    )
    get = compile_expression(path)

    def run(documents: Documents) -> Iterator[dict[str, Any]]:
        for document in documents:
            value = get(document, {})
            rows: list[tuple[Any, int | None]]
            if isinstance(value, list):
                rows = [(item, index) for index, item in enumerate(value)]
                if not rows and keep:
                    rows = [(MISSING, None)]
            elif value is MISSING or value is None:
                rows = [(value, None)] if keep else []
            else:
                rows = [(value, None)]
            for item, index in rows:
                result = _with_value(document, name.split("."), item)
                if index_name:
                    result = _with_value(result, index_name.split("."), index)
                yield result

    return run


def _with_value(document: dict[str, Any], parts: list[str], value: Any) -> dict[str, Any]:
    copy = dict(document)
    if len(parts) > 1:
        inner = copy.get(parts[0])
        copy[parts[0]] = _with_value(inner if isinstance(inner, dict) else {}, parts[1:], value)
    elif value is MISSING:
        copy.pop(parts[0], None)
    else:
        copy[parts[0]] = value
    return copy


def _sort_by_count(argument: Any) -> Stage:
    group = compile_group({"_id": argument, "count": {"$sum": 1}})
    order = compile_sort({"count": -1})
    return lambda documents: order(list(group(documents)))


def _group(argument: Any) -> Stage:
    return compile_group(_document("$group", argument))


def _sample(argument: Any) -> Stage:
    import random

    size = whole_argument("$sample", _document("$sample", argument).get("size"), 0)

    def run(documents: Documents) -> Documents:
        pool = list(documents)
        return random.sample(pool, min(size, len(pool)))

    return run


def _lookup(argument: Any, source: Source, variables: dict[str, Any]) -> Stage:
    options = _document("$lookup", argument)
    target, name = options.get("from"), options.get("as")
    if not isinstance(target, str) or not isinstance(name, str):
        raise CommandError(9, "$lookup needs 'from' and 'as'")
    pipeline = options.get("pipeline", [])
    bindings = {key: compile_expression(value) for key, value in options.get("let", {}).items()}
    local, foreign = options.get("localField"), options.get("foreignField")
    if (local is None) != (foreign is None) or (local is None and "pipeline" not in options):
        raise CommandError(9, "$lookup needs localField and foreignField, or a pipeline")

    def run(documents: Documents) -> Iterator[dict[str, Any]]:
        for document in documents:
            query: dict[str, Any] = {}
            if local is not None:
                wanted = path_values(document, local) or [None]
                query = {str(foreign): {"$in": wanted} if len(wanted) > 1 else {"$eq": wanted[0]}}
            inner = {
                **variables,
                **{key: value(document, {"ROOT": document}) for key, value in bindings.items()},
            }
            found = run_pipeline(source.find(target, query), pipeline, source, inner)
            yield _with_value(document, name.split("."), list(found))

    return run


def _facet(argument: Any, source: Source, variables: dict[str, Any]) -> Stage:
    facets = _document("$facet", argument)
    if not all(isinstance(stages, list) for stages in facets.values()):
        raise CommandError(40170, "$facet needs a list of stages for each name")

    def run(documents: Documents) -> Documents:
        pool = list(documents)
        return [
            {name: list(run_pipeline(pool, stages, source, variables)) for name, stages in facets.items()}
        ]

    return run


_STAGES: dict[str, Callable[[Any], Stage]] = {
    "$limit": _limit,
    "$skip": _skip,
    "$sort": _sort,
    "$count": _count,
    "$unwind": _unwind,
    "$sortByCount": _sort_by_count,
    "$group": _group,
    "$sample": _sample,
}


def unique(values: Iterable[Any]) -> list[Any]:
    """Return distinct values in MongoDB's order."""
    found: dict[bytes, Any] = {}
    for value in values:
        found.setdefault(encode(value), value)
    return [found[key] for key in sorted(found)]
