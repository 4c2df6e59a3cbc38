"""Seed files of AIRSS (`.cell` with `#KEY=value` directives), read into the settings of the builder.

The vocabulary is that of `buildcell` (C. J. Pickard and R. J. Needs, J. Phys.: Condens. Matter 23, 053201 (2011);
manual on airss-docs.github.io). What each word becomes, and which are refused and why, is in
`gapfactory.build.seed_keywords` and in docs/reference/airss-keywords.md. Here: the text; there: the words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.build.seed_keywords import CASTEP_WORDS, KEYWORDS, nearest
from gapfactory.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from gapfactory.build.seed_translation import Seed

__all__ = ["SeedLine", "SeedText", "parse_seed", "read_seed"]

_DIRECTIVE = re.compile(r"#\s?([A-Za-z][A-Za-z_]*)\s*(?:[=:]\s*(.*?)\s*)?$")
_BLOCK = re.compile(r"%(BLOCK|ENDBLOCK)\s+(\w+)", re.IGNORECASE)
_CASTEP = re.compile(r"([A-Za-z_]+)\s*[:=]?\s*(.*)")
_LATTICES = ("LATTICE_CART", "LATTICE_ABC")
_POSITIONS = ("POSITIONS_FRAC", "POSITIONS_ABS")
#: directives of a lattice block
_OF_LATTICE = ("FIX", "ABFIX", "CFIX")


@dataclass(frozen=True)
class SeedLine:
    """One line of a positions block, or one entry of `#SPECIES`.

    Parameters
    ----------
    symbol
        Chemical symbol.
    position
        Three numbers as the file has them.
    label
        Lines that share a label are a unit.
    tags
        Words after `%`, with their values.
    """

    symbol: str
    position: tuple[float, float, float]
    label: str
    tags: dict[str, str]


@dataclass
class SeedText:
    """What a seed file says, not yet interpreted.

    Parameters
    ----------
    where
        Name of the file, for messages.
    directives
        Value by keyword, empty for a keyword alone.
    lattice
        Rows, Å, or None.
    lines
        Of the positions block.
    fractional
        Whether positions are fractional.
    passed_over
        CASTEP keywords and blocks that say nothing about the structure.
    """

    where: str
    directives: dict[str, str] = field(default_factory=dict)
    lattice: NDArray[np.float64] | None = None
    lines: list[SeedLine] = field(default_factory=list)
    fractional: bool = True
    passed_over: list[str] = field(default_factory=list)


def read_seed(path: Path) -> Seed:
    """Read a seed file of AIRSS.

    Raises
    ------
    InputError
        The file cannot be read; a keyword is unknown (the nearest known one is named), not supported (the reason is
        given), or its value cannot be used.
    """
    from gapfactory.build.seed_translation import translate

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"seed file {path} cannot be read: {error}") from error
    return translate(parse_seed(text, where=path.name))


def parse_seed(text: str, *, where: str = "seed") -> SeedText:
    """Split the text of a seed file into directives, lattice and positions.

    Raises
    ------
    InputError
        See `read_seed`.
    """
    found = SeedText(where)
    block: str | None = None
    rows: list[tuple[int, str]] = []
    for number, raw in enumerate(text.splitlines(), start=1):
        line = raw.strip()
        if not line or line.startswith(("##", "!")):
            continue
        if (match := _BLOCK.match(line)) is not None:
            name = match[2].upper()
            if match[1].upper() == "BLOCK":
                if block is not None:
                    raise InputError(f"{where}, line {number}: block {name} begins before {block} has ended")
                block, rows = name, []
            else:
                if name != block:
                    raise InputError(
                        f"{where}, line {number}: block {name} ends, but {block or 'none'} is open"
                    )
                _end_block(found, name, rows, number)
                block = None
        elif block is not None:
            rows.append((number, line))
        elif line.startswith("#"):
            _directive(found, line, number)
        else:
            _castep_word(found, line, number)
    if block is not None:
        raise InputError(f"{where}: block {block} has no end: add %ENDBLOCK {block}")
    return found


def _directive(found: SeedText, line: str, number: int, *, only: tuple[str, ...] | None = None) -> None:
    match = _DIRECTIVE.match(line)
    if match is None or (line.startswith("# ") and match[1].upper() not in KEYWORDS):
        if line.startswith("# ") or line == "#":  # a comment in words
            return
        raise InputError(f"{found.where}, line {number}: {line!r} is neither #KEY=value nor a comment (##)")
    key = match[1].upper()
    if key not in KEYWORDS:
        raise InputError(
            f"{found.where}, line {number}: unknown keyword {match[1]!r}; {nearest(key)} (a line that begins "
            "with ## is a comment)"
        )
    if only is not None and key not in only:
        raise InputError(
            f"{found.where}, line {number}: {key} does not belong into this block: move it below"
        )
    if key in found.directives:
        raise InputError(f"{found.where}, line {number}: {key} is given twice: keep one of them")
    keyword = KEYWORDS[key]
    if keyword.refused:
        raise InputError(f"{found.where}, line {number}: {key} is not supported: {keyword.refused}")
    found.directives[key] = match[2] or ""


def _castep_word(found: SeedText, line: str, number: int) -> None:
    match = _CASTEP.match(line)
    key = match[1].upper() if match is not None else line.split()[0]
    if key not in CASTEP_WORDS:
        raise InputError(
            f"{found.where}, line {number}: unknown keyword {key!r}; {nearest(key, CASTEP_WORDS)} (directives "
            "of the builder begin with #)"
        )
    found.passed_over.append(key)


def _end_block(found: SeedText, name: str, rows: list[tuple[int, str]], number: int) -> None:
    """Interpret the rows of a block."""
    if name in _LATTICES:
        if found.lattice is not None:
            raise InputError(f"{found.where}, line {number}: a second lattice: keep one of them")
        numbers = []
        for at, row in rows:
            if row.startswith("#"):
                _directive(found, row, at, only=_OF_LATTICE)
            elif row.split()[0].lower() not in ("ang", "angstrom"):
                numbers.append(_numbers(found, row, at))
        found.lattice = _lattice(found, name, numbers, number)
    elif name in _POSITIONS:
        if found.lines:
            raise InputError(f"{found.where}, line {number}: a second positions block: keep one of them")
        found.fractional = name == "POSITIONS_FRAC"
        found.lines += [
            _line(found, row, at)
            for at, row in rows
            if not row.startswith("#") and row.split()[0].lower() not in ("ang", "angstrom")
        ]
    elif name in CASTEP_WORDS:
        found.passed_over.append(name)
    else:
        raise InputError(
            f"{found.where}, line {number}: unknown block {name!r}; "
            f"{nearest(name, {*CASTEP_WORDS, *_LATTICES, *_POSITIONS})}"
        )


def _numbers(found: SeedText, row: str, at: int) -> tuple[float, float, float]:
    parts = row.split("#")[0].split("!")[0].split()
    try:
        x, y, z = (float(part) for part in parts[:3])
    except ValueError as error:
        raise InputError(f"{found.where}, line {at}: {row!r} must hold three numbers") from error
    if not np.isfinite((x, y, z)).all():
        raise InputError(f"{found.where}, line {at}: {row!r} must hold three finite numbers")
    return x, y, z


def _lattice(
    found: SeedText, name: str, numbers: list[tuple[float, float, float]], at: int
) -> NDArray[np.float64]:
    from ase.cell import Cell

    wanted = 3 if name == "LATTICE_CART" else 2
    if len(numbers) != wanted:
        raise InputError(f"{found.where}, line {at}: {name} has {len(numbers)} rows of numbers, not {wanted}")
    try:
        rows = Cell.new(numbers if wanted == 3 else [*numbers[0], *numbers[1]]).array
    except (ValueError, AssertionError) as error:
        raise InputError(f"{found.where}, line {at}: {name} gives no cell: {error}") from error
    if not np.isfinite(rows).all() or abs(np.linalg.det(rows)) < 1e-6:
        raise InputError(f"{found.where}, line {at}: {name} gives a cell without volume")
    return np.asarray(rows, dtype=float)


def _line(found: SeedText, row: str, at: int) -> SeedLine:
    """Interpret ``B 0.1 0.2 0.3 # label % NUM=2 POSAMP=0.5``."""
    place, _, comment = row.partition("#")
    label, _, tags = comment.partition("%")
    parts = place.split()
    if len(parts) < 4:
        raise InputError(f"{found.where}, line {at}: {row!r} must hold a symbol and three numbers")
    position = _numbers(found, " ".join(parts[1:4]), at)
    return SeedLine(parts[0], position, label.strip(), tags_of(found.where, at, tags))


def tags_of(where: str, at: int, text: str) -> dict[str, str]:
    """Return the tags of ``NUM=2 POSAMP=0.5 FIX`` by keyword."""
    tags: dict[str, str] = {}
    for part in re.sub(r"\s*=\s*", "=", text.strip()).split():
        key, _, value = part.partition("=")
        key = key.upper()
        keyword = KEYWORDS.get(key)
        if keyword is None or not keyword.tag:
            raise InputError(
                f"{where}, line {at}: unknown tag {key!r} of an atom; "
                f"{nearest(key, [name for name, known in KEYWORDS.items() if known.tag])}"
            )
        if keyword.tag_refused:
            raise InputError(f"{where}, line {at}: tag {key} is not supported: {keyword.tag_refused}")
        tags[key] = value
    return tags
