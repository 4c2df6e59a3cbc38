"""Carry out the self-test of a reference engine: label, kill once, judge, recommend."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gapfactory.errors import InputError
from gapfactory.reference import _killed_once
from gapfactory.reference.program import ProgramEngine
from gapfactory.reference.selfcheck import Batch
from gapfactory.reference.selfcheck_judge import (
    DerivativeResult,
    DrillResult,
    LadderResult,
    Tolerances,
    judge_derivatives,
    judge_drill,
    judge_ladder,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from gapfactory.reference.base import LabelOutcome
    from gapfactory.reference.selfcheck import CheckPlan, Ladder
    from gapfactory.reference.selfcheck_judge import LevelResult
    from gapfactory.reference.site import ProgramSite

__all__ = [
    "CheckResult",
    "Installation",
    "Recommendation",
    "Verdict",
    "Workload",
    "installation",
    "run_check",
]


@dataclass(frozen=True)
class Installation:
    """What was found: engine, version, sha256 of the data sets by species, and how the site runs it."""

    engine: str
    version: str
    data_sha256: dict[str, str]
    site: dict[str, Any]

    @property
    def cores(self) -> int:
        """Cores of one label."""
        return int(self.site.get("processes", 1)) * int(self.site.get("threads", 1))


@dataclass(frozen=True)
class Workload:
    """What a campaign asks of the engine: random-search labels and their mean number of atoms."""

    labels: int
    mean_atoms: float


@dataclass(frozen=True)
class Verdict:
    """The answer to one question."""

    question: str
    state: Literal["passed", "failed", "advice", "skipped"]
    text: str


@dataclass(frozen=True)
class Recommendation:
    """The cheapest settings whose labels are good enough.

    Attributes
    ----------
    settings
        Key and value.
    seconds_per_label
        Wall time of a label of the test's cells at these settings; estimated where that pair was not calculated.
    atoms_per_label
        Mean number of atoms of these cells.
    core_hours
        Of the whole campaign; None without a workload. The time of a label is taken as proportional to its atoms: the
        k-points become fewer as the cells grow. Right within a factor of two or three.
    """

    settings: dict[str, float]
    seconds_per_label: float
    atoms_per_label: float
    core_hours: float | None


@dataclass(frozen=True)
class CheckResult:
    """Everything that the self-test found."""

    installation: Installation
    settings: dict[str, Any]
    tolerances: Tolerances
    symbols: tuple[str, ...]
    derivatives: tuple[DerivativeResult, ...]
    density: LadderResult | None
    cutoff: LadderResult | None
    drill: DrillResult | None
    recommendation: Recommendation
    verdicts: tuple[Verdict, ...]
    unlabelled: dict[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether no verdict says failed."""
        return all(verdict.state != "failed" for verdict in self.verdicts)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"passed": self.passed, **json.loads(json.dumps(asdict(self)))}


def installation(plan: CheckPlan, site: ProgramSite | None = None) -> Installation:
    """Look for the engine, its data sets and the site's settings.

    Raises
    ------
    MissingEngineError
        The engine or data of an element are not installed.
    InputError
        The site's file cannot be used.
    """
    from gapfactory.reference.engines.registry import make_engine
    from gapfactory.reference.site import load_site

    settings = plan.settings
    used = load_site(settings.engine) if site is None else site
    engine = make_engine(settings, used)
    info = engine.info()
    if isinstance(engine, ProgramEngine):
        hashes, told = engine.data_hashes(plan.symbols), used.model_dump(mode="json")
        told["program"] = engine.program()
    else:
        engine.require(plan.symbols)
        hashes, told = dict(info.hashes), {}
    return Installation(info.engine, info.version, hashes, told)


def run_check(
    plan: CheckPlan,
    directory: Path,
    *,
    tolerances: Tolerances | None = None,
    workload: Workload | None = None,
    site: ProgramSite | None = None,
    on_stage: Callable[[str], None] | None = None,
    on_label: Callable[[LabelOutcome], None] | None = None,
) -> CheckResult:
    """Calculate what was planned and judge it.

    Parameters
    ----------
    plan
        From `plan_check`.
    directory
        Of this test. Labels found there are taken over, so a test that was interrupted goes on.
    tolerances
        What is good enough.
    workload
        Of the campaign, for the estimate.
    site
        How the program is run here; None: as the site's file says.
    on_stage, on_label
        Called with what is being done, and once per label.

    Raises
    ------
    MissingEngineError
        The engine or data of an element are not installed.
    ReferenceCalculationError
        The machine is to blame; the same call goes on later.
    """
    from gapfactory.reference.site import load_site

    allowed = tolerances or Tolerances()
    used = load_site(plan.settings.engine) if site is None else site
    found = installation(plan, used)
    stage = on_stage or (lambda _: None)

    def label(batch: Batch) -> dict[str, LabelOutcome]:
        return _label(batch, directory / "labels", used, on_label)

    derivatives: list[DerivativeResult] = []
    unlabelled: dict[str, str] = {}
    bases: list[LabelOutcome] = []
    for derivative in plan.derivatives:
        stage(f"forces and stress of {derivative.symbol}")
        outcomes = label(derivative.batch)
        results, failed = judge_derivatives(derivative, outcomes, allowed)
        derivatives += results
        unlabelled |= {f"{derivative.batch.name}: {name}": reason for name, reason in failed.items()}
        bases.append(outcomes["base"])
    ladders: list[LadderResult | None] = []
    verdicts = [_derivative_verdict(derivatives, unlabelled)]
    for ladder, what in ((plan.density, "k-points"), (plan.cutoff, "cutoff")):
        if ladder is None:
            ladders.append(None)
            verdicts.append(Verdict(what, "skipped", f"engine {found.engine} has no such setting"))
            continue
        stage(what)
        result, verdict = _climb(ladder, what, label, allowed)
        ladders.append(result)
        verdicts.append(verdict)
        unlabelled |= result.failed if result is not None else {}
    stage("recovery drill")
    drill, verdict = _drill(plan, found, used, directory / "drill", bases[0], allowed, on_label)
    density, cutoff = ladders
    return CheckResult(
        installation=found,
        settings=plan.settings.model_dump(mode="json"),
        tolerances=allowed,
        symbols=plan.symbols,
        derivatives=tuple(derivatives),
        density=density,
        cutoff=cutoff,
        drill=drill,
        recommendation=_recommend(plan, found, density, cutoff, bases, workload),
        verdicts=(*verdicts, verdict),
        unlabelled=unlabelled,
    )


def _label(
    batch: Batch, directory: Path, site: ProgramSite, on_label: Callable[[LabelOutcome], None] | None
) -> dict[str, LabelOutcome]:
    from gapfactory.reference.runner import label_structures

    # one directory per settings: equal calculations of two ladders are found again, ids of others do not meet
    place = directory / batch.settings.digest()[:12]
    done = label_structures(batch.items, batch.settings, place, on_label, site=site)
    return {outcome.id: outcome for outcome in done}


def _derivative_verdict(results: list[DerivativeResult], unlabelled: dict[str, str]) -> Verdict:
    what = "forces and stress"
    if unlabelled:
        name, reason = next(iter(unlabelled.items()))
        return Verdict(what, "failed", f"{len(unlabelled)} structures gave no label, {name}: {reason}")
    wrong = [r for r in results if not r.passed]
    parts = []
    for kind, unit in (("force", "eV/Å"), ("stress", "GPa")):
        found = [r for r in results if r.direction.startswith(kind)]
        if found:
            largest = max(abs(r.difference) for r in found)
            parts.append(f"{largest:.2g} {unit} (allowed {found[0].tolerance:g})")
    text = f"differ from finite differences of the energy by at most {' and '.join(parts)}"
    if wrong and all(r.direction.startswith("stress") for r in wrong):
        text += (
            "; if a higher cutoff removes the difference, it is the Pulay stress of a basis that is too small"
        )
    return Verdict(what, "failed" if wrong else "passed", text)


def _climb(
    ladder: Ladder, what: str, label: Callable[[Batch], dict[str, LabelOutcome]], allowed: Tolerances
) -> tuple[LadderResult | None, Verdict]:
    outcomes = {batch.name: label(batch) for batch in ladder.batches}
    try:
        result = judge_ladder(ladder, outcomes, allowed)
    except InputError as error:
        return None, Verdict(what, "failed", str(error))
    top, second = result.levels[-1], result.levels[-2]
    if result.recommended is None:
        differs = f"{second.value:g} differs from {top.value:g} by {_noise(second)}"
        if second.within(allowed.twice()):
            return result, Verdict(
                what,
                "advice",
                f"{differs}, more than is allowed but less than twice that: take {top.value:g}, whose own noise is not "
                "known, or allow more noise",
            )
        return result, Verdict(
            what, "failed", f"not converged: {differs}; take more than {top.value:g}, or allow more noise"
        )
    present, text = result.level(ladder.current), f"{ladder.key} {result.recommended:g} is enough"
    if present is not None and ladder.current < result.recommended:
        return result, Verdict(
            what,
            "advice",
            f"{text}; the present {ladder.current:g} leaves a noise of {_noise(present)}: raise it, or let the "
            "potential's sigmas know",
        )
    if ladder.current > result.recommended:
        return result, Verdict(what, "passed", f"{text}; the present {ladder.current:g} is above it")
    return result, Verdict(what, "passed", f"{text}, as it is set")


def _noise(level: LevelResult) -> str:
    energy = "" if level.energy_noise_meV is None else f"{level.energy_noise_meV:.2g} meV/atom, "
    return f"{energy}{level.force_noise:.2g} eV/Å and {level.stress_noise_GPa:.2g} GPa"


def _drill(
    plan: CheckPlan,
    found: Installation,
    site: ProgramSite,
    directory: Path,
    undisturbed: LabelOutcome,
    allowed: Tolerances,
    on_label: Callable[[LabelOutcome], None] | None,
) -> tuple[DrillResult | None, Verdict]:
    what = "recovery drill"
    batch = plan.derivatives[0].batch
    if "program" not in found.site:
        return None, Verdict(what, "skipped", f"engine {found.engine} runs no program that could be killed")
    if undisturbed.label is None:
        return None, Verdict(what, "skipped", "there is no undisturbed label to compare with")
    item = (("base", dict(batch.items)["base"]),)

    def killed_after(seconds: float) -> LabelOutcome:
        directory.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable,
            "-I",
            "-S",
            _killed_once.__file__,
            str(directory.resolve()),
            f"{seconds:.3f}",
        ]
        drilled = site.model_copy(update={"command": (*command, *found.site["program"]), "scratch": None})
        return _label(Batch("drill", batch.settings, item), directory, drilled, None)["base"]

    outcome = killed_after(0.4 * undisturbed.label.walltime_s)
    if outcome.attempts < 2 and outcome.label is not None:
        # it ended before the kill, or an interrupted test had used the kill up: again, killed at once
        shutil.rmtree(directory)
        outcome = killed_after(0.0)
    if on_label is not None:
        on_label(outcome)
    result = judge_drill(undisturbed, outcome, allowed)
    if not result.passed:
        return result, Verdict(what, "failed", result.reason)
    return result, Verdict(
        what,
        "passed",
        f"killed at its first attempt, the program gave the same label at attempt {result.attempts}: "
        f"{result.energy_difference_meV:.2g} meV/atom and {result.force_difference:.2g} eV/Å away",
    )


def _recommend(
    plan: CheckPlan,
    found: Installation,
    density: LadderResult | None,
    cutoff: LadderResult | None,
    bases: list[LabelOutcome],
    workload: Workload | None,
) -> Recommendation:
    chosen: dict[str, float] = {}
    if plan.density is None or density is None:
        labels = [base.label for base in bases if base.label is not None]
        seconds = sum(label.walltime_s for label in labels) / max(len(labels), 1)
        atoms = sum(len(label.forces) for label in labels) / max(len(labels), 1)
    else:
        sizes = [len(structure) for _, structure in plan.density.batches[0].items]
        atoms = sum(sizes) / len(sizes)
        chosen["kpoint_density"] = density.recommended or density.levels[-1].value
        level = density.level(chosen["kpoint_density"])
        seconds = 0.0 if level is None else level.seconds
        if cutoff is not None:
            chosen["cutoff_eV"] = cutoff.recommended or cutoff.levels[-1].value
            here, then = cutoff.level(cutoff.current), cutoff.level(chosen["cutoff_eV"])
            if here is not None and then is not None and here.seconds > 0:
                # the ladder of densities was calculated at the present cutoff; on a busy machine times of labels
                # scatter, but the number of plane waves bounds their ratio
                bounds = sorted((1.0, (then.value / here.value) ** 1.5))
                seconds *= min(max(then.seconds / here.seconds, bounds[0]), bounds[1])
    hours = None
    if workload is not None and atoms > 0:
        hours = workload.labels * seconds * found.cores * (workload.mean_atoms / atoms) / 3600.0
    return Recommendation(chosen, seconds, atoms, hours)
