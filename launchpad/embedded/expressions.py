"""Aggregation expressions, compiled once to functions of (document, variables)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.embedded.errors import CommandError
from launchpad.embedded.operators import EAGER
from launchpad.embedded.operators_dates import now
from launchpad.embedded.operators_lazy import LAZY, Expression, Scope
from launchpad.embedded.values import MISSING, get_path, lookup, none_if_missing

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Expression", "Scope", "compile_expression", "compile_fields"]


def field_path(path: str) -> Expression:
    """Compile ``"a.b"`` (without the dollar): arrays on the way map over their documents."""
    parts = tuple(path.split("."))
    if len(parts) == 1:
        name = parts[0]
        return lambda document, scope: document.get(name, MISSING) if isinstance(document, dict) else MISSING

    def get(document: Any, scope: Scope) -> Any:
        return walk(document, parts)

    return get


def walk(value: Any, parts: tuple[str, ...]) -> Any:
    """Follow an expression path; unlike query paths an array yields an array."""
    for position, part in enumerate(parts):
        if isinstance(value, dict):
            value = value.get(part, MISSING)
        elif isinstance(value, list):
            found = [walk(item, parts[position:]) for item in value if isinstance(item, dict | list)]
            return [item for item in found if item is not MISSING]
        else:
            return MISSING
    return value


def compile_expression(expression: Any) -> Expression:
    """Compile one expression.

    Raises
    ------
    CommandError
        For an operator that is not supported; the message names it.
    """
    if isinstance(expression, str) and expression.startswith("$"):
        if expression.startswith("$$"):
            return _variable(expression[2:])
        return field_path(expression[1:])
    if isinstance(expression, list):
        items = [compile_expression(item) for item in expression]
        return lambda document, scope: [none_if_missing(item(document, scope)) for item in items]
    if isinstance(expression, dict):
        first = next(iter(expression), "")
        if first.startswith("$"):
            if len(expression) != 1:
                raise CommandError(15983, f"an expression must have exactly one operator, near '{first}'")
            return _operator(first, expression[first])
        return _object(expression)
    return lambda document, scope: expression


def _object(fields: dict[str, Any]) -> Expression:
    compiled = {name: compile_expression(value) for name, value in fields.items()}

    def build(document: Any, scope: Scope) -> Any:
        result = {}
        for name, expression in compiled.items():
            value = expression(document, scope)
            if value is not MISSING:
                result[name] = value
        return result

    return build


def _variable(path: str) -> Expression:
    name, _, rest = path.partition(".")
    parts = tuple(rest.split(".")) if rest else ()
    if name in ("ROOT", "CURRENT"):
        return lambda document, scope: walk(
            scope.get("ROOT", document) if name == "ROOT" else document, parts
        )
    if name == "REMOVE":
        return lambda document, scope: MISSING
    if name == "NOW":
        return lambda document, scope: now(scope)

    def get(document: Any, scope: Scope) -> Any:
        if name not in scope:
            raise CommandError(17276, f"use of undefined variable: {name}")
        return walk(scope[name], parts)

    return get


def _operator(name: str, argument: Any) -> Expression:
    lazy = LAZY.get(name)
    if lazy is not None:
        return lazy(argument, compile_expression)
    eager = EAGER.get(name)
    if eager is None:
        raise CommandError(168, f"unrecognized expression '{name}'")
    function, low, high = eager
    if not isinstance(argument, list):
        argument = [argument]
    if not low <= len(argument) <= high:
        raise CommandError(16020, f"expression {name} takes {low} to {high} arguments, {len(argument)} given")
    items = [compile_expression(item) for item in argument]
    if len(items) == 1:
        only = items[0]
        return lambda document, scope: function(only(document, scope))
    if len(items) == 2:
        left, right = items
        return lambda document, scope: function(left(document, scope), right(document, scope))
    return lambda document, scope: function(*[item(document, scope) for item in items])


def compile_fields(fields: dict[str, Any]) -> Callable[[Any, dict[str, Any]], dict[str, Any]]:
    """Compile ``{path: expression}`` to a function (source, target) -> target with the fields set.

    The target is copied along the changed paths only.
    """
    compiled = [(tuple(path.split(".")), compile_expression(value)) for path, value in fields.items()]

    def apply(source: Any, target: dict[str, Any]) -> dict[str, Any]:
        scope: Scope = {"ROOT": source}
        result = dict(target)
        for parts, expression in compiled:
            _assign(result, parts, expression(source, scope))
        return result

    return apply


def _assign(target: dict[str, Any], parts: tuple[str, ...], value: Any) -> None:
    name = parts[0]
    if len(parts) == 1:
        if value is MISSING:
            target.pop(name, None)
        else:
            target[name] = value
        return
    inner = target.get(name)
    if isinstance(inner, list):
        target[name] = [_assigned(item, parts[1:], value) for item in inner]
    elif value is not MISSING or isinstance(inner, dict):
        target[name] = _assigned(inner, parts[1:], value)


def _assigned(inner: Any, parts: tuple[str, ...], value: Any) -> dict[str, Any]:
    copy = dict(inner) if isinstance(inner, dict) else {}
    _assign(copy, parts, value)
    return copy


def path_values(document: Any, path: str) -> list[Any]:
    """Return the values ``distinct`` and ``$lookup`` see at a path: arrays opened, missing left out."""
    values: list[Any] = []
    parts = tuple(path.split("."))
    single = get_path(document, parts)
    for found in [single] if single is not MISSING else lookup(document, parts):
        if isinstance(found, list):
            values += found
        elif found is not MISSING:
            values.append(found)
    return values
