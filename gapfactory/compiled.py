"""The compiled loops of the package: how they are compiled, where the result is kept, how it is made in advance.

A process that finds the result loads it in a fraction of a second; without it the first call takes up to a
minute. `python -m gapfactory.compiled` makes it once, when the package is installed. Each type of CPU has its
own files, in the same directory; results on different types agree to the tolerance of the tests, not bit for bit.
"""

from __future__ import annotations

import sys
import time
from importlib import import_module
from typing import TYPE_CHECKING, Any, TypeVar, overload

from gapfactory.errors import GapFactoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["KERNELS", "compiled", "kernels", "main", "warm_up"]

Function = TypeVar("Function", bound="Callable[..., Any]")

#: every module with compiled functions; what one of them says is part of the name of every cached result
KERNELS = (
    "gapfactory.build._kernels",
    "gapfactory.descriptors._kernels",
    "gapfactory.potentials.datum._cost_kernels",
    "gapfactory.potentials.eddp._feature_kernels",
    "gapfactory.potentials.eddp._network_kernels",
    "gapfactory.potentials.gap.engine._dot_product",
    "gapfactory.potentials.gap.engine._exp",
    "gapfactory.potentials.gap.engine._neighbours",
    "gapfactory.potentials.gap.engine._pair",
    "gapfactory.potentials.gap.engine._radial",
    "gapfactory.potentials.gap.engine._simd",
    "gapfactory.potentials.gap.engine._soap",
    "gapfactory.potentials.gap.engine._soap_rows",
    "gapfactory.potentials.gap.engine._triplet",
    "gapfactory.potentials.gap.engine._triplet_rows",
    "gapfactory.search._batch_lbfgs",
)
_WARM_UP = "gapfactory._warm_up"


@overload
def compiled(function: Function) -> Function: ...
@overload
def compiled(**options: Any) -> Callable[[Function], Function]: ...
def compiled(function: Any = None, **options: Any) -> Any:
    """Compile a function with numba: no GIL held, NumPy's rules of division, result kept on disk.

    Parameters
    ----------
    function
        The function, when used without options.
    options
        Further options of `numba.njit`.

    Returns
    -------
    Callable
        The compiled function; its module must be listed in `KERNELS`.
    """
    if function is None:
        return lambda wrapped: compiled(wrapped, **options)
    import numba

    njit: Any = numba.njit
    dispatcher = njit(**{"nogil": True, "error_model": "numpy"} | options)(function)
    # With NUMBA_DISABLE_JIT there is nothing to keep.
    if hasattr(dispatcher, "_cache"):
        from gapfactory._compile_cache import KernelCache

        dispatcher._cache = KernelCache(function)
    return dispatcher


def kernels() -> Iterator[tuple[str, Any]]:
    """Yield (module.name, compiled function) of every function of the modules in `KERNELS`; imports them."""
    for name in KERNELS:
        for key, value in sorted(vars(import_module(name)).items()):
            if hasattr(value, "py_func") and value.py_func.__module__ == name:
                yield f"{name}.{key}", value


def warm_up(parts: Sequence[str] = ()) -> Mapping[str, float]:
    """Run every compiled function with the argument types that the package uses; compile what is not kept.

    Parameters
    ----------
    parts
        Names of `gapfactory._warm_up.PARTS`; none for all.

    Returns
    -------
    Mapping
        Seconds of each part.

    Raises
    ------
    GapFactoryError
        If there is no such part.
    """
    known = import_module(_WARM_UP).PARTS
    unknown = sorted(set(parts) - set(known))
    if unknown:
        msg = f"there is no part {', '.join(unknown)} to compile: choose from {', '.join(known)}"
        raise GapFactoryError(msg)
    seconds = {}
    for name in parts or known:
        start = time.perf_counter()
        known[name]()
        seconds[name] = time.perf_counter() - start
    return seconds


def main(parts: Sequence[str] = ()) -> int:
    """Warm up and report to standard output; return an exit status."""
    from gapfactory._compile_cache import directories

    start = time.perf_counter()
    seconds = warm_up(parts)
    functions = [function for _, function in kernels()]
    made = sum(sum(function.stats.cache_misses.values()) for function in functions)
    found = sum(sum(function.stats.cache_hits.values()) for function in functions)
    lines = [f"{name:<24}{value:8.2f} s" for name, value in seconds.items()]
    lines += [f"{'all, with imports':<24}{time.perf_counter() - start:8.2f} s"]
    lines += [f"{len(functions)} functions: {made} variants compiled, {found} found in the cache"]
    lines += [f"cache: {', then '.join(str(path) for path in directories())}"]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
