"""Our own solution of the sparse Gaussian-process fit: design matrix in blocks, tall-skinny QR, coefficients."""

from gapfactory.potentials.gap.data import Diagnostics
from gapfactory.potentials.gap.solve.blocks import TriangleStore
from gapfactory.potentials.gap.solve.design import Design
from gapfactory.potentials.gap.solve.native import NativeFit, assemble, fit_native, solve
from gapfactory.potentials.gap.solve.tsqr import Triangle, merge

__all__ = [
    "Design",
    "Diagnostics",
    "NativeFit",
    "Triangle",
    "TriangleStore",
    "assemble",
    "fit_native",
    "merge",
    "solve",
]
