"""Where a structure comes from and what became of it: cell, relaxation, selection, label, fit."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import NotFoundError

if TYPE_CHECKING:
    from pymongo.database import Database

__all__ = ["Step", "path_of"]

_RELAXATION: Final = re.compile(r"(?P<relaxation>.+/relaxation/\d{6,})(?:/frame/(?P<frame>\d+))?")


@dataclass(frozen=True)
class Step:
    """One step of the path.

    Attributes
    ----------
    kind
        ``cell``, ``relaxation``, ``frame``, ``isolated``, ``dimer``, ``selection``, ``label``, ``fit``.
    id
        Of the document.
    text
        What happened, in words.
    facts
        Numbers by name, with units.
    structure
        Id of the structure that the step made, None where it made none.
    """

    kind: str
    id: str
    text: str
    facts: dict[str, Any]
    structure: str | None = None


def path_of(database: Database[Any], id_: str) -> list[Step]:
    """Return the path of a structure or relaxation from its cell to the fits that it was used in.

    Raises
    ------
    NotFoundError
        It is not in the database.
    """
    match = _RELAXATION.fullmatch(id_)
    steps: list[Step] = []
    if match is not None:
        steps += _relaxed(database, match["relaxation"])
    structure = database.structures.find_one({"_id": id_}, {"atoms": 0})
    if structure is None:
        if steps:
            return steps
        raise NotFoundError(f"there is no structure {id_!r} in this group")
    steps.append(_structure(structure, bool(steps)))
    steps += _selected(database, structure)
    steps += _labels(database, structure)
    steps += _fits(database, structure)
    return steps


def _relaxed(database: Database[Any], id_: str) -> list[Step]:
    relaxation = database.relaxations.find_one(
        {"_id": id_},
        {
            "positions": 0,
            "cells": 0,
            "energies": 0,
            "enthalpies": 0,
            "max_forces": 0,
            "numbers": 0,
            "steps": 0,
        },
    )
    if relaxation is None:
        return []
    steps = []
    cell = database.structures.find_one(
        {
            "campaign": relaxation["campaign"],
            "generation": relaxation["generation"],
            "stage": "cell",
            "index": relaxation["index"],
        },
        {"atoms": 0},
    )
    if cell is not None:
        steps.append(_structure(cell, False))
    facts = {
        "status": relaxation["status"],
        "pressure (GPa)": relaxation["pressure_gpa"],
        "steps": relaxation["n_steps"],
        "frames kept": relaxation["n_frames"],
        "final energy (eV/atom)": relaxation["final_energy_per_atom"],
        "final volume (Å³/atom)": relaxation["final_volume_per_atom"],
        "time (s)": relaxation["seconds"],
    }
    before = relaxation["generation"] - 1
    text = f"Relaxed by the potential of generation {before}. {relaxation['reason']}".strip()
    steps.append(Step("relaxation", id_, text, facts))
    return steps


def _structure(structure: dict[str, Any], after: bool) -> Step:
    info = structure.get("info") or {}
    words = {
        "cell": f"Random cell {structure['index']} of generation {structure['generation']}.",
        "frame": f"Frame {info.get('frame', structure['index'])} of the trajectory.",
        "isolated": "Isolated atom.",
        "dimer": "Dimer.",
    }
    facts = {"composition": structure["composition"], "content hash": structure["hash"][:16]}
    if not after:
        facts |= {key: value for key, value in info.items() if isinstance(value, str | int | float)}
    return Step(structure["stage"], structure["_id"], words[structure["stage"]], facts, structure["_id"])


def _selected(database: Database[Any], structure: dict[str, Any]) -> list[Step]:
    steps = []
    for selection in database.selections.find(
        {"campaign": structure["campaign"]}, {"generation": 1, "train": 1, "test": 1, "noise": 1}
    ).sort("generation", 1):
        for role, words in (
            ("train", "to be trained on"),
            ("test", "to be held out"),
            ("noise", "to measure the noise of labels"),
        ):
            if structure["_id"] in selection[role]:
                steps.append(
                    Step(
                        "selection",
                        selection["_id"],
                        f"Chosen in generation {selection['generation']} {words}.",
                        _pick(database, selection["_id"], structure["_id"]),
                    )
                )
    return steps


def _pick(database: Database[Any], selection: str, id_: str) -> dict[str, Any]:
    found = database.selections.find_one({"_id": selection}, {"report.picks": 1})
    for pick in ((found or {}).get("report") or {}).get("picks", ()):
        if pick["id"] == id_:
            return {
                "order of choice": pick["order"],
                "leverage": pick["leverage"],
                "enthalpy by the potential (eV/atom)": pick["energy_eV"],
            }
    return {}


def _labels(database: Database[Any], structure: dict[str, Any]) -> list[Step]:
    steps = []
    for label in database.labels.find(
        {"structure_hash": structure["hash"]},
        {
            "status": 1,
            "reason": 1,
            "fault": 1,
            "energy": 1,
            "atoms.numbers.s": 1,
            "engine": 1,
            "version": 1,
            "seconds": 1,
            "attempts": 1,
            "campaign": 1,
            "settings_hash": 1,
        },
    ).sort("_id", 1):
        n_atoms = label["atoms"]["numbers"]["s"][0]
        facts = {
            "energy (eV/atom)": None if label["energy"] is None else label["energy"] / n_atoms,
            "engine": label["engine"],
            "version": label["version"],
            "time (s)": label["seconds"],
            "attempts": label["attempts"],
            "settings hash": label["settings_hash"][:16],
            "made by": label["campaign"],
        }
        text = {
            "done": "Labelled.",
            "failed": f"Could not be labelled ({label['fault'] or 'no kind given'}): {label['reason']}",
            "altered": "Labelled at altered settings.",
            "late": "Labelled late, after an earlier fit had gone on without it.",
        }[label["status"]]
        steps.append(Step("label", label["_id"], text, facts))
    return steps


def _fits(database: Database[Any], structure: dict[str, Any]) -> list[Step]:
    steps = []
    for potential in database.potentials.find(
        {"campaign": structure["campaign"], "trained_on": structure["_id"]}, {"generation": 1, "digest": 1}
    ).sort("generation", 1):
        report = _fit_report(database, potential["_id"], structure["_id"])
        steps.append(
            Step(
                "fit",
                potential["_id"],
                f"In the training set of the potential of generation {potential['generation']}.",
                report | {"potential": potential["digest"][:16]},
            )
        )
    return steps


def _fit_report(database: Database[Any], potential: str, id_: str) -> dict[str, Any]:
    found = database.potentials.find_one({"_id": potential}, {"report.sigmas": 1, "report.residuals": 1})
    report = (found or {}).get("report") or {}
    facts: dict[str, Any] = {}
    sigma = report.get("sigmas", {}).get(id_)
    if sigma is not None:
        facts["sigma of the energy (eV)"] = sigma["energy"]
        facts["above the hull (eV/atom)"] = sigma["above_hull"]
    residual = report.get("residuals", {}).get(id_)
    if residual is not None:
        facts["energy error (eV/atom)"], facts["force error (eV/Å)"] = residual
    return facts
