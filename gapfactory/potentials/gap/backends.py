"""What solves one stage of a fit: our own linear algebra, or the program `gap_fit`.

Both get the same data, expected errors, sparse points and scales, solve the same equations and leave the same kind
of directory: `gap.xml` with its sparse-point files.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

from gapfactory.errors import FitError
from gapfactory.potentials.gap.files import XML_NAME, check_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from gapfactory.potentials.gap.data import LabelledStructure
    from gapfactory.potentials.gap.model import GapModel
    from gapfactory.potentials.gap.model import Term as ModelTerm
    from gapfactory.potentials.gap.settings import GapSettings
    from gapfactory.potentials.gap.sigmas import Sigmas
    from gapfactory.potentials.gap.solve import Design, Diagnostics, Triangle, TriangleStore
    from gapfactory.potentials.gap.terms import Term

__all__ = [
    "Backend",
    "NativeBackend",
    "Problem",
    "ProgramBackend",
    "Solved",
    "check_backend",
    "usable_cores",
]


@dataclass(frozen=True)
class Problem:
    """What all stages of one fit share.

    Attributes
    ----------
    data
        In the order of their ids.
    sigmas
        Absolute expected errors by id.
    terms, points
        Terms in the order of their stages, and the (n, d) sparse points of each.
    e0
        Energy of the free atom by symbol, eV.
    settings
        All numbers.
    """

    data: list[LabelledStructure]
    sigmas: Mapping[str, Sigmas]
    terms: list[Term]
    points: list[NDArray[np.float64]]
    e0: Mapping[str, float]
    settings: GapSettings

    def up_to(self, stage: int) -> int:
        """Return how many terms a stage has: its own and those of the stages before."""
        return sum(term.stage <= stage for term in self.terms)


@dataclass(frozen=True)
class Solved:
    """One solved stage.

    Attributes
    ----------
    model
        The potential as read back from its files.
    targets
        Energies, force components and virial components that were fitted.
    wall_s
        Seconds by step.
    diagnostics
        How well the system was posed; None where the backend does not say.
    versions
        Of what the backend is made of.
    """

    model: GapModel
    targets: Mapping[str, int]
    wall_s: Mapping[str, float]
    diagnostics: Diagnostics | None = None
    versions: Mapping[str, str] = field(default_factory=dict)


class Backend(Protocol):
    """Solves the stages of one fit."""

    #: engine that proves the finished potential
    proof: Literal["native", "quippy"]

    def solve(self, directory: Path, stage: int, deltas: Sequence[float]) -> Solved:
        """Fit the terms up to a stage and write the potential to a directory that must not exist yet.

        `deltas` are the energy scales of the stages, eV. Raises FitError if that fails.
        """


def check_backend(settings: GapSettings) -> str:
    """Return what will solve fits here, in words.

    Raises
    ------
    FitError
        If that is `gap_fit`, and it or quippy, which proves its potentials, is not installed.
    """
    if settings.backend == "native":
        return "built in"
    from importlib.util import find_spec

    from gapfactory.potentials.gap.program import find_program

    program = find_program(settings.program)
    if find_spec("quippy") is None:
        msg = (
            f"there is {program}, but not quippy, which proves its potentials: install gapfactory[quip], or use the "
            "built-in engine (gap: {backend: native})"
        )
        raise FitError(msg)
    return f"gap_fit ({program})"


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def package_versions(*names: str) -> dict[str, str]:
    """Return the versions of installed packages."""
    versions = {}
    for name in names:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = "not installed"
    return versions


class NativeBackend:
    """One pass over the data for all stages, then a small solution for each.

    Parameters
    ----------
    problem
        What is fitted.
    store
        Triangles of earlier fits with the same sparse points, or None.
    """

    proof: Literal["native", "quippy"] = "native"

    def __init__(self, problem: Problem, store: TriangleStore | None = None) -> None:
        self._problem = problem
        self._store = store
        self._system: tuple[Design, Triangle] | None = None

    def _terms(self, n: int, deltas: Sequence[float]) -> list[ModelTerm]:
        from gapfactory.potentials.gap.model import empty_term

        p = self._problem
        return [
            replace(
                empty_term(term.descriptor, term.covariance, deltas[term.stage]),
                points=x,
                alphas=np.zeros(len(x)),
                sparse_cutoffs=np.ones(len(x)),
            )
            for term, x in zip(p.terms[:n], p.points[:n], strict=True)
        ]

    def solve(self, directory: Path, stage: int, deltas: Sequence[float]) -> Solved:
        """Fit the terms up to a stage; see `Backend`."""
        from ase.data import atomic_numbers

        from gapfactory.potentials.gap.model import GapModel
        from gapfactory.potentials.gap.solve import Design, assemble, solve
        from gapfactory.potentials.gap.trainfile import expected_targets
        from gapfactory.potentials.gap.xml import write_gap

        p = self._problem
        wall: dict[str, float] = {}
        start = time.monotonic()
        if self._system is None:
            # Scales are not known yet: columns are made for delta = 1 eV and scaled at every solution.
            design = Design(self._terms(len(p.terms), np.ones(3).tolist()), p.e0)
            threads = p.settings.program.fit_threads or usable_cores()
            self._system = design, assemble(design, p.data, p.sigmas, threads=threads, store=self._store)
            wall["rows"] = time.monotonic() - start
            start = time.monotonic()
        triangle = self._system[1]
        n = p.up_to(stage)
        terms, diagnostics = solve(triangle, self._terms(n, deltas), p.settings.jitter, row_deltas=[1.0] * n)
        e0 = {atomic_numbers[symbol]: energy for symbol, energy in p.e0.items()}
        directory.mkdir(parents=True)
        write_gap(GapModel(terms=terms, e0=e0), directory / XML_NAME)
        wall["solve"] = time.monotonic() - start
        targets = expected_targets(p.data)
        if triangle.rows != sum(targets.values()):
            msg = (
                f"the linear system has {triangle.rows} rows where the data hold {targets}: the potential is not "
                "what was asked for and is thrown away"
            )
            raise FitError(msg)
        model = check_files(directory, n_sparse=[len(x) for x in p.points[:n]], e0=p.e0, error=FitError)
        return Solved(model, targets, wall, diagnostics, package_versions("numba"))


class ProgramBackend:
    """Runs `gap_fit` anew for every stage."""

    proof: Literal["native", "quippy"] = "quippy"

    def __init__(self, problem: Problem) -> None:
        from gapfactory.potentials.gap.program import find_program

        find_program(problem.settings.program)
        self._problem = problem

    def solve(self, directory: Path, stage: int, deltas: Sequence[float]) -> Solved:
        """Fit the terms up to a stage; see `Backend`."""
        from gapfactory.potentials.gap.program import program_versions, run_program

        p = self._problem
        n = p.up_to(stage)
        model, counts, seconds, log = run_program(
            directory, p.data, p.sigmas, p.terms[:n], deltas, p.points[:n], p.settings, p.e0
        )
        versions = package_versions("quippy-ase") | program_versions(log)
        return Solved(model, counts, {"fit": seconds}, None, versions)
