"""Evaluates a datum cost for batches of structures with compiled loops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap.engine.evaluator import Results, checked_results
from gapfactory.potentials.gap.engine.system import Cells, System, build_system

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from gapfactory.potentials.datum.cost import DatumCost

__all__ = ["DatumEngine"]


class DatumEngine:
    """Evaluates a cost as if it were an energy in eV; the place of an EDDP's networks is taken by the cost.

    Calls share constants only. A structure's numbers do not depend on what else is in its batch. Pickles as its cost.

    Parameters
    ----------
    cost
        Target environments and parameters.
    """

    def __init__(self, cost: DatumCost) -> None:
        self.cost = cost
        self._scale = cost.beta / cost.features.length**2
        self._alpha = cost.alpha if cost.minimum == "soft" else 0.0

    def __reduce__(self) -> tuple[type[DatumEngine], tuple[DatumCost]]:
        """Rebuild from the cost."""
        return (DatumEngine, (self.cost,))

    @property
    def cutoff(self) -> float:
        """Range of the features, which is that of the cost, Å."""
        return self.cost.features.cutoff

    def evaluate(
        self,
        structures: Sequence[Atoms] | Cells | System,
        *,
        gradients: bool = True,
        variances: bool = False,
    ) -> Results:
        """Return costs of structures and what follows from them.

        Parameters
        ----------
        structures
            Any mix of crystals, slabs, clusters and atoms; or a `System` with neighbours to `cutoff` at least.
        gradients
            False: costs only.
        variances
            Not to be had.

        Raises
        ------
        InputError
            If a structure cannot be used.
        PotentialError
            If a structure has a species that no target has, a system's neighbour list is too short, a result is not
            finite, or variances are asked for.
        """
        from gapfactory.potentials.datum._cost_kernels import costs

        if variances:
            msg = "a datum cost is known exactly and has no variance: ask a learned one"
            raise PotentialError(msg)
        system = structures if isinstance(structures, System) else build_system(structures, self.cutoff)
        cost = self.cost
        kinds = cost.features.kinds(system)
        local = cost.features.local(system, kinds)
        energies, gradient = np.empty(system.n_atoms), np.empty_like(local)
        costs(
            kinds, local, cost.kinds, cost.environments, cost.counts, self._scale, self._alpha, energies, gradient
        )  # fmt: skip
        if not gradients:
            return checked_results(system, energies, None, None, None)
        forces, virials = np.zeros((system.n_atoms, 3)), np.zeros((system.n_cells, 3, 3))
        cost.features.add_gradients(system, kinds, gradient, forces, virials)
        return checked_results(system, energies, forces, virials, None)
