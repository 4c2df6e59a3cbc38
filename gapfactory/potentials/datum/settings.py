"""Settings of the datum cost; Pickard, Faraday Discuss. (2024), doi:10.1039/d4fd00134f, section VII."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gapfactory.potentials.eddp.settings import FeatureSettings
from gapfactory.settings import Settings

__all__ = ["CostFeatures", "CostSettings"]


class CostFeatures(FeatureSettings):
    """The environment vector of an atom whose distance is the cost: powers of f(r) = 2 (1 - r / cutoff)."""

    two_body: Annotated[int, Field(ge=1)] = 16
    """Polynomials of the two-body features, for each neighbour's species (16 for carbon and for garnet)."""
    three_body: Annotated[int, Field(ge=0)] = 4
    """Polynomials of the three-body features: their square is the number of features for each pair of neighbours'
    species (4 for carbon; 0 for garnet: pairs only)."""


class CostSettings(Settings):
    """How a distance from the surroundings in target crystals becomes a cost; defaults are Pickard's for carbon."""

    alpha: float = Field(default=10.0, gt=0)
    """Softness of the minimum over the targets' environments (Eq. 3): the larger, the harder (10 for carbon, 100 for
    garnet). With one environment it has no effect."""
    beta: float = Field(default=100.0, gt=0)
    """Weight of the squared distance in the logarithm (Eq. 1): the larger, the more small distances cost (100 for
    carbon, 10 for garnet)."""
    minimum: Literal["soft", "hard"] = "soft"
    """`soft`: smooth (Eq. 3). `hard`: the cost of the nearest environment (Eq. 2); forces jump where two are equally
    near."""
    features: CostFeatures = CostFeatures()
    """Environment vectors, within 3.75 Å for carbon, 5 Å for garnet. Unlike for a network, `three_body_scale` matters
    here."""
