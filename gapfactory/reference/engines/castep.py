"""Engine `castep`: CASTEP 8 and later, through its text files.

CASTEP is proprietary and nothing in this file has met a running one: keywords follow its own keyword help and
documentation, the readers and the words of failures were compared with recorded outputs
(docs/reference/engines-vasp-castep.md says which). ASE reads the results; its writer of .cell files rounds coordinates
to six digits, so the inputs are written here.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from gapfactory.errors import MissingEngineError
from gapfactory.reference.base import Raw, kind_of
from gapfactory.reference.engines import _castep_files as files
from gapfactory.reference.engines._vasp_files import arranged, species_order
from gapfactory.reference.faults import CalculationFailedError, Diagnosis, Fault, Signature
from gapfactory.reference.ladder import Remedy
from gapfactory.reference.program import STDERR, STDOUT, ProgramEngine
from gapfactory.reference.settings import IRRELEVANT_WITH_SYMMETRY, DftSettings, known_functional
from gapfactory.reference.site import end_of_allocation

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ase import Atoms

    from gapfactory.reference.base import StructureKind
    from gapfactory.reference.site import ProgramSite

__all__ = ["CastepEngine", "CastepSettings"]

_SEED = "label"
_PREVIOUS = "previous.check"


class CastepSettings(DftSettings):
    """Density-functional theory with ultrasoft or norm-conserving pseudopotentials and plane waves (CASTEP)."""

    engine: Literal["castep"] = "castep"
    """Name of the engine."""
    xc: str = Field(default="PBE", min_length=1)
    """Exchange-correlation functional: LDA, PBE, PBEsol, RPBE, PW91 or WC."""
    energy_convergence_eV: float = Field(default=1e-6, gt=0)
    """Change of the energy per atom over three cycles at which self-consistency ends (ELEC_ENERGY_TOL), in eV."""
    grid_scale: float = Field(default=2.0, ge=1)
    """Size of the standard FFT grid as a multiple of the diameter of the cutoff sphere (CASTEP's default is 1.75)."""
    fine_grid_scale: float = Field(default=2.3, ge=1)
    """The same for the grid of the density (CASTEP's default is the standard grid)."""
    pseudopotential_library: str = Field(default="C19", pattern=r"^[A-Za-z0-9_.]+$")
    """Library of on-the-fly pseudopotentials that CASTEP has built in, such as C19, C9, QC5 or NCP19."""
    pseudopotentials: dict[str, str] = Field(default_factory=dict)
    """Another choice per chemical symbol: an on-the-fly string, a library, or a file of the site's directory."""
    use_symmetry: bool = True
    """Let CASTEP look for the symmetry of a crystal; time reversal is always used."""

    irrelevant: ClassVar[dict[StructureKind, frozenset[str]]] = IRRELEVANT_WITH_SYMMETRY

    @field_validator("xc")
    @classmethod
    def _functional(cls, value: str) -> str:
        return known_functional(value, files.FUNCTIONALS, "castep")

    @field_validator("pseudopotentials")
    @classmethod
    def _strings(cls, value: dict[str, str]) -> dict[str, str]:
        for text in value.values():
            if not re.fullmatch(r"[!-$&-.0-~]+", text) or text.startswith("."):
                raise ValueError(
                    f"{text!r} is neither an on-the-fly string nor the name of a file or library: it may have no "
                    "spaces, no % and no /"
                )
        return value


class CastepEngine(ProgramEngine):
    """Runs CASTEP."""

    name: ClassVar[str] = "castep"
    executable: ClassVar[str] = "castep.serial"
    remedy_if_missing: ClassVar[str] = "CASTEP needs a licence; put its castep.serial or castep.mpi on PATH"
    settings_class: ClassVar[type[DftSettings]] = CastepSettings
    settings: CastepSettings
    outputs: ClassVar[tuple[str, ...]] = (f"{_SEED}*.err", f"{_SEED}.castep", STDERR, STDOUT)
    kept: ClassVar[tuple[str, ...]] = (f"{_SEED}.cell", f"{_SEED}.param")

    # Met in recorded outputs: the missing empty bands and the failed factorisation. The others stand in public
    # programs that read CASTEP's output, and have met synthetic text only.
    signatures: ClassVar[tuple[Signature, ...]] = (
        Signature(Fault.NAN, r"^\s*\d+\s+[-+]?(NaN|Inf\w*|\*{4,})\s.*<-- SCF"),
        Signature(Fault.DIAGONALISER, r"Error with \w*(sytrf|hetrf|potrf|trtri|hegv|heev|sygv|syev)\w* in "),
        Signature(
            Fault.SCF,
            r"max\. SCF cycles performed but system has not reached the groundstate|"
            r"electronic minimisation did not converge when finding ground state",
        ),
        Signature(Fault.TIME, r"Insufficient time for another iteration"),
        Signature(Fault.UNSOUND, r"There are no empty bands for at least one kpoint and spin"),
    )

    ladder: ClassVar[tuple[Remedy, ...]] = (
        Remedy(
            "density mixing of 0.2 by Pulay's method, more cycles",
            frozenset({Fault.SCF, Fault.NAN}),
            numerics={
                "mixing_scheme": "Pulay",
                "mix_charge_amp": 0.2,
                "mix_history_length": 20,
                "max_scf_cycles": 200,
            },
        ),
        Remedy(
            "ensemble density-functional theory",
            frozenset({Fault.SCF, Fault.NAN, Fault.DIAGONALISER}),
            numerics={"metals_method": "EDFT", "max_scf_cycles": 200},
        ),
        Remedy(
            "no symmetry but time reversal",
            frozenset({Fault.SYMMETRY, Fault.GRID, Fault.DIAGONALISER, Fault.CRASH}),
            numerics={"symmetry": False},
        ),
        Remedy("more empty bands", frozenset({Fault.SCF}), numerics={"perc_extra_bands": 60.0}),
        Remedy("smearing doubled", frozenset({Fault.SCF}), settings={"smearing_width_eV": 2.0}),
    )

    def __init__(self, settings: Any, site: ProgramSite) -> None:
        super().__init__(settings, site)
        self._version = ""

    # ---- what is installed ------------------------------------------------------------------------------------

    def version(self) -> str:
        """Return the version that ``castep --version`` prints.

        Raises
        ------
        MissingEngineError
            It is not installed, or does not say.
        """
        if not self._version:
            said = self.asked_version(["--version"])
            found = re.search(r"[Vv]ersion\D{0,3}(\d[\w.]*)", said)
            if found is None:
                raise MissingEngineError(
                    f"{self.program()[0]} does not tell its version as CASTEP does; it says: "
                    f"{' '.join(said.split())[-300:] or 'nothing'}"
                )
            self._version = found[1]
        return self._version

    def data_hashes(self, symbols: Sequence[str]) -> dict[str, str]:
        """Return a sha256 (hex) for each species: of its file, or of the string or library that CASTEP expands.

        Raises
        ------
        MissingEngineError
            A file is named that the site does not have.
        """
        return {symbol: self._hash(symbol) for symbol in sorted(set(symbols))}

    def _hash(self, symbol: str) -> str:
        path = self._file(symbol)
        data = self._species(symbol).encode() if path is None else path.read_bytes()
        return hashlib.sha256(data).hexdigest()

    def _species(self, symbol: str) -> str:
        return self.settings.pseudopotentials.get(symbol, self.settings.pseudopotential_library)

    def _file(self, symbol: str) -> Path | None:
        name = self._species(symbol)
        if not re.search(r"\.(usp|uspcc|upf|recpot|uspso|UPF)$", name):
            return None
        path = None if self.site.pseudopotentials is None else self.site.pseudopotentials / name
        if path is None or not path.is_file():
            raise MissingEngineError(
                f"there is no pseudopotential {path or name} for {symbol}: put it into the directory that the site "
                "file names as `pseudopotentials` of castep, or take a library such as C19."
            )
        return path

    # ---- input ------------------------------------------------------------------------------------------------

    def arguments(self, directory: Path) -> list[str]:
        """Return the name that CASTEP's files have in common."""
        del directory
        return [_SEED]

    def write(
        self, atoms: Atoms, directory: Path, numerics: Mapping[str, Any], *, checkpoint: Path | None
    ) -> None:
        """Write .cell and .param, links to pseudopotential files, and the checkpoint to continue from.

        Parameters
        ----------
        atoms
            The structure.
        directory
            Empty.
        numerics
            Keywords of .param, and `symmetry`. max_scf_cycles counts only above `max_iterations`.
        checkpoint
            Directory of an attempt whose .check file is continued.
        """
        changes = files.checked_numerics(numerics)
        symmetry = bool(changes.pop("symmetry", True))
        ready, _ = arranged(self.boxed(atoms))
        symbols = set(ready.get_chemical_symbols())
        param = self.param(atoms, changes)
        if checkpoint is not None:
            shutil.copyfile(checkpoint / f"{_SEED}.check", directory / _PREVIOUS)
            param["continuation"] = _PREVIOUS
        for symbol in symbols:
            path = self._file(symbol)
            if path is not None:
                (directory / path.name).symlink_to(path)
        text = files.cell_text(
            ready,
            self.grid(atoms),
            {symbol: self._species(symbol) for symbol in symbols},
            moments=self._moments(atoms),
            symmetry=kind_of(atoms) == "crystal" and self.settings.use_symmetry and symmetry,
        )
        (directory / f"{_SEED}.cell").write_text(text, encoding="utf-8")
        (directory / f"{_SEED}.param").write_text(files.param_text(param), encoding="utf-8")

    def param(self, atoms: Atoms, changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the keywords of .param for a structure."""
        s = self.settings
        cycles = max(s.max_iterations, int(changes.get("max_scf_cycles") or 0))
        # CASTEP would correct energy and stress for the finite basis as soon as a stress is asked for: two more
        # calculations at other cutoffs, and an energy that is not the one of the forces
        return {
            "task": "SinglePoint",
            "xc_functional": files.FUNCTIONALS[s.xc],
            "cut_off_energy": f"{s.cutoff_eV:.12g} eV",
            "grid_scale": s.grid_scale,
            "fine_grid_scale": s.fine_grid_scale,
            "finite_basis_corr": "none",
            "fix_occupancy": False,
            "metals_method": "dm",
            "smearing_scheme": "FermiDirac",
            "smearing_width": f"{s.smearing_width_eV:.12g} eV",
            "elec_energy_tol": f"{s.energy_convergence_eV:.12g} eV",
            **self._spin(atoms),
            "calculate_stress": kind_of(atoms) == "crystal",
            "write_checkpoint": "all",
            "num_dump_cycles": 0,
            "write_bib": False,
            "write_otfg": False,
            "write_bands": False,
            "popn_calculate": False,
            "opt_strategy": "speed",
            "iprint": 1,
            "run_time": self._run_time(),
            **changes,
            "max_scf_cycles": cycles,
        }

    def _run_time(self) -> int:
        """Return the seconds after which CASTEP leaves by itself at its first opportunity, with a checkpoint."""
        seconds = 0.9 * self.settings.time_limit_s
        end = end_of_allocation()
        if end is not None:
            seconds = min(seconds, end - time.time() - self.site.stop_before_s)
        return max(1, int(seconds))

    def _for_the_allocation(self, directory: Path) -> bool:
        """Tell whether it was the end of the allocation, not the limit of one attempt, that set RUN_TIME."""
        text = (directory / f"{_SEED}.param").read_text(encoding="utf-8")
        given = re.search(r"^run_time : (\d+)", text, re.M)
        return given is not None and int(given[1]) < int(0.9 * self.settings.time_limit_s)

    def _moments(self, atoms: Atoms) -> list[float] | None:
        from ase.data import ground_state_magnetic_moments

        numbers = atoms.numbers[species_order(atoms.numbers)]
        return (
            [float(ground_state_magnetic_moments[z]) for z in numbers]
            if self.starts_polarised(atoms)
            else None
        )

    def _spin(self, atoms: Atoms) -> dict[str, Any]:
        moments = self._moments(atoms)
        if moments is None:
            return {"spin_polarised": False}
        spin = {"spin_polarised": True, "spin": sum(moments)}
        # less than zero: fixed to the end; else so many cycles, after which it is free
        return {**spin, "spin_fix": -1 if kind_of(atoms) == "isolated" else 10}

    # ---- while it runs ----------------------------------------------------------------------------------------

    def ask_to_stop(self, directory: Path) -> bool:
        """Ask CASTEP to stop: it reads .param again whenever it could write a checkpoint.

        Its documentation says that there is no such moment within one self-consistency; it may not listen.
        """
        with (directory / f"{_SEED}.param").open("a", encoding="utf-8") as stream:
            stream.write("stop\n")
        return True

    def has_checkpoint(self, directory: Path) -> bool:
        """Tell whether CASTEP wrote a .check file."""
        path = directory / f"{_SEED}.check"
        return path.is_file() and path.stat().st_size > 0

    def iterations(self, directory: Path) -> tuple[float, ...]:
        """Return the energies of the self-consistency cycles, in eV."""
        return files.scf_energies(directory / f"{_SEED}.castep")

    # ---- output -----------------------------------------------------------------------------------------------

    def diagnose(self, directory: Path, status: int | None) -> Diagnosis | None:
        """Return the fault that CASTEP's words tell; without known words, what its .err file says."""
        told = super().diagnose(directory, status)
        if told is not None and told.fault is Fault.TIME and self._for_the_allocation(directory):
            return Diagnosis(Fault.WALLTIME, told.text)
        if told is not None:
            return told
        for path in sorted(directory.glob(f"{_SEED}*.err")):
            words = " ".join(path.read_text(encoding="utf-8", errors="replace").split())
            if words:
                return Diagnosis(Fault.CRASH, words[:300])
        return None

    def propose(self, diagnosis: Diagnosis, directory: Path) -> Remedy | None:
        """Return more empty bands where CASTEP has none."""
        if diagnosis.fault is not Fault.UNSOUND or "empty bands" not in diagnosis.text:
            return None
        given = re.search(
            r"^perc_extra_bands : (\S+)", (directory / f"{_SEED}.param").read_text(encoding="utf-8"), re.M
        )
        more = 2.0 * float(given[1]) if given else 60.0
        return Remedy(f"{more:g} % more bands", frozenset({Fault.UNSOUND}), {"perc_extra_bands": more})

    def read(self, atoms: Atoms, directory: Path) -> Raw:
        """Read the .castep file: free energy E - TS, forces, stress.

        Raises
        ------
        CalculationFailedError
            The run is not complete.
        """
        path = directory / f"{_SEED}.castep"
        try:
            found, results = files.output_atoms(path)
            # absent for fixed occupations, which are never asked for
            energy = float(results["free_energy_without_dispersion_correction"])
            forces = np.array(results["forces"], dtype=float)
            place = files.order_of(found.numbers, atoms.numbers)
        # NameError: ASE's reader asks for what it has not met yet
        except (OSError, LookupError, AttributeError, NameError, TypeError, ValueError) as error:
            stars = "**" in str(error)
            raise CalculationFailedError(
                f"{path.name} has no complete result ({type(error).__name__}: {error})",
                fault=Fault.NAN if stars else Fault.UNKNOWN,
            ) from error
        crystal = kind_of(atoms) == "crystal"
        if crystal and "stress" not in results:
            raise CalculationFailedError(f"{path.name} has no stress", fault=Fault.UNKNOWN)
        echo = found[place]
        _, sign = arranged(self.boxed(atoms))
        echo.set_cell(sign * echo.cell.array)
        moment = files.integrated_spin(path)
        details: dict[str, Any] = {
            "kpoints": list(self.grid(atoms)),
            "energy_extrapolated": float(results["energy"]),
            "iterations": len(self.iterations(directory)),
            "xc": self.settings.xc,
            **({} if moment is None else {"magnetic_moment": moment}),
        }
        stress = np.array(results["stress"], dtype=float) if crystal else None
        return Raw(energy=energy, forces=forces[place], stress=stress, details=details, echo=echo)


ENGINE = CastepEngine
