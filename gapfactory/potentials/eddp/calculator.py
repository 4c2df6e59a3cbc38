"""ASE calculator of an EDDP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ase.data import atomic_numbers

from gapfactory.potentials.calculator import DEFAULT_LIMIT, EngineCalculator
from gapfactory.potentials.eddp.engine import EddpEngine
from gapfactory.potentials.eddp.files import EDDP_NAME, read_eddp
from gapfactory.potentials.manifest import read_sealed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.potentials.eddp.engine import EddpResults
    from gapfactory.potentials.eddp.network import Ensemble
    from gapfactory.search.evaluator import Answer

__all__ = ["EddpCalculator", "load_potential"]


def load_potential(directory: Path) -> EddpCalculator:
    """Return a calculator for the potential in a directory, whose files are compared with its manifest.

    Raises
    ------
    PotentialError
        If the potential is truncated, altered or incomplete.
    """
    manifest = read_sealed(directory, EDDP_NAME)
    return EddpCalculator(read_eddp(directory / EDDP_NAME), digest=str(manifest["digest"]))


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
        """As `evaluate_batch`, and each answer has the spread of the members' energies of its structure, eV/atom."""
        from gapfactory.search.evaluator import EngineEvaluator

        return EngineEvaluator(self.engine, self.e0, self.limit, uncertainty=_spreads)(structures)


def _spreads(_: Sequence[Atoms], found: EddpResults) -> NDArray[np.float64]:
    """Return the spread of each structure, which the engine gives with its energies."""
    return found.spreads
