"""The tasks of a generation by its recipe, and the decision at its end; the same planner for every protocol.

Pure: nothing here reads a clock, a file or a database.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from gapfactory.analysis.vibration_study import study_variants
from gapfactory.protocols import boron, chain, de_novo, robustness, search, vibrations
from gapfactory.protocols.kinds import KINDS
from gapfactory.protocols.own_data import data_joining
from gapfactory.protocols.plan import Decision, PlannedTask, TaskKind, chunks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.analysis.learning import Evidence
    from gapfactory.campaign import Campaign
    from gapfactory.protocols.recipe import GenerationRecipe
    from gapfactory.protocols.vibration_settings import VibrationSettings

__all__ = [
    "after_trial",
    "decide",
    "generations_of",
    "plan_generation",
    "recipe_of",
    "searches_of",
    "tried_first",
]


class _Add(Protocol):
    """How a task is added to the plan; returns its key."""

    def __call__(
        self, key: str, kind: TaskKind, parents: Sequence[str] = (), **parameters: int | str
    ) -> str: ...


class _Protocol(Protocol):
    """What the module of a protocol offers."""

    def recipe(self, campaign: Campaign, generation: int) -> GenerationRecipe: ...

    def generations(self, campaign: Campaign) -> int: ...

    def decide(self, campaign: Campaign, generation: int, history: Sequence[Evidence]) -> Decision: ...


PROTOCOLS: Final[dict[str, _Protocol]] = {
    "de-novo-2019": de_novo,
    "boron-2018": boron,
    "eddp-chain": chain,
    "ndsc-2022": vibrations,
    "search": search,
}


def searches_of(campaign: Campaign) -> int:
    """Return how many generations the protocol itself has: rounds of robustness and vibrations come after them."""
    return PROTOCOLS[campaign.protocol].generations(campaign)


def _rounds(campaign: Campaign) -> int:
    return 0 if campaign.robustness is None else campaign.robustness.rounds


def _ends_with_vibrations(campaign: Campaign) -> bool:
    return campaign.vibrations is not None and KINDS[campaign.protocol].searches


def recipe_of(campaign: Campaign, generation: int) -> GenerationRecipe:
    """Return the recipe of one generation of a campaign, 0 for the first."""
    protocol, searches = PROTOCOLS[campaign.protocol], searches_of(campaign)
    if generation < searches or generation >= generations_of(campaign):
        return protocol.recipe(campaign, generation)
    last = protocol.recipe(campaign, searches - 1)
    if campaign.robustness is not None and generation < searches + campaign.robustness.rounds:
        return robustness.robustness_recipe(
            campaign, campaign.robustness, generation, last.potential, last.trained_crystals
        )
    return vibrations.vibration_recipe(campaign, generation, last.potential, last.trained_crystals)


def generations_of(campaign: Campaign) -> int:
    """Return how many generations a campaign has that is not ended early, all that come after the search included."""
    return searches_of(campaign) + _rounds(campaign) + _ends_with_vibrations(campaign)


def decide(campaign: Campaign, generation: int, history: Sequence[Evidence]) -> Decision:
    """Decide at the end of a generation whether, and with which generation, the campaign goes on.

    Where `tried_first` says so, `after_trial` has the last word.

    Parameters
    ----------
    campaign
        The resolved campaign.
    generation
        The generation that was just assessed.
    history
        What every assessed generation was measured on, none of it in its training set.
    """
    searches, total = searches_of(campaign), generations_of(campaign)
    if generation < searches:
        found = PROTOCOLS[campaign.protocol].decide(campaign, generation, history)
        if found.action == "stop" and searches < total:
            return replace(
                found, action="continue", reason=f"the search is over: {found.reason}", go_to=searches
            )
        return found
    done = generation - searches + 1
    if done < _rounds(campaign):
        return Decision("continue", f"{done} of {_rounds(campaign)} rounds of robustness: not yet there")
    if done == _rounds(campaign):
        return _after_rounds(campaign, f"all {done} rounds of robustness are done")
    return vibrations.decide(campaign, generation, history)


def tried_first(campaign: Campaign, generation: int, decision: Decision) -> bool:
    """Return whether what follows depends on the trial of this generation's potential (`evidence.stability`)."""
    first = searches_of(campaign)
    following = generation + 1 if decision.go_to is None else decision.go_to
    return campaign.robustness is not None and (
        first <= generation < first + campaign.robustness.rounds
        or (decision.action == "continue" and following == first)
    )


def after_trial(campaign: Campaign, generation: int, decision: Decision, *, survives: bool) -> Decision:
    """Return how the campaign goes on when the trial of the potential is known.

    Parameters
    ----------
    campaign, generation
        As in `decide`.
    decision
        What that returned.
    survives
        Whether the potential survives the molecular dynamics of its trial.
    """
    if campaign.robustness is None or not survives:
        return decision
    done = generation - searches_of(campaign) + 1
    if done > 0:
        return _after_rounds(
            campaign, f"the potential survives its molecular dynamics, in round {done} of robustness"
        )
    if campaign.robustness.when == "failed":
        return _after_rounds(campaign, "the potential of the search survives its molecular dynamics")
    return decision


def _after_rounds(campaign: Campaign, reason: str) -> Decision:
    """Return the end of the campaign, or its vibrations."""
    if _ends_with_vibrations(campaign):
        return Decision("continue", reason, go_to=generations_of(campaign) - 1)
    return Decision("stop", reason)


def plan_generation(campaign: Campaign, generation: int) -> tuple[PlannedTask, ...]:
    """Return the tasks of one generation, parents before children.

    Parameters
    ----------
    campaign
        The resolved campaign.
    generation
        0 for the first.
    """
    from gapfactory.potentials.eddp.settings import EddpSettings

    tasks: list[PlannedTask] = []

    def add(key: str, kind: TaskKind, parents: Sequence[str] = (), **parameters: int | str) -> str:
        tasks.append(PlannedTask(key, kind, dict(parameters), tuple(parents)))
        return key

    recipe, execution = recipe_of(campaign, generation), campaign.execution
    evidence: list[str] = []
    labelled: list[str] = []
    if generation == 0 and recipe.fits:
        if campaign.labels_atoms:
            labelled.append(add("reference-atoms", TaskKind.REFERENCE, what="atoms"))
        evidence += [
            add(f"reference-phase-{name}", TaskKind.REFERENCE, what="phase", phase=name)
            for name in campaign.phase_names()
        ]
    chosen: tuple[str, ...] = ()
    built = {
        start: add(f"build-{start:06d}", TaskKind.BUILD, start=start, stop=stop)
        for start, stop in chunks(recipe.n_cells, execution.build_chunk)
    }
    pool = list(built.values())

    def relaxations(first: int, stop: int, *parents: str) -> list[str]:
        size = execution.build_chunk
        return [
            add(
                f"relax-{first + a:06d}",
                TaskKind.RELAX,
                [*(built[k] for k in range((first + a) // size * size, first + b, size)), *parents],
                start=first + a,
                stop=first + b,
            )
            for a, b in chunks(stop - first, execution.relax_chunk)
        ]

    if recipe.relax is not None:
        pool = relaxations(0, recipe.n_before_fit)
        # what is only counted need not be waited for by the choice of what is labelled
        few = len(chunks(recipe.n_labelled, execution.relax_chunk))
        evidence += pool[few:]
        pool = pool[:few]
    if recipe.picks == "frames":
        pool += _relaxed_parents(campaign, add)
    if recipe.picks not in {"given", "none"}:
        chosen = (add("select", TaskKind.SELECT, pool),)
    labelled += [
        add(f"reference-{start:06d}", TaskKind.REFERENCE, chosen, what="picks", start=start, stop=stop)
        for start, stop in chunks(recipe.labels, execution.reference_chunk)
    ]
    labelled += [
        add(
            f"reference-relax-{start:06d}",
            TaskKind.REFERENCE,
            chosen,
            what="relaxations",
            start=start,
            stop=stop,
        )
        for start, stop in chunks(recipe.reference_relaxations, execution.reference_chunk)
    ]
    if any(campaign.data[name].verify for name in data_joining(campaign, generation)):
        labelled.append(add("reference-data", TaskKind.REFERENCE, what="data"))
    if recipe.noise:
        # the noise of the labels bounds the errors that the fit may assume, so the fit waits for it
        labelled.append(add("reference-noise", TaskKind.REFERENCE, chosen, what="noise"))
    if recipe.picks == "frames":
        evidence += _measured_parents(campaign, add, chosen, labelled)
    if not recipe.fits:
        add("assess", TaskKind.ASSESS, (*(labelled or pool), *evidence))
        return tuple(tasks)
    if isinstance(recipe.potential, EddpSettings):
        # the fit weighs what these train
        labelled = [
            add(f"train-{start:06d}", TaskKind.TRAIN, labelled, start=start, stop=stop)
            for start, stop in chunks(recipe.potential.ensemble.members, execution.train_chunk)
        ]
    fit = add("fit", TaskKind.FIT, labelled)
    if recipe.relax is not None:
        evidence += relaxations(recipe.n_before_fit, recipe.n_cells, fit)
    add("assess", TaskKind.ASSESS, (fit, *evidence))
    return tuple(tasks)


def _relaxed_parents(campaign: Campaign, add: _Add) -> list[str]:
    """Add a task for every crystal that the reference relaxes, and return their keys."""
    settings = campaign.vibration_settings
    keys: dict[str, str] = {}
    # those on Bain's path need the volume of another, which is never on it
    for name in sorted(settings.names(), key=lambda n: _other(settings, n) is not None):
        other = _other(settings, name)
        parents = () if other is None else (keys[other],)
        keys[name] = add(f"reference-parent-{name}", TaskKind.REFERENCE, parents, what="parent", parent=name)
    return list(keys.values())


def _other(settings: VibrationSettings, name: str) -> str | None:
    parent = settings.parent(name)
    return None if parent is None or parent.bain is None else parent.bain.of


def _measured_parents(
    campaign: Campaign, add: _Add, chosen: Sequence[str], labelled: Sequence[str]
) -> list[str]:
    """Add the reference's phonons and elastic constants of every crystal, and the studies; return their keys."""
    settings, parts = campaign.vibration_settings, campaign.execution.evidence_parts
    # a task says how many there are: the number in the campaign may be changed while they wait
    evidence = [
        add(
            f"reference-vibrations-{name}-{part}",
            TaskKind.REFERENCE,
            chosen,
            what="vibrations",
            parent=name,
            part=part,
            parts=parts,
        )
        for name in settings.names()
        for part in range(parts)
    ]
    if settings.studies.diagonal:
        labelled = [*labelled, add("reference-diagonal", TaskKind.REFERENCE, chosen, what="diagonal")]
    studies = [
        add(f"study-{variant}", TaskKind.ASSESS, [*labelled, *evidence], study=variant)
        for variant in study_variants(settings.studies)
    ]
    return [*evidence, *studies]
