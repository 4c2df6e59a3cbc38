"""The commands about a site by SSH, as a person uses them; its runners are processes of the login node."""

from __future__ import annotations

import os
import signal

import pytest
from gf_push_site import end_runners, eventually, site_text
from gf_sshd import SSHD, free_port, start_sshd

pytestmark = [
    pytest.mark.database,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(SSHD is None, reason="no sshd is installed"),
]


@pytest.fixture
def gate(tmp_path):
    with start_sshd(tmp_path / "sshd") as running:
        yield running


@pytest.mark.long
def test_start_in_the_background_and_recall(place, tiny, gate, tmp_path) -> None:
    directory = tmp_path / "site"
    place.environment["XDG_STATE_HOME"] = str(place.directory / "state")
    place.write("site.yaml", site_text(gate, directory, place.directory / "cache", categories=["build"]))
    text = (
        tiny()
        .replace("initial_cells: 12", "initial_cells: 9000")
        .replace("build_chunk: 6", "build_chunk: 9000")
    )
    place.write("tiny.yaml", text)
    place.write("wrong.yaml", "name: x\nhost: y\ndirectory: relative\nscheduler: slurm\ncorse: 3\n")
    refusal = place.refused("push", "init", "wrong.yaml")
    assert "directory 'relative': an absolute path" in refusal
    assert "corse" in refusal
    assert "no push worker has worked for site" in place.refused("push", "status", "site.yaml")
    assert "connected to login" in place.good("push", "connect", "site.yaml")
    assert place.json("push", "init", "site.yaml")["warnings"] == []
    place.write("odd.yaml", site_text(gate, directory, more_setup=["modul load espresso"]))
    (warning,) = place.json("push", "init", "odd.yaml")["warnings"]
    assert "modul: command not found" in warning
    place.good("campaign", "submit", "tiny.yaml")
    pid = place.json("push", "start", "site.yaml", "--background")["pid"]
    try:
        assert f"process {pid}" in place.refused("push", "start", "site.yaml", "--background")
        eventually(lambda: [row["kind"] for row in place.json("worker", "list")] == ["push"])
        logs = directory / "scratch"
        eventually(lambda: any(path.stat().st_size > 10_000 for path in logs.glob("*/writes.log")))
        assert f"process {pid}" in place.good("push", "stop", "site.yaml", "--recall")
        eventually(lambda: place.json("push", "status", "site.yaml")["pid"] is None)
        text = place.good("push", "status", "site.yaml")
        assert "does not run; connection open" in text
        assert "0 done, 0 failed, 1 handed back" in text
        last = place.json("push", "status", "site.yaml")
        assert (last["carried"], last["done"], last["failed"], last["handed_back"]) == (0, 0, 0, 1)
        for name in ("inbox", "outbox", "refused"):
            assert not list((directory / name).iterdir())
        assert not list(directory.glob("running/*/*"))
        stored = place.json("campaign", "status", "tiny")
        assert stored["state"] == "running", "what was done by then is stored, the rest is run elsewhere"
        assert "no push worker of this machine" in place.good("push", "stop", "site.yaml")
    finally:
        place.run("push", "stop", "site.yaml")
        end_runners(directory, signal.SIGTERM)


def test_what_cannot_work_is_said(place, gate, tmp_path) -> None:
    place.environment["XDG_STATE_HOME"] = str(place.directory / "state")
    place.write("site.yaml", site_text(gate, tmp_path / "site", scheduler=None))
    log = place.directory / "state" / "gapfactory" / "push" / "site" / "push.log"
    place.json("db", "check")
    # nothing was brought back, since the site cannot be reached
    gate.stop()
    refusal = place.refused("push", "stop", "site.yaml", "--recall")
    assert "not everything came back" in refusal
    assert "Connection refused" in refusal
    # a database that refuses the user ends it; one that is away is waited for, and both are said
    refusal = place.refused("push", "start", "site.yaml", "-b", "--db", "mongodb://127.0.0.1:1/a b c")
    assert "ended at once" in refusal
    away = f"mongodb://127.0.0.1:{free_port()}/x?serverSelectionTimeoutMS=500"
    started = place.json("push", "start", "site.yaml", "-b", "--db", away)
    try:
        assert started["begun"] is False
        assert "the database is away" in log.read_text()
        shown = place.good("push", "status", "site.yaml")
        assert "does not run" in shown
        assert "its log:" in shown
    finally:
        os.kill(started["pid"], signal.SIGTERM)
