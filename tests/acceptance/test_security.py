"""Security, as a specification: one group at work under accounts with real privileges, and somebody who means ill.

A campaign runs with a member who submits it, workers under an account of the role worker, and hostile tasks beside it.
Everything that comes of it (documents, files and their modes, logs, processes) is then looked at.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from fireworks import Firework
from pymongo import MongoClient
from pymongo.errors import OperationFailure

from launchpad.database.privileges import ROLES
from launchpad.database.users import add_user, user_uri, write_secret
from launchpad.embedded import ensure_running, stop
from launchpad.queue import Queue
from launchpad.tasks.build import BuildTask

pytestmark = [pytest.mark.database, pytest.mark.timeout(300)]

ROOT = Path(__file__).parents[2]
CAMPAIGN = """
preset: quickstart-Si-analytic
name: si
seed: 11
schedule: {cells_per_generation: 6, initial_cells: 8, generations: 2, quorum: 0.8}
select: {noise_cells: 0, labels_per_generation: 4, held_out_per_generation: 2, minima: all}
stop: {label_budget: 12}
build: {atoms_min: 2, atoms_max: 3}
dimers: {bond_lengths: 4}
relax: {max_steps: 10}
gap: {two_body: {n_sparse: 6}, three_body: {n_sparse: 6}, soap: {n_sparse: 10, n_max: 3, l_max: 2}}
evidence: {phases: none, stability: {enabled: false}}
"""

#: A task of ours that may be run.
OURS = {
    "_fw_name": "{{launchpad.tasks.build.BuildTask}}",
    "campaign": "si",
    "generation": 0,
    "start": 0,
    "stop": 1,
}


def hostile(marker: str) -> dict[str, dict]:
    """Return specs that try to run a program, to touch files, or to get another campaign's work done."""
    touch = ["touch", marker]
    script = {"_fw_name": "ScriptTask", "script": f"touch {marker}"}
    tasks = {
        "a task of FireWorks": [script],
        "a function by name": [{"_fw_name": "PyTask", "func": "subprocess.call", "args": [touch]}],
        "an explicit class": [{"_fw_name": "{{subprocess.Popen}}", "args": touch}],
        "an explicit class with spaces": [{"_fw_name": "{{ subprocess.Popen }}", "args": touch}],
        "a class that one of our modules imports": [{"_fw_name": "{{launchpad.tasks.base.Path}}"}],
        "a module that begins like ours": [{"_fw_name": "{{launchpad.tasks_of_others.Evil}}"}],
        "a module of ours that does not exist": [{"_fw_name": "{{launchpad.tasks.evil.Evil}}"}],
        "a name that is no text": [{"_fw_name": ["ScriptTask"], "script": f"touch {marker}"}],
        "a name with a line end": [{**script, "_fw_name": "ScriptTask\n"}],
        "no name": [{"script": f"touch {marker}"}],
        "no task": [],
        "a second task": [OURS, script],
        "a serialized object in a task": [
            {**OURS, "x": [{"@module": "subprocess", "@class": "Popen", "args": touch}]}
        ],
    }
    keys = {
        "a serialized object deep inside": {"a": [{"b": {"c": script}}]},
        "files copied in": {"_files_in": {"a": "/etc/passwd"}, "_files_prev": {"a": marker}},
        "files copied out": {"_files_out": {"a": marker}},
        "another directory": {"_launch_dir": marker},
        "a background task": {"_background_tasks": [script]},
        "a recovery": {"_recovery": {"_prev_dir": "/etc", "_mode": "cp"}},
        "a finder of duplicates": {"_dupefinder": {"_fw_name": "{{subprocess.Popen}}"}},
    }
    other = {**OURS, "campaign": "other"}
    campaigns = {
        "a task of another campaign under this one's name": {"_tasks": [other], "campaign": "si"},
        "a second task of another campaign": {"_tasks": [OURS, other], "campaign": "si"},
        "a task that names its campaign, and a spec that names none": {"_tasks": [OURS]},
        "a campaign that is no name": {"_tasks": [OURS], "campaign": ["si"]},
    }
    return (
        {name: {"_tasks": listed, "campaign": "si"} for name, listed in tasks.items()}
        | {name: {"_tasks": [OURS], "campaign": "si"} | more for name, more in keys.items()}
        | campaigns
    )


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A server with the groups silicon and copper, on which a campaign has run; nobody uses the root account but us."""
    here = tmp_path_factory.mktemp("service")
    data = Path(tempfile.mkdtemp(prefix="gfs-"))
    root = ensure_running(data)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GAPFACTORY_DB")} | {
        "GAPFACTORY_DATA": str(here / "unused"),
        "GAPFACTORY_SCRATCH": str(here / "scratch"),
        "GAPFACTORY_CACHE": str(here / "cache"),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "HOME": str(here),
    }
    files, passwords = {}, {}
    with MongoClient(root) as administrator:
        for group in ("silicon", "copper"):
            for role in ROLES:
                passwords[group, role] = add_user(administrator, group, role, role)
                files[group, role] = here / f"{group}-{role}.uri"
                write_secret(files[group, role], user_uri(root, group, role, passwords[group, role]))
        made = SimpleNamespace(
            root=root,
            here=here,
            data=data,
            socket=str(data / "mongo.sock"),
            administrator=administrator,
            silicon=administrator.silicon,
            passwords=passwords,
            files=files,
            environment=environment,
            marker=here / "the-hostile-task-ran",
            processes=[],
            printed=[],
        )
        try:
            yield made
        finally:
            for pid in made.processes:
                try:
                    os.kill(pid, signal.SIGTERM)
                except ProcessLookupError:
                    continue
                wait_for(lambda p=pid: not Path(f"/proc/{p}").exists(), 40)
            stop(data)
            shutil.rmtree(data, ignore_errors=True)


def gapfactory(
    service, role: str, *commands: str, group: str = "silicon", by_file: bool = True
) -> list[tuple[int, str]]:
    """Run command lines as a user of a group; return exit code and output of each, its words on one line."""
    file = service.files[group, role]
    named = {"GAPFACTORY_DB_FILE": str(file)} if by_file else {"GAPFACTORY_DB": file.read_text().strip()}
    done = subprocess.run(
        [
            sys.executable,
            str(Path(__file__).with_name("gf_commands.py")),
            json.dumps([c.split() for c in commands]),
        ],
        cwd=service.here,
        env=service.environment | named,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    service.printed += [done.stdout, done.stderr]
    assert "Traceback" not in done.stdout
    frame = str.maketrans("│╭╮╰╯─", "      ")
    return [(code, " ".join(text.translate(frame).split())) for code, text in json.loads(done.stdout)]


def good(service, role: str, *commands: str, group: str = "silicon", by_file: bool = True) -> list[str]:
    """Run commands that must succeed; return their outputs."""
    found = gapfactory(service, role, *commands, group=group, by_file=by_file)
    assert all(code == 0 for code, _ in found), found
    return [text for _, text in found]


def as_user(service, role: str, group: str = "silicon") -> MongoClient:
    return MongoClient(service.files[group, role].read_text().strip())


def wait_for(condition, seconds: float):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.1)
    return found


def refused(action) -> None:
    with pytest.raises(OperationFailure) as caught:
        action()
    assert caught.value.code == 13, caught.value


@pytest.fixture(scope="module")
def worked(service):
    """The same after a member submitted a campaign, hostile tasks were added, and workers did what they could."""
    for name in ("si", "other"):
        (service.here / f"{name}.yaml").write_text(CAMPAIGN.replace("name: si", f"name: {name}"))
    good(service, "member", "campaign submit si.yaml", "campaign submit other.yaml")
    service.hostile = {}
    with Queue.from_uri(service.files["silicon", "member"].read_text().strip()) as queue:

        def add(name: str, start: object) -> int:
            task = BuildTask(campaign="si", generation=0, start=start, stop=1)
            spec = {"campaign": "si", "_add_launchpad_and_fw_id": True}
            return next(iter(queue.add_wf(Firework(task, spec, name=name)).values()))

        for name, spec in hostile(str(service.marker)).items():
            service.hostile[name] = add(name, 0)
            queue.fireworks.update_one({"fw_id": service.hostile[name]}, {"$set": {"spec": spec}})
        (shown,) = good(service, "worker", "worker start -n 2 --campaign si --background", by_file=False)
        service.processes.append(int(re.search(r"process (\d+)", shown)[1]))
        service.lines = wait_for(lambda: command_lines(service), 30)
        wait_for(lambda: service.silicon.campaigns.find_one({"_id": "si"})["state"] == "done", 150)
        service.failing = add("a task that fails", "no number")
    unfinished = {"state": {"$in": ["READY", "RUNNING"]}, "spec.campaign": {"$ne": "other"}}
    wait_for(lambda: service.silicon.fireworks.count_documents(unfinished) == 0, 30)
    return service


def command_lines(service) -> list[tuple[int, bytes, bytes]]:
    """Return (process, command line, environment) of the supervisor and its two workers, once all have connected."""
    entries = list(service.silicon.workers.find({"state": {"$ne": "stopped"}}))
    if len(entries) < 3:
        return []
    return [
        (
            e["pid"],
            Path(f"/proc/{e['pid']}/cmdline").read_bytes(),
            Path(f"/proc/{e['pid']}/environ").read_bytes(),
        )
        for e in entries
    ]


# --- roles


def test_a_worker_account_is_enough_for_a_whole_campaign(worked) -> None:
    assert worked.silicon.campaigns.find_one({"_id": "si"})["state"] == "done"
    for stage in ("structures", "relaxations", "selections", "potentials", "metrics"):
        assert worked.silicon[stage].count_documents({"campaign": "si"}) > 0, stage
    assert worked.silicon.labels.count_documents({"status": "done"}) > 6
    assert "not authorized" not in worker_log(worked)


def test_a_viewer_reads_with_every_command_that_reads_and_writes_with_none(worked) -> None:
    good(
        worked,
        "viewer",
        "campaign status",
        "campaign status si",
        "campaign why si",
        "campaign digest si",
        "campaign export si --out export",
        "worker list",
        "share list",
        "share log",
        "db check",
        "db status",
    )
    refusals = gapfactory(
        worked,
        "viewer",
        "campaign submit other.yaml",
        "worker stop",
        "share accept copper",
        "db users list silicon",
    )
    for (code, text), role in zip(
        refusals, ("member or owner", "worker or dashboard or member or owner", "owner", "owner"), strict=True
    ):
        assert code == 1
        assert f"needs the role {role} of the group" in text
    with as_user(worked, "viewer") as client:
        for collection in worked.silicon.list_collection_names():
            refused(lambda c=client.silicon[collection]: c.insert_one({}))
            refused(lambda c=client.silicon[collection]: c.update_many({}, {"$set": {"a": 1}}))
            refused(lambda c=client.silicon[collection]: c.delete_many({}))
            refused(lambda c=client.silicon[collection]: c.create_index("a"))
            refused(lambda c=client.silicon[collection]: c.drop())


def test_a_worker_account_reaches_no_other_group_and_no_users(worked) -> None:
    with as_user(worked, "worker") as client:
        assert client.list_database_names() == ["silicon"]
        for action in (
            lambda: client.copper.campaigns.find_one({}),
            lambda: client.copper.fireworks.insert_one({}),
            client.copper.list_collection_names,
            lambda: client.silicon.campaigns.delete_one({"_id": "si"}),
            lambda: client.silicon.campaigns.insert_one({"_id": "mine"}),
            lambda: client.silicon.fireworks.delete_many({}),
            client.silicon.labels.drop,
            lambda: client.silicon.audit.find_one({}),
            lambda: client.drop_database("silicon"),
            lambda: client.silicon.command("createUser", "eve", pwd="x" * 20, roles=["gapfactory_worker"]),
            lambda: client.silicon.command("updateUser", "owner", pwd="x" * 20),
            lambda: client.silicon.command("updateUser", "worker", pwd="x" * 20),
            lambda: client.silicon.command("dropUser", "viewer"),
            lambda: client.silicon.command("usersInfo", 1),
            lambda: client.silicon.command("grantRolesToUser", "worker", roles=["gapfactory_owner"]),
            lambda: client.silicon.command("updateRole", "gapfactory_worker", privileges=[]),
            lambda: client.admin.command("shutdown"),
        ):
            refused(action)


def test_stock_rlaunch_works_under_a_worker_account(worked, tmp_path) -> None:
    from launchpad.queue import write_launchpad_file

    bin_directory = Path(sys.executable).parent
    (tmp_path / "task.yaml").write_text(
        "name: stock\nspec: {_fworker: stock, _tasks: [{_fw_name: ScriptTask, script: 'echo done > out.txt'}]}\n"
    )
    # pinned to this worker, or ours would take it and refuse; nothing else for it, or it would take any campaign's task
    query = json.dumps({"name": "stock"})
    (tmp_path / "my_fworker.yaml").write_text(f"{{name: stock, category: '', query: '{query}'}}\n")
    for role, command in (("member", ["lpad", "add", "task.yaml"]), ("worker", ["rlaunch", "singleshot"])):
        write_launchpad_file(tmp_path, worked.files["silicon", role].read_text().strip())
        subprocess.run(
            [str(bin_directory / command[0]), *command[1:]],
            cwd=tmp_path,
            env=worked.environment,
            check=True,
            capture_output=True,
            timeout=120,
        )
    assert (tmp_path / "out.txt").read_text() == "done\n"
    assert stat.S_IMODE((tmp_path / "my_launchpad.yaml").stat().st_mode) == 0o600


# --- sharing


def test_what_is_shared_is_read_by_commands_and_nothing_else_is(worked) -> None:
    """Labels and potentials by the owner, a campaign by the administrator; the other group sees these and no more."""
    potential = "share potential silicon si --out theirs"
    ((code, text),) = gapfactory(worked, "viewer", potential, group="copper")
    assert code == 1
    assert "not authorized on silicon" in text
    good(worked, "owner", "share grant copper --labels --potentials --user viewer --user worker")
    worked.files["silicon", "root"] = worked.here / "root.uri"
    write_secret(worked.files["silicon", "root"], worked.root.replace("/gapfactory?", "/silicon?"))
    good(worked, "root", "share grant copper --campaign si --user viewer")
    good(worked, "viewer", potential, "share open silicon--si --to opened.uri", group="copper")
    assert (worked.here / "theirs" / "gap.xml").is_file()
    worked.files["copper", "opened"] = worked.here / "opened.uri"
    status, digest = good(worked, "opened", "campaign status si --json", "campaign digest si", group="copper")
    assert '"state": "done"' in status
    assert digest == good(worked, "owner", "campaign digest si")[0]
    listed, log = good(worked, "owner", "share list --json", "share log --json")
    assert "viewer@copper" in listed
    assert '"share.granted"' in log
    good(worked, "root", "share revoke copper --labels --potentials --campaign si")
    assert "silicon--si" not in worked.administrator.list_database_names()
    assert [code for code, _ in gapfactory(worked, "viewer", potential, group="copper")] == [1]


# --- tasks


def refusal_of(service, fw_id: int) -> str:
    task = service.silicon.fireworks.find_one({"fw_id": fw_id})
    launch = service.silicon.launches.find_one({"launch_id": {"$in": task["launches"]}})
    assert (task["state"], launch["state"]) == ("FIZZLED", "FIZZLED"), task["name"]
    return launch["action"]["stored_data"]["_message"]


def test_a_spec_that_asks_for_anything_foreign_is_refused(worked) -> None:
    for name, fw_id in worked.hostile.items():
        assert refusal_of(worked, fw_id).startswith("refused: "), name
    assert not worked.marker.exists()


def test_workers_take_nothing_of_campaigns_that_they_are_not_enrolled_for(worked) -> None:
    tasks = list(worked.silicon.fireworks.find({"spec.campaign": "other"}))
    assert {task["state"] for task in tasks} <= {"READY", "WAITING"}
    assert not any(task["launches"] for task in tasks)
    for name in ("a task of another campaign under this one's name", "a second task of another campaign"):
        assert "'other'" in refusal_of(worked, worked.hostile[name])


def test_a_task_that_fails_says_why_without_secrets(worked) -> None:
    task = worked.silicon.fireworks.find_one({"fw_id": worked.failing})
    assert task["state"] == "FIZZLED"
    launch = worked.silicon.launches.find_one({"launch_id": {"$in": task["launches"]}})
    assert "TypeError" in launch["action"]["stored_data"]["_message"]


# --- secrets


def test_no_secret_is_in_processes_documents_files_or_their_modes(worked) -> None:
    """After everything that a group does: submit, work, fail, lose the database, look, export, report, examine."""
    here = worked.here
    good(worked, "member", "campaign report si --out report", "db export all.tar.gz")
    good(worked, "worker", f"db launchpad-file --data {here / 'lpad'}", "site init -s shell --name local")
    good(worked, "owner", "share log --json")
    # the exit code of the doctor is about this machine
    ((_, examined),) = gapfactory(worked, "worker", "doctor --json --metrics metrics.prom")
    assert "worker:***@" in examined
    # the database is lost and comes back: what the workers say about that
    before = worker_log(worked)
    stop(worked.data)
    wait_for(lambda: "away" in worker_log(worked)[len(before) :], 40)
    assert ensure_running(worked.data) == worked.root
    secrets = [password.encode() for password in worked.passwords.values()]

    def holds(data: bytes) -> bool:
        return any(secret in data for secret in secrets)

    assert len(worked.lines) == 3
    for pid, line, environment in worked.lines:
        assert not holds(line), f"command line of {pid}"
        assert not holds(environment), f"environment of {pid}"
    assert not holds("".join(worked.printed).encode())
    for name in worked.silicon.list_collection_names():
        for document in worked.silicon[name].find():
            assert not holds(repr(document).encode()), f"{name}: {document['_id']}"
    # the server's own files hold what passwords are checked with, never the passwords
    launchpad_files = {here / place / "my_launchpad.yaml" for place in ("lpad", "local")}
    secret_files = {*worked.files.values(), *launchpad_files}
    seen = set()
    for path in [p for place in (here, worked.data) for p in place.rglob("*") if p.is_file()]:
        seen.add(path)
        mode = stat.S_IMODE(path.stat().st_mode)
        if path in secret_files:
            assert mode == 0o600, path
        else:
            assert not holds(path.read_bytes()), path
    assert secret_files <= seen
    assert {here / "all.tar.gz", here / "metrics.prom"} <= seen
    assert stat.S_IMODE((here / "all.tar.gz").stat().st_mode) == 0o600
    assert any(path.parent.name == "logs" for path in seen)


def worker_log(service) -> str:
    return "".join(p.read_text() for p in (service.here / "scratch" / "logs").iterdir())


def test_the_trail_says_what_happened_here(worked) -> None:
    with as_user(worked, "viewer") as client:
        events = [(e["event"], e["who"]) for e in client.silicon.audit.find()]
    assert ("campaign.submitted", "member@silicon") in events
    assert events.count(("user.added", "local")) == len(ROLES)


# --- the way to the database


@pytest.fixture(scope="module")
def on_a_network(service):
    """How connections end to a database that listens at an address of a network, in a namespace of its own."""
    isolate = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--user", "--map-root-user", "--net"]
    if subprocess.run([*isolate, "ip", "link"], capture_output=True, check=False).returncode:
        pytest.skip("this machine lets nobody make a network namespace")
    user = f"member:{service.passwords['silicon', 'member']}"
    done = subprocess.run(
        [
            *isolate,
            sys.executable,
            str(Path(__file__).with_name("gf_open_database.py")),
            service.socket,
            user,
        ],
        env=service.environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert service.passwords["silicon", "member"] not in done.stdout + done.stderr
    return json.loads(done.stdout)


def test_a_server_that_lets_everybody_in_is_refused_on_a_network(on_a_network) -> None:
    for way in ("open", "queue", "half permitted"):
        words = on_a_network[way]["refused"]
        assert "10.77.0.1 is on the network and nobody is logged in" in words, way
        for remedy in ("--auth", "gapfactory db users add", "GAPFACTORY_ALLOW_OPEN_DATABASE=1"):
            assert remedy in words
    assert on_a_network["permitted"]["refused"] == ""


def test_a_server_of_this_machine_and_a_login_are_let_through(on_a_network) -> None:
    for way in ("loopback", "name of loopback", "logged in"):
        assert on_a_network[way]["refused"] == "", way
    assert on_a_network["loopback"]["warnings"] == []


def test_a_way_without_encryption_is_warned_of_outside_loopback(on_a_network) -> None:
    (warning,) = on_a_network["logged in"]["warnings"]
    assert "not encrypted" in warning
    assert "tls=true" in warning
