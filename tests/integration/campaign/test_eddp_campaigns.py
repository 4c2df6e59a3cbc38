"""Campaigns that fit ephemeral data-derived potentials, by each protocol that suits them, small and to the end."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
from gf_kills import Killed, kill_holder

from launchpad.database.packing import unpack_atoms

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(400)]

NETWORKS = """
potential: eddp
eddp:
  features: {cutoff: 4.0, two_body: 4, three_body: 2}
  network: {hidden: [3]}
  training: {fractions: [0.6, 0.2, 0.2], max_steps: 30, patience: 10}
  ensemble: {members: 5, outlier: 20}
"""
SMALL = """
name: small
seed: 3
schedule: {cells_per_generation: %(cells)d, initial_cells: 16, generations: %(generations)d, quorum: 0.8}
select: {noise_cells: 1, labels_per_generation: 12, held_out_per_generation: 2, minima: all}
build: {atoms_min: 2, atoms_max: 4}
evidence: {phases: [diamond], stability: {duration_ps: 0.04, nve_ps: 0.02, n_atoms: 8, contacts_to: 0.6}}
execution: {build_chunk: 20, relax_chunk: 7, reference_chunk: 20, train_chunk: 2}
reference: {engine: ase, calculator: stillinger-weber}
"""
FUNNEL = (
    (
        f"""
preset: quickstart-Si-analytic
{SMALL}{NETWORKS}
relax: {{max_steps: 15, max_spread: 5.0}}
stop: {{label_budget: 28}}
"""
    )
    .replace("%(cells)d", "14")
    .replace("%(generations)d", "2")
)
SNAPSHOTS = f"""
element: Si
protocol: boron-2018
{SMALL}{NETWORKS}
relax: {{max_steps: 12}}
crystals: {{diamond: {{phase: diamond, count: 4, joins: first}}}}
final_fit: {{network: {{hidden: [4]}}}}
""".replace("%(cells)d", "6").replace("%(generations)d", "3")
CHAIN = f"""
preset: quickstart-eddp
{SMALL}{NETWORKS}
relax: {{max_steps: 15}}
chain: {{best: 4, copies: 2}}
crystals: {{diamond: {{count: 4}}}}
""".replace("%(cells)d", "6").replace("%(generations)d", "3")


def potential(database, generation: int):
    return database.potentials.find_one({"_id": f"small/g{generation:03d}"})


@pytest.mark.long
def test_the_funnel_with_networks_and_again_after_kills(place, stored, tmp_path) -> None:
    place.write("small.yaml", FUNNEL)
    database = stored(place)

    def training(task):
        # some networks are stored, not all of both generations, and not all of this task
        if database.networks.count_documents({}) not in range(1, 10):
            return False
        asked = {"generation": task["generation"], "index": {"$gte": task["start"], "$lt": task["stop"]}}
        return database.networks.count_documents(asked) < task["stop"] - task["start"]

    process = place.start("campaign", "run", "small.yaml", "--workers", "2")
    killed: list[Killed] = []
    for _ in range(2):
        killed.append(kill_holder(database, process, "train", training, killed))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    place.good("campaign", "resume", "small", "--run", "--workers", "2")
    assert database.campaigns.find_one({})["state"] == "done"
    for one in killed:
        one.require_lost(database)
    # no isolated atoms and no dimers: the networks take neither
    assert database.structures.count_documents({"stage": {"$in": ["isolated", "dimer"]}}) == 0
    assert database.networks.count_documents({}) == 10
    for generation in (0, 1):
        record = potential(database, generation)
        names = [file["name"] for file in record["files"]]
        assert names[0] == "potential.eddp"
        assert names[-1] == "manifest.json"
        report = record["report"]
        assert report["members"]["trained"] == 5
        assert report["members"]["kept"] == len(names) - 2
        assert set(report["errors"]) == {"train", "validation", "test", "unrelated"}
        assert not set(record["trained_on"]) & set(report["tested_on"])
        assert {*record["trained_on"], *report["tested_on"]} == set(report["residuals"])
    evidence = database.metrics.find_one({"generation": 1})["evidence"]
    assert evidence["headline"]["energy_rmse_meV"] > 0.0
    report = json.loads((place.directory / "small-report" / "report.json").read_text())
    assert report
    first = place.json("campaign", "digest", "small")
    other = type(place)(tmp_path / "other")
    try:
        other.write("small.yaml", FUNNEL)
        other.good("campaign", "run", "small.yaml", "--workers", "1", "--no-report")
        assert other.json("campaign", "digest", "small") == first
        assert not (other.directory / "small-report").exists()
    finally:
        other.close()


@pytest.mark.long
def test_snapshots_and_a_final_fit_with_networks(place, stored) -> None:
    place.write("small.yaml", SNAPSHOTS)
    place.good("campaign", "run", "small.yaml", "--workers", "2", "--no-report")
    database = stored(place)
    assert database.campaigns.find_one({})["state"] == "done"
    # the last generation labels nothing and trains other networks on the same data
    used = [
        {*potential(database, g)["trained_on"], *potential(database, g)["report"]["tested_on"]}
        for g in (1, 2)
    ]
    assert used[0] == used[1]
    assert potential(database, 1)["digest"] != potential(database, 2)["digest"]
    sizes = [n["text"].splitlines()[1].split()[1] for n in database.networks.find({}).sort("generation", 1)]
    assert sizes == ["3"] * 10 + ["4"] * 5
    # structures of one relaxation stay on one side of the split
    for generation in (1, 2):
        record = potential(database, generation)
        sides: dict[str, set[bool]] = {}
        for trained, keys in ((True, record["trained_on"]), (False, record["report"]["tested_on"])):
            for key in keys:
                sides.setdefault(key.split("/frame/")[0], set()).add(trained)
        relaxed = {key: side for key, side in sides.items() if "/relaxation/" in key}
        assert len(relaxed) >= 4
        assert all(len(side) == 1 for side in relaxed.values())


@pytest.mark.long
def test_the_chain(place, stored) -> None:
    place.write("small.yaml", CHAIN)
    place.good("campaign", "run", "small.yaml", "--workers", "2", "--no-report")
    database = stored(place)
    assert database.campaigns.find_one({})["state"] == "done"
    for generation in (1, 2):
        chosen = database.selections.find_one({"_id": f"small/g{generation:03d}"})["train"]
        structures = {d["_id"]: d for d in database.structures.find({"_id": {"$in": chosen}})}
        ends = [structures[key] for key in chosen if structures[key]["stage"] == "frame"]
        copies = [structures[key] for key in chosen if structures[key]["stage"] == "distorted"]
        assert 1 <= len(ends) <= 4
        assert len(copies) <= 2 * len(ends)
        rows = list(database.relaxations.find({"generation": generation}))
        assert all(0.0 <= row["pressure_gpa"] <= 5.0 for row in rows)
        assert len({row["pressure_gpa"] for row in rows}) == 6
        # those of the lowest enthalpy at the mean pressure, and none that failed
        ended = [r for r in rows if r["status"] != "failed"]
        order = sorted(
            ended, key=lambda r: r["final_energy_per_atom"] + 2.5 / 160.2176634 * r["final_volume_per_atom"]
        )
        assert [end["info"]["relaxation"] for end in ends] == [r["_id"] for r in order[:4]]
        for copy in copies:
            (end,) = [e for e in ends if e["info"]["relaxation"] == copy["info"]["relaxation"]]
            old, new = unpack_atoms(end["atoms"]), unpack_atoms(copy["atoms"])
            assert len(old) == len(new)
            strain = np.linalg.solve(old.cell.array, new.cell.array) - np.eye(3)
            assert 0.0 < np.abs(strain).max() <= 0.05 + 1e-12
            moved = new.get_scaled_positions(wrap=False) - old.get_scaled_positions(wrap=False)
            assert 0.0 < np.abs(moved - np.round(moved)).max() < 0.3
        report = potential(database, generation)["report"]
        assert report["errors"]["test"]["n_structures"] == len(report["tested_on"])
        origins = database.metrics.find_one({"generation": generation})["evidence"]["energies"]
        assert set(origins) == {"end", "shaken"}
