"""Measured elastic constants of the elements of Allen and Bartók (2022), Table 3, to stand beside computed ones."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from gapfactory._spglib import space_group_number

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms

__all__ = ["MeasuredConstants", "measured_constants"]


@dataclass(frozen=True)
class MeasuredConstants:
    """Elastic constants of a crystal by experiment.

    Attributes
    ----------
    constants
        GPa; ``B`` is the bulk modulus.
    source
        Authors and year.
    """

    constants: Mapping[str, float]
    source: str


#: Element, number of the space group and atoms of the primitive cell -> what was measured.
_MEASURED: Final = {
    ("Mg", 194, 2): MeasuredConstants(
        MappingProxyType(
            {"B": 36.9, "C11": 63.5, "C12": 25.9, "C13": 21.7, "C33": 66.5, "C44": 18.4, "C66": 18.8}
        ),
        "Slutsky and Garland 1957",
    ),
    ("Al", 225, 1): MeasuredConstants(
        MappingProxyType({"B": 82.0, "C11": 116.3, "C12": 64.8, "C44": 30.9}), "Vallin et al. 1964"
    ),
    ("Si", 227, 2): MeasuredConstants(
        MappingProxyType({"B": 99.1, "C11": 167.5, "C12": 64.9, "C44": 80.2}), "Hall 1967"
    ),
    ("W", 229, 1): MeasuredConstants(
        MappingProxyType({"B": 314.7, "C11": 533.9, "C12": 205.1, "C44": 163.3}), "Stathis and Bolef 1980"
    ),
}


def measured_constants(crystal: Atoms, *, symprec: float = 1e-3) -> MeasuredConstants | None:
    """Return what experiments gave for this crystal; None for all but hcp Mg, fcc Al, diamond Si and bcc W.

    Parameters
    ----------
    crystal
        Its primitive cell.
    symprec
        Distance within which an operation counts as a symmetry, Å.
    """
    elements = set(crystal.get_chemical_symbols())
    if len(elements) != 1:
        return None
    number = space_group_number(crystal, symprec)
    return None if number is None else _MEASURED.get((elements.pop(), number, len(crystal)))
