"""The steps of an anneal: Langevin dynamics of the atoms and Brownian dynamics of the cell, in a group's subspace.

Atoms: BAOAB (B. Leimkuhler, C. Matthews, J. Chem. Phys. 138, 174102 (2013)), half kick, half drift, exact
Ornstein-Uhlenbeck step of the velocities, half drift, half kick; one evaluation per step, velocity Verlet without
friction. ASE's own dynamics are not used: its Langevin keeps hidden state of a random generator and drives one
calculator, so it can neither stop between two evaluations, nor share them with other cells, nor go on from a stored
state to the same bits; its FixSymmetry averages momenta but counts 3 N degrees of freedom.

Cell: with fractional coordinates s and cell h, the isothermal-isobaric density is exp(-(U + p V) / kT) V^N ds dV. The
strain of the step, e, follows the Brownian dynamics of the free energy F that belongs to it, h -> h (1 + e),

    de = -(D / kT) dF/de dt + sqrt(2 D dt) w,      dF/de = V (stress + p) - kT (sum_i P_ii + 1),

with symmetric white noise w. P_ii is the block of atom i of the projector onto the free coordinates, 1 without
symmetry: kT P_ii is the mean of its kinetic stress. The last 1 makes the measure that of the volume. Left
multiplications by exp(e) leave Haar's measure of the cells alone, so no other drift is needed. The exponential map
makes steps of any size invertible. The velocities, whose distribution does not depend on the cell, stay.

Symmetry: the projector P = (1/n) sum_g of the group's matrices on displacements is orthogonal and commutes with the
masses, so projected noise and velocities are canonical in the invariant subspace, whose dimension is trace P. The
motion of the whole is projected out as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from ase.units import GPa, fs, kB

from gapfactory.search._batch_lbfgs import symmetrise

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.search.settings import AnnealSettings

__all__ = ["FreeMotion", "Noise", "Thermostat"]


class Noise:
    """Normal numbers that depend on (seed, run, step) alone, so that a state needs no generator.

    Parameters
    ----------
    seed
        Of the anneal, below 2**128.
    run
        Number of the run among those with this seed.
    """

    def __init__(self, seed: int, run: int) -> None:
        self._seed, self._run = seed, run

    def at(self, step: int) -> np.random.Generator:
        """Return the generator of one step; step 0 draws the starting velocities."""
        # the lower words of the counter count what a step draws
        return np.random.Generator(np.random.Philox(key=self._seed, counter=[0, 0, step, self._run]))


class FreeMotion:
    """What the atoms and the cell are free to do: everything but a motion of the whole, or what a group leaves.

    Parameters
    ----------
    start
        Structure whose operations are kept, exactly symmetric.
    masses
        (N,) in u.
    operations
        Cartesian rotations (G, 3, 3) and images (G, N) of the atoms, see `gapfactory.search.descent.operations`; None
        without symmetry. A symmetric strain commutes with them, so they hold throughout.
    """

    def __init__(
        self,
        start: Atoms,
        masses: NDArray[np.float64],
        operations: tuple[NDArray[np.float64], NDArray[np.int64]] | None,
    ) -> None:
        n = len(start)
        self._group = operations
        self._weights = masses / masses.sum()
        self._cell = start.cell.array.copy()
        self._fractional = np.linalg.solve(self._cell.T, start.positions.T).T
        if operations is None:
            self._blocks, of_whole = n * np.eye(3), 3.0
        else:
            rotations, images = operations
            stays = (images == np.arange(n)).sum(axis=1)
            self._blocks = np.einsum("g,gij->ij", stays.astype(float), rotations) / len(rotations)
            of_whole = float(np.trace(rotations, axis1=1, axis2=2).mean())
        #: degrees of freedom of the atoms, without the motion of the whole
        self.rank = round(float(np.trace(self._blocks)) - of_whole)

    @property
    def blocks(self) -> NDArray[np.float64]:
        """Sum over the atoms of their (3, 3) blocks of the projector."""
        return self._blocks

    def vectors(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project velocities (N, 3); the mean, weighted with the masses, goes."""
        if self._group is not None:
            values = symmetrise(*self._group, np.ascontiguousarray(values), np.zeros(6))[0]
        return values - self._weights @ values

    def forces(
        self, forces: NDArray[np.float64], stress: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Project forces (N, 3), and stress (6,) to a (3, 3) matrix."""
        if self._group is not None:
            forces, stress = symmetrise(*self._group, forces, stress)
        xx, yy, zz, yz, xz, xy = stress
        return forces, np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])

    def strain(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Project a symmetric strain (3, 3)."""
        if self._group is None:
            return values
        rotations = self._group[0]
        return np.asarray(np.einsum("gij,jk,glk->il", rotations, values, rotations) / len(rotations))

    def geometry(
        self, positions: NDArray[np.float64], cell: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Make positions (N, 3), which were never wrapped, and cell (3, 3) exactly symmetric."""
        if self._group is None:
            return positions, cell
        rotations, images = self._group
        # rows of a cell are turned from the right
        deformation = np.linalg.solve(self._cell, cell)
        deformation = np.einsum("gji,jk,gkl->il", rotations, deformation, rotations) / len(rotations)
        sites = self._fractional @ cell
        cell = self._cell @ deformation
        moved = symmetrise(rotations, images, np.ascontiguousarray(positions - sites), np.zeros(6))[0]
        return self._fractional @ cell + moved, cell


class Thermostat:
    """One step of atoms and cell.

    Parameters
    ----------
    settings
        Time step, friction, cell.
    temperature_K
        Temperature in K.
    masses
        (N,) in u.
    free
        What may move.
    noise
        Random numbers.
    pressure
        In eV/Å^3.
    volume
        Of the start, in Å^3: it sets how fast the cell moves.
    moves_cell
        Whether the cell moves.
    """

    def __init__(
        self,
        settings: AnnealSettings,
        temperature_K: float,
        masses: NDArray[np.float64],
        free: FreeMotion,
        noise: Noise,
        *,
        pressure: float,
        volume: float,
        moves_cell: bool,
    ) -> None:
        self._half = 0.5 * settings.timestep_fs * fs
        self._free, self._noise, self._pressure = free, noise, pressure
        self._masses = masses[:, None]
        self._kT = kB * temperature_K
        self._spread = np.sqrt(self._kT / self._masses)
        self._keep = float(np.exp(-settings.friction_per_ps * settings.timestep_fs / 1000.0))
        self._moves_cell = moves_cell
        # a volume of the given stiffness, V B / 2 (dV / V)^2, forgets where it was at the rate 3 D V B / kT
        rate = settings.timestep_fs / (1000.0 * settings.cell_time_ps)
        self._mobility = rate / (3.0 * volume * settings.bulk_modulus_GPa * GPa)

    def velocities(self) -> NDArray[np.float64]:
        """Return starting velocities (N, 3) from the distribution of the temperature, in ASE's units."""
        n = len(self._masses)
        return self._free.vectors(self._spread * self._noise.at(0).standard_normal((n, 3)))

    def kinetic(self, velocities: NDArray[np.float64]) -> float:
        """Return the kinetic energy in eV."""
        return 0.5 * float((self._masses * velocities**2).sum())

    def temperature(self, velocities: NDArray[np.float64]) -> float:
        """Return the temperature in K by the degrees of freedom; 0 where there are none."""
        return 2.0 * self.kinetic(velocities) / (kB * self._free.rank) if self._free.rank else 0.0

    def kick(self, velocities: NDArray[np.float64], forces: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the velocities after half a step in projected forces (N, 3)."""
        return velocities + self._half * self._free.vectors(forces / self._masses)

    def move(
        self,
        step: int,
        positions: NDArray[np.float64],
        velocities: NDArray[np.float64],
        cell: NDArray[np.float64],
        stress: NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float]:
        """Return positions, velocities and cell after what lies between two kicks, and the heat taken up (eV).

        Parameters
        ----------
        step
            Number of the step, from 1.
        positions, velocities, cell
            (N, 3), (N, 3) and (3, 3) before.
        stress
            (3, 3) projected, at these.
        """
        rng = self._noise.at(step)
        normal = rng.standard_normal(positions.shape)
        if self._moves_cell:
            drawn = rng.standard_normal((3, 3))
            factor = self._expanded(0.5 * (drawn + drawn.T), cell, stress)
            positions, cell = positions @ factor, cell @ factor
        positions = positions + self._half * velocities
        before = self.kinetic(velocities)
        if self._keep < 1.0:
            random = np.sqrt(1.0 - self._keep**2) * self._spread * normal
            velocities = self._keep * velocities + self._free.vectors(random)
        heat = self.kinetic(velocities) - before
        return positions + self._half * velocities, velocities, cell, heat

    def _expanded(
        self, noise: NDArray[np.float64], cell: NDArray[np.float64], stress: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return the symmetric matrix (3, 3) by which the cell is stretched."""
        volume = abs(float(np.linalg.det(cell)))
        ideal = self._kT * (self._free.blocks + np.eye(3))
        slope = volume * (stress + self._pressure * np.eye(3)) - 0.5 * (ideal + ideal.T)
        strain = -self._mobility * slope + np.sqrt(2.0 * self._mobility * self._kT) * self._free.strain(noise)
        values, axes = np.linalg.eigh(strain)
        # a strain that is no number is left to the guards
        return np.asarray((axes * np.exp(values)) @ axes.T)
