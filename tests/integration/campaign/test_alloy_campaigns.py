"""Two species from end to end with the built-in engine, with all terms and with pairs alone."""

from __future__ import annotations

import json

import pytest

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
relax: {max_steps: 20%(relax)s}
gap:
  two_body: {n_sparse: 10}
  three_body: {n_sparse: 15, enabled: %(more)s}
  soap: {n_sparse: 20, n_max: 4, l_max: 3, enabled: %(more)s}
reference: {engine: ase, calculator: emt}
evidence: {stability: {duration_ps: 0.02, nve_ps: 0.02, n_atoms: 8}}
"""


@pytest.mark.parametrize("more", [True, False], ids=["all terms", "pairs alone"])
def test_a_binary_runs_from_end_to_end(place, more) -> None:
    relax = ", max_uncertainty: 0.3" if more else ""
    place.write("alloy.yaml", ALLOY % {"more": str(more).lower(), "relax": relax})
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
