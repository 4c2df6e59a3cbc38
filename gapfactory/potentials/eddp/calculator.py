"""ASE calculator of an EDDP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase.data import atomic_numbers

from gapfactory.potentials.calculator import DEFAULT_LIMIT, EngineCalculator
from gapfactory.potentials.eddp.engine import EddpEngine

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.potentials.eddp.network import Ensemble
    from gapfactory.search.evaluator import Answer

__all__ = ["EddpCalculator"]


class EddpCalculator(EngineCalculator):
    """An ephemeral data-derived potential; see `EngineCalculator`.

    `uncertainty` is the standard deviation of the members' energies of the structure, eV/atom. `variances`, (N,) in
    eV^2, are those of the members' local energies and computed when asked for; members divide an energy between atoms
    differently, so they exceed what the structure's spread says.

    Parameters
    ----------
    ensemble
        Networks, weights and baseline.
    limit
        An energy farther from the mean of the training energies than this, in eV/atom, is an error.
    digest
        Digest of the potential's files, where it came from files.
    skin
        Neighbour lists reach this much farther than the potential, in Å.
    """

    implemented_properties = [  # noqa: RUF012 - as in ASE
        "energy", "free_energy", "energies", "forces", "stress", "variances", "uncertainty",
    ]  # fmt: skip

    _origin = "the mean of the training energies"

    def __init__(
        self, ensemble: Ensemble, *, limit: float = DEFAULT_LIMIT, digest: str = "", skin: float = 0.5
    ) -> None:
        numbers = [int(atomic_numbers[symbol]) for symbol in ensemble.features.symbols]
        energies = ensemble.baseline.of_species(ensemble.features) + ensemble.mean_energy
        origin = dict(zip(numbers, energies.tolist(), strict=True))
        super().__init__(EddpEngine(ensemble), origin, limit=limit, digest=digest, skin=skin)

    @property
    def _potential(self) -> Any:
        return self.engine.ensemble

    def _more(self, found: Any) -> dict[str, Any]:
        return {"uncertainty": float(found.spreads[0])}

    def evaluate_batch_with_uncertainty(self, structures: Sequence[Atoms]) -> list[Answer]:
        """As `evaluate_batch`, and each answer says how badly its structure is known, 0 to 1.

        1 stands for a spread of the members as large as that of the energies per atom that they were trained on.
        """
        from gapfactory.search.evaluator import EngineEvaluator

        return EngineEvaluator(self.engine, self.e0, self.limit, uncertainty=self._relative)(structures)

    def _relative(self, structures: Sequence[Atoms]) -> NDArray[np.float64]:
        """Return the spread of each atom's structure in units of that of the training energies, at most 1."""
        spreads = self.engine.evaluate(structures, gradients=False).spreads
        relative = np.minimum(spreads / self.engine.ensemble.energy_scale, 1.0)
        return np.repeat(relative, [len(atoms) for atoms in structures])
