"""Elastic tensors as 6x6 matrices: rotation, symmetry, averages over crystals in all directions, stability.

Voigt's order is xx, yy, zz, yz, xz, xy with strains of shear counted twice (engineering). Inside, Mandel's notation is
used: shear components of stress *and* strain times the root of two, so that rotations are orthogonal matrices and
eigenvalues have a meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["ElasticTensor", "from_mandel", "independent_names", "mandel", "mandel_rotation", "symmetrised"]

_PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_ROOT = np.array([1.0, 1.0, 1.0, np.sqrt(2.0), np.sqrt(2.0), np.sqrt(2.0)])
#: the order in which constants are named: a constant that symmetry derives from earlier ones is not named
_NAMED = (11, 12, 13, 33, 44, 66, 22, 23, 55, 14, 15, 16, 24, 25, 26, 34, 35, 36, 45, 46, 56)


def mandel(matrix: ArrayLike) -> NDArray[np.float64]:
    """Return a symmetric 3x3 tensor, shape (..., 3, 3), as (..., 6): xx, yy, zz, and yz, xz, xy times the root of 2."""
    full = np.asarray(matrix, dtype=float)
    return np.stack([full[..., i, j] for i, j in _PAIRS], axis=-1) * _ROOT


def from_mandel(vector: ArrayLike) -> NDArray[np.float64]:
    """Return the symmetric 3x3 tensors, shape (..., 3, 3), of what `mandel` gave."""
    flat = np.asarray(vector, dtype=float) / _ROOT
    full = np.empty((*flat.shape[:-1], 3, 3))
    for k, (i, j) in enumerate(_PAIRS):
        full[..., i, j] = full[..., j, i] = flat[..., k]
    return full


def mandel_rotation(rotation: ArrayLike) -> NDArray[np.float64]:
    """Return the orthogonal matrix, shape (6, 6), that rotates what `mandel` gives: v' = M v where t' = R t R^T."""
    r = np.asarray(rotation, dtype=float)
    units = from_mandel(np.eye(6))
    return np.asarray(mandel(r @ units @ r.T).T)


def symmetrised(matrix: NDArray[np.float64], rotations: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the mean of a 6x6 matrix in Mandel's notation over rotations, and over its transpose."""
    both = 0.5 * (matrix + matrix.T)
    return np.asarray(np.mean([m @ both @ m.T for m in map(mandel_rotation, rotations)], axis=0))


def independent_names(rotations: Sequence[NDArray[np.float64]]) -> tuple[str, ...]:
    """Return the independent constants of a point group in these axes, e.g. ``("C11", "C12", "C44")`` for a cubic one.

    Parameters
    ----------
    rotations
        Shape (3, 3) each: the operations of the point group.
    """
    # every tensor that the point group allows is a combination of the images of the 21 unit tensors
    images = []
    for i in range(6):
        for j in range(i, 6):
            unit = np.zeros((6, 6))
            unit[i, j] = unit[j, i] = 1.0
            images.append(symmetrised(unit, rotations))
    columns: list[NDArray[np.float64]] = []
    names = []
    for name in _NAMED:
        i, j = name // 10 - 1, name % 10 - 1
        column = np.array([image[i, j] for image in images])
        if np.linalg.matrix_rank(np.array([*columns, column]), tol=1e-6) > len(columns):
            columns.append(column)
            names.append(f"C{name}")
    return tuple(names)


@dataclass(frozen=True)
class ElasticTensor:
    """Stiffness of a crystal.

    Parameters
    ----------
    values
        Shape (6, 6), GPa, in Voigt's notation: stress = values @ engineering strain. Symmetric.
    """

    values: NDArray[np.float64]

    def __post_init__(self) -> None:
        values = np.array(self.values, dtype=float)
        if values.shape != (6, 6) or not np.isfinite(values).all():
            raise EvidenceError(f"an elastic tensor has 6 x 6 finite numbers, not the shape {values.shape}")
        if np.abs(values - values.T).max() > 1e-6 * max(1.0, np.abs(values).max()):
            raise EvidenceError(
                f"an elastic tensor is symmetric; the largest difference across its diagonal is "
                f"{np.abs(values - values.T).max():.3g} GPa"
            )
        object.__setattr__(self, "values", 0.5 * (values + values.T))

    @classmethod
    def from_mandel(cls, matrix: ArrayLike) -> ElasticTensor:
        """Return the tensor of a 6x6 matrix in Mandel's notation, GPa."""
        return cls(np.asarray(matrix, dtype=float) / np.outer(_ROOT, _ROOT))

    @property
    def mandel(self) -> NDArray[np.float64]:
        """The 6x6 matrix in Mandel's notation, GPa."""
        return self.values * np.outer(_ROOT, _ROOT)

    def __getitem__(self, name: str) -> float:
        """Return a constant by its name, e.g. ``tensor["C44"]``, GPa."""
        return float(self.values[int(name[1]) - 1, int(name[2]) - 1])

    def rotated(self, rotation: ArrayLike) -> ElasticTensor:
        """Return the tensor of the crystal turned by a rotation R (r' = R r), shape (3, 3)."""
        m = mandel_rotation(rotation)
        return ElasticTensor.from_mandel(m @ self.mandel @ m.T)

    @property
    def eigenvalues(self) -> NDArray[np.float64]:
        """Kelvin moduli: the six eigenvalues, ascending, GPa."""
        return np.asarray(np.linalg.eigvalsh(self.mandel))

    @property
    def stable(self) -> bool:
        """Born's criterion for an unstressed crystal: every strain costs energy (all eigenvalues are positive)."""
        return bool(self.eigenvalues[0] > 0)

    @property
    def bulk_voigt(self) -> float:
        """Bulk modulus for equal strain in all grains (upper bound), GPa."""
        return float(self.values[:3, :3].sum() / 9.0)

    @property
    def shear_voigt(self) -> float:
        """Shear modulus for equal strain in all grains (upper bound), GPa."""
        c = self.values
        return float((np.trace(c[:3, :3]) - c[0, 1] - c[0, 2] - c[1, 2] + 3.0 * np.trace(c[3:, 3:])) / 15.0)

    @property
    def bulk_reuss(self) -> float:
        """Bulk modulus for equal stress in all grains (lower bound), GPa: that of a crystal under pressure.

        NaN where the crystal is unstable.
        """
        s = self._compliance()
        return float("nan") if s is None else float(1.0 / s[:3, :3].sum())

    @property
    def shear_reuss(self) -> float:
        """Shear modulus for equal stress in all grains (lower bound), GPa; NaN where the crystal is unstable."""
        s = self._compliance()
        if s is None:
            return float("nan")
        return float(
            15.0
            / (4.0 * np.trace(s[:3, :3]) - 4.0 * (s[0, 1] + s[0, 2] + s[1, 2]) + 3.0 * np.trace(s[3:, 3:]))
        )

    @property
    def bulk(self) -> float:
        """Bulk modulus, mean of Voigt's and Reuss's (Hill), GPa."""
        return 0.5 * (self.bulk_voigt + self.bulk_reuss)

    @property
    def shear(self) -> float:
        """Shear modulus, mean of Voigt's and Reuss's (Hill), GPa."""
        return 0.5 * (self.shear_voigt + self.shear_reuss)

    @property
    def anisotropy(self) -> float:
        """Universal anisotropy index (Ranganathan and Ostoja-Starzewski 2008), zero for an isotropic solid."""
        return 5.0 * self.shear_voigt / self.shear_reuss + self.bulk_voigt / self.bulk_reuss - 6.0

    def _compliance(self) -> NDArray[np.float64] | None:
        return np.asarray(np.linalg.inv(self.values)) if self.stable else None

    def moduli(self) -> dict[str, float]:
        """Return bulk and shear moduli by all three averages, in GPa."""
        return {
            "bulk_voigt": self.bulk_voigt,
            "bulk_reuss": self.bulk_reuss,
            "bulk_hill": self.bulk,
            "shear_voigt": self.shear_voigt,
            "shear_reuss": self.shear_reuss,
            "shear_hill": self.shear,
        }

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON data; `from_dict` reads it."""
        return {"values_GPa": self.values.tolist()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ElasticTensor:
        """Return what `as_dict` wrote."""
        return cls(np.array(data["values_GPa"], dtype=float))
