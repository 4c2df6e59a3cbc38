"""Filters, order and pages of a table, in the URL: typed, declared, and never a client's own query.

A table declares its `Column` objects; a `Listing` is read from the URL's arguments and knows the condition for the
database, the order, and the URL of every link of the table (sort by this column, next page, without this filter). Pages
follow each other by the value of the sort key and the id of the last row, not by skipping: page 10 000 costs what page
1 costs. A page names between which values of the sort key it lies, so that an index is entered there.
"""

from __future__ import annotations

import base64
import json
import sys
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlencode

from bson import ObjectId
from bson.errors import InvalidId

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pymongo.collection import Collection

__all__ = ["SIDE_BY_SIDE", "SIZES", "Column", "Listing", "Page"]

#: Rows of a page that may be asked for.
SIZES: Final = (25, 50, 100, 200)
#: Ranges of an index that a database merges into one order.
SIDE_BY_SIDE: Final = 200
_LONGEST: Final = 200
_PLAIN: Final = (type(None), bool, str, int, float)
#: Types of sort keys and ids -> their names in the tokens of pages.
_KINDS: Final[dict[type, str]] = {
    type(None): "n",
    bool: "b",
    str: "s",
    int: "i",
    float: "f",
    datetime: "d",
    ObjectId: "o",
}


@dataclass(frozen=True)
class Column:
    """What can be filtered and sorted by.

    Attributes
    ----------
    name
        In the URL.
    path
        In the documents.
    label
        For people.
    kind
        ``choice``: one or several of `choices` (any of them); ``prefix``: text that begins so; ``exact``: equal text;
        ``number``: an equal whole number; ``whole`` and ``real``: numbers, ``name_min`` and ``name_max`` in the URL.
    choices
        Of a ``choice``.
    sortable
        Whether an index serves the order. Rows that are looked for by a sortable ``prefix`` are in its order.
    unique
        Whether no two rows have the same value.
    """

    name: str
    path: str
    label: str
    kind: Literal["choice", "prefix", "exact", "number", "whole", "real"]
    choices: tuple[str, ...] = ()
    sortable: bool = False
    unique: bool = False

    def condition(self, arguments: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """Return the condition that the URL's arguments ask for, empty if none.

        Raises
        ------
        InputError
            A value cannot be meant.
        """
        if self.kind in {"whole", "real"}:
            bounds = {
                operator: self._number(arguments[key][0])
                for key, operator in ((f"{self.name}_min", "$gte"), (f"{self.name}_max", "$lte"))
                if arguments.get(key) and arguments[key][0]
            }
            return {self.path: bounds} if bounds else {}
        values = [value for value in arguments.get(self.name, ()) if value]
        if not values:
            return {}
        if any(len(value) > _LONGEST for value in values):
            raise InputError(f"{self.name}: longer than {_LONGEST} characters")
        if self.kind == "choice":
            unknown = sorted(set(values) - set(self.choices))
            if unknown:
                raise InputError(f"{self.name}={unknown[0]!r}: one of {', '.join(self.choices)}")
            return {self.path: values[0] if len(values) == 1 else {"$in": values}}
        if self.kind == "exact":
            return {self.path: values[0]}
        if self.kind == "number":
            return {self.path: self._number(values[0])}
        # a range, not a pattern: every server answers it from an index
        return {self.path: {"$gte": values[0], "$lt": values[0] + chr(sys.maxunicode)}}

    def _number(self, text: str) -> float | int:
        try:
            value = float(text) if self.kind == "real" else int(text)
        except ValueError as error:
            raise InputError(
                f"{self.name}: {text[:40]!r} is no {'' if self.kind == 'real' else 'whole '}number"
            ) from error
        if value != value or abs(value) > 2**62:  # beyond what the database can hold
            raise InputError(f"{self.name}: {text[:40]!r} is out of range")
        return value

    def holds(self, value: Any) -> bool:
        """Return whether a value can be one of this column: what a page's token says is a client's word."""
        if self.kind in {"whole", "real", "number"}:
            return isinstance(value, int | float) and not isinstance(value, bool) and value == value
        return isinstance(value, str)


@dataclass(frozen=True)
class Page:
    """Rows of a table, and how to go on.

    Attributes
    ----------
    rows
        The documents.
    following
        Token of the next page, None on the last one.
    """

    rows: tuple[dict[str, Any], ...]
    following: str | None


@dataclass(frozen=True)
class Listing:
    """What the URL asks of a table.

    Attributes
    ----------
    columns
        All that may be asked.
    conditions
        For the database.
    sort
        Column by which the rows are ordered.
    descending
        The other way round.
    size
        Rows of a page.
    after
        Value and id after which the page begins, None for the first one.
    arguments
        Of the URL, those that mean something.
    """

    columns: tuple[Column, ...]
    conditions: Mapping[str, Any]
    sort: Column
    descending: bool
    size: int
    after: tuple[Any, Any] | None = None
    arguments: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        columns: Sequence[Column],
        arguments: Mapping[str, Sequence[str]],
        *,
        sort: str,
        descending: bool = True,
    ) -> Listing:
        """Read what the URL asks.

        Parameters
        ----------
        columns
            What may be asked.
        arguments
            Of the URL, each with all its values (``request.args.to_dict(flat=False)``).
        sort, descending
            Order unless the URL says otherwise (``sort=name`` or ``sort=-name``).

        Raises
        ------
        InputError
            Something asked is not among the columns' kinds and choices.
        """
        conditions: dict[str, Any] = {}
        meant: dict[str, tuple[str, ...]] = {}
        for column in columns:
            conditions |= column.condition(arguments)
            for key in (column.name, f"{column.name}_min", f"{column.name}_max"):
                if any(arguments.get(key, ())):
                    meant[key] = tuple(value for value in arguments[key] if value)
        by_name = {column.name: column for column in columns if column.sortable}
        wanted = next(iter(arguments.get("sort", ())), "")
        if wanted:
            sort, descending = wanted.removeprefix("-"), wanted.startswith("-")
            meant["sort"] = (wanted,)
        prefix = next((c for c in by_name.values() if c.kind == "prefix" and c.path in conditions), None)
        if prefix is not None:
            if wanted and sort != prefix.name:
                raise InputError(f"sort={sort[:40]!r}: what {prefix.label.lower()} ... is in that order")
            sort, descending = prefix.name, descending and bool(wanted)
        if sort not in by_name:
            raise InputError(f"sort={sort[:40]!r}: one of {', '.join(sorted(by_name))}")
        size = next(iter(arguments.get("size", ())), "")
        if size:
            if size not in {str(number) for number in SIZES}:
                raise InputError(f"size={size[:40]!r}: one of {', '.join(map(str, SIZES))}")
            meant["size"] = (size,)
        token = next(iter(arguments.get("after", ())), "")
        return cls(
            tuple(columns),
            conditions,
            by_name[sort],
            descending,
            int(size or SIZES[1]),
            _parse(token) if token else None,
            meant,
        )

    def page(self, collection: Collection[Any], fields: Mapping[str, Any], always: Mapping[str, Any]) -> Page:
        """Fetch the page.

        Parameters
        ----------
        collection
            Where.
        fields
            Projection; the sort key is added.
        always
            Conditions that the table has by itself. What has no value to sort by has no place in the order: where that
            can be, they leave it out.
        """
        direction = -1 if self.descending else 1
        parts = [dict(always), dict(self.conditions)]
        if self.after is not None:
            parts += self._beyond(*self.after)
        order = [(self.sort.path, direction)]
        if self.sort.path != "_id" and not self.sort.unique:
            order.append(("_id", direction))
        found = list(
            collection.find(_together(parts), {**fields, self.sort.path: 1}).sort(order).limit(self.size + 1)
        )
        rows = found[: self.size]
        following = None
        if len(found) > self.size:
            following = _token(_value(rows[-1], self.sort.path), rows[-1]["_id"])
        return Page(tuple(rows), following)

    def spread(self, values: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
        """Name every value of what is not filtered: an index that begins with these paths then serves the order.

        Parameters
        ----------
        values
            Path -> all values that it has.

        Returns
        -------
        dict
            Conditions; empty if there were more ranges than an index is read at side by side.
        """
        added = {path: {"$in": list(all_)} for path, all_ in values.items() if path not in self.conditions}
        ranges = 1
        for condition in {**self.conditions, **added}.values():
            ranges *= len(condition["$in"]) if isinstance(condition, dict) and "$in" in condition else 1
        return added if ranges <= SIDE_BY_SIDE else {}

    def _beyond(self, value: Any, key: Any) -> list[dict[str, Any]]:
        """Return conditions of what follows a row.

        Raises
        ------
        InputError
            The row cannot be one of this table.
        """
        operator = "$lt" if self.descending else "$gt"
        path = self.sort.path
        if path == "_id":
            return [{"_id": {operator: key}}]
        if not self.sort.holds(value):
            raise InputError("after=...: not a page of this table")
        if self.sort.unique:
            return [{path: {operator: value}}]
        beyond = [{path: value, "_id": {operator: key}}, {path: {operator: value}}]
        # alternatives bound nothing: without the bound a page would read all that come before it
        return [{path: {f"{operator}e": value}}, {"$or": beyond}]

    def link(self, **changes: str | None) -> str:
        """Return the URL's arguments with some changed (None removes one), without the page unless `after` says it."""
        arguments: dict[str, Any] = {key: list(values) for key, values in self.arguments.items()}
        for key, value in changes.items():
            arguments.pop(key, None)
            if value is not None:
                arguments[key] = [value]
        return "?" + urlencode(arguments, doseq=True)

    def sorted_by(self, column: Column) -> str:
        """Return the link that sorts by a column; a second time, the other way round."""
        down = column == self.sort and not self.descending
        return self.link(sort=f"-{column.name}" if down else column.name)


def _together(parts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return one condition of several; bounds of the same path become one interval, which an index is entered by."""
    query: dict[str, Any] = {}
    rest: list[dict[str, Any]] = []
    for part in parts:
        for path, condition in part.items():
            if path not in query:
                query[path] = condition
            elif _is_interval(query[path]) and _is_interval(condition):
                query[path] = _meeting(query[path], condition)
            else:
                rest.append({path: condition})
    return {**query, "$and": rest} if rest else query


def _is_interval(condition: Any) -> bool:
    return isinstance(condition, dict) and condition.keys() <= {"$gt", "$gte", "$lt", "$lte"}


def _meeting(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Return where two intervals meet; of equal bounds the open one counts."""
    found: dict[str, Any] = {}
    for operators, narrower in ((("$gt", "$gte"), max), (("$lt", "$lte"), min)):
        bounds = [(one[name], name) for one in (first, second) for name in operators if name in one]
        if bounds:
            value = narrower(value for value, _ in bounds)
            found[min(name for bound, name in bounds if bound == value)] = value
    return found


def _value(document: Mapping[str, Any], path: str) -> Any:
    found: Any = document
    for part in path.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def _token(value: Any, key: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps([_named(value), _named(key)]).encode()).decode()


def _named(value: Any) -> list[Any]:
    if isinstance(value, datetime):
        return ["d", value.isoformat()]
    if isinstance(value, ObjectId):
        return ["o", str(value)]
    # the driver's own types of numbers are subclasses
    kind: Any = next(known for known in _PLAIN if isinstance(value, known))
    return [_KINDS[kind], None if value is None else kind(value)]


def _parse(token: str) -> tuple[Any, Any]:
    """Return what a token holds: two plain values, never an expression of the query language."""
    try:
        first, second = json.loads(base64.b64decode(token.encode(), altchars=b"-_", validate=True))
        return _plain(*first), _plain(*second)
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError("after=...: not a page of this table") from error


def _plain(kind: str, value: Any) -> Any:
    """Return a value of a token as the type that it says.

    Raises
    ------
    ValueError, TypeError
        It is not.
    """
    wanted = (
        next(known for known, name in _KINDS.items() if name == kind) if kind in _KINDS.values() else None
    )
    if wanted in _PLAIN:
        if type(value) is not wanted or (isinstance(value, int) and abs(value) >= 2**63):
            raise ValueError(kind)
        if isinstance(value, str):
            value.encode()  # half a surrogate pair is no text
        return value
    if wanted is datetime and isinstance(value, str):
        return datetime.fromisoformat(value)
    if wanted is ObjectId and isinstance(value, str):
        try:
            return ObjectId(value)
        except InvalidId as error:
            raise ValueError(kind) from error
    raise ValueError(kind)
