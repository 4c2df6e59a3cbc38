"""The script around mongodump: rotation, faults, nothing left half-done.

mongodump cannot be installed from PyPI or Debian: a program that writes what it is told stands in for it. That archives
of a real one can be restored is not shown here.
"""

from __future__ import annotations

import gzip
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[3] / "deploy" / "backup.sh"
STAND_IN = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$CALLS"
for argument in "$@"; do
    [[ "$argument" != --archive=* ]] || archive="${argument#--archive=}"
done
case "$FAULT" in
    fails) echo partial >"$archive"; exit 1 ;;
    empty) : >"$archive" ;;
    cut) printf 'all documents' | gzip | head -c 20 >"$archive" ;;
    *) printf 'all documents' | gzip >"$archive" ;;
esac
"""


@pytest.fixture
def environment(tmp_path) -> dict[str, str]:
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "mongodump"
    program.write_text(STAND_IN)
    program.chmod(0o755)
    (tmp_path / "backups").mkdir()
    (tmp_path / "backup.yaml").write_text("uri: mongodb://backup:s3cret-word@localhost/admin\n")
    own = {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "BACKUP_CONFIG": str(tmp_path / "backup.yaml"),
        "BACKUP_DIRECTORY": str(tmp_path / "backups"),
        "BACKUP_KEEP": "3",
        "CALLS": str(tmp_path / "calls"),
        "FAULT": "",
    }
    return os.environ | own


def backup(environment, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *arguments], capture_output=True, text=True, timeout=60, env=environment | more
    )


def older(directory: Path, number: int) -> list[str]:
    """Make archives of days gone by; return their names from the oldest."""
    names = [f"gapfactory-202601{day:02d}T020000Z.archive.gz" for day in range(1, number + 1)]
    for name in names:
        (directory / name).write_text("old")
    return names


def test_the_oldest_go_when_a_new_one_is_there(environment, tmp_path) -> None:
    backups = tmp_path / "backups"
    names = older(backups, 5)
    (backups / "notes.txt").write_text("not ours")
    done = backup(environment)
    assert done.returncode == 0, done.stderr
    left = sorted(path.name for path in backups.glob("*.archive.gz"))
    assert len(left) == 3
    assert left[:2] == names[-2:]
    assert gzip.decompress((backups / left[-1]).read_bytes()) == b"all documents"
    assert (backups / left[-1]).stat().st_mode & 0o077 == 0
    assert (backups / "notes.txt").exists()
    calls = (tmp_path / "calls").read_text()
    assert "--oplog" in calls
    assert "s3cret-word" not in calls + done.stdout + done.stderr


@pytest.mark.parametrize("fault", ["fails", "empty", "cut"])
def test_a_bad_archive_costs_no_good_one(environment, tmp_path, fault) -> None:
    names = older(tmp_path / "backups", 5)
    done = backup(environment, FAULT=fault)
    assert done.returncode == 1
    assert "are kept" in done.stderr
    assert sorted(path.name for path in (tmp_path / "backups").iterdir()) == names


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"BACKUP_KEEP": "0"}, "no positive number"),
        ({"BACKUP_CONFIG": "/nowhere"}, "cannot be read"),
        ({"BACKUP_DIRECTORY": "/nowhere"}, "no directory"),
        ({"BACKUP_DIRECTORY": ""}, "set BACKUP_DIRECTORY"),
    ],
)
def test_faults_are_named(environment, change, words) -> None:
    done = backup(environment, **change)
    assert done.returncode != 0
    assert words in done.stderr


def test_in_a_container_it_goes_on_after_a_fault_and_ends_when_told(environment, tmp_path) -> None:
    process = subprocess.Popen(
        [str(SCRIPT), "loop", "1"],
        env=environment | {"FAULT": "fails"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + 60
        while not (calls := tmp_path / "calls").exists() or len(calls.read_text().splitlines()) < 2:
            assert time.monotonic() < end
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
