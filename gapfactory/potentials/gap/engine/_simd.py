"""Eight doubles at a time inside compiled loops.

LLVM vectorises long loops by itself, but not the short ones over radial functions and sparse points that a
SOAP kernel consists of: written with these vectors they run at 80-90 % of the machine's peak. Where the
machine's registers are narrower LLVM splits the vectors, so the results are the same everywhere up to the
order of the sums in :func:`total`, which is fixed.

All arrays must be one-dimensional, contiguous and of float64; no bounds are checked.
"""

from __future__ import annotations

from typing import Any

from llvmlite import binding, ir  # type: ignore[import-untyped]
from numba import config, types
from numba.extending import intrinsic, models, register_model

__all__ = ["LANES", "WIDE", "add", "fma", "load", "mul", "splat", "store", "sub", "total"]

LANES = 8


def _wide() -> bool:
    """Return whether a vector fits one register of the machine that is compiled for."""
    features = config.CPU_FEATURES  # type: ignore[attr-defined]
    if features is None:
        features = binding.get_host_cpu_features().flatten()
    return "+avx512f" in features.split(",")


#: if not, twice the registers are needed for the same, and the loops use smaller tiles
WIDE = _wide()

# numba's own annotation describes the function that is decorated, not what compiled code calls
_operation: Any = intrinsic

_INT = ir.IntType(32)
_VECTOR = ir.VectorType(ir.DoubleType(), LANES)


class _Vector(types.Type):
    """numba's name for eight doubles."""

    def __init__(self) -> None:
        super().__init__(name="Float64x8")


_vector = _Vector()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)  # type: ignore[no-untyped-call]


def _address(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    array = context.make_array(signature.args[0])(context, builder, arguments[0])
    return builder.bitcast(builder.gep(array.data, [arguments[1]]), _VECTOR.as_pointer())


@_operation
def load(_: Any, array: Any, index: Any) -> Any:
    """Return array[index : index + 8]."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        value = builder.load(_address(context, builder, signature, arguments))
        value.align = 8
        return value

    return _vector(array, types.intp), build


@_operation
def store(_: Any, array: Any, index: Any, value: Any) -> Any:
    """Write a vector to array[index : index + 8]."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        done = builder.store(arguments[2], _address(context, builder, signature, arguments))
        done.align = 8
        return context.get_dummy_value()

    return types.none(array, types.intp, _vector), build


@_operation
def splat(_: Any, value: Any) -> Any:
    """Return eight copies of a number."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        undefined = ir.Constant(_VECTOR, ir.Undefined)
        first = builder.insert_element(undefined, arguments[0], ir.Constant(_INT, 0))
        return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(_INT, LANES), [0] * LANES))

    return _vector(types.float64), build


@_operation
def fma(_: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a * b + c, rounded once."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        module = builder.module
        name = f"llvm.fma.v{LANES}f64"
        function = module.globals.get(name) or ir.Function(
            module, ir.FunctionType(_VECTOR, [_VECTOR] * 3), name
        )
        return builder.call(function, arguments)

    return _vector(_vector, _vector, _vector), build


@_operation
def add(_: Any, a: Any, b: Any) -> Any:
    """Return a + b."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fadd(*arguments)

    return _vector(_vector, _vector), build


@_operation
def sub(_: Any, a: Any, b: Any) -> Any:
    """Return a - b."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fsub(*arguments)

    return _vector(_vector, _vector), build


@_operation
def mul(_: Any, a: Any, b: Any) -> Any:
    """Return a * b."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fmul(*arguments)

    return _vector(_vector, _vector), build


@_operation
def total(_: Any, a: Any) -> Any:
    """Return the sum of the eight elements, halves first."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        parts = [builder.extract_element(arguments[0], ir.Constant(_INT, k)) for k in range(LANES)]
        while len(parts) > 1:
            half = len(parts) // 2
            parts = [builder.fadd(parts[k], parts[k + half]) for k in range(half)]
        return parts[0]

    return types.float64(_vector), build
