"""The rows of the fit's linear system, made block by block: labelled structures to [A | y].

Row and weight of every target are those of `gap_fit`: an energy, 3N forces and six virials per structure, each
divided by its expected error; the target is the label minus the free atoms and the core potential. Quantities that
have no label make no row.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gapfactory.errors import FitError
from gapfactory.potentials.gap.solve.tsqr import Triangle, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from gapfactory.potentials.gap.data import LabelledStructure
    from gapfactory.potentials.gap.engine.system import System
    from gapfactory.potentials.gap.model import PairTable, Term
    from gapfactory.potentials.gap.sigmas import Sigmas

__all__ = ["Design", "RowEngine", "Targets", "groups", "targets_of"]

#: Rows per block: the largest piece of the design matrix that exists at a time has this many.
BLOCK_ROWS = 2048


class RowEngine(Protocol):
    """What the design needs of the engine of a term."""

    def rows(self, system: System, out: NDArray[np.float64]) -> None:
        """Add the covariance of every sparse point to `out` (7S + 3N, M).

        Cells in order; of each cell its energy, its forces (minus the derivative) atom by atom, and its virial
        (-volume x ASE stress) xx yy zz yz xz xy.
        """


@dataclass(frozen=True)
class Targets:
    """What the rows of some structures are fitted to, in the layout of `RowEngine.rows`.

    Attributes
    ----------
    values : (7S + 3N,)
        Label minus free atoms; eV, eV/A, eV. Zero where there is none.
    weights : (7S + 3N,)
        One over the expected error; zero where there is no label.
    """

    values: NDArray[np.float64]
    weights: NDArray[np.float64]


def targets_of(
    items: Sequence[LabelledStructure], sigmas: Mapping[str, Sigmas], e0: Mapping[str, float]
) -> Targets:
    """Return the targets of structures.

    Parameters
    ----------
    sigmas
        Absolute expected errors by id.
    e0
        Energy of the free atom by symbol, eV.

    Raises
    ------
    FitError
        If an expected error is missing or not positive.
    """
    from gapfactory.potentials.gap.trainfile import has_forces, virial_voigt

    n_rows = sum(7 + 3 * len(item.atoms) for item in items)
    values, weights = np.zeros(n_rows), np.zeros(n_rows)
    row = 0
    for item in items:
        n = len(item.atoms)
        sigma = sigmas.get(item.id)
        if sigma is None or not sigma.least > 0.0:
            msg = f"structure {item.id!r} has the expected errors {sigma}: each must be positive"
            raise FitError(msg)
        force_sigma = _components(item.id, sigma.force, sigma.force_components, (n, 3))
        virial_sigma = _components(item.id, sigma.virial, sigma.virial_components, (6,))
        values[row] = item.energy - sum((e0[s] for s in item.atoms.get_chemical_symbols()), 0.0)
        weights[row] = 1.0 / sigma.energy
        forces = slice(row + 1, row + 1 + 3 * n)
        if item.forces is not None and has_forces(item):
            values[forces] = np.ravel(item.forces)
            weights[forces] = 1.0 / force_sigma
        virial = virial_voigt(item)
        if virial is not None:
            rows = slice(forces.stop, forces.stop + 6)
            values[rows] = virial
            weights[rows] = 1.0 / virial_sigma
        row += 7 + 3 * n
    return Targets(values, weights)


def _components(
    key: str, error: float, components: NDArray[np.float64] | None, shape: tuple[int, ...]
) -> float | NDArray[np.float64]:
    """Return the errors of single components in a row, or the one that all have."""
    if components is None:
        return error
    if components.shape != shape:
        msg = f"structure {key!r} has expected errors of shape {components.shape}, its labels have {shape}"
        raise FitError(msg)
    return components.ravel()


def groups(sizes: Sequence[int], least_rows: int) -> list[slice]:
    """Cut structures of `sizes` atoms into runs of at least `least_rows` rows, from the front.

    Only the last run may be shorter, so that data added at the end leave all full runs as they are.
    """
    found: list[slice] = []
    start = rows = 0
    for k, n in enumerate(sizes):
        rows += 7 + 3 * n
        if rows >= least_rows:
            found.append(slice(start, k + 1))
            start, rows = k + 1, 0
    if start < len(sizes):
        found.append(slice(start, len(sizes)))
    return found


def _engine(term: Term) -> RowEngine:
    from gapfactory.potentials.gap.engine.evaluator import term_engine

    return term_engine(term)


class Design:
    """Makes rows of the linear system of some terms.

    Parameters
    ----------
    terms
        With their sparse points; coefficients do not matter. Columns are the sparse points in this order.
    e0
        Energy of the free atom by symbol, eV.
    baseline
        Core potential that the terms are fitted on top of, or None.
    engine_of
        Returns the engine of a term.
    """

    def __init__(
        self,
        terms: Sequence[Term],
        e0: Mapping[str, float],
        baseline: PairTable | None = None,
        engine_of: Callable[[Term], RowEngine] = _engine,
    ) -> None:
        self.terms = tuple(terms)
        self.e0 = dict(e0)
        self.baseline = baseline
        self.cutoff = max([term.cutoff for term in terms] + ([] if baseline is None else [baseline.cutoff]))
        ends = np.cumsum([0, *(term.n_sparse for term in terms)])
        #: columns of each term
        self.columns = tuple(slice(int(a), int(b)) for a, b in pairwise(ends))
        self._engines = [engine_of(term) for term in terms]

    @property
    def n(self) -> int:
        """Number of unknowns: all sparse points."""
        return self.columns[-1].stop

    def leaves(self, data: Sequence[LabelledStructure]) -> list[slice]:
        """Return the runs of structures that become one triangle each; they depend on the data only.

        With as many rows as unknowns, merging costs a third of folding, and there are enough runs to share.
        """
        return groups([len(item.atoms) for item in data], max(BLOCK_ROWS, self.n))

    def triangle(self, items: Sequence[LabelledStructure], sigmas: Mapping[str, Sigmas]) -> Triangle:
        """Return the triangle of the rows of some structures; touches no state, so any thread may call it."""
        return fold(Triangle.empty(self.n), self.blocks(items, sigmas))

    def blocks(
        self, items: Sequence[LabelledStructure], sigmas: Mapping[str, Sigmas]
    ) -> Iterator[NDArray[np.float64]]:
        """Yield blocks of rows (m, n + 1) of [A | y], column-major, scaled by the expected errors."""
        for part in groups([len(item.atoms) for item in items], BLOCK_ROWS):
            chosen = items[part]
            targets = targets_of(chosen, sigmas, self.e0)
            yield self._block(chosen, targets)

    def _block(self, items: Sequence[LabelledStructure], targets: Targets) -> NDArray[np.float64]:
        from gapfactory.potentials.gap.engine.system import build_system

        system = build_system([item.atoms for item in items], self.cutoff)
        keep = np.flatnonzero(targets.weights)
        weights = targets.weights[keep]
        block = np.empty((len(keep), self.n + 1), order="F")
        for engine, columns in zip(self._engines, self.columns, strict=True):
            out = np.zeros((len(targets.values), columns.stop - columns.start))
            engine.rows(system, out)
            np.multiply(out[keep], weights[:, None], out=block[:, columns])
        values = targets.values
        if self.baseline is not None:
            values = values - self._core(self.baseline, system)
        np.multiply(values[keep], weights, out=block[:, -1])
        return block

    def _core(self, baseline: PairTable, system: System) -> NDArray[np.float64]:
        """Return the (7S + 3N,) energies, forces and virials of the core potential."""
        from gapfactory.potentials.gap.engine.baseline import BaselineEngine

        energies, forces = np.zeros(system.n_atoms), np.zeros((system.n_atoms, 3))
        virials = np.zeros((system.n_cells, 3, 3))
        BaselineEngine(baseline).add(system, energies, forces, virials)
        parts = []
        for c in range(system.n_cells):
            atoms = slice(int(system.offsets[c]), int(system.offsets[c + 1]))
            voigt = virials[c][(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]
            parts += [[energies[atoms].sum()], forces[atoms].ravel(), voigt]
        return np.concatenate(parts)
