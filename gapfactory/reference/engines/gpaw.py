"""Engine `gpaw`: plane-wave density-functional theory, one process per attempt, read through ASE's interface only."""

from __future__ import annotations

import errno
import hashlib
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from gapfactory.errors import MissingEngineError
from gapfactory.reference.base import Raw, kind_of
from gapfactory.reference.engines import _gpaw_program as program
from gapfactory.reference.faults import CalculationFailedError, Diagnosis, Fault, Signature
from gapfactory.reference.ladder import Remedy
from gapfactory.reference.program import STDERR, STDOUT, ProgramEngine
from gapfactory.reference.settings import IRRELEVANT_WITH_SYMMETRY, DftSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms

    from gapfactory.reference.base import StructureKind
    from gapfactory.reference.site import ProgramSite

__all__ = ["GpawEngine", "GpawSettings"]

_TASK = "calculation.json"

#: Seconds of a run after which it writes a checkpoint unasked, for the case that it is killed.
_CHECKPOINT_EVERY_S = 900.0

#: Parameters that decide the solution: a checkpoint with other ones is not continued.
_PHYSICAL = ("mode", "xc", "kpts", "occupations", "convergence", "hund", "spinpol")


class GpawSettings(DftSettings):
    """Density-functional theory in the projector augmented-wave method with plane waves (GPAW)."""

    engine: Literal["gpaw"] = "gpaw"
    """Name of the engine."""
    xc: str = Field(default="PBE", min_length=1)
    """Exchange-correlation functional by GPAW's name; LDA, PBE, revPBE, RPBE and PW91 need no libxc."""
    cutoff_eV: float = Field(default=300.0, ge=100)
    """Kinetic-energy cutoff of the plane waves, in eV. For silicon 250 eV is enough: diamond, simple cubic,
    fcc and a random cell keep their energy differences within 0.5 meV/atom of those at 400 eV, and pressures
    within 0.1 GPa."""
    energy_convergence_eV: float = Field(default=1e-5, gt=0)
    """Change of the energy per valence electron over the last three iterations at convergence, in eV."""
    density_convergence: float = Field(default=1e-4, gt=0)
    """Integrated change of the density per valence electron at convergence, in electrons."""
    eigenstates_convergence_eV2: float = Field(default=1e-6, gt=0)
    """Residual of the eigenstates per valence electron at convergence, in eV^2. With GPAW's own 4e-8 a random
    cell of silicon takes a quarter more iterations for the same energy and forces within 0.001 eV/Å."""
    use_symmetry: bool = True
    """Reduce k-points by the point group where the structure has one; time reversal is always used."""
    vacuum_isolated: float = Field(default=6.0, gt=0)
    """Vacuum on every side of isolated atoms, in Å; their own box is not used. Silicon's energy changes by 2 meV
    from 5 to 6 Å, by 21 meV from 4 to 5 Å."""
    vacuum_dimer: float = Field(default=4.0, gt=0)
    """Vacuum on every side of dimers, in Å; their own box is not used. Si2 at 2.6 Å changes by 8 meV to 5 Å, at
    almost twice the cost, which is far below the error that a fit allows dimers."""

    irrelevant: ClassVar[dict[StructureKind, frozenset[str]]] = IRRELEVANT_WITH_SYMMETRY


_SCF = frozenset({Fault.SCF, Fault.UNSOUND})
_SOLVER = frozenset({Fault.DIAGONALISER, Fault.NAN, Fault.UNKNOWN})

#: Each changes how the same self-consistent solution is searched for, never which one: functional, cutoff, k-points,
#: occupations and convergence criteria stay. `iterations` is a factor on their number; the rest are GPAW's keywords.
_LADDER = (
    Remedy(
        "mixing damped, two eigensolver steps per iteration",
        _SCF | {Fault.NAN},
        {
            "mixer": {"backend": "pulay", "beta": 0.05, "nmaxold": 8, "weight": 50.0},
            "eigensolver": {"name": "davidson", "niter": 2},
            "iterations": 2.0,
        },
    ),
    Remedy(
        "mixing damped strongly, random start, more bands",
        _SCF | _SOLVER,
        {
            "mixer": {"backend": "pulay", "beta": 0.02, "nmaxold": 5, "weight": 100.0},
            "eigensolver": {"name": "davidson", "niter": 3},
            "nbands": "150%",
            "random": True,
            "iterations": 3.0,
        },
    ),
    Remedy(
        "RMM-DIIS, mixing damped, no point group",
        _SCF | _SOLVER | {Fault.SYMMETRY, Fault.GRID},
        {
            "mixer": {"backend": "pulay", "beta": 0.05, "nmaxold": 5, "weight": 50.0},
            "eigensolver": "rmm-diis",
            "nbands": None,
            "random": None,
            "symmetry": {"point_group": False},
            "iterations": 4.0,
        },
    ),
    Remedy(
        "mixing damped strongly, eight times the iterations",
        _SCF,
        {
            "mixer": {"backend": "pulay", "beta": 0.02, "nmaxold": 5, "weight": 100.0},
            "eigensolver": {"name": "davidson", "niter": 2},
            "iterations": 8.0,
        },
    ),
    Remedy("smearing twice as wide", frozenset({Fault.SCF}), settings={"smearing_width_eV": 2.0}),
)

#: Searched in "type: text" of the exception that ended GPAW, then in its error stream.
_SIGNATURES = (
    Signature(Fault.SCF, r"KohnShamConvergenceError|TooFewBandsError|PoissonConvergenceError"),
    Signature(Fault.OVERLAP, r"AtomsTooClose", hopeless=True),
    Signature(Fault.NAN, r"Some energy terms are NaN|array must not contain infs or NaNs|FloatingPointError"),
    Signature(Fault.SYMMETRY, r"SymmetryBrokenError|SymmetryAnalysisBug|Broken symmetry!"),
    Signature(Fault.DIAGONALISER, r"LinAlgError|Too few bands!|[Cc]holesky|LAPACK|scipy\.linalg\.eigh"),
    Signature(Fault.GRID, r"KPointError|Duplicate kpoints|Too few spins .* and IBZ k-points"),
    Signature(Fault.INPUT, r"Could not find required (PAW dataset|basis set)", hopeless=True),
    Signature(Fault.INPUT, r"requires 3 lattice vectors|LegacyGPAWError", hopeless=True),
    Signature(Fault.INPUT, r"inside MPI launcher|GPAW is not compiled with MPI", hopeless=True),
    Signature(
        Fault.MEMORY,
        r"MemoryError|[Cc]annot allocate memory|failed to map segment|Memory allocation still failed|gpaw_malloc|"
        r"blas_thread_init: pthread_create failed",
    ),
)

#: Errors of the operating system that a failed write reports; a limit on the size of files counts as a full disk.
_ERRNO = {
    errno.ENOSPC: Fault.DISK,
    errno.EDQUOT: Fault.DISK,
    errno.EFBIG: Fault.DISK,
    errno.ENOMEM: Fault.MEMORY,
    errno.ESTALE: Fault.SCRATCH,
    errno.ENOTCONN: Fault.SCRATCH,
    errno.EIO: Fault.SCRATCH,
}

_ITERATION = re.compile(r"^\|iter:\s*\d+\|[^|]*\|\s*(-?\d[\d.]*)")


class GpawEngine(ProgramEngine):
    """GPAW in its plane-wave mode, run by `_gpaw_program.py` in any Python that has GPAW.

    The site's command is that Python; without one it is the Python of gapfactory. For several processes GPAW must have
    been built with MPI.
    """

    name: ClassVar[str] = "gpaw"
    executable: ClassVar[str] = sys.executable
    remedy_if_missing: ClassVar[str] = "install it"
    settings_class: ClassVar[type[DftSettings]] = GpawSettings
    signatures: ClassVar[tuple[Signature, ...]] = _SIGNATURES
    ladder: ClassVar[tuple[Remedy, ...]] = _LADDER
    outputs: ClassVar[tuple[str, ...]] = (STDERR, STDOUT)
    kept: ClassVar[tuple[str, ...]] = (_TASK, program.LOG, program.RESULT)

    def __init__(self, settings: GpawSettings, site: ProgramSite) -> None:
        super().__init__(settings, site)
        self._about: dict[str, Any] = {}
        self._hashes: dict[str, str] = {}

    def arguments(self, directory: Path) -> list[str]:
        """Return the program by its path: -P keeps this package's directory out of what it imports."""
        del directory
        return ["-P", program.__file__, _TASK]

    def version(self) -> str:
        """Return GPAW's version.

        Raises
        ------
        MissingEngineError
            GPAW is not installed, lacks MPI for the site's launcher, or knows the functional only with libxc.
        """
        return str(self._known()["version"])

    def data_hashes(self, symbols: Sequence[str]) -> dict[str, str]:
        """Return the sha256 (hex) of the PAW data set of each species.

        Raises
        ------
        MissingEngineError
            One has none for the functional.
        """
        for symbol in symbols:
            if symbol not in self._hashes:
                self._hashes[symbol] = self._setup_hash(symbol)
        return {symbol: self._hashes[symbol] for symbol in symbols}

    def write(
        self, atoms: Atoms, directory: Path, numerics: Mapping[str, Any], *, checkpoint: Path | None
    ) -> None:
        """Write calculation.json.

        A checkpoint is continued with the numerics that it was made with, and only if it is of this structure and
        these settings: an interrupted run may have been further up its ladder.
        """
        prepared, parameters = self.parameters(atoms, numerics)
        task = {
            "atoms": {
                "numbers": prepared.numbers.tolist(),
                "positions": prepared.positions.tolist(),
                "cell": prepared.cell.array.tolist(),
                "pbc": True,
                "magmoms": prepared.get_initial_magnetic_moments().tolist(),
            },
            "parameters": parameters,
            "stress": kind_of(atoms) == "crystal",
            "checkpoint": None,
            "checkpoint_every_s": _CHECKPOINT_EVERY_S,
            "launcher": bool(self.site.launcher),
            "processes": self.site.processes,
        }
        if checkpoint is not None and _same_solution(task, checkpoint / _TASK):
            task["checkpoint"] = str((checkpoint / program.CHECKPOINT).resolve())
        (directory / _TASK).write_text(json.dumps(task), encoding="utf-8")

    def parameters(self, atoms: Atoms, numerics: Mapping[str, Any]) -> tuple[Atoms, dict[str, Any]]:
        """Return the structure as GPAW sees it and GPAW's keywords."""
        s = self.settings
        kind = kind_of(atoms)
        prepared = self.boxed(atoms)
        changes = dict(numerics)
        more = changes.pop("iterations", 1.0)
        parameters: dict[str, Any] = {
            "mode": {"name": "pw", "ecut": s.cutoff_eV},
            "xc": s.xc,
            "kpts": {"size": list(self.grid(atoms)), "gamma": True},
            "occupations": {"name": "fermi-dirac", "width": s.smearing_width_eV},
            "convergence": {
                "energy": s.energy_convergence_eV,
                "density": s.density_convergence,
                "eigenstates": s.eigenstates_convergence_eV2,
            },
            "symmetry": {"point_group": s.use_symmetry},
            "eigensolver": {"name": "davidson", "niter": 1},
            "maxiter": int(s.max_iterations * more),
            **changes,
        }
        if kind == "isolated" and s.spin_isolated == "hund":
            parameters["hund"] = True
            # smeared occupations would let the moment drift (titanium: 3.2 instead of 2)
            parameters["occupations"] |= {"fixmagmom": True}
        if kind == "dimer" and s.spin_dimer == "free":
            from ase.data import ground_state_magnetic_moments

            parameters["spinpol"] = True
            prepared.set_initial_magnetic_moments(ground_state_magnetic_moments[prepared.numbers])
        mixer = parameters.get("mixer")
        if mixer is not None and (parameters.get("spinpol") or parameters.get("hund")):
            parameters["mixer"] = {**mixer, "method": "difference"}
        return prepared, {name: value for name, value in parameters.items() if value is not None}

    def read(self, atoms: Atoms, directory: Path) -> Raw:
        """Return the results of result.json.

        Raises
        ------
        CalculationFailedError
            There are none.
        """
        import numpy as np

        result = _result(directory)
        if result is None or "forces" not in result:
            raise CalculationFailedError(f"GPAW left no {program.RESULT}")
        stress = result["stress"]
        details = {
            "kpoints": list(self.grid(atoms)),
            "energy_extrapolated": result["energy"],
            "magnetic_moment": result["magnetic_moment"],
            "iterations": result["iterations"],
            "xc": self.settings.xc,
        }
        return Raw(
            energy=result["free_energy"],
            forces=np.array(result["forces"], dtype=float),
            stress=None if stress is None else np.array(stress, dtype=float),
            details=details,
        )

    def ask_to_stop(self, directory: Path) -> bool:
        """Leave the file that the program looks for after every iteration."""
        (directory / program.STOP).touch()
        return True

    def has_checkpoint(self, directory: Path) -> bool:
        """Tell whether the program wrote its state, density and wave functions, with what it was made from."""
        return (directory / program.CHECKPOINT).is_file() and (directory / _TASK).is_file()

    def iterations(self, directory: Path) -> tuple[float, ...]:
        """Return the energies (extrapolated to zero width, eV) of the log's table of iterations."""
        log = directory / program.LOG
        if not log.is_file():
            return ()
        found = map(_ITERATION.match, log.read_text(encoding="utf-8", errors="replace").splitlines())
        return tuple(float(match[1]) for match in found if match)

    def diagnose(self, directory: Path, status: int | None) -> Diagnosis | None:
        """Return what the exception says that ended GPAW; of a process that died without one, its error stream."""
        result = _result(directory)
        if result is None:
            if status == program.STATUS_OS:
                return Diagnosis(Fault.DISK, "GPAW could not write its files, nor say why")
            return super().diagnose(directory, status)
        failed = result.get("failed")
        if failed is None:
            # asked to stop, or finished
            return Diagnosis(Fault.UNKNOWN, f"stopped {result['stopped']}") if "stopped" in result else None
        text = " ".join(f"{failed['type']}: {failed['text']}".split())[:300].rstrip(": ")
        if failed["errno"] in _ERRNO:
            return Diagnosis(_ERRNO[failed["errno"]], text)
        for signature in self.signatures:
            if re.search(signature.pattern, text):
                return Diagnosis(signature.fault, text, hopeless=signature.hopeless)
        return Diagnosis(Fault.UNKNOWN, text)

    def _known(self) -> dict[str, Any]:
        """Return what the program tells about the installed GPAW, asked once."""
        if not self._about:
            answer = self.asked_version(
                ["-P", program.__file__, "--about", self.settings.xc], timeout_s=120.0
            )
            said = [line for line in answer.splitlines() if line.startswith("{")]
            if not said:
                raise MissingEngineError(
                    f"{self.program()[0]} did not tell about its GPAW ({' '.join(answer.split())[-300:]}): the command "
                    "of gpaw in the site file must be a Python, 3.11 or newer, with GPAW (docs/reference/engines.md)."
                )
            known: dict[str, Any] = json.loads(said[-1])
            if "missing" in known:
                raise MissingEngineError(
                    f"the reference engine gpaw is not installed here ({known['missing']}): "
                    "`pip install gapfactory[gpaw]` (a C++ compiler is needed), or choose another engine."
                )
            if "functional" in known:
                raise MissingEngineError(
                    f"this GPAW cannot use the functional {self.settings.xc!r} ({known['functional']}): install "
                    "Debian's libxc-dev and build GPAW again, or choose one of LDA, PBE, revPBE, RPBE and PW91."
                )
            if self.site.processes > 1 and not known["mpi"]:
                raise MissingEngineError(
                    f"the site starts gpaw with {self.site.processes} processes, but this GPAW was built without MPI: "
                    "build it again with an MPI compiler (GPAW's siteconfig: `mpi = True`), or write `processes = 1` "
                    "into the site file."
                )
            self._about = known
        return self._about

    def _setup_hash(self, symbol: str) -> str:
        known = self._known()
        name = f"{symbol}.{known['setup_name']}"
        for folder in known["setup_paths"]:
            for path in (Path(folder) / name, Path(folder) / f"{name}.gz"):
                if path.is_file():
                    return hashlib.sha256(path.read_bytes()).hexdigest()
        raise MissingEngineError(
            f"GPAW has no PAW data set for {symbol} with {known['setup_name']} (searched "
            f"{', '.join(known['setup_paths']) or 'nowhere'}): `pip install gpaw-data` has those of LDA, "
            f"PBE, revPBE and RPBE; GPAW's own generator makes others "
            f"(`gpaw-setup -f {known['setup_name']} {symbol}`)."
        )


def _result(directory: Path) -> dict[str, Any] | None:
    """Return the content of a complete result.json, or None."""
    path = directory / program.RESULT
    if not path.is_file():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError:
        # cut short: the program writes it in one step, file systems do not always
        return None
    return content if content.get("complete") else None


def _same_solution(task: dict[str, Any], earlier: Path) -> bool:
    """Tell whether an earlier task, as far as it decides the solution, is this one."""
    before = json.loads(earlier.read_text(encoding="utf-8"))
    return bool(before["atoms"] == task["atoms"]) and all(
        before["parameters"].get(name) == task["parameters"].get(name) for name in _PHYSICAL
    )


ENGINE = GpawEngine
