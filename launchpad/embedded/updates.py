"""Update operators on one document, compiled once per statement."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable
from typing import Any

from bson import ObjectId, Timestamp

from launchpad.embedded.aggregation import compile_document_stages
from launchpad.embedded.errors import CommandError
from launchpad.embedded.filters import compile_filter, is_operator_document
from launchpad.embedded.values import MISSING, as_number, encode, equal, is_number, type_name

__all__ = ["Update", "compile_update", "upsert_seed"]

Update = Callable[[dict[str, Any], bool], dict[str, Any]]
_Operator = Callable[[dict[str, Any]], None]


def compile_update(update: Any, array_filters: list[Any] | None = None) -> Update:
    """Compile an update (operators, whole document or pipeline).

    Parameters
    ----------
    update
        The update as sent by a client.
    array_filters
        Not supported; anything but empty is refused.

    Returns
    -------
    Update
        Function of (document, inserting) that returns the new document; it may change the document
        it is given, which therefore must be the caller's own copy.
    """
    if array_filters:
        raise CommandError(238, "arrayFilters are not supported by the embedded server")
    if isinstance(update, list):
        return _pipeline(update)
    if not isinstance(update, dict):
        raise CommandError(9, "an update must be a document or a pipeline")
    operators = [name.startswith("$") for name in update]
    if not any(operators):
        return _replacement(update)
    if not all(operators):
        raise CommandError(9, "an update mixes operators and plain fields")
    return _operators(update)


def _replacement(new: dict[str, Any]) -> Update:
    def replace(document: dict[str, Any], inserting: bool) -> dict[str, Any]:
        if "_id" in new:
            if "_id" in document and not equal(document["_id"], new["_id"]):
                raise CommandError(66, "the immutable field '_id' cannot be changed by a replacement")
            return {"_id": new["_id"], **new}
        return {"_id": document["_id"], **new} if "_id" in document else dict(new)

    return replace


def _pipeline(stages: list[Any]) -> Update:
    run = compile_document_stages(stages)

    def apply(document: dict[str, Any], inserting: bool) -> dict[str, Any]:
        new = run(document)
        if "_id" in document and not equal(new.get("_id", MISSING), document["_id"]):
            if "_id" in new:
                raise CommandError(66, "the immutable field '_id' cannot be changed by an update")
            new = {"_id": document["_id"], **new}
        return new

    return apply


def _operators(update: dict[str, Any]) -> Update:
    steps: list[tuple[bool, _Operator]] = []
    paths: list[tuple[str, ...]] = []
    for operator, fields in update.items():
        build = _BUILDERS.get(operator)
        if build is None:
            raise CommandError(9, f"unknown update operator: {operator}")
        if not isinstance(fields, dict):
            raise CommandError(9, f"the argument of {operator} must be a document")
        for name, argument in fields.items():
            paths.append(_checked(name))
            if operator == "$rename":
                paths.append(_checked(argument))
            steps.append((operator == "$setOnInsert", build(paths[-1], argument, name)))
    _check_conflicts(paths)

    def apply(document: dict[str, Any], inserting: bool) -> dict[str, Any]:
        identity = document.get("_id", MISSING)
        for only_insert, step in steps:
            if inserting or not only_insert:
                step(document)
        if identity is not MISSING and not ("_id" in document and equal(document["_id"], identity)):
            raise CommandError(66, "the immutable field '_id' cannot be changed by an update")
        return document

    return apply


def _checked(path: Any) -> tuple[str, ...]:
    if not isinstance(path, str) or not path:
        raise CommandError(56, "an update path must be a nonempty string")
    parts = tuple(path.split("."))
    if "" in parts:
        raise CommandError(56, f"the update path '{path}' contains an empty field name")
    if any(part == "$" or part.startswith("$[") for part in parts):
        raise CommandError(238, f"positional updates ('{path}') are not supported by the embedded server")
    if parts[0].startswith("$"):
        raise CommandError(52, f"the dollar-prefixed field '{path}' is not valid for storage")
    return parts


def _check_conflicts(paths: list[tuple[str, ...]]) -> None:
    ordered = sorted(paths)
    for first, second in itertools.pairwise(ordered):
        if second[: len(first)] == first:
            name = ".".join(second)
            raise CommandError(
                40, f"updating the path '{name}' would create a conflict at '{'.'.join(first)}'"
            )


def _index(part: str, path: tuple[str, ...]) -> int:
    if not part.isdigit():
        raise CommandError(28, f"cannot create field '{part}' in an array (path '{'.'.join(path)}')")
    index = int(part)
    if index > 1_500_000:
        raise CommandError(2, f"array index {index} is too large")
    return index


def _parent(document: dict[str, Any], path: tuple[str, ...], *, create: bool) -> Any:
    """Return the container of the last component, or MISSING when it is absent and not created."""
    value: Any = document
    for part in path[:-1]:
        if isinstance(value, dict):
            child = value.get(part, MISSING)
            if child is MISSING:
                if not create:
                    return MISSING
                child = value[part] = {}
        elif isinstance(value, list):
            child = _element(value, _index(part, path), create=create)
        else:
            child = MISSING
        if child is MISSING or not isinstance(child, dict | list):
            if not create:
                return MISSING
            raise CommandError(
                28, f"cannot create field '{part}' of '{'.'.join(path)}': its parent is a value"
            )
        value = child
    return value


def _element(array: list[Any], index: int, *, create: bool) -> Any:
    if index < len(array):
        return array[index]
    if not create:
        return MISSING
    array.extend([None] * (index - len(array)))
    array.append({})
    return array[index]


def _get(container: Any, part: str) -> Any:
    if isinstance(container, dict):
        return container.get(part, MISSING)
    if isinstance(container, list) and part.isdigit() and int(part) < len(container):
        return container[int(part)]
    return MISSING


def _put(document: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    container = _parent(document, path, create=True)
    if isinstance(container, dict):
        container[path[-1]] = value
        return
    index = _index(path[-1], path)
    if index < len(container):
        container[index] = value
    else:
        container.extend([None] * (index - len(container)))
        container.append(value)


def _current(document: dict[str, Any], path: tuple[str, ...]) -> Any:
    container = _parent(document, path, create=False)
    return MISSING if container is MISSING else _get(container, path[-1])


def _set(path: tuple[str, ...], value: Any, name: str) -> _Operator:
    return lambda document: _put(document, path, _copy(value))


def _copy(value: Any) -> Any:
    """Copy containers, so that one update applied to many documents shares nothing between them."""
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_copy(item) for item in value]
    return value


def _unset(path: tuple[str, ...], value: Any, name: str) -> _Operator:
    def step(document: dict[str, Any]) -> None:
        container = _parent(document, path, create=False)
        if isinstance(container, dict):
            container.pop(path[-1], None)
        elif isinstance(container, list) and _get(container, path[-1]) is not MISSING:
            container[int(path[-1])] = None

    return step


def _arithmetic(operator: str, combine: Callable[[Any, Any], Any], start: Any) -> Callable[..., _Operator]:
    def build(path: tuple[str, ...], amount: Any, name: str) -> _Operator:
        if not is_number(amount):
            raise CommandError(14, f"cannot {operator} '{name}' with a value of type {type_name(amount)}")

        def step(document: dict[str, Any]) -> None:
            old = _current(document, path)
            if old is MISSING:
                _put(document, path, amount if start is None else start * amount)
                return
            if not is_number(old):
                raise CommandError(14, f"cannot apply {operator} to '{name}' of type {type_name(old)}")
            _put(document, path, as_number(combine(old, amount), old, amount, name))

        return step

    return build


def _extremum(keep_new: Callable[[bytes, bytes], bool]) -> Callable[..., _Operator]:
    def build(path: tuple[str, ...], value: Any, name: str) -> _Operator:
        def step(document: dict[str, Any]) -> None:
            old = _current(document, path)
            if old is MISSING or keep_new(encode(value), encode(old)):
                _put(document, path, _copy(value))

        return step

    return build


def _array_at(document: dict[str, Any], path: tuple[str, ...], operator: str, name: str) -> list[Any] | None:
    value = _current(document, path)
    if value is MISSING:
        return None
    if not isinstance(value, list):
        raise CommandError(2, f"the field '{name}' must be an array for {operator} but is {type_name(value)}")
    return value


def _push(path: tuple[str, ...], argument: Any, name: str) -> _Operator:
    modifiers: dict[str, Any] = {}
    values = [argument]
    if isinstance(argument, dict) and "$each" in argument:
        modifiers = argument
        unknown = set(argument) - {"$each", "$slice", "$sort", "$position"}
        if unknown:
            raise CommandError(2, f"unrecognized clause in $push: {sorted(unknown)[0]}")
        values = argument["$each"]
        if not isinstance(values, list):
            raise CommandError(2, "the argument of $each in $push must be an array")

    def step(document: dict[str, Any]) -> None:
        array = _array_at(document, path, "$push", name)
        if array is None:
            array = []
            _put(document, path, array)
        position = modifiers.get("$position", len(array))
        array[position:position] = [_copy(value) for value in values]
        if "$sort" in modifiers:
            _sort_array(array, modifiers["$sort"])
        limit = modifiers.get("$slice")
        if limit is not None:
            array[:] = array[:limit] if limit >= 0 else array[limit:]

    return step


def _sort_array(array: list[Any], order: Any) -> None:
    if not isinstance(order, dict):
        array.sort(key=encode, reverse=order < 0)
        return
    for field, direction in reversed(list(order.items())):
        parts = tuple(field.split("."))

        def key(item: Any, parts: tuple[str, ...] = parts) -> bytes:
            return encode(_current(item, parts)) if isinstance(item, dict) else b""

        array.sort(key=key, reverse=direction < 0)


def _add_to_set(path: tuple[str, ...], argument: Any, name: str) -> _Operator:
    values = [argument]
    if isinstance(argument, dict) and "$each" in argument:
        values = argument["$each"]
        if not isinstance(values, list):
            raise CommandError(14, "the argument of $each in $addToSet must be an array")

    def step(document: dict[str, Any]) -> None:
        array = _array_at(document, path, "$addToSet", name)
        if array is None:
            array = []
            _put(document, path, array)
        present = {encode(item) for item in array}
        for value in values:
            key = encode(value)
            if key not in present:
                present.add(key)
                array.append(_copy(value))

    return step


def _pull(path: tuple[str, ...], condition: Any, name: str) -> _Operator:
    if is_operator_document(condition):
        on_value = compile_filter({"value": condition})

        def drop(item: Any) -> bool:
            return on_value({"value": item})
    elif isinstance(condition, dict):
        on_document = compile_filter(condition)

        def drop(item: Any) -> bool:
            return isinstance(item, dict) and on_document(item)
    else:
        wanted = compile_filter({"value": condition})

        def drop(item: Any) -> bool:
            return wanted({"value": item}) if not isinstance(item, list) else equal(item, condition)

    def step(document: dict[str, Any]) -> None:
        array = _array_at(document, path, "$pull", name)
        if array is not None:
            array[:] = [item for item in array if not drop(item)]

    return step


def _pull_all(path: tuple[str, ...], argument: Any, name: str) -> _Operator:
    if not isinstance(argument, list):
        raise CommandError(2, "$pullAll needs an array")
    unwanted = {encode(item) for item in argument}

    def step(document: dict[str, Any]) -> None:
        array = _array_at(document, path, "$pullAll", name)
        if array is not None:
            array[:] = [item for item in array if encode(item) not in unwanted]

    return step


def _pop(path: tuple[str, ...], argument: Any, name: str) -> _Operator:
    if argument not in (1, -1):
        raise CommandError(9, "$pop expects 1 or -1")

    def step(document: dict[str, Any]) -> None:
        array = _array_at(document, path, "$pop", name)
        if array:
            array.pop(0 if argument == -1 else -1)

    return step


def _rename(target: tuple[str, ...], argument: Any, name: str) -> _Operator:
    source = tuple(name.split("."))

    def step(document: dict[str, Any]) -> None:
        value = _current(document, source)
        if value is MISSING:
            return
        container = _parent(document, source, create=False)
        if not isinstance(container, dict):
            raise CommandError(2, f"the source field '{name}' of $rename is in an array")
        del container[source[-1]]
        _put(document, target, value)

    return step


def _current_date(path: tuple[str, ...], argument: Any, name: str) -> _Operator:
    stamp = isinstance(argument, dict) and argument.get("$type") == "timestamp"

    def step(document: dict[str, Any]) -> None:
        now = dt.datetime.now(dt.UTC).replace(tzinfo=None)
        now = now.replace(microsecond=now.microsecond // 1000 * 1000)
        _put(document, path, Timestamp(int(now.timestamp()), 1) if stamp else now)

    return step


_BUILDERS: dict[str, Callable[[tuple[str, ...], Any, str], _Operator]] = {
    "$set": _set,
    "$setOnInsert": _set,
    "$unset": _unset,
    "$inc": _arithmetic("$inc", lambda old, amount: old + amount, None),
    "$mul": _arithmetic("$mul", lambda old, amount: old * amount, 0),
    "$min": _extremum(lambda new, old: new < old),
    "$max": _extremum(lambda new, old: new > old),
    "$push": _push,
    "$addToSet": _add_to_set,
    "$pull": _pull,
    "$pullAll": _pull_all,
    "$pop": _pop,
    "$rename": _rename,
    "$currentDate": _current_date,
}


def upsert_seed(query: dict[str, Any]) -> dict[str, Any]:
    """Return the document an upsert starts from: the equalities of its filter."""
    seed: dict[str, Any] = {}
    for key, condition in query.items():
        if key == "$and":
            for part in condition:
                seed.update(upsert_seed(part))
        elif key == "$or" and len(condition) == 1:
            seed.update(upsert_seed(condition[0]))
        elif key.startswith("$"):
            continue
        elif is_operator_document(condition):
            if "$eq" in condition:
                _put(seed, tuple(key.split(".")), _copy(condition["$eq"]))
        else:
            _put(seed, tuple(key.split(".")), _copy(condition))
    return seed


def with_identity(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with ``_id`` as its first field, made up when absent."""
    if "_id" not in document:
        return {"_id": ObjectId(), **document}
    if next(iter(document)) != "_id":
        return {"_id": document["_id"], **document}
    return document
