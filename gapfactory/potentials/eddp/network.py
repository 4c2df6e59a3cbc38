"""One network of an EDDP: energy of an atom from its environment vector, and an ensemble of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap._arrays import ArrayData, as_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from gapfactory.potentials.eddp.features import Features
    from gapfactory.potentials.eddp.settings import CoreSettings

__all__ = ["Baseline", "Ensemble", "Network", "count_weights"]


def count_weights(sizes: tuple[int, ...]) -> int:
    """Return how many weights a network with these layers has."""
    return sum((a + 1) * b for a, b in pairwise(sizes))


@dataclass(frozen=True, eq=False)
class Network(ArrayData):
    """E = output_mean + output_scale NN((F - input_mean) / input_scale), the energy of an atom with full vector F.

    Attributes
    ----------
    features
        What the inputs are.
    sizes
        Nodes of each layer: inputs, hidden layers, 1.
    weights : (P,)
        Of each layer the matrix by columns (nodes fastest), then the offsets.
    input_mean, input_scale : (D,)
        Mean and standard deviation of the full vectors in training.
    output_mean, output_scale
        Mean and standard deviation of the energies per atom in training, eV.
    """

    features: Features
    sizes: tuple[int, ...]
    weights: NDArray[np.float64]
    input_mean: NDArray[np.float64]
    input_scale: NDArray[np.float64]
    output_mean: float
    output_scale: float

    def __post_init__(self) -> None:
        n = self.features.length
        if len(self.sizes) < 3 or self.sizes[0] != n or self.sizes[-1] != 1 or min(self.sizes) < 1:
            msg = f"the layers {self.sizes} must be the {n} features, at least one hidden layer, and 1"
            raise PotentialError(msg)
        as_array(self, "weights", (count_weights(self.sizes),))
        as_array(self, "input_mean", (n,))
        as_array(self, "input_scale", (n,))
        if not (self.input_scale > 0.0).all():
            msg = f"the spread of input {int(np.argmin(self.input_scale))} is not positive"
            raise PotentialError(msg)
        if not (np.isfinite(self.output_mean) and np.isfinite(self.output_scale) and self.output_scale > 0.0):
            msg = (
                f"the output has mean {self.output_mean} and spread {self.output_scale}: both must be finite"
            )
            raise PotentialError(msg)

    def standardised(self, full: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return full vectors (N, D) as the inputs of the network."""
        return (full - self.input_mean) / self.input_scale

    def local_weights(self, kind: int) -> NDArray[np.float64]:
        """Return weights (P',) of the network that takes the local vectors of atoms of one species as they are.

        The blocks of the other species are zero for such atoms, so their share of the first layer is constant.
        """
        n_in, n_out = self.sizes[:2]
        matrix = self.weights[: n_in * n_out].reshape(n_in, n_out) / self.input_scale[:, None]
        own = self.features.columns(kind)
        at_rest = -self.input_mean.copy()
        at_rest[kind] += 1.0
        bias = self.weights[n_in * n_out : (n_in + 1) * n_out] + at_rest @ matrix
        return np.concatenate([matrix[own].ravel(), bias, self.weights[(n_in + 1) * n_out :]])

    def energies(self, full: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return total energies (S,) in eV of structures whose atoms have these full vectors (N, D)."""
        from gapfactory.potentials.eddp._network_kernels import energy_rows

        found = np.empty(len(offsets) - 1)
        sizes = np.array(self.sizes, dtype=np.int64)
        energy_rows(sizes, self.weights, self.standardised(full), offsets, False, found, np.empty((0, 0)))
        return np.diff(offsets) * self.output_mean + self.output_scale * found


@dataclass(frozen=True)
class Baseline:
    """What networks are trained on top of: a repulsive core and an energy for each species.

    Attributes
    ----------
    radius
        Each atom has strength (2 (radius / r - 1))^12 for every neighbour with r < radius, in Å; 0 for no core.
    strength
        eV.
    origins
        Energy of an atom of each species, in the order of the features, eV; empty for zeros. Energies of free atoms
        take the chemistry of compositions out of what is learned.
    """

    radius: float = 0.0
    strength: float = 1.0
    origins: tuple[float, ...] = ()

    @classmethod
    def from_settings(
        cls, settings: CoreSettings, features: Features, free_atoms: Mapping[str, float] | None = None
    ) -> Baseline:
        """Return the core of the settings, and the energies of free atoms (eV, by symbol) if they are given.

        Raises
        ------
        PotentialError
            If the energy of a species is missing.
        """
        missing = [
            symbol for symbol in features.symbols if free_atoms is not None and symbol not in free_atoms
        ]
        if missing:
            msg = (
                f"there is no energy of a free atom of {', '.join(missing)}: label it, or give no free atoms"
            )
            raise PotentialError(msg)
        origins = (
            () if free_atoms is None else tuple(float(free_atoms[symbol]) for symbol in features.symbols)
        )
        return cls(settings.radius, settings.strength, origins)

    def of_species(self, features: Features) -> NDArray[np.float64]:
        """Return the energy of an atom of each species, shape (S,).

        Raises
        ------
        PotentialError
            If there are not as many as species, or the core reaches farther than the features.
        """
        if self.radius > features.cutoff:
            msg = f"the core reaches {self.radius} Å, farther than the features ({features.cutoff} Å): shrink it"
            raise PotentialError(msg)
        found = np.array(self.origins or (0.0,) * features.n_species)
        if len(found) != features.n_species or not np.isfinite(found).all():
            msg = f"the origins {self.origins} must be one finite energy for each of {', '.join(features.symbols)}"
            raise PotentialError(msg)
        return found


@dataclass(frozen=True)
class Ensemble:
    """A weighted sum of networks: an EDDP.

    Attributes
    ----------
    members
        The networks; equal in features and layers.
    parts
        Their weights, which add up to 1.
    baseline
        What is added to them.
    """

    members: tuple[Network, ...]
    parts: tuple[float, ...]
    baseline: Baseline = Baseline()

    def __post_init__(self) -> None:
        if not self.members or len(self.members) != len(self.parts):
            msg = f"an ensemble of {len(self.members)} networks with {len(self.parts)} weights: give each network one"
            raise PotentialError(msg)
        head = self.members[0]
        for number, member in enumerate(self.members):
            if member.features != head.features or member.sizes != head.sizes:
                msg = f"network {number} has other features or layers than the first: they cannot be combined"
                raise PotentialError(msg)
        if min(self.parts) < 0.0 or abs(sum(self.parts) - 1.0) > 1e-9:
            msg = f"the weights of an ensemble must be positive and add up to 1, they add up to {sum(self.parts):.12g}"
            raise PotentialError(msg)

        self.baseline.of_species(head.features)

    @property
    def features(self) -> Features:
        """The environment vector that all members take."""
        return self.members[0].features

    @property
    def mean_energy(self) -> float:
        """Mean of the energies per atom in training above the baseline, eV."""
        return float(np.dot(self.parts, [member.output_mean for member in self.members]))

    def member_energies(self, full: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return total energies (K, S) in eV by each member, without the baseline."""
        return np.array([member.energies(full, offsets) for member in self.members])
