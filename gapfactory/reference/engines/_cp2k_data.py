"""Entries of CP2K's files of basis sets and pseudopotentials.

Both kinds of files have entries of the same shape: a line ``Symbol NAME ALIAS ...`` and lines of numbers. The entries
that a calculation needs are copied to its own directory, so that the program reads exactly what has been hashed.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from gapfactory.errors import MissingEngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DataEntry", "data_directory", "find_entry"]

_DEBIAN = Path("/usr/share/cp2k")
_HEADER = re.compile(r"\s*([A-Z][a-z]?)\s+(\S.*)")


@dataclass(frozen=True)
class DataEntry:
    """One entry.

    Attributes
    ----------
    symbol
        Chemical symbol.
    names
        Its name and aliases.
    lines
        The entry as it stands in the file, comments and empty lines left out.
    """

    symbol: str
    names: tuple[str, ...]
    lines: tuple[str, ...]

    @property
    def text(self) -> str:
        """The entry as a file of its own."""
        return "\n".join(self.lines) + "\n"

    @property
    def electrons(self) -> int:
        """Valence electrons of a pseudopotential: the sum of its second line."""
        return sum(int(word) for word in self.lines[1].split())


def data_directory(asked: Path | None, compiled: str) -> Path:
    """Return the directory of basis sets and pseudopotentials.

    Parameters
    ----------
    asked
        As the site's file names it, or None.
    compiled
        The directory that the program was built for, or an empty string; ``CP2K_DATA_DIR`` goes before it, as for the
        program itself.

    Raises
    ------
    MissingEngineError
        There is none.
    """
    named = asked or (Path(os.environ["CP2K_DATA_DIR"]) if os.environ.get("CP2K_DATA_DIR") else None)
    places = [named] if named is not None else [*([Path(compiled)] if compiled else []), _DEBIAN]
    for place in places:
        if place.is_dir():
            return place
    raise MissingEngineError(
        f"CP2K's basis sets and pseudopotentials are not in {' or '.join(map(str, places))}: install Debian's "
        "cp2k-data, or name their directory in the site file (pseudopotentials) or by CP2K_DATA_DIR."
    )


def find_entry(directory: Path, files: Sequence[str], symbol: str, name: str, *, what: str) -> DataEntry:
    """Return the first entry for an element that has this name.

    Parameters
    ----------
    directory
        Of the files.
    files
        Names in the directory, in the order in which they are searched.
    symbol, name
        Chemical symbol; name or alias of the entry, upper or lower case.
    what
        "basis set" or "pseudopotential", for the error.

    Raises
    ------
    MissingEngineError
        A file is missing, or none has the entry.
    """
    others: list[str] = []
    for file in files:
        path = directory / file
        if not path.is_file():
            raise MissingEngineError(
                f"CP2K's file {file} of {what}s is not in {directory}: correct the settings, or install cp2k-data."
            )
        for entry in _entries(path, path.stat().st_mtime_ns):
            if entry.symbol == symbol:
                if name.upper() in (alias.upper() for alias in entry.names):
                    return entry
                others += entry.names[-1:]
    known = f"there are {', '.join(sorted(set(others)))}" if others else "there is none for this element"
    raise MissingEngineError(
        f"no {what} {name} for {symbol} in {', '.join(files)} of {directory}: {known}; choose another one in the "
        "settings of the engine."
    )


@lru_cache(maxsize=8)
def _entries(path: Path, modified_ns: int) -> tuple[DataEntry, ...]:
    del modified_ns
    found: list[DataEntry] = []
    header: tuple[str, tuple[str, ...]] | None = None
    lines: list[str] = []
    for raw in [*path.read_text(encoding="utf-8", errors="replace").splitlines(), "X end"]:
        line = raw.partition("#")[0].rstrip()
        if not line.strip():
            continue
        match = _HEADER.fullmatch(line)
        if match is None:
            lines.append(line)
            continue
        if header is not None:
            found.append(DataEntry(*header, tuple(lines)))
        header, lines = (match[1], tuple(match[2].split())), [line.strip()]
    return tuple(found)
