"""Labels made at sites: once for all campaigns, kept when a runner is killed, refused when nobody asked for them."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bundle_help import ALLOWED, run_here, run_there, submit, take
from test_bundle_results import everything, forged

from launchpad.database.claims import LEASE_S, Claims
from launchpad.database.dataset import all_items, label_key, with_labels
from launchpad.queue import Queue, QueueSettings
from launchpad.remote import (
    BundleError,
    ClaimedElsewhere,
    abandon_bundle,
    apply_result,
    keep_claims,
    make_bundle,
    read_manifest,
    run_bundle,
    salvage,
)

pytestmark = [pytest.mark.database, pytest.mark.timeout(200)]

ROOT = Path(__file__).parents[3]
PICKS = 6


def ready(uri, text, directory):
    """Return a queue on which a campaign waits for its labels, and the campaign."""
    # a task that is handed back is ready again at once
    queue = Queue.from_uri(uri, settings=QueueSettings(transient_delays_s=(0.0,)))
    campaign = submit(queue, text)
    for kind in ("build", "build", "select"):
        run_here(queue, take(queue, kind), directory / f"{campaign.name}-{kind}{time.monotonic_ns()}")
    return queue, campaign


@pytest.fixture
def text(tiny):
    """A campaign whose picks are labelled by one task."""
    return tiny().replace("reference_chunk: 2", f"reference_chunk: {PICKS}")


@pytest.fixture
def prepared(database_uri, text, tmp_path):
    queue, campaign = ready(database_uri, text, tmp_path)
    with queue:
        yield queue, campaign


@pytest.fixture
def quick(monkeypatch):
    """Label in this process by a formula; return what was labelled, and a hook that may raise before each."""
    import numpy as np

    import gapfactory.reference as reference

    done, hook = [], []

    def label_structures(items, settings, workdir, on_result=None, **_):
        for name, atoms in items:
            for before in hook:
                before(name)
            done.append(name)
            numbers = reference.Label(
                energy=float(np.sum(atoms.positions)),
                forces=np.asarray(atoms.positions * 0.1),
                stress=np.arange(6.0) if all(atoms.pbc) else None,
                walltime_s=1.0,
                engine="analytic",
                version="1",
                details={},
            )
            on_result(reference.LabelOutcome(name, numbers, "", 1))
        return []

    monkeypatch.setattr(reference, "label_structures", label_structures)
    return done, hook


def picks(queue):
    """Check out the task that labels the picks."""
    (found,) = queue.fireworks.find({"spec._tasks.what": "picks"}, {"fw_id": 1})
    return take(queue, fw_id=found["fw_id"])


def labels(queue, campaign):
    """Return the labels as the campaign sees them, without times."""
    return {
        e.item.id: (e.label.status, repr(e.label.energy), e.label.reason) if e.label else None
        for e in with_labels(queue.db, campaign, all_items(queue.db, campaign))
    }


def test_of_two_campaigns_that_want_the_same_labels_one_site_makes_them(prepared, text, quick, tmp_path):
    queue, _ = prepared
    done, _ = quick
    first = picks(queue)
    manifest = make_bundle(queue, first, tmp_path / "first")
    other, twin = ready(queue.uri, text.replace("name: tiny", "name: twin"), tmp_path)
    with other:
        (theirs,) = other.fireworks.find({"spec._tasks.what": "picks", "spec.campaign": "twin"}, {"fw_id": 1})
        second = take(other, fw_id=theirs["fw_id"])
        with pytest.raises(ClaimedElsewhere, match="campaign tiny"):
            make_bundle(other, second, tmp_path / "second")
        assert not (tmp_path / "second").exists()
        # a local worker does not take them either, as long as the claims are kept
        keys = [claim["_id"] for claim in queue.db.label_claims.find()]
        assert len(keys) == PICKS
        queue.db.label_claims.update_many({}, {"$inc": {"until": -LEASE_S + 5.0}})
        keep_claims(queue, manifest)
        with Claims(other.db, "twin") as claims:
            assert claims.take(keys) == []
        run_bundle(tmp_path / "first", tmp_path / "result", tmp_path / "work", ALLOWED)
        assert apply_result(queue, tmp_path / "result").state == "COMPLETED"
        assert queue.db.label_claims.count_documents({}) == 0
        # now they are there: the other site reuses them
        make_bundle(other, second, tmp_path / "second")
        run_bundle(tmp_path / "second", tmp_path / "result2", tmp_path / "work2", ALLOWED)
        applied = apply_result(other, tmp_path / "result2")
        assert (
            other.launches.find_one({"launch_id": applied.launch_id})["action"]["stored_data"]["reused"]
            == PICKS
        )
        assert len(done) == PICKS
        assert queue.db.label_claims.count_documents({}) == 0
        assert other.db.labels.count_documents({"campaign": "twin"}) == 0
        assert sum(value is not None for value in labels(other, twin).values()) == PICKS


def test_an_abandoned_bundle_gives_its_claims_back_and_a_failed_one_takes_none(prepared, quick, tmp_path):
    queue, _ = prepared
    taken = picks(queue)
    with pytest.raises(OSError, match="no-such-place"):
        make_bundle(queue, taken, Path("/proc/no-such-place/bundle"))
    assert queue.db.label_claims.count_documents({}) == 0
    make_bundle(queue, taken, tmp_path / "bundle")
    assert queue.db.label_claims.count_documents({"token": taken.token}) == PICKS
    abandon_bundle(queue, read_manifest(tmp_path / "bundle"), "no answer")
    assert queue.db.label_claims.count_documents({}) == 0
    assert queue.fireworks.find_one({"fw_id": taken.fw_id})["state"] == "READY"


def test_labels_that_come_too_late_for_their_task_are_kept_and_change_none(prepared, quick, tmp_path):
    queue, campaign = prepared
    done, _ = quick
    taken = picks(queue)
    make_bundle(queue, taken, tmp_path / "bundle")
    run_bundle(tmp_path / "bundle", tmp_path / "result", tmp_path / "work", ALLOWED)
    abandon_bundle(queue, read_manifest(tmp_path / "bundle"), "no answer")
    again = take(queue, fw_id=taken.fw_id)  # somebody else begins
    applied = apply_result(queue, tmp_path / "result")
    assert (applied.late, applied.writes) == (True, PICKS)
    assert queue.fireworks.find_one({"fw_id": taken.fw_id})["state"] == "RUNNING"
    before = labels(queue, campaign)
    run_here(queue, again, tmp_path / "here")
    assert len(done) == PICKS, "they were computed again"
    assert labels(queue, campaign) == before


def test_a_fault_of_the_machine_is_counted_once_and_quarantined_as_near_the_database(
    prepared, quick, tmp_path, new_database, text
):
    """One structure takes more memory than there is: handed back three times, then given up, as near the database."""
    queue, campaign = prepared
    hook = quick[1]

    def too_large(name):
        if name == victim:
            raise RuntimeError from OSError(errno.ENOMEM, "out of memory")

    victim = next(
        name for name, label in labels(queue, campaign).items() if "/cell/" in name and label is None
    )
    hook.append(too_large)
    direct, _ = ready(new_database(), text, tmp_path / "direct")
    ended = []
    with direct:
        for found, run in ((queue, run_there), (direct, run_here)):
            states = []
            for number in range(4):
                taken = picks(found)
                place = tmp_path / f"{run.__name__}-{number}"
                run(found, taken, place)
                if run is run_there and number < 3:
                    assert apply_result(found, place / "result").writes == 0
                    (record,) = found.db.label_hand_backs.find()
                    assert (len(record["met"]), len(record["lines"])) == (number + 1, number + 1)
                launch = found.launches.find_one({"launch_id": taken.launch_id})
                states.append((launch["state"], launch.get("requeue", {}).get("kind")))
            assert found.db.label_hand_backs.count_documents({}) == 0
            ended.append((states, labels(found, campaign)))
    assert ended[0] == ended[1]
    assert ended[0][0] == [("FIZZLED", "counted")] * 3 + [("COMPLETED", None)]
    assert ended[0][1][victim][0] == "failed"
    assert "quarantined" in ended[0][1][victim][2]


def test_a_fault_counted_twice_by_a_killed_replay_is_one_fault(prepared, quick, tmp_path):
    """The replay is killed after everything is written and before the launch has ended."""
    from test_bundle_results import KilledError, killed_at

    queue, _ = prepared

    def too_large(name):
        raise RuntimeError(name) from OSError(errno.ENOMEM, "out of memory")

    quick[1].append(too_large)
    taken = picks(queue)
    make_bundle(queue, taken, tmp_path / "bundle")
    run_bundle(tmp_path / "bundle", tmp_path / "result", tmp_path / "work", ALLOWED)
    for number in (1, 2, 1):
        with killed_at(number), pytest.raises(KilledError):
            apply_result(queue, tmp_path / "result")
    assert apply_result(queue, tmp_path / "result").state == "HANDED BACK"
    (record,) = queue.db.label_hand_backs.find()
    assert (len(record["met"]), len(record["lines"])) == (1, 1)


def test_labels_of_other_data_sets_are_refused_although_the_site_could_not_know(
    prepared, quick, tmp_path, monkeypatch
):
    import gapfactory.reference as reference

    queue, campaign = prepared
    taken = picks(queue)
    make_bundle(queue, taken, tmp_path / "bundle")
    monkeypatch.setattr(reference, "data_hashes", lambda settings, symbols: dict.fromkeys(symbols, "a" * 64))
    run_bundle(tmp_path / "bundle", tmp_path / "result", tmp_path / "work", ALLOWED)
    # meanwhile, another worker has labelled with other files
    key = f"campaign/{campaign.name}/{campaign.reference.engine}/Si"
    queue.db.label_data.insert_one(
        {
            "_id": key,
            "sha256": "b" * 64,
            "engine": campaign.reference.engine,
            "campaign": "tiny",
            "created": 0,
        }
    )
    applied = apply_result(queue, tmp_path / "result")
    assert applied.state == "FIZZLED"
    assert "must not be mixed" in applied.message
    assert queue.db.labels.count_documents({}) == 0
    assert queue.db.campaigns.find_one()["state"] == "halted"
    assert apply_result(queue, tmp_path / "result").writes == 0
    assert queue.fireworks.find_one({"fw_id": taken.fw_id})["state"] == "FIZZLED"


def test_labels_that_were_not_asked_for_are_refused(prepared, quick, tmp_path):
    queue, campaign = prepared
    taken = picks(queue)
    make_bundle(queue, taken, tmp_path / "bundle")
    run_bundle(tmp_path / "bundle", tmp_path / "result", tmp_path / "work", ALLOWED)
    before = everything(queue)
    noise = next(item for item in all_items(queue.db, campaign) if item.role == "noise")

    def another_key(update):
        update["q"]["_id"] = label_key(campaign, noise)
        update["u"]["$setOnInsert"]["settings_hash"] = update["q"]["_id"].partition("-")[2]

    def another_campaign(update):
        update["u"]["$setOnInsert"]["campaign"] = "other"

    def other_atoms(update):
        numbers = update["u"]["$setOnInsert"]["atoms"]["positions"]
        numbers["b"] = numbers["b"][:-1] + bytes([numbers["b"][-1] ^ 1])

    def altered(update):
        update["u"]["$setOnInsert"] |= {"altered": {"smearing": 1.0}, "flags": ["altered"]}

    def pointer(update):
        document = {**update["u"]["$setOnInsert"], "_id": update["q"]["_id"] + "/other", "status": "failed"}
        update |= {"u": document, "q": {"_id": document["_id"]}}

    def overwritten(update):
        update["u"] = {"$set": update["u"]["$setOnInsert"]}

    for change in (another_key, another_campaign, other_atoms, altered, pointer, overwritten):

        def writes(statements, change=change):
            change([s for s in statements if s["c"] == "labels" and "$setOnInsert" in s.get("u", {})][-1])
            return statements

        with pytest.raises(BundleError, match="nothing of it is stored"):
            apply_result(queue, forged(tmp_path / "result", tmp_path / "forged", writes=writes))
        assert everything(queue) == before, change.__name__
    assert apply_result(queue, tmp_path / "result").state == "COMPLETED"


def test_labels_at_altered_settings_go_where_nobody_can_choose(
    quick, tmp_path, new_database, tiny, monkeypatch
):
    """Where the recovery may change energies, the label is stored under the settings that it has, and pointed to."""
    import dataclasses

    import gapfactory.reference as reference

    text = tiny(more="reference: {engine: gpaw, allow_energy_changes: true}")
    changes = {"smearing_width_eV": 0.3}
    plain = reference.label_structures

    def altered(items, settings, workdir, on_result=None, **more):
        def change(outcome):
            on_result(dataclasses.replace(outcome, altered=changes))

        return plain(items, settings, workdir, change, **more)

    monkeypatch.setattr(reference, "label_structures", altered)
    monkeypatch.setattr(reference, "data_hashes", lambda settings, symbols: {})
    ended = []
    for run in (run_there, run_here):
        queue, campaign = ready(
            new_database(), text.replace("reference_chunk: 2", "reference_chunk: 6"), tmp_path / run.__name__
        )
        with queue:
            run(queue, picks(queue), tmp_path / f"{run.__name__}-picks")
            pointers = list(queue.db.labels.find({"status": "altered"}).sort("_id", 1))
            assert len(pointers) == PICKS
            assert all(p["altered"] == changes for p in pointers)
            ended.append(([(p["_id"], p["target"]) for p in pointers], labels(queue, campaign)))
            if run is run_there:
                # under a key of its choice, a label at altered settings would be another campaign's plain one
                taken = queue.launches.find_one({"bundle": {"$exists": True}})
                queue.launches.update_one(
                    {"_id": taken["_id"]}, {"$set": {"state": "RUNNING", "bundle.applied": False}}
                )

                source = tmp_path / "run_there-picks" / "result"
                for wrong in ({"smearing_width_eV": 0.2}, {"no_such_setting": 1}, {}):

                    def elsewhere(statements, wrong=wrong):
                        update = next(
                            s for s in statements if s["c"] == "labels" and "$setOnInsert" in s["u"]
                        )
                        update["u"]["$setOnInsert"]["altered"] = wrong
                        return statements

                    with pytest.raises(BundleError, match="nothing of it is stored"):
                        apply_result(queue, forged(source, tmp_path / "forged", writes=elsewhere))
    assert ended[0] == ended[1]


def test_labels_of_another_group_are_taken_over_at_the_site(prepared, quick, tmp_path, new_database, text):
    queue, campaign = prepared
    done, _ = quick
    theirs, _ = ready(new_database(), text, tmp_path / "theirs")
    with theirs:
        run_here(theirs, picks(theirs), tmp_path / "there")
        done.clear()
        queue.db.shares.insert_one({"direction": "from", "group": theirs.db.name, "what": "labels"})
        # one that does not exist, or grants nothing, is no fault
        queue.db.shares.insert_one({"direction": "from", "group": "nobody", "what": "labels"})
        taken = picks(queue)
        run_there(queue, taken, tmp_path / "site")
        assert done == []
        origins = {label["origin"]["group"] for label in queue.db.labels.find()}
        assert origins == {theirs.db.name}
        assert queue.db.labels.count_documents({"campaign": "tiny", "status": "done"}) == PICKS
        assert {v[1] for v in labels(queue, campaign).values() if v} == {
            v[1] for v in labels(theirs, campaign).values() if v
        }


def test_another_try_of_what_an_earlier_generation_could_not_label(
    prepared, quick, tmp_path, new_database, text
):
    """The first reference task of a generation looks through all earlier ones for what is to be tried again."""
    from fireworks import Firework

    from launchpad.database.documents import SelectionDocument
    from launchpad.database.labels import ask_again
    from launchpad.database.results import save_selection
    from launchpad.tasks.reference import ReferenceTask

    queue, campaign = prepared
    done, _ = quick
    direct, _ = ready(new_database(), text, tmp_path / "direct")
    ended = []
    with direct:
        for found, run in ((queue, run_there), (direct, run_here)):
            run_here(found, picks(found), tmp_path / f"{run.__name__}-first")
            key = next(found.db.labels.find().sort("_id", 1))["_id"]
            old = found.db.labels.find_one_and_delete({"_id": key})
            found.db.labels.insert_one({**old, "_id": f"{key}/tiny", "status": "failed", "reason": "no luck"})
            assert ask_again(found.db, key, "tiny", 1)
            chosen = found.db.structures.find_one({"index": 0, "stage": "cell"})["_id"]
            selection = SelectionDocument(
                id="tiny/g001",
                campaign="tiny",
                generation=1,
                train=[chosen],
                test=[],
                noise=[],
                report={},
                seconds=0.0,
            )
            save_selection(found.db, selection)
            task = ReferenceTask(campaign="tiny", generation=1, what="picks", start=0, stop=1)
            spec = {
                "_category": "reference",
                "_add_launchpad_and_fw_id": True,
                "campaign": "tiny",
                "generation": 1,
            }
            (fw_id,) = found.add_wf(Firework(task, spec=spec)).values()
            done.clear()
            run(found, take(found, fw_id=fw_id), tmp_path / f"{run.__name__}-again")
            late = found.db.labels.find_one({"_id": f"{key}/tiny"})
            assert (late["status"], late["enters"]) == ("late", 1)
            ended.append((sorted(done), labels(found, campaign)))
    assert ended[0] == ended[1]
    assert len(ended[0][0]) in {1, 2}


RUNNER = """
import sys
from pathlib import Path
from launchpad.queue.guard import AllowList
from launchpad.remote import run_bundle
run_bundle(Path("bundle"), Path("result"), Path("work"), AllowList())
"""


def test_a_runner_that_is_killed_loses_no_label(prepared, tmp_path):
    """A real runner on real labels, killed when the log has grown by a label, started again, killed, salvaged."""
    queue, _ = prepared
    taken = picks(queue)
    manifest = make_bundle(queue, taken, tmp_path / "bundle")
    log = tmp_path / "work" / "writes.log"

    def run_and_kill(more_than):
        process = subprocess.Popen(
            [sys.executable, "-c", RUNNER],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        try:
            end = time.monotonic() + 90.0
            while time.monotonic() < end and process.poll() is None:
                if log.exists() and log.read_bytes().count(b"$setOnInsert") > more_than:
                    break
                time.sleep(0.005)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    run_and_kill(0)
    first = log.read_bytes()
    assert first.count(b"$setOnInsert") >= 1
    with pytest.raises(BundleError, match="cannot be read"):
        apply_result(queue, tmp_path / "result")
    if not (tmp_path / "result").exists():
        run_and_kill(first.count(b"$setOnInsert"))
    assert log.read_bytes().startswith(first), "what was done was done again"
    kept = salvage(tmp_path / "bundle", tmp_path / "result", tmp_path / "work", "its node was lost")
    applied = apply_result(queue, tmp_path / "result")
    done = queue.db.labels.count_documents({"status": "done"})
    assert done >= 2 or not kept
    if kept:
        assert applied.state == "HANDED BACK"
        assert queue.fireworks.find_one({"fw_id": manifest.fw_id})["state"] == "READY"
        # the next try, anywhere, does the rest
        outcome = run_here(queue, picks(queue), tmp_path / "here")
        assert outcome.action.stored_data["labelled"] == PICKS - done
    assert queue.fireworks.find_one({"fw_id": manifest.fw_id})["state"] == "COMPLETED"
    assert queue.db.labels.count_documents({"status": "done"}) == PICKS
