"""Faults of FireWorks that let others in: ours must pass, FireWorks' own must fail."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing.managers import BaseManager
from pathlib import Path

import pytest
from fireworks import Firework, LaunchPad
from gf_fault_sides import Ours, Stock
from gf_fault_tasks import Foreign
from queue_help import wait_for

from launchpad.queue import write_launchpad_file
from launchpad.workers import Supervisor, WorkerSettings

pytestmark = pytest.mark.database


def test_foreign_tasks_are_not_run(both):
    """Who may write to the database may have anything imported and run on every worker."""

    def scenario(side):
        trace = side.directory / "trace"
        ids = side.add(Firework(Foreign(file=str(trace)), name="only"))
        side.run_all()
        assert not trace.exists(), "a task that nobody has allowed has run"
        assert side.state(ids["only"]) == "FIZZLED", "refused, and said so"

    both(scenario, match="nobody has allowed")


def test_foreign_classes_are_not_even_imported(both):
    """Reading a Firework imports whatever module its spec names, before anybody decides to run it."""

    def scenario(side):
        module = side.directory / "gf_evil.py"
        module.write_text(
            "from pathlib import Path\nfrom fireworks import FiretaskBase\n"
            "Path('imported').write_text('yes')\n"
            "class Task(FiretaskBase):\n    _fw_name = '{{gf_evil.Task}}'\n    def run_task(self, fw_spec): pass\n"
        )
        sys.path.insert(0, str(side.directory))
        try:
            side.add(Firework(Foreign(file="x"), name="only"))
            side.pad.fireworks.update_one({}, {"$set": {"spec._tasks.0._fw_name": "{{gf_evil.Task}}"}})
            side.run_one()
        finally:
            sys.path.remove(str(side.directory))
            sys.modules.pop("gf_evil", None)
        assert not (side.directory / "imported").exists(), "imported by looking at it"

    both(scenario, match="imported by looking")


def lpad_init(directory, *options, answers):
    """Run FireWorks' command as a person does who answers its questions."""
    done = subprocess.run(
        [str(Path(sys.executable).parent / "lpad"), "init", *options],
        input="\n".join([*answers, ""]),
        cwd=directory,
        env={**os.environ, "HOME": str(directory)},
        capture_output=True,
        text=True,
    )
    return done.stdout + done.stderr


def test_password_file_is_for_its_owner_only(both):
    """`lpad init` writes the password into a file that everybody on the machine can read."""

    def scenario(side):
        path = side.directory / "my_launchpad.yaml"
        if side.name == "stock":
            words = ["localhost", "27017", "fireworks", "me", "secret-word", "", ""]
            lpad_init(side.directory, answers=words)
        else:
            write_launchpad_file(path, "mongodb://me:secret-word@localhost:27017/fireworks")
        assert "secret-word" in path.read_text()
        assert path.stat().st_mode & 0o077 == 0, "everybody can read the password"

    old = os.umask(0o022)
    try:
        both(scenario, match="everybody can read")
    finally:
        os.umask(old)


def test_launchpad_file_from_a_uri(both):
    """`lpad init -u` asks for no name and then fails for the lack of one, always."""

    def scenario(side):
        path = side.directory / "my_launchpad.yaml"
        if side.name == "stock":
            said = lpad_init(side.directory, "-u", answers=[side.uri, "", ""])
        else:
            write_launchpad_file(path, side.uri)
            said = ""
        assert path.exists(), said.strip().splitlines()[-1]
        LaunchPad.from_file(str(path)).connection.close()

    both(scenario, match="Must specify a database name")


def test_certificate_authority_is_not_dropped(both):
    """`lpad init` asks for a certificate file and forgets it."""

    def scenario(side):
        path, authority = side.directory / "my_launchpad.yaml", side.directory / "ca.pem"
        authority.write_text("")
        if side.name == "stock":
            lpad_init(side.directory, answers=["localhost", "27017", "fireworks", "", "", str(authority), ""])
        else:
            write_launchpad_file(path, f"mongodb://localhost:27017/fireworks?tls=true&tlsCAFile={authority}")
        assert "ca.pem" in path.read_text(), "the certificate authority is forgotten"

    both(scenario, match="is forgotten")


def listening(pid):
    """Return the TCP ports on which a process and its children listen."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    inodes = set()
    for one in pids:
        for entry in Path(f"/proc/{one}/fd").iterdir():
            try:
                inodes.add(str(entry.readlink()))
            except OSError:
                continue
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            found.append(int(fields[1].rpartition(":")[2], 16))
    return found


def test_several_workers_open_no_port(make_side):
    """`rlaunch multi` serves objects on a port whose password is known to everybody; our workers have no port."""
    side = make_side(Ours)
    supervisor = Supervisor(
        side.uri,
        1,
        scratch=side.directory,
        worker_settings=WorkerSettings(report_s=0.1),
        environment=side.environment,
    )
    with supervisor:
        wait_for(lambda: side.pad.workers.find_one({"kind": "worker"}), tick=supervisor.tick)
        assert listening(os.getpid()) == []
        assert listening(supervisor.pids[0]) == []
    code = (
        "import sys; from fireworks import LaunchPad\n"
        "from fireworks.utilities.fw_utilities import DataServer\n"
        "if __name__ == '__main__':\n"
        "    pad = LaunchPad(host=sys.argv[1], name=sys.argv[2], uri_mode=True)\n"
        "    server = DataServer.setup(pad)\n"
        "    print(server.address[1], flush=True); sys.stdin.readline(); server.shutdown()\n"
    )
    stock = make_side(Stock)
    process = subprocess.Popen(
        [sys.executable, "-c", code, stock.uri, stock.database_name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        port = int(process.stdout.readline())
        stranger = BaseManager(address=("127.0.0.1", port), authkey=b"1234")
        # the day this is refused, FireWorks has mended it
        stranger.connect()
    finally:
        process.communicate("end\n", timeout=30)
