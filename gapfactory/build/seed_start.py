"""From a seed file to a starting structure that is shaken: positions, cell and contents that are given."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.build.seed_translation import Entry, Words, choices, positions_of, tagged
from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.build.seed_file import SeedText

__all__ = ["start_settings", "starts"]

#: AIRSS's default: atoms are placed anywhere
_POSAMP_ANYWHERE = -1.0
#: largest displacements along the axes
_BOX = ("XAMP", "YAMP", "ZAMP")
_STARTING = ("SUPERCELL", "VACANCIES", "PERMUTE", "BREAKAMP", "NOPUSH")


def starts(words: Words, entries: Sequence[Entry]) -> bool:
    """Return whether anything is kept of the positions or the cell that the file gives."""
    tags = {key for entry in entries for key in entry.tags if key in ("FIX", "NOMOVE", "PERM")}
    keys = ("POSAMP", *_BOX)
    amplitudes = [words.number(key, _POSAMP_ANYWHERE) for key in keys] + [
        choices(words.where, key, entry.tags[key])[0][0]
        for entry in entries
        for key in keys
        if key in entry.tags
    ]
    return (
        any(words.flag(key) for key in _STARTING)
        or bool(tags)
        or max(amplitudes) >= 0
        or words.number("CELLAMP", -1.0) >= 0
    )


def start_settings(text: SeedText, words: Words, entries: Sequence[Entry]) -> dict[str, Any]:
    """Return the contents of `StartSettings`.

    Raises
    ------
    InputError
        Words that do not go together, or values that cannot be used.
    """
    for key in ("NATOM", "NFORM", "FOCUS"):
        if key in words and not (key == "NFORM" and words.integers(key) == [1]):
            raise InputError(
                f"{text.where}: {key}={words.given[key]} draws contents, but what starts from given positions (POSAMP, "
                "CELLAMP, NOPUSH, ...) has those of the file: give NUM or SUPERCELL instead"
            )
    symbols: list[str] = []
    positions: list[list[float]] = []
    units: list[int] = []
    atoms: list[dict[str, Any]] = []
    for entry in entries:
        if len(entry.numbers) > 1:
            raise InputError(
                f"{text.where}: NUM cannot be a range in structures that start from given positions"
            )
        shake = _shake(text, words, entry.tags)
        where = positions_of(text, entry.lines)
        for _ in range(entry.numbers[0]):
            unit = max(units, default=-1) + 1
            for line, position in zip(entry.lines, where, strict=True):
                symbols.append(line.symbol)
                positions.append(position.tolist())
                units.append(unit)
                atoms.append(shake)
    result: dict[str, Any] = {
        "symbols": symbols,
        "positions": positions,
        "units": units,
        "atoms": atoms,
        "break_amplitude": words.number("BREAKAMP", 0.0),
        "permute": words.flag("PERMUTE"),
        "permuted_fraction": words.number("PERMFRAC", 1.0),
        "pushed": not words.flag("NOPUSH"),
    }
    cell_amplitude = words.number("CELLAMP", 0.0 if words.flag("FIX") else -1.0)
    if cell_amplitude >= 0:
        if text.lattice is None:
            raise InputError(f"{text.where}: CELLAMP needs a lattice block")
        result |= {"cell": text.lattice.tolist(), "cell_amplitude": cell_amplitude}
    elif not words.flag("CLUSTER") and not all(atom["anywhere"] for atom in atoms):
        raise InputError(
            f"{text.where}: positions are kept (POSAMP, FIX, NOMOVE) in a cell that is not: add #CELLAMP=0, or FIX in "
            "the lattice block"
        )
    if "SUPERCELL" in words:
        if "cell" not in result:
            raise InputError(
                f"{text.where}: SUPERCELL needs the cell of the file: add #CELLAMP=0, or FIX in its block"
            )
        result |= _supercell(words)
    if "VACANCIES" in words:
        result["vacancies"] = {}
        for part in words.given["VACANCIES"].split(","):
            match = re.fullmatch(r"\s*(\d+)\s*@\s*([A-Z][a-z]?)\s*", part)
            if match is None:
                raise InputError(
                    f"{text.where}: VACANCIES={part.strip()}: give a number and a species, as 2@O"
                )
            result["vacancies"][match[2]] = int(match[1])
    if words.flag("CLUSTER"):
        result["periodic"] = [False, False, False]
    elif words.flag("SLAB") or words.flag("SURFACE"):
        result["periodic"] = [True, True, False]
    return result


def _shake(text: SeedText, words: Words, tags: dict[str, str]) -> dict[str, Any]:
    amplitude = tagged(text, words, tags, "POSAMP", _POSAMP_ANYWHERE)
    box = [tagged(text, words, tags, key, -1.0) for key in _BOX]
    angle = tagged(text, words, tags, "ANGAMP", -1.0)
    fixed = "FIX" in tags
    anywhere = amplitude < 0 and max(box) < 0 and not fixed
    return {
        "amplitude": max(amplitude, 0.0),
        "anywhere": anywhere,
        "least": max(tagged(text, words, tags, "MINAMP", 0.0), 0.0),
        "box": [None if value < 0 else value for value in box],
        "angle": None if angle < 0 else min(angle, 180.0),
        "fixed": fixed,
        "no_move": "NOMOVE" in tags,
        "permute": "PERM" in tags,
    }


def _supercell(words: Words) -> dict[str, Any]:
    try:
        numbers = [int(value) for value in words.given["SUPERCELL"].replace(",", " ").split()]
    except ValueError as error:
        raise InputError(
            f"{words.where}: SUPERCELL={words.given['SUPERCELL']}: give whole numbers"
        ) from error
    if len(numbers) == 1:
        return {"supercell_size": numbers[0]}
    if len(numbers) == 3:
        return {"supercell": np.diag(numbers).tolist()}
    if len(numbers) == 9:
        return {"supercell": np.reshape(numbers, (3, 3)).tolist()}
    raise InputError(
        f"{words.where}: SUPERCELL={words.given['SUPERCELL']}: give one, three or nine whole numbers"
    )
