"""Chooses an index for a filter and a sort.

A plan only narrows down where to look: the filter is applied to every candidate again, unless the plan is
`exact`. Hence an index can make a query faster, never wrong.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from bson import Decimal128, Regex

from launchpad.embedded.errors import CommandError
from launchpad.embedded.filters import is_operator_document
from launchpad.embedded.indexes import Index, Range, successor
from launchpad.embedded.values import INVERT, NULL_KEY, encode

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Plan", "choose", "group_prefix"]

_MOST_RANGES = 10_000
_MOST_MERGED = 200
_NUMBER = 0x10


@dataclass(slots=True)
class Bounds:
    """What a filter says about one path."""

    points: list[bytes] | None = None
    low: tuple[bytes, bool] | None = None
    high: tuple[bytes, bool] | None = None


@dataclass(slots=True)
class Plan:
    """Scans whose union contains every match.

    Attributes
    ----------
    scans
        Index and key ranges, visited in this order.
    down
        Whether to go through them backwards.
    ordered
        Whether rows come out in the order of the requested sort.
    exact
        Whether every row is a match, so that the filter need not be applied.
    distinct
        Whether no row can appear twice.
    merge
        Where several ranges together give the order of the sort: how many bytes at the start of their keys
        do not belong to it. The ranges are then read side by side.
    estimate
        About how many keys lie in the ranges.
    """

    scans: list[tuple[Index, list[Range]]]
    down: bool = False
    ordered: bool = False
    exact: bool = False
    distinct: bool = True
    merge: list[int] | None = None
    estimate: int = 0

    @property
    def keys(self) -> int:
        """How many keys lie in the ranges."""
        return sum(index.count(ranges) for index, ranges in self.scans)

    def rows(self) -> Iterator[int]:
        """Iterate the row numbers of the candidates; not `distinct`, one may appear again."""
        for index, ranges in self.scans:
            if self.merge is not None:
                yield from index.rows_merged(ranges, self.merge, down=self.down)
            else:
                yield from index.rows(ranges, down=self.down)


@dataclass(slots=True)
class Analysis:
    """A filter taken apart: bounds per path, alternatives, and whether anything is left over."""

    bounds: dict[str, Bounds] = field(default_factory=dict)
    alternatives: list[list[dict[str, Any]]] = field(default_factory=list)
    complete: bool = True


def analyse(query: dict[str, Any]) -> Analysis:
    """Collect what indexes can answer of a filter."""
    result = Analysis()
    _collect(query, result)
    return result


def _collect(query: dict[str, Any], result: Analysis) -> None:
    if not isinstance(query, dict):
        raise CommandError(14, f"a filter must be a document, not {query!r}")
    for key, condition in query.items():
        if key == "$and" and isinstance(condition, list):
            for part in condition:
                _collect(part, result)
        elif key == "$or" and isinstance(condition, list):
            result.alternatives.append(condition)
            result.complete = False
        elif key == "$comment":
            continue
        elif key.startswith("$"):
            result.complete = False
        elif is_operator_document(condition):
            for operator, argument in condition.items():
                if not _operator(result.bounds, key, operator, argument):
                    result.complete = False
        elif not _points(result.bounds, key, [condition]):
            result.complete = False


def _indexable(value: Any) -> bool:
    return not isinstance(value, list | Regex | re.Pattern)


def _points(bounds: dict[str, Bounds], path: str, values: list[Any]) -> bool:
    """Record equality; False when the filter must be applied for it."""
    if not all(_indexable(value) for value in values):
        return False
    entry = bounds.setdefault(path, Bounds())
    if entry.points is not None:
        return False
    entry.points = sorted({encode(value) for value in values})
    # null also stands for missing, decimals are rounded, documents hold either: leave these to the filter.
    return not any(value is None or isinstance(value, Decimal128 | dict) for value in values)


def _operator(bounds: dict[str, Bounds], path: str, operator: str, argument: Any) -> bool:
    if operator == "$eq":
        return _points(bounds, path, [argument])
    if operator == "$in" and isinstance(argument, list):
        return _points(bounds, path, argument)
    if operator not in ("$gt", "$gte", "$lt", "$lte") or argument is None or not _indexable(argument):
        return False
    if isinstance(argument, float) and argument != argument:
        return False
    entry = bounds.setdefault(path, Bounds())
    bound = (encode(argument), "e" in operator)
    if operator.startswith("$g"):
        if entry.low is not None:
            return False
        entry.low = bound
    else:
        if entry.high is not None:
            return False
        entry.high = bound
    return not isinstance(argument, Decimal128 | dict)


def _interval(bounds: Bounds, multikey: bool, direction: int) -> tuple[bytes, bytes] | None:
    """Return the half-open range of one field's keys, or None for an empty one."""
    low, high = bounds.low, bounds.high
    if multikey and low is not None and high is not None:
        high = None  # different elements of an array may satisfy the two bounds
    kind = (low or high or (b"\0", True))[0][:1]
    if low is not None and high is not None and low[0][:1] != high[0][:1]:
        return None
    if low is None:
        low = (encode(float("nan")), False) if kind[0] == _NUMBER else (kind, True)
    if high is None:
        high = (kind, True)
    if direction < 0:
        low, high = (high[0].translate(INVERT), high[1]), (low[0].translate(INVERT), low[1])
    start = low[0] if low[1] else successor(low[0])
    stop = successor(high[0]) if high[1] else high[0]
    return (start, stop) if start < stop else None


@dataclass(slots=True)
class _Narrowed:
    """Ranges of an index, the paths they decide, how many leading fields are equal, and the keys of these."""

    ranges: list[Range]
    used: set[str]
    equal: int
    prefixes: list[bytes]


def _narrow(index: Index, bounds: dict[str, Bounds]) -> _Narrowed:
    """Turn bounds into key ranges of an index, as far as its leading fields go."""
    prefixes = [b""]
    used: set[str] = set()
    multikey = index.multikey
    for position, (path, direction) in enumerate(index.fields):
        entry = bounds.get(path)
        if entry is None:
            return _whole(prefixes, used, position)
        # one list of values is never longer than a message; several lists multiply
        if entry.points is not None and (
            len(prefixes) == 1 or len(prefixes) * len(entry.points) <= _MOST_RANGES
        ):
            points = entry.points if direction > 0 else [p.translate(INVERT) for p in reversed(entry.points)]
            prefixes = [prefix + point for prefix in prefixes for point in points]
            if entry.low is None and entry.high is None:
                used.add(path)
            continue
        if entry.low is None and entry.high is None:
            return _whole(prefixes, used, position)
        interval = _interval(entry, multikey, direction)
        if interval is None:
            return _Narrowed([], used | {path}, position, [])
        start, stop = interval
        if entry.points is None and not (multikey and entry.low and entry.high):
            used.add(path)
        ranges = [(prefix + start, prefix + stop) for prefix in prefixes]
        return _Narrowed(ranges, used, position, prefixes)
    return _whole(prefixes, used, len(index.fields))


def _whole(prefixes: list[bytes], used: set[str], position: int) -> _Narrowed:
    return _Narrowed([(prefix, successor(prefix)) for prefix in prefixes], used, position, prefixes)


def _sorts(
    index: Index, narrowed: _Narrowed, bounds: dict[str, Bounds], sort: Sequence[tuple[str, int]]
) -> tuple[bool, bool]:
    """Tell whether the index yields the sort order (its ranges read side by side), and whether backwards."""
    if index.multikey or len(narrowed.prefixes) > _MOST_MERGED:
        return False, False
    constant = set()
    for path, _ in index.fields[: narrowed.equal]:
        if len(bounds[path].points or ()) == 1:
            constant.add(path)
        elif any(path == wanted for wanted, _ in sort):
            return False, False
    wanted = [(path, direction) for path, direction in sort if path not in constant]
    available = index.fields[narrowed.equal :]
    if len(wanted) > len(available):
        return False, False
    flips = set()
    for (path, direction), (indexed, indexed_direction) in zip(wanted, available, strict=False):
        if path != indexed:
            return False, False
        flips.add(direction != indexed_direction)
    return len(flips) <= 1, flips == {True}


def _usable(index: Index, bounds: dict[str, Bounds], narrowed: _Narrowed) -> bool:
    """Sparse and partial indexes lack documents; use them only where these cannot match."""
    if index.covers_all:
        return True
    if index.partial is not None or not narrowed.equal + len(narrowed.used):
        return False
    for path in narrowed.used:
        entry = bounds[path]
        if entry.points is None or NULL_KEY not in entry.points:
            return True
    return False


def choose(
    indexes: Sequence[Index],
    query: dict[str, Any],
    sort: Sequence[tuple[str, int]] = (),
    *,
    limited: bool = False,
    total: int,
) -> Plan | None:
    """Choose the cheapest way to find the matches of a filter.

    Parameters
    ----------
    indexes
        The collection's indexes.
    query
        Filter, already checked to be well formed.
    sort
        Requested order as (path, direction).
    limited
        Whether only the first few are wanted.
    total
        Number of documents in the collection.

    Returns
    -------
    Plan | None
        None when looking at every document is as good.
    """
    analysis = analyse(query)
    best: Plan | None = None
    best_cost = total * (1.5 if sort else 1.0)
    for index in indexes:
        narrowed = _narrow(index, analysis.bounds)
        ordered, down = _sorts(index, narrowed, analysis.bounds, sort) if sort else (True, False)
        if not narrowed.used and not narrowed.equal and not (sort and ordered):
            continue
        if not _usable(index, analysis.bounds, narrowed):
            continue
        keys = index.estimate(narrowed.ranges)
        cost = keys * (1.5 if not ordered else 0.5 if limited and sort else 1.0)
        if cost < best_cost or (cost == best_cost and best is None):
            exact = analysis.complete and narrowed.used == set(analysis.bounds)
            if index.multikey:
                exact = exact and len(narrowed.ranges) <= 1 and len(index.fields) == 1 and narrowed.equal == 1
            several = bool(sort) and ordered and len(narrowed.ranges) > 1
            best = Plan(
                [(index, narrowed.ranges)],
                down,
                ordered,
                exact,
                distinct=not index.multikey,
                merge=[len(prefix) for prefix in narrowed.prefixes] if several else None,
                estimate=keys,
            )
            best_cost = cost
    for alternatives in analysis.alternatives:
        plan = _union(indexes, alternatives, total)
        cost = plan.estimate * (1.5 if sort else 1.0) if plan else best_cost
        if plan is not None and cost < best_cost:
            plan.ordered = not sort
            best, best_cost = plan, cost
    return best


def _union(indexes: Sequence[Index], alternatives: list[dict[str, Any]], total: int) -> Plan | None:
    scans: list[tuple[Index, list[Range]]] = []
    keys = 0
    for alternative in alternatives:
        plan = choose(indexes, alternative, total=total)
        if plan is None:
            return None
        scans += plan.scans
        keys += plan.estimate
    return Plan(scans, distinct=False, estimate=keys)


def group_prefix(indexes: Sequence[Index], query: dict[str, Any], path: str) -> tuple[Index, bytes] | None:
    """Find an index whose keys alone tell which values `path` takes among the matches, and how often.

    Returns
    -------
    tuple[Index, bytes] | None
        The index and the common start of the matches' keys; the key of `path` follows.
    """
    analysis = analyse(query)
    # a number may be a place in an array for the index, which it never is where values are grouped
    if not analysis.complete or any(part.isdigit() for part in path.split(".")):
        return None
    for index in indexes:
        if index.multikey or not index.covers_all:
            continue
        prefix = b""
        for position, (name, direction) in enumerate(index.fields):
            if name == path:
                if set(analysis.bounds) == {other for other, _ in index.fields[:position]}:
                    return index, prefix
                break
            entry = analysis.bounds.get(name)
            if entry is None or entry.points is None or len(entry.points) != 1 or entry.low or entry.high:
                break
            prefix += entry.points[0] if direction > 0 else entry.points[0].translate(INVERT)
    return None
