"""What a report asks to be cited, by what the campaign used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gapfactory.campaign import Campaign

__all__ = ["citations"]

_ALWAYS: Final = (
    "C. J. Pickard, R. J. Needs, J. Phys.: Condens. Matter 23, 053201 (2011): random structure searching",
    "A. Jain et al., Concurr. Comput. Pract. Exp. 27, 5037 (2015): FireWorks",
)
_POTENTIALS: Final = {
    "gap": (
        "A. P. Bartók, M. C. Payne, R. Kondor, G. Csányi, Phys. Rev. Lett. 104, 136403 (2010): GAP",
        "A. P. Bartók, R. Kondor, G. Csányi, Phys. Rev. B 87, 184115 (2013): SOAP",
    ),
    "eddp": ("C. J. Pickard, Phys. Rev. B 106, 014102 (2022): EDDP and how it is made",),
}
_PROTOCOL: Final = "N. Bernstein, G. Csányi, V. L. Deringer, npj Comput. Mater. 5, 99 (2019): the protocol"
_VIBRATIONS: Final = (
    "C. Allen, A. P. Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022): vibrations and elasticity",
    "J. H. Lloyd-Williams, B. Monserrat, Phys. Rev. B 92, 184301 (2015): non-diagonal supercells",
    "A. Togo, I. Tanaka, Scr. Mater. 108, 1 (2015): phonopy",
)


def citations(campaign: Campaign) -> tuple[str, ...]:
    """Return protocol, potential, search, vibrations and queue."""
    # the chain is told by the paper on the potential
    protocol = () if campaign.protocol == "eddp-chain" else (_PROTOCOL,)
    vibrations = () if campaign.vibrations is None else _VIBRATIONS
    return (*protocol, *_POTENTIALS[campaign.potential], *_ALWAYS, *vibrations)
