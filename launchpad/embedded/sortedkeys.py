"""A sorted set of byte strings in blocks, so that insertion stays cheap at 10^6 keys."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["SortedKeys"]

_BLOCK = 1000


class SortedKeys:
    """Sorted distinct byte strings with range iteration and range counts.

    Parameters
    ----------
    keys
        Initial keys, in any order.
    """

    __slots__ = ("_blocks", "_last", "_size")

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        ordered = sorted(set(keys))
        self._blocks = [ordered[i : i + _BLOCK] for i in range(0, len(ordered), _BLOCK)] or [[]]
        self._last = [block[-1] if block else b"" for block in self._blocks]
        self._size = len(ordered)

    def __len__(self) -> int:
        return self._size

    def _block_of(self, key: bytes) -> int:
        """Index of the block that holds `key` or would take it."""
        return min(bisect_left(self._last, key), len(self._blocks) - 1)

    def add(self, key: bytes) -> None:
        """Insert a key that is not yet contained."""
        index = self._block_of(key)
        block = self._blocks[index]
        insort(block, key)
        self._size += 1
        if len(block) > 2 * _BLOCK:
            tail = block[_BLOCK:]
            del block[_BLOCK:]
            self._blocks.insert(index + 1, tail)
            self._last[index] = block[-1]
            self._last.insert(index + 1, tail[-1])
        else:
            self._last[index] = block[-1]

    def remove(self, key: bytes) -> None:
        """Remove a key; nothing happens when it is not contained."""
        index = self._block_of(key)
        block = self._blocks[index]
        position = bisect_left(block, key)
        if position == len(block) or block[position] != key:
            return
        del block[position]
        self._size -= 1
        if block:
            self._last[index] = block[-1]
        elif len(self._blocks) > 1:
            del self._blocks[index]
            del self._last[index]
        else:
            self._last[index] = b""

    def _locate(self, bound: bytes) -> tuple[int, int]:
        """Block and position of the first key that is not less than `bound`."""
        index = bisect_left(self._last, bound)
        if index == len(self._blocks):
            return index, 0
        return index, bisect_left(self._blocks[index], bound)

    def count(self, low: bytes, high: bytes) -> int:
        """Count keys with ``low <= key < high``."""
        if low >= high:
            return 0
        first, start = self._locate(low)
        last, stop = self._locate(high)
        if first == last:
            return max(0, stop - start)
        inner = sum(map(len, self._blocks[first:last]))
        return inner - start + stop

    def estimate(self, low: bytes, high: bytes) -> int:
        """Return about how many keys lie in ``low <= key < high``, at a cost that hardly depends on how many."""
        if low >= high:
            return 0
        first, start = self._locate(low)
        last, stop = self._locate(high)
        if last - first < 8:
            return self.count(low, high)
        return (last - first - 1) * self._size // len(self._blocks) + len(self._blocks[first]) - start + stop

    def scan(self, low: bytes, high: bytes) -> Iterator[bytes]:
        """Iterate ascending over ``low <= key < high``; do not change the set meanwhile."""
        index, start = self._locate(low)
        while index < len(self._blocks):
            block = self._blocks[index]
            if block and block[-1] < high:
                yield from block[start:] if start else block
            else:
                yield from block[start : bisect_left(block, high)]
                return
            index, start = index + 1, 0

    def scan_down(self, low: bytes, high: bytes) -> Iterator[bytes]:
        """Iterate descending over ``low <= key < high``; do not change the set meanwhile."""
        index, stop = self._locate(high)
        if index == len(self._blocks):
            index -= 1
            stop = len(self._blocks[index])
        while index >= 0:
            block = self._blocks[index]
            start = bisect_left(block, low)
            yield from reversed(block[start:stop])
            if start:
                return
            index -= 1
            stop = len(self._blocks[index]) if index >= 0 else 0

    def first(self, low: bytes, high: bytes) -> bytes | None:
        """Return the smallest key with ``low <= key < high``."""
        return next(self.scan(low, high), None)

    def __contains__(self, key: bytes) -> bool:
        block = self._blocks[self._block_of(key)]
        position = bisect_right(block, key)
        return position > 0 and block[position - 1] == key
