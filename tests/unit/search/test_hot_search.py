"""Relax, anneal, relax: in any company the same bits, from any checkpoint the same end, at a fixed cell too."""

from dataclasses import fields

import numpy as np
import pytest
from ase.build import bulk
from ase.units import GPa

from gapfactory.campaign import campaign_from_mapping
from gapfactory.campaign.cost import estimate
from gapfactory.campaign.search_cost import anneal_evaluations
from gapfactory.errors import CampaignFileError, RelaxationError
from gapfactory.protocols.planner import recipe_of
from gapfactory.reference.analytic import StillingerWeberSilicon
from gapfactory.search import AnnealSettings, RelaxSettings, relax, relax_batch, search_each
from gapfactory.search.anneal_search import SearchJob
from gapfactory.search.evaluator import OneByOne, Refusal

ANNEAL = AnnealSettings(temperature_K=1200, time_ps=0.06, timestep_fs=2, frames=5, checkpoint_steps=10)
SETTINGS = RelaxSettings(anneal=ANNEAL, max_steps=25)


def cells():
    found = []
    for k, size in enumerate(((1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 1))):
        atoms = bulk("Si", a=5.6) * size
        atoms.rattle(0.15, seed=k)
        found.append(atoms)
    return found


def jobs(settings=SETTINGS, **more):
    return [SearchJob(atoms, 1.0 + k, settings, seed=k, **more) for k, atoms in enumerate(cells())]


class Counting(OneByOne):
    def __init__(self):
        super().__init__(StillingerWeberSilicon())
        self.calls = 0

    def __call__(self, structures):
        self.calls += len(structures)
        return super().__call__(structures)


def results(given, evaluate=None, width=16):
    found = {d.index: d.trajectory for d in search_each(given, evaluate or Counting(), width=width)}
    return [found[k] for k in sorted(found)]


def same(one, other):
    for field in fields(one):
        a, b = getattr(one, field.name), getattr(other, field.name)
        assert np.array_equal(a, b, equal_nan=True) if isinstance(a, np.ndarray) else a == b, field.name


@pytest.fixture(scope="module")
def alone():
    return results(jobs(), width=1)


def test_no_cell_knows_of_its_neighbours(alone) -> None:
    for width in (2, 16):
        for one, other in zip(results(jobs(), width=width), alone, strict=True):
            same(one, other)


def test_a_search_is_its_three_parts(alone) -> None:
    plain = relax_batch(
        cells(), [1.0, 2.0, 3.0, 4.0], Counting(), SETTINGS.model_copy(update={"anneal": None})
    )
    calls = Counting()
    assert sum(t.n_evaluations for t in results(jobs(), calls)) == calls.calls
    for hot, first, atoms in zip(alone, plain, cells(), strict=True):
        n = len(first)
        assert np.array_equal(hot.positions[:n], first.positions)
        assert np.array_equal(hot.steps[n : n + 5], first.n_steps + np.arange(6, 31, 6))
        assert (np.diff(hot.steps) > 0).all()
        assert hot.n_steps == hot.steps[-1]
        assert hot.anneal.relaxed_energy_per_atom == first.energies[-1] / len(atoms)
        assert hot.anneal.relaxed_enthalpy_per_atom == first.enthalpies[-1] / len(atoms)
        assert hot.anneal.n_steps == ANNEAL.n_steps == 30
        again = relax(
            hot.frame(n + 4),
            StillingerWeberSilicon(),
            pressure_GPa=hot.pressure_GPa,
            settings=SETTINGS.model_copy(update={"anneal": None}),
        )
        assert np.array_equal(hot.positions[-1], again.positions[-1])
        assert (hot.status, hot.reason) == (again.status, again.reason)
        assert np.allclose(
            hot.enthalpies, hot.energies + hot.pressure_GPa * GPa * abs(np.linalg.det(hot.cells))
        )


def test_from_every_checkpoint_the_same_end(alone) -> None:
    kept = []
    given = jobs()[1]
    results([SearchJob(given.start, given.pressure_GPa, SETTINGS, seed=1, save=kept.append)])
    assert [c.state.step for c in kept] == [0, 10, 20]
    for checkpoint in kept:
        (again,) = results([SearchJob(given.start, given.pressure_GPa, SETTINGS, 1, checkpoint)])
        same(again, alone[1])


def test_the_temperature_is_found_where_none_is_given() -> None:
    scan = {"time_ps": 0.04, "lowest_K": 200, "ratio": 3.0}
    free = ANNEAL.model_copy(update={"temperature_K": None, "scan": ANNEAL.scan.model_copy(update=scan)})
    kept = []
    (job,) = jobs(RelaxSettings(anneal=free, max_steps=25), save=kept.append)[1:2]
    calls = Counting()
    (found,) = results([job], calls)
    assert found.anneal.temperature_K in free.ladder == (200.0, 600.0, 1800.0)
    assert 1 <= len(found.anneal.ladder) <= 3
    assert found.n_evaluations == calls.calls
    assert (
        found.anneal.n_evaluations
        == len(found.anneal.ladder) * 21 + 31
        <= anneal_evaluations(free)
        == 3 * 21 + 31
    )
    # it is known to whoever goes on
    calls = Counting()
    (again,) = results([SearchJob(job.start, job.pressure_GPa, job.settings, job.seed, kept[0])], calls)
    same(again, found)
    assert calls.calls == found.n_evaluations - found.anneal.n_evaluations + 31 - (
        kept[0].relaxed.n_evaluations
    )


def test_a_failed_part_ends_the_search() -> None:
    class Refuses(Counting):
        def __init__(self, after):
            super().__init__()
            self.after = after

        def __call__(self, structures):
            found = super().__call__(structures)
            return [Refusal("no more")] if self.calls > self.after else found

    job = jobs()[1]
    (whole,) = results([job])
    spent = whole.n_evaluations - whole.anneal.n_evaluations
    (failed,) = results([job], Refuses(3))
    assert (failed.status, failed.reason, failed.anneal) == ("failed", "no more", None)
    relaxed = relax(job.start, Counting()._inner, pressure_GPa=2.0, settings=RelaxSettings(max_steps=25))
    (failed,) = results([job], Refuses(relaxed.n_evaluations + 20))
    assert (failed.status, failed.reason) == ("failed", "anneal, step 20: no more")
    assert failed.anneal.n_steps == 19
    assert len(failed) == len(relaxed) + 3
    (failed,) = results([job], Refuses(relaxed.n_evaluations + 31 + 2))
    assert (failed.status, failed.reason, failed.anneal) == ("failed", "no more", whole.anneal)
    assert spent > relaxed.n_evaluations


@pytest.mark.parametrize("anneal", [None, ANNEAL])
def test_at_a_fixed_cell_only_the_atoms_move(anneal) -> None:
    settings = RelaxSettings(cell="fixed", anneal=anneal, force_threshold=0.02)
    for job, done in zip(jobs(settings), results(jobs(settings)), strict=True):
        assert done.status == "converged"
        assert all(np.array_equal(cell, job.start.cell.array) for cell in done.cells)
        moving = done.frame(-1)
        moving.calc = StillingerWeberSilicon()
        assert np.linalg.norm(moving.get_forces(), axis=1).max() < 0.02
        if anneal is None:
            one = relax(job.start, StillingerWeberSilicon(), pressure_GPa=job.pressure_GPa, settings=settings)
            same(one, done)


def test_a_plain_relaxation_does_not_pass_over_an_anneal() -> None:
    with pytest.raises(RelaxationError, match="search_each"):
        relax_batch(cells()[:1], [0.0], Counting(), SETTINGS)


def test_components_search_hot_or_plain_and_the_plan_counts_it() -> None:
    base = {"element": "Si", "schedule": {"generations": 3}}
    look = {"cells": 10, "labelled": False, "build": {"atoms_min": 8, "atoms_max": 8}}
    boxed = {"atoms_min": 6, "atoms_max": 9, "shape": {"cell": [5.4, 5.4, 5.4, 90, 90, 90]}}
    campaign = campaign_from_mapping(
        base
        | {
            "relax": {"anneal": {"temperature_K": 900, "time_ps": 2}},
            "components": {
                "plain": look | {"anneal": "none"},
                "hot": look,
                "hotter": look | {"anneal": {"temperature_K": 1500, "time_ps": 1, "keep_symmetry": True}},
                "boxed": look | {"relax_cell": "fixed", "build": boxed},
            },
        }
    )
    recipe = recipe_of(campaign, 1)
    found = {part.component: recipe.relax_of(part) for part in recipe.cells}
    assert found["plain"].anneal is None
    assert found["hot"].anneal == found["random"].anneal == found["boxed"].anneal == campaign.relax.anneal
    assert found["hotter"].anneal.temperature_K == 1500
    assert {name: one.cell for name, one in found.items() if one.cell == "fixed"} == {"boxed": "fixed"}

    def planned(**changes):
        plan = estimate(campaign_from_mapping(base | changes))
        (row,) = [row for row in plan.rows if row.what == "relax"]
        return float(row.basis.split(", ")[1].split()[0]), row.core_hours, plan.generations[-1].relaxed

    calls, hours, said = planned(relax={"anneal": {"temperature_K": 900, "time_ps": 2}})
    cold, few, _ = planned()
    cells_relaxed = 2 * campaign.schedule.cells_per_generation
    assert calls - cold == pytest.approx(cells_relaxed * (2001 + 91), rel=0.01)
    assert hours > 5 * few
    assert said.endswith("annealed 2 ps at 900 K")
    scanned, _, said = planned(relax={"anneal": {"time_ps": 2}})
    assert scanned - calls == pytest.approx(cells_relaxed * 7 * 501, rel=0.01)
    assert said.endswith("annealed 2 ps at a temperature by mobility")
    with pytest.raises(CampaignFileError, match="anneal"):
        campaign_from_mapping(base | {"relax": {"anneal": {"temperature": 900}}})
