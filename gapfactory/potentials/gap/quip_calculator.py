"""The same potential through QUIP: the oracle of our own engine, and the proof that QUIP reads what we write."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from ase.calculators.calculator import Calculator, PropertyNotImplementedError, all_changes

from gapfactory.errors import PotentialError
from gapfactory.potentials.calculator import DEFAULT_LIMIT
from gapfactory.potentials.gap.files import XML_NAME, check_files, read_manifest
from gapfactory.potentials.gap.sparse import atoms_for_quip

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ase import Atoms

__all__ = ["QuipCalculator"]


@contextlib.contextmanager
def _drained() -> Iterator[None]:
    """Send what compiled code writes to standard output and error to a scratch file while the block runs."""
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as sink:
        saved = os.dup(1), os.dup(2)
        try:
            os.dup2(sink.fileno(), 1)
            os.dup2(sink.fileno(), 2)
            yield
        finally:
            os.dup2(saved[0], 1)
            os.dup2(saved[1], 2)
            os.close(saved[0])
            os.close(saved[1])


class QuipCalculator(Calculator):
    """A Gaussian approximation potential, evaluated by QUIP (quippy-ase, the extra `quip`).

    All properties come from one evaluation per geometry; asking for the energy first and the forces later
    costs nothing. A calculator holds a handle into compiled memory: it can be neither pickled nor copied.
    Pass the directory to the other process and load it there.

    Parameters
    ----------
    directory
        Holds `gap.xml`, its sparse-point files and `manifest.json`.
    properties
        `all`, or `energy` where forces and stress are not needed.

    Raises
    ------
    PotentialError
        On loading: if the potential is truncated, altered, incomplete or refused by QUIP. On evaluation: if QUIP
        fails or a result is not finite, or if the energy lies farther from the free atoms than the manifest's
        `energy_limit_per_atom`.
    """

    implemented_properties = ["energy", "free_energy", "energies", "forces", "stress"]  # noqa: RUF012 - as in ASE

    def __init__(self, directory: Path, *, properties: str = "all") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        manifest = read_manifest(directory)
        files = check_files(directory)
        self.path = directory
        self.digest = str(manifest.get("digest", ""))
        self.limit = float(manifest.get("energy_limit_per_atom", DEFAULT_LIMIT))
        self.e0 = dict(files.e0)
        self.cutoff = files.cutoff
        self._only_energy = properties == "energy"
        self._potential = self._load()

    def _load(self) -> Any:
        try:
            from quippy.potential import Potential
        except ImportError as error:
            msg = (
                f"quippy cannot be imported ({error}): install gapfactory[quip], or use load_potential, which needs "
                "no QUIP"
            )
            raise PotentialError(msg) from None
        try:
            with _drained():
                potential = Potential("", param_filename=str((self.path / XML_NAME).resolve()))
        except RuntimeError as error:
            msg = f"QUIP refuses the potential in {self.path}: {str(error).strip()}"
            raise PotentialError(msg) from None
        wanted = ["energy", "energies"] if self._only_energy else ["energy", "energies", "forces", "stress"]
        potential.calculation_always_required = True
        potential.set_default_properties(wanted)
        return potential

    def calculate(
        self,
        atoms: Atoms | None = None,
        properties: list[str] | None = None,
        system_changes: list[str] = all_changes,
    ) -> None:
        """Evaluate everything in one call; see `ase.calculators.calculator.Calculator.calculate`."""
        super().calculate(atoms, properties or ["energy"], system_changes)  # type: ignore[no-untyped-call]
        structure: Any = self.atoms
        prepared = atoms_for_quip(structure, self.cutoff)
        self._potential.results = {}
        try:
            self._potential.calculate(prepared, ["energy"])
        except RuntimeError as error:
            msg = f"QUIP fails on {structure.symbols} with the potential in {self.path}: {str(error).strip()}"
            raise PotentialError(msg) from None
        results = dict(self._potential.results)
        if not structure.pbc.all():
            results.pop("stress", None)  # the volume of a box is no property of a molecule
        for name, value in results.items():
            if not np.isfinite(value).all():
                msg = f"the {name} of {structure.symbols} is not finite with the potential in {self.path}"
                raise PotentialError(msg)
        free = sum((self.e0.get(int(z), 0.0) for z in structure.numbers), 0.0)
        per_atom = (float(results["energy"]) - free) / len(structure)
        if abs(per_atom) > self.limit:
            msg = (
                f"the energy of {structure.symbols} is {per_atom:.4g} eV/atom from the free atoms, beyond "
                f"{self.limit:g}: the structure lies outside what the potential in {self.path} knows"
            )
            raise PotentialError(msg)
        # `energies` are QUIP's local energies, which already contain the free atoms.
        self.results = results

    def get_property(self, name: str, atoms: Atoms | None = None, allow_calculation: bool = True) -> Any:
        """Return one property; stress of what is not periodic in three directions is not defined."""
        if name == "stress" and atoms is not None and not atoms.pbc.all():
            msg = "stress is defined only for structures that are periodic in three directions"
            raise PropertyNotImplementedError(msg)
        return super().get_property(name, atoms, allow_calculation)  # type: ignore[no-untyped-call]

    def _refuse(self) -> NoReturn:
        msg = (
            "a QuipCalculator cannot be pickled or copied: a copy would share, and free, the same compiled memory. "
            f"Call QuipCalculator({str(self.path)!r}) where it is needed, and copy atoms with atoms.copy()"
        )
        raise PotentialError(msg)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuse: pickle, copy.copy and copy.deepcopy all come through here."""
        self._refuse()
