"""The file that removed data goes into: tar.gz of BSON with checksums, on disk as a whole before it has its name."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import tarfile
import tempfile
import zlib
from typing import IO, TYPE_CHECKING, Any, Self

import bson
from bson.errors import BSONError

from gapfactory.errors import InputError
from launchpad.database.transfer import add_member, members

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ArchiveWriter", "read_documents", "read_files", "sha256_of", "verified"]

FORMAT = 1
_KIND = "gapfactory retention"


class ArchiveWriter:
    """Write one archive; a context manager that removes what it began unless `finish` was called.

    Documents of one kind after the other: each kind is a member, and goes through a temporary file.

    Parameters
    ----------
    target
        The archive; its directory must exist. Only its owner may read it.
    """

    def __init__(self, target: Path) -> None:
        self.target = target
        self._partial = target.with_name(f".{target.name}.partial")
        self._members: dict[str, dict[str, Any]] = {}
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        descriptor = os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._stream = self._stack.enter_context(os.fdopen(descriptor, "wb"))
        self._tar = self._stack.enter_context(tarfile.open(fileobj=self._stream, mode="w:gz"))
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        self._partial.unlink(missing_ok=True)

    def add(self, name: str, content: IO[bytes], documents: int | None = None) -> None:
        """Add a member from a file that is open at any place."""
        content.seek(0)
        digest = _digest(content)
        self._members[name] = {"sha256": digest, "bytes": content.tell(), "documents": documents}
        add_member(self._tar, name, content)

    def temporary(self) -> IO[bytes]:
        """Return a file without a name beside the archive, for one member."""
        return tempfile.TemporaryFile(dir=self.target.parent)

    def finish(self, **facts: Any) -> str:
        """Write the manifest, bring everything to the disk and give the file its name; return its sha256."""
        manifest = {"kind": _KIND, "format": FORMAT, "members": self._members, **facts}
        add_member(self._tar, "manifest.json", io.BytesIO(json.dumps(manifest, indent=2).encode()))
        self._tar.close()
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._stack.close()
        digest = sha256_of(self._partial)
        self._partial.rename(self.target)
        place = os.open(self.target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(place)
        finally:
            os.close(place)
        return digest


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file (hex)."""
    with path.open("rb") as stream:
        return _digest(stream)


def _digest(stream: IO[bytes]) -> str:
    """Return the sha256 of the rest of a stream."""
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def verified(path: Path) -> dict[str, Any]:
    """Read an archive to its end and return its manifest.

    Raises
    ------
    InputError
        It is not one of ours, or is cut short or altered.
    """
    found: dict[str, str] = {}
    manifest: dict[str, Any] = {}
    try:
        for name, content in members(path):
            if name == "manifest.json":
                manifest = json.load(content)
            else:
                found[name] = _digest(content)
        if manifest.get("kind") != _KIND or manifest.get("format") != FORMAT:
            raise ValueError("it has no manifest of this format")
        wanted = {name: entry["sha256"] for name, entry in manifest["members"].items()}
    except (OSError, EOFError, zlib.error, tarfile.TarError, KeyError, TypeError, ValueError) as error:
        msg = f"{path} is no archive of 'gapfactory db prune', or is cut short: {error}"
        raise InputError(msg) from error
    altered = sorted(name for name in wanted if found.get(name) != wanted[name])
    if altered:
        msg = f"{path}: {altered[0]} is not what was written; take another copy of this archive"
        raise InputError(msg)
    return manifest


def read_documents(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield kind and document of everything in an archive that was verified."""
    for name, content in members(path):
        if name.endswith(".bson"):
            try:
                for document in bson.decode_file_iter(content):
                    yield name.removesuffix(".bson"), dict(document)
            except BSONError as error:
                msg = f"{path}: {name} cannot be read: {error}"
                raise InputError(msg) from error


def read_files(path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield sha256 and content of the potentials' files in an archive that was verified."""
    for name, content in members(path):
        if name.startswith("files/"):
            yield name.removeprefix("files/"), content.read()
