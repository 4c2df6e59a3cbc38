"""The exponential for loops that LLVM vectorises: no call of a library, no branch."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

__all__ = ["LOWEST", "exp"]

#: smaller arguments give exp(LOWEST) = 3e-308, next to the smallest normal number
LOWEST = -708.0

_LOG2_E = 1.4426950408889634
# ln 2 in two parts; the first ends in 21 zero bits, so that its product with an exponent is exact
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
# adding 1.5 * 2^52 leaves the nearest whole number in the last bits of the sum
_SHIFT = 6755399441055744.0


@intrinsic
def _scale(_: Any, value: Any, shifted: Any) -> Any:
    """Return value * 2^n for n = shifted - _SHIFT, by adding n to the exponent of `value`."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        whole = ir.IntType(64)
        exponent = builder.shl(builder.bitcast(arguments[1], whole), ir.Constant(whole, 52))
        bits = builder.add(builder.bitcast(arguments[0], whole), exponent)
        return builder.bitcast(bits, ir.DoubleType())

    return types.float64(types.float64, types.float64), build


# no reassociation here: it would undo the rounding to a whole number
@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
def exp(x: float) -> float:
    """Return exp(x) for x <= 700, within two units in the last place.

    exp(x) = 2^n exp(r) with |r| <= ln 2 / 2; exp(r) = 1 + r + r^2 q(r), where q interpolates at the Chebyshev
    nodes of the interval (largest relative error of the exact polynomial 1.6e-17).
    """
    # a select: max() would keep LLVM from vectorising
    x = x if x > LOWEST else LOWEST
    shifted = x * _LOG2_E + _SHIFT
    n = shifted - _SHIFT
    r = (x - n * _LN2_HIGH) - n * _LN2_LOW
    q = 2.5100375832561234e-08
    q = q * r + 2.7620075879983367e-07
    q = q * r + 2.7557268480310024e-06
    q = q * r + 2.4801521322368692e-05
    q = q * r + 1.9841269863040545e-04
    q = q * r + 1.3888888917196719e-03
    q = q * r + 8.333333333330065e-03
    q = q * r + 4.1666666666624164e-02
    q = q * r + 1.6666666666666669e-01
    q = q * r + 0.5000000000000001
    return _scale(1.0 + (r + r * r * q), shifted)  # type: ignore[call-arg]
