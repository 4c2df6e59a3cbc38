"""The built-in fit against gap_fit: the same data, sparse points and expected errors give the same potential."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.data import chemical_symbols
from numpy.testing import assert_array_equal

from gapfactory.elements import species
from gapfactory.errors import FitError, PotentialError
from gapfactory.potentials.gap import GapFit, GapSettings, LabelledStructure, fit_gap
from gapfactory.potentials.gap.check import evaluate
from gapfactory.potentials.gap.engine.evaluator import Engine
from gapfactory.potentials.gap.settings import (
    DeltaSettings,
    ProgramSettings,
    SoapSettings,
    ThreeBodySettings,
    TwoBodySettings,
)
from gapfactory.potentials.gap.sigmas import Sigmas
from gapfactory.potentials.gap.solve import fit_native
from gapfactory.potentials.gap.sparse import write_sparse_file
from gapfactory.potentials.gap.xml import read_gap


def _load(name: str) -> Any:
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).parent / f"{name}.py")
        assert spec is not None and spec.loader is not None  # noqa: PT018
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


gap = _load("gap_potentials")

pytestmark = pytest.mark.gap

SI = species("Si", radius=1.11, bonding="covalent")
SMALL = GapSettings(
    two_body=TwoBodySettings(cutoff_covalent_in_r=5.0),
    three_body=ThreeBodySettings(n_sparse=40),
    soap=SoapSettings(n_sparse=60, n_max=5, l_max=4),
)
ONLY_2B = GapSettings(
    two_body=TwoBodySettings(cutoff_covalent_in_r=5.0),
    three_body=ThreeBodySettings(enabled=False),
    soap=SoapSettings(enabled=False),
)


def crystal(rng: np.random.Generator, numbers: tuple[int, ...], size: int) -> Atoms:
    """Return a strained, rattled cell as those of `gap_potentials.training_set`."""
    if numbers == (14,):
        atoms = bulk("Si", cubic=size > 2)
    else:
        atoms = bulk("Cu", a=3.85, cubic=True) if size > 2 else bulk("Cu", a=3.85) * (2, 1, 1)
        atoms.numbers = rng.choice(numbers, size=len(atoms))
    strain = np.eye(3) * rng.uniform(0.85, 1.25) ** (1 / 3) + 0.03 * rng.normal(size=(3, 3))
    atoms.set_cell(atoms.cell.array @ strain, scale_atoms=True)
    atoms.positions += 0.1 * rng.normal(size=atoms.positions.shape)
    return atoms


def as_labelled(name: str, atoms: Atoms) -> LabelledStructure:
    """Return a structure of `gap_potentials.labelled` in the form that fits take."""
    kind: Any = "isolated" if len(atoms) == 1 else "crystal" if atoms.pbc.all() else "dimer"
    stress = atoms.info.get("stress")
    voigt = None if stress is None else stress[(0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)]
    forces = None if kind == "isolated" else atoms.arrays["ref_forces"]
    return LabelledStructure(name, atoms, atoms.info["energy"], forces, voigt, kind)


@cache
def silicon(n: int = 20) -> tuple[LabelledStructure, ...]:
    """Return a free atom, dimers and cells, some without forces or stress."""
    rng = np.random.default_rng(11)
    data = [as_labelled("free", gap.labelled(Atoms("Si")))]
    data += [
        as_labelled(f"dimer-{d}", gap.labelled(Atoms("Si2", positions=[[0, 0, 0], [0, 0, d]])))
        for d in (1.9, 2.3, 2.8)
    ]
    for k in range(n):
        item = as_labelled(f"cell-{k:02d}", gap.labelled(crystal(rng, (14,), 8 if k % 3 == 0 else 2)))
        if k % 5 == 1:
            item = replace(item, forces=None)
        if k % 5 == 2:
            item = replace(item, stress=None)
        data.append(item)
    return tuple(data)


def fit(workdir: Path, settings: GapSettings = SMALL, data: Any = None, **changes: Any) -> GapFit:
    arguments = {
        "species": [SI],
        "settings": settings,
        "seed": lambda k: np.random.default_rng([7, k]),
        "workdir": workdir,
    } | changes
    return fit_gap(list(silicon() if data is None else data), **arguments)


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> GapFit:
    return fit(tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def unseen() -> list[Atoms]:
    rng = np.random.default_rng(99)
    return [crystal(rng, (14,), 8 if k % 2 else 2) for k in range(30)]


def differences(one: Any, two: Any, structures: list[Atoms]) -> tuple[float, float]:
    """Return the largest differences of energies (eV/atom) and forces (eV/A)."""
    sizes = np.array([len(atoms) for atoms in structures])
    forces = [
        np.asarray(x.forces if isinstance(x.forces, np.ndarray) else np.vstack(x.forces)) for x in (one, two)
    ]
    return float(np.abs((one.energies - two.energies) / sizes).max()), float(
        np.abs(forces[0] - forces[1]).max()
    )


# ---------------------------------------------------------------------------------------- same as gap_fit


@pytest.mark.parametrize("name", list(gap.RECIPES))
def test_given_gap_fits_sparse_points_the_fit_is_gap_fits(name: str) -> None:
    """Offsets, cutoff factors of sparse points, core potential, permuted kernels, two species: all recipes."""
    model = read_gap(gap.potential(name) / gap.XML)
    numbers = gap.RECIPES[name].numbers
    data = [as_labelled(f"{k:03d}", atoms) for k, atoms in enumerate(gap.training_set(numbers))]
    # What gap_fit makes of default_sigma={0.002 0.05 0.1 0.0}: energies and virials times sqrt(N).
    sigmas = {
        item.id: Sigmas(0.002 * len(item.atoms) ** 0.5, 0.05, 0.1 * len(item.atoms) ** 0.5, 0.0)
        for item in data
    }
    blank = [replace(term, alphas=np.zeros(term.n_sparse)) for term in model.terms]
    e0 = {chemical_symbols[z]: energy for z, energy in model.e0.items()}
    found = fit_native(blank, data, sigmas, e0=e0, jitter=1e-8, baseline=model.baseline)
    rng = np.random.default_rng(5)
    structures = [crystal(rng, numbers, 8 if k % 2 else 2) for k in range(20)]
    ours, theirs = Engine(found.model).evaluate(structures), Engine(model).evaluate(structures)
    energy, force = differences(ours, theirs, structures)
    assert energy < 1e-6
    assert force < 1e-4
    # The comparison is not of two zeros.
    assert np.abs(theirs.energies - [sum(model.e0[z] for z in a.numbers) for a in structures]).max() > 0.5


def test_both_backends_give_the_same_potential(native: GapFit, tmp_path: Path, unseen: list[Atoms]) -> None:
    theirs = fit(tmp_path, SMALL.model_copy(update={"backend": "gap_fit"}))
    assert theirs.backend == "gap_fit"
    assert native.backend == "native"
    assert dict(theirs.deltas) == dict(native.deltas)
    assert dict(theirs.targets) == dict(native.targets)
    assert theirs.e0 == native.e0
    for a, b in zip(native.stages, theirs.stages, strict=True):
        assert a.name == b.name
        assert a.n_sparse == b.n_sparse
        assert a.errors.energy_rmse == pytest.approx(b.errors.energy_rmse, rel=1e-4)
    energy, force = differences(
        evaluate(native.directory, unseen), evaluate(theirs.directory, unseen), unseen
    )
    assert energy < 1e-6
    assert force < 1e-4


def test_quippy_reads_what_we_fitted(native: GapFit, unseen: list[Atoms]) -> None:
    # Boxes would change nothing: these are crystals.
    theirs = gap.oracle(native.directory, unseen[:6])
    ours = evaluate(native.directory, unseen[:6])
    for k, atoms in enumerate(unseen[:6]):
        assert ours.energies[k] == pytest.approx(theirs[k]["energy"], abs=1e-8 * len(atoms))
        assert ours.forces is not None
        assert np.abs(ours.forces[k] - theirs[k]["forces"]).max() < 1e-6


def test_the_fit_is_good_and_says_how_it_was_made(native: GapFit, unseen: list[Atoms]) -> None:
    assert native.train_errors.energy_rmse < 0.01
    found = evaluate(native.directory, unseen)
    labels = [gap.labelled(atoms) for atoms in unseen]
    errors = [(e - a.info["energy"]) / len(a) for e, a in zip(found.energies, labels, strict=True)]
    assert np.sqrt(np.mean(np.square(errors))) < 0.05
    rows = sum(native.targets.values())
    for stage in native.stages:
        assert stage.diagnostics is not None
        assert stage.diagnostics.rows == rows
        assert stage.diagnostics.unknowns == sum(stage.n_sparse)
        assert 0 < stage.diagnostics.effective_parameters <= min(rows, stage.diagnostics.unknowns)
        assert 1 < stage.diagnostics.condition < 1e14
    residuals = [stage.diagnostics.residual for stage in native.stages if stage.diagnostics]
    assert residuals == sorted(residuals, reverse=True)
    assert {"sparse points", "2b rows", "2b solve", "2b+3b+soap solve", "prove", "total"} <= set(
        native.wall_s
    )
    assert "2b+3b rows" not in native.wall_s  # one pass over the data serves all stages
    assert native.peak_memory > 50e6
    assert native.versions["numba"] != "not installed"
    assert "quippy-ase" not in native.versions


# ------------------------------------------------------------------------------------------ determinism


def test_the_potential_depends_on_neither_threads_nor_order(
    native: GapFit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gapfactory.potentials.gap.solve import design

    monkeypatch.setattr(design, "BLOCK_ROWS", 100)  # many leaves, so that threads have something to share
    digests = []
    for threads, order in ((1, 1), (2, 1), (3, -1)):
        settings = SMALL.model_copy(update={"program": ProgramSettings(fit_threads=threads)})
        found = fit(tmp_path / f"{threads}", settings, silicon()[::order])
        assert found.threads == threads
        digests.append((found.digest, tuple(found.sha256.values())))
    assert len(set(digests)) == 1
    monkeypatch.undo()
    assert fit(tmp_path / "again").sha256 == native.sha256


def test_stored_parts_of_a_fit_are_used_again(
    native: GapFit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gapfactory.potentials.gap.solve import Design

    first = fit(tmp_path / "one", store=tmp_path / "store")
    assert first.digest == native.digest

    def refused(*_: Any) -> Any:
        raise AssertionError("rows were computed again")

    monkeypatch.setattr(Design, "blocks", refused)
    # Other scales and jitter need no new rows either.
    assert fit(tmp_path / "two", store=tmp_path / "store").digest == native.digest
    other = SMALL.model_copy(update={"delta": DeltaSettings(fixed=(1.0, 0.3, 0.1)), "jitter": 1e-7})
    assert fit(tmp_path / "three", other, store=tmp_path / "store").digest != native.digest


def test_fixed_scales_give_the_last_stage_alone(native: GapFit, tmp_path: Path) -> None:
    fixed = DeltaSettings(fixed=tuple(native.deltas[name] for name in ("2b", "3b", "soap")))
    found = fit(tmp_path, SMALL.model_copy(update={"delta": fixed}))
    assert [stage.name for stage in found.stages] == ["2b+3b+soap"]
    assert found.digest == native.digest


# --------------------------------------------------------------------------------- sparse points, proofs


def test_unlabelled_structures_supply_sparse_points_only(native: GapFit, tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    extra = [crystal(rng, (14,), 8) for _ in range(4)]
    extra[0].positions[1] += 0.6
    found = fit(tmp_path / "one", extra_sparse_structures=extra)
    assert dict(found.targets) == dict(native.targets)
    assert found.digest != native.digest
    assert fit(tmp_path / "two", extra_sparse_structures=extra[::-1]).digest == found.digest


def test_sparse_points_given_by_file_are_the_ones_used(tmp_path: Path) -> None:
    points = np.linspace(1.7, 5.3, 9)[:, None]
    write_sparse_file(tmp_path / "pairs", points)
    settings = ONLY_2B.model_copy(update={"sparse_files": {"2b-Si-Si": str(tmp_path / "pairs")}})
    found = fit(tmp_path / "fit", settings)
    (term,) = read_gap(found.directory / "gap.xml").terms
    assert_array_equal(term.points, points)


def test_a_potential_that_is_not_the_fitted_one_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gapfactory.potentials.gap import fit as module

    publish = module._publish

    def tampered(source: Path, target: Path) -> Path:
        final = publish(source, target)
        model = read_gap(final / "gap.xml")
        from gapfactory.potentials.gap import write_manifest
        from gapfactory.potentials.gap.xml import write_gap

        write_gap(
            replace(model, terms=tuple(replace(t, alphas=t.alphas * 1.001) for t in model.terms)),
            final / "gap.xml",
        )
        write_manifest(final)
        return final

    monkeypatch.setattr(module, "_publish", tampered)
    with pytest.raises(PotentialError, match="not the potential that was fitted"):
        fit(tmp_path, ONLY_2B)


def test_rows_that_are_lost_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from gapfactory.potentials.gap.solve import design

    real = design.targets_of

    def lossy(*arguments: Any) -> Any:
        found = real(*arguments)
        found.weights[0] = 0.0
        return found

    monkeypatch.setattr(design, "targets_of", lossy)
    with pytest.raises(FitError, match="not what was asked for"):
        fit(tmp_path, ONLY_2B)


def test_a_fit_that_needs_too_much_memory_is_refused_first(tmp_path: Path) -> None:
    settings = SMALL.model_copy(update={"program": ProgramSettings(memory_limit_gb=1e-3)})
    with pytest.raises(FitError, match="memory_limit_gb"):
        fit(tmp_path, settings)
    assert not list(tmp_path.glob("fit-*"))


def test_two_atoms_at_one_place_are_named(tmp_path: Path) -> None:
    broken = Atoms("Si2", positions=[[0, 0, 0], [0, 0, 0]], cell=[4] * 3, pbc=True)
    data = [*silicon(), LabelledStructure("zz", broken, 0.0, None, None)]
    with pytest.raises(FitError, match=r"structure 'zz' \(Si2\).*quarantine"):
        fit(tmp_path, data=data)


def test_no_quippy_is_needed(tmp_path: Path) -> None:
    code = f"""
import sys
sys.modules["quippy"] = None
from pathlib import Path
sys.path.insert(0, {str(gap.__file__.rpartition("/")[0])!r})
import test_native_fit as t
print(t.fit(Path({str(tmp_path)!r}), t.ONLY_2B).digest)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.strip()) == 64
