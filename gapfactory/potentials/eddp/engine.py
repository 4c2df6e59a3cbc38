"""Evaluates an EDDP for batches of structures with compiled loops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap.engine.evaluator import Results, checked_results
from gapfactory.potentials.gap.engine.system import Cells, System, build_system

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.potentials.eddp.network import Ensemble

__all__ = ["EddpEngine", "EddpResults"]


@dataclass(frozen=True)
class EddpResults(Results):
    """What an EDDP says about a batch of S structures with N atoms.

    Attributes
    ----------
    spreads : (S,)
        Standard deviation of the members' energies per atom, eV/atom; every member counts alike, as in the published
        programs. 0 for a single network.
    """

    spreads: NDArray[np.float64]


class EddpEngine:
    """Evaluates an ensemble.

    Calls share constants only. A structure's numbers do not depend on what else is in its batch. Pickles as its
    ensemble.

    Parameters
    ----------
    ensemble
        Networks, weights and baseline.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble
        features = ensemble.features
        members = ensemble.members
        self._weights = np.array(
            [[member.local_weights(kind) for member in members] for kind in range(features.n_species)]
        )
        self._sizes = np.array([features.local_length, *members[0].sizes[1:]], dtype=np.int64)
        self._scales = np.array([member.output_scale for member in members])
        self._means = np.array([member.output_mean for member in members])
        self._parts = np.array(ensemble.parts)

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the ensemble."""
        return (EddpEngine, (self.ensemble,))

    @property
    def cutoff(self) -> float:
        """Range of the features, which is that of the potential, Å."""
        return self.ensemble.features.cutoff

    def system(self, structures: Sequence[Atoms] | Cells | System) -> System:
        """Return structures with their neighbours, ready for `evaluate`."""
        return structures if isinstance(structures, System) else build_system(structures, self.cutoff)

    def evaluate(
        self,
        structures: Sequence[Atoms] | Cells | System,
        *,
        gradients: bool = True,
        variances: bool = False,
    ) -> EddpResults:
        """Return energies of structures and what follows from them.

        Parameters
        ----------
        structures
            Any mix of crystals, slabs, clusters and atoms; or a `System` with neighbours to `cutoff` at least.
        gradients
            False: energies only.
        variances
            Whether to return the variance of the members' local energies.

        Raises
        ------
        InputError
            If a structure cannot be used.
        PotentialError
            If a structure has an element that the potential does not know, a system's neighbour list is too short, or
            a result is not finite.
        """
        from gapfactory.potentials.eddp._feature_kernels import add_core
        from gapfactory.potentials.eddp._network_kernels import predict

        system = self.system(structures)
        if system.cutoff < self.cutoff:
            msg = f"the neighbour list ends at {system.cutoff} Å, the potential reaches {self.cutoff} Å"
            raise PotentialError(msg)
        features = self.ensemble.features
        kinds = features.kinds(system)
        local = features.local(system, kinds)
        by_member = np.empty((len(self._parts), system.n_atoms))
        gradient = np.empty_like(local)
        predict(
            kinds, local, self._sizes, self._weights, self._scales, self._means, self._parts, gradients, by_member,
            gradient,
        )  # fmt: skip
        # one member after another, so that a structure's sum does not depend on the length of the batch
        baseline = self.ensemble.baseline
        energies = baseline.of_species(features)[kinds]
        for part, of_member in zip(self._parts, by_member, strict=True):
            energies += part * of_member
        forces, virials = np.zeros((system.n_atoms, 3)), np.zeros((system.n_cells, 3, 3))
        if gradients:
            features.add_gradients(system, kinds, gradient, forces, virials)
        if baseline.radius > 0.0:
            add_core(
                system.cell_of, system.first, system.neighbour, system.vector, system.distance, baseline.radius,
                baseline.strength, energies, forces, virials,
            )  # fmt: skip
        found = checked_results(
            system,
            energies,
            forces if gradients else None,
            virials if gradients else None,
            by_member.var(axis=0) if variances else None,
        )
        totals = np.array([np.add.reduceat(row, system.offsets[:-1]) for row in by_member])
        return EddpResults(**vars(found), spreads=totals.std(axis=0) / np.diff(system.offsets))
