"""The way to a site, and what becomes of tasks that are there, over a real sshd."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from bundle_help import submit
from gf_proxy import Proxy
from gf_push_site import ROOT, eventually, site_text
from gf_sshd import SSHD, start_sshd
from pymongo.uri_parser import parse_uri

from launchpad.queue import Queue, reap
from launchpad.queue.guard import AllowList
from launchpad.queue.identity import ProcessIdentity, process_start
from launchpad.remote import run_bundle
from launchpad.remote.depot import Depot
from launchpad.remote.errors import RemoteError
from launchpad.remote.exchange import look
from launchpad.remote.ledger import Ledger
from launchpad.remote.push import PushWorker
from launchpad.remote.settings import load_push_site
from launchpad.remote.transport import Transport

pytestmark = [
    pytest.mark.database,
    pytest.mark.timeout(300),
    pytest.mark.skipif(SSHD is None, reason="no sshd is installed"),
]

QUICK = {"poll_s": 0.1, "pilots_s": 1.0, "retry_first_s": 0.1, "connect_s": 5, "drain_s": 5}


@pytest.fixture(scope="module")
def gate(tmp_path_factory):
    """A login node; a test that stops it starts it again."""
    with start_sshd(tmp_path_factory.mktemp("gate") / "sshd") as running:
        yield running


@pytest.fixture
def described(tmp_path, gate):
    """A function that makes a site behind the login node, with its connection closed at the end."""
    made = []

    def make(way=gate, timing=None, **changes):
        path = tmp_path / "site.yaml"
        more = {"scheduler": None, "timing": QUICK | (timing or {})} | changes
        path.write_text(site_text(way, tmp_path / "site", **more))
        made.append(load_push_site(path))
        return made[-1]

    yield make
    for site in made:
        Transport(site).disconnect()


@pytest.fixture
def inbox(tmp_path):
    """Where results land; and a bundle of some size, of no meaning."""
    (tmp_path / "in").mkdir()
    (tmp_path / "b-1.bundle").write_bytes(os.urandom(100_000))
    return tmp_path / "in"


# ------------------------------------------------------------------------------------------------- the way to the site


def test_errors_have_kinds_and_remedies(described, gate, inbox, tmp_path) -> None:
    def trouble(**changes) -> tuple[str, str]:
        with pytest.raises(RemoteError) as raised:
            look(Transport(described(**changes)), into=inbox)
        return raised.value.kind, str(raised.value)

    kind, text = trouble(python="/nowhere/python")
    assert (kind, "'/nowhere/python' cannot be started" in text) == ("missing", True)
    assert "correct 'python' or 'setup'" in text
    kind, text = trouble(
        setup=["export PYTHONPATH=", "cd /", f"export PATH={tmp_path}"], python="/usr/bin/env"
    )
    assert kind == "site", text
    bare = tmp_path / "bare"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -I -S "$@"\n')
    bare.chmod(0o755)
    kind, text = trouble(python=str(bare))
    assert (kind, "has no gapfactory" in text) == ("missing", True), text
    assert trouble(directory="/proc/nowhere")[0] == "site"

    Transport(described()).disconnect()
    known = gate.directory / "known_hosts"
    right = known.read_text()
    with start_sshd(tmp_path / "other", alias="other") as other:
        known.write_text((other.directory / "known_hosts").read_text().replace("other", gate.alias, 1))
    kind, text = trouble()
    assert kind == "host-key"
    assert "gapfactory push connect" in text
    known.write_text(right)
    keys = gate.directory / "authorized_keys"
    mine = keys.read_text()
    keys.write_text("")
    kind, text = trouble()
    assert kind == "authentication"
    assert "gapfactory push connect" in text
    keys.write_text(mine)
    gate.stop()
    assert trouble()[0] == "network"
    gate.start()


def test_one_login_through_a_jump_host_serves_everything(described, gate, inbox, tmp_path) -> None:
    """The connection is opened once, as a person does; afterwards neither host accepts a login, and none is needed."""
    with start_sshd(tmp_path / "jump", alias="jump") as jump:
        both = tmp_path / "both"
        both.write_text(gate.config.read_text() + jump.config.read_text())
        site = described(jump="jump", ssh_config=str(both))
        transport = Transport(site)
        before = gate.logins()
        transport.connect(interactive=True)
        for keys in (gate.directory / "authorized_keys", jump.directory / "authorized_keys"):
            keys.rename(keys.with_suffix(".away"))
        try:
            sent = look(transport, bundles=[tmp_path / "b-1.bundle"], into=inbox)
            again = look(transport, bundles=[tmp_path / "b-1.bundle"], into=inbox)
            assert sent.stored == again.stored == sent.waiting == again.waiting == {"b-1"}
            assert gate.logins() - before == jump.logins() == 1
            assert transport.connected
            assert transport.socket.parent.stat().st_mode & 0o777 == 0o700
            assert (Path(site.directory)).stat().st_mode & 0o777 == 0o700
        finally:
            for keys in (gate.directory / "authorized_keys", jump.directory / "authorized_keys"):
                keys.with_suffix(".away").rename(keys)
        transport.disconnect()
        assert not transport.connected


def test_a_transfer_that_is_cut_leaves_nothing_and_is_repeated(described, gate, inbox, tmp_path) -> None:
    large = tmp_path / "b-2.bundle"
    large.write_bytes(os.urandom(1_000_000) * 80)
    site = described()
    transport = Transport(site)
    look(transport, into=inbox)
    there = Path(site.directory) / "inbox"

    def cut() -> None:
        eventually(lambda: any(path.stat().st_size > 1_000_000 for path in there.glob(".*")))
        gate.stop()

    thread = threading.Thread(target=cut)
    thread.start()
    try:
        with pytest.raises(RemoteError) as raised:
            look(transport, bundles=[large], into=inbox)
        assert raised.value.kind == "network"
    finally:
        thread.join()
        gate.start()
    assert not list(there.glob("*.bundle"))
    found = look(transport, bundles=[large], into=inbox)
    assert found.stored == {"b-2"}
    assert (there / "b-2.bundle").read_bytes() == large.read_bytes()
    eventually(lambda: not list(there.glob(".*")), why="what was cut is removed")


@pytest.mark.parametrize(
    "answer",
    [
        "{}",
        "[" * 100_000,
        '{"files": [{"name": "\\u0000.result", "size": 0, "sha256": ""}]}',
        '{"files": [{"name": "..", "size": 0, "sha256": ""}]}',
        '{"files": [{"name": "a.result", "size": 99999999999999, "sha256": ""}]}',
        '{"error": "no", "kind": []}',
        '{"error": "no"}',
    ],
)
def test_an_answer_of_another_form_is_trouble_of_the_site(described, inbox, tmp_path, answer) -> None:
    there = tmp_path / "python"
    (tmp_path / "answer").write_text(f"\n#gapfactory-exchange\n{answer}\n")
    there.write_text(f"#!/bin/sh\ncat {tmp_path}/answer\n")
    there.chmod(0o755)
    with pytest.raises(RemoteError) as raised:
        look(Transport(described(python=str(there))), into=inbox)
    assert raised.value.kind == "site"
    assert not list(inbox.iterdir())


def test_why_a_large_bundle_is_not_read_is_said(described, inbox, tmp_path) -> None:
    large = tmp_path / "b-3.bundle"
    large.write_bytes(bytes(20_000_000))
    with pytest.raises(RemoteError) as raised:
        look(Transport(described(directory="/proc/nowhere")), bundles=[large], into=inbox)
    assert "/proc/nowhere on" in str(raised.value)
    assert "cannot be used" in str(raised.value)


def test_a_site_that_hangs_is_given_up_in_time(described, gate, inbox) -> None:
    site = described(timing={"call_s": 1.0}, setup=["sleep 60"])
    began = time.monotonic()
    with pytest.raises(RemoteError) as raised:
        look(Transport(site), into=inbox)
    assert raised.value.kind == "network"
    assert "did not answer within 1 s" in str(raised.value)
    assert time.monotonic() - began < 10.0


def test_greetings_of_a_login_shell_do_not_matter(described, inbox) -> None:
    text = described()
    site = text.model_copy(update={"setup": (*text.setup, "echo Welcome", "echo to the cluster >&2")})
    assert look(Transport(site), into=inbox).known == frozenset()


# ------------------------------------------------------------------------------------------- tasks that are at the site


@pytest.fixture
def queue(database_uri, tiny):
    """A campaign whose first tasks are ready: two of build, and others."""
    with Queue.from_uri(database_uri) as opened:
        submit(opened, tiny())
        yield opened


@pytest.fixture
def worker(database_uri, described, tmp_path):
    """A function that starts a push worker (without its loop) on one ledger."""
    started = []
    queue = Queue.from_uri(database_uri)

    def make(*, ledger="ledger", **changes):
        for one in started:
            one.ledger.close()  # as the end of its process does
        changes = {"categories": ["build"], "ahead": 2} | changes
        started.append(PushWorker(queue, described(**changes), Ledger(tmp_path / ledger)))
        started[-1].open()
        return started[-1]

    yield make
    for one in started:
        one.ledger.close()
    queue.close()


@pytest.fixture
def depot(tmp_path):
    return Depot(tmp_path / "site")


def sent(made) -> set[str]:
    """Look until tasks have been brought; return their names."""
    eventually(lambda: made.turn() is not None and made.last.waiting)
    return set(made.last.waiting)


def launch_of(queue, name: str) -> dict:
    return queue.launches.find_one({"launch_id": int(name.rsplit("-", 1)[1])})


def test_carried_launches_are_those_of_the_site(queue, worker, depot) -> None:
    made = worker()
    names = sent(made)
    assert len(names) == 2, "as many as are taken ahead"
    for name in names:
        launch = launch_of(queue, name)
        assert launch["process"]["node"].startswith("push/site/login:")
        assert launch["lease_s"] == 1800.0
    # the reaper cannot look the site up: it waits for the heartbeat's lease
    assert reap(queue).quiet
    assert not reap(queue, now=queue.now() + 1000).lost
    queue.launches.update_many({}, {"$set": {"heartbeat_at": queue.now() - 1700}})
    made.beat()
    assert not reap(queue, now=queue.now() + 1000).lost
    assert (depot.place / "inbox").stat().st_mode & 0o077 == 0


def test_claims_are_kept_from_the_first_moment(queue, worker) -> None:
    """Those of a push worker that was killed are open to everybody on its host until the next one renews them."""
    made = worker(categories=["reference"])
    sent(made)
    held = queue.db.label_claims
    assert held.update_many({}, {"$set": {"until": 0.0}}).modified_count > 0
    worker(categories=["reference"])
    assert not list(held.find({"until": {"$lt": queue.now()}}))


def test_tasks_that_need_more_than_a_runner_has_stay_here(queue, worker) -> None:
    """What `execution.resources` asks for is compared with what one task may use of a runner."""
    queue.fireworks.update_many(
        {"spec._category": "build"},
        {"$set": {"spec.needs": {"cores": 4, "memory_gb": 8.0, "minutes": 100.0}}},
    )
    offered = {"scheduler": "shell", "pilots": 0, "cores": 4, "memory_gb": 8, "walltime": "02:00:00"}
    for less in ({}, {"workers": 2}, {"workers": 1, "memory_gb": 7}, {"workers": 1, "walltime": "01:40:00"}):
        made = worker(**offered | less)
        made.turn()
        made.turn()
        assert len(made.ledger) == 0, less
    assert len(sent(worker(**offered, workers=1))) == 2


def test_a_lost_ledger_and_a_lost_site(queue, worker, depot) -> None:
    """Without its ledger, a push worker adopts what the site has; what nobody has goes back."""
    names = sorted(sent(worker()))
    Depot(depot.place).forget(names[0])
    second = worker(ledger="another")
    second.turn()
    assert names[1] in second.ledger
    assert launch_of(queue, names[0])["state"] == "RUNNING", "a push worker elsewhere may be bringing it"
    queue.launches.update_one(
        {"launch_id": launch_of(queue, names[0])["launch_id"]}, {"$inc": {"heartbeat_at": -200}}
    )
    second.turn()
    assert (
        launch_of(queue, names[0])["requeue"]["kind"] == "dead"
        or launch_of(queue, names[0])["state"] == "FIZZLED"
    )
    assert launch_of(queue, names[1])["state"] == "RUNNING"
    # and with the ledger, but without the site's directory, it sends again
    third = worker()
    assert set(third.ledger.entries) == {names[1]}
    depot.forget(names[1])
    third.turn()
    third.turn()
    assert names[1] in third.last.waiting


def test_blind_for_too_long(queue, worker, gate, depot) -> None:
    made = worker(timing={"blind_limit_s": 3600.0, "unsent_limit_s": 3600.0})
    names = sent(made)
    gate.stop()
    try:
        with pytest.raises(RemoteError) as raised:
            made.turn()
        made._in_trouble(raised.value)
        assert set(made.ledger.entries) == names, "only the view is lost"
        assert made.status()["trouble"]["kind"] == "network"
        made._seen_at -= 4000.0
        made._in_trouble(raised.value)
        assert len(made.ledger) == 0
        for name in names:
            assert launch_of(queue, name)["state"] == "FIZZLED"
        assert queue.fireworks.count_documents({"spec._category": "build", "state": "READY"}) == 2
    finally:
        gate.start()
    again = worker(categories=["fit"])
    again.turn()
    again.turn()
    assert again.last.known == frozenset(), "what somebody else may have by now is removed at the site"


def test_a_task_whose_runners_die_goes_back_and_is_counted(queue, worker, depot) -> None:
    made = worker(ahead=1)
    (name,) = sent(made)
    for number in range(3):
        dead = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
        here = ProcessIdentity.current()
        identity = ProcessIdentity(here.host, here.node, dead.pid, process_start(dead.pid))
        (depot.runners / f"r{number}.json").write_text(json.dumps(identity.document() | {"state": "running"}))
        assert depot.claim(f"r{number}").stem == name
        made.turn()
        assert made.last.running == {name: f"r{number}"}, "nobody takes the bundle of a runner that lives"
        dead.kill()
        dead.communicate()
        made.turn()
    launch = launch_of(queue, name)
    assert launch["state"] == "FIZZLED"
    assert "died (time 3 at this site)" in launch["action"]["stored_data"]["_message"]
    assert len(queue.retries.find_one({"_id": launch["fw_id"]})["dead"]) == 1
    made.turn()
    assert name not in made.last.known


def test_stopping_takes_back_what_has_not_begun(queue, worker, depot) -> None:
    made = worker(timing={"drain_s": 0.0})
    names = sorted(sent(made))
    here = ProcessIdentity.current()
    (depot.runners / "r.json").write_text(json.dumps(here.document() | {"state": "running"}))
    running = depot.claim("r").stem
    assert running == names[0]
    made.stop.set()
    made.run(pulse=False)
    assert launch_of(queue, names[1])["state"] == "FIZZLED"
    assert launch_of(queue, names[0])["state"] == "RUNNING", "what runs there goes on"
    assert not list(depot.inbox.iterdir())
    following = worker(timing={"drain_s": 0.2})
    assert set(following.ledger.entries) == {names[0]}
    following.recall = True
    following.stop.set()
    following.run(pulse=False)
    assert launch_of(queue, names[0])["state"] == "FIZZLED"
    assert not list(depot.running.glob("*/*.bundle")), "its runner sees that it is gone"
    assert queue.fireworks.count_documents({"spec._category": "build", "state": "READY"}) == 2


def test_results_of_another_database_stay(queue, worker, depot) -> None:
    """Many of them neither keep ours from being fetched nor are they carried to and fro."""
    made = worker(transfer_mb=0.1)
    sent(made)
    for number in range(3):
        (depot.outbox / f"00000000-{number:09d}.result").write_bytes(os.urandom(200_000))
    (depot.outbox / f"{made.name_of(999_999)}.result").write_text("none")
    made.turn()
    made.turn()
    assert made.turn() is False, "there is nothing to do at once"
    assert not made.last.fetched
    assert len(list(depot.outbox.iterdir())) == 3, "ours was looked at and forgotten"


def test_no_room_here_loses_no_result(queue, worker, depot, tmp_path, monkeypatch) -> None:
    made = worker(ahead=1)
    (name,) = sent(made)
    run_bundle(depot.inbox / f"{name}.bundle", depot.outbox / f"{name}.result", tmp_path / "w", AllowList())
    (depot.inbox / f"{name}.bundle").unlink()
    full = tmp_path / "full"
    full.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "nr_inodes=1", "tmpfs", str(full)]).returncode:
        pytest.skip("no small file system can be mounted here")
    try:
        monkeypatch.setattr(tempfile, "tempdir", str(full))
        with pytest.raises(OSError, match="No space") as raised:
            made.turn()
        made._in_trouble(raised.value)
        assert made.status()["trouble"]["kind"] == "local"
        assert "No space" in made.status()["trouble"]["message"]
        assert launch_of(queue, name)["state"] == "RUNNING"
    finally:
        monkeypatch.undo()
        subprocess.run(["umount", "--lazy", str(full)], check=True)
    made.turn()
    assert (made.done, launch_of(queue, name)["state"]) == (1, "COMPLETED")


def test_site_and_database_away_at_once(database_uri, queue, worker, gate) -> None:
    """The network of this machine is gone, for longer than a task may wait here: nothing ends."""
    made = worker(timing={"unsent_limit_s": 0.2})
    sent(made)
    host = parse_uri(database_uri)["nodelist"][0]
    with Proxy(host[0] if host[1] is None else f"{host[0]}:{host[1]}") as link:
        uri = f"{link.through(database_uri)}&serverSelectionTimeoutMS=500"
        with Queue.from_uri(uri) as far:
            made.queue, far.enrolment = far, made.queue.enrolment
            for name in made.ledger.entries:
                made._unsent[name] = 0.0
            gate.stop()
            link.refuse()
            link.cut()
            thread = threading.Thread(target=made.run, kwargs={"pulse": False})
            thread.start()
            try:
                eventually(lambda: made.trouble is not None)
                time.sleep(2.0)
                assert thread.is_alive()
                gate.start()
                link.accept()
                eventually(lambda: made.trouble is None)
            finally:
                made.stop.set()
                thread.join(120)
            made.queue = queue


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 128 kB at the site's place, and a function that enlarges it."""
    disk = tmp_path / "site"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.decode().strip()}")
    yield lambda: subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_no_space_at_the_site(queue, worker, depot, small_disk) -> None:
    made = worker()
    made.turn()
    (depot.place / "ballast").write_bytes(
        b"x" * (os.statvfs(depot.place).f_bavail * os.statvfs(depot.place).f_frsize)
    )
    with pytest.raises(RemoteError) as raised:
        made.turn()
    assert raised.value.kind == "space"
    assert "no space" in str(raised.value)
    made._in_trouble(raised.value)
    waiting = set(made.ledger.entries)
    assert waiting, "they wait for room"
    # a runner died meanwhile, and a result is there: fetching it must go on, it is what makes room
    here = ProcessIdentity.current()
    gone = ProcessIdentity(here.host, here.node, here.pid, here.start + 1)
    (depot.place / "ballast").write_bytes(b"x" * ((depot.place / "ballast").stat().st_size - 16384))
    (depot.runners / "r.json").write_text(json.dumps(gone.document()))
    (depot.running / "r").mkdir()
    (depot.running / "r" / "x-1.bundle").write_text("bundle")
    (depot.outbox / f"{made.name_of(999_999)}.result").write_text("result")
    with contextlib.suppress(OSError), (depot.place / "more").open("wb") as stream:
        while True:
            stream.write(b"x" * 1024)
            stream.flush()
    with pytest.raises(RemoteError):
        made.turn()
    assert f"{made.name_of(999_999)}" in made.last.fetched
    small_disk()
    made.turn()
    assert made.trouble is None
    assert waiting <= made.last.waiting


def test_a_site_that_hangs_hides_no_push_worker_and_keeps_none(queue, worker, tmp_path) -> None:
    """In the middle of a command that does not end, it says that it lives, hears that it is to stop, and does."""
    hang = tmp_path / "hang"
    timing = {"drain_s": 1.0, "connect_s": 3.0, "call_s": 200.0, "report_s": 0.1}
    made = worker(timing=timing, more_setup=[f"test ! -e {hang} || exec sleep 200"])
    names = sent(made)
    told, asked = [], threading.Event()
    made.register = lambda stopping: told.append((made.transport.calls, stopping)) or asked.is_set()
    hang.touch()
    looping = threading.Thread(target=made.run, daemon=True)
    looping.start()
    eventually(lambda: len(told) > 10 and told[-1] == told[-10])
    asked.set()
    begin = time.monotonic()
    looping.join(60)
    assert not looping.is_alive()
    assert time.monotonic() - begin < 30.0
    assert told[-1][1], "it said that it ends"
    assert made.trouble.kind == "network"
    assert set(made.ledger.entries) == names, "what is there is kept for the next push worker"


def test_a_runner_that_is_drained_hands_back(database_uri, tiny, worker, depot, tmp_path) -> None:
    """SIGTERM in the middle of a task: what was done is stored, the rest is done by another runner."""
    text = (
        tiny()
        .replace("initial_cells: 12", "initial_cells: 1200")
        .replace("build_chunk: 6", "build_chunk: 1200")
    )
    with Queue.from_uri(database_uri) as queue:
        submit(queue, text)
    made = worker(ahead=1)
    (name,) = sent(made)
    code = (
        "import sys; from pathlib import Path; from launchpad.remote import settings, runner, depot\n"
        "given = settings.RunnerSettings(idle_s=0.5, drain_grace_s=0.0, min_free_mb=0)\n"
        "sys.exit(runner.Runner(depot.Depot(Path(sys.argv[1])), given).run())"
    )
    command = [sys.executable, "-c", code, str(depot.place)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    first = subprocess.Popen(command, env=environment)
    log = depot.scratch / name / "writes.log"
    eventually(lambda: log.exists() and log.stat().st_size > 10_000)
    os.kill(first.pid, signal.SIGTERM)
    assert first.wait(120) == 0
    assert not list(depot.runners.iterdir())
    assert not list(depot.running.glob("*/*"))
    made.turn()
    stored = made.queue.db.structures.count_documents({"stage": "cell"})
    assert (made.done, made.handed_back) == (0, 1)
    assert 0 < stored < 1200
    assert launch_of(made.queue, name)["requeue"]["kind"] == "drained", "not counted as a fault"
    # the next one does the rest, and ends when there is nothing more
    eventually(lambda: (made.turn() or True) and made.last.waiting)
    second = subprocess.Popen(command, env=environment)
    eventually(lambda: (made.turn() or True) and made.done == 1)
    assert second.wait(120) == 0
    (ended,) = made.queue.launches.find({"state": "COMPLETED"})
    assert ended["action"]["stored_data"]["built"] == 1200 - stored
    assert made.queue.db.structures.count_documents({"stage": "cell"}) == 1200


def test_a_result_that_a_killed_runner_had_finished_is_used(depot) -> None:
    depot.prepare()
    (depot.inbox / "a-1.bundle").write_text("bundle")
    (depot.inbox / "a-2.bundle").write_text("bundle")
    here = ProcessIdentity.current()
    gone = ProcessIdentity(here.host, here.node, here.pid, here.start + 1)
    (depot.runners / "r.json").write_text(json.dumps(gone.document()))
    assert [depot.claim("r").stem, depot.claim("r").stem, depot.claim("r")] == ["a-1", "a-2", None]
    depot.unfinished("a-1", "r").write_text("result")
    (depot.outbox / "..a-2.r.result.half").mkdir()
    assert depot.reclaim(silent_s=300.0, tries=3) == ["r"]
    assert [path.name for path in depot.outbox.iterdir()] == ["a-1.result"]
    assert [path.name for path in depot.inbox.iterdir()] == ["a-2.bundle"]
    assert not list(depot.runners.iterdir())
    assert not list(depot.running.iterdir())
