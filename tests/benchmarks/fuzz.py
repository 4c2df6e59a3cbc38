"""Damage files of every format, and send what no client sends to the embedded server, until the time is over.

Run as ``python tests/benchmarks/fuzz.py [files] [wire] [commands] [--minutes 10] [--first 1000] [--json FILE]``; all
three, a third of the time each, where none is named. A case is a format and a number, from --first on; the tests of
every run of CI take low numbers. Prints the findings and how much was tried; a finding leaves exit status 1, and its
number repeats it: ``files --formats NAME --first NUMBER --cases 1``.
"""

from __future__ import annotations

import argparse
import json
import logging
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from gf_damage import bounded, trial
from gf_formats import FORMATS
from gf_wire import answers, attack, command, plausible, send

#: Answer of the embedded server to a command that ended in an exception nobody foresaw.
INTERNAL = 8


def files(names: list[str], first: int, cases: int | None, end: float) -> dict[str, Any]:
    """Damage files; return cases by format and findings."""
    tried: Counter[str] = Counter()
    found: dict[str, dict[str, Any]] = {}
    number = first
    while time.monotonic() < end and (cases is None or number < first + cases):
        for name in names:
            finding = trial(FORMATS[name], number)
            tried[name] += 1
            if finding is not None:
                key = f"{name}: {finding.what} at {finding.place}"
                found.setdefault(key, {"number": number, "text": finding.text, "times": 0})["times"] += 1
        number += 1
    return {"tried": dict(tried), "findings": found}


def wire(first: int, cases: int | None, end: float) -> dict[str, Any]:
    """Attack a server on a Unix socket and one on loopback TCP; return how often, and findings."""
    from launchpad.embedded import ensure_running, status, stop

    tried: Counter[str] = Counter()
    found: dict[str, dict[str, Any]] = {}
    slowest = 0.0
    places = [Path(tempfile.mkdtemp(prefix="gff-")) for _ in range(2)]
    uris = [ensure_running(places[0]), ensure_running(places[1], port=0)]
    pids = [status(place).pid for place in places]
    number = first
    try:
        while time.monotonic() < end and not found and (cases is None or number < first + cases):
            kind, data = attack(number)
            for uri in uris:
                tried[kind] += 1
                try:
                    send(uri, data, patience=0.002)
                    slowest = max(slowest, answers(uri, timeout=20.0))
                except OSError as error:
                    found[f"{kind}: no answer afterwards"] = {
                        "number": number,
                        "text": str(error),
                        "times": 1,
                    }
            number += 1
        for place, pid in zip(places, pids, strict=True):
            if status(place).pid != pid:
                found["the server is another process"] = {"number": number, "text": str(place), "times": 1}
    finally:
        for place in places:
            stop(place)
    return {"tried": dict(tried), "findings": found, "slowest_answer_s": round(slowest, 3)}


def commands(first: int, cases: int | None, end: float) -> dict[str, Any]:
    """Run commands with arguments of any kind; return how many, and those that ended in an internal error."""
    from launchpad.embedded.commands.registry import Peer, ServerInfo
    from launchpad.embedded.executor import Executor
    from launchpad.embedded.store import Store
    from launchpad.embedded.wire import decode, parse

    logging.disable(logging.CRITICAL)
    tried: Counter[str] = Counter()
    found: dict[str, dict[str, Any]] = {}
    number = first
    with tempfile.TemporaryDirectory() as place:
        store = Store(Path(place) / "journal.sqlite")
        executor = Executor(store, ServerInfo(time.time(), place, lambda: 1))
        peer = Peer("here", 1, trusted=True)
        while time.monotonic() < end and (cases is None or number < first + cases):
            body = plausible(random.Random(f"hostile {number}"))
            with bounded(seconds=30):
                reply = decode(executor.execute([(peer, parse(command(body)))])[0])
            tried["refused" if reply["ok"] == 0.0 else "answered"] += 1
            if reply.get("code") == INTERNAL:
                key = reply["errmsg"][:80]
                found.setdefault(key, {"number": number, "text": str(body)[:200], "times": 0})["times"] += 1
            number += 1
        store.close()
    return {"tried": dict(tried), "findings": found}


def main() -> int:
    """Fuzz and print; return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="*", choices=["files", "wire", "commands", []], default=[])
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--first", type=int, default=1000, help="number of the first case")
    parser.add_argument("--cases", type=int, help="so many of each, at most")
    parser.add_argument("--formats", default=",".join(FORMATS), help="of files, with commas")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    chosen = options.what or ["files", "wire", "commands"]
    report: dict[str, Any] = {"first": options.first}
    for what in chosen:
        start = time.monotonic()
        end = start + 60.0 * options.minutes / len(chosen)
        if what == "files":
            report[what] = files(options.formats.split(","), options.first, options.cases, end)
        else:
            report[what] = {"wire": wire, "commands": commands}[what](options.first, options.cases, end)
        report[what]["seconds"] = round(time.monotonic() - start, 1)
    text = json.dumps(report, indent=1) + "\n"
    sys.stdout.write(text)
    if options.json:
        options.json.write_text(text, encoding="utf-8")
    return int(any(report[what]["findings"] for what in chosen))


if __name__ == "__main__":
    sys.exit(main())
