"""The spread of an ensemble: it rejects what the networks have never seen, and tells which labels teach most.

Networks learn two kinds of silicon crystals by Stillinger and Weber's potential, and are asked about others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase.build import bulk
from scipy.stats import spearmanr

from gapfactory.potentials.eddp import (
    EddpCalculator,
    EddpSettings,
    combine,
    split_structures,
    train_network,
    training_set,
)
from gapfactory.potentials.gap.data import LabelledStructure
from gapfactory.reference.analytic import StillingerWeberSilicon
from gapfactory.search import RelaxSettings, relax

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ase import Atoms

CRYSTALS = {
    "diamond": bulk("Si"),
    "sc": bulk("Si", "sc", a=2.6) * (2, 1, 1),
    "bcc": bulk("Si", "bcc", a=3.2, cubic=True),
    "fcc": bulk("Si", "fcc", a=4.0, cubic=True),
}
KNOWN = ("diamond", "sc")
SETTINGS = EddpSettings.model_validate(
    {
        "features": {"cutoff": 4.5, "three_body": 3},
        "network": {"hidden": [4]},
        "training": {"max_steps": 60, "patience": 15},
        "ensemble": {"members": 6, "outlier": 5.0},
    }
)
#: eV/atom: beyond it, a structure is rejected
LIMIT = 0.1


def shaken(name: str, count: int, seed: int, strain: float = 0.1, moved: float = 0.2) -> list[Atoms]:
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        atoms = CRYSTALS[name].copy()
        cell = atoms.cell.array @ (np.eye(3) + rng.uniform(-strain, strain, (3, 3)))
        atoms.set_cell(cell, scale_atoms=True)
        atoms.positions += rng.uniform(-moved, moved, atoms.positions.shape)
        found.append(atoms)
    return found


def energies(structures: Sequence[Atoms]) -> np.ndarray:
    calculator = StillingerWeberSilicon()
    return np.array([calculator.get_potential_energy(atoms) / len(atoms) for atoms in structures])


def fitted(structures: Sequence[Atoms]) -> EddpCalculator:
    labels = energies(structures)
    data = [
        LabelledStructure(f"s{k:04d}", atoms, label * len(atoms), None, None)
        for k, (atoms, label) in enumerate(zip(structures, labels, strict=True))
    ]
    prepared = training_set(data, ["Si"], SETTINGS)
    split = split_structures(prepared.parents, SETTINGS.training, np.random.default_rng(1))
    networks = [
        train_network(prepared, split, SETTINGS, np.random.default_rng([2, k])).network
        for k in range(SETTINGS.ensemble.members)
    ]
    return EddpCalculator(combine(networks, prepared, split, SETTINGS.ensemble).ensemble, limit=1e6)


def judged(calculator: EddpCalculator, structures: Sequence[Atoms]) -> tuple[np.ndarray, np.ndarray]:
    """Return spreads and sizes of the errors, eV/atom."""
    found = calculator.engine.evaluate(structures, gradients=False)
    error = found.energies / np.array([len(atoms) for atoms in structures]) - energies(structures)
    return found.spreads, np.abs(error)


@dataclass(frozen=True)
class Taught:
    """Networks and what they were trained on."""

    data: list[Atoms]
    calculator: EddpCalculator


@pytest.fixture(scope="module")
def taught() -> Taught:
    data = [atoms for k, name in enumerate(KNOWN) for atoms in shaken(name, 60, 1 + k)]
    return Taught(data, fitted(data))


def pressed(factor: float) -> Atoms:
    """Return diamond whose lengths are so many times those of the crystal."""
    atoms = CRYSTALS["diamond"].copy()
    atoms.set_cell(factor * atoms.cell.array, scale_atoms=True)
    return atoms


def test_what_was_never_seen_is_rejected_and_what_was_is_not(taught: Taught) -> None:
    fresh = [atoms for k, name in enumerate(KNOWN) for atoms in shaken(name, 30, 7 + k, moved=0.15)]
    spread_of_known, error = judged(taught.calculator, fresh)
    accepted = spread_of_known < LIMIT
    assert accepted.mean() > 0.85
    assert np.median(error[accepted]) < 0.05
    # contacts far below those of the data: the networks promise what is not there
    close = [pressed(factor) for factor in (0.6, 0.7, 0.8)]
    spread, error = judged(taught.calculator, close)
    assert (spread > 3 * LIMIT).all()
    assert error.min() > 1.0
    # coordinations that no data show: 12 and 8 neighbours
    wrong = shaken("fcc", 10, 9) + shaken("bcc", 10, 10)
    usual = np.median(spread_of_known)
    spread, _ = judged(taught.calculator, wrong)
    assert (spread > LIMIT).mean() > 0.6
    assert np.median(spread) > 4 * usual
    # a thin gas: less telling, for networks that have seen no dilute matter agree more than they are right
    spread, error = judged(taught.calculator, [pressed(2.0)])
    assert error[0] > 1.0
    assert spread[0] > judged(taught.calculator, [pressed(1.0)])[0][0]


@pytest.mark.parametrize("pressure", [50.0, 200.0])
def test_a_relaxation_ends_before_it_falls_into_a_hole(taught: Taught, pressure: float) -> None:
    """Dense cells are lower by these networks than by what they have learnt: a free relaxation goes there."""
    start = shaken("diamond", 1, 5, strain=0.03, moved=0.1)[0]
    settings = RelaxSettings(max_steps=150, min_volume_fraction=0.05, closest_approach=0.3)
    free = relax(start, taught.calculator, pressure_GPa=pressure, settings=settings)
    (spread,), (fallen,) = judged(taught.calculator, [free.frame(-1)])
    assert free.uncertainty is None
    assert spread > LIMIT
    assert fallen > 1.0
    told = settings.model_copy(update={"max_spread": LIMIT})
    found = relax(start, taught.calculator, pressure_GPa=pressure, settings=told)
    assert found.left_known_space
    assert found.uncertainty == pytest.approx(judged(taught.calculator, [found.frame(-1)])[0][0], abs=1e-12)
    assert found.uncertainty > LIMIT
    # on the way, before it left, the networks were right enough
    _, errors = judged(taught.calculator, [found.frame(k) for k in range(len(found) - 1)])
    assert errors.max() < fallen
    # without pressure nothing is in the way
    rest = relax(start, taught.calculator, pressure_GPa=0.0, settings=told)
    assert rest.status == "converged"
    assert rest.uncertainty < LIMIT


def test_labels_where_the_spread_is_largest_teach_most(taught: Taught) -> None:
    pool, test = (
        [a for k, name in enumerate(CRYSTALS) for a in shaken(name, n, seed + k, strain=0.15, moved=0.25)]
        for n, seed in ((50, 20), (40, 30))
    )
    spread, error = judged(taught.calculator, pool)
    assert spearmanr(spread, error).statistic > 0.5
    before = np.mean(judged(taught.calculator, test)[1])
    order = np.argsort(spread)
    after = {
        name: np.mean(judged(fitted([*taught.data, *(pool[k] for k in chosen)]), test)[1])
        for name, chosen in (("most", order[-40:]), ("least", order[:40]))
    }
    assert after["most"] < 0.7 * before
    assert after["most"] < 0.7 * after["least"]
