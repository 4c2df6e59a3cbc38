"""What the ASE calculators of all potential families share: batches, skinned neighbour lists, limits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from gapfactory.errors import PotentialError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms

    from gapfactory.potentials.gap.engine.system import SkinnedSystem
    from gapfactory.search.evaluator import Answer

__all__ = ["DEFAULT_LIMIT", "EngineCalculator"]

#: eV/atom
DEFAULT_LIMIT = 1000.0


class EngineCalculator(Calculator):
    """A potential that a compiled engine evaluates.

    Energy, local energies, forces and stress come from one evaluation per geometry; asking for the energy first and
    the forces later costs nothing. Neighbour lists are kept while atoms and cell move little. A calculator can be
    pickled and copied; a copy shares nothing that changes.

    Parameters
    ----------
    engine
        Has `cutoff` and `evaluate(structures, gradients=..., variances=...)`.
    e0
        Energy of the free atom of each atomic number, or another origin of energies, eV.
    limit
        An energy farther from that origin than this, in eV/atom, is an error: the structure lies outside what the
        potential knows.
    digest
        Digest of the potential's files, where it came from files.
    skin
        Neighbour lists reach this much farther than the potential, in Å.

    Raises
    ------
    PotentialError
        On evaluation: if an element is unknown to the potential, a result is not finite, or the energy is beyond
        `limit`.
    InputError
        If a structure cannot be evaluated (no atoms, coordinates that are not finite, a cell without volume).
    """

    #: what energies are measured from, in messages
    _origin = "the free atoms"

    def __init__(
        self,
        engine: Any,
        e0: Mapping[int, float],
        *,
        limit: float = DEFAULT_LIMIT,
        digest: str = "",
        skin: float = 0.5,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.engine = engine
        self.limit = limit
        self.digest = digest
        self.cutoff = float(engine.cutoff)
        self.e0 = dict(e0)
        self._skin = skin
        self._system: SkinnedSystem | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the potential; results and neighbour lists stay behind."""
        return (_rebuilt, (type(self), self._potential, self.limit, self.digest, self._skin))

    def __deepcopy__(self, memo: dict[int, Any]) -> EngineCalculator:
        """Return a new calculator of the same potential."""
        return _rebuilt(type(self), self._potential, self.limit, self.digest, self._skin)

    @property
    def _potential(self) -> Any:
        """What the constructor takes."""
        raise NotImplementedError

    def _more(self, found: Any) -> dict[str, Any]:
        """Return further results of one structure."""
        return {}

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate everything in one call; see `ase.calculators.calculator.Calculator.calculate`.

        `variances`, the (N,) predictive variances of the local energies in eV^2, are computed only when they are asked
        for.
        """
        from gapfactory.potentials.gap.engine.system import SkinnedSystem, pack

        super().calculate(atoms, properties or ["energy"], system_changes)  # type: ignore[no-untyped-call]
        structure: Any = self.atoms
        cells = pack([structure])
        if self._system is not None and self._system.matches(cells):
            system = self._system.update(cells)
        else:
            self._system = SkinnedSystem(cells, self.cutoff, self._skin)
            system = self._system.system
        found = self.engine.evaluate(system, variances="variances" in (properties or ()))
        energy = float(found.energies[0])
        per_atom = (energy - self._free_energy(structure)) / len(structure)
        if abs(per_atom) > self.limit:
            raise PotentialError(_too_far(structure, per_atom, self.limit, self._origin))
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": found.local_energies,
            "forces": found.forces,
        } | self._more(found)
        if found.stresses is not None and structure.pbc.all():
            self.results["stress"] = found.stresses[0]
        if found.variances is not None:
            self.results["variances"] = found.variances

    def evaluate_batch(self, structures: Sequence[Atoms]) -> list[Answer]:
        """Evaluate many periodic structures in one call; see `gapfactory.search.evaluator.BatchEvaluator`."""
        from gapfactory.search.evaluator import EngineEvaluator

        return EngineEvaluator(self.engine, self.e0, self.limit)(structures)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """Return one property; stress of what is not periodic in three directions is not defined."""
        if name == "stress" and atoms is not None and not atoms.pbc.all():
            msg = "stress is defined only for structures that are periodic in three directions"
            raise PropertyNotImplementedError(msg)
        return super().get_property(name, atoms, allow_calculation)  # type: ignore[no-untyped-call]

    def _free_energy(self, atoms: Any) -> float:
        return float(sum((self.e0.get(int(z), 0.0) for z in atoms.numbers), 0.0))


def _too_far(atoms: Any, per_atom: float, limit: float, origin: str) -> str:
    return (
        f"the energy of {atoms.symbols} is {per_atom:.4g} eV/atom from {origin}, beyond {limit:g}: the "
        "structure lies outside what the potential knows"
    )


def _rebuilt(kind: Any, potential: Any, limit: float, digest: str, skin: float) -> EngineCalculator:
    made: EngineCalculator = kind(potential, limit=limit, digest=digest, skin=skin)
    return made
