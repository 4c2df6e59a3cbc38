"""A campaign whose tasks travel as files: the same documents, every read known, every write its task's own."""

from __future__ import annotations

from collections import Counter

import pytest
from bundle_help import other_database, run_campaign, run_here, submit, take
from pymongo import MongoClient, monitoring

from gapfactory.protocols.plan import TaskKind
from launchpad.database.campaigns import campaign_of
from launchpad.database.check import check_database
from launchpad.database.connection import durable
from launchpad.database.digest import campaign_digests
from launchpad.embedded import status
from launchpad.queue import Queue
from launchpad.remote import BundleError
from launchpad.remote.archive import Archive
from launchpad.remote.permits import LOCAL, Permit
from launchpad.remote.recording import decoded
from launchpad.remote.slices import SENDABLE, needed_by

pytestmark = [pytest.mark.database, pytest.mark.timeout(400)]

#: Times, and what is measured in them; the order in which structures are labelled has no influence on anything else.
TIMES = {"created", "seconds", "wall_s", "peak_memory_bytes", "walltime_s", "versions", "updated", "threads"}
#: Networks are trained in test_bundle_networks.py.
OF_A_GAP = set(SENDABLE) - {"train"}
COLLECTIONS = ("structures", "relaxations", "selections", "labels", "curves", "curve_points", "potentials")


@pytest.fixture(scope="module")
def carried(database_server, tiny, tmp_path_factory):
    """A campaign of two generations whose tasks all went through bundles: its queue, what was sent, and the files."""
    directory = tmp_path_factory.mktemp("carried")
    name = f"gf_carried_{directory.name}"
    with pytest.MonkeyPatch.context() as patch, MongoClient(database_server) as client:
        patch.setenv("GAPFACTORY_CACHE", str(directory / "cache"))
        with Queue.from_uri(other_database(database_server, name)) as queue:
            submit(queue, cut(tiny(generations=2)))
            yield queue, run_campaign(queue, directory / "sites", bundles=True), directory / "sites"
        client.drop_database(name)


def cut(text: str) -> str:
    """Return the campaign in fewer tasks: how work is cut decides no result, and every labelling starts a process."""
    return text.replace("relax_chunk: 3, reference_chunk: 2", "relax_chunk: 6, reference_chunk: 6")


def timeless(value):
    """Return a document without its times."""
    if isinstance(value, dict):
        return {name: timeless(item) for name, item in value.items() if name not in TIMES}
    return [timeless(item) for item in value] if isinstance(value, list) else value


def test_it_ends_in_the_bits_of_a_local_run(carried, tiny_campaign) -> None:
    queue, sent, _ = carried
    assert {kind for kind, _ in sent} == OF_A_GAP
    assert {what for _, what in sent} >= {"atoms", "noise", "picks", "phase"}
    assert campaign_digests(queue.db, "tiny") == tiny_campaign.json("campaign", "digest", "tiny")
    assert queue.db.campaigns.find_one({"_id": "tiny"})["state"] == "done"
    assert check_database(queue.db) == []
    assert queue.db.label_claims.count_documents({}) == 0
    with MongoClient(status(tiny_campaign.data).uri) as client:
        local = client.get_default_database("gapfactory")
        for name in COLLECTIONS:
            found, expected = ({d["_id"]: timeless(d) for d in db[name].find()} for db in (queue.db, local))
            assert found, name
            assert set(found) == set(expected), name
            for key, document in expected.items():
                assert found[key] == document, (name, key)
        files = [
            sorted((f["_id"], f["filename"], f["length"]) for f in db.potential_files.files.find())
            for db in (queue.db, local)
        ]
        assert files[0] == files[1]


class Reads(monitoring.CommandListener):
    """Notes every command that reads."""

    def __init__(self):
        self.seen = []

    def started(self, event):
        if event.command_name in {"find", "aggregate", "count", "distinct"}:
            collection = event.command[event.command_name]
            self.seen.append((event.command_name, collection, dict(event.command)))

    def succeeded(self, event):
        """Do nothing."""

    def failed(self, event):
        """Do nothing."""


@pytest.fixture
def reads(monkeypatch):
    """Note what is read over connections made from now on."""
    listener = Reads()
    original = MongoClient.__init__

    def init(self, *args, **kwargs):
        original(self, *args, **{**kwargs, "event_listeners": [listener]})

    monkeypatch.setattr(MongoClient, "__init__", init)
    return listener


def unanswered(need, seen):
    """Return what a task read that its slice does not answer."""
    queue_own = {"launches", "workflows", "queue_journal", "queue_meta", "fw_id_assigner", "queue_retries"}
    left = []
    for command, collection, body in seen:
        if collection in LOCAL | queue_own:
            continue
        asked = body.get("filter") or {}, body.get("projection"), body.get("sort") or {}
        parts = [part for part in need.slices if part.collection == collection]
        if command != "find" or not any(part.answers(*asked) for part in parts):
            left.append((collection, asked))
    return left


def test_whatever_a_task_reads_on_the_whole_database_is_in_its_slice(
    carried, tiny, reads, tmp_path, monkeypatch
):
    """A second campaign on the same database finds labels and curves of the first: nothing is computed again."""
    monkeypatch.setenv("GAPFACTORY_CACHE", str(tmp_path / "cache"))
    first, _, _ = carried
    kinds = Counter()
    with Queue.from_uri(first.uri) as queue:
        submit(queue, cut(tiny(generations=2)).replace("name: tiny", "name: again"))
        labels = queue.db.labels.count_documents({})
        for number in range(100):
            taken = take(queue)
            assert taken is not None
            category = taken.raw["spec"]["_category"]
            need = needed_by(durable(queue.db), taken.raw) if category in SENDABLE else None
            reads.seen.clear()
            outcome = run_here(queue, taken, tmp_path / str(number))
            assert not outcome.failed, outcome.message
            if need is not None:
                of_task = [entry for entry in reads.seen if entry[1] != "fireworks"]
                assert of_task
                assert unanswered(need, of_task) == [], taken.raw["name"]
                kinds[category] += 1
                # and a slice that forgets one of these collections would have been found out
                sliced = {part.collection for part in need.slices} - LOCAL
                for collection in {entry[1] for entry in of_task} & sliced:
                    rest = type(need)(tuple(p for p in need.slices if p.collection != collection))
                    assert unanswered(rest, of_task), collection
            if category == "fit" and taken.raw["spec"]["generation"] == 1:
                break
        assert set(kinds) == OF_A_GAP
        assert queue.db.labels.count_documents({}) == labels, "labels of the first campaign were made again"
        again, before = campaign_digests(queue.db, "again"), campaign_digests(queue.db, "tiny")
    assert again == before


def test_no_task_may_write_what_another_one_does(carried) -> None:
    """The recorded writes of every task, held against the permits of all others."""
    queue, _, directory = carried
    campaign = campaign_of(queue.db.campaigns.find_one({"_id": "tiny"}))
    other = campaign.model_copy(update={"name": "other"})
    tasks = []
    for path in sorted(directory.glob("*/result")):
        with Archive.open(path, "result") as archive:
            statements = [decoded(raw) for raw in archive.documents("writes")]
            launch = queue.launches.find_one({"launch_id": archive.manifest.launch_id})
        firework = queue.fireworks.find_one({"fw_id": launch["fw_id"]})
        tasks.append((firework, launch["bundle"]["permit"], statements))
    assert {firework["spec"]["_category"] for firework, _, _ in tasks} == OF_A_GAP
    refused = Counter()
    for firework, permit, statements in tasks:
        for whose, of, allowed in [(campaign, f, p) for f, p, _ in tasks] + [(other, firework, permit)]:
            checker = Permit.from_document(allowed, of, whose)
            for statement in statements:
                name = statement["c"]
                if name.startswith("potential_files") and checker.kind is TaskKind.FIT:
                    continue  # under the hash of their content
                if whose is campaign and (
                    of is firework or same_for_both(statement, permit, allowed, firework, of)
                ):
                    checker.check(statement)
                    continue
                with pytest.raises(BundleError):
                    checker.check(statement)
                refused[name] += 1
    assert set(refused) >= {*COLLECTIONS, "campaigns", "potential_files.chunks", "label_hand_backs"}


def test_no_statement_brings_a_condition_of_its_own(carried) -> None:
    """``$where`` would be a program, run by our server; anything else could ask what a site must not know."""
    queue, _, directory = carried
    campaign = campaign_of(queue.db.campaigns.find_one({"_id": "tiny"}))
    seen = set()
    for path in sorted(directory.glob("*/result")):
        with Archive.open(path, "result") as archive:
            statements = [decoded(raw) for raw in archive.documents("writes")]
            launch = queue.launches.find_one({"launch_id": archive.manifest.launch_id})
        firework = queue.fireworks.find_one({"fw_id": launch["fw_id"]})
        permit = Permit.from_document(launch["bundle"]["permit"], firework, campaign)
        for statement in statements:
            if "q" not in statement:
                continue
            permit.check(statement)
            for more in ({"$where": "sleep(1)"}, {"campaign": "tiny"}):
                with pytest.raises(BundleError):
                    permit.check({**statement, "q": {**statement["q"], **more}})
            seen.add(statement["c"])
    assert seen >= {*COLLECTIONS, "campaigns"}


def same_for_both(statement, permit, other, firework, of) -> bool:
    """Return whether two tasks of one campaign share what a statement writes."""
    if statement["c"] == "campaigns":
        return firework["spec"]["generation"] == of["spec"]["generation"]
    if statement["c"] in {"labels", "label_hand_backs"}:
        # a noise cell has the label of its pick where no k-points enter
        keys = {entry["key"] for entry in permit["labels"]} & {entry["key"] for entry in other["labels"]}
        asked = statement["q"]["_id"]
        asked = asked["$in"] if isinstance(asked, dict) and "$in" in asked else [asked]
        return all(name in keys or name.rpartition("/")[0] in keys for name in asked)
    return False


@pytest.mark.long
def test_cells_with_measured_separations_are_built_away_as_they_are_here(
    database_server, tiny, tmp_path, monkeypatch
):
    """A build task of a later generation takes along what the assessment before it measured."""
    monkeypatch.setenv("GAPFACTORY_CACHE", str(tmp_path / "cache"))
    name = f"gf_measured_{tmp_path.name}"[:60]
    plain = "build: {atoms_min: 2, atoms_max: 4}"
    auto = "build: {atoms_min: 2, atoms_max: 4, separations: {value: 1.7, auto: true, auto_structures: 3}}"
    text = cut(tiny(generations=2)).replace(plain, auto)
    assert auto in text
    cells = {}
    with MongoClient(database_server) as client:
        try:
            for away in (False, True):
                with Queue.from_uri(other_database(database_server, f"{name}_{away}")) as queue:
                    submit(queue, text)
                    run_campaign(queue, tmp_path / str(away), bundles=away)
                    found = queue.db.structures.find({"stage": "cell"}).sort("_id", 1)
                    cells[away] = [(d["_id"], d["hash"], d["info"].get("separations_of")) for d in found]
        finally:
            for away in (False, True):
                client.drop_database(f"{name}_{away}")
    assert cells[True] == cells[False]
    assert {of for key, _, of in cells[True] if "/g001/" in key} == {0}
