"""Engine `datum`: labels structures with their distance from target crystals instead of an energy.

Any protocol with this reference learns the cost, as the published program `manifest` does (Pickard, Faraday Discuss.
(2024), doi:10.1039/d4fd00134f, section VII); no electronic structure is calculated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from gapfactory.errors import InputError, MissingEngineError, PotentialError
from gapfactory.potentials.datum.settings import CostSettings
from gapfactory.reference.base import EngineInfo, Raw, kind_of
from gapfactory.reference.faults import CalculationFailedError
from gapfactory.reference.settings import EngineSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from gapfactory.potentials.datum.cost import DatumCost
    from gapfactory.reference.site import ProgramSite

__all__ = ["ENGINE", "DatumEngine", "DatumSettings", "files_of_targets"]


class DatumSettings(CostSettings, EngineSettings):
    """Distance from the atomic surroundings in target crystals (Pickard 2024), in the place of an energy."""

    engine: Literal["datum"] = "datum"
    """Name of the engine."""
    targets: tuple[str, ...] = Field(default=("C-diamond",), min_length=1)
    """Crystals whose surroundings cost nothing: named phases, or files (extended XYZ, CIF) with one or more crystals,
    their paths counted from the campaign file. Files are read together with the campaign file, and then no more."""
    structures: str | None = None
    """What was read from the files among `targets`, as extended XYZ; the campaign has it from then on. Where it is
    given, no file is read."""
    time_limit_s: float = Field(default=300.0, gt=0)
    """Seconds one attempt at one structure may take before it is killed."""
    max_attempts: int = Field(default=2, ge=1)
    """Attempts per structure, the plain calculation included, before it is quarantined."""

    #: the cost is exact, and near its targets far from harmonic
    force_step: ClassVar[float] = 0.001
    strain_step: ClassVar[float] = 0.0005

    @model_validator(mode="after")
    def _files_were_read(self) -> Self:
        files = files_of_targets(self.targets)
        if files and self.structures is None:
            msg = (
                f"the target {files[0]!r} is no named phase, and files are found beside a campaign file only: name a "
                "phase such as C-diamond, or give 'structures'"
            )
            raise ValueError(msg)
        if self.structures is not None and not files:
            msg = "'structures' is what was read from files, and all targets are named phases: name the file too"
            raise ValueError(msg)
        return self

    def crystals(self) -> tuple[Atoms, ...]:
        """Return the target crystals: phases in their order, then those of files.

        Raises
        ------
        InputError
            What stands for files is no text of crystals.
        """
        from gapfactory.analysis.phases import named_phase
        from gapfactory.io.structure_text import given_crystals

        files = files_of_targets(self.targets)
        phases = tuple(named_phase(name).atoms for name in self.targets if name not in files)
        return phases if self.structures is None else (*phases, *given_crystals(self.structures))


def files_of_targets(targets: Sequence[str]) -> tuple[str, ...]:
    """Return those targets that are no named phases."""
    from gapfactory.analysis.phases import elements_with_phases, names_of_phases

    phases = {name for element in elements_with_phases() for name in names_of_phases(element)}
    return tuple(name for name in targets if name not in phases)


class DatumEngine:
    """Calculates the cost; there are no numerics to vary, so a retry only repeats."""

    name: ClassVar[str] = "datum"
    settings_class: ClassVar[type[DatumSettings]] = DatumSettings

    def __init__(self, settings: DatumSettings, site: ProgramSite | None = None) -> None:
        del site  # it runs no program
        self._settings = settings
        self._built: Any = None

    def info(self) -> EngineInfo:
        """Return the version of this package, and by species the sha256 of the targets' environments.

        Raises
        ------
        InputError
            The targets cannot be used.
        """
        from gapfactory import __version__

        return EngineInfo(
            engine="datum", version=f"gapfactory {__version__}", hashes=self._engine().cost.hashes()
        )

    def require(self, symbols: Sequence[str]) -> None:
        """Make sure that the targets have these species.

        Raises
        ------
        MissingEngineError
            There is no target environment of one of them.
        """
        known = self._engine().cost.features.symbols
        unknown = sorted(set(symbols) - set(known))
        if unknown:
            msg = (
                f"no target has {', '.join(unknown)}: the targets {', '.join(self._settings.targets)} have "
                f"{', '.join(known)}; name one with every species in reference.targets."
            )
            raise MissingEngineError(msg)

    def calculate(self, atoms: Atoms) -> Raw:
        """Calculate one structure.

        Raises
        ------
        CalculationFailedError
            It has a species that no target has, or cannot be evaluated.
        """
        engine = self._engine()
        try:
            found = engine.evaluate([atoms])
        except (InputError, PotentialError) as error:
            raise CalculationFailedError(str(error)) from error
        cost: DatumCost = engine.cost
        return Raw(
            energy=float(found.energies[0]),
            forces=found.forces,
            stress=found.stresses[0] if kind_of(atoms) == "crystal" and atoms.pbc.all() else None,
            details={"target_environments": cost.n_targets, "distinct_environments": len(cost.environments)},
        )

    def calculator(self) -> Any:
        """Return the cost as a calculator, to relax with it in this process: the direct route.

        Raises
        ------
        InputError
            The targets cannot be used.
        """
        from gapfactory.potentials.datum.calculator import DatumCalculator

        return DatumCalculator(self._engine().cost)

    def _engine(self) -> Any:
        if self._built is None:
            from gapfactory.potentials.datum.cost import DatumCost
            from gapfactory.potentials.datum.engine import DatumEngine as CostEngine

            self._built = CostEngine(DatumCost.from_targets(self._settings.crystals(), self._settings))
        return self._built


#: The engine of this module.
ENGINE = DatumEngine
