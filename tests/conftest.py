"""Databases and command-line campaigns for every test that needs one.

The database is the embedded server unless GAPFACTORY_TEST_URI names another.
"""

from __future__ import annotations

import atexit
import functools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from pathlib import Path

import hypothesis
import pytest

# a machine that others use may take long over anything
hypothesis.settings.register_profile("gapfactory", deadline=None)
hypothesis.settings.load_profile("gapfactory")
ROOT = Path(__file__).parents[1]
if str(ROOT / "tests") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests"))  # for the gf_*.py that several directories use

MAIN = [sys.executable, "-c", "from launchpad.cli import main; main()"]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what is asked for on the command line."""
    parser.addoption(
        "--random-order",
        metavar="SEED",
        help="run files in a random order, and the tests of each file; the seed repeats it",
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mix files, and the tests within each: fixtures of a file are made once still."""
    seed = config.getoption("--random-order")
    if seed is None:
        return
    rng = random.Random(seed)
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    order = sorted(files)
    rng.shuffle(order)
    for path in order:
        rng.shuffle(files[path])
    items[:] = [item for path in order for item in files[path]]


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say in which order tests run."""
    seed = config.getoption("--random-order")
    return None if seed is None else f"random order: --random-order {seed}"


def with_database(uri: str, name: str) -> str:
    """Return the URI with another database."""
    base, _, options = uri.partition("?")
    scheme, rest = base.split("://", 1)
    return f"{scheme}://{rest.split('/', 1)[0]}/{name}" + (f"?{options}" if options else "")


@pytest.fixture(scope="session")
def database_server():
    """URI of a server that outlives single tests."""
    given = os.environ.get("GAPFACTORY_TEST_URI")
    if given:
        yield given
        return
    from launchpad.embedded import stop

    # not below tmp_path: the path of a socket is limited to about a hundred characters
    place = Path(tempfile.mkdtemp(prefix="gft-"))
    code = f"from launchpad.embedded import ensure_running; print(ensure_running({str(place)!r}))"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    yield started.stdout.strip()
    stop(place)
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture
def new_database(database_server):
    """Return a function that names a new, empty database; all are dropped afterwards."""
    from pymongo import MongoClient

    names: list[str] = []

    def make() -> str:
        names.append(f"gf_test_{uuid.uuid4().hex[:12]}")
        return with_database(database_server, names[-1])

    yield make
    with MongoClient(database_server) as client:
        for name in names:
            client.drop_database(name)


@pytest.fixture
def database_uri(new_database):
    """URI of a new, empty database."""
    return new_database()


@pytest.fixture
def database(database_uri):
    """A new, empty database with its indexes."""
    from launchpad.database.connection import open_database
    from launchpad.database.indexes import ensure_indexes

    opened = open_database(database_uri)
    ensure_indexes(opened)
    yield opened
    opened.client.close()


@functools.cache
def _forks():
    """Return the process that most commands of this test run are forks of."""
    from gf_forks import Forks

    made = Forks(_environment())
    atexit.register(made.close)
    return made


def _environment(**further: str) -> dict[str, str]:
    """Return the environment of commands: this one without its database."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("GAPFACTORY_DB")}
    return inherited | {"OMP_NUM_THREADS": "1", "COLUMNS": "80", "PYTHONPATH": str(ROOT)} | further


class Place:
    """A directory with a local database of its own, in which `gapfactory` is run as a person runs it."""

    def __init__(self, directory: Path, **environment: str) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        self.data = Path(tempfile.mkdtemp(prefix="gfp-"))
        own = {"GAPFACTORY_DATA": str(self.data), "GAPFACTORY_CACHE": str(directory / "cache")}
        self.environment = _environment(**own | environment)

    def write(self, name: str, text: str) -> Path:
        """Write a file."""
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        return path

    def start(self, *arguments: str, log: str = "out.log") -> subprocess.Popen[bytes]:
        """Start a command in the background; its output goes to a file."""
        with (self.directory / log).open("ab") as stream:
            return subprocess.Popen(
                [*MAIN, *arguments],
                cwd=self.directory,
                env=self.environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def run(
        self, *arguments: str, timeout: float = 300.0, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        own = self.environment | environment
        forks = _forks()
        if forks.serves(own):
            return forks.run(arguments, self.directory, own, timeout)
        return subprocess.run(
            [*MAIN, *arguments],
            cwd=self.directory,
            env=own,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def good(self, *arguments: str, **environment: str) -> str:
        """Run a command that must succeed; return what it printed."""
        done = self.run(*arguments, **environment)
        assert done.returncode == 0, f"{arguments}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def refused(self, *arguments: str, **environment: str) -> str:
        """Run a command that must fail with one clear screen; return its text without the frame."""
        done = self.run(*arguments, **environment)
        assert done.returncode not in (0, -signal.SIGSEGV), done.stdout
        return one_screen(done.stdout + done.stderr)

    def json(self, *arguments: str):
        """Run a read command with --json; return the data."""
        return json.loads(self.good(*arguments, "--json"))

    def log(self) -> str:
        """Return what background commands printed so far."""
        path = self.directory / "out.log"
        return path.read_text() if path.exists() else ""

    def server_pid(self) -> int:
        """Return the process id of the local server."""
        from launchpad.embedded import status

        pid = status(self.data).pid
        assert pid is not None
        return pid

    def close(self) -> None:
        """Stop the local server and remove its data."""
        from launchpad.embedded import stop

        stop(self.data)
        shutil.rmtree(self.data, ignore_errors=True)


def one_screen(text: str) -> str:
    """Check that an error fits one screen and has no traceback; return its words on one line."""
    assert "Traceback" not in text, text
    assert len(text.splitlines()) <= 24, text
    assert all(len(line) <= 80 for line in text.splitlines() if line.startswith(("╭", "│", "╰"))), text
    return " ".join(text.translate(str.maketrans("│╭╮╰╯─", "      ")).split())


@pytest.fixture
def place(tmp_path):
    """A directory with a local database of its own."""
    made = Place(tmp_path / "here")
    yield made
    made.close()


@pytest.fixture
def stored():
    """Return a function that opens the database of a place; all are closed afterwards."""
    from launchpad.database.connection import open_database
    from launchpad.embedded import ensure_running

    opened = []

    def open_(place):
        opened.append(open_database(ensure_running(place.data)))
        return opened[-1]

    yield open_
    for database in opened:
        database.client.close()


@pytest.fixture(scope="session")
def new_place(tmp_path_factory):
    """Return a function that makes a `Place` which outlives single tests."""
    made: list[Place] = []

    def make(name: str, **environment: str) -> Place:
        made.append(Place(tmp_path_factory.mktemp(name), **environment))
        return made[-1]

    yield make
    for place in made:
        place.close()
