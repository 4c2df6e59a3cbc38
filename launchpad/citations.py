"""What is to be cited, by what a campaign used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gapfactory.campaign import Campaign

__all__ = ["citations"]

_SEARCH: Final = "C. J. Pickard, R. J. Needs, J. Phys.: Condens. Matter 23, 053201 (2011): random search"
_QUEUE: Final = "A. Jain et al., Concurr. Comput. Pract. Exp. 27, 5037 (2015): FireWorks"
_POTENTIALS: Final = {
    "gap": (
        "A. P. Bartók, M. C. Payne, R. Kondor, G. Csányi, Phys. Rev. Lett. 104, 136403 (2010): GAP",
        "A. P. Bartók, R. Kondor, G. Csányi, Phys. Rev. B 87, 184115 (2013): SOAP",
    ),
    "eddp": ("C. J. Pickard, Phys. Rev. B 106, 014102 (2022): EDDP and how it is made",),
}
_DE_NOVO: Final = "N. Bernstein, G. Csányi, V. L. Deringer, npj Comput. Mater. 5, 99 (2019): the protocol"
_BORON: Final = (
    "V. L. Deringer, C. J. Pickard, G. Csányi, Phys. Rev. Lett. 120, 156001 (2018): snapshots of searches"
)
#: The chain is told by the paper on the potential, vibrations by theirs; a search is told by what it does.
_PROTOCOLS: Final = {"de-novo-2019": (_DE_NOVO,), "boron-2018": (_BORON, _DE_NOVO)}
_VIBRATIONS: Final = (
    "C. Allen, A. P. Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022): vibrations and elasticity",
    "J. H. Lloyd-Williams, B. Monserrat, Phys. Rev. B 92, 184301 (2015): non-diagonal supercells",
    "A. Togo, I. Tanaka, Scr. Mater. 108, 1 (2015): phonopy",
)
_HOT: Final = "C. J. Pickard, Faraday Discuss. 256, 61 (2025): hot random search, datum-derived structures"
_ENGINES: Final = {
    "gpaw": ("J. J. Mortensen et al., J. Chem. Phys. 160, 092503 (2024): GPAW",),
    "espresso": (
        "P. Giannozzi et al., J. Phys.: Condens. Matter 21, 395502 (2009): Quantum ESPRESSO",
        "P. Giannozzi et al., J. Phys.: Condens. Matter 29, 465901 (2017): Quantum ESPRESSO",
    ),
    "cp2k": ("T. D. Kühne et al., J. Chem. Phys. 152, 194103 (2020): CP2K",),
    "abinit": ("X. Gonze et al., Comput. Phys. Commun. 248, 107042 (2020): ABINIT",),
    "vasp": ("G. Kresse, J. Furthmüller, Phys. Rev. B 54, 11169 (1996): VASP",),
    "castep": ("S. J. Clark et al., Z. Kristallogr. 220, 567 (2005): CASTEP",),
}
_ASE: Final = "A. H. Larsen et al., J. Phys.: Condens. Matter 29, 273002 (2017): ASE"


def citations(campaign: Campaign) -> tuple[str, ...]:
    """Return protocol, potential, search, what was measured, the code of the labels, and the queue.

    Pseudopotentials and functionals are not among them: which they are, the reference's own output says.
    """
    annealed = (campaign.relax.anneal, *(part.anneal for part in campaign.components.values()))
    hot = campaign.reference.engine == "datum" or any(one not in (None, "none") for one in annealed)
    searches = campaign.protocol != "ndsc-2022"
    return (
        *_PROTOCOLS.get(campaign.protocol, ()),
        *_POTENTIALS[campaign.potential],
        *((_SEARCH,) if searches else ()),
        *((_HOT,) if hot else ()),
        *(() if campaign.vibrations is None else _VIBRATIONS),
        *_ENGINES.get(campaign.reference.engine, ()),
        _ASE,
        _QUEUE,
    )
