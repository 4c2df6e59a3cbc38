"""Counts per value read from index keys, without looking at documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.embedded.errors import CommandError
from launchpad.embedded.indexes import Index, row_of, successor
from launchpad.embedded.values import INVERT, MISSING, encode, get_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launchpad.embedded.collection import Collection

__all__ = ["from_index"]


def from_index(collection: Collection, where: tuple[Index, bytes], path: str) -> Iterator[tuple[Any, int]]:
    """Iterate (value, number of documents) of a field over the keys with a common start.

    Parameters
    ----------
    collection
        Whose documents show the values.
    where
        Index and start of its keys, as `planner.group_prefix` returns them.
    path
        The field.
    """
    index, prefix = where
    direction = dict(index.fields)[path]
    parts = tuple(path.split("."))
    position, end = prefix, successor(prefix)
    while True:
        key = index.keys.first(position, end)
        if key is None:
            return
        value = get_path(collection.records[row_of(key)].document, parts)
        value = None if value is MISSING else value
        encoded = encode(value)
        start = prefix + (encoded if direction > 0 else encoded.translate(INVERT))
        position = successor(start)
        if not start <= key < position:  # or the same key would be found for ever
            raise CommandError(1, f"the index on {path!r} and a document's value of it differ: {value!r}")
        yield value, index.keys.count(start, position)
