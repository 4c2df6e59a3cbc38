"""Settings of ephemeral data-derived potentials (EDDP); Pickard, Phys. Rev. B 106, 014102 (2022).

Defaults follow the published training workflow as far as it is stated; where it is not, the text says so.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from gapfactory.settings import Settings

__all__ = [
    "CoreSettings",
    "EddpSettings",
    "EnsembleSettings",
    "FeatureSettings",
    "NetworkSettings",
    "TrainingSettings",
]

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]


class FeatureSettings(Settings):
    """The environment vector of an atom: powers of f(r) = 2 (1 - r / cutoff)."""

    cutoff: Positive = 3.75
    """Range of pairs, and of all three sides of a triplet, in angstrom (3.75: Pickard 2024 for carbon)."""
    two_body: Count = 5
    """Polynomials of the two-body features, for each neighbour's species (16 in Pickard 2024 for carbon)."""
    three_body: Annotated[int, Field(ge=0)] = 5
    """Polynomials of the three-body features: their square is the number of features for each pair of neighbours'
    species; 0 for a potential of pairs."""
    lowest_exponent: Annotated[float, Field(ge=2)] = 2.0
    """First exponent of the geometric series. Below 2 forces would jump at the cutoff."""
    highest_exponent: Annotated[float, Field(ge=2, le=64)] = 10.0
    """Last exponent of the geometric series."""
    three_body_scale: Positive = 0.2
    """Factor of the three-body features. The published programs divide by the number of polynomials, which is 1/5 for
    the default. A network does not see it, since its inputs are standardised; a distance of features does."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.highest_exponent < self.lowest_exponent:
            msg = (
                f"highest_exponent {self.highest_exponent:g} is below lowest_exponent {self.lowest_exponent:g}: "
                "exchange them"
            )
            raise ValueError(msg)
        return self


class NetworkSettings(Settings):
    """The network that gives the energy of an atom from its features."""

    hidden: Annotated[tuple[Count, ...], Field(min_length=1)] = (5,)
    """Nodes of each hidden layer (one layer of 5 in the published workflow, two of 20 in Pickard 2024 for carbon)."""
    embedding: Annotated[int, Field(ge=0)] = 0
    """Alchemical channels: the blocks of species are mixed to this many, learned together with the network, for two
    and three bodies each; 0 gives every block weights of its own. For many species."""


class TrainingSettings(Settings):
    """Levenberg-Marquardt training of one network with early stopping."""

    split: Literal["parent", "plain"] = "parent"
    """`parent`: shaken copies of one structure stay on the same side, so that test errors are not flattered. `plain`:
    every structure is drawn for itself, as in the published workflow."""
    fractions: tuple[Positive, Positive, Positive] = (0.8, 0.1, 0.1)
    """Parts for training, validation (early stopping and ensemble weights) and testing (80:10:10, Pickard 2024)."""
    energy_window: Positive = 10.0
    """Structures this much above the lowest of their composition, in eV/atom, are left out."""
    atoms_exponent: NotNegative = 0.5
    """Residuals are (predicted - reference energy) / N^this, N being the number of atoms."""
    norm: Annotated[float, Field(ge=1, le=2)] = 2.0
    """Power of residuals in the cost; 2 for least squares. Below 2 the least squares are reweighted in each step, and
    outliers count less (1.25 in one published implementation)."""
    norm_floor: Positive = 1e-4
    """Added to the sizes of residuals, in units of the energies' spread, where they are weights."""
    force_weight: NotNegative = 0.0
    """Weight of the residuals of forces against those of energies, in angstrom; 0 trains on energies only, as
    published."""
    damping: Positive = 10.0
    """Initial damping of the steps."""
    damping_lower: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Factor of the damping after a step that lowers the cost."""
    damping_raise: Annotated[float, Field(gt=1)] = 2.0
    """Factor of the damping after a step that is refused."""
    damping_least: Positive = 1e-13
    """The damping falls no lower."""
    damping_most: Positive = 1e12
    """Training ends when the damping exceeds this: no step lowers the cost."""
    curvature_floor: Positive = 1e-6
    """Least diagonal of the normal equations, as damping sees it, relative to its largest."""
    max_steps: Count = 1000
    """Steps at most."""
    patience: Count = 100
    """Training ends after this many accepted steps without a lower validation error."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(sum(self.fractions) - 1.0) > 1e-9:
            msg = f"fractions {self.fractions} add up to {sum(self.fractions):g}: they must be parts of 1"
            raise ValueError(msg)
        return self


class EnsembleSettings(Settings):
    """Combination of many networks by non-negative least squares."""

    members: Count = 30
    """Networks trained from random starts (30 in Pickard 2024)."""
    outlier: Positive = 0.5
    """Structures of the validation set on which the median network errs by more, in eV/atom, have no say in the
    weights."""
    least_weight: Positive = 1e-13
    """Networks of smaller weight are dropped."""


class CoreSettings(Settings):
    """Repulsion at distances that no data show: strength (2 (radius / r - 1))^12 for r < radius."""

    radius: NotNegative = 0.0
    """In angstrom; 0 for no core."""
    strength: Positive = 1.0
    """In eV, of each atom of a pair."""


class EddpSettings(Settings):
    """Everything that decides what an ephemeral data-derived potential is."""

    features: FeatureSettings = FeatureSettings()
    """Environment vectors."""
    network: NetworkSettings = NetworkSettings()
    """Shape of the networks."""
    training: TrainingSettings = TrainingSettings()
    """How each network is trained."""
    ensemble: EnsembleSettings = EnsembleSettings()
    """How networks are combined."""
    core: CoreSettings = CoreSettings()
    """Repulsion at short distances."""
