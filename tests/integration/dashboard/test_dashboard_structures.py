"""The pages of structures, on a campaign of which every result is made up but stored as tasks store theirs."""

from __future__ import annotations

import io
import json
import re
import time

import numpy as np
import pytest
from ase import Atoms
from ase.io import read

from launchpad.dashboard.works.maps import draw_map
from launchpad.dashboard.works.rows import write_rows
from launchpad.database.documents import SelectionDocument, StructureDocument, structure_id
from launchpad.database.indexes import ensure_indexes
from launchpad.database.packing import pack_atoms
from launchpad.database.results import frame_atoms, save_relaxation, save_selection, save_structures

pytestmark = pytest.mark.database

CELLS, RELAXED = 12, 12


def cell(index, generation=0):
    rng = np.random.default_rng(1000 * generation + index)
    return Atoms("Si4", scaled_positions=rng.random((4, 3)), cell=np.eye(3) * (4.5 + 0.1 * index), pbc=True)


def stored(campaign, generation, stage, index, atoms, key=None, info=None):
    from gapfactory.structures import structure_hash

    return StructureDocument(
        id=key or structure_id(campaign, generation, stage, index),
        campaign=campaign,
        generation=generation,
        stage=stage,
        index=index,
        composition="Si",
        hash=structure_hash(atoms),
        atoms=pack_atoms(atoms),
        info=info or {},
    )


@pytest.fixture
def campaign(application, database, tiny, tmp_path):
    """A campaign in its second generation: 12 cells of which 6 are chosen, 12 relaxations, two frames chosen."""
    from gapfactory.campaign import load_campaign
    from gapfactory.reference import Label, LabelOutcome
    from gapfactory.search import Trajectory
    from launchpad.database.campaigns import create_campaign
    from launchpad.database.dataset import label_hash, pick_items
    from launchpad.database.labels import Subject, save_outcome
    from launchpad.tasks.relax import relaxation_document

    (tmp_path / "tiny.yaml").write_text(tiny(generations=2))
    settings = load_campaign(tmp_path / "tiny.yaml")
    ensure_indexes(database)
    create_campaign(database, settings, "text", {})
    name = settings.name
    database.campaigns.update_one({"_id": name}, {"$set": {"generation": 1}})
    save_structures(database, [stored(name, 0, "cell", k, cell(k)) for k in range(CELLS)])
    chosen = [structure_id(name, 0, "cell", k) for k in range(6)]
    picks = [
        {
            "id": key, "purpose": "training" if k < 4 else "held-out", "group": "Si", "order": k,
            "leverage": 0.5, "energy_eV": None, "trajectory": None,
        }
        for k, key in enumerate(chosen)
    ]  # fmt: skip
    selection = {"train": chosen[:4], "test": chosen[4:], "report": {"picks": picks}}
    save_selection(database, SelectionDocument(id=f"{name}/g000", campaign=name, generation=0, **selection))
    for k in range(RELAXED):
        atoms = cell(k, 1)
        steps = 5
        document = relaxation_document(
            name,
            1,
            k,
            "Si",
            Trajectory(
                numbers=atoms.numbers,
                steps=np.arange(steps),
                positions=np.array([atoms.positions + 0.01 * s for s in range(steps)]),
                cells=np.array([atoms.cell.array * (1 + 0.01 * s) for s in range(steps)]),
                energies=-4.0 * np.arange(steps) - k,
                enthalpies=-4.0 * np.arange(steps) - k,
                max_forces=np.ones(steps),
                cell_forces=np.ones(steps),
                n_evaluations=steps,
                status="converged" if k % 2 else "unconverged",
                reason="",
                pressure_GPa=0.1,
                n_steps=steps - 1,
            ),
            1.0,
        )
        save_relaxation(database, document)
    record = database.relaxations.find_one({"_id": structure_id(name, 1, "relaxation", 3)})
    frame = f"{record['_id']}/frame/0002"
    info = {"relaxation": record["_id"], "frame": 2}
    save_structures(database, [stored(name, 1, "frame", 0, frame_atoms(record, 2), frame, info)])
    pick = {**picks[0], "id": frame, "trajectory": record["_id"], "energy_eV": -3.0}
    save_selection(
        database,
        SelectionDocument(
            id=f"{name}/g001", campaign=name, generation=1, train=[frame], test=[], report={"picks": [pick]}
        ),
    )
    for k, item in enumerate(pick_items(database, settings, 0)):
        subject = Subject(name, item.hash, label_hash(settings, item), item.kind, item.atoms)
        if k == 0:
            outcome = LabelOutcome(item.id, None, "no convergence", 2, ("smaller mixing",), "crashed")
        else:
            forces = np.zeros((4, 3))
            forces[0] = 3.0 * k, 4.0 * k, 0.0
            outcome = LabelOutcome(
                item.id, Label(-2.0 * k, forces, np.zeros(6), 1.0, "made up", "1", {}), "", 1, (), ""
            )
        if k < 5:
            save_outcome(database, subject, outcome, "made up")
    return name


def quiet(text, done, total):
    """Take no notice of the progress."""


def names(answer):
    return re.findall(r'<th scope="row"><a href="[^"]*/structures/of/([^"]+)"', answer.text)


@pytest.fixture
def client(log_in):
    return log_in("viewer")


def test_the_rows_are_what_was_chosen_and_what_became_of_it(database, campaign):
    assert write_rows(database, quiet, campaign).facts == {"rows": 7, "changed": 7}
    rows = {row["_id"].partition("/")[2]: row for row in database.dashboard_rows.find()}
    assert [row["label"] for _, row in sorted(rows.items())] == [
        "failed", "done", "done", "done", "done", "waiting", "waiting",
    ]  # fmt: skip
    third = rows["g000/cell/000002"]
    assert (third["energy"], third["force"], third["purpose"]) == (-1.0, 10.0, "training")
    assert rows["g000/cell/000000"]["fault"] == "crashed"
    # what is labelled stays; what is not is looked at again
    assert write_rows(database, quiet, campaign).facts["changed"] == 3


def test_the_first_visit_says_that_the_table_is_being_made_and_then_shows_it(campaign, client):
    address = f"/g/si/structures/?campaign={campaign}&label=done"
    first = client.get(address)
    assert "being worked out for the first time" in first.text
    assert "No structure of this kind" not in first.text
    # the part that the page fetches again has the filters of the page
    part = re.search(r'hx-get="([^"]+)"', first.text)[1].replace("&amp;", "&")
    end = time.monotonic() + 180
    # rows appear before the last one is there
    while "being worked out" in (shown := client.get(part)).text:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert len(names(shown)) == 4
    assert names(client.get(address)) == names(shown)


def test_filters_combine_and_live_in_the_links(database, campaign, client):
    write_rows(database, quiet, campaign)
    address = f"/g/si/structures/?view=chosen&campaign={campaign}&generation=0"
    assert len(names(client.get(address))) == 6
    assert names(client.get(address + "&label=failed&fault=crashed")) == [f"{campaign}/g000/cell/000000"]
    shown = client.get(address + "&purpose=training&label=done&energy_max=-0.9&force_max=11&sort=-energy")
    assert names(shown) == [f"{campaign}/g000/cell/000002"]
    link = re.search(r'href="(\?[^"]*sort=force[^"]*)"', shown.text)[1].replace("&amp;", "&")
    for part in ("generation=0", "purpose=training", "label=done", "energy_max=-0.9", f"campaign={campaign}"):
        assert part in link
    by_force = client.get(address + "&sort=-force")
    assert [key[-1] for key in names(by_force)] == ["4", "3", "2", "1"]
    for wrong in (
        "generation=x",
        "energy_min=%7B%22$gt%22:0%7D",
        "view=users",
        "campaign=%7B%7D",
        "after=AAAA",
    ):
        assert client.get(f"/g/si/structures/?{wrong}").status_code == 400, wrong
    assert client.get(address + "&label=nonsense").status_code == 400
    assert client.get(address + "&sort=%7B%22$gt%22:0%7D").status_code == 400


def follow(client, address):
    """Return the structures of all pages, from this one on."""
    seen = []
    while address:
        answer = client.get("/g/si/structures/" + address)
        seen += names(answer)
        following = re.search(r'rel="next" href="([^"]+)"', answer.text)
        address = following and following[1].replace("&amp;", "&")
    return seen


def test_pages_follow_each_other_without_gaps(database, campaign, client):
    rows = [
        {
            "_id": f"{campaign}/g000/cell/{k:06d}", "campaign": campaign, "generation": 0, "rank": k // 3,
            "purpose": "training", "composition": "Si", "atoms": 2, "label": "done", "fault": "",
            "energy": -(k % 7) / 10, "force": 0.1, "volume": 20.0,
        }
        for k in range(60)
    ]  # fmt: skip
    database.dashboard_rows.insert_many(rows)
    rows_of_cells = [
        {
            "_id": f"{campaign}/g000/cell/{k:06d}", "campaign": campaign, "generation": 0, "stage": "cell",
            "composition": "Si", "info": {},
        }
        for k in range(CELLS, 60)
    ]  # fmt: skip
    database.structures.insert_many(rows_of_cells)
    for order in ("index", "-index"):
        seen = follow(client, f"?view=cell&campaign={campaign}&generation=0&size=25&sort={order}")
        assert [int(key[-2:]) for key in seen] == sorted(range(60), reverse=order == "-index")
    for order in ("rank", "-rank", "energy", "-energy"):
        seen = follow(client, f"?view=chosen&campaign={campaign}&size=25&sort={order}")
        assert len(seen) == len(set(seen)) == 60
        key = order.strip("-")
        values = [next(row[key] for row in rows if row["_id"] == name) for name in seen]
        assert values == sorted(values, reverse=order.startswith("-"))


def test_relaxations_and_cells_are_tables_too(campaign, client):
    shown = client.get(f"/g/si/structures/?view=relaxation&campaign={campaign}&generation=1&status=converged")
    assert [int(key[-2:]) for key in names(shown)] == [1, 3, 5, 7, 9, 11]
    following = client.get(
        f"/g/si/structures/?view=relaxation&campaign={campaign}&size=25&sort=-index&status=unconverged"
    )
    assert [int(key[-2:]) for key in names(following)] == [10, 8, 6, 4, 2, 0]
    lowest = client.get(f"/g/si/structures/?view=relaxation&campaign={campaign}&sort=final&final_max=-6")
    assert [int(key[-2:]) for key in names(lowest)] == [11, 10, 9, 8]
    assert len(names(client.get("/g/si/structures/?view=cell&generation=0&composition=Si"))) == CELLS
    assert names(client.get("/g/si/structures/?view=cell&generation=0&composition=Ge")) == []


def test_a_structure_leads_back_to_its_cell_and_on_to_its_fits(database, campaign, client):
    frame = f"{campaign}/g001/relaxation/000003/frame/0002"
    save_structures(database, [stored(campaign, 1, "cell", 3, cell(3, 1))])
    database.potentials.insert_one(
        {
            "_id": f"{campaign}/g001",
            "campaign": campaign,
            "generation": 1,
            "digest": "d",
            "trained_on": [frame],
        }
    )
    text = client.get(f"/g/si/structures/of/{frame}").text
    path = text[text.index('class="path"') : text.index("</ol>")]
    assert re.findall(r"<strong>([^<]+)", path) == ["Random cell", "Relaxation", "Frame", "Selection", "Fits"]
    assert f"/structures/of/{campaign}/g001/cell/000003" in path
    failed = client.get(f"/g/si/structures/of/{campaign}/g000/cell/000000").text
    assert "no convergence" in failed
    assert "smaller mixing" in failed


def test_the_viewer_is_given_every_frame_and_begins_at_the_one_asked_for(database, campaign, client):
    found = client.get(f"/g/si/structures/frames/{campaign}/g001/relaxation/000003/frame/0002").json
    assert (len(found["frames"]), found["start"], found["left_out"]) == (5, 2, 0)
    record = database.relaxations.find_one({"_id": f"{campaign}/g001/relaxation/000003"})
    assert np.allclose(found["frames"][2]["positions"], frame_atoms(record, 2).positions, atol=1e-5)
    assert found["frames"][4]["energy"] == pytest.approx((-16 - 3) / 4)
    assert client.get(f"/g/si/structures/of/{campaign}/g001/relaxation/000003/frame/9999").status_code == 404


def test_files_hold_the_structure_and_their_names_are_safe(campaign, client):
    key = f"{campaign}/g000/cell/000002"
    answer = client.get(f"/g/si/structures/file/extxyz/{key}")
    atoms = read(io.StringIO(answer.text), format="extxyz")
    assert np.array_equal(atoms.positions.round(8), cell(2).positions.round(8))
    assert atoms.info["REF_energy"] == -4.0
    assert atoms.arrays["REF_forces"][0].tolist() == [6.0, 8.0, 0.0]
    name = answer.headers["Content-Disposition"]
    assert name == f'attachment; filename="{campaign}-g000-cell-000002.extxyz"'
    cif = client.get(f"/g/si/structures/file/cif/{key}")
    assert len(read(io.BytesIO(cif.data), format="cif")) == 4
    frames = client.get(f"/g/si/structures/file/extxyz/{campaign}/g001/relaxation/000003?trajectory=1")
    assert len(read(io.StringIO(frames.text), ":", format="extxyz")) == 5
    for path in ("../../etc/passwd", "..%2f..%2fetc%2fpasswd", "a%0d%0aX-Injected:%201", "%00", "{}"):
        assert client.get(f"/g/si/structures/file/extxyz/{path}").status_code in {400, 404}
    assert client.get(f"/g/si/structures/file/pickle/{key}").status_code == 404


def test_the_map_shows_what_was_chosen_and_says_how_many_there_are(database, campaign, client, held):
    made = draw_map(database, quiet, campaign, 0, 10)
    points = json.loads(made.parts["points"])
    assert 3 < len(points) == made.facts["points"] <= 10
    assert [point["purpose"] for point in points].count("training") == 2
    assert made.facts["offered"] >= 10
    first = client.get(f"/g/si/structures/map/{campaign}/0")
    assert "appears here by itself" in first.text
    address = f"/g/si/structures/map/{campaign}/0/now"
    assert "HX-Refresh" not in client.get(address).headers
    held.set()
    end = time.monotonic() + 180
    while "HX-Refresh" not in client.get(address).headers:
        assert time.monotonic() < end
        time.sleep(0.2)
    page = client.get(f"/g/si/structures/map/{campaign}/0")
    assert "unsafe-eval" in page.headers["Content-Security-Policy"]
    assert "unsafe-eval" not in client.get("/g/si/structures/").headers["Content-Security-Policy"]
    data = client.get(f"/g/si/structures/map/{campaign}/0/data").json
    assert len(data["structures"]) == CELLS
    one = client.get(data["structures"][0]["data"]).json
    assert one["size"] == 4
    assert len(one["cell"]) == 9
    json.dumps(data, allow_nan=False)


@pytest.fixture
def drawn(monkeypatch):
    """Finish at once, with nothing, what pages have worked out; return a function that counts it."""
    from launchpad.dashboard import background, derived
    from launchpad.dashboard.compute import Claim
    from launchpad.dashboard.works import Made

    done = []

    def finish(group, work, claim, settings):
        order = {"id": work.id, "claim": claim, "of": work.of}
        Claim(group.database, order).finish(Made({"values": b"{}", "points": b"[]"}))
        done.append(work.id)
        derived._release(work.id)

    def number():
        # what a page has begun is among them before its answer is there
        end = time.monotonic() + 60.0
        while derived._running:
            assert time.monotonic() < end
            time.sleep(0.02)
        return len(done)

    # what tests before have begun takes no place
    monkeypatch.setattr(derived, "_running", set())
    monkeypatch.setattr(derived, "_run", finish)
    monkeypatch.setattr(background, "_MAP_S", 0.0)
    return number


def label(database, campaign, number):
    """Store a label of a chosen structure of generation 0."""
    from gapfactory.reference import Label, LabelOutcome
    from launchpad.database.campaigns import campaign_of, require_campaign
    from launchpad.database.dataset import label_hash, pick_items
    from launchpad.database.labels import Subject, save_outcome

    settings = campaign_of(require_campaign(database, campaign))
    item = pick_items(database, settings, 0)[number]
    subject = Subject(campaign, item.hash, label_hash(settings, item), item.kind, item.atoms)
    made = Label(-2.0, np.zeros((4, 3)), np.zeros(6), 1.0, "made up", "1", {})
    save_outcome(database, subject, LabelOutcome(item.id, made, "", 1, (), ""), "made up")
    return item.id


def test_the_force_error_is_there_once_there_is_a_label(database, campaign, client, drawn):
    database.potentials.insert_one({"campaign": campaign, "generation": 0, "digest": "d" * 64})
    address = f"/g/si/structures/values/{structure_id(campaign, 0, 'cell', 5)}"
    client.get(address)
    assert drawn() == 1
    assert label(database, campaign, 5) == structure_id(campaign, 0, "cell", 5)
    client.get(address)
    assert drawn() == 2
    assert client.get(address).status_code == 200
    assert drawn() == 2


@pytest.mark.parametrize("generation", ["", "1"])
def test_a_map_is_drawn_again_while_its_newest_generation_grows(
    database, campaign, client, drawn, generation
):
    database.potentials.insert_one({"campaign": campaign, "generation": 0, "digest": "d" * 64})
    chosen = database.selections.find_one_and_delete({"_id": f"{campaign}/g001"})
    address = f"/g/si/structures/map/{campaign}/{generation}"
    for number in (1, 2):
        assert client.get(address).status_code == 200
        assert drawn() == number
    database.selections.insert_one(chosen)
    client.get(address)
    assert drawn() == 3
    # it has chosen: nothing is added any more
    client.get(address)
    assert drawn() == 3


def test_rows_of_before_a_campaign_ended_are_not_shown_as_its_last(database, campaign, client, drawn):
    """It ended ten minutes ago; the table was looked at twenty minutes before that, and then again."""
    from datetime import timedelta

    from launchpad.database.documents import now

    there = {"state": "done", "updated": now() - timedelta(minutes=10)}
    database.campaigns.update_one({"_id": campaign}, {"$set": there})
    client.get("/g/si/structures/")
    assert drawn() == 1
    database.dashboard_results.update_one({}, {"$set": {"content.made": now() - timedelta(minutes=30)}})
    client.get("/g/si/structures/")
    assert drawn() == 2
    # made after its end: they are the last
    database.dashboard_results.update_one({}, {"$set": {"content.made": now() - timedelta(minutes=4)}})
    client.get("/g/si/structures/")
    assert drawn() == 2


def test_a_campaign_older_than_those_offered_has_its_table(database, campaign, client):
    from datetime import timedelta

    from launchpad.database.documents import now

    newer = {"generation": 0, "state": "done", "updated": now(), "created": now() + timedelta(minutes=1)}
    database.campaigns.insert_many([{"_id": f"newer-{k}", **newer} for k in range(500)])
    answer = client.get(f"/g/si/structures/?view=cell&generation=0&campaign={campaign}")
    assert answer.status_code == 200, answer.text
    assert len(names(answer)) == CELLS
    assert f"<option selected>{campaign}<" in answer.text
    assert client.get("/g/si/structures/?campaign=nobody").status_code == 400


def test_charts_are_of_another_state_once_a_failed_label_is_mended(database, campaign):
    from launchpad.dashboard.queries.campaigns import data_state

    before = data_state(database, campaign)
    label(database, campaign, 0)
    assert not database.labels.count_documents({"campaign": campaign, "status": "failed"})
    assert data_state(database, campaign) != before


#: Every filter alone with every order, and some together.
ASKED = (
    *(
        f"view=chosen&sort={order}&{one}"
        for order in ("rank", "-energy", "force")
        for one in ("", "generation=0", "purpose=training", "label=failed", "fault=crashed", "composition=Si")
    ),
    "view=chosen&sort=energy&energy_min=-3&energy_max=1&force_max=2&generation=0&purpose=held-out&label=done",
    *(f"view=cell&generation=0&{one}" for one in ("", "composition=Si")),
    *(
        f"view=relaxation&sort={order}&{one}"
        for order in ("index", "-index", "-final")
        for one in ("", "status=converged", "composition=Si", "status=converged&composition=Si&final_max=0")
    ),
)


@pytest.mark.parametrize("asked", ASKED)
def test_an_index_gives_the_rows_in_their_order(database, campaign, asked, monkeypatch):
    """No collection is read as a whole and no rows are sorted: a page costs the same whatever there is beside it."""
    from pymongo.collection import Collection
    from pymongo.cursor import Cursor

    from launchpad.dashboard.queries.structure_table import read

    write_rows(database, quiet, campaign)
    plans, real = [], Collection.find

    def watched(self, *arguments, **named):
        cursor = real(self, *arguments, **named)
        if self.name in {"dashboard_rows", "structures", "relaxations"}:
            plans.append((self.name, cursor))
        return cursor

    monkeypatch.setattr(Collection, "find", watched)
    arguments = {k: [v] for k, v in (part.split("=") for part in asked.split("&") if part)}
    found = read(database, arguments | {"campaign": [campaign], "size": ["25"]})
    assert found["table"].page.following is None
    assert len(plans) == 1
    assert isinstance(plans[0][1], Cursor)
    plan = plans[0][1].explain()["queryPlanner"]
    assert plan["winningPlan"]["stage"] != "COLLSCAN", plan
    # two windows: one of them is looked for, the other is the order
    assert plan["ordered"] or "force_max" in asked, plan
