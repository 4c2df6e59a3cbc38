"""Settings of labelled structures that a group has already, and gives to a campaign."""

from __future__ import annotations

from pydantic import Field

from gapfactory.settings import Settings

__all__ = ["DataSettings"]


class DataSettings(Settings):
    """One file of labelled structures, which are trained on beside what the campaign chooses itself.

    The labels must be of the campaign's own reference method: energies of two methods are never fitted together. A few
    of the structures are labelled again to see that they are.
    """

    file: str
    """Extended XYZ (`.xyz`, `.extxyz`), database of ASE (`.db`) or output of a code, as `gapfactory structures check`
    reads it; its path counts from the campaign file. A pattern such as `runs/*/vasprun.xml` stands for all files
    of such names, as one set. They are read when the campaign is submitted, and then no more."""
    prefix: str | None = None
    """What stands before the names of the labels in the file, e.g. `PBE_`; by default the first of the usual ones."""
    joins: int = Field(default=0, ge=0)
    """The first generation whose potential is trained on them. Data that join later than the next generation may be
    added to a campaign that runs: submit the changed file again."""
    held_out: float = Field(default=0.1, ge=0, lt=1)
    """Share of the structures, drawn at random, that tell the errors of the potentials instead."""
    verify: int = Field(default=3, ge=0)
    """So many of the structures, the smallest ones, are labelled by the campaign's reference too. Where these labels
    differ by more than the tolerances, the campaign halts."""
    energy_tolerance: float = Field(default=0.005, gt=0)
    """Largest difference of a verified energy, in eV/atom."""
    force_tolerance: float = Field(default=0.1, gt=0)
    """Largest root mean square of the differences of the force components of a verified structure, in eV/Å."""
    sha256: str | None = None
    """Of the file or files, when the campaign file was read."""
    structures: int | None = Field(default=None, ge=1)
    """Labelled structures in the file, each counted once, free atoms not counted."""
    atoms: int | None = Field(default=None, ge=1)
    """Atoms in all of them."""
