"""The database at a site: answers what the slice knows, refuses the rest, and writes down every write that succeeded.

The log is the result. A record of it is on the file system before the task hears that its write is done, so that a
runner that is killed loses nothing that it was told is stored; a record that was cut short is dropped, and what it said
is done again.
"""

from __future__ import annotations

import hashlib
import os
import struct
from typing import TYPE_CHECKING, Any, Final

import bson
from bson.codec_options import CodecOptions, DatetimeConversion

from launchpad.embedded.errors import CommandError
from launchpad.embedded.executor import Executor
from launchpad.remote.archive import BundleError
from launchpad.remote.permits import LOCAL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from launchpad.embedded.commands.registry import Peer, ServerInfo
    from launchpad.embedded.store import Store
    from launchpad.embedded.wire import Request
    from launchpad.remote.permits import Permit
    from launchpad.remote.slices import Slice

__all__ = ["CODEC", "RecordingExecutor", "WriteLog", "decoded", "encoded", "operation"]

#: Statements are decoded and encoded again without loss: times stay in UTC, also outside of Python's range.
CODEC: Final[CodecOptions[dict[str, Any]]] = CodecOptions(
    tz_aware=True, datetime_conversion=DatetimeConversion.DATETIME_AUTO
)
_HEAD: Final = struct.Struct("<I32s")
#: A statement is a document of the database and what is around it.
_LARGEST: Final = 16 * 1024 * 1024 + 65536
#: Server's code for "the disk is full", which another try can cure.
_DISK_FULL: Final = 14031
_NOT_ALLOWED: Final = 13
#: Commands that neither read nor write documents.
_FREE: Final = frozenset(
    {
        "hello",
        "ismaster",
        "ping",
        "buildinfo",
        "endsessions",
        "killcursors",
        "getmore",
        "listindexes",
        "createindexes",
    }
)
_STATEMENTS: Final = {"insert": "documents", "update": "updates", "delete": "deletes"}


def encoded(document: Mapping[str, Any]) -> bytes:
    """Return a document as BSON."""
    return bson.encode(document, codec_options=CODEC)


def decoded(raw: bytes) -> dict[str, Any]:
    """Return the document of some BSON.

    Raises
    ------
    BundleError
        It is none.
    """
    try:
        return bson.decode(raw, CODEC)
    except bson.errors.InvalidBSON as error:
        msg = f"a document cannot be read ({error}); copy the file again"
        raise BundleError(msg) from error


class WriteLog:
    """An append-only file of checksummed BSON documents that belongs to one bundle.

    Parameters
    ----------
    path
        Made (mode 0600) when absent. The log of another bundle, and what follows a torn record, is dropped.
    digest
        Of the bundle.
    """

    def __init__(self, path: Path, digest: str) -> None:
        self._path = path
        self._digest = digest
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._end, whose = 0, ""
        for number, (raw, end) in enumerate(self._records()):
            if number == 0:
                whose = decoded(raw).get("bundle", "")
                if whose != digest:
                    break
            self._end = end
        os.ftruncate(self._descriptor, self._end)
        if not self._end:
            self._append(encoded({"bundle": digest}))

    def _records(self) -> Iterator[tuple[bytes, int]]:
        """Yield every whole record with the position of its end."""
        with self._path.open("rb") as stream:
            while len(head := stream.read(_HEAD.size)) == _HEAD.size:
                size, digest = _HEAD.unpack(head)
                if size > _LARGEST:
                    return
                raw = stream.read(size)
                if hashlib.sha256(raw).digest() != digest:
                    return
                yield raw, stream.tell()

    def _append(self, raw: bytes) -> None:
        record = _HEAD.pack(len(raw), hashlib.sha256(raw).digest()) + raw
        written = 0
        try:
            while written < len(record):
                written += os.write(self._descriptor, record[written:])
        except OSError:
            # nothing may follow half a record
            os.ftruncate(self._descriptor, self._end)
            raise
        self._end += len(record)

    def append(self, statement: Mapping[str, Any]) -> None:
        """Add a statement; it survives the end of this process when this returns.

        Raises
        ------
        OSError
            It cannot be written; the log is as it was.
        """
        self._append(encoded(statement))

    def statements(self) -> Iterator[bytes]:
        """Yield the statements so far, as BSON."""
        for number, (raw, _) in enumerate(self._records()):
            if number:
                yield raw

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)


class RecordingExecutor(Executor):
    """An executor for one task: reads within its slice, writes within its permit, each write recorded.

    Parameters
    ----------
    store, info
        See `Executor`.
    database
        Name of the database that is guarded from `guard` on.
    """

    def __init__(self, store: Store, info: ServerInfo, database: str) -> None:
        super().__init__(store, info)
        self._database = database
        self._slices: dict[tuple[str, str], list[Slice]] | None = None

    def guard(self, slices: Iterable[Slice], permit: Permit, log: WriteLog) -> None:
        """Answer, allow and record from now on only what the task may do."""
        known: dict[tuple[str, str], list[Slice]] = {}
        for part in slices:
            known.setdefault((part.group or self._database, part.collection), []).append(part)
        self._permit, self._log, self._slices = permit, log, known

    def _answer(self, peer: Peer, request: Request) -> bytes:
        name, body = request.name.lower(), request.command
        if self._slices is None or name in _FREE:
            return super()._answer(peer, request)
        database, collection = str(body.get("$db")), str(body.get(request.name))
        own = database == self._database
        if own and collection in LOCAL:
            return super()._answer(peer, request)
        if name == "find":
            self._require_answer(self._slices.get((database, collection), ()), collection, body)
            return super()._answer(peer, request)
        if own and name in _STATEMENTS:
            return self._write(peer, request, collection, name)
        raise CommandError(_NOT_ALLOWED, f"a task at a site does not use {request.name} ({collection})")

    def _require_answer(self, parts: Iterable[Slice], collection: str, body: Mapping[str, Any]) -> None:
        query, projection, sort = body.get("filter") or {}, body.get("projection"), body.get("sort") or {}
        if not any(part.answers(query, projection, sort) for part in parts):
            # silence would be taken for "there is none"
            raise CommandError(
                _NOT_ALLOWED,
                f"the bundle of this task does not hold what it reads from {collection} ({str(query)[:300]}): "
                "launchpad.remote.slices must name it",
            )

    def _write(self, peer: Peer, request: Request, collection: str, name: str) -> bytes:
        raw = request.raw_sections.get(_STATEMENTS[name]) or request.command.get(_STATEMENTS[name], [])
        statements = [
            _statement(collection, name, decoded(each) if isinstance(each, bytes) else each) for each in raw
        ]
        for statement in statements:
            try:
                self._permit.check(statement)
            except BundleError as error:
                raise CommandError(_NOT_ALLOWED, str(error)) from error
        before = self.store.transaction.mark()
        reply = super()._answer(peer, request)
        if "txnNumber" in request.command and self.store.transaction.mark() == before:
            return reply  # sent again: it was answered again, not executed
        failed = [entry["index"] for entry in bson.decode(reply).get("writeErrors", [])]
        done = len(statements)
        if failed and request.command.get("ordered", True):
            done = failed[0]
        try:
            for number, statement in enumerate(statements[:done]):
                if number not in failed:
                    self._log.append(statement)
        except OSError as error:
            raise CommandError(_DISK_FULL, f"the log of the task cannot be written: {error}") from error
        return reply


def _statement(collection: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return one statement of a write command as it is recorded."""
    statement: dict[str, Any] = {"c": collection, "o": name}
    if name == "insert":
        return {**statement, "d": dict(given)}
    if name == "delete":
        return {**statement, "q": given.get("q") or {}, "limit": int(given.get("limit", 0))}
    unknown = set(given) - {"q", "u", "upsert", "multi"}
    if unknown or not isinstance(given.get("u"), dict):
        raise CommandError(_NOT_ALLOWED, f"an update with {', '.join(sorted(unknown))} cannot be recorded")
    return {
        **statement,
        "q": given.get("q") or {},
        "u": given["u"],
        "upsert": bool(given.get("upsert")),
        "multi": bool(given.get("multi")),
    }


def operation(statement: Mapping[str, Any]) -> Any:
    """Return a recorded statement as an operation of pymongo's ``bulk_write``."""
    from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne

    action = statement["o"]
    if action == "insert":
        return InsertOne(statement["d"])
    if action == "delete":
        return (DeleteOne if statement["limit"] else DeleteMany)(statement["q"])
    if any(name.startswith("$") for name in statement["u"]):
        kind = UpdateMany if statement["multi"] else UpdateOne
        return kind(statement["q"], statement["u"], upsert=statement["upsert"])
    return ReplaceOne(statement["q"], statement["u"], upsert=statement["upsert"])
