"""Rounds of robustness on the real queue: a potential that fails its trial, a killed worker, an end by survival."""

from __future__ import annotations

import csv

import pytest
from gf_kills import kill_holder

pytestmark = [pytest.mark.long, pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(900)]

#: A potential of ten labels of random cells, and rounds that begin with diamond and its melt.
TEXT = """
preset: demo-de-novo
name: rounds
seed: 1
schedule: {cells_per_generation: 24, initial_cells: 40, generations: 1}
select: {labels_per_generation: 10, held_out_per_generation: 2}
stop: {label_budget: 12}
gap: {soap: {n_sparse: 80, n_max: 4, l_max: 3}}
evidence: {stability: {duration_ps: 0.4, nve_ps: 0.1, n_atoms: 16, contacts_to: 0.6}}
robustness:
  when: failed
  rounds: 3
  time_ps: 0.4
  frames: 6
  labels: 10
  held_out: 1
  starts:
    bulk: {cells: 3, atoms: 8}
    liquid: {cells: 1, atoms: 8, temperature_factor: 1.5}
execution: {build_chunk: 40, relax_chunk: 2, reference_chunk: 12}
"""


def test_rounds_end_when_the_potential_survives_whoever_dies(place, stored, tmp_path) -> None:
    place.write("rounds.yaml", TEXT)
    database = stored(place)
    run = place.start("campaign", "run", "rounds.yaml", "--workers", "2", "--out", "report")

    def at_work(task):
        """Whether it is a task of a round's runs, some of which are not there yet."""
        at = {"generation": 1, "index": {"$gte": task["start"], "$lt": task["stop"]}}
        there = database.relaxations.count_documents(at)
        return task["generation"] == 1 and there < task["stop"] - task["start"]

    killed = kill_holder(database, run, "relax", at_work)
    assert run.wait(600) == 0, place.log()
    killed.require_lost(database)

    # two rounds are not needed
    state = place.json("campaign", "status", "rounds")
    assert "survives its molecular dynamics, in round 1 of robustness" in state["reason"]
    before, after = database.metrics.find().sort("generation", 1)
    assert [one["evidence"]["stability"]["dynamics"]["survived"] for one in (before, after)] == [False, True]
    assert (before["labels"], after["labels"]) == (12, 23)
    # what the failing potential did with its crystal was labelled: frames before atoms came too close
    runs = list(database.relaxations.find({"generation": 1}))
    assert len(runs) == 4
    assert all(
        "closer" in one["reason"] or "apart" in one["reason"] for one in runs if one["status"] == "failed"
    )
    assert any(one["status"] == "failed" for one in runs)
    trained = database.potentials.find_one({"generation": 1})["trained_on"]
    assert sum(key.startswith("rounds/g001/relaxation/") for key in trained) == 10

    # the report tells trial by trial
    with (place.directory / "report" / "trials.csv").open() as stream:
        trials = list(csv.DictReader(stream))
    assert [int(row["labels"]) for row in trials] == [12, 23]
    assert (place.directory / "report" / "trials.png").exists()

    other = type(place)(tmp_path / "undisturbed")
    other.write("rounds.yaml", TEXT)
    try:
        alone = other.start("campaign", "run", "rounds.yaml", "--workers", "1", "--no-report")
        assert alone.wait(600) == 0, other.log()
        assert other.json("campaign", "digest", "rounds") == place.json("campaign", "digest", "rounds")
    finally:
        other.close()
