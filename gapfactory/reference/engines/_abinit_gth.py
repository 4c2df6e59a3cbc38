"""Goedecker-Teter-Hutter pseudopotentials from CP2K's file in ABINIT's own format.

CP2K's package has potentials of several functionals for most of the periodic table in one text file; ABINIT's package
has a mixed set. Both programs use the same analytic form (Hartwigsen, Goedecker and Hutter, Phys. Rev. B 58, 3641, with
general off-diagonal coefficients: Krack, Theor. Chem. Acc. 114, 145), which ABINIT reads as ``pspcod 10``::

    title
    zatom zion pspdat
    10 pspxc lmax 0 2001 0
    rloc n c1 ... cn                 local part
    nonlocal                         number of angular momenta
    r_l n h11 h12 ... h1n            for each l: the upper triangle, a row per line
              h22 ... h2n
    k11 ...                          for each l > 0: spin-orbit coefficients, here zero
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gapfactory.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["GthPotential", "abinit_text", "find_gth", "read_gth"]

# ABINIT's reader knows so many projectors for l = 0, 1, 2, 3, and so many local coefficients
_MOST_PROJECTORS = (3, 3, 2, 1)
_MOST_LOCAL = 4


@dataclass(frozen=True)
class GthPotential:
    """One entry of CP2K's file, atomic units.

    Attributes
    ----------
    symbol
        Chemical symbol.
    names
        Names in the file, such as GTH-PBE-q4 and GTH-PBE.
    electrons
        Valence electrons.
    r_local, local
        Radius and coefficients of the local part.
    channels
        (radius, rows of the upper triangle of h) for l = 0, 1, ...
    """

    symbol: str
    names: tuple[str, ...]
    electrons: int
    r_local: float
    local: tuple[float, ...]
    channels: tuple[tuple[float, tuple[tuple[float, ...], ...]], ...]


def read_gth(text: str) -> list[GthPotential]:
    """Return the potentials of a file in CP2K's format, in its order.

    Raises
    ------
    InputError
        An entry is not in that format.
    """
    entries: list[tuple[list[str], list[str]]] = []
    electrons: list[list[str]] = []
    for line in text.splitlines():
        words = re.split(r"[#!]", line)[0].split()
        if not words:
            continue
        if re.fullmatch(r"[A-Z][a-z]?", words[0]):
            entries.append((words, []))
            electrons.append([])
        elif not entries:
            raise InputError(
                f"{line!r} precedes the first element: this is no file of GTH potentials in CP2K's format."
            )
        elif not electrons[-1]:
            electrons[-1] = words
        else:
            entries[-1][1].extend(words)
    return [_entry(head, n, numbers) for (head, numbers), n in zip(entries, electrons, strict=True)]


def _entry(head: Sequence[str], electrons: Sequence[str], numbers: Sequence[str]) -> GthPotential:
    left = iter(numbers)
    try:
        r_local = float(next(left))
        local = tuple(float(next(left)) for _ in range(int(next(left))))
        channels = []
        for _ in range(int(next(left))):
            radius, count = float(next(left)), int(next(left))
            rows = tuple(tuple(float(next(left)) for _ in range(i, count)) for i in range(count))
            channels.append((radius, rows))
        rest = list(left)
        valence = sum(int(n) for n in electrons)
    # the number of words runs out inside a generator expression, too
    except (StopIteration, RuntimeError, ValueError) as error:
        raise InputError(f"the GTH potential {' '.join(head)} is not in CP2K's format: {error}") from error
    if rest:
        raise InputError(
            f"the GTH potential {' '.join(head)} has {len(rest)} numbers too many: {rest[:3]} ..."
        )
    return GthPotential(head[0], tuple(head[1:]), valence, r_local, local, tuple(channels))


def find_gth(potentials: Sequence[GthPotential], symbol: str, name: str) -> GthPotential | None:
    """Return an element's potential of this name, in the file's own order; None when there is none.

    Parameters
    ----------
    potentials
        As `read_gth` gives them.
    symbol
        Chemical symbol.
    name
        With the number of electrons (GTH-PBE-q4), or without (GTH-PBE): then the one to which the file gives this
        short name, or the only one of that functional.
    """
    own = [p for p in potentials if p.symbol == symbol]
    exact = next((p for p in own if name in p.names), None)
    if exact is not None:
        return exact
    family = [p for p in own if any(re.fullmatch(rf"{re.escape(name)}-q\d+", n) for n in p.names)]
    return family[0] if len(family) == 1 else None


def abinit_text(potential: GthPotential, atomic_number: int, pspxc: int) -> str:
    """Return the potential as a file that ABINIT reads.

    Parameters
    ----------
    potential
        To write.
    atomic_number
        Of its element.
    pspxc
        ABINIT's number of the functional it was made for.

    Raises
    ------
    InputError
        It has more projectors than ABINIT can treat.
    """
    # an element without projectors (hydrogen) needs an empty channel: ABINIT counts lmax from them
    channels = potential.channels or ((0.2, ()),)
    too_many = len(channels) > len(_MOST_PROJECTORS) or any(
        len(rows) > most for (_, rows), most in zip(channels, _MOST_PROJECTORS, strict=False)
    )
    if too_many or len(potential.local) > _MOST_LOCAL:
        raise InputError(
            f"the GTH potential {potential.names[0]} of {potential.symbol} has more projectors than ABINIT can "
            f"treat ({_MOST_PROJECTORS} for s, p, d, f): name another potential for {potential.symbol}."
        )
    lines = [
        f"{potential.symbol} {potential.names[0]} converted from CP2K's format",
        f"{atomic_number} {potential.electrons} 0  zatom, zion, pspdat",
        f"10 {pspxc} {len(channels) - 1} 0 2001 0  pspcod, pspxc, lmax, lloc, mmax, r2well",
        _row(f"{potential.r_local:.8f} {len(potential.local)}", potential.local) + "  rloc, n, c1 ... cn",
        f"{len(channels)}  angular momenta",
    ]
    for momentum, (radius, rows) in enumerate(channels):
        lines.append(
            _row(f"{radius:.8f} {len(rows)}", rows[0] if rows else ()) + f"  r, n, h of l = {momentum}"
        )
        lines += [_row("", row) for row in rows[1:]]
        if momentum > 0:
            lines += [_row("", [0.0] * len(row)) for row in rows]
    return "\n".join(lines) + "\n"


def _row(start: str, numbers: Sequence[float]) -> str:
    return start + "".join(f" {number:.8f}" for number in numbers)
