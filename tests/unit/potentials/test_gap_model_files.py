"""Files of a potential, the data of a fit and the memory estimate: no QUIP needed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from pydantic import ValidationError

from gapfactory.elements import species
from gapfactory.errors import FitError, InputError, PotentialError
from gapfactory.potentials.gap.backends import check_backend
from gapfactory.potentials.gap.data import LabelledStructure, checked
from gapfactory.potentials.gap.deltas import stage_delta
from gapfactory.potentials.gap.files import (
    check_files,
    potential_digest,
    read_manifest,
    relabel,
    write_manifest,
)
from gapfactory.potentials.gap.memory import estimate_memory, evaluation_time
from gapfactory.potentials.gap.settings import (
    DeltaSettings,
    GapSettings,
    ProgramSettings,
    SoapSettings,
    ThreeBodySettings,
    TwoBodySettings,
)
from gapfactory.potentials.gap.sigmas import Sigmas
from gapfactory.potentials.gap.trainfile import expected_targets, virial_of, write_training_file

if TYPE_CHECKING:
    from pathlib import Path

SI = species("Si", radius=1.11, bonding="covalent")


def _isolated(energy: float = -1.0, symbol: str = "Si") -> LabelledStructure:
    return LabelledStructure(f"isolated-{symbol}", Atoms(symbol), energy, None, None, "isolated")


def _crystal(name: str = "a", energy: float = -10.0, **changes: Any) -> LabelledStructure:
    atoms = bulk("Si")
    atoms.rattle(0.02, seed=len(name) + ord(name[-1]))
    rng = np.random.default_rng(1)
    values = {"id": name, "atoms": atoms, "energy": energy, "forces": rng.normal(size=(2, 3))}
    values |= {"stress": np.arange(1.0, 7.0), "kind": "crystal"}
    return LabelledStructure(**(values | changes))


def _write_model(directory: Path, label: str = "GAP_2026_1_1_0_0_0_0_1", alpha: str = "1.5") -> None:
    directory.mkdir(parents=True, exist_ok=True)
    name = f"gap.xml.sparseX.{label}1"
    (directory / name).write_text("2.0\n3.0\n")
    (directory / "gap.xml").write_text(
        f"""<{label}>
<Potential label="{label}" init_args="IP GAP label={label}"/>
<GAP_params label="{label}" gap_version="1">
 <GAP_data do_core="F"><e0 Z="1" value=".0"/><e0 Z="14" value="-1.0"/></GAP_data>
 <gpSparse label="{label}" n_coordinate="1" fitted="T">
  <gpCoordinates label="{label}1" dimensions="1" signal_variance="1.0" signal_mean="0.0" sparsified="T"
   n_permutations="1" covariance_type="1" n_sparseX="2" sparseX_filename="{name}">
   <theta> 0.5 </theta><descriptor>distance_2b Z1=14 Z2=14 cutoff=4.0 sparse_file=x</descriptor>
   <permutation i="1">1 </permutation>
   <sparseX i="1" alpha="{alpha}" sparseCutoff="1.0"/><sparseX i="2" alpha="-2.0" sparseCutoff="1.0"/>
  </gpCoordinates>
 </gpSparse>
</GAP_params>
</{label}>
"""
    )


def test_digest_knows_numbers_and_not_names(tmp_path: Path) -> None:
    _write_model(tmp_path / "a")
    _write_model(tmp_path / "b", label="GAP_2027_2_2_0_0_0_0_9")
    _write_model(tmp_path / "c", alpha="1.5000000000000002")
    assert potential_digest(tmp_path / "a") == potential_digest(tmp_path / "b")
    assert potential_digest(tmp_path / "a") != potential_digest(tmp_path / "c")
    for name in "ab":
        relabel(tmp_path / name)
    assert (tmp_path / "a/gap.xml").read_bytes() == (tmp_path / "b/gap.xml").read_bytes()
    assert sorted(p.name for p in (tmp_path / "a").iterdir()) == [
        "gap.xml",
        "gap.xml.sparseX.GAP_gapfactory1",
    ]
    assert check_files(tmp_path / "a", n_sparse=[2], e0={"Si": -1.0}).e0 == {1: 0.0, 14: -1.0}


@pytest.mark.parametrize("keep", [0, 1, 30, 200, 600, -3])
def test_every_truncation_is_refused(tmp_path: Path, keep: int) -> None:
    _write_model(tmp_path)
    whole = (tmp_path / "gap.xml").read_bytes()
    (tmp_path / "gap.xml").write_bytes(whole[:keep])
    with pytest.raises(PotentialError, match="truncated or malformed"):
        check_files(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('alpha="-2.0"', 'alpha="NaN"', "alpha"),
        ('n_sparseX="2"', 'n_sparseX="3"', "2 sparse points where it says 3"),
        ('n_sparseX="2"', 'n_sparseX="-2"', "n_sparseX"),
        ('n_coordinate="1"', 'n_coordinate="2"', "1 terms"),
        ('dimensions="1"', 'dimensions="9"', "9 dimensions"),
        ('sparseX_filename="gap', 'sparseX_filename="../gap', "not a plain file name"),
        ("<GAP_2026", '<!DOCTYPE a [<!ENTITY b "c">]><GAP_2026', "entities"),
        ("<Potential ", "<Other ", "Other"),
        ('value="-1.0"', 'value="-inf"', "e0"),
    ],
)
def test_hostile_files_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    _write_model(tmp_path)
    text = (tmp_path / "gap.xml").read_text()
    assert old in text
    (tmp_path / "gap.xml").write_text(text.replace(old, new, 1))
    with pytest.raises(PotentialError, match=message):
        check_files(tmp_path)


def test_sparse_files_are_part_of_the_potential(tmp_path: Path) -> None:
    _write_model(tmp_path)
    write_manifest(tmp_path, note="x")
    assert read_manifest(tmp_path)["note"] == "x"
    sparse = next(tmp_path.glob("gap.xml.sparseX*"))
    sparse.write_text("2.0\n3.1\n")
    with pytest.raises(PotentialError, match="altered"):
        read_manifest(tmp_path)
    sparse.write_text("2.0\n")
    with pytest.raises(PotentialError, match="expected 2"):
        check_files(tmp_path)
    sparse.unlink()
    with pytest.raises(PotentialError, match="missing"):
        check_files(tmp_path)
    with pytest.raises(PotentialError, match="missing"):
        read_manifest(tmp_path)


def test_manifest_must_be_one(tmp_path: Path) -> None:
    with pytest.raises(PotentialError, match="write_manifest"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(PotentialError, match="cannot be read"):
        read_manifest(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps({"format": 1, "files": {"gap.xml": "", "../x": ""}}))
    (tmp_path / "gap.xml").write_text("")
    with pytest.raises(PotentialError, match=r"altered|plain"):
        read_manifest(tmp_path)


def test_wrong_counts_and_free_atoms_are_refused(tmp_path: Path) -> None:
    _write_model(tmp_path)
    with pytest.raises(FitError, match="asked for"):
        check_files(tmp_path, n_sparse=[3], error=FitError)
    with pytest.raises(FitError, match="free Si atom"):
        check_files(tmp_path, e0={"Si": -1.1}, error=FitError)


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (_crystal(energy=float("nan")), "energy of structure 'a' is nan"),
        (_crystal(forces=np.full((2, 3), np.nan)), "forces of structure 'a' are not finite"),
        (_crystal(forces=np.zeros((3, 3))), "shape"),
        (_crystal(stress=np.array([0, 0, 0, 0, 0, np.inf])), "stress of structure 'a'"),
        (_crystal(atoms=Atoms("C", cell=[3] * 3, pbc=True), forces=None), "contains C"),
        (_crystal(atoms=Atoms("Si", cell=[3] * 3), forces=None), "not periodic"),
        (_crystal(kind="dimer"), "periodic"),
        (_crystal(kind="isolated"), "2 atoms"),
        (_isolated(), "occurs more than once"),
        (LabelledStructure("other", Atoms("Si"), -2.0, None, None, "isolated"), "two isolated atoms"),
    ],
)
def test_bad_labels_are_refused_by_name(item: LabelledStructure, message: str) -> None:
    with pytest.raises(FitError, match=message):
        checked([_isolated(), _crystal("z"), item], ["Si"])


def test_isolated_atoms_are_required() -> None:
    with pytest.raises(FitError, match="no isolated atom of Si"):
        checked([_crystal()], ["Si"])
    with pytest.raises(FitError, match="only isolated"):
        checked([_isolated()], ["Si"])


def test_duplicates_are_dropped_and_contradictions_refused() -> None:
    atoms = bulk("Si")
    one, two = _crystal("one", atoms=atoms), _crystal("two", atoms=atoms.copy())
    kept, dropped, e0 = checked([two, one, _isolated()], ["Si"])
    assert [item.id for item in kept] == ["isolated-Si", "one"]
    assert dropped == ("two",)
    assert e0 == {"Si": -1.0}
    with pytest.raises(FitError, match="same structure"):
        checked([_isolated(), one, _crystal("two", atoms=atoms.copy(), energy=-10.1)], ["Si"])


def test_training_file_has_flat_virials_and_absolute_errors(tmp_path: Path) -> None:
    item, isolated = _crystal(), _isolated()
    sigmas = {"a": Sigmas(0.002, 0.0316, 0.1264, 0.0), isolated.id: Sigmas(1e-4, 1, 1, 0)}
    write_training_file(tmp_path / "t.xyz", [item, isolated], sigmas, 5.0)
    text = (tmp_path / "t.xyz").read_text()
    assert "_JSON" not in text
    comment = text.splitlines()[1]
    virial = np.array(comment.split('ref_virial="')[1].split('"')[0].split(), dtype=float).reshape(3, 3)
    volume = item.atoms.get_volume()
    assert np.allclose(virial, -volume * np.array([[1, 6, 5], [6, 2, 4], [5, 4, 3]]), rtol=1e-15)
    assert np.array_equal(virial, virial_of(item))
    assert "energy_sigma=2.0000000000000000e-03" in comment
    row = [float(x) for x in text.splitlines()[2].split()[1:]]
    assert row == [*item.atoms.positions[0], *item.forces[0]]
    assert expected_targets([item, isolated]) == {"energies": 2, "forces": 6, "virials": 6}
    assert 'pbc="F F F"' in text.splitlines()[5]


def test_delta_rules_by_hand() -> None:
    cells = [
        _crystal("a"),
        _crystal("b", atoms=bulk("Si", cubic=True), forces=None),
        LabelledStructure("d", Atoms("Si2", positions=[[0, 0, 0], [0, 0, 1.0]]), 50.0, None, None, "dimer"),
    ]
    residuals = np.array([-8.0, -40.0, 52.0])  # -4 and -5 eV/atom; the dimer must not count
    total = GapSettings()
    assert stage_delta(0, cells, residuals, [SI], total) == pytest.approx(np.sqrt((1.0**2 + 4.0**2) / 2))
    assert stage_delta(1, cells, residuals, [SI], total) == pytest.approx(np.sqrt((64 + 1600) / 2))
    per_atom = GapSettings(delta=DeltaSettings(rule="per-atom"))
    assert stage_delta(0, cells, residuals, [SI], per_atom) == pytest.approx(0.5)
    assert stage_delta(2, cells, residuals, [SI], per_atom) == pytest.approx(np.sqrt((16 + 25) / 2))
    count = GapSettings(delta=DeltaSettings(rule="per-descriptor", count_cutoff_in_r=2.5))
    assert stage_delta(0, cells, residuals, [SI], count) == pytest.approx(48 / (10 * 4))
    assert stage_delta(1, cells, residuals, [SI], count) == pytest.approx(48 / (10 * 6))
    assert stage_delta(2, cells, residuals, [SI], count) == pytest.approx(48 / 10)
    assert stage_delta(1, cells, np.zeros(3), [SI], total) == total.delta.least


def test_settings_are_strict() -> None:
    table = GapSettings()
    assert (table.two_body.sigma, table.two_body.n_sparse) == (0.5, 30)
    assert (table.three_body.sigma, table.three_body.n_sparse) == (1.0, 100)
    soap = table.soap
    assert (soap.atom_sigma, soap.n_sparse, soap.n_max, soap.l_max, soap.zeta) == (0.75, 2000, 8, 8, 4)
    with pytest.raises(ValidationError):
        GapSettings(jiter=1e-8)
    with pytest.raises(ValidationError, match="one per term"):
        GapSettings(delta=DeltaSettings(fixed=(1.0,)))
    GapSettings(
        three_body=ThreeBodySettings(enabled=False),
        soap=SoapSettings(enabled=False),
        delta=DeltaSettings(fixed=(1.0,)),
    )


def test_memory_of_a_whole_campaign_is_what_was_measured() -> None:
    """Reference: 5000 cells of 16 atoms, SOAP 12/3 within 5 A, 1000 sparse points: about 49 GB of SOAP."""
    soap = SoapSettings(n_max=12, l_max=3, n_sparse=1000, cutoff_covalent_in_r=5.0 / 1.11)
    settings = GapSettings(backend="gap_fit", soap=soap, three_body=ThreeBodySettings(enabled=False))
    sizes = {"n_structures": 5000, "atoms_per_structure": 16, "volume_per_atom": 20.0}
    estimate = estimate_memory(**sizes, species=[SI], settings=settings)
    assert estimate.n_cross["soap-Si"] == pytest.approx(80000 * 26.18 * 9, rel=1e-3)
    assert 45e9 < estimate.descriptor_bytes < 60e9
    assert estimate.n_targets == 5000 * (1 + 48 + 6)
    assert not estimate.too_many_derivatives
    without = estimate_memory(**sizes, species=[SI], settings=settings, virials=False)
    assert without.descriptor_bytes == pytest.approx(estimate.descriptor_bytes / 3, rel=0.03)
    ti = species("Ti", radius=1.47, bonding="metallic")
    assert estimate_memory(**sizes, species=[SI, ti], settings=settings).peak_bytes > 2 * estimate.peak_bytes
    sizes["n_structures"] = 600_000
    assert estimate_memory(**sizes, species=[SI], settings=settings).too_many_derivatives
    sizes["volume_per_atom"] = 0.0
    with pytest.raises(InputError, match="positive"):
        estimate_memory(**sizes, species=[SI], settings=settings)


def test_time_of_a_measured_fit() -> None:
    """Reference: 200 cells of 8 atoms, SOAP 12/3 within 5 A, 500 points, 15 pair points: 57.6 CPU s, 0.96 GB."""
    settings = GapSettings(
        backend="gap_fit",
        two_body=TwoBodySettings(n_sparse=15, cutoff_covalent_in_r=5.0 / 1.11),
        three_body=ThreeBodySettings(enabled=False),
        soap=SoapSettings(n_max=12, l_max=3, n_sparse=500, cutoff_covalent_in_r=5.0 / 1.11),
    )
    estimate = estimate_memory(
        n_structures=200, atoms_per_structure=8, volume_per_atom=20.0, species=[SI], settings=settings
    )
    assert estimate.cpu_s == pytest.approx(57.6, rel=0.2)
    assert estimate.n_cross["soap-Si"] == pytest.approx(384_642, rel=0.05)
    assert estimate.descriptor_bytes == pytest.approx(0.963e9, rel=0.05)


def test_time_and_memory_of_a_measured_fit_of_our_own() -> None:
    """Reference: 250 cells of 16 atoms with the terms of Table 1 on two threads: 8.5 CPU s, 0.68 GB."""
    settings = GapSettings(program=ProgramSettings(fit_threads=2))
    sizes = {"n_structures": 250, "volume_per_atom": 20.0, "species": [SI], "settings": settings}
    estimate = estimate_memory(atoms_per_structure=16, **sizes)
    assert estimate.cpu_s == pytest.approx(8.5, rel=0.25)
    assert 0.68e9 < estimate.peak_bytes < 1.0e9
    # fewer environments than sparse points were asked for
    assert estimate_memory(atoms_per_structure=2, **sizes).cpu_s < estimate.cpu_s / 20


@pytest.mark.parametrize(
    ("symbols", "volume", "soap", "measured"),
    [
        (["Si"], 20.0, {}, 0.053e-3),
        (["Ti"], 17.5, {}, 0.075e-3),
        (["Si"], 20.0, {"n_sparse": 200, "l_max": 6}, 0.021e-3),
        (["Si"], 20.0, {"enabled": False}, 0.007e-3),
        (["Cu", "Au"], 14.0, {}, 0.21e-3),
    ],
)
def test_time_of_measured_evaluations(
    symbols: list[str], volume: float, soap: dict[str, Any], measured: float
) -> None:
    settings = GapSettings(soap=SoapSettings(**soap))
    elements = [species(symbol) for symbol in symbols]
    found = evaluation_time(volume_per_atom=volume, species=elements, settings=settings)
    assert found == pytest.approx(measured, rel=0.25)
    if settings.soap.enabled:
        surer = evaluation_time(volume_per_atom=volume, species=elements, settings=settings, uncertainty=True)
        assert 1.5 * found < surer < 6.0 * found


def test_only_the_backend_gap_fit_needs_its_program_and_quippy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = ProgramSettings(executable="no-such-gap-fit")
    assert check_backend(GapSettings(program=missing)) == "built in"
    with pytest.raises(FitError, match=r"'no-such-gap-fit' was not found: install gapfactory\[quip\]"):
        check_backend(GapSettings(backend="gap_fit", program=missing))
    program = tmp_path / "gap_fit"
    program.write_text("")
    program.chmod(0o755)
    there = GapSettings(backend="gap_fit", program=ProgramSettings(executable=str(program)))
    assert check_backend(there) == f"gap_fit ({program.resolve()})"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(FitError, match="but not quippy"):
        check_backend(there)


def test_our_own_memory_hardly_grows_with_the_data() -> None:
    sizes = {"atoms_per_structure": 16, "volume_per_atom": 20.0, "species": [SI]}
    settings = GapSettings(program=ProgramSettings(fit_threads=2))
    small = estimate_memory(n_structures=500, settings=settings, **sizes)
    large = estimate_memory(n_structures=5000, settings=settings, **sizes)
    assert small.peak_bytes < large.peak_bytes < 1.5 * small.peak_bytes < 4e9
    assert large.n_targets == 5000 * 55
    assert large.cpu_s == pytest.approx(10 * small.cpu_s, rel=0.1)
    assert (
        large.cpu_s
        < estimate_memory(
            n_structures=5000, settings=settings.model_copy(update={"backend": "gap_fit"}), **sizes
        ).cpu_s
        / 10
    )
    assert not large.too_many_derivatives
