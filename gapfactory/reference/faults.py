"""What can go wrong with a reference calculation, and how a program's own words tell it."""

from __future__ import annotations

import errno
import os
import re
import signal
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from gapfactory.errors import ReferenceCalculationError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

__all__ = [
    "COMMON_SIGNATURES",
    "CalculationFailedError",
    "Diagnosis",
    "Fault",
    "MachineFaultError",
    "Signature",
    "diagnosis_of_status",
    "find_signature",
    "signal_name",
]


class Fault(StrEnum):
    """Kinds of faults; the value is what people read."""

    SCF = "self-consistency not reached"
    DIAGONALISER = "diagonalisation failed"
    NAN = "numbers that are not finite"
    SYMMETRY = "symmetry detection failed"
    GRID = "k-points or FFT grid do not suit the cell"
    MEMORY = "out of memory"
    TIME = "time limit of one attempt reached"
    WALLTIME = "the allocation is about to end"
    FROZEN = "frozen: no output for too long"
    CRASH = "crashed"
    LICENCE = "no licence"
    SCRATCH = "scratch directory missing"
    DISK = "disk full"
    NODE = "node lost"
    OVERLAP = "atoms overlap"
    UNSOUND = "result rejected"
    INPUT = "input refused"
    UNKNOWN = "ended without a result"

    @property
    def machine(self) -> bool:
        """Whether the machine is to blame: the structure is handed back, never quarantined."""
        return self in _MACHINE


_MACHINE = {
    # the operating system's errors by which another try, later or elsewhere, is decided
    Fault.MEMORY: errno.ENOMEM,
    Fault.WALLTIME: errno.EAGAIN,
    Fault.LICENCE: errno.EAGAIN,
    Fault.SCRATCH: errno.ESTALE,
    Fault.DISK: errno.ENOSPC,
    Fault.NODE: errno.EHOSTUNREACH,
}


@dataclass(frozen=True)
class Diagnosis:
    """A fault and the words that show it.

    Attributes
    ----------
    fault
        Its kind.
    text
        What happened, with the program's own words where it has any.
    hopeless
        No remedy can help this structure.
    """

    fault: Fault
    text: str
    hopeless: bool = False

    def __str__(self) -> str:
        return f"{self.fault}: {self.text}" if self.text else str(self.fault)


@dataclass(frozen=True)
class Signature:
    """Words in a program's output that tell a fault.

    Attributes
    ----------
    fault
        What they tell.
    pattern
        Regular expression, searched line by line; the line is quoted in the diagnosis.
    hopeless
        No remedy can help.
    """

    fault: Fault
    pattern: str
    hopeless: bool = False


#: What operating systems, MPI launchers and licence managers say, whatever the code. Searched after a code's own.
COMMON_SIGNATURES: tuple[Signature, ...] = (
    Signature(Fault.DISK, r"No space left on device|Disk quota exceeded|[Dd]isk full|File too large"),
    Signature(Fault.SCRATCH, r"Stale (NFS )?file handle|Transport endpoint is not connected"),
    Signature(
        Fault.MEMORY,
        r"Cannot allocate memory|std::bad_alloc|[Oo]ut [Oo]f [Mm]emory|oom-kill|[Ii]nsufficient virtual memory|"
        r"Allocation would exceed memory limit|MemoryError|out of dynamic memory|failed to map segment",
    ),
    Signature(
        Fault.NODE,
        r"[Nn]ode failure|NODE_FAIL|lost connection to|ORTE has lost communication|"
        r"daemon .* unexpectedly|No route to host|An error occurred in MPI_Init|pmix_init failed|"
        r"error while loading shared libraries",
    ),
    Signature(Fault.LICENCE, r"(?i)licen[sc]e (checkout|server|error|not|unavailable|denied)|FLEXnet|flexlm"),
)

_MAX_BYTES = 20_000_000
_MAX_QUOTE = 300


def find_signature(paths: Iterable[Path], signatures: Iterable[Signature]) -> Diagnosis | None:
    """Return the first fault, in the order of `signatures`, that the files' text shows, or None.

    Parameters
    ----------
    paths
        Files that may exist; of a huge one the last 20 MB are read.
    signatures
        What to look for; the earlier one wins.
    """
    lines = [line for path in paths for line in _lines(path)]
    for signature in signatures:
        pattern = re.compile(signature.pattern)
        for line in lines:
            if pattern.search(line):
                return Diagnosis(
                    signature.fault, " ".join(line.split())[:_MAX_QUOTE], hopeless=signature.hopeless
                )
    return None


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        return []
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _MAX_BYTES))
        return stream.read().decode(errors="replace").splitlines()


def signal_name(number: int) -> str:
    """Return a signal's name; real-time signals have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def diagnosis_of_status(status: int | None, last_words: str) -> Diagnosis:
    """Return what an exit status says when no output says more.

    Parameters
    ----------
    status
        As `subprocess` reports it: negative for a signal; launchers report 128 + the signal.
    last_words
        End of the program's output, quoted.
    """
    if status is None:
        return Diagnosis(Fault.UNKNOWN, "the program was not started")
    number = -status if status < 0 else status - 128 if 128 < status < 128 + 65 else 0
    if number:
        said = f" ({last_words})" if last_words else ""
        return Diagnosis(Fault.CRASH, f"killed by {signal_name(number)}{said}")
    said = f"; {last_words}" if last_words else ""
    return Diagnosis(Fault.UNKNOWN, f"status {status} and no result{said}")


class CalculationFailedError(ReferenceCalculationError):
    """One attempt at one structure failed for a reason of its own.

    Parameters
    ----------
    message
        What happened.
    fault
        Its kind.
    hopeless
        No recovery step can help.
    """

    code = "calculation-failed"

    def __init__(self, message: str, *, fault: Fault = Fault.UNKNOWN, hopeless: bool = False) -> None:
        super().__init__(message)
        self.fault = fault
        self.hopeless = hopeless

    @property
    def diagnosis(self) -> Diagnosis:
        """The same as a record."""
        return Diagnosis(self.fault, str(self), hopeless=self.hopeless)


class MachineFaultError(ReferenceCalculationError):
    """The machine is to blame: no structure has failed, and another try, later or elsewhere, can succeed.

    Its cause is the `OSError` by which the queue decides on another try.
    """

    code = "machine-fault"

    def __init__(self, diagnosis: Diagnosis, remedy: str) -> None:
        super().__init__(f"the reference calculations cannot go on here: {diagnosis}. {remedy}")
        self.diagnosis = diagnosis
        number = _MACHINE.get(diagnosis.fault, errno.EAGAIN)
        self.__cause__ = OSError(number, os.strerror(number))
