"""Results of single tasks: refused when they are not what was sent, applied once, late, cancelled, failed."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

import bson
import pytest
from bundle_help import ALLOWED, run_here, run_there, submit, take
from pymongo.collection import Collection

from launchpad import service
from launchpad.queue import Queue
from launchpad.queue.guard import AllowList
from launchpad.remote import BundleError, abandon_bundle, apply_result, make_bundle, read_manifest, run_bundle
from launchpad.remote.archive import Archive, write_archive
from launchpad.remote.recording import decoded, encoded

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.database]

COLLECTIONS = (
    "campaigns",
    "structures",
    "fireworks",
    "launches",
    "workflows",
    "labels",
    "label_claims",
    "potentials",
)


@pytest.fixture
def queue(database_uri, tiny):
    with Queue.from_uri(database_uri) as opened:
        submit(opened, tiny())
        yield opened


def everything(queue):
    """Return all documents, but for what every look at the queue changes."""
    return {name: sorted((bson.encode(d) for d in queue.db[name].find()), key=bytes) for name in COLLECTIONS}


def structures(queue):
    """Return what the builds made, without names and times."""
    return {d["_id"]: (d["hash"], d["info"]) for d in queue.db.structures.find()}


@pytest.fixture
def answered(queue, tmp_path):
    """A build task whose result has come back, and where its files are."""
    taken = take(queue, "build")
    make_bundle(queue, taken, tmp_path / "bundle")
    run_bundle(tmp_path / "bundle", tmp_path / "result", tmp_path / "work", ALLOWED)
    return taken


def forged(source: Path, target: Path, outcome=lambda o: o, writes=lambda w: w, **facts) -> Path:
    """Write a result again with something else in it, its hashes right."""
    with Archive.open(source, "result") as archive:
        (ended,) = (decoded(raw) for raw in archive.documents("outcome"))
        statements = [decoded(raw) for raw in archive.documents("writes")]
        manifest = archive.manifest.model_dump(exclude={"members"})
    write_archive(
        target,
        {**manifest, **facts},
        {"outcome": [encoded(outcome(ended))], "writes": map(encoded, writes(statements))},
    )
    return target


def test_a_result_is_applied_once_however_often_it_comes(queue, answered, tmp_path) -> None:
    assert queue.db.structures.count_documents({}) == 0, "the run at the site wrote to the database"
    first = apply_result(queue, tmp_path / "result")
    assert (first.state, first.late, first.fw_id) == ("COMPLETED", False, answered.fw_id)
    assert first.writes == 7, "six cells and the state of the campaign"
    assert queue.fireworks.find_one({"fw_id": answered.fw_id})["state"] == "COMPLETED"
    # what people do afterwards is not undone by another copy of the same result
    queue.db.structures.delete_one({"index": 3})
    queue.db.campaigns.update_one({}, {"$set": {"state": "submitted"}})
    before = everything(queue)
    assert apply_result(queue, tmp_path / "result").writes == 0
    assert everything(queue) == before


def test_a_bundle_that_is_run_again_has_its_answer(queue, answered, tmp_path) -> None:
    before = (tmp_path / "result").stat().st_mtime_ns
    run_bundle(tmp_path / "bundle", tmp_path / "result", tmp_path / "work", ALLOWED)
    assert (tmp_path / "result").stat().st_mtime_ns == before
    (tmp_path / "result").write_bytes((tmp_path / "result").read_bytes()[:-3000])
    run_bundle(tmp_path / "bundle", tmp_path / "result", tmp_path / "work", ALLOWED)
    assert apply_result(queue, tmp_path / "result").state == "COMPLETED"


#: What is changed in a result before it is applied, by what that is.
FORGERIES = {
    "another token": {"token": "0" * 32},
    "another database": {"database": "0" * 32},
    "no such launch": {"launch_id": 4711},
    "another task": {"fw_id": 2},
    "another bundle": {"bundle": "0" * 64},
    "a workflow": {"outcome": {"additions": [{"_fw_name": "ScriptTask"}]}},
    "other specs": {"outcome": {"update_spec": {"_category": "assess"}}},
    "changed specs": {"outcome": {"mod_spec": [{"_set": {"x": 1}}]}},
    "no workflow": {"outcome": {"defuse_workflow": True}},
    "no children": {"outcome": {"defuse_children": True}},
    "an object": {"outcome": {"stored_data": {"x": {"_fw_name": "ScriptTask"}}}},
    "users": {"writes": {"c": "users"}},
    "users of the server": {"writes": {"c": "system.users"}},
    "fireworks": {"writes": {"c": "fireworks"}},
    "labels by a build": {"writes": {"c": "labels"}},
    "an insert": {"writes": {"o": "insert", "d": {"_id": 1}}},
    "a deletion": {"writes": {"o": "delete", "q": {}, "limit": 0}},
    "many at once": {"writes": {"multi": True}},
    "changed structures": {"writes": {"u": {"$set": {"hash": "x"}}}},
    "another campaign": {"fields": {"campaign": "other"}},
    "another generation": {"fields": {"generation": 1}},
    "an index of another task": {"fields": {"index": 7}},
    "another stage": {"fields": {"stage": "frame"}},
    "another hash": {"fields": {"hash": "0" * 64}},
    "a surplus field": {"fields": {"surplus": 1}},
    "another key": {"query": {"_id": "other/g000/cell/000003"}},
    "the campaign's definition": {"state": {"$set": {"settings": {}}}},
    "the campaign's end": {"state": {"$set": {"state": "done", "reason": "", "updated": 0}}},
    "the state of another campaign": {"state_of": "other"},
    "a cancelled campaign's state": {"state_from": ["cancelled"]},
}


def forge(source: Path, target: Path, change) -> None:
    """Write one of the `FORGERIES`."""
    change = dict(change)

    def outcome(ended):
        return {**ended, "action": {**ended["action"], **change.pop("outcome", {})}}

    def writes(statements):
        # the last but one, so that others come before it
        state, *_, victim, _ = statements
        victim.update(change.pop("writes", {}))
        victim.get("u", {}).get("$setOnInsert", {}).update(change.pop("fields", {}))
        victim["q"] = {**victim["q"], **change.pop("query", {})}
        state["u"] = change.pop("state", state["u"])
        state["q"]["_id"] = change.pop("state_of", state["q"]["_id"])
        state["q"]["state"] = {"$in": change.pop("state_from", state["q"]["state"]["$in"])}
        return statements

    names = ("token", "database", "launch_id", "fw_id", "bundle")
    forged(source, target, outcome, writes, **{name: change.pop(name) for name in names if name in change})
    assert not change, "the forgery was not made"


def test_what_was_not_sent_is_refused_whole(queue, answered, tmp_path) -> None:
    before = everything(queue)
    for what, change in FORGERIES.items():
        forge(tmp_path / "result", tmp_path / "forged", change)
        with pytest.raises(BundleError, match="nothing"):
            apply_result(queue, tmp_path / "forged")
        assert everything(queue) == before, what
    assert apply_result(queue, tmp_path / "result").state == "COMPLETED", "the true one is taken"


def test_a_result_belongs_to_its_database_and_a_bundle_to_its_launch(
    queue, answered, tmp_path, new_database, tiny
):
    with Queue.from_uri(new_database()) as other:
        submit(other, tiny())
        make_bundle(other, take(other, "build"), tmp_path / "theirs")
        with pytest.raises(BundleError, match="another database"):
            apply_result(other, tmp_path / "result")
        run_bundle(tmp_path / "theirs", tmp_path / "their-result", tmp_path / "their-work", ALLOWED)
        with pytest.raises(BundleError, match="another database"):
            apply_result(queue, tmp_path / "their-result")
        assert apply_result(other, tmp_path / "their-result").state == "COMPLETED"


def test_what_a_site_refuses(queue, answered, tmp_path) -> None:
    taken = take(queue, "build")
    make_bundle(queue, taken, tmp_path / "second")
    with pytest.raises(BundleError, match="allow-list"):
        run_bundle(tmp_path / "second", tmp_path / "r2", tmp_path / "w2", AllowList(("other.*",)))
    whole = (tmp_path / "second").read_bytes()
    (tmp_path / "second").write_bytes(whole.replace(b'"gapfactory": "', b'"gapfactory": "9', 1))
    with pytest.raises(BundleError):
        run_bundle(tmp_path / "second", tmp_path / "r2", tmp_path / "w2", ALLOWED)
    assert not (tmp_path / "r2").exists()


def test_a_bundle_of_another_version_is_not_run(queue, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(service, "versions", lambda: {"gapfactory": "0.0.1"})
    make_bundle(queue, take(queue, "build"), tmp_path / "bundle")
    monkeypatch.undo()
    with pytest.raises(BundleError, match=r"0\.0\.1"):
        run_bundle(tmp_path / "bundle", tmp_path / "result", tmp_path / "work", ALLOWED)


def test_what_is_not_sent_says_why(queue, tmp_path) -> None:
    from fireworks import Firework, ScriptTask

    taken = take(queue, "build")
    taken.raw["spec"]["_category"] = "assess"
    with pytest.raises(BundleError, match="near the database"):
        make_bundle(queue, taken, tmp_path / "bundle")
    taken.raw["spec"]["_category"] = "build"
    taken.raw["spec"]["_pass_job_info"] = True
    with pytest.raises(BundleError, match="_pass_job_info"):
        make_bundle(queue, taken, tmp_path / "bundle")
    (fw_id,) = queue.add_wf(Firework(ScriptTask.from_str("true"), spec={"_category": "mine"})).values()
    with pytest.raises(BundleError, match="allow-list"):
        make_bundle(queue, take(queue, fw_id=fw_id), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_a_campaign_cancelled_meanwhile_stays_so_and_keeps_what_was_done(queue, answered, tmp_path) -> None:
    second = take(queue, "build")
    service.cancel(queue, "tiny")
    assert apply_result(queue, tmp_path / "result").state == "COMPLETED"
    assert queue.db.campaigns.find_one()["state"] == "cancelled"
    assert queue.db.structures.count_documents({}) == 6
    # the next one is sent and does nothing
    applied = run_there(queue, second, tmp_path / "next")
    assert applied.state == "COMPLETED"
    assert queue.db.structures.count_documents({}) == 6
    launch = queue.launches.find_one({"launch_id": applied.launch_id})
    assert launch["action"]["stored_data"]["cancelled"] is True
    assert launch["action"]["defuse_children"] is True


def test_a_given_up_bundle_is_run_by_somebody_else_and_its_late_result_is_refused(queue, answered, tmp_path):
    manifest = read_manifest(tmp_path / "bundle")
    for _ in range(2):
        abandon_bundle(queue, manifest, "its site is gone")
    assert queue.fireworks.find_one({"fw_id": answered.fw_id})["state"] == "READY"
    run_here(queue, take(queue, fw_id=answered.fw_id), tmp_path / "here")
    before = structures(queue)
    for _ in range(2):
        applied = apply_result(queue, tmp_path / "result")
        assert applied.writes == 0
    assert structures(queue) == before
    launches = list(queue.launches.find({"fw_id": answered.fw_id, "state": "COMPLETED"}))
    assert [launch["launch_id"] for launch in launches] != [answered.launch_id]
    assert len(launches) == 1
    assert queue.launches.find_one({"launch_id": answered.launch_id})["late"]["state"] == "COMPLETED"


def test_a_late_result_is_never_taken_without_its_writes(queue, answered, tmp_path) -> None:
    """It is refused while somebody else runs the task, and comes again when that one has given up."""
    abandon_bundle(queue, read_manifest(tmp_path / "bundle"), "its site is gone")
    other = take(queue, fw_id=answered.fw_id)
    first = apply_result(queue, tmp_path / "result")
    assert (first.late, first.writes) == (True, 0)
    assert queue.fireworks.find_one({"fw_id": answered.fw_id})["state"] == "RUNNING"
    queue.hand_back(other.launch_id, "stopped", kind="drained")
    again = apply_result(queue, tmp_path / "result")
    state = queue.fireworks.find_one({"fw_id": answered.fw_id})["state"]
    assert (again.late, state, queue.db.structures.count_documents({})) == (False, "COMPLETED", 6)


def test_a_result_that_comes_while_its_task_waits_for_another_try_is_taken(queue, answered, tmp_path) -> None:
    queue.hand_back(answered.launch_id, "no sign of life", kind="dead", delay_s=3600.0)
    applied = apply_result(queue, tmp_path / "result")
    assert (applied.state, applied.late, applied.writes) == ("COMPLETED", False, 7)
    assert queue.fireworks.find_one({"fw_id": answered.fw_id})["state"] == "COMPLETED"


class KilledError(BaseException):
    """As little caught as SIGKILL."""


@contextmanager
def killed_at(number):
    """Raise before the write command of this number, counted from 0, of everything in this process."""
    names = (
        "update_one",
        "update_many",
        "insert_one",
        "find_one_and_update",
        "bulk_write",
        "replace_one",
        "delete_many",
    )
    left = [number]
    with pytest.MonkeyPatch.context() as patch:
        for name in names:
            original = getattr(Collection, name)

            def method(self, *args, _original=original, **kwargs):
                if left[0] == 0:
                    raise KilledError
                left[0] -= 1
                return _original(self, *args, **kwargs)

            patch.setattr(Collection, name, method)
        yield


def left_by_the_dead(queue) -> None:
    """Take over the lock of a dead process, as the next one does."""
    queue.workflows.update_many({}, {"$unset": {"locked": "", "lock_lease": ""}})
    queue.locks.clear()


def test_killed_at_every_write_and_applied_again_gives_the_same(new_database, tiny, tmp_path) -> None:
    """Every write of the replay is a kill point; after each, another process applies the file again."""
    ended = []
    for number in range(40):
        with Queue.from_uri(new_database()) as queue:
            submit(queue, tiny())
            taken = take(queue, "build")
            make_bundle(queue, taken, tmp_path / f"{number}-bundle")
            if number == 0:
                run_bundle(tmp_path / "0-bundle", tmp_path / "result", tmp_path / "work", ALLOWED)
            # the same work, as the answer to this bundle
            with Archive.open(tmp_path / f"{number}-bundle", "bundle") as archive:
                facts = archive.manifest.model_dump(include={"database", "token", "fw_id", "launch_id"})
                result = forged(tmp_path / "result", tmp_path / "r", bundle=archive.digest, **facts)
            finished = True
            with killed_at(number):
                try:
                    apply_result(queue, result)
                except KilledError:
                    finished = False
            if not finished:
                left_by_the_dead(queue)
                applied = apply_result(queue, result)
                assert (applied.state, applied.late) == ("COMPLETED", False)
            states = [f["state"] for f in queue.fireworks.find().sort("fw_id", 1)]
            shown = sorted(queue.workflows.find_one()["fw_states"].values())
            assert shown == sorted(states)
            ended.append((structures(queue), states, queue.db.campaigns.find_one()["state"]))
            if finished:
                break
    assert finished
    assert len(ended) > 5, "too few kill points"
    assert all(each == ended[0] for each in ended)


def test_a_task_that_fails_at_a_site_halts_its_campaign_with_the_words_of_a_local_one(
    queue, tmp_path
) -> None:
    run_here(queue, take(queue, "build"), tmp_path / "a")
    run_here(queue, take(queue, "build"), tmp_path / "b")
    queue.db.structures.delete_one({"index": 4})
    taken = take(queue, "select")
    make_bundle(queue, taken, tmp_path / "bundle")
    run_bundle(tmp_path / "bundle", tmp_path / "result", tmp_path / "work", ALLOWED)
    assert (tmp_path / "work" / "launch").is_dir(), "the files of a failed task are kept"
    for number in range(30):
        try:
            with killed_at(number):
                apply_result(queue, tmp_path / "result")
        except KilledError:
            left_by_the_dead(queue)
        else:
            break
    assert number > 3
    applied = apply_result(queue, tmp_path / "result")
    assert applied.state == "FIZZLED"
    assert "12 cells should be stored, 11 are" in applied.message
    there = queue.db.campaigns.find_one()
    assert there["state"] == "halted"
    assert queue.fireworks.find_one({"fw_id": taken.fw_id})["state"] == "FIZZLED"
    queue.rerun_fw(taken.fw_id)
    queue.db.campaigns.update_one({}, {"$set": {"state": "running"}})
    run_here(queue, take(queue, "select"), tmp_path / "c")
    assert queue.db.campaigns.find_one()["reason"] == there["reason"]


def test_nobody_else_can_enter_the_database_of_a_site(queue, tmp_path, monkeypatch) -> None:
    from launchpad.embedded.server import Server

    seen = []
    original = Server.listen_unix

    def listen(self, path):
        original(self, path)
        seen.append((path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o777, path))

    monkeypatch.setattr(Server, "listen_unix", listen)
    monkeypatch.setattr(Server, "listen_tcp", None)
    run_there(queue, take(queue, "build"), tmp_path / "site")
    ((directory, socket, path),) = seen
    assert (directory, socket & 0o077) == (0o700, 0)
    assert not path.parent.exists(), "nothing is left of it"
    shutil.rmtree(tmp_path / "site")
