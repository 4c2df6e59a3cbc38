"""What a potential says of structures, and its errors where these have labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import InputError, PotentialError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from gapfactory.files.reading import NamedStructure
    from gapfactory.potentials.calculator import EngineCalculator

__all__ = ["Evaluated", "GroupErrors", "errors_by_group", "evaluate_each"]


@dataclass(frozen=True)
class Evaluated:
    """One structure and what the potential says of it.

    Attributes
    ----------
    structure
        The structure with its label.
    energy
        eV; None where the potential refuses the structure.
    forces
        (N, 3), eV/Å.
    stress
        (6,) eV/Å^3 in ASE's order and sign; None for what is not periodic in three directions.
    uncertainty
        Spread of the networks of an EDDP, eV/atom; None for a GAP.
    reason
        Why the potential refuses the structure; empty where it does not.
    """

    structure: NamedStructure
    energy: float | None
    forces: NDArray[np.float64] | None
    stress: NDArray[np.float64] | None
    uncertainty: float | None
    reason: str


@dataclass(frozen=True)
class GroupErrors:
    """Errors on the labelled structures of a group.

    Attributes
    ----------
    group
        Their ``config_type``.
    structures
        How many there are; those that the potential refuses are not among them.
    refused
        How many it refuses.
    energy_mean
        Mean of prediction minus label, eV/atom: not zero where the two count energies from different zeros.
    energy_rmse, energy_mae
        eV/atom.
    force_rmse, force_mae
        Of all components, eV/Å; None without labels.
    stress_rmse, stress_mae
        Of all components, eV/Å^3; None without labels.
    """

    group: str
    structures: int
    refused: int
    energy_mean: float | None
    energy_rmse: float | None
    energy_mae: float | None
    force_rmse: float | None
    force_mae: float | None
    stress_rmse: float | None
    stress_mae: float | None


def evaluate_each(calculator: EngineCalculator, structures: Iterable[NamedStructure]) -> Iterator[Evaluated]:
    """Evaluate structures one after another.

    A structure that lies outside what the potential knows, or has an element that it does not know, comes with the
    reason and no numbers.

    Parameters
    ----------
    calculator
        As `load_potential` returns it.
    structures
        In any order; periodic or not.
    """
    for structure in structures:
        atoms = structure.atoms.copy()
        atoms.calc = calculator
        try:
            energy = float(atoms.get_potential_energy())
        except (InputError, PotentialError) as error:
            yield Evaluated(structure, None, None, None, None, str(error))
            continue
        results = calculator.results
        yield Evaluated(
            structure,
            energy,
            np.array(results["forces"]),
            np.array(results["stress"]) if "stress" in results else None,
            results.get("uncertainty"),
            "",
        )


def errors_by_group(evaluated: Sequence[Evaluated]) -> list[GroupErrors]:
    """Return the errors of each ``config_type`` in the order of their first structures, then of all if several.

    Structures without a label do not count.
    """
    groups: dict[str, list[Evaluated]] = {}
    for one in evaluated:
        if one.structure.label is not None:
            groups.setdefault(one.structure.label.config_type, []).append(one)
    found = [_errors(group, members) for group, members in groups.items()]
    return [*found, _errors("all", evaluated)] if len(found) > 1 else found


def _errors(group: str, members: Sequence[Evaluated]) -> GroupErrors:
    energies: list[float] = []
    forces: list[NDArray[np.float64]] = []
    stresses: list[NDArray[np.float64]] = []
    for one in members:
        label = one.structure.label
        if label is None or one.energy is None:
            continue
        energies.append((one.energy - label.energy) / len(one.structure.atoms))
        if label.forces is not None and one.forces is not None:
            forces.append(np.ravel(one.forces - label.forces))
        if label.stress is not None and one.stress is not None:
            stresses.append(np.ravel(one.stress - label.stress))
    energy = np.array(energies)
    e_rmse, e_mae = _summary([energy] if energies else [])
    f_rmse, f_mae = _summary(forces)
    s_rmse, s_mae = _summary(stresses)
    return GroupErrors(
        group=group,
        structures=len(energies),
        refused=sum(one.energy is None and one.structure.label is not None for one in members),
        energy_mean=float(energy.mean()) if energies else None,
        energy_rmse=e_rmse,
        energy_mae=e_mae,
        force_rmse=f_rmse,
        force_mae=f_mae,
        stress_rmse=s_rmse,
        stress_mae=s_mae,
    )


def _summary(parts: Sequence[NDArray[np.float64]]) -> tuple[float | None, float | None]:
    if not parts:
        return None, None
    values = np.concatenate(parts)
    return float(np.sqrt(np.mean(values**2))), float(np.mean(np.abs(values)))
