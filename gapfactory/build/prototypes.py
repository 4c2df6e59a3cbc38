"""Simple crystals of an element by name, to begin a relaxation with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, get_args

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["Prototype", "prototype_crystal"]

Prototype = Literal["fcc", "bcc", "hcp", "sc", "diamond"]

#: Atoms in the conventional cell, whose edge follows from the volume per atom; hcp has an ideal c/a.
_ATOMS: Final = {"fcc": 4, "bcc": 2, "sc": 1, "diamond": 8}
_IDEAL: Final = (8.0 / 3.0) ** 0.5


def prototype_crystal(symbol: str, prototype: Prototype) -> Atoms:
    """Return the primitive cell of a simple crystal: as tabulated by ASE, or with the volume of the tabulated crystal.

    Parameters
    ----------
    symbol
        Element.
    prototype
        Which crystal.

    Raises
    ------
    InputError
        The name is none of these, or ASE has no crystal of the element.
    """
    from ase.build import bulk

    if prototype not in get_args(Prototype):
        msg = f"no prototype {prototype!r}; there are: {', '.join(get_args(Prototype))}"
        raise InputError(msg)
    try:
        known = bulk(symbol)
    except (ValueError, KeyError, NotImplementedError) as error:
        msg = (
            f"no crystal of {symbol} is tabulated ({error}): give a file instead of the prototype {prototype}"
        )
        raise InputError(msg) from error
    try:
        # the tabulated crystal itself has its own axes
        return bulk(symbol, prototype)
    except ValueError:
        volume = float(known.get_volume()) / len(known)
    if prototype == "hcp":
        a = (2.0 * volume / (3.0**0.5 / 2.0 * _IDEAL)) ** (1.0 / 3.0)
        return bulk(symbol, "hcp", a=a, c=_IDEAL * a)
    return bulk(symbol, prototype, a=(_ATOMS[prototype] * volume) ** (1.0 / 3.0))
