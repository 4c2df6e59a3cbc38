"""The protocol `search` on the real queue: cells relaxed with a given potential, ranked by the reference in stages."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from launchpad.dashboard.queries.campaigns import campaign_rows
from launchpad.database.packing import unpack_atoms
from launchpad.ranking import smallest_cell

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
CALCULATORS = ROOT / "tests" / "integration" / "reference"

SEARCH = """
element: Si
name: small
protocol: search
seed: 3
schedule: {cells_per_generation: 40}
build: {atoms_min: 2, atoms_max: 6}
relax: {max_steps: 150, pressure_scale_GPa: 0}
reference: {engine: ase, calculator: stillinger-weber}
search:
  targets: [diamond]
  listed: 12
  ranking:
    - {do: single-points, within_eV: 1.0, most: 8}
    - {do: relax, within_eV: 0.5, most: 4, relax: {force_threshold: 0.0001, cell_force_threshold: 0.0001}}
execution: {build_chunk: 20, relax_chunk: 5, reference_chunk: 2}
"""

#: Cells relaxed with the potential of another campaign, ranked by what that was fitted to.
BORROWED = """
element: Si
name: borrowed
protocol: search
schedule: {cells_per_generation: 6}
build: {atoms_min: 2, atoms_max: 4}
relax: {max_steps: 30}
reference: {engine: ase, calculator: stillinger-weber}
search:
  potential: %s
  ranking:
    - {do: single-points, within_eV: 9, most: 3, reference: {calculator: gf_faulty_calculators.Stronger}}
execution: {build_chunk: 6, relax_chunk: 3, reference_chunk: 2}
"""


def ranking(database, generation):
    # campaigns that fit have no ranking
    query = {"generation": generation, "evidence.ranking": {"$exists": True}}
    return database.metrics.find_one(query)["evidence"]["ranking"]


@pytest.mark.long
def test_diamond_ends_first_and_again_after_kills(place, stored, tmp_path) -> None:
    place.write("small.yaml", SEARCH)
    process = place.start("campaign", "run", "small.yaml", "--workers", "2")
    soon, kills = time.monotonic() + 180, 0
    while process.poll() is None and kills < 3 and time.monotonic() < soon:
        time.sleep(1.5)
        listed = place.json("worker", "list")
        for pid in [worker["pid"] for worker in listed if worker["kind"] == "worker"][:1]:
            with suppress(ProcessLookupError):  # one that was killed before may still be listed
                os.kill(pid, signal.SIGKILL)
                kills += 1
    assert kills == 3
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    assert place.json("campaign", "status", "small")["state"] == "running"
    place.good("campaign", "resume", "small", "--run", "--workers", "2")
    database = stored(place)
    first = place.json("campaign", "digest", "small")

    # the search: every cell relaxed at no pressure with the reference itself, which no label knows of
    assert database.relaxations.count_documents({"generation": 0}) == 40
    assert {d["pressure_gpa"] for d in database.relaxations.find({"generation": 0})} == {0.0}
    assert database.potentials.count_documents({}) == 0
    assert database.structures.count_documents({"stage": {"$in": ["isolated", "dimer"]}}) == 0
    found = ranking(database, 0)
    assert found["considered"] + found["failed"] == 40
    assert sum(row["encounters"] for row in found["rows"]) <= found["considered"]
    best = found["rows"][0]
    assert best["space_group"] == "Fd-3m (227)"
    # Stillinger and Weber 1985: exactly -2 epsilon
    assert best["energy_eV_per_atom"] == pytest.approx(-2 * 2.16826, abs=1e-3)
    searches = database.metrics.find_one({"generation": 0})["evidence"]["searches"]
    assert searches["random"]["targets"]["Si-diamond"]["found"] >= 1

    # single points of the lowest by the same energies change nothing
    points = ranking(database, 1)
    chosen = [row["id"] for row in found["rows"] if row["above_eV_per_atom"] <= 1.0][:8]
    assert [row["id"] for row in points["rows"]] == chosen
    assert [row["encounters"] for row in points["rows"]] == [
        r["encounters"] for r in found["rows"][: len(chosen)]
    ]
    assert database.labels.count_documents({"status": "done"}) == len(chosen)
    # of what repeats itself within the cell, the smallest cell is calculated
    frames = [unpack_atoms(d["atoms"]) for d in database.structures.find({"generation": 1, "stage": "frame"})]
    assert len(frames) == len(chosen)
    assert [len(atoms) for atoms in frames] == [len(smallest_cell(atoms)) for atoms in frames]

    # relaxed more tightly: diamond ends at its energy, and is itself
    last = ranking(database, 2)
    assert 0 < last["considered"] <= 4
    assert last["rows"][0]["space_group"] == "Fd-3m (227)"
    assert last["rows"][0]["start"] == chosen[0]
    assert last["rows"][0]["energy_eV_per_atom"] == pytest.approx(-2 * 2.16826, abs=1e-6)
    relaxed = list(database.relaxations.find({"generation": 2}).sort("index", 1))
    assert [d["start"] for d in relaxed] == chosen[: len(relaxed)]
    assert {d["status"] for d in relaxed} <= {"converged", "unconverged"}

    status = place.json("campaign", "status", "small")
    assert (status["state"], status["generations"], status["labels"]) == ("done", 3, len(chosen))
    assert status["reason"] == "every stage of the ranking is done"
    assert place.json("campaign", "why", "small")["failed_tasks"] == []
    (line,) = campaign_rows(database)
    assert (line["name"], line["generations"]) == ("small", 3)
    assert (place.directory / "small-report" / "index.html").is_file()

    other = type(place)(tmp_path / "other")
    try:
        other.write("small.yaml", SEARCH)
        other.good("campaign", "run", "small.yaml", "--workers", "1", "--no-report")
        assert other.json("campaign", "digest", "small") == first
    finally:
        other.close()


HALTED = """
element: Si
name: unlucky
protocol: search
seed: 3
schedule: {cells_per_generation: 8, quorum: 1}
build: {atoms_min: 2, atoms_max: 3}
relax: {max_steps: 60, pressure_scale_GPa: 0}
reference: {engine: ase, calculator: stillinger-weber}
search:
  ranking:
    - do: relax
      within_eV: 9
      most: 4
      reference:
        calculator: gf_faulty_calculators.Faulty
        parameters: {faults: {'2': raise}, once: %s}
        max_attempts: 1
execution: {build_chunk: 8, relax_chunk: 4, reference_chunk: 2}
"""


@pytest.mark.long
def test_relaxations_that_fail_are_listed_and_tried_again(place, stored) -> None:
    place.environment["PYTHONPATH"] = f"{CALCULATORS}:{ROOT}"
    place.environment["GAPFACTORY_CALCULATOR_MODULES"] = "gf_faulty_calculators"
    once = place.directory / "once"
    once.mkdir()
    place.write("unlucky.yaml", HALTED % once)
    halted = place.run("campaign", "run", "unlucky.yaml", "--workers", "1")
    assert halted.returncode == 1
    status = place.json("campaign", "status", "unlucky")
    assert status["state"] == "halted"
    assert "1 of 4 calculations of generation 1 failed" in status["reason"]
    (lost,) = [r for r in place.json("campaign", "why", "unlucky")["relaxations"]["listed"] if r["start"]]
    assert lost["status"] == "failed"
    assert "SCF did not converge" in lost["reason"]
    assert lost["start"].startswith("unlucky/g000/relaxation/")
    assert lost["id"] in place.good("campaign", "why", "unlucky")
    place.good("campaign", "retry", "unlucky", "--run", "--workers", "1")
    database = stored(place)
    assert place.json("campaign", "status", "unlucky")["state"] == "done"
    assert (ranking(database, 1)["considered"], ranking(database, 1)["failed"]) == (4, 0)


@pytest.mark.long
def test_the_potential_of_another_campaign_is_taken_over(tiny_campaign, place, stored, tmp_path) -> None:
    tiny_campaign.good("db", "export", str(tmp_path / "tiny.tar.gz"))
    place.good("db", "import", str(tmp_path / "tiny.tar.gz"))
    place.environment["PYTHONPATH"] = f"{CALCULATORS}:{ROOT}"
    place.environment["GAPFACTORY_CALCULATOR_MODULES"] = "gf_faulty_calculators"
    place.write("borrowed.yaml", BORROWED % "{campaign: tiny, generation: 0}")
    place.good("campaign", "submit", "borrowed.yaml")
    database = stored(place)
    source, own = (
        database.potentials.find_one({"campaign": n, "generation": 0}) for n in ("tiny", "borrowed")
    )
    assert (own["digest"], own["files"]) == (source["digest"], source["files"])
    assert own["report"]["given"] == {"campaign": "tiny", "generation": 0}
    # the other one may be gone
    database.potentials.delete_one({"_id": source["_id"]})
    place.good("campaign", "resume", "borrowed", "--run", "--workers", "1", "--no-report")
    found = ranking(database, 0)
    assert found["considered"] >= 1
    labels = list(database.labels.find({"campaign": "borrowed", "status": "done"}))
    assert 1 <= len(labels) <= 3
    # labelled by the stage's own reference, not the campaign's
    assert {d["details"]["calculator"] for d in labels} == {"gf_faulty_calculators.Stronger"}

    # the same from files: an export of it
    place.good("campaign", "export", "borrowed", "--out", "exported")
    text = (BORROWED % "{file: exported/potential}").replace("name: borrowed", "name: filed")
    place.write("filed.yaml", text)
    place.good("campaign", "submit", "filed.yaml")
    filed = database.potentials.find_one({"campaign": "filed", "generation": 0})
    assert filed["digest"] == own["digest"]
    assert filed["report"]["given"] == {"file": "exported/potential"}
