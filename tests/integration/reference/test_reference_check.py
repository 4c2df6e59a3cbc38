"""The self-test with real codes: derivatives, two levels of each ladder, a program that is killed once."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from gf_toy_engine import ToyEngine, ToySettings

from gapfactory.build import BuildSettings
from gapfactory.elements import species
from gapfactory.reference import parse_settings
from gapfactory.reference.selfcheck import CheckPlan, plan_check
from gapfactory.reference.selfcheck_run import Workload, run_check
from gapfactory.reference.site import ProgramSite

if TYPE_CHECKING:
    from gapfactory.reference.settings import EngineSettings

COARSE = {
    "espresso": {"cutoff_eV": 220.0, "kpoint_density": 1.0},
    "gpaw": {"cutoff_eV": 150.0, "kpoint_density": 0.7},
}


def coarse(engine: str) -> EngineSettings:
    """Return cheap settings."""
    return parse_settings({"engine": engine, "smearing_width_eV": 0.2, **COARSE[engine]})


def planned(settings: EngineSettings, *, ladders: bool = False) -> CheckPlan:
    """Return a small self-test: two levels of each ladder or none; without, one finite difference and the drill."""
    plan = plan_check(
        settings,
        species={"Si": species("Si")},
        formulas=[{"Si": 1}],
        build=BuildSettings(atoms_min=2, atoms_max=2),
        quick=True,
        cells=1,
    )
    if not ladders:
        full = plan.derivatives[0]
        one = replace(
            full,
            batch=replace(full.batch, items=full.batch.items[:3]),
            directions={"force-1": full.directions["force-1"]},
        )
        return replace(plan, derivatives=(one,), density=None, cutoff=None)
    lowest = [
        replace(ladder, values=ladder.values[:2], batches=ladder.batches[:2])
        for ladder in (plan.density, plan.cutoff)
    ]
    return replace(plan, density=lowest[0], cutoff=lowest[1])


@pytest.mark.espresso
@pytest.mark.skipif(shutil.which("pw.x") is None, reason="Quantum ESPRESSO is not installed")
def test_quantum_espresso_passes_and_comes_back_after_a_kill(tmp_path) -> None:
    plan = planned(coarse("espresso"), ladders=True)
    site = ProgramSite()
    result = run_check(plan, tmp_path, workload=Workload(1000, 12.0), site=site)
    states = {verdict.question: verdict.state for verdict in result.verdicts}
    assert states["forces and stress"] == "passed", result.verdicts
    assert states["recovery drill"] == "passed", result.verdicts
    assert result.drill.attempts == 2
    assert "SIGKILL" in result.drill.history[0]
    assert result.installation.data_sha256["Si"]
    assert len(result.density.levels) == len(result.cutoff.levels) == 2
    # labels at the lower level are noisier than nothing, and the crystal needs a denser grid than this
    assert result.density.levels[0].energy_noise_meV > 1.0
    assert result.recommendation.core_hours > 0
    # a second call finds everything done
    again = run_check(plan, tmp_path, workload=Workload(1000, 12.0), site=site)
    assert again == result


@pytest.mark.gpaw
@pytest.mark.long
def test_gpaw_comes_back_after_a_kill(tmp_path) -> None:
    pytest.importorskip("gpaw")
    result = run_check(planned(coarse("gpaw")), tmp_path, site=ProgramSite())
    assert result.drill.passed, result.drill
    assert result.drill.attempts == 2


@pytest.mark.espresso
@pytest.mark.skipif(
    shutil.which("pw.x") is None or shutil.which("mpirun") is None, reason="no pw.x or no mpirun"
)
def test_one_of_two_mpi_processes_is_killed(tmp_path) -> None:
    # containers run as root and have fewer cores than processes; Open MPI refuses both unless told
    told = {
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
    }
    site = ProgramSite(launcher=("mpirun", "-n", "{processes}"), processes=2, environment=told)
    result = run_check(planned(coarse("espresso")), tmp_path, site=site)
    assert result.drill.passed, result.drill
    assert result.drill.attempts == 2
    assert result.installation.cores == 2


# ---- the same with a program that takes half a second ----------------------------------------------------------------


@pytest.fixture
def toy(monkeypatch):
    """Settings of the toy engine, known like any other."""
    from gapfactory.reference.engines import registry

    monkeypatch.setattr(registry, "engine_classes", lambda: {"toy": ToyEngine})
    return ToySettings(kpoint_density=1.0)


def test_every_question_has_its_answer(toy, tmp_path) -> None:
    stages: list[str] = []
    result = run_check(planned(toy, ladders=True), tmp_path, site=ProgramSite(), on_stage=stages.append)
    assert stages == ["forces and stress of Si", "k-points", "cutoff", "recovery drill"]
    assert [(v.question, v.state) for v in result.verdicts] == [
        ("forces and stress", "passed"),
        ("k-points", "passed"),
        ("cutoff", "passed"),
        ("recovery drill", "passed"),
    ]
    # its energies depend on neither
    assert result.recommendation.settings == {"kpoint_density": 1.0, "cutoff_eV": 320.0}
    assert result.installation.data_sha256 == {"Si": "0" * 64}


def test_an_interrupted_test_goes_on_where_it_stopped(toy, tmp_path) -> None:
    done: list[str] = []

    def stop_after_two(outcome) -> None:
        done.append(outcome.id)
        if len(done) == 2:
            raise KeyboardInterrupt

    plan = planned(toy)
    with pytest.raises(KeyboardInterrupt):
        run_check(plan, tmp_path, site=ProgramSite(), on_label=stop_after_two)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("label.json")}
    assert len(kept) == 2
    assert run_check(plan, tmp_path, site=ProgramSite()).passed
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def test_a_drill_whose_kill_was_used_up_is_repeated_outside_of_the_common_scratch(toy, tmp_path) -> None:
    drill = tmp_path / "check" / "drill"
    drill.mkdir(parents=True)
    (drill / "killed").touch()
    # in the scratch of the site the label would be found finished, and nothing be killed
    result = run_check(planned(toy), tmp_path / "check", site=ProgramSite(scratch=tmp_path / "scratch"))
    assert result.drill.passed
    assert result.drill.attempts == 2
    assert list(drill.rglob("label.json"))


def test_an_engine_that_does_not_come_back_fails(toy, tmp_path) -> None:
    result = run_check(planned(toy.model_copy(update={"max_attempts": 1})), tmp_path, site=ProgramSite())
    assert not result.passed
    assert result.verdicts[-1].state == "failed"
    assert "the killed calculation gave no label" in result.verdicts[-1].text
    assert "SIGKILL" in result.verdicts[-1].text
