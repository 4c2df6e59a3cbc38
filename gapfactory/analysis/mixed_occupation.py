"""Discrete models of a crystal with partially occupied sites: which of them a potential holds for stable.

The numbers of Deringer, Pickard and Csányi, Phys. Rev. Lett. 120, 156001 (2018), Fig. 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["MixedOccupation", "ModelAgreement", "OccupationModel", "mixed_occupation"]


@dataclass(frozen=True)
class OccupationModel:
    """Energies of one discrete model.

    Parameters
    ----------
    id
        Its name.
    n_atoms
        How many atoms it has.
    reference
        eV/atom by the reference, or None where it has no label.
    predicted
        ``(potential, eV/atom)``.
    """

    id: str
    n_atoms: int
    reference: float | None
    predicted: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ModelAgreement:
    """How a potential agrees with the reference on the models that have a label.

    Parameters
    ----------
    potential
        Its name.
    n
        Models that both have.
    rmse, bias
        Root mean square and mean of potential minus reference, eV/atom.
    spread
        Root mean square of the differences without their mean, eV/atom: what decides the order of models.
    rank_correlation
        Spearman's; NaN with fewer than three models, or where one method finds all of them equal.
    """

    potential: str
    n: int
    rmse: float
    bias: float
    spread: float
    rank_correlation: float


@dataclass(frozen=True)
class MixedOccupation:
    """Models with their energies above a common zero.

    Parameters
    ----------
    models
        In the order given.
    zero, zero_energy
        What energies are counted from, and its energy in eV/atom.
    agreement
        One for each potential, where models have labels.
    """

    models: tuple[OccupationModel, ...]
    zero: str
    zero_energy: float
    agreement: tuple[ModelAgreement, ...]

    @property
    def potentials(self) -> tuple[str, ...]:
        """Names of the potentials."""
        return tuple(name for name, _ in self.models[0].predicted)

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row for each model and method, units in the names."""
        return [
            {
                "model": model.id,
                "n_atoms": model.n_atoms,
                "method": method,
                "energy_eV_per_atom": energy,
                "above_zero_meV_per_atom": 1000.0 * (energy - self.zero_energy),
                "zero": self.zero,
            }
            for model in self.models
            for method, energy in (("reference", model.reference), *model.predicted)
            if energy is not None
        ]


def mixed_occupation(
    models: Sequence[tuple[str, int, float | None]],
    predicted: Mapping[str, Sequence[float]],
    *,
    zero: tuple[str, float] | None = None,
) -> MixedOccupation:
    """Return discrete models with the energies of reference and potentials.

    Parameters
    ----------
    models
        ``(id, number of atoms, reference energy in eV/atom or None)``.
    predicted
        By potential: eV/atom, in the order of `models`.
    zero
        Name and energy (eV/atom) that energies are counted from; by default the mean of the reference, or of the first
        potential where no model has a label.

    Raises
    ------
    EvidenceError
        No models or no potentials, numbers of energies that do not pair up, or an energy that is not finite.
    """
    if not models or not predicted:
        raise EvidenceError(f"{len(models)} models and {len(predicted)} potentials give no comparison")
    for name, energies in predicted.items():
        if len(energies) != len(models) or not np.isfinite(energies).all():
            raise EvidenceError(
                f"{name}: {len(energies)} energies for {len(models)} models; give one finite number each"
            )
    for key, _, reference in models:
        if reference is not None and not np.isfinite(reference):
            raise EvidenceError(
                f"model {key!r} has no finite reference energy; give None where it has no label"
            )
    labelled = [k for k, (_, _, reference) in enumerate(models) if reference is not None]
    known = np.array([models[k][2] for k in labelled], dtype=float)
    if zero is None:
        zero = (
            ("the mean of the reference", float(known.mean()))
            if labelled
            else (f"the mean of {next(iter(predicted))}", float(np.mean(next(iter(predicted.values())))))
        )
    agreement = []
    for name, energies in predicted.items():
        if labelled:
            theirs = np.array([energies[k] for k in labelled], dtype=float)
            difference = theirs - known
            agreement.append(
                ModelAgreement(
                    name,
                    len(labelled),
                    float(np.sqrt(np.mean(difference**2))),
                    float(difference.mean()),
                    float(difference.std()),
                    _rank_correlation(known, theirs),
                )
            )
    found = tuple(
        OccupationModel(key, n, reference, tuple((name, float(of[k])) for name, of in predicted.items()))
        for k, (key, n, reference) in enumerate(models)
    )
    return MixedOccupation(found, zero[0], zero[1], tuple(agreement))


def _rank_correlation(first: Any, second: Any) -> float:
    from scipy.stats import spearmanr

    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return float("nan")
    return float(spearmanr(first, second).statistic)
