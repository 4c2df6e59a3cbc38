"""Secondary indexes: sorted byte keys, unique where asked, several keys per document for arrays."""

from __future__ import annotations

from heapq import merge
from itertools import product
from typing import TYPE_CHECKING, Any

from launchpad.embedded.errors import CommandError
from launchpad.embedded.filters import compile_filter
from launchpad.embedded.sortedkeys import SortedKeys
from launchpad.embedded.values import (
    INVERT,
    MISSING,
    NULL_KEY,
    UNDEFINED_KEY,
    encode,
    get_path,
    lookup,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["HIGHEST", "Index", "Range", "build", "row_of", "successor"]

Range = tuple[bytes, bytes]
# No key starts with this byte: it bounds every key from above.
HIGHEST = b"\xff"
_OPTIONS = {"v", "key", "name", "unique", "sparse", "background", "partialFilterExpression", "hidden", "ns"}


def build(indexes: Sequence[Index], rows: Iterable[tuple[int, Any]]) -> None:
    """Fill empty indexes of one collection; each document is looked at once.

    Raises
    ------
    CommandError
        Code 11000 when an index is unique and two documents share a key.
    """
    keys: list[list[bytes]] = [[] for _ in indexes]
    for row, document in rows:
        suffix = row.to_bytes(8)
        for index, found in zip(indexes, keys, strict=True):
            prefixes, array = index.prefixes(document)
            found.extend(prefix + suffix for prefix in prefixes)
            index.count_array(array)
    for index, found in zip(indexes, keys, strict=True):
        index.fill(found)


def successor(prefix: bytes) -> bytes:
    """Return the smallest byte string above every string that starts with `prefix`."""
    stripped = prefix.rstrip(b"\xff")
    if not stripped:
        return HIGHEST
    return stripped[:-1] + bytes((stripped[-1] + 1,))


def row_of(key: bytes) -> int:
    """Return the row number at the end of an index key."""
    return int.from_bytes(key[-8:])


class Index:
    """One index of one collection.

    A key is the encoded fields in index order (descending fields inverted) plus the row number, so that
    equal values stay distinct and come in the order of insertion.

    Parameters
    ----------
    spec
        Definition as in ``createIndexes``: key, name, unique, sparse, partialFilterExpression.

    Raises
    ------
    CommandError
        For kinds of indexes that this server does not have (text, geo, hashed, TTL).
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        unknown = set(spec) - _OPTIONS
        if unknown:
            raise CommandError(
                67, f"index option '{sorted(unknown)[0]}' is not supported by the embedded server"
            )
        fields = spec.get("key")
        if not isinstance(fields, dict) or not fields:
            raise CommandError(67, "an index needs a nonempty key document")
        for path, direction in fields.items():
            if isinstance(direction, bool) or not isinstance(direction, int | float) or direction == 0:
                raise CommandError(
                    67, f"index kind {direction!r} on '{path}' is not supported, only 1 and -1"
                )
        self.fields = [(path, 1 if direction > 0 else -1) for path, direction in fields.items()]
        self.name = spec.get("name") or "_".join(f"{path}_{int(d)}" for path, d in fields.items())
        self.unique = bool(spec.get("unique")) or self.name == "_id_"
        self.sparse = bool(spec.get("sparse"))
        self.spec = {"v": 2, **spec, "name": self.name}
        partial = spec.get("partialFilterExpression")
        self.partial = compile_filter(partial) if partial is not None else None
        self._parts = [(tuple(path.split(".")), direction) for path, direction in self.fields]
        self.fields_at_top = frozenset(parts[0] for parts, _ in self._parts)
        self.keys = SortedKeys()
        self._multikey_documents = 0

    @property
    def multikey(self) -> bool:
        """Whether some document has an array at an indexed path."""
        return self._multikey_documents > 0

    @property
    def covers_all(self) -> bool:
        """Whether every document of the collection is in the index."""
        return not self.sparse and self.partial is None

    def listing(self) -> dict[str, Any]:
        """Return the definition as ``listIndexes`` shows it."""
        return {key: value for key, value in self.spec.items() if key != "ns" and (key != "unique" or value)}

    def prefixes(self, document: Any) -> tuple[list[bytes], bool]:
        """Return a document's keys without row number, and whether an array is involved."""
        single: list[bytes] = []
        for parts, direction in self._parts:
            value = get_path(document, parts)
            if value is MISSING or isinstance(value, list):
                break
            key = encode(value)
            single.append(key if direction > 0 else key.translate(INVERT))
        else:
            if self.partial is not None and not self.partial(document):
                return [], False
            return [b"".join(single)], False
        return self._general(document)

    def _general(self, document: Any) -> tuple[list[bytes], bool]:
        if self.partial is not None and not self.partial(document):
            return [], False
        columns: list[list[bytes]] = []
        arrays, present = False, False
        for parts, direction in self._parts:
            keys: set[bytes] = set()
            found = lookup(document, parts)
            # on the way there too, also one of a single element
            arrays = (
                arrays
                or len(found) != 1
                or (found[0] is not MISSING and get_path(document, parts) is MISSING)
            )
            for value in found:
                present = present or value is not MISSING
                if isinstance(value, list):
                    arrays = True
                    keys.update([encode(item) for item in value] or [UNDEFINED_KEY])
                    # An array can also be compared as a whole.
                    keys.update(encode(item) for item in value if isinstance(item, list))
                else:
                    keys.add(encode(value))
            ordered = sorted(keys) or [NULL_KEY]
            columns.append(ordered if direction > 0 else [key.translate(INVERT) for key in ordered])
        if self.sparse and not present:
            return [], arrays
        return [b"".join(parts) for parts in product(*columns)], arrays

    def conflict(self, prefixes: list[bytes], row: int | None) -> int | None:
        """Return the row of another document with one of these keys, for a unique index."""
        for prefix in prefixes:
            for key in self.keys.scan(prefix, successor(prefix)):
                other = row_of(key)
                # `scan` on a prefix may meet longer keys only when the index has more fields: it has not.
                if other != row:
                    return other
        return None

    def add(self, prefixes: list[bytes], row: int, array: bool) -> None:
        """Enter a document's keys."""
        suffix = row.to_bytes(8)
        for prefix in prefixes:
            self.keys.add(prefix + suffix)
        self._multikey_documents += array

    def remove(self, prefixes: list[bytes], row: int, array: bool) -> None:
        """Remove a document's keys."""
        suffix = row.to_bytes(8)
        for prefix in prefixes:
            self.keys.remove(prefix + suffix)
        self._multikey_documents -= array

    def count_array(self, array: bool) -> None:
        """Note whether a document that is entered has an array at an indexed path."""
        self._multikey_documents += array

    def fill(self, keys: list[bytes]) -> None:
        """Fill an empty index at once.

        Raises
        ------
        CommandError
            Code 11000 when the index is unique and two documents share a key.
        """
        self.keys = SortedKeys(keys)
        if self.unique:
            previous = b""
            for key in self.keys.scan(b"", HIGHEST):
                if key[:-8] == previous and previous:
                    raise CommandError(
                        11000, f"E11000 duplicate key error: index {self.name} cannot be built"
                    )
                previous = key[:-8]

    def rows(self, ranges: list[Range], *, down: bool = False) -> Iterator[int]:
        """Iterate the row numbers within ranges; a document with several keys may appear again."""
        if down:
            for low, high in reversed(ranges):
                for key in self.keys.scan_down(low, high):
                    yield int.from_bytes(key[-8:])
        else:
            for low, high in ranges:
                for key in self.keys.scan(low, high):
                    yield int.from_bytes(key[-8:])

    def rows_merged(self, ranges: list[Range], skip: list[int], *, down: bool = False) -> Iterator[int]:
        """Iterate the row numbers within ranges in the order of what follows the first `skip` bytes of the keys."""
        scan = self.keys.scan_down if down else self.keys.scan

        def tails(low: bytes, high: bytes, length: int) -> Iterator[bytes]:
            return (key[length:] for key in scan(low, high))

        parts = [tails(low, high, length) for (low, high), length in zip(ranges, skip, strict=True)]
        for tail in merge(*parts, reverse=down):
            yield int.from_bytes(tail[-8:])

    def count(self, ranges: list[Range]) -> int:
        """Count the keys within ranges."""
        return sum(self.keys.count(low, high) for low, high in ranges)

    def estimate(self, ranges: list[Range]) -> int:
        """Return about how many keys lie within ranges."""
        return sum(self.keys.estimate(low, high) for low, high in ranges)
