"""Collect what a campaign left in the database into a report, or into files to take away."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from launchpad import quarantine, queries
from launchpad.assessment import noise_of_labels, reference_curve
from launchpad.citations import citations
from launchpad.database.campaigns import campaign_of, require_campaign
from launchpad.database.dataset import atom_items, noise_items, pick_items, with_labels
from launchpad.database.potentials import latest_potential
from launchpad.database.results import metrics_of
from launchpad.diagnostics import search_counts
from launchpad.hulls import formation_data, hull_data
from launchpad.operations.removals import removals_of
from launchpad.own_data import data_in_words
from launchpad.selection_stages import selection_stages
from launchpad.stability import stored_stability, stored_trials
from launchpad.training_set import final_enthalpies, training_points

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pymongo.database import Database

    from gapfactory.analysis.distorted_errors import DistortedErrors
    from gapfactory.analysis.errors import ErrorRow
    from gapfactory.analysis.learning import LearningPoint, PowerLaw
    from gapfactory.analysis.levels import LevelComparison
    from gapfactory.campaign import Campaign
    from gapfactory.reference import LabelNoise
    from gapfactory.report import (
        Failure,
        GenerationSummary,
        PhaseEvidence,
        Quarantined,
        ReportData,
        ScatterData,
        VibrationEvidence,
    )
    from launchpad.database.dataset import LabelledItem

__all__ = ["collect_report", "labelled_by_generation", "report_campaign", "that_are_done"]


def report_campaign(database: Database[Any], name: str, directory: Path) -> Path:
    """Write the report of a campaign as it stands; return the path of its first page."""
    from gapfactory.report import write_report

    return write_report(collect_report(database, name), directory)


def collect_report(database: Database[Any], name: str, *, similarity: bool = True) -> ReportData:
    """Gather everything that the report of a campaign shows, with or without the costly similarity map."""
    from gapfactory.analysis.phases import missing_phases
    from gapfactory.report import Remedy, ReportData

    record = require_campaign(database, name)
    campaign = campaign_of(record)
    metrics = metrics_of(database, name)
    labelled = labelled_by_generation(database, campaign)
    everything = _everything(database, campaign, labelled)
    noise = noise_of_labels(database, campaign)
    learning = _learning(metrics)
    finished = max((m["created"] for m in metrics), default=None) if record["state"] == "done" else None
    potential = latest_potential(database, name)
    stability, tried = stored_stability(metrics)
    done = [e for group in labelled.values() for e in that_are_done(group)]
    return ReportData(
        campaign=name,
        system=campaign.element or ", ".join(sorted(campaign.composition or {})),
        state=record["state"],
        state_reason=record["reason"],
        settings=campaign.model_dump(mode="json"),
        started=record["created"].isoformat(timespec="seconds"),
        finished=finished.isoformat(timespec="seconds") if finished else "",
        wall_seconds=(finished - record["created"]).total_seconds() if finished else None,
        label_budget=campaign.stop.label_budget,
        generations=_generations(database, campaign, metrics, labelled),
        learning=learning,
        forecasts=_forecasts(learning),
        phases=_phases(database, campaign, metrics),
        phase_settings=campaign.evidence.curves,
        phases_missing=missing_phases(campaign.element) if campaign.element else {},
        stability=stability,
        stability_note="" if campaign.evidence.stability.enabled else "evidence.stability.enabled is false",
        stability_generation=tried,
        trials=stored_trials(campaign, metrics),
        label_noise=None if noise is None else noise.energy_rms_meV / 1000,
        label_noise_note=_noise_note(campaign, noise),
        scatter=_scatter(metrics),
        energies=_energies(labelled),
        selection=selection_stages(database, name),
        hull=hull_data(campaign, done),
        formation=formation_data(database, campaign, done, metrics),
        training=training_points(database, labelled, potential, metrics[-1] if metrics else None),
        own_data=data_in_words(database, campaign),
        crystals=_crystals(metrics),
        searches=tuple(search_counts(metrics)),
        rankings=tuple(m["evidence"]["ranking"] for m in metrics if "ranking" in m["evidence"]),
        vibrations=_vibrations(database, campaign),
        enthalpies=final_enthalpies(database, name),
        similarity=_similarity(campaign, labelled) if similarity else None,
        failures=_failures(database, campaign, everything),
        quarantined=_quarantined(everything),
        remedies=tuple(Remedy(r.name, r.used, r.helped) for r in quarantine.remedies_used(everything)),
        unusual=tuple(
            (row["id"], row["energy_eV_per_atom"], row["median_eV_per_atom"])
            for row in quarantine.energy_outliers_of(everything)
        ),
        levels=_levels(metrics),
        levels_of=campaign.source.campaign if campaign.source else "",
        potential_files={f["name"]: f["sha256"] for f in potential["files"]} if potential else {},
        removed=tuple(row["text"] for row in removals_of(database, name)),
        versions=record["versions"],
        citations=citations(campaign),
    )


def labelled_by_generation(database: Database[Any], campaign: Campaign) -> dict[int, list[LabelledItem]]:
    """Return what each generation has chosen, with its labels."""
    generations = [
        s["generation"] for s in database.selections.find({"campaign": campaign.name}, {"generation": 1})
    ]
    return {
        generation: with_labels(database, campaign, pick_items(database, campaign, generation))
        for generation in sorted(generations)
    }


def that_are_done(entries: Sequence[LabelledItem]) -> list[LabelledItem]:
    """Return those that have a label."""
    return [e for e in entries if e.label is not None and e.label.status == "done"]


def _generations(
    database: Database[Any],
    campaign: Campaign,
    metrics: list[dict[str, Any]],
    labelled: dict[int, list[LabelledItem]],
) -> tuple[GenerationSummary, ...]:
    from gapfactory.report import GenerationSummary, NetworkFit

    seconds: dict[int, dict[str, float]] = {}
    for row in queries.task_seconds(database, campaign.name):
        seconds.setdefault(row["generation"], {})[row["kind"]] = row["seconds"]
    errors = {m["generation"]: tuple(_error_row(row) for row in m["evidence"]["errors"]) for m in metrics}
    found = []
    for generation, entries in labelled.items():
        counts = queries.relaxation_counts(database, campaign.name, generation)
        failed = [e for e in entries if e.label is not None and e.label.status == "failed"]
        potential = database.potentials.find_one(
            {"campaign": campaign.name, "generation": generation}, {"report": 1, "trained_on": 1}
        )
        reasons = database.relaxations.find(
            {"campaign": campaign.name, "generation": generation, "status": {"$ne": "converged"}},
            {"reason": 1},
        )
        found.append(
            GenerationSummary(
                generation=generation,
                built=database.structures.count_documents(
                    {"campaign": campaign.name, "generation": generation, "stage": "cell"}
                ),
                relaxed_converged=counts.get("converged", 0),
                relaxed_unconverged=counts.get("unconverged", 0),
                relaxed_failed=counts.get("failed", 0),
                selected=len(entries),
                labelled=len(that_are_done(entries)),
                quarantined=len(failed),
                training_set=len(potential["trained_on"]) if potential else 0,
                relaxation_reasons=Counter(r["reason"] for r in reasons),
                quarantine_reasons=Counter(e.label.reason for e in failed if e.label is not None),
                errors=errors.get(generation, ()),
                deltas=potential["report"].get("deltas_eV", {}) if potential else {},
                networks=NetworkFit.from_report(potential["report"]) if potential else None,
                seconds=seconds.get(generation, {}),
            )
        )
    return tuple(found)


def _error_row(row: dict[str, Any]) -> ErrorRow:
    from gapfactory.analysis.errors import ErrorRow, ErrorSummary

    def number(value: float | None) -> float:
        return float("nan") if value is None else value

    return ErrorRow(
        quantity=row["quantity"],
        group=row["group"],
        n_structures=row["n_structures"],
        summary=ErrorSummary(
            n=row["n_values"],
            rmse=number(row["rmse"]),
            mae=number(row["mae"]),
            max=number(row["max"]),
            low=number(row["rmse_low"]),
            high=number(row["rmse_high"]),
        ),
    )


def _learning(metrics: list[dict[str, Any]]) -> tuple[LearningPoint, ...]:
    from gapfactory.analysis.learning import LearningPoint

    points = []
    for entry in metrics:
        # assessments of earlier versions do not say what was given
        generation, labels = entry["generation"], entry["labels"] + entry.get("given", 0)
        for row in entry["evidence"]["errors"]:
            if row["group"] == "all" and row["quantity"] in ("energy", "forces") and row["rmse"] is not None:
                unit = "eV/atom" if row["quantity"] == "energy" else "eV/Å"
                low, high = row["rmse_low"], row["rmse_high"]
                points.append(
                    LearningPoint(
                        generation,
                        labels,
                        f"held-out {row['quantity']}",
                        row["rmse"],
                        unit,
                        float("nan") if low is None else low,
                        float("nan") if high is None else high,
                    )
                )
        for name, phase in entry["evidence"]["phases"].items():
            if phase["comparison"] is not None:
                error = abs(phase["comparison"]["energy_error_meV_per_atom"]) / 1000
                points.append(LearningPoint(generation, labels, name, error))
    return tuple(points)


def _forecasts(points: Sequence[LearningPoint]) -> dict[str, PowerLaw]:
    from gapfactory.analysis.learning import fit_power_law
    from gapfactory.errors import EvidenceError

    found = {}
    for series in sorted({p.series for p in points if p.series.startswith("held-out")}):
        mine = [p for p in points if p.series == series]
        try:
            found[series] = fit_power_law([p.n_labels for p in mine], [p.error for p in mine])
        except EvidenceError:
            continue  # too few generations to extrapolate; the curve is drawn without a forecast
    return found


def _phases(
    database: Database[Any], campaign: Campaign, metrics: list[dict[str, Any]]
) -> tuple[PhaseEvidence, ...]:
    import numpy as np

    from gapfactory.analysis.energy_volume import EnergyVolumeCurve
    from gapfactory.report import PhaseEvidence

    if campaign.search is not None:
        return ()
    newest = metrics[-1]["evidence"]["phases"] if metrics else {}
    found = []
    for name in campaign.phase_names():
        measured = newest.get(name)
        curve = None
        if measured is not None:
            failures = tuple((float(volume), str(reason)) for volume, reason in measured["failures"])
            curve = EnergyVolumeCurve(
                name, "potential", np.array(measured["volumes"]), np.array(measured["energies"]), failures
            )
        phase = campaign.phase_of(name)
        found.append(
            PhaseEvidence(
                phase=name,
                label=phase.label,
                source=phase.source,
                potential=curve,
                reference=reference_curve(database, campaign, name),
                note=measured["note"] if measured else "",
            )
        )
    return tuple(found)


def _noise_note(campaign: Campaign, noise: LabelNoise | None) -> str:
    from gapfactory.reference import DftSettings

    reference = campaign.reference
    if not isinstance(reference, DftSettings):
        return "an analytic reference has none"
    if noise is None:
        return "no cells were labelled at a higher k-point density"
    return (
        f"root mean square over {noise.n_structures} cells labelled again at 1.6 times the k-point density, "
        f"largest {noise.energy_max_meV:.1f} meV/atom"
    )


def _scatter(metrics: list[dict[str, Any]]) -> ScatterData | None:
    import numpy as np

    from gapfactory.report import ScatterData

    with_points = [m for m in metrics if m["evidence"]["scatter"] and m["evidence"]["scatter"]["reference"]]
    if not with_points:
        return None
    last = with_points[-1]
    lowest = min(min(m["evidence"]["scatter"]["reference"]) for m in with_points)
    scatter = last["evidence"]["scatter"]
    return ScatterData(
        last["generation"],
        np.array(scatter["reference"]) - lowest,
        np.array(scatter["predicted"]) - lowest,
        # campaigns of an earlier version have none
        ids=tuple(scatter.get("ids", ())),
    )


def _energies(labelled: dict[int, list[LabelledItem]]) -> dict[int, list[float]]:
    energies = {
        generation: [
            e.label.energy / len(e.item.atoms) for e in that_are_done(entries) if e.label is not None
        ]
        for generation, entries in labelled.items()
    }
    every = [energy for group in energies.values() for energy in group]
    lowest = min(every, default=0.0)
    return {
        generation: [energy - lowest for energy in group] for generation, group in energies.items() if group
    }


def _similarity(campaign: Campaign, labelled: dict[int, list[LabelledItem]]) -> Any:
    from gapfactory.analysis.similarity_map import similarity_map
    from gapfactory.errors import EvidenceError

    if not labelled:
        return None
    newest = max(labelled)
    structures = [e.item.atoms for e in that_are_done(labelled[newest])]
    try:
        return similarity_map({campaign.name: structures})
    except EvidenceError:
        return None  # too few structures for a map; the report says so


def _everything(
    database: Database[Any], campaign: Campaign, labelled: dict[int, list[LabelledItem]]
) -> list[LabelledItem]:
    """Return picks, isolated atoms, dimers and noise cells with their labels."""
    others = atom_items(database, campaign)
    if 0 in labelled:
        others += noise_items(database, campaign)
    return [e for group in labelled.values() for e in group] + with_labels(database, campaign, others)


def _quarantined(entries: Sequence[LabelledItem]) -> tuple[Quarantined, ...]:
    from gapfactory.report import Quarantined

    return tuple(
        Quarantined(
            e.item.generation,
            e.item.id,
            e.item.role,
            e.label.fault,
            e.label.reason,
            e.label.attempts,
            e.label.history,
            e.item.atoms,
        )
        for e in entries
        if e.label is not None and e.label.status == "failed"
    )


def _crystals(metrics: list[dict[str, Any]]) -> DistortedErrors | None:
    """Return the errors of every potential on the campaign's distorted crystals."""
    from gapfactory.analysis.distorted_errors import DistortedErrors, PhaseError

    # assessments of earlier versions do not have them
    measured = {str(m["generation"]): m["evidence"].get("crystals", {}) for m in metrics}
    nan = float("nan")
    errors = [
        PhaseError(
            phase=name,
            potential=generation,
            n=row["usable"],
            rmse=nan if row["energy_rmse_meV"] is None else row["energy_rmse_meV"] / 1000.0,
            bias=nan,
            unusable=row["n"] - row["usable"],
            trained=row["usable"] if row["trained"] else 0,
        )
        for generation, groups in measured.items()
        for name, row in groups.items()
    ]
    names = tuple(dict.fromkeys(e.phase for e in errors))
    shown = tuple(dict.fromkeys(e.potential for e in errors))
    return DistortedErrors(tuple(errors), names, shown) if errors else None


def _vibrations(database: Database[Any], campaign: Campaign) -> VibrationEvidence | None:
    """Return phonons and elastic constants; None where none are measured, or not yet."""
    from gapfactory.report import VibrationEvidence
    from launchpad.database.vibrations import vibrations_of
    from launchpad.figure_data.vibrations import crystals_of, left_out

    documents = [] if campaign.vibrations is None else vibrations_of(database, campaign.name)
    if campaign.vibrations is None or not documents:
        return None
    crystals, missing = crystals_of(campaign, documents)
    missing += left_out(database, campaign.name, max(d["generation"] for d in documents))
    return VibrationEvidence(tuple(crystals), campaign.vibrations.limits, tuple(missing))


def _levels(metrics: list[dict[str, Any]]) -> LevelComparison | None:
    from gapfactory.analysis.levels import LevelComparison

    stored = metrics[-1]["evidence"].get("levels") if metrics else None
    return None if stored is None else LevelComparison.from_dict(stored)


def _failures(
    database: Database[Any], campaign: Campaign, entries: Sequence[LabelledItem]
) -> tuple[Failure, ...]:
    from gapfactory.report import Failure

    found = [
        Failure(e.item.generation, "reference", e.item.id, e.label.reason)
        for e in entries
        if e.label is not None and e.label.status == "failed"
    ]
    found += [
        Failure(r["generation"], "relax", r["_id"], r["reason"])
        for r in database.relaxations.find(
            {"campaign": campaign.name, "status": "failed"}, {"generation": 1, "reason": 1}
        ).sort("_id", 1)
    ]
    found += [
        Failure(0, "task", f"{t['fw_id']} {t['name']}", t["error"])
        for t in queries.failed_tasks(database, campaign.name)
    ]
    return tuple(found)
