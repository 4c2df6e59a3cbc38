"""One network of an EDDP: energy of an atom from its environment vector, and an ensemble of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap._arrays import ArrayData, as_array

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.potentials.eddp.features import Features

__all__ = ["Core", "Ensemble", "Network", "count_weights"]


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
class Core:
    """Repulsion: each atom has strength (2 (radius / r - 1))^12 for every neighbour with r < radius.

    Attributes
    ----------
    radius
        Å; 0 for none.
    strength
        eV.
    """

    radius: float = 0.0
    strength: float = 1.0


@dataclass(frozen=True)
class Ensemble:
    """A weighted sum of networks: an EDDP.

    Attributes
    ----------
    members
        The networks; equal in features and layers.
    parts
        Their weights, which add up to 1.
    core
        Repulsion at short distances.
    """

    members: tuple[Network, ...]
    parts: tuple[float, ...]
    core: Core = Core()

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

    @property
    def features(self) -> Features:
        """The environment vector that all members take."""
        return self.members[0].features

    @property
    def energy_scale(self) -> float:
        """Spread of the energies per atom in training, eV; the scale that uncertainties are compared with."""
        return float(np.dot(self.parts, [member.output_scale for member in self.members]))

    @property
    def mean_energy(self) -> float:
        """Mean of the energies per atom in training, eV."""
        return float(np.dot(self.parts, [member.output_mean for member in self.members]))

    def member_energies(self, full: NDArray[np.float64], offsets: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return total energies (K, S) in eV by each member, without the core."""
        return np.array([member.energies(full, offsets) for member in self.members])
