"""Relaxation of many cells at once: their geometries are evaluated together, each goes its own way.

A random search relaxes thousands of cells of a few atoms. One call of a compiled potential for many of them costs much
less than many calls. Each cell is a state machine of its own (`gapfactory.search.descent`), so its result depends
neither on which other cells share its batch nor on its place there, as far as its evaluations do not.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import RelaxationError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from ase import Atoms

    from gapfactory.search.anneal_search import SearchJob
    from gapfactory.search.descent import Minimisation
    from gapfactory.search.evaluator import Answer, BatchEvaluator
    from gapfactory.search.settings import RelaxSettings
    from gapfactory.search.trajectory import Trajectory

    Machine = Generator[Atoms, Answer, Trajectory]

__all__ = ["Finished", "minimise_each", "relax_batch", "relax_each", "run_each", "search_each"]

#: cells per call: enough to fill the matrix products of a potential, few enough that little is lost when a worker is
#: killed, because a finished cell makes room for the next
WIDTH = 16


@dataclass(frozen=True)
class Finished:
    """One relaxation that has ended.

    Attributes
    ----------
    index
        Its place in what was asked for.
    trajectory
        Its result.
    seconds
        Its share of the elapsed time of the calls it was part of, by number of atoms.
    """

    index: int
    trajectory: Trajectory
    seconds: float


def relax_batch(
    structures: Sequence[Atoms],
    pressures_GPa: Sequence[float],
    evaluate: BatchEvaluator,
    settings: RelaxSettings,
    *,
    width: int = WIDTH,
) -> list[Trajectory]:
    """Relax positions and cells of many structures to minima of their enthalpies E + p V.

    Parameters
    ----------
    structures
        Periodic in three directions; not changed.
    pressures_GPa
        External pressure of each, in GPa.
    evaluate
        See `gapfactory.search.evaluator.BatchEvaluator`; `OneByOne` wraps an ASE calculator.
    settings
        Optimiser, thresholds, guards and thinning.
    width
        Cells that are evaluated in one call.

    Returns
    -------
    list of Trajectory
        In the order of the structures. A relaxation that goes wrong physically (collapse, explosion, NaN, a potential
        that refuses) has status ``failed`` and its reason, and does not touch the others.

    Raises
    ------
    RelaxationError
        A structure is not periodic or has no volume, the evaluator has no stress or answers too little, or the numbers
        of structures and pressures differ.
    """
    found = {
        done.index: done for done in relax_each(structures, pressures_GPa, evaluate, settings, width=width)
    }
    return [found[k].trajectory for k in range(len(found))]


def relax_each(
    structures: Sequence[Atoms],
    pressures_GPa: Sequence[float],
    evaluate: BatchEvaluator,
    settings: RelaxSettings,
    *,
    width: int = WIDTH,
) -> Iterator[Finished]:
    """As `relax_batch`, but yield every relaxation as soon as it has ended."""
    from gapfactory.search.anneal_search import minimisation

    if len(structures) != len(pressures_GPa):
        raise RelaxationError(
            f"{len(structures)} structures and {len(pressures_GPa)} pressures: give one pressure for each structure."
        )
    if settings.anneal is not None:
        raise RelaxationError("relax_each does not anneal: use search_each, or leave relax.anneal out.")
    return minimise_each(
        (
            minimisation(atoms, pressure, settings)
            for atoms, pressure in zip(structures, pressures_GPa, strict=True)
        ),
        evaluate,
        width=width,
    )


def minimise_each(
    tasks: Iterable[Minimisation], evaluate: BatchEvaluator, *, width: int = WIDTH
) -> Iterator[Finished]:
    """Minimise one enthalpy after the other, at most `width` at a time, and yield each when it has ended.

    Raises
    ------
    RelaxationError
        As `relax_batch`.
    """
    from gapfactory.search.descent import descend

    return run_each(((len(task.start), descend(task)) for task in tasks), evaluate, width=width)


def search_each(
    jobs: Iterable[SearchJob], evaluate: BatchEvaluator, *, width: int = WIDTH
) -> Iterator[Finished]:
    """Relax cells, each with its own settings, anneal and relax again those that say so; yield each when it has ended.

    Raises
    ------
    RelaxationError
        As `relax_batch`.
    """
    from gapfactory.search.anneal_search import search

    return run_each(((len(job.start), search(job)) for job in jobs), evaluate, width=width)


def run_each(
    machines: Iterable[tuple[int, Machine]], evaluate: BatchEvaluator, *, width: int = WIDTH
) -> Iterator[Finished]:
    """Run state machines, at most `width` at a time, and yield each result when it is there.

    Parameters
    ----------
    machines
        Each with its number of atoms; a machine yields the structure that it wants evaluated and is sent the answer.
    evaluate, width
        As `relax_batch`.

    Raises
    ------
    RelaxationError
        As `relax_batch`.
    """
    if width < 1:
        raise RelaxationError(f"width {width}: at least one cell must be evaluated at a time.")
    waiting = enumerate(machines)
    active: list[_Slot] = []
    exhausted = False
    while active or not exhausted:
        began = time.perf_counter()
        # numpy's complaints about a diverging cell would repeat what the guards say in plain words
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            while len(active) < width and not exhausted:
                index, given = next(waiting, (-1, None))
                exhausted = given is None
                if given is not None:
                    active.append(_Slot(index, *given))
            asking = [slot for slot in active if slot.result is None]
            for slot, answer in zip(asking, _ask(evaluate, [s.structure for s in asking]), strict=True):
                slot.send(answer)
        seconds = (time.perf_counter() - began) / max(1, sum(slot.n_atoms for slot in active))
        for slot in active:
            slot.seconds += seconds * slot.n_atoms
        for slot in active:
            if slot.result is not None:
                yield Finished(slot.index, slot.result, slot.seconds)
        active = [slot for slot in active if slot.result is None]


class _Slot:
    """One relaxation under way."""

    def __init__(self, index: int, n_atoms: int, machine: Machine) -> None:
        self.index = index
        self.n_atoms = n_atoms
        self.seconds = 0.0
        self.result: Trajectory | None = None
        self.structure: Atoms
        self._machine = machine
        self._advance(None)

    def send(self, answer: Answer) -> None:
        """Go on with an answer, up to the next question or the end."""
        self._advance(answer)

    def _advance(self, answer: Answer | None) -> None:
        try:
            self.structure = next(self._machine) if answer is None else self._machine.send(answer)
        except StopIteration as end:
            self.result = end.value


def _ask(evaluate: BatchEvaluator, structures: list[Atoms]) -> Sequence[Answer]:
    """Evaluate together; where that fails as a whole, one by one, so that only the culprit is refused."""
    from gapfactory.search.evaluator import STRUCTURE_ERRORS, Refusal, reason_of

    if not structures:
        return []
    try:
        answers = evaluate(structures)
    except RelaxationError:
        raise
    except STRUCTURE_ERRORS as error:
        if len(structures) == 1:
            return [Refusal(reason_of(error))]
        return [answer for atoms in structures for answer in _ask(evaluate, [atoms])]
    if len(answers) != len(structures):
        raise RelaxationError(
            f"{type(evaluate).__name__} gave {len(answers)} answers for {len(structures)} structures: it must answer "
            "each."
        )
    return answers
