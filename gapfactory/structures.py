"""Content hash of a structure, under which labels are shared and digests compared, and its composition group."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import ArrayLike

__all__ = ["composition_of", "composition_scale", "content_hash", "structure_hash"]

#: element and number in a chemical formula without brackets
_COUNT = re.compile(r"([A-Z][a-z]?)(\d*)")


def structure_hash(atoms: Atoms) -> str:
    """Return the sha256 (hex) of species, positions, cell and periodicity, to the last bit.

    Two structures share a hash only when they are the same numbers in the same order; symmetry-equivalent settings
    of one crystal differ. Initial magnetic moments and charges do not enter: they belong to the settings of the
    reference calculation.
    """
    return content_hash(atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc)


def content_hash(numbers: ArrayLike, positions: ArrayLike, cell: ArrayLike, pbc: ArrayLike) -> str:
    """Return the hash of `structure_hash` from the arrays themselves: shapes (N,), (N, 3), (3, 3), (3,)."""
    h = hashlib.sha256(b"gapfactory-structure-1")
    for array, dtype in ((numbers, "<i4"), (positions, "<f8"), (cell, "<f8"), (pbc, "u1")):
        # adding zero turns -0.0 into 0.0: equal coordinates, equal bytes
        h.update(np.ascontiguousarray(np.asarray(array) + 0, dtype=dtype).tobytes())
    return h.hexdigest()


def composition_of(atoms: Atoms) -> str:
    """Return the reduced chemical formula: the key of a composition group.

    The element with the fewest atoms comes first, equal numbers in the order of the alphabet, whatever the order
    of the atoms: ``SiO2`` for O4Si2, ``CSi`` for SiC, ``OH2`` for water.
    """
    formula, _ = atoms.symbols.formula.reduce()
    return str(formula.format("abc"))


def composition_scale(formulas: Sequence[str]) -> tuple[str, list[float]] | None:
    """Return what a scale of colours for compositions of two elements measures, and where each stands on it.

    Parameters
    ----------
    formulas
        As `composition_of` writes them.

    Returns
    -------
    tuple or None
        ``fraction of X``, X being the second element in the alphabet, and that fraction for each formula; None unless
        there are two elements.
    """
    counts = [{symbol: int(number or 1) for symbol, number in _COUNT.findall(text)} for text in formulas]
    elements = sorted({symbol for count in counts for symbol in count})
    if len(elements) != 2:
        return None
    second = elements[1]
    return f"fraction of {second}", [count.get(second, 0) / sum(count.values()) for count in counts]
