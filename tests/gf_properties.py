"""Settings and strategies of the property-based tests of parsers and selectors: the same cases in every run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable

#: Fixed cases, few enough for every run of CI.
fixed = settings(
    max_examples=40, derandomize=True, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)
#: Of what is slower.
few = settings(fixed, max_examples=12)

#: Every finite double, negative zero and subnormal ones included.
numbers = st.floats(allow_nan=False, allow_infinity=False)
#: Numbers as positions, energies and forces have them, with all their digits.
moderate = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)
words = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.:/+-]{0,12}", fullmatch=True)
seeds = st.integers(0, 2**32 - 1)
symbols = st.sampled_from(["H", "B", "C", "O", "Si", "Ti", "Au", "U"])


def refused(error: type[Exception], call: Callable[[], Any]) -> tuple[Any, str]:
    """Return what a call returns and no words, or nothing and the words of the error that it may raise."""
    try:
        return call(), ""
    except error as problem:
        return None, str(problem).strip()


def random_cell(seed: int, *, most: int = 6) -> Atoms:
    """Return atoms of a few species anywhere in a cell that may be skew, left-handed and far from its origin."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, most + 1))
    cell = np.diag(rng.uniform(2.0, 9.0, 3)) + rng.normal(0.0, 0.7, (3, 3))
    if rng.random() < 0.3:
        cell[[0, 1]] = cell[[1, 0]]
    fractions = rng.uniform(-1.5, 2.5, (n, 3))
    species = rng.choice(["H", "B", "Si", "Ti", "Au"], size=n)
    return Atoms(list(map(str, species)), positions=fractions @ cell, cell=cell, pbc=True)


def rotation(rng: np.random.Generator, n: int = 3) -> np.ndarray:
    """Return a random orthogonal matrix."""
    q, r = np.linalg.qr(rng.normal(size=(n, n)))
    return q * np.sign(np.diag(r))


def unit_rows(seed: int, n: int, d: int) -> np.ndarray:
    """Return unit vectors, as like each other as structures of one composition are."""
    rng = np.random.default_rng(seed)
    rows = 2.0 * np.eye(d)[0] + rng.normal(size=(n, d)) * 0.7 ** np.arange(d)
    return rows / np.linalg.norm(rows, axis=1)[:, None]
