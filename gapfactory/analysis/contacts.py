"""Close contacts: whether a potential pushes atoms apart, or its energy falls into a hole when they come near."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from gapfactory.errors import EvidenceError, PotentialError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ase import Atoms
    from numpy.typing import ArrayLike, NDArray

    from gapfactory.analysis.stability_settings import StabilitySettings

__all__ = ["ContactCurve", "ContactKind", "close_contacts", "judge_contacts"]

ContactKind = Literal["dimer", "pair", "crystal"]

#: fractions of the equilibrium distance a scan starts from; a dimer's minimum lies on either side of it
_START = {"dimer": 1.5, "pair": 1.0, "crystal": 1.0}
#: step of a scan, in equilibrium distances
_STEP = 0.01
#: the minimum that the scan climbs from is looked for down to this fraction; a dimer's length is known roughly only,
#: a relaxed crystal's exactly
_MINIMUM_FROM = {"dimer": 0.75, "pair": 0.98, "crystal": 0.98}
#: eV by which an energy may fall on the way in and still count as rounding
_ROUNDING = 1e-6
_GIVES_UP = (ArithmeticError, ValueError, RuntimeError, PotentialError)


@dataclass(frozen=True)
class ContactCurve:
    """Energy of atoms that are brought together, over M distances.

    Parameters
    ----------
    kind
        ``dimer``: two atoms alone. ``pair``: two neighbours in the crystal pushed together, the others held.
        ``crystal``: the whole crystal compressed evenly.
    label
        Atoms concerned, e.g. ``"Si-Si"``.
    equilibrium
        Distance that fractions refer to, Å.
    distances, energies
        (M,) ascending distances in Å, and energies above the minimum that the scan climbs from: eV, for the crystal
        eV/atom.
    refused
        Distance (Å) and reason where the potential gave no energy; the scan ends there.
    wanted
        Fraction of the equilibrium down to which the energy has to rise.
    repulsive_to
        Distance (Å) down to which it does.
    barrier
        Energy at `repulsive_to`, eV (per atom for the crystal): how hard it is to get to what lies behind it.
    hole
        How far the energy falls behind the barrier, same unit; 0 where it does not fall.
    below_minimum
        How far the bottom of the hole lies below the minimum, same unit; 0 where it does not.
    """

    kind: ContactKind
    label: str
    equilibrium: float
    distances: NDArray[np.float64]
    energies: NDArray[np.float64]
    refused: tuple[tuple[float, str], ...]
    wanted: float
    repulsive_to: float
    barrier: float
    hole: float
    below_minimum: float

    @property
    def passes(self) -> bool:
        """Whether the energy rises down to the wanted distance."""
        return self.repulsive_to <= self.wanted * self.equilibrium * (1 + 1e-9)

    @property
    def unit(self) -> str:
        """Unit of the energies."""
        return "eV/atom" if self.kind == "crystal" else "eV"

    @property
    def title(self) -> str:
        """Name of the scan for people."""
        return {
            "dimer": f"{self.label} alone",
            "pair": f"{self.label} in the crystal",
            "crystal": "the whole crystal",
        }[self.kind]

    def sentence(self) -> str:
        """Return what was found, in one sentence without its full stop."""
        r = f"{self.repulsive_to:.2f} Å ({self.repulsive_to / self.equilibrium:.2f} of {self.equilibrium:.2f} Å)"
        if self.hole:
            text = (
                f"is repulsive down to {r} only"
                if not self.passes
                else f"is repulsive down to {r}, which is far enough"
            )
            text += (
                f"; behind a barrier of {self.barrier:.3g} {self.unit} the energy falls by {self.hole:.3g}"
            )
            if self.below_minimum:
                text += f", {self.below_minimum:.3g} below the minimum: a hole"
        elif self.refused:
            text = f"is repulsive down to {r}, where the potential refuses: {self.refused[0][1]}"
        else:
            text = f"is repulsive as far as it was looked at, {r}"
        return f"{self.title} {text}"


def judge_contacts(
    kind: ContactKind,
    label: str,
    equilibrium: float,
    distances: ArrayLike,
    energies: ArrayLike,
    *,
    wanted: float,
    refused: tuple[tuple[float, str], ...] = (),
    floor: float = -np.inf,
) -> ContactCurve:
    """Judge the energies of a scan: from its minimum inwards they have to rise with every step.

    Parameters
    ----------
    kind, label, equilibrium, refused
        As in `ContactCurve`.
    distances, energies
        (M,) in any order; Å, and eV (per atom for the crystal).
    wanted
        Fraction of the equilibrium down to which the energy has to rise.
    floor
        Energies below this are no minimum but a hole, in the unit of the energies.

    Raises
    ------
    EvidenceError
        No energy around the equilibrium (beyond 0.75 of it for a dimer, 0.98 otherwise): nothing to climb from.
    """
    order = np.argsort(np.asarray(distances, dtype=float))
    r = np.asarray(distances, dtype=float)[order]
    e = np.asarray(energies, dtype=float)[order]
    outer = r >= _MINIMUM_FROM[kind] * equilibrium * (1 - 1e-9)
    if not outer.any():
        why = f" ({refused[0][1]})" if refused else ""
        raise EvidenceError(f"close contacts of {label}: no energy at {equilibrium:.2f} Å to begin with{why}")
    if (outer & (e >= floor)).any():
        outer &= e >= floor
    start = int(np.flatnonzero(outer)[np.argmin(e[outer])])
    e = e - e[start]
    inward = e[start::-1]
    falls = np.flatnonzero(np.diff(inward) < -_ROUNDING)
    crest = int(falls[0]) if len(falls) else len(inward) - 1
    behind = float(inward[crest:].min())
    return ContactCurve(
        kind=kind,
        label=label,
        equilibrium=float(equilibrium),
        distances=r,
        energies=e,
        refused=refused,
        wanted=wanted,
        repulsive_to=float(r[start - crest]),
        barrier=float(inward[crest]),
        hole=float(inward[crest]) - behind,
        below_minimum=max(0.0, -behind),
    )


def close_contacts(
    cell: Atoms,
    crystal: Atoms,
    calculator: Any,
    *,
    settings: StabilitySettings,
    dimer_lengths: Mapping[tuple[str, str], float],
    known_energy: float | None = None,
) -> tuple[ContactCurve, ...]:
    """Scan dimers, one pair of neighbours in the crystal, and the whole crystal.

    Parameters
    ----------
    cell
        Smallest cell of the crystal, relaxed by the potential; it is compressed.
    crystal
        A supercell of it; two neighbours in it are pushed together.
    calculator
        ASE calculator with energies.
    settings
        How far to go and what is wanted.
    dimer_lengths
        Equilibrium length (Å) of each pair of species to try as a dimer.
    known_energy
        Lowest energy per atom (eV) of any known structure: a dimer far below it is in a hole.

    Raises
    ------
    EvidenceError
        The potential refuses even the equilibrium.
    """
    first, second, vector = _nearest_pair(crystal)
    bond = float(np.linalg.norm(vector))
    symbols = [crystal.symbols[first], crystal.symbols[second]]

    def dimer(pair: tuple[str, str]) -> Callable[[float], Atoms]:
        from ase import Atoms

        return lambda r: Atoms(list(pair), positions=[[0, 0, 0], [r, 0, 0]], cell=[40.0] * 3, pbc=False)

    def pushed(r: float) -> Atoms:
        moved = crystal.copy()
        moved.calc = None
        shift = 0.5 * (1.0 - r / bond) * vector
        moved.positions[first] += shift
        moved.positions[second] -= shift
        return moved

    def compressed(r: float) -> Atoms:
        small = cell.copy()
        small.calc = None
        small.set_cell(cell.cell * (r / bond), scale_atoms=True)
        return small

    scan = _Scan(
        calculator, settings, None if known_energy is None else known_energy - settings.hole_margin_eV
    )
    curves = [
        scan("dimer", "-".join(pair), length, dimer(pair)) for pair, length in sorted(dimer_lengths.items())
    ]
    curves.append(scan("pair", "-".join(sorted(symbols)), bond, pushed))
    curves.append(scan("crystal", "crystal", bond, compressed))
    return tuple(curves)


class _Scan:
    """Evaluates a family of structures over their distance, from the outside in."""

    def __init__(self, calculator: Any, settings: StabilitySettings, floor: float | None) -> None:
        self.calculator = calculator
        self.floor = floor
        self.settings = settings

    def __call__(
        self, kind: ContactKind, label: str, equilibrium: float, make: Callable[[float], Atoms]
    ) -> ContactCurve:
        start, end = _START[kind], self.settings.contacts_to
        fractions = np.linspace(start, end, 1 + max(1, round((start - end) / _STEP)))
        distances: list[float] = []
        energies: list[float] = []
        refused: list[tuple[float, str]] = []
        for fraction in fractions:
            atoms = make(float(fraction * equilibrium))
            atoms.calc = self.calculator
            try:
                energy = float(atoms.get_potential_energy())
                if not np.isfinite(energy):
                    raise PotentialError("the energy is not a finite number")
            except _GIVES_UP as error:
                text = str(error).strip().splitlines()
                refused.append((float(fraction * equilibrium), text[0] if text else type(error).__name__))
                if distances:
                    break
                continue
            distances.append(float(fraction * equilibrium))
            energies.append(energy / (len(atoms) if kind == "crystal" else 1))
        return judge_contacts(
            kind,
            label,
            equilibrium,
            distances,
            energies,
            wanted=self.settings.repulsive_to,
            refused=tuple(refused),
            floor=2.0 * self.floor if kind == "dimer" and self.floor is not None else -np.inf,
        )


def _nearest_pair(atoms: Atoms) -> tuple[int, int, NDArray[np.float64]]:
    """Return two different atoms that are nearest neighbours, and the vector (Å) from the first to the second.

    Raises
    ------
    EvidenceError
        Every atom is nearest to its own image: the supercell is too small.
    """
    from ase.neighborlist import neighbor_list

    cutoff = 1.3 * float(np.cbrt(atoms.get_volume() / len(atoms)))
    for _ in range(6):
        i, j, length, vector = neighbor_list("ijdD", atoms, cutoff)
        other = i != j
        if other.any():
            # equal lengths differ in their last bits: the first pair in order of index stands for all
            k = np.flatnonzero(other & (length < length[other].min() + 1e-4))[0]
            return int(i[k]), int(j[k]), np.asarray(vector[k], dtype=float)
        cutoff *= 1.5
    raise EvidenceError(f"no two atoms of {atoms.symbols!s} are near each other; give a larger supercell")
