"""What is worked out in the background: once, whoever asks; again when its process dies; and removed some day."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest
from pymongo.errors import OperationFailure

from launchpad.dashboard import derived
from launchpad.dashboard.compute import PIECE, Claim
from launchpad.dashboard.derived import LEASE_S, Work, ask, content, remove_old, stem, wait
from launchpad.dashboard.groups import Group
from launchpad.dashboard.settings import DashboardSettings
from launchpad.dashboard.works import Made
from launchpad.database.documents import now

pytestmark = pytest.mark.database

ROWS = Work("rows/nobody", "rows", {"campaign": "nobody"})


@pytest.fixture
def group(database_uri, database):
    made = Group("si", database_uri)
    yield made
    until(lambda: not derived._running)
    made.close()


def until(happened, seconds=120.0):
    end = time.monotonic() + seconds
    while not (found := happened()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def done_by(database, work, claim, parts, **facts):
    """Claim and finish a work in this process."""
    begun = {
        "kind": work.kind, "arguments": {}, "state": "computing", "reason": "", "code": "", "progress": {},
        "claim": claim, "heard": now(), "asked": now(),
    }  # fmt: skip
    database.dashboard_results.update_one(
        {"_id": work.id}, {"$set": begun, "$setOnInsert": {"content": None}}, upsert=True
    )
    Claim(database, {"id": work.id, "claim": claim, "of": work.of}).finish(Made(parts, facts))


def test_one_child_for_all_who_ask_and_its_reason_is_told(group, database, monkeypatch):
    """Eight threads of four servers ask at once: one claim; the child says that there is no such campaign."""
    begun, ended = [], []
    run = derived._run

    def watched(*given):
        begun.append(given[2])
        run(*given)
        ended.append(given[2])

    monkeypatch.setattr(derived, "_run", watched)
    settings = DashboardSettings(computations=8, retry_s=600.0)
    monkeypatch.setattr(derived, "_reserve", lambda key, most: True)
    threads = [threading.Thread(target=ask, args=(group, ROWS, settings)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(begun) == 1
    failed = until(lambda: (found := ask(group, ROWS, settings)).state == "failed" and found)
    assert (failed.code, "'nobody'" in failed.reason, failed.made) == ("not-found", True, None)
    # not before its time; afterwards by another child
    assert ask(group, ROWS, settings).state == "failed"
    assert ask(group, ROWS, settings.model_copy(update={"retry_s": 0.0})).state == "computing"
    until(lambda: len(ended) == 2)
    assert database.dashboard_results.find_one()["state"] == "failed"


def test_a_killed_child_is_told_and_a_silent_one_taken_over(group, database):
    settings = DashboardSettings(retry_s=0.0)
    work = Work("values/slow", "values", {"key": "x", "generation": 0})
    assert ask(group, work, settings).state == "computing"

    def killed():
        found = database.dashboard_results.find_one({"_id": work.id, "state": "failed"})
        if found is not None and "SIGKILL" in found["reason"]:
            return True
        # one that came to its end before it was met is begun again
        ask(group, work, settings)
        process = child()
        if process is not None:
            os.kill(process, signal.SIGKILL)
        return False

    until(killed)
    until(lambda: not derived._running)
    # of a machine that is gone: nobody says that it failed, it is only silent
    there = {"state": "computing", "claim": "gone", "heard": now() - timedelta(seconds=LEASE_S - 10)}
    database.dashboard_results.update_one({"_id": work.id}, {"$set": there})
    database.dashboard_parts.insert_one({"_id": f"{stem(work.id)}/gone/values/0", "data": b"half"})
    ask(group, work, settings)
    assert database.dashboard_results.find_one({"_id": work.id})["claim"] == "gone"
    database.dashboard_results.update_one(
        {"_id": work.id}, {"$set": {"heard": now() - timedelta(seconds=LEASE_S + 1)}}
    )
    ask(group, work, settings)
    assert database.dashboard_results.find_one({"_id": work.id})["claim"] != "gone"
    until(lambda: not database.dashboard_parts.count_documents({}))


def child():
    """Return the process of the computation that this process began."""
    for task in Path("/proc/self/task").iterdir():
        for number in (task / "children").read_text().split():
            # an interpreter that is only beginning has the name of this one; one that has ended has none
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                if b"launchpad.dashboard.compute" in Path(f"/proc/{number}/cmdline").read_bytes():
                    return int(number)
    return None


def test_a_limit_ends_a_child(group, database):
    settings = DashboardSettings(computation_limit_s=0.001)
    ask(group, ROWS, settings)
    failed = until(lambda: (found := ask(group, ROWS, settings)).state == "failed" and found)
    assert "computation_limit_s" in failed.reason


@pytest.mark.parametrize("state", ["computing", "failed", "done"])
def test_what_a_clock_ahead_of_ours_wrote_is_not_waited_for(group, database, monkeypatch, state):
    """A machine whose clock is a day ahead was at it; nobody waits for that day."""
    monkeypatch.setattr(derived, "_run", lambda group, work, *_: derived._release(work.id))
    work = Work("rows/ahead", "rows", {"campaign": "ahead"}, of=None, every_s=20.0)
    done_by(database, work, "1" * 24, {"part": b"x"})
    for ahead_s, expected in ((3.0, state), (86400.0, "computing")):
        late = now() + timedelta(seconds=ahead_s)
        there = {"state": state, "heard": late, "content.made": late}
        database.dashboard_results.update_one({"_id": work.id}, {"$set": there})
        assert ask(group, work, DashboardSettings()).state == expected
    assert database.dashboard_results.find_one({"_id": work.id})["claim"] != "1" * 24


def test_large_contents_come_back_whole_and_the_one_before_is_removed(group, database):
    settings = DashboardSettings()
    work = Work("charts/one", "charts", {"campaign": "one"}, of="a")
    large = os.urandom(2 * PIECE + 17)
    done_by(database, work, "1" * 24, {"large": large, "empty": b""}, points=3)
    first = ask(group, work, settings)
    assert (first.state, first.facts, first.part("large").pieces) == ("done", {"points": 3}, 3)
    assert content(database, first, first.part("large")) == large
    assert content(database, first, first.part("empty")) == b""
    assert first.part("other") is None
    done_by(database, work, "2" * 24, {"large": b"small"})
    assert content(database, first, first.part("large")) is None
    second = ask(group, work, settings)
    assert content(database, second, second.part("large")) == b"small"
    assert database.dashboard_parts.count_documents({}) == 1
    # a child that lost its claim leaves nothing
    lost = Claim(database, {"id": work.id, "claim": "3" * 24, "of": ""})
    lost.finish(Made({"large": b"late"}))
    assert content(database, second, second.part("large")) == b"small"
    assert database.dashboard_parts.count_documents({}) == 1


def test_an_old_result_is_shown_until_a_newer_one_is_there(group, database):
    settings = DashboardSettings()
    work = Work("charts/nobody", "charts", {"campaign": "nobody"}, of="a")
    done_by(database, work, "1" * 24, {"part": b"old"})
    changed = Work(work.id, work.kind, work.arguments, of="b", every_s=3600.0)
    assert ask(group, changed, settings).state == "done"
    due = Work(work.id, work.kind, work.arguments, of="b")
    found = ask(group, due, settings)
    assert (found.state, content(database, found, found.part("part"))) == ("computing", b"old")
    # it cannot be had: the old one stays, with the reason
    failed = wait(group, due, settings)
    assert (failed.state, content(database, failed, failed.part("part"))) == ("failed", b"old")


def test_what_another_version_made_is_not_shown_and_made_again(group, database):
    work = Work("charts/old", "charts", {"campaign": "old"}, of="same")
    done_by(database, work, "a", {"x": b"1"})
    assert ask(group, work, DashboardSettings()).state == "done"
    database.dashboard_results.update_one({"_id": work.id}, {"$set": {"content.form": "0.0.1/1"}})
    found = ask(group, work, DashboardSettings())
    assert (found.state, found.parts, found.made) == ("computing", (), None)


def test_what_nobody_asks_for_is_removed(group, database):
    settings = DashboardSettings()
    for name in ("one", "other"):
        work = Work(f"rows/{name}", "rows", {"campaign": name})
        done_by(database, work, "1" * 24, {"part": b"x"})
        database.dashboard_rows.insert_one({"campaign": name})
    long_ago = now() - timedelta(days=settings.results_days + 1)
    database.dashboard_results.update_many({}, {"$set": {"asked": long_ago}})
    # somebody looks at one of them
    ask(group, Work("rows/one", "rows", {"campaign": "one"}), settings)
    assert remove_old(database, settings.results_days) == 1
    assert [found["_id"] for found in database.dashboard_results.find()] == ["rows/one"]
    assert [found["campaign"] for found in database.dashboard_rows.find()] == ["one"]
    assert database.dashboard_parts.count_documents({}) == 1


def test_an_account_that_may_only_read_is_told_so(group, database, monkeypatch):
    """Pages work, and what another dashboard worked out is shown."""
    from launchpad.database.connection import NOT_AUTHORISED

    def refused(*given):
        raise OperationFailure("not authorized on gf to execute command { update", NOT_AUTHORISED)

    monkeypatch.setattr(derived, "_claim", refused)
    settings = DashboardSettings()
    found = ask(group, ROWS, settings)
    assert (found.state, found.made) == ("failed", None)
    assert "may not write" in found.reason
    done_by(database, ROWS, "1" * 24, {"part": b"x"})
    old = Work(ROWS.id, ROWS.kind, ROWS.arguments, of=None)
    found = ask(group, old, settings)
    assert (found.state, content(database, found, found.part("part"))) == ("failed", b"x")
    assert not derived._running
