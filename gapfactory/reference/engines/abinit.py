"""Engine `abinit`: plane waves with norm-conserving pseudopotentials or PAW data sets (ABINIT 9 or newer).

Inputs go through ASE's writer of ABINIT files. Without a file named for an element, the GTH
potential of the functional is taken from CP2K's data file and converted, so that every element is available in PBE.

ABINIT's total energy is the free energy E - TS, of which forces and stresses are derivatives.
"""

from __future__ import annotations

import math
import re
import shutil
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from gapfactory.errors import MissingEngineError
from gapfactory.reference.base import Raw, kind_of
from gapfactory.reference.engines._abinit_output import error_reports, read_output, scf_energies
from gapfactory.reference.engines._abinit_potentials import functional, potential_of
from gapfactory.reference.faults import CalculationFailedError, Diagnosis, Fault, Signature
from gapfactory.reference.ladder import Remedy
from gapfactory.reference.program import STDERR, STDOUT, ProgramEngine, text_of
from gapfactory.reference.settings import DftSettings, names_of_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ase import Atoms

    from gapfactory.reference.base import StructureKind
    from gapfactory.reference.engines._abinit_potentials import Potential

__all__ = ["AbinitEngine", "AbinitSettings"]

# Names that ABINIT derives from that of its input, and the file that a process other than the first leaves on errors.
_INPUT, _OUTPUT, _EIGENVALUES, _CHECKPOINT = "run.abi", "run.abo", "runo_EIG", "runo_WFK"
_CHECKPOINT_READ, _EXIT, _ABORTED = "runi_WFK", "abinit.exit", "__ABI_MPIABORTFILE__"

# Electrons in the highest band beyond which bands are missing: they would change the energy by about 1 meV.
_TOP_BAND = 1e-3
_BANDS_MISSING = "bands are missing"
_QUOTED = 300

# Words of ABINIT 9.6.2. Those marked (p) were provoked for real, the others are messages of the installed program that
# no calculation has shown yet.
_SIGNATURES = (
    # (p) address space limited: below what the cell needs, below what the libraries need, below what MPI needs
    Signature(Fault.MEMORY, r"Test failed to allocate an array|failed to map segment|out of dynamic memory"),
    Signature(Fault.MEMORY, r"Error allocating memory|Out-of-memory in"),
    # (p) MPI without memory, threads or room for its files: no structure is to blame
    Signature(Fault.NODE, r"An error occurred in MPI_Init|pmix_init failed"),
    # (p) a simple cubic cell with a 2 x 3 x 2 grid
    Signature(Fault.GRID, r"the k point grid is not symmetric"),
    Signature(Fault.GRID, r"A k-point generated from kptrlatt cannot be found in the BZ|Increase boxcutmin"),
    # (p) diamond with noise of 1e-5 Å; the first two come as warnings of calculations that end, with wrong energies
    # at the worst
    Signature(
        Fault.SYMMETRY,
        r"[Ii]nput symmetries do not form a group|Cannot find the inverse of symmetry operation|"
        r"Could not succeed to determine the bravais lattice|Could not find the point group|"
        r"Symmetrization cannot be performed|space group symmetry data is wrong|was not found by symmetry operations|"
        r"first symmetry is not the identity",
    ),
    # (p) mixing that diverges, to the end of the floating-point numbers
    Signature(Fault.NAN, r"^ ETOT .*(NaN|Infinity)|mixing of old trial potential: +NaN"),
    # (p) the same with another mixing: dhpev
    Signature(
        Fault.DIAGONALISER,
        r"\b(abi_)?[sdczSDCZ](hpev|hpgv|heev|heevd|hegv|potrf|pptrf|HEEV\w*|HEGV\w*|POTRF|PPTRF)\b.*"
        r"(returned info|failed to converge|illegal value)|DSYGVX? failed to converge|"
        r"eigenvectors failed to converge|of B is not positive definite|At line \d+ of file abi_x(heev|hegv)\.f90",
    ),
    # (p) mixing by conjugate gradients that diverges
    Signature(Fault.SCF, r"CG line minimization not converged"),
    # (p) 100 bands at 60 eV
    Signature(Fault.INPUT, r"Number of bands nband=.*> number of planewaves", hopeless=True),
)
# Sources of ABINIT that read and check inputs and pseudopotentials: what they report stays as it is.
_INPUT_SOURCES = re.compile(
    r"\((m_parser|m_intagm|m_invars\w*|m_ingeo|m_chkinp|m_dtset|m_psp\w*|m_pawpsp)\.F90\)$"
)
# Below this much free space (bytes) a failed write is one of the disk, whatever the library says.
_FULL = 1_000_000

_UNSOLVED = frozenset({Fault.SCF, Fault.NAN, Fault.DIAGONALISER})
# Most gentle first. Each was run on a rattled cell of silicon: energies within 0.001 meV/atom and forces within
# 0.4 meV/Å of the plain calculation. Later remedies keep the changes of earlier ones, hence the resets.
_LADDER = (
    Remedy(
        "more iterations from where it stopped",
        frozenset({Fault.SCF}),
        numerics={"steps": 2},
        resume=True,
    ),
    Remedy(
        "damped mixing, more steps of the solver",
        _UNSOLVED,
        numerics={"steps": 3, "diemix": 0.3, "nline": 6, "nnsclo": 2},
    ),
    Remedy("block solver (LOBPCG)", _UNSOLVED | {Fault.CRASH}, numerics={"wfoptalg": 114, "diemix": 0.5}),
    Remedy(
        "Anderson mixing, strongly damped",
        _UNSOLVED,
        numerics={"steps": 4, "iscf": 3, "diemix": 0.2, "wfoptalg": 0},
    ),
    Remedy("more bands, without symmetry", _UNSOLVED, numerics={"bands": 1.6, "nsym": 1, "iscf": 7}),
    Remedy("without symmetry", frozenset({Fault.GRID, Fault.SYMMETRY, Fault.CRASH}), numerics={"nsym": 1}),
    Remedy("finer FFT grid", frozenset({Fault.GRID}), numerics={"boxcutmin": 2.4}),
    Remedy("twice the smearing", frozenset({Fault.SCF}), settings={"smearing_width_eV": 2.0}),
)


class AbinitSettings(DftSettings):
    """Density-functional theory in plane waves with ABINIT."""

    engine: Literal["abinit"] = "abinit"
    """Name of the engine."""
    cutoff_eV: float = Field(default=600.0, ge=50)
    """Kinetic-energy cutoff of the plane waves, in eV."""
    pseudopotentials: dict[str, str] = Field(default_factory=dict)
    """By element: the name of a file in the site's directory, `gth` or the name of a GTH potential such as
    GTH-PBE-q4. Elements that are not named have the GTH potential of the functional."""
    fine_cutoff_factor: float = Field(default=2.0, ge=1)
    """Cutoff of the fine grid of PAW data sets over `cutoff_eV`; without influence on pseudopotentials."""
    energy_convergence_eV: float = Field(default=1e-7, gt=0)
    """Self-consistency is reached when the total energy changes by less than this twice in a row, in eV."""
    extra_bands: float = Field(default=0.3, ge=0)
    """Empty bands as a fraction of the occupied ones, beyond four. Their number does not change the energy: a
    calculation whose highest band is occupied is repeated with more."""
    use_symmetry: bool = True
    """Reduce k-points by the point group where the structure has one; time reversal is always used."""

    operational: ClassVar[frozenset[str]] = DftSettings.operational | {"extra_bands"}
    irrelevant: ClassVar[dict[StructureKind, frozenset[str]]] = dict(DftSettings.irrelevant)

    @field_validator("pseudopotentials")
    @classmethod
    def _files(cls, value: dict[str, str]) -> dict[str, str]:
        names_of_files(value.values())
        return value


class AbinitEngine(ProgramEngine):
    """Calculates with ABINIT; numerics of remedies are ABINIT's input variables, and `bands`, `steps` (factors)."""

    name: ClassVar[str] = "abinit"
    executable: ClassVar[str] = "abinit"
    relative_cost: ClassVar[float] = 1.5
    remedy_if_missing: ClassVar[str] = "`apt install abinit` (and cp2k-data for GTH potentials)"
    settings_class: ClassVar[type[AbinitSettings]] = AbinitSettings
    outputs: ClassVar[tuple[str, ...]] = (STDOUT, _OUTPUT, _ABORTED, STDERR)
    kept: ClassVar[tuple[str, ...]] = (_INPUT,)

    signatures: ClassVar[tuple[Signature, ...]] = _SIGNATURES
    ladder: ClassVar[tuple[Remedy, ...]] = _LADDER

    # ---- what is installed --------------------------------------------------------------------------------------

    def version(self) -> str:
        """Return ABINIT's version."""
        text = self.asked_version(["--version"])
        found = re.search(r"^\s*(\d+\.\d+\.\d+\S*)\s*$", text, re.MULTILINE)
        if found is None:
            raise MissingEngineError(
                f"{self.program()[0]} does not tell its version ({' '.join(text.split())[:200] or 'no output'}): "
                "is it ABINIT, and do its libraries load?"
            )
        return found[1]

    def data_hashes(self, symbols: Sequence[str]) -> dict[str, str]:
        """Return the sha256 of each species' pseudopotential, as ABINIT gets it."""
        return {symbol: self._potential(symbol).sha256 for symbol in symbols}

    def _potential(self, symbol: str) -> Potential:
        return potential_of(symbol, functional(self.settings.xc), self.settings.pseudopotentials, self.site)

    # ---- input --------------------------------------------------------------------------------------------------

    def arguments(self, directory: Path) -> list[str]:
        """Return the name of the input."""
        del directory
        return [_INPUT]

    def write(
        self, atoms: Atoms, directory: Path, numerics: Mapping[str, Any], *, checkpoint: Path | None
    ) -> None:
        """Write input and pseudopotentials; a checkpoint is linked under the name that ABINIT looks for."""
        from ase.io.abinit import write_abinit_in

        prepared = self.boxed(atoms)
        if prepared.cell.handedness < 0:
            # ABINIT wants a right-handed cell; the opposite vectors span the same lattice with the same k-points
            prepared.set_cell(-prepared.cell.array)
        symbols = sorted(set(prepared.symbols), key=lambda s: int(prepared.numbers[prepared.symbols == s][0]))
        potentials = {symbol: self._potential(symbol) for symbol in symbols}
        for potential in potentials.values():
            (directory / potential.file).write_bytes(potential.content)
        parameters = self._parameters(atoms, prepared, potentials, numerics)
        if checkpoint is not None:
            (directory / _CHECKPOINT_READ).symlink_to((checkpoint / _CHECKPOINT).resolve())
            parameters["irdwfk"] = 1
        with (directory / _INPUT).open("w", encoding="utf-8") as stream:
            write_abinit_in(
                stream, prepared, parameters, pseudos=[potentials[symbol].file for symbol in symbols]
            )

    def _parameters(
        self,
        atoms: Atoms,
        prepared: Atoms,
        potentials: Mapping[str, Potential],
        numerics: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Return ABINIT's variables; `prepared` gets the magnetic moments from which a dimer or an atom starts."""
        s = self.settings
        factors = {"bands": 1.0, "steps": 1.0}
        changes = {name: value for name, value in numerics.items() if name not in factors}
        factors |= {name: float(value) for name, value in numerics.items() if name in factors}
        electrons = sum(potentials[symbol].electrons for symbol in prepared.symbols)
        self._start_moments(atoms, prepared)
        starting = float(prepared.get_initial_magnetic_moments().sum())
        occupied = math.ceil((electrons + starting) / 2)
        parameters: dict[str, Any] = {
            "ecut": s.cutoff_eV,
            "ixc": functional(s.xc).ixc,
            "kptopt": 1,
            "ngkpt": list(self.grid(atoms)),
            "nshiftk": 1,
            "shiftk": [0.0, 0.0, 0.0],
            "occopt": 3,
            "tsmear": s.smearing_width_eV,
            "nband": math.ceil(factors["bands"] * (occupied * (1 + s.extra_bands) + 4)),
            "toldfe": s.energy_convergence_eV,
            "nstep": math.ceil(factors["steps"] * s.max_iterations),
            "optforces": 1,
            "optstress": 1 if kind_of(atoms) == "crystal" else 0,
            # with 1e-8 nothing is symmetrised, and positions rounded to eight digits gave a converged energy that was
            # wrong by 5 eV; with this, noise below 1e-5 is removed or the finder fails, which is seen
            "tolsym": 1e-5,
            # random cells of two atoms have inversion about no point of the FFT grid, which matters for GW only
            "chksymtnons": 0,
            # a grid with less symmetry than the cell would be weighted wrongly: ABINIT stops, and nsym 1 follows
            "chksymbreak": 1,
            # wavefunctions only where self-consistency was not reached: a checkpoint
            "prtwf": -1,
            "prtden": 0,
            "prtgsr": 0,
            "prtebands": 0,
            "prteig": 1,
        }
        if any(potential.paw for potential in potentials.values()):
            parameters["pawecutdg"] = s.fine_cutoff_factor * s.cutoff_eV
        if kind_of(atoms) != "crystal":
            # mostly vacuum: the model of a metal's response, the default, makes the first iterations slow
            parameters["diemac"] = 2.0
        if not s.use_symmetry:
            parameters["nsym"] = 1
        # without a minority electron ABINIT refuses a fixed moment; a free one cannot become larger either
        if kind_of(atoms) == "isolated" and 0 < starting < electrons:
            parameters["spinmagntarget"] = starting
        return {**parameters, **changes}

    def _start_moments(self, atoms: Atoms, prepared: Atoms) -> None:
        """Give `prepared` the magnetic moments from which an atom or a dimer starts; ASE's writer takes them."""
        from ase.data import ground_state_magnetic_moments

        if self.starts_polarised(atoms):
            prepared.set_initial_magnetic_moments(ground_state_magnetic_moments[prepared.numbers])

    # ---- while it runs ------------------------------------------------------------------------------------------

    def ask_to_stop(self, directory: Path) -> bool:
        """Ask for the end after the current iteration; the wavefunctions are written then."""
        (directory / _EXIT).write_text("exit\n")
        return True

    def has_checkpoint(self, directory: Path) -> bool:
        """Tell whether wavefunctions were written, and whole: ABINIT's output ends after them."""
        return (directory / _CHECKPOINT).is_file() and "Calculation completed." in text_of(
            directory / _OUTPUT
        )

    def iterations(self, directory: Path) -> tuple[float, ...]:
        """Return the total energies of the iterations, in eV."""
        # the log is written line by line, the main output in blocks
        return scf_energies(text_of(directory / STDOUT))

    # ---- result -------------------------------------------------------------------------------------------------

    def diagnose(self, directory: Path, status: int | None) -> Diagnosis | None:
        """Return the fault that signatures or ABINIT's own error reports show."""
        reports = [r for name in (STDOUT, _ABORTED) for r in error_reports(text_of(directory / name))]
        if status and shutil.disk_usage(directory).free < _FULL:
            # (p) the libraries call it «Permission denied» or «HDF error»
            return Diagnosis(
                Fault.DISK, reports[0][:_QUOTED] if reports else "no space is left where it runs"
            )
        found = super().diagnose(directory, status)
        if found is not None or not reports:
            return found
        refused = any(_INPUT_SOURCES.search(report) for report in reports)
        return Diagnosis(Fault.INPUT if refused else Fault.CRASH, reports[0][:_QUOTED], hopeless=refused)

    def propose(self, diagnosis: Diagnosis, directory: Path) -> Remedy | None:
        """Return more bands where the highest one was occupied."""
        used = re.search(r"^nband (\d+)", text_of(directory / _INPUT), re.MULTILINE)
        if used is None or not diagnosis.text.startswith(_BANDS_MISSING):
            return None
        more = math.ceil(1.6 * int(used[1]))
        return Remedy(f"{more} bands", frozenset({Fault.SCF}), numerics={"nband": more})

    def read(self, atoms: Atoms, directory: Path) -> Raw:
        """Return the result in the main output."""
        try:
            output = read_output(text_of(directory / _OUTPUT))
        except (ValueError, IndexError) as error:
            raise CalculationFailedError(f"the output cannot be read: {error}") from error
        if not output.complete:
            raise CalculationFailedError("the output does not end with «Calculation completed.»")
        if not output.converged:
            if output.stopped:
                raise CalculationFailedError("stopped as it was asked to before self-consistency")
            raise CalculationFailedError(f"{output.iterations} iterations were not enough", fault=Fault.SCF)
        self._refuse_missing_bands(directory)
        echo = output.atoms
        if atoms.cell.rank == 3 and atoms.cell.handedness < 0:
            echo.set_cell(-echo.cell.array)
        details = {
            "kpoints": list(self.grid(atoms)),
            "energy_extrapolated": output.energy - 0.5 * output.entropy_term,
            "magnetic_moment": output.moment,
            "iterations": output.iterations,
            "xc": self.settings.xc,
        }
        stress = output.stress if kind_of(atoms) == "crystal" else None
        return Raw(output.energy, output.forces, stress, details, echo)

    def _refuse_missing_bands(self, directory: Path) -> None:
        """Refuse a result whose highest band is occupied.

        Raises
        ------
        CalculationFailedError
            It is.
        """
        from ase.io.abinit import read_eig

        if "spinmagntarget" in text_of(directory / _INPUT):
            # two Fermi levels, of which one is printed; atoms have more empty bands than they need
            return
        with (directory / _EIGENVALUES).open(encoding="utf-8", errors="replace") as stream:
            bands = read_eig(stream)
        above = (bands["eigenvalues"][:, :, -1] - bands["fermilevel"]) / self.settings.smearing_width_eV
        per_state = 2 / len(above)
        electrons = float((per_state * bands["kpoint_weights"] / (1 + np.exp(np.minimum(above, 500)))).sum())
        if electrons > _TOP_BAND:
            raise CalculationFailedError(
                f"{_BANDS_MISSING}: the highest holds {electrons:.2g} electrons", fault=Fault.SCF
            )


ENGINE = AbinitEngine
