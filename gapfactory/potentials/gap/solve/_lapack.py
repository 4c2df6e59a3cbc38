"""LAPACK's triangular-pentagonal QR, called so that other threads run meanwhile.

SciPy's wrapper of `dtpqrt` holds the interpreter's lock; the address that SciPy exports for Cython does not.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from gapfactory.errors import FitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["fold_below"]

#: Columns per step. From 32 to 128 the speed is that of a matrix product; the numbers depend on it, so it is fixed.
PANEL = 64


@cache
def _dtpqrt() -> Any:
    from numba.extending import get_cython_function_address
    from scipy.linalg import cython_lapack

    # A build with 64-bit integers would take the sizes below for other numbers.
    signature = repr(cython_lapack.__pyx_capi__["dtpqrt"])
    if "void (int *, int *" not in signature:
        msg = f"this SciPy's LAPACK has another interface than the fit expects: {signature}"
        raise FitError(msg)
    address = get_cython_function_address("scipy.linalg.cython_lapack", "dtpqrt")
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 12)(address)


def fold_below(upper: NDArray[np.float64], rows: NDArray[np.float64], triangular: int = 0) -> None:
    """Replace `upper` by the triangular factor of `upper` stacked on `rows`; `rows` is destroyed.

    Parameters
    ----------
    upper
        (n, n) upper triangular, column-major; what is below the diagonal is not touched.
    rows
        (m, n) column-major. Its last `triangular` rows are zero below their own diagonal.

    Raises
    ------
    ValueError
        If shapes or memory layout are not as said: LAPACK would read or write elsewhere.
    """
    n = upper.shape[1]
    m = rows.shape[0]
    for name, array, shape in (("upper", upper, (n, n)), ("rows", rows, (m, n))):
        if array.shape != shape or array.dtype != np.float64 or not array.flags.f_contiguous:
            msg = f"{name} must be a column-major float64 array {shape}, got {array.dtype} {array.shape}"
            raise ValueError(msg)
    if not 0 <= triangular <= min(m, n):
        msg = f"{triangular} triangular rows of {m} x {n}"
        raise ValueError(msg)
    if m == 0 or n == 0:
        return
    panel = min(PANEL, n)
    reflectors = np.empty((panel, n), order="F")
    work = np.empty(panel * n)
    size = np.array([m, n, triangular, panel, n, m, panel, 0], dtype=np.int32)
    at = [size.ctypes.data + k * size.itemsize for k in range(len(size))]
    _dtpqrt()(
        at[0], at[1], at[2], at[3],
        upper.ctypes.data, at[4], rows.ctypes.data, at[5],
        reflectors.ctypes.data, at[6], work.ctypes.data, at[7],
    )  # fmt: skip
    if size[7] != 0:
        msg = f"dtpqrt refused its argument {-size[7]}"
        raise ValueError(msg)
