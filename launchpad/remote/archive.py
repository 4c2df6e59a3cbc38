"""The file format of bundles and results: a tar of deflated BSON behind a manifest that names every member's sha256.

The tar is deterministic (no times, no owners, members in a fixed order), so that equal contents are equal files. The
manifest comes first and is plain JSON: ``tar -xOf FILE manifest.json`` shows it. A member is a sequence of BSON
documents, deflated as a whole. A file appears under its name whole or not at all.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import tarfile
import tempfile
import zlib
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Literal

from pydantic import Field, ValidationError

from gapfactory.errors import ServiceError
from gapfactory.protocols.plan import TaskKind  # noqa: TC001 - pydantic needs it
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["FORMAT", "Archive", "BundleError", "BundleSettings", "Manifest", "Member", "write_archive"]

#: Version of the format; another one is refused.
FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"
_LARGEST_MANIFEST: Final = 1 << 20
#: Largest BSON document: that of a database, and what a statement adds around it.
_LARGEST_DOCUMENT: Final = 16 * 1024 * 1024 + 65536
_CHUNK: Final = 1 << 18
#: A task reads some twelve collections.
_MOST_MEMBERS: Final = 100


class BundleError(ServiceError):
    """A bundle or a result cannot be made, or is refused: nothing was changed."""

    code = "bundle"


class BundleSettings(Settings):
    """Limits of bundles and results."""

    compression: int = Field(default=6, ge=0, le=9)
    """zlib's level."""

    largest_bytes: int = Field(default=8 << 30, gt=0)
    """A bundle or a result that holds more than this, unpacked, is refused."""


class Member(Settings):
    """One member: its sha256 and its size in the file, and its size unpacked (bytes)."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    stored: int = Field(ge=0)
    size: int = Field(ge=0)


class Manifest(Settings):
    """What a bundle or a result holds, and which launch of which database it belongs to."""

    format: int = FORMAT
    holds: Literal["bundle", "result"]
    database: str
    """Identity of the database, see `launchpad.queue`."""

    fw_id: int
    launch_id: int
    token: str
    """Of the checkout: only who has the bundle knows it."""

    campaign: str
    generation: int = Field(ge=0)
    kind: TaskKind
    task: str
    """Name of the Firework, for people."""

    versions: dict[str, str]
    """Of what decides numbers, where the file was made."""

    bundle: str = ""
    """Of a result: digest of the manifest of the bundle that it answers."""

    members: dict[str, Member]

    @property
    def name(self) -> str:
        """A short name, unique within the database."""
        return f"{self.fw_id}-{self.launch_id}"

    @property
    def stored(self) -> int:
        """Bytes of the members in the file."""
        return sum(member.stored for member in self.members.values())

    @property
    def size(self) -> int:
        """Bytes of the members unpacked."""
        return sum(member.size for member in self.members.values())


def write_archive(
    path: Path,
    facts: Mapping[str, Any],
    members: Mapping[str, Iterable[bytes]],
    settings: BundleSettings | None = None,
) -> Manifest:
    """Write a bundle or a result, readable by its owner only; return its manifest.

    Parameters
    ----------
    path
        Replaced in one step.
    facts
        Fields of the manifest but for the members.
    members
        BSON documents by name.
    settings
        Limits.

    Raises
    ------
    BundleError
        It would be larger than the settings allow.
    OSError
        It cannot be written.
    """
    settings = settings or BundleSettings()
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    found: dict[str, Member] = {}
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as scratch:
        left = settings.largest_bytes
        for number, (name, documents) in enumerate(members.items()):
            found[name] = _deflate(Path(scratch) / str(number), documents, settings.compression, left)
            left -= found[name].size
        manifest = Manifest.model_validate({**facts, "members": found})
        whole = Path(scratch) / "whole"
        descriptor = os.open(whole, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                text = manifest.model_dump_json(indent=1).encode()
                tar.addfile(_entry(_MANIFEST, len(text)), io.BytesIO(text))
                for number, (name, member) in enumerate(found.items()):
                    with (Path(scratch) / str(number)).open("rb") as content:
                        tar.addfile(_entry(name, member.stored), content)
            stream.flush()
            os.fsync(stream.fileno())
        whole.replace(path)
    return manifest


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry


def _deflate(path: Path, documents: Iterable[bytes], level: int, limit: int) -> Member:
    deflate, digest, stored, size = zlib.compressobj(level), hashlib.sha256(), 0, 0
    with path.open("wb") as stream:

        def put(data: bytes) -> None:
            nonlocal stored
            stored += len(data)
            digest.update(data)
            stream.write(data)

        for document in documents:
            size += len(document)
            if size > limit:
                msg = (
                    f"what the task needs is larger than {limit / 1e9:.3g} GB, the limit of a bundle. Run such tasks "
                    "with workers that reach the database, or cut them smaller ('execution' in the campaign file)"
                )
                raise BundleError(msg)
            put(deflate.compress(document))
        put(deflate.flush())
    return Member(sha256=digest.hexdigest(), stored=stored, size=size)


class Archive:
    """An open bundle or result. Nothing of it is believed before `verify` has returned.

    Attributes
    ----------
    manifest
        What it says it holds.
    digest
        sha256 of the manifest, hence of everything.
    """

    def __init__(self, path: Path, stream: IO[bytes], settings: BundleSettings) -> None:
        self.path = path
        self._settings = settings
        try:
            self._tar = tarfile.open(fileobj=stream, mode="r:")  # noqa: SIM115 - closed with the stream
            self._entries = list(itertools.islice(self._tar, _MOST_MEMBERS + 1))
        except (tarfile.TarError, ValueError, EOFError) as error:
            msg = f"{path} is no whole bundle or result ({error}); copy it again"
            raise BundleError(msg) from error
        if len(self._entries) > _MOST_MEMBERS:
            raise BundleError(
                f"{path} holds more than {_MOST_MEMBERS} members: it is no bundle and no result"
            )
        text = self._manifest_text()
        self.digest = hashlib.sha256(text).hexdigest()
        try:
            content = json.loads(text)
            if isinstance(content, dict) and content.get("format") != FORMAT:
                msg = (
                    f"{path} is of format {content.get('format')!r}, this gapfactory reads {FORMAT}: install the same "
                    "version at the site and near the database"
                )
                raise BundleError(msg)
            self.manifest = Manifest.model_validate(content)
        except (ValueError, ValidationError) as error:
            if isinstance(error, BundleError):
                raise
            msg = f"{path}: its manifest cannot be read ({error}); copy it again"
            raise BundleError(msg) from error

    @classmethod
    @contextmanager
    def open(
        cls, path: Path, holds: Literal["bundle", "result"], settings: BundleSettings | None = None
    ) -> Iterator[Archive]:
        """Open a file and check every hash and size.

        Raises
        ------
        BundleError
            It is not there, not whole, altered, too large, of another format, or holds something else.
        """
        try:
            stream = path.open("rb")
        except OSError as error:
            msg = f"{path} cannot be read: {error.strerror}"
            raise BundleError(msg) from error
        with stream:
            archive = cls(path, stream, settings or BundleSettings())
            if archive.manifest.holds != holds:
                msg = f"{path} is a {archive.manifest.holds}, not a {holds}"
                raise BundleError(msg)
            archive.verify()
            yield archive

    def _manifest_text(self) -> bytes:
        first = self._entries[0] if self._entries else None
        if first is None or first.name != _MANIFEST or first.size > _LARGEST_MANIFEST:
            msg = f"{self.path} does not begin with a manifest: it is no bundle and no result"
            raise BundleError(msg)
        return self._stream(first).read()

    def _stream(self, entry: tarfile.TarInfo) -> IO[bytes]:
        # a file with holes says of itself how long it is: reading it would not end
        stream = self._tar.extractfile(entry) if entry.isreg() and not entry.issparse() else None
        if stream is None:
            msg = f"{self.path}: {entry.name!r} is no plain file"
            raise BundleError(msg)
        return stream

    def verify(self) -> None:
        """Check that the members are those of the manifest, byte by byte.

        Raises
        ------
        BundleError
            They are not.
        """
        members = self.manifest.members
        if [entry.name for entry in self._entries[1:]] != list(members):
            msg = f"{self.path}: its members are not those of its manifest; copy it again"
            raise BundleError(msg)
        if self.manifest.size > self._settings.largest_bytes:
            msg = f"{self.path} holds {self.manifest.size} bytes, more than {self._settings.largest_bytes}"
            raise BundleError(msg)
        for entry in self._entries[1:]:
            digest, stream = hashlib.sha256(), self._stream(entry)
            try:
                while data := stream.read(_CHUNK):
                    digest.update(data)
            except tarfile.ReadError as error:
                msg = f"{self.path} is cut short; copy it again"
                raise BundleError(msg) from error
            if digest.hexdigest() != members[entry.name].sha256 or entry.size != members[entry.name].stored:
                msg = f"{self.path}: {entry.name!r} is not what was written; copy it again"
                raise BundleError(msg)

    def documents(self, name: str) -> Iterator[bytes]:
        """Yield the BSON documents of a member.

        Raises
        ------
        BundleError
            There is no such member, it unpacks to more than it says, or holds no BSON.
        """
        entry = next((entry for entry in self._entries[1:] if entry.name == name), None)
        if entry is None:
            msg = f"{self.path} has no member {name!r}"
            raise BundleError(msg)
        buffer, size = bytearray(), 0
        for data in _inflate(self._stream(entry), self.path):
            size += len(data)
            if size > self.manifest.members[name].size:
                break
            buffer += data
            yield from _split(buffer, self.path)
        if buffer or size != self.manifest.members[name].size:
            msg = f"{self.path}: {name!r} unpacks to something else than its manifest says"
            raise BundleError(msg)


def _inflate(stream: IO[bytes], path: Path) -> Iterator[bytes]:
    inflate = zlib.decompressobj()
    try:
        while data := stream.read(_CHUNK):
            while data:
                yield inflate.decompress(data, _CHUNK)
                data = inflate.unconsumed_tail
        # what the limit on each piece kept back
        while rest := inflate.decompress(b"", _CHUNK):
            yield rest
    except zlib.error as error:
        msg = f"{path}: a member is not deflated ({error})"
        raise BundleError(msg) from error
    if not inflate.eof:
        msg = f"{path}: a member ends too early"
        raise BundleError(msg)


def _split(buffer: bytearray, path: Path) -> Iterator[bytes]:
    """Take whole documents off the buffer."""
    start = 0
    while len(buffer) - start >= 4:
        size = int.from_bytes(buffer[start : start + 4], "little", signed=True)
        if not 5 <= size <= _LARGEST_DOCUMENT:
            msg = f"{path}: a document of {size} bytes is no BSON document of a database"
            raise BundleError(msg)
        if len(buffer) - start < size:
            break
        yield bytes(buffer[start : start + size])
        start += size
    del buffer[:start]
