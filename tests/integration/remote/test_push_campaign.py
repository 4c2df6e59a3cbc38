"""A campaign through a site reached by SSH only ends in the bits of a local run, whatever is killed on the way."""

from __future__ import annotations

import json
import os
import signal
import time

import pytest
from gf_push_site import end_runners, eventually, lives, runners, site_text, stand_in
from gf_sshd import SSHD, start_sshd

pytestmark = [
    pytest.mark.database,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(SSHD is None, reason="no sshd is installed"),
]

CARRIED = {"build", "relax", "select", "reference", "fit"}


@pytest.fixture
def gate(tmp_path):
    with start_sshd(tmp_path / "sshd") as running:
        yield running


@pytest.fixture
def site(place, gate, tmp_path, tmp_path_factory, first_digests):
    """A site whose file is ``site.yaml``, with a stand-in for SLURM that really runs the jobs; its directory."""
    directory, slurm = tmp_path / "site", tmp_path / "slurm"
    setup = stand_in(slurm, "sbatch", "squeue")
    place.environment["XDG_STATE_HOME"] = str(place.directory / "state")
    # what the undisturbed run has compiled is not compiled again
    cache = tmp_path_factory.getbasetemp() / "undisturbed0" / "cache"
    place.environment["GAPFACTORY_CACHE"] = str(cache)
    more = {"scheduler": "slurm", "walltime": "01:00:00", "queue": "main", "more_setup": setup}
    place.write("site.yaml", site_text(gate, directory, cache, **more))
    yield directory
    end_runners(directory, signal.SIGKILL)


def said(place) -> dict:
    """Return what the push worker said last."""
    path = place.directory / "state" / "gapfactory" / "push" / "site" / "status.json"
    return json.loads(path.read_text()) if path.exists() else {"done": 0, "running": 0, "trouble": None}


def queue_of(place):
    from launchpad.database.location import locate_database
    from launchpad.queue import Queue

    return Queue.from_uri(locate_database(None, place.data).uri)


def test_killed_everywhere(place, tiny, first_digests, site, gate) -> None:
    place.write("tiny.yaml", tiny())
    assert "is ready" in place.good("push", "init", "site.yaml")
    place.good("campaign", "submit", "tiny.yaml")
    # the assessment decides how the campaign goes on: it stays near the database
    local = place.start("worker", "start", "-n", "1", "-c", "assess")
    push = place.start("push", "start", "site.yaml", log="push.log")
    try:

        def log() -> str:
            with queue_of(place) as queue:
                fields = {"name": 1, "state": 1, "launches": 1, "fw_id": 1}
                tasks = "\n".join(str(found) for found in queue.fireworks.find({}, fields))
            return (place.directory / "push.log").read_text()[-4000:] + place.log()[-2000:] + tasks

        # 1. the push worker dies while a task runs at the site: the next one adopts it
        eventually(lambda: said(place)["running"], why=log)
        os.kill(push.pid, signal.SIGKILL)
        push.wait()
        held = [path.stem for path in (site / "running").glob("*/*.bundle")]
        push = place.start("push", "start", "site.yaml", log="push.log")
        # 2. the runner dies in the middle of a task: another one is started and goes on
        eventually(lambda: said(place)["done"] >= 1 and list((site / "running").glob("*/*.bundle")), why=log)
        (killed,) = runners(site)
        os.kill(killed["pid"], signal.SIGKILL)
        eventually(lambda: [r for r in runners(site) if r["pid"] != killed["pid"]], why=log)
        # 3. the way to the site is cut for a while: tasks go on there, their results arrive later
        eventually(lambda: said(place)["done"] >= 2 and said(place)["running"], why=log)
        gate.stop()
        eventually(lambda: (said(place)["trouble"] or {}).get("kind") == "network", why=log)
        time.sleep(1.0)
        gate.start()
        eventually(lambda: said(place)["trouble"] is None, why=log)

        eventually(
            lambda: place.json("campaign", "status", "tiny")["state"] not in {"submitted", "running"}, why=log
        )
        assert place.json("campaign", "status", "tiny")["state"] == "done", log()
        assert place.json("campaign", "digest", "tiny") == first_digests
        assert place.json("db", "check") == {"findings": []}

        shown = place.json("push", "status", "site.yaml")
        assert shown["pid"] == push.pid
        assert shown["connected"] is True
        assert shown["carried"] == 0
        os.kill(push.pid, signal.SIGTERM)
        assert push.wait(120) == 0, log()
        assert "Traceback" not in log()
        assert place.json("push", "status", "site.yaml")["pid"] is None
    finally:
        for process in (push, local):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)

    with queue_of(place) as queue:
        launches: dict[int, list[dict]] = {}
        for launch in queue.launches.find({}, {"fw_id": 1, "state": 1, "process": 1, "launch_id": 1}):
            launches.setdefault(launch["fw_id"], []).append(launch)
        for firework in queue.fireworks.find({}, {"fw_id": 1, "state": 1, "spec._category": 1}):
            ended = [launch for launch in launches[firework["fw_id"]] if launch["state"] == "COMPLETED"]
            assert firework["state"] == "COMPLETED"
            assert len(ended) == 1, "exactly once"
            away = ended[0]["process"]["node"].startswith("push/site/")
            assert away == (firework["spec"]["_category"] in CARRIED)
        # what ran while the push worker was killed ended by the same launch
        completed = {
            entry["launch_id"]
            for entries in launches.values()
            for entry in entries
            if entry["state"] == "COMPLETED"
        }
        assert held
        assert {int(name.rsplit("-", 1)[1]) for name in held} <= completed
    assert not lives(killed["pid"])
    for name in ("inbox", "outbox", "refused", "tries"):
        assert not list((site / name).iterdir()), f"{name}: nothing is left at the site"
