"""Custodian's job, handlers and validator around the child process.

For engines that live in Python: one child labels many structures. Whatever goes wrong with one of them is counted
against that one, which is tried again and quarantined in the end; the rest go on, in a new child if the old one
died. Faults of the machine stop the batch with an error and are counted against no structure.
"""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from custodian.custodian import Custodian, CustodianError, ErrorHandler, Job, Validator

from gapfactory.errors import InputError, MissingEngineError, ReferenceCalculationError
from gapfactory.reference.child import EXIT_DISK, EXIT_INPUT, EXIT_MEMORY, EXIT_MISSING
from gapfactory.reference.faults import Diagnosis, Fault, signal_name

if TYPE_CHECKING:
    from gapfactory.reference.session import Session

__all__ = ["supervise"]

# custodian reports every correction as an error of its own; ours are in the outcomes
logging.getLogger("custodian").addHandler(logging.NullHandler())

_POLL_S = 0.2
# children in a row that may die before they start on any structure
_MAX_FALSE_STARTS = 3


class _Batch(Job):
    """Starts the child in a process group of its own, so that it can be killed whole."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.session: Session | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def setup(self, directory: str = "./") -> None:
        """Nothing to prepare: the session writes each run's job."""

    def run(self, directory: str = "./") -> subprocess.Popen[bytes] | None:
        """Start a child on everything pending; None when nothing is."""
        session = _known(self.session)
        self.process = None
        if not session.pending:
            return None
        session.begin_run()
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            "OPENBLAS_NUM_THREADS": os.environ.get("OPENBLAS_NUM_THREADS", "1"),
            "GAPFACTORY_SUPERVISOR_PID": str(os.getpid()),
        }
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "gapfactory.reference.child"),
                    *(str(session.job_file), str(session.results_file)),
                ],
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        return self.process

    @property
    def log(self) -> Path:
        """What the current child printed."""
        return Path(self.directory) / "child.log"

    def postprocess(self, directory: str = "./") -> None:
        """Nothing: results have been delivered one by one."""

    def terminate(self, directory: str = "./") -> None:
        """Kill the child's process group and wait for it."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class _Overdue(ErrorHandler):
    """Delivers results while the child runs, and kills it when one structure exceeds its time."""

    is_monitor = True

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.job: _Batch | None = None

    def check(self, directory: str = "./") -> bool:
        """Read new results; tell whether the structure in hand is overdue."""
        job = _known(self.job)
        session = _known(job.session)
        session.collect()
        return job.process is not None and job.process.poll() is None and session.overdue()

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """Blame the structure in hand; the child is dead by now."""
        session = _known(_known(self.job).session)
        session.collect()
        reason = f"exceeded the time limit of {session.settings.time_limit_s:g} s"
        name = session.current
        session.blame_current(Diagnosis(Fault.TIME, reason))
        return {"errors": [f"{name}: {reason}"], "actions": [{"killed": name}]}


class _Unfinished(ErrorHandler):
    """After the child's end: finds who is to blame and whether the rest can go on."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.job: _Batch | None = None
        self.false_starts = 0
        self.fault: ReferenceCalculationError | InputError | None = None
        self.cause: OSError | None = None

    def check(self, directory: str = "./") -> bool:
        """Tell whether anything is pending or the child ended badly."""
        job = _known(self.job)
        _known(job.session).collect()
        return bool(_known(job.session).pending) or (job.process is not None and job.process.returncode != 0)

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """Attribute the end of the child; an empty list of actions stops the batch."""
        job = _known(self.job)
        session = _known(job.session)
        status = None if job.process is None else job.process.returncode
        text = _tail(job.log)
        self.fault = _fault(status, text)
        if self.fault is not None:
            self.cause = _machine_error(status, text)
            return {"errors": [str(self.fault)], "actions": None}
        ending = _ending(status)
        culprit = session.current
        if culprit is not None:
            last = text.splitlines()[-1] if text else ""
            words = f"{ending} while it was being calculated" + (f": {last}" if last else "")
            session.blame_current(Diagnosis(Fault.CRASH, words))
        self.false_starts = 0 if session.progressed else self.false_starts + 1
        if self.false_starts >= _MAX_FALSE_STARTS:
            self.fault = ReferenceCalculationError(
                f"{ending} {self.false_starts} times before it started on any structure; its last words: "
                f"{text or 'none'}. Run the same calculation by hand: see {job.log}."
            )
            return {"errors": [str(self.fault)], "actions": None}
        pending = len(session.pending)
        return {"errors": [f"{ending}; blamed: {culprit}"], "actions": [{"pending": pending}]}


class _EveryoneAccounted(Validator):
    """The batch is complete only when every structure has an outcome."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.session: Session | None = None

    def check(self, directory: str = "./") -> bool:
        """Tell whether a structure is left without an outcome."""
        return bool(_known(self.session).pending)


def supervise(session: Session) -> None:
    """Run the session's batch to its end.

    Raises
    ------
    MissingEngineError
        The code or its data are not installed.
    InputError
        The settings cannot be used.
    ReferenceCalculationError
        The disk is full or not writable, there is too little memory, or the child cannot even start. Disk and
        memory have the `OSError` (ENOSPC, ENOMEM) as their cause, by which another try is decided.
    """
    directory = str(session.directory)
    job = _Batch(directory)
    overdue, unfinished, complete = _Overdue(directory), _Unfinished(directory), _EveryoneAccounted(directory)
    job.session = complete.session = session
    overdue.job = unfinished.job = job
    custodian = Custodian(
        [overdue, unfinished],
        [job],
        validators=[complete],
        # every attempt of every structure may end a child, seen by both handlers
        max_errors=2 * len(session.pending) * session.settings.max_attempts + 2 * _MAX_FALSE_STARTS,
        polling_time_step=_POLL_S,
        monitor_freq=1,
        terminate_on_nonzero_returncode=False,
        directory=directory,
    )
    try:
        custodian.run()
    except CustodianError as error:
        if unfinished.fault is not None:
            raise unfinished.fault from unfinished.cause or error
        raise ReferenceCalculationError(f"the batch in {directory} stopped: {error}") from error
    except OSError as error:
        if error is session.consumer_error:
            raise
        raise ReferenceCalculationError(
            f"the batch in {directory} cannot be kept: {error}. Free space or give another working "
            "directory; finished results are taken over."
        ) from error
    finally:
        job.terminate()


def _known(value: Any) -> Any:
    """Return an attribute that is set before custodian runs (its objects are built from JSON alone)."""
    if value is None:
        raise ReferenceCalculationError("custodian's job was run without its session: use supervise().")
    return value


def _tail(log: Path, size: int = 2000) -> str:
    if not log.exists():
        return ""
    return log.read_bytes()[-size:].decode(errors="replace").strip()


def _fault(status: int | None, text: str) -> ReferenceCalculationError | InputError | None:
    said = text.rpartition("fault: ")[2].strip()
    if status == EXIT_MISSING:
        return MissingEngineError(said or "the reference code is not installed where the calculations run.")
    if status == EXIT_INPUT:
        return InputError(said or "the reference settings cannot be used.")
    if status == EXIT_DISK:
        return ReferenceCalculationError(
            f"the reference calculations cannot write their files ({said or 'disk full'}): free space or "
            "give another working directory; finished results are taken over."
        )
    if status == EXIT_MEMORY:
        return ReferenceCalculationError(
            f"the reference calculations ran out of memory ({said or 'out of memory'}): run fewer workers on "
            "this machine or use one with more memory; finished results are taken over."
        )
    return None


def _machine_error(status: int | None, text: str) -> OSError | None:
    """Return the operating system's error behind a fault of the machine, if another try can cure it."""
    if any(os.strerror(number) in text for number in (errno.EACCES, errno.EROFS)):
        return None
    number = {EXIT_DISK: errno.ENOSPC, EXIT_MEMORY: errno.ENOMEM}.get(-1 if status is None else status)
    return None if number is None else OSError(number, os.strerror(number))


def _ending(status: int | None) -> str:
    if status is None:
        return "the process was not started"
    if status < 0:
        return f"the process was killed by {signal_name(-status)}"
    return f"the process ended with status {status}"
