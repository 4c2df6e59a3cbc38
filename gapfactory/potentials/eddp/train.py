"""Training of one network, combination of many, and their errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.optimize import nnls
from scipy.stats import rankdata

from gapfactory.errors import FitError
from gapfactory.potentials.eddp.embedding import Shape
from gapfactory.potentials.eddp.least_squares import levenberg_marquardt
from gapfactory.potentials.eddp.network import Ensemble, Network

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gapfactory.potentials.eddp.data import Split, TrainingSet
    from gapfactory.potentials.eddp.network import Core
    from gapfactory.potentials.eddp.settings import EddpSettings, EnsembleSettings

__all__ = ["EnergyErrors", "TrainedEnsemble", "TrainedNetwork", "combine", "energy_errors", "train_network"]

# An input that varies less than this, relative to its mean, never varied.
_STILL = 1e-9
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
    a force adds w (F_pred - F). Training stops early on the root-mean-square residual of the validation set.

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
    problem = _Problem(data, split, settings)
    found = levenberg_marquardt(
        problem.residuals, problem.shape.start(generator), settings.training, problem.validation_error
    )
    network = problem.network(found.parameters)
    errors = {
        name: energy_errors(network.energies(*data.rows(chosen)), data.energies[chosen], data.counts[chosen])
        for name, chosen in vars(split).items()
    }
    return TrainedNetwork(network, errors, found.steps, found.best_step, found.reason)


class _Problem:
    """The least-squares problem of one network, in units of the spread of the energies per atom."""

    def __init__(self, data: TrainingSet, split: Split, settings: EddpSettings) -> None:
        self.shape = Shape.of(data.features, settings.network)
        self._features = data.features
        self._sizes = np.array(self.shape.sizes, dtype=np.int64)
        full, self._offsets = data.rows(split.train)
        if len(full) == 0:
            msg = "the training set is empty: enlarge its fraction or label more structures"
            raise FitError(msg)
        counts = np.diff(self._offsets)
        per_atom = np.repeat(data.energies[split.train] / counts, counts)
        self._mean, self._scale = float(per_atom.mean()), float(per_atom.std())
        if self._scale <= 1e-12 * max(abs(self._mean), 1.0):
            msg = "all training structures have the same energy per atom: label more"
            raise FitError(msg)
        self._in_mean = full.mean(axis=0)
        spread = full.std(axis=0)
        self._in_scale = np.where(spread > _STILL * np.maximum(np.abs(self._in_mean), 1e-3), spread, 1.0)
        self._inputs = self._standardised(full)
        self._targets, self._norms = self._energies(data, split.train, settings)
        held, self._held_offsets = data.rows(split.validation)
        self._held = self._standardised(held)
        self._held_targets, self._held_norms = self._energies(data, split.validation, settings)
        self._weight = settings.training.force_weight
        self._forces = [
            self._directions(data, int(chosen), number)
            for number, chosen in enumerate(split.train)
            if data.forces[chosen] is not None
        ]

    def _standardised(self, full: NDArray[np.float64]) -> NDArray[np.float64]:
        return (full - self._in_mean) / self._in_scale

    def _energies(
        self, data: TrainingSet, chosen: NDArray[np.int64], settings: EddpSettings
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return targets and the divisors of residuals."""
        counts = data.counts[chosen]
        targets = (data.energies[chosen] - counts * self._mean) / self._scale
        norms: NDArray[np.float64] = counts.astype(np.float64) ** settings.training.atoms_exponent
        return targets, norms

    def _directions(
        self, data: TrainingSet, chosen: int, number: int
    ) -> tuple[slice, NDArray[np.float64], NDArray[np.float64]]:
        """Return the rows, derivatives of the inputs by positions (n, 3 n, D) and forces (3 n,) of a structure."""
        forces, derivatives = data.forces[chosen], data.derivatives[chosen]
        if forces is None or derivatives is None:
            msg = f"structure {data.ids[chosen]!r} has no derivatives of its features: prepare the data with forces"
            raise FitError(msg)
        rows = slice(int(self._offsets[number]), int(self._offsets[number + 1]))
        n = len(forces)
        found = np.zeros((n, 3 * n, self._features.length))
        kinds = data.kinds[int(data.offsets[chosen]) : int(data.offsets[chosen + 1])]
        for atom in range(n):
            columns = self._features.columns(int(kinds[atom]))
            found[atom][:, columns] = derivatives[atom].reshape(3 * n, -1) / self._in_scale[columns]
        return rows, found, forces.ravel() / self._scale

    def residuals(
        self, parameters: NDArray[np.float64], wanted: bool
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return residuals of energies and forces, and their derivatives by the parameters."""
        from gapfactory.potentials.eddp._network_kernels import energy_rows, force_rows

        weights = self.shape.weights(parameters)
        width = len(weights) if wanted else 0
        energies = np.empty(len(self._targets))
        rows = np.empty((len(energies), width))
        energy_rows(self._sizes, weights, self._inputs, self._offsets, wanted, energies, rows)
        all_residuals = [(energies - self._targets) / self._norms]
        all_rows = [rows / self._norms[:, None]]
        for place, directions, forces in self._forces:
            slopes = np.empty(len(forces))
            rows = np.empty((len(forces), width))
            force_rows(self._sizes, weights, self._inputs[place], directions, wanted, slopes, rows)
            all_residuals.append(self._weight * (-slopes - forces))
            all_rows.append(-self._weight * rows)
        found = np.concatenate(all_residuals)
        if not wanted:
            return found, rows
        return found, self.shape.rows(parameters, np.concatenate(all_rows))

    def validation_error(self, parameters: NDArray[np.float64]) -> float:
        """Return the root-mean-square residual of the validation set's energies."""
        from gapfactory.potentials.eddp._network_kernels import energy_rows

        energies = np.empty(len(self._held_targets))
        weights = self.shape.weights(parameters)
        energy_rows(self._sizes, weights, self._held, self._held_offsets, False, energies, np.empty((0, 0)))
        return float(np.sqrt(np.mean(((energies - self._held_targets) / self._held_norms) ** 2)))

    def network(self, parameters: NDArray[np.float64]) -> Network:
        """Return the network with these parameters."""
        return Network(
            self._features,
            self.shape.sizes,
            self.shape.weights(parameters),
            self._in_mean,
            self._in_scale,
            self._mean,
            self._scale,
        )


def combine(
    networks: Sequence[Network],
    data: TrainingSet,
    split: Split,
    settings: EnsembleSettings,
    core: Core | None = None,
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
    core
        Repulsion of the potential; that of the data if not given.

    Raises
    ------
    FitError
        If there is no network, or nothing to weigh them on.
    """
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
        tuple(networks[int(k)] for k in kept), tuple(float(part) for part in parts), core or data.core
    )
    reports = {
        name: energy_errors(
            parts @ ensemble.member_energies(*data.rows(where)), data.energies[where], data.counts[where]
        )
        for name, where in vars(split).items()
    }
    outliers = tuple(data.ids[c] for c in chosen[~good])
    return TrainedEnsemble(ensemble, tuple(int(k) for k in kept), reports, outliers)
