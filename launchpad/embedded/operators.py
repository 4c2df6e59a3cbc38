"""Operators of aggregation expressions that are functions of their evaluated arguments.

``EAGER`` maps a name to the function and the fewest and most arguments.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from bson import ObjectId

from launchpad.embedded.errors import CommandError
from launchpad.embedded.operators_dates import date_to_string, to_date
from launchpad.embedded.values import MISSING, as_number, encode, is_number, truthy, type_name

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["EAGER"]

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
