"""VASP's inputs against reference inputs (ASE's and pymatgen's, and the wiki's tags), and readers of its outputs."""

import io
import os
import re
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io import read as ase_read
from pydantic import ValidationError

from gapfactory.errors import InputError, MissingEngineError
from gapfactory.reference import settings_hash
from gapfactory.reference.engines import _vasp_files as files
from gapfactory.reference.engines._vasp_advice import judge
from gapfactory.reference.engines.vasp import VaspEngine, VaspSettings
from gapfactory.reference.faults import CalculationFailedError, Diagnosis, Fault
from gapfactory.reference.site import ProgramSite

RECORDED = Path(__file__).parents[2] / "data" / "recorded" / "vasp"
ELSEWHERE = os.environ.get("GAPFACTORY_RECORDED")
elsewhere = pytest.mark.skipif(
    not ELSEWHERE, reason="GAPFACTORY_RECORDED names no checkouts (see tests/data/recorded/README.md)"
)
CUSTODIAN = Path(ELSEWHERE or ".") / "custodian" / "tests" / "files"


@pytest.fixture
def potentials(tmp_path):
    """PAW sets as VASP lays them out, without any data in them."""
    root = tmp_path / "sets"
    for folder, symbol in (
        *(
            ("potpaw_PBE/Si", "Si"),
            ("potpaw_PBE/C", "C"),
            ("potpaw_PBE/Na_pv", "Na"),
            ("potpaw_PBE/Na", "Na"),
        ),
        *(("potpaw_PBE/Cl", "Cl"), ("potpaw/C", "C"), ("potpaw_PBE/wrong", "Ge")),
    ):
        path = root / folder
        path.mkdir(parents=True)
        (path / "POTCAR").write_text(
            f"  PAW of {folder}\n parameters from PSCTR are:\n   VRHFIN ={symbol}: s2p2\n"
        )
    return root


def engine_of(potentials=None, **settings):
    return VaspEngine(VaspSettings(**settings), ProgramSite(pseudopotentials=potentials))


def tags(text):
    return dict(re.findall(r"^(\w+) = (.*)$", text, re.MULTILINE))


# ---- inputs ---------------------------------------------------------------------------------------------------


def test_incar_of_a_crystal(potentials, tmp_path):
    engine = engine_of(potentials, cutoff_eV=400.0, xc="pbesol", kpoint_density=4.0)
    engine.write(bulk("Si"), tmp_path, {}, checkpoint=None)
    assert tags((tmp_path / "INCAR").read_text()) == {
        "SYSTEM": "gapfactory",
        "ISTART": "0",
        "ICHARG": "2",
        "PREC": "Accurate",
        "ENCUT": "400",
        "EDIFF": "1e-06",
        "NELM": "120",
        "ALGO": "Normal",
        "ISMEAR": "-1",
        "SIGMA": "0.1",
        "GGA": "PS",
        "LASPH": ".TRUE.",
        "LREAL": ".FALSE.",
        "IBRION": "-1",
        "NSW": "0",
        "ISIF": "2",
        "LWAVE": ".TRUE.",
        "LCHARG": ".TRUE.",
        "ISPIN": "1",
    }
    # KSPACING 0.25 of the 2019 paper is a density of 4; VASP would take max(1, ceil(|b_i|/KSPACING))
    assert (tmp_path / "KPOINTS").read_text().splitlines() == [
        "Gamma-centred",
        "0",
        "Gamma",
        "9 9 9",
        "0 0 0",
    ]


@pytest.mark.parametrize("xc", list(files.FUNCTIONALS))
def test_functionals_are_those_of_ase(xc):
    """Reference: the tags that ASE's calculator writes for the functional of this name."""
    from ase.calculators.vasp.create_input import GenerateVaspInput

    theirs = dict(GenerateVaspInput.xc_defaults[xc.lower()])
    assert theirs.pop("pp", "PBE") == ("LDA" if xc == "LDA" else "PBE")
    # plain LDA and PBE are the data sets' own functional there; the tag says the same
    ours = {tag.lower(): value for tag, value in files.FUNCTIONALS[xc].items()}
    theirs.setdefault("gga", {"LDA": "CA", "PBE": "PE"}.get(xc))
    assert ours == theirs


@pytest.mark.filterwarnings("ignore:Loaded VASP_PP_PATH from environment", "ignore:vdW has been enabled")
def test_inputs_are_those_that_ase_writes_for_the_same_settings(potentials, tmp_path, monkeypatch):
    """Reference: INCAR and POSCAR of ASE's own writer."""
    from ase.calculators.vasp import Vasp

    monkeypatch.setenv("VASP_PP_PATH", str(potentials))
    atoms = bulk("NaCl", "rocksalt", a=5.5)
    engine = engine_of(potentials, xc="optB88-vdW", cutoff_eV=350.0, kpoint_grid=(3, 3, 3), max_iterations=80)
    ours = tmp_path / "ours"
    ours.mkdir()
    engine.write(atoms, ours, {}, checkpoint=None)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    calculator = Vasp(
        directory=str(theirs),
        xc="optb88-vdw",
        encut=350.0,
        ediff=1e-6,
        nelm=80,
        algo="Normal",
        prec="Accurate",
        ismear=-1,
        sigma=0.1,
        lasph=True,
        lreal=False,
        ibrion=-1,
        nsw=0,
        isif=2,
        lwave=True,
        lcharg=True,
        ispin=1,
        istart=0,
        icharg=2,
        kpts=(3, 3, 3),
        gamma=True,
    )
    calculator.write_input(atoms)
    mine, other = (_plain(tags((d / "INCAR").read_text())) for d in (ours, theirs))
    # ASE rounds PARAM1 = 1.1/6 to six digits
    assert mine.pop("PARAM1") == pytest.approx(other.pop("PARAM1"), abs=1e-6)
    assert mine == other
    read_ours, read_theirs = (ase_read(d / "POSCAR", format="vasp") for d in (ours, theirs))
    order = files.species_order(read_theirs.numbers)
    np.testing.assert_allclose(read_ours.positions, read_theirs.positions[order], atol=1e-12)
    assert (theirs / "KPOINTS").read_text().split()[-7:-3] == ["Gamma", "3", "3", "3"]


def _plain(values):
    plain = {}
    for key, value in values.items():
        word = value.strip().strip(".").upper()
        try:
            plain[key] = float(value)
        except ValueError:
            plain[key] = {"T": "TRUE", "F": "FALSE"}.get(word, word)
    plain.pop("SYSTEM", None)
    return plain


def test_pymatgen_knows_every_tag(potentials, tmp_path):
    inputs = pytest.importorskip("pymatgen.io.vasp.inputs")
    engine = engine_of(potentials, xc="optB88-vdW")
    engine.write(Atoms("C"), tmp_path, {"NELM": 200, "AMIX": 0.1, "ALGO": "Damped"}, checkpoint=None)
    incar = inputs.Incar.from_file(str(tmp_path / "INCAR"))
    incar.check_params()  # warns of unknown tags and wrong types; warnings are errors here
    assert incar["NELM"] == 200
    assert incar["MAGMOM"] == [2.0]
    grid = inputs.Kpoints.from_file(str(tmp_path / "KPOINTS"))
    assert grid.style == inputs.Kpoints.supported_modes.Gamma
    assert tuple(grid.kpts[0]) == (1, 1, 1)


def test_isolated_atoms_have_hunds_moment_and_dimers_start_with_it(potentials, tmp_path):
    (tmp_path / "atom").mkdir()
    engine = engine_of(potentials, xc="PBE", kpoint_density=9.0)
    engine.write(Atoms("Si"), tmp_path / "atom", {}, checkpoint=None)
    incar = tags((tmp_path / "atom" / "INCAR").read_text())
    assert {k: incar[k] for k in ("ISPIN", "MAGMOM", "NUPDOWN", "ISYM")} == {
        "ISPIN": "2",
        "MAGMOM": "2",
        "NUPDOWN": "2",
        "ISYM": "0",
    }
    assert "1 1 1" in (tmp_path / "atom" / "KPOINTS").read_text()
    box = ase_read(tmp_path / "atom" / "POSCAR", format="vasp")
    np.testing.assert_allclose(box.cell.lengths(), 12.0)
    (tmp_path / "dimer").mkdir()
    engine.write(Atoms("SiC", [[0, 0, 0], [0, 0, 1.8]]), tmp_path / "dimer", {}, checkpoint=None)
    incar = tags((tmp_path / "dimer" / "INCAR").read_text())
    assert incar["MAGMOM"] == "2 2"
    assert "NUPDOWN" not in incar
    none = engine_of(potentials, spin_isolated="none").incar(Atoms("Si"), {})
    assert none["ISPIN"] == 1


def test_species_are_grouped_and_come_back_in_order(potentials, tmp_path):
    atoms = Atoms("ClNaClNa", np.arange(12).reshape(4, 3) * 0.3, cell=[5, 6, 7], pbc=True)
    engine = engine_of(potentials, pseudopotentials={"Na": "Na_pv"})
    engine.write(atoms, tmp_path, {}, checkpoint=None)
    lines = (tmp_path / "POSCAR").read_text().splitlines()
    assert lines[5].split() == ["Na", "Cl"]
    assert lines[6].split() == ["2", "2"]
    potcar = (tmp_path / "POTCAR").read_text()
    assert re.findall(r"PAW of (\S+)", potcar) == ["potpaw_PBE/Na_pv", "potpaw_PBE/Cl"]
    order = files.species_order(atoms.numbers)
    back = np.argsort(order, kind="stable")
    assert (ase_read(tmp_path / "POSCAR", format="vasp")[back].numbers == atoms.numbers).all()


def test_left_handed_cells_become_right_handed():
    atoms = Atoms(
        "Si2", [[0.1, 0.2, 0.3], [1.5, 1.2, 0.7]], cell=[[0, 3, 0], [3.1, 0, 0], [0, 0.2, 3.3]], pbc=True
    )
    ready, sign = files.arranged(atoms)
    assert sign == -1
    assert np.linalg.det(ready.cell.array) > 0
    again = ase_read(io.StringIO(files.poscar_text(ready)), format="vasp")
    np.testing.assert_allclose(
        again.get_all_distances(mic=True), atoms.get_all_distances(mic=True), atol=1e-12
    )


def test_data_sets(potentials):
    engine = engine_of(potentials)
    hashes = engine.data_hashes(["Si", "C", "Si"])
    assert sorted(hashes) == ["C", "Si"]
    assert hashes["C"] != hashes["Si"]
    assert engine_of(potentials, xc="LDA").data_hashes(["C"]) != {"C": hashes["C"]}
    with pytest.raises(MissingEngineError, match="is of Ge, not of Si"):
        engine_of(potentials, pseudopotentials={"Si": "wrong"}).require(["Si"])
    with pytest.raises(MissingEngineError, match=r"no PAW data set .*potpaw_PBE/Ti"):
        engine.require(["Ti"])
    with pytest.raises(MissingEngineError, match="VASP_PP_PATH"):
        engine_of().require(["Si"])


def test_version_is_read_from_the_executable(tmp_path):
    program = tmp_path / "vasp_std"
    program.write_bytes(b"\x7fELF\0\0vasp.6.4.3 19Mar24 (build\0")
    program.chmod(0o755)
    assert VaspEngine(VaspSettings(), ProgramSite(command=(str(program),))).version() == "6.4.3"
    program.write_bytes(b"#!/bin/sh\nexec srun vasp\n")
    assert (
        VaspEngine(VaspSettings(), ProgramSite(command=(str(program),)))
        .version()
        .startswith("unknown (sha256 ")
    )
    with pytest.raises(MissingEngineError, match="VASP needs a licence"):
        VaspEngine(VaspSettings(), ProgramSite(command=("no-such-vasp",))).info()


def test_settings():
    for wrong in ({"xc": "B3LYP"}, {"pseudopotentials": {"Si": "../Si"}}, {"potential_set": "/etc"}):
        with pytest.raises(ValidationError):
            VaspSettings(**wrong)
    plain, without = VaspSettings(), VaspSettings(use_symmetry=False)
    assert settings_hash(plain, "crystal") != settings_hash(without, "crystal")
    assert settings_hash(plain, "dimer") == settings_hash(without, "dimer")


def test_vdw_kernel_and_checkpoint_are_handed_on(potentials, tmp_path):
    (potentials / "vdw_kernel.bindat").write_bytes(b"kernel")
    before, here = tmp_path / "before", tmp_path / "here"
    before.mkdir()
    here.mkdir()
    engine = engine_of(potentials, xc="optB88-vdW")
    (before / "WAVECAR").write_bytes(b"")
    assert not engine.has_checkpoint(before)
    (before / "WAVECAR").write_bytes(b"waves")
    (before / "CHGCAR").write_bytes(b"density")
    assert engine.has_checkpoint(before)
    engine.write(Atoms("C"), here, {}, checkpoint=before)
    assert (here / "WAVECAR").read_bytes() == b"waves"
    assert (here / "vdw_kernel.bindat").read_bytes() == b"kernel"
    incar = tags((here / "INCAR").read_text())
    assert (incar["ISTART"], incar["ICHARG"]) == ("1", "1")


def test_remedies_never_change_the_energy(potentials):
    engine = engine_of(potentials)
    assert engine.incar(bulk("Si"), {"NELM": 60})["NELM"] == 120
    for remedy in VaspEngine.ladder:
        incar = engine.incar(bulk("Si"), remedy.numerics)
        assert {k: v for k, v in incar.items() if k not in files.NUMERICS} == {
            k: v for k, v in engine.incar(bulk("Si"), {}).items() if k not in files.NUMERICS
        }
    for wrong in ({"ENCUT": 300}, {"SIGMA": 0.2}, {"SYMPREC": 1e-3}):
        with pytest.raises(InputError, match="change VASP's energy"):
            engine.incar(bulk("Si"), wrong)


# ---- outputs --------------------------------------------------------------------------------------------------


def test_endings(tmp_path):
    assert files.ending(RECORDED / "convergence_OUTCAR_n_y") == "converged"
    assert files.ending(RECORDED / "convergence_OUTCAR_y_n") == "unconverged"
    assert files.ending(RECORDED / "OUTCAR_example_1.trimmed") == "converged"
    assert files.ending(tmp_path / "OUTCAR") == ""
    whole = (RECORDED / "OUTCAR_example_1.trimmed").read_text()
    (tmp_path / "OUTCAR").write_text(whole.replace("aborting loop because EDIFF is reached", ""))
    assert files.ending(tmp_path / "OUTCAR") == "unconverged"
    (tmp_path / "OUTCAR").write_text(whole[:9000])
    assert files.ending(tmp_path / "OUTCAR") == ""
    assert files.number_of_bands(RECORDED / "OUTCAR_example_1.trimmed") == 128


def test_recorded_single_point(potentials, tmp_path):
    """Diamond: numbers as the XML file has them; the pressure term of this run is taken off the enthalpy."""
    atoms = ase_read(RECORDED / "vasprun_pstress.xml")
    place(tmp_path, "vasprun_pstress.xml")
    raw = engine_of(potentials).read(atoms, tmp_path)
    xml = (RECORDED / "vasprun_pstress.xml").read_text()
    enthalpy = float(re.findall(r'e_fr_energy">\s*([^<\s]+)', xml)[-1])
    pressure = 1e-22 / 1.60217733e-19
    assert raw.energy == pytest.approx(enthalpy - pressure * atoms.get_volume(), abs=1e-8)
    kilobar = np.array(
        [[float(x) for x in v.split()] for v in re.findall(r"<v>(.*?)</v>", _block(xml, "stress"))]
    )
    # a positive stress of VASP pushes outwards, a positive one of ours pulls; 1 GPa is 10 kB
    np.testing.assert_allclose(raw.stress[:3], -np.diag(kilobar) / 1602.1766, rtol=1e-6)
    assert raw.details["program_version"] == "6.3.0"
    np.testing.assert_allclose(raw.forces, 0, atol=1e-6)


def _block(xml, name):
    return xml[xml.rindex(f'<varray name="{name}"') :].split("</varray>")[0]


def test_two_species_come_back_in_the_order_that_was_sent(potentials, tmp_path):
    recorded = ase_read(RECORDED / "vasprun_dfpt.xml", index=0)
    atoms = recorded[[1, 0]]
    assert atoms.get_chemical_symbols() == ["Cl", "Na"]
    place(tmp_path, "vasprun_dfpt.xml")
    raw = engine_of(potentials).read(atoms, tmp_path)
    assert raw.echo.get_chemical_symbols() == ["Cl", "Na"]
    np.testing.assert_allclose(raw.echo.positions, atoms.positions, atol=1e-8)


def place(directory, xml, outcar="convergence_OUTCAR_n_y"):
    (directory / "vasprun.xml").write_bytes((RECORDED / xml).read_bytes())
    (directory / "OUTCAR").write_bytes((RECORDED / outcar).read_bytes())


def test_incomplete_outputs_are_no_results(potentials, tmp_path):
    engine = engine_of(potentials)
    atoms = ase_read(RECORDED / "vasprun_pstress.xml")
    place(tmp_path, "vasprun_pstress.xml", "convergence_OUTCAR_y_n")
    with pytest.raises(CalculationFailedError, match="not converged") as caught:
        engine.read(atoms, tmp_path)
    assert caught.value.fault is Fault.SCF
    place(tmp_path, "vasprun_pstress.xml")
    whole = (tmp_path / "vasprun.xml").read_text()
    cut = whole.index('<varray name="forces"')
    (tmp_path / "vasprun.xml").write_text(whole[:cut])
    with pytest.raises(CalculationFailedError, match="no energy and forces"):
        engine.read(atoms, tmp_path)
    (tmp_path / "vasprun.xml").write_text(whole.replace(_block(whole, "forces"), "<v> ******* 0 0</v>" * 2))
    with pytest.raises(CalculationFailedError):
        engine.read(atoms, tmp_path)
    (tmp_path / "vasprun.xml").unlink()
    with pytest.raises(CalculationFailedError, match="FileNotFoundError"):
        engine.read(atoms, tmp_path)


OSZICAR = """       N       E                     dE             d eps       ncg     rms          rms(c)
DAV:   1     0.703944930940E+01    0.70394E+01   -0.19464E+03  8192   0.343E+01
RMM:   2    -0.173205760878E+01   -0.33115E+00   -0.72387E-02  8192   0.154E-01    0.128E+00
DAV:   3     NaN                   0.0
   1 F= -.21514673E+01 E0= -.21514673E+01  d E =-.215147E+01  mag=     4.0068
"""


def test_oszicar(tmp_path):
    (tmp_path / "OSZICAR").write_text(OSZICAR)
    assert files.electronic_energies(tmp_path / "OSZICAR") == (7.0394493094, -1.73205760878)
    assert files.magnetic_moment(tmp_path / "OSZICAR") == 4.0068


#: VASP's words, one line each; where only the line is here, it is that of a recorded output
WORDS = [
    ("Error EDDDAV: Call to ZHEGV failed. Returncode =   7 1   8", Fault.DIAGONALISER),
    ("WARNING in EDDRMM: call to ZHEGV failed, returncode =   8  4  1", Fault.DIAGONALISER),
    ("|     ERROR in EDDIAG: call to ZHEEV/ZHEEVX/DSYEV/DSYEVX failed! error  |", Fault.DIAGONALISER),
    (" ERROR in subspace rotation PSSYEVX: not enough eigenvalues found   430", Fault.DIAGONALISER),
    (" LAPACK: Routine ZPOTRF failed!           1           1           1", Fault.DIAGONALISER),
    ("|     scaLAPACK: Routine ZPOTRF ZTRTRI failed! kpoint: 7 spin: 1       |", Fault.DIAGONALISER),
    ("BRMIX: very serious problems", Fault.SCF),
    ("|     VERY BAD NEWS! internal error in subroutinePOSMAP:symmetry     |", Fault.SYMMETRY),
    (" VERY BAD NEWS! internal error in subroutine IBZKPT:", Fault.SYMMETRY),
    ("|     PRICELV: current lattice and primitive lattice are incommensurate |", Fault.SYMMETRY),
    (" Fatal error: unable to match k-point!       0", Fault.GRID),
    ("internal error in GENERATE_KPOINTS_TRANS: number of G-vector changed in star", Fault.GRID),
    ("|     HNFORM: k-point generating vectors and reciprocal lattice are   |", Fault.GRID),
    ("|      unoccupied bands, you have included TOO FEW BANDS!! Please increase |", Fault.UNSOUND),
    ("|     ERROR: while reading plane wave coef. from WAVECAR 13 1 129      |", Fault.CRASH),
    ("|     Error reading item EFERMI from file INCAR.                        |", Fault.INPUT),
    ("DAV:   7            NaN            NaN            NaN  8192   NaN", Fault.NAN),
]


@pytest.mark.parametrize(("words", "fault"), WORDS)
def test_words_of_failures(tmp_path, words, fault):
    (tmp_path / "stdout.txt").write_text(f" running on 1 total cores\n{words}\n")
    found = engine_of().diagnose(tmp_path, 1)
    assert found.fault is fault
    assert found.hopeless == (fault is Fault.INPUT)


def test_warnings_of_a_converged_run_are_no_faults(tmp_path):
    (tmp_path / "OUTCAR").write_bytes((RECORDED / "convergence_OUTCAR_n_y").read_bytes())
    (tmp_path / "stdout.txt").write_text("WARNING: Sub-Space-Matrix is not hermitian in DAV\n")
    assert engine_of().diagnose(tmp_path, 0) is None
    (tmp_path / "stdout.txt").write_text("BRMIX: very serious problems\n")
    assert engine_of().diagnose(tmp_path, 0).fault is Fault.SCF


def test_words_that_nobody_knows_are_quoted(tmp_path):
    (tmp_path / "stdout.txt").write_text(
        " -----------------------\n|  EEEEEEE  RRRRRR  |\n|  E  R  R  R  R  O  ###  |\n|    |\n"
        "|     The moon is in the wrong      |\n|     house.   |\n|    |\n"
        "|       ---->  I REFUSE TO CONTINUE WITH THIS SICK JOB ... BYE!!! <----       |\n ----\n"
    )
    found = engine_of().diagnose(tmp_path, 1)
    assert (found.fault, found.text) == (Fault.CRASH, "The moon is in the wrong house.")


# ---- judging custodian's changes --------------------------------------------------------------------------------

SCF = Diagnosis(Fault.SCF, "not converged")


def test_numerical_changes_become_a_remedy():
    remedy, reason = judge(
        "Handler", SCF, {"ALGO": ("Normal", "All"), "IMIX": (1, None)}, [], energy_changes=False
    )
    assert dict(remedy.numerics) == {"ALGO": "All", "IMIX": None}
    assert not remedy.changes_energy
    assert reason == ""
    assert remedy.name == "custodian's Handler: ALGO Normal -> All, IMIX 1 -> default"


@pytest.mark.parametrize(
    ("changes", "foreign"),
    [
        ({"ISMEAR": (-1, 0), "SIGMA": (0.1, 0.05)}, []),
        ({"ENCUT": (400, 520)}, []),
        ({"PREC": ("Normal", "Accurate")}, []),
        ({"LREAL": (False, "Auto")}, []),
        ({"GGA": ("PS", "PE")}, []),
        ({"KSPACING": (None, 0.2)}, []),
        ({"SYMPREC": (1e-5, 1e-3)}, []),
        ({}, ["KPOINTS"]),
        ({"ALGO": ("Normal", "All")}, ["POSCAR"]),
    ],
)
def test_changes_of_the_energy_are_refused(changes, foreign):
    remedy, reason = judge("Handler", SCF, changes, foreign, energy_changes=False)
    assert remedy is None
    assert reason.startswith("custodian's Handler: ")


def test_allowed_changes_of_the_energy_must_be_factors_on_settings():
    changes = {"SIGMA": (0.1, 0.05), "ALGO": ("Normal", "All")}
    remedy, _ = judge("Handler", SCF, changes, [], energy_changes=True)
    assert dict(remedy.settings) == {"smearing_width_eV": 0.5}
    assert dict(remedy.numerics) == {"ALGO": "All"}
    for changes, foreign in (({"ISMEAR": (-1, 0), "SIGMA": (0.1, 0.05)}, []), ({}, ["KPOINTS"])):
        remedy, reason = judge("Handler", SCF, changes, foreign, energy_changes=True)
        assert remedy is None
        assert "no factor on our settings" in reason


# ---- recorded failures of other projects --------------------------------------------------------------------------

_S, _D, _G = Fault.SYMMETRY, Fault.DIAGONALISER, Fault.GRID


@elsewhere
@pytest.mark.parametrize(
    ("name", "fault"),
    [
        *(("vasp.edddav", _D), ("vasp.edddav2", _D), ("vasp.eddiag", _D), ("vasp.eddrmm", _D)),
        *(("vasp.pssyevx", _D), ("vasp.pdsyevx", _D), ("vasp.ztrtri", _D), ("zpotrf/vasp.out", _D)),
        *(("vasp.gradient_not_orthogonal", _D), ("vasp.subspace", _D), ("vasp.brmix", Fault.SCF)),
        *(("vasp.posmap", _S), ("vasp6.posmap", _S), ("vasp.rhosyg", _S), ("vasp6.rhosyg", _S)),
        *(("vasp.pricelv", _S), ("vasp.point_group", _S), ("vasp6.point_group", _S), ("vasp.sgrcon", _S)),
        *(("vasp6.sgrcon", _S), ("vasp6.inv_rot_mat", _S), ("vasp6.bravais", _S), ("vasp.ibzkpt", _S)),
        *(
            ("vasp.ksymm", _G),
            ("vasp.hnform", _G),
            ("vasp.real_optlay", _G),
            ("std_err.txt.kpoints_trans", _G),
        ),
        *(("vasp6.coef", Fault.CRASH), ("vasp6.coef2", Fault.CRASH), ("vasp.read_error", Fault.INPUT)),
        *(("vasp.set_core_wf", Fault.INPUT), ("vasp.nbands_not_sufficient", Fault.UNSOUND)),
        *(("vasp.too_few_bands_round_error", Fault.UNSOUND), ("vasp.dfpt_ncore", Fault.CRASH)),
    ],
)
def test_recorded_failures(tmp_path, name, fault):
    (tmp_path / "stdout.txt").write_bytes((CUSTODIAN / name).read_bytes())
    assert engine_of().diagnose(tmp_path, 1).fault is fault


@elsewhere
def test_recorded_finished_runs_show_no_fault(tmp_path):
    import gzip

    seen = 0
    for path in sorted(CUSTODIAN.rglob("OUTCAR*")):
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        (tmp_path / "OUTCAR").write_bytes(data)
        if files.ending(tmp_path / "OUTCAR") == "converged":
            seen += 1
            assert engine_of().diagnose(tmp_path, 0) is None, path
    assert seen >= 9
