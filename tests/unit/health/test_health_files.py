"""Files and directories: secrets that others can read, settings that others can change, disks that are full."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from launchpad.embedded.locations import file_system_of, is_network
from launchpad.health.finding import HealthSettings
from launchpad.health.permissions import judge_file
from launchpad.health.scratch import judge_directory

LOGIN = 'host: "mongodb://me:geheim@db.example.org/group"\nuri_mode: true\n'


@pytest.fixture
def open_place():
    """A directory that everybody may enter, as long as the temporary directory is such a one."""
    place = Path(tempfile.mkdtemp(prefix="gfh-"))
    place.chmod(0o755)
    if not all(parent.stat().st_mode & 0o001 for parent in place.parents):
        shutil.rmtree(place)
        pytest.skip("the temporary directory is private")
    yield place
    shutil.rmtree(place)


def file_with(place: Path, mode: int, text: str = LOGIN) -> Path:
    path = place / "my_launchpad.yaml"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_secret_that_everybody_can_read(open_place) -> None:
    path = file_with(open_place, 0o644)
    found = judge_file(path)
    assert found.verdict == "failed"
    assert "every user" in found.found
    assert f"chmod 600 {path}" in found.remedy
    assert "geheim" not in found.found + found.remedy


def test_a_secret_behind_a_closed_directory_is_worth_advice(open_place) -> None:
    path = file_with(open_place, 0o604)
    open_place.chmod(0o700)
    assert judge_file(path).verdict == "advice"


def test_a_secret_for_the_group_is_worth_advice(open_place) -> None:
    assert judge_file(file_with(open_place, 0o640)).verdict == "advice"


@pytest.mark.parametrize(
    "text",
    [
        LOGIN,
        "environment = {DB_PASSWORD = 'geheim'}\n",
        "username: me\npassword: geheim\n",
        '{"password": "geheim"}',
        "mongoclient_kwargs:\n  tls: true\n  token: abc\n",
    ],
)
def test_secrets_are_recognised(open_place, text) -> None:
    assert judge_file(file_with(open_place, 0o644, text)).verdict == "failed"


@pytest.mark.parametrize(
    "text",
    [
        "host: localhost\nport: 27017\n",
        "password: null\nusername: null\n",
        "password:\nuri_mode: true\n",
        "host: mongodb://db.example.org/x\n",
    ],
)
def test_settings_without_secrets_may_be_read(open_place, text) -> None:
    assert judge_file(file_with(open_place, 0o644, text)).verdict == "ok"


def test_a_private_secret_is_well(open_place) -> None:
    assert judge_file(file_with(open_place, 0o600)).verdict == "ok"


@pytest.mark.parametrize(("mode", "verdict"), [(0o602, "failed"), (0o666, "failed"), (0o664, "advice")])
def test_settings_that_others_can_change(open_place, mode, verdict) -> None:
    found = judge_file(file_with(open_place, mode, "[espresso]\ncommand = ['pw.x']\n"))
    assert found.verdict == verdict
    assert "-w" in found.remedy


def test_a_secret_counts_more_than_a_group_that_may_write(open_place) -> None:
    assert judge_file(file_with(open_place, 0o664)).verdict == "failed"


def judged(path: Path, **settings):
    return judge_directory(
        "workers", path, HealthSettings(**settings), variable="GAPFACTORY_SCRATCH", local=True
    )


def test_a_directory_that_is_not_made_yet_is_judged_by_the_one_above(tmp_path) -> None:
    found = judged(tmp_path / "a" / "b", free_advice_gb=0, free_failed_gb=0)
    assert found.data["exists"] is False
    assert found.verdict in {"ok", "advice"}  # in memory on some machines
    assert list(tmp_path.iterdir()) == []


def test_little_space(tmp_path) -> None:
    assert judged(tmp_path, free_failed_gb=1e9).verdict == "failed"
    assert judged(tmp_path, free_failed_gb=0, free_advice_gb=1e9).verdict == "advice"


def test_a_file_in_place_of_the_directory(tmp_path) -> None:
    (tmp_path / "file").write_text("x")
    assert judged(tmp_path / "file" / "scratch").verdict == "failed"


def test_a_directory_that_cannot_be_written() -> None:
    """Even the superuser makes no files there."""
    found = judged(Path("/proc/self/task"), free_advice_gb=0, free_failed_gb=0)
    assert found.verdict == "failed"
    assert "cannot be written" in found.found
    assert "GAPFACTORY_SCRATCH" in found.remedy


MOUNTED = """
import dataclasses, json, os, subprocess, sys
from pathlib import Path
from launchpad.health.finding import HealthSettings
from launchpad.health.scratch import judge_directory
place = Path(sys.argv[1])
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k," + sys.argv[2], "none", str(place)], check=True)
if sys.argv[2] == "rw":
    try:
        with (place / "everything").open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))
    except OSError:
        pass
settings = HealthSettings(free_failed_gb=0, free_advice_gb=0)
found = judge_directory("workers", place, settings, variable="GAPFACTORY_SCRATCH", local=True)
print(json.dumps(dataclasses.asdict(found)))
"""


@pytest.mark.parametrize(("options", "words"), [("rw", "No space left"), ("ro", "Read-only file system")])
def test_a_real_file_system_that_is_full_or_read_only(tmp_path, options, words) -> None:
    command = ["unshare", "--user", "--map-root-user", "--mount"]
    try:
        allowed = subprocess.run([*command, "true"], capture_output=True, timeout=30).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("this machine lets nobody mount a file system of his own")
    done = subprocess.run(
        [*command, sys.executable, "-c", MOUNTED, str(tmp_path), options],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["verdict"] == "failed"
    assert words in found["found"]


def test_file_systems_are_told_apart() -> None:
    mounts = "/dev/sda1 / ext4 rw 0 0\nhost:/x /data nfs4 rw 0 0\nnone /data/fast tmpfs rw 0 0\n"
    assert file_system_of(Path("/data/group"), mounts) == ("/data", "nfs4")
    assert file_system_of(Path("/data/fast/x"), mounts) == ("/data/fast", "tmpfs")
    assert file_system_of(Path("/database"), mounts) == ("/", "ext4")
    assert is_network("nfs4")
    assert not is_network("ext4")
