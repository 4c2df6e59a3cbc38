"""Operators of aggregation expressions with named arguments, conditions or variables of their own.

``LAZY`` maps a name to a function of the raw argument and of the compiler for the expressions in it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from launchpad.embedded.errors import CommandError
from launchpad.embedded.operators_dates import date_from_string, date_to_string
from launchpad.embedded.values import MISSING, none_if_missing, truthy

__all__ = ["LAZY", "Compile", "Expression", "Scope"]

Scope = dict[str, Any]
Expression = Callable[[Any, Scope], Any]
Compile = Callable[[Any], Expression]


def is_null(value: Any) -> bool:
    """Tell whether a value is null or missing."""
    return value is None or value is MISSING


def _literal(argument: Any, _build: Compile) -> Expression:
    return lambda document, scope: argument


def _arguments(argument: Any, build: Compile) -> list[Expression]:
    return [build(item) for item in (argument if isinstance(argument, list) else [argument])]


def _and(argument: Any, build: Compile) -> Expression:
    items = _arguments(argument, build)
    return lambda document, scope: all(truthy(item(document, scope)) for item in items)


def _or(argument: Any, build: Compile) -> Expression:
    items = _arguments(argument, build)
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


def _cond(argument: Any, build: Compile) -> Expression:
    if isinstance(argument, list):
        if len(argument) != 3:
            raise CommandError(16020, "$cond takes exactly 3 arguments")
        argument = dict(zip(("if", "then", "else"), argument, strict=True))
    named = _named("$cond", argument, ("if", "then", "else"))
    test, yes, no = (build(named[key]) for key in ("if", "then", "else"))
    return lambda document, scope: (
        yes(document, scope) if truthy(test(document, scope)) else no(document, scope)
    )


def _if_null(argument: Any, build: Compile) -> Expression:
    items = _arguments(argument, build)

    def choose(document: Any, scope: Scope) -> Any:
        value = None
        for item in items:
            value = item(document, scope)
            if not is_null(value):
                return value
        return value

    return choose


def _switch(argument: Any, build: Compile) -> Expression:
    named = _named("$switch", argument, ("branches",), ("default",))
    branches = [(build(branch["case"]), build(branch["then"])) for branch in named["branches"]]
    default = build(named["default"]) if "default" in named else None

    def choose(document: Any, scope: Scope) -> Any:
        for case, then in branches:
            if truthy(case(document, scope)):
                return then(document, scope)
        if default is None:
            raise CommandError(40066, "$switch could not find a matching branch, and no default was given")
        return default(document, scope)

    return choose


def _let(argument: Any, build: Compile) -> Expression:
    named = _named("$let", argument, ("vars", "in"))
    variables = {name: build(value) for name, value in named["vars"].items()}
    body = build(named["in"])

    def run(document: Any, scope: Scope) -> Any:
        inner = {name: value(document, scope) for name, value in variables.items()}
        return body(document, {**scope, **inner})

    return run


def _map(argument: Any, build: Compile) -> Expression:
    named = _named("$map", argument, ("input", "in"), ("as",))
    source, body, name = (
        build(named["input"]),
        build(named["in"]),
        named.get("as", "this"),
    )

    def run(document: Any, scope: Scope) -> Any:
        array = source(document, scope)
        if is_null(array):
            return None
        return [none_if_missing(body(document, {**scope, name: item})) for item in array]

    return run


def _filter(argument: Any, build: Compile) -> Expression:
    named = _named("$filter", argument, ("input", "cond"), ("as",))
    source, test, name = (
        build(named["input"]),
        build(named["cond"]),
        named.get("as", "this"),
    )

    def run(document: Any, scope: Scope) -> Any:
        array = source(document, scope)
        if is_null(array):
            return None
        return [item for item in array if truthy(test(document, {**scope, name: item}))]

    return run


def _reduce(argument: Any, build: Compile) -> Expression:
    named = _named("$reduce", argument, ("input", "initialValue", "in"))
    source, start, body = (build(named[key]) for key in ("input", "initialValue", "in"))

    def run(document: Any, scope: Scope) -> Any:
        array = source(document, scope)
        if is_null(array):
            return None
        value = start(document, scope)
        for item in array:
            value = body(document, {**scope, "value": value, "this": item})
        return value

    return run


def _date_from_string(argument: Any, build: Compile) -> Expression:
    named = _named("$dateFromString", argument, ("dateString",), ("format", "timezone", "onError", "onNull"))
    text = build(named["dateString"])
    on_error = build(named["onError"]) if "onError" in named else None
    on_null = build(named.get("onNull"))

    def run(document: Any, scope: Scope) -> Any:
        value = text(document, scope)
        if is_null(value):
            return on_null(document, scope)
        try:
            return date_from_string(value, named.get("format"))
        except CommandError:
            if on_error is None:
                raise
            return on_error(document, scope)

    return run


def _date_to_string(argument: Any, build: Compile) -> Expression:
    named = _named("$dateToString", argument, ("date",), ("format", "timezone", "onNull"))
    moment = build(named["date"])
    on_null = build(named.get("onNull"))

    def run(document: Any, scope: Scope) -> Any:
        value = moment(document, scope)
        return on_null(document, scope) if is_null(value) else date_to_string(value, named.get("format"))

    return run


LAZY: dict[str, Callable[[Any, Compile], Expression]] = {
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
