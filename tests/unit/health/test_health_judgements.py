"""What is healthy: verdicts of single findings, with remedies; a check that hangs or cannot be made."""

from __future__ import annotations

import threading

import pytest

from gapfactory.errors import InputError
from launchpad.database.entry import on_this_machine
from launchpad.health.clocks import judge_clock
from launchpad.health.database import entry
from launchpad.health.finding import Finding, HealthSettings, bounded, worst
from launchpad.health.metrics import Metric, render
from launchpad.health.permissions import judge_roles
from launchpad.health.queue import judge_spool, judge_survey
from launchpad.health.workers import judge_ready, judge_versions
from launchpad.queue.survey import Survey

SETTINGS = HealthSettings()
QUIET = Survey({}, (), (), 0, (), (), 3, (), 0)


def enters(hosts, *, users=("me@admin",), anonymous=False, tls=False, checked=True):
    return entry(hosts, users=users, anonymous=anonymous, tls=tls, checked=checked)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "[::1]", "127.8.9.1", "localhost", "/run/x/mongo.sock"])
def test_addresses_of_this_machine(host) -> None:
    assert on_this_machine(host)


@pytest.mark.parametrize("host", ["192.0.2.7", "10.0.0.1", "2001:db8::1"])
def test_addresses_that_others_reach(host) -> None:
    assert not on_this_machine(host)


@pytest.mark.parametrize(
    ("finding", "verdict", "word"),
    [
        (enters(["192.0.2.7"], users=(), anonymous=True, tls=True), "failed", "--auth"),
        (enters(["192.0.2.7"], tls=False), "failed", "tls=true"),
        (enters(["127.0.0.1", "192.0.2.7"], tls=False), "failed", "tls=true"),
        (enters(["192.0.2.7"], tls=True, checked=False), "failed", "tlsCAFile"),
        (enters(["192.0.2.7"], tls=True), "ok", ""),
        (enters(["127.0.0.1"], anonymous=True), "advice", "--auth"),
        (enters(["127.0.0.1"]), "ok", ""),
        (enters(["/run/mongo.sock"], users=(), anonymous=True), "ok", ""),
    ],
)
def test_who_may_enter(finding, verdict, word) -> None:
    assert finding.verdict == verdict
    assert word in finding.remedy
    assert bool(finding.remedy) == (verdict != "ok")


@pytest.mark.parametrize(
    ("offset", "verdict", "word"),
    [
        (0.2, "ok", "ahead"),
        (-20.0, "advice", "behind"),
        (600.0, "failed", "ahead"),
        (-600.0, "failed", "behind"),
    ],
)
def test_clocks(offset, verdict, word) -> None:
    finding = judge_clock("x", "x", offset, SETTINGS)
    assert finding.verdict == verdict
    assert word in finding.found
    assert finding.data == {"offset_s": offset}


@pytest.mark.parametrize(
    ("roles", "private", "verdict"),
    [
        ([("gapfactory_worker", "group")], False, "ok"),
        ([("gapfactory_owner", "group")], False, "ok"),
        ([("gapfactory_viewer", "group")], False, "advice"),
        ([("gapfactory_dashboard", "group")], False, "ok"),
        ([("readWrite", "group")], False, "advice"),
        ([("dbOwner", "group")], True, "ok"),
        ([("read", "group")], False, "advice"),
        ([("readWrite", "other")], False, "advice"),
        ([("root", "admin")], False, "advice"),
        ([("root", "admin")], True, "ok"),
        ([("ourOwnRole", "group")], False, "advice"),
    ],
)
def test_roles(roles, private, verdict) -> None:
    assert judge_roles(roles, "group", logged_in=True, private=private).verdict == verdict


def test_versions_of_workers_are_compared() -> None:
    here = {"gapfactory": "1.0", "fireworks": "2.1.4"}
    same, old, silent = (
        {"host": "a", "versions": dict(here)},
        {"host": "b", "versions": {**here, "gapfactory": "0.9"}},
        {"host": "c"},
    )
    assert judge_versions([same], here).verdict == "ok"
    found = judge_versions([same, old, silent], here)
    assert found.verdict == "advice"
    assert "0.9 on b" in found.found
    assert "on c" in found.found
    assert "on a" not in found.found


def test_ready_tasks_need_a_worker_that_takes_them() -> None:
    assert judge_ready({}, []).verdict == "ok"
    assert judge_ready({"fit": 2}, [[]]).verdict == "ok"
    assert judge_ready({"fit": 2, "build": 1}, [["fit"], ["build"]]).verdict == "ok"
    left = judge_ready({"fit": 2, "reference": 7}, [["fit", "build"]])
    assert left.verdict == "advice"
    assert left.data["left"] == {"reference": 7}
    assert "-c reference" in left.remedy


@pytest.mark.parametrize(
    "stuck",
    [
        {"lost": {4: "its worker died"}},
        {"reservations": (4,)},
        {"locks": (4,)},
        {"overdue": (4,)},
        {"lagging": (4,)},
        {"journals": 4},
    ],
    ids=lambda stuck: next(iter(stuck)),
)
def test_stuck_tasks_have_failed_only_where_nobody_puts_them_right(stuck) -> None:
    from dataclasses import replace

    seen = replace(QUIET, **stuck)
    assert seen.stuck
    assert not QUIET.stuck
    assert judge_survey(QUIET, reaping=False).verdict == "ok"
    assert judge_survey(seen, reaping=True).verdict == "advice"
    alone = judge_survey(seen, reaping=False)
    assert alone.verdict == "failed"
    assert "4" in alone.found
    assert "gapfactory worker start" in alone.remedy


def test_spooled_results(tmp_path) -> None:
    from launchpad.queue.spool import Spool

    assert judge_spool(tmp_path / "spool", reaping=False).verdict == "ok"
    path = Spool(tmp_path / "spool").put("database", 7, "COMPLETED", None, 0.0)
    assert judge_spool(tmp_path / "spool", reaping=True).verdict == "advice"
    assert judge_spool(tmp_path / "spool", reaping=False).verdict == "failed"
    path.rename(path.with_suffix(".damaged"))
    damaged = judge_spool(tmp_path / "spool", reaping=True)
    assert damaged.verdict == "failed"
    assert path.with_suffix(".damaged").name in damaged.found


def test_a_check_that_hangs_is_given_up_and_keeps_what_it_had_found() -> None:
    release = threading.Event()

    def hangs():
        yield Finding("scratch", "first", "ok", "seen")
        release.wait(60)

    try:
        findings = bounded("scratch", hangs, 0.3)
    finally:
        release.set()
    assert [finding.verdict for finding in findings] == ["ok", "failed"]
    assert "given up" in findings[1].found


def test_a_check_that_cannot_be_made_says_why() -> None:
    def unusable():
        yield Finding("codes", "first", "ok", "seen")
        raise InputError("the site file is wrong")

    def no_file():
        raise PermissionError(13, "Permission denied", "/somewhere")

    assert [f.verdict for f in bounded("codes", unusable, 10)] == ["ok", "failed"]
    assert "the site file is wrong" in bounded("codes", unusable, 10)[1].found
    assert "/somewhere" in bounded("codes", no_file, 10)[0].found


def test_a_defect_of_a_check_is_not_hidden() -> None:
    def broken():
        raise KeyError("nodes")

    with pytest.raises(KeyError):
        bounded("queue", broken, 10)


def test_the_worst_verdict_counts() -> None:
    made = {verdict: Finding("x", "y", verdict, "z") for verdict in ("ok", "advice", "failed")}
    assert worst([]) == "ok"
    assert worst([made["ok"], made["advice"]]) == "advice"
    assert worst([made["failed"], made["advice"], made["ok"]]) == "failed"


def test_text_format_of_metrics() -> None:
    metric = Metric("tasks", "Tasks by state.")
    metric.add(3, state="READY", note='a "quoted" \\ word\nand a line')
    plain = Metric("up", "Whether.", [({}, 1.0)])
    assert render([metric, plain]).splitlines() == [
        "# HELP gapfactory_tasks Tasks by state.",
        "# TYPE gapfactory_tasks gauge",
        'gapfactory_tasks{state="READY",note="a \\"quoted\\" \\\\ word\\nand a line"} 3.0',
        "# HELP gapfactory_up Whether.",
        "# TYPE gapfactory_up gauge",
        "gapfactory_up 1.0",
    ]
