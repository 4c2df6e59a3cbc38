"""ASE calculator of a stored potential, evaluated by our own engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap.engine.evaluator import Engine
from gapfactory.potentials.gap.files import check_files, read_manifest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ase import Atoms

    from gapfactory.potentials.gap.engine.system import SkinnedSystem
    from gapfactory.potentials.gap.model import GapModel
    from gapfactory.search.evaluator import Answer

__all__ = ["GapCalculator", "load_potential"]

DEFAULT_LIMIT = 1000.0


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


class GapCalculator(Calculator):
    """A Gaussian approximation potential.

    Energy, local energies, forces and stress come from one evaluation per geometry; asking for the energy first and
    the forces later costs nothing. Neighbour lists are kept while atoms and cell move little. A calculator can be
    pickled and copied; a copy shares nothing that changes.

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
        On loading: if a term is not supported. On evaluation: if an element is unknown to the potential, a result is
        not finite, or the energy is beyond `limit`.
    InputError
        If a structure cannot be evaluated (no atoms, coordinates that are not finite, a cell without volume).
    """

    implemented_properties = [  # noqa: RUF012 - as in ASE
        "energy", "free_energy", "energies", "forces", "stress", "variances",
    ]  # fmt: skip

    def __init__(
        self, model: GapModel, *, limit: float = DEFAULT_LIMIT, digest: str = "", skin: float = 0.5
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.engine = Engine(model)
        self.limit = limit
        self.digest = digest
        self.cutoff = model.cutoff
        self.e0 = dict(model.e0)
        self._skin = skin
        self._system: SkinnedSystem | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the model; results and neighbour lists stay behind."""
        return (_rebuilt, (self.engine.model, self.limit, self.digest, self._skin))

    def __deepcopy__(self, memo: dict[int, Any]) -> GapCalculator:
        """Return a new calculator of the same potential."""
        return _rebuilt(self.engine.model, self.limit, self.digest, self._skin)

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate everything in one call; see `ase.calculators.calculator.Calculator.calculate`.

        `variances`, the (N,) predictive variances of the local energies in eV^2 as QUIP's `local_gap_variance`, are
        computed only when they are asked for.
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
            raise PotentialError(_too_far(structure, per_atom, self.limit))
        self.results = {
            "energy": energy,
            "free_energy": energy,
            "energies": found.local_energies,
            "forces": found.forces,
        }
        if found.stresses is not None and structure.pbc.all():
            self.results["stress"] = found.stresses[0]
        if found.variances is not None:
            self.results["variances"] = found.variances

    def evaluate_batch(self, structures: Sequence[Atoms]) -> list[Answer]:
        """Evaluate many periodic structures in one call; see `gapfactory.search.evaluator.BatchEvaluator`."""
        from gapfactory.search.evaluator import EngineEvaluator

        return EngineEvaluator(self.engine, self.e0, self.limit)(structures)

    def evaluate_batch_with_uncertainty(self, structures: Sequence[Atoms]) -> list[Answer]:
        """As `evaluate_batch`, and each answer says how badly its least known atom is known."""
        from functools import partial

        from gapfactory.potentials.gap.engine.known import relative_uncertainty
        from gapfactory.search.evaluator import EngineEvaluator

        known = partial(relative_uncertainty, self.engine)
        return EngineEvaluator(self.engine, self.e0, self.limit, uncertainty=known)(structures)

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """Return one property; stress of what is not periodic in three directions is not defined."""
        if name == "stress" and atoms is not None and not atoms.pbc.all():
            msg = "stress is defined only for structures that are periodic in three directions"
            raise PropertyNotImplementedError(msg)
        return super().get_property(name, atoms, allow_calculation)  # type: ignore[no-untyped-call]

    def _free_energy(self, atoms: Any) -> float:
        return float(sum((self.e0.get(int(z), 0.0) for z in atoms.numbers), 0.0))


def _too_far(atoms: Any, per_atom: float, limit: float) -> str:
    return (
        f"the energy of {atoms.symbols} is {per_atom:.4g} eV/atom from the free atoms, beyond {limit:g}: the "
        "structure lies outside what the potential knows"
    )


def _rebuilt(model: GapModel, limit: float, digest: str, skin: float) -> GapCalculator:
    return GapCalculator(model, limit=limit, digest=digest, skin=skin)
