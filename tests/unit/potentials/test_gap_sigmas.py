"""Expected errors: the numbers of the paper's text, arbitrary windows, and the hull against independent oracles."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.optimize import linprog

from gapfactory.errors import InputError
from gapfactory.potentials.gap.sigmas import SigmaSettings, crystal_sigmas, distance_to_hull


@pytest.mark.parametrize(
    ("above", "energy", "force", "virial"),
    [
        (0.0, 0.001, 0.0316, 0.0632),
        (0.1, 0.001, 0.0316, 0.0632),
        (0.55, 0.0505, 0.1738, 0.3476),
        (1.0, 0.1, 0.316, 0.632),
        (7.0, 0.1, 0.316, 0.632),
    ],
)
def test_paper_numbers_on_totals(above: float, energy: float, force: float, virial: float) -> None:
    for n in (1, 7, 24):
        sigma = crystal_sigmas(above, n, SigmaSettings())
        assert sigma.energy == pytest.approx(n * energy)
        assert sigma.force == pytest.approx(force)
        assert sigma.virial == pytest.approx(n * virial)


def test_program_scaling_and_noise_floor() -> None:
    program = crystal_sigmas(0.0, 4, SigmaSettings(scaling="program"))
    assert program.energy == pytest.approx(0.001 * 0.5)
    assert program.virial == pytest.approx(0.0632 * 0.5**0.5)
    floored = crystal_sigmas(0.0, 4, SigmaSettings(energy_noise_floor=0.01, force_noise_floor=0.05))
    assert floored.energy == pytest.approx(0.04)
    assert floored.force == pytest.approx(0.05)
    assert crystal_sigmas(2.0, 4, SigmaSettings(energy_noise_floor=0.01)).energy == pytest.approx(0.4)


@pytest.mark.parametrize("window", [(0.02, 0.5), (0.1, 2.0), (0.0, 0.01), (3.0, 30.0)])
def test_any_window_stays_between_its_ends(window: tuple[float, float]) -> None:
    settings = SigmaSettings(window_low=window[0], window_high=window[1])
    values = [crystal_sigmas(x, 1, settings).energy for x in np.linspace(0, 2 * window[1], 50)]
    assert min(values) == pytest.approx(0.001)
    assert max(values) == pytest.approx(0.1)
    assert np.all(np.diff(values) >= 0)
    middle = crystal_sigmas(sum(window) / 2, 1, settings)
    assert middle.energy == pytest.approx(0.0505)


def test_impossible_settings_and_values() -> None:
    with pytest.raises(ValidationError, match="window_high"):
        SigmaSettings(window_low=1.0, window_high=0.5)
    with pytest.raises(ValidationError):
        SigmaSettings(energy_low=0.0)
    with pytest.raises(InputError, match="finite"):
        crystal_sigmas(float("nan"), 2, SigmaSettings())
    assert crystal_sigmas(-0.3, 1, SigmaSettings()).above_hull == 0.0


def test_hull_of_an_element_by_hand() -> None:
    volumes = [10.0, 20.0, 30.0, 20.0, 15.0]
    energies = [0.0, -2.0, 0.0, 1.0, 0.0]
    assert distance_to_hull(volumes, energies) == pytest.approx([0, 0, 0, 3.0, 1.0])


def test_degenerate_hulls() -> None:
    assert distance_to_hull([], []).shape == (0,)
    assert distance_to_hull([10.0], [3.0]) == pytest.approx([0.0])
    assert distance_to_hull([10.0, 20.0], [3.0, 5.0]) == pytest.approx([0.0, 0.0])
    assert distance_to_hull([10.0, 10.0, 10.0], [3.0, 5.0, 4.0]) == pytest.approx([0.0, 2.0, 1.0])
    collinear = distance_to_hull([1.0, 2.0, 3.0, 4.0], [2.0, 4.0, 6.0, 8.0])
    assert collinear == pytest.approx([0, 0, 0, 0], abs=1e-12)
    # one volume per composition: all points in one plane of the (V, x) space collapse onto a line
    line = distance_to_hull([10.0, 15.0, 20.0], [0.0, 1.0, 0.0], [[0.0], [0.5], [1.0]])
    assert line == pytest.approx([0.0, 1.0, 0.0], abs=1e-9)
    coplanar = distance_to_hull([1.0, 2.0, 1.0, 2.0], [0.0, 1.0, 2.0, 3.0], [[0.0], [0.0], [1.0], [1.0]])
    assert coplanar == pytest.approx([0, 0, 0, 0], abs=1e-9)


def test_wrong_input_is_named() -> None:
    with pytest.raises(InputError, match="finite"):
        distance_to_hull([1.0, 2.0], [0.0, np.nan])
    with pytest.raises(InputError, match="same points"):
        distance_to_hull([1.0, 2.0], [0.0])


@pytest.mark.parametrize("species", [1, 2, 3])
def test_hull_equals_the_least_energy_of_mixtures(species: int) -> None:
    """Oracle: the primal linear program, one per point, over all points."""
    rng = np.random.default_rng(species)
    n = 60
    volumes = rng.uniform(10, 30, n)
    fractions = rng.integers(0, 5, size=(n, species)) + 1e-9
    fractions = np.round(fractions / fractions.sum(axis=1, keepdims=True), 12)[:, 1:]
    energies = 0.02 * (volumes - 18) ** 2 + rng.exponential(0.5, n) - fractions.sum(axis=1)
    above = distance_to_hull(volumes, energies, fractions if species > 1 else None)
    assert (above >= 0).all()
    matrix = np.vstack([volumes, *fractions.T, np.ones(n)])
    for k in range(n):
        best = linprog(energies, A_eq=matrix, b_eq=matrix[:, k], bounds=(0, None), method="highs")
        assert best.status == 0
        assert above[k] == pytest.approx(energies[k] - best.fun, abs=1e-7)


def test_hull_ignores_order_and_shifts() -> None:
    rng = np.random.default_rng(5)
    volumes, x = rng.uniform(10, 30, 40), rng.integers(0, 3, 40)[:, None] / 2
    energies = rng.normal(size=40)
    above = distance_to_hull(volumes, energies, x)
    order = rng.permutation(40)
    assert distance_to_hull(volumes[order], energies[order], x[order]) == pytest.approx(
        above[order], abs=1e-9
    )
    # energies relative to any linear function of composition (free atoms) give the same distances
    assert distance_to_hull(volumes, energies - 300.0 * x[:, 0] - 50, x) == pytest.approx(above, abs=1e-8)
