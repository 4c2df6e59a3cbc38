"""Presets of searches on the real queue, made small in a campaign file: workers killed at work, the same digest."""

from __future__ import annotations

import pytest
from gf_kills import Killed, kill_holder

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(900)]

HOT = """
preset: hot-airss
seed: 5
components:
  hot: {cells: 2, build: {atoms_min: 2, atoms_max: 4}, anneal: {time_ps: 0.4, checkpoint_steps: 50}}
  plain: {cells: 8, build: {atoms_min: 2, atoms_max: 4}}
search: {ranking: [{do: relax, within_eV: 0.3, most: 2}]}
execution: {build_chunk: 10, relax_chunk: 2, reference_chunk: 2}
"""
#: The presets are of carbon and ranked by DFT; here diamond is that of silicon, which an analytic potential ranks.
SILICON = "volume: {per_atom: [15, 26]}, separations: {value: 2.0}"
RANKING = """
  ranking:
    - {do: single-points, within_eV: 9, most: 5, reference: &sw {engine: ase, calculator: stillinger-weber}}
    - {do: relax, within_eV: 9, most: 2, reference: *sw, relax: {max_steps: 20}}
"""
DIRECT = f"""
preset: datum-derived
element: Si
seed: 5
components:
  small: {{cells: 6, build: {{atoms_max: 4, {SILICON}}}}}
  symmetric: {{cells: 4, build: {{atoms_max: 8, {SILICON}}}}}
reference: {{targets: [Si-diamond], features: {{cutoff: 5.7}}}}
search: {RANKING}
relax: {{max_steps: 100}}
execution: {{build_chunk: 10, relax_chunk: 5, reference_chunk: 5}}
"""
LEARNED = f"""
preset: datum-learned
element: Si
seed: 5
build: {{atoms_min: 2, atoms_max: 4, {SILICON}}}
reference: {{targets: [Si-diamond], features: {{cutoff: 5.7}}}}
crystals: {{diamond: {{count: 20}}}}
schedule: {{initial_cells: 20, cells_per_generation: 8, generations: 2}}
eddp:
  features: {{two_body: 6, three_body: 2}}
  network: {{hidden: [8]}}
  training: {{max_steps: 200, patience: 100}}
  ensemble: {{members: 6}}
relax: {{max_steps: 30}}
execution: {{build_chunk: 20, relax_chunk: 4, reference_chunk: 20, train_chunk: 3}}
"""
WITH_LEARNED = f"""
preset: datum-derived
element: Si
seed: 5
components:
  small: {{cells: 6, build: {{atoms_max: 4, {SILICON}}}}}
  symmetric: null
reference: {{targets: [Si-diamond], features: {{cutoff: 5.7}}}}
search:
  potential: {{campaign: learned}} {RANKING}
execution: {{build_chunk: 9, relax_chunk: 3, reference_chunk: 5}}
"""


def done_of(collection, task):
    """Return how many of a task's items are stored."""
    asked = {"campaign": task["campaign"], "generation": task["generation"]}
    return collection.count_documents({**asked, "index": {"$gte": task["start"], "$lt": task["stop"]}})


def unfinished(collection):
    """Return a condition: not all of a task's items are stored; they are many at once where they share a batch."""
    return lambda task: done_of(collection, task) < task["stop"] - task["start"]


def ranking(database, campaign, generation):
    return database.metrics.find_one({"campaign": campaign, "generation": generation})["evidence"]["ranking"]


def disturbed(place, database, name, *deaths):
    """Run a campaign with two workers, and kill them as they hold tasks of these kinds in this order."""
    run = place.start("campaign", "run", f"{name}.yaml", "--workers", "2", "--no-report")
    killed: list[Killed] = []
    for kind, midway in deaths:
        killed.append(kill_holder(database, run, kind, midway, killed))
    assert run.wait(600) == 0, place.log()
    assert len({one.pid for one in killed}) == len(deaths)
    for one in killed:
        one.require_lost(database)
    assert place.json("campaign", "status", name)["reason"].startswith(("every stage", "all "))
    return place.json("campaign", "digest", name)


@pytest.fixture
def undisturbed(place, tmp_path):
    """Return a function that runs campaigns one after the other, each with one worker; gives the digests by name."""
    other = type(place)(tmp_path / "undisturbed")

    def run(**files):
        for name, text in files.items():
            other.write(f"{name}.yaml", text)
            assert (
                other.start("campaign", "run", f"{name}.yaml", "--workers", "1", "--no-report").wait(600) == 0
            ), other.log()
        return {name: other.json("campaign", "digest", name) for name in files}

    yield run
    other.close()


def test_hot_search_beside_a_plain_one(place, stored, undisturbed) -> None:
    place.write("hot.yaml", HOT)
    database = stored(place)

    def annealing(step):
        def some(task):
            at = {"generation": 0, "index": {"$gte": task["start"], "$lt": task["stop"]}}
            return database.anneals.find_one({**at, "step": {"$gte": step}}) is not None

        return some

    # the second one dies at what the first has left
    digest = disturbed(place, database, "hot", ("relax", annealing(50)), ("relax", annealing(150)))
    rows = list(database.relaxations.find({"generation": 0}).sort("index", 1))
    annealed = [(row["anneal"] or {}).get("n_steps") for row in rows if row["status"] != "failed"]
    assert 400 in annealed
    assert [(row["anneal"] or {}).get("n_steps") for row in rows[2:]] == [None] * 8
    assert database.anneals.count_documents({}) == 0
    found = ranking(database, "hot", 0)
    assert found["considered"] + found["failed"] == 10
    searches = database.metrics.find_one({"generation": 0})["evidence"]["searches"]
    assert {name: one["cells"] for name, one in searches.items()} == {"hot": 2, "plain": 8}
    assert 1 <= ranking(database, "hot", 1)["considered"] <= 2
    assert undisturbed(hot=HOT) == {"hot": digest}


def test_structures_by_the_datum_cost_itself(place, stored, undisturbed) -> None:
    place.write("direct.yaml", DIRECT)
    database = stored(place)
    relaxing = unfinished(database.relaxations)
    digest = disturbed(place, database, "direct", ("relax", relaxing), ("relax", relaxing))
    assert database.potentials.count_documents({}) == 0
    costs = ranking(database, "direct", 0)
    assert costs["considered"] + costs["failed"] == 10
    # a cost, not an energy: nothing is below the target
    assert all(row["energy_eV_per_atom"] > -1e-6 for row in costs["rows"])
    labels = list(database.labels.find({"status": "done"}))
    assert 1 <= len(labels) <= 5
    assert {d["engine"] for d in labels} == {"ase"}
    assert ranking(database, "direct", 2)["considered"] >= 1
    assert undisturbed(direct=DIRECT) == {"direct": digest}


@pytest.mark.long
def test_structures_by_the_learned_datum_cost(place, stored, undisturbed) -> None:
    place.write("learned.yaml", LEARNED)
    place.write("derived.yaml", WITH_LEARNED)
    database = stored(place)
    relaxing = unfinished(database.relaxations)

    def training(task):
        # stored one by one: what is there is not trained again
        return 0 < done_of(database.networks, task) < task["stop"] - task["start"]

    digest = disturbed(place, database, "learned", ("train", training), ("relax", relaxing))
    fitted = database.potentials.find_one({"_id": "learned/g001"})
    # no energy was ever looked at
    assert {d["engine"] for d in database.labels.find()} == {"datum"}
    assert undisturbed(learned=LEARNED) == {"learned": digest}
    # and the search with it
    run = place.start("campaign", "run", "derived.yaml", "--workers", "2", "--no-report")
    assert run.wait(600) == 0, place.log()
    assert database.potentials.find_one({"campaign": "derived"})["digest"] == fitted["digest"]
    assert ranking(database, "derived", 2)["considered"] >= 1
