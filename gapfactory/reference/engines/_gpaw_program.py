"""The program of engine `gpaw`: one single point, from calculation.json to result.json.

It is run by its path, not as a module of this package, so that it imports nothing but GPAW, ASE and numpy: that is
faster, and any Python with GPAW can run it::

    python -P _gpaw_program.py calculation.json
    python -P _gpaw_program.py --about FUNCTIONAL

The directory's file `stop` asks it to write a checkpoint after the current iteration and end.
"""

import faulthandler
import json
import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

LOG, RESULT, CHECKPOINT, STOP = "gpaw.txt", "result.json", "checkpoint.gpw", "stop"

#: Exit status after an error of the operating system, of memory, any other: a full disk keeps nothing else.
STATUS_OS, STATUS_MEMORY, STATUS_FAILED = 74, 71, 1

# by these GPAW notices an MPI launcher; a worker that was itself started by one hands them down
_LAUNCHERS = ("PMIX_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "I_MPI_MPIRUN")
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")


class StoppedError(Exception):
    """Somebody asked for the end; the checkpoint is written."""


def main(arguments: list[str]) -> int:
    """Run one calculation, or tell about this GPAW; return the exit status."""
    if arguments[0] == "--about":
        _serial()
        sys.stdout.write(json.dumps(about(arguments[1])) + "\n")
        return 0
    # a crash in compiled code says where
    faulthandler.enable()
    task = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    sizes = [int(os.environ[name]) for name in _SIZES if name in os.environ] if task["launcher"] else []
    parallel = max(sizes, default=task["processes"]) > 1
    if parallel:
        # a GPAW that was built without MPI refuses this, instead of being calculated once by every process
        os.environ.setdefault("GPAW_MPI_BACKEND", "cgpaw")
    else:
        _serial()
    try:
        result = calculate(task)
    except StoppedError as stopped:
        result = {"stopped": str(stopped)}
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever it is, the supervisor has to read it
        return _report(error, parallel=parallel)
    if result is not None:
        write_whole(RESULT, {**result, "complete": True})
    return 0


def _report(error: BaseException, *, parallel: bool) -> int:
    """Say what happened as far as anything can still be written; return the exit status."""
    status = STATUS_FAILED
    if isinstance(error, OSError) and error.errno is not None:
        status = STATUS_OS
    elif isinstance(error, MemoryError):
        status = STATUS_MEMORY
    failed = {
        "type": type(error).__name__,
        "text": str(error).strip(),
        "errno": getattr(error, "errno", None),
    }
    try:
        traceback.print_exception(error)
        write_whole(RESULT, {"failed": failed, "complete": True})
    except OSError:
        # the disk is full: the status says so
        os._exit(status)
    mpi: Any = sys.modules.get("gpaw.mpi")
    if parallel and mpi is not None:
        # the other processes may be waiting for this one
        mpi.world.abort(status)
    return status


def _serial() -> None:
    for name in _LAUNCHERS:
        os.environ.pop(name, None)


def write_whole(name: str, document: dict[str, Any]) -> None:
    """Write a file that is there complete or not at all."""
    part = Path(f"{name}.part")
    with part.open("w", encoding="utf-8") as stream:
        json.dump(document, stream)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(name)


def about(functional: str) -> dict[str, Any]:
    """Return version, whether it was built with MPI, and where its data sets for a functional are."""
    try:
        import gpaw
        from gpaw import cgpaw
        from gpaw.xc import XC
    except ImportError as error:
        return {"missing": str(error)}
    known: dict[str, Any] = {
        "version": gpaw.__version__,
        "setup_paths": [str(path) for path in gpaw.setup_paths],
        "mpi": bool(cgpaw.have_mpi) or gpaw.GPAW_MPI_BACKEND == "mpi4py",
    }
    try:
        found: Any = XC(functional)
        known["setup_name"] = found.get_setup_name()
    except (NameError, ImportError) as error:
        known["functional"] = str(error)
    return known


def calculate(task: dict[str, Any]) -> dict[str, Any] | None:
    """Return the results of one single point; None on all processes but the first.

    Raises
    ------
    StoppedError
        The file `stop` was found.
    """
    from ase import Atoms
    from gpaw import GPAW
    from gpaw.fftw import ESTIMATE, FFTWPlans
    from gpaw.mpi import broadcast, world

    # FFTW would choose among its plans by timing them, and so the last bits by chance; GPAW's own tests do this as well
    plans: Any = FFTWPlans
    plans._overwrite_flags = ESTIMATE
    atoms = Atoms(**task["atoms"])
    start = task["checkpoint"]
    calculator: Any = GPAW(start, txt=LOG) if start else GPAW(txt=LOG, **task["parameters"])
    written = time.monotonic()

    def after_iteration(context: Any) -> None:
        nonlocal written
        late = time.monotonic() - written > task["checkpoint_every_s"]
        asked = (Path(STOP).exists(), late) if world.rank == 0 else None
        stop, due = broadcast(asked, comm=world)
        if stop or due:
            calculator.write(f"{CHECKPOINT}.part", mode="all")
            if world.rank == 0:
                Path(f"{CHECKPOINT}.part").replace(CHECKPOINT)
            written = time.monotonic()
        if stop:
            raise StoppedError(f"after iteration {context.niter}")

    calculator.hooks["scf_step"] = after_iteration
    atoms.calc = calculator
    result = {
        "free_energy": float(atoms.get_potential_energy(force_consistent=True)),
        "energy": float(atoms.get_potential_energy()),
        "forces": atoms.get_forces().tolist(),
        "stress": atoms.get_stress().tolist() if task["stress"] else None,
        "iterations": int(calculator.get_number_of_iterations()),
    }
    moment = calculator.results.get("magmom")
    result["magnetic_moment"] = 0.0 if moment is None else float(moment)
    return result if world.rank == 0 else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
