"""The self-test with real codes: derivatives, two levels of each ladder, a program that is killed once."""

from __future__ import annotations

import shutil
from dataclasses import replace

import pytest

from gapfactory.build import BuildSettings
from gapfactory.elements import species
from gapfactory.reference import parse_settings
from gapfactory.reference.selfcheck import CheckPlan, plan_check
from gapfactory.reference.selfcheck_run import Workload, run_check
from gapfactory.reference.site import ProgramSite

COARSE = {
    "espresso": {"cutoff_eV": 220.0, "kpoint_density": 1.0},
    "gpaw": {"cutoff_eV": 150.0, "kpoint_density": 0.7},
}


def planned(engine: str, *, ladders: bool) -> CheckPlan:
    """Return a small self-test; without ladders it is one finite difference and the drill."""
    settings = parse_settings({"engine": engine, "smearing_width_eV": 0.2, **COARSE[engine]})
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
    plan = planned("espresso", ladders=True)
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
def test_gpaw_comes_back_after_a_kill(tmp_path) -> None:
    pytest.importorskip("gpaw")
    result = run_check(planned("gpaw", ladders=False), tmp_path, site=ProgramSite())
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
    result = run_check(planned("espresso", ladders=False), tmp_path, site=site)
    assert result.drill.passed, result.drill
    assert result.drill.attempts == 2
    assert result.installation.cores == 2
