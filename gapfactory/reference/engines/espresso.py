"""Engine `espresso`: Quantum ESPRESSO's pw.x (6.7 and later), read from its XML file.

The inputs are written here and not by ASE, whose writer rounds positions to 1e-10 Å; results are read from
``data-file-schema.xml``, which has every number in full, where ASE's reader has the rounded ones of the text output.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from xml.etree import ElementTree

from pydantic import Field, field_validator

from gapfactory.errors import MissingEngineError
from gapfactory.reference.base import Raw, kind_of
from gapfactory.reference.engines._espresso_pseudo import find_pseudopotential, pseudopotential_directory
from gapfactory.reference.faults import CalculationFailedError, Diagnosis, Fault, Signature, find_signature
from gapfactory.reference.ladder import Remedy
from gapfactory.reference.program import STDERR, STDOUT, ProgramEngine, text_of
from gapfactory.reference.settings import DftSettings, names_of_files

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy as np
    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.reference.base import StructureKind
    from gapfactory.reference.engines._espresso_pseudo import Pseudopotential
    from gapfactory.reference.site import ProgramSite

__all__ = ["EspressoEngine", "EspressoSettings"]

# The constants that pw.x itself uses (CODATA 2018), in eV and Å.
HARTREE = 27.211386245988
RYDBERG = HARTREE / 2
BOHR = 0.529177210903

_INPUT = "pw.in"
_PREFIX = "pw"
_OUT = "out"
# arguments of the attempt, and the layout of processes that a checkpoint's wavefunctions belong to
_LAYOUT = "layout.json"
# file in `_OUT` which pw.x leaves only when it stopped before the end as it was told to
_STOPPED = f"{_PREFIX}.restart_scf"
_DONE = "JOB DONE"
# what pw.x says before it goes on all the same spoils no result, unless it is one of these
_SPOILING = frozenset({Fault.OVERLAP, Fault.SCRATCH, Fault.NAN, Fault.SCF})


class EspressoSettings(DftSettings):
    """Density-functional theory with pseudopotentials and plane waves (Quantum ESPRESSO, pw.x)."""

    engine: Literal["espresso"] = "espresso"
    """Name of the engine."""
    xc: str = Field(default="PBE", min_length=1)
    """Exchange-correlation functional: that of the pseudopotentials, which are chosen and checked by it. LDA, PBE,
    PBEsol, revPBE and BLYP, or as the header of the files writes it."""
    cutoff_eV: float = Field(default=544.0, ge=50)
    """Kinetic-energy cutoff of the plane waves, in eV; 544 eV are 40 Ry. Against 60 Ry, energy differences of simple
    crystals are then within 0.7 meV/atom for Si, 0.5 for C, 0.2 for B, 1.2 for Cu and 2.9 for N (Debian's PBE sets);
    408 eV give 2.8 for Si and 2.5 for B."""
    density_cutoff_factor: float = Field(default=8.0, ge=4)
    """Cutoff of density and potential, as a multiple of the cutoff of the plane waves: 8 or more for ultrasoft and PAW
    sets, 4 for norm-conserving ones."""
    scf_accuracy_eV: float = Field(default=1e-7, gt=0)
    """Estimated error of the energy per atom at which self-consistency ends, in eV. Forces on rattled Si and C are then
    within 0.001 eV/Å of the converged ones; 1e-6 gives 0.002 and saves about one iteration in nine."""
    pseudopotentials: dict[str, str] = Field(default_factory=dict)
    """File per chemical symbol, in the site's directory of pseudopotentials. Not named: the only file there for the
    element and the functional, or the one preferred of Debian's collection."""
    use_symmetry: bool = True
    """Reduce k-points by the symmetry of the structure where it has any; time reversal is always used."""

    irrelevant: ClassVar[dict[StructureKind, frozenset[str]]] = DftSettings.irrelevant

    @field_validator("pseudopotentials")
    @classmethod
    def _files(cls, value: dict[str, str]) -> dict[str, str]:
        names_of_files(value.values())
        return value


class EspressoEngine(ProgramEngine):
    """Runs pw.x."""

    name: ClassVar[str] = "espresso"
    executable: ClassVar[str] = "pw.x"
    relative_cost: ClassVar[float] = 1.2
    remedy_if_missing: ClassVar[str] = (
        "install Quantum ESPRESSO (Debian: quantum-espresso and quantum-espresso-data)"
    )
    settings_class: ClassVar[type[DftSettings]] = EspressoSettings
    settings: EspressoSettings
    outputs: ClassVar[tuple[str, ...]] = (STDOUT, STDERR, "CRASH")
    kept: ClassVar[tuple[str, ...]] = (_INPUT,)

    # Provoked on pw.x 6.7: both texts of atoms on top of each other, the S matrix (ultrasoft sets at a small cutoff),
    # the Cholesky factor (26 processes on a matrix of 14), unconverged bands and a wrong charge (mixing 50 and 1e9),
    # sticks (a cell 0.6 Å thin) and descriptors (an FFT grid set too small), r-vectors, more bands than plane waves,
    # convergence not achieved, a full disk, memory limits, refused input, a missing file. Others: from its source.
    signatures: ClassVar[tuple[Signature, ...]] = (
        Signature(
            Fault.OVERLAP, r"atoms #\s*\d+ and #\s*\d+ (overlap|differ by lattice vector)", hopeless=True
        ),
        Signature(Fault.SCRATCH, r"file \./pseudo/.* not (found|readable)"),
        Signature(
            Fault.INPUT,
            r"more bands than PWs|too many bands, or too few plane waves|"
            r"Error in routine\s+(read_namelists|iosys|card_|read_cards|mp_start_pools|cell_base)",
            hopeless=True,
        ),
        Signature(Fault.DISK, r"error (while )?writing|error opening .*\./out/"),
        Signature(
            Fault.NAN, r"(total energy|estimated scf accuracy)\s*[=<]\s*([-+]?NaN|[-+]?Inf|\*+)|raket Ef"
        ),
        Signature(
            Fault.DIAGONALISER,
            r"problems computing cholesky|S matrix not positive definite|eigenvectors failed to converge|"
            r"too many bands are not converged|(dsygvd|zhegvd|qr\(X, 0\)) failed|problems computing inverse|"
            r"Error in routine .*([cr]diaghg|ppcg|paro|cegterg|regterg|rotate_)",
        ),
        Signature(
            Fault.SYMMETRY,
            r"lone vector|(Not|not) a group|Error in routine .*(sgam|sym_rho|symm_base|set_sym|inverse_s|coset|"
            r"divide_class|multable|checkallsym)",
        ),
        Signature(
            Fault.GRID,
            r"incompatible FFT grid|G_par is NOT a reciprocal lattice vector|some nodes have no k-points|"
            r"inconsistent number of sticks|too many r-vectors|"
            r"Error in routine .*(scale_sym_ops|kpoint_grid|irrek|allocate_fft|fft_type_|realspace_grid)",
        ),
        Signature(
            Fault.SCF, r"convergence NOT achieved|charge is wrong|negative dr2|Error in routine\s+broyden"
        ),
        # what its MPI library says where a page of shared memory is not to be had
        Signature(
            Fault.MEMORY,
            r"cannot allocate|failed to map segment|PMIX ERROR: OUT-OF-RESOURCE .*dstore|"
            r"Unable to start listen thread",
        ),
    )

    # Every remedy that is numerics only was run on rattled silicon: the energy is that of the plain calculation within
    # 1e-6 eV per atom, forces within 0.001 eV/Å (tests/integration/reference/test_espresso.py).
    ladder: ClassVar[tuple[Remedy, ...]] = (
        Remedy(
            "diagonalisation by conjugate gradients",
            frozenset({Fault.DIAGONALISER}),
            numerics={"diagonalization": "cg"},
        ),
        Remedy(
            "mixing 0.3, twice the iterations",
            frozenset({Fault.SCF, Fault.NAN, Fault.DIAGONALISER}),
            numerics={"mixing_beta": 0.3, "iterations": 2.0},
        ),
        Remedy(
            "mixing 0.1 of 20 densities, local Thomas-Fermi screening",
            frozenset({Fault.SCF, Fault.NAN, Fault.DIAGONALISER}),
            numerics={"mixing_beta": 0.1, "mixing_ndim": 20, "mixing_mode": "local-TF", "iterations": 3.0},
        ),
        Remedy(
            "diagonalisation by parallel orbital updates",
            frozenset({Fault.DIAGONALISER, Fault.SCF, Fault.NAN}),
            numerics={"diagonalization": "paro"},
        ),
        Remedy(
            "no symmetry",
            frozenset({Fault.SYMMETRY, Fault.GRID}),
            numerics={"nosym": True, "noinv": True},
        ),
        Remedy("smearing doubled", frozenset({Fault.SCF}), settings={"smearing_width_eV": 2.0}),
    )

    def __init__(self, settings: Any, site: ProgramSite) -> None:
        # where diagonalisation or the FFT fails, pw.x aborts without its last words, which wait in a buffer
        unbuffered = {"GFORTRAN_UNBUFFERED_PRECONNECTED": "y", **site.environment}
        super().__init__(settings, site.model_copy(update={"environment": unbuffered}))
        self._version = ""
        self._found: dict[str, Pseudopotential] = {}

    # ---- what is installed ------------------------------------------------------------------------------------

    def version(self) -> str:
        """Return the version that pw.x prints.

        Raises
        ------
        MissingEngineError
            It is not installed, or does not start.
        """
        if not self._version:
            text = self.asked_version([])
            found = re.search(r"Program PWSCF v\.(\S+)", text)
            if found is None:
                said = " ".join(text.split())[-300:]
                raise MissingEngineError(
                    f"{self.program()[0]} does not start as Quantum ESPRESSO's pw.x does; it says: {said or 'nothing'}"
                )
            self._version = found[1]
        return self._version

    def data_hashes(self, symbols: Sequence[str]) -> dict[str, str]:
        """Return the sha256 (hex) of each species' pseudopotential.

        Raises
        ------
        MissingEngineError
            One has none for the functional, or nothing decides between several.
        """
        return {symbol: self._pseudopotential(symbol).sha256() for symbol in sorted(set(symbols))}

    def _pseudopotential(self, symbol: str) -> Pseudopotential:
        if symbol not in self._found:
            self._found[symbol] = find_pseudopotential(
                symbol,
                self.settings.xc,
                pseudopotential_directory(self.site),
                self.settings.pseudopotentials,
            )
        return self._found[symbol]

    # ---- input ------------------------------------------------------------------------------------------------

    def write(
        self, atoms: Atoms, directory: Path, numerics: Mapping[str, Any], *, checkpoint: Path | None
    ) -> None:
        """Write pw.x's input, the pseudopotentials, and the density of a checkpoint.

        Parameters
        ----------
        atoms
            The structure.
        directory
            Empty.
        numerics
            mixing_beta, mixing_ndim, mixing_mode, diagonalization, nosym and noinv as pw.x understands them;
            `iterations`, a factor on their number; `pools`, 1 for k-points not divided among the processes.
        checkpoint
            Directory of an attempt whose density is continued; its files are moved, not copied.
        """
        prepared = self.boxed(atoms)
        grid = self.grid(atoms)
        arguments = self._parallel(prepared, grid, numerics)
        layout = {"arguments": arguments, "processes": self._processes()}
        keywords = self._keywords(atoms, numerics)
        if checkpoint is not None:
            shutil.move(checkpoint / _OUT, directory / _OUT)
            # the wavefunctions suit one distribution over processes, the density any
            if json.loads((checkpoint / _LAYOUT).read_text(encoding="utf-8")) == layout:
                keywords["control"]["restart_mode"] = "restart"
            else:
                keywords["electrons"]["startingpot"] = "file"
                for path in (directory / _OUT).glob(f"{_PREFIX}.*"):
                    if path.is_file():
                        path.unlink()
        (directory / _LAYOUT).write_text(json.dumps(layout), encoding="utf-8")
        pseudo = directory / "pseudo"
        pseudo.mkdir()
        for symbol in sorted(set(prepared.symbols)):
            path = self._pseudopotential(symbol).path
            # a path may be too long for pw.x or have blanks; where it finds no file, it takes the system's of that name
            shutil.copyfile(path, pseudo / path.name)
        text = _namelists(keywords) + self._cards(prepared, grid)
        (directory / _INPUT).write_text(text, encoding="utf-8")

    def _keywords(self, atoms: Atoms, numerics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        s, kind = self.settings, kind_of(atoms)
        system: dict[str, Any] = {
            "ibrav": 0,
            "nat": len(atoms),
            "ntyp": len(set(atoms.symbols)),
            "ecutwfc": s.cutoff_eV / RYDBERG,
            "ecutrho": s.cutoff_eV / RYDBERG * s.density_cutoff_factor,
            "occupations": "smearing",
            "smearing": "fermi-dirac",
            "degauss": s.smearing_width_eV / RYDBERG,
            **self._spin(atoms),
        }
        if kind == "crystal" and not s.use_symmetry:
            system["nosym"] = True
        system |= {name: numerics[name] for name in ("nosym", "noinv") if name in numerics}
        electrons: dict[str, Any] = {
            "conv_thr": s.scf_accuracy_eV * len(atoms) / RYDBERG,
            "electron_maxstep": math.ceil(s.max_iterations * numerics.get("iterations", 1.0)),
        }
        for name in ("mixing_beta", "mixing_ndim", "mixing_mode", "diagonalization"):
            if name in numerics:
                electrons[name] = numerics[name]
        control = {
            "calculation": "scf",
            "prefix": _PREFIX,
            "outdir": f"./{_OUT}",
            "pseudo_dir": "./pseudo",
            "tprnfor": True,
            "tstress": kind == "crystal",
        }
        return {"control": control, "system": system, "electrons": electrons}

    def _spin(self, atoms: Atoms) -> dict[str, Any]:
        """Return the keywords of spin: none for crystals, Hund's rule for atoms, ferromagnetic start for dimers."""
        from ase.data import ground_state_magnetic_moments

        moments = dict.fromkeys(_species(atoms), 0.0)
        if self.starts_polarised(atoms):
            for symbol, number in zip(atoms.symbols, atoms.numbers, strict=True):
                moments[symbol] = float(ground_state_magnetic_moments[number])
        if not any(moments.values()):
            return {}
        found: dict[str, Any] = {"nspin": 2}
        for index, (symbol, moment) in enumerate(moments.items(), 1):
            # fraction of the valence electrons; a value of 1 means one Bohr magneton from 7.3 on: full for hydrogen
            fraction = min(1.0, moment / self._pseudopotential(symbol).valence)
            found[f"starting_magnetization({index})"] = fraction
        if kind_of(atoms) == "isolated":
            found["tot_magnetization"] = sum(moments.values())
        return found

    def _cards(self, atoms: Atoms, grid: tuple[int, int, int]) -> str:
        from ase.data import atomic_masses, atomic_numbers

        lines = ["ATOMIC_SPECIES"]
        for symbol in _species(atoms):
            mass = atomic_masses[atomic_numbers[symbol]]
            lines.append(f"{symbol} {mass:.4f} {self._pseudopotential(symbol).path.name}")
        if grid == (1, 1, 1):
            # real wavefunctions: the same numbers at half the cost
            lines.append("K_POINTS gamma")
        else:
            lines += ["K_POINTS automatic", "{} {} {} 0 0 0".format(*grid)]
        lines.append("CELL_PARAMETERS angstrom")
        lines += [_numbers(row) for row in atoms.cell.array]
        lines.append("ATOMIC_POSITIONS angstrom")
        lines += [f"{s} {_numbers(row)}" for s, row in zip(atoms.symbols, atoms.positions, strict=True)]
        return "\n".join(lines) + "\n"

    def _processes(self) -> int:
        return self.site.processes if self.site.launcher else 1

    def _parallel(self, atoms: Atoms, grid: tuple[int, int, int], numerics: Mapping[str, Any]) -> list[str]:
        """Return arguments that divide k-points, and no small matrices, among the processes."""
        processes = self._processes()
        if processes == 1:
            return []
        if numerics.get("pools") == 1:
            return ["-nk", "1", "-ndiag", "1"]
        reduction = 1 if numerics.get("noinv") else 2
        if self.settings.use_symmetry and not numerics.get("nosym"):
            reduction = _symmetries(atoms)
        fewest = -(-math.prod(grid) // reduction)
        pools = max(n for n in range(1, processes + 1) if processes % n == 0 and n <= fewest)
        return ["-nk", str(pools), "-ndiag", "1"]

    def arguments(self, directory: Path) -> list[str]:
        """Return pw.x's arguments: the input file, and how the processes share the work."""
        layout = json.loads((directory / _LAYOUT).read_text(encoding="utf-8"))
        return ["-in", _INPUT, *layout["arguments"]]

    # ---- while and after it runs ------------------------------------------------------------------------------

    def ask_to_stop(self, directory: Path) -> bool:
        """Leave the file at which pw.x stops after the k-point it is at."""
        (directory / f"{_PREFIX}.EXIT").touch()
        return True

    def has_checkpoint(self, directory: Path) -> bool:
        """Tell whether pw.x stopped as it was asked to and left its density."""
        out = directory / _OUT
        return (
            (directory / _LAYOUT).is_file()
            and any(out.glob(f"{_STOPPED}*"))
            and any(out.glob(f"{_PREFIX}.save/charge-density.*"))
        )

    def iterations(self, directory: Path) -> tuple[float, ...]:
        """Return the energies of the self-consistency iterations, in eV."""
        text = text_of(directory / STDOUT)
        found = re.findall(r"^!?\s+total energy\s+=\s*(\S+) Ry", text, re.MULTILINE)
        energies = (_number(word) for word in found)
        return tuple(RYDBERG * energy for energy in energies if energy is not None)

    def diagnose(self, directory: Path, status: int | None) -> Diagnosis | None:
        """Return the fault that the outputs show, with the message of pw.x, or None when they show none."""
        said = text_of(directory / STDOUT)
        # «Not a group! Trying with lower acceptance parameter...» is followed by a result; so are words of its MPI
        telling = [s for s in self.signatures if _DONE not in said or s.fault in _SPOILING]
        found = find_signature(self.output_files(directory), telling)
        error = re.search(r"Error in routine\s+(.+?) \(.*?\):\s*\n(.*?)\n\s*%{20}", said, re.DOTALL)
        if error is not None:
            message = f"pw.x stopped in {error[1].strip()}: {' '.join(error[2].split())}"[:300]
            return Diagnosis(Fault.CRASH, message) if found is None else replace(found, text=message)
        return found

    def propose(self, diagnosis: Diagnosis, directory: Path) -> Remedy | None:
        """Return the undoing of k-point pools, each of which has the whole density, where memory was too small."""
        if diagnosis.fault is Fault.MEMORY and (directory / _LAYOUT).is_file():
            arguments = json.loads((directory / _LAYOUT).read_text(encoding="utf-8"))["arguments"]
            if arguments[:1] == ["-nk"] and arguments[1] != "1":
                return Remedy(
                    "k-points not divided among processes", frozenset({Fault.MEMORY}), numerics={"pools": 1}
                )
        return None

    def read(self, atoms: Atoms, directory: Path) -> Raw:
        """Return the results in pw.x's XML file, which it writes after everything else.

        Raises
        ------
        CalculationFailedError
            The file is missing or incomplete, or self-consistency was not reached.
        """
        said = text_of(directory / STDOUT)
        path = directory / _OUT / f"{_PREFIX}.xml"
        if _DONE not in said or not path.is_file():
            raise CalculationFailedError("pw.x ended before its results were complete")
        try:
            output = _child(ElementTree.parse(path).getroot(), "output")  # noqa: S314 - own program's file
            if _text(output, "convergence_info/scf_conv/convergence_achieved") != "true":
                raise CalculationFailedError("self-consistency was not reached", fault=Fault.SCF)
            return self._raw(atoms, output)
        except (ElementTree.ParseError, KeyError, ValueError) as error:
            raise CalculationFailedError(f"pw.x's {path.name} cannot be used: {error}") from error

    def _raw(self, atoms: Atoms, output: ElementTree.Element) -> Raw:
        import numpy as np

        energy = HARTREE * float(_text(output, "total_energy/etot"))
        forces = np.array(_text(output, "forces").split(), dtype=float).reshape(-1, 3)
        stress = None
        if kind_of(atoms) == "crystal":
            # pw.x counts compression as positive
            tensor = np.array(_text(output, "stress").split(), dtype=float).reshape(3, 3)
            stress = -HARTREE / BOHR**3 * tensor
        # minus TS, with which Fermi-Dirac occupations extrapolate to zero width
        entropy = HARTREE * float(_text(output, "total_energy/demet", "0"))
        details = {
            "kpoints": list(self.grid(atoms)),
            "energy_extrapolated": energy - 0.5 * entropy,
            "magnetic_moment": float(_text(output, "magnetization/total", "0")),
            "iterations": int(_text(output, "convergence_info/scf_conv/n_scf_steps")),
            "xc": self.settings.xc,
        }
        return Raw(
            energy=energy,
            forces=HARTREE / BOHR * forces,
            stress=stress,
            details=details,
            echo=_structure(_child(output, "atomic_structure")),
        )


def _species(atoms: Atoms) -> list[str]:
    """Return the chemical symbols in the order in which the input numbers them."""
    return sorted(set(atoms.symbols))


def _namelists(keywords: Mapping[str, Mapping[str, Any]]) -> str:
    lines = []
    for name, values in keywords.items():
        lines += [f"&{name}", *(f"  {key} = {_fortran(value)}" for key, value in values.items()), "/"]
    return "\n".join(lines) + "\n"


def _fortran(value: Any) -> str:
    if isinstance(value, bool):
        return ".true." if value else ".false."
    if isinstance(value, float):
        return f"{value:.15g}"
    return str(value) if isinstance(value, int) else f"'{value}'"


def _numbers(row: Sequence[float]) -> str:
    # 17 digits give back the same double
    return " ".join(f"{float(x):.16e}" for x in row)


def _number(word: str) -> float | None:
    """Return a number of the text output, or None for the stars and NaN of a diverged iteration."""
    try:
        number = float(word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _child(element: ElementTree.Element, path: str) -> ElementTree.Element:
    found = element.find(path)
    if found is None:
        raise KeyError(f"no element {path!r}")
    return found


def _text(element: ElementTree.Element, path: str, default: str | None = None) -> str:
    if default is not None and element.find(path) is None:
        return default
    return (_child(element, path).text or "").strip()


def _structure(element: ElementTree.Element) -> Atoms:
    """Return the structure of an ``atomic_structure`` element, which has it in Bohr."""
    import numpy as np
    from ase import Atoms

    sites = _child(element, "atomic_positions").findall("atom")
    cell = [[float(x) for x in _text(element, f"cell/a{i}").split()] for i in (1, 2, 3)]
    positions = [[float(x) for x in (site.text or "").split()] for site in sites]
    return Atoms(
        [site.attrib["name"] for site in sites],
        positions=BOHR * np.array(positions).reshape(-1, 3),
        cell=BOHR * np.array(cell),
        pbc=True,
    )


def _symmetries(atoms: Atoms) -> int:
    """Return an upper bound of the factor by which symmetry and time reversal reduce the k-points: 2 to 48.

    The rotations of the lattice that map the atoms on themselves, to a tolerance far wider than that of pw.x, twice
    as many where inversion is not one of them.
    """
    import numpy as np
    from ase.geometry import minkowski_reduce

    cell = minkowski_reduce(atoms.cell.array)[0]
    # rotations of a reduced basis have elements -1, 0 and 1
    elements = np.stack(np.meshgrid(*[(-1, 0, 1)] * 9, indexing="ij"), axis=-1).reshape(-1, 3, 3)
    metric = cell @ cell.T
    away = np.abs(elements @ metric @ elements.transpose(0, 2, 1) - metric).max(axis=(1, 2))
    rotations = elements[away < 1e-3 * np.abs(metric).max()]
    places = np.linalg.solve(cell.T, atoms.positions.T).T
    kinds, counts = np.unique(atoms.numbers, return_counts=True)
    rarest = places[atoms.numbers == kinds[counts.argmin()]]

    def kept(rotation: NDArray[np.int64]) -> bool:
        turned = places @ rotation
        for shift in rarest - rarest[0] @ rotation:
            apart = turned[:, None] + shift - places[None]
            apart -= np.round(apart)
            near = np.linalg.norm(apart @ cell, axis=2) < 1e-2
            near &= atoms.numbers[:, None] == atoms.numbers[None]
            if near.any(axis=1).all():
                return True
        return False

    group = [rotation for rotation in rotations if kept(rotation)]
    inversion = any((rotation == -np.eye(3)).all() for rotation in group)
    return len(group) * (1 if inversion else 2)


ENGINE = EspressoEngine
