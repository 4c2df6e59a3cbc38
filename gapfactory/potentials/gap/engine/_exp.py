"""The exponential of eight doubles at a time: no call of a library, no branch."""

from __future__ import annotations

from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.extending import intrinsic

from gapfactory.compiled import compiled
from gapfactory.potentials.gap.engine._simd import LANES, add, fma, mul, splat, sub

__all__ = ["LOWEST", "exp"]

#: smaller arguments give exp(LOWEST) = 3e-308, next to the smallest normal number
LOWEST = -708.0

_LOG2_E = 1.4426950408889634
# ln 2 in two parts; the first ends in 21 zero bits, so that its product with an exponent is exact
_LN2_HIGH = 6.93147180369123816490e-01
_LN2_LOW = 1.90821492927058770002e-10
# adding 1.5 * 2^52 leaves the nearest whole number in the last bits of the sum
_SHIFT = 6755399441055744.0


# numba's own annotation describes the function that is decorated, not what compiled code calls
_operation: Any = intrinsic

_VECTOR = ir.VectorType(ir.DoubleType(), LANES)
_WHOLE = ir.VectorType(ir.IntType(64), LANES)


@_operation
def _scale(_: Any, value: Any, shifted: Any) -> Any:
    """Return value * 2^n for n = shifted - _SHIFT, by adding n to the exponent of `value`."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        exponent = builder.shl(builder.bitcast(arguments[1], _WHOLE), ir.Constant(_WHOLE, [52] * LANES))
        bits = builder.add(builder.bitcast(arguments[0], _WHOLE), exponent)
        return builder.bitcast(bits, _VECTOR)

    return value(value, shifted), build


@_operation
def _larger(_: Any, a: Any, b: Any) -> Any:
    """Return the larger of two vectors, element by element."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *arguments), *arguments)

    return a(a, b), build


# no fast mathematics here: reassociation would undo the rounding to a whole number
@compiled
def exp(x: Any) -> Any:
    """Return exp of eight numbers up to 700, each within two units in the last place.

    exp(x) = 2^n exp(r) with |r| <= ln 2 / 2; exp(r) = 1 + r + r^2 q(r), where q interpolates at the Chebyshev
    nodes of the interval (largest relative error of the exact polynomial 1.6e-17).
    """
    x = _larger(x, splat(LOWEST))
    shifted = fma(x, splat(_LOG2_E), splat(_SHIFT))
    n = sub(shifted, splat(_SHIFT))
    r = fma(n, splat(-_LN2_LOW), fma(n, splat(-_LN2_HIGH), x))
    q = splat(2.5100375832561234e-08)
    q = fma(q, r, splat(2.7620075879983367e-07))
    q = fma(q, r, splat(2.7557268480310024e-06))
    q = fma(q, r, splat(2.4801521322368692e-05))
    q = fma(q, r, splat(1.9841269863040545e-04))
    q = fma(q, r, splat(1.3888888917196719e-03))
    q = fma(q, r, splat(8.333333333330065e-03))
    q = fma(q, r, splat(4.1666666666624164e-02))
    q = fma(q, r, splat(1.6666666666666669e-01))
    q = fma(q, r, splat(0.5000000000000001))
    return _scale(add(splat(1.0), fma(mul(r, r), q, r)), shifted)
