"""The datum cost where potentials are used: phonons, elastic constants and anneals, checked by derivatives of features.

At a target with one environment, or with the hard minimum, the cost is 2 beta / D^2 times half the square of the
features' change, to second order: its second derivatives are those of linear least squares.
"""

from __future__ import annotations

import gf_eddp
import numpy as np
from ase.build import bulk

from gapfactory.analysis.elasticity import ElasticSettings, elastic_constants_by
from gapfactory.analysis.force_constants import displacement_set, force_constants, forces_of
from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.potentials.datum import CostSettings, DatumCalculator, DatumCost
from gapfactory.search import AnnealSettings, RelaxSettings, search_each
from gapfactory.search.anneal_search import SearchJob

#: frequency in THz of a force constant of 1 eV/Å^2 and a mass of 1 u
THZ = 15.633302
GPA = 160.21766208


def test_phonons_are_those_of_the_features_derivatives() -> None:
    crystal = bulk("C", "diamond", a=3.567)
    cost = DatumCost.from_targets([crystal], CostSettings())
    planned = displacement_set(crystal, PhononSettings(grid=(2, 2, 2), displacement=2e-4))
    constants = force_constants(planned, forces_of(planned.cells, DatumCalculator(cost)))
    grid = [[i / 2, j / 2, k / 2] for i in range(2) for j in range(2) for k in range(2)]
    found = np.sort(np.ravel(constants.frequencies(grid)))
    supercell = crystal * (2, 2, 2)
    jacobian = cost.features.jacobian(cost.features.system([supercell])).reshape(16, 48, -1)
    hessian = 2 * cost.beta / cost.features.length**2 * np.einsum("ixl,iyl->xy", jacobian, jacobian)
    expected = THZ * np.sqrt(np.maximum(np.linalg.eigvalsh(hessian), 0.0) / crystal.get_masses()[0])
    assert expected[-1] > 10.0
    # modes that leave the features as they are to first order have no frequency: their cost is quartic
    rigid = expected < 1e-3
    assert 3 < rigid.sum() < 40
    np.testing.assert_allclose(found[~rigid], expected[~rigid], rtol=2e-3)
    assert np.abs(found[rigid]).max() < 0.3


def test_elastic_constants_are_those_of_the_features_derivatives() -> None:
    crystal = gf_eddp.skewed("Mg", "O")
    chosen = CostSettings.model_validate(
        {"minimum": "hard", "features": {"cutoff": 4.3, "two_body": 6, "three_body": 3}}
    )
    cost = DatumCost.from_targets([crystal], chosen)
    settings = ElasticSettings(strain=1e-5, internal="clamped")
    found = elastic_constants_by(DatumCalculator(cost), crystal, settings)
    slopes = []
    for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        strain = np.zeros((3, 3))
        strain[a, b] += 0.5
        strain[b, a] += 0.5
        local = []
        for step in (1e-6, -1e-6):
            strained = crystal.copy()
            strained.set_cell(crystal.cell.array @ (np.eye(3) + step * strain), scale_atoms=True)
            local.append(cost.features.local(cost.features.system([strained])))
        slopes.append(np.ravel(local[0] - local[1]) / 2e-6)
    expected = 2 * cost.beta / cost.features.length**2 * np.array(slopes) @ np.array(slopes).T
    expected *= GPA / crystal.get_volume()
    np.testing.assert_allclose(found.clamped.values, expected, rtol=5e-3, atol=5e-4 * np.abs(expected).max())


def test_anneals_and_relaxes() -> None:
    cost = DatumCost.from_targets([bulk("C", "diamond", a=3.567)], CostSettings())
    start = bulk("C", "diamond", a=3.65) * (2, 1, 1)
    start.rattle(0.05, seed=1)
    settings = RelaxSettings(anneal=AnnealSettings(temperature_K=300.0, time_ps=0.05, cell="fixed"))
    (done,) = search_each([SearchJob(start, 0.0, settings, seed=3)], DatumCalculator(cost).evaluate_batch)
    path = done.trajectory
    assert path.status == "converged"
    assert path.n_evaluations > 50
    assert path.energies[-1] < 0.05 < path.energies[0]
