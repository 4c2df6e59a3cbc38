"""Two species from end to end with the built-in engine, with all terms and with pairs alone."""

from __future__ import annotations

import csv
import json

import pytest
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.io import write
from ase.lattice.compounds import L1_0, L1_2

from gapfactory.potentials import load_potential
from gapfactory.potentials.gap.xml import read_gap

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(300)]

ALLOY = """
composition: {Cu3Au: 1, CuAu: 1}
name: alloy
seed: 3
schedule: {cells_per_generation: 8, initial_cells: 16, generations: 2}
select: {noise_cells: 0, labels_per_generation: 5, held_out_per_generation: 1}
stop: {label_budget: 12}
build: {atoms_min: 2, atoms_max: 4}
dimers: {bond_lengths: 3}
execution: {reference_chunk: 12}
%(potential)s
reference: {engine: ase, calculator: emt}
evidence:
  stability: {duration_ps: 0.02, nve_ps: 0.02, n_atoms: 8}
  known: {L12: {file: L12.cif}, L10: {file: L10.xyz}}
"""
GAP = """
relax: {max_steps: 20%(relax)s}
gap:
  two_body: {n_sparse: 10}
  three_body: {n_sparse: 15, enabled: %(more)s}
  soap: {n_sparse: 20, n_max: 4, l_max: 3, enabled: %(more)s}
"""
NETWORKS = """
relax: {max_steps: 20, max_spread: 5.0}
potential: eddp
eddp:
  features: {two_body: 4, three_body: 2}
  network: {hidden: [4]}
  training: {max_steps: 60}
  ensemble: {members: 2}
"""


@pytest.mark.parametrize("more", [True, False], ids=["all terms", "pairs alone"])
def test_a_binary_runs_from_end_to_end(place, more) -> None:
    relax = ", max_uncertainty: 0.3" if more else ""
    potential = GAP % {"more": str(more).lower(), "relax": relax}
    place.write("alloy.yaml", ALLOY % {"potential": potential})
    write(place.directory / "L12.cif", L1_2(("Au", "Cu"), latticeconstant=3.74))
    write(place.directory / "L10.xyz", L1_0(("Cu", "Au"), latticeconstant={"a": 3.98, "c": 3.72}))
    place.good("campaign", "run", "alloy.yaml", "--workers", "1", "--out", "report")
    place.good("campaign", "export", "alloy", "--out", "exported")
    state = place.json("campaign", "status", "alloy")
    assert state["state"] == "done"
    assert state["labels"] == 12
    assert state["relaxations"] != {"failed": 8}
    model = read_gap(place.directory / "exported" / "potential" / "gap.xml")
    kinds = [term.kind for term in model.terms]
    expected = {"distance_2b": 3, "angle_3b": 6, "soap": 2} if more else {"distance_2b": 3}
    assert {kind: kinds.count(kind) for kind in kinds} == expected
    report = json.loads((place.directory / "report" / "report.json").read_text())
    assert report["state"] == "done"
    with (place.directory / "report" / "formation.csv").open() as stream:
        formation = list(csv.DictReader(stream))
    assert {row["structure"] for row in formation} > {"L10", "L12"}
    assert {round(float(row["fraction_Cu"]), 3) for row in formation} == {0.5, 0.75}
    labelled = [row for row in formation if row["above_hull_eV_per_atom"]]
    assert len(labelled) == 12
    assert min(float(row["above_hull_eV_per_atom"]) for row in labelled) == 0.0
    assert (place.directory / "report" / "formation.png").exists()
    # the same numbers by the command of figures
    asked = place.json("figure", "formation-energies", "alloy")["rows"]
    numbers = {row["structure"]: row["formation_eV_per_atom"] for row in asked}
    assert numbers == {row["structure"]: float(row["formation_eV_per_atom"]) for row in formation}
    with (place.directory / "report" / "similarity_map.csv").open() as stream:
        assert {row["composition"] for row in csv.DictReader(stream)} <= {"AuCu", "AuCu3"}
    # of both crystals the reference has a curve; so early, not every potential has one
    with (place.directory / "report" / "energy_volume.csv").open() as stream:
        curves = {(row["phase"], row["method"]) for row in csv.DictReader(stream)}
    assert {("L10", "reference"), ("L12", "reference")} <= curves
    assert all(12.0 < row["reference_volume_A3_per_atom"] < 17.0 for row in report["phases"])


def test_a_binary_with_networks(place) -> None:
    place.write("alloy.yaml", ALLOY % {"potential": NETWORKS})
    write(place.directory / "L12.cif", L1_2(("Au", "Cu"), latticeconstant=3.74))
    write(place.directory / "L10.xyz", L1_0(("Cu", "Au"), latticeconstant={"a": 3.98, "c": 3.72}))
    place.good("campaign", "run", "alloy.yaml", "--workers", "1", "--no-report")
    assert place.json("campaign", "status", "alloy")["labels"] == 12
    place.good("campaign", "export", "alloy", "--out", "exported")
    assert "ensemble of networks" in (place.directory / "exported" / "README.md").read_text()
    network = load_potential(place.directory / "exported" / "potential")
    # it tells the two elements apart, and has forces and stresses of its energies
    energies = []
    for order in (("Au", "Cu"), ("Cu", "Au")):
        atoms = L1_2(order, latticeconstant=3.9)
        atoms.rattle(0.05, seed=1)
        atoms.calc = network
        energies.append(atoms.get_potential_energy())
        assert atoms.get_forces() == pytest.approx(calculate_numerical_forces(atoms, eps=1e-4), abs=1e-4)
        assert atoms.get_stress() == pytest.approx(calculate_numerical_stress(atoms, eps=1e-5), abs=1e-4)
    assert abs(energies[0] - energies[1]) > 0.01
