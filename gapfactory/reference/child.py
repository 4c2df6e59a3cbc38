"""The process that runs reference calculations.

It is started as ``python -P -m gapfactory.reference.child job.json results.jsonl`` and answers with one line
of JSON per event: ``start`` before a structure, then ``result`` or ``failed``. A line counts only when it is
complete, parses, and ends with the sentinel key, so a structure without a ``result`` line has no result,
whatever the exit status says. Faults of the machine end the process with an exit status of their own.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gapfactory.errors import InputError, MissingEngineError, RelaxationError
from gapfactory.reference.faults import CalculationFailedError, Fault
from gapfactory.structures import structure_hash

if TYPE_CHECKING:
    from io import TextIOWrapper

    from ase import Atoms

    from gapfactory.reference.base import PythonEngine

__all__ = ["EXIT_DISK", "EXIT_INPUT", "EXIT_MEMORY", "EXIT_MISSING", "atoms_from", "document_of", "main"]

#: Exit statuses of faults that no structure is to blame for.
EXIT_MISSING, EXIT_DISK, EXIT_INPUT, EXIT_MEMORY = 30, 31, 32, 33

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO}
_PR_SET_PDEATHSIG = 1


def document_of(atoms: Atoms) -> dict[str, Any]:
    """Return a structure as JSON-able lists; floats survive exactly."""
    return {
        "numbers": atoms.numbers.tolist(),
        "positions": atoms.positions.tolist(),
        "cell": atoms.cell.array.tolist(),
        "pbc": atoms.pbc.tolist(),
    }


def atoms_from(document: dict[str, Any]) -> Atoms:
    """Return the structure that `document_of` wrote."""
    from ase import Atoms

    return Atoms(**document)


def main(arguments: list[str]) -> int:
    """Run the job named by the first argument, writing events to the second; return the exit status."""
    job_file, results_file = (Path(a) for a in arguments)
    _die_with_parent()
    try:
        job = json.loads(job_file.read_text())
        from gapfactory.reference.engines.registry import make_engine, parse_settings

        with results_file.open("a", encoding="utf-8") as results:
            engine: Any = make_engine(parse_settings(job["settings"]))
            _send(results, {"event": "engine", "info": vars(engine.info())})
            for item in job["items"]:
                _one(engine, item, results)
    except MissingEngineError as error:
        return _fault(EXIT_MISSING, str(error))
    except InputError as error:
        return _fault(EXIT_INPUT, str(error))
    except MemoryError as error:
        # other processes decide how much is left: no fault of the structure
        return _fault(EXIT_MEMORY, str(error) or "out of memory")
    except OSError as error:
        if error.errno == errno.ENOMEM:
            return _fault(EXIT_MEMORY, str(error))
        if error.errno not in _DISK_ERRORS:
            raise
        return _fault(EXIT_DISK, f"{error.strerror}: {error.filename or results_file}")
    return 0


def _one(engine: PythonEngine, item: dict[str, Any], results: TextIOWrapper) -> None:
    atoms = atoms_from(item["structure"])
    _send(results, {"event": "start", "id": item["id"]})
    started = time.monotonic()
    answer: dict[str, Any] = {
        "id": item["id"],
        "structure": structure_hash(atoms),
        "settings": item["settings"],
    }
    try:
        if item["task"] is None:
            raw = engine.calculate(atoms)
            answer |= {"details": raw.details}
        else:
            from gapfactory.reference.relaxing import relax_with_reference

            raw, extra = relax_with_reference(engine.calculate, atoms, item["task"])
            answer |= {"details": raw.details, "relaxation": extra}
    except (CalculationFailedError, RelaxationError) as error:
        fault, hopeless = Fault.UNSOUND, False
        if isinstance(error, CalculationFailedError):
            fault, hopeless = error.fault, error.hopeless
        answer |= {"reason": str(error), "fault": fault.name, "hopeless": hopeless}
        _send(results, {"event": "failed", **answer})
        return
    answer |= {
        "energy": raw.energy,
        "forces": raw.forces.tolist(),
        "stress": None if raw.stress is None else raw.stress.tolist(),
        "walltime_s": time.monotonic() - started,
    }
    _send(results, {"event": "result", **answer})


def _send(results: TextIOWrapper, event: dict[str, Any]) -> None:
    results.write(json.dumps({**event, "end": True}) + "\n")
    results.flush()
    os.fsync(results.fileno())


def _fault(status: int, text: str) -> int:
    # stderr may be a file on the full disk: the exit status says enough then
    try:
        sys.stderr.write(f"fault: {text}\n")
        sys.stderr.flush()
    except OSError:
        return status
    return status


def _die_with_parent() -> None:
    """On Linux, be killed when the supervising process dies: nobody would read the results."""
    if sys.platform != "linux":
        return
    parent = os.environ.get("GAPFACTORY_SUPERVISOR_PID")
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent is not None and os.getppid() != int(parent):
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
