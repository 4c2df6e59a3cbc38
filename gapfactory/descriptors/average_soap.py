"""Configuration-averaged SOAP: one vector for a whole cell.

Bernstein, Csanyi, Deringer, npj Comput. Mater. 5, 99 (2019), Eqs. 1-4: the neighbour density of every atom is
expanded in radial functions and spherical harmonics, the *coefficients* are averaged over the atoms of the
cell, and the power spectrum is made of the average. Vectors equal those of QUIP's ``soap ... average=T``
element by element (its trailing zero included), so either can be used with the other.

Why it is fast: since coefficients are averaged first, the cost is one sum over pairs. Both directions of a
pair are added at once by parity, and with the paper's narrow Gaussians (0.0875 Å on a basis spaced 0.92 Å)
no neighbour touches more than two radial functions. The radial functions are evaluated, not tabulated: one
exponential and a short recursion, exact to rounding.

What follows from those numbers and should be known: a neighbour half-way between two radial functions is
weighted 1e-6 of one that sits on a function: the published settings see thin shells.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.descriptors.settings import SimilaritySettings

__all__ = ["average_soap", "kernel", "vector_length"]

# Cells per compiled call. Each row depends on its own cell only, so this changes speed, never results.
_CHUNK = 64
# QUIP extends the radial basis beyond the cutoff until the Gaussian has fallen by this power of ten.
_BASIS_ERROR_EXPONENT = 10.0


def vector_length(n_species: int, settings: SimilaritySettings) -> int:
    """Return the number of elements of a vector for `n_species` species."""
    channels = n_species * settings.n_max
    length = (settings.l_max + 1) * channels * (channels + 1) // 2 + 1
    return length * n_species if settings.centres == "by-species" else length


def radial_basis(settings: SimilaritySettings) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Return spacing (Å), transformation and central coefficients of the orthonormalised radial basis.

    The primitive functions are Gaussians of width `atom_sigma` at n * spacing, n = 0..n_max - 1; with overlap
    S = L L^T (of r^2-weighted integrals over the half line) and covariance C between their centres the
    coefficients of a density with overlaps v are ``v C^-1 L``.

    Returns
    -------
    spacing
        Distance between radial functions, in Å.
    transform : (n_max, n_max)
        ``C^-1 L``.
    central : (n_max,)
        Overlaps of the central atom's Gaussian with the primitive functions, times Y_00 and `central_weight`.

    Raises
    ------
    InputError
        If the functions overlap so much that double precision cannot tell them apart.
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky
    from scipy.special import erf

    alpha = 0.5 / settings.atom_sigma**2
    extent = settings.cutoff + settings.atom_sigma * math.sqrt(2.0 * _BASIS_ERROR_EXPONENT * math.log(10.0))
    spacing = extent / settings.n_max
    centres = spacing * np.arange(settings.n_max)
    total = centres[:, None] + centres[None, :]
    difference = centres[:, None] - centres[None, :]
    covariance = np.exp(-alpha * difference**2)
    # integral over r > 0 of r^2 exp(-alpha (r - a)^2) exp(-alpha (r - b)^2): with the mean m = (a + b)/2,
    # complete the square and integrate (u + m)^2 exp(-2 alpha u^2) from -m to infinity
    mean = 0.5 * total
    overlap = np.exp(-0.5 * alpha * difference**2) * (
        0.5
        * math.sqrt(math.pi / (2.0 * alpha))
        * (mean**2 + 0.25 / alpha)
        * (1.0 + erf(math.sqrt(2.0 * alpha) * mean))
        + mean / (4.0 * alpha) * np.exp(-2.0 * alpha * mean**2)
    )
    try:
        lower = cholesky(overlap, lower=True)
        transform = cho_solve(cho_factor(covariance, lower=True), lower)
    except LinAlgError as error:
        msg = (
            f"{settings.n_max} radial functions of width {settings.atom_sigma} Å every {spacing:.3f} Å are "
            "linearly dependent; lower n_max or atom_sigma"
        )
        raise InputError(msg) from error
    central = covariance[0] * (settings.central_weight * math.sqrt(1.0 / (4.0 * math.pi)))
    return spacing, np.ascontiguousarray(transform), central


def _pack(
    structures: Sequence[Atoms], channel_of: dict[int, int], first: int
) -> tuple[
    NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_], NDArray[np.int64]
]:  # offsets, scaled, lower, periodic, channels
    """Lay cells out for the compiled loop; `first` is the index of the first one in the caller's sequence."""
    from ase.geometry import complete_cell

    counts = [len(atoms) for atoms in structures]
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    scaled = np.empty((int(offsets[-1]), 3))
    lower = np.empty((len(structures), 3, 3))
    periodic = np.empty((len(structures), 3), dtype=np.bool_)
    channels = np.empty(int(offsets[-1]), dtype=np.int64)
    for c, atoms in enumerate(structures):
        where = f"structure {first + c} ({atoms.symbols})"
        if len(atoms) == 0:
            msg = f"structure {first + c} has no atoms; leave it out"
            raise InputError(msg)
        positions = np.asarray(atoms.positions, dtype=np.float64)
        cell = np.asarray(atoms.cell.array, dtype=np.float64)
        if not (np.isfinite(positions).all() and np.isfinite(cell).all()):
            msg = f"{where} has positions or cell vectors that are not finite; leave it out"
            raise InputError(msg)
        full = np.asarray(complete_cell(cell), dtype=np.float64)
        lengths = np.linalg.norm(cell, axis=1)
        volume = abs(float(np.linalg.det(full)))
        if np.any(lengths[atoms.pbc] == 0.0) or volume <= 1e-12 * float(
            np.prod(np.linalg.norm(full, axis=1))
        ):
            msg = f"{where} is periodic along a null or dependent cell vector {cell.tolist()}: correct it"
            raise InputError(msg)
        rows = slice(int(offsets[c]), int(offsets[c + 1]))
        try:
            channels[rows] = [channel_of[int(z)] for z in atoms.numbers]
        except KeyError as error:
            msg = (
                f"{where} contains atomic number {error.args[0]}, which is not among the species "
                f"{sorted(channel_of)}; add it to species"
            )
            raise InputError(msg) from error
        triangular = np.asarray(np.linalg.qr(full.T, mode="r")).T
        # reflecting an axis makes the diagonal positive; the power spectrum does not change under reflections
        triangular = triangular * np.sign(np.diag(triangular))[None, :]
        lower[c] = triangular
        scaled[rows] = np.linalg.solve(full.T, positions.T).T
        periodic[c] = atoms.pbc
    return offsets, scaled, lower, periodic, channels


def average_soap(
    structures: Sequence[Atoms], *, species: Sequence[int], settings: SimilaritySettings, cores: int = 1
) -> NDArray[np.float64]:
    """Return the configuration-averaged SOAP vectors of structures.

    Parameters
    ----------
    structures
        Crystals, slabs or clusters, of any density; cells may be smaller than the cutoff.
    species
        Atomic numbers that can occur, in the order of the vector's species blocks: the same for all vectors
        that are to be compared.
    settings
        Basis, cutoff and meaning of the average.
    cores
        Threads that share the structures (the compiled loop holds no lock). Results do not depend on it.

    Returns
    -------
    (n, d) array
        Unit vectors, d from :func:`vector_length`; element order as QUIP's.

    Raises
    ------
    InputError
        If a structure is empty, not finite, has a degenerate periodic cell or an unlisted species, or if
        `species` is empty or repeats a number.
    """
    from gapfactory.descriptors._kernels import average_chunk, legendre_coefficients

    channel_of = {int(z): k for k, z in enumerate(species)}
    if not channel_of or len(channel_of) != len(species):
        msg = f"species = {list(species)} must name every atomic number once, and at least one"
        raise InputError(msg)
    if cores < 1:
        msg = f"cores = {cores} must be at least 1"
        raise InputError(msg)
    spacing, transform, central = radial_basis(settings)
    start, up, back = legendre_coefficients(settings.l_max)
    alpha = 0.5 / settings.atom_sigma**2
    out = np.empty((len(structures), vector_length(len(species), settings)))

    def work(first: int) -> None:
        chunk = structures[first : first + _CHUNK]
        offsets, scaled, lower, periodic, channels = _pack(chunk, channel_of, first)
        bad = average_chunk(
            offsets, scaled, lower, periodic, channels, len(species), settings.centres == "by-species",
            settings.cutoff, settings.cutoff_transition_width, alpha, spacing, settings.l_max, central,
            transform, start, up, back, out[first : first + len(chunk)],
        )  # fmt: skip
        if bad >= 0:
            msg = (
                f"structure {first + bad} has no neighbours within {settings.cutoff} Å and central_weight = "
                f"{settings.central_weight}, so its vector is null; use a positive central_weight"
            )
            raise InputError(msg)

    starts = range(0, len(structures), _CHUNK)
    if cores == 1 or len(starts) < 2:
        for first in starts:
            work(first)
    else:
        with ThreadPoolExecutor(max_workers=min(cores, os.cpu_count() or 1)) as pool:
            for _ in pool.map(work, starts):
                pass
    return out


def kernel(left: NDArray[np.float64], right: NDArray[np.float64], *, zeta: int) -> NDArray[np.float64]:
    """Return the (n, m) kernel of Eq. 4 between rows of `left` (n, d) and `right` (m, d)."""
    return np.asarray((left @ right.T) ** zeta)
