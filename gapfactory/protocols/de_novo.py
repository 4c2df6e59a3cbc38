"""The protocol of Bernstein, Csányi and Deringer (npj Comput. Mater. 5, 99, 2019): exploring and fitting *de novo*.

Generation 0 labels the most diverse of many random cells, with isolated atoms and dimers, and fits a first
potential. Every later generation relaxes new random cells with the potential before it, labels the most relevant and
diverse structures seen on the way down, and fits again.

Pure: nothing here reads a clock, a file or a database.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gapfactory.protocols.plan import Decision, PlannedTask, TaskKind, chunks

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
    size = execution.build_chunk if generation == 0 else execution.relax_chunk
    pool: list[str] = []
    for start, stop in chunks(cells, size):
        built = add(f"build-{start:06d}", TaskKind.BUILD, start=start, stop=stop)
        pool.append(
            built
            if generation == 0
            else add(f"relax-{start:06d}", TaskKind.RELAX, (built,), start=start, stop=stop)
        )
    select = add("select", TaskKind.SELECT, pool)
    train, test = picks_of(campaign, generation)
    labelled += [
        add(f"reference-{start:06d}", TaskKind.REFERENCE, (select,), what="picks", start=start, stop=stop)
        for start, stop in chunks(train + test, execution.reference_chunk)
    ]
    if generation == 0 and campaign.schedule.noise_cells:
        evidence.append(add("reference-noise", TaskKind.REFERENCE, (select,), what="noise"))
    fit = add("fit", TaskKind.FIT, labelled)
    add("assess", TaskKind.ASSESS, (fit, *evidence))
    return tuple(tasks)


def decide(campaign: Campaign, generation: int, history: Sequence[Mapping[str, float | bool | None]]) -> Decision:
    """Decide at the end of a generation whether the campaign stops.

    Parameters
    ----------
    campaign
        The resolved campaign.
    generation
        The generation that was just assessed.
    history
        One entry per assessed generation, oldest first: ``labels`` (picks labelled so far), ``energy_error_meV``
        (held-out, low-energy window; None if unknown), ``phases_pass`` (None without phases).
    """
    stop = campaign.stop
    if generation + 1 >= campaign.schedule.generations:
        return Decision("stop", f"all {campaign.schedule.generations} generations are done")
    if sum(picks_of(campaign, generation + 1)) == 0:
        return Decision("stop", f"the budget of {stop.label_budget} labels is spent")
    target = stop.target_energy_error_mev
    if target is not None and len(history) >= stop.patience:
        recent = history[-stop.patience :]
        errors = [entry["energy_error_meV"] for entry in recent]
        passed = all(entry["phases_pass"] is not False for entry in recent)
        if passed and all(error is not None and error <= target for error in errors):
            return Decision(
                "stop",
                f"converged: the held-out energy error was at most {target:g} meV/atom and every named phase passed "
                f"in {stop.patience} generations running",
            )
    return Decision("continue", f"generation {generation + 1} follows: labels are left and the target is not met")
