"""Settings, hashes, k-point grids and label noise: everything that needs no calculation."""

import errno
import hashlib
import json
import sys

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError

from gapfactory.errors import InputError, MissingEngineError
from gapfactory.reference import (
    AseSettings,
    GpawSettings,
    Label,
    check_engine,
    kind_of,
    kpoint_grid,
    kspacing_to_density,
    label_noise,
    make_engine,
    parse_settings,
    settings_hash,
)
from gapfactory.reference.engines._ase_quip import refuse_programs
from gapfactory.reference.engines.ase_calculator import EXTRA_MODULES_VARIABLE
from gapfactory.reference.faults import CalculationFailedError, Fault
from gapfactory.reference.site import ProgramSite


def test_unknown_key_and_engine_are_named():
    with pytest.raises(ValidationError, match="kpoint_densty"):
        GpawSettings(kpoint_densty=3)
    with pytest.raises(ValidationError, match="vaspp"):
        parse_settings({"engine": "vaspp"})


def test_round_trip_through_json():
    for settings in (
        GpawSettings(kpoint_density=3.0),
        AseSettings(calculator="emt", parameters={"asap_cutoff": True}),
    ):
        assert parse_settings(settings.model_dump(mode="json")) == settings


def test_hash_follows_the_numbers_and_nothing_else():
    base = GpawSettings()
    key = settings_hash(base, "crystal")
    for same in ({"time_limit_s": 5.0}, {"max_attempts": 1}, {"vacuum_dimer": 9.0}, {"spin_dimer": "none"}):
        assert settings_hash(base.model_copy(update=same), "crystal") == key, same
    for other in (
        {"kpoint_density": 3.0},
        {"cutoff_eV": 400.0},
        {"smearing_width_eV": 0.05},
        {"closest_approach": 0.3},
    ):
        assert settings_hash(base.model_copy(update=other), "crystal") != key, other
    isolated = settings_hash(base, "isolated")
    assert settings_hash(base.model_copy(update={"kpoint_density": 9.0}), "isolated") == isolated
    assert settings_hash(base.model_copy(update={"vacuum_isolated": 9.0}), "isolated") != isolated
    assert len({settings_hash(base, kind) for kind in ("crystal", "isolated", "dimer")}) == 3
    assert settings_hash(AseSettings(), "crystal") != settings_hash(AseSettings(calculator="emt"), "crystal")


def test_kinds():
    assert kind_of(bulk("Si")) == "crystal"
    assert kind_of(Atoms("Si", cell=[9] * 3)) == "isolated"
    assert kind_of(Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2]])) == "dimer"


def test_grid_of_a_cube_and_of_silicon():
    cube = Atoms("Si", cell=[5.0] * 3, pbc=True)
    # 2 pi / 5 = 1.2566 per Å; times 2.5 is 3.14
    assert kpoint_grid(cube, 2.5) == (4, 4, 4)
    assert kpoint_grid(cube, 4.0) == (6, 6, 6)
    # exactly integer: rounding noise must not add a point
    assert kpoint_grid(cube, 3 * 5.0 / (2 * np.pi)) == (3, 3, 3)
    # primitive diamond: |b| = 2 pi sqrt(3) / a = 2.004, so density 2.5 needs 6
    assert kpoint_grid(bulk("Si", a=5.43), 2.5) == (6, 6, 6)
    assert kpoint_grid(Atoms("Si", cell=[5.0] * 3), 2.5) == (1, 1, 1)
    # reciprocal vectors, not lattice vectors, decide in a skewed cell
    skew = Atoms("Si", cell=[[5, 0, 0], [4.9, 2, 0], [0, 0, 5]], pbc=True)
    lengths = np.linalg.norm(2 * np.pi * np.linalg.inv(skew.cell.array).T, axis=1)
    assert kpoint_grid(skew, 2.5) == tuple(int(np.ceil(2.5 * length)) for length in lengths)


def test_density_agrees_with_gpaws_definition():
    gpaw = pytest.importorskip("ase.calculators.calculator")
    for atoms in (bulk("Si"), bulk("Ti"), Atoms("Si", cell=[3.1, 4.4, 6.7], pbc=True)):
        theirs = gpaw.kptdensity2monkhorstpack(atoms, kptdensity=2.5, even=False)
        assert kpoint_grid(atoms, 2.5) == tuple(theirs)


def test_kspacing():
    # VASP: N = max(1, ceil(|b| / KSPACING)) with 2 pi in b
    atoms = bulk("Si", a=5.43)
    b = 2 * np.pi * np.sqrt(3) / 5.43
    assert kpoint_grid(atoms, kspacing_to_density(0.25)) == (int(np.ceil(b / 0.25)),) * 3
    assert kspacing_to_density(0.25) == pytest.approx(4.0)
    assert kspacing_to_density(0.25 / (2 * np.pi), includes_2pi=False) == pytest.approx(4.0)
    with pytest.raises(InputError, match="not positive"):
        kspacing_to_density(0.0)
    with pytest.raises(InputError, match="not positive"):
        kpoint_grid(atoms, -1.0)
    with pytest.raises(InputError, match="no volume"):
        kpoint_grid(Atoms("Si", cell=[5, 0, 0], pbc=[True, False, False]), 2.0)


@pytest.mark.parametrize(
    "path",
    [
        "os.system",
        "subprocess.Popen",
        "ase.calculators.espresso.Espresso",
        "ase.calculators.lammpslib.LAMMPSlib",
    ],
)
def test_code_that_may_run_commands_is_refused(path):
    with pytest.raises(InputError, match="not allowed"):
        check_engine(AseSettings(calculator=path))


@pytest.mark.parametrize(
    ("arguments", "parameters"),
    [
        (("FilePot command='touch started'",), {"param_str": "<params></params>"}),
        (("{File}Pot command=touch",), {}),
        ((), {"args_str": "IP SW FilePot=T command=touch"}),
        (("SocketPot server_ip=1.2.3.4",), {}),
        (("xml_label=a",), {"param_str": '<Potential label="a" init_args="FilePot command=touch"/>'}),
        (("xml_label=a",), {"param_str": '<Potential label="a" init_args="File&#80;ot command=touch"/>'}),
        (("xml_label=a", None, None, None, "potential.xml"), {}),
        (("xml_label=a",), {"param_filename": "potential.xml"}),
    ],
)
def test_potential_that_starts_programs_is_refused(tmp_path, monkeypatch, arguments, parameters):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "potential.xml").write_text('<Potential label="a" init_args="FilePot command=touch"/>')
    settings = AseSettings(
        calculator="quippy.potential.Potential", arguments=arguments, parameters=parameters
    )
    with pytest.raises(InputError, match=r"can start (a|any) program"):
        check_engine(settings)
    refuse_programs(("IP SW",), {"param_str": "<SW_params/>"})
    refuse_programs((), {"args_str": "xml_label=GAP_2026_1_1_0_0_0_0 label=x", "param_filename": "none.xml"})


def test_operator_may_allow_a_module_and_a_file_may_not(monkeypatch):
    settings = AseSettings(calculator="ase.calculators.test.TestCalculator")
    with pytest.raises(InputError, match=EXTRA_MODULES_VARIABLE):
        check_engine(settings)
    monkeypatch.setenv(EXTRA_MODULES_VARIABLE, "ase.calculators.test")
    with pytest.raises(InputError, match="no class"):
        check_engine(settings.model_copy(update={"calculator": "ase.calculators.test.Nothing"}))


@pytest.mark.parametrize("name", ["stilinger-weber", "os", "a b.c", "", "ase..emt", "x;y.z"])
def test_names_that_are_no_path(name):
    with pytest.raises(ValidationError):
        AseSettings(calculator=name)


def test_named_calculators_exist():
    for name in ("emt", "lj", "morse", "stillinger-weber", "second-moment"):
        assert check_engine(AseSettings(calculator=name)).engine == "ase"


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../../secret.UPF", "set/../../x", ".hidden", "a b", "a\nb", "", "a//b", "a/", "x\0"],
)
def test_no_campaign_names_a_file_outside_the_sites_directory(name):
    for document in (
        {"engine": "espresso", "pseudopotentials": {"Si": name}},
        {"engine": "abinit", "pseudopotentials": {"Si": name}},
        {"engine": "castep", "pseudopotentials": {"Si": name}}
        if name != ""
        else {"engine": "castep", "x": 1},
        {"engine": "cp2k", "basis_files": [name]},
        {"engine": "cp2k", "potential_files": [name]},
        {"engine": "vasp", "pseudopotentials": {"Si": name}},
    ):
        with pytest.raises(ValidationError):
            parse_settings(document)
    for folder in ("..", ".", "../x", ".x"):
        with pytest.raises(ValidationError):
            parse_settings({"engine": "vasp", "potential_set": folder})


def test_plain_names_of_files_are_accepted():
    for name in ("Si.pbe-nl-rrkjus_psl.1.0.0.UPF", "PseudosHGH_pwteter/14si.4.hgh", "gth", "GTH-PBE-q4"):
        assert (
            parse_settings({"engine": "abinit", "pseudopotentials": {"Si": name}}).pseudopotentials["Si"]
            == name
        )
    assert (
        parse_settings({"engine": "vasp", "potential_set": "potpaw_PBE.54"}).potential_set == "potpaw_PBE.54"
    )
    assert parse_settings({"engine": "vasp"}).potential_set == ""


def test_directories_of_the_site_are_absolute(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    site = ProgramSite(scratch="~/scratch", pseudopotentials="sets")
    assert (site.scratch, site.pseudopotentials) == (tmp_path / "scratch", tmp_path / "sets")


def gpaw_like(tmp_path, **known):
    """A stand-in for the interpreter that has GPAW: it tells what `known` says of it."""
    program = tmp_path / "python-with-gpaw"
    program.write_text(f"#!{sys.executable}\nprint({json.dumps(json.dumps(known))})\n")
    program.chmod(0o755)
    return (str(program),)


def test_missing_code_names_the_remedy(tmp_path):
    absent = ProgramSite(command=gpaw_like(tmp_path, missing="No module named 'gpaw'"))
    with pytest.raises(MissingEngineError, match="pip install"):
        make_engine(GpawSettings(), absent).info()
    nowhere = ProgramSite(command=("/nowhere/bin/python",))
    with pytest.raises(MissingEngineError, match="/nowhere/bin/python"):
        make_engine(GpawSettings(), nowhere).info()


def test_gpaw_that_cannot_do_what_is_asked_is_refused(tmp_path):
    known = {"version": "26.7.0", "mpi": False, "setup_name": "PBE", "setup_paths": [str(tmp_path)]}
    site = ProgramSite(command=gpaw_like(tmp_path, **known))
    assert make_engine(GpawSettings(), site).version() == "26.7.0"
    several = site.model_copy(update={"launcher": ("mpirun", "-n", "{processes}"), "processes": 2})
    with pytest.raises(MissingEngineError, match=r"without MPI.*processes = 1"):
        make_engine(GpawSettings(), several).info()
    (tmp_path / "Si.PBE.gz").write_bytes(b"data set")
    assert make_engine(GpawSettings(), site).data_hashes(["Si"]) == {
        "Si": hashlib.sha256(b"data set").hexdigest()
    }
    with pytest.raises(MissingEngineError, match="no PAW data set for C with PBE"):
        make_engine(GpawSettings(), site).require(["C"])
    site = ProgramSite(command=gpaw_like(tmp_path, **known, functional="libxc is not there"))
    with pytest.raises(MissingEngineError, match=r"'SCAN'.*libxc"):
        make_engine(GpawSettings(xc="SCAN"), site).info()


def test_keys_of_stored_labels_are_what_they_were():
    # labels of 2026 are stored under these
    other = GpawSettings(
        cutoff_eV=250.0,
        kpoint_grid=(2, 3, 4),
        smearing_width_eV=0.05,
        use_symmetry=False,
        vacuum_isolated=5.0,
        vacuum_dimer=5.0,
    )
    for settings, kind, key in (
        (GpawSettings(), "crystal", "e4abc48328a57028767481ffece014f54f75380c17bc789b666cece7a2677573"),
        (GpawSettings(), "isolated", "985e4993e8d35891e3fc502cdf78025ce635ac587dd69c42968657d0672234a7"),
        (GpawSettings(), "dimer", "81cd581db57257d5fd23339a0610e4660668c00b54bce736610f1e5eba366243"),
        (other, "crystal", "eb96084037fe799525adef2f929332b6ee61201d56798be5088936374fa0e817"),
        (other, "isolated", "f35e6af5144b34d92730bb534640d5d746e88767f74e1910192867e78cb2c63c"),
        (other, "dimer", "ae14f985198258d43b09c653903dd008b9bb1e290d2b1d1e89ad79848385f570"),
    ):
        assert settings_hash(settings, kind) == key, kind


def gpaw_engine(**settings):
    return make_engine(GpawSettings(**settings), ProgramSite())


def test_recovery_steps_change_numerics_only():
    engine = gpaw_engine()
    allowed = {"mixer", "eigensolver", "nbands", "random", "symmetry", "maxiter"}
    _, plain = engine.parameters(bulk("Si"), {})
    numerics = {}
    for remedy in engine.ladder:
        assert bool(remedy.numerics) != remedy.changes_energy, remedy.name
        numerics |= dict(remedy.numerics)
        _, changed = engine.parameters(bulk("Si"), numerics)
        for key in set(plain) | set(changed):
            assert key in allowed or plain.get(key) == changed.get(key), (remedy.name, key)
        _, spin = engine.parameters(Atoms("Si"), numerics)
        assert spin["hund"] is True
        assert spin["mixer"]["method"] == "difference"
    assert [r.name for r in engine.ladder if r.changes_energy] == ["smearing twice as wide"]
    # a start from random wave functions suits Davidson's method only
    assert "random" not in engine.parameters(bulk("Si"), engine.ladder[2].numerics)[1]


def test_isolated_structures_get_our_box_gamma_and_spin():
    engine = gpaw_engine(vacuum_isolated=5.0, vacuum_dimer=4.0)
    prepared, parameters = engine.parameters(Atoms("C", cell=[30.0] * 3), {})
    assert prepared.cell.lengths().tolist() == [10.0] * 3
    assert parameters["kpts"]["size"] == [1, 1, 1]
    assert parameters["hund"] is True
    assert parameters["occupations"]["fixmagmom"] is True
    dimer = Atoms("C2", positions=[[0, 0, 0], [0, 0, 1.3]], cell=[30.0] * 3)
    prepared, parameters = engine.parameters(dimer, {})
    assert prepared.cell.lengths().tolist() == pytest.approx([8.0, 8.0, 9.3])
    assert parameters["spinpol"] is True
    assert prepared.get_initial_magnetic_moments().tolist() == [2.0, 2.0]
    assert prepared.get_distance(0, 1) == pytest.approx(1.3)


@pytest.mark.parametrize(
    ("failed", "fault", "hopeless"),
    [
        ({"type": "KohnShamConvergenceError", "text": ""}, Fault.SCF, False),
        ({"type": "ValueError", "text": "Some energy terms are NaN!"}, Fault.NAN, False),
        ({"type": "LinAlgError", "text": "Eigenvalues did not converge"}, Fault.DIAGONALISER, False),
        ({"type": "SymmetryBrokenError", "text": ""}, Fault.SYMMETRY, False),
        ({"type": "KPointError", "text": "bad"}, Fault.GRID, False),
        ({"type": "_ArrayMemoryError", "text": "Unable to allocate 3 GiB"}, Fault.MEMORY, False),
        ({"type": "OSError", "text": "...", "errno": errno.ENOSPC}, Fault.DISK, False),
        ({"type": "FileNotFoundError", "text": "Could not find required PAW dataset"}, Fault.INPUT, True),
        ({"type": "AtomsTooClose", "text": "Atoms are too close, e.g. 0.001 Å"}, Fault.OVERLAP, True),
        ({"type": "AssertionError", "text": ""}, Fault.UNKNOWN, False),
    ],
)
def test_exceptions_of_gpaw_are_told_apart(tmp_path, failed, fault, hopeless):
    (tmp_path / "result.json").write_text(json.dumps({"failed": {"errno": None, **failed}, "complete": True}))
    diagnosis = gpaw_engine().diagnose(tmp_path, 1)
    assert (diagnosis.fault, diagnosis.hopeless) == (fault, hopeless)
    assert failed["type"] in diagnosis.text


def test_result_that_is_incomplete_is_none(tmp_path):
    engine = gpaw_engine()
    for text in ("", "{", json.dumps({"free_energy": 1.0, "forces": []})):
        (tmp_path / "result.json").write_text(text)
        with pytest.raises(CalculationFailedError, match="result"):
            engine.read(bulk("Si"), tmp_path)
    # not even the reason could be written
    assert engine.diagnose(tmp_path, 74).fault is Fault.DISK


def test_checkpoint_of_other_settings_is_not_continued(tmp_path):
    engine = gpaw_engine()
    before, now = tmp_path / "before", tmp_path / "now"
    before.mkdir()
    now.mkdir()
    engine.write(bulk("Si"), before, engine.ladder[0].numerics, checkpoint=None)
    assert not engine.has_checkpoint(before)
    (before / "checkpoint.gpw").write_bytes(b"")
    assert engine.has_checkpoint(before)

    def continued(engine, atoms):
        engine.write(atoms, now, {}, checkpoint=before)
        return json.loads((now / "calculation.json").read_text())["checkpoint"]

    assert continued(engine, bulk("Si")) == str(before / "checkpoint.gpw")
    assert continued(engine, bulk("Si", a=5.5)) is None
    assert continued(gpaw_engine(smearing_width_eV=0.2), bulk("Si")) is None
    assert continued(gpaw_engine(max_iterations=50), bulk("Si")) is not None


def label(energy, n=2, force=0.0):
    return Label(energy, np.full((n, 3), force), np.zeros(6), 1.0, "ase", "x", {})


def test_noise_by_hand():
    working = {"a": label(-10.0), "b": label(-20.0, n=4, force=0.1), "only": label(0.0)}
    higher = {"a": label(-10.004), "b": label(-19.992, n=4), "other": label(0.0)}
    noise = label_noise(working, higher)
    # per atom: +2 meV and -2 meV
    assert noise.n_structures == 2
    assert noise.energy_rms_meV == pytest.approx(2.0)
    assert noise.energy_max_meV == pytest.approx(2.0)
    assert noise.energy_shift_meV == pytest.approx(0.0, abs=1e-9)
    assert noise.force_rms == pytest.approx(np.sqrt(12 * 0.01 / 18))
    with pytest.raises(InputError, match="both levels"):
        label_noise(working, {"z": label(0.0)})
    with pytest.raises(InputError, match="same structure"):
        label_noise({"a": label(0.0)}, {"a": label(0.0, n=3)})


def test_higher_density_is_denser_and_otherwise_equal():
    settings = GpawSettings(kpoint_density=2.5)
    higher = settings.with_higher_density()
    assert higher.kpoint_density == pytest.approx(4.0)
    assert higher.model_copy(update={"kpoint_density": 2.5}) == settings
    assert settings_hash(higher, "crystal") != settings_hash(settings, "crystal")


def test_higher_density_scales_a_fixed_grid():
    settings = GpawSettings(kpoint_grid=(1, 4, 5))
    higher = settings.with_higher_density()
    assert higher.kpoint_grid == (2, 7, 8)
    assert higher.kpoint_density == settings.kpoint_density
    assert settings_hash(higher, "crystal") != settings_hash(settings, "crystal")
