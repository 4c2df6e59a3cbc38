"""Small calls of everything that is compiled, through the functions that the package itself calls.

Going through the public functions makes the argument types those that are really used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ase import Atoms

    from gapfactory.potentials.gap.model import GapModel

__all__ = ["PARTS"]


def _crystals(*numbers: int) -> list[Atoms]:
    """Return two crystals, a slab and a molecule of the elements."""
    from ase import Atoms

    cell = 2.7 * (np.ones((3, 3)) - np.eye(3))
    pair = [numbers[0], numbers[-1]]
    found = [
        Atoms(pair, scaled_positions=[[0, 0, 0], [0.26, 0.25, 0.25]], cell=cell, pbc=True),
        Atoms(2 * pair, scaled_positions=np.linspace(0.0, 0.8, 12).reshape(4, 3), cell=2 * cell, pbc=True),
    ]
    slab = found[1].copy()
    slab.pbc = (True, True, False)
    return [*found, slab, Atoms(pair, positions=[[0, 0, 0], [0, 0, 2.2]])]


def _cells() -> None:
    from gapfactory.build import BuildSettings, build_cell
    from gapfactory.elements import species

    silicon = species("Si", radius=1.11, bonding="covalent")
    build_cell(
        np.random.default_rng(0),
        composition={"Si": 1},
        species={"Si": silicon},
        generation=0,
        settings=BuildSettings(),
    )


def _similarity() -> None:
    from gapfactory.descriptors import SimilaritySettings, average_soap

    settings: dict[str, Any] = {"n_max": 3, "l_max": 2, "atom_sigma": 0.5, "cutoff": 4.0}
    average_soap(_crystals(14), species=[14], settings=SimilaritySettings(**settings))
    by_species = SimilaritySettings(**settings, centres="by-species")
    average_soap(_crystals(29, 79), species=[29, 79], settings=by_species)


def _model(*numbers: int) -> GapModel:
    """Return a potential with every kind of term and a core potential."""
    from itertools import combinations_with_replacement

    from gapfactory.potentials.gap import model as gap

    rng = np.random.default_rng(0)
    listed = " ".join(map(str, numbers))
    pairs = list(combinations_with_replacement(numbers, 2))
    ranges = "cutoff=4.0 cutoff_transition_width=0.5"
    strings = [f"distance_2b Z1={a} Z2={b} {ranges}" for a, b in pairs]
    strings += [f"distance_Nb order=2 Z={{{a} {b}}} {ranges}" for a, b in pairs]
    strings += [f"angle_3b Z={z} Z1={a} Z2={b} {ranges}" for z in numbers for a, b in pairs]
    for compact in "TF":
        strings += [
            f"distance_Nb order=3 Z={{{a} {b} {c}}} {ranges} compact_clusters={compact}"
            for a, b, c in combinations_with_replacement(numbers, 3)
        ]
    strings += [
        f"soap n_max=3 l_max=2 atom_sigma=0.5 {ranges} Z={z} n_species={len(numbers)} species_Z={{{listed}}}"
        for z in numbers
    ]
    terms: list[gap.Term] = []
    for string in strings:
        soap = string.startswith("soap")
        kernel = "covariance_type=dot_product zeta=4" if soap else "covariance_type=ard_se theta_uniform=1.0"
        empty = gap.empty_term(string, kernel, 1.0)
        points = rng.uniform(1.0, 3.0, size=(5, empty.dimension))
        if soap:
            points /= np.linalg.norm(points, axis=1)[:, None]
        terms.append(gap.with_points(empty, points, 1e-3 * rng.normal(size=5)))
    r = np.linspace(0.5, 3.0, 6)
    zero = np.column_stack([r, np.zeros(6)])
    core = gap.PairTable(
        tuple(gap.PairCurve(pair, r, (3.0 - r) ** 3) for pair in pairs),
        tuple(gap.GlueType(z, zero, (0.0, 0.0), False, zero, (None, None)) for z in numbers),
    )
    return gap.GapModel(tuple(terms), dict.fromkeys(numbers, -1.0), core)


def _engine() -> None:
    from gapfactory.potentials.gap.engine.evaluator import Engine
    from gapfactory.potentials.gap.engine.system import SkinnedSystem

    for numbers in ((14,), (29, 79)):
        engine, structures = Engine(_model(*numbers)), _crystals(*numbers)
        engine.evaluate(structures, variances=True)
        engine.evaluate(structures, gradients=False)
        skinned = SkinnedSystem(structures, engine.cutoff)
        for atoms in structures:
            atoms.positions += 0.6
            atoms.positions[0] += 0.5
        system = skinned.update(structures)
        engine.evaluate(system)
        for term in engine.terms:
            term.descriptors(system)
            term.rows(system, np.zeros((7 * system.n_cells + 3 * system.n_atoms, term.n_sparse)))


def _networks() -> None:
    from gapfactory.potentials import eddp
    from gapfactory.potentials.gap.data import LabelledStructure

    crystals = [crystal for crystal in _crystals(14) if crystal.pbc.all()] * 2
    rng = np.random.default_rng(0)
    data = [
        LabelledStructure(str(k), atoms, float(k), rng.normal(size=(len(atoms), 3)), None)
        for k, atoms in enumerate(crystals)
    ]
    settings = eddp.EddpSettings.model_validate(
        {"training": {"force_weight": 1.0, "max_steps": 2}, "ensemble": {"outlier": 1e9}}
    )
    baseline = eddp.Baseline(2.5, 1e-3)
    vector = eddp.Features.from_settings(settings.features, ["Si"])
    prepared = eddp.prepare(data, vector, settings.training, baseline=baseline)
    split = eddp.split_structures(prepared.parents, settings.training, rng)
    network = eddp.train_network(prepared, split, settings, rng).network
    found = eddp.combine([network], prepared, split, settings.ensemble)
    eddp.EddpCalculator(found.ensemble, limit=1e9).evaluate_batch_with_uncertainty(crystals)


def _datum() -> None:
    from gapfactory.potentials.datum import CostSettings, DatumCalculator, DatumCost

    crystals = [crystal for crystal in _crystals(14) if crystal.pbc.all()]
    DatumCalculator(DatumCost.from_targets(crystals[:1], CostSettings())).evaluate_batch(crystals)


def _relaxation() -> None:
    from gapfactory.potentials.gap.engine.evaluator import Engine
    from gapfactory.search import RelaxSettings, relax_batch
    from gapfactory.search.evaluator import EngineEvaluator

    model = _model(14)
    evaluate = EngineEvaluator(Engine(model), model.e0, 1e6)
    crystals = _crystals(14)[:2]
    for settings in (
        RelaxSettings(max_steps=4),
        RelaxSettings(max_steps=4, preconditioner="exponential", keep_symmetry=True),
    ):
        relax_batch(crystals, [0.0, 1.0], evaluate, settings)


PARTS: Mapping[str, Callable[[], None]] = {
    "random cells": _cells,
    "similarity": _similarity,
    "potential": _engine,
    "networks": _networks,
    "datum cost": _datum,
    "relaxation": _relaxation,
}
