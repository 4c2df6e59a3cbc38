"""Structures as AIRSS stores and exchanges them: SHELX ``.res`` with results in the line ``TITL``.

One structure is the lines from ``TITL`` to ``END``; a file holds one or many, a directory one or many files::

    TITL name pressure volume enthalpy spin modspin natoms (symmetry) n - copies
    REM anything
    CELL wavelength a b c alpha beta gamma
    LATT -1
    SFAC Mg O
    Mg 1 x y z occupancy [spin]
    END

Pressure in GPa, volume in Å^3 and enthalpy in eV of the whole cell, spins in hbar/2; fractional coordinates of all
atoms, because ``LATT -1`` says that there is no symmetry. What SHELX means besides (symmetry, occupations) is refused
where it would be misread.

ASE reads and writes ``.res`` too (`ase.io.res`), and is not used here: it takes the atoms of a file with several
structures for one structure, passes over a title that it cannot read, over coordinates with an exponent and over spins,
does not keep remarks, and writes six decimals.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["ResStructure", "parse_res", "read_res", "res_from_atoms", "write_res"]

#: AIRSS writes that of copper's K-alpha line where SHELX has the wavelength of the measurement, in Å.
_WAVELENGTH: Final = "1.54180"
_TITLE = re.compile(
    r"TITL\s+(?P<words>[^()]*?)\s*(?:\((?P<symmetry>[^()]*)\))?\s*(?:n\s*-\s*(?P<copies>\d+))?\s*$"
)
_LABEL = re.compile(r"([A-Za-z]{1,2})\d*")
#: Instructions of SHELX that say nothing about where the atoms are.
_NO_STRUCTURE: Final = frozenset({"ZERR", "UNIT", "FVAR", "TEMP"})
#: Numbers in ``TITL`` after the name: none, without pressure, spins, or natoms, whole, with one more before natoms.
_FORMS: Final = frozenset({0, 2, 3, 5, 6, 7})


@dataclass(frozen=True)
class ResStructure:
    """One structure of a ``.res`` file.

    Attributes
    ----------
    name
        One word.
    symbols
        Chemical symbols (N,).
    cell
        a, b, c in Å and alpha, beta, gamma in degrees.
    positions
        Fractional coordinates (N, 3), as they stand in the file: not wrapped.
    pressure
        GPa: the external one, or what is left of the stress, as the program that wrote it has it.
    volume
        Å^3, as the title has it; None where it has none.
    enthalpy
        eV of the cell, or None.
    spin, abs_spin
        Sums of the spins and of their absolute values.
    symmetry
        Name of the space group without parentheses; empty where there is none.
    copies
        How many times it was found.
    remarks
        What follows ``REM`` in each such line.
    spins
        (N,) of the atoms, or None.
    """

    name: str
    symbols: tuple[str, ...]
    cell: tuple[float, float, float, float, float, float]
    positions: NDArray[np.float64]
    pressure: float = 0.0
    volume: float | None = None
    enthalpy: float | None = None
    spin: float = 0.0
    abs_spin: float = 0.0
    symmetry: str = ""
    copies: int = 1
    remarks: tuple[str, ...] = ()
    spins: tuple[float, ...] | None = None

    def atoms(self) -> Atoms:
        """Return the structure; a lies along x and b in the plane of x and y."""
        from ase import Atoms

        return Atoms(self.symbols, cell=self.cell, scaled_positions=self.positions, pbc=True)

    def text(self) -> str:
        """Return the lines of a file. Read again, every number has the same bits.

        An enthalpy that is not known is written as 0, as AIRSS's own converter does.

        Raises
        ------
        InputError
            The name is not one word.
        """
        if not re.fullmatch(r"[^\s()]+", self.name):
            raise InputError(f"the name {self.name!r} of a structure must be one word without parentheses")
        volume = float(self.atoms().get_volume()) if self.volume is None else self.volume
        numbers = (self.pressure, volume, self.enthalpy or 0.0, self.spin, self.abs_spin)
        kinds = list(dict.fromkeys(self.symbols))
        found = f"({self.symmetry or 'n/a'}) n - {self.copies}"
        lines = [
            f"TITL {self.name} {' '.join(map(_number, numbers))} {len(self.symbols)} {found}",
            *(f"REM {remark}".rstrip() for remark in self.remarks),
            f"CELL {_WAVELENGTH} {' '.join(map(_number, self.cell))}",
            "LATT -1",
            f"SFAC {' '.join(kinds)}",
        ]
        for k, (symbol, row) in enumerate(zip(self.symbols, self.positions.tolist(), strict=True)):
            spin = "" if self.spins is None else f" {_number(self.spins[k])}"
            lines.append(f"{symbol} {kinds.index(symbol) + 1} {' '.join(map(_number, row))} 1.0{spin}")
        return "\n".join((*lines, "END", ""))


def _number(value: float) -> str:
    """Return the shortest text that reads as this number."""
    return repr(float(value))


def res_from_atoms(
    atoms: Atoms,
    name: str,
    *,
    pressure: float = 0.0,
    enthalpy: float | None = None,
    symmetry: str = "",
    copies: int = 1,
    remarks: Sequence[str] = (),
) -> ResStructure:
    """Return a structure for a ``.res`` file; orientation in space is lost, chirality is not.

    Lengths, angles and fractions are computed from Cartesian coordinates, so that distances agree to about 1e-14 of
    themselves, not to the last bit.

    Parameters
    ----------
    atoms
        With a cell of three vectors.
    name
        One word; characters that would end it are replaced by dashes.
    pressure, enthalpy, symmetry, copies, remarks
        As in `ResStructure`.

    Raises
    ------
    InputError
        There is no cell.
    """
    if atoms.cell.rank != 3 or not len(atoms):
        raise InputError(
            f"{name}: a .res file holds cells; this structure has no cell of three vectors, or no atoms"
        )
    fractions = np.linalg.solve(atoms.cell.array.T, atoms.positions.T).T
    if np.linalg.det(atoms.cell.array) < 0:
        # lengths and angles stand for right-handed vectors: -a, -b, -c are, and keep every atom where it is
        fractions = -fractions
    lengths = atoms.cell.cellpar()
    a, b, c, alpha, beta, gamma = (float(x) for x in lengths)
    return ResStructure(
        name=re.sub(r"[\s()/\\]+", "-", name) or "structure",
        symbols=tuple(atoms.get_chemical_symbols()),
        cell=(a, b, c, alpha, beta, gamma),
        positions=fractions + 0.0,
        pressure=pressure,
        volume=float(atoms.get_volume()),
        enthalpy=enthalpy,
        symmetry=symmetry,
        copies=copies,
        remarks=tuple(remarks),
    )


def read_res(path: Path, progress: Callable[[int, int], None] | None = None) -> list[ResStructure]:
    """Read all structures of a file, or of all ``.res`` files of a directory in the order of their names.

    Parameters
    ----------
    path
        File or directory.
    progress
        Called with how many files are read, and of how many.

    Raises
    ------
    InputError
        There is nothing of this name, no structure, or a line that cannot be used; names the file and the line.
    """
    files = sorted(path.glob("*.res")) if path.is_dir() else [path]
    found: list[ResStructure] = []
    for number, file in enumerate(files, 1):
        try:
            text = file.read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise InputError(f"there is no file {file}") from error
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file} cannot be read: {error}") from error
        found += parse_res(text, str(file))
        if progress is not None:
            progress(number, len(files))
    if not found:
        raise InputError(
            f"{path} holds no structure: no line begins with TITL" if files else f"no .res file in {path}"
        )
    return found


def write_res(path: Path, structures: Iterable[ResStructure]) -> int:
    """Write structures into one file, or into a directory that exists: a file for each, by its name; return how many.

    Raises
    ------
    InputError
        Two structures for a directory have one name.
    """
    ready = list(structures)
    if not path.is_dir():
        path.write_text("".join(s.text() for s in ready), encoding="utf-8")
        return len(ready)
    names = [s.name for s in ready]
    if len(set(names)) != len(names):
        raise InputError(f"two structures are called {next(n for n in names if names.count(n) > 1)!r}")
    for structure in ready:
        (path / f"{structure.name}.res").write_text(structure.text(), encoding="utf-8")
    return len(ready)


def parse_res(text: str, where: str = "text") -> list[ResStructure]:
    """Return the structures of a text in their order.

    Parameters
    ----------
    text
        One or several structures.
    where
        What it is, for messages.

    Raises
    ------
    InputError
        A line cannot be used; names it.
    """
    found: list[ResStructure] = []
    block: list[tuple[int, str]] = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if line.startswith("TITL"):
            if block:
                raise _cut(where, block)
            block = [(number, line)]
        elif line.upper() == "END" and block:
            found.append(_parse(where, block, number))
            block = []
        elif block:
            if line:
                block.append((number, line))
        # SHELX lists peaks after END, programs remarks
        elif line and not found and not line.startswith("REM"):
            raise InputError(f"{where}, line {number}: a structure begins with TITL, not with {line[:40]!r}")
    if block:
        raise _cut(where, block)
    return found


def _cut(where: str, block: list[tuple[int, str]]) -> InputError:
    number, line = block[0]
    return InputError(
        f"{where}, line {number}: the structure {line[5:45]!r} has no END: the program that wrote it was stopped; take "
        "it out"
    )


def _parse(where: str, block: list[tuple[int, str]], last: int) -> ResStructure:
    """Return one structure from its lines, ``TITL`` first."""
    cell: tuple[float, ...] = ()
    kinds: list[str] | None = None
    latt = False
    remarks: list[str] = []
    rows: list[tuple[str, list[float]]] = []
    for number, line in block[1:]:
        words = line.split()
        at = f"{where}, line {number}"
        key = words[0].upper()
        if key == "REM":
            remarks.append(line[4:])
        elif key == "CELL":
            cell = _cell(at, words)
        elif key == "LATT":
            latt = words[1:] == ["-1"]
            if not latt:
                raise InputError(
                    f"{at}: {line!r} means symmetry that the atoms below do not show; only LATT -1, all atoms of "
                    "the cell, is read"
                )
        elif key == "SYMM":
            raise InputError(
                f"{at}: {line!r}: a structure with symmetry operations is not read; write out its atoms"
            )
        elif key == "SFAC":
            kinds = words[1:]
        elif kinds is not None and len(words) > 4:
            rows.append(_atom(at, words, kinds))
        elif key not in _NO_STRUCTURE:
            raise InputError(f"{at}: {line[:60]!r} is neither an atom nor an instruction that AIRSS writes")
    at = f"{where}, line {last}"
    missing = [
        name
        for name, there in (("CELL", cell), ("LATT -1", latt), ("SFAC", kinds), ("atoms", rows))
        if not there
    ]
    if missing:
        raise InputError(f"{at}: the structure ends without {missing[0]}")
    spins = [values[4] for _, values in rows if len(values) > 4]
    if spins and len(spins) != len(rows):
        raise InputError(f"{at}: {len(spins)} of {len(rows)} atoms have a spin; give all or none")
    name, title, symmetry, copies = _title(f"{where}, line {block[0][0]}", block[0][1], len(rows))
    a, b, c, alpha, beta, gamma = cell
    return ResStructure(
        name=name,
        symbols=tuple(symbol for symbol, _ in rows),
        cell=(a, b, c, alpha, beta, gamma),
        positions=np.array([values[:3] for _, values in rows]),
        symmetry=symmetry,
        copies=copies,
        remarks=tuple(remarks),
        spins=tuple(spins) if spins else None,
        **title,
    )


def _floats(at: str, words: Sequence[str]) -> list[float]:
    values = []
    for word in words:
        try:
            # Fortran writes exponents of double precision with a D
            value = float(word.replace("D", "E").replace("d", "e"))
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise InputError(f"{at}: {word!r} is not a number")
        values.append(value)
    return values


def _title(at: str, line: str, atoms: int) -> tuple[str, dict[str, float], str, int]:
    """Return the name, the numbers by their names, the space group and the copies that ``TITL`` states."""
    found = _TITLE.match(line)
    words = found["words"].split() if found else []
    if found is None or not words or len(words) - 1 not in _FORMS:
        raise InputError(
            f"{at}: {line!r} is no title of AIRSS: TITL name pressure volume enthalpy spin modspin natoms (symmetry) "
            "n - 1"
        )
    values = _floats(at, words[1:])
    known: dict[str, float] = {}
    if len(values) == 2:
        known = dict(zip(("volume", "enthalpy"), values, strict=True))
    elif values:
        known = dict(zip(("pressure", "volume", "enthalpy"), values, strict=False))
    # cabal leaves a spin out: then natoms is where the sum of absolute spins would be
    if len(values) == 5 and values[4] != atoms:
        known |= {"spin": values[3], "abs_spin": values[4]}
    if len(values) > 5:
        known |= {"spin": values[3], "abs_spin": values[4]}
        if values[-1] != atoms:
            raise InputError(f"{at}: the title states {words[-1]} atoms, {atoms} follow")
    symmetry = (found["symmetry"] or "").strip()
    return words[0], known, "" if symmetry == "n/a" else symmetry, int(found["copies"] or 1)


def _cell(at: str, words: list[str]) -> tuple[float, ...]:
    if len(words) != 8:
        raise InputError(
            f"{at}: CELL has {len(words) - 1} numbers; it must have 7: wavelength, a, b, c, three angles"
        )
    cell = tuple(_floats(at, words[2:]))
    cosines = np.cos(np.radians(cell[3:]))
    flat = 1.0 + 2.0 * np.prod(cosines) - np.sum(cosines**2)
    if min(cell[:3]) <= 0 or not all(0 < angle < 180 for angle in cell[3:]) or flat <= 0:
        raise InputError(f"{at}: CELL {' '.join(words[2:])} has no volume")
    return cell


def _atom(at: str, words: list[str], kinds: list[str]) -> tuple[str, list[float]]:
    """Return the symbol of an atom, and its coordinates, occupancy and spin where it has one."""
    from ase.data import atomic_numbers

    label = _LABEL.fullmatch(words[0])
    symbol = "" if label is None else label[1].capitalize()
    if atomic_numbers.get(symbol, 0) < 1:
        raise InputError(f"{at}: {words[0]!r} is no chemical element")
    number = int(words[1]) if words[1].isdecimal() else 0
    if not 1 <= number <= len(kinds) or kinds[number - 1].capitalize() != symbol:
        raise InputError(
            f"{at}: {words[0]} {words[1]}: SFAC has {' '.join(kinds)}, and this is not number {words[1]} of it"
        )
    values = _floats(at, words[2:7])
    # SHELX adds 10 to what is not to be refined
    if len(values) > 3 and values[3] not in (1.0, 11.0):
        raise InputError(f"{at}: {words[0]} is there {words[5]} times; only whole atoms are read")
    return symbol, values
