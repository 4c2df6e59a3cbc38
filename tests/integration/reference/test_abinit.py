"""ABINIT labels silicon; every fault ends in the same label or with its cause named."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from engine_conformance import EngineConformance, rattled_silicon
from scipy.spatial.transform import Rotation

from gapfactory.reference.engines.abinit import AbinitEngine, AbinitSettings
from gapfactory.reference.faults import CalculationFailedError
from gapfactory.reference.program import STDERR, STDOUT
from gapfactory.reference.recovery import run_program
from gapfactory.reference.site import ProgramSite

pytestmark = [
    pytest.mark.abinit,
    pytest.mark.skipif(shutil.which("abinit") is None, reason="abinit is not installed"),
]

COARSE = AbinitSettings(
    cutoff_eV=250.0, kpoint_grid=(2, 2, 2), vacuum_isolated=3.5, vacuum_dimer=3.0, max_iterations=60
)
# the derivative of the energy needs more plane waves than the comparison of two calculations
QUICK = COARSE.model_copy(update={"cutoff_eV": 120.0})
SHIPPED = "/usr/share/abinit/psp/PseudosHGH_pwteter/14si.4.hgh"


class TestAbinit(EngineConformance):
    settings = COARSE
    result_files = ("run.abo",)
    output = "run.abo"
    # with more, MPI starts or does not, by luck
    too_little_memory = 130_000_000


def start(engine, atoms, directory, numerics=None, checkpoint=None):
    directory.mkdir()
    engine.write(atoms, directory, numerics or {}, checkpoint=checkpoint)
    with (directory / STDOUT).open("wb") as out, (directory / STDERR).open("wb") as err:
        environment = {**os.environ, **engine.site.variables()}
        return subprocess.Popen(
            engine.command(directory),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            env=environment,
        )


def single_point(directory, numerics=None, atoms=None, settings=QUICK, site=None, checkpoint=None):
    engine = AbinitEngine(settings, site or ProgramSite())
    atoms = atoms or rattled_silicon()
    status = start(engine, atoms, directory, numerics, checkpoint).wait(timeout=120)
    assert engine.diagnose(directory, status) is None
    return engine.read(atoms, directory)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return single_point(tmp_path_factory.mktemp("plain") / "run")


def check_same(raw, plain):
    assert abs(raw.energy - plain.energy) / len(plain.forces) < 1e-3
    assert np.abs(raw.forces - plain.forces).max() < 5e-3


@pytest.mark.long
def test_every_numerical_remedy_gives_the_plain_result(plain, tmp_path):
    numerics = {}
    for number, remedy in enumerate(r for r in AbinitEngine.ladder if not r.changes_energy):
        # as a climb does it, each remedy on top of those before
        numerics |= remedy.numerics
        check_same(single_point(tmp_path / f"ladder-{number}", numerics), plain)


def test_gth_potential_gives_the_energy_of_the_shipped_file(tmp_path):
    if not Path(SHIPPED).is_file():
        pytest.skip("ABINIT's own potentials are not installed")
    settings = QUICK.model_copy(update={"xc": "PADE"})
    named = settings.model_copy(update={"pseudopotentials": {"Si": SHIPPED}})
    converted = single_point(tmp_path / "gth", settings=settings)
    shipped = single_point(tmp_path / "file", settings=named)
    # the file gives its coefficients with six digits
    assert converted.energy == pytest.approx(shipped.energy, abs=1e-3)
    assert np.abs(converted.forces - shipped.forces).max() < 1e-3


def test_left_handed_cell_is_the_same_crystal(tmp_path):
    right = Atoms(
        "Si2", cell=[[3.8, 0, 0], [0, 3.9, 0], [1, 1, 4]], positions=[[0, 0, 0], [1.3, 1.3, 1.2]], pbc=True
    )
    left = right.copy()
    left.set_cell(right.cell.array[[1, 0, 2]])
    assert left.cell.handedness == -1
    one, two = (single_point(tmp_path / n, atoms=a) for n, a in (("right", right), ("left", left)))
    assert one.energy == pytest.approx(two.energy, abs=1e-5)
    assert np.abs(one.forces - two.forces).max() < 1e-3
    assert np.abs(one.stress - two.stress).max() < 1e-4
    assert np.abs(two.echo.cell.array - left.cell.array).max() < 1e-5


def test_two_processes_give_the_same_numbers(plain, tmp_path):
    launcher = shutil.which("mpirun")
    if launcher is None:
        pytest.skip("mpirun is not installed")
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    site = ProgramSite(
        launcher=(launcher, "--oversubscribe", "-n", "{processes}"), processes=2, environment=root
    )
    raw = single_point(tmp_path / "two", site=site)
    assert "mpi_nproc: 2" in (tmp_path / "two" / "run.abo").read_text()
    assert raw.energy == pytest.approx(plain.energy, abs=1e-6)


def test_stops_when_asked_and_continues_from_its_wavefunctions(tmp_path):
    atoms = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.3]], cell=[20.0] * 3)
    # ABINIT looks for the request every few seconds; slow mixing keeps it running until then
    engine = AbinitEngine(QUICK, ProgramSite())
    process = start(engine, atoms, tmp_path / "first", {"nstep": 3000, "iscf": 2, "diemix": 0.002})
    deadline = time.monotonic() + 120
    while len(engine.iterations(tmp_path / "first")) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not engine.has_checkpoint(tmp_path / "first")
    assert engine.ask_to_stop(tmp_path / "first")
    assert process.wait(timeout=120) == 0
    assert engine.diagnose(tmp_path / "first", 0) is None
    with pytest.raises(CalculationFailedError, match="stopped as it was asked"):
        engine.read(atoms, tmp_path / "first")
    assert engine.has_checkpoint(tmp_path / "first")
    anew = single_point(tmp_path / "anew", atoms=atoms)
    on = single_point(tmp_path / "on", atoms=atoms, checkpoint=tmp_path / "first")
    assert on.energy == pytest.approx(anew.energy, abs=1e-4)
    assert 0 < on.details["iterations"] <= anew.details["iterations"]


def recovered(tmp_path, atoms, **changes):
    engine = AbinitEngine(QUICK.model_copy(update=changes), ProgramSite())
    return run_program(engine, atoms, tmp_path / "label")


class FirstAttempt(AbinitEngine):
    """Does something else in the first attempt."""

    def __init__(self, changes):
        super().__init__(QUICK, ProgramSite())
        self.changes = changes

    def write(self, atoms, directory, numerics, *, checkpoint):
        first = directory.name == "attempt-01"
        super().write(atoms, directory, self.changes if first else numerics, checkpoint=checkpoint)


def test_too_few_iterations_go_on_from_the_wavefunctions(plain, tmp_path):
    engine = FirstAttempt({"nstep": 3})
    done = run_program(engine, rattled_silicon(), tmp_path / "label")
    check_same(done.raw, plain)
    assert "3 iterations were not enough" in done.attempts[0].fault
    assert done.attempts[1].remedy == "more iterations from where it stopped"
    first, second = (attempt.iterations for attempt in done.attempts)
    assert abs(second[0] - plain.energy) < abs(first[1] - plain.energy)


def test_symmetry_finder_that_fails_is_switched_off(tmp_path):
    atoms = bulk("Si", a=5.4)
    atoms.set_cell(atoms.cell.array @ Rotation.random(random_state=3).as_matrix().T, scale_atoms=True)
    rng = np.random.default_rng(5)
    atoms.set_cell(atoms.cell.array + 1e-5 * rng.normal(size=(3, 3)), scale_atoms=True)
    atoms.positions += 1e-5 * rng.normal(size=(2, 3))
    done = recovered(tmp_path, atoms, kpoint_grid=(1, 1, 1))
    assert done.raw is not None
    assert "symmetry detection failed" in done.attempts[0].fault
    assert done.attempts[1].remedy == "without symmetry"


def test_grid_with_less_symmetry_than_the_cell_is_used_as_it_is(tmp_path):
    done = recovered(tmp_path, bulk("Si", "sc", a=2.5), kpoint_grid=(2, 3, 2))
    assert done.raw is not None
    assert "k point grid is not symmetric" in done.attempts[0].fault
    assert done.attempts[1].remedy == "without symmetry"


def test_occupied_highest_band_is_noticed(tmp_path):
    done = recovered(tmp_path, rattled_silicon(), smearing_width_eV=1.5)
    assert done.raw is not None
    assert "bands are missing" in done.attempts[0].fault
    assert done.attempts[1].remedy == "16 bands"


def test_refused_input_is_quarantined_with_abinits_own_words(tmp_path):
    done = recovered(tmp_path, rattled_silicon(), smearing_width_eV=1e-9)
    assert done.raw is None
    assert len(done.attempts) == 1
    assert "tsmear" in done.attempts[0].fault


def test_diverging_mixing_is_recovered_from(plain, tmp_path):
    engine = FirstAttempt({"iscf": 3, "diemix": 1e7})
    done = run_program(engine, rattled_silicon(), tmp_path / "label")
    assert done.raw is not None
    assert "not finite" in done.attempts[0].fault
    check_same(done.raw, plain)
