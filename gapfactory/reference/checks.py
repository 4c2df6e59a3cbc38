"""What a result must be to count as a label."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.reference.base import kind_of

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.reference.base import Raw

__all__ = ["energy_outliers", "unsound", "voigt", "wrong_numbers"]

# A net force beyond this (eV/Å per atom) is no self-consistent result.
_NET_FORCE = 0.2
# Largest difference of off-diagonal stresses, in eV/Å^3 (0.16 GPa).
_ASYMMETRY = 1e-3
# Largest deviation of echoed cells (Å) and positions (Å, after lattice translations).
_ECHO = 1e-4
# An energy further from its neighbours than this many interquartile ranges is flagged.
_OUTLIER_WIDTHS = 10.0


def voigt(stress: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
    """Return a stress in Voigt form (xx, yy, zz, yz, xz, xy), the mean of off-diagonal pairs; None stays None."""
    if stress is None or stress.shape != (3, 3):
        return stress
    mean: NDArray[np.float64] = (0.5 * (stress + stress.T)).ravel()[[0, 4, 8, 5, 2, 1]]
    return mean


def unsound(raw: Raw, atoms: Atoms) -> str:
    """Return why a result cannot be a label of `atoms`, or an empty string.

    Parameters
    ----------
    raw
        As an engine read it.
    atoms
        As they were sent.
    """
    stress = None if raw.stress is None else np.asarray(raw.stress, dtype=float)
    if stress is not None and stress.shape == (3, 3):
        if not np.isfinite(stress).all():
            return "stress is not finite"
        asymmetry = float(np.abs(stress - stress.T).max())
        if asymmetry > _ASYMMETRY:
            return f"the stress is not symmetric: off-diagonal elements differ by {asymmetry:.2g} eV/Å^3"
    text = wrong_numbers(raw.energy, raw.forces, voigt(stress), atoms)
    if text:
        return text
    return "" if raw.echo is None else _wrong_echo(raw.echo, atoms)


def wrong_numbers(energy: Any, forces: Any, stress: Any, atoms: Atoms) -> str:
    """Return what is wrong with the numbers of a label of `atoms` (stress in Voigt form), or an empty string."""
    try:
        energy = float(energy)
        forces = np.array(forces, dtype=float)
        stress = None if stress is None else np.array(stress, dtype=float)
    except (TypeError, ValueError) as error:
        return f"energy, forces or stress are not numbers of one shape ({error})"
    if forces.shape != (len(atoms), 3):
        return f"forces have shape {forces.shape}, expected ({len(atoms)}, 3)"
    if (stress is not None) != (kind_of(atoms) == "crystal"):
        return "a crystal needs a stress, an isolated structure has none"
    if stress is not None and stress.shape != (6,):
        return f"stress has shape {stress.shape}, expected (6,)"
    for name, values in (
        ("energy", energy),
        ("forces", forces),
        ("stress", 0.0 if stress is None else stress),
    ):
        if not np.isfinite(values).all():
            return f"{name} is not finite"
    net = float(np.abs(forces.sum(axis=0)).max()) / len(atoms)
    if net > _NET_FORCE:
        return f"forces sum to {net:.2f} eV/Å per atom instead of zero"
    return ""


def _wrong_echo(echo: Atoms, atoms: Atoms) -> str:
    """Return how the structure in the output differs from the one that was sent, or an empty string."""
    if len(echo) != len(atoms):
        return f"the output is of {len(echo)} atoms, {len(atoms)} were sent"
    if (echo.numbers != atoms.numbers).any():
        return f"the output is of {echo.get_chemical_formula()}, {atoms.get_chemical_formula()} was sent"
    if kind_of(atoms) != "crystal":
        return ""
    moved = float(np.abs(echo.cell.array - atoms.cell.array).max())
    if moved > _ECHO:
        return f"the output's cell differs by {moved:.2g} Å from the one that was sent"
    shift = atoms.cell.scaled_positions(echo.positions - atoms.positions)
    shift -= np.round(shift)
    away = float(np.linalg.norm(shift @ atoms.cell.array, axis=1).max())
    return f"an atom of the output is {away:.2g} Å from where it was sent" if away > _ECHO else ""


def energy_outliers(energies: Any, *, width_floor: float = 0.1) -> list[int]:
    """Return the indices of energies far outside the range of the others.

    Such a label is not wrong for that alone (random cells are violent); people should look at it.

    Parameters
    ----------
    energies
        Energies per atom of comparable labels (same composition, same settings), in eV.
    width_floor
        Smallest interquartile range that counts, in eV: equal labels would make any other an outlier.

    Returns
    -------
    list of int
        Indices of energies more than ten interquartile ranges above the upper or below the lower quartile; none for
        fewer than eight energies.
    """
    values = np.asarray(energies, dtype=float)
    if len(values) < 8:
        return []
    low, high = np.percentile(values, [25, 75])
    width = max(float(high - low), width_floor)
    far = (values > high + _OUTLIER_WIDTHS * width) | (values < low - _OUTLIER_WIDTHS * width)
    return [int(i) for i in np.flatnonzero(far)]
