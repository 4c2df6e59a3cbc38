"""What training and evaluating an EDDP costs, before there is one.

The rates were measured on one core of a 2-core x86-64 machine (docs/reference/benchmarks.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi
from typing import TYPE_CHECKING

from gapfactory.potentials.eddp.network import count_weights

if TYPE_CHECKING:
    from gapfactory.potentials.eddp.settings import EddpSettings

__all__ = ["Workload", "evaluation_time", "training_memory", "training_time"]

#: Seconds per feature of a pair of neighbours with its derivatives, and per weight of a network and its derivatives.
_TRIPLET_S, _WEIGHT_S = 2e-9, 2e-9
#: Steps of a training that stops early; seconds per atom and weight, and per structure and square of weights, of each.
_STEPS, _ROW_S, _NORMAL_S = 150, 3e-9, 5e-10
#: Members that keep a weight, of those that are trained.
_KEPT = 0.4


@dataclass(frozen=True)
class Workload:
    """What networks are trained on.

    Attributes
    ----------
    species
        How many.
    structures, atoms
        How many of them, on average.
    """

    species: int
    structures: float
    atoms: float


def _weights(settings: EddpSettings, n_species: int) -> int:
    """Return the weights of a network as it is trained, without those that mix species."""
    vector = settings.features
    pairs = n_species * (n_species + 1) // 2
    local = n_species * vector.two_body + pairs * vector.three_body**2
    return count_weights((n_species * (1 + local), *settings.network.hidden, 1))


def evaluation_time(settings: EddpSettings, *, n_species: int, volume_per_atom: float) -> float:
    """Return the seconds per atom of energies, forces and stress.

    Parameters
    ----------
    settings
        Features, network and ensemble.
    n_species
        Species of the potential.
    volume_per_atom
        Å^3.
    """
    neighbours = 4.0 / 3.0 * pi * settings.features.cutoff**3 / volume_per_atom
    triplets = 0.5 * neighbours**2 * settings.features.three_body**2
    members = max(1.0, _KEPT * settings.ensemble.members)
    # an atom's own species only
    own = _weights(settings, n_species) / n_species
    return _TRIPLET_S * (triplets + neighbours * settings.features.two_body) + _WEIGHT_S * members * own


def training_time(settings: EddpSettings, size: Workload) -> float:
    """Return the seconds to train one network."""
    weights = _weights(settings, size.species)
    return _STEPS * (_ROW_S * size.atoms * weights + _NORMAL_S * size.structures * weights**2)


def training_memory(settings: EddpSettings, size: Workload) -> float:
    """Return the peak memory (bytes) of a training: features of every atom and rows of every structure, three times."""
    weights = _weights(settings, size.species)
    length = weights // settings.network.hidden[0]
    return 24.0 * (size.atoms * length + size.structures * weights) + 2e8
