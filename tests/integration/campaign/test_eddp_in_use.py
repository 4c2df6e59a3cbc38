"""What a chain of EDDPs is for: its spread chooses labels and rejects ends, its networks and a cost give vibrations."""

from __future__ import annotations

import numpy as np
import pytest
from gf_phonopy import frequencies

from gapfactory.analysis.vibrations import Vibrations
from gapfactory.campaign.load import parse_campaign
from gapfactory.potentials import load_potential
from gapfactory.reference import calculator_of
from launchpad.database.packing import unpack_atoms
from launchpad.database.potentials import cached_potential
from launchpad.ranking import ranking_of
from launchpad.searches import searches_in

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(400)]

NETWORKS = """
element: Si
potential: eddp
eddp:
  features: {cutoff: 4.0, two_body: 4, three_body: 2}
  network: {hidden: [3]}
  training: {fractions: [0.6, 0.2, 0.2], max_steps: 30, patience: 10}
  ensemble: {members: 5, outlier: 20}
seed: 3
dimers: {bond_lengths: 2}
select: {noise_cells: 0}
vibrations:
  parents: {dia: {phase: diamond}}
  frames: {primitives: 8, variants: 1, supercells: {divisions: [2, 2, 2]}}
  held_out: 1
  phonons: {grid: [2, 2, 2], supercells: diagonal, displacement: 0.01, dos_mesh: [4, 4, 4], compare_mesh: [2, 2, 2]}
execution: {build_chunk: 30, relax_chunk: 15, reference_chunk: 30, train_chunk: 5, evidence_parts: 1}
"""
CHAIN = f"""
name: chain
protocol: eddp-chain
{NETWORKS}
build: {{atoms_min: 2, atoms_max: 4}}
schedule: {{cells_per_generation: 12, initial_cells: 16, generations: 2, quorum: 0.8}}
crystals: {{diamond: {{phase: diamond, count: 4, joins: first}}}}
chain: {{best: 6, copies: 1, uncertain: 0.5}}
relax: {{max_steps: 25, max_spread: 0.3, pressure_range_GPa: [0, 5]}}
stop: {{label_budget: 100}}
reference: {{engine: ase, calculator: stillinger-weber}}
evidence: {{phases: none, stability: {{enabled: false}}}}
"""
SEARCH = """
name: after
element: Si
protocol: search
potential: eddp
seed: 4
schedule: {cells_per_generation: 20, quorum: 0.1}
build: {atoms_min: 2, atoms_max: 4}
relax: {max_steps: 60, max_spread: %s, pressure_scale_GPa: 0, force_threshold: 0.1, cell_force_threshold: 0.1}
reference: {engine: ase, calculator: stillinger-weber}
search: {potential: {campaign: chain, generation: 1}}
evidence: {phases: none}
"""
COST = f"""
name: cost
protocol: ndsc-2022
{NETWORKS.replace("{fractions", "{split: plain, fractions")}
reference: {{engine: datum, targets: [Si-diamond]}}
evidence: {{phases: none, stability: {{enabled: false}}}}
"""


def measured(database, name):
    """Return the crystal, and vibrations by reference and potential."""
    rows = {
        d["method"]: Vibrations.from_dict(d["data"]) for d in database.vibrations.find({"campaign": name})
    }
    return rows["reference"].crystal, rows["reference"].phonons, rows["potential"].phonons


def potential_of(database, name):
    record = database.potentials.find({"campaign": name}).sort("generation", -1).limit(1)[0]
    return load_potential(cached_potential(database, record))


@pytest.mark.long
def test_the_spread_steers_and_rejects_and_vibrations_are_those_of_the_networks(place, stored) -> None:
    place.write("chain.yaml", CHAIN)
    place.good("campaign", "run", "chain.yaml", "--workers", "2", "--no-report")
    database = stored(place)
    assert database.campaigns.find_one({})["state"] == "done"

    # half of the labelled ends are those of which the networks of generation 0 are least certain
    rows = [
        r
        for r in database.relaxations.find({"generation": 1})
        if r["status"] != "failed" and r["final_energy_per_atom"] is not None
    ]
    chosen = database.selections.find_one({"_id": "chain/g001"})["train"]
    ends = [
        d
        for d in (database.structures.find_one({"_id": key}) for key in chosen)
        if d["info"].get("snapshot") == "end"
    ]
    doubt = {r["_id"]: r["uncertainty"] for r in rows}
    order = sorted(doubt, key=lambda key: (-doubt[key], key))
    assert [d["info"]["relaxation"] for d in ends[:3]] == order[:3]
    assert [d["info"]["uncertainty"] for d in ends] == [doubt[d["info"]["relaxation"]] for d in ends]
    first = load_potential(cached_potential(database, database.potentials.find_one({"generation": 0})))
    for end in ends:
        atoms = unpack_atoms(end["atoms"])
        atoms.calc = first
        atoms.get_potential_energy()
        assert atoms.calc.results["uncertainty"] == pytest.approx(end["info"]["uncertainty"], abs=1e-9)

    # phonons that the campaign stores are phonopy's own with the stored files in ASE
    crystal, _, ours = measured(database, "chain")
    theirs = frequencies(
        crystal, potential_of(database, "chain"), (2, 2, 2), ours.mesh_vectors, displacement=0.01
    )
    np.testing.assert_allclose(ours.mesh_frequencies, theirs, atol=1e-3)
    assert np.abs(theirs).max() > 1.0

    # a limit in the measure of the other family says nothing here
    wrong = (SEARCH % 0.2).replace("max_spread", "max_uncertainty").replace("potential: eddp\n", "")
    place.write("wrong.yaml", wrong)
    refused = place.run("campaign", "submit", "wrong.yaml")
    assert refused.returncode == 1
    said = " ".join(refused.stderr.replace("│", " ").split())
    assert "relax.max_uncertainty is 0.2, which is the measure of a GAP" in said

    # a search with these networks ranks no end of which they are less certain than it may be
    place.write("free.yaml", (SEARCH % 1000).replace("name: after", "name: free"))
    place.good("campaign", "run", "free.yaml", "--workers", "1", "--no-report")
    found = [r for r in database.relaxations.find({"campaign": "free"}) if r["status"] == "converged"]
    spreads = sorted(r["uncertainty"] for r in found)
    assert len(spreads) >= 4
    limit = 0.5 * (spreads[len(spreads) // 2 - 1] + spreads[len(spreads) // 2])
    place.write("after.yaml", SEARCH % limit)
    place.good("campaign", "run", "after.yaml", "--workers", "1", "--no-report")
    rows = list(database.relaxations.find({"campaign": "after"}))
    good = {r["_id"] for r in rows if r["status"] != "failed" and r["uncertainty"] <= limit}
    beyond = {r["_id"] for r in rows if r["status"] != "failed"} - good
    assert good
    assert beyond
    ranking = ranking_of(database, "after", 0)
    assert ranking["considered"] == len(good)
    assert ranking["failed"] == 20 - len(good)
    assert {row["id"].split("/frame/")[0] for row in ranking["rows"]} <= good
    (search,) = searches_in(lambda: database, "after", unconverged=True)
    assert {one.name for one in search.found} == good
    assert (
        f"{len(beyond)} of 20 relaxations of random ended where the potential is too uncertain"
        in search.notes[0]
    )


@pytest.mark.long
def test_vibrations_of_a_learned_cost(place, stored) -> None:
    place.write("cost.yaml", COST)
    place.good("campaign", "run", "cost.yaml", "--workers", "2", "--no-report")
    database = stored(place)
    assert database.campaigns.find_one({})["state"] == "done"
    crystal, reference, ours = measured(database, "cost")
    cost = calculator_of(parse_campaign(COST).reference)
    for found, calculator in ((reference, cost), (ours, potential_of(database, "cost"))):
        theirs = frequencies(crystal, calculator, (2, 2, 2), found.mesh_vectors, displacement=0.01)
        np.testing.assert_allclose(found.mesh_frequencies, theirs, atol=2e-3)
        assert np.abs(theirs).max() > 1.0
