"""Measure a potential, decide, and submit the next generation."""

from __future__ import annotations

from typing import Any

from fireworks import explicit_serialize

from gapfactory.protocols.de_novo import decide, picks_of
from gapfactory.seeds import Stage
from launchpad.assessment import assess
from launchpad.database.campaigns import require_campaign, set_state
from launchpad.database.documents import MetricsDocument, generation_id
from launchpad.database.potentials import cached_potential, require_potential
from launchpad.database.results import metrics_of, save_metrics
from launchpad.operations.quotas import exceeded, planned_for
from launchpad.stability import measure_stability, stability_wanted
from launchpad.states import CampaignState
from launchpad.tasks.base import CampaignTask, TaskContext
from launchpad.workflows.generation import submit_generation

__all__ = ["AssessTask"]


@explicit_serialize
class AssessTask(CampaignTask):
    """Judge the potential of a generation; then stop the campaign or submit its next generation."""

    def work(self, context: TaskContext) -> dict[str, Any]:
        """Measure (once), decide (again the same), act (idempotently)."""
        campaign, generation, database = context.campaign, context.generation, context.database
        key = generation_id(campaign.name, generation)
        stored = database.metrics.find_one({"_id": key})
        if stored is None:
            stored = self._measure(context, key)
        if stored["decision"] == "continue":
            reason = _over_quota(context)
            if reason and set_state(database, campaign.name, CampaignState.HALTED, reason):
                # `resume` runs this task again, which then acts on what is stored
                return {"halted": True, "reason": reason}
            # it may have been cancelled while this was measured
            acted = require_campaign(database, campaign.name)["state"] != CampaignState.CANCELLED
            if acted:
                submit_generation(context.queue, campaign, generation + 1)
        else:
            acted = set_state(database, campaign.name, CampaignState.DONE, stored["reason"])
        if not acted and require_campaign(database, campaign.name)["state"] == CampaignState.CANCELLED:
            # `resume` runs this task again, which then acts on what is stored
            return {"cancelled": True}
        return {"decision": stored["decision"], "reason": stored["reason"], **stored["evidence"]["headline"]}

    def _measure(self, context: TaskContext, key: str) -> dict[str, Any]:
        from gapfactory.analysis.learning import Evidence
        from gapfactory.potentials.gap import load_potential

        campaign, generation, database = context.campaign, context.generation, context.database

        def potential(of: int) -> Any:
            return load_potential(cached_potential(database, require_potential(database, campaign.name, of)))

        newest = potential(generation)
        evidence = assess(
            database,
            campaign,
            generation,
            newest,
            potential(generation - 1) if generation else None,
        )
        earlier = [m for m in metrics_of(database, campaign.name) if m["generation"] < generation]
        labels = sum(sum(picks_of(campaign, g)) for g in range(generation + 1))
        history = [
            Evidence(
                generation=entry["generation"],
                n_labels=entry["labels"],
                n_structures=entry["window"]["n"],
                energy_rmse=_number(entry["window"]["energy_rmse_eV"]),
            )
            for entry in (
                *(
                    {"generation": m["generation"], "labels": m["labels"], "window": m["evidence"]["window"]}
                    for m in earlier
                ),
                {"generation": generation, "labels": labels, "window": evidence["window"]},
            )
        ]
        decision = decide(campaign, generation, history)
        if stability_wanted(campaign, decision.action):
            found = measure_stability(database, campaign, generation, newest, context.rng(Stage.STABILITY))
            evidence["stability"] = found
            evidence["headline"]["stability"] = found["headline"]
        document = MetricsDocument(
            id=key,
            campaign=campaign.name,
            generation=generation,
            labels=labels,
            decision=decision.action,
            reason=decision.reason,
            evidence=evidence,
        )
        save_metrics(database, document)
        return document.to_bson()


def _over_quota(context: TaskContext) -> str:
    """Return which quota does not allow the next generation; nothing where that is on the queue already."""
    following = context.generation + 1
    key = f"add:{generation_id(context.campaign.name, following)}"
    if context.queue.journal.find_one({"_id": key}, {"_id": 1}) is not None:
        return ""
    reason = exceeded(context.database, planned_for(context.campaign, following))
    return reason.replace("resume NAME", f"resume {context.campaign.name}")


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
