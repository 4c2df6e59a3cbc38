"""``$group``: keys and accumulators."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from launchpad.embedded.errors import CommandError
from launchpad.embedded.expressions import Expression, compile_expression
from launchpad.embedded.values import MISSING, encode, is_number, none_if_missing

__all__ = ["compile_group"]

Documents = Iterable[dict[str, Any]]
_Fold = tuple[Callable[[], Any], Callable[[Any, Any], Any], Callable[[Any], Any]]


def _same(state: Any) -> Any:
    return state


def _add(state: Any, value: Any) -> Any:
    return state + value if is_number(value) else state


def _average(state: list[Any], value: Any) -> list[Any]:
    if is_number(value):
        state[0] += value
        state[1] += 1
    return state


def _extremum(better: Callable[[bytes, bytes], bool]) -> Callable[[Any, Any], Any]:
    def fold(state: Any, value: Any) -> Any:
        if value is None or value is MISSING:
            return state
        if state is None or better(encode(value), encode(state)):
            return value
        return state

    return fold


def _push(state: list[Any], value: Any) -> list[Any]:
    if value is not MISSING:
        state.append(value)
    return state


def _add_to_set(state: dict[bytes, Any], value: Any) -> dict[bytes, Any]:
    if value is not MISSING:
        state.setdefault(encode(value), value)
    return state


def _first(state: Any, value: Any) -> Any:
    return none_if_missing(value) if state is MISSING else state


def _merge(state: dict[str, Any], value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        state.update(value)
    return state


def _moments(state: list[float], value: Any) -> list[float]:
    if is_number(value):
        state[0] += 1
        delta = value - state[1]
        state[1] += delta / state[0]
        state[2] += delta * (value - state[1])
    return state


_FOLDS: dict[str, _Fold] = {
    "$sum": (lambda: 0, _add, _same),
    "$count": (lambda: 0, lambda state, value: state + 1, _same),
    "$avg": (lambda: [0, 0], _average, lambda state: state[0] / state[1] if state[1] else None),
    "$max": (lambda: None, _extremum(lambda new, old: new > old), _same),
    "$min": (lambda: None, _extremum(lambda new, old: new < old), _same),
    "$first": (lambda: MISSING, _first, none_if_missing),
    "$last": (lambda: MISSING, lambda state, value: none_if_missing(value), none_if_missing),
    "$push": (list, _push, _same),
    "$addToSet": (dict, _add_to_set, lambda state: list(state.values())),
    "$mergeObjects": (dict, _merge, _same),
    "$stdDevPop": (
        lambda: [0, 0.0, 0.0],
        _moments,
        lambda state: math.sqrt(state[2] / state[0]) if state[0] else None,
    ),
    "$stdDevSamp": (
        lambda: [0, 0.0, 0.0],
        _moments,
        lambda state: math.sqrt(state[2] / (state[0] - 1)) if state[0] > 1 else None,
    ),
}


def compile_group(spec: dict[str, Any]) -> Callable[[Documents], Iterator[dict[str, Any]]]:
    """Compile a ``$group`` stage; groups come out in the order in which they first appeared.

    Raises
    ------
    CommandError
        Without ``_id``, or for an unknown accumulator.
    """
    if "_id" not in spec:
        raise CommandError(15955, "a $group specification must include an _id")
    group_key = compile_expression(spec["_id"])
    folds: list[tuple[str, _Fold, Expression]] = []
    for name, accumulator in spec.items():
        if name == "_id":
            continue
        if not isinstance(accumulator, dict) or len(accumulator) != 1:
            raise CommandError(40234, f"the field '{name}' of $group must be one accumulator")
        operator, argument = next(iter(accumulator.items()))
        if operator not in _FOLDS:
            raise CommandError(15952, f"unknown group operator '{operator}'")
        folds.append((name, _FOLDS[operator], compile_expression(1 if operator == "$count" else argument)))

    def run(documents: Documents) -> Iterator[dict[str, Any]]:
        groups: dict[Any, tuple[Any, list[Any]]] = {}
        for document in documents:
            scope = {"ROOT": document}
            value = none_if_missing(group_key(document, scope))
            # A string is its own key; tagging keeps it apart from encoded keys.
            key = value if type(value) is str else encode(value)
            group = groups.get(key)
            if group is None:
                group = groups[key] = (value, [start() for _, (start, _, _), _ in folds])
            states = group[1]
            for i, (_, (_, fold, _), expression) in enumerate(folds):
                states[i] = fold(states[i], expression(document, scope))
        for value, states in groups.values():
            result = {"_id": value}
            for (name, (_, _, finish), _), state in zip(folds, states, strict=True):
                result[name] = finish(state)
            yield result

    return run
