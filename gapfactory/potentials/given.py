"""Potentials that are given in files, to be used and not fitted."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from gapfactory.errors import PotentialError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["files_of"]


def files_of(place: Path) -> dict[Path, str]:
    """Return the files of a potential with their sha256 (hex), ordered by name.

    Parameters
    ----------
    place
        The directory with the files, or one of them.

    Raises
    ------
    PotentialError
        There are none, or they are no potential of a family that is known.
    """
    from gapfactory.potentials import load_potential
    from gapfactory.potentials.manifest import MANIFEST_NAME, listed_files

    directory = place if place.is_dir() else place.parent
    if not place.exists():
        msg = f"there is no {place.name!r} in {directory}: 'gapfactory campaign export' writes a directory 'potential'"
        raise PotentialError(msg)
    load_potential(directory)
    manifest = directory / MANIFEST_NAME
    paths = sorted([manifest, *(directory / name for name in listed_files(directory))])
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
