"""The campaign: everything that steers one, composed of the settings that live next to the science they steer.

`element: Si` alone is a complete campaign: every other value is the paper's default, derived from the element's
characteristic radius and bonding class.
"""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from gapfactory.analysis.energy_distribution import DistributionSettings  # noqa: TC001 - pydantic
from gapfactory.analysis.energy_volume import EnergyVolumeSettings
from gapfactory.analysis.learning import ConvergenceSettings
from gapfactory.analysis.stability_settings import StabilitySettings
from gapfactory.build.settings import BuildSettings, DimerSettings
from gapfactory.campaign.checks import require_consistent
from gapfactory.descriptors.settings import SimilaritySettings
from gapfactory.elements import Bonding, Species, species
from gapfactory.potentials.eddp.settings import EddpSettings
from gapfactory.potentials.gap.settings import GapSettings
from gapfactory.protocols.data_settings import DataSettings  # noqa: TC001 - pydantic
from gapfactory.protocols.kinds import KINDS
from gapfactory.protocols.robustness_settings import RobustnessSettings  # noqa: TC001 - pydantic
from gapfactory.protocols.search_settings import SearchSettings  # noqa: TC001 - pydantic
from gapfactory.protocols.settings import (
    ChainSettings,
    ComponentSettings,
    CrystalSettings,
    KnownCrystalSettings,
    SnapshotSettings,
)
from gapfactory.protocols.vibration_settings import VibrationSettings  # noqa: TC001 - pydantic
from gapfactory.reference import GpawSettings, ReferenceSettings
from gapfactory.search.settings import RelaxSettings
from gapfactory.select.settings import SelectSettings
from gapfactory.settings import Settings, require_plain_names, without_nulls

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gapfactory.analysis.phases import NamedPhase
    from gapfactory.campaign.parents import FramePlan
    from gapfactory.reference import EngineSettings

__all__ = [
    "Campaign",
    "EvidenceSettings",
    "ExecutionSettings",
    "ScheduleSettings",
    "SourceSettings",
    "SpeciesSettings",
    "StopSettings",
    "TaskResources",
]


class SpeciesSettings(Settings):
    """What is taken instead of the tabulated properties of one element."""

    radius: float | None = Field(default=None, gt=0.2, lt=4.0)
    """Characteristic radius r in Å; by default the tabulated covalent or metallic radius."""
    bonding: Bonding | None = None
    """Whether the element is primarily covalent or metallic; by default the element's usual class."""


class SourceSettings(Settings):
    """Where the structures of a campaign come from that labels those of another one again."""

    campaign: str
    """The other campaign."""
    which: str = "all"
    """What was chosen of its structures; the structures themselves are stored with the campaign."""


class ScheduleSettings(Settings):
    """Sizes of the loop."""

    cells_per_generation: int = Field(default=10_000, ge=1)
    """Random cells made and relaxed in every generation (paper: 10 000). Where the campaign has `components`, theirs
    count instead."""
    initial_cells: int | None = Field(default=None, ge=0)
    """Random cells of the first generation, which are not relaxed; by default as many as later. 0 with
    `de-novo-2019` and `data` that join the first generation: its potential is fitted to these alone."""
    generations: int = Field(default=25, ge=1)
    """Generations at the most, the initial one included, and with `boron-2018` those after the last search."""
    quorum: float = Field(default=0.95, gt=0, le=1)
    """Fraction of a generation's labels that must succeed for the campaign to go on without a person. It decides
    whether there is a potential, not what it is: it may be changed on a campaign that was halted by it."""


class StopSettings(Settings):
    """When the campaign ends by itself."""

    label_budget: int = Field(default=2500, ge=1)
    """Labels of random-search structures at the most, training and held-out together (paper: 2500)."""
    convergence: ConvergenceSettings = ConvergenceSettings()
    """When the campaign ends earlier, on structures that it was not trained on."""
    energy_distribution: DistributionSettings | None = None
    """`boron-2018`: the search ends before the last generation when the energies it finds no longer change; by default
    it does not, and the energies are reported only."""


class EvidenceSettings(Settings):
    """What the potential is judged by and never trained on."""

    phases: Literal["all", "none"] | tuple[str, ...] = "all"
    """Named phases of the element: all that are tabulated with at most `largest_phase` atoms, none, or a list of
    names."""
    largest_phase: int = Field(default=48, ge=1)
    """Atoms in the primitive cell of the phases that "all" stands for. A larger one (β-boron: 105) would cost the
    reference more than the campaign, and is judged by only where it is named."""
    known: dict[str, KnownCrystalSettings] = Field(default_factory=dict)
    """Further crystals by name, from files: of compounds all there are. Searches may have them as `targets`."""
    curves: EnergyVolumeSettings = EnergyVolumeSettings()
    """Energy-volume curves of the phases and known crystals, and when one passes."""
    stability: StabilitySettings = StabilitySettings()
    """Molecular dynamics and close contacts: whether the potential can be used."""

    @field_validator("known", mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return without_nulls(value)

    @field_validator("known")
    @classmethod
    def _plain_names(cls, value: dict[str, Any]) -> dict[str, Any]:
        require_plain_names(value)
        return value


class TaskResources(Settings):
    """What one kind of task needs of a worker; a worker that says what it has takes no task that needs more."""

    cores: int | None = Field(default=None, ge=1)
    """Cores that one task uses (a reference program under MPI, the threads of a fit)."""
    memory_gb: float | None = Field(default=None, gt=0)
    """Memory of one task (GB)."""
    minutes: float | None = Field(default=None, gt=0)
    """Time of one task: not begun by a worker whose allocation ends earlier."""


class ExecutionSettings(Settings):
    """How work is cut into tasks. None of these values changes a result."""

    build_chunk: int = Field(default=2000, ge=1)
    """Random cells made by one task."""
    relax_chunk: int = Field(default=50, ge=1)
    """Relaxations of one task."""
    reference_chunk: int = Field(default=5, ge=1)
    """Reference calculations of one task."""
    train_chunk: int = Field(default=5, ge=1)
    """`potential: eddp`: networks trained by one task."""
    evidence_parts: int = Field(default=6, ge=1)
    """`vibrations`: tasks that share the reference's phonons and elastic constants of one crystal."""
    workers: int | None = Field(default=None, ge=1)
    """Local worker processes of `campaign run`; by default one per core."""
    resources: dict[
        Literal["build", "relax", "select", "reference", "train", "fit", "assess"], TaskResources
    ] = Field(default_factory=dict)
    """What a task needs of its worker, by kind, e.g. `{reference: {cores: 32, minutes: 240}, fit: {memory_gb: 50}}`; a
    worker that says what it has (`worker start --memory-gb`, a site) takes no task that needs more."""


class Campaign(Settings):
    """A campaign as its file describes it, with every default filled in."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$")]
    """Name in the database: letters, digits, dot, dash and underscore."""
    element: str | None = None
    """One element; or give `composition`."""
    composition: dict[str, float] | None = None
    """Formula units with their weights, e.g. `{TiO2: 3, Ti2O3: 1}`."""
    preset: str | None = None
    """The preset that the file started from (`gapfactory campaign init --list`)."""
    protocol: Literal["de-novo-2019", "boron-2018", "eddp-chain", "ndsc-2022", "search"] = "de-novo-2019"
    """The recipe: `de-novo-2019` labels what a funnel selects, `boron-2018` snapshots of every relaxation, `eddp-chain`
    the best relaxed cells and copies shaken out of them, `ndsc-2022` makes no search and learns the `vibrations` of
    given crystals, `search` fits nothing: it searches with a potential that exists and ranks what it finds."""
    potential: Literal["gap", "eddp"] = "gap"
    """What is fitted: a Gaussian approximation potential (`gap`) or an ephemeral data-derived one (`eddp`), by the
    settings in the block of that name."""
    source: SourceSettings | None = None
    """The structures of another campaign, labelled again at another level; written by `gapfactory campaign relabel`.
    Such a campaign has one generation, without cells and selection."""
    seed: int = Field(default=1, ge=0)
    """Seed of every random decision: same file, same seed, same results."""
    species: dict[str, SpeciesSettings] = Field(default_factory=dict)
    """Per element, what is taken instead of the tabulated radius and class."""
    schedule: ScheduleSettings = ScheduleSettings()
    """Sizes of the loop."""
    stop: StopSettings = StopSettings()
    """When the campaign ends by itself."""
    build: BuildSettings = BuildSettings()
    """Random cells, where there is one kind of them."""
    components: dict[str, ComponentSettings] = Field(default_factory=dict)
    """Several kinds of random cells by name, instead of `build`; null takes one of a preset away. Cells are numbered by
    component in the order of their names."""
    dimers: DimerSettings = DimerSettings()
    """Dimers of the first generation."""
    relax: RelaxSettings = RelaxSettings()
    """Relaxation of random cells."""
    similarity: SimilaritySettings = SimilaritySettings()
    """The descriptor and kernel that compare whole cells."""
    select: SelectSettings = SelectSettings()
    """The selection funnel."""
    snapshots: SnapshotSettings = SnapshotSettings()
    """`boron-2018`: which structures of a relaxation are labelled."""
    chain: ChainSettings = ChainSettings()
    """`eddp-chain`: which relaxed cells are labelled, and what is shaken out of them."""
    crystals: dict[str, CrystalSettings] = Field(default_factory=dict)
    """`boron-2018`, `eddp-chain`: groups of distorted crystals by name; null takes one of a preset away."""
    data: dict[str, DataSettings] = Field(default_factory=dict)
    """Labelled structures that a group has already, by name: the potentials are trained on them too."""
    gap: GapSettings = GapSettings()
    """The potential, with `potential: gap`."""
    eddp: EddpSettings = EddpSettings()
    """The potential, with `potential: eddp`."""
    final_fit: dict[str, Any] | None = None
    """`boron-2018`, `eddp-chain`: what is different from `gap` (or `eddp`) in a last fit to the same data, e.g. `{soap:
    {atom_sigma: 0.5}}`; by default there is none."""
    reference: ReferenceSettings = GpawSettings()
    """The reference method and its settings."""
    vibrations: VibrationSettings | None = None
    """Crystals whose vibrations and elasticity are learnt and measured: all of `ndsc-2022`, and the last generation,
    one more than `schedule.generations`, of a search that has this block."""
    robustness: RobustnessSettings | None = None
    """After the search, rounds of molecular dynamics whose frames are labelled, until the potential survives its trial;
    by default there are none."""
    search: SearchSettings | None = None
    """`search`: the potential that relaxes the cells, and the stages that rank what is found."""
    evidence: EvidenceSettings = EvidenceSettings()
    """What the potential is judged by."""
    execution: ExecutionSettings = ExecutionSettings()
    """How work is cut into tasks; changes no result."""

    @field_validator("element")
    @classmethod
    def _one_symbol(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Z][a-z]?", value):
            msg = "give one chemical symbol such as Si; formulas belong into 'composition', e.g. {TiO2: 1}"
            raise ValueError(msg)
        return value

    @field_validator("components", "crystals", "data", mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return without_nulls(value)

    @field_validator("components", "crystals", "data")
    @classmethod
    def _plain_names(cls, value: dict[str, Any]) -> dict[str, Any]:
        require_plain_names(value)
        return value

    @field_validator("composition")
    @classmethod
    def _formulas(cls, value: dict[str, float] | None) -> dict[str, float] | None:
        if value is None:
            return None
        if not value:
            msg = "composition is empty; give at least one formula with its weight, e.g. {TiO2: 1}"
            raise ValueError(msg)
        for formula, weight in value.items():
            if not re.fullmatch(r"([A-Z][a-z]?\d*)+", formula):
                msg = f"{formula!r} is not a formula such as TiO2"
                raise ValueError(msg)
            if weight <= 0:
                msg = f"the weight of {formula} is {weight:g}; weights must be positive"
                raise ValueError(msg)
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Campaign:
        require_consistent(self)
        return self

    @cached_property
    def formulas(self) -> tuple[tuple[dict[str, int], float], ...]:
        """Formula units as ``{symbol: count}`` with weights that sum to one, ordered by formula."""
        from ase.formula import Formula

        weights: Mapping[str, float] = self.composition or {str(self.element): 1.0}
        total = sum(weights.values())
        return tuple(
            (dict(Formula(formula).count()), weight / total) for formula, weight in sorted(weights.items())
        )

    @cached_property
    def species_table(self) -> dict[str, Species]:
        """Element symbol -> radius and bonding class, ordered by symbol."""
        symbols = sorted({symbol for formula, _ in self.formulas for symbol in formula})
        table = {}
        for symbol in symbols:
            own = self.species.get(symbol, SpeciesSettings())
            table[symbol] = species(symbol, bonding=own.bonding, radius=own.radius)
        return table

    @property
    def numbers(self) -> tuple[int, ...]:
        """Atomic numbers of the campaign's elements, ascending."""
        return tuple(sorted(item.number for item in self.species_table.values()))

    @property
    def potential_settings(self) -> GapSettings | EddpSettings:
        """Settings of the potential; their class tells the family."""
        return self.eddp if self.potential == "eddp" else self.gap

    @property
    def potential_cutoff(self) -> float:
        """How far the potential reaches, in Å."""
        from gapfactory.potentials.gap.terms import largest_cutoff

        if self.potential == "eddp":
            return self.eddp.features.cutoff
        return largest_cutoff(tuple(self.species_table.values()), self.gap)

    @property
    def labels_atoms(self) -> bool:
        """Whether the first generation labels free atoms, and dimers.

        An EDDP takes no dimers, and free atoms only as the origin of energies of several compositions.
        """
        return not KINDS[self.protocol].ranks and (self.potential == "gap" or len(self.formulas) > 1)

    @cached_property
    def final_potential(self) -> GapSettings | EddpSettings:
        """Settings of the last fit: those of the potential with what `final_fit` changes.

        Raises
        ------
        ValueError
            A key of `final_fit` is unknown, or its value cannot be used.
        """
        from pydantic import ValidationError

        from gapfactory.campaign.load import merge

        try:
            fitted = self.potential_settings
            return type(fitted).model_validate(merge(fitted.model_dump(mode="json"), self.final_fit or {}))
        except ValidationError as error:
            found = error.errors(include_url=False)[0]
            key = ".".join(("final_fit", *map(str, found["loc"])))
            msg = f"{key}: {found['msg'].removeprefix('Value error, ')}"
            raise ValueError(msg) from error

    @property
    def vibration_settings(self) -> VibrationSettings:
        """The block `vibrations`.

        Raises
        ------
        InputError
            There is none.
        """
        if self.vibrations is None:
            from gapfactory.errors import InputError

            msg = f"campaign {self.name!r} has no block 'vibrations' (docs/how-to/vibrations.md)"
            raise InputError(msg)
        return self.vibrations

    @property
    def search_settings(self) -> SearchSettings:
        """The block `search`.

        Raises
        ------
        InputError
            There is none.
        """
        if self.search is None:
            from gapfactory.errors import InputError

            msg = f"campaign {self.name!r} has no block 'search' (docs/how-to/search.md)"
            raise InputError(msg)
        return self.search

    @cached_property
    def _stage_references(self) -> tuple[EngineSettings, ...]:
        from gapfactory.campaign.load import changed_reference

        stages = () if self.search is None else self.search.ranking
        return tuple(
            changed_reference(self, stage.reference, f"search.ranking.{number}.reference")
            for number, stage in enumerate(stages)
        )

    def reference_in(self, generation: int) -> EngineSettings:
        """Return the settings at which a generation labels: those of its stage, where a ranking has one of its own."""
        stages = self._stage_references
        return stages[generation - 1] if 0 < generation <= len(stages) else self.reference

    @cached_property
    def planned_frames(self) -> dict[str, FramePlan]:
        """Frames of each crystal whose vibrations are learnt, by its name."""
        from gapfactory.campaign.parents import planned_frames

        return {name: planned_frames(self, name) for name in self.vibration_settings.trained()}

    def cells_of(self, generation: int) -> int:
        """Return how many random cells a generation makes."""
        from gapfactory.protocols.planner import recipe_of

        return recipe_of(self, generation).n_cells

    def crystal_phase(self, name: str) -> str:
        """Return the full name of the phase of a group of distorted crystals.

        Raises
        ------
        ValueError
            It is not tabulated, or the group has its structures from a file.
        """
        phase = self.crystals[name].phase
        if phase is None:
            msg = "its structures come from a file"
            raise ValueError(msg)
        return self.known_phase(phase)

    def target_phases(self, component: str) -> tuple[str, ...]:
        """Return the full names of the phases that a diagnostic search looks for.

        Raises
        ------
        ValueError
            One is not tabulated.
        """
        own = self.components[component].targets if component in self.components else ()
        every = () if self.search is None else self.search.targets
        return tuple(dict.fromkeys(self.known_phase(name) for name in (*own, *every)))

    def phase_of(self, name: str) -> NamedPhase:
        """Return a tabulated phase by its full name, or a crystal that the campaign is given."""
        from gapfactory.analysis.phases import given_phase, named_phase
        from gapfactory.io.structure_text import given_crystals

        known = self.evidence.known.get(name)
        if known is None or known.structures is None:
            return named_phase(name)
        return given_phase(name, given_crystals(known.structures)[0], known.file or "the campaign file")

    def known_phase(self, name: str) -> str:
        """Return the full name of a tabulated phase of the element, or the name of a crystal that is given.

        Raises
        ------
        ValueError
            It is not tabulated.
        """
        from gapfactory.analysis.phases import names_of_phases

        if name in self.evidence.known:
            return name
        return self._phase(name, names_of_phases(self.element) if self.element is not None else ())

    def phase_names(self) -> tuple[str, ...]:
        """Return the names of the phases to judge by: tabulated ones, then crystals that are given.

        Raises
        ------
        ValueError
            A phase was asked for that is not tabulated, or of a compound.
        """
        from gapfactory.analysis.phases import names_of_phases

        wanted, own = self.evidence.phases, tuple(sorted(self.evidence.known))
        if self.element is None and wanted and not isinstance(wanted, str):
            msg = (
                "evidence.phases lists named phases, which are tabulated for elements only; leave it out where the "
                "campaign has a 'composition', and give crystals in 'evidence.known'"
            )
            raise ValueError(msg)
        if wanted == "none" or self.element is None:
            return own
        if wanted == "all":
            return (*names_of_phases(self.element, most_atoms=self.evidence.largest_phase), *own)
        known = names_of_phases(self.element)
        return (*(self._phase(name, known) for name in wanted), *own)

    def _phase(self, name: str, known: tuple[str, ...]) -> str:
        """Return the full name of a phase given as ``Si-diamond`` or ``diamond``."""
        for full in (name, f"{self.element}-{name}"):
            if full in known:
                return full
        msg = f"no named phase {name!r} for {self.element or 'compounds'}; there are: {', '.join(known) or 'none'}"
        raise ValueError(msg)
