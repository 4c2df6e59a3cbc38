"""How two ends talk through one command: a mark, a line of JSON, then files one after the other, with checksums.

The mark comes first because login shells print greetings. A file that was cut, or does not have the checksum that was
announced, is not kept; the next exchange sees that it is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

__all__ = ["announce", "receive_file", "receive_header", "send"]

_MARK = b"#gapfactory-exchange"
#: Longest line before the mark, and how much there may be in all: more is not a greeting.
_NOISE = 1_000_000
_BLOCK = 1 << 20
#: Longest header: a line for each of some hundred thousand tasks.
_LONGEST_HEADER = 1 << 26


def announce(paths: Iterable[Path], *, limit: int) -> list[dict[str, Any]]:
    """Return name, size and sha256 of files, until their sizes reach a limit (bytes); the first one always counts."""
    found: list[dict[str, Any]] = []
    total = 0
    for path in paths:
        try:
            with path.open("rb") as stream:
                size = os.fstat(stream.fileno()).st_size
                if found and total + size > limit:
                    break
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
        except FileNotFoundError:
            continue
        total += size
        found.append({"name": path.name, "size": size, "sha256": digest})
    return found


def send(stream: IO[bytes], header: dict[str, Any], paths: Sequence[Path] = ()) -> None:
    """Write a header, and the files that it announces under ``files``, in that order.

    Raises
    ------
    OSError
        The other end is gone, or a file is.
    """
    stream.write(b"\n" + _MARK + b"\n" + json.dumps(header).encode() + b"\n")
    for path, about in zip(paths, header.get("files", ()), strict=True):
        left = int(about["size"])
        with path.open("rb") as source:
            while left > 0:
                block = source.read(min(_BLOCK, left))
                if not block:
                    raise EOFError(f"{path} became shorter while it was sent")
                stream.write(block)
                left -= len(block)
    stream.flush()


def receive_header(stream: IO[bytes]) -> dict[str, Any]:
    """Read past greetings to the header.

    Raises
    ------
    EOFError
        It ended before, or is no header.
    """
    seen = 0
    while True:
        line = stream.readline(_NOISE)
        seen += len(line)
        if not line or seen > _NOISE:
            raise EOFError("no answer")
        if line.strip() == _MARK:
            break
    line = stream.readline(_LONGEST_HEADER)
    if not line.endswith(b"\n"):
        raise EOFError("the answer was cut")
    try:
        header = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise EOFError("the answer is none of ours") from error
    if not isinstance(header, dict):
        raise EOFError("the answer is none of ours")
    return header


def receive_file(stream: IO[bytes], about: dict[str, Any], target: Path) -> OSError | None:
    """Read one announced file to a path, whole or not at all; return what kept it from being written, if anything.

    Raises
    ------
    EOFError
        The stream ended, or what came has another checksum.
    """
    left, digest = int(about["size"]), hashlib.sha256()
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    trouble: OSError | None = None
    kept: IO[bytes] | None = None
    try:
        try:
            kept = temporary.open("wb")
        except OSError as error:
            trouble = error
        while left > 0:
            block = stream.read(min(_BLOCK, left))
            if not block:
                raise EOFError(f"{about['name']} was cut")
            left -= len(block)
            digest.update(block)
            if kept is not None and trouble is None:
                try:
                    kept.write(block)
                except OSError as error:
                    trouble = error  # read on: other files follow
        if digest.hexdigest() != about["sha256"]:
            raise EOFError(f"{about['name']} arrived with another checksum")
        if kept is not None and trouble is None:
            try:
                kept.flush()
                os.fsync(kept.fileno())
                kept.close()
                temporary.replace(target)
            except OSError as error:
                trouble = error
    finally:
        if kept is not None:
            try:
                kept.close()
            except OSError as error:
                trouble = trouble or error
        temporary.unlink(missing_ok=True)
    return trouble
