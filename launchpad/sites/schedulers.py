"""What squeue, qstat and bjobs say about jobs: which of them have ended.

A scheduler forgets jobs soon after their end, so not being listed counts as ended too, but only where the question
certainly went to the scheduler that the job was handed to. A command that fails or does not answer says nothing.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from typing import TYPE_CHECKING

from gapfactory.errors import ServiceError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SCHEDULERS_ASKED", "ended_jobs"]

SCHEDULERS_ASKED = ("slurm", "pbs", "lsf", "sge")

#: SLURM's states of jobs whose processes are gone; COMPLETING ones may still have some.
_SLURM_ENDED = frozenset(
    {
        "BOOT_FAIL",
        "CANCELLED",
        "COMPLETED",
        "DEADLINE",
        "FAILED",
        "NODE_FAIL",
        "OUT_OF_MEMORY",
        "PREEMPTED",
        "REVOKED",
        "TIMEOUT",
    }
)

_GONE = "not in its queue"


def ended_jobs(
    scheduler: str, ids: Sequence[str], *, patience_s: float, absent: bool = True
) -> dict[str, str]:
    """Ask a scheduler, in one command, which jobs have ended; return its word for each of these.

    Parameters
    ----------
    scheduler
        One of `SCHEDULERS_ASKED`.
    ids
        Jobs.
    patience_s
        How long to wait for the answer (seconds).
    absent
        Whether jobs that it does not know count as ended.

    Raises
    ------
    ServiceError
        The command is not there, failed, or did not answer in time: nothing is known.
    """
    wanted = sorted(set(ids))
    commands = {
        "slurm": ["squeue", "--noheader", "--states=all", "--format=%A|%T", f"--jobs={','.join(wanted)}"],
        "pbs": ["qstat", *wanted],
        "lsf": ["bjobs", "-a", "-u", "all", "-noheader", "-o", "jobid jobindex stat", *wanted],
        "sge": ["qstat", "-u", "*"],
    }
    answers = {"slurm": _slurm, "pbs": _pbs, "lsf": _lsf, "sge": _sge}
    command = commands[scheduler]
    code, out, err = _run(command, patience_s)
    found = answers[scheduler](wanted, code, out, err)
    if found is None:
        words = " ".join((err or out).split())[:300]
        raise ServiceError(f"{command[0]} failed: {words or 'it did not say why'} (exit code {code})")
    return {job: word for job, word in found.items() if absent or word != _GONE}


def _run(command: list[str], patience_s: float) -> tuple[int, str, str]:
    """Run a command; with all that it started, it is ended when its time is over."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise ServiceError(f"{command[0]} cannot be run here: {error}") from error
    with process:
        try:
            out, err = process.communicate(timeout=patience_s)
        except subprocess.TimeoutExpired as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            raise ServiceError(f"{command[0]} did not answer within {patience_s:g} s") from error
    return process.returncode, out, err


def _slurm(wanted: list[str], code: int, out: str, err: str) -> dict[str, str] | None:
    if code != 0:
        # asked for a single job that it has forgotten, squeue fails; among several it leaves it out
        alone = len(wanted) == 1 and "Invalid job id specified" in err
        return {wanted[0]: _GONE} if alone else None
    states: dict[str, str] = {}
    for line in out.splitlines():
        number, _, state = line.strip().partition("|")
        states[number] = state
    return {job: states.get(job, _GONE) for job in wanted if job not in states or states[job] in _SLURM_ENDED}


def _pbs(wanted: list[str], _code: int, out: str, err: str) -> dict[str, str] | None:
    """Read each job's own answer: a line of the table, or that it has finished or is unknown."""
    found: dict[str, str] = {}
    answered = False
    for job in wanted:
        number = job.partition(".")[0]
        for line in out.splitlines():
            fields = line.split()
            if len(fields) >= 6 and fields[0].partition(".")[0] == number:
                answered = True
                if fields[-2] in {"C", "F", "X"}:
                    found[job] = fields[-2]
        for line in err.splitlines():
            if re.search(rf"(?<![\w\[]){re.escape(number)}(?![\w\[])", line) and re.search(
                r"[Uu]nknown [Jj]ob|has finished", line
            ):
                answered = True
                found[job] = _GONE
    return found if answered else None


def _lsf(wanted: list[str], _code: int, out: str, err: str) -> dict[str, str] | None:
    found: dict[str, str] = {}
    answered = False
    for line in out.splitlines():
        fields = line.split()
        if len(fields) == 3 and fields[0].isdigit():
            answered = True
            job = fields[0] + (f"[{fields[1]}]" if fields[1] not in {"0", "-"} else "")
            if job in wanted and fields[2] in {"DONE", "EXIT", "ZOMBI"}:
                found[job] = fields[2]
    for job in re.findall(r"Job <([\d\[\]]+)> is not found", err):
        if job in wanted:
            answered = True
            found[job] = _GONE
    return found if answered else None


def _sge(wanted: list[str], code: int, out: str, _err: str) -> dict[str, str] | None:
    """Read the table of all jobs, in which those that ended are missing."""
    if code != 0:
        return None
    # job, priority, name, user, state, date, time, [queue], slots, [elements]
    rows = [line.split() for line in out.splitlines() if line.split()[:1] and line.split()[0].isdigit()]
    found = {}
    for job in wanted:
        number, _, element = job.partition(".")
        mine = [row for row in rows if row[0] == number]
        # waiting elements stand together in one row, as a range
        if not any(not element or row[-1] == element or not row[-1].isdigit() for row in mine):
            found[job] = _GONE
    return found
