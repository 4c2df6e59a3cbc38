"""Operators of aggregation expressions.

``EAGER`` maps a name to (function of evaluated arguments, fewest, most arguments); ``LAZY`` maps a name to
a compiler of the raw argument, for operators with named arguments, conditions or own variables.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from launchpad.embedded.errors import CommandError
from launchpad.embedded.expressions import Expression, Scope, compile_expression, none_if_missing, truthy
from launchpad.embedded.operators_dates import date_from_string, date_to_string, to_date
from launchpad.embedded.updates import as_number
from launchpad.embedded.values import MISSING, encode, is_number, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EAGER", "LAZY"]

_MANY = 1_000_000


def _null(*values: Any) -> bool:
    return any(value is None or value is MISSING for value in values)


def _numbers(name: str, *values: Any) -> None:
    for value in values:
        if not is_number(value):
            raise CommandError(16554, f"{name} only supports numeric types, not {type_name(value)}")


def _add(*values: Any) -> Any:
    import datetime as dt

    if _null(*values):
        return None
    total: Any = 0
    moment = None
    for value in values:
        if isinstance(value, dt.datetime) and moment is None:
            moment = value
            continue
        _numbers("$add", value)
        total = as_number(total + value, total, value, "$add")
    return moment + dt.timedelta(milliseconds=total) if moment is not None else total


def _subtract(a: Any, b: Any) -> Any:
    import datetime as dt

    if _null(a, b):
        return None
    if isinstance(a, dt.datetime):
        if isinstance(b, dt.datetime):
            return round((a - b).total_seconds() * 1000)
        return a - dt.timedelta(milliseconds=b)
    _numbers("$subtract", a, b)
    return as_number(a - b, a, b, "$subtract")


def _multiply(*values: Any) -> Any:
    if _null(*values):
        return None
    _numbers("$multiply", *values)
    result: Any = 1
    for value in values:
        result = as_number(result * value, result, value, "$multiply")
    return result


def _divide(a: Any, b: Any) -> Any:
    if _null(a, b):
        return None
    _numbers("$divide", a, b)
    if b == 0:
        raise CommandError(16608, "can't $divide by zero")
    return a / b


def _mod(a: Any, b: Any) -> Any:
    if _null(a, b):
        return None
    _numbers("$mod", a, b)
    if b == 0:
        raise CommandError(16610, "can't $mod by zero")
    result = math.fmod(a, b)
    return result if isinstance(a, float) or isinstance(b, float) else int(result)


def _unary(name: str, function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def apply(value: Any) -> Any:
        if _null(value):
            return None
        _numbers(name, value)
        return function(value)

    return apply


def _round(value: Any, places: Any = 0) -> Any:
    if _null(value, places):
        return None
    result = round(value, int(places))
    return type(value)(result)


def _compare(test: Callable[[bytes, bytes], Any]) -> Callable[[Any, Any], Any]:
    def key(value: Any) -> bytes:
        return b"\x02" if value is MISSING else encode(value)

    return lambda a, b: test(key(a), key(b))


def _concat(*values: Any) -> Any:
    if _null(*values):
        return None
    if not all(isinstance(value, str) for value in values):
        raise CommandError(16702, "$concat only supports strings")
    return "".join(values)


def _text(value: Any) -> str:
    if _null(value):
        return ""
    result = _to_string(value)
    return "" if result is None else result


def _substr_bytes(value: Any, start: Any, length: Any) -> str:
    raw = _text(value).encode()
    stop = len(raw) if length < 0 else int(start) + int(length)
    return raw[int(start) : stop].decode("utf-8", "ignore")


def _substr_points(value: Any, start: Any, length: Any) -> str:
    return _text(value)[int(start) : int(start) + int(length)]


def _to_string(value: Any) -> Any:
    import datetime as dt

    if _null(value):
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, dt.datetime):
        return date_to_string(value, None)
    if isinstance(value, float):
        return repr(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    if isinstance(value, int | ObjectId):
        return str(value)
    raise CommandError(241, f"unsupported conversion from {type_name(value)} to string")


def _to_int(value: Any) -> Any:
    import datetime as dt

    if _null(value):
        return None
    if isinstance(value, dt.datetime):
        return round((value - dt.datetime(1970, 1, 1)).total_seconds() * 1000)  # noqa: DTZ001 - BSON dates are naive UTC
    try:
        return int(value)
    except (TypeError, ValueError) as error:
        raise CommandError(241, f"failed to convert {value!r} to an integer") from error


def _to_double(value: Any) -> Any:
    if _null(value):
        return None
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise CommandError(241, f"failed to convert {value!r} to a double") from error


def _size(value: Any) -> int:
    if not isinstance(value, list):
        raise CommandError(
            17124, f"the argument to $size must be an array, but was of type {type_name(value)}"
        )
    return len(value)


def _element_at(array: Any, index: Any) -> Any:
    if _null(array, index):
        return None
    if not isinstance(array, list):
        raise CommandError(28689, "$arrayElemAt's first argument must be an array")
    position = int(index)
    return array[position] if -len(array) <= position < len(array) else MISSING


def _slice(array: Any, *arguments: Any) -> Any:
    if _null(array, *arguments):
        return None
    if len(arguments) == 1:
        count = int(arguments[0])
        return array[:count] if count >= 0 else array[count:]
    start = int(arguments[0]) if arguments[0] >= 0 else max(0, len(array) + int(arguments[0]))
    return array[start : start + int(arguments[1])]


def _contains(item: Any, array: Any) -> bool:
    if not isinstance(array, list):
        raise CommandError(40081, "$in requires an array as its second argument")
    key = encode(item)
    return any(encode(element) == key for element in array)


def _concat_arrays(*arrays: Any) -> Any:
    if _null(*arrays):
        return None
    return [item for array in arrays for item in array]


def _set_union(*arrays: Any) -> Any:
    if _null(*arrays):
        return None
    unique = {encode(item): item for array in arrays for item in array}
    return [unique[key] for key in sorted(unique)]


def _merge_objects(*documents: Any) -> dict[str, Any]:
    if len(documents) == 1 and isinstance(documents[0], list):
        documents = tuple(documents[0])
    merged: dict[str, Any] = {}
    for document in documents:
        if not _null(document):
            merged.update(document)
    return merged


def _object_to_array(document: Any) -> Any:
    return None if _null(document) else [{"k": name, "v": value} for name, value in document.items()]


def _array_to_object(array: Any) -> Any:
    if _null(array):
        return None
    pairs = [(item["k"], item["v"]) if isinstance(item, dict) else tuple(item) for item in array]
    return dict(pairs)


def _spread(function: Callable[[list[Any]], Any]) -> Callable[..., Any]:
    """Let $sum, $max ... take either several arguments or one array, ignoring nulls."""

    def apply(*values: Any) -> Any:
        if len(values) == 1 and isinstance(values[0], list):
            values = tuple(values[0])
        return function([value for value in values if not _null(value)])

    return apply


def _total(values: list[Any]) -> Any:
    total: Any = 0
    for value in values:
        if is_number(value):
            total = total + value
    return total


def _mean(values: list[Any]) -> Any:
    numbers = [value for value in values if is_number(value)]
    return _total(numbers) / len(numbers) if numbers else None


def _is_array(value: Any) -> bool:
    return isinstance(value, list)


EAGER: dict[str, tuple[Callable[..., Any], int, int]] = {
    "$add": (_add, 0, _MANY),
    "$subtract": (_subtract, 2, 2),
    "$multiply": (_multiply, 0, _MANY),
    "$divide": (_divide, 2, 2),
    "$mod": (_mod, 2, 2),
    "$abs": (_unary("$abs", abs), 1, 1),
    "$ceil": (
        _unary("$ceil", lambda value: float(math.ceil(value)) if isinstance(value, float) else value),
        1,
        1,
    ),
    "$floor": (
        _unary("$floor", lambda value: float(math.floor(value)) if isinstance(value, float) else value),
        1,
        1,
    ),
    "$sqrt": (_unary("$sqrt", math.sqrt), 1, 1),
    "$exp": (_unary("$exp", math.exp), 1, 1),
    "$ln": (_unary("$ln", math.log), 1, 1),
    "$log10": (_unary("$log10", math.log10), 1, 1),
    "$pow": (lambda a, b: None if _null(a, b) else a**b, 2, 2),
    "$round": (_round, 1, 2),
    "$eq": (_compare(lambda a, b: a == b), 2, 2),
    "$ne": (_compare(lambda a, b: a != b), 2, 2),
    "$gt": (_compare(lambda a, b: a > b), 2, 2),
    "$gte": (_compare(lambda a, b: a >= b), 2, 2),
    "$lt": (_compare(lambda a, b: a < b), 2, 2),
    "$lte": (_compare(lambda a, b: a <= b), 2, 2),
    "$cmp": (_compare(lambda a, b: (a > b) - (a < b)), 2, 2),
    "$not": (lambda value: not truthy(value), 1, 1),
    "$concat": (_concat, 0, _MANY),
    "$substr": (_substr_bytes, 3, 3),
    "$substrBytes": (_substr_bytes, 3, 3),
    "$substrCP": (_substr_points, 3, 3),
    "$toLower": (lambda value: _text(value).lower(), 1, 1),
    "$toUpper": (lambda value: _text(value).upper(), 1, 1),
    "$strLenCP": (len, 1, 1),
    "$split": (lambda text, by: None if _null(text, by) else text.split(by), 2, 2),
    "$toString": (_to_string, 1, 1),
    "$toInt": (_to_int, 1, 1),
    "$toLong": (_to_int, 1, 1),
    "$toDouble": (_to_double, 1, 1),
    "$toDate": (to_date, 1, 1),
    "$type": (type_name, 1, 1),
    "$isNumber": (is_number, 1, 1),
    "$isArray": (_is_array, 1, 1),
    "$size": (_size, 1, 1),
    "$arrayElemAt": (_element_at, 2, 2),
    "$first": (lambda array: _element_at(array, 0), 1, 1),
    "$last": (lambda array: _element_at(array, -1), 1, 1),
    "$slice": (_slice, 2, 3),
    "$in": (_contains, 2, 2),
    "$concatArrays": (_concat_arrays, 0, _MANY),
    "$reverseArray": (lambda array: None if _null(array) else array[::-1], 1, 1),
    "$setUnion": (_set_union, 0, _MANY),
    "$mergeObjects": (_merge_objects, 1, _MANY),
    "$objectToArray": (_object_to_array, 1, 1),
    "$arrayToObject": (_array_to_object, 1, 1),
    "$sum": (_spread(_total), 1, _MANY),
    "$avg": (_spread(_mean), 1, _MANY),
    "$max": (_spread(lambda values: max(values, key=encode) if values else None), 1, _MANY),
    "$min": (_spread(lambda values: min(values, key=encode) if values else None), 1, _MANY),
}


def _literal(argument: Any) -> Expression:
    return lambda document, scope: argument


def _arguments(argument: Any) -> list[Expression]:
    return [compile_expression(item) for item in (argument if isinstance(argument, list) else [argument])]


def _and(argument: Any) -> Expression:
    items = _arguments(argument)
    return lambda document, scope: all(truthy(item(document, scope)) for item in items)


def _or(argument: Any) -> Expression:
    items = _arguments(argument)
    return lambda document, scope: any(truthy(item(document, scope)) for item in items)


def _named(
    name: str, argument: Any, required: tuple[str, ...], optional: tuple[str, ...] = ()
) -> dict[str, Any]:
    if not isinstance(argument, dict):
        raise CommandError(9, f"{name} needs a document of arguments")
    for key in argument:
        if key not in required and key not in optional:
            raise CommandError(9, f"unrecognized argument to {name}: {key}")
    for key in required:
        if key not in argument:
            raise CommandError(9, f"missing argument '{key}' to {name}")
    return argument


def _cond(argument: Any) -> Expression:
    if isinstance(argument, list):
        if len(argument) != 3:
            raise CommandError(16020, "$cond takes exactly 3 arguments")
        argument = dict(zip(("if", "then", "else"), argument, strict=True))
    named = _named("$cond", argument, ("if", "then", "else"))
    test, yes, no = (compile_expression(named[key]) for key in ("if", "then", "else"))
    return lambda document, scope: (
        yes(document, scope) if truthy(test(document, scope)) else no(document, scope)
    )


def _if_null(argument: Any) -> Expression:
    items = _arguments(argument)

    def choose(document: Any, scope: Scope) -> Any:
        value = None
        for item in items:
            value = item(document, scope)
            if not _null(value):
                return value
        return value

    return choose


def _switch(argument: Any) -> Expression:
    named = _named("$switch", argument, ("branches",), ("default",))
    branches = [
        (compile_expression(branch["case"]), compile_expression(branch["then"]))
        for branch in named["branches"]
    ]
    default = compile_expression(named["default"]) if "default" in named else None

    def choose(document: Any, scope: Scope) -> Any:
        for case, then in branches:
            if truthy(case(document, scope)):
                return then(document, scope)
        if default is None:
            raise CommandError(40066, "$switch could not find a matching branch, and no default was given")
        return default(document, scope)

    return choose


def _let(argument: Any) -> Expression:
    named = _named("$let", argument, ("vars", "in"))
    variables = {name: compile_expression(value) for name, value in named["vars"].items()}
    body = compile_expression(named["in"])

    def run(document: Any, scope: Scope) -> Any:
        inner = {name: value(document, scope) for name, value in variables.items()}
        return body(document, {**scope, **inner})

    return run


def _map(argument: Any) -> Expression:
    named = _named("$map", argument, ("input", "in"), ("as",))
    source, body, name = (
        compile_expression(named["input"]),
        compile_expression(named["in"]),
        named.get("as", "this"),
    )

    def run(document: Any, scope: Scope) -> Any:
        array = source(document, scope)
        if _null(array):
            return None
        return [none_if_missing(body(document, {**scope, name: item})) for item in array]

    return run


def _filter(argument: Any) -> Expression:
    named = _named("$filter", argument, ("input", "cond"), ("as",))
    source, test, name = (
        compile_expression(named["input"]),
        compile_expression(named["cond"]),
        named.get("as", "this"),
    )

    def run(document: Any, scope: Scope) -> Any:
        array = source(document, scope)
        if _null(array):
            return None
        return [item for item in array if truthy(test(document, {**scope, name: item}))]

    return run


def _reduce(argument: Any) -> Expression:
    named = _named("$reduce", argument, ("input", "initialValue", "in"))
    source, start, body = (compile_expression(named[key]) for key in ("input", "initialValue", "in"))

    def run(document: Any, scope: Scope) -> Any:
        array = source(document, scope)
        if _null(array):
            return None
        value = start(document, scope)
        for item in array:
            value = body(document, {**scope, "value": value, "this": item})
        return value

    return run


def _date_from_string(argument: Any) -> Expression:
    named = _named("$dateFromString", argument, ("dateString",), ("format", "timezone", "onError", "onNull"))
    text = compile_expression(named["dateString"])
    on_error = compile_expression(named["onError"]) if "onError" in named else None
    on_null = compile_expression(named.get("onNull"))

    def run(document: Any, scope: Scope) -> Any:
        value = text(document, scope)
        if _null(value):
            return on_null(document, scope)
        try:
            return date_from_string(value, named.get("format"))
        except CommandError:
            if on_error is None:
                raise
            return on_error(document, scope)

    return run


def _date_to_string(argument: Any) -> Expression:
    named = _named("$dateToString", argument, ("date",), ("format", "timezone", "onNull"))
    moment = compile_expression(named["date"])
    on_null = compile_expression(named.get("onNull"))

    def run(document: Any, scope: Scope) -> Any:
        value = moment(document, scope)
        return on_null(document, scope) if _null(value) else date_to_string(value, named.get("format"))

    return run


LAZY: dict[str, Callable[[Any], Expression]] = {
    "$literal": _literal,
    "$and": _and,
    "$or": _or,
    "$cond": _cond,
    "$ifNull": _if_null,
    "$switch": _switch,
    "$let": _let,
    "$map": _map,
    "$filter": _filter,
    "$reduce": _reduce,
    "$dateFromString": _date_from_string,
    "$dateToString": _date_to_string,
}
