"""What is taken away from a campaign: its potential, its data in several forms, a card that tells of both."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from launchpad.citations import citations
from launchpad.database.campaigns import campaign_of, require_campaign
from launchpad.database.dataset import atom_items, with_labels
from launchpad.database.potentials import fetch_potential, latest_potential, require_potential
from launchpad.operations.removals import removals_of
from launchpad.reporting import collect_report, labelled_by_generation, that_are_done

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymongo.database import Database

    from gapfactory.campaign import Campaign
    from gapfactory.io.extxyz import LabelledFrame
    from launchpad.database.dataset import LabelledItem

__all__ = ["export_campaign"]

#: What each form is for.
_FOR: Final = {
    "mace": "MACE (`REF_energy`, `REF_forces`, `REF_stress`; free atoms are `IsolatedAtom`)",
    "gap": "gap_fit (`dft_energy`, `dft_forces`, `dft_virial`)",
    "nequip": "NequIP and whatever else reads by ASE (bare names)",
    "ase": "ASE, a database",
    "optimade": "OPTIMADE, a structure in each line; labels are `_gapfactory_...`",
}


def export_campaign(
    database: Database[Any],
    name: str,
    directory: Path,
    generation: int | None = None,
    forms: Sequence[str] = (),
) -> Path:
    """Write the potential, the training and held-out sets, a card and a manifest into a directory.

    Parameters
    ----------
    database, name
        The campaign.
    directory
        Made if missing; what an earlier export left in it is replaced.
    generation
        Whose potential; the newest by default. The training set is the one that it was fitted on, the held-out set
        that of all generations up to it.
    forms
        Forms of `gapfactory.io.conventions` that the sets are written in, too.

    Raises
    ------
    NotFoundError
        There is no such potential.
    InputError
        The directory holds other files, or there is no such form.
    PotentialError
        A file of the potential, or a structure that it was fitted on, is not in the database any more.
    """
    from gapfactory.errors import InputError, NotFoundError, PotentialError
    from gapfactory.io.conventions import DATA_FORMATS
    from gapfactory.report import card

    if unknown := set(forms) - set(DATA_FORMATS):
        msg = f"there is no form {sorted(unknown)[0]!r} of data; there are {', '.join(DATA_FORMATS)}"
        raise InputError(msg)
    record = require_campaign(database, name)
    campaign = campaign_of(record)
    if generation is None:
        potential = latest_potential(database, name)
        if potential is None:
            msg = (
                f"campaign {name!r} has no potential yet; 'gapfactory campaign status {name}' shows how "
                "far it is"
            )
            raise NotFoundError(msg)
    else:
        potential = require_potential(database, name, generation)
    entries = with_labels(database, campaign, atom_items(database, campaign))
    for of, group in labelled_by_generation(database, campaign).items():
        if of <= potential["generation"]:
            entries += group
    good = that_are_done(entries)
    trained_on = set(potential["trained_on"])
    training = [e for e in good if e.item.id in trained_on]
    if len(training) != len(trained_on):
        msg = (
            f"potential {potential['_id']!r} was fitted on {len(trained_on)} structures, {len(training)} of them are "
            "in the database with their labels; 'gapfactory db check' says what is missing"
        )
        raise PotentialError(msg)
    data = collect_report(database, name)
    newest = latest_potential(database, name)
    _clear_export(directory)
    fetch_potential(database, potential, directory / "potential")
    # a search has been given its potential
    sets = {"train": training, "held-out": [e for e in good if e.item.role == "test"]}
    files: dict[str, str] = {}
    for role, chosen in sets.items():
        if chosen:
            files |= _write_set(directory, role, _frames(chosen), forms)
    # a search may have been given one of the other family
    xml = directory / "potential" / "gap.xml"
    family = "gap" if xml.exists() else "eddp"
    if family == "gap":
        xml.with_name("in.lammps").write_text(_for_lammps(xml), encoding="utf-8")
    manifest = {
        "campaign": name,
        "potential": {
            "generation": potential["generation"],
            "digest": potential["digest"],
            "files": potential["files"],
        },
        "settings": campaign.model_dump(mode="json"),
        "versions": record["versions"],
        "removed": removals_of(database, name),
        "citations": list(citations(campaign)),
    }
    text = card(
        data,
        potential["generation"],
        family,
        _reference_in_words(campaign),
        files,
        newest is not None and newest["generation"] == potential["generation"],
    )
    (directory / "README.md").write_text(text, encoding="utf-8")
    # last: a directory without it is not a whole export
    (directory / "campaign.json").write_text(json.dumps(manifest, indent=2), encoding="utf-8")
    return directory


def _write_set(
    directory: Path, role: str, frames: Sequence[LabelledFrame], forms: Sequence[str]
) -> dict[str, str]:
    """Write one set in every form; return what each file is."""
    from gapfactory.io.conventions import DATA_FORMATS, write_data
    from gapfactory.io.extxyz import write_training_set

    said = {"train": "what it was fitted to", "held-out": "what it was judged by, and never fitted to"}[role]
    count = write_training_set(directory / f"{role}.xyz", frames)
    files = {
        f"{role}.xyz": f"{said}: {count} structures, extended XYZ with `REF_energy`, `REF_forces`, `REF_virial`"
    }
    for form in forms:
        name = f"{role}-{form}{DATA_FORMATS[form]}"
        write_data(directory / name, frames, form)
        files[name] = f"the same for {_FOR[form]}"
    return files


def _for_lammps(xml: Path) -> str:
    """Return the lines of a LAMMPS input that name a potential."""
    from ase.data import chemical_symbols

    from gapfactory.potentials.gap.xml import read_gap

    model = read_gap(xml)
    numbers = model.numbers
    types = ", ".join(f"{k} = {chemical_symbols[z]}" for k, z in enumerate(numbers, 1))
    return f"""\
# For LAMMPS with its package ML-QUIP, run where gap.xml is. Types of atoms: {types}
units metal
atom_style atomic
pair_style quip
pair_coeff * * gap.xml "Potential xml_label={model.potential_label or model.label}" {" ".join(map(str, numbers))}
"""


def _reference_in_words(campaign: Campaign) -> str:
    """Return what makes the labels, with the settings that differ from the engine's own."""
    settings = campaign.reference
    given = settings.model_dump(mode="json", exclude_defaults=True, exclude={"engine", "calculator"})
    name = getattr(settings, "calculator", settings.engine.upper())
    return f"{name} ({', '.join(f'{key} {value}' for key, value in given.items())})" if given else str(name)


def _is_ours(name: str) -> bool:
    """Return whether a file of this name is one that an export writes."""
    from gapfactory.io.conventions import DATA_FORMATS

    sets = {
        f"{role}{form}"
        for role in ("train", "held-out")
        for form in (".xyz", *(f"-{n}{e}" for n, e in DATA_FORMATS.items()))
    }
    return name in {"potential", "README.md", "campaign.json"} | sets


def _clear_export(directory: Path) -> None:
    """Remove what an earlier export wrote; refuse a directory that holds anything else."""
    import shutil

    from gapfactory.errors import InputError

    present = {path.name for path in directory.iterdir()} if directory.is_dir() else set()
    if directory.exists() and not directory.is_dir():
        msg = f"{directory} is a file; give another directory with --out"
        raise InputError(msg)
    other = sorted(name for name in present if not _is_ours(name))
    if present and ("campaign.json" not in present or other):
        msg = (
            f"{directory} holds other files ({', '.join(other[:3]) or 'no campaign.json'}); give "
            "a new directory with --out"
        )
        raise InputError(msg)
    for name in sorted(present):
        path = directory / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _frames(entries: Sequence[LabelledItem]) -> list[LabelledFrame]:
    from gapfactory.io.extxyz import LabelledFrame

    return [
        LabelledFrame(
            id=entry.item.id,
            atoms=entry.item.atoms,
            energy=entry.label.energy,
            forces=entry.label.forces,
            stress=entry.label.stress,
            config_type=entry.item.kind,
            info=(("generation", entry.item.generation),),
        )
        for entry in sorted(entries, key=lambda e: e.item.id)
        if entry.label is not None
    ]
