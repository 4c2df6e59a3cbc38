"""Stand-ins for the commands of batch schedulers: they really run the job scripts, as processes of this machine.

The first argument is the name that it stands for: sbatch, squeue, scancel, qsub, qstat, bsub or bjobs.
``GF_SCHEDULER`` names the dialect of qsub and qstat (pbs or sge), ``GF_SCHEDULER_DIR`` a directory for the jobs. What
the real ones are known to do and FireWorks or our job scripts rely on is kept: directives that we do not know are
refused, jobs run from a copy of the script, SLURM hands its environment on and the others do not, and every element of
an array has its number.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

PLACE = Path(os.environ["GF_SCHEDULER_DIR"])
DIALECTS = {"sbatch": "slurm", "squeue": "slurm", "scancel": "slurm", "bsub": "lsf", "bjobs": "lsf"}
#: The directives of each that are known, as regular expressions; an array's range is captured.
DIRECTIVES = {
    "slurm": (
        "#SBATCH",
        (
            r"--(nodes=1|ntasks=1|cpus-per-task=\d+|mem=\d+G|partition=\w+|account=\w+|time=\d+:\d\d:\d\d|"
            r"signal=B:TERM@\d+|array=(?P<array>\d+-\d+)|job-name=\S+|output=\S+|no-requeue)"
        ),
    ),
    "pbs": (
        "#PBS",
        (
            r"-l select=1:ncpus=\d+(:mem=\d+gb)?|-l walltime=\d+:\d\d:\d\d|-q \w+|-A \w+|-J (?P<array>\d+-\d+)|"
            r"-N \S+|-j oe|-r n"
        ),
    ),
    "lsf": (
        "#BSUB",
        (
            r'-n \d+|-R "span\[hosts=1\]"|-M \d+G|-W \d+:\d\d|-q \w+|-P \w+|-J "[\w-]+(\[(?P<array>\d+-\d+)\])?"|'
            r"-o \S+|-rn"
        ),
    ),
    "sge": (
        "#$",
        (
            r"-S /bin/bash|-cwd|-j y|-r n|-pe \w+ \d+|-l h_vmem=\d+M|-l h_rt=\d+:\d\d:\d\d|-q \w+|-A \w+|"
            r"-t (?P<array>\d+-\d+)|-N \S+"
        ),
    ),
}


def alive(pid: int) -> bool:
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text[text.rindex(")") + 2] not in "ZX"


def jobs() -> list[dict]:
    found = [json.loads(path.read_text()) for path in sorted(PLACE.glob("*.job"))]
    return [job for job in found if alive(job["pid"])]


def submit(dialect: str, text: str) -> int:
    prefix, pattern = DIRECTIVES[dialect]
    elements: list[int | None] = [None]
    for line in text.splitlines():
        if line.startswith(prefix + " "):
            known = re.fullmatch(pattern, line[len(prefix) :].strip())
            if known is None:
                sys.stderr.write(f"invalid directive: {line}\n")
                return 1
            if known["array"]:
                first, last = map(int, known["array"].split("-"))
                elements = list(range(first, last + 1))
    number = 100 + len(list(PLACE.glob("*.script")))
    script = PLACE / f"{number}.script"
    script.write_text(text)
    for position, element in enumerate(elements):
        start(dialect, script, number, element, position)
    several = elements != [None]
    print(
        {
            "slurm": f"Submitted batch job {number}",
            "pbs": f"{number}{'[]' if several else ''}.head",
            "sge": f'Your job-array {number}.1-{len(elements)}:1 ("x") has been submitted'
            if several
            else f'Your job {number} ("x") has been submitted',
            "lsf": f"Job <{number}> is submitted to queue <main>.",
        }[dialect]
    )
    return 0


def start(dialect: str, script: Path, number: int, element: int | None, position: int) -> None:
    index = "" if element is None else str(element)
    own = {
        "slurm": {"SLURM_JOB_ID": str(number + position), "SLURM_ARRAY_TASK_ID": index},
        "pbs": {"PBS_JOBID": f"{number}{f'[{index}]' if index else ''}.head"},
        "sge": {"JOB_ID": str(number), "SGE_TASK_ID": index or "undefined"},
        "lsf": {"LSB_JOBID": str(number), "LSB_JOBINDEX": index or "0"},
    }[dialect]
    handed = dict(os.environ)
    if dialect != "slurm":
        handed = {name: handed[name] for name in ("HOME", "PATH") if name in handed}
    with (PLACE / f"{number}-{position}.out").open("wb") as stream:
        process = subprocess.Popen(
            ["bash", str(script)],
            env=handed | own,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    record = {"id": number, "pid": process.pid, "dialect": dialect}
    (PLACE / f"{number}-{position}.job").write_text(json.dumps(record))


def listing(dialect: str) -> int:
    user = getpass.getuser()
    if dialect == "pbs":
        print("\nhead:\n" + "Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time")
    lines = {
        "slurm": " " + user,
        "pbs": f"1.head          {user} main     gf          1     1   1    --  24:00 R 00:00",
        "sge": f"1 0.5 gf {user} r 11/20/2026 10:00:00 main@head 1",
        "lsf": f"1 {user} main",
    }
    for _ in jobs():
        print(lines[dialect])
    return 0


def main() -> int:
    name, *arguments = sys.argv[1:]
    dialect = DIALECTS.get(name) or os.environ["GF_SCHEDULER"]
    if name in {"sbatch", "qsub"}:
        return submit(dialect, Path(arguments[0]).read_text())
    if name == "bsub":
        return submit(dialect, sys.stdin.read())
    if name == "scancel":
        for job in jobs():
            if str(job["id"]) in arguments:
                os.kill(job["pid"], signal.SIGTERM)
        return 0
    return listing(dialect)


if __name__ == "__main__":
    sys.exit(main())
