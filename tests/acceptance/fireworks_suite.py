"""Run FireWorks' own test suite against the embedded server, or any MongoDB URI.

    python tests/acceptance/fireworks_suite.py [--uri URI] [--fast] [--sdist FILE] [--keep DIR]

The source distribution of FireWorks comes from PyPI with pip (it holds the tests; the wheel lacks their
data), unless given. It is unpacked into a temporary directory, where a conftest.py points every
MongoClient at the server under test. Failures and skips are compared with fireworks_suite_expected.json,
which gives each its reason; what is listed there as failing is run and shown as an expected failure. The exit
status is 0 only when nothing else failed, nothing else was skipped (FireWorks skips silently when it finds no
server) and as many tests passed as there must be.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

VERSION = "2.1.4"
EXPECTED = Path(__file__).with_name("fireworks_suite_expected.json")
ROOT = Path(__file__).resolve().parents[2]
# FireWorks reads pymongo.MongoClient once, at import: it must be replaced before.
CONFTEST = '''
import json
import os

import pymongo
import pytest

_Real = pymongo.MongoClient


class RedirectedClient(_Real):
    """Opens the server under test whatever host is asked for; credentials are passed on."""

    def __init__(self, *args, **kwargs):
        names = ("username", "password", "authSource")
        credentials = {name: kwargs[name] for name in names if kwargs.get("username")}
        super().__init__(os.environ["GAPFACTORY_TEST_URI"], **credentials)


pymongo.MongoClient = RedirectedClient


def pytest_collection_modifyitems(items):
    """Expect what is on the list to fail, with its reason."""
    with open(os.environ["GAPFACTORY_TEST_EXPECTED"], encoding="utf-8") as stream:
        expected = json.load(stream)
    reasons = expected["failing"] | expected["unstable"]
    for item in items:
        path, *names = item.nodeid.split("::")
        classname = ".".join([path.removesuffix(".py").replace("/", "."), *names[:-1]])
        reason = reasons.get(f"{classname}::{names[-1]}")
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason))
'''
# Files named *_tests.py are not collected by default and must be a call of their own.
CALLS = {
    "collected": ["fireworks", "--ignore=fireworks/utilities/tests/test_dagflow.py"],
    "named": [
        "fireworks/tests/mongo_tests.py",
        "fireworks/tests/multiprocessing_tests.py",
        "fireworks/tests/master_tests.py",
    ],
}
# Three wait 45 s each for a lock to expire; the fourth kills a process at a random moment and, when that held
# FireWorks' workflow lock, waits 5 minutes. The rest of the suite takes about a minute.
SLOW = [
    "test_fix_db_inconsistencies_completed",
    "test_fix_db_inconsistencies_fizzled",
    "test_many_detours",
    "test_rerun_timed_fws",
]


def fetch(directory: Path, sdist: Path | None) -> Path:
    """Unpack the source distribution and return its directory."""
    if sdist is None:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--no-binary",
            "FireWorks",
        ]
        subprocess.run([*command, "-q", "-d", str(directory), f"FireWorks=={VERSION}"], check=True)
        sdist = next(directory.glob("*ireworks-*.tar.gz"))
    with tarfile.open(sdist) as archive:
        if hasattr(tarfile, "data_filter"):
            archive.extractall(directory, filter="data")
        else:  # Python 3.11 before 3.11.4, as Debian 12 has it
            outside = [
                m.name
                for m in archive
                if m.name.startswith("/") or ".." in m.name or not (m.isfile() or m.isdir())
            ]
            if outside:
                raise SystemExit(f"{sdist} holds entries that are refused: {outside[:5]}")
            archive.extractall(directory)  # noqa: S202 - every name was looked at above
    return next(
        path for path in directory.iterdir() if path.is_dir() and path.name.lower().startswith("fireworks")
    )


def run(source: Path, name: str, arguments: list[str], uri: str, *, fast: bool) -> dict[str, tuple[str, str]]:
    """Run one pytest call and return {test: (outcome, message)}."""
    report = source / f"report-{name}.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        *arguments,
    ]
    if fast:
        command += ["-k", " and ".join(f"not ({test} and not {test}_)" for test in SLOW)]
    ours = {"GAPFACTORY_TEST_URI": uri, "GAPFACTORY_TEST_EXPECTED": str(EXPECTED), "OMP_NUM_THREADS": "1"}
    subprocess.run(command, cwd=source, env={**os.environ, **ours})
    outcomes = {}
    for case in ET.parse(report).iter("testcase"):  # noqa: S314
        kinds = {
            "expected failure" if child.get("type") == "pytest.xfail" else child.tag: child.get("message")
            or ""
            for child in case
        }
        order = ("error", "failure", "expected failure", "skipped")
        outcome = next((kind for kind in order if kind in kinds), "passed")
        outcomes[f"{case.get('classname')}::{case.get('name')}"] = (outcome, kinds.get(outcome, ""))
    return outcomes


def compare(outcomes: dict[str, tuple[str, str]], expected: dict[str, Any], *, fast: bool) -> list[str]:
    """Return what differs from the committed list."""
    differences = []
    for test, (outcome, message) in outcomes.items():
        if outcome in ("failure", "error"):
            differences.append(f"FAILED  {test}: {message.splitlines()[0] if message else ''}")
        if outcome == "skipped" and test not in expected["skipped"]:
            differences.append(f"SKIPPED {test}: {message}")
    passed = sum(outcome == "passed" for outcome, _ in outcomes.values())
    least = expected["passed_fast" if fast else "passed"]
    if passed < least:
        differences.append(f"only {passed} tests passed, {least} must")
    return differences


def main() -> int:
    """Run everything and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--uri", default=os.environ.get("GAPFACTORY_TEST_URI"))
    parser.add_argument("--fast", action="store_true", help="leave out four tests that wait for minutes")
    parser.add_argument("--sdist", type=Path, help="FireWorks' source distribution, already downloaded")
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from launchpad.embedded import ensure_running, stop

    with tempfile.TemporaryDirectory(prefix="fireworks-suite-") as name:
        directory = Path(name)
        source = fetch(directory, options.sdist)
        (source / "conftest.py").write_text(CONFTEST, encoding="utf-8")
        uri = options.uri or ensure_running(directory / "database")
        outcomes: dict[str, tuple[str, str]] = {}
        try:
            for call, arguments in CALLS.items():
                outcomes |= run(source, call, arguments, uri, fast=options.fast)
        finally:
            if options.uri is None:
                stop(directory / "database")
    counts = {
        kind: sum(o == kind for o, _ in outcomes.values())
        for kind in ("passed", "failure", "error", "expected failure", "skipped")
    }
    print(f"FireWorks {VERSION}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items()))  # noqa: T201
    expected = json.loads(EXPECTED.read_text(encoding="utf-8"))
    differences = compare(outcomes, expected, fast=options.fast)
    for line in differences:
        print(line)  # noqa: T201
    for test, (outcome, _) in outcomes.items():
        if outcome == "passed" and test in expected["failing"]:
            print(f"NOTE    {test} passes now: take it off the list")  # noqa: T201
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
