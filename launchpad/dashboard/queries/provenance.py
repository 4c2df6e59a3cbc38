"""Which task made each step of a structure's history."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from launchpad.database.documents import generation_id, is_data_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pymongo.database import Database

__all__ = ["labelling_tasks", "place_of", "step_tasks"]


def place_of(key: str) -> tuple[int, str, int] | None:
    """Return generation, stage and number that the id of a cell or relaxation says; None where it says none."""
    parts = key.split("/")
    if len(parts) < 4 or not (parts[1][:1] == "g" and parts[1][1:].isdecimal() and parts[3].isdecimal()):
        return None
    return int(parts[1][1:]), parts[2], int(parts[3])


def labelling_tasks(database: Database[Any], campaign: str, late: Mapping[str, int]) -> dict[str, int]:
    """Return the task that labels each structure, where it is known.

    Parameters
    ----------
    late
        Ids of the structures; for each the generation whose task labelled it if that is a later one, else 0.
    """
    by_generation: dict[int, list[str]] = {}
    for key, entered in late.items():
        if is_data_id(key):
            continue
        by_generation.setdefault(entered or _generation(key), []).append(key)
    found: dict[str, int] = {}
    for generation, keys in by_generation.items():
        chosen = database.selections.find_one(
            {"_id": generation_id(campaign, generation)}, {"train": 1, "test": 1}
        )
        order = [*chosen["train"], *chosen["test"]] if chosen else []
        order = [key for key in order if not is_data_id(key)]
        place = {key: number for number, key in enumerate(order)}
        tasks = _works(database, campaign, generation, "reference")
        for key in keys:
            # what is tried once more goes with the first picks of the later generation
            number = place.get(key, 0 if late[key] else None)
            for fw_id, work in tasks:
                if _labels(work, number):
                    found[key] = fw_id
    return found


def _generation(key: str) -> int:
    """Return the generation whose tasks label a structure; isolated atoms and dimers are labelled in the first."""
    part = key.split("/")[1:2]
    if part and part[0][:1] == "g" and part[0][1:].isdecimal():
        return int(part[0][1:])
    return 0


def _labels(work: Mapping[str, Any], number: int | None) -> bool:
    if number is None:
        return work.get("what") == "atoms"
    return work.get("what") == "picks" and _covers(work, number)


def _covers(work: Mapping[str, Any], number: int) -> bool:
    """Return whether a task has a structure in its range; tasks that others put on the queue have none."""
    start, stop = work.get("start"), work.get("stop")
    return isinstance(start, int) and isinstance(stop, int) and start <= number < stop


def _works(
    database: Database[Any], campaign: str, generation: int, *kinds: str
) -> list[tuple[int, dict[str, Any]]]:
    """Return number and parameters of the tasks of some kinds in a generation, the newest last."""
    rows = database.fireworks.find(
        {
            "spec.campaign": campaign,
            "spec.generation": generation,
            "spec._category": {"$in": list(kinds)},
        },
        {"fw_id": 1, "spec._tasks": 1, "spec._category": 1},
    )
    return sorted(
        (
            (int(row["fw_id"]), {**row["spec"]["_tasks"][0], "kind": row["spec"]["_category"]})
            for row in rows
            if row["spec"].get("_tasks")
        ),
        key=lambda pair: pair[0],
    )


def step_tasks(
    database: Database[Any],
    campaign: str,
    *,
    made: Iterable[str] = (),
    chosen: str | None = None,
    entered: int = 0,
    fitted: int | None = None,
) -> dict[str, int]:
    """Return the tasks behind a structure by step, where they are known: build, relax, select, reference, fit.

    Parameters
    ----------
    made
        Ids of the random cell and of the relaxation.
    chosen
        Id of the structure, if it was chosen for a label or is always labelled.
    entered
        As in `labelling_tasks`.
    fitted
        The first generation that was fitted to it.
    """
    found: dict[str, int] = {}
    for key in made:
        place = place_of(key)
        if place is None:
            continue
        generation, stage, number = place
        kind = "relax" if stage == "relaxation" else "build"
        for fw_id, work in _works(database, campaign, generation, kind):
            if _covers(work, number):
                found[kind] = fw_id
    if chosen is not None:
        task = labelling_tasks(database, campaign, {chosen: entered}).get(chosen)
        if task is not None:
            found["reference"] = task
        chosen_at = place_of(chosen)
        if chosen_at is not None:
            for fw_id, _ in _works(database, campaign, chosen_at[0], "select"):
                found["select"] = fw_id
    if fitted is not None:
        for fw_id, _ in _works(database, campaign, fitted, "fit"):
            found["fit"] = fw_id
    return found
