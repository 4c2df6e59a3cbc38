"""Identity of processes, allow-list, spool, connection options, settings: what needs no database."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from types import SimpleNamespace

import pytest
from fireworks import Firework
from fireworks.core.fworker import FWorker
from fireworks.utilities.fw_serializers import recursive_dict

from gapfactory.errors import DatabaseError
from launchpad.queue import QueueSettings, write_launchpad_file
from launchpad.queue.checkout import ready_query
from launchpad.queue.connection import client_options, database_name
from launchpad.queue.guard import AllowList, Inert
from launchpad.queue.identity import ProcessIdentity, process_start
from launchpad.queue.repair import _parents_first
from launchpad.queue.spool import Spool
from launchpad.queue.states import FireworkState
from launchpad.workers.settings import WorkerSettings, default_scratch
from launchpad.workers.supervisor import _reason


def test_identity_round_trip_and_fate():
    me = ProcessIdentity.current()
    assert me.fate == "alive"
    assert ProcessIdentity.from_document(json.loads(json.dumps(me.document()))) == me
    assert ProcessIdentity.from_document({"host": "x"}) is None
    assert ProcessIdentity.from_document(None) is None


def test_reused_pid_is_another_process():
    me = ProcessIdentity.current()
    assert ProcessIdentity(me.host, me.node, me.pid, me.start - 1).fate == "dead"


def test_other_machines_cannot_be_judged():
    me = ProcessIdentity.current()
    assert ProcessIdentity(me.host, "another boot", me.pid, me.start).fate == "unknown"


def test_zombie_is_dead():
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(child.pid) is None
    me = ProcessIdentity.current()
    ended = ProcessIdentity(me.host, me.node, child.pid, me.start)
    assert ended.fate == "dead"
    child.wait()
    assert ended.fate == "dead"


def test_here_is_this_machine_since_its_last_start():
    me = ProcessIdentity.current()
    assert me.start == process_start(os.getpid()) > 0
    assert me.here is True
    other = ProcessIdentity(me.host, "another boot", me.pid, me.start)
    assert other.here is False
    assert len(me.node_tag) == len(other.node_tag) == 8
    assert me.node_tag == ProcessIdentity("x", me.node, 1, 2).node_tag != other.node_tag


def test_start_time_of_a_process_with_an_awkward_name(tmp_path):
    awkward = tmp_path / "a) R 1 (b"
    awkward.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(awkward), "60"])
    try:
        start = process_start(child.pid)
        assert start is not None
        assert start >= ProcessIdentity.current().start
    finally:
        child.kill()
        child.wait()


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("{{launchpad.tasks.build.BuildTask}}", True),
        ("{{ launchpad.tasks.build.BuildTask }}", True),
        ("{{launchpad.tasksevil.Task}}", False),
        ("{{launchpad.queue.guard.Inert}}", False),
        ("{{os.system}}", False),
        ("launchpad.tasks.build.BuildTask", False),
        ("{{launchpad.tasks.}}", False),
        ("{{launchpad.tasks.x; import os}}", False),
        ("{{launchpad.tasks..os.system}}", False),
        ("ScriptTask", False),
        ("PyTask", False),
        (None, False),
        (7, False),
    ],
)
def test_default_allow_list(name, allowed):
    assert AllowList().allows(name) is allowed


def test_a_package_is_not_those_whose_names_begin_alike():
    name = "{{launchpad.tasks.build.BuildTask}}"
    assert AllowList(("launchpad.tasks.*",)).allows(name) is True
    for package in (
        "launchpad.task.*",
        "launchpad.tas.*",
        "launchpad.tasks.b.*",
        "launchpad.tasks",
        "aunchpad.tasks.*",
    ):
        assert AllowList((package,)).allows(name) is False
    assert AllowList(("launchpad.tasks.*",)).allows("{{launchpad.tasks.nothing.BuildTask}}") is False


def test_exact_names():
    chosen = AllowList(("ScriptTask", "mine.tasks.One"))
    assert chosen.allows("ScriptTask")
    assert chosen.allows("{{mine.tasks.One}}")
    assert not chosen.allows("{{mine.tasks.Two}}")


def test_foreign_objects_are_inert_and_unchanged():
    wicked = {"_fw_name": "{{wicked.Task}}", "nested": [{"_fw_name": "PyTask", "func": "os.system"}]}
    spec = {"_tasks": [wicked], "monty": {"@module": "os", "@class": "system"}, "plain": {"a": [1, "b"]}}
    inert = AllowList().inert(spec)
    assert isinstance(inert["_tasks"][0], Inert)
    assert isinstance(inert["monty"], Inert)
    assert inert["plain"] == spec["plain"]
    assert recursive_dict(inert) == spec
    with pytest.raises(PermissionError, match="allow-list"):
        inert["_tasks"][0].run_task({})


def test_inert_firework_is_written_back_as_it_was():
    wicked = {"_fw_name": "{{module_that_does_not_exist.Task}}", "a": 1}
    document = {"spec": {"_tasks": [wicked], "x": 1}, "fw_id": 3, "name": "wicked", "state": "READY"}
    firework = Firework.from_dict(AllowList().inert(document))
    assert firework.to_db_dict()["spec"] == document["spec"]


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, "no task"),
        ({"_tasks": []}, "no task"),
        ({"_tasks": ["text"]}, "None"),
        ({"_tasks": [{"_fw_name": "ScriptTask"}]}, "'ScriptTask'"),
        (
            {"_tasks": [{"_fw_name": "{{launchpad.tasks.build.BuildTask}}", "x": {"_fw_name": "PyTask"}}]},
            "'PyTask'",
        ),
        (
            {"_tasks": [{"_fw_name": "{{launchpad.tasks.build.BuildTask}}"}], "_launch_dir": "/"},
            "_launch_dir",
        ),
        (
            {
                "_tasks": [{"_fw_name": "{{launchpad.tasks.build.BuildTask}}"}],
                "m": {"@module": "os", "@class": "x"},
            },
            "'os.x'",
        ),
    ],
)
def test_refusals_say_why(spec, words):
    assert words in AllowList().refusal(spec)


def test_our_own_specs_are_not_refused():
    task = {"_fw_name": "{{launchpad.tasks.build.BuildTask}}", "campaign": "si"}
    spec = {
        "_tasks": [task],
        "_category": "build",
        "_priority": 3,
        "_add_launchpad_and_fw_id": True,
        "campaign": "si",
    }
    assert AllowList().refusal(spec) is None


def test_an_installation_that_is_broken_is_told_as_that(tmp_path, monkeypatch):
    (tmp_path / "brokentasks").mkdir()
    (tmp_path / "brokentasks" / "__init__.py").touch()
    (tmp_path / "brokentasks" / "one.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    told = AllowList(("brokentasks.*",)).refusal({"_tasks": [{"_fw_name": "{{brokentasks.one.OneTask}}"}]})
    assert "cannot be loaded here: No module named 'a_module_that_is_not_there'" in told
    # of a package that is not allowed nothing is imported
    told = AllowList(("other.*",)).refusal({"_tasks": [{"_fw_name": "{{brokentasks.two.OneTask}}"}]})
    assert "is not on this worker's allow-list (other.*)" in told


def test_query_of_a_worker():
    plain = ready_query(FWorker(name="here").query)
    assert plain == {"spec._fworker": {"$in": [None, "here"]}, "state": "READY"}
    chosen = ready_query(FWorker(name="here", category=["fit", "relax"]).query)
    assert chosen["spec._category"] == {"$in": ["fit", "relax"]}
    assert "$or" in ready_query({"$or": [{"spec.a": 1}, {"spec.b": 2}]})


def test_parents_come_first():
    order = _parents_first({1: [2], 2: [4], 3: [4], 4: [], 5: [3, 1]})
    assert sorted(order) == [1, 2, 3, 4, 5]
    assert all(
        order.index(parent) < order.index(child) for parent, child in [(1, 2), (2, 4), (3, 4), (5, 3), (5, 1)]
    )


def test_database_names():
    assert database_name("mongodb://host/") == "gapfactory"
    assert database_name("mongodb://u:p@host:1/silicon?authSource=admin") == "silicon"
    assert database_name("mongodb://%2Ftmp%2Fa.sock/x?directConnection=true") == "x"
    assert database_name("mongodb://a,b,c/x?replicaSet=rs") == "x"


def test_bad_uri_is_a_clear_error_without_the_password():
    with pytest.raises(DatabaseError, match="not a usable MongoDB URI") as caught:
        database_name("mongodb://user:secret@host:notaport/")
    assert "secret" not in str(caught.value)


def test_uri_options_win():
    plain = client_options("mongodb://host/x", server_selection_s=2.0)
    assert plain["w"] == "majority"
    assert plain["journal"] is True
    assert plain["serverSelectionTimeoutMS"] == 2000
    own = client_options(
        "mongodb://host/x?w=1&journal=false&serverSelectionTimeoutMS=9", server_selection_s=2.0
    )
    assert not {"w", "journal", "serverSelectionTimeoutMS"} & set(own)


def test_launchpad_file_is_private_and_replaced_in_one_step(tmp_path, monkeypatch):
    uri = "mongodb://user:secret@host/silicon"
    path = write_launchpad_file(tmp_path, uri)
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    modes = []
    real = os.open
    monkeypatch.setattr(os, "open", lambda *a, **k: modes.append(a[2:]) or real(*a, **k))
    write_launchpad_file(path, uri)
    assert modes == [(0o600,)], "private from the first byte"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [found.name for found in tmp_path.iterdir()] == ["my_launchpad.yaml"]


def test_spool_files(tmp_path):
    spool = Spool(tmp_path / "spool")
    assert spool.waiting() == []
    path = spool.put("identity-of-a-database", 7, "COMPLETED", {"stored_data": {}}, 1.5)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert spool.put("identity-of-a-database", 7, "COMPLETED", {"stored_data": {}}, 1.5) == path
    assert spool.waiting() == [path]
    taken = []
    queue = SimpleNamespace(database_identity="another", deliver=taken.append)
    assert spool.deliver(queue) == 0
    queue.database_identity = "identity-of-a-database"
    assert spool.deliver(queue) == 1
    wanted = {
        "launch_id": 7,
        "action": {"stored_data": {}},
        "state": "COMPLETED",
        "moment": 1.5,
        "checkout": None,
    }
    assert taken == [{"database": "identity-of-a-database", **wanted}]
    assert spool.waiting() == []


def test_a_result_that_somebody_else_delivers_meanwhile_keeps_no_other_waiting(tmp_path):
    spool = Spool(tmp_path / "not" / "yet")
    paths = [spool.put("x", launch, "COMPLETED", None, 1.0) for launch in (1, 2, 3)]
    taken = []

    def deliver(content):
        taken.append(content["launch_id"])
        paths[1].unlink(missing_ok=True)

    assert spool.deliver(SimpleNamespace(database_identity="x", deliver=deliver)) == 2
    assert taken == [1, 3]


def test_a_disk_that_takes_no_more_leaves_nothing_behind(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (40, hard))
    try:
        with pytest.raises(OSError, match="large"):
            Spool(tmp_path).put("x", 1, "COMPLETED", {"much": "x" * 100_000}, 1.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"database": "x"}', "[" * 100_000, "\ufeff{}", ""])
def test_damaged_spool_file_is_set_aside(tmp_path, text):
    spool = Spool(tmp_path)
    (tmp_path / "launch-x-1.json").write_text(text, encoding="utf-8")
    assert spool.deliver(SimpleNamespace(database_identity="x", deliver=None)) == 0
    assert spool.waiting() == []
    assert len(list(tmp_path.glob("*.damaged"))) == 1


def test_settings_are_strict():
    with pytest.raises(ValueError, match="heartbeat"):
        QueueSettings(heartbeat=3)
    with pytest.raises(ValueError, match="greater than 0"):
        QueueSettings(lease_s=0)
    assert QueueSettings().heartbeat_s * 3 < QueueSettings().lease_s, "a lease outlives missed heartbeats"
    assert WorkerSettings().allowed == ("launchpad.tasks.*",)


def test_scratch(monkeypatch, tmp_path):
    monkeypatch.delenv("GAPFACTORY_SCRATCH", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_scratch() == tmp_path / "gapfactory" / "workers"
    monkeypatch.setenv("GAPFACTORY_SCRATCH", "/fast/disk")
    assert str(default_scratch()) == "/fast/disk"


def test_states_are_fireworks_own():
    assert set(FireworkState) == set(Firework.STATE_RANKS)


def test_exit_codes_in_words():
    assert _reason(-9) == "SIGKILL"
    assert _reason(3) == "exit code 3"
