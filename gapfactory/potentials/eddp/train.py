"""Training of one network, combination of many, and their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import FitError
from gapfactory.potentials.eddp.least_squares import levenberg_marquardt
from gapfactory.potentials.eddp.network import Ensemble
from gapfactory.potentials.eddp.problem import TrainingProblem

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gapfactory.potentials.eddp.data import Split, TrainingSet
    from gapfactory.potentials.eddp.network import Baseline, Network
    from gapfactory.potentials.eddp.settings import EddpSettings, EnsembleSettings

__all__ = ["EnergyErrors", "TrainedEnsemble", "TrainedNetwork", "combine", "energy_errors", "train_network"]

# How much more the sum of an ensemble's weights counts than any energy; it is exact after the final division.
_SUM = 1e4


@dataclass(frozen=True)
class EnergyErrors:
    """Errors of energies per atom on one set.

    Attributes
    ----------
    n_structures
        Size of the set.
    mae, rmse
        eV/atom.
    spearman
        Rank correlation of predicted and reference energies per atom; NaN if one of them does not vary.
    """

    n_structures: int
    mae: float
    rmse: float
    spearman: float


@dataclass(frozen=True)
class TrainedNetwork:
    """A network and how its training went.

    Attributes
    ----------
    network
        The network.
    errors
        On `train`, `validation` and `test`.
    steps, best_step
        Accepted steps, and those that lead to the network.
    reason
        Why training ended; see `Minimum`.
    """

    network: Network
    errors: Mapping[str, EnergyErrors]
    steps: int
    best_step: int
    reason: str


@dataclass(frozen=True)
class TrainedEnsemble:
    """An ensemble and how good it is.

    Attributes
    ----------
    ensemble
        Networks with weights; those without weight are left out.
    kept
        Their places in the list that was combined.
    errors
        On `train`, `validation` and `test`; the weights were chosen on `validation`.
    outliers
        Ids of the validation set that had no say.
    """

    ensemble: Ensemble
    kept: tuple[int, ...]
    errors: Mapping[str, EnergyErrors]
    outliers: tuple[str, ...]


def energy_errors(
    predicted: NDArray[np.float64], reference: NDArray[np.float64], counts: NDArray[np.int64]
) -> EnergyErrors:
    """Return the errors of total energies (S,) of structures with these numbers of atoms.

    Raises
    ------
    FitError
        If there is no structure.
    """
    from scipy.stats import rankdata

    if len(counts) == 0:
        msg = "errors need at least one structure: enlarge the set"
        raise FitError(msg)
    ours, theirs = predicted / counts, reference / counts
    error = ours - theirs
    ranks = rankdata(ours) - 0.5 * (len(ours) + 1), rankdata(theirs) - 0.5 * (len(ours) + 1)
    size = float(np.sqrt((ranks[0] @ ranks[0]) * (ranks[1] @ ranks[1])))
    spearman = float(ranks[0] @ ranks[1]) / size if size > 0.0 else float("nan")
    return EnergyErrors(len(counts), float(np.abs(error).mean()), float(np.sqrt((error**2).mean())), spearman)


def train_network(
    data: TrainingSet, split: Split, settings: EddpSettings, generator: np.random.Generator
) -> TrainedNetwork:
    """Train one network from a random start.

    The residual of a structure of N atoms is (E_pred - E) / N^atoms_exponent; with `force_weight` w every component of
    a force adds w (F_pred - F). Training stops early on the root-mean-square residual of the validation set's energies.

    Parameters
    ----------
    data
        Features and targets.
    split
        Which structures are for what.
    settings
        Shape and training.
    generator
        Source of the random start: equal generators give equal networks, to the last bit, on one machine.

    Raises
    ------
    FitError
        If there is nothing to train on.
    """
    problem = TrainingProblem(data, split, settings)
    found = levenberg_marquardt(
        problem.residuals, problem.shape.start(generator), settings.training, problem.validation_error
    )
    network = problem.network(found.parameters)
    errors = {
        name: energy_errors(network.energies(*data.rows(chosen)), data.energies[chosen], data.counts[chosen])
        for name, chosen in vars(split).items()
    }
    return TrainedNetwork(network, errors, found.steps, found.best_step, found.reason)


def combine(
    networks: Sequence[Network],
    data: TrainingSet,
    split: Split,
    settings: EnsembleSettings,
    baseline: Baseline | None = None,
) -> TrainedEnsemble:
    """Weigh networks by non-negative least squares on the validation set.

    The weights w >= 0 with sum 1 minimise the sum over structures of (sum_k w_k (E_k - E))^2 / N^2. Most come out zero.

    Parameters
    ----------
    networks
        All of one shape.
    data, split
        As in training.
    settings
        Outliers and small weights.
    baseline
        That of the potential; what was subtracted from the data if not given.

    Raises
    ------
    FitError
        If there is no network, or nothing to weigh them on.
    """
    from scipy.optimize import nnls

    if not networks:
        msg = "there is no network to combine: train some"
        raise FitError(msg)
    chosen = split.validation
    full, offsets = data.rows(chosen)
    counts = data.counts[chosen]
    errors = np.array([network.energies(full, offsets) for network in networks]) - data.energies[chosen]
    errors /= counts
    good = np.abs(np.median(errors, axis=0)) <= settings.outlier
    if not good.any():
        msg = (
            f"no structure of the validation set ({len(chosen)}) is predicted within {settings.outlier:g} eV/atom: "
            "train longer or raise ensemble.outlier"
        )
        raise FitError(msg)
    system = errors[:, good].T
    size = _SUM * max(float(np.linalg.norm(system)), 1e-12)
    weights, _ = nnls(
        np.vstack([system, np.full((1, len(networks)), size)]), np.append(np.zeros(len(system)), size)
    )
    weights[weights < settings.least_weight] = 0.0
    kept = np.flatnonzero(weights)
    if len(kept) == 0:
        msg = f"every network has a weight below ensemble.least_weight {settings.least_weight:g}: lower it"
        raise FitError(msg)
    parts = weights[kept] / weights[kept].sum()
    ensemble = Ensemble(
        tuple(networks[int(k)] for k in kept), tuple(float(part) for part in parts), baseline or data.baseline
    )
    reports = {
        name: energy_errors(
            parts @ ensemble.member_energies(*data.rows(where)), data.energies[where], data.counts[where]
        )
        for name, where in vars(split).items()
    }
    outliers = tuple(data.ids[c] for c in chosen[~good])
    return TrainedEnsemble(ensemble, tuple(int(k) for k in kept), reports, outliers)
