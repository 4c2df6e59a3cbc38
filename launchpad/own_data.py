"""Labelled structures that a campaign is given: stored with their labels when it is submitted, and verified."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from gapfactory.errors import InputError, StateError
from gapfactory.protocols.own_data import data_joining, level_of, shares_of
from launchpad.database.campaigns import set_state
from launchpad.database.dataset import data_items, with_labels
from launchpad.database.documents import LabelDocument, StructureDocument, data_id, label_id
from launchpad.database.labels import store_once
from launchpad.database.packing import pack_array, pack_atoms
from launchpad.database.results import save_structures
from launchpad.states import CampaignState

if TYPE_CHECKING:
    from pathlib import Path

    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from gapfactory.io.extxyz import LabelledFrame
    from launchpad.database.dataset import LabelledItem

__all__ = ["chosen_data", "data_in_words", "require_verified", "take_over_data"]

#: Name of the engine of labels that came from a file.
ENGINE: Final = "own data"


def take_over_data(database: Database[Any], campaign: Campaign, directory: Path | None) -> None:
    """Store the structures and labels of the files that a campaign is given; what is stored stays as it is.

    Parameters
    ----------
    database
        With durable writes.
    campaign
        The campaign.
    directory
        Where the campaign file is.

    Raises
    ------
    InputError
        A file is not there or not what it was when the campaign file was read, or has other elements.
    """
    from gapfactory.campaign.own_data import digest_of, files_of, given_frames

    for name, entry in sorted(campaign.data.items()):
        total = entry.structures or 0
        stored = {"campaign": campaign.name, "generation": entry.joins, "stage": "data", "info.data": name}
        if database.structures.count_documents(stored) == total:
            continue
        if directory is None:
            msg = f"data.{name}.file is {entry.file!r}: files are found beside a campaign file; submit that"
            raise InputError(msg)
        paths = files_of(directory, entry.file)
        if not all(path.is_file() for path in paths) or digest_of(paths) != entry.sha256:
            msg = f"data.{name}.file: {entry.file} is not what it was when the campaign file was read: submit it again"
            raise InputError(msg)
        frames = given_frames(paths, entry.prefix)
        symbols = {symbol for frame in frames for symbol in frame.atoms.get_chemical_symbols()}
        unknown = sorted(symbols - set(campaign.species_table))
        if unknown:
            msg = f"data.{name} has {', '.join(unknown)}, which the campaign does not: take these structures out"
            raise InputError(msg)
        _store(database, campaign, name, frames)


def _store(database: Database[Any], campaign: Campaign, name: str, frames: list[LabelledFrame]) -> None:
    """Store labels, then structures: one that is found has its label."""
    from gapfactory.files.training import boxed
    from gapfactory.structures import composition_of, structure_hash

    entry = campaign.data[name]
    level = level_of(entry)
    structures = []
    for k, frame in enumerate(frames):
        atoms = frame.atoms if frame.atoms.pbc.all() else boxed(frame.atoms, campaign.potential_cutoff)
        hashed = structure_hash(atoms)
        document = LabelDocument(
            id=label_id(hashed, level),
            structure_hash=hashed,
            settings_hash=level,
            kind="crystal",
            status="done",
            atoms=pack_atoms(atoms),
            energy=frame.energy,
            forces=None if frame.forces is None else pack_array(frame.forces),
            stress=None if frame.stress is None else pack_array(frame.stress),
            engine=ENGINE,
            details={"file": entry.file, "sha256": entry.sha256, "structure": frame.id},
            campaign=campaign.name,
        )
        store_once(database, document.to_bson())
        structures.append(
            StructureDocument(
                id=data_id(campaign.name, entry.joins, name, k),
                campaign=campaign.name,
                generation=entry.joins,
                stage="data",
                index=k,
                composition=composition_of(atoms),
                hash=hashed,
                atoms=pack_atoms(atoms),
                info={"data": name, "frame": frame.id, "levels": {"crystal": level}},
            )
        )
    save_structures(database, structures)


def chosen_data(campaign: Campaign, generation: int) -> tuple[list[str], list[str]]:
    """Return the ids of what came with labels and joins in a generation: for training, and held out."""
    train: list[str] = []
    test: list[str] = []
    for name in data_joining(campaign, generation):
        for ids, numbers in zip((train, test), shares_of(campaign, name), strict=True):
            ids += [data_id(campaign.name, generation, name, k) for k in numbers]
    return train, test


@dataclass(frozen=True)
class _Verified:
    """How labels that were given differ from those of the reference: the largest differences of so many structures."""

    wanted: int
    compared: int
    energy: float
    at: str
    force: float
    why: str


def _verified(database: Database[Any], campaign: Campaign, generation: int) -> dict[str, _Verified]:
    """Return by name what was found of the data that join in a generation, if some are labelled again."""
    items = data_items(database, campaign, generation)
    ours = with_labels(database, campaign, items)
    given = with_labels(database, campaign, [replace(item, role="train") for item in items])
    found = {}
    for name in data_joining(campaign, generation):
        pairs = [(a, b) for a, b in zip(given, ours, strict=True) if a.item.given == name]
        if pairs:
            found[name] = _differences(pairs)
    return found


def _differences(pairs: list[tuple[LabelledItem, LabelledItem]]) -> _Verified:
    compared = []
    for given, ours in pairs:
        one, other = given.label, ours.label
        if one is None or other is None or one.forces is None or other.forces is None:
            continue
        energy = abs(one.energy - other.energy) / len(given.item.atoms)
        force = float(np.sqrt(np.mean((one.forces - other.forces) ** 2)))
        compared.append((energy, force, str(given.item.info["frame"])))
    energy, at = max(((energy, frame) for energy, _, frame in compared), default=(0.0, ""))
    return _Verified(
        wanted=len(pairs),
        compared=len(compared),
        energy=energy,
        at=at,
        force=max((force for _, force, _ in compared), default=0.0),
        why=next((e.label.reason for _, e in pairs if e.label is not None and e.label.reason), "no label"),
    )


def require_verified(database: Database[Any], campaign: Campaign, generation: int) -> None:
    """Halt the campaign where labels that it is given are not those of its own reference.

    Raises
    ------
    StateError
        As said, or none of the structures could be labelled.
    """
    for name, found in _verified(database, campaign, generation).items():
        reason = _refusal(campaign, name, found)
        if reason:
            set_state(database, campaign.name, CampaignState.HALTED, reason)
            raise StateError(reason)


def _refusal(campaign: Campaign, name: str, found: _Verified) -> str:
    """Return why the labels of a file cannot be trained on; empty where they can."""
    entry = campaign.data[name]
    where = f"data {name!r} ({entry.file})"
    again = f"submit the file again, then 'gapfactory campaign resume {campaign.name} --run'"
    if not found.compared:
        return (
            f"{where} could not be verified: none of {found.wanted} structures could be labelled by the reference. "
            f"Mend the cause, then 'gapfactory campaign retry {campaign.name} --run'; or set data.{name}.verify to 0, "
            f"{again}. First reason: {found.why}"
        )
    if found.energy <= entry.energy_tolerance and found.force <= entry.force_tolerance:
        return ""
    return (
        f"{where} has other labels than the reference of this campaign gives: energies differ by up to "
        f"{found.energy:.3g} eV/atom (structure {found.at}; {entry.energy_tolerance:g} allowed), forces by up to "
        f"{found.force:.3g} eV/Å ({entry.force_tolerance:g} allowed), in {found.compared} structures that were "
        "labelled again. Labels of two methods are never fitted together: give the campaign the reference that the "
        "data were made with, or leave them out (either is a campaign of another name). Where such differences are "
        f"meant, raise data.{name}.energy_tolerance or force_tolerance, {again}."
    )


def data_in_words(database: Database[Any], campaign: Campaign) -> tuple[str, ...]:
    """Return a sentence on each file that a campaign was given: how much there is, and how it was verified."""
    found = []
    for name, entry in sorted(campaign.data.items()):
        held_out = len(shares_of(campaign, name)[1])
        text = (
            f"{entry.structures} came with the campaign as {name} ({entry.file}), {held_out} of them held out"
        )
        verified = _verified(database, campaign, entry.joins).get(name)
        if verified is not None and verified.compared:
            text += (
                f"; {verified.compared} were labelled again: at most {1000 * verified.energy:.2g} meV/atom and "
                f"{verified.force:.2g} eV/Å apart"
            )
        found.append(f"{text}.")
    return tuple(found)
