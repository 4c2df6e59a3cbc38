"""A whole potential: the sum of its terms, free atoms and core potential, for batches of structures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap.engine.system import Cells, System, build_system
from gapfactory.potentials.gap.model import PairTerm, SoapTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.engine.term import TermEngine
    from gapfactory.potentials.gap.model import GapModel, Term

__all__ = ["Engine", "Results", "checked_results", "term_engine"]

# ASE's order: xx, yy, zz, yz, xz, xy
_VOIGT = ((0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1))


def term_engine(term: Term) -> TermEngine[Any]:
    """Return the engine of one term; raises PotentialError if its parameters are not supported."""
    if isinstance(term, SoapTerm):
        from gapfactory.potentials.gap.engine.soap import SoapEngine

        return SoapEngine(term)
    if isinstance(term, PairTerm):
        from gapfactory.potentials.gap.engine.pair import PairEngine

        return PairEngine(term)
    from gapfactory.potentials.gap.engine.triplet import TripletEngine

    return TripletEngine(term)


@dataclass(frozen=True)
class Results:
    """What a potential says about a batch of S structures with N atoms.

    Attributes
    ----------
    offsets : (S + 1,)
        Atoms of structure c are rows offsets[c]:offsets[c + 1] of everything local.
    energies : (S,)
        eV, free atoms and core potential included.
    local_energies : (N,)
        eV.
    forces : (N, 3)
        eV/Å; None if only energies were asked for.
    virials : (S, 3, 3)
        Minus the derivative of the energy by strain, eV; None likewise.
    stresses : (S, 6)
        xx, yy, zz, yz, xz, xy in ASE's sign, eV/Å^3; NaN where a direction is not periodic; None likewise.
    variances : (N,)
        Predictive variance of each atom as QUIP's `local_gap_variance`, eV^2; None if not asked for.
    """

    offsets: NDArray[np.int64]
    energies: NDArray[np.float64]
    local_energies: NDArray[np.float64]
    forces: NDArray[np.float64] | None
    virials: NDArray[np.float64] | None
    stresses: NDArray[np.float64] | None
    variances: NDArray[np.float64] | None

    def atoms_of(self, structure: int) -> slice:
        """Return the rows of one structure."""
        return slice(int(self.offsets[structure]), int(self.offsets[structure + 1]))


def checked_results(
    system: System,
    energies: NDArray[np.float64],
    forces: NDArray[np.float64] | None,
    virials: NDArray[np.float64] | None,
    variances: NDArray[np.float64] | None,
) -> Results:
    """Return results from local energies (N,), forces (N, 3), virials (S, 3, 3) and variances (N,).

    Raises
    ------
    PotentialError
        If an energy or a force is not finite.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # refused below, by the structure's number
        totals = np.add.reduceat(energies, system.offsets[:-1]) if system.n_cells else np.zeros(0)
    _check(system, totals, forces)
    stresses = None
    if virials is not None:
        symmetric = 0.5 * (virials + virials.transpose(0, 2, 1))
        stresses = -symmetric[:, _VOIGT[0], _VOIGT[1]] / system.volumes[:, None]
        stresses[~system.periodic.all(axis=1)] = np.nan
    return Results(
        offsets=system.offsets,
        energies=totals,
        local_energies=energies,
        forces=forces,
        virials=virials,
        stresses=stresses,
        variances=variances,
    )


def _check(system: System, totals: NDArray[np.float64], forces: NDArray[np.float64] | None) -> None:
    """Refuse results that are not finite."""
    good = np.isfinite(totals)
    if forces is not None:
        good[system.cell_of[~np.isfinite(forces).all(axis=1)]] = False
    if not good.all():
        cell = int(np.argmin(good))
        closest = "no neighbours"
        pairs = slice(int(system.first[system.offsets[cell]]), int(system.first[system.offsets[cell + 1]]))
        if pairs.start < pairs.stop:
            closest = f"closest pair {system.distance[pairs].min():.3g} Å"
        msg = f"the energy or a force of structure {cell} ({closest}) is not finite with this potential"
        raise PotentialError(msg)


class Engine:
    """Evaluates a potential.

    Calls share constants only: any number of threads and forked processes may use one engine at a time, and the
    compiled loops hold no lock. A structure's numbers do not depend on what else is in its batch. Pickles as its
    model.

    Parameters
    ----------
    model
        Terms, free atoms and core potential.

    Raises
    ------
    PotentialError
        If a term is not supported.
    """

    def __init__(self, model: GapModel) -> None:
        self.model = model
        self.terms: tuple[TermEngine[Any], ...] = tuple(term_engine(term) for term in model.terms)
        self._baseline: Any = None
        if model.baseline is not None:
            from gapfactory.potentials.gap.engine.baseline import BaselineEngine

            self._baseline = BaselineEngine(model.baseline)

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild from the model: the tables of the terms take milliseconds."""
        return (Engine, (self.model,))

    @property
    def cutoff(self) -> float:
        """Longest range of any term and of the core potential, Å."""
        return self.model.cutoff

    def system(self, structures: Sequence[Atoms] | Cells | System) -> System:
        """Return structures with their neighbours, ready for :meth:`evaluate`.

        Raises
        ------
        InputError
            As `build_system`.
        """
        return structures if isinstance(structures, System) else build_system(structures, self.cutoff)

    def evaluate(
        self,
        structures: Sequence[Atoms] | Cells | System,
        *,
        gradients: bool = True,
        variances: bool = False,
        regularisation: float = 0.001,
    ) -> Results:
        """Return energies of structures and what follows from them.

        Parameters
        ----------
        structures
            Any mix of crystals, slabs, clusters and atoms; or a `System` with neighbours to `cutoff` at least.
        gradients
            False: energies only, at about half the cost.
        variances
            Whether to compute the predictive variance of each atom; the first time costs a factorisation of
            the covariance of the sparse points of each term.
        regularisation
            QUIP's `gap_variance_regularisation`, eV.

        Raises
        ------
        InputError
            If a structure cannot be used.
        PotentialError
            If a structure has an element that the potential does not know, a system's neighbour list is too
            short, or a result is not finite.
        """
        system = self.system(structures)
        if system.cutoff < self.cutoff:
            msg = (
                f"the neighbour list ends at {system.cutoff} Å, the potential reaches {self.cutoff} Å; "
                "build it with Engine.system"
            )
            raise PotentialError(msg)
        n_atoms, n_cells = system.n_atoms, system.n_cells
        energies = self._free_atoms(system)
        forces = np.zeros((n_atoms, 3)) if gradients else None
        virials = np.zeros((n_cells, 3, 3)) if gradients else None
        spread = np.zeros(n_atoms) if variances else None
        for term in self.terms:
            term.add(system, energies, forces, virials, spread, regularisation=regularisation)
        if self._baseline is not None:
            self._baseline.add(system, energies, forces, virials, None)
        return checked_results(system, energies, forces, virials, spread)

    def _free_atoms(self, system: System) -> NDArray[np.float64]:
        """Return the (N,) energies of free atoms; refuse elements the potential has never seen."""
        known = set(self.model.numbers) | set(self.model.e0)
        if self.model.baseline is not None:
            known |= {item.number for item in self.model.baseline.types}
        energies = np.zeros(system.n_atoms)
        for number in np.unique(system.numbers):
            here = system.numbers == number
            if int(number) not in known:
                cell = int(system.cell_of[int(np.argmax(here))])
                msg = (
                    f"structure {cell} has an atom of atomic number {int(number)}, but the potential knows "
                    f"{sorted(known)} only"
                )
                raise PotentialError(msg)
            energies[here] = self.model.e0.get(int(number), 0.0)
        return energies
