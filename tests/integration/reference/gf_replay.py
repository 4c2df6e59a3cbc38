"""A stand-in for a program that cannot be installed: it replays recorded outputs, attempt by attempt.

Started as ``python gf_replay.py PLAN [arguments]`` in the directory of an attempt. PLAN is JSON::

    {"version": "what --version prints",
     "attempts": [{"copy": {"OUTCAR": "/path/of/a/recorded/file"},
                   "text": {"vasprun.xml": "text of a file"},
                   "stdout": "text", "stderr": "text",
                   "seconds": 0.5, "until": "STOPCAR", "signal": 11, "status": 1}, ...]}

The n-th start replays the n-th attempt; further ones end with status 99. Next to PLAN, ``started-NN`` keeps
the input files as the program found them, so that a test sees what every remedy changed. `until` waits for a file to
appear, or with ``until_text`` for this text in it, for at most 60 s; `after` are texts of files written after that.
"""

import json
import os
import shutil
import sys
import time
from pathlib import Path


def main(plan_path, arguments):
    plan = json.loads(plan_path.read_text())
    if "--version" in arguments:
        print(plan.get("version", ""))
        return 0
    number = len(list(plan_path.parent.glob("started-*"))) + 1
    kept = plan_path.parent / f"started-{number:02d}"
    kept.mkdir()
    (kept / "arguments").write_text(" ".join(arguments))
    for path in Path().iterdir():
        if path.is_file() and path.name not in {"stdout.txt", "stderr.txt"}:
            shutil.copyfile(path, kept / path.name)
    if number > len(plan["attempts"]):
        print(f"start {number} is not in the plan", file=sys.stderr)
        return 99
    attempt = plan["attempts"][number - 1]
    for name, source in attempt.get("copy", {}).items():
        shutil.copyfile(source, name)
    for name, text in attempt.get("text", {}).items():
        Path(name).write_text(text)
    print(attempt.get("stdout", ""), flush=True)
    print(attempt.get("stderr", ""), file=sys.stderr, flush=True)
    time.sleep(attempt.get("seconds", 0.0))
    if "until" in attempt:
        wait_for(Path(attempt["until"]), attempt.get("until_text", ""))
    for name, text in attempt.get("after", {}).items():
        Path(name).write_text(text)
    if "signal" in attempt:
        os.kill(os.getpid(), attempt["signal"])
    return attempt.get("status", 0)


def wait_for(path, text):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if path.is_file() and text in path.read_text():
            return
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
