"""Engine `gpaw`: plane-wave density-functional theory, read through ASE's interface only."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import MissingEngineError
from gapfactory.reference.base import CalculationFailedError, EngineInfo, Raw, kind_of
from gapfactory.reference.kpoints import kpoint_grid

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

    from gapfactory.reference.settings import GpawSettings

__all__ = ["GpawEngine"]

# Recovery steps. Each changes how the same self-consistent solution is searched for, never which one: the
# functional, cutoff, k-points, occupations and convergence criteria stay.
_RUNGS: tuple[tuple[str, dict[str, Any], float], ...] = (
    ("plain", {"eigensolver": {"name": "davidson", "niter": 1}}, 1.0),
    (
        "damped mixing, two eigensolver steps per iteration",
        {
            "mixer": {"backend": "pulay", "beta": 0.05, "nmaxold": 8, "weight": 50.0},
            "eigensolver": {"name": "davidson", "niter": 2},
        },
        2.0,
    ),
    (
        "strongly damped mixing, random start, more bands",
        {
            "mixer": {"backend": "pulay", "beta": 0.02, "nmaxold": 5, "weight": 100.0},
            "eigensolver": {"name": "davidson", "niter": 3},
            "nbands": "150%",
            "random": True,
        },
        3.0,
    ),
    (
        "RMM-DIIS, damped mixing, no point-group symmetry",
        {
            "mixer": {"backend": "pulay", "beta": 0.05, "nmaxold": 5, "weight": 50.0},
            "eigensolver": "rmm-diis",
            "symmetry": {"point_group": False},
        },
        4.0,
    ),
)


class GpawEngine:
    """Calculates with GPAW in its plane-wave mode; one calculator object per structure."""

    def __init__(self, settings: GpawSettings) -> None:
        self._settings = settings
        self._hashes: dict[str, str] = {}

    def info(self) -> EngineInfo:
        """Return GPAW's version.

        Raises
        ------
        MissingEngineError
            GPAW cannot be imported, or knows the functional only with libxc and was built without.
        """
        try:
            import gpaw
        except ImportError as error:
            raise MissingEngineError(
                f"the reference engine gpaw is not installed here ({error}): `pip install gapfactory[gpaw]` "
                "(a C++ compiler is needed), or choose another engine."
            ) from error
        from gpaw.xc import XC

        try:
            XC(self._settings.xc)
        except (NameError, ImportError) as error:
            raise MissingEngineError(
                f"this GPAW cannot use the functional {self._settings.xc!r} ({error}): install Debian's libxc-dev and "
                "build GPAW again, or choose one of LDA, PBE, revPBE, RPBE and PW91."
            ) from error
        return EngineInfo(engine="gpaw", version=str(gpaw.__version__), hashes=dict(self._hashes))

    def require(self, symbols: Sequence[str]) -> None:
        """Make sure that every species has a PAW data set for the functional.

        Raises
        ------
        MissingEngineError
            One has none.
        """
        for symbol in symbols:
            _setup_hash(symbol, self._settings.xc)

    def rungs(self) -> tuple[str, ...]:
        """Return the recovery steps."""
        return tuple(name for name, _, _ in _RUNGS)

    def calculate(self, atoms: Atoms, *, rung: int, directory: Path) -> Raw:
        """Calculate one structure; GPAW's log stays in `directory`.

        Raises
        ------
        CalculationFailedError
            GPAW did not converge or refused the structure.
        MissingEngineError
            A species has no data set.
        """
        from gpaw import GPAW

        self._hash_setups(atoms)
        self._refuse_overlap(atoms)
        kind = kind_of(atoms)
        prepared, parameters = self.parameters(atoms, rung=rung)
        log = directory / "gpaw.txt"
        try:
            prepared.calc = GPAW(txt=str(log), **parameters)
            energy = float(prepared.get_potential_energy(force_consistent=True))
            extrapolated = float(prepared.get_potential_energy())
            forces = np.array(prepared.get_forces(), dtype=float)
            stress = np.array(prepared.get_stress(), dtype=float) if kind == "crystal" else None
            moment = (
                float(prepared.get_magnetic_moment())
                if prepared.calc.results.get("magmom") is not None
                else 0.0
            )
        except (OSError, ImportError, MemoryError):
            raise
        except Exception as error:
            raise CalculationFailedError(
                f"{type(error).__name__}: {str(error).strip() or 'not converged'}"
            ) from error
        details = {
            "kpoints": list(parameters["kpts"]["size"]),
            "energy_extrapolated": extrapolated,
            "magnetic_moment": moment,
            "recovery": _RUNGS[rung][0],
            "iterations": _iterations(log),
            "xc": self._settings.xc,
            "setups_sha256": {symbol: self._hashes[symbol] for symbol in sorted(set(atoms.symbols))},
        }
        return Raw(energy=energy, forces=forces, stress=stress, details=details)

    def parameters(self, atoms: Atoms, *, rung: int) -> tuple[Atoms, dict[str, Any]]:
        """Return the structure as GPAW sees it and GPAW's keywords."""
        s = self._settings
        kind = kind_of(atoms)
        _, changes, more = _RUNGS[rung]
        prepared = atoms.copy()
        prepared.calc = None
        prepared.set_initial_magnetic_moments(None)
        parameters: dict[str, Any] = {
            "mode": {"name": "pw", "ecut": s.cutoff_eV},
            "xc": s.xc,
            "kpts": {"size": s.kpoint_grid or kpoint_grid(prepared, s.kpoint_density), "gamma": True},
            "occupations": {"name": "fermi-dirac", "width": s.smearing_width_eV},
            "convergence": {
                "energy": s.energy_convergence_eV,
                "density": s.density_convergence,
                "eigenstates": s.eigenstates_convergence_eV2,
            },
            "symmetry": {"point_group": s.use_symmetry},
            "maxiter": int(s.max_iterations * more),
            **changes,
        }
        if kind != "crystal":
            # plane waves are periodic anyway; the box of an isolated structure is ours to choose
            vacuum = s.vacuum_isolated if kind == "isolated" else s.vacuum_dimer
            prepared.set_cell(np.ptp(prepared.positions, axis=0) + 2.0 * vacuum)
            prepared.center()
            prepared.pbc = True
            parameters["kpts"] = {"size": (1, 1, 1), "gamma": True}
            if kind == "isolated" and s.spin_isolated == "hund":
                parameters["hund"] = True
                # smeared occupations would let the moment drift (titanium: 3.2 instead of 2)
                parameters["occupations"] = {**parameters["occupations"], "fixmagmom": True}
            if kind == "dimer" and s.spin_dimer == "free":
                from ase.data import ground_state_magnetic_moments

                parameters["spinpol"] = True
                prepared.set_initial_magnetic_moments(ground_state_magnetic_moments[prepared.numbers])
        if parameters.get("spinpol") or parameters.get("hund"):
            mixer = parameters.get("mixer")
            if mixer is not None:
                parameters["mixer"] = {**mixer, "method": "difference"}
        return prepared, parameters

    def _refuse_overlap(self, atoms: Atoms) -> None:
        """Refuse atoms inside each other: with enough damping GPAW converges there, to numbers without meaning."""
        from ase.data import covalent_radii

        from gapfactory.search.evaluator import closest_within

        limit = self._settings.closest_approach
        closest = closest_within(atoms, limit * covalent_radii[atoms.numbers])
        if closest is not None:
            raise CalculationFailedError(
                f"two atoms are {closest:.2f} Å apart, below {limit} of the sum of their covalent radii: the atomic "
                "data sets overlap",
                hopeless=True,
            )

    def _hash_setups(self, atoms: Atoms) -> None:
        for symbol in sorted(set(atoms.symbols)):
            if symbol not in self._hashes:
                self._hashes[symbol] = _setup_hash(symbol, self._settings.xc)


def _setup_hash(symbol: str, xc: str) -> str:
    """Return the sha256 (hex) of the PAW data set GPAW uses for a species."""
    import gpaw

    name = f"{symbol}.{xc}"
    for folder in gpaw.setup_paths:
        for path in (Path(folder) / name, Path(folder) / f"{name}.gz"):
            if path.is_file():
                return hashlib.sha256(path.read_bytes()).hexdigest()
    raise MissingEngineError(
        f"GPAW has no PAW data set for {symbol} with {xc} (searched "
        f"{', '.join(map(str, gpaw.setup_paths)) or 'nowhere'}): `pip install gpaw-data` has those of LDA, "
        f"PBE, revPBE and RPBE; GPAW's own generator makes others (`gpaw-setup -f {xc} {symbol}`)."
    )


def _iterations(log: Path) -> int | None:
    """Return the number of self-consistency iterations that GPAW's log reports."""
    for line in reversed(log.read_text(errors="replace").splitlines()):
        words = line.split()
        if words[:2] == ["Converged", "in"]:
            return int(words[2])
    return None
