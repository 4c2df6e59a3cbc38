"""ASE calculator of a datum cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ase.data import atomic_numbers

from gapfactory.potentials.calculator import DEFAULT_LIMIT, EngineCalculator
from gapfactory.potentials.datum.engine import DatumEngine

if TYPE_CHECKING:
    from gapfactory.potentials.datum.cost import DatumCost

__all__ = ["DatumCalculator"]


class DatumCalculator(EngineCalculator):
    """A datum cost in the place of an energy (eV), with its forces and stress; see `EngineCalculator`.

    The direct route to datum-derived structures: random cells are relaxed with it. `energies` are the costs of atoms.

    Parameters
    ----------
    cost
        Target environments and parameters.
    limit
        A cost per atom above this is an error.
    digest
        Digest of the potential's files, where it came from files.
    skin
        Neighbour lists reach this much farther than the cost, in Å.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 - as in ASE

    _origin = "that of the targets' environments"

    def __init__(
        self, cost: DatumCost, *, limit: float = DEFAULT_LIMIT, digest: str = "", skin: float = 0.5
    ) -> None:
        origin = {int(atomic_numbers[symbol]): 0.0 for symbol in cost.features.symbols}
        super().__init__(DatumEngine(cost), origin, limit=limit, digest=digest, skin=skin)

    @property
    def _potential(self) -> Any:
        return self.engine.cost
