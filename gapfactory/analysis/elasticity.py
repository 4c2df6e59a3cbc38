"""Elastic constants of a crystal from single points: stresses of strained cells, with relaxed internal coordinates.

No cell is relaxed. The strained cells are labelled at fixed fractional coordinates; their forces say how the strain
pushes the atoms (L), small displacements of single atoms say how the crystal resists (K), and with atoms free to move

    C = C_clamped - L^T K^+ L / V

(the internal strain of Born and Huang, Dynamical Theory of Crystal Lattices), exactly in the limit of small strains.
Stresses are second Piola-Kirchhoff stresses and strains are Lagrangian ones, so that C is the second derivative of the
energy per volume also where the crystal is under some stress. Symmetry: a few strains whose images under the point
group span all strains are labelled, and every image enters the fit.

    >>> planned = elastic_cells(crystal)                                      # doctest: +SKIP
    >>> found = elastic_constants(planned, stresses, forces)                  # labels of planned.cells
    >>> found.standard["C44"], found.tensor.bulk                              # doctest: +SKIP
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field

from gapfactory._spglib import ask_spglib
from gapfactory.analysis.elastic_tensor import (
    ElasticTensor,
    from_mandel,
    independent_names,
    mandel,
    mandel_rotation,
    symmetrised,
)
from gapfactory.analysis.force_constants import displacement_set, force_constants, oriented_primitive_cell
from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.errors import EvidenceError, UnstableCrystalError
from gapfactory.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from ase.calculators.calculator import Calculator
    from numpy.typing import ArrayLike, NDArray

    from gapfactory.analysis.force_constants import DisplacementSet

__all__ = [
    "ElasticCells",
    "ElasticComparison",
    "ElasticConstants",
    "ElasticSettings",
    "compare_elasticity",
    "elastic_cells",
    "elastic_constants",
    "elastic_constants_by",
]

#: eV/Å^3 in GPa
_GPA = 160.21766208


class ElasticSettings(Settings):
    """How elastic constants are worked out, by potential and reference alike."""

    strain: float = Field(default=0.005, gt=0, le=0.05)
    """Size of the strains, positive and negative."""
    internal: Literal["relaxed", "clamped"] = "relaxed"
    """Whether atoms may move within the strained cell; no difference where each atom is a centre of symmetry."""
    displacement: float = Field(default=0.02, gt=0, le=0.2)
    """Length of the displacements of single atoms that tell how the crystal resists, in Å."""
    symmetry_tolerance: float = Field(default=1e-4, gt=0)
    """Distance within which an operation counts as a symmetry of the crystal, in Å."""
    stress_limit: float = Field(default=0.05, gt=0)
    """A crystal under a stress (largest component) above this share of its smallest Kelvin modulus has no elastic
    constants: those of Hooke's law, from strains and from stresses, then differ by as much."""


@dataclass(frozen=True)
class _Group:
    """Operations of a crystal: rotations in space, and where they take each atom."""

    rotations: NDArray[np.float64]  # (g, 3, 3)
    images: NDArray[np.int64]  # (g, n): atom i goes to images[g, i]
    to_standard: NDArray[np.float64]  # (3, 3)
    symbol: str


@dataclass(frozen=True)
class ElasticCells:
    """Cells whose stresses and forces give the elastic constants of a crystal.

    Parameters
    ----------
    crystal
        The primitive cell at rest, n atoms.
    strains
        Shape (m, 3, 3): Lagrangian strains of the first m cells.
    cells
        To be labelled in any order and by any engine: m strained cells, then displaced ones where atoms may move.
    internal
        What was displaced, or None.
    settings
        How they were made.
    """

    crystal: Atoms
    strains: NDArray[np.float64]
    cells: tuple[Atoms, ...]
    internal: DisplacementSet | None
    settings: ElasticSettings


def elastic_cells(crystal: Atoms, settings: ElasticSettings | None = None) -> ElasticCells:
    """Return the cells to label; the same for the same crystal.

    Parameters
    ----------
    crystal
        Relaxed, any cell of it: the primitive one is taken. Its orientation stays.

    Raises
    ------
    EvidenceError
        spglib finds no symmetry in the crystal.
    """
    settings = settings or ElasticSettings()
    primitive = oriented_primitive_cell(crystal, settings.symmetry_tolerance)
    rotations = [mandel_rotation(r) for r in _group(primitive, settings.symmetry_tolerance).rotations]
    chosen: list[NDArray[np.float64]] = []
    spanned = np.zeros((0, 6))
    for unit in np.eye(6):
        images = np.array([m @ unit for m in rotations])
        wider = np.concatenate([spanned, images])
        if np.linalg.matrix_rank(wider, tol=1e-6) == np.linalg.matrix_rank(spanned, tol=1e-6):
            continue
        spanned = wider
        chosen.append(unit)
        if (
            np.abs(images + unit).max(axis=1).min() > 1e-6
        ):  # else symmetry makes the negative strain of the positive one
            chosen.append(-unit)
    strains = settings.strain * from_mandel(np.array(chosen))
    cells = []
    for strain in strains:
        cell = primitive.copy()
        cell.set_cell(primitive.cell.array @ _deformation(strain), scale_atoms=True)
        cells.append(cell)
    internal = None
    if settings.internal == "relaxed" and len(primitive) > 1:
        small = PhononSettings(
            displacement=settings.displacement, symmetry_tolerance=settings.symmetry_tolerance
        )
        internal = displacement_set(primitive, small, matrix=np.eye(3))
        cells.extend(internal.cells)
    return ElasticCells(primitive, strains, tuple(cells), internal, settings)


@dataclass(frozen=True)
class ElasticConstants:
    """Elastic constants of a crystal by one method.

    Parameters
    ----------
    method
        What computed the stresses, e.g. ``"potential"`` or ``"reference"``.
    tensor
        In the axes in which the crystal was given; with relaxed atoms unless `internal` says clamped.
    clamped
        The same with atoms at fixed fractional coordinates.
    internal
        ``"relaxed"`` or ``"clamped"``.
    to_standard
        Shape (3, 3): rotation into the axes in which constants are usually quoted (x along a, z along c of the
        conventional cell).
    point_group
        Hermann-Mauguin symbol.
    independent
        Names of the independent constants in the standard axes.
    stress_GPa
        Voigt's order, GPa, tension positive: stress of the crystal at rest. Constants of a crystal under a stress
        that is not small against them are not those of Hooke's law, and `stable` is not Born's criterion.
    residual_GPa
        Root mean square deviation of the stresses from the fit, GPa: noise, and what is not linear in the strain.
    asymmetry_GPa
        Largest difference across the diagonal before it was taken out, GPa: forces and stresses that are no
        derivatives of one energy.
    """

    method: str
    tensor: ElasticTensor
    clamped: ElasticTensor
    internal: str
    to_standard: NDArray[np.float64]
    point_group: str
    independent: tuple[str, ...]
    stress_GPa: tuple[float, ...]
    residual_GPa: float
    asymmetry_GPa: float

    @property
    def standard(self) -> ElasticTensor:
        """The tensor in the standard axes."""
        return self.tensor.rotated(self.to_standard)

    @property
    def pressure_GPa(self) -> float:  # noqa: N802 - the unit keeps its spelling
        """Pressure of the crystal at rest, GPa."""
        return -sum(self.stress_GPa[:3]) / 3.0

    @property
    def stable(self) -> bool:
        """Born's criterion (see `ElasticTensor.stable`)."""
        return self.tensor.stable

    def constants(self) -> dict[str, float]:
        """Return the independent constants in the standard axes by name, GPa."""
        standard = self.standard
        return {name: standard[name] for name in self.independent}

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data with the units in the keys; `from_dict` reads it."""
        return {
            "method": self.method,
            "tensor": self.tensor.as_dict(),
            "clamped": self.clamped.as_dict(),
            "internal": self.internal,
            "to_standard": self.to_standard.tolist(),
            "point_group": self.point_group,
            "independent": list(self.independent),
            "stress_GPa": list(self.stress_GPa),
            "residual_GPa": self.residual_GPa,
            "asymmetry_GPa": self.asymmetry_GPa,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ElasticConstants:
        """Return what `as_dict` wrote."""
        return cls(
            method=str(data["method"]),
            tensor=ElasticTensor.from_dict(data["tensor"]),
            clamped=ElasticTensor.from_dict(data["clamped"]),
            internal=str(data["internal"]),
            to_standard=np.array(data["to_standard"], dtype=float),
            point_group=str(data["point_group"]),
            independent=tuple(map(str, data["independent"])),
            stress_GPa=tuple(map(float, data["stress_GPa"])),
            residual_GPa=float(data["residual_GPa"]),
            asymmetry_GPa=float(data["asymmetry_GPa"]),
        )


def elastic_constants(
    planned: ElasticCells,
    stresses: Sequence[ArrayLike],
    forces: Sequence[ArrayLike],
    *,
    method: str = "potential",
) -> ElasticConstants:
    """Return the elastic constants that follow from stresses and forces of the planned cells.

    Parameters
    ----------
    planned
        The cells.
    stresses
        Of the strained cells, in their order (those of displaced cells may follow and are not used): shape (6,),
        eV/Å^3, xx, yy, zz, yz, xz, xy, tension positive as ASE has it (minus virial over volume).
    forces
        Of all cells, in the order of `planned.cells`: shape (n, 3), eV/Å. Not needed with clamped atoms.
    method
        What computed them.

    Raises
    ------
    EvidenceError
        Stresses or forces are missing or not finite.
    UnstableCrystalError
        The crystal is not stable against displacements of its atoms, so that they cannot relax.
    """
    crystal, count = planned.crystal, len(planned.strains)
    group = _group(crystal, planned.settings.symmetry_tolerance)
    if len(stresses) < count:
        raise EvidenceError(f"{count} strained cells, but stresses of {len(stresses)}; label them all")
    cauchy = np.array([_stress(s, k) for k, s in enumerate(stresses[:count])])
    kirchhoff = np.array([_second_piola(s, e) for s, e in zip(cauchy, planned.strains, strict=True)])
    turns = np.array([mandel_rotation(r) for r in group.rotations])
    # every image of a strained cell under the point group is a measurement too
    strains = np.einsum("gab,mb->mga", turns, mandel(planned.strains)).reshape(-1, 6)
    measured = np.einsum("gab,mb->mga", turns, mandel(kirchhoff)).reshape(-1, 6) * _GPA
    design = np.concatenate([np.ones((len(strains), 1)), strains], axis=1)
    solution = np.linalg.lstsq(design, measured, rcond=None)[0]
    stiffness = solution[1:].T
    clamped = symmetrised(stiffness, list(group.rotations))
    relaxed = clamped
    if planned.internal is not None:
        relaxed = symmetrised(
            clamped - _softening(planned, planned.internal, group, design, forces), list(group.rotations)
        )
    tensor = ElasticTensor.from_mandel(relaxed)
    rest = from_mandel(solution[0])
    return ElasticConstants(
        method=method,
        tensor=tensor,
        clamped=ElasticTensor.from_mandel(clamped),
        internal=planned.settings.internal,
        to_standard=group.to_standard,
        point_group=group.symbol,
        independent=independent_names([group.to_standard @ r @ group.to_standard.T for r in group.rotations]),
        stress_GPa=tuple(float(rest[i, j]) for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))),
        residual_GPa=float(np.sqrt(np.mean((design @ solution - measured) ** 2))),
        asymmetry_GPa=float(np.abs(stiffness - stiffness.T).max()),
    )


def elastic_constants_by(
    calculator: Calculator,
    crystal: Atoms,
    settings: ElasticSettings | None = None,
    *,
    method: str = "potential",
) -> ElasticConstants:
    """Return the elastic constants of a crystal by a calculator with forces and stress.

    Raises
    ------
    EvidenceError
        As `elastic_cells` and `elastic_constants`.
    """
    planned = elastic_cells(crystal, settings)
    stresses, forces = [], []
    for k, cell in enumerate(planned.cells):
        work = cell.copy()
        work.calc = calculator
        forces.append(np.array(work.get_forces(), dtype=float))
        if k < len(planned.strains):
            stresses.append(np.array(work.get_stress(voigt=True), dtype=float))
    return elastic_constants(planned, stresses, forces, method=method)


def _softening(
    planned: ElasticCells,
    internal: DisplacementSet,
    group: _Group,
    design: NDArray[np.float64],
    forces: Sequence[ArrayLike],
) -> NDArray[np.float64]:
    """Return L^T K^+ L / V in GPa and Mandel's notation, shape (6, 6): what the atoms give way."""
    n, count = len(planned.crystal), len(planned.strains)
    if len(forces) != len(planned.cells):
        raise EvidenceError(f"{len(planned.cells)} cells, but forces of {len(forces)}; label them all")
    pushed = np.array([_forces(f, n, k) for k, f in enumerate(forces[:count])])
    images = np.empty((count, len(group.rotations), n, 3))
    for g, (rotation, to) in enumerate(zip(group.rotations, group.images, strict=True)):
        images[:, g, to] = pushed @ rotation.T
    solution = np.linalg.lstsq(design, images.reshape(-1, 3 * n), rcond=None)[0]
    push = solution[1:].T  # (3n, 6)
    rest = solution[0].reshape(n, 3)
    order = np.array([_atom_at(planned.crystal, position) for position in internal.supercell.positions])
    constants = force_constants(internal, list(forces[count:]), at_rest=rest[order])
    values, vectors = np.linalg.eigh(constants.gamma().reshape(3 * n, 3 * n))
    # three modes move the crystal as a whole; no force can
    shift = np.zeros((3 * n, 3))
    for axis in range(3):
        shift[axis::3, axis] = 1.0 / np.sqrt(n)
    optical = 1.0 - ((shift.T @ vectors) ** 2).sum(axis=0) > 0.5
    if values[optical].min() <= 1e-3 * values[optical].max():
        raise UnstableCrystalError(
            f"{planned.crystal.symbols!s} is not stable against displacements of its atoms (lowest eigenvalue of the "
            f"force constants {values[optical].min():.3g} eV/Å^2): relax it, or take internal='clamped'"
        )
    projected = vectors[:, optical].T @ push
    volume = float(planned.crystal.get_volume())
    return np.asarray((projected / values[optical, None]).T @ projected / volume * _GPA)


def _atom_at(crystal: Atoms, position: NDArray[np.float64]) -> int:
    fractional = (crystal.positions - position) @ np.linalg.inv(crystal.cell.array)
    return int(np.argmin(np.linalg.norm((fractional - np.rint(fractional)) @ crystal.cell.array, axis=1)))


def _deformation(strain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the symmetric F with (F^T F - 1)/2 = strain."""
    values, vectors = np.linalg.eigh(np.eye(3) + 2.0 * strain)
    return np.asarray((vectors * np.sqrt(values)) @ vectors.T)


def _second_piola(cauchy: NDArray[np.float64], strain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return det(F) F^-1 cauchy F^-T: the derivative of the energy per volume at rest by the Lagrangian strain."""
    deformation = _deformation(strain)
    inverse = np.linalg.inv(deformation)
    return np.asarray(np.linalg.det(deformation) * inverse @ cauchy @ inverse.T)


def _stress(stress: ArrayLike, k: int) -> NDArray[np.float64]:
    flat = np.array(stress, dtype=float)
    if flat.shape != (6,) or not np.isfinite(flat).all():
        raise EvidenceError(f"stress of strained cell {k}: expected six finite numbers, not {flat.tolist()}")
    return flat[[0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(3, 3)


def _forces(forces: ArrayLike, n: int, k: int) -> NDArray[np.float64]:
    array = np.array(forces, dtype=float)
    if array.shape != (n, 3) or not np.isfinite(array).all():
        raise EvidenceError(
            f"forces on cell {k}: expected finite numbers of shape {(n, 3)}, got {array.shape}"
        )
    return array


def _group(crystal: Atoms, symprec: float) -> _Group:
    """Return the operations of a crystal.

    Raises
    ------
    EvidenceError
        spglib finds no symmetry.
    """
    scaled = crystal.get_scaled_positions()
    dataset: Any = ask_spglib(
        "get_symmetry_dataset", (crystal.cell.array, scaled, crystal.numbers), symprec=symprec
    )
    if dataset is None:
        raise EvidenceError(f"no symmetry found for {crystal.symbols!s}; do two atoms coincide?")
    columns = crystal.cell.array.T
    rotations, images = [], []
    for rotation, translation in zip(dataset.rotations, dataset.translations, strict=True):
        u, _, vt = np.linalg.svd(columns @ rotation @ np.linalg.inv(columns))
        rotations.append(u @ vt)
        apart = (scaled @ rotation.T + translation)[:, None, :] - scaled[None, :, :]
        distance = np.linalg.norm((apart - np.rint(apart)) @ crystal.cell.array, axis=2)
        images.append(np.argmin(distance, axis=1))
    return _Group(
        rotations=np.array(rotations),
        images=np.array(images, dtype=np.int64),
        to_standard=np.array(dataset.std_rotation_matrix, dtype=float),
        symbol=str(dataset.pointgroup).strip(),
    )


@dataclass(frozen=True)
class ElasticComparison:
    """Potential against reference.

    Parameters
    ----------
    potential, reference
        What was compared.
    """

    potential: ElasticConstants
    reference: ElasticConstants

    def rows(self) -> list[dict[str, Any]]:
        """Return one row for the bulk and the shear modulus (Hill) and for each independent constant.

        The error in percent of the reference is None where the reference is below 0.1 % of its largest constant.
        """
        ours, theirs = self.potential.constants(), self.reference.constants()
        pairs = {
            "B": (self.potential.tensor.bulk, self.reference.tensor.bulk),
            "G": (self.potential.tensor.shear, self.reference.tensor.shear),
            **{name: (ours[name], theirs[name]) for name in theirs},
        }
        least = 1e-3 * float(np.abs(self.reference.tensor.values).max())
        return [
            {
                "constant": name,
                "potential_GPa": a,
                "reference_GPa": b,
                "error_GPa": a - b,
                "error_percent": 100.0 * (a - b) / b if abs(b) > least else None,
            }
            for name, (a, b) in pairs.items()
        ]

    @property
    def largest_error_percent(self) -> float:
        """Largest error of a constant or modulus in percent of the reference."""
        return max(abs(r["error_percent"]) for r in self.rows() if r["error_percent"] is not None)

    def sentence(self) -> str:
        """Return the comparison in words."""
        worst = max(
            (r for r in self.rows() if r["error_percent"] is not None), key=lambda r: abs(r["error_percent"])
        )
        text = (
            f"elastic constants agree to {abs(worst['error_percent']):.1f} % (largest for {worst['constant']}: "
            f"{worst['potential_GPa']:.1f} GPa, reference {worst['reference_GPa']:.1f})"
        )
        for who, found in (("potential", self.potential), ("reference", self.reference)):
            if not found.stable:
                text += f"; not stable against strain by the {who}"
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it."""
        return {
            "potential": self.potential.as_dict(),
            "reference": self.reference.as_dict(),
            "rows": self.rows(),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ElasticComparison:
        """Return what `as_dict` wrote."""
        return cls(
            ElasticConstants.from_dict(data["potential"]), ElasticConstants.from_dict(data["reference"])
        )


def compare_elasticity(potential: ElasticConstants, reference: ElasticConstants) -> ElasticComparison:
    """Compare the elastic constants of one crystal in its standard axes.

    Raises
    ------
    EvidenceError
        The crystals have different independent constants, or only one has relaxed atoms.
    """
    if potential.independent != reference.independent or potential.internal != reference.internal:
        raise EvidenceError(
            f"elastic constants {', '.join(potential.independent)} ({potential.internal}, {potential.point_group}) and "
            f"{', '.join(reference.independent)} ({reference.internal}, {reference.point_group}) do not pair up"
        )
    return ElasticComparison(potential, reference)
