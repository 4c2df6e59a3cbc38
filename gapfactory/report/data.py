"""What a report is made of: plain, frozen data that any store can fill in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gapfactory.analysis.energy_volume import EnergyVolumeSettings, compare_phase
from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.analysis.distorted_errors import DistortedErrors
    from gapfactory.analysis.energy_volume import EnergyVolumeCurve, PhaseComparison
    from gapfactory.analysis.errors import ErrorRow
    from gapfactory.analysis.formation import FormationHull
    from gapfactory.analysis.learning import LearningPoint, PowerLaw
    from gapfactory.analysis.levels import LevelComparison
    from gapfactory.analysis.rediscovery import SearchCount
    from gapfactory.analysis.similarity_map import SimilarityMap
    from gapfactory.analysis.stability import Stability, Trial
    from gapfactory.analysis.vibration_overview import CrystalVibrations
    from gapfactory.analysis.vibration_settings import VibrationLimits
    from gapfactory.figures import SelectionStage
    from gapfactory.potentials.eddp import EnergyErrors

__all__ = [
    "Failure",
    "GenerationSummary",
    "HullData",
    "NetworkFit",
    "PhaseEvidence",
    "Quarantined",
    "Remedy",
    "ReportData",
    "ScatterData",
    "TrainingPoint",
    "VibrationEvidence",
]


@dataclass(frozen=True)
class Failure:
    """One thing that did not work.

    Parameters
    ----------
    generation
        Where it happened.
    stage
        ``"build"``, ``"relax"``, ``"reference"``, ``"fit"``, ``"assess"``.
    id
        Structure or task concerned.
    reason
        In words.
    """

    generation: int
    stage: str
    id: str
    reason: str


@dataclass(frozen=True)
class Quarantined:
    """A structure that could not be labelled.

    Parameters
    ----------
    generation
        Which one chose it.
    id, role
        Its name, and what the label was for.
    fault, reason
        Kind of the last fault by its short name, and the whole in words.
    attempts
        Calculations started.
    history
        One line per attempt: remedy and fault.
    atoms
        The structure, for a picture.
    """

    generation: int
    id: str
    role: str
    fault: str
    reason: str
    attempts: int = 1
    history: tuple[str, ...] = ()
    atoms: Atoms | None = None


@dataclass(frozen=True)
class Remedy:
    """How often a step of the recovery was taken, and how often the calculation then ended with a label."""

    name: str
    used: int
    helped: int


@dataclass(frozen=True)
class NetworkFit:
    """How the networks of an EDDP were combined, and their errors.

    Parameters
    ----------
    trained, kept
        Networks that were trained, and those that the fit gave a weight.
    split
        What stays together between training and testing: ``parent`` or ``plain``.
    spread
        Mean standard deviation of the networks' energies on the test set, eV/atom.
    errors
        On ``train``, ``validation``, ``test`` and, where there is such a structure, ``unrelated``: those of the test
        set without a relative among the others.
    """

    trained: int
    kept: int
    split: str
    spread: float
    errors: Mapping[str, EnergyErrors]

    @classmethod
    def from_report(cls, report: Mapping[str, Any]) -> NetworkFit | None:
        """Return what the stored report of a fit says; nothing of a GAP."""
        from gapfactory.potentials.eddp import EnergyErrors

        if report.get("family") != "eddp":
            return None
        errors = {name: EnergyErrors(**values) for name, values in report["errors"].items()}
        members = report["members"]
        return cls(members["trained"], members["kept"], report["split"], report["spread_eV"], errors)


@dataclass(frozen=True)
class GenerationSummary:
    """What one generation made.

    Parameters
    ----------
    generation
        Number, from 0.
    built
        Random cells made.
    relaxed_converged, relaxed_unconverged, relaxed_failed
        Relaxations by outcome; all zero in generation 0.
    selected
        Structures chosen to be labelled, training and held-out.
    labelled, reused, quarantined
        Labels computed in this campaign, labels the group already had, structures that could not be labelled.
    training_set
        Labels in the training set of this generation's potential.
    relaxation_reasons, quarantine_reasons
        Count by reason.
    errors
        Errors of this generation's potential on structures that it was not trained on.
    training_errors
        Errors on its own training set.
    deltas
        Energy scale (eV) of each term of the potential, by name; of a GAP.
    networks
        Of an EDDP.
    seconds
        Task time by kind of task.
    """

    generation: int
    built: int = 0
    relaxed_converged: int = 0
    relaxed_unconverged: int = 0
    relaxed_failed: int = 0
    selected: int = 0
    labelled: int = 0
    reused: int = 0
    quarantined: int = 0
    training_set: int = 0
    relaxation_reasons: Mapping[str, int] = field(default_factory=dict)
    quarantine_reasons: Mapping[str, int] = field(default_factory=dict)
    errors: tuple[ErrorRow, ...] = ()
    training_errors: tuple[ErrorRow, ...] = ()
    deltas: Mapping[str, float] = field(default_factory=dict)
    networks: NetworkFit | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class PhaseEvidence:
    """Curves of one named phase by potential and reference.

    Parameters
    ----------
    phase, label, source
        As in `gapfactory.analysis.phases.NamedPhase`.
    potential, reference
        The curves, or None where they were not computed.
    note
        Why a curve is missing, or what else a reader should know.
    """

    phase: str
    label: str
    source: str = ""
    potential: EnergyVolumeCurve | None = None
    reference: EnergyVolumeCurve | None = None
    note: str = ""

    def compare(self, settings: EnergyVolumeSettings) -> tuple[PhaseComparison | None, str]:
        """Return the comparison, or None with the reason in words."""
        if self.potential is None or self.reference is None:
            missing = [
                n for n, c in (("potential", self.potential), ("reference", self.reference)) if c is None
            ]
            return None, self.note or f"no curve by the {' and the '.join(missing)}"
        try:
            return compare_phase(self.potential, self.reference, settings), ""
        except EvidenceError as error:
            return None, str(error)


@dataclass(frozen=True)
class ScatterData:
    """Energies of one generation's structures by the *preceding* potential and by the reference (Fig. 4).

    Parameters
    ----------
    generation
        Generation of the structures; the potential is that of the one before.
    reference, predicted
        Shape (n,), eV/atom above the lowest reference energy of the campaign.
    groups
        Name of the colour group of each point (e.g. element or kind), or empty.
    ids
        Names of the structures, or empty.
    """

    generation: int
    reference: NDArray[Any]
    predicted: NDArray[Any]
    groups: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class HullData:
    """Structures over volume with the lower hull that sets the sigmas; see `gapfactory.figures.hull_plot`.

    `ids` are the names of the structures, or empty.
    """

    volumes: NDArray[Any]
    energies: NDArray[Any]
    hull_volumes: NDArray[Any]
    hull_energies: NDArray[Any]
    distances: NDArray[Any]
    ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class FormationData:
    """Formation energies of a binary compound, see `gapfactory.figures.formation_energies`.

    Parameters
    ----------
    hull
        Of the labelled structures.
    ids
        Their names.
    known
        Crystals by name: fraction, formation energy by the reference, and by the potential or None (eV/atom).
    """

    hull: FormationHull
    ids: tuple[str, ...]
    known: Mapping[str, tuple[float, float, float | None]]

    def rows(self) -> list[dict[str, Any]]:
        """Return one flat row for each structure and crystal."""
        labelled = zip(self.ids, self.hull.fractions, self.hull.energies, self.hull.above, strict=True)
        given = [(name, x, energy, None, other) for name, (x, energy, other) in sorted(self.known.items())]
        return [
            {
                "structure": name,
                f"fraction_{self.hull.elements[1]}": float(x),
                "formation_eV_per_atom": float(energy),
                "above_hull_eV_per_atom": above,
                "potential_eV_per_atom": potential,
            }
            for name, x, energy, above, potential in [
                *((name, x, energy, float(above), None) for name, x, energy, above in labelled),
                *given,
            ]
        ]


@dataclass(frozen=True)
class TrainingPoint:
    """A labelled crystal.

    Parameters
    ----------
    id, generation
        Its name, and which generation chose it.
    origin
        What it is, e.g. ``"random cell"``, ``"minimum"``, ``"end of the relaxation"``, ``"distorted crystal"``.
    held_out
        Never trained on.
    volume, energy
        Å^3/atom, and reference energy in eV/atom.
    energy_error, force_error
        Of the newest potential: potential minus reference (eV/atom), and root mean square of the force components
        (eV/Å); None where it has not been measured on it yet, or cannot evaluate it.
    component
        Component of the campaign that made its cell; empty where there is only one.
    """

    id: str
    generation: int
    origin: str
    held_out: bool
    volume: float
    energy: float
    energy_error: float | None = None
    force_error: float | None = None
    component: str = ""


@dataclass(frozen=True)
class VibrationEvidence:
    """Vibrations of the crystals of a campaign.

    Parameters
    ----------
    crystals
        By the reference and by potentials.
    limits
        When a crystal passes.
    missing
        What could not be measured, in words.
    """

    crystals: tuple[CrystalVibrations, ...]
    limits: VibrationLimits
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class ReportData:
    """Everything the report of one campaign shows. Only the first three fields are required.

    Parameters
    ----------
    campaign, system, state
        Name, chemical system (e.g. ``"Si"``) and state (``"finished"``, ``"running"``, ...).
    state_reason
        Why the campaign is in this state, e.g. the stop decision in words.
    settings
        The campaign's settings as nested plain data.
    started, finished
        Times as text, empty where unknown.
    wall_seconds
        From submission to the end, or None.
    label_budget
        Labels allowed, or None.
    generations
        One summary each, any order.
    learning, forecasts
        Points of the learning curve, and power laws by series.
    phases, phase_settings
        Evidence by named phase and the tolerances it is judged by.
    phases_missing
        Phases the papers name but that are not judged, with the reason.
    stability, stability_note
        What became of molecular dynamics and close contacts, or None with the reason.
    stability_generation
        Whose potential was tried, or None.
    trials
        What became of every potential that was tried, by generation.
    label_noise
        Noise floor of the labels, eV/atom, or None when it was not measured.
    label_noise_note
        How it was measured, or why not.
    scatter, energies, selection, hull, similarity
        Data of the figures; energies (eV/atom above the lowest) by generation.
    formation
        Formation energies of a binary compound, or None.
    training, own_data
        The labelled crystals; a sentence on each file that labels were given in.
    crystals
        Errors of every potential on groups of distorted known crystals, or None where there are none.
    searches
        What diagnostic searches found.
    rankings
        Of a campaign that fits nothing: the table of each of its generations, see `launchpad.ranking`.
    vibrations
        Phonons and elastic constants, or None where none are measured.
    enthalpies
        Enthalpy (eV/atom) where each relaxation ended, by generation; the last generations only.
    failures
        What did not work, one entry each.
    quarantined
        Structures that could not be labelled.
    remedies
        What the recovery of the reference calculations did.
    unusual
        Labels with an energy far from those of the same composition: ``(id, energy, median)`` in eV/atom.
    levels, levels_of
        Comparison with the labels that another campaign has of the same structures, and its name.
    potential_files
        sha256 by file name of the final potential.
    removed
        What was archived or deleted by policy since, a line each, with where it is.
    versions, citations
        Versions of the programs used, and what to cite.
    """

    campaign: str
    system: str
    state: str
    state_reason: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    started: str = ""
    finished: str = ""
    wall_seconds: float | None = None
    label_budget: int | None = None
    generations: tuple[GenerationSummary, ...] = ()
    learning: tuple[LearningPoint, ...] = ()
    forecasts: Mapping[str, PowerLaw] = field(default_factory=dict)
    phases: tuple[PhaseEvidence, ...] = ()
    phase_settings: EnergyVolumeSettings = field(default_factory=EnergyVolumeSettings)
    phases_missing: Mapping[str, str] = field(default_factory=dict)
    stability: Stability | None = None
    stability_note: str = ""
    stability_generation: int | None = None
    trials: tuple[Trial, ...] = ()
    label_noise: float | None = None
    label_noise_note: str = ""
    scatter: ScatterData | None = None
    energies: Mapping[int, Sequence[float]] = field(default_factory=dict)
    selection: tuple[SelectionStage, ...] = ()
    hull: HullData | None = None
    formation: FormationData | None = None
    similarity: SimilarityMap | None = None
    training: tuple[TrainingPoint, ...] = ()
    own_data: tuple[str, ...] = ()
    crystals: DistortedErrors | None = None
    searches: tuple[SearchCount, ...] = ()
    rankings: tuple[Mapping[str, Any], ...] = ()
    vibrations: VibrationEvidence | None = None
    enthalpies: Mapping[int, Sequence[float]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    unusual: tuple[tuple[str, float, float], ...] = ()
    levels: LevelComparison | None = None
    levels_of: str = ""
    potential_files: Mapping[str, str] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    citations: tuple[str, ...] = ()
