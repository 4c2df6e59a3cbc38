"""Runs a real program and makes it fail: ``python gf_injector.py PLAN program arguments``.

PLAN is a JSON file: ``fault``, ``attempts`` (numbers of the starts that fail, from 1; starts are counted in a file
beside the plan), ``after_s``, and what the fault needs. A start that does not fail is replaced by the program itself.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path


def main():
    plan_file, *command = sys.argv[1:]
    if not Path.cwd().name.startswith("attempt-"):
        # only asked for its version
        os.execvp(command[0], command)
    plan = json.loads(Path(plan_file).read_text())
    counter = Path(plan_file).with_suffix(".starts")
    with counter.open("a") as stream:
        stream.write("x")
    start = counter.stat().st_size
    if start not in plan["attempts"]:
        os.execvp(command[0], command)
    FAULTS[plan["fault"]](plan, command)


def kill(plan, command):
    """The program dies by a signal in the middle of its work."""
    with subprocess.Popen(command) as process:
        time.sleep(plan.get("after_s", 0.3))
        number = signal.Signals[plan.get("signal", "SIGKILL")]
        process.send_signal(number)
        process.wait(60)
    signal.signal(number, signal.SIG_DFL) if number is not signal.SIGKILL else None
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.kill(os.getpid(), number)
    time.sleep(60)


def freeze(plan, command):
    """The program stands still."""
    process = subprocess.Popen(command)
    time.sleep(plan.get("after_s", 0.3))
    process.send_signal(signal.SIGSTOP)
    time.sleep(600)


def silent(plan, command):
    """An exit without a result, and a status that claims success."""
    del command
    sys.exit(plan.get("status", 0))


def truncate(plan, command):
    """The program ends early, its files cut short."""
    subprocess.run(command, check=False)
    for pattern in plan["files"]:
        for path in Path().glob(pattern):
            os.truncate(path, path.stat().st_size // 2)


def replace(plan, command):
    """The program writes something else than it computed: `files` maps a glob pattern to (old, new) regular
    expressions."""
    import re

    # our own standard output is the file that is changed: nothing of ours may be buffered
    subprocess.run(command, check=False)
    for pattern, (old, new) in plan["files"].items():
        for path in Path().glob(pattern):
            path.write_text(re.sub(old, new, path.read_text(errors="replace")))


def says(plan, command):
    """Words of a launcher or a licence manager, then the end."""
    del command
    sys.stderr.write(plan["text"] + "\n")
    sys.exit(plan.get("status", 1))


def limited(plan, command):
    """The program runs under a limit of the operating system (memory, size of files)."""
    for name, value in plan["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if "RLIMIT_FSIZE" in plan["limits"]:
        # writing fails with an error then, as on a full disk, and is not a death by signal
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    os.execvp(command[0], command)


FAULTS = {
    "kill": kill,
    "freeze": freeze,
    "silent": silent,
    "truncate": truncate,
    "replace": replace,
    "says": says,
    "limited": limited,
}

if __name__ == "__main__":
    main()
