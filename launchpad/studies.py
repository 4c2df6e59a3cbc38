"""Studies of a campaign: further fits to parts of its labels, measured like its potential (Allen and Bartók 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from gapfactory.errors import FitError, StateError
from gapfactory.protocols.planner import recipe_of
from gapfactory.seeds import Stage
from launchpad.database.dataset import (
    atom_items,
    pick_items,
    unlabelled_frames,
    vibration_items,
    with_labels,
)
from launchpad.database.documents import VibrationDocument
from launchpad.database.vibrations import save_vibrations, vibration_id, vibrations_of
from launchpad.parents import parents_of
from launchpad.vibrations import fit_facts, measure_vibrations, study_frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from launchpad.database.dataset import LabelledItem
    from launchpad.tasks.base import TaskContext

__all__ = ["run_study"]

#: Streams of the sparse points of each fit of a study.
_STREAMS: Final = 100


def run_study(context: TaskContext, variant: str) -> dict[str, Any]:
    """Fit and measure one study, unless that is done; one that has nothing to be fitted to is left out."""
    from gapfactory.analysis.vibration_study import study_fits, study_variants
    from gapfactory.potentials import load_potential
    from gapfactory.potentials.gap import GapSettings, fit_gap
    from launchpad.tasks.fit import fit_settings
    from launchpad.tasks.training import training_data

    campaign, database, generation = context.campaign, context.database, context.generation
    studies = campaign.vibration_settings.studies
    stored = vibrations_of(database, campaign.name, method="potential", variant=variant)
    # a task that was killed may have measured some; one that could not be compared may be compared by now
    done = {document["parent"] for document in stored if not document["reason"]}
    crystals = [parent.name for parent in parents_of(database, campaign) if not parent.reason]
    if done.issuperset(crystals):
        return {"study": variant, "reused": 1}
    frames = _labelled(context)
    every = [study_frame(entry) for entry in frames if _is_frame(entry) and _usable(entry)]
    settings = recipe_of(campaign, generation).potential
    if not isinstance(settings, GapSettings):
        msg = f"study {variant!r} fits Gaussian approximation potentials; the campaign has 'potential: eddp'"
        raise StateError(msg)
    fits = study_fits(every, studies, fit_settings(context, settings), context.rng(Stage.STUDY))
    wanted = {fit.variant: fit for fit in fits}.get(variant)
    if wanted is None:
        return _left_out(context, variant, crystals, "there are not enough labels for it")
    chosen = [entry for entry in frames if not _is_frame(entry) or entry.item.id in set(wanted.ids)]
    data = training_data(chosen, recipe_of(campaign, generation))
    number = study_variants(studies).index(variant)
    places = {entry.item.id: entry.item.atoms for entry in frames}
    more = [places[key] for key in wanted.unlabelled]
    if variant == "static":
        # nothing but the errors differs from the potential of the generation
        more += unlabelled_frames(database, campaign, generation)
    try:
        fit = fit_gap(
            data,
            species=tuple(campaign.species_table.values()),
            settings=wanted.gap,
            seed=lambda k: context.rng(Stage.STUDY, (number + 1) * _STREAMS + k),
            workdir=context.workdir / "fit",
            extra_sparse_structures=more,
        )
    except FitError as error:
        return _left_out(context, variant, crystals, f"it cannot be fitted: {error}")
    found = measure_vibrations(
        database,
        campaign,
        load_potential(fit.files[0].parent),
        variant=variant,
        fit=fit_facts(
            sum(fit.stages[-1].n_sparse), [frame for frame in every if frame.id in set(wanted.ids)]
        ),
    )
    return {"study": variant, "frames": len(wanted.ids), "crystals": len(found)}


def _left_out(context: TaskContext, variant: str, crystals: Sequence[str], reason: str) -> dict[str, Any]:
    """Store why there is no such potential, for the report and the figures to say."""
    campaign, generation = context.campaign.name, context.generation
    for parent in crystals:
        save_vibrations(
            context.database,
            VibrationDocument(
                id=vibration_id(campaign, generation, parent, "potential", variant),
                campaign=campaign,
                generation=generation,
                parent=parent,
                method="potential",
                variant=variant,
                data=None,
                reason=reason,
            ),
        )
    return {"study": variant, "note": f"left out: {reason}"}


def _labelled(context: TaskContext) -> list[LabelledItem]:
    """Return everything with a label that a study may be fitted to, diagonal supercells among it."""
    campaign, database = context.campaign, context.database
    items = atom_items(database, campaign)
    for earlier in range(context.generation + 1):
        items += pick_items(database, campaign, earlier)
    items += vibration_items(database, campaign, "diagonal")
    return with_labels(database, campaign, items)


def _is_frame(entry: LabelledItem) -> bool:
    return "parent" in entry.item.info


def _usable(entry: LabelledItem) -> bool:
    return entry.item.role != "test" and entry.label is not None and entry.label.status == "done"
