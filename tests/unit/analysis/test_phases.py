"""Named phases agree with the numbers that their sources print."""

from __future__ import annotations

import gzip
import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.data import atomic_numbers, reference_states
from ase.neighborlist import neighbor_list

from gapfactory.analysis import _phase_data, phases
from gapfactory.analysis._phase_data import RECORDS
from gapfactory.analysis.matching import MatchSettings, same_structure
from gapfactory.analysis.phases import (
    elements_with_phases,
    missing_phases,
    named_phase,
    named_phases,
    names_of_phases,
)
from gapfactory.errors import EvidenceError

ALL = [p for element in ("B", "C", "Si", "Ti") for p in named_phases(element)]
BY_NAME = {p.name: p for p in ALL}

#: atoms in the primitive cell, neighbours in the first shell, within this distance in Å (textbook structures)
GEOMETRY = {
    "C-diamond": (2, 4, 1.7),
    "C-lonsdaleite": (4, 4, 1.7),
    "C-graphite": (4, 3, 1.7),
    "Si-diamond": (2, 4, 2.6),
    "Si-beta-tin": (2, 6, 2.7),
    "Si-oS24": (12, 4, 2.6),
    "Ti-hcp": (2, 12, 3.1),
    "Ti-bcc": (1, 8, 3.0),
    "B-alpha-B12": (12, None, 1.9),
    "B-gamma-B28": (28, None, 1.9),
    "B-alpha-Ga": (4, 1, 1.8),
    "B-beta-B105": (105, None, 2.1),
}


@pytest.mark.parametrize("name", GEOMETRY)
def test_geometry(name):
    n, neighbours, cutoff = GEOMETRY[name]
    phase = BY_NAME[name]
    assert len(phase.atoms) == n
    counts = np.bincount(neighbor_list("i", phase.atoms, cutoff), minlength=n)
    if neighbours is not None:
        assert (counts == neighbours).all()


def test_omega_titanium_has_two_kinds_of_atoms():
    """Its source counts 14 neighbours of the first kind within 3.504 Å; the second kind then has 11."""
    assert set(BY_NAME) - set(GEOMETRY) == {"Ti-omega"}
    counts = np.bincount(neighbor_list("i", BY_NAME["Ti-omega"].atoms, 3.504))
    assert sorted(counts) == [11, 11, 14]


def test_icosahedron_of_alpha_boron():
    """Each atom has five neighbours in its icosahedron, and half of them one more between icosahedra."""
    counts = np.bincount(neighbor_list("i", BY_NAME["B-alpha-B12"].atoms, 1.87))
    assert sorted(counts) == [5] * 6 + [6] * 6
    assert 1.6 < BY_NAME["B-alpha-B12"].shortest_contact < 1.75
    # density of alpha-boron in handbooks: 2.46 g/cm^3
    assert BY_NAME["B-alpha-B12"].density == pytest.approx(2.46, abs=0.02)


def test_gamma_boron_is_icosahedra_and_pairs():
    """Two icosahedra (five neighbours inside, one bond out) and two B2 pairs; 2.52 g/cm^3 is measured."""
    phase = BY_NAME["B-gamma-B28"]
    assert phase.density == pytest.approx(2.52, abs=0.03)
    i, distance = neighbor_list("id", phase.atoms, 1.87)
    counts = np.bincount(i)
    assert sorted(counts) == [2] * 4 + [6] * 24
    assert distance[counts[i] == 2].max() == pytest.approx(1.736, abs=0.002)
    assert distance.min() == pytest.approx(1.664, abs=0.002)


def test_beta_boron_is_icosahedra_and_a_single_atom():
    """The single atom and the six around it, and 48 atoms in icosahedra: 12 whole and 36 shared among 8 corners."""
    phase = BY_NAME["B-beta-B105"]
    # rhombohedral cell: 10.17 Å and 65.2 degrees
    assert phase.atoms.cell.lengths() == pytest.approx([10.171] * 3, abs=1e-3)
    assert phase.atoms.cell.angles() == pytest.approx([65.2] * 3, abs=1e-3)
    i, j, distance = neighbor_list("ijd", phase.atoms, 1.95)
    counts = np.bincount(i)
    # every atom has the five neighbours of an icosahedron and one outside at least; the single atom has six
    assert counts.min() == 6
    assert distance.min() == pytest.approx(1.607, abs=1e-3)
    single = [k for k in range(105) if counts[k] == 6 and np.ptp(distance[i == k]) < 1e-3]
    assert len(single) == 1
    around = j[i == single[0]]
    assert distance[i == single[0]] == pytest.approx(1.695, abs=1e-3)
    assert len(set(around)) == 6
    # measured density: 2.33 to 2.35; the full model has 105 atoms where the crystal has nearly 107
    assert phase.density == pytest.approx(2.275, abs=1e-3)


@pytest.mark.skipif(find_spec("pymatgen") is None, reason="needs pymatgen")
def test_beta_boron_agrees_with_the_copy_in_pymatgen():
    """The AFLOW prototype as another project carries it: same cell, same positions."""
    root = Path(find_spec("pymatgen").submodule_search_locations[0])
    stored = root / "analysis" / "prototypes" / "aflow_prototypes.json.gz"
    if not stored.is_file():
        pytest.skip("this pymatgen keeps its prototypes elsewhere")
    entries = json.loads(gzip.decompress(stored.read_bytes()))
    sites = next(e["snl"] for e in entries if e["tags"]["aflow"] == "A_hR105_166_bc9h4i")
    theirs = Atoms(
        "B105",
        cell=sites["lattice"]["matrix"],
        scaled_positions=[s["abc"] for s in sites["sites"]],
        pbc=True,
    )
    strict = MatchSettings(volume_tolerance=1e-4, strain_tolerance=1e-4, site_tolerance=1e-3)
    assert same_structure(BY_NAME["B-beta-B105"].atoms, theirs, strict)


def test_large_phases_are_left_out_where_asked():
    assert names_of_phases("B") == tuple(p.name for p in named_phases("B"))
    assert "B-beta-B105" in names_of_phases("B", most_atoms=105)
    assert set(names_of_phases("B", most_atoms=104)) == set(names_of_phases("B")) - {"B-beta-B105"}
    assert names_of_phases("Ti", most_atoms=1) == ("Ti-bcc",)
    assert named_phase("Ti-bcc").atoms == BY_NAME["Ti-bcc"].atoms
    with pytest.raises(EvidenceError, match="no named phase 'Ti-fcc'"):
        named_phase("Ti-fcc")


@pytest.mark.parametrize("record", RECORDS, ids=lambda r: f"{r.element}-{r.key}")
def test_published_density_and_contact(record):
    phase = BY_NAME[f"{record.element}-{record.key}"]
    assert phase.space_group == record.space_group
    assert phase.source
    if record.density is not None:
        # the sources print two decimals
        assert phase.density == pytest.approx(record.density, abs=0.01)
    if record.shortest_contact is not None:
        assert phase.shortest_contact == pytest.approx(record.shortest_contact, abs=1e-3)


@pytest.mark.parametrize(
    ("name", "density"), [("C-diamond", 3.51), ("C-graphite", 2.26), ("Si-diamond", 2.329)]
)
def test_handbook_densities(name, density):
    assert BY_NAME[name].density == pytest.approx(density, abs=0.01)


@pytest.mark.parametrize("name", ["C-diamond", "Si-diamond", "Ti-hcp"])
def test_lattice_constants_agree_with_the_table_in_ase(name):
    """ASE's own table is an independent source for the common structures."""
    element = name.split("-")[0]
    state = reference_states[atomic_numbers[element]]
    cell = BY_NAME[name].atoms.cell
    if state["symmetry"] == "diamond":
        assert cell.lengths()[0] * np.sqrt(2) == pytest.approx(state["a"], abs=0.01)
    else:
        assert cell.lengths()[0] == pytest.approx(state["a"], abs=0.01)
        assert cell.lengths()[2] / cell.lengths()[0] == pytest.approx(state["c/a"], abs=0.005)


def test_denser_phases_are_denser():
    assert BY_NAME["Si-beta-tin"].density > 1.3 * BY_NAME["Si-diamond"].density
    assert BY_NAME["Si-oS24"].density < BY_NAME["Si-diamond"].density
    assert BY_NAME["Ti-omega"].density > BY_NAME["Ti-hcp"].density


def test_fresh_copies_and_no_calculator():
    first, second = named_phases("Si")[0], named_phases("Si")[0]
    first.atoms.positions += 1.0
    assert not np.allclose(first.atoms.positions, second.atoms.positions)
    assert second.atoms.calc is None
    assert second.atoms.pbc.all()


def test_what_is_left_out_is_said():
    assert elements_with_phases() == ("B", "C", "Si", "Ti")
    assert named_phases("Fe") == ()
    assert missing_phases("Fe") == {}
    offered = {p.name for p in named_phases("B")}
    for name, reason in missing_phases("B").items():
        assert f"B-{name}" not in offered
        assert reason


@pytest.mark.parametrize(
    ("site", "words"),
    [
        (("8f", 0.0, 0.0, 0.0), "expand to"),
        (("8f", 0.0, 0.0284, 0.5903), "cannot be expanded"),
        (("8f", 0.0, 0.05, 0.59), "Å apart"),
        (("4a", 0.0, 0.5705, 0.3412), "expand to"),
    ],
)
def test_wrong_coordinates_are_noticed(monkeypatch, site, words):
    """A coordinate that changes a multiplicity, or makes sites coincide, never becomes a phase."""
    good = next(r for r in RECORDS if r.key == "oS24")
    bad = _phase_data.PhaseRecord(
        good.element,
        good.key,
        good.label,
        good.space_group,
        good.setting,
        good.cell,
        (*good.sites[:2], site),
        "made up",
    )
    monkeypatch.setattr(_phase_data, "RECORDS", (bad,))
    with pytest.raises(EvidenceError, match=words):
        phases.named_phases("Si")


def test_the_documentation_lists_every_phase_and_every_gap():
    page = (Path(__file__).parents[3] / "docs" / "reference" / "phases.md").read_text(encoding="utf-8")
    for phase in ALL:
        assert f"| `{phase.name}` | {phase.space_group} |" in page
        assert phase.source in page
        assert f"{phase.density:.3f}" in page
    for element in elements_with_phases():
        for name, reason in missing_phases(element).items():
            assert f"`{element}-{name}`: {reason}" in page
