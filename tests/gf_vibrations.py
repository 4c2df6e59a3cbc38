"""Vibrations for tests: EMT aluminium as the reference, and potentials that differ from it in a known way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ase.build import bulk
from ase.calculators.emt import EMT

from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.analysis.vibration_overview import CrystalVibrations, FitSize
from gapfactory.analysis.vibrations import Vibrations, vibration_cells, vibrations_by
from gapfactory.build.bain import bain_cell
from gapfactory.search.settings import PhaseRelaxSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms

#: Small enough for a second or two.
SETTINGS = PhononSettings(
    grid=(2, 2, 2), compare_mesh=(4, 4, 4), dos_mesh=(8, 8, 8), path_density=8.0, dos_points=41
)
#: Lattice parameter of EMT aluminium at rest, Å.
LATTICE = 3.99493


class Scaled(EMT):
    """EMT with all energies times a factor: every frequency times its root, every elastic constant times it."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def calculate(self, *arguments: Any, **options: Any) -> None:
        """Calculate, then scale."""
        super().calculate(*arguments, **options)
        self.results = {key: self.factor * value for key, value in self.results.items()}


def vibrations_of_factors(
    crystal: Atoms, factors: Mapping[str, float], *, relax: bool = False
) -> tuple[Vibrations, dict[str, Vibrations]]:
    """Return vibrations by the reference, and by variants of it."""
    planned = vibration_cells(crystal, SETTINGS)
    how = PhaseRelaxSettings() if relax else None
    reference = vibrations_by(EMT(), planned, method="reference", relax=None)
    found = {
        name: vibrations_by(Scaled(factor), planned, method=name or "potential", like=reference, relax=how)
        for name, factor in factors.items()
    }
    return reference, found


def aluminium(factors: Mapping[str, float]) -> CrystalVibrations:
    """Return fcc aluminium, the potentials' energies times factors."""
    reference, found = vibrations_of_factors(bulk("Al", a=LATTICE), factors)
    sizes = {}
    for name in factors:
        labels = int(name.split("-")[1]) if name.startswith("learning") else 64
        sizes[name] = FitSize(labels, 3 * labels, 150 if name.endswith("all") else 2 * labels, 1e3 * labels)
    return CrystalVibrations.of("Al-fcc", reference, found, fits=sizes, trained=True)


def bain_path(etas: tuple[float, ...], factor: float) -> list[CrystalVibrations]:
    """Return places on Bain's path at the volume of fcc aluminium."""
    a0 = (LATTICE**3 / 2.0) ** (1.0 / 3.0)
    made = []
    for eta in etas:
        reference, found = vibrations_of_factors(bain_cell("Al", a0, eta), {"": factor})
        made.append(
            CrystalVibrations.of(
                f"Al-bain-{eta:.2f}", reference, found, eta=eta, trained=eta in (0.0, 0.5, 1.0)
            )
        )
    return made
