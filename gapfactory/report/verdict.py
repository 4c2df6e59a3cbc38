"""The first screen of a report in words: what was made, how good, does it pass, what failed, the cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gapfactory.analysis.energy_volume import fit_equation_of_state
from gapfactory.analysis.errors import pick_row
from gapfactory.analysis.vibration_overview import verdict as vibration_verdict
from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from gapfactory.analysis.energy_volume import EnergyVolumeCurve, PhaseComparison
    from gapfactory.report.data import ReportData

__all__ = ["Headline", "Survival", "Verdict", "duration", "headline"]

Verdict = Literal["passes", "fails", "not judged"]
Survival = Literal["stable", "not stable", "stability not tried"]


@dataclass(frozen=True)
class Headline:
    """Answers to the five questions.

    Parameters
    ----------
    verdict
        On the most stable named phase (by the reference), which a search must find and describe first; where none is
        judged, on phonons and elastic constants.
    survival
        Whether molecular dynamics and close contacts are survived: ``stable`` when both are.
    made, quality, judgement, failed, cost
        One or more sentences each.
    comparisons
        Comparison of each phase that could be compared.
    unjudged
        Reason for each phase that could not be compared.
    vibrations
        Whether every crystal passes whose phonons and elastic constants were measured; ``not judged`` without any.
    """

    verdict: Verdict
    survival: Survival
    made: tuple[str, ...]
    quality: tuple[str, ...]
    judgement: tuple[str, ...]
    failed: tuple[str, ...]
    cost: tuple[str, ...]
    comparisons: tuple[PhaseComparison, ...]
    unjudged: tuple[tuple[str, str], ...]
    vibrations: Verdict = "not judged"


def duration(seconds: float) -> str:
    """Return a time span in words with a sensible unit."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 2 * 3600:
        return f"{seconds / 60:.0f} min"
    if seconds < 3 * 86400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} d"


def headline(data: ReportData) -> Headline:
    """Return the first screen of the report, from the run's own numbers only."""
    compared: list[PhaseComparison] = []
    broken: list[tuple[str, str]] = []
    unjudged: list[tuple[str, str]] = []
    ranking: list[tuple[float, str, Verdict]] = []
    for evidence in data.phases:
        comparison, reason = evidence.compare(data.phase_settings)
        stability = _reference_energy(evidence.reference)
        verdict: Verdict
        if comparison is not None:
            compared.append(comparison)
            verdict = "passes" if comparison.passes else "fails"
        elif stability is not None and evidence.potential is not None:
            # the reference has its minimum and the potential has none: the potential is wrong, not unjudged
            broken.append((evidence.phase, reason))
            verdict = "fails"
        else:
            unjudged.append((evidence.phase, reason))
            verdict = "not judged"
        if stability is not None:
            ranking.append((stability, evidence.phase, verdict))
    compared.sort(key=lambda c: c.reference.energy)
    vibrations, said = _vibrations(data)
    return Headline(
        verdict=min(ranking)[2] if ranking else vibrations,
        survival=_survival(data),
        made=_made(data),
        quality=_quality(data),
        judgement=(*_judgement(data, compared, broken, unjudged), *said, *_stability(data)),
        failed=_failed(data),
        cost=_cost(data),
        comparisons=tuple(compared),
        unjudged=(*broken, *unjudged),
        vibrations=vibrations,
    )


def _vibrations(data: ReportData) -> tuple[Verdict, tuple[str, ...]]:
    """Return the verdict on phonons and elastic constants, with a sentence for each crystal."""
    found = data.vibrations
    if found is None:
        return "not judged", ()
    judged = [v for c in found.crystals if (v := vibration_verdict(c, found.limits)) is not None]
    said = tuple(f"{text}." for text in (*(text for _, text in judged), *found.missing))
    if not judged:
        return "not judged", said
    return ("passes" if all(passes for passes, _ in judged) else "fails"), said


def _survival(data: ReportData) -> Survival:
    if data.stability is None or not data.stability.crystal:
        return "stability not tried"
    return "stable" if data.stability.survives else "not stable"


def _stability(data: ReportData) -> tuple[str, ...]:
    if data.stability is None:
        return (
            f"Not tried in molecular dynamics: {data.stability_note or 'it is done after the last generation'}.",
        )
    words = data.stability.headline()
    of = (
        f"The potential of generation {data.stability_generation} "
        if data.stability_generation is not None
        else "It "
    )
    return (
        f"{of}{words}.",
        *((f"{data.stability.note[:1].upper()}{data.stability.note[1:]}.",) if data.stability.note else ()),
    )


def _reference_energy(curve: EnergyVolumeCurve | None) -> float | None:
    """Return the energy of the reference's minimum, or None where it has none."""
    if curve is None:
        return None
    try:
        return fit_equation_of_state(curve).energy
    except EvidenceError:
        return None


def _made(data: ReportData) -> tuple[str, ...]:
    if not data.generations:
        return ("Nothing yet: no generation has finished.",)
    last = max(data.generations, key=lambda g: g.generation)
    built = sum(g.built for g in data.generations)
    labelled = sum(g.labelled for g in data.generations)
    reused = sum(g.reused for g in data.generations)
    sentences = [
        f"A potential for {data.system}, generation {last.generation}, fitted to {last.training_set} labels."
        if last.training_set
        else f"A search for structures of {data.system}, which fits no potential."
        if data.rankings
        else f"No potential for {data.system} yet.",
        (
            f"{_count(built, 'random cell')} in {_count(len(data.generations), 'generation')} led to "
            # a campaign that searches nothing builds nothing
            if built
            else f"{_count(len(data.generations), 'generation')} led to "
        )
        + f"{_count(labelled + reused, 'label')}"
        + (f", {reused} of them reused" if reused else "")
        + (f", of a budget of {data.label_budget}." if data.label_budget else "."),
    ]
    if data.potential_files:
        name, digest = next(iter(data.potential_files.items()))
        sentences.append(f"{name}, sha256 {digest[:12]}…")
    return tuple(sentences)


def _quality(data: ReportData) -> tuple[str, ...]:
    ordered = sorted(data.generations, key=lambda g: g.generation, reverse=True)
    measured = next((g for g in ordered if g.errors), None)
    if measured is None:
        return ("No errors on structures it was not trained on have been measured.", *_found(data))
    sentences = []
    for quantity, factor, unit in (("energy", 1000.0, "meV/atom"), ("forces", 1.0, "eV/Å")):
        row = pick_row(measured.errors, quantity)  # type: ignore[arg-type]
        if row is not None:
            s = row.summary
            # NaN bounds compare unequal to themselves
            span = f" ({s.low * factor:.3g} to {s.high * factor:.3g})" if s.low == s.low else ""
            noun = {"energy": "Energy", "forces": "Force"}[quantity]
            sentences.append(
                f"{noun} error {s.rmse * factor:.3g}{span} {unit} (RMSE) on {row.n_structures} structures "
                "it was not trained on."
            )
    low = pick_row(measured.errors, "energy", "0-0.1 eV")
    if low is not None:
        sentences.append(
            f"Within 0.1 eV/atom of the lowest: {low.summary.rmse * 1000:.3g} meV/atom "
            f"({low.n_structures} structures)."
        )
    if measured is not ordered[0]:
        sentences.append(f"Measured for generation {measured.generation}, not for the last one.")
    sentences += _found(data)
    sentences.append(_noise(data))
    return tuple(sentences)


def _found(data: ReportData) -> list[str]:
    """Say what the newest diagnostic searches found."""
    newest = max((s.generation for s in data.searches), default=None)
    return [f"{s.sentence()}." for s in data.searches if s.generation == newest]


def _noise(data: ReportData) -> str:
    if data.label_noise is None:
        return "Label noise: not measured" + (
            f" ({data.label_noise_note})." if data.label_noise_note else "."
        )
    note = f" ({data.label_noise_note})" if data.label_noise_note else ""
    return f"Label noise: {data.label_noise * 1000:.1f} meV/atom{note}."


def _judgement(
    data: ReportData,
    compared: list[PhaseComparison],
    broken: list[tuple[str, str]],
    unjudged: list[tuple[str, str]],
) -> tuple[str, ...]:
    if not data.phases and data.vibrations is not None:
        return ()
    if not data.phases:
        return (f"There are no named phases of {data.system} to judge by; only the errors speak.",)
    sentences = [f"{phase} fails: {reason}." for phase, reason in broken]
    if compared:
        sentences.append(compared[0].sentence(data.label_noise) + ".")
        if data.label_noise is not None and abs(compared[0].energy_error) <= data.label_noise:
            sentences.append("The energy difference is not larger than the noise of the labels.")
    sentences += [c.sentence() + "." for c in compared[1:]]
    judged = len(compared) + len(broken)
    if judged > 1:
        sentences.append(f"{sum(c.passes for c in compared)} of {judged} named phases pass.")
    sentences += [f"{phase} is not judged: {reason}." for phase, reason in unjudged]
    return tuple(sentences)


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _failed(data: ReportData) -> tuple[str, ...]:
    gens = data.generations
    quarantined = sum(g.quarantined for g in gens)
    relax_failed = sum(g.relaxed_failed for g in gens)
    unconverged = sum(g.relaxed_unconverged for g in gens)
    relaxed = relax_failed + unconverged + sum(g.relaxed_converged for g in gens)
    sentences = []
    if quarantined:
        sentences.append(f"{_count(quarantined, 'structure')} could not be labelled.")
    if relax_failed:
        sentences.append(f"{relax_failed} of {relaxed} relaxations failed.")
    if unconverged:
        sentences.append(f"{unconverged} of {relaxed} relaxations ended before the force threshold.")
    other = [f for f in data.failures if f.stage not in ("relax", "reference")]
    if other:
        sentences.append(f"{_count(len(other), 'other task')} failed.")
    return tuple(sentences) or ("Nothing failed.",)


def _cost(data: ReportData) -> tuple[str, ...]:
    by_kind: dict[str, float] = {}
    for g in data.generations:
        for kind, seconds in g.seconds.items():
            by_kind[kind] = by_kind.get(kind, 0.0) + seconds
    sentences = []
    if data.wall_seconds is not None:
        sentences.append(f"{duration(data.wall_seconds)} from submission to the end.")
    total = sum(by_kind.values())
    if total > 0:
        sentences.append(f"{duration(total)} of task time.")
        top = sorted(by_kind.items(), key=lambda item: -item[1])[:3]
        sentences.append(
            "Most of it: " + ", ".join(f"{kind} {100 * s / total:.0f} %" for kind, s in top if s > 0) + "."
        )
    return tuple(sentences) or ("No task times were recorded.",)
