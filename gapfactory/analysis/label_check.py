"""Do labels fit together? Signs and units of forces and stresses, and energies of more than one origin.

A data set of somebody else rarely says in which units and with which sign it is, and a potential that is fitted to a
wrong one only looks bad. Whatever the material, forces and stresses are derivatives of the energy. So a linear model in
the features of pairs and triplets is fitted to the energies alone (and one to the forces), and its derivatives are
compared with what is given: they need not agree well to tell a sign or a factor of fifty.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from gapfactory.potentials.gap.data import CONTRADICTION
from gapfactory.structures import structure_hash

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ase import Atoms
    from numpy.typing import NDArray

    from gapfactory.io.labelled import LabelledData

__all__ = ["Agreement", "LabelCheck", "check_data", "check_labels", "two_populations"]

#: Structures and atoms that are enough to tell, chosen evenly along the data.
_STRUCTURES: Final = 300
_ATOMS: Final = 6000
#: Below this correlation with the model's derivatives nothing is said, above the other factors are told closely.
_TELLS: Final = 0.5
_SURE: Final = 0.85
#: Factors that are still taken for agreement, below the second correlation and above it.
_COARSE: Final = 10.0
_FINE: Final = 1.4
#: Above the second correlation, a factor that is no unit's is a fault from here on: of few structures the model itself
#: may be off by half.
_STRANGE: Final = 3.0

#: Given forces are so many times those in eV/Å, when they are in ...
_FORCE_UNITS: Final = {
    "Ha/Bohr": 1 / 51.42208619,
    "Ry/Bohr": 1 / 25.711043,
    "kcal/mol/Å": 23.0605,
    "kJ/mol/Å": 96.4853,
    "Ha/Å, or the energies in Hartree": 1 / 27.211386,
    "eV/Å with energies in Hartree": 27.211386,
    "Ha/Bohr with energies in Hartree": 0.529177,
}
_STRESS_UNITS: Final = {
    "GPa": 160.21766,
    "kbar": 1602.1766,
    "Ha/Bohr^3": 0.148185 / 27.211386,
    "Ry/Bohr^3": 0.148185 / 13.605693,
    "bar": 1602176.6,
}


@dataclass(frozen=True)
class Agreement:
    """Given values beside the derivatives of a linear model of the energy.

    Attributes
    ----------
    correlation
        Pearson's, of all components.
    ratio
        Root mean square of the given over that of the model's.
    values
        Components compared.
    """

    correlation: float
    ratio: float
    values: int


@dataclass(frozen=True)
class LabelCheck:
    """What was found in labels.

    Attributes
    ----------
    faults
        What must not be fitted, each with its reason and remedy.
    notes
        What could not be told, or should be known.
    energy_rms
        Root mean square of what the linear model leaves of the energies, eV/atom.
    agreements
        By quantity, ``forces`` and ``stress``.
    """

    faults: tuple[str, ...]
    notes: tuple[str, ...]
    energy_rms: float
    agreements: dict[str, Agreement]


def check_data(data: Mapping[str, LabelledData]) -> LabelCheck:
    """Check files as one set: everything of `check_labels`, duplicates, and what the files say of their methods.

    Parameters
    ----------
    data
        By the name of the file.
    """
    faults: list[str] = []
    notes = [f"{name}: {note}" for name, part in data.items() for note in part.notes]
    methods = Counter(method for part in data.values() for method in part.methods if method)
    if len(methods) > 1:
        told = "; ".join(f"{count} with {method}" for method, count in methods.most_common())
        faults.append(
            f"the labels are of several methods ({told}): energies of two methods are never fitted together; give each "
            "a file of its own"
        )
    frames = [(f"{name} {frame.id}", frame) for name, part in data.items() for frame in part.frames]
    seen: dict[str, tuple[str, float]] = {}
    twice = 0
    for name, frame in frames:
        first, energy = seen.setdefault(structure_hash(frame.atoms), (name, frame.energy))
        apart = abs(frame.energy - energy) / len(frame.atoms)
        if apart > CONTRADICTION:
            faults.append(
                f"{first} and {name} are one structure with energies {apart:.4g} eV/atom apart: labels of two methods? "
                "Take one out"
            )
            break
        twice += first != name
    if twice:
        notes.append(f"{twice} structures are there twice with the same energy; a fit takes one of each")
    found = check_labels(
        [frame.atoms for _, frame in frames],
        [frame.energy for _, frame in frames],
        [frame.forces for _, frame in frames],
        [frame.stress for _, frame in frames],
    )
    return replace(found, faults=(*faults, *found.faults), notes=(*notes, *found.notes))


def check_labels(
    structures: Sequence[Atoms],
    energies: Sequence[float],
    forces: Sequence[NDArray[np.float64] | None],
    stresses: Sequence[NDArray[np.float64] | None],
    *,
    cutoff: float = 5.0,
) -> LabelCheck:
    """Compare forces and stresses with derivatives of a model of the energies, and look for energies of two origins.

    Parameters
    ----------
    structures, energies
        eV.
    forces
        Each (N, 3) in eV/Å, or None where there are none.
    stresses
        Each (6,) in eV/Å^3, ASE's sign and order, or None.
    cutoff
        Reach of the model, Å.
    """
    chosen = _sample(structures)
    if len(chosen) < 5:
        return LabelCheck(
            (), ("fewer than 5 structures: signs and units could not be checked",), math.nan, {}
        )
    atoms = [structures[i] for i in chosen]
    design = _Design(atoms, cutoff)
    per_atom = np.array([energies[i] for i in chosen]) / design.sizes
    fitted, weights = _ridge(design.energies / design.sizes[:, None], per_atom)
    residual = per_atom - fitted
    faults: list[str] = []
    notes: list[str] = []
    agreements: dict[str, Agreement] = {}

    given_forces = [forces[i] for i in chosen]
    rows, values = _force_rows(design, given_forces)
    by_forces = None
    if len(values):
        agreements["forces"] = found = _agreement(values, design.forces[rows] @ weights)
        _judge("forces", found, _FORCE_UNITS, faults, notes)
        # the strongest test of stresses is a model of the forces: there are more of them
        by_forces = _ridge(design.forces[rows], values)[1]
    models = [weights] if by_forces is None else [by_forces, weights]
    given_stress = [stresses[i] for i in chosen]
    rows, values = _stress_rows(given_stress)
    if len(values):
        compared = [_agreement(values, design.stresses[rows] @ model) for model in models]
        agreements["stress"] = found = max(compared, key=lambda a: abs(a.correlation))
        _judge("stress", found, _STRESS_UNITS, faults, notes)
    for model in models:
        if (apart := _two_origins(design, per_atom, model)) is not None:
            faults.append(
                f"the energies fall into two groups {apart:.3g} eV/atom apart that no structure explains: labels of "
                "two functionals, codes or data sets in one file? Give each a file of its own"
            )
            break
    return LabelCheck(tuple(faults), tuple(notes), float(np.sqrt(np.mean(residual**2))), agreements)


def two_populations(values: NDArray[np.float64], least: float = 0.02) -> NDArray[np.bool_] | None:
    """Return which values are the upper of two groups, or None where they are one group.

    They are cut where that leaves the least spread within both sides, with `least` of the values, but three at least,
    on each; they are two groups when the means are more than six spreads apart and nothing lies in the middle third
    between.

    Parameters
    ----------
    values : (N,)
        In any unit.

    Returns
    -------
    NDArray
        (N,) bool, or None.
    """
    upper = _cut(values, least)
    if upper is None:
        return None
    low, high = values[~upper], values[upper]
    apart = float(high.mean() - low.mean())
    spread = math.sqrt((low.var() * len(low) + high.var() * len(high)) / len(values))
    middle = (values > low.mean() + apart / 3) & (values < high.mean() - apart / 3)
    return upper if apart > 6 * spread and not middle.any() else None


def _cut(values: NDArray[np.float64], least: float) -> NDArray[np.bool_] | None:
    """Return which values are above the cut of the least spread within both sides; None where they are too few."""
    order = np.argsort(values, kind="stable")
    n = len(values)
    smallest = max(3, math.ceil(least * n))
    if n < 2 * smallest:
        return None
    counts = np.arange(1, n)
    sums = np.cumsum(values[order])[:-1]
    # of sums of squares only what depends on the cut
    between = sums**2 / counts + (values.sum() - sums) ** 2 / (n - counts)
    cut = smallest + int(np.argmax(between[smallest - 1 : n - smallest]))
    upper = np.zeros(n, dtype=bool)
    upper[order[cut:]] = True
    return upper


def _two_origins(
    design: _Design, per_atom: NDArray[np.float64], weights: NDArray[np.float64]
) -> float | None:
    """Return how far two groups of energies are apart (eV/atom) whose structures are the same kinds of structures.

    Groups whose structures differ too may be what the model cannot describe, e.g. two phases.
    """
    rows = design.energies / design.sizes[:, None]
    species = len(design.symbols)
    left = per_atom - rows[:, species:] @ weights[species:]
    residual = left - rows[:, :species] @ np.linalg.lstsq(rows[:, :species], left, rcond=None)[0]
    # a model that knows of the two groups sees them more clearly, unless it has a weight for every other structure
    groups = _cut(residual, 0.02)
    for _ in range(20 if len(rows) >= 3 * rows.shape[1] else 0):
        if groups is None:
            break
        found = _ridge(np.column_stack([rows, groups]), per_atom)[1]
        residual = per_atom - rows @ found[:-1]
        before, groups = groups, _cut(residual, 0.02)
        if groups is None or np.array_equal(groups, before):
            break
    upper = two_populations(residual)
    if upper is None:
        return None
    spread = rows.std(axis=0)
    points = rows[:, spread > 0] / spread[spread > 0]
    distances = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    mixed = float(np.mean(upper[distances.argmin(axis=1)] != upper))
    by_chance = 2 * upper.mean() * (1 - upper.mean())
    return float(residual[upper].mean() - residual[~upper].mean()) if mixed > 0.4 * by_chance else None


class _Design:
    """Derivatives of energies, forces and stresses by the weights of the linear model, of a batch of structures."""

    def __init__(self, structures: Sequence[Atoms], cutoff: float) -> None:
        from gapfactory.potentials.eddp.features import Features
        from gapfactory.potentials.eddp.settings import FeatureSettings

        symbols = sorted({symbol for atoms in structures for symbol in atoms.get_chemical_symbols()})
        self.symbols = symbols
        # triplets of many species would be more weights than structures
        settings = FeatureSettings(cutoff=cutoff, two_body=6, three_body=2 if len(symbols) <= 3 else 0)
        features = Features.from_settings(settings, symbols)
        system = features.system(structures)
        kinds = features.kinds(system)
        cells = len(structures)
        self.sizes = np.bincount(system.cell_of, minlength=cells).astype(float)
        full = features.full(system)
        self.energies = np.zeros((cells, features.length))
        np.add.at(self.energies, system.cell_of, full)
        self.forces = np.zeros((3 * len(kinds), features.length))
        self.stresses = np.zeros((6 * cells, features.length))
        for kind in range(features.n_species):
            for local, column in enumerate(features.columns(kind)):
                by_local = np.zeros((len(kinds), features.local_length))
                by_local[kinds == kind, local] = 1.0
                forces, virials = np.zeros((len(kinds), 3)), np.zeros((cells, 3, 3))
                features.add_gradients(system, kinds, by_local, forces, virials)
                self.forces[:, column] = forces.ravel()
                stress = -virials / system.volumes[:, None, None]
                self.stresses[:, column] = stress[:, (0, 1, 2, 1, 0, 0), (0, 1, 2, 2, 2, 1)].ravel()


def _sample(structures: Sequence[Atoms]) -> list[int]:
    """Return the indices of structures, evenly along the data, that are few enough and have two atoms or neighbours."""
    usable = [i for i, atoms in enumerate(structures) if len(atoms) > 1 or atoms.pbc.any()]
    atoms = sum(len(structures[i]) for i in usable)
    share = min(1.0, _STRUCTURES / max(len(usable), 1), _ATOMS / max(atoms, 1))
    count = max(min(len(usable), 5), round(share * len(usable)))
    return (
        [usable[i] for i in np.unique(np.linspace(0, len(usable) - 1, count).astype(int))] if usable else []
    )


def _ridge(
    rows: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return fitted values and weights of least squares with a small penalty on standardised columns."""
    scale = np.sqrt(np.mean(rows**2, axis=0))
    used = scale > 1e-12 * scale.max(initial=0.0)
    x = rows[:, used] / scale[used]
    penalty = 1e-3 * len(x)
    mean = values.mean()
    solved = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (values - mean))
    weights = np.zeros(rows.shape[1])
    weights[used] = solved / scale[used]
    return x @ solved + mean, weights


def _force_rows(
    design: _Design, given: Sequence[NDArray[np.float64] | None]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return which rows of the forces are given, and their values."""
    rows, values, start = [], [], 0
    for forces, size in zip(given, design.sizes.astype(int).tolist(), strict=True):
        if forces is not None:
            rows.append(np.arange(3 * start, 3 * (start + size)))
            values.append(np.asarray(forces, dtype=float).ravel())
        start += size
    return (
        np.concatenate([np.empty(0, dtype=np.int64), *rows]),
        np.concatenate([np.empty(0), *values]),
    )


def _stress_rows(
    given: Sequence[NDArray[np.float64] | None],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return which rows of the stresses are given, and their values."""
    known = [(i, np.asarray(s, dtype=float)) for i, s in enumerate(given) if s is not None]
    rows = [np.arange(6 * i, 6 * i + 6) for i, _ in known]
    return (
        np.concatenate([np.empty(0, dtype=np.int64), *rows]),
        np.concatenate([np.empty(0), *(s for _, s in known)]),
    )


def _agreement(given: NDArray[np.float64], model: NDArray[np.float64]) -> Agreement:
    sizes = float(np.sqrt(np.mean(given**2))), float(np.sqrt(np.mean(model**2)))
    if min(sizes) == 0.0:
        return Agreement(0.0, math.nan, len(given))
    # about zero, not about the mean: a constant pressure is information
    correlation = float(np.mean(given * model) / (sizes[0] * sizes[1]))
    return Agreement(correlation, sizes[0] / sizes[1], len(given))


def _judge(
    what: Literal["forces", "stress"],
    found: Agreement,
    units: dict[str, float],
    faults: list[str],
    notes: list[str],
) -> None:
    """Add what an agreement tells to faults or notes."""
    told = f"correlation {found.correlation:+.2f} with the derivatives of the energies, {found.values} components"
    if abs(found.correlation) < _TELLS:
        notes.append(f"{what}: sign and unit cannot be told from these data ({told})")
        return
    if found.correlation < 0:
        right = (
            "forces are minus the gradient of the energy"
            if what == "forces"
            else "a stress is positive under tension, as ASE has it, and a virial is minus volume times that"
        )
        faults.append(f"{what} have the wrong sign ({told}): {right}; change the sign, or name the right key")
    limit = _FINE if abs(found.correlation) > _SURE else _COARSE
    if not 1 / limit < found.ratio < limit:
        name = min(units, key=lambda unit: abs(math.log(found.ratio / units[unit])))
        near = abs(math.log(found.ratio / units[name])) < math.log(limit)
        guess = f"as if in {name}" if near else "no unit known here fits"
        wanted = "eV/Å" if what == "forces" else "eV/Å^3"
        said = f"{what} are {found.ratio:.3g} times what the energies say ({told}), {guess}"
        strange = max(limit, _STRANGE)
        if near or not 1 / strange < found.ratio < strange:
            faults.append(f"{said}: give them in {wanted}, energies in eV and positions in Å")
        else:
            notes.append(f"{said}: are they in {wanted}?")
