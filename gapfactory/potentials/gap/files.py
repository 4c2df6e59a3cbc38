"""The files of a potential: read with suspicion, made independent of dates and labels, sealed by a manifest.

A malformed or truncated XML makes QUIP end the whole process with exit status 0 and no exception, so every
potential is read first by `gapfactory.potentials.gap.xml`, down to the last coefficient.
"""

from __future__ import annotations

import hashlib
import math
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import GapFactoryError, PotentialError
from gapfactory.potentials.gap.model import PairTerm, SoapTerm
from gapfactory.potentials.gap.xml import read_gap, sparse_files
from gapfactory.potentials.manifest import read_sealed, seal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from gapfactory.potentials.gap.model import GapModel, Term

__all__ = [
    "XML_NAME",
    "check_files",
    "potential_digest",
    "read_manifest",
    "relabel",
    "write_manifest",
]

XML_NAME = "gap.xml"
LABEL = "GAP_gapfactory"


def check_files(
    directory: Path,
    *,
    n_sparse: Sequence[int] | None = None,
    e0: Mapping[str, float] | None = None,
    error: type[GapFactoryError] = PotentialError,
) -> GapModel:
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
    try:
        found = read_gap(directory / XML_NAME)
    except PotentialError as problem:
        raise error(str(problem)) from None
    counts = [term.n_sparse for term in found.terms]
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
    return _digest_of(check_files(directory))


def _digest_of(found: GapModel) -> str:
    h = hashlib.sha256(b"gapfactory-gap-1")

    def add(value: object) -> None:
        h.update(repr(value).encode())
        h.update(b"\0")

    for z, energy in sorted(found.e0.items()):
        if energy != 0.0:
            add((z, energy))
    for term in found.terms:
        add(_numbers_of(term))
        for array in (term.alphas, term.sparse_cutoffs, term.points):
            h.update(np.ascontiguousarray(array + 0.0, dtype="<f8").tobytes())
    if found.baseline is not None:
        for curve in found.baseline.curves:
            add((curve.numbers, curve.slope_first, curve.slope_last, curve.r.tolist(), curve.energy.tolist()))
    return h.hexdigest()


def _numbers_of(term: Term) -> tuple[object, ...]:
    # How the points were handed over is no property of the potential.
    words = [word for word in term.command.split() if not word.startswith(("sparse_", "n_sparse", "print_"))]
    if isinstance(term, SoapTerm):
        return (words, term.delta, (), term.zeta, "2")
    theta = (term.theta,) if isinstance(term, PairTerm) else tuple(term.theta.tolist())
    return (words, term.delta, theta, None, "1")


def write_manifest(directory: Path, **facts: object) -> Path:
    """Seal a potential: write `manifest.json` with the sha256 of every file, the digest, and `facts`.

    Also adopts a potential from elsewhere. Raises PotentialError if the potential cannot be read.
    """
    found = check_files(directory)
    names = [XML_NAME, *sparse_files(directory / XML_NAME)]
    return seal(directory, names, _digest_of(found), **facts)


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return the manifest of a potential after comparing every file with it; see `read_sealed`."""
    return read_sealed(directory, XML_NAME)
