"""Structures that could not be labelled: which, why, what was tried, what to do, and another try."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gapfactory.errors import InputError, NotFoundError
from gapfactory.protocols.planner import recipe_of
from launchpad.database.connection import durable
from launchpad.database.dataset import all_items, label_key, pick_items, with_labels
from launchpad.database.documents import generation_id
from launchpad.database.labels import ask_again

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from launchpad.database.dataset import Item, LabelledItem
    from launchpad.queue import Queue

__all__ = [
    "RemedyUse",
    "choose",
    "energy_outliers_of",
    "fault_advice",
    "quarantined",
    "remedies_used",
    "try_again",
    "undecided_tasks",
]


_LOOK = "look at the kept files (--files)"


def _advice() -> dict[str, str]:
    from gapfactory.reference.faults import Fault

    harder = f"{_LOOK}; raise reference.max_attempts, or leave it out"
    machine = "mend the machine or use another one, then 'campaign retry'"
    return {
        Fault.SCF.name: f"random cells do this: {_LOOK}; raise reference.max_iterations or "
        "max_attempts, or let the recovery widen the smearing (reference.allow_energy_changes)",
        Fault.DIAGONALISER.name: harder,
        Fault.NAN.name: harder,
        Fault.SYMMETRY.name: harder,
        Fault.GRID.name: harder,
        Fault.MEMORY.name: "run it with more memory: fewer workers or more processes per label (site file), or "
        "another machine; then 'campaign retry'",
        Fault.TIME.name: "raise reference.time_limit_s in the campaign file and submit it again, or use more "
        "processes per label (site file); then 'campaign retry'",
        Fault.WALLTIME.name: "run workers in a longer allocation, with scratch in the site file so that it goes "
        "on from its checkpoint; then 'campaign retry'",
        Fault.FROZEN.name: f"{_LOOK}; if it was only slow, raise frozen_after_s in the site file",
        Fault.CRASH.name: f"{_LOOK}; the same crash twice is a defect of the code or its "
        "installation for this cell",
        Fault.LICENCE.name: machine,
        Fault.SCRATCH.name: machine,
        Fault.DISK.name: machine,
        Fault.NODE.name: machine,
        Fault.OVERLAP.name: "nothing to mend: its atoms are too close for the data sets; if this happens often, "
        "raise the smallest separations in build",
        Fault.UNSOUND.name: harder,
        Fault.INPUT.name: f"the code refused its input: {_LOOK} and correct the reference "
        "settings or the site file",
        Fault.UNKNOWN.name: _LOOK,
    }


def fault_advice(fault: str, *, kept: bool = True) -> str:
    """Return what a person can do about a kind of fault, given by its short name.

    Parameters
    ----------
    fault
        Its short name.
    kept
        Whether files of the calculation were kept to look at.
    """
    text = _advice().get(fault.upper(), _LOOK)
    return text if kept else text.replace(_LOOK, "calculate it by hand (no files were kept)")


def quarantined(
    entries: Sequence[LabelledItem], *, files: bool = False, labels: Collection[str] = ()
) -> list[dict[str, Any]]:
    """Return those of these structures that could not be labelled as plain data.

    Parameters
    ----------
    entries
        Of one campaign.
    files
        With the ends of the files that were kept.
    labels
        Only these structures; all by default.
    """
    found = []
    for entry in entries:
        label = entry.label
        if label is None or label.status != "failed" or (labels and entry.item.id not in labels):
            continue
        row: dict[str, Any] = {
            "id": entry.item.id,
            "role": entry.item.role,
            "generation": entry.item.generation,
            "formula": entry.item.atoms.get_chemical_formula(),
            "fault": label.fault,
            "reason": label.reason,
            "attempts": label.attempts,
            "history": list(label.history),
            "engine": label.engine,
            "advice": fault_advice(label.fault, kept=bool(label.files)),
            "tried_again_in_generation": label.retry_in,
            "kept_files": [file["name"] for file in label.files],
        }
        if files:
            row["files"] = {file["name"]: file["text"] for file in label.files}
        found.append(row)
    return found


def energy_outliers_of(entries: Sequence[LabelledItem]) -> list[dict[str, Any]]:
    """Return labels whose energy per atom is far from those of the same composition, as plain data.

    They are labels like any other: random cells are violent. People should look at them.
    """
    from gapfactory.reference.checks import energy_outliers
    from gapfactory.structures import composition_of

    groups: dict[str, list[tuple[str, float]]] = {}
    for entry in entries:
        if entry.item.role in {"train", "test"} and entry.label is not None and entry.label.status == "done":
            atoms = entry.item.atoms
            groups.setdefault(composition_of(atoms), []).append(
                (entry.item.id, float(entry.label.energy) / len(atoms))
            )
    found = []
    for composition, rows in sorted(groups.items()):
        energies = sorted(energy for _, energy in rows)
        middle = energies[len(energies) // 2]
        found += [
            {
                "id": rows[index][0],
                "composition": composition,
                "energy_eV_per_atom": rows[index][1],
                "median_eV_per_atom": middle,
            }
            for index in energy_outliers([energy for _, energy in rows])
        ]
    return found


@dataclass(frozen=True)
class RemedyUse:
    """How often a remedy was taken, and how often the calculation then ended with a label."""

    name: str
    used: int
    helped: int


def remedies_used(entries: Sequence[LabelledItem]) -> list[RemedyUse]:
    """Return what the recovery did for these structures, the most used first.

    The history has a line ``remedy: fault`` for every failed attempt; a label says which remedy it came with.
    """
    from gapfactory.reference.faults import Fault

    # engines without a ladder write the fault alone
    no_remedy = {str(fault) for fault in Fault} | {"plain"}
    used: Counter[str] = Counter()
    helped: Counter[str] = Counter()
    for entry in entries:
        if entry.label is None:
            continue
        failed = [line.partition(": ")[0] for line in entry.label.history]
        used.update(name for name in failed if name not in no_remedy and not name.startswith("handed back"))
        last = entry.label.details.get("recovery", "")
        if entry.label.status == "done" and last and last not in no_remedy:
            used[last] += 1
            helped[last] += 1
    rows = [RemedyUse(name, number, helped[name]) for name, number in used.items()]
    return sorted(rows, key=lambda row: (-row.used, row.name))


def choose(
    database: Database[Any], campaign: Campaign, *, labels: Collection[str] = (), fault: str | None = None
) -> list[Item]:
    """Return quarantined structures of a campaign.

    Parameters
    ----------
    database, campaign
        Whose.
    labels
        Ids of structures; all by default.
    fault
        Only those that ended with this kind of fault, by its short name.

    Raises
    ------
    NotFoundError
        A structure that was named is not quarantined.
    InputError
        There is no such kind of fault.
    """
    _known_fault(fault)
    entries = [
        (entry.item, entry.label)
        for entry in with_labels(database, campaign, all_items(database, campaign))
        if entry.label is not None and entry.label.status == "failed"
    ]
    missing = sorted(set(labels) - {item.id for item, _ in entries})
    if missing:
        msg = (
            f"{missing[0]!r} is not among the structures that campaign {campaign.name!r} could not label; "
            f"'gapfactory campaign why {campaign.name}' lists them"
        )
        raise NotFoundError(msg)
    return [
        item
        for item, label in entries
        if (not labels or item.id in labels) and (fault is None or label.fault == fault.lower())
    ]


def try_again(queue: Queue, campaign: Campaign, items: Sequence[Item]) -> tuple[int, int]:
    """Have quarantined structures labelled again where a fit will still use them.

    Those of the generation that is not fitted yet belong to it. Those of earlier generations, whose potentials were
    fitted without them, enter the next fit: the reference tasks that this fit waits for label them too, so that the
    result does not depend on how long they take. What a crystal's vibrations are measured by is labelled again as long
    as they are not measured.

    Returns
    -------
    tuple of int
        Structures to be tried again, and tasks that were put back on the queue.
    """
    database, name = durable(queue.db), campaign.name
    measured = [item for item in items if item.role in {"evidence", "diagonal"}]
    fitted = [item for item in items if item not in measured]
    number = rerun = 0
    for target, group in (
        (_next_fit(database, campaign), fitted),
        (_next_measured(database, measured), measured),
    ):
        if target is None:
            continue
        # a stage of a ranking uses its own labels only
        fits = recipe_of(campaign, 0).fits
        mine = [item for item in group if fits or item.generation == target]
        asked = [item for item in mine if ask_again(database, label_key(campaign, item), name, target)]
        number += len(asked)
        for task in _reference_tasks(database, campaign, target, asked):
            queue.rerun_fw(task)
            rerun += 1
    return number, rerun


def _known_fault(fault: str | None) -> None:
    from gapfactory.reference.faults import Fault

    known = [kind.name.lower() for kind in Fault]
    if fault is not None and fault.lower() not in known:
        msg = f"no kind of fault {fault!r}; there are: {', '.join(known)}"
        raise InputError(msg)


def _next_fit(database: Database[Any], campaign: Campaign) -> int | None:
    """Return the generation of the next fit, or ranking, without its labels yet, or None where there will be none."""
    name = campaign.name
    newest = max(
        (s["generation"] for s in database.selections.find({"campaign": name}, {"generation": 1})), default=0
    )
    busy = {
        "spec.campaign": name,
        "spec.generation": newest,
        "spec._category": {"$in": ["train", "fit"]},
        "state": {"$in": ["RUNNING", "RESERVED"]},
    }
    key = generation_id(name, newest)
    # a search fits nothing: its labels are used when its stage is ranked
    recipe = recipe_of(campaign, newest)
    if not recipe.fits:
        return None if database.metrics.find_one({"_id": key}, {"_id": 1}) else newest
    fitted = database.potentials.find_one({"_id": key}, {"_id": 1}) or database.fireworks.find_one(
        busy, {"fw_id": 1}
    )
    if not fitted:
        return newest
    measured = database.metrics.find_one({"_id": key}, {"decision": 1})
    return None if measured is not None and measured["decision"] == "stop" else newest + 1


def _next_measured(database: Database[Any], items: Sequence[Item]) -> int | None:
    """Return the generation that is measured by these structures, or None once it is assessed."""
    for item in items:
        key = generation_id(item.id.split("/", 1)[0], item.generation)
        if database.metrics.find_one({"_id": key}, {"_id": 1}) is None:
            return item.generation
    return None


def _reference_tasks(
    database: Database[Any], campaign: Campaign, generation: int, items: Sequence[Item]
) -> list[int]:
    """Return the completed tasks of a generation that label these structures."""
    if not items:
        return []
    chosen = {i.id for i in items if i.generation == generation and i.role in {"train", "test"}}
    # isolated atoms and dimers are there before anything is chosen
    here = [i for i in pick_items(database, campaign, generation) if not i.given] if chosen else []
    picks = {k for k, item in enumerate(here) if item.id in chosen}
    if any(item.generation < generation for item in items):
        picks.add(0)  # the first task of the picks takes those of earlier generations along
    others = {
        {"noise": "noise", "evidence": "vibrations", "diagonal": "diagonal", "verify": "data"}.get(
            i.role, "atoms"
        )
        for i in items
        if i.generation == generation and i.role not in {"train", "test"}
    }
    found = []
    for task in database.fireworks.find(
        {
            "spec.campaign": campaign.name,
            "spec.generation": generation,
            "spec._category": "reference",
            "state": "COMPLETED",
        },
        {"fw_id": 1, "spec._tasks": 1},
    ).sort("fw_id", 1):
        (work,) = task["spec"]["_tasks"]
        if work["what"] == "picks":
            affected = any(work["start"] <= k < work["stop"] for k in picks)
        else:
            affected = work["what"] in others
        if affected:
            found.append(int(task["fw_id"]))
    return found


def undecided_tasks(database: Database[Any], campaign: Campaign) -> list[int]:
    """Return the completed reference tasks of the unfitted generation whose structures have no outcome at all.

    There are none, unless labels were removed from the database: `resume` runs them again.
    """
    target = _next_fit(database, campaign)
    if target is None:
        return []
    entries = with_labels(database, campaign, all_items(database, campaign))
    items = [e.item for e in entries if e.label is None and e.item.generation == target]
    return _reference_tasks(database, campaign, target, items)
