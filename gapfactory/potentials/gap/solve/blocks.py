"""Triangles of runs of structures on disk: made once, by any worker, and merged by every fit that has them.

A triangle depends on the sparse points, the kernels' lengths and the labels with their expected errors. Any change
of these makes another key, so a stale one is never used. Rows made with delta = 1 serve every delta, see `solve`.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import BadZipFile

import numpy as np

from gapfactory.errors import FitError
from gapfactory.potentials.gap.solve.tsqr import Triangle

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gapfactory.potentials.gap.data import LabelledStructure
    from gapfactory.potentials.gap.model import Term
    from gapfactory.potentials.gap.sigmas import Sigmas
    from gapfactory.potentials.gap.solve.design import Design

__all__ = ["TriangleStore", "block_key"]

#: raised whenever rows of the same input come out differently
FORMAT = "gapfactory-triangle-1"


def _add(h: hashlib._Hash, *values: object) -> None:
    for value in values:
        if isinstance(value, np.ndarray):
            h.update(f"{value.dtype.str}{value.shape}".encode())
            h.update(np.ascontiguousarray(value).tobytes())
        else:
            h.update(repr(value).encode())
        h.update(b"\0")


def _add_term(h: hashlib._Hash, term: Term) -> None:
    # The command repeats the fields in the user's words, and the coefficients are the fit's result.
    for field in fields(term):
        if field.name not in {"command", "alphas"}:
            _add(h, field.name, getattr(term, field.name))


def block_key(design: Design, items: Sequence[LabelledStructure], sigmas: Mapping[str, Sigmas]) -> str:
    """Return the digest (hex) of everything that the triangle of some structures depends on."""
    h = hashlib.sha256(FORMAT.encode())
    for term in design.terms:
        _add_term(h, term)
    _add(h, sorted(design.e0.items()))
    if design.baseline is not None:
        for curve in design.baseline.curves:
            for field in fields(curve):
                _add(h, field.name, getattr(curve, field.name))
    for item in items:
        sigma = sigmas[item.id]
        atoms = item.atoms
        _add(h, item.kind, atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc, float(item.energy))
        for array in (item.forces, item.stress):
            _add(h, None if array is None else np.asarray(array, dtype=np.float64))
        _add(h, float(sigma.energy), float(sigma.force), float(sigma.virial))
        for name in ("force_components", "virial_components"):
            # Left out where there are none: keys are those of before there were any.
            if getattr(sigma, name) is not None:
                _add(h, name, getattr(sigma, name))
    return h.hexdigest()


class TriangleStore:
    """A directory of triangles by key.

    Several threads, processes and machines may use one directory at the same time: a file appears complete or
    not at all, and files of one key are equal.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        #: runs found and runs computed, for reports
        self.found = self.made = 0
        self._lock = threading.Lock()

    def triangle(
        self, design: Design, items: Sequence[LabelledStructure], sigmas: Mapping[str, Sigmas]
    ) -> Triangle:
        """Return the triangle of some structures, from the directory if it is there.

        Raises
        ------
        FitError
            If a file is damaged.
        """
        path = self.directory / f"{block_key(design, items, sigmas)}.npz"
        if path.is_file():
            with self._lock:
                self.found += 1
            return _load(path, design.n)
        made = design.triangle(items, sigmas)
        with self._lock:
            self.made += 1
        self._save(path, made)
        return made

    def _save(self, path: Path, triangle: Triangle) -> None:
        packed = triangle.r[np.triu_indices(len(triangle.r))]
        handle, name = tempfile.mkstemp(prefix=".part-", dir=self.directory)
        try:
            with os.fdopen(handle, "wb") as file:
                np.savez(file, packed=packed, rows=triangle.rows)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _load(path: Path, n: int) -> Triangle:
    size = n + 1
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            packed, rows = stored["packed"], int(stored["rows"])
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        msg = f"the stored triangle {path} cannot be read ({error}): delete the file, it will be made again"
        raise FitError(msg) from None
    if packed.shape != (size * (size + 1) // 2,) or not np.isfinite(packed).all() or rows < 1:
        msg = f"the stored triangle {path} does not hold {n} unknowns: delete the file, it will be made again"
        raise FitError(msg)
    r = np.zeros((size, size), order="F")
    r[np.triu_indices(size)] = packed
    return Triangle(r, rows)
