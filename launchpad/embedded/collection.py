"""One collection: immutable records, its indexes, and queries over both."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import bson

from launchpad.embedded.errors import CommandError
from launchpad.embedded.filters import Predicate, compile_filter
from launchpad.embedded.indexes import Index
from launchpad.embedded.planner import Plan, choose
from launchpad.embedded.sorting import compile_sort, sort_fields
from launchpad.embedded.updates import with_identity
from launchpad.embedded.values import MISSING, get_path
from launchpad.embedded.wire import CODEC, MAX_DOCUMENT, decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from launchpad.embedded.transaction import Transaction

__all__ = ["Collection", "Examined", "Record"]

#: Documents of at most so many bytes are kept decoded, the last so many of them: decoded they take about ten times
#: their size, and a million structures are not looked at again and again.
_KEEP_DECODED = 4096
_MOST_DECODED = 100_000
_IDENTITY = {"v": 2, "key": {"_id": 1}, "name": "_id_"}


@dataclass(slots=True)
class Examined:
    """How many index keys and documents queries have looked at since the server started."""

    keys: int = 0
    documents: int = 0


class Record:
    """One version of a document. Never changed: an update makes a new record.

    Parameters
    ----------
    row
        Number of the document, ascending in order of insertion over the whole server.
    raw
        Its BSON.
    document
        Its decoded form, kept for a while for small documents only.
    """

    __slots__ = ("_document", "raw", "row")

    #: the records that are kept decoded, in the order in which they were decoded
    _kept: ClassVar[deque[Record]] = deque()
    #: the large document decoded last: a command looks at the same one several times
    _large: ClassVar[tuple[Record | None, dict[str, Any]]] = (None, {})

    def __init__(self, row: int, raw: bytes, document: dict[str, Any] | None = None) -> None:
        self.row = row
        self.raw = raw
        self._document: dict[str, Any] | None = None
        if document is not None and len(raw) <= _KEEP_DECODED:
            self._keep(document)

    def _keep(self, document: dict[str, Any]) -> None:
        kept = Record._kept
        self._document = document
        kept.append(self)
        if len(kept) > _MOST_DECODED:
            kept.popleft()._document = None

    @property
    def document(self) -> dict[str, Any]:
        """The decoded document; the caller must not change it."""
        document = self._document
        if document is None:
            if len(self.raw) <= _KEEP_DECODED:
                document = decode(self.raw)
                self._keep(document)
            else:
                known, document = Record._large
                if known is not self:
                    document = decode(self.raw)
                    Record._large = (self, document)
        return document

    def glance(self) -> dict[str, Any]:
        """Return the decoded document without keeping it; the caller must not change it."""
        return self._document or decode(self.raw)

    def copy(self) -> dict[str, Any]:
        """Return a decoded document of the caller's own."""
        return decode(self.raw)


def encode_document(document: dict[str, Any]) -> bytes:
    """Encode a document that is to be stored.

    Raises
    ------
    CommandError
        When it is larger than 16 MiB or holds what BSON cannot.
    """
    try:
        raw = bson.encode(document, codec_options=CODEC)
    except (bson.errors.BSONError, OverflowError, ValueError) as error:
        raise CommandError(2, f"the document cannot be stored: {error}") from error
    if len(raw) > MAX_DOCUMENT:
        raise CommandError(10334, f"the document has {len(raw)} bytes, more than {MAX_DOCUMENT}")
    return raw


class Collection:
    """Records and indexes of one namespace.

    Parameters
    ----------
    number
        Number of the namespace in the journal, never used twice.
    database, name
        Its names.
    examined
        Where to count what queries look at.
    """

    def __init__(self, number: int, database: str, name: str, examined: Examined) -> None:
        self.number = number
        self.database = database
        self.name = name
        self.records: dict[int, Record] = {}
        self.indexes: dict[str, Index] = {"_id_": Index(_IDENTITY)}
        self.bytes = 0
        self.examined = examined

    @property
    def namespace(self) -> str:
        """``database.collection``."""
        return f"{self.database}.{self.name}"

    # --- changes -----------------------------------------------------------------------------------

    def insert(self, raw: bytes | dict[str, Any], transaction: Transaction) -> Record:
        """Insert one document, as BSON or decoded.

        Raises
        ------
        CommandError
            Code 11000 for a duplicate key; nothing is changed then.
        """
        document = decode(raw) if isinstance(raw, bytes) else raw
        if isinstance(raw, dict) or next(iter(document), "") != "_id":
            document = with_identity(document)
            raw = encode_document(document)
        elif len(raw) > MAX_DOCUMENT:
            raise CommandError(10334, f"the document has {len(raw)} bytes, more than {MAX_DOCUMENT}")
        _check_identity(document["_id"])
        entries = self._entries(document, None, self.indexes.values())
        record = Record(transaction.next_row(), raw, document)
        self._enter(record, entries)
        transaction.put(self, None, record)
        transaction.on_undo(lambda: self._leave(record, entries))
        return record

    def replace(self, record: Record, document: dict[str, Any], transaction: Transaction) -> Record:
        """Put a new version in place of `record`; the same record comes back when nothing changed.

        Raises
        ------
        CommandError
            Code 11000 for a duplicate key; nothing is changed then.
        """
        document = with_identity(document)
        raw = encode_document(document)
        if raw == record.raw:
            return record
        new = Record(record.row, raw, document)
        touched = self._touched(record.document, document)
        old_entries = [(index, *index.prefixes(record.document)) for index in touched]
        new_entries = self._entries(document, record.row, touched)
        changed = [
            (old, new) for old, new in zip(old_entries, new_entries, strict=True) if old[1:] != new[1:]
        ]
        old_changed, new_changed = [old for old, _ in changed], [new for _, new in changed]
        self._leave(record, old_changed, keep=True)
        self._enter(new, new_changed)
        transaction.put(self, record, new)

        def undo() -> None:
            self._leave(new, new_changed, keep=True)
            self._enter(record, old_changed)

        transaction.on_undo(undo)
        return new

    def delete(self, record: Record, transaction: Transaction) -> None:
        """Remove a record."""
        entries = [(index, *index.prefixes(record.document)) for index in self.indexes.values()]
        self._leave(record, entries)
        transaction.put(self, record, None)

        def undo() -> None:
            self._enter(record, entries)
            transaction.disordered.add(self)

        transaction.on_undo(undo)

    def restore_order(self) -> None:
        """Put records back in the order of insertion after deletions were undone."""
        self.records = dict(sorted(self.records.items()))

    def _touched(self, old: dict[str, Any], new: dict[str, Any]) -> list[Index]:
        """Return the indexes whose keys may differ between two versions."""
        names = {name for index in self.indexes.values() for name in index.fields_at_top}
        changed = {name for name in names if not _same(old.get(name, MISSING), new.get(name, MISSING))}
        return [
            index
            for index in self.indexes.values()
            if index.partial is not None or not changed.isdisjoint(index.fields_at_top)
        ]

    def _entries(
        self, document: dict[str, Any], row: int | None, indexes: Iterable[Index]
    ) -> list[tuple[Index, list[bytes], bool]]:
        entries = []
        for index in indexes:
            prefixes, array = index.prefixes(document)
            if index.unique:
                other = index.conflict(prefixes, row)
                if other is not None:
                    raise self._duplicate(index, document)
            entries.append((index, prefixes, array))
        return entries

    def _duplicate(self, index: Index, document: dict[str, Any]) -> CommandError:
        pattern = dict(index.fields)
        value = {path: get_path(document, tuple(path.split("."))) or None for path in pattern}
        return CommandError(
            11000,
            f"E11000 duplicate key error collection: {self.namespace} index: {index.name} dup key: {value}",
            keyPattern=pattern,
            keyValue=value,
        )

    def _enter(self, record: Record, entries: list[tuple[Index, list[bytes], bool]]) -> None:
        self.records[record.row] = record
        self.bytes += len(record.raw)
        for index, prefixes, array in entries:
            index.add(prefixes, record.row, array)

    def _leave(
        self, record: Record, entries: list[tuple[Index, list[bytes], bool]], *, keep: bool = False
    ) -> None:
        """Take a record out; `keep` leaves its place for the version that follows."""
        if not keep:
            del self.records[record.row]
        self.bytes -= len(record.raw)
        for index, prefixes, array in entries:
            index.remove(prefixes, record.row, array)

    # --- queries -----------------------------------------------------------------------------------

    def plan(self, query: dict[str, Any], sort: Any = None, *, limited: bool = False) -> Plan | None:
        """Choose how to find the matches of a filter."""
        order = sort_fields(sort) if sort else []
        return choose(list(self.indexes.values()), query, order, limited=limited, total=len(self.records))

    def find(
        self,
        query: dict[str, Any],
        sort: Any = None,
        *,
        skip: int = 0,
        limit: int = 0,
        variables: dict[str, Any] | None = None,
    ) -> list[Record]:
        """Return the matching records in order.

        Parameters
        ----------
        query, sort
            As in MongoDB's ``find``; the order is that of insertion without `sort`, except when an index
            finds the matches.
        skip, limit
            Window of the result; limit 0 means everything.
        variables
            Variables for ``$expr``.
        """
        predicate = compile_filter(query, variables=variables)
        if sort and not isinstance(sort, dict):
            raise CommandError(14, f"a sort specification must be a document, not {sort!r}")
        if sort and list(sort) == ["$natural"]:
            found = list(self._matches(None, predicate))
            found = found[::-1] if sort["$natural"] < 0 else found
            return found[skip : skip + limit] if limit else found[skip:]
        plan = self.plan(query, sort, limited=bool(limit)) if self.records else None
        matches = self._matches(plan, predicate)
        if sort and (plan is None or not plan.ordered):
            return _sorted(list(matches), sort, skip, limit)
        if not limit:
            found = list(matches)
            return found[skip:] if skip else found
        found = []
        for record in matches:
            found.append(record)
            if len(found) == skip + limit:
                break
        return found[skip:]

    def _matches(self, plan: Plan | None, predicate: Predicate) -> Iterator[Record]:
        records, examined = self.records, self.examined
        if plan is None:
            for record in records.values():
                examined.documents += 1
                if predicate(record.document):
                    yield record
            return
        seen: set[int] = set()
        for row in plan.rows():
            examined.keys += 1
            if not plan.distinct:
                if row in seen:
                    continue
                seen.add(row)
            record = records[row]
            if plan.exact:
                yield record
                continue
            examined.documents += 1
            if predicate(record.document):
                yield record

    def count(self, query: dict[str, Any]) -> int:
        """Count matches; from an index alone where it tells exactly."""
        predicate = compile_filter(query)
        if not query:
            return len(self.records)
        plan = self.plan(query)
        if plan is not None and plan.exact:
            return plan.keys
        return sum(1 for _ in self._matches(plan, predicate))


def _same(old: Any, new: Any) -> bool:
    """Tell whether two values are surely equal to the last bit (where Python's true equals 1, they are not)."""
    if type(old) is not type(new):
        return False
    if isinstance(old, dict | list):
        return encode_document({"": old}) == encode_document({"": new})
    return bool(old == new)


def _check_identity(value: Any) -> None:
    if isinstance(value, list) or type(value).__name__ in ("Regex", "Pattern"):
        raise CommandError(2, f"_id cannot be an array or a regular expression, got {value!r}")


def _sorted(records: list[Record], sort: Any, skip: int, limit: int) -> list[Record]:
    """Sort records by their documents."""
    pairs = [(record.document, record) for record in records]
    order = compile_sort(sort, document_of=lambda pair: pair[0])
    ordered = [record for _, record in order(pairs)]
    return ordered[skip : skip + limit] if limit else ordered[skip:]
