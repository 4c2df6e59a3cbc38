"""A whole potential: sums, conventions of the results, and what is refused."""

from __future__ import annotations

import os
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from gapfactory.errors import InputError, PotentialError
from gapfactory.potentials.gap.core import GlueType, PairCurve, PairTable
from gapfactory.potentials.gap.engine.evaluator import Engine, Results
from gapfactory.potentials.gap.engine.system import SkinnedSystem, build_system
from gapfactory.potentials.gap.model import GapModel, Term, empty_term, with_points

PAIR = "distance_2b Z1=14 Z2=14 cutoff=4.5 cutoff_transition_width=1.0"
TRIPLET = "angle_3b Z=14 Z1=14 Z2=14 cutoff=3.2 cutoff_transition_width=0.6"
SOAP = "soap l_max=3 n_max=4 atom_sigma=0.5 cutoff=4.0 cutoff_transition_width=1.0 Z=14 n_species=1 species_Z={14}"


def terms() -> tuple[Term, ...]:
    rng = np.random.default_rng(1)
    pair = empty_term(PAIR, "covariance_type=ard_se theta_uniform=0.8", 1.0)
    triplet = empty_term(TRIPLET, "covariance_type=ard_se theta_uniform=1.0", 0.5)
    soap = empty_term(SOAP, "covariance_type=dot_product zeta=4", 0.3)
    points = rng.random((9, soap.dimension))
    points[:, -1] = 0.0
    points /= np.linalg.norm(points, axis=1)[:, None]
    return (
        with_points(pair, rng.uniform(1.5, 4.0, (7, 1)), rng.normal(size=7)),
        with_points(triplet, rng.uniform(1.0, 5.0, (8, 3)), rng.normal(size=8)),
        with_points(soap, points, rng.normal(size=9)),
    )


def model() -> GapModel:
    return GapModel(terms=terms(), e0={14: -1.5})


def frames() -> list[Atoms]:
    cubic = bulk("Si", cubic=True)
    cubic.rattle(0.1, seed=0)
    slab, cluster = cubic.copy(), cubic.copy()
    slab.pbc = (True, True, False)
    cluster.pbc = False
    return [cubic, slab, cluster, Atoms("Si", cell=[12.0] * 3), bulk("Si")]


def same(a: Results, b: Results) -> bool:
    pairs = ((a.energies, b.energies), (a.forces, b.forces), (a.stresses, b.stresses))
    return all(np.array_equal(x, y, equal_nan=True) for x, y in pairs)  # type: ignore[arg-type]


def test_a_potential_is_the_sum_of_its_terms() -> None:
    together = Engine(model()).evaluate(frames())
    parts = [Engine(GapModel(terms=(term,))).evaluate(frames()) for term in terms()]
    free = -1.5 * np.array([len(atoms) for atoms in frames()])
    assert np.allclose(together.energies, sum(p.energies for p in parts) + free, rtol=0, atol=1e-12)
    assert together.forces is not None
    assert np.abs(together.forces - sum(p.forces for p in parts)).max() < 1e-12  # type: ignore[misc]
    for k, atoms in enumerate(frames()):
        local = together.local_energies[together.atoms_of(k)]
        assert len(local) == len(atoms)
        assert abs(local.sum() - together.energies[k]) < 1e-12


def test_core_potential_is_added() -> None:
    r = np.linspace(0.8, 2.9, 25)
    curve = PairCurve((14, 14), r, 5.0 * (2.9 - r) ** 3, -15.0 * 2.1**2, 0.0)
    empty = np.empty((0, 2))
    table = PairTable((curve,), (GlueType(14, empty, (0.0, 0.0), True, empty, (None, None)),))
    bare = Engine(model()).evaluate(frames())
    cored = Engine(GapModel(terms=terms(), e0={14: -1.5}, baseline=table)).evaluate(frames())
    pair = 5.0 * (2.9 - frames()[4].get_distance(0, 1, mic=True)) ** 3
    # four bonds to an atom, each shared by two, two atoms
    assert cored.energies[4] - bare.energies[4] == pytest.approx(4 * pair, abs=1e-3)
    assert cored.energies[3] == bare.energies[3]


def test_stress_is_in_ases_sign_and_order_and_only_of_crystals() -> None:
    engine = Engine(model())
    found = engine.evaluate(frames())
    assert found.stresses is not None
    assert found.virials is not None
    assert np.isnan(found.stresses).all(axis=1).tolist() == [False, True, True, True, False]
    atoms = frames()[0]
    for column, (a, b) in enumerate(((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[a, b] += sign * 1e-5
            other = atoms.copy()
            other.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            energies.append(engine.evaluate([other], gradients=False).energies[0])
        slope = (energies[0] - energies[1]) / 2e-5
        assert found.stresses[0, column] == pytest.approx(slope / atoms.get_volume(), abs=1e-7)
        assert found.virials[0, a, b] == pytest.approx(-slope, abs=1e-5)


def test_energies_alone_have_the_same_bits() -> None:
    engine = Engine(model())
    alone = engine.evaluate(frames(), gradients=False)
    assert np.array_equal(alone.energies, engine.evaluate(frames()).energies)
    assert alone.forces is alone.virials is alone.stresses is alone.variances is None


def test_systems_skins_batches_and_copies_have_the_same_bits() -> None:
    engine = Engine(model())
    expected = engine.evaluate(frames())
    assert same(engine.evaluate(engine.system(frames())), expected)
    assert same(engine.evaluate(SkinnedSystem(frames(), engine.cutoff).system), expected)
    assert same(ForkingPickler.loads(ForkingPickler.dumps(engine)).evaluate(frames()), expected)
    twice = engine.evaluate(frames() + frames())
    assert np.array_equal(twice.energies, np.tile(expected.energies, 2))
    assert expected.forces is not None
    assert np.array_equal(twice.forces, np.tile(expected.forces, (2, 1)))  # type: ignore[arg-type]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_works_in_a_forked_process() -> None:
    engine = Engine(model())
    expected = engine.evaluate(frames())
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - in the child
        answer = b"no"
        try:
            answer = b"yes" if same(engine.evaluate(frames()), expected) else b"no"
        finally:
            os.write(writer, answer)
            os._exit(0)
    os.close(writer)
    assert os.read(reader, 3) == b"yes"
    os.close(reader)
    os.waitpid(child, 0)


def test_variance_is_small_where_the_points_are() -> None:
    engine = Engine(model())
    far = engine.evaluate([frames()[0]], variances=True).variances
    assert far is not None
    soap = terms()[2]
    known = engine.terms[2].descriptors(engine.system([frames()[0]])).values
    near = Engine(GapModel(terms=(with_points(soap, known, np.ones(8)),))).evaluate(
        [frames()[0]], variances=True
    )
    assert near.variances is not None
    assert near.variances.max() < 1e-4 < far.min()


def test_no_structures_is_no_results() -> None:
    found = Engine(model()).evaluate([])
    assert len(found.energies) == len(found.local_energies) == 0


def test_what_cannot_be_evaluated_is_refused_by_name() -> None:
    engine = Engine(model())
    with pytest.raises(PotentialError, match=r"structure 1 has an atom of atomic number 79.*\[14\]"):
        engine.evaluate([bulk("Si"), bulk("Au")])
    with pytest.raises(PotentialError, match=r"ends at 4\.0 Å, the potential reaches 4\.5 Å"):
        engine.evaluate(build_system(frames(), 4.0))
    with pytest.raises(InputError, match="structure 0 has no atoms"):
        engine.evaluate([Atoms()])
    huge = with_points(terms()[2], terms()[2].points, np.full(9, 1.7e308))
    with pytest.raises(PotentialError, match=r"structure 1 \(closest pair 2\.35 Å\) is not finite"):
        Engine(GapModel(terms=(huge,))).evaluate([frames()[3], bulk("Si", cubic=True) * (3, 3, 3)])
