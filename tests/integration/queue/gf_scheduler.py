"""Stand-ins for the commands of batch schedulers: they really run the job scripts, as processes of this machine.

The first argument is the name that it stands for: sbatch, squeue, scancel, qsub, qstat, bsub or bjobs.
``GF_SCHEDULER`` names the dialect of qsub and qstat (pbs or sge), ``GF_SCHEDULER_DIR`` a directory for the jobs. What
the real ones are known to do and FireWorks or our job scripts rely on is kept: directives that we do not know are
refused, jobs run from a copy of the script, SLURM hands its environment on and the others do not, and every element of
an array has its number. Jobs that ended are forgotten at once. A file ``trouble`` in the directory makes the commands
that list jobs ``fail`` or ``hang``.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import signal
import subprocess
import sys
import time
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
    record = {
        "id": number,
        "pid": process.pid,
        "dialect": dialect,
        "name": next(iter(own.values())),
        "element": index,
    }
    (PLACE / f"{number}-{position}.job").write_text(json.dumps(record))


def asked(dialect: str, arguments: list[str]) -> int:
    """Answer for single jobs, as our inquiry asks."""
    mine = [job for job in jobs() if job["dialect"] == dialect]
    if dialect == "slurm":
        wanted = (
            next(word for word in arguments if word.startswith("--jobs=")).removeprefix("--jobs=").split(",")
        )
        known = {job["name"] for job in mine}
        if len(wanted) == 1 and wanted[0] not in known:
            sys.stderr.write("slurm_load_jobs error: Invalid job id specified\n")
            return 1
        for name in wanted:
            if name in known:
                print(f"{name}|RUNNING")
        return 0
    code = 0
    if dialect == "pbs":
        print("Job id            Name             User              Time Use S Queue\n" + "-" * 70)
        known = {job["name"] for job in mine}
        for name in arguments:
            if name in known:
                print(f"{name:17s} gf-pilot         me                00:00:10 R main")
            else:
                sys.stderr.write(f"qstat: Unknown Job Id {name}\n")
                code = 153
        return code
    known = {job["name"] + (f"[{job['element']}]" if job["element"] else "") for job in mine}
    for name in arguments[arguments.index("-o") + 2 :]:
        if name in known:
            number, _, element = name.rstrip("]").partition("[")
            print(f"{number} {element or 0} RUN")
        else:
            sys.stderr.write(f"Job <{name}> is not found\n")
            code = 255
    return code


def listing(dialect: str) -> int:
    user = getpass.getuser()
    if dialect == "pbs":
        print("\nhead:\n" + "Job ID          Username Queue    Jobname    SessID NDS TSK Memory Time  S Time")
    lines = {
        "slurm": " " + user,
        "pbs": "{id}.head          " + user + " main     gf          1     1   1    --  24:00 R 00:00",
        "sge": "{id} 0.5 gf " + user + " r 11/20/2026 10:00:00 main@head 1 {element}",
        "lsf": "{id} " + user + " main",
    }
    for job in jobs():
        print(lines[dialect].format(**job))
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
    trouble = (PLACE / "trouble").read_text() if (PLACE / "trouble").exists() else ""
    if trouble == "hang":
        time.sleep(300)
    if trouble == "fail":
        sys.stderr.write("slurm_load_jobs error: Unable to contact slurm controller\n")
        return 1
    single = {"slurm": "--states=all", "lsf": "-a"}.get(dialect)
    if single in arguments or (dialect == "pbs" and "-a" not in arguments and "-u" not in arguments):
        return asked(dialect, arguments)
    return listing(dialect)


if __name__ == "__main__":
    sys.exit(main())
