"""The protocol of 2022 from end to end: crystals, frames, evidence, studies; and a search that ends with it."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from gapfactory.reference.analytic import StillingerWeberSilicon
from launchpad.database.packing import unpack_array, unpack_atoms

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(400)]

ROOT = Path(__file__).parents[3]
CALCULATORS = ROOT / "tests" / "integration" / "reference"

GAP = """
gap:
  two_body: {enabled: false}
  three_body: {enabled: false}
  soap: {atom_sigma: 0.5, n_sparse: 60, n_max: 6, l_max: 4}
  delta: {fixed: [2.0]}
  sigma: {rule: adaptive}
dimers: {bond_lengths: 2}
reference: {engine: ase, calculator: stillinger-weber}
"""
ALONE = f"""
name: vib
element: Si
protocol: ndsc-2022
seed: 7
vibrations:
  parents:
    dia: {{prototype: diamond}}
    loose: {{prototype: diamond, relax: false, trained: false}}
    path: {{bain: {{of: dia, eta: 0.5}}, trained: false}}
  frames: {{primitives: 6, variants: 3, supercells: {{divisions: [2, 2, 2]}}}}
  held_out: 2
  unlabelled: 3
  phonons: {{grid: [2, 2, 2], dos_mesh: [8, 8, 8], compare_mesh: [4, 4, 4]}}
  studies: {{primitives: true, diagonal: true, static: true, learning: [5], single: {{divisions: [2, 2, 2]}}}}
{GAP}
evidence: {{phases: none, stability: {{enabled: false}}}}
select: {{noise_cells: 1}}
execution: {{evidence_parts: 2, reference_chunk: 10}}
"""


def labelled_with(database, stage: str) -> list[tuple[dict, dict]]:
    """Return the structures of a stage with their labels."""
    labels = {d["structure_hash"]: d for d in database.labels.find({"status": "done"})}
    found = database.structures.find({"stage": stage}).sort("index", 1)
    return [(document, labels.get(document["hash"])) for document in found]


@pytest.mark.long
def test_crystals_frames_evidence_and_studies(place, stored, tmp_path) -> None:
    place.write("vib.yaml", ALONE)
    process = place.start("campaign", "run", "vib.yaml", "--workers", "2", "--no-report")
    soon = time.monotonic() + 120
    kills = 0
    while process.poll() is None and kills < 2 and time.monotonic() < soon:
        time.sleep(2.0)
        listed = place.json("worker", "list")
        for pid in [worker["pid"] for worker in listed if worker["kind"] == "worker"][:1]:
            os.kill(pid, signal.SIGKILL)
            kills += 1
    assert process.wait(300) == 0
    assert kills == 2
    database = stored(place)
    assert database.campaigns.find_one({})["state"] == "done"

    # crystals: relaxed by the reference, or as they are; Bain's path has the volume of the relaxed one
    parents = {
        d["info"]["parent"]: unpack_atoms(d["atoms"]) for d in database.structures.find({"stage": "parent"})
    }
    a = (4 * parents["dia"].get_volume()) ** (1 / 3)
    assert a == pytest.approx(5.431, abs=1e-3)
    assert parents["loose"].get_volume() == pytest.approx(5.43**3 / 4, rel=1e-9)
    assert parents["path"].get_volume() == pytest.approx(parents["dia"].get_volume() / 2, rel=1e-9)

    # frames: 1 crystal, 6 strained, 3 of each of two supercells, 2 held out, 3 without labels
    frames = labelled_with(database, "displaced")
    roles = [document["info"]["role"] for document, _ in frames]
    assert roles == ["train"] * 13 + ["test"] * 2 + ["unlabelled"] * 3
    assert {document["info"]["parent"] for document, _ in frames} == {"dia"}
    assert [label is not None for _, label in frames] == [True] * 15 + [False] * 3
    (potential,) = database.potentials.find({})
    isolated = {d["_id"] for d in database.structures.find({"stage": {"$in": ["isolated", "dimer"]}})}
    assert set(potential["trained_on"]) - isolated == {d["_id"] for d, _ in frames[:13]}
    # sparse points may lie in frames without labels too
    assert potential["report"]["sparse_pool"] == len(potential["trained_on"]) + 3

    # evidence: never trained on, labelled by the reference itself
    for document, label in labelled_with(database, "evidence")[:5]:
        atoms = unpack_atoms(document["atoms"])
        atoms.calc = StillingerWeberSilicon()
        np.testing.assert_allclose(unpack_array(label["forces"]), atoms.get_forces(), atol=1e-9)
    rows = {(d["parent"], d["method"], d["variant"]): d for d in database.vibrations.find({})}
    variants = [
        "",
        "primitives",
        "diagonal",
        "equal-cost",
        "static",
        "learning-0005-own",
        "learning-0005-all",
    ]
    assert set(rows) == {
        (parent, *what)
        for parent in parents
        for what in [("reference", ""), *(("potential", variant) for variant in variants)]
    }
    # Stillinger and Weber's silicon: C11 = 151.4, C12 = 76.4, C44 = 56.4 GPa
    elastic = rows["dia", "reference", ""]["data"]["elastic"]["tensor"]
    stiffness = np.array(elastic["values_GPa"])
    assert stiffness[0, 0] == pytest.approx(151.4, abs=1.0)
    assert stiffness[3, 3] == pytest.approx(56.4, abs=1.0)
    # a place on the path is under stress, or unstable: phonons only
    assert rows["path", "reference", ""]["data"]["elastic"] is None
    assert rows["path", "reference", ""]["data"]["no_elastic"]

    # the potential of the generation knows the crystal better than the one without supercells
    errors = {v: rows["dia", "potential", v]["comparison"]["rmse_THz"] for v in variants}
    assert errors[""] < errors["primitives"]
    cost = {v: rows["dia", "potential", v]["fit"]["cost"] for v in variants}
    assert cost["learning-0005-own"] == cost["learning-0005-all"] < cost["static"] == cost[""]
    # equal cost: what is not used of the budget would not pay for one more supercell
    assert cost["equal-cost"] <= cost["diagonal"]
    assert rows["dia", "potential", "learning-0005-all"]["fit"]["n_energies"] == 5

    metrics = database.metrics.find_one({})["evidence"]
    assert set(metrics["vibrations"]) == set(parents)
    assert metrics["held_out"] == 2
    assert "THz RMS" in metrics["headline"]["vibrations dia"]
    first = place.json("campaign", "digest", "vib")
    other = type(place)(tmp_path / "other")
    try:
        # studies change nothing but what they add: the diagonal supercells
        other.write("vib.yaml", re.sub(r"\n  studies: .*", "", ALONE))
        other.good("campaign", "run", "vib.yaml", "--workers", "1", "--no-report")
        again = other.json("campaign", "digest", "vib")
        assert again.pop("structures") != first.pop("structures")
        assert again == first
    finally:
        other.close()


SEARCH = f"""
name: seek
element: Si
seed: 2
schedule: {{cells_per_generation: 12, initial_cells: 12, generations: 2}}
build: {{atoms_min: 2, atoms_max: 2}}
select: {{labels_per_generation: 6, held_out_per_generation: 2, noise_cells: 1}}
stop: {{label_budget: 16}}
relax: {{max_steps: 60}}
vibrations:
  minima: 2
  parents: {{dia: {{phase: diamond}}}}
  frames: {{primitives: 3, variants: 1, supercells: {{divisions: [2, 2, 2]}}}}
  held_out: 1
  most_frames: 6
  phonons: {{grid: [2, 2, 2], dos_mesh: [6, 6, 6], compare_mesh: [2, 2, 2]}}
{GAP.replace("n_sparse: 60", "n_sparse: 30")}
evidence: {{phases: [diamond], stability: {{duration_ps: 0.04, nve_ps: 0.02, n_atoms: 8, contacts_to: 0.6}}}}
execution: {{evidence_parts: 1, build_chunk: 12, relax_chunk: 12, reference_chunk: 10}}
"""


@pytest.mark.long
def test_a_search_ends_with_the_vibrations_of_its_minima(place, stored) -> None:
    place.write("seek.yaml", SEARCH)
    place.good("campaign", "run", "seek.yaml", "--workers", "2")
    database = stored(place)
    record = database.campaigns.find_one({})
    assert (record["state"], record["reason"]) == ("done", "vibrations and elasticity are measured")
    decided = {m["generation"]: (m["decision"], m["reason"]) for m in database.metrics.find({})}
    assert decided[1][0] == "continue"
    assert decided[1][1].startswith("the search is over: ")
    (diamond, *minima) = database.structures.find({"stage": "parent"}).sort("index", 1)
    assert diamond["info"]["parent"] == "dia"
    assert minima
    usable = [d for d in (diamond, *minima) if not d["info"]["reason"]]
    frames = list(database.structures.find({"stage": "displaced"}))
    selection = database.selections.find_one({"_id": "seek/g002"})
    named = {d["info"]["parent"] for d in frames}
    # a minimum that the reference turned into another crystal is left out, and said to be
    assert named <= {d["info"]["parent"] for d in usable}
    assert len(named) + len(selection["report"]["notes"]) == 1 + len(minima)
    # the last potential has learnt the search and the frames
    last, before = (set(database.potentials.find_one({"_id": f"seek/g00{g}"})["trained_on"]) for g in (2, 1))
    assert last - before == {d["_id"] for d in frames if d["info"]["role"] == "train"}
    assert before < last
    status = place.json("campaign", "status", "seek")
    assert status["state"] == "done"
    report = json.loads((place.directory / "seek-report" / "report.json").read_text())
    assert report["campaign"] == "seek"


UNLUCKY = f"""
name: unlucky
element: Si
protocol: ndsc-2022
vibrations:
  parents: {{dia: {{prototype: diamond}}}}
  frames: {{primitives: 4, variants: 1, supercells: {{divisions: [1, 1, 1]}}}}
  held_out: 0
  incomplete: %(incomplete)s
  phonons: {{supercells: diagonal, grid: [1, 1, 2], dos_mesh: [4, 4, 4], compare_mesh: [2, 2, 2]}}
{
    GAP.replace(
        "calculator: stillinger-weber",
        "calculator: gf_faulty_calculators.Faulty, parameters: {faults: {'4': raise}, once: %(once)s}, max_attempts: 1",
    )
}
evidence: {{phases: none, stability: {{enabled: false}}}}
select: {{noise_cells: 0}}
execution: {{evidence_parts: 1, reference_chunk: 10}}
"""


@pytest.mark.long
def test_what_the_reference_cannot_measure_by_halts_and_is_tried_again(place, stored) -> None:
    place.environment["PYTHONPATH"] = f"{CALCULATORS}:{ROOT}"
    place.environment["GAPFACTORY_CALCULATOR_MODULES"] = "gf_faulty_calculators"
    once = place.directory / "once"
    once.mkdir()
    # frames have two atoms, displaced cells four: the first of them fails
    place.write("unlucky.yaml", UNLUCKY % {"incomplete": "halt", "once": once})
    failed = place.run("campaign", "run", "unlucky.yaml", "--workers", "1", "--no-report")
    assert failed.returncode == 1
    said = " ".join(failed.stdout.split())
    assert "vibrations of dia cannot be measured: 1 of" in said
    assert "SCF did not converge" in said
    (lost,) = place.json("campaign", "why", "unlucky")["quarantined"]
    assert lost["role"] == "evidence"
    assert "1 labels to be tried again" in " ".join(
        place.good("campaign", "retry", "unlucky", "--run", "--workers", "1").split()
    )
    database = stored(place)
    (row,) = database.vibrations.find({"method": "potential"})
    assert row["comparison"]["rmse_THz"] > 0
    assert place.json("campaign", "status", "unlucky")["state"] == "done"

    # a person may go on without; labels under other settings are others, so the first of them fails again
    twice = place.directory / "twice"
    twice.mkdir()
    other = UNLUCKY.replace("name: unlucky", "name: other")
    place.write("other.yaml", other % {"incomplete": "report", "once": twice})
    place.good("campaign", "run", "other.yaml", "--workers", "1", "--no-report")
    told = database.metrics.find_one({"campaign": "other"})["evidence"]["vibrations"]["dia"]
    assert "1 of" in told["reason"]
    assert "SCF did not converge" in told["reason"]
