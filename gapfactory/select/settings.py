"""Settings of the selection."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from gapfactory.settings import Settings

__all__ = ["SelectSettings"]


class SelectSettings(Settings):
    """How the structures to be labelled are chosen.

    Defaults are those of Bernstein, Csanyi and Deringer, npj Comput. Mater. 5, 99 (2019); the sizes between
    the steps, which it does not give, are those of its published program for 10 000 relaxations, as
    fractions.
    """

    labels_per_generation: int = Field(default=90, ge=1)
    """Structures labelled for training in each generation; with the held-out ones the paper's N = 100."""
    held_out_per_generation: int = Field(default=10, ge=0)
    """Further structures labelled and never trained on, from relaxations without a training structure where there
    are enough of them."""
    noise_cells: int = Field(default=4, ge=0)
    """Structures of the first generation that are labelled once more at a higher k-point density, to measure the
    noise of the labels."""

    minima_histogram_fraction: float = Field(default=0.25, gt=0, le=1)
    """Minima that the first flat histogram keeps, as a fraction of the relaxations (2 500 of 10 000)."""
    minima_cur_fraction: float = Field(default=0.10, gt=0, le=1)
    """Minima whose trajectories go on, as a fraction of the relaxations (1 000 of 10 000), but at least one
    for each label."""
    frames_histogram_per_label: float = Field(default=25.0, ge=1)
    """Frames that the second flat histogram keeps for each label (2 500 for 100)."""
    histogram_keeps_at_most: float = Field(default=0.5, gt=0, le=1)
    """A flat histogram keeps at most this fraction of its pool (but as many as the next step needs), so that
    in small campaigns it still prefers low energies; at full size it has no effect."""

    minima: Literal["converged", "all"] = "converged"
    """Which endpoints of relaxations count as minima: converged ones, or all (as the published program
    does)."""
    frames_of_unconverged: bool = False
    """Add the frames of all unconverged relaxations to the second pool, which otherwise holds the frames of
    the chosen minima's trajectories."""

    energy: Literal["enthalpy", "energy", "energy-at-volume"] = "enthalpy"
    """What the flat histogram is made of: enthalpy per atom at each structure's own pressure (paper),
    energy per atom, or energy per atom above the lowest of similar volume (the published program)."""
    volume_window: float = Field(default=0.25, gt=0)
    """Volumes per atom closer than this are similar, in Å^3 (energy-at-volume)."""
    bins: Annotated[int, Field(ge=1)] | Literal["auto"] = 10
    """Bins of the histogram: a number (numpy's default is 10) or numpy's automatic choice (the published
    program)."""
    kt_eV: Annotated[tuple[Annotated[float, Field(gt=0)], ...], Field(min_length=1)] = (0.3, 0.2, 0.1)
    """Temperature of the Boltzmann bias in eV for generations 1, 2, ...; the last holds for all later
    ones."""

    method: Literal["cur-kernel", "cur-vectors", "random"] = "cur-kernel"
    """Choice for diversity: leverage-score CUR of the kernel matrix, of the matrix of vectors, or none (the
    paper's two controls)."""
    centred: bool = False
    """Centre the kernel matrix (or the vectors) first, as the published program does; the paper decomposes
    the kernel matrix itself."""
    choice: Literal["sampled", "highest"] = "sampled"
    """Draw with probabilities given by the leverage scores, without replacement (Mahoney and Drineas 2009,
    and the published program), or take the highest scores."""
    duplicate_distance: float = Field(default=1e-7, ge=0)
    """Structures whose unit vectors are no further apart are exact duplicates: never two of them are
    chosen."""
    kernel_memory_GB: float = Field(default=1.0, gt=0)
    """Memory that the kernel matrix of a large pool may take, in GB (10 000 structures need 0.4)."""

    def kt(self, generation: int) -> float:
        """Return kT in eV for generation 1, 2, ..."""
        return self.kt_eV[min(max(generation, 1), len(self.kt_eV)) - 1]
