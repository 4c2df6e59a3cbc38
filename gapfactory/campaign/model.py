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
from gapfactory.descriptors.settings import SimilaritySettings
from gapfactory.elements import Bonding, Species, species
from gapfactory.potentials.gap.settings import GapSettings
from gapfactory.protocols.settings import ComponentSettings, CrystalSettings, SnapshotSettings
from gapfactory.reference import GpawSettings, ReferenceSettings
from gapfactory.search.settings import RelaxSettings
from gapfactory.select.settings import SelectSettings
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    initial_cells: int | None = Field(default=None, ge=1)
    """Random cells of the first generation, which are not relaxed; by default as many as later."""
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
    curves: EnergyVolumeSettings = EnergyVolumeSettings()
    """Energy-volume curves of the phases, and when a phase passes."""
    stability: StabilitySettings = StabilitySettings()
    """Molecular dynamics and close contacts: whether the potential can be used."""


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
    workers: int | None = Field(default=None, ge=1)
    """Local worker processes of `campaign run`; by default one per core."""
    resources: dict[Literal["build", "relax", "select", "reference", "fit", "assess"], TaskResources] = Field(
        default_factory=dict
    )
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
    protocol: Literal["de-novo-2019", "boron-2018"] = "de-novo-2019"
    """The recipe: `de-novo-2019` labels what a funnel selects, `boron-2018` snapshots of every relaxation."""
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
    crystals: dict[str, CrystalSettings] = Field(default_factory=dict)
    """`boron-2018`: groups of distorted crystals by name; null takes one of a preset away."""
    gap: GapSettings = GapSettings()
    """The potential."""
    final_fit: dict[str, Any] | None = None
    """`boron-2018`: what is different from `gap` in a last fit to the same data, e.g. `{soap: {atom_sigma: 0.5}}`; by
    default there is none."""
    reference: ReferenceSettings = GpawSettings()
    """The reference method and its settings."""
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

    @field_validator("components", "crystals", mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        return {k: v for k, v in value.items() if v is not None} if isinstance(value, dict) else value

    @field_validator("components", "crystals")
    @classmethod
    def _plain_names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,31}", name):
                msg = f"{name!r} is no name: take letters, digits, dash and underscore"
                raise ValueError(msg)
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
        if (self.element is None) == (self.composition is None):
            msg = "give exactly one of 'element' (Si) and 'composition' ({TiO2: 1})"
            raise ValueError(msg)
        foreign = set(self.species) - set(self.species_table)
        if foreign:
            msg = f"species {sorted(foreign)} are not in the composition {sorted(self.species_table)}"
            raise ValueError(msg)
        self._require_cells()
        if self.source is not None and self.schedule.generations != 1:
            msg = "a campaign with a 'source' has one generation: set schedule.generations to 1"
            raise ValueError(msg)
        if self.protocol == "boron-2018":
            self._require_snapshots()
        else:
            self._require_funnel()
        wanted = self.stop.convergence
        judged = wanted.energy_error_in_eV is not None or wanted.plateau_improvement is not None
        if judged and self.protocol == "boron-2018":
            msg = "stop.convergence needs held-out structures; 'boron-2018' has stop.energy_distribution instead"
            raise ValueError(msg)
        if judged and not self.select.held_out_per_generation:
            msg = "stop.convergence needs evidence: set select.held_out_per_generation to 5 or more"
            raise ValueError(msg)
        if self.relax.max_uncertainty is not None and not self.gap.soap.enabled:
            msg = (
                f"relax.max_uncertainty is {self.relax.max_uncertainty:g}, but only the SOAP term tells how well a "
                "structure is known: set gap.soap.enabled, or leave max_uncertainty out"
            )
            raise ValueError(msg)
        self.phase_names()
        self._require_targets()
        self._require_unlabelled()
        self._require_fittable()
        return self

    def _require_funnel(self) -> None:
        """Refuse sizes of the funnel that contradict each other, and what only the other protocol knows."""
        for key in ("crystals", "final_fit"):
            if getattr(self, key):
                msg = f"{key!r} needs 'protocol: boron-2018'; leave it out, or change the protocol"
                raise ValueError(msg)
        per_generation = self.select.labels_per_generation + self.select.held_out_per_generation
        if self.stop.label_budget < per_generation:
            msg = (
                f"stop.label_budget is {self.stop.label_budget}, less than the {per_generation} labels of "
                "a single "
                "generation; raise it or lower select.labels_per_generation"
            )
            raise ValueError(msg)
        for key, generation in (("initial_cells", 0), ("cells_per_generation", 1)):
            if self.source is not None:
                break
            cells = self.cells_of(generation)
            if cells < per_generation:
                where = "components have" if self.components else f"schedule.{key} is"
                msg = (
                    f"{where} {cells}, but {per_generation} of them are to be labelled; make "
                    "more cells or "
                    "label fewer"
                )
                raise ValueError(msg)

    def _require_snapshots(self) -> None:
        """Refuse snapshots, crystals and a number of labels that cannot be."""
        from gapfactory.protocols.boron import closing
        from gapfactory.protocols.planner import recipe_of

        if self.source is not None:
            msg = "a campaign with a 'source' makes no snapshots: its protocol is 'de-novo-2019'"
            raise ValueError(msg)
        after = closing(self)
        if self.schedule.generations <= len(after):
            msg = (
                f"schedule.generations is {self.schedule.generations}, but {len(after)} come after the last search "
                f"({', '.join(after)}): raise it"
            )
            raise ValueError(msg)
        kept = min(self.relax.keep_first_steps, self.relax.max_steps - 1)
        for step in self.snapshots.early_steps:
            if not 0 <= step <= kept:
                msg = (
                    f"snapshots.early_steps has {step}, but steps 0 to {kept} are kept of every relaxation: raise "
                    "relax.keep_first_steps or relax.max_steps"
                )
                raise ValueError(msg)
        for name in self.crystals:
            self._require_crystal(name)
        _ = self.final_gap
        labels = sum(recipe_of(self, g).labels for g in range(self.schedule.generations))
        if labels > self.stop.label_budget:
            msg = (
                f"stop.label_budget is {self.stop.label_budget}, but the campaign labels {labels} structures: raise "
                "it, or make fewer cells, generations or crystals"
            )
            raise ValueError(msg)

    def _require_crystal(self, name: str) -> None:
        """Refuse a group of crystals whose phase is not tabulated, or whose structures cannot be used."""
        from gapfactory.campaign.crystals import given_crystals
        from gapfactory.errors import InputError

        group = self.crystals[name]
        if group.phase is not None:
            try:
                self.crystal_phase(name)
            except ValueError as error:
                msg = f"crystals.{name}.phase is {group.phase!r}: {error}, or take it away ('{name}: null')"
                raise ValueError(msg) from error
            return
        where = f"crystals.{name}: the structures of {group.file or 'this group'}"
        try:
            if group.structures is None:
                msg = "were not read with the campaign file"
                raise InputError(msg)
            given = given_crystals(group.structures)
        except InputError as error:
            msg = f"{where}: {error}"
            raise ValueError(msg) from error
        foreign = {symbol for atoms in given for symbol in atoms.get_chemical_symbols()} - {
            *self.species_table
        }
        if foreign:
            msg = f"{where} hold {', '.join(sorted(foreign))}, the campaign {', '.join(self.species_table)}"
            raise ValueError(msg)
        if group.count < len(given):
            msg = f"{where} are {len(given)}, but count is {group.count}: raise it, or give fewer"
            raise ValueError(msg)

    def _require_cells(self) -> None:
        """Refuse units of other elements, and a range of atoms that holds no multiple of a formula unit."""
        from gapfactory.build import atom_counts
        from gapfactory.build.cells import formula_of
        from gapfactory.errors import InputError

        builds = {f"components.{name}.build": c.build for name, c in self.components.items()}
        for where, build in (builds or {"build": self.build}).items():
            for formula, _ in self.formulas:
                try:
                    whole = formula_of(formula, self.species_table, build)
                except InputError as error:
                    msg = f"{where}.units: {error}"
                    raise ValueError(msg) from error
                try:
                    atom_counts(whole, build)
                except InputError as error:
                    name = "".join(
                        f"{symbol}{count if count != 1 else ''}" for symbol, count in formula.items()
                    )
                    msg = f"{where}.atoms_min and {where}.atoms_max do not suit {name}: {error}"
                    raise ValueError(msg) from error

    def _require_targets(self) -> None:
        """Refuse a diagnostic search for a phase that is not tabulated, or one that may never be made."""
        from gapfactory.protocols.boron import closing
        from gapfactory.protocols.recipe import PLAIN

        boron = self.protocol == "boron-2018"
        if PLAIN in self.components and not any(c.labelled for c in self.components.values()):
            msg = (
                f"components.{PLAIN} has the name of the cells that are labelled where no component is: call the "
                "diagnostic search otherwise"
            )
            raise ValueError(msg)
        last = self.schedule.generations - 1
        for name, component in self.components.items():
            made = component.generations
            if made is not None and not (made and 1 <= min(made) <= max(made) <= last):
                msg = (
                    f"components.{name}.generations is {list(made)}, but cells are relaxed in generations 1 to {last}: "
                    "name some of these, or leave generations out"
                )
                raise ValueError(msg)
            reached = boron and (closing(self) or self.stop.energy_distribution is None)
            if component.potential == "final" and not (reached and self.schedule.generations > 1):
                msg = (
                    f"components.{name}.potential is final, but the campaign may end before its last generation: it "
                    "needs 'protocol: boron-2018', a final_fit or no stop.energy_distribution, and two generations"
                )
                raise ValueError(msg)
            try:
                self.target_phases(name)
            except ValueError as error:
                msg = f"components.{name}.targets is {list(component.targets)}: {error}"
                raise ValueError(msg) from error

    def _require_unlabelled(self) -> None:
        """Refuse structures for sparse points that cannot be read or are of other elements."""
        from gapfactory.errors import InputError

        for key, gap in {"gap": self.gap, "final_fit": self.final_gap}.items():
            given = gap.unlabelled
            where = f"{key}.unlabelled: the structures of {given.file or 'this campaign'}"
            try:
                found = given.atoms()
            except InputError as error:
                msg = f"{where}: {error}"
                raise ValueError(msg) from error
            foreign = {s for atoms in found for s in atoms.get_chemical_symbols()} - {*self.species_table}
            if foreign:
                msg = (
                    f"{where} hold {', '.join(sorted(foreign))}, the campaign {', '.join(self.species_table)}"
                )
                raise ValueError(msg)

    def _require_fittable(self) -> None:
        """Refuse terms that gap_fit cannot take, before anything is labelled."""
        if self.gap.backend != "gap_fit":
            return
        from gapfactory.errors import FitError
        from gapfactory.potentials.gap.program import gap_line
        from gapfactory.potentials.gap.terms import terms

        found = terms(tuple(self.species_table.values()), self.gap)
        sparse = (self.gap.two_body.n_sparse, self.gap.three_body.n_sparse, self.gap.soap.n_sparse)
        try:
            gap_line(found, (99.9999, 99.9999, 99.9999), [sparse[term.stage] for term in found])
        except FitError as error:
            raise ValueError(str(error)) from error

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

    @cached_property
    def final_gap(self) -> GapSettings:
        """Settings of the last fit: those of the potential with what `final_fit` changes.

        Raises
        ------
        ValueError
            A key of `final_fit` is unknown, or its value cannot be used.
        """
        from pydantic import ValidationError

        from gapfactory.campaign.load import merge

        try:
            return GapSettings.model_validate(merge(self.gap.model_dump(mode="json"), self.final_fit or {}))
        except ValidationError as error:
            found = error.errors(include_url=False)[0]
            key = ".".join(("final_fit", *map(str, found["loc"])))
            msg = f"{key}: {found['msg'].removeprefix('Value error, ')}"
            raise ValueError(msg) from error

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
        return self._known_phase(phase)

    def target_phases(self, component: str) -> tuple[str, ...]:
        """Return the full names of the phases that a diagnostic search looks for.

        Raises
        ------
        ValueError
            One is not tabulated.
        """
        return tuple(self._known_phase(name) for name in self.components[component].targets)

    def _known_phase(self, name: str) -> str:
        """Return the full name of a tabulated phase of the element."""
        from gapfactory.analysis.phases import names_of_phases

        return self._phase(name, names_of_phases(self.element) if self.element is not None else ())

    def phase_names(self) -> tuple[str, ...]:
        """Return the names of the phases to judge by.

        Raises
        ------
        ValueError
            A phase was asked for that is not tabulated, or of a compound.
        """
        from gapfactory.analysis.phases import names_of_phases

        wanted = self.evidence.phases
        if self.element is None and wanted and not isinstance(wanted, str):
            msg = (
                "evidence.phases lists named phases, which are tabulated for elements only; leave it out where "
                "the campaign has a 'composition'"
            )
            raise ValueError(msg)
        if wanted == "none" or self.element is None:
            return ()
        if wanted == "all":
            return names_of_phases(self.element, most_atoms=self.evidence.largest_phase)
        known = names_of_phases(self.element)
        return tuple(self._phase(name, known) for name in wanted)

    def _phase(self, name: str, known: tuple[str, ...]) -> str:
        """Return the full name of a phase given as ``Si-diamond`` or ``diamond``."""
        for full in (name, f"{self.element}-{name}"):
            if full in known:
                return full
        msg = f"no named phase {name!r} for {self.element or 'compounds'}; there are: {', '.join(known) or 'none'}"
        raise ValueError(msg)
