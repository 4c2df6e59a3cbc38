"""How well a potential knows the surroundings of each atom, from the predictive variance of its SOAP terms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import PotentialError
from gapfactory.potentials.gap.model import SoapTerm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.potentials.gap.engine.evaluator import Engine
    from gapfactory.potentials.gap.engine.system import System

__all__ = ["relative_uncertainty"]

#: QUIP's default `gap_variance_regularisation`, eV
_REGULARISATION = 0.001


def relative_uncertainty(engine: Engine, structures: Sequence[Atoms] | System) -> NDArray[np.float64]:
    """Return the predictive standard deviation of each atom's SOAP energy as a fraction of its prior, shape (N,).

    0: the surroundings are those of a sparse point. 1: the sparse points say nothing about them. Of QUIP's whole
    local variance only this part tells: the variance of pairs and triplets is added up over all of them with a prior
    that does not vanish at the cutoff, so it counts neighbours.

    Parameters
    ----------
    engine
        The potential.
    structures
        What to judge.

    Raises
    ------
    PotentialError
        An atom's element has no SOAP term.
    """
    system = engine.system(structures)
    worst = np.full(system.n_atoms, -1.0)
    for term, numerical in zip(engine.model.terms, engine.terms, strict=True):
        if not isinstance(term, SoapTerm):
            continue
        variances = np.zeros(system.n_atoms)
        numerical.add(system, np.zeros(system.n_atoms), None, None, variances, regularisation=_REGULARISATION)
        centres = system.numbers == term.number
        # rounding may leave a variance slightly below zero where everything is known
        found = np.sqrt(np.clip(variances[centres], 0.0, None)) / term.delta
        worst[centres] = np.maximum(worst[centres], np.minimum(found, 1.0))
    if (worst < 0).any():
        number = int(system.numbers[int(np.argmax(worst < 0))])
        raise PotentialError(
            f"the potential has no SOAP term for atomic number {number}, so it does not tell how well it knows a "
            "structure: relax without max_uncertainty"
        )
    return worst
