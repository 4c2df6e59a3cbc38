"""Relaxation of named phases, with a potential or with a reference calculator: full, and at fixed volume."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gapfactory.errors import RelaxationError
from gapfactory.search.relax import minimise

if TYPE_CHECKING:
    from ase import Atoms

    from gapfactory.search.settings import PhaseRelaxSettings
    from gapfactory.search.trajectory import Trajectory

__all__ = ["left_phase", "relax_at_fixed_volume", "relax_phase", "scaled_to_volume"]


def relax_phase(
    atoms: Atoms,
    calculator: Any,
    *,
    settings: PhaseRelaxSettings,
    pressure_GPa: float = 0.0,
    keep_symmetry: bool = True,
) -> Trajectory:
    """Relax cell and positions of a named phase at a given pressure; all frames are kept.

    Raises
    ------
    RelaxationError
        As `gapfactory.search.relax.relax`.
    """
    return minimise(
        atoms,
        calculator,
        pressure_GPa=pressure_GPa,
        settings=settings,
        keep_first=settings.max_steps,
        thinning_ratio=1.0,
        symmetry_tolerance=settings.symmetry_tolerance if keep_symmetry else None,
    )


def relax_at_fixed_volume(
    atoms: Atoms,
    calculator: Any,
    *,
    volume_per_atom: float,
    settings: PhaseRelaxSettings,
    keep_symmetry: bool = True,
) -> Trajectory:
    """Scale a phase to a volume and relax its shape and positions there (paper, Computational details).

    Where symmetry leaves nothing to relax (diamond, fcc) this is one evaluation. The volume is kept to
    rounding, because the cell moves along the exponential of a traceless strain.

    Parameters
    ----------
    atoms
        The phase, periodic; not changed.
    calculator
        ASE calculator with energy, forces and stress.
    volume_per_atom
        In Å^3.
    settings
        Thresholds and guards.
    keep_symmetry
        Keep the space group of the phase.

    Raises
    ------
    RelaxationError
        The volume is not positive, or as `gapfactory.search.relax.relax`.
    """
    return minimise(
        scaled_to_volume(atoms, volume_per_atom),
        calculator,
        pressure_GPa=0.0,
        settings=settings,
        keep_first=settings.max_steps,
        thinning_ratio=1.0,
        symmetry_tolerance=settings.symmetry_tolerance if keep_symmetry else None,
        fixed_volume=True,
    )


def left_phase(before: Atoms, after: Atoms, *, tolerance: float) -> str:
    """Return why a relaxed structure is no longer the phase it was, or an empty text.

    Symmetry that is kept in a relaxation can be gained, never lost: beta-tin turns into diamond when stretched.

    Parameters
    ----------
    before, after
        The phase and what became of it.
    tolerance
        Distance within which an operation counts as a symmetry, in Å.
    """
    from gapfactory._spglib import space_group_number

    old, new = space_group_number(before, tolerance), space_group_number(after, tolerance)
    if old == new:
        return ""
    volume = after.get_volume() / len(after)
    return f"left its phase at {volume:.3f} Å^3/atom: space group {old} became {new}"


def scaled_to_volume(atoms: Atoms, volume_per_atom: float) -> Atoms:
    """Return a copy of `atoms` scaled uniformly to `volume_per_atom` (Å^3).

    Raises
    ------
    RelaxationError
        The volume is not positive.
    """
    if not volume_per_atom > 0:
        raise RelaxationError(
            f"volume per atom {volume_per_atom} Å^3 is not positive: give a volume above zero."
        )
    scaled = atoms.copy()
    factor = (volume_per_atom * len(atoms) / atoms.get_volume()) ** (1 / 3)
    scaled.set_cell(atoms.cell.array * factor, scale_atoms=True)
    return scaled
