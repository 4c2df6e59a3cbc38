"""Two that want the same label at once compute it once, and nobody waits for the dead: real processes, real server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from pymongo.collection import Collection
from pymongo.errors import AutoReconnect, OperationFailure

from gapfactory.campaign import campaign_from_mapping
from launchpad.database.claims import Claims
from launchpad.database.dataset import atom_items, store_atoms, with_labels
from launchpad.queue.identity import ProcessIdentity

pytestmark = [pytest.mark.database, pytest.mark.timeout(200)]

ROOT = Path(__file__).parents[3]
LIMIT_S = 120.0

WORKER = """
import sys
from pathlib import Path
from types import SimpleNamespace
from launchpad.database.connection import open_database
from launchpad.database.dataset import atom_items
from launchpad.labelling import label_items
from launchpad.tasks.base import TaskContext
sys.path.insert(0, sys.argv[5])
from test_label_claims import campaign
database = open_database(sys.argv[1])
mine = campaign(sys.argv[2], Path(sys.argv[3]))
context = TaskContext(SimpleNamespace(db=database), mine, 0, Path(sys.argv[4]))
print(label_items(context, atom_items(database, mine)))
"""


def campaign(name, log, pause_s=0.3):
    return campaign_from_mapping(
        {
            "preset": "quickstart-Si-analytic",
            "name": name,
            "dimers": {"bond_lengths": 5},
            "reference": {
                "engine": "ase",
                "calculator": "gf_faulty_calculators.Counted",
                "parameters": {"log": str(log), "pause_s": pause_s},
            },
        }
    )


class Crowd:
    """Starts processes that label the atoms and dimers of campaigns, and knows what was calculated."""

    def __init__(self, uri, database, directory, monkeypatch) -> None:
        self.uri, self.database, self.directory = uri, database, directory
        self.log = directory / "calculations"
        self.processes: list[subprocess.Popen[str]] = []
        monkeypatch.setenv("GAPFACTORY_CALCULATOR_MODULES", "gf_faulty_calculators")
        monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{ROOT / 'tests' / 'integration' / 'reference'}")

    def start(self, name):
        store_atoms(self.database, campaign(name, self.log))
        place = self.directory / f"{name}-{len(self.processes)}"
        place.mkdir()
        arguments = [
            sys.executable,
            "-c",
            WORKER,
            self.uri,
            name,
            str(self.log),
            str(place),
            str(Path(__file__).parent),
        ]
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def calculated(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def end(self, process) -> str:
        out, error = process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0, error
        return out

    def labels(self, name):
        mine = campaign(name, self.log)
        return [e.label for e in with_labels(self.database, mine, atom_items(self.database, mine))]


@pytest.fixture
def crowd(database_uri, database, tmp_path, monkeypatch):
    made = Crowd(database_uri, database, tmp_path, monkeypatch)
    yield made
    for process in made.processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.slow
def test_workers_of_two_campaigns_compute_each_label_once(crowd) -> None:
    processes = [crowd.start(name) for name in ("one", "two", "one")]
    outs = [crowd.end(process) for process in processes]
    n = len(crowd.labels("one"))
    assert n == 6
    assert len(crowd.calculated()) == len(set(crowd.calculated())) == n
    assert {label.status for name in ("one", "two") for label in crowd.labels(name)} == {"done"}
    assert sum(int(out.split("'labelled': ")[1].split(",")[0]) for out in outs) == n
    assert crowd.database.label_claims.count_documents({}) == 0


@pytest.mark.slow
def test_a_killed_worker_is_not_waited_for(crowd) -> None:
    first = crowd.start("one")
    end = time.monotonic() + LIMIT_S
    while not crowd.calculated():
        assert time.monotonic() < end
        time.sleep(0.02)
    other = crowd.start("two")
    os.kill(first.pid, signal.SIGKILL)
    assert crowd.database.label_claims.count_documents({}) == 6
    crowd.end(other)
    assert {label.status for label in crowd.labels("two")} == {"done"}
    # what the dead one had begun is begun again, and what its child went on with until it noticed
    assert len(crowd.calculated()) <= 6 + 3
    assert crowd.database.label_claims.count_documents({}) == 0


def test_claims_of_other_machines_are_judged_by_their_lease(database) -> None:
    here = ProcessIdentity.current()
    elsewhere = replace(here, node="another/kernel", host="far")
    with Claims(database, "one", lease_s=0.6, identity=elsewhere) as far, Claims(database, "two") as near:
        assert far.take(["a", "b"]) == ["a", "b"]
        assert near.take(["a", "c"]) == ["c"]
        assert near.holders(["a"]) == [f"process {here.pid} on far (campaign one)"]
        # renewed for several times its lease
        time.sleep(1.5)
        assert near.take(["a"]) == []
        # a host that is cut off renews nothing
        far._end.set()
        time.sleep(0.8)
        assert near.take(["a", "b"]) == ["a", "b"]
        assert far.take(["a"]) == []
    assert database.label_claims.count_documents({}) == 0


def test_a_claim_of_a_dead_process_of_this_machine_is_taken_at_once(database) -> None:
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    identity = replace(ProcessIdentity.current(), pid=gone.pid, start=1)
    gone.wait()
    dead = Claims(database, "one", identity=identity)
    assert dead.take(["a"]) == ["a"]
    with Claims(database, "two") as mine:
        assert mine.take(["a"]) == ["a"]
        # of one process that holds it twice, the second waits
        with Claims(database, "three") as second:
            assert second.take(["a"]) == []


@pytest.mark.parametrize("failed", ["insert_one", "delete_many"])
def test_claims_are_given_back_when_the_database_is_there_again(database, monkeypatch, failed) -> None:
    """A full disk, or a lost reply: nobody waits for the lease of a worker that is alive and does something else."""
    original = getattr(Collection, failed)
    full = [True]

    def method(self, *arguments, **options):
        if failed == "delete_many" and full[0]:
            raise OperationFailure("disk full", 14031)
        found = original(self, *arguments, **options)
        if full[0]:
            raise AutoReconnect("the reply was lost")
        return found

    monkeypatch.setattr(Collection, failed, method)
    if failed == "insert_one":
        with pytest.raises(AutoReconnect), Claims(database, "one") as claims:
            claims.take(["a"])
    else:
        with Claims(database, "one") as claims:
            claims.take(["a"])
        assert database.label_claims.count_documents({}) == 1
    full[0] = False
    end = time.monotonic() + 20.0
    while database.label_claims.count_documents({}):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_clock_that_is_wrong_neither_loses_nor_steals(database, monkeypatch) -> None:
    elsewhere = replace(ProcessIdentity.current(), node="another/kernel")
    with Claims(database, "one", identity=elsewhere) as claims:
        monkeypatch.setattr(time, "time", lambda: 4e9)
        assert claims.take(["a"]) == ["a"]
        with Claims(database, "two") as other:
            assert other.take(["a"]) == []
    monkeypatch.setattr(time, "time", lambda: 0.0)
    with Claims(database, "one", identity=elsewhere) as claims:
        claims.take(["a"])
        with Claims(database, "two") as other:
            assert other.take(["a"]) == []
