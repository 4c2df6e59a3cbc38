"""A private mongod that does not come up: nothing of it goes on running, and its password is kept for the next try."""

from __future__ import annotations

import json
import os
import stat
import time

import pytest

from gapfactory.errors import DatabaseError
from launchpad.database import mongod

SILENT = """#!/bin/sh
cp "$(dirname "$0")/../data/mongod/state.json" "$(dirname "$0")/seen.json"
exec sleep 60
"""


@pytest.fixture
def silent(tmp_path, monkeypatch):
    """A `mongod` on PATH that starts, writes down the state that it was started with, and never answers."""
    program = tmp_path / "bin" / "mongod"
    program.parent.mkdir()
    program.write_text(SILENT)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(mongod, "START_S", 1.0)
    return tmp_path / "data"


def test_a_server_that_does_not_come_up_is_ended_and_its_password_kept(silent, tmp_path) -> None:
    with pytest.raises(DatabaseError, match="did not start"):
        mongod.ensure_mongod(silent)
    path = silent / "mongod" / "state.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    state = json.loads(path.read_text())
    seen = json.loads((tmp_path / "bin" / "seen.json").read_text())
    assert seen["password"] == state["password"], "the password was not written before the server was started"
    with pytest.raises(ProcessLookupError):
        os.kill(state["pid"], 0)
    assert not mongod.mongod_status(silent)["running"]
    began = time.monotonic()
    with pytest.raises(DatabaseError, match="did not start"):
        mongod.ensure_mongod(silent)
    assert time.monotonic() - began < 20
    again = json.loads(path.read_text())
    assert (again["password"], again["port"]) == (state["password"], state["port"])
    assert again["pid"] != state["pid"]
