"""Clocks: this host's and those that workers recorded, against the server's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from launchpad.health.finding import Finding, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterator

    from launchpad.health.finding import HealthSettings, Patient

__all__ = ["check_clocks", "judge_clock"]

_REMEDY = (
    "our leases use the server's clock and do not suffer, but FireWorks' own rlaunch, certificates and logs do: "
    "synchronise the clock (chrony, ntpd or systemd-timesyncd; 'timedatectl' shows it)"
)


def judge_clock(subject: str, who: str, offset_s: float, settings: HealthSettings) -> Finding:
    """Judge a clock by how far it is ahead of the server's (seconds; negative: behind)."""
    size = abs(offset_s)
    limits = settings.clock_advice_s, settings.clock_failed_s
    verdict: Verdict = "failed" if size > limits[1] else "advice" if size > limits[0] else "ok"
    found = f"{who}: {size:.2g} s {'ahead of' if offset_s > 0 else 'behind'} the server's clock"
    return Finding(
        "clocks",
        subject,
        verdict,
        found,
        "" if verdict == "ok" else _REMEDY,
        {"offset_s": round(offset_s, 3)},
    )


def check_clocks(patient: Patient) -> Iterator[Finding]:
    """Compare the clocks."""
    database = patient.database
    if database is None:
        yield Finding("clocks", "check", "advice", "not checked: there is no database to ask for the time")
        return
    from launchpad.queue.connection import ServerClock

    clock = ServerClock(database.client)
    offsets = []
    for _ in range(3):
        before = time.monotonic()
        clock.synchronise()
        # the answer of the shortest round trip tells the time best
        offsets.append((time.monotonic() - before, time.time() - clock.now()))
    yield judge_clock("this host", "this host", min(offsets)[1], patient.settings)
    worst: dict[str, float] = {}
    query: dict[str, Any] = {"state": {"$ne": "stopped"}, "clock_offset_s": {"$exists": True}}
    for worker in database.workers.find(query, {"host": 1, "clock_offset_s": 1}):
        offset = float(worker["clock_offset_s"])
        if abs(offset) >= abs(worst.get(worker["host"], 0.0)):
            worst[worker["host"]] = offset
    for host, offset in sorted(worst.items()):
        yield judge_clock(f"workers on {host}", f"workers on {host}", offset, patient.settings)
