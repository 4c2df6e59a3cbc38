"""The cost of a structure: how far the environments of its atoms are from those in target crystals.

With the full environment vectors F of length D (`gapfactory.potentials.eddp.features`), the one-body features of the
atom's own species included, and the targets' vectors T_j (Pickard 2024, doi:10.1039/d4fd00134f, Eqs. 1 to 3),

    c_ij = ln(beta / D^2 |F_i - T_j|^2 + 1)
    hard minimum:  E = sum_i min_j c_ij
    soft minimum:  E = - sum_i 1/alpha ln(1/M sum_j exp(-alpha c_ij))

j runs over all M atoms of the targets. Environments that are the same are kept once, with their number as a weight in
the sum, which is the same cost. Without that weight, a target whose environments all occur equally often would cost the
same, and another one more or less for each atom, by at most the logarithm of the ratio of their numbers over alpha.
The cost has no unit; as a potential it is read as eV.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from gapfactory.errors import InputError, PotentialError
from gapfactory.potentials.eddp.features import Features
from gapfactory.potentials.gap._arrays import ArrayData, as_array, check_positive

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.potentials.datum.settings import CostSettings

__all__ = ["DatumCost"]

#: environments nearer to each other than this are the same one; structures from files agree to some 1e-12
_SAME = 1e-8


@dataclass(frozen=True, eq=False)
class DatumCost(ArrayData):
    """Environments of target crystals, and what a distance from them costs.

    Attributes
    ----------
    features
        The environment vector.
    kinds : (T,)
        Species of each distinct environment, as index into `features.symbols`.
    environments : (T, L)
        Their local vectors.
    counts : (T,)
        Atoms of the targets that have each.
    alpha, beta, minimum
        See `CostSettings`.
    """

    features: Features
    kinds: NDArray[np.int64]
    environments: NDArray[np.float64]
    counts: NDArray[np.float64]
    alpha: float
    beta: float
    minimum: Literal["soft", "hard"]

    def __post_init__(self) -> None:
        as_array(self, "environments", (None, self.features.local_length))
        as_array(self, "counts", (len(self.environments),))
        object.__setattr__(self, "kinds", np.ascontiguousarray(self.kinds, dtype=np.int64))
        check_positive(self, "alpha", "beta")
        if len(self.environments) == 0:
            msg = "a cost needs at least one target environment"
            raise PotentialError(msg)

    @classmethod
    def from_targets(cls, targets: Sequence[Atoms], settings: CostSettings) -> DatumCost:
        """Return the cost of the distance from these crystals; their species are those that it knows.

        Raises
        ------
        InputError
            There is no target, or one cannot be used.
        """
        symbols = sorted({symbol for atoms in targets for symbol in atoms.get_chemical_symbols()})
        if not symbols:
            msg = "a datum cost needs a target crystal with atoms: name a phase or a file"
            raise InputError(msg)
        features = Features.from_settings(settings.features, symbols)
        system = features.system(targets)
        kinds = features.kinds(system)
        local = features.local(system, kinds)
        kept: list[int] = []
        counts: list[int] = []
        for atom, kind in enumerate(kinds):
            for place, other in enumerate(kept):
                if kinds[other] == kind and np.abs(local[other] - local[atom]).max() < _SAME:
                    counts[place] += 1
                    break
            else:
                kept.append(atom)
                counts.append(1)
        return cls(
            features,
            kinds[kept],
            local[kept],
            np.array(counts, dtype=float),
            settings.alpha,
            settings.beta,
            settings.minimum,
        )

    @property
    def n_targets(self) -> int:
        """Number M of target environments, same ones counted apart."""
        return int(self.counts.sum())

    def hashes(self) -> dict[str, str]:
        """Return the sha256 (hex) of the target environments of each species, to six decimals."""
        found = {}
        for kind, symbol in enumerate(self.features.symbols):
            here = self.kinds == kind
            rows = np.column_stack([self.counts[here], np.round(self.environments[here], 6)]) + 0.0
            order = np.lexsort(rows.T[::-1])
            text = "\n".join(" ".join(f"{x:.6f}" for x in row) for row in rows[order])
            found[symbol] = hashlib.sha256(text.encode()).hexdigest()
        return found
