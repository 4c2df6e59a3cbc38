"""Uncertainty ends a relaxation that leaves known space, and its last frame is offered for labelling."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from gapfactory.errors import PotentialError, RelaxationError
from gapfactory.potentials.gap import GapCalculator
from gapfactory.potentials.gap.engine.evaluator import Engine
from gapfactory.potentials.gap.engine.known import relative_uncertainty
from gapfactory.potentials.gap.model import GapModel, empty_term, with_points
from gapfactory.reference.analytic import StillingerWeberSilicon
from gapfactory.search import RelaxSettings, batch_evaluator, relax, relax_batch
from gapfactory.search.evaluator import Evaluation, OneByOne
from gapfactory.search.trajectory import Trajectory
from gapfactory.select import Funnel, SelectSettings, TrajectorySummary

SOAP = "soap l_max=3 n_max=4 atom_sigma=0.5 cutoff=4.0 cutoff_transition_width=1.0 Z=14 n_species=1 species_Z={14}"
SETTINGS = RelaxSettings(max_steps=60)


class Doubting:
    """Stillinger-Weber silicon whose uncertainty is a function of the volume per atom."""

    def __init__(self, doubt):
        self.inner, self.doubt = OneByOne(StillingerWeberSilicon()), doubt

    def __call__(self, structures, /):
        return [
            Evaluation(a.energy, a.forces, a.stress, float(self.doubt(s.get_volume() / len(s))))
            for a, s in zip(self.inner(structures), structures, strict=True)
        ]


def wide():
    """Diamond at 1.25 times its volume: it contracts from 25 to 20 Å^3 per atom."""
    atoms = bulk("Si", a=5.431 * 1.25 ** (1 / 3))
    atoms.rattle(0.03, seed=2)
    return atoms


def relaxed(doubt, limit):
    settings = SETTINGS.model_copy(update={"max_uncertainty": limit})
    (found,) = relax_batch([wide()], [0.0], Doubting(doubt), settings)
    return found


def test_it_ends_on_the_first_frame_outside_and_keeps_it():
    found = relaxed(lambda v: 0.1 if v > 22 else 0.6, 0.3)
    assert found.left_known_space
    assert found.status == "unconverged"
    assert found.reason == "left known space: the uncertainty reached 0.60 (allowed 0.30)"
    volumes = np.abs(np.linalg.det(found.cells)) / 2
    assert volumes[-1] <= 22
    assert (volumes[:-1] > 22).all()
    assert found.steps[-1] == found.n_steps


def test_without_a_limit_or_within_it_nothing_changes():
    (plain,) = relax_batch([wide()], [0.0], OneByOne(StillingerWeberSilicon()), SETTINGS)
    for limit, doubt in ((None, lambda v: 0.9), (0.95, lambda v: 0.9)):
        found = relaxed(doubt, limit)
        assert not found.left_known_space
        assert found.status == "converged"
        np.testing.assert_array_equal(found.positions, plain.positions)
        np.testing.assert_array_equal(found.energies, plain.energies)


def test_a_start_in_unknown_space_may_come_home_but_not_go_farther_out():
    home = relaxed(lambda v: 0.02 * v, 0.3)
    assert home.status == "converged"
    # it says how uncertain the end is: what ranks structures leaves out one beyond the limit
    volume = np.abs(np.linalg.det(home.cells[-1])) / 2
    assert home.uncertainty == pytest.approx(0.02 * volume)
    assert 0.3 < home.uncertainty < 0.5
    out = relaxed(lambda v: 1.0 - 0.02 * v, 0.3)
    assert out.left_known_space
    assert "(allowed 0.50)" in out.reason
    assert out.uncertainty > 0.5
    assert Trajectory.from_json(out.as_json()).uncertainty == out.uncertainty
    assert relaxed(lambda v: 0.1, None).uncertainty == 0.1


def test_other_cells_of_the_batch_go_on():
    settings = SETTINGS.model_copy(update={"max_uncertainty": 0.3})
    # begins where the other one ends, so it may go on there
    near = bulk("Si", a=5.518)
    left, stayed = relax_batch(
        [wide(), near], [0.0, 0.0], Doubting(lambda v: 0.1 if v > 22 else 0.6), settings
    )
    assert left.left_known_space
    assert stayed.status == "converged"


def test_who_cannot_tell_is_refused():
    settings = SETTINGS.model_copy(update={"max_uncertainty": 0.3})
    with pytest.raises(RelaxationError, match="does not tell how well it knows a structure"):
        relax(wide(), StillingerWeberSilicon(), pressure_GPa=0.0, settings=settings)
    with pytest.raises(RelaxationError, match="the evaluator gives no uncertainty"):
        relax_batch([wide()], [0.0], OneByOne(StillingerWeberSilicon()), settings)


def soap_model(known):
    """A potential whose sparse points are the surroundings of the atoms of some structures."""
    term = empty_term(SOAP, "covariance_type=dot_product zeta=4", 0.3)
    engine = Engine(GapModel(terms=(term,)))
    values = engine.terms[0].descriptors(engine.system(known)).values
    return GapModel(terms=(with_points(term, values, np.zeros(len(values))),))


def test_sparse_points_are_known_and_others_less_so():
    known, far = bulk("Si"), bulk("Si", a=7.5)
    engine = Engine(soap_model([known]))
    found = relative_uncertainty(
        engine, [known, bulk("Si", a=5.5), far, Atoms("Si", cell=[12.0] * 3, pbc=True)]
    )
    assert found.shape == (7,)
    assert found[:2].max() < 0.02
    assert found[0] < found[2] < found[4] < 1.0
    assert found[6] > 0.5
    whole = engine.evaluate([far], variances=True).variances
    np.testing.assert_allclose(found[4:6], np.sqrt(whole) / 0.3, atol=1e-12)


def test_a_potential_without_soap_does_not_tell():
    pair = empty_term("distance_2b Z1=14 Z2=14 cutoff=4.5", "covariance_type=ard_se theta_uniform=0.8", 1.0)
    engine = Engine(GapModel(terms=(with_points(pair, np.array([[2.3]]), np.array([0.1])),)))
    with pytest.raises(PotentialError, match="no SOAP term for atomic number 14"):
        relative_uncertainty(engine, [bulk("Si")])


def test_the_calculator_of_a_potential_tells():
    calculator = GapCalculator(soap_model([bulk("Si")]))
    plain, telling = batch_evaluator(calculator), batch_evaluator(calculator, uncertainty=True)
    structures = [bulk("Si", a=6.0), bulk("Si", a=5.43, cubic=True)]
    for a, b in zip(plain(structures), telling(structures), strict=True):
        assert a.energy == b.energy
        np.testing.assert_array_equal(a.forces, b.forces)
        assert a.uncertainty is None
        assert 0.0 <= b.uncertainty < 1.0
    assert telling(structures)[0].uncertainty > telling(structures)[1].uncertainty


def trajectory(index, *, converged, left, frames=4):
    return TrajectorySummary(
        f"r{index:03d}",
        "Si",
        converged,
        tuple(f"r{index:03d}/{k}" for k in range(frames)),
        -5.0 + 0.01 * np.arange(frames)[::-1] + 0.001 * index,
        -5.0 + 0.01 * np.arange(frames)[::-1] + 0.001 * index,
        np.full(frames, 20.0),
        left_known_space=left,
    )


@pytest.mark.parametrize("left", [True, False])
def test_the_last_frame_of_what_left_is_in_the_pool_of_the_second_histogram(left):
    rng = np.random.default_rng(0)
    relaxations = [trajectory(k, converged=k < 8, left=left and k >= 8) for k in range(12)]
    cells = {
        frame: Atoms("Si2", cell=np.eye(3) * 3.4, scaled_positions=rng.random((2, 3)), pbc=True)
        for t in relaxations
        for frame in t.frames
    }
    asked: list[str] = []

    def structures(ids):
        asked.extend(ids)
        return [cells[key] for key in ids]

    settings = SelectSettings(
        labels_per_generation=10,
        held_out_per_generation=0,
        histogram_keeps_at_most=1.0,
        frames_histogram_per_label=25,
        minima_histogram_fraction=1.0,
        minima_cur_fraction=1.0,
        kt_eV=(10.0,),
    )
    from gapfactory.descriptors import SimilaritySettings

    funnel = Funnel(settings, SimilaritySettings(n_max=3, l_max=2), (14,))
    report = funnel.run(relaxations, structures, generation=1, streams=np.random.default_rng)
    offered = {f"r{k:03d}/3" for k in range(8, 12)}
    assert report.counts["left known space"] == (4 if left else 0)
    assert offered & set(asked) == (offered if left else set())
    # and none of the frames before it
    assert not {f"r{k:03d}/{j}" for k in range(8, 12) for j in range(3)} & set(asked)


def test_where_it_goes_on_only_the_end_is_judged():
    def of(doubt):
        settings = SETTINGS.model_copy(update={"max_uncertainty": 0.3, "beyond": "go-on"})
        (found,) = relax_batch([wide()], [0.0], Doubting(doubt), settings)
        return found

    (plain,) = relax_batch([wide()], [0.0], OneByOne(StillingerWeberSilicon()), SETTINGS)
    for doubt in (lambda v: 0.9 if 21 < v < 24 else 0.1, lambda v: 1.2 - 0.02 * v):
        found = of(doubt)
        assert not found.left_known_space
        assert found.status == "converged"
        np.testing.assert_array_equal(found.positions, plain.positions)
        volume = np.abs(np.linalg.det(found.cells[-1])) / 2
        assert found.uncertainty == doubt(volume)
    # a hot search asks for it on the way too
    assert SETTINGS.stopping_uncertainty is None
    told = SETTINGS.model_copy(update={"max_spread": 0.2})
    assert (told.stopping_uncertainty, told.uncertainty_limit) == (0.2, 0.2)
    going = told.model_copy(update={"beyond": "go-on"})
    assert (going.stopping_uncertainty, going.uncertainty_limit) == (np.inf, 0.2)
