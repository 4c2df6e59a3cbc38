"""What one network is trained to: residuals of energies and forces, and their derivatives by what is learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import FitError
from gapfactory.potentials.eddp.embedding import Shape
from gapfactory.potentials.eddp.network import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.potentials.eddp.data import Split, TrainingSet
    from gapfactory.potentials.eddp.settings import EddpSettings

__all__ = ["TrainingProblem"]

# An input that varies less than this, relative to its mean, never varied.
_STILL = 1e-9


class TrainingProblem:
    """The least-squares problem of one network, in units of the spread of the energies per atom.

    Residuals are (E_pred - E) / N^atoms_exponent of every training structure, then, with `force_weight` w,
    w (F_pred - F) of every component of the forces that are known.

    Parameters
    ----------
    data
        Features and targets.
    split
        Which structures are for what.
    settings
        Shape and training.

    Raises
    ------
    FitError
        If there is nothing to train on, or derivatives of features are missing.
    """

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
