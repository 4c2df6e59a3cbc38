"""What evaluates geometries for the relaxer, one call for many, and what one evaluation leaves behind."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from gapfactory.errors import PotentialError, RelaxationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ase import Atoms
    from numpy.typing import NDArray

__all__ = [
    "Answer",
    "BatchEvaluator",
    "EngineEvaluator",
    "Evaluation",
    "OneByOne",
    "Refusal",
    "batch_evaluator",
    "closest_within",
    "reason_of",
]

_PROPERTIES = ["energy", "forces", "stress"]
#: what a calculator raises when it gives up on one structure, as a fitted potential does with PotentialError
STRUCTURE_ERRORS = (ArithmeticError, ValueError, RuntimeError, PotentialError)


@dataclass(frozen=True)
class Evaluation:
    """Energy, forces and stress of one geometry.

    Attributes
    ----------
    energy
        The energy that the forces belong to, in eV.
    forces
        (N, 3) in eV/Å.
    stress
        (6,) xx, yy, zz, yz, xz, xy in eV/Å^3.
    uncertainty
        How badly the least known atom is known, as in `RelaxSettings.max_uncertainty` or `max_spread`; None where it
        was not asked for.
    """

    energy: float
    forces: NDArray[np.float64]
    stress: NDArray[np.float64]
    uncertainty: float | None = None


@dataclass(frozen=True)
class Refusal:
    """One geometry that could not be evaluated, and why."""

    reason: str


Answer = Evaluation | Refusal


class BatchEvaluator(Protocol):
    """Evaluates many geometries in one call.

    The structures are periodic; they move between the calls, so they must be neither changed nor kept. The answers
    are in their order. A geometry that cannot be evaluated is answered with a `Refusal`; should the whole call raise
    one of `STRUCTURE_ERRORS` instead, the relaxer asks again for one structure at a time. A relaxation is independent
    of its batch to the last bit where the answers are.
    """

    def __call__(self, structures: Sequence[Atoms], /) -> Sequence[Answer]:
        """Return the answers."""


class OneByOne:
    """Batch evaluator that asks an ASE calculator for one structure at a time.

    Energy, forces and stress are asked for in one call: a calculator that computes only what it is asked for would
    run twice per step (QUIP through ASE does).

    Parameters
    ----------
    calculator
        The calculator to ask. The energy consistent with the forces (``free_energy``) is taken where it has one.
    """

    def __init__(self, calculator: Any) -> None:
        self._inner = calculator

    def __call__(self, structures: Sequence[Atoms], /) -> list[Answer]:
        """Evaluate; see `BatchEvaluator`.

        Raises
        ------
        RelaxationError
            The calculator has no stress: a cell cannot be relaxed with it.
        """
        return [self._one(atoms.copy()) for atoms in structures]

    def _one(self, atoms: Atoms) -> Answer:
        from ase.calculators.calculator import PropertyNotImplementedError

        try:
            found = self._ask(atoms)
        except (PropertyNotImplementedError, NotImplementedError) as error:
            raise RelaxationError(
                f"{self._name} cannot give energy, forces and stress together ({error}): "
                "relax cells with a calculator that has all three."
            ) from error
        except STRUCTURE_ERRORS as error:
            return Refusal(reason_of(error))
        missing = [name for name in _PROPERTIES if found.get(name) is None]
        if missing:
            raise RelaxationError(
                f"{self._name} gave no {', '.join(missing)}: relax cells with a calculator that has energy, forces "
                "and stress."
            )
        energy = found["energy"] if found.get("free_energy") is None else found["free_energy"]
        stress = np.array(found["stress"], dtype=float)
        if stress.shape == (3, 3):
            stress = stress.ravel()[[0, 4, 8, 5, 2, 1]]
        forces = np.array(found["forces"], dtype=float)
        if forces.shape != (len(atoms), 3) or stress.shape != (6,):
            raise RelaxationError(
                f"{self._name} gave forces of shape {forces.shape} and stress of shape {stress.shape} for "
                f"{len(atoms)} atoms: expected ({len(atoms)}, 3) and (6,)."
            )
        return Evaluation(float(energy), forces, stress)

    def _ask(self, atoms: Atoms) -> dict[str, Any]:
        from ase.calculators.calculator import Calculator, all_changes

        if isinstance(self._inner, Calculator):
            self._inner.calculate(atoms, _PROPERTIES, all_changes)
            return dict(self._inner.results)
        return {
            "energy": self._inner.get_potential_energy(atoms, force_consistent=True),
            "forces": self._inner.get_forces(atoms),
            "stress": self._inner.get_stress(atoms),
        }

    @property
    def _name(self) -> str:
        return type(self._inner).__name__


class _Results(Protocol):
    """The part of `gapfactory.potentials.gap.engine.evaluator.Results` that is used here."""

    @property
    def energies(self) -> NDArray[np.float64]: ...

    @property
    def forces(self) -> NDArray[np.float64] | None: ...

    @property
    def stresses(self) -> NDArray[np.float64] | None: ...

    def atoms_of(self, structure: int) -> slice: ...


class _Engine(Protocol):
    def evaluate(self, structures: Sequence[Atoms]) -> _Results: ...


class EngineEvaluator:
    """Batch evaluator with the compiled engine of a potential: all structures in one call.

    Parameters
    ----------
    engine
        `gapfactory.potentials.gap.engine.evaluator.Engine`.
    free_atoms
        Energy of the free atom of each atomic number, in eV.
    limit
        A structure farther from its free atoms than this, in eV/atom, is refused: it lies outside what the potential
        knows.
    uncertainty
        Gives how badly each structure is known, (S,), from the structures and what the engine said of them, where
        answers are to say so.
    """

    def __init__(
        self,
        engine: _Engine,
        free_atoms: Mapping[int, float],
        limit: float,
        *,
        uncertainty: Callable[[Sequence[Atoms], Any], NDArray[np.float64]] | None = None,
    ) -> None:
        self._engine = engine
        self._uncertainty = uncertainty
        self._limit = limit
        self._free = np.zeros(max((*free_atoms, 118)) + 1)
        for number, energy in free_atoms.items():
            self._free[number] = energy

    def __call__(self, structures: Sequence[Atoms], /) -> list[Answer]:
        """Evaluate; see `BatchEvaluator`.

        Raises
        ------
        PotentialError
            The engine refuses one of the structures.
        """
        results = self._engine.evaluate(structures)
        unknown = None if self._uncertainty is None else self._uncertainty(structures, results)
        forces, stresses = results.forces, results.stresses
        if forces is None or stresses is None:
            raise RelaxationError(
                "the engine gave no forces and stresses: relax cells with one that has them."
            )
        answers: list[Answer] = []
        for k, atoms in enumerate(structures):
            energy = float(results.energies[k])
            per_atom = (energy - float(self._free[atoms.numbers].sum())) / len(atoms)
            if abs(per_atom) > self._limit:
                answers.append(
                    Refusal(
                        f"PotentialError: the energy of {atoms.symbols} is {per_atom:.4g} eV/atom from the free atoms, "
                        f"beyond {self._limit:g}: the structure lies outside what the potential knows"
                    )
                )
            else:
                of = results.atoms_of(k)
                answers.append(
                    Evaluation(
                        energy, forces[of], stresses[k], None if unknown is None else float(unknown[k])
                    )
                )
        return answers


def batch_evaluator(calculator: Any, *, uncertainty: bool = False) -> BatchEvaluator:
    """Return what evaluates batches with a calculator: its own `evaluate_batch` where it has one, else `OneByOne`.

    Parameters
    ----------
    calculator
        ASE calculator.
    uncertainty
        Whether answers need one.

    Raises
    ------
    RelaxationError
        The calculator has no variances.
    """
    if uncertainty:
        certain: BatchEvaluator | None = getattr(calculator, "evaluate_batch_with_uncertainty", None)
        if certain is None:
            raise RelaxationError(
                f"{type(calculator).__name__} does not tell how well it knows a structure: relax without "
                "max_uncertainty and max_spread, or with a fitted potential."
            )
        return certain
    own: BatchEvaluator | None = getattr(calculator, "evaluate_batch", None)
    return OneByOne(calculator) if own is None else own


def reason_of(error: Exception) -> str:
    """Return an error in one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"


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
    from gapfactory.search._batch_lbfgs import closest_pair

    closest = closest_pair(atoms.positions, atoms.cell.array, reach)
    return closest if np.isfinite(closest) else None
