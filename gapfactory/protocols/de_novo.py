"""The protocol of Bernstein, Csányi and Deringer (npj Comput. Mater. 5, 99, 2019): exploring and fitting *de novo*.

Generation 0 labels the most diverse of many random cells, with isolated atoms and dimers, and fits a first
potential. Every later generation relaxes new random cells with the potential before it, labels the most relevant and
diverse structures seen on the way down, and fits again.

A campaign that labels another one's structures again (`Campaign.source`) has the first generation alone, without cells
and selection: the structures are chosen already.

Pure: nothing here reads a clock, a file or a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory.analysis.learning import decide_stop
from gapfactory.protocols.plan import Decision, PlannedTask, TaskKind, chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.analysis.learning import Evidence
    from gapfactory.campaign import Campaign

__all__ = ["decide", "picks_of", "plan_generation"]


def picks_of(campaign: Campaign, generation: int) -> tuple[int, int]:
    """Return how many structures generation `generation` labels for training and for testing.

    The last generation before the label budget is spent gets what is left, in the same proportion.
    """
    train, test = campaign.select.labels_per_generation, campaign.select.held_out_per_generation
    left = campaign.stop.label_budget - generation * (train + test)
    if left >= train + test:
        return train, test
    left = max(left, 0)
    few_test = left * test // (train + test)
    return left - few_test, few_test


def plan_generation(campaign: Campaign, generation: int) -> tuple[PlannedTask, ...]:
    """Return the tasks of one generation, parents before children.

    Parameters
    ----------
    campaign
        The resolved campaign.
    generation
        0 for the first.
    """
    tasks: list[PlannedTask] = []

    def add(key: str, kind: TaskKind, parents: Sequence[str] = (), **parameters: int | str) -> str:
        tasks.append(PlannedTask(key, kind, dict(parameters), tuple(parents)))
        return key

    execution = campaign.execution
    evidence: list[str] = []
    labelled: list[str] = []
    if generation == 0:
        labelled.append(add("reference-atoms", TaskKind.REFERENCE, what="atoms"))
        evidence += [
            add(f"reference-phase-{name}", TaskKind.REFERENCE, what="phase", phase=name)
            for name in campaign.phase_names()
        ]
    cells = campaign.cells_of(generation)
    chosen: tuple[str, ...] = ()
    built = {
        start: add(f"build-{start:06d}", TaskKind.BUILD, start=start, stop=stop)
        for start, stop in chunks(cells, execution.build_chunk)
    }
    pool = list(built.values())
    if generation:
        size = execution.build_chunk
        pool = [
            add(
                f"relax-{start:06d}",
                TaskKind.RELAX,
                [built[first] for first in range(start // size * size, stop, size)],
                start=start,
                stop=stop,
            )
            for start, stop in chunks(cells, execution.relax_chunk)
        ]
    if campaign.source is None:
        chosen = (add("select", TaskKind.SELECT, pool),)
    train, test = picks_of(campaign, generation)
    labelled += [
        add(f"reference-{start:06d}", TaskKind.REFERENCE, chosen, what="picks", start=start, stop=stop)
        for start, stop in chunks(train + test, execution.reference_chunk)
    ]
    if generation == 0 and campaign.select.noise_cells:
        # the noise of the labels bounds the errors that the fit may assume, so the fit waits for it
        labelled.append(add("reference-noise", TaskKind.REFERENCE, chosen, what="noise"))
    fit = add("fit", TaskKind.FIT, labelled)
    add("assess", TaskKind.ASSESS, (fit, *evidence))
    return tuple(tasks)


def decide(campaign: Campaign, generation: int, history: Sequence[Evidence]) -> Decision:
    """Decide at the end of a generation whether the campaign stops.

    Parameters
    ----------
    campaign
        The resolved campaign.
    generation
        The generation that was just assessed.
    history
        What every assessed generation was measured on, none of it in its training set.
    """
    spent = sum(sum(picks_of(campaign, earlier)) for earlier in range(generation + 1))
    stop = decide_stop(
        history,
        label_budget=campaign.stop.label_budget,
        labels_spent=spent,
        settings=campaign.stop.convergence,
    )
    if stop.stop:
        return Decision("stop", stop.reason)
    if generation + 1 >= campaign.schedule.generations:
        return Decision("stop", f"all {campaign.schedule.generations} generations are done")
    return Decision("continue", stop.reason)
