"""Measure a potential, decide, and submit the next generation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from fireworks import explicit_serialize

from gapfactory.protocols.own_data import data_joining, given_up_to
from gapfactory.protocols.planner import after_trial, decide, recipe_of, tried_first
from gapfactory.seeds import Stage
from launchpad.assessment import assess
from launchpad.database.anneals import forget_anneals
from launchpad.database.campaigns import require_campaign, set_state
from launchpad.database.dataset import pick_items
from launchpad.database.documents import MetricsDocument, SelectionDocument, generation_id
from launchpad.database.potentials import cached_potential, preceding_potential, require_potential
from launchpad.database.results import metrics_of, save_metrics, save_selection
from launchpad.operations.quotas import exceeded, planned_for
from launchpad.ranking import measure_ranking
from launchpad.robustness import starting_crystal
from launchpad.stability import measure_stability, stability_wanted
from launchpad.states import CampaignState
from launchpad.studies import run_study
from launchpad.tasks.base import CampaignTask, TaskContext
from launchpad.vibrations import (
    fitted_to,
    measure_vibrations,
    require_reference,
    vibrations_in_words,
)
from launchpad.workflows.generation import submit_generation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pymongo.database import Database

    from gapfactory.analysis.energy_distribution import EnergyBox
    from gapfactory.campaign import Campaign
    from gapfactory.protocols.plan import Decision

__all__ = ["AssessTask", "labels_spent"]


@explicit_serialize
class AssessTask(CampaignTask):
    """Judge the potential of a generation; then stop the campaign or submit its next generation."""

    optional_params: ClassVar[tuple[str, ...]] = ("study",)

    def work(self, context: TaskContext) -> dict[str, Any]:
        """Measure (once), decide (again the same), act (idempotently); or make one study of the generation."""
        if "study" in self:
            return run_study(context, self["study"])
        campaign, generation, database = context.campaign, context.generation, context.database
        key = generation_id(campaign.name, generation)
        stored = database.metrics.find_one({"_id": key})
        if stored is None:
            stored = self._measure(context, key)
        if stored["decision"] == "continue":
            reason = _over_quota(context, _following(stored))
            if reason and set_state(database, campaign.name, CampaignState.HALTED, reason):
                # `resume` runs this task again, which then acts on what is stored
                return {"halted": True, "reason": reason}
            # it may have been cancelled while this was measured
            acted = require_campaign(database, campaign.name)["state"] != CampaignState.CANCELLED
            if acted:
                following = _following(stored)
                for left_out in range(generation + 1, following):
                    save_selection(database, _nothing(campaign, left_out, stored["reason"]))
                submit_generation(context.queue, campaign, following)
        else:
            acted = set_state(database, campaign.name, CampaignState.DONE, stored["reason"])
        if not acted and require_campaign(database, campaign.name)["state"] == CampaignState.CANCELLED:
            # `resume` runs this task again, which then acts on what is stored
            return {"cancelled": True}
        return {"decision": stored["decision"], "reason": stored["reason"], **stored["evidence"]["headline"]}

    def _measure(self, context: TaskContext, key: str) -> dict[str, Any]:
        from gapfactory.analysis.learning import Evidence
        from gapfactory.potentials import load_potential

        campaign, generation, database = context.campaign, context.generation, context.database

        def potential(of: int) -> Any:
            return load_potential(cached_potential(database, require_potential(database, campaign.name, of)))

        # those whose workers were killed between storing the relaxation and removing them, or that went to a site
        forget_anneals(database, campaign.name, generation)
        recipe = recipe_of(campaign, generation)
        if not recipe.fits:
            return self._rank(context, key)
        newest = potential(generation)
        if recipe.picks == "frames":
            require_reference(database, campaign)
        # what this generation chose is judged by the potential before; one without choices has no such judgement
        judged = generation > 0 and recipe.picks not in {"none", "frames"}
        # the generation before may have been left out
        before = preceding_potential(database, campaign.name, generation)["generation"] if judged else 0
        evidence = assess(database, campaign, generation, newest, potential(before) if judged else None)
        if recipe.picks == "frames":
            evidence["vibrations"] = measure_vibrations(
                database, campaign, newest, fit=fitted_to(database, campaign, generation)
            )
            evidence["headline"] |= vibrations_in_words(evidence["vibrations"])
        earlier = [m for m in metrics_of(database, campaign.name) if m["generation"] < generation]
        labels = labels_spent(database, campaign, generation)
        given = given_up_to(campaign, generation)
        newest_entry = {"generation": generation, "labels": labels, "given": given, "evidence": evidence}
        history = [
            Evidence(
                generation=entry["generation"],
                n_labels=entry["labels"] + entry.get("given", 0),
                n_structures=entry["evidence"]["window"]["n"],
                energy_rmse=_number(entry["evidence"]["window"]["energy_rmse_eV"]),
                ends=_ends(entry["evidence"]),
            )
            for entry in (*earlier, newest_entry)
        ]
        decision = decide(campaign, generation, history)
        first = tried_first(campaign, generation, decision)
        if first or stability_wanted(campaign, decision.action):
            found = measure_stability(database, campaign, generation, newest, context.rng(Stage.STABILITY))
            evidence["stability"] = found
            evidence["headline"]["stability"] = found["headline"]
            if first:
                run = found["dynamics"]
                survives = run is not None and run["survived"]
                decision = after_trial(campaign, generation, decision, survives=survives)
        if campaign.robustness is not None:
            evidence["start"] = starting_crystal(database, campaign, generation)
        return _store(context, key, labels, decision, evidence)

    def _rank(self, context: TaskContext, key: str) -> dict[str, Any]:
        """Rank what a search has found; it has no potential of its own to be judged."""
        evidence = measure_ranking(context)
        decision = decide(context.campaign, context.generation, ())
        labels = labels_spent(context.database, context.campaign, context.generation)
        return _store(context, key, labels, decision, evidence)


def _store(
    context: TaskContext, key: str, labels: int, decision: Decision, evidence: dict[str, Any]
) -> dict[str, Any]:
    document = MetricsDocument(
        id=key,
        campaign=context.campaign.name,
        generation=context.generation,
        labels=labels,
        given=given_up_to(context.campaign, context.generation),
        decision=decision.action,
        reason=decision.reason,
        evidence=evidence,
        go_to=decision.go_to,
    )
    save_metrics(context.database, document)
    return document.to_bson()


def _following(stored: Mapping[str, Any]) -> int:
    """Return the generation that a stored decision goes on with."""
    go_to = stored.get("go_to")
    return int(stored["generation"]) + 1 if go_to is None else int(go_to)


def _nothing(campaign: Campaign, generation: int, reason: str) -> SelectionDocument:
    """Return the selection of a generation that is left out; data that were to join in it do not."""
    from gapfactory.select import SelectionReport

    notes = (
        f"left out: {reason}",
        *(f"data {name!r} did not join" for name in data_joining(campaign, generation)),
    )
    report = SelectionReport((), (), (), {}, notes)
    return SelectionDocument(
        id=generation_id(campaign.name, generation),
        campaign=campaign.name,
        generation=generation,
        train=[],
        test=[],
        report=report.to_json(),
    )


def labels_spent(database: Database[Any], campaign: Campaign, generation: int) -> int:
    """Return the labels up to a generation: as planned where a funnel chose, as chosen where all are taken.

    What came with labels is not among them.
    """
    spent = 0
    for earlier in range(generation + 1):
        recipe = recipe_of(campaign, earlier)
        every = recipe.picks in {"cells", "snapshots", "ends", "dynamics", "frames", "ranked"}
        if every:
            spent += sum(not item.given for item in pick_items(database, campaign, earlier))
        else:
            spent += recipe.labels
    return spent


def _ends(evidence: Mapping[str, Any]) -> EnergyBox | None:
    from gapfactory.analysis.energy_distribution import EnergyBox

    # assessments of earlier versions do not have it
    box = evidence.get("energies", {}).get("end")
    return None if box is None else EnergyBox.from_dict(box)


def _over_quota(context: TaskContext, following: int) -> str:
    """Return which quota does not allow the next generation; nothing where that is on the queue already."""
    key = f"add:{generation_id(context.campaign.name, following)}"
    if context.queue.journal.find_one({"_id": key}, {"_id": 1}) is not None:
        return ""
    reason = exceeded(context.database, planned_for(context.campaign, following))
    return reason.replace("resume NAME", f"resume {context.campaign.name}")


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
