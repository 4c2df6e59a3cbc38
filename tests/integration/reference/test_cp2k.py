"""The conformance suite on the real CP2K, and what only CP2K has."""

import os
import shutil
import subprocess

import numpy as np
import pytest
from ase.build import bulk
from engine_conformance import EngineConformance, rattled_silicon

from gapfactory.reference import label_structures
from gapfactory.reference.engines.cp2k import Cp2kEngine, Cp2kSettings
from gapfactory.reference.faults import Fault
from gapfactory.reference.site import ProgramSite

pytestmark = pytest.mark.cp2k

FAST = Cp2kSettings(
    cutoff_eV=1500.0,
    relative_cutoff_eV=300.0,
    basis="SZV-MOLOPT-SR-GTH",
    kpoint_grid=(2, 2, 2),
    precision=1e-8,
    vacuum_isolated=4.0,
    vacuum_dimer=4.0,
)

TWO_PROCESSES = ProgramSite(
    launcher=("mpirun", "-n", "{processes}"),
    processes=2,
    environment={
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        # on machines with fewer cores than processes
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMPI_MCA_mpi_yield_when_idle": "1",
    },
)


class TestCp2k(EngineConformance):
    settings = FAST
    # where BLAS is OpenBLAS it needs up to 0.45 GB to start, and dies below that without a word
    too_little_memory = 470_000_000
    output_has = ()


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    if shutil.which("cp2k.psmp") is None:
        pytest.skip("cp2k.psmp is not installed")
    return run(tmp_path_factory.mktemp("plain"))[0]


def run(directory, numerics=None, *, settings=FAST, site=None, checkpoint=None, stop=False, atoms=None):
    """Run one attempt without custodian; return the result, or None, and the diagnosis."""
    engine = Cp2kEngine(settings, site or ProgramSite())
    atoms = atoms or rattled_silicon()
    engine.write(atoms, directory, numerics or {}, checkpoint=checkpoint)
    if stop:
        assert engine.ask_to_stop(directory)
    with (directory / "stdout.txt").open("wb") as out, (directory / "stderr.txt").open("wb") as err:
        done = subprocess.run(
            engine.command(directory),
            cwd=directory,
            stdout=out,
            stderr=err,
            env={**os.environ, **engine.site.variables()},
            timeout=120,
            check=False,
        )
    found = engine.diagnose(directory, done.returncode)
    return (engine.read(atoms, directory) if found is None else None), found


def check_same(raw, plain):
    assert abs(raw.energy - plain.energy) / 2 < 1e-3
    assert np.abs(raw.forces - plain.forces).max() < 5e-3
    assert np.abs(raw.stress - plain.stress).max() < 1e-3


@pytest.mark.parametrize("remedy", [r for r in Cp2kEngine.ladder if not r.settings], ids=lambda r: r.name)
@pytest.mark.long
def test_remedies_that_are_numerics_change_nothing(plain, tmp_path, remedy):
    raw, found = run(tmp_path, remedy.numerics)
    assert found is None
    check_same(raw, plain)


def test_soft_stop_leaves_a_checkpoint_that_is_continued(plain, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    raw, found = run(first, stop=True)
    assert raw is None
    assert found.fault is Fault.UNKNOWN
    assert "asked" in found.text
    engine = Cp2kEngine(FAST, ProgramSite())
    assert engine.has_checkpoint(first)
    raw, found = run(second, checkpoint=first)
    assert found is None
    check_same(raw, plain)
    assert raw.details["iterations"] < plain.details["iterations"]


def test_too_few_iterations_are_recovered(plain, tmp_path):
    settings = FAST.model_copy(update={"max_iterations": 10, "density_convergence": 1e-9})
    [outcome] = label_structures([("si", rattled_silicon())], settings, tmp_path, site=ProgramSite())
    assert outcome.label is not None, outcome.reason
    assert "self-consistency not reached" in outcome.history[0]
    assert outcome.label.energy == pytest.approx(plain.energy, abs=1e-3)


@pytest.mark.long
def test_two_processes_give_the_same_numbers(plain, tmp_path):
    if shutil.which("mpirun") is None:
        pytest.skip("mpirun is not installed")
    raw, found = run(tmp_path, site=TWO_PROCESSES)
    assert found is None
    check_same(raw, plain)
    assert "message passing processes                             2" in (tmp_path / "stdout.txt").read_text()


def test_overlapping_atoms_are_hopeless(plain, tmp_path):
    del plain
    atoms = bulk("Si")
    atoms.positions[1] = atoms.positions[0] + [0.0, 0.0, 1e-5]
    raw, found = run(tmp_path, settings=FAST.model_copy(update={"closest_approach": 0.0}), atoms=atoms)
    assert raw is None
    assert found.fault is Fault.OVERLAP
    assert found.hopeless


def test_unknown_keyword_is_the_inputs_fault(plain, tmp_path, monkeypatch):
    del plain
    tree = Cp2kEngine._dft

    def with_typo(*args):
        return {**tree(*args), "NONSENSE": 1}

    monkeypatch.setattr(Cp2kEngine, "_dft", with_typo)
    raw, found = run(tmp_path)
    assert raw is None
    assert found.fault is Fault.INPUT
    assert found.hopeless
    assert "NONSENSE" in found.text
