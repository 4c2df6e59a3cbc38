"""One calculator call per structure, with the guards that stop a relaxation gone wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from gapfactory.errors import RelaxationError

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.search.settings import MinimiserSettings

__all__ = ["Evaluator", "GuardTrippedError", "closest_within"]

_PROPERTIES = ["energy", "forces", "stress"]
# atoms up to which all pairs are cheaper than a neighbour list
_MANY = 100


class GuardTrippedError(Exception):
    """A guard stopped the relaxation; never leaves this package."""


class Evaluator(Calculator):
    """ASE calculator that asks another one for energy, forces and stress in one call and checks the answer.

    Optimisers ask for the energy first; a calculator that computes only what it is asked for would run twice
    per step (QUIP through ASE does).

    Parameters
    ----------
    calculator
        The calculator to ask. The energy consistent with the forces (``free_energy``) is taken where it has
        one.
    start
        The starting structure, to which the volume guards refer.
    settings
        The guards.
    """

    implemented_properties: ClassVar[list[str]] = [  # type: ignore[misc]
        *_PROPERTIES,
        "free_energy",
    ]

    def __init__(self, calculator: Any, start: Atoms, settings: MinimiserSettings) -> None:
        from ase.data import covalent_radii

        super().__init__()  # type: ignore[no-untyped-call]
        self._inner = calculator
        self._settings = settings
        self._start_volume = float(start.get_volume())
        self._reach = settings.closest_approach * covalent_radii[start.numbers]
        self.n_evaluations = 0

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: Any = ("energy",),
        system_changes: Any = all_changes,
    ) -> None:
        """Evaluate `atoms`; see `Evaluator`.

        Raises
        ------
        GuardTrippedError
            The structure or the answer is outside the guards.
        RelaxationError
            The calculator has no stress: a cell cannot be relaxed with it.
        """
        super().calculate(atoms, properties, system_changes)  # type: ignore[no-untyped-call]
        # the inner calculator must not see constraints, nor keep a reference to the moving atoms
        moving: Any = self.atoms
        self._check_structure(moving)
        bare = moving.copy()
        bare.set_constraint()
        self.n_evaluations += 1
        self.results = self._check_results(self._ask(bare), len(bare))

    def _ask(self, atoms: Atoms) -> dict[str, Any]:
        try:
            if isinstance(self._inner, Calculator):
                self._inner.calculate(atoms, _PROPERTIES, all_changes)
                found = self._inner.results
            else:
                found = {
                    "energy": self._inner.get_potential_energy(atoms, force_consistent=True),
                    "forces": self._inner.get_forces(atoms),
                    "stress": self._inner.get_stress(atoms),
                }
        except (PropertyNotImplementedError, NotImplementedError) as error:
            raise RelaxationError(
                f"{type(self._inner).__name__} cannot give energy, forces and stress together ({error}): "
                "relax cells with a calculator that has all three."
            ) from error
        missing = [name for name in _PROPERTIES if found.get(name) is None]
        if missing:
            raise RelaxationError(
                f"{type(self._inner).__name__} gave no {', '.join(missing)}: relax cells with a calculator "
                "that has energy, forces and stress."
            )
        energy = found["energy"] if found.get("free_energy") is None else found["free_energy"]
        stress = np.asarray(found["stress"], dtype=float)
        if stress.shape == (3, 3):
            stress = stress.ravel()[[0, 4, 8, 5, 2, 1]]
        return {"energy": energy, "forces": np.array(found["forces"], dtype=float), "stress": stress.copy()}

    def _check_structure(self, atoms: Atoms) -> None:
        if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.cell.array).all()):
            raise GuardTrippedError("a position or cell vector is not finite")
        fraction = atoms.get_volume() / self._start_volume
        if fraction < self._settings.min_volume_fraction:
            limit = self._settings.min_volume_fraction
            raise GuardTrippedError(f"volume collapsed to {fraction:.2f} of the start (guard {limit})")
        if fraction > self._settings.max_volume_fraction:
            limit = self._settings.max_volume_fraction
            raise GuardTrippedError(f"cell exploded to {fraction:.2f} times its volume (guard {limit})")
        if self._settings.closest_approach > 0:
            closest = closest_within(atoms, self._reach)
            if closest is not None:
                raise GuardTrippedError(
                    f"atoms {closest:.2f} Å apart (guard {self._settings.closest_approach} of the "
                    "sum of their covalent radii)"
                )

    def _check_results(self, results: dict[str, Any], n_atoms: int) -> dict[str, Any]:
        if results["forces"].shape != (n_atoms, 3) or results["stress"].shape != (6,):
            raise RelaxationError(
                f"{type(self._inner).__name__} gave forces of shape {results['forces'].shape} and stress of "
                f"shape {results['stress'].shape} for {n_atoms} atoms: expected ({n_atoms}, 3) and (6,)."
            )
        for name in _PROPERTIES:
            if not np.isfinite(results[name]).all():
                raise GuardTrippedError(f"{name} is not finite")
        return {**results, "free_energy": results["energy"]}


def closest_within(atoms: Atoms, reach: NDArray[np.float64]) -> float | None:
    """Return the shortest distance (Å) of two atoms, or images, nearer than the sum of their `reach`; None if none.

    Parameters
    ----------
    atoms
        Periodic structure, or one without any periodicity (then its cell does not matter).
    reach
        (N,) in Å.
    """
    if not atoms.pbc.any():
        first, second = np.triu_indices(len(atoms), k=1)
        lengths = np.linalg.norm(atoms.positions[first] - atoms.positions[second], axis=1)
        near = lengths < reach[first] + reach[second]
        return float(lengths[near].min()) if near.any() else None
    inverse = np.linalg.inv(atoms.cell.array)
    # distance of the lattice planes: a vector shorter than half of it has fractional coordinates below 1/2, so
    # rounding finds the nearest image even in a skewed cell
    heights = 1.0 / np.linalg.norm(inverse, axis=0)
    if len(atoms) > _MANY or heights.min() <= 4.0 * reach.max():
        from ase.neighborlist import neighbor_list

        distances = neighbor_list("d", atoms, reach)
        return float(distances.min()) if len(distances) else None
    first, second = np.triu_indices(len(atoms), k=1)
    fractional = (atoms.positions @ inverse)[first] - (atoms.positions @ inverse)[second]
    vectors = (fractional - np.round(fractional)) @ atoms.cell.array
    lengths = np.sqrt((vectors**2).sum(axis=1))
    near = lengths < reach[first] + reach[second]
    return float(lengths[near].min()) if near.any() else None
