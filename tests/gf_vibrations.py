"""Vibrations for tests: EMT aluminium as the reference, and potentials that differ from it in a known way."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit, urlunsplit

from ase.build import bulk
from ase.calculators.emt import EMT

from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.analysis.vibration_overview import CrystalVibrations, FitSize
from gapfactory.analysis.vibrations import Vibrations, vibration_cells, vibrations_by
from gapfactory.build.bain import bain_cell
from gapfactory.search.settings import PhaseRelaxSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ase import Atoms
    from pymongo.database import Database

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


def aluminium(factors: Mapping[str, float], *, name: str = "Al-fcc") -> CrystalVibrations:
    """Return fcc aluminium, the potentials' energies times factors."""
    reference, found = vibrations_of_factors(bulk("Al", a=LATTICE), factors)
    sizes = {}
    for variant in factors:
        labels = int(variant.split("-")[1]) if variant.startswith("learning") else 64
        sparse = 150 if variant.endswith("all") else 2 * labels
        sizes[variant] = FitSize(labels, 3 * labels, sparse, 1e3 * labels)
    return CrystalVibrations.of(name, reference, found, fits=sizes, trained=True)


def bain_path(
    etas: tuple[float, ...], factor: float, *, names: Mapping[float, str] | None = None
) -> list[CrystalVibrations]:
    """Return places on Bain's path at the volume of fcc aluminium."""
    a0 = (LATTICE**3 / 2.0) ** (1.0 / 3.0)
    made = []
    for eta in etas:
        reference, found = vibrations_of_factors(bain_cell("Al", a0, eta), {"": factor})
        made.append(
            CrystalVibrations.of(
                (names or {}).get(eta, f"Al-bain-{eta:.2f}"),
                reference,
                found,
                eta=eta,
                trained=eta in (0.0, 0.5, 1.0),
            )
        )
    return made


@contextmanager
def named_database(server: str, name: str) -> Iterator[tuple[str, Database[Any]]]:
    """Open a database of this name on a server, with its indexes; it is dropped afterwards."""
    from launchpad.database.connection import open_database
    from launchpad.database.indexes import ensure_indexes

    address = urlsplit(server)
    uri = urlunsplit(address._replace(path=f"/{name}"))
    database = open_database(uri)
    ensure_indexes(database)
    yield uri, database
    database.client.drop_database(name)
    database.client.close()


def stored_campaign(
    database: Database[Any], name: str, preset: str, crystals: Iterable[CrystalVibrations]
) -> None:
    """Store a campaign that has measured vibrations; crystals are those of its `vibrations.parents`."""
    from gapfactory.campaign import parse_campaign
    from launchpad.database.campaigns import create_campaign
    from launchpad.database.documents import VibrationDocument
    from launchpad.database.vibrations import save_vibrations, vibration_id

    text = f"preset: {preset}\nname: {name}\n"
    create_campaign(database, parse_campaign(text), text, {})
    for crystal in crystals:
        documents: list[tuple[Literal["reference", "potential"], str, Vibrations, dict[str, Any]]] = [
            ("reference", "", crystal.reference, {})
        ]
        documents += [
            ("potential", p.variant, p.vibrations, dataclasses.asdict(p.fit)) for p in crystal.potentials
        ]
        for method, variant, found, fit in documents:
            compared = crystal.by(variant) if method == "potential" else None
            save_vibrations(
                database,
                VibrationDocument(
                    id=vibration_id(name, 0, crystal.name, method, variant),
                    campaign=name,
                    generation=0,
                    parent=crystal.name,
                    method=method,
                    variant=variant,
                    data=found.as_dict(),
                    comparison=None
                    if compared is None
                    else compared.comparison.summary() | {"passed": compared.comparison.passed()},
                    fit=fit,
                ),
            )
