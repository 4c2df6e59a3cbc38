"""Runs the `gap_fit` program once, in a fresh directory, and believes only what can be checked.

The program's exit status proves nothing (it ends with 0 after losing all virials, and with 139 after a
complete fit that it cannot write), so the counts that it prints and the files that it leaves are compared
with what must be there.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from gapfactory.errors import FitError
from gapfactory.potentials.gap.files import XML_NAME, check_files, relabel
from gapfactory.potentials.gap.sparse import write_sparse_file
from gapfactory.potentials.gap.trainfile import (
    ENERGY,
    FORCES,
    VIRIAL,
    expected_targets,
    has_forces,
    virial_of,
    write_training_file,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.data import LabelledStructure
    from gapfactory.potentials.gap.model import GapModel
    from gapfactory.potentials.gap.settings import GapSettings, ProgramSettings
    from gapfactory.potentials.gap.sigmas import Sigmas
    from gapfactory.potentials.gap.terms import Term

__all__ = ["find_program", "gap_line", "program_versions", "read_counts", "run_program"]

LOG_NAME = "gap_fit.log"
#: Longest line for all terms together that was seen to be read whole.
LONGEST_GAP = 13_000
#: The program reads a line in pieces of this many characters and drops blanks at the end of each piece, so that a
#: piece that ends between two words glues them together.
PIECE = 1024
_COUNTS = {
    "energies": r"Number of target energies .*found:\s*(\d+)",
    "forces": r"Number of target forces .*found:\s*(\d+)",
    "virials": r"Number of target virials .*found:\s*(\d+)",
    "energy sigmas": r"per-configuration setting of energy_sigma found:\s*(\d+)",
    "force sigmas": r"per-configuration setting of force_sigma found:\s*(\d+)",
    "virial sigmas": r"per-configuration setting of virial_sigma found:\s*(\d+)",
}
#: Numbers that older versions of the program do not print: none were found then.
_COMPONENTS = {
    "errors of force components": r"per-component setting of force_component_sigma found:\s*(\d+)",
    "errors of virial components": r"per-component setting of virial_component_sigma found:\s*(\d+)",
}


def find_program(settings: ProgramSettings) -> Path:
    """Return the path of the program: as given, on PATH, inside quippy, or beside the Python interpreter.

    Raises
    ------
    FitError
        If it is nowhere.
    """
    name = settings.executable
    found = shutil.which(name)
    candidates = [Path(found)] if found else []
    if Path(name).name == name:
        from importlib.util import find_spec

        spec = find_spec("quippy")
        if spec is not None and spec.submodule_search_locations:
            # The binary itself rather than quippy's Python wrapper: one process less, and signals reach it.
            candidates.insert(0, Path(spec.submodule_search_locations[0]) / name)
        candidates.append(Path(sys.executable).parent / name)
    for candidate in candidates:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate.resolve()
    msg = (
        f"the program {name!r} was not found: install gapfactory[quip], give its path as "
        "gap.program.executable, or use the built-in engine (gap: {backend: native})"
    )
    raise FitError(msg)


def program_versions(log: str) -> dict[str, str]:
    """Return what the program says of its own versions."""
    versions = {}
    for key, pattern in (("gap", r"GAP version\s*:?\s*(\S+)"), ("quip", r"git version\s*:?\s*(\S+)")):
        match = re.search(pattern, log, re.IGNORECASE)
        if match:
            versions[key] = match.group(1)
    versions["openmp"] = "yes" if "OpenMP parallelisation with" in log else "no"
    return versions


def tail(text: str, lines: int = 15) -> str:
    """Return the last lines of a log for an error message."""
    return "\n".join(text.rstrip().splitlines()[-lines:])


def read_counts(log: str) -> dict[str, int]:
    """Return what the program says it found in the training file.

    Raises
    ------
    FitError
        If a line is missing: then the log is not one of a completed fit.
    """
    counts = {}
    for name, pattern in _COUNTS.items():
        match = re.search(pattern, log)
        if match is None:
            msg = f"the fit's log does not say how many {name} were found; its end:\n{tail(log)}"
            raise FitError(msg)
        counts[name] = int(match.group(1))
    for name, pattern in _COMPONENTS.items():
        match = re.search(pattern, log)
        counts[name] = int(match.group(1)) if match else 0
    return counts


def gap_line(terms: Sequence[Term], deltas: Sequence[float], points: Sequence[int]) -> str:
    """Return the line with all terms as the program reads it, safe against its reading in pieces.

    Parameters
    ----------
    terms
        The terms.
    deltas
        Energy scale of each stage, eV.
    points
        Number of sparse points of each term.

    Raises
    ------
    FitError
        They are more text than the program holds.
    """
    parts = []
    # The program strips one pair of braces from every value on its way to the descriptor.
    for k, (term, n) in enumerate(zip(terms, points, strict=True)):
        descriptor = term.descriptor.replace("{", "{{").replace("}", "}}")
        parts.append(
            f"{descriptor} {term.covariance} delta={deltas[term.stage]:.6g} n_sparse={n} sparse_method=FILE "
            f"sparse_file=s{k} add_species=F"
        )
    text = ":".join(parts)
    if len(text) > LONGEST_GAP:
        msg = (
            f"{len(terms)} terms make {len(text)} characters, more than the {LONGEST_GAP} that gap_fit is known to "
            "read: use fewer species, or switch the three-body terms off (gap: {three_body: {enabled: false}})"
        )
        raise FitError(msg)
    for blanks in range(PIECE):
        line = "gap={" + " " * blanks + text + "}"
        if all(line[end] != " " for end in range(PIECE - 1, len(line), PIECE)):
            break
    else:
        msg = f"the text of {len(terms)} terms cannot be laid out so that gap_fit reads it whole"
        raise FitError(msg)
    return line


def _config(
    terms: Sequence[Term], deltas: Sequence[float], points: Sequence[int], settings: GapSettings
) -> str:
    s = settings.sigma
    options = {
        "atoms_filename": "train.xyz",
        # Every structure carries its own errors; these are only asked for by the program.
        "default_sigma": f"{{{s.energy_low} {s.force_low} {s.virial_low} {s.virial_low}}}",
        "e0_method": "isolated",
        "sparse_jitter": repr(settings.jitter),
        "energy_parameter_name": ENERGY,
        "force_parameter_name": FORCES,
        "virial_parameter_name": VIRIAL,
        "stress_parameter_name": "no_stress",
        "sigma_parameter_name": "sigma",
        "config_type_parameter_name": "config_type",
        "do_copy_at_file": "F",
        "sparse_separate_file": "T",
        "rnd_seed": "1",
        "gap_file": XML_NAME,
    }
    lines = [gap_line(terms, deltas, points), *(f"{key}={value}" for key, value in options.items())]
    return "\n".join(lines) + "\n"


def run_program(
    directory: Path,
    data: Sequence[LabelledStructure],
    sigmas: Mapping[str, Sigmas],
    terms: Sequence[Term],
    deltas: Sequence[float],
    points: Sequence[NDArray[np.float64]],
    settings: GapSettings,
    e0: Mapping[str, float],
) -> tuple[GapModel, dict[str, int], float, str]:
    """Fit once in a directory that must not exist yet.

    Returns the potential as read back, the counted targets, the seconds and the log.

    Parameters
    ----------
    directory
        Created here: QUIP trusts an old frame index beside a training file, so no directory is ever used
        twice.
    deltas
        Energy scale of each stage, eV.
    points
        Sparse points of each term.

    Raises
    ------
    FitError
        If the program is missing, is stopped by the time limit, counts other targets than were written, or
        leaves an incomplete potential.
    """
    program = find_program(settings.program)
    try:
        directory.mkdir(parents=True)
    except FileExistsError:
        msg = f"the fit directory {directory} exists already: every fit needs a fresh one"
        raise FitError(msg) from None
    write_training_file(directory / "train.xyz", data, sigmas, max(term.cutoff for term in terms))
    for k, values in enumerate(points):
        write_sparse_file(directory / f"s{k}", values)
    config = _config(terms, deltas, [len(values) for values in points], settings)
    (directory / "gap_fit.config").write_text(config, encoding="ascii")

    start = time.monotonic()
    status = _run([str(program), "config_file=gap_fit.config"], directory, settings.program)
    seconds = time.monotonic() - start
    log = (directory / LOG_NAME).read_text(encoding="utf-8", errors="replace")
    wanted = expected_targets(data)
    try:
        counts = read_counts(log)
    except FitError as error:
        msg = f"the fit in {directory} stopped early (exit status {status}): {error}"
        raise FitError(msg) from None
    _compare(counts, data, sigmas, wanted)
    if not (directory / XML_NAME).is_file():
        msg = (
            f"the fit in {directory} left no {XML_NAME} (exit status {status}); end of its log:\n{tail(log)}"
        )
        raise FitError(msg)
    relabel(directory)
    model = check_files(directory, n_sparse=[len(values) for values in points], e0=e0, error=FitError)
    return model, {name: counts[name] for name in ("energies", "forces", "virials")}, seconds, log


def _compare(
    counts: Mapping[str, int],
    data: Sequence[LabelledStructure],
    sigmas: Mapping[str, Sigmas],
    wanted: Mapping[str, int],
) -> None:
    virials = [item for item in data if virial_of(item) is not None]
    errors = {
        "energy sigmas": wanted["energies"],
        "force sigmas": sum(has_forces(item) for item in data),
        "virial sigmas": len(virials),
        "errors of force components": sum(
            3 * len(item.atoms)
            for item in data
            if has_forces(item) and sigmas[item.id].force_components is not None
        ),
        "errors of virial components": sum(
            9 for item in virials if sigmas[item.id].virial_components is not None
        ),
    }
    for name, expected in {**wanted, **errors}.items():
        if counts[name] != expected:
            msg = (
                f"the fit found {counts[name]} {name} in the training file where {expected} were written: "
                "the potential is not what was asked for and is thrown away"
            )
            raise FitError(msg)


def _run(command: list[str], directory: Path, settings: ProgramSettings) -> int:
    threads = str(settings.openmp_threads)
    env = dict(os.environ, OMP_NUM_THREADS=threads, OPENBLAS_NUM_THREADS=threads, MKL_NUM_THREADS=threads)
    with (directory / LOG_NAME).open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=directory,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            return process.wait(timeout=settings.timeout_s)
        except subprocess.TimeoutExpired:
            msg = (
                f"the fit in {directory} ran longer than {settings.timeout_s:g} s and was stopped: "
                "raise gap.program.timeout_s or fit fewer structures"
            )
            raise FitError(msg) from None
        finally:
            # Also when this process is interrupted: no fit is left running behind.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
