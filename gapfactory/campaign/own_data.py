"""Files of labelled structures that a campaign is given: read, checked and counted with the campaign file."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import CampaignFileError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gapfactory.io.extxyz import LabelledFrame

__all__ = [
    "digest_of",
    "files_of",
    "given_frames",
    "with_data",
]

_SHOWN: Final = 3


def with_data(content: Mapping[str, Any], directory: Path | None) -> dict[str, Any]:
    """Return the keys of a campaign file with digest and number of structures of the files that `data` names.

    An entry that has them already, as `gapfactory campaign show` writes it, is left as it is.

    Parameters
    ----------
    content
        Keys and values of the campaign.
    directory
        Where the campaign file is: paths count from there. None: there is none, and no file can be read.

    Raises
    ------
    CampaignFileError
        A file cannot be read, or its labels cannot be fitted; the key is named.
    """
    from pydantic import ValidationError

    from gapfactory.protocols.data_settings import DataSettings

    data = content.get("data")
    if not isinstance(data, dict):
        return dict(content)
    filled = dict(data)
    for name, entry in data.items():
        if not isinstance(entry, dict) or entry.get("sha256") is not None:
            continue
        try:
            settings = DataSettings.model_validate(entry)
        except ValidationError:
            # the whole campaign is checked after this, and tells of it by its key
            continue
        try:
            if directory is None:
                raise InputError(
                    "files are found beside a campaign file; give 'sha256' and 'structures' where there is none"
                )
            paths = files_of(directory, settings.file)
            frames = given_frames(paths, settings.prefix)
            _require_sound(paths, settings.prefix)
        except InputError as error:
            msg = f"data.{name}.file is {settings.file!r}: {error}"
            raise CampaignFileError(msg) from error
        atoms = sum(len(frame.atoms) for frame in frames)
        filled[name] = {**entry, "sha256": digest_of(paths), "structures": len(frames), "atoms": atoms}
    return {**content, "data": filled}


def files_of(directory: Path, file: str) -> list[Path]:
    """Return the file of this name, or the files that a pattern names, in the order of their paths.

    Raises
    ------
    InputError
        There is none.
    """
    path = directory / file
    if path.is_file() or not any(sign in file for sign in "*?["):
        return [path]
    found = sorted(one for one in directory.glob(file) if one.is_file())
    if not found:
        msg = f"no file in {directory} is named so"
        raise InputError(msg)
    return found


def digest_of(paths: Sequence[Path]) -> str:
    """Return the sha256 (hex) of a file's content, or of those of several files one after the other."""
    digests = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()


def given_frames(paths: Sequence[Path], prefix: str | None) -> list[LabelledFrame]:
    """Return the labelled structures of files in their order, each once, without free atoms.

    Free atoms are the zero of energy, which a campaign has from its own reference. Of several files, the name of a
    structure has that of its directory and file before its own.

    Raises
    ------
    InputError
        A file cannot be read, there is nothing but free atoms, or a structure has no forces.
    """
    from gapfactory.files.training import kind_of_frame
    from gapfactory.io.labelled import read_labelled
    from gapfactory.structures import structure_hash

    found: dict[str, LabelledFrame] = {}
    for path in paths:
        where = f"{path.parent.name}/{path.name} " if len(paths) > 1 else ""
        for frame in read_labelled(path, prefix).frames:
            if kind_of_frame(frame) != "isolated":
                found.setdefault(structure_hash(frame.atoms), replace(frame, id=f"{where}{frame.id}"))
    if not found:
        msg = "there are free atoms only: give structures with labels"
        raise InputError(msg)
    without = [frame.id for frame in found.values() if frame.forces is None]
    if without:
        shown = ", ".join(without[:_SHOWN])
        msg = f"{len(without)} of {len(found)} structures have no forces ({shown}): leave them out"
        raise InputError(msg)
    return list(found.values())


def _require_sound(paths: Sequence[Path], prefix: str | None) -> None:
    """Refuse labels with a fault that `gapfactory structures check` tells of."""
    from gapfactory.analysis.label_check import check_data
    from gapfactory.io.labelled import read_labelled

    faults = check_data(
        {f"{path.parent.name}/{path.name}": read_labelled(path, prefix) for path in paths}
    ).faults
    if faults:
        more = (
            f" (and {len(faults) - 1} more: 'gapfactory structures check' lists them)"
            if len(faults) > 1
            else ""
        )
        raise InputError(f"{faults[0]}{more}")
