"""Files that ASE's readers read: whatever they stumble over in a damaged one becomes one error that names the file.

ASE's reader of extended XYZ believes a file's own numbers of atoms and columns, and runs through as many lines or
columns as they say, whether they are there or not; so both are compared with the file first.
"""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

import numpy as np

from gapfactory.errors import GapFactoryError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ase import Atoms

__all__ = ["finite_structure", "read_extended_xyz", "readable", "refuse_long_lines"]

_PROPERTIES: Final = re.compile(r"""\bProperties\s*=\s*["']?([^\s"']+)""", re.IGNORECASE)
#: Longest number that is read as one; Python refuses those of more than 4300 digits in other words.
_LONGEST_NUMBER: Final = 18


@contextmanager
def readable(path: Path | str, kind: str = "") -> Iterator[None]:
    """Turn what a reader of another package raises over a damaged file into an error of this package.

    Parameters
    ----------
    path
        The file, for the message.
    kind
        What it was read as, such as ``"a CIF of a crystal"``; may be empty.

    Raises
    ------
    InputError
        There is no such file, or it cannot be read. Errors of this package pass.
    """
    try:
        yield
    except (GapFactoryError, Warning):
        raise
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except Exception as error:
        read_as = f" as {kind}" if kind else ""
        said = " ".join(str(error).split())[:300]
        raise InputError(f"{path} cannot be read{read_as}: {type(error).__name__}: {said}") from error


def read_extended_xyz(stream: IO[str], where: Path | str) -> list[Atoms]:
    """Return the structures of an extended XYZ file, or of a text, in its order.

    Parameters
    ----------
    stream
        Open for reading text, at its beginning, and able to go back there.
    where
        What it is, for messages.

    Raises
    ------
    InputError
        It is no extended XYZ, or a structure has fewer lines or columns than it says.
    """
    from ase.io.extxyz import read_xyz

    with readable(where, "extended XYZ"):
        _compare_sizes(stream, where)
        stream.seek(0)
        return list(read_xyz(stream, slice(None)))


def _compare_sizes(stream: IO[str], where: Path | str) -> None:
    """Refuse a structure that says of itself that it has more lines or columns than there are."""
    number = 0
    while (line := stream.readline()).strip():
        # a plain XYZ may have its lattice after the atoms
        if line.lstrip().startswith("VEC"):
            continue
        number += 1
        word = line.strip()
        if not word.isdecimal() or len(word) > _LONGEST_NUMBER:
            raise InputError(
                f"{where} cannot be read as extended XYZ: structure {number} begins with {word[:40]!r}, not with its "
                "number of atoms"
            )
        comment, first = stream.readline(), ""
        for row in range(int(word)):
            text = stream.readline()
            if not text:
                raise InputError(
                    f"{where} cannot be read as extended XYZ: structure {number} has {word} atoms by its first line, "
                    f"and {row} lines follow: is it cut off?"
                )
            first = first or text
        stated = _PROPERTIES.search(comment)
        if stated is not None and first:
            columns = [word for word in stated[1].split(":")[2::3] if word.isdecimal()]
            there = len(first.split())
            if any(len(word) > _LONGEST_NUMBER for word in columns) or sum(map(int, columns)) > there:
                raise InputError(
                    f"{where} cannot be read as extended XYZ: structure {number} has {there} columns, not those of "
                    f"{stated[1][:200]!r}"
                )


def refuse_long_lines(path: Path, longest: int = 10_000) -> None:
    """Refuse a text with a line that no program writes: ASE's patterns take for ever on it.

    Raises
    ------
    InputError
        A line has more than `longest` characters.
    """
    with path.open(encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            if len(line) > longest:
                raise InputError(f"{path}, line {number} has {len(line)} characters: is the file damaged?")


def finite_structure(atoms: Atoms, where: str) -> Atoms:
    """Return a structure whose coordinates and cell vectors are all finite numbers.

    Raises
    ------
    InputError
        One is not.
    """
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
        raise InputError(f"{where} has a coordinate or a cell vector that is not a finite number: correct it")
    return atoms
