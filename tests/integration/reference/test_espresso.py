"""Quantum ESPRESSO labels silicon; every fault ends in the same label or with its cause named."""

import os
import shutil
import subprocess
import time

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from engine_conformance import EngineConformance, rattled_silicon

from gapfactory.errors import MissingEngineError
from gapfactory.reference.engines.espresso import EspressoEngine, EspressoSettings
from gapfactory.reference.faults import Fault
from gapfactory.reference.recovery import run_program
from gapfactory.reference.site import ProgramSite

pytestmark = pytest.mark.espresso

SETTINGS = EspressoSettings(
    cutoff_eV=270.0, kpoint_grid=(2, 2, 2), vacuum_isolated=3.5, vacuum_dimer=3.0, max_iterations=60
)
NUMERICS = [remedy for remedy in EspressoEngine.ladder if not remedy.changes_energy]


class TestEspresso(EngineConformance):
    settings = SETTINGS
    result_files = ("out/pw.xml",)
    too_little_memory = 95_000_000


@pytest.fixture(scope="module", autouse=True)
def installed():
    try:
        EspressoEngine(SETTINGS, ProgramSite()).version()
    except MissingEngineError as error:
        pytest.skip(str(error))


def start(engine, atoms, directory, numerics=None, checkpoint=None, stop_when=None):
    """Run pw.x once, without recovery; ask it to stop when a text is in its output."""
    directory.mkdir()
    engine.write(atoms, directory, numerics or {}, checkpoint=checkpoint)
    with (directory / "stdout.txt").open("w") as out, (directory / "stderr.txt").open("w") as err:
        process = subprocess.Popen(
            engine.command(directory),
            cwd=directory,
            stdout=out,
            stderr=err,
            env={**os.environ, **engine.site.variables()},
        )
    if stop_when is not None:
        deadline = time.monotonic() + 60
        while stop_when not in (directory / "stdout.txt").read_text() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert engine.ask_to_stop(directory)
    process.wait(120)
    return directory


def result(engine, atoms, directory):
    assert engine.diagnose(directory, 0) is None
    return engine.read(atoms, directory)


def check_same(one, two, n_atoms):
    assert abs(one.energy - two.energy) / n_atoms < 1e-5
    assert np.abs(one.forces - two.forces).max() < 2e-3
    assert np.abs(one.stress - two.stress).max() < 2e-4


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    engine = EspressoEngine(SETTINGS, ProgramSite())
    here = tmp_path_factory.mktemp("plain") / "run"
    return result(engine, rattled_silicon(), start(engine, rattled_silicon(), here))


@pytest.mark.parametrize("remedy", NUMERICS, ids=lambda remedy: remedy.name)
def test_remedies_that_are_numerics_give_the_same_label(plain, remedy, tmp_path):
    engine = EspressoEngine(SETTINGS, ProgramSite())
    here = start(engine, rattled_silicon(), tmp_path / "run", remedy.numerics)
    check_same(result(engine, rattled_silicon(), here), plain, 2)


def test_symmetry_changes_no_numbers(tmp_path):
    atoms = bulk("Si", a=5.3)
    raw = []
    for name, symmetric in (("with", True), ("without", False)):
        engine = EspressoEngine(SETTINGS.model_copy(update={"use_symmetry": symmetric}), ProgramSite())
        raw.append(result(engine, atoms, start(engine, atoms, tmp_path / name)))
    check_same(*raw, 2)


def test_a_matrix_that_is_not_positive_definite_is_cured(tmp_path):
    # this far below the cutoff of the set, Davidson's subspace loses its metric, with any BLAS (from 70 to 75 eV the
    # reference one and OpenBLAS do; at 82 eV one of them says "charge is wrong"); conjugate gradients need none
    atoms = Atoms(
        "C2",
        positions=[[0, 0, 0], [0.9, 1.0, 0.8]],
        cell=[[0, 1.8, 1.8], [1.8, 0, 1.8], [1.8, 1.8, 0]],
        pbc=True,
    )
    settings = SETTINGS.model_copy(update={"cutoff_eV": 72.0, "density_cutoff_factor": 4.0})
    done = run_program(EspressoEngine(settings, ProgramSite()), atoms, tmp_path)
    assert done.raw is not None
    assert "S matrix not positive definite" in done.attempts[0].fault
    assert [attempt.remedy for attempt in done.attempts] == [
        "plain",
        "diagonalisation by conjugate gradients",
    ]


def test_self_consistency_not_reached_is_cured(plain, tmp_path):
    settings = SETTINGS.model_copy(update={"scf_accuracy_eV": 1e-13, "max_iterations": 10})
    done = run_program(EspressoEngine(settings, ProgramSite()), rattled_silicon(), tmp_path)
    assert "convergence NOT achieved after 10 iterations" in done.attempts[0].fault
    assert len(done.attempts[0].iterations) == 10
    check_same(done.raw, plain, 2)


@pytest.mark.parametrize(
    ("changes", "second", "fault"),
    [
        ({"closest_approach": 0.0}, [0.0, 2.7, 2.7], Fault.OVERLAP),
        (
            {"cutoff_eV": 50.0, "density_cutoff_factor": 4.0, "kpoint_grid": (1, 1, 1)},
            [1.45, 1.3, 1.5],
            Fault.INPUT,
        ),
    ],
)
def test_what_cannot_be_cured_is_tried_once(tmp_path, changes, second, fault):
    atoms = rattled_silicon()
    atoms.positions[1] = second
    done = run_program(
        EspressoEngine(SETTINGS.model_copy(update=changes), ProgramSite()), atoms, tmp_path / "label"
    )
    assert done.raw is None
    assert done.failure.fault is fault
    assert len(done.attempts) == 1
    assert done.files["pw.in"]


# ---- stop and continue; MPI -----------------------------------------------------------------------------------

DENSE = SETTINGS.model_copy(update={"cutoff_eV": 150.0, "kpoint_grid": (5, 5, 5)})
PARALLEL = ProgramSite(
    launcher=("mpirun", "-n", "{processes}"),
    processes=2,
    # Open MPI refuses the superuser, as whom containers run, and more processes than cores
    environment={
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
    },
)
needs_mpi = pytest.mark.skipif(shutil.which("mpirun") is None, reason="mpirun is not installed")


@pytest.fixture(scope="module")
def dense(tmp_path_factory):
    engine = EspressoEngine(DENSE, ProgramSite())
    here = tmp_path_factory.mktemp("dense") / "run"
    return result(engine, rattled_silicon(), start(engine, rattled_silicon(), here))


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (ProgramSite(), ProgramSite()),
        # another number of processes: the density is taken over, the wavefunctions are not
        pytest.param(ProgramSite(), PARALLEL, marks=needs_mpi),
    ],
    ids=["same processes", "more processes"],
)
def test_a_stopped_calculation_continues(dense, tmp_path, first, second):
    atoms = rattled_silicon()
    engine = EspressoEngine(DENSE, first)
    stopped = start(engine, atoms, tmp_path / "one", stop_when="iteration #  3")
    assert "Program stopped by user request" in (stopped / "stdout.txt").read_text()
    assert engine.has_checkpoint(stopped)
    engine = EspressoEngine(DENSE, second)
    continued = start(engine, atoms, tmp_path / "two", checkpoint=stopped)
    restarted = "Calculation restarted" in (continued / "stdout.txt").read_text()
    assert restarted == (second is not PARALLEL)
    raw = result(engine, atoms, continued)
    check_same(raw, dense, 2)
    assert not engine.has_checkpoint(continued)
    if restarted:
        assert (continued / "stdout.txt").read_text().count("iteration #") < raw.details["iterations"]


def test_the_time_limit_continues_from_the_checkpoint(dense, tmp_path):
    settings = DENSE.model_copy(update={"kpoint_grid": (8, 8, 8), "time_limit_s": 1.2})
    done = run_program(EspressoEngine(settings, ProgramSite()), rattled_silicon(), tmp_path)
    assert "time limit" in done.attempts[0].fault
    assert done.attempts[1].remedy == "continued from its checkpoint"
    if done.raw is not None:
        # a denser grid of k-points
        assert abs(done.raw.energy - dense.energy) < 0.2


@needs_mpi
def test_two_processes_give_the_same_label(plain, tmp_path):
    engine = EspressoEngine(SETTINGS, PARALLEL)
    here = start(engine, rattled_silicon(), tmp_path / "run")
    assert engine.arguments(here)[2:4] == ["-nk", "2"]
    assert "K-points division:     npool     =       2" in (here / "stdout.txt").read_text()
    check_same(result(engine, rattled_silicon(), here), plain, 2)
