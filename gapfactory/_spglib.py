"""spglib without its notice about a change of its error handling, and the same before and after that change."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = [
    "SpaceGroup",
    "ask_spglib",
    "quiet_spglib",
    "space_group_number",
    "space_group_of",
    "symmetry_operations",
]


#: filters of warnings belong to the whole process: threads that set and restore them must not
#: overlap, one that does so within itself may
_FILTERS = threading.RLock()


@contextmanager
def quiet_spglib() -> Iterator[None]:
    """Silence the notice that spglib 2.7 and later give on every call.

    Its remedy is a switch for the whole process, which would change what every other user of spglib sees.
    """
    with _FILTERS, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*OLD_ERROR_HANDLING.*", category=DeprecationWarning)
        yield


def ask_spglib(function: str, *args: Any, **options: Any) -> Any:
    """Return what a function of spglib finds, or None where it finds nothing.

    spglib says so by None or by an exception; which of them is a switch for the whole process, and phonopy turns it
    when it is imported.
    """
    import spglib

    with quiet_spglib():
        try:
            return getattr(spglib, function)(*args, **options)
        except getattr(spglib, "SpglibError", ()):
            return None


class SpaceGroup(NamedTuple):
    """What spglib found.

    Attributes
    ----------
    symbol
        Hermann and Mauguin's, short: ``P6_3/mmc``.
    number
        Of the International Tables.
    primitive_atoms
        Atoms in the primitive cell.
    """

    symbol: str
    number: int
    primitive_atoms: int


def space_group_of(atoms: Atoms, symprec: float) -> SpaceGroup | None:
    """Return the space group that spglib finds within a tolerance (Å), or None."""
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    dataset = ask_spglib("get_symmetry_dataset", cell, symprec=symprec)
    if dataset is None:
        return None
    atoms_in_primitive = len(set(dataset.mapping_to_primitive.tolist()))
    return SpaceGroup(str(dataset.international), int(dataset.number), atoms_in_primitive)


def space_group_number(atoms: Atoms, symprec: float) -> int | None:
    """Return the International Tables number that spglib finds within a tolerance (Å), or None."""
    found = space_group_of(atoms, symprec)
    return None if found is None else found.number


def symmetry_operations(atoms: Atoms, symprec: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the symmetry operations of a crystal.

    Parameters
    ----------
    atoms
        Periodic structure.
    symprec
        Tolerance in Å.

    Returns
    -------
    rotations
        (g, 3, 3) W, of fractional coordinates x: x' = W x + w.
    translations
        (g, 3) w.

    Raises
    ------
    InputError
        The structure is not periodic in three directions, or spglib finds no symmetry, because two atoms coincide.
    """
    import numpy as np

    if not all(atoms.pbc) or atoms.cell.rank != 3 or not len(atoms):
        raise InputError(f"{atoms.symbols!s} is not periodic in three directions: it has no space group")
    cell = (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers)
    found = ask_spglib("get_symmetry", cell, symprec=symprec)
    if found is None:
        raise InputError(
            f"spglib finds no symmetry of {atoms.symbols!s} at symprec = {symprec} Å: do two atoms coincide?"
        )
    return np.asarray(found["rotations"], dtype=np.int64), np.asarray(found["translations"], dtype=float)
