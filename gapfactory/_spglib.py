"""spglib without its notice about a future change of its own error handling."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

__all__ = ["quiet_spglib", "space_group_number", "symmetry_operations"]


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


def space_group_number(atoms: Atoms, symprec: float) -> int | None:
    """Return the International Tables number that spglib finds within a tolerance (Å), or None."""
    import spglib

    with quiet_spglib():
        dataset = spglib.get_symmetry_dataset(
            (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=symprec
        )
    return None if dataset is None else int(dataset.number)


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
    import spglib

    if not all(atoms.pbc) or atoms.cell.rank != 3 or not len(atoms):
        raise InputError(f"{atoms.symbols!s} is not periodic in three directions: it has no space group")
    with quiet_spglib():
        found = spglib.get_symmetry(
            (atoms.cell.array, atoms.get_scaled_positions(), atoms.numbers), symprec=symprec
        )
    if found is None:
        raise InputError(
            f"spglib finds no symmetry of {atoms.symbols!s} at symprec = {symprec} Å: do two atoms coincide?"
        )
    return np.asarray(found["rotations"], dtype=np.int64), np.asarray(found["translations"], dtype=float)
