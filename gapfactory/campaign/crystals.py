"""The known crystals of a campaign: named phases, and structures that were read from a file beside the campaign file.

What a file holds becomes a part of the campaign when the campaign file is read: the campaign has its digest, workers on
other machines have the structures, and a file that changes later changes nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gapfactory.campaign.own_data import with_data
from gapfactory.errors import CampaignFileError, InputError
from gapfactory.io.structure_text import given_crystals, text_of_crystals

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ase import Atoms

    from gapfactory.build.discrete import DiscreteSettings
    from gapfactory.campaign.model import Campaign
    from gapfactory.protocols.settings import CrystalSettings

__all__ = ["crystals_of", "given_crystals", "with_files"]

#: Characters of all structures of a group: they are a part of one document of the database, which may have 16 MB.
_MOST: Final = 2_000_000
_NO_FILE: Final = "files are found beside a campaign file; give 'structures' where there is none"


def with_files(content: Mapping[str, Any], directory: Path | None) -> dict[str, Any]:
    """Return the keys of a campaign file with the structures of the files that its crystals and other blocks name.

    A group that has its structures already, as `gapfactory campaign show` writes it, is left as it is.

    Parameters
    ----------
    content
        Keys and values of the campaign.
    directory
        Where the campaign file is: paths count from there. None: there is none, and no file can be read.

    Raises
    ------
    CampaignFileError
        A file cannot be read or used; the key is named.
    """
    from pydantic import ValidationError

    from gapfactory.protocols.settings import CrystalSettings

    content = _with_entries(_with_unlabelled(content, directory), directory, "vibrations", "parents")
    content = _with_entries(content, directory, "evidence", "known")
    content = _with_potential(_with_targets(content, directory), directory)
    content = with_data(content, directory)
    crystals = content.get("crystals")
    if not isinstance(crystals, dict):
        return content
    filled = dict(crystals)
    for number, (name, entry) in enumerate(sorted(crystals.items(), key=lambda item: str(item[0]))):
        if not isinstance(entry, dict) or entry.get("file") is None or entry.get("structures") is not None:
            continue
        try:
            group = CrystalSettings.model_validate(entry)
        except ValidationError:
            # the whole campaign is checked after this, and tells of it by its key
            continue
        try:
            if directory is None:
                raise InputError(_NO_FILE)
            text = _read(directory, group, _seed(content), number)
        except InputError as error:
            msg = f"crystals.{name}.file is {group.file!r}: {error}"
            raise CampaignFileError(msg) from error
        filled[name] = {**entry, "structures": text}
    return {**content, "crystals": filled}


def _seed(content: Mapping[str, Any]) -> int:
    """Return the seed that the campaign of these keys has; where it has none, what is drawn is not used."""
    from pydantic import NonNegativeInt, TypeAdapter, ValidationError

    from gapfactory.campaign.model import Campaign

    default = Campaign.model_fields["seed"].default
    try:
        return TypeAdapter(NonNegativeInt).validate_python(content.get("seed", default))
    except ValidationError:
        # the whole campaign is checked after this, and tells of it by its key
        return int(default)


def _with_unlabelled(content: Mapping[str, Any], directory: Path | None) -> dict[str, Any]:
    gap = content.get("gap")
    entry = gap.get("unlabelled") if isinstance(gap, dict) else None
    if not isinstance(gap, dict) or not isinstance(entry, dict):
        return dict(content)
    name = entry.get("file")
    if not isinstance(name, str) or entry.get("structures") is not None:
        return dict(content)
    try:
        text = _whole(directory, name)
    except InputError as error:
        msg = f"gap.unlabelled.file is {name!r}: {error}"
        raise CampaignFileError(msg) from error
    return {**content, "gap": {**gap, "unlabelled": {**entry, "structures": text}}}


def _with_targets(content: Mapping[str, Any], directory: Path | None) -> dict[str, Any]:
    """Return the keys with the structures of the files among `reference.targets` of the engine `datum`."""
    from gapfactory.reference.engines.datum import files_of_targets

    block = content.get("reference")
    if not isinstance(block, dict) or block.get("engine") != "datum" or block.get("structures") is not None:
        return dict(content)
    targets = block.get("targets")
    if not isinstance(targets, list) or not all(isinstance(name, str) for name in targets):
        return dict(content)
    texts = []
    for name in files_of_targets(targets):
        try:
            texts.append(_whole(directory, name))
        except InputError as error:
            msg = f"reference.targets has {name!r}, which is no named phase; as a file: {error}"
            raise CampaignFileError(msg) from error
    if not texts:
        return dict(content)
    return {**content, "reference": {**block, "structures": "".join(texts)}}


def _with_entries(
    content: Mapping[str, Any], directory: Path | None, block_name: str, key: str
) -> dict[str, Any]:
    """Return the keys with the structures of the files that the entries of a mapping within a block name."""
    block = content.get(block_name)
    entries = block.get(key) if isinstance(block, dict) else None
    if not isinstance(block, dict) or not isinstance(entries, dict):
        return dict(content)
    filled = dict(entries)
    for name, entry in entries.items():
        file = entry.get("file") if isinstance(entry, dict) else None
        if not isinstance(entry, dict) or not isinstance(file, str) or entry.get("structures") is not None:
            continue
        try:
            filled[name] = {**entry, "structures": _whole(directory, file)}
        except InputError as error:
            msg = f"{block_name}.{key}.{name}.file is {file!r}: {error}"
            raise CampaignFileError(msg) from error
    return {**content, block_name: {**block, key: filled}}


def _with_potential(content: Mapping[str, Any], directory: Path | None) -> dict[str, Any]:
    """Return the keys with names and sha256 of the files of the potential that `search.potential` names."""
    from gapfactory.errors import PotentialError
    from gapfactory.potentials.given import files_of

    block = content.get("search")
    entry = block.get("potential") if isinstance(block, dict) else None
    if not isinstance(block, dict) or not isinstance(entry, dict) or entry.get("files"):
        return dict(content)
    name = entry.get("file")
    if not isinstance(name, str):
        return dict(content)
    try:
        if directory is None:
            raise InputError(_NO_FILE.replace("'structures'", "'campaign'"))
        found = files_of(directory / name)
    except (InputError, PotentialError) as error:
        msg = f"search.potential.file is {name!r}: {error}"
        raise CampaignFileError(msg) from error
    hashes = {path.name: digest for path, digest in found.items()}
    return {**content, "search": {**block, "potential": {**entry, "files": hashes}}}


def _whole(directory: Path | None, name: str) -> str:
    """Return the structures of a file without partial occupation as extended XYZ."""
    from gapfactory.io.structures import read_structures

    if directory is None:
        raise InputError(_NO_FILE)
    path = directory / name
    if path.suffix == ".cif" and path.is_file():
        _require_whole(path)
    return _text([given.atoms for given in read_structures(path)])


def _read(directory: Path, group: CrystalSettings, seed: int, number: int) -> str:
    """Return the structures of a file as extended XYZ: those that it holds, or models drawn from its occupations."""
    if group.models is None:
        return _whole(directory, str(group.file))
    return _text(_drawn(directory / str(group.file), group.models, group.count, seed, number))


def _text(found: Sequence[Atoms]) -> str:
    text = text_of_crystals(found)
    if len(text) > _MOST:
        msg = f"{len(found)} structures of {len(text) / 1e6:.1f} MB; a campaign takes {_MOST / 1e6:g} MB: give fewer"
        raise InputError(msg)
    return text


def _drawn(path: Path, settings: DiscreteSettings, count: int, seed: int, number: int) -> list[Atoms]:
    from gapfactory.build.discrete import DiscreteModels
    from gapfactory.build.occupation import read_occupied_crystal
    from gapfactory.seeds import Stage, stream

    if path.suffix != ".cif":
        msg = "models are drawn from a .cif file with occupations; leave 'models' out"
        raise InputError(msg)
    if not path.is_file():
        msg = f"there is no file {path}"
        raise InputError(msg)
    models = DiscreteModels(read_occupied_crystal(path), settings)
    if not len(models.partial):
        msg = "every site is full, so there is one structure only: leave 'models' out"
        raise InputError(msg)
    return [models.draw(stream(seed, number, Stage.MODEL, k)).atoms for k in range(count)]


def _require_whole(path: Path) -> None:
    from gapfactory.build.occupation import partly_occupied, read_occupied_crystal

    # refuses sites that coincide, and coordinates that are missing
    read_occupied_crystal(path)
    partial = partly_occupied(path)
    if partial:
        msg = (
            f"sites {', '.join(partial[:5])} are occupied in part; 'models' says how structures are drawn, e.g. "
            "models: {atoms: 106, minimum_separation: 1.2}"
        )
        raise InputError(msg)


def crystals_of(campaign: Campaign, name: str) -> tuple[Atoms, ...]:
    """Return the undistorted structures of a group of crystals; distorted cell number k is of number k modulo n."""
    from gapfactory.analysis.phases import named_phase

    group = campaign.crystals[name]
    if group.structures is not None:
        return given_crystals(group.structures)
    return (named_phase(campaign.crystal_phase(name)).atoms,)
