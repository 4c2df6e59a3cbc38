"""Projections of ``find`` and ``$project`` without expressions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from launchpad.embedded.errors import CommandError
from launchpad.embedded.expressions import compile_fields
from launchpad.embedded.filters import compile_filter, is_operator_document
from launchpad.embedded.values import is_number

__all__ = ["compile_projection"]

Projection = Callable[[dict[str, Any]], dict[str, Any]]
Tree = dict[str, Any]


def compile_projection(spec: dict[str, Any]) -> Projection | None:
    """Compile a projection document; None when it changes nothing.

    Values other than 0/1 are expressions (``$slice`` and ``$elemMatch`` in their ``find`` meaning).

    Raises
    ------
    CommandError
        When inclusion and exclusion are mixed.
    """
    if not spec:
        return None
    if not isinstance(spec, dict):
        raise CommandError(14, f"a projection must be a document, not {spec!r}")
    included: list[str] = []
    excluded: list[str] = []
    computed: dict[str, Any] = {}
    for path, value in _flattened(spec):
        if isinstance(value, bool) or is_number(value):
            (included if value else excluded).append(path)
        else:
            computed[path] = value
    keeps_identity = "_id" not in excluded
    drops = [path for path in excluded if path != "_id"]
    keeps = [path for path in included if path != "_id"]
    if drops and keeps:
        raise CommandError(31254, f"cannot exclude '{drops[0]}' in a projection that includes other fields")
    inclusive = bool(keeps) or ("_id" in included and not drops)
    finders = {path: value for path, value in computed.items() if _is_find_operator(value)}
    expressions = {path: value for path, value in computed.items() if path not in finders}
    inclusive = (
        inclusive or (bool(expressions) and not drops) or any("$elemMatch" in v for v in finders.values())
    )
    steps: list[Projection] = []
    if inclusive:
        tree = _tree([*keeps, *finders] + (["_id"] if keeps_identity else []))
        steps.append(lambda document: _include(document, tree))
    elif excluded:
        tree = _tree(excluded)
        steps.append(lambda document: _exclude(document, tree))
    steps += [_finder(path, value) for path, value in finders.items()]
    return _chain(steps, expressions)


def _flattened(spec: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    items: list[tuple[str, Any]] = []
    for name, value in spec.items():
        if isinstance(value, dict) and value and not is_operator_document(value):
            items += _flattened(value, f"{prefix}{name}.")
        else:
            items.append((prefix + name, value))
    return items


def _is_find_operator(value: Any) -> bool:
    if not isinstance(value, dict) or len(value) != 1:
        return False
    operator, argument = next(iter(value.items()))
    if operator == "$slice":
        return is_number(argument) or (
            isinstance(argument, list) and len(argument) == 2 and all(map(is_number, argument))
        )
    return operator == "$elemMatch"


def _chain(steps: list[Projection], expressions: dict[str, Any]) -> Projection:
    if not expressions:
        if len(steps) == 1:
            return steps[0]

        def plain(document: dict[str, Any]) -> dict[str, Any]:
            for step in steps:
                document = step(document)
            return document

        return plain
    compute = compile_fields(expressions)

    def project(document: dict[str, Any]) -> dict[str, Any]:
        result = document
        for step in steps:
            result = step(result)
        return compute(document, result)

    return project


def _tree(paths: list[str]) -> Tree:
    """Nest paths; an empty node means "everything from here"."""
    tree: Tree = {}
    for path in paths:
        node = tree
        parts = path.split(".")
        for part in parts[:-1]:
            node = node.setdefault(part, {})
        node[parts[-1]] = {}
    return tree


def _include(document: Any, tree: Tree) -> dict[str, Any]:
    result = {}
    for name, value in document.items():
        node = tree.get(name)
        if node is None:
            continue
        if not node:
            result[name] = value
        elif isinstance(value, dict):
            result[name] = _include(value, node)
        elif isinstance(value, list):
            result[name] = _include_array(value, node)
    return result


def _include_array(array: list[Any], node: Tree) -> list[Any]:
    kept: list[Any] = []
    for item in array:
        if isinstance(item, dict):
            kept.append(_include(item, node))
        elif isinstance(item, list):
            kept.append(_include_array(item, node))
    return kept


def _exclude(document: dict[str, Any], tree: Tree) -> dict[str, Any]:
    result = {}
    for name, value in document.items():
        node = tree.get(name)
        if node is None:
            result[name] = value
        elif node:
            result[name] = _exclude_value(value, node)
    return result


def _exclude_value(value: Any, node: Tree) -> Any:
    if isinstance(value, dict):
        return _exclude(value, node)
    if isinstance(value, list):
        return [_exclude_value(item, node) for item in value]
    return value


def _finder(path: str, value: dict[str, Any]) -> Projection:
    """Build ``{field: {$slice: ...}}`` or ``{field: {$elemMatch: ...}}`` for a field of any depth."""
    operator, argument = next(iter(value.items()))
    parts = path.split(".")

    def transform(array: list[Any]) -> list[Any] | None:
        if operator == "$slice":
            if isinstance(argument, list):
                skip, limit = int(argument[0]), int(argument[1])
                start = skip if skip >= 0 else max(0, len(array) + skip)
                return array[start : start + limit]
            return array[: int(argument)] if argument >= 0 else array[int(argument) :]
        for item in array:
            if matches({"value": [item]}):
                return [item]
        return None

    matches = (
        compile_filter({"value": {"$elemMatch": argument}}) if operator == "$elemMatch" else lambda _: True
    )

    def apply(document: Any, depth: int = 0) -> Any:
        if not isinstance(document, dict) or parts[depth] not in document:
            return document
        result = dict(document)
        inner = result[parts[depth]]
        if depth + 1 < len(parts):
            result[parts[depth]] = apply(inner, depth + 1)
        elif isinstance(inner, list):
            changed = transform(inner)
            if changed is None:
                del result[parts[depth]]
            else:
                result[parts[depth]] = changed
        elif operator == "$elemMatch":
            del result[parts[depth]]
        return result

    return apply
