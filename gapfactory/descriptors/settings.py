"""Settings of the structure kernel."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from gapfactory.settings import Settings

__all__ = ["SimilaritySettings"]


class SimilaritySettings(Settings):
    """How two configurations are compared: configuration-averaged SOAP and its kernel.

    Defaults are those of Bernstein, Csanyi and Deringer, npj Comput. Mater. 5, 99 (2019), Methods, "Comparing
    structures". The paper does not give the transition width; QUIP's default is used.
    """

    n_max: int = Field(default=12, ge=1, le=40)
    """Number of radial basis functions."""
    l_max: int = Field(default=12, ge=0, le=24)
    """Highest degree of the spherical harmonics."""
    atom_sigma: float = Field(default=0.0875, gt=0)
    """Width of the Gaussian on every neighbour, in Å."""
    cutoff: float = Field(default=10.5, gt=0)
    """Radius within which neighbours count, in Å."""
    cutoff_transition_width: float = Field(default=0.5, gt=0)
    """Width of the cosine that takes neighbours to zero below the cutoff, in Å."""
    central_weight: float = Field(default=1.0, ge=0)
    """Weight of the Gaussian on the central atom itself."""
    centres: Literal["all", "by-species"] = "all"
    """With several species: average over all atoms of the cell (Eq. 2), or one average per central species,
    each weighted by its fraction and concatenated (as the libAtoms workflow does). The same for elements."""
    zeta: int = Field(default=4, ge=1)
    """Exponent of the kernel (Eq. 4)."""

    @model_validator(mode="after")
    def _width_inside_cutoff(self) -> SimilaritySettings:
        if self.cutoff_transition_width > self.cutoff:
            msg = (
                f"cutoff_transition_width = {self.cutoff_transition_width} Å is wider than cutoff = "
                f"{self.cutoff} Å; make it at most the cutoff"
            )
            raise ValueError(msg)
        return self
