"""ASE calculator of a stored potential, evaluated by our own engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.potentials.calculator import DEFAULT_LIMIT, EngineCalculator
from gapfactory.potentials.gap.engine.evaluator import Engine
from gapfactory.potentials.gap.files import check_files, read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.engine.evaluator import Results
    from gapfactory.potentials.gap.model import GapModel
    from gapfactory.search.evaluator import Answer

__all__ = ["GapCalculator", "load_potential"]


def load_potential(directory: Path) -> GapCalculator:
    """Return a calculator for the potential in a directory.

    Every file is compared with the manifest and read completely.

    Raises
    ------
    PotentialError
        If the potential is truncated, altered or incomplete, or has a term that the engine does not support.
    """
    manifest = read_manifest(directory)
    return GapCalculator(
        check_files(directory),
        limit=float(manifest.get("energy_limit_per_atom", DEFAULT_LIMIT)),
        digest=str(manifest.get("digest", "")),
    )


class GapCalculator(EngineCalculator):
    """A Gaussian approximation potential; see `EngineCalculator`.

    `variances`, asked for by name, are QUIP's `local_gap_variance`.

    Parameters
    ----------
    model
        Terms, free atoms and core potential, as `gapfactory.potentials.gap.xml.read_gap` returns them.
    limit
        An energy farther from the free atoms than this, in eV/atom, is an error: the structure lies outside what
        the potential knows.
    digest
        Digest of the potential's files, where it came from files.
    skin
        Neighbour lists reach this much farther than the potential, in Å.

    Raises
    ------
    PotentialError
        If a term is not supported.
    """

    implemented_properties = [  # noqa: RUF012 - as in ASE
        "energy", "free_energy", "energies", "forces", "stress", "variances",
    ]  # fmt: skip

    def __init__(
        self, model: GapModel, *, limit: float = DEFAULT_LIMIT, digest: str = "", skin: float = 0.5
    ) -> None:
        super().__init__(Engine(model), model.e0, limit=limit, digest=digest, skin=skin)

    @property
    def _potential(self) -> Any:
        return self.engine.model

    def evaluate_batch_with_uncertainty(self, structures: Sequence[Atoms]) -> list[Answer]:
        """As `evaluate_batch`, and each answer says how badly its least known atom is known."""
        from gapfactory.search.evaluator import EngineEvaluator

        return EngineEvaluator(self.engine, self.e0, self.limit, uncertainty=self._least_known)(structures)

    def _least_known(self, structures: Sequence[Atoms], found: Results) -> NDArray[np.float64]:
        """Return how badly the least known atom of each structure is known."""
        from gapfactory.potentials.gap.engine.known import relative_uncertainty

        unknown = relative_uncertainty(self.engine, structures)
        return np.array([unknown[found.atoms_of(k)].max() for k in range(len(structures))])
