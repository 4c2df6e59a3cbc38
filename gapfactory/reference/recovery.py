"""One structure through a program, under custodian: start, watch, diagnose, climb the ladder, check.

Custodian runs the job, asks the monitor while it runs and the other handler when it has ended, and keeps the
history in custodian.json. Every attempt has a directory of its own, so that nothing stale can be read; what a remedy
needs from the attempt before (a checkpoint) is handed on by name.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from custodian.custodian import Custodian, CustodianError, ErrorHandler, Job, Validator

from gapfactory.errors import GapFactoryError, ReferenceCalculationError
from gapfactory.reference import _leash
from gapfactory.reference.checks import unsound
from gapfactory.reference.faults import (
    COMMON_SIGNATURES,
    CalculationFailedError,
    Diagnosis,
    Fault,
    MachineFaultError,
    diagnosis_of_status,
    find_signature,
)
from gapfactory.reference.ladder import COMMON_REMEDIES, Ladder
from gapfactory.reference.memory import oom_kills
from gapfactory.reference.program import STDERR, STDOUT
from gapfactory.reference.site import end_of_allocation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms

    from gapfactory.reference.base import Raw
    from gapfactory.reference.program import ProgramEngine

__all__ = ["Attempt", "Calculation", "machine_fault", "run_program"]

# custodian reports every correction as an error of its own; ours are in the attempts
logging.getLogger("custodian").addHandler(logging.NullHandler())
# nor is an exit status a proof of anything: some programs end badly after a complete result, which has been checked
warnings.filterwarnings("ignore", message="subprocess returned a non-zero return code", category=UserWarning)

#: Seconds between looks whether the program has ended; a look at its files comes every second at first, and every
#: half per cent of the time that it has run later on.
_POLL_S = 0.1
_KEPT_BYTES = 20_000
#: Faults of the machine which a program may report and survive (an MPI library without its shared memory): a sound
#: result counts more than such words. Not a missing scratch directory: the program may have read other files instead.
_SURVIVABLE = frozenset({Fault.DISK, Fault.LICENCE, Fault.MEMORY, Fault.NODE})
#: Space below which a disk counts as full when a program has ended without a word.
_FULL_BYTES = 1_000_000


@dataclass(frozen=True)
class Attempt:
    """One start of the program.

    Attributes
    ----------
    remedy
        What was different from the plain calculation.
    fault
        What went wrong; empty for success.
    seconds
        Wall time.
    iterations
        Energies of the self-consistency iterations, in eV.
    """

    remedy: str
    fault: str
    seconds: float
    iterations: tuple[float, ...] = ()


@dataclass(frozen=True)
class Calculation:
    """The end of one structure's calculation.

    Attributes
    ----------
    raw
        The checked result, or None.
    diagnosis
        The last fault when there is no result.
    attempts
        Every start of the program, in order.
    factors
        Factors on settings that remedies applied; empty unless the energy was allowed to change.
    custodian
        Content of custodian.json.
    files
        Ends of the files kept of a failed calculation, by name.
    """

    raw: Raw | None
    diagnosis: Diagnosis | None
    attempts: tuple[Attempt, ...]
    factors: dict[str, float] = field(default_factory=dict)
    custodian: tuple[dict[str, Any], ...] = ()
    files: dict[str, str] = field(default_factory=dict)

    @property
    def failure(self) -> Diagnosis:
        """Why there is no result."""
        return self.diagnosis or Diagnosis(Fault.UNKNOWN, "there is no result")


def run_program(
    engine: ProgramEngine, atoms: Atoms, directory: Path, *, numerics: Mapping[str, Any] | None = None
) -> Calculation:
    """Calculate one structure, with every recovery that the engine's ladder allows.

    Parameters
    ----------
    engine
        Configured.
    atoms
        The structure.
    directory
        Of this structure alone; made if missing. A checkpoint that an interrupted run left there is continued.
    numerics
        Changes of the numerics to begin with, as a remedy would make them.

    Returns
    -------
    Calculation
        With a result, or with the diagnosis for which the structure is quarantined.

    Raises
    ------
    MissingEngineError
        The program or its data are not installed.
    MachineFaultError
        The machine is to blame: disk, memory, node, licence, scratch, or the allocation is about to end.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        engine.refuse_overlap(atoms)
    except CalculationFailedError as error:
        return Calculation(None, error.diagnosis, (Attempt("plain", str(error.diagnosis), 0.0),))
    except OSError as error:
        fault = machine_fault(error, directory)
        raise fault from fault.__cause__
    run = _Run(engine, atoms, directory)
    run.ladder.numerics |= dict(numerics or {})
    job, watch, recover, sound = _Start(str(directory)), _Watch(), _Recover(), _Sound()
    job.state = watch.state = recover.state = sound.state = run
    custodian = Custodian(
        [watch, recover],
        [job],
        validators=[sound],
        # each correction may be counted by both handlers; the ladder is what ends the calculation
        max_errors=2 * engine.settings.max_attempts + 2,
        polling_time_step=_POLL_S,
        monitor_freq=1,
        terminate_on_nonzero_returncode=False,
        directory=str(directory),
    )
    try:
        custodian.run()
    except CalculationFailedError as error:
        # an engine that cannot even write the inputs of this structure
        return Calculation(None, error.diagnosis, (Attempt("plain", str(error.diagnosis), 0.0),))
    except CustodianError as error:
        if run.diagnosis is None:
            raise ReferenceCalculationError(f"custodian stopped in {directory}: {error}") from error
        if run.diagnosis.fault.machine:
            fault = MachineFaultError(run.diagnosis, _remedy_of(run.diagnosis.fault))
            # the cause is what the queue decides by
            raise fault from fault.__cause__
    except OSError as error:
        fault = machine_fault(error, directory)
        raise fault from fault.__cause__
    finally:
        job.terminate()
    return run.result()


class _Run:
    """State that custodian's objects share; they themselves are built from JSON alone."""

    def __init__(self, engine: ProgramEngine, atoms: Atoms, directory: Path) -> None:
        self.engine = engine
        #: the same at the settings of the attempt, which remedies may have changed
        self.acting = engine
        self.atoms = atoms
        self.directory = directory
        self.ladder = Ladder(
            (*COMMON_REMEDIES, *engine.ladder), energy_changes=engine.settings.allow_energy_changes
        )
        self.attempts: list[Attempt] = []
        self.remedy = "plain"
        self.wait_s = 0.0
        self.checkpoint: Path | None = None
        self.raw: Raw | None = None
        self.diagnosis: Diagnosis | None = None
        self.files: dict[str, str] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.started = 0.0
        self.killed_for: Diagnosis | None = None
        self.asked: Diagnosis | None = None
        self.oom_before = 0
        self._number = 0
        earlier = sorted(directory.glob("attempt-*"), key=_number_of)
        if earlier:
            # an interrupted run of the same label: its number goes on, and its checkpoint is used
            self._number = _number_of(earlier[-1])
            self.checkpoint = next((path for path in reversed(earlier) if engine.has_checkpoint(path)), None)
            self.remedy = "continued after an interruption" if self.checkpoint else "plain"

    @property
    def here(self) -> Path:
        """Directory of the attempt."""
        return self.directory / f"attempt-{self._number:02d}"

    def begin(self) -> None:
        """Write the inputs of a new attempt."""
        before = self.here if self._number else None
        self._number += 1
        self.here.mkdir()
        self.killed_for = self.asked = None
        engine = self.engine
        if self.ladder.factors:
            self.acting = type(engine)(engine.settings.scaled(self.ladder.factors), engine.site)
        self.acting.write(self.atoms, self.here, self.ladder.numerics, checkpoint=self.checkpoint)
        # large files of earlier attempts are of no more use
        if before is not None and before != self.checkpoint:
            shutil.rmtree(before, ignore_errors=True)
        self.checkpoint = None

    def end(self, diagnosis: Diagnosis | None) -> None:
        """Record how the attempt ended."""
        self.diagnosis = diagnosis
        self.attempts.append(
            Attempt(
                self.remedy,
                "" if diagnosis is None else str(diagnosis),
                round(time.monotonic() - self.started, 3),
                self.engine.iterations(self.here),
            )
        )

    def climb(self) -> bool:
        """Take the next remedy; False at the end of the ladder or of the attempts."""
        diagnosis = self.diagnosis
        if diagnosis is None or len(self.attempts) >= self.engine.settings.max_attempts:
            return False
        proposed = None if diagnosis.hopeless else self.engine.propose(diagnosis, self.here)
        self.ladder.refused += self.engine.refused(self.here)
        remedy = self.ladder.next(diagnosis) if proposed is None else self.ladder.take(proposed)
        if remedy is None:
            return False
        self.remedy, self.wait_s = remedy.name, remedy.pauses * self.engine.site.pause_s
        self.checkpoint = self.here if remedy.resume and self.engine.has_checkpoint(self.here) else None
        return True

    def keep(self) -> None:
        """Keep the ends of the files that tell what happened."""
        patterns = (*self.engine.outputs, *self.engine.kept)
        for path in sorted({p for pattern in patterns for p in self.here.glob(pattern) if p.is_file()}):
            self.files[path.name] = _end_of(path, _KEPT_BYTES)

    def result(self) -> Calculation:
        """Return the end of it."""
        log = self.directory / "custodian.json"
        # labels go to other machines and groups, where the scratch of this one means nothing
        here = json.dumps(str(self.directory))[1:-1]
        history = json.loads(log.read_text().replace(here, ".")) if log.is_file() else []
        text = self.diagnosis
        if text is not None and self.ladder.refused:
            refused = ", ".join(self.ladder.refused)
            text = Diagnosis(
                text.fault, f"{text.text}; not tried because it changes the energy: {refused}", text.hopeless
            )
        return Calculation(
            self.raw,
            text,
            tuple(self.attempts),
            dict(self.ladder.factors),
            tuple(history),
            self.files if self.raw is None else {},
        )


def _number_of(attempt: Path) -> int:
    return int(attempt.name.rpartition("-")[2])


class _Start(Job):
    """Starts the program in a process group of its own, so that it can be killed whole."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.state: _Run | None = None

    def setup(self, directory: str = "./") -> None:
        """Nothing: custodian prepares a job once, and every attempt has inputs of its own."""

    def run(self, directory: str = "./") -> subprocess.Popen[bytes]:
        """Write the inputs of an attempt and start the program."""
        run = _known(self.state)
        # a program that ended by itself may have left processes behind
        self.terminate()
        run.process = None
        if run.wait_s:
            time.sleep(run.wait_s)
            run.wait_s = 0.0
        run.started = time.monotonic()
        run.begin()
        here = run.here
        run.oom_before = oom_kills()
        source = run.engine.input_file(here)
        # launchers forward SIGTERM to their processes; a bare program needs no such grace
        number = signal.SIGTERM if run.engine.site.launcher else signal.SIGKILL
        leash = [sys.executable, "-I", "-S", _leash.__file__, str(os.getpid()), str(int(number))]
        with (here / STDOUT).open("wb") as out, (here / STDERR).open("wb") as err:
            stdin = source.open("rb") if source is not None else None
            try:
                run.process = subprocess.Popen(
                    [*leash, *run.engine.command(here)],
                    cwd=here,
                    stdin=stdin or subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env={**os.environ, **run.engine.site.variables()},
                    start_new_session=True,
                )
            finally:
                if stdin is not None:
                    stdin.close()
        return run.process

    def postprocess(self, directory: str = "./") -> None:
        """Nothing: the result has been read by the handler that looks for errors."""

    def terminate(self, directory: str = "./") -> None:
        """Kill the program with everything it started, and wait for it."""
        process = None if self.state is None else self.state.process
        if process is None:
            return
        # a launcher ends its processes, also those on other nodes, when it is asked first
        if process.poll() is None and _known(self.state).engine.site.launcher:
            _signal_group(process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(5)
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def _signal_group(group: int, number: signal.Signals) -> None:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return


class _Watch(ErrorHandler):
    """While the program runs: its time, the allocation's end, and whether anything moves."""

    is_monitor = True

    def __init__(self) -> None:
        self.state: _Run | None = None
        self._next_look = 0.0
        self._seen: tuple[float, int, int] = (0.0, 0, 0)
        self._moved = 0.0
        self._asked_at = 0.0
        self._listens = False

    def check(self, directory: str = "./") -> bool:
        """Tell whether the program has to be killed; ask it to stop before that where it can be asked."""
        run = _known(self.state)
        now = time.monotonic()
        if run.process is None or run.process.poll() is not None:
            return False
        ran = now - run.started
        if self._seen[0] != run.started:
            self._seen, self._moved, self._next_look = (run.started, 0, 0), now, 0.0
        if now < self._next_look:
            return False
        self._next_look = now + min(max(0.1 if ran < 10 else 1.0, 0.005 * ran), 60.0)
        site, settings = run.engine.site, run.engine.settings
        if run.asked is None:
            run.asked = self._why_stop(run, ran, settings.time_limit_s)
            if run.asked is not None:
                self._asked_at = now
                self._listens = run.engine.ask_to_stop(run.here)
        if run.asked is not None:
            if not self._listens or now - self._asked_at > site.grace_s:
                run.killed_for = run.asked
                return True
            return False
        seen = (run.started, *_newest(run.here))
        if seen != self._seen:
            self._seen, self._moved = seen, now
        if now - self._moved > site.frozen_after_s:
            run.killed_for = Diagnosis(
                Fault.FROZEN, f"none of its files changed for {site.frozen_after_s:g} s"
            )
            return True
        return False

    @staticmethod
    def _why_stop(run: _Run, ran: float, limit_s: float) -> Diagnosis | None:
        if ran > limit_s:
            return Diagnosis(Fault.TIME, f"exceeded the time limit of {limit_s:g} s")
        end = end_of_allocation()
        if end is not None and time.time() > end - run.engine.site.stop_before_s:
            return Diagnosis(
                Fault.WALLTIME, f"{run.engine.site.stop_before_s:g} s before the end of the allocation"
            )
        return None

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """Decide what follows; the program is dead by now."""
        run = _known(self.state)
        run.end(run.killed_for)
        return _correction(run)


def _correction(run: _Run) -> dict[str, Any]:
    """Take the next remedy and return custodian's record of it; actions of None end the calculation."""
    error = str(run.diagnosis)
    if not run.climb():
        run.keep()
        return {"errors": [error], "actions": None}
    action = {"remedy": run.remedy, "numerics": _plain(run.ladder.numerics)}
    if run.ladder.factors:
        action["changes the energy: factors on settings"] = dict(run.ladder.factors)
    return {"errors": [error], "actions": [action]}


class _Recover(ErrorHandler):
    """After the program's end: what went wrong, and what to do about it."""

    def __init__(self) -> None:
        self.state: _Run | None = None

    def check(self, directory: str = "./") -> bool:
        """Read the result, or find the fault."""
        run = _known(self.state)
        if run.killed_for is not None:
            # the monitor has decided already
            return False
        diagnosis = _what_happened(run)
        run.end(diagnosis)
        return diagnosis is not None

    def correct(self, directory: str = "./") -> dict[str, Any]:
        """Take the next remedy; actions of None end the calculation."""
        return _correction(_known(self.state))


class _Sound(Validator):
    """The job is complete only with a checked result."""

    def __init__(self) -> None:
        self.state: _Run | None = None

    def check(self, directory: str = "./") -> bool:
        """Tell whether there is none."""
        return _known(self.state).raw is None


def _what_happened(run: _Run) -> Diagnosis | None:
    """Return the fault of the attempt that has just ended, or None after reading a sound result."""
    engine, here = run.engine, run.here
    status = None if run.process is None else run.process.returncode
    found = engine.diagnose(here, status)
    if found is None or found.fault in _SURVIVABLE:
        missing = _read(run)
        if missing is None:
            return None
        found = found or missing
    vague = found.fault in {Fault.UNKNOWN, Fault.CRASH}
    if run.asked is not None and vague:
        return run.asked
    if vague:
        said = find_signature(engine.output_files(here), COMMON_SIGNATURES)
        if said is not None:
            return said
        if shutil.disk_usage(here).free < _FULL_BYTES:
            # a full disk may leave half a line of output, no error and the status of success
            return Diagnosis(Fault.DISK, f"the output ends early, and no space is left in {here.parent}")
        if oom_kills() > run.oom_before:
            return Diagnosis(Fault.MEMORY, "the kernel killed a process of this group for want of memory")
        if status:
            told = diagnosis_of_status(status, _last_words(run))
            return told if found.fault is Fault.UNKNOWN else found
    return found


def _read(run: _Run) -> Diagnosis | None:
    """Read the result of the attempt into the run; return why it has none."""
    try:
        raw = run.acting.read(run.atoms, run.here)
        wrong = unsound(raw, run.atoms)
    except CalculationFailedError as error:
        return error.diagnosis
    except GapFactoryError:
        # what is to be mended by people; some are ValueErrors too
        raise
    except (ArithmeticError, AttributeError, LookupError, NameError, TypeError, ValueError) as error:
        # output that no reader foresaw is this structure's fault, not the end of the campaign
        return Diagnosis(Fault.UNKNOWN, f"its output cannot be read ({type(error).__name__}: {error})")
    if wrong:
        return Diagnosis(Fault.NAN if "finite" in wrong else Fault.UNSOUND, wrong)
    run.raw = raw
    return None


def _last_words(run: _Run) -> str:
    for name in (STDERR, STDOUT):
        path = run.here / name
        lines = _end_of(path, 2000).split("\n") if path.is_file() else []
        # rulers and numbers tell nothing
        words = [" ".join(line.split()) for line in lines if sum(c.isalpha() for c in line) > 3]
        if words:
            return f"its last words: {words[-1][:200]}"
    return ""


def _end_of(path: Path, size: int) -> str:
    """Return the last bytes of a file, however large it is, as text."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - size))
        return stream.read(size).decode(errors="replace")


def _newest(directory: Path) -> tuple[int, int]:
    """Return the newest time of change (ns) and the sum of the sizes (bytes) of all files below a directory."""
    newest = total = 0
    for folder, _, names in os.walk(directory):
        for name in names:
            # a program may remove its files at any time
            with suppress(FileNotFoundError):
                found = (Path(folder) / name).stat()
                newest, total = max(newest, found.st_mtime_ns), total + found.st_size
    return newest, total


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(values, default=str))
    return copy


def _known(value: Any) -> Any:
    """Return an attribute that is set before custodian runs (its objects are built from JSON alone)."""
    if value is None:
        raise ReferenceCalculationError("custodian's job was run without its state: use run_program().")
    return value


def machine_fault(error: OSError, directory: Path) -> MachineFaultError:
    """Return what an error of the operating system in a directory of calculations says about the machine."""
    import errno

    fault = {errno.ENOSPC: Fault.DISK, errno.EDQUOT: Fault.DISK, errno.ENOMEM: Fault.MEMORY}.get(
        error.errno or 0, Fault.SCRATCH
    )
    text = f"{error.strerror}: {error.filename or directory}"
    return MachineFaultError(Diagnosis(fault, text), _remedy_of(fault))


def _remedy_of(fault: Fault) -> str:
    return {
        Fault.DISK: "Free space or give another working directory; finished results are taken over.",
        Fault.MEMORY: "Run fewer workers on this machine or use one with more memory.",
        Fault.LICENCE: "Look at the licence server; the task is tried again.",
        Fault.SCRATCH: "Make the scratch directory of the site file writable on this machine.",
        Fault.NODE: "The task is tried again, here or on another machine.",
        Fault.WALLTIME: "The task goes on in the next allocation.",
    }.get(fault, "The task is tried again.")
