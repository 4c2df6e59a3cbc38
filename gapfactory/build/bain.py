"""Cells on the path of Bain from body-centred to face-centred cubic, at constant volume."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["bain_cell"]


def bain_cell(symbol: str, a0: float, eta: float) -> Atoms:
    """Return the primitive body-centred tetragonal cell at one place of the path.

    C. Allen and A. P. Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022), Eq. 7, with a and c exchanged: as
    printed the volume is not conserved and no cell is face-centred cubic. With s = 1 - eta + 2^(1/3) eta here
    c = a0 s and a = a0 / sqrt(s), so that the volume of a conventional cell is a0^3 for each eta, and c/a = s^(3/2)
    runs from 1 (bcc) to sqrt(2) (fcc, with the lattice parameter 2^(1/3) a0).

    Parameters
    ----------
    symbol
        Element.
    a0
        Lattice parameter of the body-centred cubic cell in Å; (2 V)^(1/3) for a volume of V per atom.
    eta
        Place on the path: 0 is body-centred cubic, 1 face-centred cubic.

    Raises
    ------
    InputError
        `a0` is not positive, or `eta` not within 0 and 1.
    """
    from ase import Atoms

    if not 0.0 < a0 < np.inf:
        raise InputError(f"a0 = {a0} Å: give a positive lattice parameter")
    if not 0.0 <= eta <= 1.0:
        raise InputError(f"eta = {eta}: the path of Bain runs from 0 (bcc) to 1 (fcc)")
    stretch = 1.0 - eta + 2.0 ** (1.0 / 3.0) * eta
    a, c = a0 / np.sqrt(stretch), a0 * stretch
    half = np.array([[-a, a, c], [a, -a, c], [a, a, -c]]) / 2.0
    return Atoms(symbol, positions=[[0.0, 0.0, 0.0]], cell=half, pbc=True)
