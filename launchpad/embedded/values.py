"""BSON values: one total order as bytes, type names, dotted paths.

`encode` maps every value to bytes whose lexicographic order is MongoDB's comparison order, so that
equality, sorting, ranges and unique keys are all decided by one definition and by C-speed comparison.
The encoding of a value is never a prefix of another's, hence inverting all bits gives descending order.
"""

from __future__ import annotations

import datetime as dt
import re
import struct
import uuid
from typing import TYPE_CHECKING, Any, Final

from bson import (
    Binary,
    Code,
    DatetimeMS,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)
from bson.datetime_ms import _datetime_to_millis

from launchpad.embedded.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "INVERT",
    "MISSING",
    "NULL_KEY",
    "UNDEFINED_KEY",
    "as_number",
    "encode",
    "equal",
    "get_path",
    "is_number",
    "is_whole",
    "lookup",
    "none_if_missing",
    "truthy",
    "type_byte",
    "type_name",
]


class _Missing:
    """The value of a field that is not there."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final = _Missing()
INVERT: Final = bytes(255 - i for i in range(256))
UNDEFINED_KEY: Final = b"\x03"
NULL_KEY: Final = b"\x05"

_DOUBLE = struct.Struct(">d")
_U64 = struct.Struct(">Q")
_U32 = struct.Struct(">I")
_U16 = struct.Struct(">H")
_SIGN = 1 << 63
_FULL = (1 << 64) - 1
_EXACT = float(1 << 53)


def _number(value: Any) -> bytes:
    """Encode an int or float: the double nearest to it, then what the double cannot hold."""
    double = float(value)
    if double != double:  # NaN sorts below every number
        return b"\x10" + bytes(8)
    bits = _U64.unpack(_DOUBLE.pack(double + 0.0))[0]
    bits = bits ^ _FULL if bits & _SIGN else bits | _SIGN
    if -_EXACT < double < _EXACT:
        return b"\x10" + _U64.pack(bits)
    residual = 0
    if not isinstance(value, float):
        residual = value - int(double)
    return b"\x10" + _U64.pack(bits) + _U16.pack(residual + 32768)


def _decimal(value: Decimal128) -> bytes:
    return _number(float(value.to_decimal()))


def _string(value: str) -> bytes:
    raw = value.encode("utf-8", "surrogatepass")
    if b"\0" in raw:
        raw = raw.replace(b"\0", b"\0\xff")
    return b"\x15" + raw + b"\0\0"


def _document(value: Any) -> bytes:
    parts = [b"\x20"]
    for name, item in value.items():
        key = encode(item)
        parts.append(key[:1])
        parts.append(_string(name))
        parts.append(key)
    parts.append(b"\0")
    return b"".join(parts)


def _array(value: Any) -> bytes:
    return b"\x25" + b"".join([encode(item) for item in value]) + b"\0"


def _bytes(value: bytes) -> bytes:
    subtype = value.subtype if isinstance(value, Binary) else 0
    return b"\x30" + _U32.pack(len(value)) + bytes((subtype,)) + bytes(value)


def _uuid(value: uuid.UUID) -> bytes:
    return b"\x30" + _U32.pack(16) + b"\x04" + value.bytes


def _date(value: dt.datetime | DatetimeMS) -> bytes:
    millis = int(value) if isinstance(value, DatetimeMS) else _datetime_to_millis(value)
    return b"\x45" + _U64.pack(millis + _SIGN)


def _regex(value: Any) -> bytes:
    pattern, flags = (value.pattern, value.flags)
    if isinstance(pattern, bytes):
        pattern = pattern.decode("utf-8", "replace")
    return b"\x50" + _string(pattern) + _U32.pack(int(flags))


def _code(value: Code) -> bytes:
    if value.scope:
        return b"\x61" + _string(str(value)) + _document(value.scope)
    return b"\x60" + _string(str(value))


_ENCODERS: dict[type, Callable[[Any], bytes]] = {
    type(None): lambda _: NULL_KEY,
    _Missing: lambda _: NULL_KEY,
    bool: lambda value: b"\x40\x01" if value else b"\x40\x00",
    int: _number,
    Int64: _number,
    float: _number,
    Decimal128: _decimal,
    str: _string,
    dict: _document,
    list: _array,
    tuple: _array,
    bytes: _bytes,
    Binary: _bytes,
    uuid.UUID: _uuid,
    ObjectId: lambda value: b"\x35" + value.binary,
    dt.datetime: _date,
    DatetimeMS: _date,
    Timestamp: lambda value: b"\x47" + _U32.pack(value.time) + _U32.pack(value.inc),
    Regex: _regex,
    re.Pattern: _regex,
    DBRef: lambda value: _document(value.as_doc()),
    Code: _code,
    MinKey: lambda _: b"\x01",
    MaxKey: lambda _: b"\x7f",
}


def encode(value: Any) -> bytes:
    """Return bytes that order like MongoDB orders values.

    Raises
    ------
    CommandError
        For a value that is not a BSON type.
    """
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        for base, candidate in _ENCODERS.items():
            if isinstance(value, base):
                encoder = _ENCODERS[type(value)] = candidate
                break
        else:
            raise CommandError(2, f"values of type {type(value).__name__} cannot be compared")
    return encoder(value)


def type_byte(value: Any) -> int:
    """Return the first byte of `encode(value)`: the class within which ranges compare."""
    return encode(value)[0]


def is_number(value: Any) -> bool:
    """Tell whether a value is an int, float or decimal (booleans are not numbers)."""
    return isinstance(value, int | float | Decimal128) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    """Tell whether a value is an int, or a float of the same value (not a decimal, an infinity or no number)."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1


def equal(a: Any, b: Any) -> bool:
    """Compare two values as MongoDB does (1 equals 1.0, true does not equal 1, key order counts)."""
    kind = type(a)
    if kind is type(b) and kind in (str, int, float, bool, ObjectId):
        return bool(a == b)
    return encode(a) == encode(b)


_TYPE_NAMES: dict[str, int] = {
    "double": 1,
    "string": 2,
    "object": 3,
    "array": 4,
    "binData": 5,
    "undefined": 6,
    "objectId": 7,
    "bool": 8,
    "date": 9,
    "null": 10,
    "regex": 11,
    "javascript": 13,
    "int": 16,
    "timestamp": 17,
    "long": 18,
    "decimal": 19,
    "minKey": -1,
    "maxKey": 127,
}
TYPE_NUMBERS: Final = {number: name for name, number in _TYPE_NAMES.items()}


def type_name(value: Any) -> str:
    """Return MongoDB's alias of a value's BSON type, as `$type` uses it."""
    if value is MISSING:
        return "missing"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, Int64):
        return "long"
    if isinstance(value, int):
        return "int" if -(1 << 31) <= value < 1 << 31 else "long"
    names: tuple[tuple[Any, str], ...] = (
        (float, "double"),
        (str, "string"),
        (type(None), "null"),
        (dict, "object"),
        (DBRef, "object"),
        (list | tuple, "array"),
        (ObjectId, "objectId"),
        (dt.datetime | DatetimeMS, "date"),
        (bytes | uuid.UUID, "binData"),
        (Regex | re.Pattern, "regex"),
        (Timestamp, "timestamp"),
        (Decimal128, "decimal"),
        (Code, "javascript"),
        (MinKey, "minKey"),
        (MaxKey, "maxKey"),
    )
    for kind, name in names:
        if isinstance(value, kind):
            return name
    return "undefined"


def get_path(document: Any, parts: tuple[str, ...]) -> Any:
    """Follow a dotted path through documents only; MISSING where it ends early or meets an array."""
    value = document
    for part in parts:
        if not isinstance(value, dict):
            return MISSING
        value = value.get(part, MISSING)
    return value


def lookup(document: Any, parts: tuple[str, ...]) -> list[Any]:
    """Return every value a dotted query path reaches; arrays on the way are traversed.

    MISSING stands for a document that lacks the field. Elements of an array that are no documents
    contribute nothing, as in MongoDB. A final array is returned whole.
    """
    value = document
    for position, part in enumerate(parts):
        if isinstance(value, dict):
            value = value.get(part, MISSING)
            if value is MISSING:
                return [MISSING]
        elif isinstance(value, list):
            return list(_through_array(value, parts[position:]))
        else:
            return [MISSING]
    return [value]


def _through_array(array: list[Any], parts: tuple[str, ...]) -> Iterator[Any]:
    part = parts[0]
    positional = part.isdigit() and int(part) < len(array)
    if positional:
        yield from lookup(array[int(part)], parts[1:]) if len(parts) > 1 else [array[int(part)]]
    for element in array:
        # Where the number is a position, documents without a field of that name miss nothing.
        if isinstance(element, dict) and not (positional and part not in element):
            yield from lookup(element, parts)


def truthy(value: Any) -> bool:
    """Tell whether an expression's value counts as true (0, null, missing and false do not)."""
    if value is None or value is MISSING or value is False:
        return False
    return not (is_number(value) and value == 0)


def none_if_missing(value: Any) -> Any:
    """Replace MISSING by null where a value must stand."""
    return None if value is MISSING else value


def as_number(result: Any, a: Any, b: Any, name: str) -> Any:
    """Give a result MongoDB's integer width: 32 bits stay 32 bits until they overflow."""
    if isinstance(result, float) or not isinstance(result, int):
        return result
    if not -(1 << 63) <= result < 1 << 63:
        raise CommandError(2, f"the result for '{name}' overflows 64 bits")
    wide = isinstance(a, Int64) or isinstance(b, Int64)
    return Int64(result) if wide else int(result)
