"""Both protocols of 2018 from end to end at a small size: what is labelled, under which pressure, fitted to what."""

from __future__ import annotations

import json
import os
import signal
import time
from contextlib import suppress

import pytest

from launchpad.database.packing import unpack_array, unpack_atoms
from launchpad.database.results import frame_atoms

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(400)]

#: Silicon with an analytic reference; a preset's numbers of cells, generations and crystals made small.
SMALL = """
preset: boron-2018-%(preset)s
name: small
element: Si
seed: 3
components:
%(components)s
crystals: {alpha: null, beta: null, gamma: null, alpha-Ga: null, %(crystals)s}
schedule: {generations: %(generations)d, quorum: 0.8}
dimers: {bond_lengths: 4}
select: {noise_cells: 1}
relax: {max_steps: 12}
snapshots: {minima_only_from: %(minima)s}
gap:
  two_body: {n_sparse: 6}
  three_body: {n_sparse: 6, cutoff_covalent_in_r: 2.9}
  soap: {n_sparse: 12, n_max: 3, l_max: 2}
final_fit: {soap: {n_max: 4, l_max: 3}}
reference: {engine: ase, calculator: stillinger-weber}
evidence: {phases: [diamond], stability: {duration_ps: 0.04, nve_ps: 0.02, n_atoms: 8, contacts_to: 0.6}}
execution: {build_chunk: 6, relax_chunk: 3, reference_chunk: 12}
%(more)s
"""
FREE = "  free: {cells: 3, initial_cells: 6, build: {atoms_max: 4}}"
PREPRINT = SMALL % {
    "preset": "preprint",
    "components": f"""{FREE}
  twelve: {{cells: 2, initial_cells: 4, build: {{atoms_min: 4, atoms_max: 4}}}}
  units: {{cells: 2, initial_cells: 2, build: {{contents: {{formula_units: 2}}, units: [{{name: Si12}}],
          symmetry_operations_min: 2, symmetry_operations_max: 2}}}}
  look:
    cells: 8
    labelled: false
    targets: [diamond]
    generations: [1, 3]
    build: {{atoms_min: 2, atoms_max: 2, symmetry_operations_min: 2, symmetry_operations_max: 8}}
  tight:
    cells: 4
    labelled: false
    targets: [diamond]
    potential: final
    pressure_scale_GPa: 0
    build: {{atoms_min: 2, atoms_max: 2, symmetry_operations_min: 2, symmetry_operations_max: 8}}""",
    "crystals": "diamond: {phase: diamond, count: 3, joins: first}",
    "generations": 4,
    "minima": "null",
    "more": "",
}
LETTER = SMALL % {
    "preset": "prl",
    "components": f"""{FREE}
  ordered: {{cells: 3, initial_cells: 6, build: {{contents: {{formula_units: 4}}}}}}""",
    "crystals": "diamond: {phase: diamond, count: 3}, given: {file: models.extxyz, count: 4}",
    "generations": 5,
    "minima": 2,
    "more": "",
}


def write_models(place) -> None:
    """Write two crystals into a file beside the campaign file."""
    cell = 'Lattice="%s 0 0 0 3.8 0 0 0 4.0" Properties=species:S:1:pos:R:3 pbc="T T T"'
    place.write(
        "models.extxyz",
        f"2\n{cell % '5.0'}\nSi 0 0 0\nSi 2.4 1.9 0.3\n3\n{cell % '6.8'}\nSi 0 0 0\nSi 2.3 1.9 0\nSi 4.5 0 1\n",
    )


def labels_by_origin(database, generation: int) -> dict[str, int]:
    """Return how many labels of a generation's picks there are, by what they are of."""
    from launchpad.database.campaigns import campaign_of, require_campaign
    from launchpad.database.dataset import pick_items, with_labels
    from launchpad.training_set import last_frames, origin_of

    campaign = campaign_of(require_campaign(database, "small"))
    items = pick_items(database, campaign, generation)
    last = last_frames(database, items)
    found: dict[str, int] = {}
    for entry in with_labels(database, campaign, items):
        assert entry.label is not None
        origin = origin_of(entry.item, last)
        found[origin] = found.get(origin, 0) + 1
    return found


def snapshots_expected(database, generation: int, *, early: bool = True, below: int = 99) -> dict[str, int]:
    """Return how many snapshots the relaxations of the first cells, as they ended, must give."""
    ends = steps = 0
    for relaxation in database.relaxations.find({"generation": generation, "index": {"$lt": below}}):
        reached = list(unpack_array(relaxation["steps"]))
        sound = relaxation["status"] != "failed" and bool(reached)
        ends += sound
        steps += 5 in reached and not (sound and reached[-1] == 5)
    found = {"end": ends, "step 5": steps if early else 0}
    return {origin: n for origin, n in found.items() if n}


def trained_on(database, generation: int) -> set[str]:
    """Return what kinds of crystals and picks a potential was trained on."""
    return set(database.potentials.find_one({"_id": f"small/g{generation:03d}"})["trained_on"])


def potential_at(database, generation: int):
    """Return a function from a structure to its energy by the potential of a generation."""
    from gapfactory.potentials.gap import load_potential
    from launchpad.database.potentials import cached_potential, require_potential

    calculator = load_potential(cached_potential(database, require_potential(database, "small", generation)))

    def energy(atoms) -> float:
        atoms.calc = calculator
        return atoms.get_potential_energy()

    return energy


def pressures(database, generation: int) -> list[float]:
    return [r["pressure_gpa"] for r in database.relaxations.find({"generation": generation})]


def components(database, generation: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for cell in database.structures.find({"generation": generation, "stage": "cell"}):
        found[cell["info"]["component"]] = found.get(cell["info"]["component"], 0) + 1
    return found


def soap_of(database, generation: int) -> str:
    """Return the SOAP descriptor of a potential, without the energy scale that its data give."""
    report = database.potentials.find_one({"_id": f"small/g{generation:03d}"})["report"]
    return next(line for line in report["descriptors"] if "soap" in line).split(" delta=")[0]


def test_the_preprint(place, stored) -> None:
    place.write("small.yaml", PREPRINT)
    place.good("campaign", "run", "small.yaml", "--workers", "2")
    database = stored(place)
    assert database.campaigns.find_one({})["state"] == "done"
    assert labels_by_origin(database, 0) == {"cell": 12, "crystal": 3}
    assert components(database, 0) == {"free": 6, "twelve": 4, "units": 2}
    for generation in (1, 2):
        looked = {"look": 8} if generation == 1 else {}
        assert components(database, generation) == {"free": 3, "twelve": 2, "units": 2} | looked
        expected = snapshots_expected(database, generation, below=7)
        assert expected["end"] >= 4
        assert labels_by_origin(database, generation) == expected
        # the preprint's first two searches know no pressure
        assert set(pressures(database, generation)) == {0.0}
    crystals = {d["_id"] for d in database.structures.find({"stage": "distorted"})}
    assert len(crystals) == 3
    for generation in range(4):
        assert crystals <= trained_on(database, generation)
    # the last fit is to the same data with other settings
    assert trained_on(database, 3) == trained_on(database, 2)
    assert "n_max=3" in soap_of(database, 2)
    assert "n_max=4" in soap_of(database, 3)
    assert database.structures.count_documents({"generation": 3, "stage": "frame"}) == 0
    # a diagnostic search is relaxed and counted, and not labelled
    searches = {m["generation"]: m["evidence"]["searches"] for m in database.metrics.find({})}
    assert [set(searches[g]) for g in range(4)] == [set(), {"look"}, set(), {"look", "tight"}]
    for generation, search, first, stop, potential in (
        (1, "look", 7, 15, 0),
        (3, "look", 0, 8, 2),
        (3, "tight", 8, 12, 3),
    ):
        ended = list(
            database.relaxations.find({"generation": generation, "index": {"$gte": first, "$lt": stop}})
        )
        found = searches[generation][search]
        assert len(ended) == found["cells"] == stop - first
        sound = [relaxation for relaxation in ended if relaxation["status"] != "failed"]
        assert found["ends"] == found["targets"]["Si-diamond"]["attempts"] == len(sound)
        assert (found["potential"], found["labels"]) == (potential, len(trained_on(database, potential)))
        # relaxed with this potential and with no other: it gives the energy where each began
        evaluate = potential_at(database, potential)
        for relaxation in ended:
            energy = unpack_array(relaxation["energies"])[0]
            assert evaluate(frame_atoms(relaxation, 0)) == pytest.approx(energy, abs=1e-9)
            # this search has its own pressure, none; the other has that of its generation
            assert (relaxation["pressure_gpa"] > 0.0) == ((generation, search) == (3, "look"))
        headline = database.metrics.find_one({"generation": generation})["evidence"]["headline"]
        counts = f"{found['targets']['Si-diamond']['found']} of {len(sound)}"
        labels = f"generation {potential} ({found['labels']} structures)"
        assert headline[f"search {search}"] == f"Si-diamond {counts} with the potential of {labels}"
    shown = place.json("campaign", "status", "small")["searches"]
    assert [(row["generation"], row["search"], row["potential"]) for row in shown] == [
        (1, "look", 0),
        (3, "look", 2),
        (3, "tight", 3),
    ]
    text = place.good("campaign", "status", "small")
    assert "diagnostic searches" in text
    report = json.loads((place.directory / "small-report" / "report.json").read_text())
    assert [row[:4] for row in report["figures"]["searches"]["rows"]] == [
        [row["generation"], row["search"], row["potential"], row["labels"]] for row in shown
    ]
    assert {row[0] for row in report["figures"]["crystal_errors"]["rows"]} == {"diamond"}
    boxes = report["figures"]["energy_boxes"]
    assert set(boxes["columns"]) >= {"origin", "component", "generation", "median"} or boxes["columns"]
    page = (place.directory / "small-report" / "index.html").read_text()
    assert 'src="searches.png"' in page
    assert "with the potential of generation 3" in page


@pytest.mark.long
def test_the_letter_and_again_after_kills(place, stored, tmp_path) -> None:
    write_models(place)
    place.write("small.yaml", LETTER)
    process = place.start("campaign", "run", "small.yaml", "--workers", "2")
    soon = time.monotonic() + 120
    kills = 0
    while process.poll() is None and kills < 3 and time.monotonic() < soon:
        time.sleep(1.2)
        listed = place.json("worker", "list")
        for pid in [worker["pid"] for worker in listed if worker["kind"] == "worker"][:1]:
            with suppress(ProcessLookupError):  # one that was killed before may still be listed
                os.kill(pid, signal.SIGKILL)
                kills += 1
    assert kills == 3
    # and then all of it; the file of the crystals is not looked at by a campaign that is resumed
    assert process.poll() is None
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    assert place.json("campaign", "status", "small")["state"] == "running"
    (place.directory / "models.extxyz").unlink()
    place.good("campaign", "resume", "small", "--run", "--workers", "2", "--no-report")
    database = stored(place)
    first = place.json("campaign", "digest", "small")
    assert labels_by_origin(database, 0) == {"cell": 12, "crystal": 7}
    assert labels_by_origin(database, 1) == snapshots_expected(database, 1, early=True)
    assert labels_by_origin(database, 2) == snapshots_expected(database, 2, early=False)
    for generation in (1, 2):
        # the Letter's searches are under pressure from the first on
        assert min(pressures(database, generation)) > 0.0
        assert len(set(pressures(database, generation))) == 6
    crystals = {d["_id"] for d in database.structures.find({"stage": "distorted"})}
    before, joined, final = (trained_on(database, generation) for generation in (2, 3, 4))
    assert not crystals & before
    assert joined == before | crystals == final
    assert soap_of(database, 2) == soap_of(database, 3) != soap_of(database, 4)
    metrics = {m["generation"]: m["evidence"] for m in database.metrics.find({})}
    errors = [metrics[g]["crystals"]["diamond"] for g in range(5)]
    assert [e["trained"] for e in errors] == [False, False, False, True, True]
    assert [e["n"] for e in errors] == [3] * 5
    assert [metrics[g]["crystals"]["given"]["n"] for g in range(5)] == [4] * 5
    assert [metrics[g]["held_out"] for g in range(5)] == [7, 7, 7, 0, 0]
    # distorted in turn: the file's two structures have 2 and 3 atoms
    given = database.structures.find({"stage": "distorted", "info.crystal": "given"}).sort("index", 1)
    assert [(d["info"]["model"], len(unpack_atoms(d["atoms"]))) for d in given] == [(0, 2), (1, 3)] * 2
    assert set(metrics[1]["energies"]) == set(labels_by_origin(database, 1))
    assert [m["labels"] for m in database.metrics.find({}).sort("generation", 1)][2:] == [
        sum(sum(labels_by_origin(database, g).values()) for g in range(3))
    ] * 3

    other = type(place)(tmp_path / "other")
    try:
        write_models(other)
        other.write("small.yaml", LETTER)
        other.good("campaign", "run", "small.yaml", "--workers", "1", "--no-report")
        assert other.json("campaign", "digest", "small") == first
    finally:
        other.close()


@pytest.mark.long
def test_a_search_whose_energies_no_longer_change_is_followed_by_the_rest(place, stored) -> None:
    rule = (
        "stop: {energy_distribution: {median_change_in_eV: 50, box_change_in_eV: 50, minimum_structures: 1}}"
    )
    text = LETTER.replace("generations: 5", "generations: 6") + rule
    write_models(place)
    place.write("small.yaml", text)
    place.good("campaign", "run", "small.yaml", "--workers", "2", "--no-report")
    database = stored(place)
    assert sorted(m["generation"] for m in database.metrics.find({})) == [0, 1, 2, 4, 5]
    assert database.selections.find_one({"_id": "small/g003"})["train"] == []
    assert trained_on(database, 4) == trained_on(database, 5) > trained_on(database, 2)
