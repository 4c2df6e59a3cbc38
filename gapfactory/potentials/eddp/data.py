"""What networks are trained on: features and energies of labelled structures, and their split into three sets."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import FitError
from gapfactory.potentials.eddp.network import Baseline
from gapfactory.structures import composition_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from gapfactory.potentials.eddp.features import Features
    from gapfactory.potentials.eddp.settings import TrainingSettings
    from gapfactory.potentials.gap.data import LabelledStructure
    from gapfactory.potentials.gap.engine.system import System

__all__ = ["Split", "TrainingSet", "prepare", "split_structures"]


@dataclass(frozen=True)
class TrainingSet:
    """S structures with N atoms, ready for training.

    Attributes
    ----------
    features
        What the vectors are.
    ids, parents
        Of each structure, in the order of the ids.
    offsets : (S + 1,)
        Atoms of structure c are rows offsets[c]:offsets[c + 1].
    full : (N, D)
        Full environment vectors.
    energies : (S,)
        Total energies above the baseline, eV.
    forces
        Of each structure (n, 3) in eV/Å without the core's, None where there are none or they are not trained on.
    derivatives
        Of each structure (n, n, 3, L): local vector of atom i by position of atom j, 1/Å; None as for forces.
    kinds : (N,)
        Species of each atom.
    baseline
        What was subtracted.
    discarded
        Ids that were left out: free atoms, and what lies beyond the energy window.
    """

    features: Features
    ids: tuple[str, ...]
    parents: tuple[str, ...]
    offsets: NDArray[np.int64]
    full: NDArray[np.float64]
    energies: NDArray[np.float64]
    forces: tuple[NDArray[np.float64] | None, ...]
    derivatives: tuple[NDArray[np.float64] | None, ...]
    kinds: NDArray[np.int64]
    baseline: Baseline
    discarded: tuple[str, ...]

    @property
    def counts(self) -> NDArray[np.int64]:
        """Number of atoms of each structure, shape (S,)."""
        return np.diff(self.offsets)

    def rows(self, chosen: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return the full vectors of the chosen structures and their offsets."""
        counts = self.counts[chosen]
        offsets = np.zeros(len(chosen) + 1, dtype=np.int64)
        np.cumsum(counts, out=offsets[1:])
        if len(chosen) == 0:
            return self.full[:0], offsets
        rows = np.concatenate([np.arange(self.offsets[c], self.offsets[c + 1]) for c in chosen])
        return self.full[rows], offsets


@dataclass(frozen=True)
class Split:
    """Indices of structures, ascending.

    Attributes
    ----------
    train, validation, test
        Shares of a `TrainingSet`.
    """

    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]


def split_structures(
    parents: Sequence[str], settings: TrainingSettings, generator: np.random.Generator
) -> Split:
    """Divide structures between training, validation and testing.

    Families are drawn in random order, and each goes to the set that is emptiest relative to its share. A family is
    all structures with one parent, or a single structure if the settings say `plain`. One that is larger than the share
    of validation or test is trained on: held out, it would be all that is tested, and nothing would be learnt of it.

    Parameters
    ----------
    parents
        Of each structure.
    settings
        Shares, and what counts as a family.
    generator
        Source of randomness.

    Raises
    ------
    FitError
        If there are too few families for three sets.
    """
    family = np.arange(len(parents))
    if settings.split == "parent":
        names = {name: number for number, name in enumerate(dict.fromkeys(parents))}
        family = np.array([names[name] for name in parents], dtype=np.int64)
    sizes = np.bincount(family) if len(family) else np.zeros(0, dtype=np.int64)
    if len(sizes) < 3:
        msg = (
            f"{len(parents)} structures of {len(sizes)} families cannot be divided into training, validation and test "
            "sets: label more, or set training.split to plain"
        )
        raise FitError(msg)
    wanted = np.array(settings.fractions) * len(parents)
    filled = np.zeros(3)
    side = np.empty(len(sizes), dtype=np.int64)
    for chosen in generator.permutation(len(sizes)):
        small = sizes[chosen] <= max(1.0, min(wanted[1:]))
        side[chosen] = int(np.argmin(filled / wanted)) if small else 0
        filled[side[chosen]] += sizes[chosen]
    of_structure = side[family]
    return Split(*(np.flatnonzero(of_structure == number) for number in range(3)))


def prepare(
    data: Sequence[LabelledStructure],
    features: Features,
    settings: TrainingSettings,
    *,
    parents: Mapping[str, str] | None = None,
    baseline: Baseline | None = None,
) -> TrainingSet:
    """Return the features and targets of labelled structures.

    Parameters
    ----------
    data
        Labelled structures in any order; free atoms are left out.
    features
        Environment vector.
    settings
        Energy window; and whether forces are wanted.
    parents
        By id: the structure that it is a shaken copy of. A structure that is not named is its own parent.
    baseline
        Repulsion and energies of species that the networks need not learn.

    Raises
    ------
    FitError
        If an id occurs twice, a label is not finite, or nothing is left.
    PotentialError
        If a structure has a species that the features have not, or the baseline has not one energy for each.
    """
    baseline = baseline or Baseline()
    items = sorted(data, key=lambda item: item.id)
    ids = [item.id for item in items]
    if len(set(ids)) != len(ids):
        repeated = next(a for a, b in pairwise(ids) if a == b)
        msg = f"the id {repeated!r} occurs more than once in the training data: ids must be unique"
        raise FitError(msg)
    kept = _within_window([item for item in items if item.kind != "isolated"], settings.energy_window)
    if not kept:
        msg = "no structure is left to train on: label some, or widen training.energy_window"
        raise FitError(msg)
    names = {item.id for item in kept}
    system = features.system([item.atoms for item in kept])
    energies = np.array([item.energy for item in kept])
    all_forces: list[NDArray[np.float64] | None] = [None] * len(kept)
    derivatives: list[NDArray[np.float64] | None] = [None] * len(kept)
    kinds = features.kinds(system)
    repulsion, repelled = _core(system, baseline)
    repulsion += baseline.of_species(features)[kinds]
    energies -= np.add.reduceat(repulsion, system.offsets[:-1])
    if settings.force_weight > 0.0:
        for number, item in enumerate(kept):
            if item.forces is not None:
                own = slice(int(system.offsets[number]), int(system.offsets[number + 1]))
                all_forces[number] = np.asarray(item.forces, dtype=float) - repelled[own]
                derivatives[number] = features.jacobian(features.system([item.atoms]))
    return TrainingSet(
        features=features,
        ids=tuple(item.id for item in kept),
        parents=tuple((parents or {}).get(item.id, item.id) for item in kept),
        offsets=system.offsets,
        full=features.full(system),
        energies=energies,
        forces=tuple(all_forces),
        derivatives=tuple(derivatives),
        kinds=kinds,
        baseline=baseline,
        discarded=tuple(name for name in ids if name not in names),
    )


def _within_window(items: Sequence[LabelledStructure], window: float) -> list[LabelledStructure]:
    """Return structures at most this much above the lowest of their composition, eV/atom."""
    lowest: dict[str, float] = {}
    for item in items:
        if not (np.isfinite(item.energy) and (item.forces is None or np.isfinite(item.forces).all())):
            msg = f"the energy or a force of structure {item.id!r} is not finite: quarantine the label"
            raise FitError(msg)
        name = composition_of(item.atoms)
        lowest[name] = min(lowest.get(name, np.inf), item.energy / len(item.atoms))
    return [
        item for item in items if item.energy / len(item.atoms) - lowest[composition_of(item.atoms)] <= window
    ]


def _core(system: System, baseline: Baseline) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the core's local energies (N,) and forces (N, 3)."""
    from gapfactory.potentials.eddp._feature_kernels import add_core

    energies, forces = np.zeros(system.n_atoms), np.zeros((system.n_atoms, 3))
    if baseline.radius > 0.0:
        add_core(
            system.cell_of, system.first, system.neighbour, system.vector, system.distance, baseline.radius,
            baseline.strength, energies, forces, np.zeros((system.n_cells, 3, 3)),
        )  # fmt: skip
    return energies, forces
