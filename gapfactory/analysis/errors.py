"""Errors of a potential against the reference: tables by energy window and kind, bootstrap intervals.

Energies are compared per atom, forces by component, virials by component and per atom (virial = -volume x
stress).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = [
    "ENERGY_WINDOWS",
    "ErrorRecord",
    "ErrorRow",
    "ErrorSummary",
    "Quantity",
    "bootstrap_interval",
    "error_table",
    "pick_row",
    "summarise",
    "window_rows",
]

Quantity = Literal["energy", "forces", "virial"]

#: edges of the energy windows, eV/atom above the lowest reference energy of the set
ENERGY_WINDOWS: tuple[tuple[float, float], ...] = ((0.0, 0.1), (0.1, 1.0), (1.0, float("inf")))

#: unit of each quantity's residuals
UNITS: dict[Quantity, str] = {"energy": "eV/atom", "forces": "eV/Å", "virial": "eV/atom"}


@dataclass(frozen=True)
class ErrorRecord:
    """One structure, by reference and by potential.

    Parameters
    ----------
    id
        Identity of the structure; results do not depend on the order of records.
    kind
        What it is, e.g. ``"crystal"``, ``"dimer"``, ``"isolated"``.
    n_atoms
        Number of atoms.
    energy_reference, energy_potential
        Total energies, eV.
    forces_reference, forces_potential
        Shape (N, 3), eV/Å, or None.
    virial_reference, virial_potential
        Shape (6,) or (3, 3), eV, or None.
    """

    id: str
    kind: str
    n_atoms: int
    energy_reference: float
    energy_potential: float
    forces_reference: NDArray[np.float64] | None = None
    forces_potential: NDArray[np.float64] | None = None
    virial_reference: NDArray[np.float64] | None = None
    virial_potential: NDArray[np.float64] | None = None

    def residuals(self, quantity: Quantity) -> NDArray[np.float64]:
        """Return potential minus reference, flat; empty where one of the two is missing."""
        if quantity == "energy":
            return np.array([(self.energy_potential - self.energy_reference) / self.n_atoms])
        if quantity == "forces":
            ours, theirs, scale = self.forces_potential, self.forces_reference, 1.0
        else:
            ours, theirs, scale = self.virial_potential, self.virial_reference, 1.0 / self.n_atoms
        if ours is None or theirs is None:
            return np.empty(0)
        a, b = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
        if a.shape != b.shape:
            raise EvidenceError(
                f"structure {self.id}: {quantity} of shapes {a.shape} and {b.shape} do not pair up"
            )
        return np.asarray((a - b).ravel() * scale)


@dataclass(frozen=True)
class ErrorSummary:
    """Root mean square, mean absolute and largest residual, with the number of values.

    `low` and `high` bound the RMSE (bootstrap over structures), NaN where not asked for.
    """

    n: int
    rmse: float
    mae: float
    max: float
    low: float = float("nan")
    high: float = float("nan")


@dataclass(frozen=True)
class ErrorRow:
    """One line of an error table.

    Parameters
    ----------
    quantity
        ``"energy"``, ``"forces"`` or ``"virial"``.
    group
        ``"all"``, an energy window such as ``"0-0.1 eV"``, or ``"kind:crystal"``.
    n_structures
        Structures that contributed.
    summary
        The errors, in the unit of the quantity.
    """

    quantity: Quantity
    group: str
    n_structures: int
    summary: ErrorSummary

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON-able values; NaN becomes None."""
        s = self.summary
        values: dict[str, Any] = {
            "rmse": s.rmse,
            "mae": s.mae,
            "max": s.max,
            "rmse_low": s.low,
            "rmse_high": s.high,
        }
        return {
            "quantity": self.quantity,
            "unit": UNITS[self.quantity],
            "group": self.group,
            "n_structures": self.n_structures,
            "n_values": s.n,
            **{key: (None if np.isnan(value) else float(value)) for key, value in values.items()},
        }


def summarise(residuals: ArrayLike) -> ErrorSummary:
    """Return RMSE, MAE and maximum of residuals of any shape.

    Raises
    ------
    EvidenceError
        There is no residual, or one is not a finite number.
    """
    values = np.asarray(residuals, dtype=float).ravel()
    if values.size == 0:
        raise EvidenceError("no residuals: errors of an empty set are not defined")
    if not np.isfinite(values).all():
        raise EvidenceError(
            f"{int((~np.isfinite(values)).sum())} of {values.size} residuals are NaN or infinite"
        )
    magnitude = np.abs(values)
    return ErrorSummary(
        n=values.size,
        rmse=float(np.sqrt(np.mean(values**2))),
        mae=float(magnitude.mean()),
        max=float(magnitude.max()),
    )


def bootstrap_interval(
    groups: Sequence[ArrayLike], rng: np.random.Generator, *, level: float = 0.95, draws: int = 1000
) -> tuple[float, float]:
    """Return the percentile interval of the RMSE, resampling whole structures.

    Components of one structure are correlated, so they are drawn together: resampling single force
    components would make the interval too narrow.

    Parameters
    ----------
    groups
        Residuals of each structure, any shape.
    rng
        Random generator; the same generator state gives the same interval.
    level
        Probability content, between 0 and 1.
    draws
        Number of resamples.

    Raises
    ------
    EvidenceError
        No structure has residuals.
    """
    flat = [np.asarray(g, dtype=float).ravel() for g in groups]
    flat = [g for g in flat if g.size]
    if not flat:
        raise EvidenceError("no residuals: an interval of an empty set is not defined")
    squares = np.array([float(np.sum(g**2)) for g in flat])
    counts = np.array([g.size for g in flat], dtype=float)
    picks = rng.integers(0, len(flat), size=(draws, len(flat)))
    rmse = np.sqrt(squares[picks].sum(axis=1) / counts[picks].sum(axis=1))
    low, high = np.quantile(rmse, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _window_name(low: float, high: float) -> str:
    return f"above {low:g} eV" if np.isinf(high) else f"{low:g}-{high:g} eV"


def error_table(
    records: Sequence[ErrorRecord],
    *,
    rng: np.random.Generator | None = None,
    windows: Sequence[tuple[float, float]] = ENERGY_WINDOWS,
    lowest_energy: float | None = None,
) -> tuple[ErrorRow, ...]:
    """Tabulate energy, force and virial errors over all structures, by energy window and by kind.

    Parameters
    ----------
    records
        Any order; they are sorted by id first.
    rng
        When given, each RMSE gets a 95 % bootstrap interval.
    windows
        (low, high) in eV/atom above the lowest reference energy per atom; low is included, high is not.
        Isolated atoms and dimers are not put into windows: their energy above the crystal says nothing
        about the search.
    lowest_energy
        Energy (eV/atom) the windows count from; default the lowest reference energy of the crystals given.

    Raises
    ------
    EvidenceError
        No records, duplicate ids, or residuals that are not finite.
    """
    if not records:
        raise EvidenceError("no structures to compare: give at least one record")
    ordered = sorted(records, key=lambda r: r.id)
    ids = [r.id for r in ordered]
    if len(set(ids)) != len(ids):
        twice = next(a for a, b in pairwise(ids) if a == b)
        raise EvidenceError(f"structure {twice!r} is given twice; each structure counts once")
    periodic = [r for r in ordered if r.kind not in ("isolated", "dimer")]
    groups: list[tuple[str, list[ErrorRecord]]] = [("all", ordered)]
    if periodic:
        energies = np.array([r.energy_reference / r.n_atoms for r in periodic])
        zero = float(energies.min()) if lowest_energy is None else lowest_energy
        for low, high in windows:
            chosen = [
                r
                for r, e in zip(periodic, energies - zero, strict=True)
                if low <= e < high or (low == 0 and e < 0)
            ]
            groups.append((_window_name(low, high), chosen))
    groups += [
        (f"kind:{kind}", [r for r in ordered if r.kind == kind]) for kind in sorted({r.kind for r in ordered})
    ]
    rows = []
    for quantity in ("energy", "forces", "virial"):
        for name, members in groups:
            residuals = [res for r in members if (res := r.residuals(quantity)).size]
            if not residuals:
                continue
            s = summarise(np.concatenate(residuals))
            if rng is not None:
                low, high = bootstrap_interval(residuals, rng)
                s = ErrorSummary(s.n, s.rmse, s.mae, s.max, low, high)
            rows.append(ErrorRow(quantity, name, len(residuals), s))
    return tuple(rows)


def pick_row(rows: Sequence[ErrorRow], quantity: Quantity, group: str = "all") -> ErrorRow | None:
    """Return the row of this quantity and group, or None when no structure contributed."""
    return next((r for r in rows if r.quantity == quantity and r.group == group), None)


def window_rows(
    rows: Sequence[ErrorRow], quantity: Quantity, windows: Sequence[tuple[float, float]] = ENERGY_WINDOWS
) -> tuple[tuple[float, float, ErrorRow], ...]:
    """Return ``(low, high, row)`` of each energy window (eV/atom above the lowest) that some structure lies in."""
    found = ((low, high, pick_row(rows, quantity, _window_name(low, high))) for low, high in windows)
    return tuple((low, high, row) for low, high, row in found if row is not None)
