"""Phonons: bands along standard paths, densities of states, and potential against reference.

Allen and Bartók, Mach. Learn.: Sci. Technol. 3, 045031 (2022), section 3.3 and Figs. 1-5 and 8. Frequencies are in THz
(not angular); imaginary ones are negative numbers. Potential and reference may have relaxed crystals of their own: wave
vectors are compared at equal fractional coordinates.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory._spglib import quiet_spglib
from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ase import Atoms
    from numpy.typing import NDArray
    from phonopy import Phonopy

    from gapfactory.analysis.force_constants import ForceConstants

__all__ = ["PhononComparison", "PhononPath", "Phonons", "compare_phonons", "phonon_path", "phonons"]


#: THz; no crystal's frequencies all lie within this
_NO_SPREAD = 1e-6


@dataclass(frozen=True)
class PhononPath:
    """A path through reciprocal space in one or more unbroken pieces.

    Parameters
    ----------
    wave_vectors
        Shape (m, 3), in units of the reciprocal vectors of the crystal (fractional, without 2 pi).
    distances
        Shape (m,), 1/Å (with 2 pi): length of the path up to each; a break has no length.
    labels
        Index of a wave vector and the name of the point there, in order; ``G`` is Gamma.
    breaks
        Indices at which a new piece begins.
    """

    wave_vectors: NDArray[np.float64]
    distances: NDArray[np.float64]
    labels: tuple[tuple[int, str], ...]
    breaks: tuple[int, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it."""
        return {
            "wave_vectors": self.wave_vectors.tolist(),
            "distances_per_A": self.distances.tolist(),
            "labels": [list(label) for label in self.labels],
            "breaks": list(self.breaks),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PhononPath:
        """Return what `as_dict` wrote."""
        return cls(
            np.array(data["wave_vectors"], dtype=float),
            np.array(data["distances_per_A"], dtype=float),
            tuple((int(k), str(name)) for k, name in data["labels"]),
            tuple(int(k) for k in data["breaks"]),
        )


def phonon_path(crystal: Atoms, settings: PhononSettings | None = None) -> PhononPath:
    """Return the standard path of the crystal's lattice: Setyawan and Curtarolo (2010), as ASE has it.

    It depends on the lattice alone, and is given in the vectors of this cell, whichever primitive cell it is.

    Raises
    ------
    EvidenceError
        ASE does not recognise the lattice.
    """
    from ase.dft.kpoints import parse_path_string

    settings = settings or PhononSettings()
    reciprocal = 2 * np.pi * crystal.cell.reciprocal().array
    try:
        standard = crystal.cell.bandpath(npoints=0, eps=max(1e-4, settings.symmetry_tolerance))
    except (RuntimeError, ValueError) as error:
        raise EvidenceError(
            f"no standard path through reciprocal space for {crystal.symbols!s}: {error}"
        ) from error
    points: list[NDArray[np.float64]] = []
    distances: list[float] = []
    labels: list[tuple[int, str]] = []
    breaks: list[int] = []
    length = 0.0
    for piece in parse_path_string(standard.path):
        if points:
            breaks.append(len(points))
        corners = [np.asarray(standard.special_points[name], dtype=float) for name in piece]
        labels.append((len(points), piece[0]))
        points.append(corners[0])
        distances.append(length)
        for name, start, end in zip(piece[1:], corners[:-1], corners[1:], strict=True):
            way = float(np.linalg.norm((end - start) @ reciprocal))
            n = max(2, round(way * settings.path_density))
            for step in range(1, n + 1):
                points.append(start + (end - start) * step / n)
                distances.append(length + way * step / n)
            length += way
            labels.append((len(points) - 1, name))
    return PhononPath(np.array(points), np.array(distances), tuple(labels), tuple(breaks))


@dataclass(frozen=True)
class Phonons:
    """Phonons of one crystal by one method, n atoms in its primitive cell.

    Parameters
    ----------
    method
        What computed the forces, e.g. ``"potential"`` or ``"reference"``.
    path
        The path of the bands.
    bands
        Shape (m, 3n), THz, ascending at each wave vector of the path.
    mesh
        Gamma-centred mesh of wave vectors for comparisons.
    mesh_vectors, weights
        Shapes (k, 3) and (k,): its wave vectors, one for each set equal by symmetry, and shares that sum to one.
    mesh_frequencies
        Shape (k, 3n), THz, ascending at each wave vector.
    dos_frequencies, dos
        Shapes (p,): THz, and states per THz and primitive cell; the integral is 3n.
    drift
        By how much the forces break the acoustic sum rule, eV/Å^2 (see `ForceConstants.drift`).
    imaginary_from
        In THz; modes below minus this count as imaginary.
    """

    method: str
    path: PhononPath
    bands: NDArray[np.float64]
    mesh: tuple[int, int, int]
    mesh_vectors: NDArray[np.float64]
    weights: NDArray[np.float64]
    mesh_frequencies: NDArray[np.float64]
    dos_frequencies: NDArray[np.float64]
    dos: NDArray[np.float64]
    drift: float
    imaginary_from: float

    @property
    def lowest(self) -> float:
        """Lowest frequency on path and mesh in THz, negative where it is imaginary."""
        return float(min(self.bands.min(), self.mesh_frequencies.min()))

    @property
    def highest(self) -> float:
        """Highest frequency on path and mesh, THz."""
        return float(max(self.bands.max(), self.mesh_frequencies.max()))

    @property
    def stable(self) -> bool:
        """Whether no mode on path and mesh is imaginary."""
        return self.lowest >= -self.imaginary_from

    @property
    def imaginary_share(self) -> float:
        """Share of the modes on the mesh that are imaginary."""
        found = (self.mesh_frequencies < -self.imaginary_from).mean(axis=1)
        return float(self.weights @ found)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data with the units in the keys; `from_dict` reads it."""
        return {
            "method": self.method,
            "path": self.path.as_dict(),
            "bands_THz": self.bands.tolist(),
            "mesh": list(self.mesh),
            "mesh_vectors": self.mesh_vectors.tolist(),
            "weights": self.weights.tolist(),
            "mesh_frequencies_THz": self.mesh_frequencies.tolist(),
            "dos_frequencies_THz": self.dos_frequencies.tolist(),
            "dos_per_THz": self.dos.tolist(),
            "drift_eV_per_A2": self.drift,
            "imaginary_from_THz": self.imaginary_from,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Phonons:
        """Return what `as_dict` wrote."""
        a, b, c = data["mesh"]
        return cls(
            method=str(data["method"]),
            path=PhononPath.from_dict(data["path"]),
            bands=np.array(data["bands_THz"], dtype=float),
            mesh=(int(a), int(b), int(c)),
            mesh_vectors=np.array(data["mesh_vectors"], dtype=float),
            weights=np.array(data["weights"], dtype=float),
            mesh_frequencies=np.array(data["mesh_frequencies_THz"], dtype=float),
            dos_frequencies=np.array(data["dos_frequencies_THz"], dtype=float),
            dos=np.array(data["dos_per_THz"], dtype=float),
            drift=float(data["drift_eV_per_A2"]),
            imaginary_from=float(data["imaginary_from_THz"]),
        )


def phonons(
    constants: ForceConstants,
    *,
    method: str = "potential",
    path: PhononPath | None = None,
    like: Phonons | None = None,
    settings: PhononSettings | None = None,
) -> Phonons:
    """Return bands, density of states and frequencies on a mesh.

    Parameters
    ----------
    constants
        Force constants.
    method
        What computed the forces.
    path
        The path of the bands; by default the standard one of the crystal.
    like
        Phonons of the same phase to be compared with: path and wave vectors of the mesh are theirs. Those of the mesh
        are reduced by the symmetry of that crystal, so both have to have the same.
    settings
        Meshes and density of the path.

    Raises
    ------
    EvidenceError
        As `phonon_path`; or all frequencies are equal, those of one atom on a grid of one point.
    """
    settings = settings or PhononSettings()
    phonopy = constants.phonopy()
    if like is not None:
        path, vectors, weights, mesh = like.path, like.mesh_vectors, like.weights, like.mesh
    else:
        path = path or phonon_path(constants.crystal, settings)
        mesh = settings.compare_mesh
        vectors, weights = _mesh(phonopy, mesh)
    bands = _at(phonopy, path.wave_vectors)
    on_mesh = _at(phonopy, vectors)
    axis, dos = _density(phonopy, settings)
    return Phonons(
        method=method,
        path=path,
        bands=bands,
        mesh=mesh,
        mesh_vectors=vectors,
        weights=weights,
        mesh_frequencies=on_mesh,
        dos_frequencies=axis,
        dos=dos,
        drift=constants.drift,
        imaginary_from=settings.imaginary_from,
    )


def _at(phonopy: Phonopy, vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    found: Any = phonopy.run_qpoints(vectors).frequencies
    return np.sort(np.array(found, dtype=float), axis=1)


def _mesh(phonopy: Phonopy, mesh: tuple[int, int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    run = _run_mesh(phonopy, mesh)
    weights = np.array(run.weights, dtype=float)
    return np.array(run.qpoints, dtype=float), weights / weights.sum()


def _run_mesh(phonopy: Phonopy, mesh: tuple[int, int, int]) -> Any:
    """Return phonopy's Gamma-centred mesh, reduced by symmetry."""
    from phonopy.phonon.mesh import MeshSymmetryFallbackWarning

    with quiet_spglib():
        # a mesh without the symmetry of the crystal is not reduced by it: slower, and as right
        warnings.filterwarnings("ignore", category=MeshSymmetryFallbackWarning)
        return phonopy.run_mesh(list(mesh), is_gamma_center=True)


def _density(
    phonopy: Phonopy,
    settings: PhononSettings,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return frequencies (THz) and density of states (1/THz) by the linear tetrahedron method, of all states."""
    frequencies = np.array(_run_mesh(phonopy, settings.dos_mesh).frequencies)
    low, high = float(frequencies.min()), float(frequencies.max())
    if high - low < _NO_SPREAD:
        raise EvidenceError(
            f"all frequencies are {low:.3g} THz: the grid of wave vectors holds no vibration; give a larger "
            "phonons.grid"
        )
    margin = 0.05 * (high - low)
    axis = np.linspace(low - margin, high + margin, settings.dos_points)
    with quiet_spglib():
        total: Any = phonopy.run_total_dos(
            freq_min=float(axis[0]), freq_max=float(axis[-1]), freq_pitch=float(axis[1] - axis[0])
        )
    # phonopy's own points may be one more or less at the end, where there are no states
    return axis, np.interp(axis, np.array(total.frequency_points), np.array(total.dos))


@dataclass(frozen=True)
class PhononComparison:
    """Potential against reference: differences of frequencies at equal wave vectors, branches in ascending order.

    Parameters
    ----------
    rmse_THz
        Root mean square over all branches and wave vectors of the mesh.
    largest_THz
        Largest difference on the mesh, potential minus reference, with its sign.
    largest_at
        Wave vector of that difference (fractional).
    path_rmse_THz
        Root mean square along the path.
    mesh
        The mesh.
    potential_lowest_THz, reference_lowest_THz
        Lowest frequencies on path and mesh, negative where imaginary.
    potential_stable, reference_stable
        Whether no mode is imaginary.
    potential, reference
        What was compared.
    """

    rmse_THz: float
    largest_THz: float
    largest_at: tuple[float, float, float]
    path_rmse_THz: float
    mesh: tuple[int, int, int]
    potential_lowest_THz: float
    reference_lowest_THz: float
    potential_stable: bool
    reference_stable: bool
    potential: Phonons
    reference: Phonons

    def sentence(self) -> str:
        """Return the comparison in words."""
        text = (
            f"phonons on a {'x'.join(map(str, self.mesh))} mesh differ by {self.rmse_THz:.3f} THz RMS (largest "
            f"{self.largest_THz:+.3f} THz; {self.path_rmse_THz:.3f} along the path)"
        )
        for who, stable, lowest in (
            ("potential", self.potential_stable, self.potential_lowest_THz),
            ("reference", self.reference_stable, self.reference_lowest_THz),
        ):
            if not stable:
                text += f"; imaginary modes by the {who}, down to {lowest:.2f} THz"
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it."""
        return {
            "rmse_THz": self.rmse_THz,
            "largest_THz": self.largest_THz,
            "largest_at": list(self.largest_at),
            "path_rmse_THz": self.path_rmse_THz,
            "mesh": list(self.mesh),
            "potential_lowest_THz": self.potential_lowest_THz,
            "reference_lowest_THz": self.reference_lowest_THz,
            "potential_stable": self.potential_stable,
            "reference_stable": self.reference_stable,
            "potential": self.potential.as_dict(),
            "reference": self.reference.as_dict(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PhononComparison:
        """Return what `as_dict` wrote."""
        return compare_phonons(Phonons.from_dict(data["potential"]), Phonons.from_dict(data["reference"]))


def compare_phonons(potential: Phonons, reference: Phonons) -> PhononComparison:
    """Compare phonons of one crystal at equal fractional wave vectors.

    The three acoustic modes at Gamma, zero by both, are counted: one of the 512 wave vectors of an 8x8x8 mesh.

    Raises
    ------
    EvidenceError
        Wave vectors or numbers of branches are not the same; make one with `phonons(..., like=other)`.
    """
    for a, b in (
        (potential.bands, reference.bands),
        (potential.mesh_vectors, reference.mesh_vectors),
        (potential.path.wave_vectors, reference.path.wave_vectors),
    ):
        if a.shape != b.shape:
            raise EvidenceError(
                f"phonons at {a.shape} and {b.shape} values do not pair up; make those of the potential with "
                "phonons(..., like=reference)"
            )
    if not (
        np.allclose(potential.mesh_vectors, reference.mesh_vectors, atol=1e-8)
        and np.allclose(potential.path.wave_vectors, reference.path.wave_vectors, atol=1e-8)
    ):
        raise EvidenceError(
            "phonons at different wave vectors do not pair up; make those of the potential with "
            "phonons(..., like=reference)"
        )
    difference = potential.mesh_frequencies - reference.mesh_frequencies
    k, branch = np.unravel_index(int(np.argmax(np.abs(difference))), difference.shape)
    at = reference.mesh_vectors[k]
    return PhononComparison(
        rmse_THz=float(np.sqrt(reference.weights @ (difference**2).mean(axis=1))),
        largest_THz=float(difference[k, branch]),
        largest_at=(float(at[0]), float(at[1]), float(at[2])),
        path_rmse_THz=float(np.sqrt(np.mean((potential.bands - reference.bands) ** 2))),
        mesh=reference.mesh,
        potential_lowest_THz=potential.lowest,
        reference_lowest_THz=reference.lowest,
        potential_stable=potential.stable,
        reference_stable=reference.stable,
        potential=potential,
        reference=reference,
    )
