"""The self-test of engines: what it plans, and what it says of labels whose errors are known."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase.build import bulk

from gapfactory.build import BuildSettings
from gapfactory.elements import species
from gapfactory.errors import InputError
from gapfactory.reference import AseSettings, Label, LabelOutcome, _killed_once, kpoint_grid, parse_settings
from gapfactory.reference.selfcheck import CheckPlan, crystal_of, plan_check
from gapfactory.reference.selfcheck_judge import (
    GPA,
    LadderResult,
    LevelResult,
    Tolerances,
    judge_derivatives,
    judge_drill,
    judge_ladder,
)
from gapfactory.reference.selfcheck_report import check_report
from gapfactory.reference.selfcheck_run import (
    CheckResult,
    Installation,
    Recommendation,
    Verdict,
    Workload,
    _climb,
    _recommend,
    run_check,
)

if TYPE_CHECKING:
    from pathlib import Path

DFT = parse_settings({"engine": "gpaw", "cutoff_eV": 300.0, "kpoint_density": 2.2})


def planned(settings=DFT, elements: str = "Si", **more) -> CheckPlan:
    table = {symbol: species(symbol) for symbol in elements.split()}
    formula = dict.fromkeys(table, 1)
    return plan_check(settings, species=table, formulas=[formula], build=BuildSettings(), **more)


def label(energy: float, forces, stress=None, seconds: float = 1.0) -> Label:
    return Label(
        energy=energy,
        forces=np.asarray(forces, dtype=float),
        stress=np.zeros(6) if stress is None else np.asarray(stress, dtype=float),
        walltime_s=seconds,
        engine="gpaw",
        version="1",
        details={},
    )


def outcome(name: str, found: Label | None, reason: str = "", attempts: int = 1) -> LabelOutcome:
    return LabelOutcome(name, found, reason, attempts)


# ---- plan ------------------------------------------------------------------------------------------------------------


def test_the_plan_is_the_same_every_time() -> None:
    one, two, other = planned(), planned(), planned(seed=2)
    for a, b in zip(one.density.batches, two.density.batches, strict=True):
        for (name, first), (same, second) in zip(a.items, b.items, strict=True):
            assert name == same
            assert np.array_equal(first.positions, second.positions)
            assert np.array_equal(first.cell.array, second.cell.array)
    assert not np.array_equal(
        one.density.batches[0].items[0][1].cell.array, other.density.batches[0].items[0][1].cell.array
    )


def test_levels_contain_the_present_settings_and_share_calculations() -> None:
    plan = planned()
    assert plan.density.values == (1.5, 2.0, 2.2, 2.5, 3.0, 4.0)
    assert plan.cutoff.values == (210.0, 260.0, 300.0, 380.0, 480.0)
    assert {batch.settings.kpoint_density for batch in plan.cutoff.batches} == {2.0}
    shared = {b.settings.digest() for b in plan.density.batches} & {
        b.settings.digest() for b in plan.cutoff.batches
    }
    assert len(shared) == 1
    # denser than the ladder: the present density is the reference
    assert planned(DFT.model_copy(update={"kpoint_density": 8.0})).density.values[-1] == 8.0


def test_cells_are_small_ones_of_the_campaign_with_a_crystal() -> None:
    items = dict(planned().density.batches[0].items)
    assert list(items) == ["cell-1", "cell-2", "cell-3", "cell-4", "Si-crystal"]
    assert {len(items[f"cell-{k}"]) for k in range(1, 5)} <= {6, 7, 8}
    assert len(dict(planned(quick=True).density.batches[0].items)) == 3
    assert len(planned(cells=7).density.batches[0].items) == 8


def test_compounds_have_cells_of_the_formula_and_crystals_of_the_elements() -> None:
    items = dict(planned(elements="Al Ti").density.batches[0].items)
    assert items["cell-1"].symbols.formula.reduce()[0].count() == {"Al": 1, "Ti": 1}
    assert {"Al-crystal", "Ti-crystal"} <= set(items)
    assert [d.symbol for d in planned(elements="Al Ti").derivatives] == ["Al", "Ti"]


def test_rattled_cells_feel_forces_and_keep_their_grid() -> None:
    # one atom per primitive cell: doubled, or no force would act on it
    for element, atoms in (("Al", 2), ("Si", 2)):
        plan = planned(elements=element).derivatives[0]
        base = dict(plan.batch.items)["base"]
        assert len(base) == atoms
        assert plan.batch.settings.kpoint_grid == kpoint_grid(base, 2.2)
        assert set(plan.directions) == {"force-1", "stress-1", "force-2", "stress-2"}
        for name, direction in plan.directions.items():
            assert np.linalg.norm(direction) == pytest.approx(1.0)
            if name.startswith("stress"):
                assert np.array_equal(direction, direction.T)
            else:
                assert np.abs(direction.sum(axis=0)).max() < 1e-12


def test_elements_without_a_simple_crystal_get_a_random_cell() -> None:
    assert crystal_of("Mn", 12) is None
    assert len(crystal_of("B", 4)) <= 4
    base = dict(planned(elements="Mn").derivatives[0].batch.items)["base"]
    assert 2 <= len(base) <= 4
    assert list(dict(planned(elements="Mn").density.batches[0].items)) == [f"cell-{k}" for k in range(1, 5)]


def test_an_engine_without_such_settings_has_no_ladders() -> None:
    plan = planned(AseSettings())
    assert plan.density is None
    assert plan.cutoff is None
    assert plan.n_labels == 9


def test_a_plan_needs_an_element() -> None:
    with pytest.raises(InputError, match="at least one element"):
        plan_check(DFT, species={}, formulas=[], build=BuildSettings())


# ---- derivatives -----------------------------------------------------------------------------------------------------


def harmonic(plan, *, stress_factor: float = 1.0, force_factor: float = 1.0) -> dict[str, LabelOutcome]:
    """Labels of an energy that is quadratic in positions and strain, with forces and stress to match."""
    items = dict(plan.batch.items)
    base = items["base"]
    rng = np.random.default_rng(5)
    slope = rng.normal(size=base.positions.shape)
    slope -= slope.mean(axis=0)
    pressure = rng.normal(size=(3, 3))
    pressure = 0.03 * (pressure + pressure.T)
    volume = base.get_volume()
    found = {}
    for name, atoms in items.items():
        strain = np.linalg.inv(base.cell.array) @ atoms.cell.array - np.eye(3)
        moved = atoms.positions - base.positions @ (np.eye(3) + strain)
        energy = -(slope * moved).sum() + 3.0 * (moved**2).sum() + volume * (pressure * strain).sum()
        energy += 2.0 * volume * (strain**2).sum()
        voigt = stress_factor * pressure.ravel()[[0, 4, 8, 5, 2, 1]]
        found[name] = outcome(name, label(energy, force_factor * slope, voigt))
    return found


def test_right_derivatives_pass() -> None:
    plan = planned().derivatives[0]
    results, failed = judge_derivatives(plan, harmonic(plan), Tolerances())
    assert not failed
    assert [r.direction for r in results] == ["force-1", "stress-1", "force-2", "stress-2"]
    assert all(r.passed for r in results)
    assert max(abs(r.difference) for r in results) < 1e-8


@pytest.mark.parametrize(
    ("wrong", "kind"),
    [
        # the usual mistakes: sign, a factor of two, eV/Å instead of Ry/bohr
        ({"force_factor": -1.0}, "force"),
        ({"force_factor": 0.5}, "force"),
        ({"force_factor": 25.71}, "force"),
        ({"stress_factor": -1.0}, "stress"),
        ({"stress_factor": 0.1}, "stress"),
    ],
)
def test_wrong_signs_and_units_fail(wrong: dict[str, float], kind: str) -> None:
    plan = planned().derivatives[0]
    results, _ = judge_derivatives(plan, harmonic(plan, **wrong), Tolerances())
    assert any(not r.passed for r in results if r.direction.startswith(kind))
    assert all(r.passed for r in results if not r.direction.startswith(kind))


def test_structures_without_label_are_named() -> None:
    plan = planned().derivatives[0]
    found = harmonic(plan) | {"force-1+": outcome("force-1+", None, "did not converge")}
    results, failed = judge_derivatives(plan, found, Tolerances())
    assert failed == {"force-1+": "did not converge"}
    assert "force-1" not in {r.direction for r in results}


# ---- ladders ---------------------------------------------------------------------------------------------------------


def labelled(ladder, error, *, seconds: float = 1.0):
    """Labels whose energy per atom is off by error(value, name) meV and whose forces are off by a tenth of it."""
    found = {}
    for value, batch in zip(ladder.values, ladder.batches, strict=True):
        found[batch.name] = {}
        for name, atoms in batch.items:
            off = error(value, name) / 1000.0
            forces = np.zeros((len(atoms), 3)) + 0.1 * off
            energy = len(atoms) * (-5.0 + off)
            stress = np.full(6, off / GPA)
            found[batch.name][name] = outcome(name, label(energy, forces, stress, seconds * value))
    return found


def alternating(size):
    return lambda value, name: size(value) * (1 if name in {"cell-1", "cell-3"} else -1)


def test_the_cheapest_level_within_the_noise_is_recommended() -> None:
    ladder = planned().density
    errors = {1.5: 50.0, 2.0: 12.0, 2.2: 9.0, 2.5: 3.0, 3.0: 1.0, 4.0: 0.0}
    result = judge_ladder(ladder, labelled(ladder, alternating(errors.get)), Tolerances())
    assert result.recommended == 2.5
    assert result.current == 2.2
    level = result.level(2.5)
    # +3, -3, +3, -3, -3 meV/atom about their mean of -0.6
    assert level.energy_noise_meV == pytest.approx(np.std([3, -3, 3, -3, -3], ddof=1))
    assert level.energy_largest_meV == pytest.approx(3.6)
    assert level.energy_shift_meV == pytest.approx(-0.6)
    assert level.force_noise == pytest.approx(0.0003)
    assert level.stress_noise_GPa == pytest.approx(0.003)
    assert level.seconds == pytest.approx(2.5)


def test_a_level_that_is_good_by_luck_is_not_recommended() -> None:
    ladder = planned().density
    errors = {1.5: 1.0, 2.0: 30.0, 2.2: 1.0, 2.5: 30.0, 3.0: 1.0, 4.0: 0.0}
    assert judge_ladder(ladder, labelled(ladder, alternating(errors.get)), Tolerances()).recommended == 3.0


def test_what_is_not_converged_has_no_recommendation() -> None:
    ladder = planned().density
    found = labelled(ladder, alternating(lambda value: 100.0 * (4.0 - value)))
    assert judge_ladder(ladder, found, Tolerances()).recommended is None


@pytest.mark.parametrize(
    ("slope", "state", "words"),
    [
        (1.0, "passed", "kpoint_density 1.5 is enough; the present 2.2 is above it"),
        (3.0, "advice", "the present 2.2 leaves a noise of"),
        (7.0, "advice", "3 differs from 4 by 7.7 meV/atom, .*: take 4, whose own noise is not known"),
        (12.0, "failed", "not converged: 3 differs from 4 by 13 meV/atom, .*; take more than 4"),
    ],
)
def test_verdicts_on_a_ladder(slope: float, state: str, words: str) -> None:
    ladder = planned().density
    found = labelled(ladder, alternating(lambda value: slope * (4.0 - value)))
    _, verdict = _climb(ladder, "k-points", lambda batch: found[batch.name], Tolerances())
    assert verdict.state == state
    assert re.search(words, verdict.text), verdict.text


@pytest.mark.parametrize(
    ("measured", "expected"),
    [(0.7, 0.7), (0.1, (210 / 300) ** 1.5), (3.0, 1.0)],
    ids=["as measured", "a busy machine at the present cutoff", "a busy machine at the recommended one"],
)
def test_the_cost_of_a_label_at_the_recommended_level(measured: float, expected: float) -> None:
    plan = planned()
    density = judge_ladder(
        plan.density,
        labelled(plan.density, alternating(lambda value: 4.0 - value), seconds=2.0),
        Tolerances(),
    )
    found = labelled(plan.cutoff, alternating(lambda value: 0.0), seconds=0.01)
    for name, out in found["cutoff-210"].items():
        found["cutoff-210"][name] = replace(out, label=replace(out.label, walltime_s=3.0 * measured))
    cutoff = judge_ladder(plan.cutoff, found, Tolerances())
    where = Installation("gpaw", "1", {}, {"processes": 4, "threads": 1})
    advice = _recommend(plan, where, density, cutoff, [], Workload(1000, 12.0))
    assert advice.settings == {"kpoint_density": 1.5, "cutoff_eV": 210.0}
    assert advice.seconds_per_label == pytest.approx(3.0 * expected)
    # labels x seconds x cores x ratio of atoms
    hours = 1000 * 3.0 * expected * 4 * (12.0 / advice.atoms_per_label) / 3600
    assert advice.core_hours == pytest.approx(hours)


def test_a_shift_that_all_share_does_not_matter() -> None:
    ladder = planned().cutoff
    found = labelled(ladder, lambda value, name: 1000.0 * (480.0 - value))
    result = judge_ladder(ladder, found, replace(Tolerances(), noise_force=1e9, noise_stress_GPa=1e9))
    assert result.levels[0].energy_noise_meV == pytest.approx(0.0, abs=1e-6)
    assert result.levels[0].energy_shift_meV == pytest.approx(270_000.0)
    assert result.recommended == 210.0


def test_energies_of_different_compositions_are_not_compared() -> None:
    ladder = planned(elements="Al Ti").density
    found = labelled(ladder, lambda value, name: 500.0 if name == "Al-crystal" and value < 4 else 0.0)
    result = judge_ladder(ladder, found, Tolerances())
    assert "Al-crystal" not in result.levels[0].differences_meV
    assert result.levels[0].energy_noise_meV == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("tight", [{"noise_force": 1e-9}, {"noise_stress_GPa": 1e-9}])
def test_forces_and_stress_count_too(tight: dict[str, float]) -> None:
    ladder = planned().density
    found = labelled(ladder, alternating(lambda value: 4.0 - value))
    assert judge_ladder(ladder, found, Tolerances()).recommended == 1.5
    assert judge_ladder(ladder, found, replace(Tolerances(), **tight)).recommended is None


def test_quarantined_structures_are_left_out_and_named() -> None:
    ladder = planned().density
    found = labelled(ladder, alternating(lambda value: 0.1))
    found["density-1.5"]["cell-1"] = outcome("cell-1", None, "not converged")
    result = judge_ladder(ladder, found, Tolerances())
    assert result.failed == {"density-1.5: cell-1": "not converged"}
    assert result.levels[0].n_structures == 4
    nothing = {name: outcome(name, None, "no licence") for name in found["density-4"]}
    with pytest.raises(
        InputError, match=r"no structure could be labelled at kpoint_density = 4 \(no licence\)"
    ):
        judge_ladder(ladder, found | {"density-4": nothing}, Tolerances())


# ---- drill -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("energy", "force", "attempts", "passed", "reason"),
    [
        (0.0, 0.0, 2, True, ""),
        (0.0, 0.0, 1, False, "was not killed"),
        (0.003, 0.0, 2, False, "differs by 1.5 meV/atom"),
        (0.0, 0.01, 2, False, "0.01 eV/Å"),
    ],
)
def test_a_drill_passes_with_the_same_label_after_a_kill(energy, force, attempts, passed, reason) -> None:
    plain = outcome("base", label(-10.0, np.zeros((2, 3))))
    other = outcome("base", label(-10.0 + energy, np.full((2, 3), force)), attempts=attempts)
    result = judge_drill(plain, other, Tolerances())
    assert result.passed is passed
    assert reason in result.reason


def test_a_drill_without_label_says_why() -> None:
    plain = outcome("base", label(-10.0, np.zeros((2, 3))))
    result = judge_drill(plain, outcome("base", None, "crashed", 8), Tolerances())
    assert not result.passed
    assert "the killed calculation gave no label: crashed" in result.reason


def killed_once(place: Path, work: Path, seconds: str, *command: str) -> subprocess.CompletedProcess[str]:
    words = [sys.executable, "-I", "-S", _killed_once.__file__, str(place), seconds, *command]
    return subprocess.run(words, cwd=work, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("seconds", ["0", "0.1"])
def test_the_helper_kills_the_first_calculation_only(tmp_path: Path, seconds: str) -> None:
    place, outside = tmp_path / "drill", tmp_path / "elsewhere"
    work = place / "labels" / "attempt-01"
    work.mkdir(parents=True)
    outside.mkdir()
    sleeper = (sys.executable, "-c", "import time; time.sleep(0.5); print('finished')")
    # asked for its version from elsewhere, the program is left alone and the kill is not used up
    assert killed_once(place, outside, seconds, sys.executable, "-c", "print('1.0')").stdout == "1.0\n"
    assert killed_once(place, work, seconds, *sleeper).returncode == -signal.SIGKILL
    again = killed_once(place, work, seconds, *sleeper)
    assert (again.returncode, again.stdout) == (0, "finished\n")


def test_the_helper_harms_nobody_when_the_program_is_faster(tmp_path: Path) -> None:
    done = killed_once(tmp_path, tmp_path, "30", sys.executable, "-c", "import os; print(os.getpid())")
    assert done.returncode == 0
    # the killer waits without holding the program's streams, and leaves once its victim has ended
    victim = int(done.stdout)
    assert victim != os.getpid()


# ---- run and report --------------------------------------------------------------------------------------------------


def test_an_engine_without_program_is_tested_too(tmp_path: Path) -> None:
    stages: list[str] = []
    done: list[str] = []
    plan = planned(AseSettings(), quick=True)
    result = run_check(
        plan,
        tmp_path,
        workload=Workload(100, 12.0),
        on_stage=stages.append,
        on_label=lambda out: done.append(out.id),
    )
    assert result.passed
    assert stages == ["forces and stress of Si", "recovery drill"]
    assert len(done) == plan.n_labels == 5
    states = {v.question: v.state for v in result.verdicts}
    assert states == {
        "forces and stress": "passed",
        "k-points": "skipped",
        "cutoff": "skipped",
        "recovery drill": "skipped",
    }
    assert "runs no program that could be killed" in result.verdicts[-1].text
    document = json.loads(json.dumps(result.as_dict()))
    assert document["passed"] is True
    assert document["recommendation"]["core_hours"] > 0
    text = check_report(result)
    assert "Self-test of the reference engine ase" in text
    assert "passed" in text


def test_labels_that_are_there_are_taken_over(tmp_path: Path) -> None:
    plan = planned(AseSettings(), quick=True)
    first = run_check(plan, tmp_path)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    second = run_check(plan, tmp_path)
    assert second == first
    assert {path: path.stat().st_mtime_ns for path in written} == written


def level(value: float, noise: float, seconds: float) -> LevelResult:
    return LevelResult(
        value, 3, noise, 1.5 * noise, 1.0, noise / 1000, noise / 100, seconds, {"a": noise, "b": -noise}
    )


def a_result() -> CheckResult:
    density = LadderResult(
        "kpoint_density",
        2.0,
        (level(1.5, 40, 1), level(2.0, 12, 2), level(3.0, 3, 5), level(4.0, 0, 9)),
        3.0,
        {},
    )
    cutoff = LadderResult(
        "cutoff_eV", 300.0, (level(240.0, 2, 1), level(300.0, 1, 2), level(480.0, 0, 3)), 240.0, {}
    )
    return CheckResult(
        installation=Installation(
            "espresso", "6.7", {"Si": "ab" * 32}, {"processes": 4, "threads": 2, "launcher": []}
        ),
        settings=DFT.model_dump(mode="json"),
        tolerances=Tolerances(),
        symbols=("Si",),
        derivatives=(),
        density=density,
        cutoff=cutoff,
        drill=None,
        recommendation=Recommendation({"kpoint_density": 3.0, "cutoff_eV": 240.0}, 5.0, 6.0, 12.5),
        verdicts=(Verdict("k-points", "failed", "a | b"),),
        unlabelled={"density-1.5: cell-1": "not converged"},
    )


def test_the_report_says_what_to_set_and_what_it_costs() -> None:
    result = a_result()
    text = check_report(result, figure="convergence.png")
    assert not result.passed
    assert result.installation.cores == 8
    for words in (
        "espresso 6.7, Si: FAILED",
        "kpoint_density: 3\n",
        "cutoff_eV: 240\n",
        "about 12 core-hours",
        "on 8 core(s)",
        "Si abababababab",
        "![noise and time of labels at every level](convergence.png)",
        "| 3 | 3 | 4.5 | 1 | 0.003 | 0.03 | 5 | recommended |",
        "| 2 | 12 | 18 | 1 | 0.012 | 0.12 | 2 | present |",
        "- density-1.5: cell-1: not converged",
        "a \\| b",
    ):
        assert words in text


def test_the_plot_has_a_row_per_ladder() -> None:
    from gapfactory.errors import EvidenceError
    from gapfactory.figures.reference_check import convergence_plot

    result = a_result()
    figure = convergence_plot([result.density, result.cutoff], result.tolerances)
    assert len(figure.axes) == 8
    assert figure.axes[0].get_yscale() == "log"
    figure.canvas.draw()
    with pytest.raises(EvidenceError, match="no ladder"):
        convergence_plot([], result.tolerances)


def test_crystals_of_the_check_are_not_shared() -> None:
    first = crystal_of("Si", 4)
    first.positions += 1.0
    assert not np.allclose(crystal_of("Si", 4).positions, first.positions)
    assert len(bulk("Si")) == len(first)
