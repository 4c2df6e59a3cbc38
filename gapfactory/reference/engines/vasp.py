"""Engine `vasp`: the Vienna Ab initio Simulation Package, 5.4 and later.

VASP is proprietary and nothing in this file has met a running one: the inputs follow the VASP wiki, the readers and
the words of failures were compared with recorded outputs (docs/reference/engines-vasp-castep.md says which).
"""

from __future__ import annotations

import math
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from xml.etree import ElementTree

import numpy as np
from pydantic import Field, field_validator

from gapfactory.reference.base import Raw, kind_of
from gapfactory.reference.engines import _vasp_files as files
from gapfactory.reference.engines._vasp_advice import Advice, advise
from gapfactory.reference.faults import CalculationFailedError, Diagnosis, Fault, Signature, find_signature
from gapfactory.reference.ladder import Remedy
from gapfactory.reference.program import STDERR, STDOUT, ProgramEngine
from gapfactory.reference.settings import IRRELEVANT_WITH_SYMMETRY, DftSettings, known_functional

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms

    from gapfactory.reference.base import StructureKind
    from gapfactory.reference.site import ProgramSite

__all__ = ["VaspEngine", "VaspSettings"]

#: What advisers proposed and we did not do; kept with a failed calculation.
REFUSED = "advice-refused.txt"


class VaspSettings(DftSettings):
    """Density-functional theory with projector augmented waves and plane waves (VASP)."""

    engine: Literal["vasp"] = "vasp"
    """Name of the engine."""
    xc: str = Field(default="PBE", min_length=1)
    """Exchange-correlation functional: LDA, PBE, PBEsol, RPBE, revPBE or optB88-vdW."""
    energy_convergence_eV: float = Field(default=1e-6, gt=0)
    """Change of the total energy between two iterations at which self-consistency ends (EDIFF), in eV."""
    precision: Literal["Normal", "Accurate"] = "Accurate"
    """Fineness of the FFT grids (PREC). Forces and stresses need Accurate."""
    nonspherical_gradients: bool = True
    """Gradient corrections inside the PAW spheres with their nonspherical part (LASPH)."""
    potential_set: str = Field(default="", pattern=r"^([A-Za-z0-9_-][A-Za-z0-9_.-]*)?$")
    """Set of PAW data below the site's directory; empty: potpaw_PBE, for LDA potpaw."""
    pseudopotentials: dict[str, str] = Field(default_factory=dict)
    """Folder of the set per chemical symbol, such as Ti: Ti_sv; not named: the symbol itself."""
    use_symmetry: bool = True
    """Reduce k-points by the symmetry of a crystal where it has any; time reversal is always used."""

    irrelevant: ClassVar[dict[StructureKind, frozenset[str]]] = IRRELEVANT_WITH_SYMMETRY

    @field_validator("xc")
    @classmethod
    def _functional(cls, value: str) -> str:
        return known_functional(value, files.FUNCTIONALS, "vasp")

    @field_validator("pseudopotentials")
    @classmethod
    def _folders(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value.values():
            if not re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*", name):
                raise ValueError(f"{name!r} is no folder of a PAW set: give a name such as Ti_sv")
        return value


# Words of VASP in its standard output or OUTCAR. Each was met in a recorded output except those marked (wiki), which
# rest on VASP's documentation or on custodian's handlers. VASP 6 breaks its sentences at the frame of a box.
_SPOILT = (
    Signature(
        Fault.NAN, r"^\s*(DAV|RMM|CGA|DMP|SDA|EIG)\s*:\s+\d+\s+(NaN|[-+]?Inf|\*{4,})"
    ),  # (wiki: the format)
    Signature(Fault.UNSOUND, r"TOO FEW BANDS|number of bands is not sufficient"),
    Signature(Fault.SCF, r"BRMIX: very serious problems"),
)
_FATAL = (
    Signature(Fault.INPUT, r"Error reading item \S+ from file INCAR", hopeless=True),
    Signature(Fault.INPUT, r"internal error in SET_CORE_WF", hopeless=True),
    Signature(Fault.INPUT, r"supplied exchange-correlation table", hopeless=True),  # (wiki)
    Signature(Fault.INPUT, r"the triple product of the basis vectors", hopeless=True),  # (wiki)
    Signature(
        Fault.GRID,
        r"unable to match k-point|Fatal error detecting k-mesh|HNFORM: k-point generating|GENERATE_KPOINTS_TRANS|"
        r"REAL_OPT(LAY)?: internal",
    ),
    Signature(
        Fault.SYMMETRY,
        r"internal error in subroutine ?(IBZKPT|POSMAP|RHOSYG|SGRCON|INVGRP|PRICEL)|(POSMAP|RHOSYG) internal error|"
        r"PRICELV: current lattice|Inconsistent Bravais lattice|rotation matrix was not found|"
        r"group operation missing|not all point group operations|non-integer element in rotation matrix",
    ),
    Signature(
        Fault.DIAGONALISER,
        r"EDDDAV: Call to ZHEGV failed|EDDRMM: call to ZHEGV failed|EDDIAG: [Cc]all to (routine )?ZHEEV|"
        r"ERROR in subspace rotation P[SD]SYEVX|Routine ZPOTRF|gradient is not orthogonal|"
        r"Sub-Space-Matrix is not hermitian",
    ),
    Signature(Fault.CRASH, r"while reading WAVECAR|while reading plane wave coef"),
    Signature(
        Fault.SCF,
        r"EDIFF was not reached \(unconverged\)|self-consistency was not achieved in the given",  # second: (wiki)
    ),
    # "often results are still useful": the cause only when there is no other
    Signature(Fault.GRID, r"Reciprocal lattice and k-lattice belong to different class"),
)


class VaspEngine(ProgramEngine):
    """Runs VASP's standard executable."""

    name: ClassVar[str] = "vasp"
    executable: ClassVar[str] = "vasp_std"
    remedy_if_missing: ClassVar[str] = "VASP needs a licence; put its vasp_std on PATH"
    settings_class: ClassVar[type[DftSettings]] = VaspSettings
    settings: VaspSettings
    outputs: ClassVar[tuple[str, ...]] = (STDOUT, STDERR, "OUTCAR")
    # never POTCAR: its licence forbids to pass it on
    kept: ClassVar[tuple[str, ...]] = ("INCAR", "KPOINTS", "POSCAR", "OSZICAR", REFUSED)
    signatures: ClassVar[tuple[Signature, ...]] = (*_SPOILT, *_FATAL)

    ladder: ClassVar[tuple[Remedy, ...]] = (
        Remedy(
            "damped mixing, ten iterations at fixed density, more iterations",
            frozenset({Fault.SCF, Fault.NAN}),
            numerics={"ALGO": "Normal", "AMIX": 0.1, "BMIX": 0.01, "NELMDL": -10, "NELM": 200},
        ),
        Remedy(
            "conjugate gradients for all bands",
            frozenset({Fault.SCF, Fault.DIAGONALISER, Fault.NAN}),
            numerics={"ALGO": "All", "NELM": 300},
        ),
        Remedy(
            "one band per process group, no ScaLAPACK",
            frozenset({Fault.DIAGONALISER, Fault.CRASH}),
            numerics={"ALGO": "Normal", "NCORE": 1, "LSCALAPACK": False},
        ),
        Remedy(
            "tighter symmetry tolerance",
            frozenset({Fault.SYMMETRY}),
            numerics={"SYMPREC": 1e-6},
        ),
        Remedy(
            "no symmetry but time reversal",
            frozenset({Fault.SYMMETRY, Fault.GRID, Fault.DIAGONALISER}),
            numerics={"ISYM": 0, "SYMPREC": 1e-5},
        ),
        Remedy(
            "damped motion of the wavefunctions, no symmetry",
            frozenset({Fault.SCF, Fault.NAN}),
            numerics={"ALGO": "Damped", "TIME": 0.1, "NELM": 500, "ISYM": 0},
        ),
        Remedy("smearing doubled", frozenset({Fault.SCF}), settings={"smearing_width_eV": 2.0}),
    )

    def __init__(self, settings: Any, site: ProgramSite) -> None:
        super().__init__(settings, site)
        self._version = ""
        self._hashes: dict[str, str] = {}
        self._advice: dict[Path, Advice] = {}
        self._refused: dict[Path, tuple[str, ...]] = {}

    # ---- what is installed ------------------------------------------------------------------------------------

    def version(self) -> str:
        """Return the version as the executable has it compiled in: VASP has no option that prints it.

        A wrapper script has none; then the first digits of its sha256 stand for it, and every label has the
        version that VASP's output names.

        Raises
        ------
        MissingEngineError
            It is not installed.
        """
        if not self._version:
            path = Path(self.program()[0])
            found = re.search(rb"vasp\.(\d+\.\d+[.\w]*)", path.read_bytes())
            self._version = found[1].decode() if found else f"unknown (sha256 {files.sha256_of(path)[:12]})"
        return self._version

    def data_hashes(self, symbols: Sequence[str]) -> dict[str, str]:
        """Return the sha256 (hex) of each species' POTCAR.

        Raises
        ------
        MissingEngineError
            One has none.
        """
        for symbol in set(symbols) - set(self._hashes):
            self._hashes[symbol] = files.sha256_of(self._potcar(symbol))
        return {symbol: self._hashes[symbol] for symbol in sorted(set(symbols))}

    def _data(self) -> Path | None:
        named = self.site.pseudopotentials or os.environ.get("VASP_PP_PATH")
        return Path(named) if named else None

    def _potcar(self, symbol: str) -> Path:
        s = self.settings
        chosen = s.potential_set or ("potpaw" if s.xc == "LDA" else "potpaw_PBE")
        return files.potcar_path(self._data(), chosen, s.pseudopotentials.get(symbol, symbol), symbol)

    # ---- input ------------------------------------------------------------------------------------------------

    def write(
        self, atoms: Atoms, directory: Path, numerics: Mapping[str, Any], *, checkpoint: Path | None
    ) -> None:
        """Write INCAR, KPOINTS, POSCAR and POTCAR, and the wavefunctions of a checkpoint.

        Parameters
        ----------
        atoms
            The structure.
        directory
            Empty.
        numerics
            INCAR tags; those of None are left out. NELM counts only where it is above `max_iterations`.
        checkpoint
            Directory of an attempt whose WAVECAR and CHGCAR are continued.
        """
        prepared = self.boxed(atoms)
        ready, _ = files.arranged(prepared)
        incar = self.incar(atoms, numerics)
        if checkpoint is not None:
            incar["ISTART"] = 1
            shutil.copyfile(checkpoint / "WAVECAR", directory / "WAVECAR")
            density = checkpoint / "CHGCAR"
            if density.is_file() and density.stat().st_size:
                shutil.copyfile(density, directory / "CHGCAR")
                incar["ICHARG"] = 1
        (directory / "INCAR").write_text(files.incar_text(incar), encoding="utf-8")
        (directory / "KPOINTS").write_text(files.kpoints_text(self.grid(atoms)), encoding="utf-8")
        (directory / "POSCAR").write_text(files.poscar_text(ready), encoding="utf-8")
        with (directory / "POTCAR").open("wb") as stream:
            for symbol in dict.fromkeys(ready.get_chemical_symbols()):
                stream.write(self._potcar(symbol).read_bytes())
        root = self._data()
        kernel = None if root is None else root / "vdw_kernel.bindat"
        # VASP until 6.4.2 reads the kernel of the vdW functionals; later ones calculate it
        if incar.get("LUSE_VDW") and kernel is not None and kernel.is_file():
            (directory / kernel.name).symlink_to(kernel)

    def incar(self, atoms: Atoms, numerics: Mapping[str, Any]) -> dict[str, Any]:
        """Return INCAR's tags of a structure.

        Raises
        ------
        InputError
            A remedy's tag would change the energy.
        """
        s = self.settings
        changes = files.checked_numerics(numerics)
        tags: dict[str, Any] = {
            "SYSTEM": "gapfactory",
            "ISTART": 0,
            "ICHARG": 2,
            "PREC": s.precision,
            "ENCUT": s.cutoff_eV,
            "EDIFF": s.energy_convergence_eV,
            "NELM": s.max_iterations,
            "ALGO": "Normal",
            "ISMEAR": -1,
            "SIGMA": s.smearing_width_eV,
            **files.FUNCTIONALS[s.xc],
            "LASPH": s.nonspherical_gradients,
            "LREAL": False,
            "IBRION": -1,
            "NSW": 0,
            "ISIF": 2,
            "LWAVE": True,
            "LCHARG": True,
            **self._spin(atoms),
        }
        if kind_of(atoms) != "crystal" or not s.use_symmetry:
            tags["ISYM"] = 0
        changes["NELM"] = max(s.max_iterations, int(changes.get("NELM") or 0))
        return tags | changes

    def _spin(self, atoms: Atoms) -> dict[str, Any]:
        from ase.data import ground_state_magnetic_moments

        kind, s = kind_of(atoms), self.settings
        numbers = atoms.numbers[files.species_order(atoms.numbers)]
        moments = [float(ground_state_magnetic_moments[z]) for z in numbers]
        if kind == "isolated" and s.spin_isolated == "hund":
            return {"ISPIN": 2, "MAGMOM": moments, "NUPDOWN": moments[0]}
        if kind == "dimer" and s.spin_dimer == "free":
            return {"ISPIN": 2, "MAGMOM": moments}
        return {"ISPIN": 1}

    # ---- while it runs ----------------------------------------------------------------------------------------

    def ask_to_stop(self, directory: Path) -> bool:
        """Ask VASP to stop at the next electronic step (STOPCAR, LABORT)."""
        (directory / "STOPCAR").write_text("LABORT = .TRUE.\n", encoding="utf-8")
        return True

    def has_checkpoint(self, directory: Path) -> bool:
        """Tell whether there are wavefunctions; VASP leaves an empty WAVECAR when it is killed."""
        path = directory / "WAVECAR"
        return path.is_file() and path.stat().st_size > 0

    def iterations(self, directory: Path) -> tuple[float, ...]:
        """Return the energies of the electronic steps, in eV."""
        return files.electronic_energies(directory / "OSZICAR")

    # ---- output -----------------------------------------------------------------------------------------------

    def diagnose(self, directory: Path, status: int | None) -> Diagnosis | None:
        """Return the fault that VASP's words tell.

        Most of them are warnings that a run may survive: when it converged, only those count that spoil its result.
        """
        found = self.output_files(directory)
        converged = files.ending(directory / "OUTCAR") == "converged"
        told = find_signature(found, _SPOILT if converged else self.signatures)
        if told is not None and told.fault is Fault.SCF and (directory / "STOPCAR").is_file():
            # it was asked to stop before the end, and says so in whatever words
            return None
        if told is not None:
            # without the frame of VASP's boxes
            return replace(told, text=told.text.strip("| "))
        if not converged:
            for path in found[:2]:
                words = files.boxed_words(path.read_text(encoding="utf-8", errors="replace"))
                if words:
                    return Diagnosis(Fault.CRASH, words)
        return None

    def read(self, atoms: Atoms, directory: Path) -> Raw:
        """Read vasprun.xml; whether the self-consistency was reached is told by OUTCAR.

        Raises
        ------
        CalculationFailedError
            The run is not complete or not converged.
        """
        how = files.ending(directory / "OUTCAR")
        if how == "unconverged" and (directory / "STOPCAR").is_file():
            how = "stopped"
        if how != "converged":
            fault = Fault.SCF if how == "unconverged" else Fault.UNKNOWN
            text = {
                "unconverged": f"not converged in {len(self.iterations(directory))} iterations",
                "stopped": "VASP was stopped before self-consistency",
                "": "OUTCAR has no end of the self-consistency",
            }[how]
            raise CalculationFailedError(text, fault=fault)
        from ase.io.vasp import read_vasp_xml

        path = directory / "vasprun.xml"
        try:
            found = list(read_vasp_xml(str(path), index=-1))[-1]
            results = dict(found.calc.results) if found.calc is not None else {}
            energy, forces = float(results["free_energy"]), np.array(results["forces"], dtype=float)
        except (OSError, ElementTree.ParseError, LookupError, AttributeError, TypeError, ValueError) as error:
            # Fortran prints stars for a number that does not fit
            stars = "***" in str(error)
            raise CalculationFailedError(
                f"vasprun.xml has no energy and forces ({type(error).__name__}: {error})",
                fault=Fault.NAN if stars else Fault.UNKNOWN,
            ) from error
        back = np.argsort(files.species_order(atoms.numbers), kind="stable")
        if len(found) != len(atoms):
            raise CalculationFailedError(
                f"vasprun.xml is of {len(found)} atoms, {len(atoms)} were sent", fault=Fault.UNSOUND
            )
        crystal = kind_of(atoms) == "crystal"
        if crystal and results.get("stress") is None:
            raise CalculationFailedError("vasprun.xml has no stress", fault=Fault.UNKNOWN)
        echo = found[back]
        echo.calc = None
        _, sign = files.arranged(self.boxed(atoms))
        echo.set_cell(sign * echo.cell.array)
        moment = files.magnetic_moment(directory / "OSZICAR")
        details: dict[str, Any] = {
            "kpoints": list(self.grid(atoms)),
            "energy_extrapolated": float(results["energy"]),
            "iterations": len(self.iterations(directory)),
            "xc": self.settings.xc,
            "program_version": _program_version(path),
            **({} if moment is None else {"magnetic_moment": moment}),
        }
        stress = np.array(results["stress"], dtype=float) if crystal else None
        return Raw(energy=energy, forces=forces[back], stress=stress, details=details, echo=echo)

    # ---- advice -----------------------------------------------------------------------------------------------

    def propose(self, diagnosis: Diagnosis, directory: Path) -> Remedy | None:
        """Return more bands where VASP asks for them, else what custodian's own handlers for VASP would change.

        Handlers may change anything; what is not among `NUMERICS` is refused and written to `REFUSED`, unless the
        settings allow to change the energy and the change is a factor on one of them.
        """
        if diagnosis.fault not in {Fault.SCF, Fault.DIAGONALISER, Fault.SYMMETRY, Fault.GRID, Fault.UNSOUND}:
            return None
        if diagnosis.fault is Fault.UNSOUND:
            bands = files.number_of_bands(directory / "OUTCAR")
            if bands is None or not re.search(_SPOILT[1].pattern, diagnosis.text):
                return None
            more = max(bands + 4, math.ceil(1.25 * bands))
            return Remedy(f"{more} bands instead of {bands}", frozenset({Fault.UNSOUND}), {"NBANDS": more})
        advice = self._advice.setdefault(directory.parent, Advice())
        remedy, refused, failed = advise(
            advice, diagnosis, directory, STDOUT, energy_changes=self.settings.allow_energy_changes
        )
        self._refused[directory] = tuple(refused)
        if refused or failed:
            (directory / REFUSED).write_text(
                "".join(f"{text}\n" for text in (*refused, *failed)), encoding="utf-8"
            )
        return remedy

    def refused(self, directory: Path) -> tuple[str, ...]:
        """Return the handlers' changes that `propose` refused for this attempt."""
        return self._refused.get(directory, ())


def _program_version(vasprun: Path) -> str:
    with vasprun.open(encoding="utf-8", errors="replace") as stream:
        found = re.search(r'<i name="version"[^>]*>\s*([^<\s]+)', stream.read(2000))
    return found[1] if found else ""


ENGINE = VaspEngine
