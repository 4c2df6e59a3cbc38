"""Query filters, compiled once per command to a predicate on one document."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from bson import Decimal128, Int64, Regex

from launchpad.embedded.errors import CommandError
from launchpad.embedded.expressions import compile_expression
from launchpad.embedded.values import (
    MISSING,
    NULL_KEY,
    TYPE_NUMBERS,
    encode,
    get_path,
    is_number,
    is_whole,
    lookup,
    truthy,
    type_name,
)

__all__ = ["Predicate", "compile_filter", "compile_regex", "is_operator_document"]

Predicate = Callable[[Any], bool]
_RANGES = ("$gt", "$gte", "$lt", "$lte")
_PATTERNS = (Regex, re.Pattern)


def is_operator_document(value: Any) -> bool:
    """Tell whether ``{field: value}`` applies operators to the field (``{"$gt": 1}``)."""
    if not isinstance(value, dict) or not value:
        return False
    first = next(iter(value))
    return first.startswith("$") and first not in ("$ref", "$id", "$db")


def compile_filter(query: Any, *, variables: dict[str, Any] | None = None) -> Predicate:
    """Compile a query document.

    Parameters
    ----------
    query
        The filter as sent by a client.
    variables
        Values of ``$$name`` variables for ``$expr``.

    Raises
    ------
    CommandError
        For an unknown operator or a malformed argument; the message names it.
    """
    if not isinstance(query, dict):
        raise CommandError(14, f"a filter must be a document, not {type_name(query)}")
    tests: list[Predicate] = []
    for key, condition in query.items():
        if key.startswith("$"):
            tests.append(_top_level(key, condition, variables))
        else:
            tests.append(_field(key, condition, variables))
    return _all_of(tests)


def _all_of(tests: list[Predicate]) -> Predicate:
    if not tests:
        return lambda document: True
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda document: first(document) and second(document)

    def every(document: Any) -> bool:
        return all(test(document) for test in tests)

    return every


def _top_level(key: str, argument: Any, variables: dict[str, Any] | None) -> Predicate:
    if key == "$comment":
        return lambda document: True
    if key in ("$and", "$or", "$nor"):
        if not isinstance(argument, list) or not argument:
            raise CommandError(2, f"{key} must be a nonempty array")
        parts = [compile_filter(part, variables=variables) for part in argument]
        if key == "$and":
            return _all_of(parts)
        if key == "$or":
            return lambda document: any(part(document) for part in parts)
        return lambda document: not any(part(document) for part in parts)
    if key == "$expr":
        expression = compile_expression(argument)
        bound = dict(variables or {})
        return lambda document: truthy(expression(document, {"ROOT": document, **bound}))
    raise CommandError(2, f"unknown top level operator: {key}")


def _field(path: str, condition: Any, variables: dict[str, Any] | None) -> Predicate:
    parts = tuple(path.split("."))
    if isinstance(condition, _PATTERNS):
        return _on_path(parts, _regex_test(compile_regex(condition, "")))
    if not is_operator_document(condition):
        return _equality(parts, condition)
    tests = []
    for operator, argument in condition.items():
        if not operator.startswith("$"):
            raise CommandError(2, f"unknown operator: {operator}")
        if operator == "$options":
            if "$regex" not in condition:
                raise CommandError(2, "$options needs a $regex")
            continue
        tests.append(_operator(parts, operator, argument, condition, variables))
    return _all_of(tests)


def _equality(parts: tuple[str, ...], operand: Any) -> Predicate:
    """Equality with a literal; scalars on a top-level field take a short cut."""
    if len(parts) == 1 and (isinstance(operand, str) or (is_number(operand) and operand == operand)):
        name = parts[0]
        kind = str if isinstance(operand, str) else int
        slow = _on_path(parts, _equals(operand))

        def fast(document: Any) -> bool:
            value = document.get(name)
            if type(value) is kind:
                return bool(value == operand)
            return slow(document)

        if not isinstance(operand, float | str) and not isinstance(operand, int):
            return slow
        return fast
    return _on_path(parts, _equals(operand))


def _equals(operand: Any) -> Predicate:
    wanted = encode(operand)
    if wanted == NULL_KEY:
        return lambda value: value is None or value is MISSING
    if isinstance(operand, str):
        return lambda value: isinstance(value, str) and value == operand
    if isinstance(operand, int | float) and not isinstance(operand, bool) and operand == operand:

        def number(value: Any) -> bool:
            # arrays may hold thousands of numbers: encode only what Python does not compare in the same way
            if type(value) is int or isinstance(value, Int64 | float):
                return bool(value == operand)
            return isinstance(value, Decimal128) and encode(value) == wanted

        return number
    return lambda value: value is not MISSING and encode(value) == wanted


def _on_path(parts: tuple[str, ...], test: Predicate, *, elements: bool = True) -> Predicate:
    """Apply a test to the values at a path and, with `elements`, to the elements of arrays there."""

    def matches(document: Any) -> bool:
        value = get_path(document, parts)
        if value is MISSING or isinstance(value, list):
            for found in lookup(document, parts):
                if test(found):
                    return True
                if elements and isinstance(found, list):
                    for element in found:
                        if test(element):
                            return True
            return False
        return test(value)

    return matches


def _negate(test: Predicate) -> Predicate:
    return lambda document: not test(document)


def _operator(
    parts: tuple[str, ...],
    operator: str,
    argument: Any,
    condition: dict[str, Any],
    variables: dict[str, Any] | None,
) -> Predicate:
    if operator == "$eq":
        return _equality(parts, argument)
    if operator == "$ne":
        return _negate(_equality(parts, argument))
    if operator == "$in":
        return _membership(parts, argument, operator)
    if operator == "$nin":
        return _negate(_membership(parts, argument, operator))
    if operator in _RANGES:
        return _on_path(parts, _range(operator, argument))
    if operator == "$exists":
        present = _on_path(parts, lambda value: value is not MISSING, elements=False)
        return present if argument else _negate(present)
    if operator == "$not":
        return _negate(_not_argument(parts, argument, variables))
    if operator == "$regex":
        return _on_path(parts, _regex_test(compile_regex(argument, condition.get("$options", ""))))
    if operator == "$elemMatch":
        return _element_match(parts, argument, variables)
    if operator == "$all":
        return _all_operator(parts, argument, variables)
    if operator == "$size":
        if not is_number(argument):
            raise CommandError(2, "$size needs a number")
        return _on_path(
            parts, lambda value: isinstance(value, list) and len(value) == argument, elements=False
        )
    if operator == "$type":
        return _on_path(parts, _type_test(argument))
    if operator == "$mod":
        return _on_path(parts, _modulo(argument))
    raise CommandError(2, f"unknown operator: {operator}")


def _membership(parts: tuple[str, ...], argument: Any, operator: str) -> Predicate:
    if not isinstance(argument, list):
        raise CommandError(2, f"{operator} needs an array")
    patterns = [compile_regex(item, "") for item in argument if isinstance(item, _PATTERNS)]
    wanted = {encode(item) for item in argument if not isinstance(item, _PATTERNS)}
    null = NULL_KEY in wanted
    tests = [_regex_test(pattern) for pattern in patterns]

    def member(value: Any) -> bool:
        if value is MISSING:
            return null
        return encode(value) in wanted or any(test(value) for test in tests)

    return _on_path(parts, member)


def _range(operator: str, operand: Any) -> Predicate:
    """Compare within the operand's own type, as MongoDB does."""
    bound = encode(operand)
    kind = bound[0]
    if kind == NULL_KEY[0]:
        return (lambda value: value is None or value is MISSING) if "e" in operator else lambda value: False
    if isinstance(operand, float) and operand != operand:
        return _equals(operand) if "e" in operator else lambda value: False
    low_nan = encode(float("nan")) if kind == 0x10 else b""

    def compare(value: Any) -> bool:
        if value is MISSING or value is None:
            return False
        key = encode(value)
        if key[0] != kind or key == low_nan:
            return False
        if operator == "$gt":
            return key > bound
        if operator == "$gte":
            return key >= bound
        if operator == "$lt":
            return key < bound
        return key <= bound

    return compare


def _not_argument(parts: tuple[str, ...], argument: Any, variables: dict[str, Any] | None) -> Predicate:
    if isinstance(argument, _PATTERNS):
        return _on_path(parts, _regex_test(compile_regex(argument, "")))
    if not is_operator_document(argument):
        raise CommandError(2, "$not needs a regex or a document of operators")
    return _field(".".join(parts), argument, variables)


def compile_regex(pattern: Any, options: str) -> re.Pattern[str]:
    """Compile a regular expression given as string, BSON regex or compiled pattern.

    Raises
    ------
    CommandError
        When it does not compile (the dialect is Python's, not PCRE).
    """
    flags = 0
    if isinstance(pattern, _PATTERNS):
        flags, pattern = int(pattern.flags) & ~re.UNICODE, pattern.pattern
    if not isinstance(pattern, str):
        raise CommandError(2, "$regex has to be a string")
    for letter in options:
        try:
            flags |= {"i": re.I, "m": re.M, "s": re.S, "x": re.X, "u": 0}[letter]
        except KeyError:
            raise CommandError(51108, f"invalid flag in regex options: {letter}") from None
    try:
        return re.compile(pattern, flags)
    except re.error as error:
        raise CommandError(51091, f"the regular expression {pattern!r} is invalid: {error}") from error


def _regex_test(pattern: re.Pattern[str]) -> Predicate:
    search = pattern.search

    def test(value: Any) -> bool:
        if isinstance(value, str):
            return search(value) is not None
        return isinstance(value, _PATTERNS) and value.pattern == pattern.pattern

    return test


def _element_match(parts: tuple[str, ...], argument: Any, variables: dict[str, Any] | None) -> Predicate:
    if not isinstance(argument, dict):
        raise CommandError(2, "$elemMatch needs a document")
    logical = ("$and", "$or", "$nor", "$expr")
    if is_operator_document(argument) and next(iter(argument)) not in logical:
        on_value = _field("value", argument, variables)

        def test(element: Any) -> bool:
            # The element stands for itself: an array element is not opened once more.
            return on_value({"value": [element] if isinstance(element, list) else element})
    else:
        on_document = compile_filter(argument, variables=variables)

        def test(element: Any) -> bool:
            if isinstance(element, list):
                element = {str(i): item for i, item in enumerate(element)}
            return isinstance(element, dict) and on_document(element)

    return _on_path(
        parts, lambda value: isinstance(value, list) and any(test(item) for item in value), elements=False
    )


def _all_operator(parts: tuple[str, ...], argument: Any, variables: dict[str, Any] | None) -> Predicate:
    if not isinstance(argument, list):
        raise CommandError(2, "$all needs an array")
    if not argument:
        return lambda document: False
    tests: list[Predicate] = []
    for item in argument:
        if isinstance(item, dict) and "$elemMatch" in item:
            tests.append(_element_match(parts, item["$elemMatch"], variables))
        elif isinstance(item, _PATTERNS):
            tests.append(_on_path(parts, _regex_test(compile_regex(item, ""))))
        else:
            tests.append(_equality(parts, item))
    return _all_of(tests)


def _type_test(argument: Any) -> Predicate:
    names = set()
    for item in argument if isinstance(argument, list) else [argument]:
        # 2.0 is the type 2
        number = int(item) if is_whole(item) else None
        name = item if isinstance(item, str) else None if number is None else TYPE_NUMBERS.get(number)
        if name is None or (name != "number" and name not in TYPE_NUMBERS.values()):
            raise CommandError(2, f"unknown type name or number in $type: {item!r}")
        names |= {"int", "long", "double", "decimal"} if name == "number" else {name}
    return lambda value: value is not MISSING and type_name(value) in names


def _modulo(argument: Any) -> Predicate:
    if not isinstance(argument, list) or len(argument) != 2 or not all(is_number(item) for item in argument):
        raise CommandError(2, "$mod needs [divisor, remainder]")
    divisor, remainder = int(argument[0]), int(argument[1])
    if divisor == 0:
        raise CommandError(2, "divisor of $mod cannot be 0")

    def test(value: Any) -> bool:
        if not is_number(value) or value != value or value in (float("inf"), float("-inf")):
            return False
        whole = int(value)
        # C's remainder (sign of the dividend), not Python's.
        return whole - divisor * int(whole / divisor) == remainder

    return test
