"""The documents of our collections, validated before they are written.

Identities are natural keys: a task that is killed and run again writes the same documents under the same names.
``{campaign}/g{generation:03d}/{stage}/{index:06d}`` names a structure (one that came with a label has the name of its
data before the number), ``{structure hash}-{settings hash}`` a label.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from launchpad.states import CampaignState

__all__ = [
    "AnnealDocument",
    "CampaignDocument",
    "CurveDocument",
    "LabelDocument",
    "MetricsDocument",
    "NetworkDocument",
    "PotentialDocument",
    "RelaxationDocument",
    "SelectionDocument",
    "StructureDocument",
    "VibrationDocument",
    "data_id",
    "generation_id",
    "is_data_id",
    "label_id",
    "now",
    "own_label_id",
    "structure_id",
]


def now() -> datetime:
    """Return the present time in UTC, to the millisecond that BSON keeps."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def structure_id(campaign: str, generation: int, stage: str, index: int) -> str:
    """Return the natural key of a structure."""
    return f"{generation_id(campaign, generation)}/{stage}/{index:06d}"


def data_id(campaign: str, generation: int, name: str, index: int) -> str:
    """Return the natural key of a structure that came with a label, in the data of a name."""
    return structure_id(campaign, generation, f"data/{name}", index)


def is_data_id(key: str) -> bool:
    """Return whether a natural key is of a structure that came with a label."""
    return key.split("/")[2:3] == ["data"]


def generation_id(campaign: str, generation: int) -> str:
    """Return the natural key of what exists once per generation (selection, potential, metrics)."""
    return f"{campaign}/g{generation:03d}"


def label_id(structure_hash: str, settings_hash: str) -> str:
    """Return the key under which a label is shared by all campaigns of the database."""
    return f"{structure_hash}-{settings_hash}"


def own_label_id(key: str, campaign: str) -> str:
    """Return the key of what one campaign alone has to say about a label."""
    return f"{key}/{campaign}"


class _Document(BaseModel):
    """A strict document; `id` is stored as ``_id``."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, populate_by_name=True, arbitrary_types_allowed=True
    )

    id: str = Field(alias="_id")

    def to_bson(self) -> dict[str, Any]:
        """Return the document as pymongo wants it."""
        return self.model_dump(by_alias=True)


class CampaignDocument(_Document):
    """One campaign: its file, what was made of it, and where it stands."""

    #: the campaign file as it was given
    file: str
    #: the resolved settings, all defaults filled in
    settings: dict[str, Any]
    #: of what decides numbers: the same name with another one is refused
    digest: str
    #: what follows from the settings, for those who read results only: hash of the settings of each kind of label
    #: (`launchpad.database.campaigns.levels_of`), composition groups that the file allows
    levels: dict[str, str] = {}
    compositions: list[str] = []
    state: CampaignState = CampaignState.SUBMITTED
    #: why it is in this state, for people
    reason: str = ""
    #: the newest one that work has begun on
    generation: int = 0
    created: datetime = Field(default_factory=now)
    updated: datetime = Field(default_factory=now)
    #: of gapfactory and the libraries at submission
    versions: dict[str, str] = {}


class StructureDocument(_Document):
    """A structure that is kept as such: cells, selected frames, distorted crystals, isolated atoms, dimers.

    And of vibrations: ``parent``, a crystal as the reference relaxed it; ``displaced``, its frames; ``evidence``, cells
    that tell phonons and elastic constants; ``diagonal``, diagonal supercells with one displaced atom. ``data`` came
    with labels.
    """

    campaign: str
    generation: int = Field(ge=0)
    #: what kind of structure it is
    stage: Literal[
        "cell",
        "frame",
        "distorted",
        "isolated",
        "dimer",
        "parent",
        "displaced",
        "evidence",
        "diagonal",
        "data",
    ]
    index: int = Field(ge=0)
    #: formula that structures of one composition group share
    composition: str
    #: of species, cell and positions: `gapfactory.structures.structure_hash`
    hash: str
    #: numbers, positions, cell and periodicity, packed
    atoms: dict[str, Any]
    #: where it comes from: relaxation and frame, crystal, space group, ...
    info: dict[str, Any] = {}


class RelaxationDocument(_Document):
    """One relaxation with its thinned trajectory in one document (T frames of N atoms)."""

    campaign: str
    generation: int = Field(ge=0)
    index: int = Field(ge=0)
    composition: str
    status: Literal["converged", "unconverged", "failed"]
    #: why it stopped
    reason: str = ""
    pressure_gpa: float
    #: steps taken, and frames kept of them
    n_steps: int
    n_frames: int
    #: atomic numbers (N,)
    numbers: dict[str, Any]
    #: optimiser or time step of each frame (T,)
    steps: dict[str, Any]
    #: (T, N, 3) Å, not wrapped
    positions: dict[str, Any]
    #: (T, 3, 3) Å
    cells: dict[str, Any]
    #: (T,) eV of the cell
    energies: dict[str, Any]
    #: (T,) energy + p V, eV
    enthalpies: dict[str, Any]
    #: (T,) largest force on an atom, eV/Å
    max_forces: dict[str, Any]
    #: of the last frame, for queries and histograms without unpacking (eV/atom, Å^3/atom)
    final_energy_per_atom: float | None = None
    final_volume_per_atom: float | None = None
    #: ended by the uncertainty of the potential: its last frame is offered for labelling
    left_known_space: bool = False
    #: of the potential where it ended, where that was asked for (spread of the networks: eV/atom)
    uncertainty: float | None = None
    #: of a hot search: `gapfactory.search.anneal.AnnealFacts`
    anneal: dict[str, Any] | None = None
    #: the structure that it began with; empty: the random cell of its number
    start: str = ""
    #: calls of the potential, those of an anneal included; 0: not counted by earlier versions
    n_evaluations: int = 0
    seconds: float = 0.0


class AnnealDocument(_Document):
    """Where an anneal stands, so that any worker can go on with it; removed when its relaxation is stored."""

    campaign: str
    generation: int = Field(ge=0)
    index: int = Field(ge=0)
    #: time steps done
    step: int = Field(ge=0)
    #: the relaxation before it and its state, see `launchpad.database.anneals`
    relaxed: dict[str, Any]
    state: dict[str, Any]
    updated: datetime = Field(default_factory=now)


class SelectionDocument(_Document):
    """What a generation's funnel chose, in order, and how."""

    campaign: str
    generation: int = Field(ge=0)
    #: ids of the structures to be labelled for training, those held out, and those labelled twice for the noise
    train: list[str]
    test: list[str]
    noise: list[str] = []
    #: the steps of the funnel with their counts and histograms
    report: dict[str, Any]
    seconds: float = 0.0


class LabelDocument(_Document):
    """A reference calculation of one structure under one settings hash.

    One that is done is shared by every campaign, under ``{structure hash}-{settings hash}``. What one campaign alone
    has to say about the same key stands beside it, under ``{key}/{campaign}``: its failure, or where its label is
    instead.
    """

    structure_hash: str
    settings_hash: str
    kind: Literal["crystal", "isolated", "dimer"]
    #: a campaign's own: ``failed``; ``altered`` (its label is under `target`, at other settings than asked for);
    #: ``late`` (it failed first; the shared label counts from generation `enters` on)
    status: Literal["done", "failed", "altered", "late"]
    #: why it failed
    reason: str = ""
    #: kind of the last fault, see `gapfactory.reference.faults.Fault`
    fault: str = ""
    attempts: int = 1
    #: one line per failed attempt: remedy and fault
    history: list[str] = []
    #: custodian's own record as JSON text: its keys are not all fit for a database
    custodian: str = ""
    #: ends of the files of a failed calculation, ``{"name", "text"}``
    files: list[dict[str, str]] = []
    #: what people should know of it: ``altered``
    flags: list[str] = []
    #: settings that the recovery changed, with their values
    altered: dict[str, Any] = {}
    target: str = ""
    enters: int = 0
    #: a failed one is tried again by the reference tasks of this generation
    retry_in: int | None = None
    #: the structure that was calculated, packed
    atoms: dict[str, Any]
    #: eV of the cell; forces (N, 3) eV/Å and stress (6,) eV/Å^3 as ASE has it, packed
    energy: float | None = None
    forces: dict[str, Any] | None = None
    stress: dict[str, Any] | None = None
    seconds: float = 0.0
    #: name and version of the code
    engine: str
    version: str = ""
    #: sha256 of the data sets, k-points and the like, by engine
    details: dict[str, Any] = {}
    #: group, label and campaign that it was taken over from, see `launchpad.database.adoption`
    origin: dict[str, str] = {}
    created: datetime = Field(default_factory=now)
    #: that calculated it, or whose own it is
    campaign: str


class CurveDocument(_Document):
    """Energy against volume of one named phase by the reference, shared by every campaign."""

    phase: str
    settings_hash: str
    #: Å^3/atom and eV/atom, ascending in volume
    volumes: list[float]
    energies: list[float]
    #: ``[volume, reason]`` of the points that failed
    failures: list[tuple[float, str]] = []
    seconds: float = 0.0
    #: that computed it
    campaign: str


class NetworkDocument(_Document):
    """A trained network of an EDDP, as the text of a `.ddp` file."""

    campaign: str
    generation: int = Field(ge=0)
    index: int = Field(ge=0)
    #: hash of what it was trained on and how, see `gapfactory.potentials.eddp.training_key`
    key: str
    #: the file
    text: str
    #: `EnergyErrors` on `train`, `validation` and `test`
    errors: dict[str, dict[str, Any]]
    steps: int
    reason: str
    seconds: float = 0.0


class PotentialDocument(_Document):
    """A fitted potential: its files (content-addressed in GridFS) and everything it was made from."""

    campaign: str
    generation: int = Field(ge=0)
    #: of the numbers of the potential
    digest: str
    #: names, sizes and sha256; the content is in `potential_files`
    files: list[dict[str, Any]]
    #: ids of the structures
    trained_on: list[str]
    #: expected errors, scales, training errors, versions and times of the fit
    report: dict[str, Any]
    created: datetime = Field(default_factory=now)


class VibrationDocument(_Document):
    """Phonons and elastic constants of one crystal by one method."""

    campaign: str
    generation: int = Field(ge=0)
    #: name of the crystal
    parent: str
    #: ``reference`` or ``potential``
    method: Literal["reference", "potential"]
    #: of a potential: empty for that of the generation, else the study that fitted it
    variant: str = ""
    #: `gapfactory.analysis.vibrations.Vibrations`, or None
    data: dict[str, Any] | None
    #: why there is none
    reason: str = ""
    #: against the reference: `VibrationComparison.summary`
    comparison: dict[str, Any] | None = None
    #: what the potential was fitted to: energies, atoms, sparse points, cost of the labels
    fit: dict[str, Any] = {}
    created: datetime = Field(default_factory=now)


class MetricsDocument(_Document):
    """What the assessment of one generation measured, and what it decided."""

    campaign: str
    generation: int = Field(ge=0)
    #: of the campaign's budget, and what came with labels beside them
    labels: int
    given: int = 0
    decision: Literal["continue", "stop"]
    #: for people
    reason: str
    #: the next generation where it is not the following one
    go_to: int | None = None
    #: what was measured
    evidence: dict[str, Any]
    created: datetime = Field(default_factory=now)
