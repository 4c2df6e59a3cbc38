"""Real fits with gap_fit: physics against independent oracles, and every guard around program and files."""

from __future__ import annotations

import copy
import os
import pickle  # noqa: TID251 - to prove that it is refused
import shutil
import stat
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.emt import EMT

from gapfactory.elements import species
from gapfactory.errors import FitError, PotentialError
from gapfactory.potentials.gap import (
    GapFit,
    GapSettings,
    LabelledStructure,
    SigmaSettings,
    check,
    fit_gap,
    load_potential,
    program,
    validate_potential,
    write_manifest,
)
from gapfactory.potentials.gap.quip_calculator import QuipCalculator
from gapfactory.potentials.gap.settings import (
    DeltaSettings,
    ProgramSettings,
    SoapSettings,
    ThreeBodySettings,
    TwoBodySettings,
)

pytestmark = pytest.mark.gap

SI = species("Si", radius=1.11, bonding="covalent")
SW = """<SW_params n_types="1"><per_type_data type="1" atomic_num="14" />
<per_pair_data atnum_i="14" atnum_j="14" AA="7.049556277" BB="0.6022245584" p="4" q="0" a="1.80" sigma="2.0951"
 eps="2.1675" /><per_triplet_data atnum_c="14" atnum_j="14" atnum_k="14" lambda="21.0" gamma="1.20" eps="2.1675" />
</SW_params>"""
SMALL = GapSettings(
    backend="gap_fit",
    two_body=TwoBodySettings(cutoff_covalent_in_r=5.0),
    three_body=ThreeBodySettings(n_sparse=40),
    soap=SoapSettings(n_sparse=60, n_max=5, l_max=4),
)
ONLY_2B = GapSettings(
    backend="gap_fit",
    two_body=TwoBodySettings(cutoff_covalent_in_r=5.0),
    three_body=ThreeBodySettings(enabled=False),
    soap=SoapSettings(enabled=False),
)


def seed(index: int) -> np.random.Generator:
    return np.random.default_rng([7, index])


@cache
def silicon(n: int = 24, start: int = 0) -> tuple[LabelledStructure, ...]:
    from quippy.potential import Potential

    reference = Potential("IP SW", param_str=SW)
    rng = np.random.default_rng(start)
    data = [LabelledStructure("isolated", Atoms("Si"), -1.5, None, None, "isolated")]
    for k, d in enumerate(np.linspace(1.8, 3.5, 5)):
        atoms = Atoms("Si2", positions=[[0, 0, 0], [0, 0, d]], cell=[30] * 3)
        atoms.calc = reference
        energy, forces = atoms.get_potential_energy() - 3.0, atoms.get_forces()
        data.append(LabelledStructure(f"dimer-{k}", atoms.copy(), energy, forces, None, "dimer"))
    for k in range(n):
        atoms = bulk("Si", cubic=k % 3 == 0)
        strain = np.eye(3) * rng.uniform(0.9, 1.2) ** (1 / 3) + 0.03 * rng.normal(size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += 0.08 * rng.normal(size=atoms.positions.shape)
        atoms.calc = reference
        energy = atoms.get_potential_energy() - 1.5 * len(atoms)
        data.append(
            LabelledStructure(f"cell-{k:03d}", atoms.copy(), energy, atoms.get_forces(), atoms.get_stress())
        )
    return tuple(data)


def fit(data: Any, workdir: Path, settings: GapSettings = SMALL, **changes: Any) -> GapFit:
    arguments = {"species": [SI], "settings": settings, "seed": seed, "workdir": workdir} | changes
    return fit_gap(list(data), **arguments)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> GapFit:
    return fit(silicon(), tmp_path_factory.mktemp("fit"))


@pytest.fixture(scope="module")
def pairs_only(tmp_path_factory: pytest.TempPathFactory) -> GapFit:
    return fit(silicon(), tmp_path_factory.mktemp("pairs"), ONLY_2B)


def crystals(found: GapFit) -> list[LabelledStructure]:
    return [item for item in silicon() if item.kind == "crystal"]


# ---------------------------------------------------------------------------------------------- physics


def test_the_potential_is_good_on_cells_it_never_saw(fitted: GapFit) -> None:
    calculator = load_potential(fitted.directory)
    unseen = [item for item in silicon(12, start=99) if item.kind == "crystal"]
    errors, sizes = [], []
    for item in unseen:
        energy = calculator.get_potential_energy(item.atoms.copy())
        errors.append((energy - item.energy) / len(item.atoms))
        sizes.append(item.energy / len(item.atoms))
    rmse = np.sqrt(np.mean(np.square(errors)))
    assert rmse < 0.012
    assert rmse < 0.1 * np.std(sizes)


def test_staged_errors_fall_and_set_the_scales(fitted: GapFit) -> None:
    names = [stage.name for stage in fitted.stages]
    assert names == ["2b", "2b+3b", "2b+3b+soap"]
    errors = [stage.errors.energy_rmse for stage in fitted.stages]
    assert errors[0] > errors[1] > 0
    assert errors[2] < errors[1] * 1.05
    energies = np.array([item.energy + 1.5 * len(item.atoms) for item in crystals(fitted)])
    sizes = np.array([len(item.atoms) for item in crystals(fitted)])
    mean = np.mean(energies / sizes)
    assert fitted.deltas["2b"] == pytest.approx(np.sqrt(np.mean((energies - mean * sizes) ** 2)))
    assert list(fitted.deltas) == ["2b", "3b", "soap"]
    assert fitted.deltas["2b"] > fitted.deltas["3b"] > fitted.deltas["soap"]


def test_reported_errors_are_the_calculators(fitted: GapFit) -> None:
    calculator = load_potential(fitted.directory)
    energy, force, virial = [], [], []
    for item in crystals(fitted):
        atoms = item.atoms.copy()
        atoms.calc = calculator
        energy.append((atoms.get_potential_energy() - item.energy) / len(atoms))
        force.append(np.ravel(atoms.get_forces() - item.forces))
        virial.append((atoms.get_stress() - item.stress) * atoms.get_volume() / len(atoms))
        assert fitted.residuals[item.id][0] == pytest.approx(energy[-1], abs=1e-9)
        assert fitted.residuals[item.id][1] == pytest.approx(np.sqrt(np.mean(force[-1] ** 2)), abs=1e-9)
    report = fitted.train_errors
    assert report.n_structures == 24
    assert report.energy_rmse == pytest.approx(np.sqrt(np.mean(np.square(energy))), abs=1e-9)
    assert report.force_mae == pytest.approx(np.mean(np.abs(np.concatenate(force))), abs=1e-9)
    assert report.virial_rmse == pytest.approx(np.sqrt(np.mean(np.concatenate(virial) ** 2)), abs=1e-9)


def test_forces_and_stress_are_derivatives_of_the_energy(fitted: GapFit) -> None:
    atoms = silicon(1, start=5)[-1].atoms.copy()
    atoms.calc = load_potential(fitted.directory)
    forces, stress = atoms.get_forces(), atoms.get_stress(voigt=False)
    h = 1e-4
    for i, axis in ((0, 0), (1, 2), (len(atoms) - 1, 1)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[i, axis] += sign * h
            energies.append(atoms.calc.get_potential_energy(moved))
        assert forces[i, axis] == pytest.approx(-(energies[0] - energies[1]) / (2 * h), abs=2e-5)
    for a, b in ((0, 0), (1, 2), (0, 2)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * h / 2
            strain[b, a] += sign * h / 2
            moved = atoms.copy()
            moved.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(atoms.calc.get_potential_energy(moved))
        expected = (energies[0] - energies[1]) / (2 * h) / atoms.get_volume()
        assert stress[a, b] == pytest.approx(expected, abs=2e-6)


def test_free_atom_dimer_and_local_energies(fitted: GapFit) -> None:
    calculator = load_potential(fitted.directory)
    assert calculator.get_potential_energy(Atoms("Si")) == pytest.approx(-1.5, abs=5e-3)
    dimer = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.4]])
    dimer.calc = calculator
    assert dimer.get_forces().shape == (2, 3)
    with pytest.raises(PropertyNotImplementedError):
        dimer.get_stress()
    atoms = crystals(fitted)[0].atoms.copy()
    atoms.calc = calculator
    assert atoms.get_potential_energies().sum() == pytest.approx(atoms.get_potential_energy(), abs=1e-8)


def test_slab_sees_no_images_across_its_vacuum(fitted: GapFit) -> None:
    calculator = load_potential(fitted.directory)
    slab = bulk("Si", cubic=True)
    slab.rattle(0.05, seed=2)
    slab.pbc = (True, True, False)
    energy, forces = calculator.get_potential_energy(slab), calculator.get_forces(slab)
    periodic = slab.copy()
    periodic.cell[2, 2] += 20.0
    periodic.pbc = True
    assert calculator.get_potential_energy(periodic) == pytest.approx(energy, abs=1e-8)
    assert np.allclose(calculator.get_forces(periodic), forces, atol=1e-8)
    flat = slab.copy()
    flat.cell[2] = 0.0
    assert calculator.get_potential_energy(flat) == pytest.approx(energy, abs=1e-8)
    tilted = slab.copy()
    tilted.cell[2] = [3.0, 1.0, 2.0]
    assert calculator.get_potential_energy(tilted) == pytest.approx(energy, abs=1e-8)


def test_two_species_against_emt(tmp_path: Path) -> None:
    """Cu-Au with one two-body term per pair, one three-body term per triple and one SOAP per centre."""
    rng = np.random.default_rng(1)
    data = []
    free = {}
    for symbol in ("Cu", "Au"):
        atoms = Atoms(symbol, calculator=EMT())
        free[symbol] = atoms.get_potential_energy()
        data.append(LabelledStructure(f"free-{symbol}", atoms.copy(), free[symbol], None, None, "isolated"))
    for k in range(36):
        atoms = bulk("Cu", a=3.9, cubic=True)
        atoms.symbols[: k % 5] = "Au"
        strain = np.eye(3) * rng.uniform(0.85, 1.2) ** (1 / 3) + 0.03 * rng.normal(size=(3, 3))
        atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
        atoms.calc = EMT()
        energy = atoms.get_potential_energy()
        data.append(
            LabelledStructure(f"cell-{k:02d}", atoms.copy(), energy, atoms.get_forces(), atoms.get_stress())
        )
    settings = GapSettings(
        two_body=TwoBodySettings(cutoff_metallic_in_r=4.0),
        three_body=ThreeBodySettings(n_sparse=15),
        soap=SoapSettings(n_sparse=40, n_max=4, l_max=3, cutoff_metallic_in_r=3.5),
    )
    train, unseen = data[:32], data[32:]
    both = [species("Cu"), species("Au")]
    found = fit(train, tmp_path, settings, species=both)
    assert [len(stage.n_sparse) for stage in found.stages] == [3, 9, 11]
    assert found.e0 == pytest.approx(free)
    calculator = load_potential(found.directory)
    assert [stage.errors.energy_rmse for stage in found.stages][-1] < 0.02
    for item in unseen:
        energy = calculator.get_potential_energy(item.atoms.copy())
        assert abs(energy - item.energy) / len(item.atoms) < 0.1
    atoms = unseen[0].atoms.copy()
    atoms.calc = calculator
    h = 1e-4
    moved = [atoms.copy() for _ in range(2)]
    moved[0].positions[1, 0] += h
    moved[1].positions[1, 0] -= h
    slope = (calculator.get_potential_energy(moved[0]) - calculator.get_potential_energy(moved[1])) / (2 * h)
    assert calculator.get_forces(atoms)[1, 0] == pytest.approx(-slope, abs=1e-5)
    # a species that is nowhere together with itself is skipped, and said so
    lonely = [item for item in train if item.atoms.symbols.formula.count().get("Au", 0) == 0]
    lonely.append(train[1])
    off = {"soap": SoapSettings(enabled=False), "delta": DeltaSettings(fixed=(1.0, 0.3))}
    settings = settings.model_copy(update=off)
    only = fit(lonely, tmp_path, settings, species=both)
    assert "2b-Cu-Au" in only.skipped
    assert "3b-Cu-Au-Au" in only.skipped


# ---------------------------------------------------------------------------------------------- determinism


def test_order_of_the_data_changes_nothing(fitted: GapFit, tmp_path: Path) -> None:
    shuffled = list(silicon())
    np.random.default_rng(3).shuffle(shuffled)  # type: ignore[arg-type]
    again = fit(shuffled, tmp_path)
    assert again.sha256 == fitted.sha256
    assert again.digest == fitted.digest
    assert again.energies == fitted.energies
    assert again.directory != fitted.directory


def test_labels_matter_to_the_digest(pairs_only: GapFit, tmp_path: Path) -> None:
    data = list(silicon())
    last = data[-1]
    data[-1] = LabelledStructure(last.id, last.atoms, last.energy + 0.01, last.forces, last.stress)
    assert fit(data, tmp_path, ONLY_2B).digest != pairs_only.digest


# ---------------------------------------------------------------------------------------------- counts and runs


def test_targets_are_counted(fitted: GapFit) -> None:
    atoms = sum(len(item.atoms) for item in silicon() if item.kind != "isolated")
    assert dict(fitted.targets) == {"energies": 30, "forces": 3 * atoms, "virials": 6 * 24}


@pytest.mark.parametrize("lost", ["ref_virial", "ref_forces", "ref_energy", "virial_sigma", "energy_sigma"])
def test_quantities_that_vanish_are_noticed(
    lost: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Notes 0.3: the program carries on with fewer targets and ends with status 0."""
    write = program.write_training_file

    def lose(path: Path, *arguments: Any) -> None:
        write(path, *arguments)
        path.write_text(path.read_text().replace(lost, f"lost_{lost}"))

    monkeypatch.setattr(program, "write_training_file", lose)
    with pytest.raises(FitError, match=r"where \d+ were written|stopped early|sparse points|free Si"):
        fit(silicon(), tmp_path, ONLY_2B)


def test_nested_virials_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes 0.3, as ASE writes a (3, 3) array: the reason for our own writer and for the count."""
    write = program.write_training_file

    def nest(path: Path, *arguments: Any) -> None:
        write(path, *arguments)
        lines = path.read_text().splitlines()
        for k, line in enumerate(lines):
            if 'ref_virial="' in line:
                head, tail = line.split('ref_virial="')
                values, tail = tail.split('"', 1)
                rows = np.array(values.split(), dtype=float).reshape(3, 3).tolist()
                lines[k] = f'{head}ref_virial="_JSON {rows}"{tail}'
        path.write_text("\n".join(lines) + "\n")

    monkeypatch.setattr(program, "write_training_file", nest)
    with pytest.raises(FitError, match=r"found 0 virials .* where 144 were written|stopped early"):
        fit(silicon(), tmp_path, ONLY_2B)


def test_a_stale_frame_index_cannot_be_met(pairs_only: GapFit) -> None:
    """Notes 0.10: QUIP trusts an old .idx file; so no directory is ever used twice."""
    workdir = pairs_only.directory.parent.parent
    smaller = fit(silicon(6), workdir, ONLY_2B)
    assert smaller.directory.parent != pairs_only.directory.parent
    assert smaller.targets["energies"] == 12
    assert pairs_only.targets["energies"] == 30
    stage = pairs_only.directory.parent / "2b"
    assert (stage / "train.xyz.idx").exists()
    with pytest.raises(FitError, match="exists already"):
        program.run_program(stage, silicon(), {}, [], [], [], ONLY_2B, {})


def _script(path: Path, text: str) -> GapSettings:
    path.write_text(f"#!{sys.executable}\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return ONLY_2B.model_copy(update={"program": ProgramSettings(executable=str(path), timeout_s=1.5)})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not say how many energies"),
        ("print('garbage ' * 9)\nraise SystemExit(3)", r"exit status 3.*\n?.*garbage"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "exit status -9"),
    ],
)
def test_the_exit_status_is_not_believed(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(FitError, match=message):
        fit(silicon(), tmp_path, _script(tmp_path / "fake", text))


def test_a_complete_log_without_a_potential_is_refused(tmp_path: Path) -> None:
    real = program.find_program(ProgramSettings())
    text = f"import subprocess, os\nsubprocess.run([{str(real)!r}, 'config_file=gap_fit.config'])\nos.remove('gap.xml')"
    settings = _script(tmp_path / "fake", text)
    settings = settings.model_copy(
        update={"program": settings.program.model_copy(update={"timeout_s": 60.0})}
    )
    with pytest.raises(FitError, match=r"left no gap\.xml"):
        fit(silicon(6), tmp_path, settings)
    cut = "import glob\nf = glob.glob('gap.xml.sparse*')[0]\nt = open(f).read()\nopen(f, 'w').write(t[:-40])"
    (tmp_path / "fake").write_text((tmp_path / "fake").read_text().replace("os.remove('gap.xml')", cut))
    with pytest.raises(FitError, match="checksum"):
        fit(silicon(6), tmp_path, settings)


def test_a_fit_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    marker = tmp_path / "child"
    text = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"open({str(marker)!r}, 'w').write(str(p.pid))\ntime.sleep(60)"
    )
    begin = time.monotonic()
    with pytest.raises(FitError, match=r"longer than 1\.5 s"):
        fit(silicon(), tmp_path, _script(tmp_path / "fake", text))
    assert time.monotonic() - begin < 20
    pid = int(marker.read_text())
    for _ in range(100):
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        pytest.fail("the child of the stopped program still runs")


def test_a_missing_program_says_how_to_get_it(tmp_path: Path) -> None:
    settings = ONLY_2B.model_copy(update={"program": ProgramSettings(executable="no_such_gap_fit")})
    with pytest.raises(FitError, match=r"install gapfactory\[quip\]"):
        fit(silicon(), tmp_path, settings)


def test_too_large_a_fit_is_refused_before_it_starts(tmp_path: Path) -> None:
    settings = SMALL.model_copy(update={"program": ProgramSettings(memory_limit_gb=1e-3)})
    with pytest.raises(FitError, match="memory_limit_gb"):
        fit(silicon(), tmp_path, settings)
    assert not list(tmp_path.glob("fit-*"))


def test_the_memory_estimate_is_near_the_programs_own(fitted: GapFit) -> None:
    log = (fitted.directory.parent / "2b+3b+soap" / "gap_fit.log").read_text()
    counted = [int(line.split()[-1]) for line in log.splitlines() if "Number of partial derivatives" in line]
    from gapfactory.potentials.gap import estimate_memory

    atoms = sum(len(item.atoms) for item in crystals(fitted))
    volume = sum(item.atoms.get_volume() for item in crystals(fitted)) / atoms
    estimate = estimate_memory(
        n_structures=24, atoms_per_structure=atoms / 24, volume_per_atom=volume, species=[SI], settings=SMALL
    )
    two, three, soap = (
        ours / theirs for ours, theirs in zip(estimate.n_cross.values(), counted, strict=True)
    )
    assert two == pytest.approx(1.0, abs=0.15)
    assert soap == pytest.approx(1.0, abs=0.25)
    assert 1.0 < three < 3.0  # diamond is more open than a uniform density


def test_nothing_far_above_the_hull_remains_when_asked(pairs_only: GapFit, tmp_path: Path) -> None:
    limit = float(np.median([s.above_hull for k, s in pairs_only.sigmas.items() if k.startswith("cell")]))
    settings = ONLY_2B.model_copy(update={"sigma": SigmaSettings(discard_above=limit)})
    cut = fit(silicon(), tmp_path, settings)
    assert 8 <= len(cut.discarded) <= 12
    left = [item for item in silicon() if item.id not in cut.discarded]
    assert cut.targets["virials"] == 6 * sum(item.kind == "crystal" for item in left)
    assert set(cut.residuals) == {item.id for item in left}


def test_fixed_scales_need_one_fit(tmp_path: Path) -> None:
    threads = ProgramSettings(openmp_threads=2)
    settings = SMALL.model_copy(update={"delta": DeltaSettings(fixed=(1.0, 0.3, 0.2)), "program": threads})
    said: list[str] = []
    found = fit(silicon(6), tmp_path, settings, progress=said.append)
    assert any("serial build" in line for line in said) == (found.versions["openmp"] == "no")
    assert [stage.name for stage in found.stages] == ["2b+3b+soap"]
    assert dict(found.deltas) == {"2b": 1.0, "3b": 0.3, "soap": 0.2}


# ---------------------------------------------------------------------------------------------- stored potentials


@pytest.fixture
def copied(fitted: GapFit, tmp_path: Path) -> Path:
    return Path(shutil.copytree(fitted.directory, tmp_path / "copy"))


def test_validation_passes_and_knows_another_potential(fitted: GapFit, copied: Path) -> None:
    item = crystals(fitted)[0]
    validate_potential(copied, [(item.atoms, fitted.energies[item.id])])
    with pytest.raises(PotentialError, match="not the potential"):
        validate_potential(copied, [(item.atoms, fitted.energies[item.id] + 1e-3)])
    with pytest.raises(PotentialError, match="at least one"):
        validate_potential(copied, [])


def test_truncated_xml_never_reaches_quip(fitted: GapFit, copied: Path) -> None:
    """Notes 0.4: QUIP would end this very process with status 0."""
    xml = copied / "gap.xml"
    xml.write_bytes(xml.read_bytes()[:-200])
    with pytest.raises(PotentialError, match="altered"):
        load_potential(copied)
    with pytest.raises(PotentialError, match="altered"):
        validate_potential(copied, [(crystals(fitted)[0].atoms, 0.0)])
    with pytest.raises(PotentialError, match="truncated or malformed"):
        write_manifest(copied)
    # even when the manifest has been made to agree
    import hashlib
    import json

    manifest = json.loads((copied / "manifest.json").read_text())
    manifest["files"]["gap.xml"] = hashlib.sha256(xml.read_bytes()).hexdigest()
    (copied / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(PotentialError, match="truncated or malformed"):
        load_potential(copied)


def test_quip_really_ends_the_process_with_status_zero(copied: Path) -> None:
    """The fact behind the guard: if this fails, QUIP has improved and the guard may be relaxed."""
    xml = copied / "gap.xml"
    xml.write_bytes(xml.read_bytes()[:-200])
    code = (
        f"from quippy.potential import Potential\nPotential('', param_filename={str(xml)!r})\nprint('alive')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "alive" not in done.stdout


def test_a_process_that_ends_without_its_token_is_a_failure(
    fitted: GapFit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = crystals(fitted)[0]
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\necho 'Bye-Bye!'\nexit 0\n")
    silent.chmod(0o755)
    monkeypatch.setattr(check.sys, "executable", str(silent))
    with pytest.raises(PotentialError, match=r"ended early \(exit status 0\)(.|\n)*Bye-Bye"):
        validate_potential(fitted.directory, [(item.atoms, fitted.energies[item.id])], engine="quippy")
    silent.write_text("#!/bin/sh\nsleep 60\n")
    with pytest.raises(PotentialError, match="longer than"):
        check.evaluate_apart(fitted.directory, [item.atoms], timeout_s=0.3)


def test_missing_sparse_points_are_noticed(copied: Path) -> None:
    next(copied.glob("gap.xml.sparseX*")).unlink()
    with pytest.raises(PotentialError, match="missing"):
        load_potential(copied)


def test_calculators_of_quip_refuse_to_be_pickled_or_copied(fitted: GapFit) -> None:
    """Notes 0.5: the copy would carry only a Fortran handle and crash elsewhere."""
    calculator = QuipCalculator(fitted.directory)
    atoms = crystals(fitted)[0].atoms.copy()
    atoms.calc = calculator
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(PotentialError, match="QuipCalculator"):
            pickle.dumps(calculator, protocol)
    for thing in (calculator, atoms):
        with pytest.raises(PotentialError, match="QuipCalculator"):
            copy.deepcopy(thing)
    with pytest.raises(PotentialError, match="QuipCalculator"):
        copy.copy(calculator)
    assert atoms.copy().calc is None


def test_a_calculator_survives_pickle_and_copies(fitted: GapFit) -> None:
    calculator = load_potential(fitted.directory)
    atoms = crystals(fitted)[0].atoms.copy()
    expected = calculator.get_forces(atoms)
    moved = atoms.copy()
    moved.rattle(0.1, seed=1)
    for other in (pickle.loads(pickle.dumps(calculator)), copy.deepcopy(calculator), copy.copy(calculator)):  # noqa: S301
        assert other.digest == calculator.digest
        assert not np.array_equal(other.get_forces(moved), expected)
        assert np.array_equal(calculator.get_forces(atoms), expected)
        assert np.array_equal(other.get_forces(atoms), expected)


def test_energies_of_a_calculator_do_not_depend_on_its_history(fitted: GapFit) -> None:
    """Neighbour lists are kept between geometries: other positions, another cell, other atoms."""
    used, structures = load_potential(fitted.directory), [item.atoms for item in crystals(fitted)[:4]]
    for atoms in [*structures, *structures[::-1]]:
        for step in range(3):
            moved = atoms.copy()
            moved.rattle(0.1 * step, seed=step)
            moved.set_cell(moved.cell * (1 + 0.02 * step), scale_atoms=True)
            fresh = load_potential(fitted.directory)
            assert used.get_potential_energy(moved) == fresh.get_potential_energy(moved)
            assert np.array_equal(used.get_stress(moved), fresh.get_stress(moved))


def test_an_energy_far_from_the_free_atoms_is_an_error(fitted: GapFit) -> None:
    calculator = load_potential(fitted.directory)
    calculator.limit = 0.1
    with pytest.raises(PotentialError, match=r"beyond 0\.1"):
        calculator.get_potential_energy(crystals(fitted)[0].atoms)


def test_one_fortran_call_per_geometry(fitted: GapFit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Notes 0.7: energy, then forces, then stress must not evaluate twice."""
    calculator = QuipCalculator(fitted.directory)
    inner = calculator._potential._quip_potential
    calls = []
    original = inner.calc

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(options)
        return original(*arguments, **options)

    monkeypatch.setattr(inner, "calc", counted)
    atoms = crystals(fitted)[0].atoms.copy()
    atoms.calc = calculator
    for _ in range(2):
        atoms.get_potential_energy()
        atoms.get_forces()
        atoms.get_stress()
        atoms.get_potential_energies()
    assert len(calls) == 1
    atoms.rattle(0.01, seed=3)
    atoms.get_stress()
    atoms.get_potential_energy()
    assert len(calls) == 2


def test_results_that_are_no_results_are_errors(fitted: GapFit, monkeypatch: pytest.MonkeyPatch) -> None:
    calculator = QuipCalculator(fitted.directory)
    atoms = crystals(fitted)[0].atoms.copy()
    atoms.calc = calculator
    inner = calculator._potential

    def broken(value: float, name: str) -> Any:
        def calculate(prepared: Atoms, *_: Any) -> None:
            inner.results = {"energy": -10.0, "forces": np.zeros((len(prepared), 3)), name: value}

        return calculate

    monkeypatch.setattr(inner, "calculate", broken(np.nan, "energy"))
    with pytest.raises(PotentialError, match=r"energy of Si.* is not finite"):
        atoms.get_potential_energy()
    monkeypatch.setattr(inner, "calculate", broken(np.inf, "forces"))
    with pytest.raises(PotentialError, match="forces"):
        atoms.get_forces()
    monkeypatch.setattr(inner, "calculate", broken(-1e5, "energy"))
    with pytest.raises(PotentialError, match="beyond 1000"):
        atoms.get_potential_energy()


def test_loading_and_evaluating_is_silent(fitted: GapFit) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom ase.build import bulk\n"
        "from gapfactory.potentials.gap.quip_calculator import QuipCalculator\n"
        "a = bulk('Si'); a.calc = QuipCalculator(Path(sys.argv[1])); a.get_forces()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(fitted.directory)],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ, OMP_NUM_THREADS="1"),
    )
    assert done.stdout == ""
    assert done.stderr == ""


def test_the_files_travel(fitted: GapFit, tmp_path: Path) -> None:
    """Only what `GapFit.files` lists is needed, anywhere."""
    target = tmp_path / "elsewhere"
    target.mkdir()
    for file in fitted.files:
        shutil.copy(file, target)
    assert fitted.files[0].name == "gap.xml"
    item = crystals(fitted)[3]
    atoms = item.atoms.copy()
    assert load_potential(target).get_potential_energy(atoms) == pytest.approx(
        fitted.energies[item.id], abs=1e-9
    )
    assert set(fitted.sha256) == {file.name for file in fitted.files} - {"manifest.json"}


def test_complaints_of_compiled_code_are_drained(
    fitted: GapFit, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def noisy(*_: Any, **__: Any) -> None:
        os.write(1, b"WARNING(FoX)\n")
        os.write(2, b"WARNING(FoX)\n")
        msg = "SYSTEM ABORT"
        raise RuntimeError(msg)

    monkeypatch.setattr("quippy.potential.Potential", noisy)
    with pytest.raises(PotentialError, match=r"QUIP refuses .*SYSTEM ABORT"):
        QuipCalculator(fitted.directory)
    os.write(1, b"after")
    assert capfd.readouterr() == ("after", "")
