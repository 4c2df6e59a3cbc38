"""The descriptors of a GAP as strings for QUIP: which terms there are, their cutoffs and kernels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import TYPE_CHECKING, Literal, Protocol

from gapfactory.errors import FitError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gapfactory.potentials.gap.settings import (
        GapSettings,
        SoapSettings,
        ThreeBodySettings,
        TwoBodySettings,
    )

__all__ = ["SpeciesLike", "Term", "largest_cutoff", "terms"]


class SpeciesLike(Protocol):
    """The part of `gapfactory.elements.Species` that a fit needs."""

    @property
    def symbol(self) -> str:
        """Chemical symbol."""

    @property
    def number(self) -> int:
        """Atomic number."""

    @property
    def radius(self) -> float:
        """Characteristic radius, A."""

    @property
    def bonding(self) -> Literal["covalent", "metallic"]:
        """Class that selects cutoffs."""


@dataclass(frozen=True)
class Term:
    """One descriptor and its kernel.

    Attributes
    ----------
    stage
        0 two-body, 1 three-body, 2 SOAP.
    name
        Short name, unique within a potential (`2b-Si-Si`).
    numbers
        Atomic numbers: the pair, (centre, neighbour, neighbour), or the centre.
    descriptor
        QUIP's descriptor string.
    covariance
        QUIP's kernel options.
    cutoff
        A.
    """

    stage: int
    name: str
    numbers: tuple[int, ...]
    descriptor: str
    covariance: str
    cutoff: float


def _cutoff(
    species: Sequence[SpeciesLike], settings: TwoBodySettings | ThreeBodySettings | SoapSettings
) -> tuple[float, float]:
    """Return (cutoff, transition width) of a group of species: the mean over the species' own values, A."""
    own = [
        s.radius
        * (settings.cutoff_covalent_in_r if s.bonding == "covalent" else settings.cutoff_metallic_in_r)
        for s in species
    ]
    widths = [s.radius * settings.transition_width_in_r for s in species]
    return round(sum(own) / len(own), 5), round(sum(widths) / len(widths), 5)


def terms(species: Sequence[SpeciesLike], settings: GapSettings) -> list[Term]:
    """Return the descriptors of the potential, two-body first, sorted by atomic number within a stage.

    With several species there is one two-body term per pair, one three-body term per centre and pair of
    neighbours, and one SOAP per centre that sees all species as neighbours.

    Raises
    ------
    FitError
        If a species is given twice.
    """
    ordered = sorted(species, key=lambda s: s.number)
    if len({s.number for s in ordered}) != len(ordered) or not ordered:
        msg = f"the species of a fit must be distinct and at least one, got {[s.symbol for s in species]}"
        raise FitError(msg)
    found: list[Term] = []
    two, three, soap = settings.two_body, settings.three_body, settings.soap
    for a, b in combinations_with_replacement(ordered, 2) if two.enabled else ():
        cutoff, width = _cutoff((a, b), two)
        found.append(
            Term(
                0,
                f"2b-{a.symbol}-{b.symbol}",
                (a.number, b.number),
                f"distance_2b Z1={a.number} Z2={b.number} cutoff={cutoff} cutoff_transition_width={width}",
                f"covariance_type=ard_se theta_uniform={two.sigma:g}",
                cutoff,
            )
        )
    if three.enabled:
        for centre in ordered:
            for a, b in combinations_with_replacement(ordered, 2):
                cutoff, width = _cutoff((centre, a, b), three)
                found.append(
                    Term(
                        1,
                        f"3b-{centre.symbol}-{a.symbol}-{b.symbol}",
                        (centre.number, a.number, b.number),
                        f"angle_3b Z={centre.number} Z1={a.number} Z2={b.number} cutoff={cutoff} "
                        f"cutoff_transition_width={width}",
                        f"covariance_type=ard_se theta_uniform={three.sigma:g}",
                        cutoff,
                    )
                )
    if soap.enabled:
        numbers = " ".join(str(s.number) for s in ordered)
        for centre in ordered:
            cutoff, width = max(_cutoff((centre, other), soap) for other in ordered)
            found.append(
                Term(
                    2,
                    f"soap-{centre.symbol}",
                    (centre.number,),
                    f"soap l_max={soap.l_max} n_max={soap.n_max} atom_sigma={soap.atom_sigma:g} "
                    f"cutoff={cutoff} "
                    f"cutoff_transition_width={width} central_weight={soap.central_weight:g} "
                    f"Z={centre.number} "
                    f"n_species={len(ordered)} species_Z={{{numbers}}}",
                    f"covariance_type=dot_product zeta={soap.zeta:g}",
                    cutoff,
                )
            )
    return found


def largest_cutoff(species: Sequence[SpeciesLike], settings: GapSettings) -> float:
    """Return the longest range of the potential, A (boxes of free atoms and dimers must be wider)."""
    return max(term.cutoff for term in terms(species, settings))
