"""Crystals with analytic references, and the way from their frames to phonons and elastic constants by a potential.

Embedded-atom potentials are Debian's lammps-data, read by ASE; silicon is that of Stillinger and Weber.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.eam import EAM
from ase.neighborlist import neighbor_list

from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.analysis.vibration_overview import FitSize, PotentialVibrations
from gapfactory.analysis.vibration_study import StudyFrame, frames_cost
from gapfactory.analysis.vibrations import compare_vibrations, vibration_cells, vibrations_by
from gapfactory.build.commensurate import commensurate_grid
from gapfactory.build.nondiagonal import NondiagonalSettings, nondiagonal_cells
from gapfactory.build.single_displacements import SingleDisplacementSettings, single_displacements
from gapfactory.build.vibration_frames import FrameSettings, frame_count, vibration_frame
from gapfactory.elements import species
from gapfactory.potentials.gap import LabelledStructure, fit_gap, load_potential
from gapfactory.potentials.gap.presets import allen_2022
from gapfactory.reference.analytic import StillingerWeberSilicon
from gapfactory.reference.kpoints import primitive_grid
from gapfactory.search.phases import relax_phase
from gapfactory.search.settings import PhaseRelaxSettings
from gapfactory.seeds import Stage, stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.analysis.vibration_study import StudyFit
    from gapfactory.potentials.gap import GapSettings

POTENTIALS = Path("/usr/share/lammps/potentials")
FILES = {"Al": "Al_mm.eam.fs", "Mg": "Mg_mm.eam.fs", "W": "W_zhou.eam.alloy"}
STARTS = {
    "Al": bulk("Al", a=4.05),
    "W": bulk("W", a=3.165),
    "Si": bulk("Si", a=5.431),
    "Mg": bulk("Mg", "hcp", a=3.2, c=5.2),
}
#: spacing of k-points of the paper's Table 1, 1/Å (without 2 pi): what its frames would cost
SPACING = {"Al": 0.010, "Si": 0.030, "Mg": 0.012, "W": 0.015}
#: as tight as is cheap; the density of states is no claim
PHONONS = PhononSettings(dos_mesh=(8, 8, 8), path_density=8.0)
TIGHT = PhaseRelaxSettings(force_threshold=1e-4, cell_force_threshold=1e-4)


def missing(symbol: str) -> str:
    """Return why an element's reference cannot be had; empty if it can. A machine that promises all codes fails."""
    if symbol not in FILES or (POTENTIALS / FILES[symbol]).exists():
        return ""
    why = f"{POTENTIALS / FILES[symbol]} is not there (apt install lammps-data)"
    if os.environ.get("GAPFACTORY_REQUIRE_CODES") == "1":
        raise FileNotFoundError(why)
    return why


class Metal(Calculator):
    """An embedded-atom potential of one element: ASE's tables of it, without its loops over atoms."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - as in ASE

    def __init__(self, symbol: str) -> None:
        super().__init__()
        tables = EAM(potential=str(POTENTIALS / FILES[symbol]))
        self.cutoff = float(tables.cutoff)
        density = tables.electron_density
        self.pair = tables.phi[0, 0]
        self.density = density[0, 0] if tables.form == "fs" else density[0]
        self.embedding = tables.embedded_energy[0]
        self.slopes = [f.derivative() for f in (self.pair, self.density, self.embedding)]

    def calculate(self, atoms: Any = None, properties: Any = (), system_changes: Any = all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        atoms = self.atoms
        i, j, r, vector = neighbor_list("ijdD", atoms, self.cutoff)
        total = np.bincount(i, self.density(r), minlength=len(atoms))
        energy = 0.5 * float(self.pair(r).sum()) + float(self.embedding(total).sum())
        d_pair, d_density, d_embedding = self.slopes
        pull = d_embedding(total)
        # each pair is listed twice; the derivative by the vector of one of both
        by_vector = ((0.5 * d_pair(r) + pull[i] * d_density(r)) / r)[:, None] * vector
        forces = np.zeros((len(atoms), 3))
        np.add.at(forces, i, by_vector)
        np.add.at(forces, j, -by_vector)
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
        if atoms.cell.rank == 3:
            tensor = vector.T @ by_vector / atoms.get_volume()
            self.results["stress"] = (0.5 * (tensor + tensor.T)).ravel()[[0, 4, 8, 5, 2, 1]]


@dataclass(frozen=True)
class Frames:
    """Frames of one seed, and what studies know of them. Each is labelled when it is first asked for."""

    calculator: Any
    atoms: dict[str, Atoms]
    known: list[StudyFrame]
    labels: dict[str, LabelledStructure] = field(default_factory=dict)

    @property
    def own(self) -> list[str]:
        """Return the names of all frames but those in diagonal supercells."""
        return [frame.id for frame in self.known if frame.kind != "diagonal"]

    def add(self, name: str, kind: Any, atoms: Atoms, grid: Any) -> None:
        self.atoms[name] = atoms
        self.known.append(StudyFrame(name, kind, len(atoms), grid))

    def label(self, name: str) -> LabelledStructure:
        if name not in self.labels:
            work = self.atoms[name].copy()
            work.calc = self.calculator
            self.labels[name] = LabelledStructure(
                name, work, work.get_potential_energy(), work.get_forces(), work.get_stress()
            )
        return self.labels[name]


@dataclass
class Case:
    """One crystal, its reference, and potentials fitted to frames of it.

    `start` is relaxed, unless it is on a path where it is not at rest.
    """

    symbol: str
    phonons: PhononSettings = PHONONS
    start: Atoms | None = None
    at_rest: bool = True
    name: str = ""
    _frames: dict[Any, Frames] = field(default_factory=dict)

    @cached_property
    def calculator(self) -> Any:
        return StillingerWeberSilicon() if self.symbol == "Si" else Metal(self.symbol)

    @cached_property
    def crystal(self) -> Atoms:
        start = STARTS[self.symbol] if self.start is None else self.start
        if not self.at_rest:
            return start
        run = relax_phase(start, self.calculator, settings=TIGHT)
        assert run.status == "converged"
        return run.frame(-1)

    @cached_property
    def planned(self) -> Any:
        return vibration_cells(self.crystal, self.phonons)

    @cached_property
    def reference(self) -> Any:
        return vibrations_by(self.calculator, self.planned, method="reference", relax=None)

    @cached_property
    def kpoints(self) -> tuple[int, int, int]:
        """Return the k-grid that frames of this crystal would have: all cells the same k-points."""
        density = 1 / (2 * np.pi * SPACING[self.symbol])
        return primitive_grid(self.crystal, density, NondiagonalSettings().divisions)

    @cached_property
    def supercells(self) -> Any:
        return nondiagonal_cells(self.crystal, kpoints=self.kpoints)

    @cached_property
    def free(self) -> LabelledStructure:
        atom = Atoms(self.symbol, cell=np.eye(3) * 30)
        atom.calc = self.calculator
        return LabelledStructure("free", atom, atom.get_potential_energy(), None, None, "isolated")

    def frames(self, settings: FrameSettings, seed: int) -> Frames:
        """Return the frames of one seed, and the diagonal supercells."""
        key = (settings.digest(), seed)
        if key not in self._frames:
            found = Frames(self.calculator, {}, [])
            for n in range(frame_count(self.supercells, settings)):
                made = vibration_frame(
                    self.crystal, self.supercells, n, stream(seed, 0, Stage.SUPERCELL, n), settings
                )
                found.add(f"{self.name}frame{n:05d}", made.kind, made.atoms, made.grid)
            diagonal = SingleDisplacementSettings()
            grid = commensurate_grid(np.diag(diagonal.divisions), self.kpoints)
            for k, atoms in enumerate(single_displacements(self.crystal, diagonal)):
                found.add(f"{self.name}diagonal{k}", "diagonal", atoms, grid)
            self._frames[key] = found
        return self._frames[key]

    def gap(self, cutoff: float, n_max: int, l_max: int, n_sparse: int) -> GapSettings:
        """Return the paper's potential in another size."""
        element = species(self.symbol)
        paper = allen_2022(element)
        soap = {
            "n_sparse": n_sparse,
            "n_max": n_max,
            "l_max": l_max,
            "cutoff_covalent_in_r": cutoff / element.radius,
            "cutoff_metallic_in_r": cutoff / element.radius,
        }
        return paper.model_copy(update={"soap": paper.soap.model_copy(update=soap)})

    def potential(
        self, data: Sequence[LabelledStructure], gap: GapSettings, seed: int, unlabelled: Sequence[Atoms] = ()
    ) -> tuple[Any, int]:
        """Fit, and return a calculator and the number of sparse points."""
        with tempfile.TemporaryDirectory() as scratch:
            found = fit_gap(
                [self.free, *data],
                species=[species(self.symbol)],
                settings=gap,
                seed=lambda term: stream(seed, 0, Stage.SPARSE, term),
                workdir=Path(scratch),
                extra_sparse_structures=unlabelled,
            )
            return load_potential(found.directory), sum(found.stages[-1].n_sparse)

    def judged(self, potential: Any, variant: str = "", size: FitSize | None = None) -> PotentialVibrations:
        """Compare vibrations by a potential with the reference."""
        relax = PhaseRelaxSettings() if self.at_rest else None
        ours = vibrations_by(
            potential, self.planned, method=variant or "potential", like=self.reference, relax=relax
        )
        return PotentialVibrations(variant, ours, compare_vibrations(ours, self.reference), size or FitSize())

    def compared(
        self,
        frames: Frames,
        gap: GapSettings,
        seed: int,
        *,
        ids: Sequence[str] | None = None,
        unlabelled: Sequence[str] = (),
        variant: str = "",
    ) -> PotentialVibrations:
        """Fit to some frames, or to all but the diagonal ones, and compare vibrations with the reference."""
        chosen = frames.own if ids is None else list(ids)
        data = [frames.label(name) for name in chosen]
        potential, n_sparse = self.potential(data, gap, seed, [frames.atoms[name] for name in unlabelled])
        cost = frames_cost([frame for frame in frames.known if frame.id in set(chosen)])
        size = FitSize(len(data), sum(len(one.atoms) for one in data), n_sparse, cost.total)
        return self.judged(potential, variant, size)

    def studied(self, frames: Frames, study: StudyFit, seed: int) -> PotentialVibrations:
        """Fit what a study asks for, and compare."""
        return self.compared(
            frames, study.gap, seed, ids=study.ids, unlabelled=study.unlabelled, variant=study.variant
        )
