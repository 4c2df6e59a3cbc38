"""Characteristic radius r and kind of bonding of an element: the length that sets all others.

Bernstein et al., npj Comput. Mater. 5, 99 (2019), Methods: volumes of random cells, minimum separations and
cutoffs are multiples of r, a tabulated covalent or metallic radius (B 0.84, C 0.76, Si 1.11, Ti 1.47 Å). The
tables and their sources are in `gapfactory._radii`.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Literal

from gapfactory._melting import MELTING_POINTS
from gapfactory._radii import COVALENT, METALLIC, SYMBOLS
from gapfactory.errors import InputError, UnknownElementError

__all__ = [
    "Bonding",
    "Species",
    "default_bonding",
    "melting_point",
    "species",
    "symbol_of",
    "tabulated_radius",
]

Bonding = Literal["covalent", "metallic"]

#: Hydrogen, the noble gases, the nonmetals, and the usual metalloids B, Si, Ge, As, Sb, Te. The paper makes
#: an ad-hoc choice for B, C, Si (covalent) and Ti (metallic); this rule extends it and can be overridden.
_COVALENT_BY_DEFAULT = frozenset(
    "H He B C N O F Ne Si P S Cl Ar Ge As Se Br Kr Sb Te I Xe At Rn Ts Og".split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Species:
    """One chemical species of a campaign.

    Parameters
    ----------
    symbol, number
        Chemical symbol and atomic number.
    radius
        Characteristic radius r in Å.
    bonding
        Which table r belongs to; decides the volume and cutoff factors.
    """

    symbol: str
    number: int
    radius: float
    bonding: Bonding


def default_bonding(symbol: str) -> Bonding:
    """Return the default class of an element: covalent for nonmetals and metalloids, metallic for all others.

    Covalent are hydrogen, the noble gases, C, N, O, F, P, S, Cl, Se, Br, I, At and the metalloids B, Si, Ge,
    As, Sb, Te.

    Raises
    ------
    UnknownElementError
        When there is no such element.
    """
    _atomic_number(symbol)
    return "covalent" if symbol in _COVALENT_BY_DEFAULT else "metallic"


def tabulated_radius(symbol: str, bonding: Bonding) -> float:
    """Return the tabulated covalent or metallic (12-coordinate) radius in Å.

    Raises
    ------
    UnknownElementError
        When there is no such element, or the cited table has no value for it.
    """
    _atomic_number(symbol)
    table, other, other_name = (
        (COVALENT, METALLIC, "metallic") if bonding == "covalent" else (METALLIC, COVALENT, "covalent")
    )
    if symbol in table:
        return table[symbol]
    remedy = "give its radius in Å explicitly (`radius`)"
    if symbol in other:
        remedy += f", or choose `bonding: {other_name}` ({other[symbol]} Å)"
    raise UnknownElementError(f"no {bonding} radius is tabulated for {symbol}: {remedy}")


def melting_point(symbol: str) -> float | None:
    """Return the melting point of an element in K, or None where none is tabulated (helium, from berkelium on).

    Raises
    ------
    UnknownElementError
        When there is no such element.
    """
    _atomic_number(symbol)
    found = MELTING_POINTS.get(symbol)
    return None if found is None else float(found)


def species(symbol: str, *, bonding: Bonding | None = None, radius: float | None = None) -> Species:
    """Return a species with its characteristic radius.

    Parameters
    ----------
    symbol
        Chemical symbol, e.g. ``"Si"``.
    bonding
        Covalent or metallic; by default `default_bonding` of the element.
    radius
        Characteristic radius in Å; by default the tabulated one.

    Raises
    ------
    UnknownElementError
        No such element (the text names the nearest symbol), or no tabulated radius (give `radius`).
    InputError
        `radius` is not a positive number, or `bonding` is neither of the two kinds.
    """
    number = _atomic_number(symbol)
    kind = default_bonding(symbol) if bonding is None else bonding
    if kind not in ("covalent", "metallic"):
        raise InputError(f"bonding of {symbol} is {kind!r}: choose 'covalent' or 'metallic'")
    if radius is None:
        radius = tabulated_radius(symbol, kind)
    elif not (math.isfinite(radius) and radius > 0):
        raise InputError(f"radius of {symbol} is {radius}: give a positive length in Å")
    return Species(symbol=symbol, number=number, radius=float(radius), bonding=kind)


def symbol_of(number: int) -> str:
    """Return the symbol of the element with this atomic number, ``X`` where there is none."""
    return SYMBOLS[number - 1] if 0 < number <= len(SYMBOLS) else "X"


def _atomic_number(symbol: str) -> int:
    if symbol in SYMBOLS:
        return SYMBOLS.index(symbol) + 1
    text = str(symbol)
    capitalised = text.strip().capitalize()
    near = (
        [capitalised] if capitalised in SYMBOLS else difflib.get_close_matches(capitalised, SYMBOLS, 3, 0.5)
    )
    if not near:
        # a name instead of a symbol: "Silicon" starts with "Si"
        near = [s for s in (capitalised[:2], capitalised[:1]) if s in SYMBOLS]
    hint = f"; did you mean {' or '.join(near)}?" if near else "."
    raise UnknownElementError(f"there is no element {text!r}{hint} Give a chemical symbol such as 'Si'.")
