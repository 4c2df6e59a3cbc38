"""Arrays and structures as BSON: compact, exact to the last bit, independent of the machine."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from bson.binary import Binary

from gapfactory.errors import DatabaseError

if TYPE_CHECKING:
    from ase import Atoms
    from numpy.typing import ArrayLike, NDArray

__all__ = ["pack_array", "pack_atoms", "unpack_array", "unpack_atoms"]

_DTYPES = {"f8", "i4", "i8", "u1"}


def pack_array(array: ArrayLike, dtype: str = "f8") -> dict[str, Any]:
    """Return the array as ``{d: dtype, s: shape, b: little-endian bytes}``.

    Parameters
    ----------
    array
        Any shape.
    dtype
        One of ``f8``, ``i4``, ``i8``, ``u1``.
    """
    if dtype not in _DTYPES:
        msg = f"arrays are stored as one of {sorted(_DTYPES)}, not {dtype!r}"
        raise DatabaseError(msg)
    values = np.ascontiguousarray(array, dtype="<" + dtype)
    return {"d": dtype, "s": list(values.shape), "b": Binary(values.tobytes())}


def unpack_array(packed: dict[str, Any]) -> NDArray[Any]:
    """Return the array that `pack_array` packed, writable.

    Raises
    ------
    DatabaseError
        The document is not a packed array, or its length does not fit its shape.
    """
    try:
        dtype, shape, data = packed["d"], tuple(packed["s"]), packed["b"]
        sound = (
            isinstance(data, bytes) and dtype in _DTYPES and all(isinstance(n, int) and n >= 0 for n in shape)
        )
    except (KeyError, TypeError) as error:
        msg = f"not a packed array: {str(packed)[:80]}"
        raise DatabaseError(msg) from error
    if not sound:
        msg = f"not a packed array: {str(packed)[:80]}"
        raise DatabaseError(msg)
    if len(data) != math.prod(shape) * np.dtype(dtype).itemsize:
        msg = f"a packed array of {len(data)} bytes does not fit its shape {shape} and type {dtype!r}"
        raise DatabaseError(msg)
    return np.frombuffer(data, dtype="<" + dtype).reshape(shape).copy()


def pack_atoms(atoms: Atoms) -> dict[str, Any]:
    """Return species, positions (Å), cell (Å) and periodicity of a structure as a BSON document."""
    return {
        "numbers": pack_array(atoms.numbers, "i4"),
        "positions": pack_array(atoms.positions),
        "cell": pack_array(atoms.cell.array),
        "pbc": [bool(p) for p in atoms.pbc],
    }


def unpack_atoms(packed: dict[str, Any]) -> Atoms:
    """Return the structure that `pack_atoms` packed.

    Raises
    ------
    DatabaseError
        The document is not a packed structure.
    """
    from ase import Atoms

    try:
        parts = {name: unpack_array(packed[name]) for name in ("numbers", "positions", "cell")}
        return Atoms(**parts, pbc=packed["pbc"])
    except (KeyError, TypeError, ValueError) as error:
        msg = f"not a packed structure ({error}): {str(packed)[:80]}"
        raise DatabaseError(msg) from error
