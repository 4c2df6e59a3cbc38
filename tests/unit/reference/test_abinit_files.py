"""ABINIT's files: inputs, potentials, and recorded outputs of version 9.6.2 (shortened, numbers untouched)."""

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.io.abinit import read_abinit_in
from ase.units import Hartree

from gapfactory.errors import InputError, MissingEngineError
from gapfactory.reference.engines._abinit_gth import abinit_text, find_gth, read_gth
from gapfactory.reference.engines._abinit_output import error_reports, read_output, scf_energies
from gapfactory.reference.engines._abinit_potentials import functional, potential_of
from gapfactory.reference.engines.abinit import AbinitEngine, AbinitSettings
from gapfactory.reference.faults import CalculationFailedError, Diagnosis, Fault
from gapfactory.reference.site import ProgramSite

DATA = Path(__file__).with_name("data") / "abinit"

GTH = """# a comment
H GTH-PBE-q1 GTH-PBE
    1
     0.20000000    2    -4.17890044     0.72446331
    0
#
Si GTH-PADE-q4 GTH-LDA-q4 GTH-PADE GTH-LDA
    2    2
     0.44000000    1    -7.33610297
    2
     0.42273813    2     5.90692831    -1.26189397
                                        3.25819622
     0.48427842    1     2.72701346
#
Si GTH-PBE-q4 GTH-PBE
    2    2
     0.44000000    1    -6.26928833
    2
     0.43563383    2     8.95174150    -2.70627082
                                        3.49378060
     0.49794218    1     2.43127673
"""


def text_of(name):
    return (DATA / name).read_text()


@pytest.fixture
def site(tmp_path):
    folder = tmp_path / "potentials"
    folder.mkdir()
    (folder / "GTH_POTENTIALS").write_text(GTH)
    return ProgramSite(pseudopotentials=folder)


def engine_at(site, **changes):
    return AbinitEngine(AbinitSettings(**changes), site)


# ---- outputs -----------------------------------------------------------------------------------------------------


def test_finished_output_is_read_in_full():
    out = read_output(text_of("finished.abo"))
    assert (out.converged, out.complete, out.stopped) == (True, True, False)
    assert out.energy == pytest.approx(-343.98172, abs=1e-5)
    assert out.entropy_term <= 0
    assert str(out.atoms.symbols) == "SiCSi"
    np.testing.assert_allclose(out.atoms.cell.array, [[3.9, 0, 0], [0.3, 4.1, 0], [0, 0.2, 4.3]], atol=1e-6)
    np.testing.assert_allclose(out.atoms.positions[2], [1.7, 2.0, 2.6], atol=1e-7)
    np.testing.assert_allclose(out.forces[1], [-0.636008, 3.359664, -3.905337], atol=1e-5)
    np.testing.assert_allclose(
        out.stress, [0.20718549, 0.09968438, 0.21673025, -0.03231674, 0.00214809, 0.012776], atol=1e-7
    )


def test_moment_of_a_spin_polarised_output():
    out = read_output(text_of("dimer.abo"))
    assert out.moment == pytest.approx(1.998314)
    assert out.stress is None


def test_output_of_density_mixing_is_read():
    # ASE's reader ends with an error here
    out = read_output(text_of("density-mixing.abo"))
    assert out.converged
    assert out.energy == pytest.approx(-194.448455, abs=1e-5)


def test_self_consistency_not_reached_is_seen():
    out = read_output(text_of("not-converged.abo"))
    assert (out.converged, out.complete) == (False, True)
    assert out.iterations == 3


@pytest.mark.parametrize("cut", [0.2, 0.4, 0.6, 0.8, 0.97])
def test_output_cut_short_is_incomplete(cut):
    text = text_of("finished.abo")
    part = text[: int(cut * len(text))]
    if cut < 0.7:
        with pytest.raises(ValueError, match=r"no |incomplete|positions"):
            read_output(part)
    else:
        assert not read_output(part).complete


def test_energies_that_do_not_fit_their_columns_are_not_finite():
    energies = scf_energies(" ETOT  1  -1.5000000000000    -1.5\n ETOT  2 NaN  NaN\n ETOT  3 ******** 1.0\n")
    assert energies[0] == pytest.approx(-1.5 * Hartree)
    assert np.isnan(energies[1:]).all()


@pytest.mark.parametrize(
    ("name", "fault", "words", "hopeless"),
    [
        ("grid.log", Fault.GRID, "k point grid is not symmetric", False),
        ("memory.log", Fault.MEMORY, "Test failed to allocate an array", False),
        ("refused.log", Fault.INPUT, "tsmear", True),
        ("bands.log", Fault.INPUT, "number of planewaves", True),
        ("nan.log", Fault.NAN, "NaN", False),
    ],
)
def test_recorded_faults_are_recognised(site, tmp_path, name, fault, words, hopeless):
    (tmp_path / "stdout.txt").write_text(text_of(name))
    found = engine_at(site).diagnose(tmp_path, 14)
    assert found is not None
    assert (found.fault, found.hopeless) == (fault, hopeless)
    assert words in found.text


def test_unknown_error_report_is_quoted_with_its_source(site, tmp_path):
    report = "--- !ERROR\nsrc_file: m_xyz.F90\nsrc_line: 1\nmpi_rank: 1\nmessage: |\n    Something\n    odd.\n...\n"
    assert error_reports(report) == ["Something odd. (m_xyz.F90)"]
    (tmp_path / "__ABI_MPIABORTFILE__").write_text(report)
    assert engine_at(site).diagnose(tmp_path, 14) == Diagnosis(Fault.CRASH, "Something odd. (m_xyz.F90)")


@pytest.mark.parametrize("name", ["finished.abo", "dimer.abo", "density-mixing.abo"])
def test_finished_outputs_show_no_fault(site, tmp_path, name):
    (tmp_path / "run.abo").write_text(text_of(name))
    assert engine_at(site).diagnose(tmp_path, 0) is None


def test_unconverged_output_is_no_result(site, tmp_path):
    (tmp_path / "run.abo").write_text(text_of("not-converged.abo"))
    with pytest.raises(CalculationFailedError, match="3 iterations were not enough") as caught:
        engine_at(site).read(bulk("Si"), tmp_path)
    assert caught.value.fault is Fault.SCF


# ---- potentials --------------------------------------------------------------------------------------------------


def test_gth_potential_becomes_abinits_own_format():
    silicon = find_gth(read_gth(GTH), "Si", "GTH-PADE")
    lines = abinit_text(silicon, 14, 1).splitlines()
    assert lines[1].split()[:2] == ["14", "4"]
    assert lines[2].split()[:6] == ["10", "1", "1", "0", "2001", "0"]
    assert lines[3].split()[:3] == ["0.44000000", "1", "-7.33610297"]
    assert lines[5].split()[:4] == ["0.42273813", "2", "5.90692831", "-1.26189397"]
    assert lines[6].split() == ["3.25819622"]
    assert lines[7].split()[:3] == ["0.48427842", "1", "2.72701346"]
    # the spin-orbit coefficient of l = 1
    assert lines[8].split() == ["0.00000000"]


def test_element_without_projectors_keeps_one_empty_channel():
    lines = abinit_text(find_gth(read_gth(GTH), "H", "GTH-PBE-q1"), 1, 11).splitlines()
    assert lines[2].split()[2] == "0"
    assert lines[5].split()[:2] == ["0.20000000", "0"]


def test_broken_gth_entry_is_an_error():
    with pytest.raises(InputError, match="Si GTH-X"):
        read_gth("Si GTH-X\n 2 2\n 0.44 1 -7.3\n 2\n 0.42 2 5.9\n")
    with pytest.raises(InputError, match="no file of GTH"):
        read_gth("<UPF version=1>\n")


def test_potential_of_another_functional_is_refused(site):
    with pytest.raises(InputError, match=r"GTH-PADE-q4 of Si is not of the functional PBE \(ixc 11\)"):
        potential_of("Si", functional("PBE"), {"Si": "GTH-PADE-q4"}, site)
    (site.pseudopotentials / "lda.hgh").write_text("title\n 14 4 0\n 3 1 1 0 2001 0\n")
    with pytest.raises(InputError, match=r"made for pspxc 1, .* PBE \(ixc 11\)"):
        potential_of("Si", functional("PBE"), {"Si": "lda.hgh"}, site)
    assert potential_of("Si", functional("LDA"), {"Si": "lda.hgh"}, site).electrons == 4
    with pytest.raises(InputError, match="not of C"):
        potential_of("C", functional("LDA"), {"C": "lda.hgh"}, site)


def test_paw_and_upf_files_tell_their_functional(site):
    folder = site.pseudopotentials
    (folder / "si.xml").write_text(
        '<paw_dataset version="0.7">\n<atom symbol="Si" Z="14.00" core="10.00" valence="4.00"/>\n'
        '<xc_functional type="GGA" name="PBE"/>\n'
    )
    paw = potential_of("Si", functional("PBE"), {"Si": "si.xml"}, site)
    assert (paw.paw, paw.electrons) == (True, 4)
    with pytest.raises(InputError, match="made for PBE"):
        potential_of("Si", functional("LDA"), {"Si": "si.xml"}, site)
    header = (
        '<UPF version="2.0.1">\n<PP_HEADER pseudo_type="{}" element="Si" functional="PBE" z_valence="4.0"/>\n'
    )
    (folder / "si.upf").write_text(header.format("NC"))
    assert potential_of("Si", functional("PBE"), {"Si": "si.upf"}, site).electrons == 4
    (folder / "si.upf").write_text(header.format("US"))
    with pytest.raises(InputError, match="norm-conserving"):
        potential_of("Si", functional("PBE"), {"Si": "si.upf"}, site)
    (folder / "si.upf").write_text(header.format('NC" core_correction=".true.'))
    with pytest.raises(InputError, match="core correction"):
        potential_of("Si", functional("PBE"), {"Si": "si.upf"}, site)


def test_what_is_missing_is_named_with_a_remedy(site):
    with pytest.raises(MissingEngineError, match="no GTH potential of C for the functional PBE"):
        potential_of("C", functional("PBE"), {}, site)
    with pytest.raises(MissingEngineError, match=r"'nothing.psp8' of Si"):
        potential_of("Si", functional("PBE"), {"Si": "nothing.psp8"}, site)
    with pytest.raises(InputError, match="no functional 'optB88-vdW': choose one of LDA"):
        functional("optB88-vdW")


# ---- inputs ------------------------------------------------------------------------------------------------------


def written(site, atoms, tmp_path, numerics=None, **changes):
    directory = tmp_path / "run"
    directory.mkdir()
    engine_at(site, **changes).write(atoms, directory, numerics or {}, checkpoint=None)
    return (directory / "run.abi").read_text()


def test_input_says_what_is_asked_for(site, tmp_path):
    text = written(site, bulk("Si"), tmp_path, kpoint_grid=(3, 2, 1), smearing_width_eV=0.25)
    for line in (
        "ecut 600.0 eV",
        "ixc 11",
        "occopt 3",
        "tsmear 0.25 eV",
        "nsppol 1",
        "toldfe 1e-07 eV",
        "nband 10",
    ):
        assert line in text.splitlines()
    assert "ngkpt\n3 2 1 \nnshiftk 1" in text
    assert "shiftk\n0.0 0.0 0.0" in text
    with (tmp_path / "run" / "run.abi").open() as stream:
        back = read_abinit_in(stream)
    np.testing.assert_allclose(back.positions, bulk("Si").positions, atol=1e-10)


def test_left_handed_cell_is_turned_and_spans_the_same_lattice(site, tmp_path):
    atoms = bulk("Si")
    atoms.set_cell(atoms.cell.array[[1, 0, 2]])
    written(site, atoms, tmp_path)
    with (tmp_path / "run" / "run.abi").open() as stream:
        back = read_abinit_in(stream)
    assert back.cell.handedness == 1
    np.testing.assert_allclose(back.cell.array, -atoms.cell.array, atol=1e-10)


def test_spin_of_atoms_and_dimers(site, tmp_path):
    atom = written(site, Atoms("Si"), tmp_path)
    assert "spinmagntarget 2.0" in atom.splitlines()
    assert "nsppol 2" in atom.splitlines()
    (tmp_path / "dimer").mkdir()
    dimer = written(site, Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.2]]), tmp_path / "dimer")
    assert "spinmagntarget" not in dimer
    assert dimer.count("0.00000000000000 0.00000000000000 2.00000000000000") == 2
    (tmp_path / "hydrogen").mkdir()
    # ABINIT refuses a fixed moment without a minority electron
    assert "spinmagntarget" not in written(site, Atoms("H"), tmp_path / "hydrogen")


def test_numerics_are_abinits_variables_and_two_factors(site, tmp_path):
    text = written(
        site, bulk("Si"), tmp_path, {"steps": 2, "bands": 1.6, "iscf": 3, "nsym": 1}, max_iterations=30
    )
    for line in ("nstep 60", "nband 15", "iscf 3", "nsym 1"):
        assert line in text.splitlines()
