"""spglib without its notice about a future change of its own error handling."""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ase import Atoms

__all__ = ["quiet_spglib", "space_group_number"]


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
