"""The manifest that seals the files of a potential, of any family."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapfactory.errors import PotentialError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["MANIFEST_NAME", "listed_files", "read_sealed", "seal", "sha256_of"]

MANIFEST_NAME = "manifest.json"


def sha256_of(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def seal(directory: Path, names: Sequence[str], digest: str, **facts: object) -> Path:
    """Write `manifest.json` with the sha256 of every file, the digest of the potential, and `facts`."""
    manifest = {
        "format": 1,
        "files": {name: sha256_of(directory / name) for name in names},
        "digest": digest,
        **facts,
    }
    path = directory / MANIFEST_NAME
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def listed_files(directory: Path) -> frozenset[str]:
    """Return the names of the files that the manifest in a directory lists, not compared with it yet.

    Raises
    ------
    PotentialError
        If there is no manifest, or it is none.
    """
    return frozenset(_manifest(directory)["files"])


def read_sealed(directory: Path, main: str) -> dict[str, Any]:
    """Return the manifest of a potential after comparing every file with it.

    Parameters
    ----------
    directory
        Where the files are.
    main
        The file that the potential cannot be without.

    Raises
    ------
    PotentialError
        If the manifest or a file is missing, or a file is not the one that was sealed.
    """
    manifest = _manifest(directory)
    path = directory / MANIFEST_NAME
    if manifest["format"] != 1 or main not in manifest["files"]:
        msg = f"{path} is not a manifest of format 1 that lists {main}"
        raise PotentialError(msg)
    for name, expected in manifest["files"].items():
        if Path(name).name != name:
            msg = f"{path} lists {name!r}, which is not a plain file name"
            raise PotentialError(msg)
        if not (directory / name).is_file():
            msg = f"{name} is missing in {directory}: fetch the potential again from the store"
            raise PotentialError(msg)
        if sha256_of(directory / name) != expected:
            msg = (
                f"{name} in {directory} is truncated or altered (its sha256 differs): fetch it again from "
                "the store"
            )
            raise PotentialError(msg)
    return manifest


def _manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        return {**manifest, "files": dict(manifest["files"]), "format": manifest["format"]}
    except FileNotFoundError:
        msg = (
            f"there is no {MANIFEST_NAME} in {directory}: `write_manifest` adopts a potential from elsewhere"
        )
        raise PotentialError(msg) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path} cannot be read ({error}): fetch the potential again from the store"
        raise PotentialError(msg) from None
