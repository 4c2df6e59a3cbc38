"""Engine `cp2k`: CP2K (cp2k.psmp, 2023.1 and later), Gaussian basis sets and GTH pseudopotentials.

Self-consistency is by diagonalisation with Fermi-Dirac occupations; the orbital transformation method has no k-points.
The printed total energy is the free energy E - TS: its numerical derivatives are the printed forces and stress (to
0.1 meV/Å and 1 MPa on a distorted cell of silicon at 0.1 eV), those of E or of E - TS/2 are not.

custodian's own handlers for CP2K are not used: they need pymatgen, they read input and output in its objects, and some
change the energy without saying so (smearing at 300 K is added, EPS_PGF_ORB and the XC grid are refined). Taken over
from them as ideas: a longer history and a smaller ALPHA for densities that oscillate, EPS_DEFAULT of 1e-12 and smaller
where numerical noise keeps the density from converging, another treatment of an ill-conditioned overlap matrix.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import re
import shutil
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, field_validator

from gapfactory.errors import MissingEngineError
from gapfactory.reference.base import Raw, kind_of
from gapfactory.reference.engines._cp2k_data import data_directory, find_entry
from gapfactory.reference.engines._cp2k_text import (
    abort_message,
    printed_energy,
    printed_forces,
    printed_moment,
    printed_stress,
    printed_structure,
    scf_energies,
    section_text,
    smearing_energy,
)
from gapfactory.reference.faults import CalculationFailedError, Diagnosis, Fault, Signature
from gapfactory.reference.ladder import Remedy
from gapfactory.reference.program import STDERR, STDOUT, ProgramEngine, text_of
from gapfactory.reference.settings import DftSettings, names_of_files
from gapfactory.reference.site import end_of_allocation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms

    from gapfactory.reference.engines._cp2k_data import DataEntry
    from gapfactory.reference.site import ProgramSite

__all__ = ["Cp2kEngine", "Cp2kSettings"]

# CODATA 2018; CP2K's own differ in the ninth digit
_HARTREE, _BOHR, _KB = 27.211386245988, 0.529177210903, 8.617333262e-5
_GPA = 160.2176634
_RYDBERG = _HARTREE / 2

_INPUT = "cp2k.inp"
_BASIS, _POTENTIALS = "basis.txt", "potentials.txt"
_PROJECT = "label"
_RESTART = "continued"
# free space below which output that ends early is blamed on the disk

# How the next density is made, from the plain way to the most cautious one. In crystals, densities on the grid are
# mixed; in the mostly empty boxes of isolated structures, density matrices, with DIIS once their change is below
# EPS_DIIS (there Broyden's method went round in circles for more than 100 iterations on Si2, DIIS needs 17).
_MIXING: tuple[dict[str, Any], ...] = (
    {"METHOD": "BROYDEN_MIXING", "ALPHA": 0.4, "NBROYDEN": 8},
    {"METHOD": "BROYDEN_MIXING", "ALPHA": 0.1, "NBROYDEN": 16},
    {"METHOD": "PULAY_MIXING", "ALPHA": 0.1, "BETA": 1.0, "NPULAY": 12},
    {"METHOD": "KERKER_MIXING", "ALPHA": 0.2, "BETA": 1.0},
)
_ISOLATED_ALPHA, _ISOLATED_DIIS = (0.3, 0.1, 0.1, 0.05), (0.1, 0.1, 0.01, 0.001)

#: how CP2K names the functionals, and the pseudopotentials made for them
_FUNCTIONALS: dict[str, tuple[dict[str, Any], str]] = {
    "PBE": ({"": "PBE"}, "GTH-PBE"),
    "PBESOL": ({"PBE": {"PARAMETRIZATION": "PBESOL"}}, "GTH-PBESol"),
    "REVPBE": ({"PBE": {"PARAMETRIZATION": "REVPBE"}}, "GTH-PBE"),
    "LDA": ({"": "PADE"}, "GTH-PADE"),
    "BLYP": ({"": "BLYP"}, "GTH-BLYP"),
}


class Cp2kSettings(DftSettings):
    """Density-functional theory with Gaussian basis sets and GTH pseudopotentials (CP2K)."""

    engine: Literal["cp2k"] = "cp2k"
    """Name of the engine."""
    xc: str = Field(default="PBE", min_length=1)
    """Exchange-correlation functional: PBE, PBEsol, revPBE, LDA (Pade form) or BLYP."""
    cutoff_eV: float = Field(default=4000.0, ge=500)
    """Kinetic-energy cutoff of the density on the finest of the four grids, in eV; CP2K's CUTOFF is in Ry (13.6 eV). It
    is not the cutoff of the wave functions, which the basis set determines: at 4000 eV the energy of diamond is
    within 0.03 meV/atom of that at 8000 eV, for silicon 2700 eV are enough."""
    relative_cutoff_eV: float = Field(default=800.0, ge=100)
    """Cutoff, in eV, of the grid on which a Gaussian of exponent 1 is represented: CP2K's REL_CUTOFF."""
    basis: str = Field(default="DZVP-MOLOPT-SR-GTH", min_length=1)
    """Basis set by its name in the files below, such as TZV2P-MOLOPT-GTH. The short-ranged sets keep the overlap matrix
    of dense cells well conditioned; for silicon DZVP-MOLOPT-SR-GTH is within 6 meV/atom of TZVP-MOLOPT-GTH at less
    than half the cost."""
    basis_per_species: dict[str, str] = Field(default_factory=dict)
    """Other basis sets of single species, by chemical symbol."""
    basis_files: tuple[str, ...] = ("BASIS_MOLOPT", "BASIS_MOLOPT_UZH", "GTH_BASIS_SETS")
    """Files of basis sets in the directory of data, in the order in which names are looked up."""
    potential: str | None = None
    """Pseudopotential by its name in the files below; None: GTH- with the functional."""
    potential_files: tuple[str, ...] = ("GTH_POTENTIALS",)
    """Files of pseudopotentials in the directory of data, in the order in which names are looked up."""
    density_convergence: float = Field(default=1e-6, gt=0)
    """Largest change of the density matrix (of the density on the grid, where it is mixed there) at convergence: CP2K's
    EPS_SCF."""
    precision: float = Field(default=1e-10, gt=0, le=1e-6)
    """Numerical precision of the Gaussian and plane-wave representations, CP2K's EPS_DEFAULT. 1e-12 changes silicon's
    energy by 0.001 meV/atom and takes half as long again."""

    @field_validator("xc")
    @classmethod
    def _known_functional(cls, value: str) -> str:
        if value.upper() not in _FUNCTIONALS:
            raise ValueError(f"functional {value!r}: the engine cp2k knows PBE, PBEsol, revPBE, LDA and BLYP")
        return value

    @field_validator("basis_files", "potential_files")
    @classmethod
    def _files(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        names_of_files(value)
        return value


class Cp2kEngine(ProgramEngine):
    """Runs CP2K."""

    name: ClassVar[str] = "cp2k"
    executable: ClassVar[str] = "cp2k.psmp"
    relative_cost: ClassVar[float] = 3.0
    cost_cutoff_eV: ClassVar[float] = 4000.0
    remedy_if_missing: ClassVar[str] = "install CP2K (Debian: cp2k and cp2k-data)"
    settings_class: ClassVar[type[DftSettings]] = Cp2kSettings
    settings: Cp2kSettings
    outputs: ClassVar[tuple[str, ...]] = (STDOUT, STDERR)
    kept: ClassVar[tuple[str, ...]] = (_INPUT,)

    # Met with the real program: overlap, Cholesky, SCF, unknown keyword, and memory ("Error allocating" when the
    # address space ends between 0.4 and 0.8 GB). The other words are those of the source text of 2023.1.
    signatures: ClassVar[tuple[Signature, ...]] = (
        Signature(Fault.OVERLAP, r"GEOMETRY wrong or EMAX_SPLINE too small", hopeless=True),
        Signature(
            Fault.DIAGONALISER,
            r"Cholesky (decompose|decomposition|invert) failed|triangular invert failed|"
            r"[Dd]iagonali[sz]ation (of a complex matrix )?failed|matrix diagonalization failed|"
            r"ELPA failed|ERROR in P?[DZ]SYEV|ERROR in PZHEEV|LU (decomposition|inversion) has failed",
        ),
        Signature(Fault.NAN, r"(Diag\.|ENERGY\|).*\bNaN\b"),
        Signature(Fault.SCF, r"SCF run NOT converged"),
        Signature(
            Fault.GRID,
            r"Index to radix array not found|No odd radix found|FULL_GRID currently|processor distribution is not "
            r"supported|not divisible by the kpoint group|Called with too large radius",
        ),
        Signature(Fault.MEMORY, r"Error allocating"),
        Signature(
            Fault.INPUT,
            r"unknown (keyword|subsection|section)|found an unknown|basis set .* (not|was not) found|"
            r"potential .* (not|was not) found|multiplicity",
            hopeless=True,
        ),
    )

    ladder: ClassVar[tuple[Remedy, ...]] = (
        Remedy(
            "a quarter of the mixing, longer history, twice the iterations",
            frozenset({Fault.SCF, Fault.NAN}),
            numerics={"mixing": 1, "iterations": 2.0},
        ),
        Remedy(
            "ScaLAPACK instead of ELPA",
            frozenset({Fault.DIAGONALISER}),
            numerics={"diagonaliser": "SL"},
        ),
        Remedy(
            "numerical precision 1e-12, twice as many empty bands",
            frozenset({Fault.SCF, Fault.DIAGONALISER, Fault.NAN}),
            numerics={"precision": 1e-12, "empty_bands": 2.0},
        ),
        Remedy(
            "no Cholesky decomposition of the overlap matrix",
            frozenset({Fault.DIAGONALISER, Fault.NAN}),
            numerics={"cholesky": "OFF"},
        ),
        Remedy(
            "other FFT library",
            frozenset({Fault.GRID}),
            numerics={"fft": "FFTSG"},
        ),
        Remedy(
            "Pulay mixing, later DIIS, four times the iterations",
            frozenset({Fault.SCF, Fault.NAN}),
            numerics={"mixing": 2, "iterations": 4.0},
        ),
        Remedy(
            "damped mixing of the last density alone, eight times the iterations",
            frozenset({Fault.SCF, Fault.NAN}),
            numerics={"mixing": 3, "iterations": 8.0},
        ),
        Remedy(
            "smearing doubled",
            frozenset({Fault.SCF}),
            settings={"smearing_width_eV": 2.0},
        ),
    )

    def __init__(self, settings: Cp2kSettings, site: ProgramSite) -> None:
        super().__init__(settings, site)
        self._about: str | None = None

    # ---- the program and its data -----------------------------------------------------------------------------

    def version(self) -> str:
        """Return the version, such as 2023.1.

        Raises
        ------
        MissingEngineError
            It is not installed, or does not start.
        """
        found = re.search(r"CP2K version\s+(\S+)", self._asked())
        if found is None:
            raise MissingEngineError(
                f"{self.program()[0]} does not tell its version as CP2K does; it says: "
                f"{' '.join(self._asked().split())[-300:] or 'nothing'}"
            )
        return found[1]

    def _asked(self) -> str:
        if self._about is None:
            self._about = self.asked_version(["--version"])
        return self._about

    def data_hashes(self, symbols: Sequence[str]) -> dict[str, str]:
        """Return the sha256 (hex) of each species' basis set and pseudopotential together."""
        return {
            symbol: hashlib.sha256((basis.text + potential.text).encode()).hexdigest()
            for symbol, (basis, potential) in self._data(symbols).items()
        }

    def _data(self, symbols: Sequence[str]) -> dict[str, tuple[DataEntry, DataEntry]]:
        s = self.settings
        # the flags are broken over lines anywhere
        compiled = re.search(r'__DATA_DIR="([^"]*)"', re.sub(r"\n\s*", "", self._asked()))
        directory = data_directory(self.site.pseudopotentials, compiled[1] if compiled else "")
        potential = s.potential or _FUNCTIONALS[s.xc.upper()][1]
        return {
            symbol: (
                find_entry(
                    directory,
                    s.basis_files,
                    symbol,
                    s.basis_per_species.get(symbol, s.basis),
                    what="basis set",
                ),
                find_entry(directory, s.potential_files, symbol, potential, what="pseudopotential"),
            )
            for symbol in sorted(set(symbols))
        }

    def arguments(self, directory: Path) -> list[str]:
        """Return the name of the input file."""
        del directory
        return ["-i", _INPUT]

    # ---- inputs -----------------------------------------------------------------------------------------------

    def write(
        self, atoms: Atoms, directory: Path, numerics: Mapping[str, Any], *, checkpoint: Path | None
    ) -> None:
        """Write the input, and the entries of basis sets and pseudopotentials that it needs."""
        data = self._data(atoms.get_chemical_symbols())
        (directory / _BASIS).write_text("".join(basis.text for basis, _ in data.values()))
        (directory / _POTENTIALS).write_text("".join(potential.text for _, potential in data.values()))
        restart = None if checkpoint is None else _checkpoint(checkpoint)
        if restart is not None:
            restart = Path(shutil.copy2(restart, directory / f"{_RESTART}{restart.suffix}"))
        crystal = kind_of(atoms) == "crystal"
        tree = {
            "GLOBAL": {
                "PROJECT": _PROJECT,
                "RUN_TYPE": "ENERGY_FORCE",
                "PRINT_LEVEL": "LOW",
                "WALLTIME": _seconds_left(self.settings.time_limit_s),
                "PREFERRED_DIAG_LIBRARY": numerics.get("diagonaliser"),
                "PREFERRED_FFT_LIBRARY": numerics.get("fft"),
                "TIMINGS": {"": "OFF"},
                "REFERENCES": {"": "OFF"},
            },
            "FORCE_EVAL": {
                "METHOD": "QUICKSTEP",
                "STRESS_TENSOR": "ANALYTICAL" if crystal else None,
                "PRINT": {
                    "FORCES": {"": "ON", "NDIGITS": 12},
                    "STRESS_TENSOR": {"": "ON"} if crystal else None,
                },
                "DFT": self._dft(atoms, data, numerics, None if restart is None else restart.name),
                "SUBSYS": self._subsystem(self.boxed(atoms), data),
            },
        }
        (directory / _INPUT).write_text(section_text(tree))

    def _dft(
        self,
        atoms: Atoms,
        data: Mapping[str, tuple[DataEntry, DataEntry]],
        numerics: Mapping[str, Any],
        restart: str | None,
    ) -> dict[str, Any]:
        s = self.settings
        electrons = sum(data[symbol][1].electrons for symbol in atoms.get_chemical_symbols())
        moment = self._moment(atoms)
        occupied = (electrons + (moment or 0) + 1) // 2
        empty = math.ceil(float(numerics.get("empty_bands", 1.0)) * max(occupied, 4))
        # as many of either spin, counted from their own numbers of electrons
        added = (empty, empty + (moment or 0)) if moment is not None else (empty,)
        fixed = s.spin_isolated == "hund" and kind_of(atoms) == "isolated"
        crystal, caution = kind_of(atoms) == "crystal", int(numerics.get("mixing", 0))
        precision = min(s.precision, float(numerics.get("precision", s.precision)))
        return {
            "BASIS_SET_FILE_NAME": _BASIS,
            "POTENTIAL_FILE_NAME": _POTENTIALS,
            "WFN_RESTART_FILE_NAME": restart,
            "LSD": None if moment is None else True,
            "MULTIPLICITY": None if moment is None else moment + 1,
            "KPOINTS": self._kpoints(atoms),
            "MGRID": {
                "NGRIDS": 4,
                "CUTOFF": s.cutoff_eV / _RYDBERG,
                "REL_CUTOFF": s.relative_cutoff_eV / _RYDBERG,
            },
            "QS": {"EPS_DEFAULT": precision},
            "SCF": {
                "SCF_GUESS": "ATOMIC" if restart is None else "RESTART",
                "EPS_SCF": s.density_convergence,
                "MAX_SCF": round(s.max_iterations * float(numerics.get("iterations", 1.0))),
                "ADDED_MOS": added,
                "CHOLESKY": numerics.get("cholesky"),
                "SMEAR": {
                    "": "ON",
                    "METHOD": "FERMI_DIRAC",
                    "ELECTRONIC_TEMPERATURE": s.smearing_width_eV / _KB,
                    # without it both spins share one Fermi level and the moment is free
                    "FIXED_MAGNETIC_MOMENT": float(moment) if fixed and moment is not None else None,
                },
                "DIAGONALIZATION": {"": "ON", "ALGORITHM": "STANDARD"},
                "EPS_DIIS": None if crystal else _ISOLATED_DIIS[caution],
                "MIXING": dict(_MIXING[caution])
                if crystal
                else {"METHOD": "DIRECT_P_MIXING", "ALPHA": _ISOLATED_ALPHA[caution]},
                "PRINT": {"RESTART": {"": "ON", "BACKUP_COPIES": 1, "EACH": {"QS_SCF": 5}}},
            },
            "XC": {"XC_FUNCTIONAL": _FUNCTIONALS[s.xc.upper()][0]},
            "PRINT": {"MULLIKEN": {"": "OFF" if moment is None else "ON"}},
        }

    def _moment(self, atoms: Atoms) -> int | None:
        """Return the total moment to start from, or None for a calculation without spin."""
        from ase.data import ground_state_magnetic_moments

        if not self.starts_polarised(atoms):
            return None
        return round(float(ground_state_magnetic_moments[atoms.numbers].sum())) or None

    def _kpoints(self, atoms: Atoms) -> dict[str, Any] | None:
        """Return explicit k-points: CP2K's own Monkhorst-Pack grids of even numbers leave Gamma out."""
        grid = self.grid(atoms)
        if grid == (1, 1, 1):
            return None
        points = _half_of(grid)
        total = math.prod(grid)
        return {
            "SCHEME": "GENERAL",
            "UNITS": "B_VECTOR",
            "KPOINT": [(*(float(x) for x in point), count / total) for point, count in points.items()],
        }

    @staticmethod
    def _subsystem(boxed: Atoms, data: Mapping[str, tuple[DataEntry, DataEntry]]) -> dict[str, Any]:
        lines = zip(boxed.get_chemical_symbols(), boxed.positions, strict=True)
        return {
            "CELL": {
                **dict(zip("ABC", map(tuple, boxed.cell.array), strict=True)),
                "PERIODIC": "XYZ",
            },
            "COORD": {"*": [(symbol, *position) for symbol, position in lines]},
            "KIND": [
                {"": symbol, "BASIS_SET": basis.names[0], "POTENTIAL": potential.names[0]}
                for symbol, (basis, potential) in data.items()
            ],
            # lengths have three decimals, so that in pm they are good to 1e-5 Å
            "PRINT": {
                "CELL": {"": "SILENT", "UNIT": "pm"},
                "ATOMIC_COORDINATES": {"": "SILENT", "UNIT": "pm"},
            },
        }

    # ---- while it runs, and afterwards ------------------------------------------------------------------------

    def ask_to_stop(self, directory: Path) -> bool:
        """Put the file for which CP2K looks every 20 s; it writes its restart file then."""
        (directory / "EXIT").touch()
        return True

    def has_checkpoint(self, directory: Path) -> bool:
        """Tell whether there is a restart file."""
        return _checkpoint(directory) is not None

    def iterations(self, directory: Path) -> tuple[float, ...]:
        """Return the energies of the self-consistency iterations, in eV."""
        return tuple(energy * _HARTREE for energy in scf_energies(_output(directory)))

    def diagnose(self, directory: Path, status: int | None) -> Diagnosis | None:
        """Return the fault that the output shows; the message of an abort is put together from its frame."""
        text = _output(directory)
        if "*** SCF run converged in" not in text:
            if "run terminated by external request" in text:
                return Diagnosis(Fault.UNKNOWN, "stopped as it was asked to")
            if "exceeded requested execution time" in text:
                end = end_of_allocation()
                late = end is not None and time.time() > end - self.site.stop_before_s - 5.0
                return Diagnosis(
                    Fault.WALLTIME if late else Fault.TIME, "CP2K stopped itself before its time was over"
                )
        message = abort_message(text)
        if message:
            for signature in self.signatures:
                if re.search(signature.pattern, message):
                    return Diagnosis(signature.fault, message, hopeless=signature.hopeless)
            return Diagnosis(Fault.CRASH, f"CP2K gave up: {message}")
        return super().diagnose(directory, status)

    def read(self, atoms: Atoms, directory: Path) -> Raw:
        """Return the free energy with forces and stress."""
        text = _output(directory)
        energy, forces = printed_energy(text), printed_forces(text, len(atoms))
        crystal = kind_of(atoms) == "crystal"
        stress = printed_stress(text) if crystal else None
        finished = "PROGRAM ENDED AT" in text and "*** SCF run converged in" in text
        if energy is None or forces is None or not finished or (crystal and stress is None):
            raise CalculationFailedError("the output of CP2K ends before its results are complete")
        moment = printed_moment(text)
        details: dict[str, Any] = {
            "xc": self.settings.xc,
            "kpoints": list(self.grid(atoms)),
            # halfway between E and E - TS
            "energy_extrapolated": (energy - smearing_energy(text) / 2.0) * _HARTREE,
            "iterations": len(scf_energies(text)),
        }
        if moment is not None:
            details["magnetic_moment"] = moment
        return Raw(
            energy * _HARTREE,
            forces * (_HARTREE / _BOHR),
            # CP2K's is positive under compression
            None if stress is None else -stress / _GPA,
            details,
            printed_structure(text),
        )


def _half_of(grid: Sequence[int]) -> dict[tuple[Fraction, ...], int]:
    """Return the points of a Gamma-centred grid, one of each pair k, -k, with their numbers."""
    points: dict[tuple[Fraction, ...], int] = {}
    for index in itertools.product(*(range(n) for n in grid)):
        point = tuple(_centred(Fraction(i, n)) for i, n in zip(index, grid, strict=True))
        mirrored = tuple(_centred(-x) for x in point)
        key = mirrored if mirrored in points else point
        points[key] = points.get(key, 0) + 1
    return points


def _centred(x: Fraction) -> Fraction:
    """Return x modulo 1 in (-1/2, 1/2]."""
    return -((-x + Fraction(1, 2)) % 1 - Fraction(1, 2))


def _seconds_left(limit_s: float) -> int:
    """Return when CP2K is to stop by itself: it notices that sooner than the file EXIT."""
    end = end_of_allocation()
    left = limit_s if end is None else min(limit_s, end - time.time())
    return max(1, math.ceil(left))


def _checkpoint(directory: Path) -> Path | None:
    for suffix in (".kp", ".wfn"):
        path = directory / f"{_PROJECT}-RESTART{suffix}"
        if path.is_file() and path.stat().st_size > 0:
            return path
    return None


def _output(directory: Path) -> str:
    return text_of(directory / STDOUT)


ENGINE = Cp2kEngine
