"""CASTEP's inputs against reference inputs (ASE's writer and reader, the keyword help), and readers of its outputs."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from pydantic import ValidationError

from gapfactory.errors import InputError, MissingEngineError
from gapfactory.reference.checks import unsound
from gapfactory.reference.engines import _castep_files as files
from gapfactory.reference.engines.castep import CastepEngine, CastepSettings
from gapfactory.reference.faults import CalculationFailedError, Diagnosis, Fault
from gapfactory.reference.kpoints import kpoint_grid
from gapfactory.reference.site import ProgramSite

RECORDED = Path(__file__).parents[2] / "data" / "recorded" / "castep"
ELSEWHERE = os.environ.get("GAPFACTORY_RECORDED")
elsewhere = pytest.mark.skipif(
    not ELSEWHERE, reason="GAPFACTORY_RECORDED names no checkouts (see tests/data/recorded/README.md)"
)
AIIDA = Path(ELSEWHERE or ".") / "aiida-castep" / "tests" / "data"
OUTPUTS = Path(ELSEWHERE or ".") / "castep_outputs" / "test" / "data_files"


def engine_of(site=None, **settings):
    return CastepEngine(CastepSettings(**settings), site or ProgramSite())


def written(tmp_path, atoms, numerics=None, **settings):
    engine_of(**settings).write(atoms, tmp_path, numerics or {}, checkpoint=None)
    param = dict(re.findall(r"^(\w+) : (.*)$", (tmp_path / "label.param").read_text(), re.MULTILINE))
    return (tmp_path / "label.cell").read_text(), param


# ---- inputs ---------------------------------------------------------------------------------------------------


def test_inputs_of_a_crystal(tmp_path):
    cell, param = written(tmp_path, bulk("Si"), cutoff_eV=800.0, kpoint_grid=(4, 3, 4), xc="pbesol")
    assert cell.splitlines() == [
        *("%BLOCK LATTICE_CART", "ang"),
        " 0.00000000000000 2.71500000000000 2.71500000000000",
        " 2.71500000000000 0.00000000000000 2.71500000000000",
        " 2.71500000000000 2.71500000000000 0.00000000000000",
        *("%ENDBLOCK LATTICE_CART", "", "%BLOCK POSITIONS_FRAC"),
        "Si 0.00000000000000 0.00000000000000 0.00000000000000",
        "Si 0.25000000000000 0.25000000000000 0.25000000000000",
        *("%ENDBLOCK POSITIONS_FRAC", "", "%BLOCK SPECIES_POT", "Si C19", "%ENDBLOCK SPECIES_POT", ""),
        *("KPOINT_MP_GRID 4 3 4", "KPOINT_MP_OFFSET 0.125 0 0.125", "SYMMETRY_GENERATE"),
    ]
    assert param == {
        "task": "SinglePoint",
        "xc_functional": "PBESOL",
        "cut_off_energy": "800 eV",
        "grid_scale": "2",
        "fine_grid_scale": "2.3",
        "finite_basis_corr": "none",
        "fix_occupancy": "false",
        "metals_method": "dm",
        "smearing_scheme": "FermiDirac",
        "smearing_width": "0.1 eV",
        "elec_energy_tol": "1e-06 eV",
        "spin_polarised": "false",
        "calculate_stress": "true",
        "write_checkpoint": "all",
        "num_dump_cycles": "0",
        "write_bib": "false",
        "write_otfg": "false",
        "write_bands": "false",
        "popn_calculate": "false",
        "opt_strategy": "speed",
        "iprint": "1",
        "run_time": "1620",
        "max_scf_cycles": "120",
    }


@pytest.mark.parametrize("grid", [(1, 1, 1), (2, 3, 4), (6, 5, 1)])
def test_grids_contain_gamma(grid):
    """Reference: ASE's offset for the same keyword, and Monkhorst and Pack's formula."""
    from ase.calculators.calculator import kpts2sizeandoffsets

    size, offset = kpts2sizeandoffsets(size=grid, gamma=True, atoms=bulk("Si"))
    assert tuple(size) == grid
    np.testing.assert_allclose(files.gamma_offset(grid), np.abs(offset))
    for n, shift in zip(grid, files.gamma_offset(grid), strict=True):
        points = [(2 * r - n - 1) / (2 * n) + shift for r in range(1, n + 1)]
        assert min(abs(p) for p in points) == pytest.approx(0, abs=1e-15)


def test_cell_is_read_by_ase_as_the_structure_that_was_written(tmp_path):
    """Reference: ASE's reader of .cell files, which works without an installed CASTEP."""
    from ase.io.castep import read_castep_cell

    atoms = Atoms(
        "ClNaClNa", np.arange(12).reshape(4, 3) * 0.31, cell=[[5, 1, 0], [0, 6, 0], [0.3, 0, 7]], pbc=True
    )
    cell, _ = written(tmp_path, atoms, kpoint_density=2.5)
    assert "KPOINT_MP_GRID {} {} {}".format(*kpoint_grid(atoms, 2.5)) in cell
    with pytest.warns(), (tmp_path / "label.cell").open() as stream:
        again = read_castep_cell(stream)
    assert again.get_chemical_symbols() == ["Na", "Na", "Cl", "Cl"]
    np.testing.assert_allclose(again.cell.array, atoms.cell.array, atol=1e-12)
    moved = again.cell.scaled_positions(again.positions - atoms.positions[[1, 3, 0, 2]])
    np.testing.assert_allclose(moved, np.round(moved), atol=1e-12)


def test_isolated_atoms_have_hunds_moment_and_dimers_start_with_it(tmp_path):
    cell, param = written(tmp_path, Atoms("Si"))
    assert "Si 0.50000000000000 0.50000000000000 0.50000000000000 SPIN= 2" in cell
    assert "SYMMETRY_GENERATE" not in cell
    assert "KPOINT_MP_GRID 1 1 1\nKPOINT_MP_OFFSET 0 0 0" in cell
    assert (param["spin_polarised"], param["spin"], param["spin_fix"]) == ("true", "2", "-1")
    assert param["calculate_stress"] == "false"
    _, param = written(tmp_path, Atoms("C2", [[0, 0, 0], [0, 0, 1.3]]))
    assert (param["spin"], param["spin_fix"]) == ("4", "10")
    cell, param = written(tmp_path, Atoms("Si"), spin_isolated="none")
    assert "SPIN" not in cell
    assert param["spin_polarised"] == "false"


def test_pseudopotentials(tmp_path):
    string = "3|1.8|5.588|6.435|7.718|30:31:32(qc=6)"
    cell, _ = written(tmp_path, bulk("NaCl", "rocksalt", a=5.5), pseudopotentials={"Na": string, "Cl": "QC5"})
    assert f"Na {string}\nCl QC5\n" in cell
    (tmp_path / "Si_00.usp").write_text("data")
    site = ProgramSite(pseudopotentials=tmp_path)
    engine = engine_of(site, pseudopotentials={"Si": "Si_00.usp"})
    here = tmp_path / "here"
    here.mkdir()
    engine.write(bulk("Si"), here, {}, checkpoint=None)
    assert (here / "Si_00.usp").read_text() == "data"
    hashes = engine.data_hashes(["Si", "C"])
    assert hashes["C"] == engine_of().data_hashes(["C"])["C"]
    assert hashes["Si"] != hashes["C"]
    with pytest.raises(MissingEngineError, match=r"Ge_00\.usp"):
        engine_of(pseudopotentials={"Ge": "Ge_00.usp"}).require(["Ge"])
    for wrong in ("two words", "%ENDBLOCK", "../x.usp", "a\nb"):
        with pytest.raises(ValidationError):
            CastepSettings(pseudopotentials={"Si": wrong})
    with pytest.raises(ValidationError):
        CastepSettings(xc="optB88-vdW")


def test_run_time_ends_before_the_allocation(tmp_path, monkeypatch):
    import time

    monkeypatch.setenv("GAPFACTORY_JOB_END", str(time.time() + 1000))
    _, param = written(tmp_path, bulk("Si"), time_limit_s=3600)
    assert 870 <= int(param["run_time"]) <= 880


def test_checkpoint_is_continued(tmp_path):
    before, here = tmp_path / "before", tmp_path / "here"
    before.mkdir()
    here.mkdir()
    engine = engine_of()
    assert not engine.has_checkpoint(before)
    (before / "label.check").write_bytes(b"model")
    assert engine.has_checkpoint(before)
    engine.write(bulk("Si"), here, {}, checkpoint=before)
    assert (here / "previous.check").read_bytes() == b"model"
    assert "continuation : previous.check" in (here / "label.param").read_text()
    assert engine.ask_to_stop(here)
    assert (here / "label.param").read_text().endswith("\nstop\n")


def test_remedies_never_change_the_energy(tmp_path):
    cell, param = written(tmp_path, bulk("Si"))
    for remedy in CastepEngine.ladder:
        changed_cell, changed = written(tmp_path, bulk("Si"), remedy.numerics)
        assert {k: v for k, v in changed.items() if k not in files.NUMERICS} == {
            k: v for k, v in param.items() if k not in files.NUMERICS
        }
        assert changed_cell.replace("SYMMETRY_GENERATE\n", "") == cell.replace("SYMMETRY_GENERATE\n", "")
    with pytest.raises(InputError, match="smearing_width of a remedy would change"):
        written(tmp_path, bulk("Si"), {"smearing_width": "0.2 eV"})


# ---- outputs --------------------------------------------------------------------------------------------------


def recorded_silicon():
    atoms, results = files.output_atoms(RECORDED / "md.castep")
    return atoms, results


def test_recorded_run(tmp_path):
    atoms, _ = recorded_silicon()
    text = (RECORDED / "md.castep").read_text()
    (tmp_path / "label.castep").write_text(text)
    engine = engine_of(kpoint_grid=(2, 2, 2))
    assert engine.diagnose(tmp_path, 0) is None
    raw = engine.read(atoms, tmp_path)
    assert raw.energy == float(re.findall(r"\(E-TS\)\s+=\s+(\S+)", text)[-1])
    assert unsound(raw, atoms) == ""
    printed = text[text.rindex("Stress Tensor") :]
    rows = re.findall(r"^ \*  ([xyz]) +(\S+) +(\S+) +(\S+)", printed, re.MULTILINE)
    tensor = np.array([[float(x) for x in row[1:]] for row in rows[:3]])
    pressure = float(re.search(r"Pressure: +(\S+)", printed)[1])
    # CASTEP prints the pressure below: its stress has our sign, pulling is positive
    assert np.trace(tensor) / 3 == pytest.approx(-pressure, abs=1e-4)
    np.testing.assert_allclose(raw.stress[:3], np.diag(tensor) * units.GPa)
    assert raw.details["kpoints"] == [2, 2, 2]
    assert raw.details["iterations"] == len(engine.iterations(tmp_path)) > 20
    first = re.search(r"^ +(\d+) +(\S+) .*<-- SCF$", text, re.MULTILINE)
    assert engine.iterations(tmp_path)[0] == float(first[2])


def test_incomplete_outputs_are_no_results(tmp_path):
    atoms, _ = recorded_silicon()
    text = (RECORDED / "md.castep").read_text()
    for cut in (0.2, 0.6, 0.95):
        (tmp_path / "label.castep").write_text(text[: int(cut * len(text))])
        with pytest.raises(CalculationFailedError) as caught:
            engine_of().read(atoms, tmp_path)
        assert caught.value.fault is Fault.UNKNOWN
    (tmp_path / "label.castep").write_text(text.replace("Final free energy (E-TS)", "Final something"))
    with pytest.raises(CalculationFailedError, match="free_energy"):
        engine_of().read(atoms, tmp_path)
    (tmp_path / "label.castep").write_text(text)
    with pytest.raises(CalculationFailedError, match="another composition"):
        engine_of().read(bulk("Si"), tmp_path)


def test_order_of_species():
    # castep: ascending atomic numbers; within a species as they were written
    np.testing.assert_array_equal(files.order_of([6, 6, 14, 14], [14, 6, 14, 6]), [2, 0, 3, 1])


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        ("*Warning* max. SCF cycles performed but system has not reached the groundstate.", Fault.SCF),
        ("Warning: electronic minimisation did not converge when finding ground state.", Fault.SCF),
        ("Insufficient time for another iteration", Fault.TIME),
        ("      3  NaN  0.00000000E+000  NaN   0.23  <-- SCF", Fault.NAN),
        (" Warning: There are no empty bands for at least one kpoint and spin; this may", Fault.UNSOUND),
    ],
)
def test_words_of_failures(tmp_path, words, fault):
    (tmp_path / "label.castep").write_text(f" Welcome to CASTEP\n{words}\n")
    (tmp_path / "label.param").write_text("run_time : 1620\n")
    assert engine_of().diagnose(tmp_path, 0).fault is fault


def test_err_files_are_quoted(tmp_path):
    (tmp_path / "label.0001.err").write_text(
        "Error with dsytrf in nlpot_prepare\nCurrent trace stack:\n castep\n"
    )
    assert engine_of().diagnose(tmp_path, 1).fault is Fault.DIAGONALISER
    (tmp_path / "label.0001.err").write_text("Error: something else\nCurrent trace stack:\n castep\n")
    found = engine_of().diagnose(tmp_path, 1)
    assert (found.fault, found.text) == (Fault.CRASH, "Error: something else Current trace stack: castep")


def test_more_empty_bands_are_proposed(tmp_path):
    engine = engine_of()
    (tmp_path / "label.param").write_text("task : SinglePoint\n")
    asked = Diagnosis(Fault.UNSOUND, "Warning: There are no empty bands for at least one kpoint")
    assert dict(engine.propose(asked, tmp_path).numerics) == {"perc_extra_bands": 60.0}
    (tmp_path / "label.param").write_text("perc_extra_bands : 60\n")
    assert dict(engine.propose(asked, tmp_path).numerics) == {"perc_extra_bands": 120.0}
    assert engine.propose(Diagnosis(Fault.UNSOUND, "forces sum to"), tmp_path) is None


# ---- recorded runs of other projects ------------------------------------------------------------------------------


@elsewhere
@pytest.mark.parametrize("name", ["Si-geom-stress", "O2-geom-spin", "H2-geom", "N2-md"])
def test_recorded_finished_runs(tmp_path, name):
    path = AIIDA / name / "aiida.castep"
    (tmp_path / "label.castep").write_bytes(path.read_bytes())
    engine = engine_of()
    assert engine.diagnose(tmp_path, 0) is None
    atoms, results = files.output_atoms(path)
    text = path.read_text(errors="replace")
    assert results["forces"].shape == (len(atoms), 3)
    energies = engine.iterations(tmp_path)
    assert len(energies) > 10
    if "E-TS" in text:
        last = float(re.findall(r"\(E-TS\)\s+=\s+(\S+)", text)[-1])
        assert results["free_energy_without_dispersion_correction"] == last
        assert energies[-1] == pytest.approx(last, abs=1e-4)
    if name == "O2-geom-spin":
        assert files.integrated_spin(path) == 2.0


@elsewhere
def test_recorded_missing_bands(tmp_path):
    (tmp_path / "label.castep").write_bytes((AIIDA / "Si2-occ" / "Si2.castep").read_bytes())
    assert engine_of().diagnose(tmp_path, 0).fault is Fault.UNSOUND


@elsewhere
def test_recorded_err_file(tmp_path):
    (tmp_path / "label.err").write_bytes((OUTPUTS / "test.err").read_bytes())
    found = engine_of().diagnose(tmp_path, 1)
    assert found.fault is Fault.DIAGONALISER
    assert "dsytrf" in found.text
