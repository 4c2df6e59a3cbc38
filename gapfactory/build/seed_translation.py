"""From the words of a seed file to the settings of the builder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ValidationError

from gapfactory.build.seed_keywords import nearest
from gapfactory.build.settings import BuildSettings
from gapfactory.build.settings_types import LARGEST_INTEGER
from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from gapfactory.build.seed_file import SeedLine, SeedText

__all__ = [
    "Entry",
    "Seed",
    "SeedVariant",
    "Words",
    "choices",
    "positions_of",
    "tagged",
    "translate",
]

_SYSTEMS = {
    "TRIC": "triclinic",
    "MONO": "monoclinic",
    "ORTH": "orthorhombic",
    "TETR": "tetragonal",
    "RHOM": "trigonal",
    "HEXA": "hexagonal",
    "CUBI": "cubic",
}
_NUMBER = r"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?|-?\.\d+"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*(?:-\s*({_NUMBER}))?\s*")
_PAIR = re.compile(r"([A-Z][a-z]?)-([A-Z][a-z]?)=(\S+)")


@dataclass(frozen=True)
class SeedVariant:
    """Contents and settings of one kind of structures that a seed makes.

    Parameters
    ----------
    composition
        Formula unit.
    settings
        Of the builder.
    """

    composition: dict[str, int]
    settings: BuildSettings


@dataclass(frozen=True)
class Seed:
    """A seed file as settings of the builder.

    Parameters
    ----------
    name
        Of the file.
    variants
        Equally probable; more than one where the contents follow the number of operations.
    passed_over
        CASTEP's keywords in the file, which say nothing about the structure.
    """

    name: str
    variants: tuple[SeedVariant, ...]
    passed_over: tuple[str, ...]

    @property
    def symbols(self) -> tuple[str, ...]:
        """Chemical symbols, in the order of the alphabet."""
        found = {s for v in self.variants for s in v.composition}
        return tuple(sorted(found))


@dataclass(frozen=True)
class Entry:
    """A line, or the lines of one unit, and how many copies there may be."""

    lines: tuple[SeedLine, ...]
    numbers: tuple[int, ...]

    @property
    def tags(self) -> dict[str, str]:
        """Tags of its lines; those of the first line win."""
        return {key: value for line in reversed(self.lines) for key, value in line.tags.items()}


def choices(where: str, key: str, text: str) -> list[tuple[float, float]]:
    """Return the ranges (low, high) of ``2``, ``1-3`` or ``{1,2,4-6}``; a single number is a range of no width."""
    inner = text.strip()
    if inner.startswith("{") != inner.endswith("}"):
        raise InputError(f"{where}: {key}={text}: a set needs both braces")
    parts = inner.strip("{}").split(",")
    result = []
    for part in parts:
        match = _RANGE.fullmatch(part)
        if match is None:
            raise InputError(f"{where}: {key}={text}: give a number, a range a-b or a set {{a,b}}")
        low = float(match[1])
        high = low if match[2] is None else float(match[2])
        if high < low:
            raise InputError(f"{where}: {key}={text}: the range {part} runs downwards")
        result.append((low, high))
    return result


def _integers(where: str, key: str, text: str) -> list[int]:
    found: set[int] = set()
    for low, high in choices(where, key, text):
        if not (0 <= low <= high <= LARGEST_INTEGER and low == int(low) and high == int(high)):
            raise InputError(f"{where}: {key}={text}: give whole numbers, not negative, to {LARGEST_INTEGER}")
        found.update(range(int(low), int(high) + 1))
    return sorted(found)


class Words:
    """Values of directives, with messages that name them."""

    def __init__(self, text: SeedText) -> None:
        self.where, self.given = text.where, text.directives

    def __contains__(self, key: str) -> bool:
        return key in self.given

    def flag(self, key: str) -> bool:
        """Return whether a keyword without value is given (`#KEY=false` is not)."""
        return key in self.given and self.given[key].lower() not in ("false", "f", "0")

    def number(self, key: str, default: float) -> float:
        """Return one number."""
        if key not in self.given:
            return default
        low, high = self.interval(key)
        if low != high:
            raise InputError(f"{self.where}: {key}={self.given[key]}: give one number, not a range")
        return low

    def interval(self, key: str) -> tuple[float, float]:
        """Return a number or a range."""
        found = choices(self.where, key, self.given[key])
        if len(found) > 1:
            raise InputError(f"{self.where}: {key}={self.given[key]}: give a number or a range, not a set")
        return found[0]

    def integers(self, key: str) -> list[int]:
        """Return the whole numbers that a value stands for."""
        return _integers(self.where, key, self.given[key])


def translate(text: SeedText) -> Seed:
    """Turn a seed file into settings of the builder.

    Raises
    ------
    InputError
        A value cannot be used, or words do not go together.
    """
    from gapfactory.build.seed_start import start_settings, starts

    words = Words(text)
    entries = _entries(text, words)
    base: dict[str, Any] = {"initial_wide_fraction": 0.0}
    _separations(words, base)
    _shape(text, words, base)
    _confinement(words, base)
    orders = _symmetry(words, base)
    rows = sum(len(entry.lines) for entry in entries)
    _volume(text, words, base, rows)
    if starts(words, entries):
        if orders != [1]:
            raise InputError(
                f"{text.where}: SYMMOPS or SYMMNO with what starts from given positions (POSAMP, CELLAMP, SUPERCELL, "
                "VACANCIES, PERMUTE, BREAKAMP, FIX of atoms): such structures have no imposed symmetry; drop one of "
                "the two"
            )
        base["start"] = start_settings(text, words, entries)
        for other in ("symmetry", "confinement"):
            base.pop(other, None)
        variants = [SeedVariant(composition_of(entries), _settings(text, base))]
    else:
        variants = list(_random(text, words, entries, base, orders))
    return Seed(text.where, tuple(variants), tuple(text.passed_over))


def _settings(text: SeedText, content: dict[str, Any]) -> BuildSettings:
    try:
        return BuildSettings.model_validate(content)
    except ValidationError as error:
        what = "; ".join(
            f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg'].removeprefix('Value error, ')}"
            for problem in error.errors(include_url=False)
        )
        raise InputError(f"{text.where}: {what}") from error


# --- contents --------------------------------------------------------------------------------------------------------


def _entries(text: SeedText, words: Words) -> list[Entry]:
    from gapfactory.build.seed_file import SeedLine, tags_of

    lines = list(text.lines)
    if "SPECIES" in words:
        if lines:
            raise InputError(f"{text.where}: SPECIES and a positions block both give the contents: keep one")
        for part in re.split(r",(?![^{]*\})", words.given["SPECIES"]):
            symbol, *tags = part.strip().split("%")
            lines.append(
                SeedLine(symbol.strip(), (0.0, 0.0, 0.0), "", tags_of(text.where, 0, " ".join(tags)))
            )
    if not lines:
        raise InputError(f"{text.where}: no contents: give #SPECIES=... or a block POSITIONS_FRAC")
    from gapfactory.elements import species

    for line in lines:
        species(line.symbol)  # an unknown element is an error that names the nearest one
    groups: dict[str, list[SeedLine]] = {}
    for k, line in enumerate(lines):
        groups.setdefault(line.label or f"line {k}", []).append(line)
    result = []
    for group in groups.values():
        tags = [line.tags["NUM"] for line in group if "NUM" in line.tags]
        numbers = _integers(text.where, "NUM", tags[0]) if tags else [1]
        result.append(Entry(tuple(group), tuple(numbers)))
    return result


def composition_of(entries: Sequence[Entry]) -> dict[str, int]:
    found: dict[str, int] = {}
    for entry in entries:
        for line in entry.lines:
            found[line.symbol] = found.get(line.symbol, 0) + entry.numbers[0]
    return {symbol: n for symbol, n in found.items() if n}


def _random(
    text: SeedText, words: Words, entries: Sequence[Entry], base: dict[str, Any], orders: list[int]
) -> list[SeedVariant]:
    """Return the variants of structures that are random as a whole."""
    contents: list[Sequence[Entry]] = [entries]
    open_entries = [entry for entry in entries if len(entry.numbers) > 1]
    if len(open_entries) > 1:
        raise InputError(
            f"{text.where}: NUM is a range for {len(open_entries)} entries: give a range to one, or use NATOM"
        )
    if open_entries:
        k = list(entries).index(open_entries[0])
        contents = [
            [*entries[:k], Entry(entries[k].lines, (n,)), *entries[k + 1 :]] for n in entries[k].numbers
        ]
    if "NFORM" in words:
        copies: list[tuple[list[int], dict[str, Any]]] = [(words.integers("NFORM"), {})]
    else:  # contents follow the number of operations
        copies = [
            ([order], {"symmetry": {**base.get("symmetry", {}), "operations": order}}) for order in orders
        ]
        if base.get("symmetry", {}).get("space_groups") and len(orders) == 1:
            copies = [([orders[0]], {})]
    # a drawn composition knows only ranges of atoms; all or none are cut, for variants are equally probable
    any_gaps = "NATOM" in words and any(
        _gaps(sorted({n * f for n in words.integers("NATOM") for f in formulas})) for formulas, _ in copies
    )
    result = []
    for content in contents:
        for formulas, changes in copies:
            values = {**base, **changes}
            composition = composition_of(content)
            units = [_unit(text, words, entry) for entry in content if len(entry.lines) > 1]
            if units:
                values["units"] = units
            size = sum(composition.values())
            counts = sorted({size * f for f in formulas})
            if "NATOM" in words:
                if units:
                    raise InputError(f"{text.where}: NATOM with units: give NUM for each unit instead")
                counts = sorted({n * f for n in words.integers("NATOM") for f in formulas})
                composition = dict.fromkeys(composition, 1)
                if len(composition) == 1 and _gaps(counts):
                    values["contents"] = {"formula_units": counts}
                if len(composition) > 1:
                    values["contents"] = {"composition": "random"}
                    if "FOCUS" in words:
                        values["contents"]["species_present"] = words.integers("FOCUS")
            else:
                if "FOCUS" in words:
                    raise InputError(f"{text.where}: FOCUS chooses among drawn compositions: give NATOM too")
                if len(formulas) > 1:
                    values["contents"] = {"formula_units": formulas}
            apart = "composition" in values.get("contents", {}) and any_gaps
            for part in [[n] for n in counts] if apart else [counts]:
                values |= {"atoms_min": part[0], "atoms_max": part[-1]}
                # buildcell draws all numbers alike; here odd or even is drawn first
                values["odd_fraction"] = sum(n % 2 for n in part) / len(part)
                result.append(SeedVariant(composition, _settings(text, values)))
    return result


def _gaps(numbers: Sequence[int]) -> bool:
    """Return whether numbers, ascending, are no range."""
    return len(numbers) <= numbers[-1] - numbers[0]


def _unit(text: SeedText, words: Words, entry: Entry) -> dict[str, Any]:
    tags = entry.tags
    angle = tagged(text, words, tags, "ANGAMP", -1.0)
    values: dict[str, Any] = {
        "name": entry.lines[0].label,
        "symbols": [line.symbol for line in entry.lines],
        "positions": positions_of(text, entry.lines).tolist(),
        "count": entry.numbers[0],
        "flip": words.flag("FLIP"),
    }
    if angle >= 0:
        values["rotation_max"] = min(angle, 180.0)
    return values


def positions_of(text: SeedText, lines: Sequence[SeedLine]) -> NDArray[np.float64]:
    """Return the positions of lines, (n, 3), Å."""
    positions = np.array([line.position for line in lines])
    if text.fractional and positions.any():
        if text.lattice is None:
            raise InputError(f"{text.where}: fractional positions need a lattice block, or use POSITIONS_ABS")
        return positions @ text.lattice
    return positions


def tagged(text: SeedText, words: Words, tags: dict[str, str], key: str, default: float) -> float:
    """Return the value of a tag, or of the directive of that name, or the default."""
    if key not in tags:
        return words.number(key, default)
    found = choices(text.where, key, tags[key])[0]
    if found[0] != found[1]:
        raise InputError(f"{text.where}: tag {key}={tags[key]}: give one number, not a range")
    return found[0]


# --- groups of keywords ----------------------------------------------------------------------------------------------


def _separations(words: Words, base: dict[str, Any]) -> None:
    if "MINSEP" in words:
        found: dict[str, Any] = {"pairs": {}}
        for part in words.given["MINSEP"].split():
            pair = _PAIR.fullmatch(part)
            if part.upper() == "AUTO":
                found["auto"] = True
                continue
            if pair is None and "value" in found:
                raise InputError(
                    f"{words.where}: MINSEP={words.given['MINSEP']} gives two values for every pair: keep one, or name "
                    "the pairs (B-B=1.6)"
                )
            span = choices(words.where, "MINSEP", pair[3] if pair else part)[0]
            if span[0] < 0:
                raise InputError(
                    f"{words.where}: MINSEP {part}: attracting pairs (negative values) are not supported"
                )
            if pair is None:
                found["value"] = list(span)
            else:
                found["pairs"][f"{pair[1]}-{pair[2]}"] = list(span)
        base["separations"] = found
    if "SLACK" in words and "AUTOSLACK" in words:
        raise InputError(f"{words.where}: SLACK and AUTOSLACK both give the slack: keep one")
    if "SLACK" in words:
        base["slack"] = base["slack_start"] = words.number("SLACK", 0.0)
    elif "AUTOSLACK" in words:
        start = words.number("AUTOSLACK", 0.0)
        base |= {"slack_start": start, "slack_step": 0.01, "slack": max(start, 0.5)}
    else:
        base["slack"] = 0.0
    if "PUSHMAX" in words:
        stall = words.integers("PUSHMAX")
        if len(stall) > 1:
            raise InputError(f"{words.where}: PUSHMAX={words.given['PUSHMAX']}: give one number, not a range")
        base["push_stall"] = stall[0]


def _volume(text: SeedText, words: Words, base: dict[str, Any], rows: int) -> None:
    if "VARVOL" in words and "TARGVOL" in words:
        raise InputError(f"{text.where}: VARVOL and TARGVOL both give the volume: keep one")
    if "shape" in base and "cell" in base["shape"]:
        return
    if "TARGVOL" in words:
        low, high = words.interval("TARGVOL")
        base["volume"] = {"per_atom": [low / rows, high / rows], "exact": low == high}
    elif "VARVOL" in words:
        base["volume"] = {"per_atom": words.number("VARVOL", 0.0) / rows}
    elif text.lattice is not None and text.lines:
        base["volume"] = {"per_atom": abs(float(np.linalg.det(text.lattice))) / rows}


def _shape(text: SeedText, words: Words, base: dict[str, Any]) -> None:
    shape: dict[str, Any] = {}
    if "CONS" in words:
        shape["equal_lengths"] = words.number("CONS", 0.4)
    if "ACONS" in words:
        shape["flatness"] = words.number("ACONS", 0.5)
    if words.flag("NOCOMPACT"):
        if words.flag("COMPACT"):
            raise InputError(f"{text.where}: COMPACT and NOCOMPACT: keep one")
        shape["compact"] = False
    if "CELLCON" in words:
        values = words.given["CELLCON"].replace(",", " ").split()
        try:
            shape["cellcon"] = [float(value) for value in values]
        except ValueError as error:
            raise InputError(f"{text.where}: CELLCON={words.given['CELLCON']}: give six numbers") from error
    if words.flag("FIX"):
        if text.lattice is None:
            raise InputError(f"{text.where}: FIX without a lattice block")
        shape["cell"] = text.lattice.tolist()
    if shape:
        base["shape"] = shape


def _confinement(words: Words, base: dict[str, Any]) -> None:
    kinds = {key for key in ("CLUSTER", "SLAB", "SURFACE") if words.flag(key)}
    if "SPHERE" in words:
        kinds.add("CLUSTER")
    if len(kinds - {"SURFACE"}) > 1 or {"CLUSTER", "SURFACE"} <= kinds:
        raise InputError(f"{words.where}: {' and '.join(sorted(kinds))} exclude each other: keep one")
    if not kinds:
        for key in ("VACUUM", "WIDTH"):
            if key in words:
                raise InputError(f"{words.where}: {key} belongs to a cluster or slab: add CLUSTER or SLAB")
        return
    found: dict[str, Any] = {"kind": "cluster" if "CLUSTER" in kinds else "slab"}
    if "VACUUM" in words:
        found["vacuum"] = words.number("VACUUM", 10.0)
    if "WIDTH" in words:
        found["width"] = words.number("WIDTH", 0.0)
    if "SPHERE" in words:
        radius = words.number("SPHERE", 0.0)
        found["radius" if radius > 0 else "radius_per_root"] = abs(radius)
    if "SURFACE" in kinds:
        found["keep_sides"] = True
    base["confinement"] = found


def _symmetry(words: Words, base: dict[str, Any]) -> list[int]:
    """Add the symmetry; return the numbers of operations."""
    from gapfactory.build.symmetry import groups_by_order

    found: dict[str, Any] = {}
    orders = [1]
    if "SYMMOPS" in words:
        value = words.given["SYMMOPS"]
        if value.startswith("~"):
            found["positions"] = "general"
        orders = _integers(words.where, "SYMMOPS", value.lstrip("~"))
        if "confinement" not in base:
            orders = [n for n in orders if groups_by_order(n)]
        if not orders:
            raise InputError(
                f"{words.where}: SYMMOPS={value}: there are groups of 1, 2, 3, 4, 6, 8, 12, 16, 24, 48 operations"
            )
    given = [key for key in ("SYMMNO", "SYMM") if key in words]
    if len(given) > 1 or (given and "SYMMOPS" in words):
        raise InputError(
            f"{words.where}: {' and '.join([*given, 'SYMMOPS'])} both give the symmetry: keep one"
        )
    if given:
        numbers = words.integers("SYMMNO") if "SYMMNO" in words else [_group_number(words)]
        found["space_groups"] = numbers
        orders = sorted({order for order in range(1, 49) for n in numbers if n in groups_by_order(order)})
        if len(orders) > 1 and "NFORM" not in words:
            raise InputError(
                f"{words.where}: groups of {orders} operations: give NFORM, the formula units of a cell"
            )
    elif "SYMMOPS" in words:
        found["operations"] = orders
    else:
        found["operations"] = 1
    if "SYSTEM" in words:
        names = words.given["SYSTEM"].strip("{}").split(",")
        for name in names:
            if name.strip().upper()[:4] not in _SYSTEMS:
                raise InputError(f"{words.where}: SYSTEM={name.strip()}; {nearest(name, _SYSTEMS)}")
        found["crystal_systems"] = [_SYSTEMS[name.strip().upper()[:4]] for name in names]
    if words.flag("SYMMORPHIC"):
        found["symmorphic"] = True
    if "ADJGEN" in words:
        found["extra_sites"] = words.integers("ADJGEN")[-1]
    base["symmetry"] = found
    return orders


def _group_number(words: Words) -> int:
    import spglib

    from gapfactory._spglib import quiet_spglib

    wanted = words.given["SYMM"].replace(" ", "").replace("_", "")
    names: dict[str, int] = {}
    with quiet_spglib():
        for hall in range(1, 531):
            kind = spglib.get_spacegroup_type(hall)
            if kind is not None:
                names.setdefault(str(kind.international_short).replace("_", ""), int(kind.number))
    if wanted not in names:
        raise InputError(f"{words.where}: SYMM={wanted} is no space group; {nearest(wanted, names)}")
    return names[wanted]
