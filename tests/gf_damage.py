"""Damage whole files at random, and judge what their readers make of them.

A case is a format and a number; the number alone decides what is done to the file, so that a finding can be repeated.
"""

from __future__ import annotations

import contextlib
import gzip
import random
import re
import resource
import signal
import tempfile
import traceback
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from gf_formats import Format

#: Longest time and most further memory that a damaged file may cost; whole ones cost 30 ms and less.
SECONDS = 10
BYTES = 3 << 30
#: Files grow at most to this.
LARGEST = 4 << 20

_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[A-Za-z_][A-Za-z_0-9]*")
_NUMBERS = (
    *(
        b"nan",
        b"inf",
        b"-inf",
        b"1e999",
        b"-1",
        b"0",
        b"1e-320",
        b"1e300",
        b"-0.0",
        b"",
        b"*****",
        b"1_0",
        b"0x10",
    ),
    *(
        b"99999999999999999999",
        b"999999999999",
        b"2147483648",
        b"-2147483649",
        b"1.5",
        b"1/0",
        b"1D5",
        b"T",
        b"null",
    ),
)
_PIECES = (
    *(
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xc3\x28",
        "é²Ⅷ٣".encode(),
        b"\r",
        b"\x0b",
        b"\x85",
        b"\n\n\n",
        b"\t",
    ),
    *(
        b"%",
        b"#",
        b'"',
        b"'",
        b"{",
        b"}",
        b"[",
        b"]",
        b"<",
        b">",
        b"&",
        b"*a",
        b"!!",
        b":",
        b"=",
        b",",
        b"\\",
        b"-",
    ),
    *(b"[" * 20000, b"{a: " * 3000, b"<a>" * 20000, b"x" * 100_000, b"1 " * 20000, b"(" * 20000),
)


class TooLongError(BaseException):
    """A reader takes too long; not an `Exception`, so that no reader catches it."""


@dataclass(frozen=True)
class Finding:
    """What must not happen.

    Parameters
    ----------
    format, number
        The case.
    what
        Class of the exception, "too long" or "wrong".
    text
        What it said.
    place
        Where it was raised.
    trace
        All of it.
    """

    format: str
    number: int
    what: str
    text: str
    place: str
    trace: str

    def __str__(self) -> str:
        return f"{self.format} {self.number}: {self.what}: {self.text[:200]} ({self.place})"


# ---- damage ------------------------------------------------------------------------------------------------------


def _flipped(data: bytes, rng: random.Random) -> bytes:
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        found[rng.randrange(len(found))] ^= 1 << rng.randrange(8)
    return bytes(found)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data))]


def _without_slice(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    return data[:start] + data[start + rng.choice((1, 4, 40, 400)) :]


def _inserted(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data) + 1)
    return data[:start] + rng.choice(_PIECES) + data[start:]


def _noise(data: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(data))
    noise = rng.randbytes(rng.choice((1, 4, 64)))
    return data[:start] + noise + data[start + len(noise) :]


def _number(data: bytes, rng: random.Random) -> bytes:
    return _substituted(data, rng, _NUMBER, lambda: rng.choice(_NUMBERS))


def _word(data: bytes, rng: random.Random) -> bytes:
    words = _WORD.findall(data)
    return _substituted(data, rng, _WORD, lambda: rng.choice((*words, b"", b"null", b"nan")))


def _substituted(data: bytes, rng: random.Random, what: re.Pattern[bytes], by: Callable[[], bytes]) -> bytes:
    places = list(what.finditer(data))
    if not places:
        return _noise(data, rng)
    match = rng.choice(places)
    return data[: match.start()] + by() + data[match.end() :]


def _lines(data: bytes, rng: random.Random) -> bytes:
    lines = data.splitlines(keepends=True)
    k, other = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.randrange(5)
    if how == 0:
        lines[k:k] = [lines[other]] * rng.choice((1, 1, 3, 200))
    elif how == 1:
        del lines[k]
    elif how == 2:
        lines[k], lines[other] = lines[other], lines[k]
    elif how == 3:
        lines[k] = b"\n"
    else:
        lines = lines[k:] + lines[:k]
    return b"".join(lines)


def _twice(data: bytes, rng: random.Random) -> bytes:
    return data * rng.choice((2, 3, 50))


def _encoded_otherwise(data: bytes, rng: random.Random) -> bytes:
    how = rng.choice(("utf-16", "utf-32-be", "bom", "latin", "crlf"))
    if how == "bom":
        return b"\xef\xbb\xbf" + data
    if how == "crlf":
        return data.replace(b"\n", b"\r\n")
    if how == "latin":
        return data.replace(b"e", b"\xe9", rng.choice((1, -1)))
    return data.decode("latin-1").encode(how)


def _nothing(data: bytes, rng: random.Random) -> bytes:
    del data
    return rng.choice((b"", b"\n", b" ", b"\0" * 512, rng.randbytes(300)))


_DAMAGE = (
    *(_flipped, _flipped, _cut, _cut, _without_slice, _inserted, _inserted, _noise),
    *(_number, _number, _number, _number, _word, _word, _lines, _lines, _twice, _encoded_otherwise, _nothing),
)


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Return the content of a file with one to three injuries; what is compressed is also injured inside."""
    if data[:2] == b"\x1f\x8b" and rng.random() < 0.6:
        return gzip.compress(damaged(gzip.decompress(data), rng), mtime=0)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if not data or len(data) > LARGEST:
            break
        data = rng.choice(_DAMAGE)(data, rng)
    return data


# ---- judgement ---------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def bounded(seconds: float = SECONDS, further_bytes: int = BYTES) -> Iterator[None]:
    """Limit the time and the memory of what runs inside, in this process."""

    def ring(*_: object) -> None:
        raise TooLongError

    with Path("/proc/self/statm").open(encoding="ascii") as stream:
        used = int(stream.read().split()[0]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = signal.signal(signal.SIGALRM, ring)
    resource.setrlimit(resource.RLIMIT_AS, (used + further_bytes, hard))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        signal.signal(signal.SIGALRM, before)


@cache
def whole(form: Format) -> dict[str, bytes]:
    """Return the files of a format by their names."""
    with tempfile.TemporaryDirectory() as directory:
        place = Path(directory)
        form.make(place)
        files = sorted(path for path in place.rglob("*") if path.is_file())
        return {path.relative_to(place).as_posix(): path.read_bytes() for path in files}


def write_whole(form: Format, place: Path) -> None:
    """Write the files of a format."""
    for name, data in whole(form).items():
        path = place / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)


def injure(form: Format, place: Path, number: int) -> None:
    """Write the files of a format, and injure one of them as the number says."""
    rng = random.Random(f"{form.name} {number}")
    write_whole(form, place)
    target = place / rng.choice(form.files or tuple(whole(form)))
    target.write_bytes(damaged(target.read_bytes(), rng))


def trial(form: Format, number: int, seconds: float = SECONDS) -> Finding | None:
    """Read a damaged file; return what is wrong with how that ends, or None."""
    with tempfile.TemporaryDirectory() as directory, warnings.catch_warnings():
        place = Path(directory)
        injure(form, place, number)
        # what other packages remark on the way is no end
        warnings.simplefilter("ignore")
        try:
            with bounded(seconds):
                form.read(place)
        except form.expected as error:
            return None if str(error).strip() else _found(form, number, error, "an error without words")
        except TooLongError as error:
            return _found(form, number, error, "too long")
        except Exception as error:  # noqa: BLE001 - anything else is a finding
            return _found(form, number, error, type(error).__name__)
    return None


def _found(form: Format, number: int, error: BaseException, what: str) -> Finding:
    frames = [f for f in traceback.extract_tb(error.__traceback__) if f.name != "ring"]
    last = frames[-1]
    short = "/".join(Path(last.filename).parts[-3:])
    trace = "".join(traceback.format_list(frames[-8:]))
    return Finding(
        form.name, number, what, " ".join(str(error).split())[:300], f"{short}:{last.lineno}", trace
    )
