"""QUIP's option strings (`soap n_max=8 species_Z={14 8}`): split, typed, strict about names and values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

from gapfactory.errors import PotentialError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Options", "real", "split_options"]

Value = TypeVar("Value")

_CLOSING = {"{": "}", "'": "'", '"': '"'}
_TRUE = frozenset(("t", "true", ".true.", ".t.", ""))
_FALSE = frozenset(("f", "false", ".false.", ".f."))
#: a descriptor string longer than this is not one (QUIP's own limit is 10240)
_LONGEST = 10240


def split_options(text: str) -> list[tuple[str, str | None]]:
    """Return the (name, value) pairs of an option string; the value of a bare word is None.

    Names come in lower case: QUIP does not distinguish. Blanks and commas separate, braces and quotes hold
    together. Raises PotentialError if a brace is not closed, a name is missing or the string is too long.
    """
    if len(text) > _LONGEST:
        msg = f"an option string has {len(text)} characters, QUIP reads {_LONGEST}: shorten it"
        raise PotentialError(msg)
    words: list[str] = []
    word: list[str] = []
    stack: list[str] = []
    for character in text:
        if stack:
            if character == stack[-1]:
                stack.pop()
            elif stack[-1] == "}" and character == "{":
                stack.append("}")
            word.append(character)
        elif character in _CLOSING:
            stack.append(_CLOSING[character])
            word.append(character)
        elif character in " ,\t\n\r":
            if word:
                words.append("".join(word))
            word = []
        else:
            word.append(character)
    if stack:
        msg = f"the option string {text[:200]!r} lacks a closing {stack[-1]!r}"
        raise PotentialError(msg)
    if word:
        words.append("".join(word))
    pairs: list[tuple[str, str | None]] = []
    for item in words:
        name, equals, value = item.partition("=")
        if not name:
            msg = f"the option {item[:100]!r} has no name: write name=value"
            raise PotentialError(msg)
        while len(value) > 1 and value[0] in _CLOSING and value[-1] == _CLOSING[value[0]]:
            value = value[1:-1].strip()
        pairs.append((name.lower(), value if equals else None))
    return pairs


class Options:
    """The options of one descriptor, taken out one by one so that none is overlooked.

    Parameters
    ----------
    what
        Name for messages.
    pairs
        From `split_options`.
    aliases
        Second names of options, both in lower case.
    """

    def __init__(
        self, what: str, pairs: Iterable[tuple[str, str | None]], aliases: Mapping[str, str] | None = None
    ) -> None:
        self.what = what
        self._values: dict[str, str] = {}
        self._taken: set[str] = set()
        for given, text in pairs:
            name, value = (aliases or {}).get(given, given), text or ""
            if self._values.setdefault(name, value) != value:
                msg = f"{what}: {name} is given as {self._values[name]!r} and as {value!r}; give it once"
                raise PotentialError(msg)

    def __contains__(self, name: str) -> bool:
        return name.lower() in self._values

    def _convert(self, name: str, default: Value | None, convert: Callable[[str], Value], kind: str) -> Value:
        key = name.lower()
        self._taken.add(key)
        text = self._values.get(key)
        if text is None:
            if default is None:
                msg = f"{self.what}: {name} is missing, give {name}=<{kind}>"
                raise PotentialError(msg)
            return default
        try:
            return convert(text)
        except (ValueError, OverflowError):
            msg = f"{self.what}: {name}={text[:60]!r} is not {kind}"
            raise PotentialError(msg) from None

    def text(self, name: str, default: str | None = None) -> str:
        """Return a word as it stands."""
        return self._convert(name, default, str, "a word")

    def number(
        self, name: str, default: float | None = None, *, low: float = -math.inf, above: bool = False
    ) -> float:
        """Return a finite number, at least `low` (or above it)."""
        value = self._convert(name, default, real, "a finite number")
        if value < low or (above and value == low):
            msg = f"{self.what}: {name}={value:g} must be {'above' if above else 'at least'} {low:g}"
            raise PotentialError(msg)
        return value

    def integer(self, name: str, default: int | None = None, *, low: int, high: int) -> int:
        """Return a whole number between `low` and `high`."""
        value = self._convert(name, default, _whole, "a whole number")
        if not low <= value <= high:
            msg = f"{self.what}: {name}={value} must be between {low} and {high}"
            raise PotentialError(msg)
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Return a logical value: T or F."""
        return self._convert(name, default, _logical, "T or F")

    def atomic_number(self, name: str) -> int:
        """Return an atomic number; QUIP's 0 for "any element" is refused."""
        value = self.integer(name, 0, low=0, high=118)
        if value == 0:
            msg = (
                f"{self.what}: {name} is 0 or missing, which means any element to QUIP and is not supported: "
                "write one descriptor for each combination of elements"
            )
            raise PotentialError(msg)
        return value

    def atomic_numbers(self, name: str, count: int) -> tuple[int, ...]:
        """Return `count` atomic numbers."""
        nothing: tuple[int, ...] = ()
        values: tuple[int, ...] = self._convert(
            name,
            nothing,
            lambda text: tuple(_whole(word) for word in text.replace(",", " ").split()),
            "a list of whole numbers",
        )
        if len(values) != count or not all(1 <= value <= 118 for value in values):
            msg = (
                f"{self.what}: {name} must hold {count} atomic numbers between 1 and 118 (0, any element, is not "
                f"supported), got {self._values.get(name.lower(), 'nothing')!r}"
            )
            raise PotentialError(msg)
        return values

    def only(self, name: str, allowed: object, because: str) -> None:
        """Refuse an option unless it is absent or has the one value that is supported."""
        if name.lower() not in self._values:
            return
        if isinstance(allowed, bool):
            same = self.flag(name, allowed) == allowed
        elif isinstance(allowed, (int, float)):
            same = self.number(name, float(allowed)) == allowed
        else:
            same = self.text(name, "").upper() in ("", str(allowed).upper())
        if not same:
            given = self._values[name.lower()]
            shown = {True: "T", False: "F"}.get(allowed, allowed) if isinstance(allowed, bool) else allowed
            msg = (
                f"{self.what}: {name}={given} is not supported ({because}); only {name}={shown} is, use another "
                "descriptor or evaluate this potential with quippy"
            )
            raise PotentialError(msg)

    def refuse(self, name: str, because: str) -> None:
        """Refuse an option that has no supported value."""
        if name.lower() in self._values:
            msg = (
                f"{self.what}: {name} is not supported ({because}); use another descriptor or evaluate this "
                "potential with quippy"
            )
            raise PotentialError(msg)

    def ignore(self, names: Iterable[str]) -> None:
        """Accept options that do not change the value of the descriptor."""
        self._taken.update(name.lower() for name in names)

    def finish(self) -> None:
        """Refuse every option that was not asked for."""
        unknown = sorted(set(self._values) - self._taken)
        if unknown:
            msg = f"{self.what}: unknown option {', '.join(unknown)[:200]}; correct or remove it"
            raise PotentialError(msg)


def real(text: str) -> float:
    """Return a finite float from Python's or Fortran's notation; ValueError otherwise."""
    value = float(text.strip().lower().replace("d", "e"))
    if not math.isfinite(value) or "_" in text:
        raise ValueError(text)
    return value


def _whole(text: str) -> int:
    if "_" in text or len(text) > 20:
        raise ValueError(text)
    return int(text)


def _logical(text: str) -> bool:
    word = text.strip().lower()
    if word in _TRUE:
        return True
    if word in _FALSE:
        return False
    raise ValueError(text)
