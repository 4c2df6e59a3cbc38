"""The potential of Allen and Bartók (2022), Table 2 and Section 3.3: SOAP alone, for phonons and elasticity."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from gapfactory.potentials.gap.settings import (
    DeltaSettings,
    GapSettings,
    SoapSettings,
    ThreeBodySettings,
    TwoBodySettings,
)
from gapfactory.potentials.gap.sigmas import AdaptiveSettings, SigmaSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gapfactory.potentials.gap.terms import SpeciesLike

__all__ = ["ALLEN_2022", "AllenSizes", "allen_2022"]

#: Not in the paper: QUIP's own width of the switching before the cutoff, A.
_TRANSITION_WIDTH: Final = 0.5
#: Not in the paper: cutoff of elements that it does not treat, in r. Its own are 4.3 to 7.0.
_CUTOFF_IN_R: Final = 5.5


@dataclass(frozen=True)
class AllenSizes:
    """One column of Table 2.

    Attributes
    ----------
    cutoff
        A.
    n_max, l_max
        Radial functions and largest angular momentum.
    virial_fraction, virial_floor
        Error of a virial component as a fraction of it, and the least, eV.
    """

    cutoff: float
    n_max: int = 8
    l_max: int = 6
    virial_fraction: float = 1e-2
    virial_floor: float = 1e-3


#: Table 2.
ALLEN_2022: Final[Mapping[str, AllenSizes]] = MappingProxyType(
    {
        "Mg": AllenSizes(8.0),
        "Al": AllenSizes(10.0, n_max=10, l_max=8, virial_fraction=5e-3, virial_floor=5e-4),
        "Si": AllenSizes(6.0),
        "W": AllenSizes(6.0),
    }
)


def allen_2022(species: SpeciesLike) -> GapSettings:
    """Return the settings of the paper's potential of an element.

    SOAP only, atom_sigma 0.5 A, delta 2 eV, zeta 4, 1400 sparse points, adaptive errors. Other elements than the
    paper's have the sizes of Si and W with a cutoff of 5.5 r.

    Parameters
    ----------
    species
        The element; with another radius than the tabulated one the cutoff in A is the same.
    """
    sizes = ALLEN_2022.get(species.symbol, AllenSizes(_CUTOFF_IN_R * species.radius))
    return GapSettings(
        two_body=TwoBodySettings(enabled=False),
        three_body=ThreeBodySettings(enabled=False),
        soap=SoapSettings(
            atom_sigma=0.5,
            n_sparse=1400,
            n_max=sizes.n_max,
            l_max=sizes.l_max,
            zeta=4.0,
            cutoff_covalent_in_r=sizes.cutoff / species.radius,
            cutoff_metallic_in_r=sizes.cutoff / species.radius,
            transition_width_in_r=_TRANSITION_WIDTH / species.radius,
        ),
        delta=DeltaSettings(fixed=(2.0,)),
        sigma=SigmaSettings(
            rule="adaptive",
            adaptive=AdaptiveSettings(
                energy=1e-3,
                force_fraction=1e-2,
                force_floor=1e-3,
                virial_fraction=sizes.virial_fraction,
                virial_floor=sizes.virial_floor,
            ),
        ),
    )
