"""What is learned of a network: its weights, or a first layer in which blocks of species are mixed to few channels.

The first layer sees standardised features in blocks: a block b of two bodies is a pair (centre, neighbour), of three
bodies a centre and a pair of neighbours. With n channels its weights are

    W[b, m, h] = sum_e A[b, e] V[e, m, h],        e = 1 .. n,

so that the number of unknowns no longer grows with species times polynomials times nodes (the alchemical compression of
Lopanitsyna et al., Phys. Rev. Mater. 7, 045802 (2023)). The trained network is an ordinary one.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from gapfactory.potentials.eddp.features import Features
    from gapfactory.potentials.eddp.settings import NetworkSettings

__all__ = ["Shape", "random_weights"]


def random_weights(sizes: tuple[int, ...], generator: np.random.Generator) -> NDArray[np.float64]:
    """Draw weights and offsets of each layer uniformly between +-sqrt(6 / (inputs + outputs))."""
    parts = []
    for n_in, n_out in pairwise(sizes):
        reach = np.sqrt(6.0 / (n_in + n_out))
        parts.append(generator.uniform(-reach, reach, (n_in + 1) * n_out))
    return np.concatenate(parts)


@dataclass(frozen=True)
class Shape:
    """Maps what is learned (Q,) to the weights of a network (P,).

    Attributes
    ----------
    sizes
        Nodes of each layer of the network.
    one_body
        Inputs before the blocks.
    blocks
        (number of blocks, features of each) for two bodies, and for three if there are any.
    channels
        Channels of each body order; 0 for an ordinary network.
    """

    sizes: tuple[int, ...]
    one_body: int
    blocks: tuple[tuple[int, int], ...]
    channels: int

    @classmethod
    def of(cls, features: Features, settings: NetworkSettings) -> Shape:
        """Return the shape that the settings ask for."""
        s = features.n_species
        blocks = [(s * s, len(features.two_body)), (s * features.n_pairs, len(features.three_body) ** 2)]
        return cls(
            (features.length, *settings.hidden, 1),
            s,
            tuple(block for block in blocks if block[1] > 0),
            settings.embedding,
        )

    def start(self, generator: np.random.Generator) -> NDArray[np.float64]:
        """Draw random parameters (Q,)."""
        if self.channels == 0:
            return random_weights(self.sizes, generator)
        n, nodes = self.channels, self.sizes[1]
        inner = self.one_body + n * sum(size for _, size in self.blocks)
        reach = np.sqrt(6.0 / (inner + nodes))
        parts = [generator.uniform(-reach, reach, self.one_body * nodes)]
        for count, size in self.blocks:
            parts.append(generator.normal(size=count * n) / np.sqrt(n))
            parts.append(generator.uniform(-reach, reach, n * size * nodes))
        parts.append(generator.uniform(-reach, reach, nodes))
        parts.append(random_weights(self.sizes[1:], generator))
        return np.concatenate(parts)

    def weights(self, parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the weights (P,) of the network."""
        if self.channels == 0:
            return parameters
        ones, mixed, rest = self._parts(parameters)
        found = [ones.ravel()]
        found += [np.einsum("be,emh->bmh", a, v).ravel() for a, v in mixed]
        return np.concatenate([*found, rest])

    def rows(self, parameters: NDArray[np.float64], rows: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return derivatives (R, Q) by the parameters from those by the weights (R, P)."""
        if self.channels == 0:
            return rows
        nodes = self.sizes[1]
        _, mixed, _ = self._parts(parameters)
        at = self.one_body * nodes
        found = [rows[:, :at]]
        for (count, size), (a, v) in zip(self.blocks, mixed, strict=True):
            own = rows[:, at : at + count * size * nodes].reshape(len(rows), count, size * nodes)
            at += count * size * nodes
            found.append((own @ v.reshape(self.channels, -1).T).reshape(len(rows), -1))
            found.append((a.T @ own).reshape(len(rows), -1))
        return np.concatenate([*found, rows[:, at:]], axis=1)

    def _parts(
        self, parameters: NDArray[np.float64]
    ) -> tuple[
        NDArray[np.float64], list[tuple[NDArray[np.float64], NDArray[np.float64]]], NDArray[np.float64]
    ]:
        """Return the one-body weights, (A, V) of each body order, and what follows the first matrix."""
        n, nodes = self.channels, self.sizes[1]
        at = self.one_body * nodes
        ones = parameters[:at]
        mixed = []
        for count, size in self.blocks:
            a = parameters[at : at + count * n].reshape(count, n)
            at += count * n
            v = parameters[at : at + n * size * nodes].reshape(n, size, nodes)
            at += n * size * nodes
            mixed.append((a, v))
        rest = parameters[at:]
        return ones, mixed, rest
