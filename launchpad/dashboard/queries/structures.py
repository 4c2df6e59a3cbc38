"""Everything that is known of one structure: how it was made, relaxed, chosen, labelled and used."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import NotFoundError
from launchpad.dashboard.queries.crystal import Crystal
from launchpad.dashboard.queries.provenance import place_of, step_tasks
from launchpad.database.campaigns import levels_of
from launchpad.database.documents import generation_id, label_id, structure_id
from launchpad.database.labels import labels_of
from launchpad.database.packing import unpack_array

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.database import Database

    from launchpad.database.labels import StoredLabel

__all__ = [
    "MOST_FRAMES",
    "Known",
    "Step",
    "Subject",
    "find",
    "frames_of",
    "know",
    "label_of",
    "newest_generation",
]

#: Frames of a trajectory that a browser is sent; a longer one is thinned evenly.
MOST_FRAMES: Final = 200
#: Other structures that a page names.
_MOST_OTHERS: Final = 50
#: Fields of a relaxation that are numbers of a page, without its arrays of positions.
_SUMMARY: Final = (
    "campaign", "generation", "index", "composition", "status", "reason", "pressure_gpa", "n_steps", "n_frames",
    "final_energy_per_atom", "final_volume_per_atom", "left_known_space", "seconds",
)  # fmt: skip


@dataclass(frozen=True)
class Subject:
    """One structure as it is stored.

    Attributes
    ----------
    id
        Natural key: of a stored structure, of a relaxation (its last frame is meant), or of a frame of one.
    campaign, generation, composition
        Where it belongs.
    kind
        ``cell``, ``isolated``, ``dimer``, ``relaxation`` or ``frame``.
    crystal
        The structure.
    hash
        Its content hash.
    info
        How it was made, of a cell.
    stored
        Whether it is kept as such; other frames are part of their trajectory only.
    relaxation
        Id of the relaxation that it comes from, or that it is.
    frame
        Which frame of it.
    """

    id: str
    campaign: str
    generation: int
    composition: str
    kind: str
    crystal: Crystal
    hash: str
    info: dict[str, Any]
    stored: bool
    relaxation: str | None = None
    frame: int | None = None


@dataclass(frozen=True)
class Step:
    """One step of a structure's history.

    Attributes
    ----------
    name
        What happened.
    text
        In a few words.
    target
        Id of the structure that it leads to, None where that is the structure of the page.
    anchor
        Part of the page that says more.
    task
        The task that did it, where it is known.
    """

    name: str
    text: str
    target: str | None = None
    anchor: str | None = None
    task: int | None = None


@dataclass(frozen=True)
class Known:
    """What a page shows.

    Attributes
    ----------
    subject
        The structure.
    path
        Cell, relaxation, selection, label, fits: in the order in which they happened.
    relaxation
        Summary of the relaxation that it comes from or that began with it, without arrays.
    selection
        ``purpose``, ``order``, ``leverage``, ``energy_eV``, ``group``, ``noise``; None if it was not chosen.
    label
        As its campaign sees it.
    noise_label
        The second one, at a higher k-point density.
    fits
        ``{"_id", "generation"}`` of the potentials that were fitted to it.
    same
        Ids of structures with the same content.
    others
        Labels of the same content at other levels of theory, each with ``engine``, ``campaign``, ``status`` and
        ``energy``.
    tasks
        The task behind each step, by kind of task.
    frames
        Stored frames of its relaxation.
    """

    subject: Subject
    path: tuple[Step, ...]
    relaxation: dict[str, Any] | None = None
    selection: dict[str, Any] | None = None
    label: StoredLabel | None = None
    noise_label: StoredLabel | None = None
    fits: tuple[dict[str, Any], ...] = ()
    same: tuple[str, ...] = ()
    frames: tuple[str, ...] = field(default=())
    others: tuple[dict[str, Any], ...] = ()
    tasks: Mapping[str, int] = field(default_factory=dict)


def find(database: Database[Any], key: str) -> Subject:
    """Return a structure by its key.

    Raises
    ------
    NotFoundError
        There is none.
    """
    stored = database.structures.find_one({"_id": key})
    if stored is not None:
        return _stored(stored)
    parent, _, number = key.partition("/frame/")
    record = database.relaxations.find_one({"_id": parent})
    if record is None or (number and not number.isdecimal()):
        raise NotFoundError(f"no structure {key[:120]!r} in this database")
    if not record["n_frames"] or not record.get("positions"):
        # it failed before its first step, or a policy removed its frames: what is left is where it began
        cell = database.structures.find_one({"_id": parent.replace("/relaxation/", "/cell/")})
        if cell is None:
            raise NotFoundError(
                f"relaxation {parent[:120]!r} has no frames in this database, nor its random cell"
            )
        return replace(_stored(cell), id=parent, kind="relaxation", info={}, stored=False, relaxation=parent)
    frame = int(number) if number else record["n_frames"] - 1
    if not 0 <= frame < record["n_frames"]:
        raise NotFoundError(f"relaxation {parent!r} has {record['n_frames']} frames, no frame {number[:20]}")
    crystal = Crystal.frame(record, frame)
    return Subject(
        key,
        record["campaign"],
        record["generation"],
        record["composition"],
        "frame" if number else "relaxation",
        crystal,
        crystal.hash,
        {},
        False,
        parent,
        frame,
    )


def _stored(document: dict[str, Any]) -> Subject:
    info = document.get("info") or {}
    return Subject(
        document["_id"],
        document["campaign"],
        document["generation"],
        document["composition"],
        document["stage"],
        Crystal.of(document["atoms"]),
        document["hash"],
        info,
        True,
        info.get("relaxation"),
        info.get("frame"),
    )


def frames_of(database: Database[Any], subject: Subject, *, most: int = MOST_FRAMES) -> dict[str, Any]:
    """Return what a viewer draws: the structure, and of a relaxation its frames.

    Parameters
    ----------
    most
        Frames; the first, the last and the one that is asked for are always among them.

    Returns
    -------
    dict
        ``id``, ``symbols``, ``radii`` (covalent, Å), ``periodic``, ``relaxation`` (its id, of one), ``frames`` with
        ``number``, ``step``, ``positions`` (Å), ``cell`` (Å), ``energy`` and ``enthalpy`` (eV/atom), ``force`` (eV/Å)
        where they are stored, ``start``: the frame to show first, and ``left_out``: how many frames were.
    """
    import numpy as np

    crystal = subject.crystal
    found: dict[str, Any] = {
        "id": subject.id,
        "symbols": crystal.symbols,
        "radii": crystal.radii,
        "periodic": bool(crystal.pbc.any() and crystal.volume),
        "start": 0,
        "left_out": 0,
        "frames": [
            {
                "number": 0,
                "positions": np.round(crystal.positions, 5).tolist(),
                "cell": np.round(crystal.cell, 5).tolist(),
            }
        ],
    }
    if subject.relaxation is None or subject.frame is None:
        return found
    record = database.relaxations.find_one({"_id": subject.relaxation})
    # a policy may have removed it, or its frames
    if record is None or not record.get("positions"):
        return found
    number = int(record["n_frames"])
    if number == 0 or (subject.stored and Crystal.frame(record, subject.frame).hash != subject.hash):
        return found
    chosen = np.unique(np.round(np.linspace(0, number - 1, min(number, most))).astype(int))
    if subject.frame not in chosen:
        chosen = np.unique(np.append(chosen, subject.frame))
    arrays = {name: unpack_array(record[name]) for name in ("positions", "cells", "steps")}
    per_atom = {name: unpack_array(record[name]) / len(crystal) for name in ("energies", "enthalpies")}
    forces = unpack_array(record["max_forces"])
    found["frames"] = [
        {
            "number": int(k),
            "step": int(arrays["steps"][k]),
            "positions": np.round(arrays["positions"][k], 5).tolist(),
            "cell": np.round(arrays["cells"][k], 5).tolist(),
            "energy": _finite(per_atom["energies"][k]),
            "enthalpy": _finite(per_atom["enthalpies"][k]),
            "force": _finite(forces[k]),
        }
        for k in chosen
    ]
    found["relaxation"] = subject.relaxation
    found["start"] = int(np.flatnonzero(chosen == subject.frame)[0])
    found["left_out"] = number - len(chosen)
    return found


def _finite(value: float) -> float | None:
    """Return a number as JSON has it: it knows no other than finite ones."""
    return round(float(value), 6) if abs(value) < float("inf") else None


def know(database: Database[Any], subject: Subject) -> Known:
    """Collect what is known of a structure; each question is of one document or bounded."""
    relaxation = _relaxation(database, subject)
    selection = _selection(database, subject)
    label, noise = _labels(database, subject)
    fits = tuple(
        database.potentials.find(
            {"campaign": subject.campaign, "trained_on": subject.id}, {"generation": 1, "created": 1}
        ).sort("generation", 1)
    )
    same = [
        d["_id"]
        for d in database.structures.find({"hash": subject.hash}, {"_id": 1}).limit(_MOST_OTHERS)
        if d["_id"] != subject.id
    ]
    frames = []
    if relaxation is not None:
        start = f"{relaxation['_id']}/frame/"
        frames = [
            d["_id"]
            for d in database.structures.find({"_id": {"$gte": start, "$lt": start + "~"}}, {"_id": 1})
            .sort("_id", 1)
            .limit(_MOST_OTHERS)
            if d["_id"] != subject.id
        ]
    cell = _cell(subject)
    there = cell is not None and database.structures.find_one({"_id": cell}, {"_id": 1}) is not None
    labelled = selection is not None or label is not None or subject.kind in {"isolated", "dimer"}
    tasks = step_tasks(
        database,
        subject.campaign,
        made=[key for key in (cell, relaxation["_id"] if relaxation else None) if key],
        chosen=subject.id if labelled else None,
        entered=label.enters if label is not None else 0,
        fitted=fits[0]["generation"] if fits else None,
    )
    others = _other_levels(database, subject)
    known = Known(
        subject, (), relaxation, selection, label, noise, fits, tuple(same), tuple(frames), others, tasks
    )
    return replace(known, path=_path(known, cell, there))


def _cell(subject: Subject) -> str | None:
    """Return the id of the random cell that a structure began as; None where it began otherwise."""
    origin = subject.relaxation or (subject.id if subject.kind == "cell" else None)
    if origin is None or place_of(origin) is None:
        return None
    return origin.replace("/relaxation/", "/cell/")


def _other_levels(database: Database[Any], subject: Subject) -> tuple[dict[str, Any], ...]:
    """Return the labels of the same content at other levels than those of the campaign."""
    record = database.campaigns.find_one(
        {"_id": subject.campaign}, {"levels": 1, "settings": 1, "versions": 1}
    )
    levels = (levels_of(record) if record is not None else {}) | subject.info.get("levels", {})
    own = sorted(set(levels.values()))
    fields = dict.fromkeys(("engine", "version", "kind", "campaign", "status", "energy", "fault"), 1)
    wanted = {
        "structure_hash": subject.hash,
        "settings_hash": {"$nin": own},
        "status": {"$in": ["done", "failed"]},
    }
    return tuple(database.labels.find(wanted, fields).sort("_id", 1).limit(_MOST_OTHERS))


def _relaxation(database: Database[Any], subject: Subject) -> dict[str, Any] | None:
    key = subject.relaxation
    place = place_of(subject.id)
    if subject.kind == "cell" and place is not None:
        key = structure_id(subject.campaign, subject.generation, "relaxation", place[2])
    if key is None:
        return None
    found = database.relaxations.find_one({"_id": key}, dict.fromkeys(_SUMMARY, 1))
    return None if found is None else dict.fromkeys(_SUMMARY) | found


def _selection(database: Database[Any], subject: Subject) -> dict[str, Any] | None:
    """Return how a funnel chose the structure: cells by that of their own generation, frames likewise."""
    chosen = database.selections.find_one(
        {"_id": generation_id(subject.campaign, subject.generation)}, {"report.picks": 1, "noise": 1}
    )
    if chosen is None:
        return None
    for pick in (chosen.get("report") or {}).get("picks", ()):
        if pick["id"] == subject.id:
            return {**pick, "noise": subject.id in chosen.get("noise", ())}
    return None


def _labels(database: Database[Any], subject: Subject) -> tuple[StoredLabel | None, StoredLabel | None]:
    """Return the label as the campaign sees it, and that at a higher k-point density."""
    record = database.campaigns.find_one(
        {"_id": subject.campaign}, {"levels": 1, "settings": 1, "versions": 1}
    )
    if record is None:
        return None, None
    # cells that share the k-points of a crystal have levels of their own
    levels = levels_of(record) | subject.info.get("levels", {})
    kind = subject.kind if subject.kind in {"isolated", "dimer"} else "crystal"
    plain, noise = (label_id(subject.hash, levels[name]) for name in (kind, "noise"))
    found = labels_of(database, [plain, noise], subject.campaign)
    return found.get(plain), found.get(noise) if noise != plain else None


def label_of(database: Database[Any], subject: Subject) -> StoredLabel | None:
    """Return the label of a structure as its campaign sees it."""
    return _labels(database, subject)[0]


def newest_generation(database: Database[Any], campaign: str) -> int:
    """Return in which generation a campaign is.

    Raises
    ------
    NotFoundError
        There is none of this name.
    """
    record = database.campaigns.find_one({"_id": campaign}, {"generation": 1})
    if record is None:
        raise NotFoundError(f"no campaign {campaign[:80]!r} in this database")
    return int(record["generation"])


def _path(known: Known, cell: str | None, there: bool) -> tuple[Step, ...]:
    """Return the history that a reader can follow by clicking."""
    subject, relaxation, tasks = known.subject, known.relaxation, known.tasks
    steps = []
    if subject.id == cell:
        steps.append(Step("Random cell", f"number {_number(cell)}", None, "made", tasks.get("build")))
    elif cell is not None:
        text = f"number {_number(cell)}{'' if there else ', removed since'}"
        steps.append(Step("Random cell", text, cell if there else None, "relaxation", tasks.get("build")))
    else:
        kinds = {"isolated": ("Isolated atom", "for the offsets"), "dimer": ("Dimer", "for the offsets")}
        kinds["distorted"] = ("Distorted crystal", "of a known phase")
        kinds["parent"] = ("Crystal", "relaxed by the reference")
        kinds["displaced"] = ("Displaced cell", "to learn vibrations and elasticity")
        kinds["evidence"] = ("Displaced or strained cell", "to measure by")
        kinds["diagonal"] = ("Diagonal supercell", "with one displaced atom")
        kinds["data"] = ("Given with its label", f"{subject.info.get('data')}, {subject.info.get('frame')}")
        steps.append(Step(*kinds.get(subject.kind, ("Structure", "brought in as it is")), None, "made"))
    if relaxation is not None:
        here = relaxation["_id"] == subject.id
        text = f"{relaxation['status']}, {relaxation['n_steps']} steps"
        target = None if here else relaxation["_id"]
        steps.append(Step("Relaxation", text, target, "relaxation", tasks.get("relax")))
        if subject.kind == "frame":
            steps.append(Step("Frame", f"{subject.frame} of {relaxation['n_frames']}", None, "made"))
        if subject.kind == "distorted":
            steps.append(Step("Shaken copy", f"number {subject.info['number'] + 1} of its end", None, "made"))
    if known.selection is not None:
        text = f"for {known.selection['purpose']}, choice {known.selection['order'] + 1}"
        steps.append(Step("Selection", text, None, "selection", tasks.get("select")))
    if known.label is not None:
        text = known.label.status if known.label.status == "done" else known.label.fault or known.label.status
        steps.append(Step("Label", text, None, "label", tasks.get("reference")))
    if known.fits:
        generations = ", ".join(str(fit["generation"]) for fit in known.fits)
        steps.append(Step("Fits", f"generation {generations}", None, "fits", tasks.get("fit")))
    return tuple(steps)


def _number(key: str) -> int:
    place = place_of(key)
    return place[2] if place is not None else 0
