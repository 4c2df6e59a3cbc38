"""Crystals as text that settings can hold: extended XYZ with every digit."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

from gapfactory.errors import InputError
from gapfactory.io.foreign import read_extended_xyz

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ase import Atoms

__all__ = ["given_crystals", "text_of_crystals"]

#: Å^3 per atom; no crystal is as dense
_LEAST: Final = 0.1


def text_of_crystals(crystals: Iterable[Atoms]) -> str:
    """Return crystals with every digit: read again, they have the same bits, and what is none is refused."""
    lines = []
    for atoms in crystals:
        periodic = " ".join("T" if along else "F" for along in atoms.pbc)
        cell = " ".join(repr(float(x)) for x in atoms.cell.array.ravel())
        lines += [str(len(atoms)), f'Lattice="{cell}" Properties=species:S:1:pos:R:3 pbc="{periodic}"']
        for symbol, position in zip(atoms.get_chemical_symbols(), atoms.positions, strict=True):
            lines.append(f"{symbol} {' '.join(repr(float(x)) for x in position)}")
    return "".join(f"{line}\n" for line in lines)


@lru_cache(maxsize=32)
def given_crystals(text: str) -> tuple[Atoms, ...]:
    """Return the crystals of a text as `text_of_crystals` writes it; not to be changed.

    Raises
    ------
    InputError
        The text is no extended XYZ, or a structure is no crystal.
    """
    from ase import Atoms

    try:
        images = read_extended_xyz(io.StringIO(text), "the text")
    except InputError as error:
        msg = f"no extended XYZ: {error}"
        raise InputError(msg) from error
    if not images:
        msg = "there is no structure"
        raise InputError(msg)
    for number, image in enumerate(images, 1):
        if image.cell.rank != 3 or not all(image.pbc) or not len(image):
            msg = f"structure {number} ({image.symbols!s}) is not periodic in three directions"
            raise InputError(msg)
        finite = np.isfinite(image.positions).all() and np.isfinite(image.cell.array).all()
        if not finite or image.get_volume() < _LEAST * len(image):
            msg = f"structure {number} ({image.symbols!s}) has a coordinate that is no number, or a cell without volume"
            raise InputError(msg)
    return tuple(Atoms(i.numbers, positions=i.positions, cell=i.cell, pbc=True) for i in images)
