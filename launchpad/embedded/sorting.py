"""Sort specifications on lists of documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.embedded.errors import CommandError
from launchpad.embedded.values import MISSING, NULL_KEY, UNDEFINED_KEY, encode, get_path, is_number, lookup

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["compile_sort", "sort_fields", "sort_value"]


def sort_fields(spec: Any) -> list[tuple[str, int]]:
    """Check a sort document and return (path, 1 or -1) in order.

    Raises
    ------
    CommandError
        For a direction other than 1 or -1 (text scores are not supported).
    """
    if not isinstance(spec, dict):
        raise CommandError(14, "a sort specification must be a document")
    fields = []
    for path, direction in spec.items():
        if not is_number(direction) or direction not in (1, -1):
            raise CommandError(15975, f"the sort order of '{path}' must be 1 or -1, not {direction!r}")
        fields.append((path, int(direction)))
    return fields


def sort_value(document: Any, parts: tuple[str, ...], direction: int) -> bytes:
    """Return what a document sorts by: of an array its smallest (ascending) or largest element."""
    value = get_path(document, parts)
    if value is not MISSING and not isinstance(value, list):
        return encode(value)
    keys = []
    for found in lookup(document, parts):
        if isinstance(found, list):
            keys += [encode(item) for item in found] or [UNDEFINED_KEY]
        else:
            keys.append(encode(found))
    if not keys:
        return NULL_KEY
    return min(keys) if direction > 0 else max(keys)


def compile_sort(
    spec: Any, document_of: Callable[[Any], Any] = lambda item: item
) -> Callable[[list[Any]], list[Any]]:
    """Compile a sort to a stable in-place sort that returns its list.

    Parameters
    ----------
    spec
        Sort document.
    document_of
        Gives the document of a list item, where the items are not documents themselves.
    """
    fields = [(tuple(path.split(".")), direction) for path, direction in sort_fields(spec)]

    def run(items: list[Any]) -> list[Any]:
        for parts, direction in reversed(fields):

            def key(item: Any, parts: tuple[str, ...] = parts, direction: int = direction) -> bytes:
                return sort_value(document_of(item), parts, direction)

            items.sort(key=key, reverse=direction < 0)
        return items

    return run
