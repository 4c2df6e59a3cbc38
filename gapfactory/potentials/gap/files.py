"""The files of a potential: read with suspicion, made independent of dates and labels, sealed by a manifest.

A malformed or truncated XML makes QUIP end the whole process with exit status 0 and no exception, so every
potential is read here first, by a parser of our own choice, down to the last coefficient.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np

from gapfactory.errors import GapFactoryError, PotentialError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "MANIFEST_NAME",
    "XML_NAME",
    "Component",
    "PotentialFiles",
    "check_files",
    "potential_digest",
    "read_manifest",
    "relabel",
    "write_manifest",
]

XML_NAME = "gap.xml"
MANIFEST_NAME = "manifest.json"
LABEL = "GAP_gapfactory"
#: an XML larger than this (bytes) is not read; the largest real ones are a few MB
LARGEST_XML = 512 * 1024 * 1024


@dataclass(frozen=True)
class Component:
    """One term of a stored potential.

    Attributes
    ----------
    descriptor
        QUIP's descriptor string.
    delta
        Energy scale, eV.
    theta
        Length scales of a squared-exponential kernel, empty otherwise.
    zeta
        Exponent of a dot-product kernel, or None.
    alphas, cutoffs
        (n,) coefficients and cutoff factors of the sparse points.
    points
        (n, d) sparse points.
    """

    descriptor: str
    delta: float
    theta: tuple[float, ...]
    zeta: float | None
    covariance_type: str
    alphas: NDArray[np.float64]
    cutoffs: NDArray[np.float64]
    points: NDArray[np.float64]
    file: str


@dataclass(frozen=True)
class PotentialFiles:
    """What a directory holds: terms, free-atom energies by atomic number, version of the program."""

    components: tuple[Component, ...]
    e0: Mapping[int, float]
    version: str


def _number(text: str | None, what: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        msg = f"{what} is {text!r}, not a finite number"
        raise ValueError(msg)
    return value


def _sparse_points(path: Path, n: int, d: int, md5: str | None) -> NDArray[np.float64]:
    if not path.is_file():
        msg = f"the sparse-point file {path.name} is missing"
        raise ValueError(msg)
    raw = path.read_bytes()
    if md5 and hashlib.md5(raw, usedforsecurity=False).hexdigest() != md5.strip():
        msg = f"the sparse-point file {path.name} does not have the checksum that the XML states"
        raise ValueError(msg)
    try:
        values = np.array(raw.split(), dtype=np.float64)
    except ValueError:
        msg = f"the sparse-point file {path.name} holds something that is not a number"
        raise ValueError(msg) from None
    if values.size != n * d or not np.isfinite(values).all():
        msg = f"the sparse-point file {path.name} holds {values.size} numbers, expected {n} x {d}, all finite"
        raise ValueError(msg)
    return values.reshape(n, d)


def _component(element: Any, directory: Path) -> Component:
    descriptor = " ".join((element.findtext("descriptor") or "").split())
    if not descriptor:
        msg = "a term has no descriptor"
        raise ValueError(msg)
    n = int(_number(element.get("n_sparseX"), "n_sparseX"))
    d = int(_number(element.get("dimensions"), "dimensions"))
    rows = element.findall("sparseX")
    if len(rows) != n or n < 1 or d < 1:
        msg = f"the term {descriptor!r} holds {len(rows)} coefficients where it says {n}"
        raise ValueError(msg)
    name = element.get("sparseX_filename") or ""
    if not name or Path(name).name != name:
        msg = (
            f"the term {descriptor!r} refers to the sparse-point file {name!r}, which is not a plain file "
            "name"
        )
        raise ValueError(msg)
    zeta = element.get("zeta")
    theta = (element.findtext("theta") or "").split()
    return Component(
        descriptor=descriptor,
        delta=_number(element.get("signal_variance"), "signal_variance"),
        theta=tuple(_number(value, "theta") for value in theta),
        zeta=None if zeta is None else _number(zeta, "zeta"),
        covariance_type=element.get("covariance_type") or "",
        alphas=np.array([_number(row.get("alpha"), "alpha") for row in rows]),
        cutoffs=np.array([_number(row.get("sparseCutoff"), "sparseCutoff") for row in rows]),
        points=_sparse_points(directory / name, n, d, element.get("sparseX_md5sum")),
        file=name,
    )


def _read(directory: Path) -> PotentialFiles:
    path = directory / XML_NAME
    if not path.is_file():
        msg = f"there is no {XML_NAME}"
        raise ValueError(msg)
    if path.stat().st_size > LARGEST_XML:
        msg = f"{XML_NAME} has {path.stat().st_size} bytes, more than any potential needs"
        raise ValueError(msg)
    raw = path.read_bytes()
    if b"<!DOCTYPE" in raw or b"<!ENTITY" in raw:
        msg = f"{XML_NAME} declares entities, which no potential does"
        raise ValueError(msg)
    try:
        root = ElementTree.fromstring(raw)  # noqa: S314 - entities were refused above
    except ElementTree.ParseError as error:
        msg = f"{XML_NAME} is truncated or malformed ({error})"
        raise ValueError(msg) from None
    params, sparse = root.find("GAP_params"), root.find("GAP_params/gpSparse")
    if root.find("Potential") is None or params is None or sparse is None:
        msg = f"{XML_NAME} is not a GAP: Potential, GAP_params or gpSparse is missing"
        raise ValueError(msg)
    components = tuple(_component(element, directory) for element in sparse.findall("gpCoordinates"))
    stated = int(_number(sparse.get("n_coordinate"), "n_coordinate"))
    if stated != len(components) or not components:
        msg = f"{XML_NAME} holds {len(components)} terms where it says {stated}"
        raise ValueError(msg)
    e0 = {
        int(_number(element.get("Z"), "Z")): _number(element.get("value"), "e0")
        for element in params.findall("GAP_data/e0")
    }
    return PotentialFiles(
        components, {z: e for z, e in e0.items() if e != 0.0}, params.get("gap_version") or ""
    )


def check_files(
    directory: Path,
    *,
    n_sparse: Sequence[int] | None = None,
    e0: Mapping[str, float] | None = None,
    error: type[GapFactoryError] = PotentialError,
) -> PotentialFiles:
    """Read a potential completely, without QUIP.

    Parameters
    ----------
    directory
        Holds `gap.xml` and its sparse-point files.
    n_sparse
        Sparse points that each term must have, or None.
    e0
        Energy of each free atom (eV) by symbol that the file must state, or None.
    error
        Class of the error raised.

    Raises
    ------
    PotentialError
        (or `error`) if anything is missing, truncated, altered, not finite or not what was asked for.
    """
    remedy = "fetch it again from the store or fit it again"
    try:
        found = _read(directory)
    except (ValueError, OSError) as problem:
        msg = f"the potential in {directory} cannot be used: {problem}; {remedy}"
        raise error(msg) from None
    counts = [len(component.alphas) for component in found.components]
    if n_sparse is not None and counts != list(n_sparse):
        msg = f"the potential in {directory} has {counts} sparse points where {list(n_sparse)} were asked for"
        raise error(msg)
    if e0 is not None:
        from ase.data import atomic_numbers

        for symbol, energy in e0.items():
            stored = found.e0.get(atomic_numbers[symbol], 0.0)
            if not math.isclose(stored, energy, rel_tol=1e-12, abs_tol=1e-9):
                msg = (
                    f"the potential in {directory} has {stored} eV for a free {symbol} atom, its label is "
                    f"{energy}"
                )
                raise error(msg)
    return found


def relabel(directory: Path) -> None:
    """Give a fresh potential a fixed label: the program names it by date, and so would every hash differ.

    Sparse-point files are renamed to `gap.xml.sparseX.<label><k>` with it. A file without the program's
    label is left alone; `check_files` judges it.
    """
    path = directory / XML_NAME
    text = path.read_text(encoding="utf-8", errors="replace")
    match = re.match(r"\s*(?:<\?xml[^>]*>\s*)?<(GAP_\d[\d_]*)>", text)
    if match is None:
        return
    old = match.group(1)
    for file in sorted(directory.glob(f"{XML_NAME}.sparseX.{old}*")):
        file.rename(directory / file.name.replace(old, LABEL))
    path.write_text(text.replace(old, LABEL), encoding="utf-8")


def potential_digest(directory: Path) -> str:
    """Return the sha256 (hex) of the numbers of a potential only: no dates, labels, paths or file names.

    Two fits with equal digests give equal energies. Raises PotentialError if the potential cannot be read.
    """
    found = check_files(directory)
    h = hashlib.sha256(b"gapfactory-gap-1")

    def add(value: object) -> None:
        h.update(repr(value).encode())
        h.update(b"\0")

    for z, energy in sorted(found.e0.items()):
        add((z, energy))
    for component in found.components:
        # How the points were handed over is no property of the potential.
        words = [
            w for w in component.descriptor.split() if not w.startswith(("sparse_", "n_sparse", "print_"))
        ]
        add((words, component.delta, component.theta, component.zeta, component.covariance_type))
        for array in (component.alphas, component.cutoffs, component.points):
            h.update(np.ascontiguousarray(array + 0.0, dtype="<f8").tobytes())
    return h.hexdigest()


def write_manifest(directory: Path, **facts: object) -> Path:
    """Seal a potential: write `manifest.json` with the sha256 of every file, the digest, and `facts`.

    Also adopts a potential from elsewhere. Raises PotentialError if the potential cannot be read.
    """
    found = check_files(directory)
    names = [XML_NAME, *(component.file for component in found.components)]
    manifest = {
        "format": 1,
        "files": {name: sha256_of(directory / name) for name in names},
        "digest": potential_digest(directory),
        **facts,
    }
    path = directory / MANIFEST_NAME
    path.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    return path


def sha256_of(path: Path) -> str:
    """Return the sha256 (hex) of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return the manifest of a potential after comparing every file with it.

    Raises
    ------
    PotentialError
        If the manifest or a file is missing, or a file is not the one that was sealed.
    """
    path = directory / MANIFEST_NAME
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        files = dict(manifest["files"])
        known = manifest["format"] == 1 and XML_NAME in files
    except FileNotFoundError:
        msg = (
            f"there is no {MANIFEST_NAME} in {directory}: `write_manifest` adopts a potential from elsewhere"
        )
        raise PotentialError(msg) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        msg = f"{path} cannot be read ({error}): fetch the potential again from the store"
        raise PotentialError(msg) from None
    if not known:
        msg = f"{path} is not a manifest of format 1 that lists {XML_NAME}"
        raise PotentialError(msg)
    for name, expected in files.items():
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
    return dict(manifest)
