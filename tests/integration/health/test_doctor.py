"""`gapfactory doctor` on real servers, users, workers and files, and on what goes wrong with them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from launchpad.embedded import EmbeddedServer
from launchpad.health.database import anonymous_access
from launchpad.health.examine import CHECKS, examine
from launchpad.health.finding import HealthSettings
from launchpad.health.metrics import write_metrics

pytestmark = pytest.mark.database

ROOT = Path(__file__).parents[3]
QUEUE_TESTS = ROOT / "tests" / "integration" / "queue"
#: a busy machine and a small disk must not decide
LENIENT = HealthSettings(
    check_limit_s=120.0, latency_ms=1e5, clock_advice_s=60.0, free_advice_gb=0.0, free_failed_gb=0.0
)


@pytest.fixture(autouse=True)
def own_places(tmp_path, monkeypatch):
    """Nothing of the person who runs the tests is looked at."""
    for name in ("home", "scratch", "cache", "empty"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("GAPFACTORY_SCRATCH", str(tmp_path / "scratch"))
    monkeypatch.setenv("GAPFACTORY_CACHE", str(tmp_path / "cache"))
    for name in ("GAPFACTORY_DB", "GAPFACTORY_SITE", "XDG_CONFIG_HOME", "FW_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path / "empty")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """A server on loopback TCP with a password."""
    with EmbeddedServer(tmp_path_factory.mktemp("guarded") / "db", port=0) as server:
        yield server.uri


def findings(uri, tmp_path, **more):
    """Return what is found, by (check, subject)."""
    found, _ = examine(uri, tmp_path / "data", settings=LENIENT, **more)
    assert {f.check for f in found} == set(CHECKS)
    assert all(f.remedy or f.verdict == "ok" or "not checked" in f.found for f in found)
    json.dumps([f.data for f in found])
    return {(f.check, f.subject): f for f in found}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_healthy_database_has_no_failure(database, database_uri, tmp_path) -> None:
    from launchpad.queue import Queue

    Queue.from_uri(database_uri).close()
    found = findings(database_uri, tmp_path)
    assert [f for f in found.values() if f.verdict == "failed"] == []
    assert found["database", "server"].data["name"] == database.name
    assert found["database", "indexes"].verdict == "ok"
    assert found["database", "indexes"].data == {"missing": []}
    assert found["database", "durability"].data == {"w": "majority", "j": True}
    assert found["database", "latency"].data["median_ms"] > 0
    assert found["queue", "stuck tasks"].verdict == "ok"
    assert abs(found["clocks", "this host"].data["offset_s"]) < 60


def test_it_changes_nothing(database_uri, tmp_path) -> None:
    from launchpad.database.connection import open_database

    findings(database_uri, tmp_path)
    opened = open_database(database_uri)
    assert opened.list_collection_names() == []
    opened.client.close()
    assert not (tmp_path / "data").exists()


def test_no_server_answers(tmp_path) -> None:
    settings = LENIENT.model_copy(update={"server_selection_s": 0.5})
    found, patient = examine(f"mongodb://127.0.0.1:{free_port()}/x", tmp_path / "data", settings=settings)
    assert patient.database is None
    server = next(f for f in found if f.check == "database")
    assert server.verdict == "failed"
    assert "does not answer" in server.found
    # what needs no database is examined all the same, and nothing else is said to be well
    assert {f.check for f in found} == set(CHECKS)
    assert next(f for f in found if f.check == "clocks").verdict == "advice"
    assert any(f.check == "scratch" for f in found)


def test_no_local_server_runs_and_none_is_started(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no private mongod either
    found = findings(None, tmp_path)
    assert found["database", "server"].verdict == "advice"
    assert "gapfactory db start" in found["database", "server"].remedy
    assert not (tmp_path / "data").exists()


def test_wrong_password(guarded, tmp_path) -> None:
    secret = urlsplit(guarded).password
    found = findings(guarded.replace(secret, "not-the-password"), tmp_path)
    server = found["database", "server"]
    assert server.verdict == "failed"
    assert "password" in server.found
    assert "not-the-password" not in server.found


def test_a_server_with_passwords_lets_nobody_else_in(guarded, tmp_path) -> None:
    found = findings(guarded, tmp_path)
    entry = found["database", "entry"]
    assert not anonymous_access([("127.0.0.1", urlsplit(guarded).port)], "group", 5.0)
    assert entry.verdict == "ok"
    assert entry.data["anonymous"] is False
    assert entry.data["users"]
    # more rights than a worker needs, on a server that was given
    assert found["permissions", "roles"].verdict == "advice"


def test_a_server_that_lets_anybody_in_is_noticed(tmp_path) -> None:
    """The embedded server trusts its own user on a Unix socket, without a password."""
    with EmbeddedServer(tmp_path / "open") as server:
        address = urlsplit(server.uri).netloc
        assert address.endswith(".sock")
        assert anonymous_access([(address, None)], "group", 30.0)


def test_a_user_who_may_only_look_can_ask_the_doctor(guarded, tmp_path) -> None:
    from pymongo import MongoClient

    place = urlsplit(guarded)
    with MongoClient(guarded) as client:
        client["group"].command("createUser", "guest", pwd="see", roles=["read"])  # noqa: S106
        client["group"].fireworks.insert_one({"fw_id": 1, "state": "FIZZLED"})
    found = findings(f"mongodb://guest:see@127.0.0.1:{place.port}/group?directConnection=true", tmp_path)
    assert found["permissions", "roles"].verdict == "advice"
    assert "only look" in found["permissions", "roles"].found
    assert found["queue", "failed tasks"].data["fizzled"] == 1
    # FireWorks' own unique index was never made there
    assert found["database", "indexes"].verdict == "failed"


def test_a_uri_that_gives_up_durability(database_uri, tmp_path) -> None:
    joint = "&" if "?" in database_uri else "?"
    for options in ("w=0", "w=0&journal=false"):
        found = findings(f"{database_uri}{joint}{options}", tmp_path)["database", "durability"]
        assert found.verdict == "failed"
        assert "remove w" in found.remedy
    assert findings(f"{database_uri}{joint}w=1", tmp_path)["database", "durability"].verdict == "advice"


def test_a_missing_index_is_named(database, database_uri, tmp_path) -> None:
    database.labels.drop_index("status_1")
    assert findings(database_uri, tmp_path)["database", "indexes"].found == "nothing is stored yet"
    database.labels.insert_one({"_id": "a", "status": "done"})
    found = findings(database_uri, tmp_path)["database", "indexes"]
    assert found.verdict == "advice"
    assert found.data == {"missing": ["labels: status"]}
    assert "gapfactory db start" in found.remedy


def test_scratch_that_cannot_be_written(database_uri, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("GAPFACTORY_SCRATCH", "/proc/self/task")
    assert findings(database_uri, tmp_path)["scratch", "workers"].verdict == "failed"


def test_codes_asked_for_by_name(database_uri, tmp_path, monkeypatch) -> None:
    (tmp_path / "site.toml").write_text('[vasp]\ncommand = ["no-such-program-anywhere"]\n')
    monkeypatch.setenv("GAPFACTORY_SITE", str(tmp_path / "site.toml"))
    found = findings(database_uri, tmp_path, engines=["ase", "vasp"])
    assert found["codes", "ase"].verdict == "ok"
    assert found["codes", "ase"].data["version"]
    assert found["codes", "vasp"].verdict == "failed"
    assert "no-such-program-anywhere" in found["codes", "vasp"].found
    unknown = findings(database_uri, tmp_path, engines=["espreso"])
    assert "espreso" in unknown["codes", "check"].found


@pytest.mark.espresso
@pytest.mark.skipif(shutil.which("pw.x") is None, reason="Quantum ESPRESSO is not installed")
def test_launcher_and_common_scratch_of_a_code(database_uri, tmp_path, monkeypatch) -> None:
    site = tmp_path / "site.toml"
    monkeypatch.setenv("GAPFACTORY_SITE", str(site))
    site.write_text(f'[espresso]\nscratch = "{tmp_path}"\n')
    well = findings(database_uri, tmp_path, engines=["espresso"])
    assert well["codes", "espresso"].verdict == "ok"
    assert well["scratch", "common, espresso"].verdict == "ok"
    site.write_text('[espresso]\nlauncher = ["no-such-launcher"]\nscratch = "/proc/self/task"\n')
    found = findings(database_uri, tmp_path, engines=["espresso"])
    assert found["codes", "espresso"].verdict == "failed"
    assert "no-such-launcher" in found["codes", "espresso"].found
    assert found["scratch", "common, espresso"].verdict == "failed"


def test_codes_that_campaigns_ask_for(database, database_uri, tmp_path, monkeypatch) -> None:
    from gapfactory.campaign import campaign_from_mapping
    from launchpad.database.campaigns import create_campaign, set_state
    from launchpad.states import CampaignState

    (tmp_path / "site.toml").write_text('[vasp]\ncommand = ["no-such-program-anywhere"]\n')
    monkeypatch.setenv("GAPFACTORY_SITE", str(tmp_path / "site.toml"))
    quick = {"preset": "quickstart-Si-analytic"}
    create_campaign(database, campaign_from_mapping(quick | {"name": "one"}), "", {})
    create_campaign(database, campaign_from_mapping(quick | {"name": "two"}), "", {})
    other = campaign_from_mapping({"element": "Si", "name": "dft", "reference": {"engine": "vasp"}})
    create_campaign(database, other, "", {})
    found = findings(database_uri, tmp_path)
    assert found["codes", "ase"].verdict == "ok"
    assert "one, two" in found["codes", "ase"].found
    # other hosts may have it: no worker of this one takes reference tasks
    assert found["codes", "vasp"].verdict == "advice"
    set_state(database, "dft", CampaignState.CANCELLED, "")
    assert ("codes", "vasp") not in findings(database_uri, tmp_path)


def test_every_kind_of_stuck_task_is_seen(database, database_uri, tmp_path) -> None:
    """What the reaper repairs, made by hand as its own tests make it."""
    from launchpad.queue import Queue
    from launchpad.queue.survey import survey

    elsewhere = {"host": "faraway", "node": "another-boot/pid:[1]", "pid": 4242, "start": 1}
    with Queue.from_uri(database_uri, read_only=True) as queue:
        now = queue.now()
        iso = "2020-01-01T00:00:00"
        database.fireworks.insert_many(
            [
                {"fw_id": 1, "state": "RESERVED", "launches": [], "updated_on": iso},
                {"fw_id": 2, "state": "RESERVED", "launches": [], "checkout": {**elsewhere, "since": now}},
                {
                    "fw_id": 3,
                    "state": "RESERVED",
                    "launches": [],
                    "checkout": {**elsewhere, "since": now - 1e4},
                },
                {"fw_id": 7, "state": "WAITING", "launches": [], "updated_on": iso},
                {"fw_id": 8, "state": "COMPLETED", "launches": [], "updated_on": iso},
            ]
        )
        database.launches.insert_many(
            [
                {"launch_id": 1, "fw_id": 4, "state": "RUNNING", "process": elsewhere, "heartbeat_at": now},
                {
                    "launch_id": 2,
                    "fw_id": 5,
                    "state": "RUNNING",
                    "process": elsewhere,
                    "heartbeat_at": now - 1e4,
                },
                {"launch_id": 3, "fw_id": 6, "requeue": {"pending": True, "due": now - 1e4}},
                {"launch_id": 4, "fw_id": 9, "requeue": {"pending": True, "due": now + 1e4}},
            ]
        )
        lease = {**elsewhere, "token": "t"}
        graph = {"state": "RUNNING", "fw_states": {}, "parent_links": {}}
        database.workflows.insert_many(
            [
                {**graph, "nodes": [10], "locked": True, "lock_lease": {**lease, "since": now}},
                {**graph, "nodes": [11], "locked": True, "lock_lease": {**lease, "since": now - 1e4}},
                {**graph, "nodes": [12], "locked": True, "updated_on": iso},
                {
                    "state": "RUNNING",
                    "nodes": [7, 8],
                    "fw_states": {"7": "WAITING", "8": "COMPLETED"},
                    "parent_links": {"7": [8]},
                },
            ]
        )
        database.queue_journal.insert_many(
            [
                {"_id": "add:x", "kind": "add"},
                {"_id": "workflow:x", "kind": "update", "fw_id": 11, "token": "another"},
                {"_id": "workflow:y", "kind": "update", "fw_id": 10, "token": "t"},
            ]
        )
        seen = survey(queue)
    assert seen.reservations == (1, 3)
    assert list(seen.lost) == [5]
    assert "no heartbeat from process 4242 on faraway" in seen.lost[5]
    assert seen.overdue == (6,)
    assert seen.locks == (11, 12)
    assert seen.lagging == (7,)
    assert (seen.journals, seen.compared) == (2, 1)
    assert findings(database_uri, tmp_path)["queue", "stuck tasks"].verdict == "failed"


def worker_on(uri: str, tmp_path: Path, log: str = "worker.log") -> subprocess.Popen[bytes]:
    """Start a real worker process without a supervisor."""
    from launchpad.queue import QueueSettings
    from launchpad.workers import WorkerSettings

    configuration = {
        "uri": uri,
        "scratch": str(tmp_path / "scratch"),
        "worker": WorkerSettings(allowed=("queue_tasks.*",), report_s=0.2).model_dump(mode="json"),
        "queue": QueueSettings().model_dump(mode="json"),
    }
    with (tmp_path / log).open("ab") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "launchpad.workers"],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(QUEUE_TESTS), str(ROOT)])},
        )
    assert process.stdin is not None
    with process.stdin as pipe:
        pipe.write(json.dumps(configuration).encode())
    return process


def wait_for(condition, what: str, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"{what} did not come true within {seconds} s"
        time.sleep(0.05)


def test_the_task_of_a_killed_worker_is_found_and_repaired(
    database, database_uri, tmp_path, monkeypatch
) -> None:
    monkeypatch.syspath_prepend(str(QUEUE_TESTS))
    from fireworks import Firework
    from queue_tasks import Note

    from launchpad.queue import Queue, reap

    note = tmp_path / "note"
    with Queue.from_uri(database_uri) as queue:
        ids = queue.add_wf(Firework(Note(file=str(note), sleep=300.0), name="long"))
        fw_id = next(iter(ids.values()))
        process = worker_on(database_uri, tmp_path)
        try:
            wait_for(note.exists, "the task's beginning")
            wait_for(lambda: database.workers.find_one({"state": {"$ne": "stopped"}}), "the registration")
            alive = findings(database_uri, tmp_path)
            assert alive["queue", "stuck tasks"].verdict == "ok"
            assert alive["workers", "alive"].data["alive"] == 1
            assert alive["workers", "versions"].verdict == "ok"
            # what it recorded of its own clock, which is the server's here
            assert abs(alive["clocks", f"workers on {socket.gethostname()}"].data["offset_s"]) < 60
            process.send_signal(signal.SIGKILL)
        finally:
            process.kill()
            process.wait(30)
        dead = findings(database_uri, tmp_path)
        stuck = dead["queue", "stuck tasks"]
        assert stuck.verdict == "failed"
        assert stuck.data["lost"] == [fw_id]
        assert f"process {process.pid}" in stuck.found
        assert "gapfactory worker start" in stuck.remedy
        assert dead["workers", "alive"].verdict == "advice"
        assert dead["workers", "alive"].data["dead"] == 1
        # looking has repaired nothing
        assert database.fireworks.find_one({"fw_id": fw_id})["state"] == "RUNNING"
        reap(queue)
    after = findings(database_uri, tmp_path)
    assert after["queue", "stuck tasks"].verdict == "ok"
    assert after["workers", "ready tasks"].verdict == "advice"
    assert after["workers", "ready tasks"].data["ready"] == {"": 1}


def test_a_worker_whose_clock_is_wrong(database, database_uri, tmp_path) -> None:
    from launchpad.queue import Queue
    from launchpad.workers.registry import Registration

    with Queue.from_uri(database_uri) as queue:
        Registration(queue, "worker", ()).report("idle")
    assert database.workers.count_documents({"clock_offset_s": {"$gt": -60, "$lt": 60}}) == 1
    database.workers.update_one({}, {"$set": {"host": "faraway", "clock_offset_s": 600.0}})
    assert findings(database_uri, tmp_path)["clocks", "workers on faraway"].verdict == "failed"


def read_metrics(path: Path) -> dict[str, float]:
    return {
        line.rpartition(" ")[0]: float(line.rpartition(" ")[2])
        for line in path.read_text().splitlines()
        if not line.startswith("#")
    }


def test_metrics_count_what_is_there(database, database_uri, tmp_path) -> None:
    from datetime import UTC, datetime, timedelta

    old = (datetime.now(UTC) - timedelta(hours=2)).isoformat()
    database.fireworks.insert_many(
        [
            {"fw_id": 1, "state": "READY", "updated_on": old, "spec": {"_category": "fit"}},
            {"fw_id": 2, "state": "READY", "updated_on": datetime.now(UTC).isoformat(), "spec": {}},
            {"fw_id": 3, "state": "FIZZLED", "updated_on": old, "spec": {}},
        ]
    )
    database.labels.insert_many([{"_id": "a", "status": "done"}, {"_id": "b", "status": "failed"}])
    found, patient = examine(database_uri, tmp_path / "data", settings=LENIENT, keep=True)
    target = tmp_path / "gapfactory.prom"
    target.write_text("old")
    write_metrics(target, found, patient)
    patient.database.client.close()
    seen = read_metrics(target)
    assert seen["gapfactory_up"] == 1
    assert seen['gapfactory_tasks{state="READY"}'] == 2
    assert seen['gapfactory_tasks{state="FIZZLED"}'] == 1
    assert seen['gapfactory_tasks{state="RUNNING"}'] == 0
    assert seen['gapfactory_ready_tasks{category="fit"}'] == 1
    assert 7200 <= seen["gapfactory_queue_delay_seconds"] < 9000
    assert seen['gapfactory_labels{status="done"}'] == 1
    assert seen['gapfactory_labels{status="failed"}'] == 1
    assert seen['gapfactory_workers{kind="worker",condition="alive"}'] == 0
    assert seen['gapfactory_check{check="database",subject="server"}'] == 0
    assert target.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.glob(".gapfactory*")] == []


def test_the_command(place) -> None:
    """Text, JSON, exit codes and metrics, as a person and a collector meet them."""
    place.environment |= {"HOME": str(place.directory)}
    place.good("db", "start")
    target = place.directory / "gapfactory.prom"
    done = place.run("doctor", "--json", "--metrics", str(target))
    report = json.loads(done.stdout)
    assert done.returncode == (1 if report["verdict"] == "failed" else 0), done.stdout
    assert {f["check"] for f in report["findings"]} == set(CHECKS)
    assert next(f for f in report["findings"] if f["subject"] == "server")["data"]["kind"] == "embedded"
    assert read_metrics(target)["gapfactory_up"] == 1
    # a secret that others can change and read
    (place.data / "my_launchpad.yaml").chmod(0o666)
    shown = place.run("doctor")
    assert shown.returncode == 1
    assert "Traceback" not in shown.stdout + shown.stderr
    assert "chmod go-w" in " ".join(shown.stdout.split())
    (place.data / "my_launchpad.yaml").chmod(0o600)
    # without its database: exit code 1, a file that says so, no password anywhere
    uri = f"mongodb://me:geheim@127.0.0.1:{free_port()}/x?serverSelectionTimeoutMS=300"
    gone = place.run("doctor", "--json", "--metrics", str(target), GAPFACTORY_DB=uri)
    assert gone.returncode == 1
    assert json.loads(gone.stdout)["verdict"] == "failed"
    assert "geheim" not in gone.stdout + gone.stderr + target.read_text()
    assert read_metrics(target)["gapfactory_up"] == 0
