"""The funnel: what it picks, from what, and that the order of its input does not matter."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np
import pytest
from ase import Atoms

from gapfactory.descriptors import SimilaritySettings, average_soap
from gapfactory.errors import SelectionError
from gapfactory.seeds import Stage, stream
from gapfactory.select import Funnel, SelectionReport, SelectSettings, TrajectorySummary, select_initial
from gapfactory.select.labels import Pool, choose_labels
from gapfactory.select.quota import share_out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.random import Generator

    from gapfactory.select.report import Pick

SIMILARITY = SimilaritySettings(n_max=5, l_max=4, atom_sigma=0.4, cutoff=5.0)


def streams(k: int) -> Generator:
    return stream(7, 1, Stage.SELECT, k)


def random_atoms(rng: np.random.Generator, numbers: Sequence[int]) -> Atoms:
    cell = np.eye(3) + 0.2 * rng.normal(size=(3, 3))
    cell *= (len(numbers) * 18 / abs(np.linalg.det(cell))) ** (1 / 3)
    return Atoms(numbers=numbers, cell=cell, scaled_positions=rng.random((len(numbers), 3)), pbc=True)


class World:
    """Relaxations of silicon and of a compound, and a store that remembers what was asked of it."""

    def __init__(self, n: int = 80, seed: int = 0, *, groups: Sequence[str] = ("Si",)) -> None:
        rng = np.random.default_rng(seed)
        self.store: dict[str, Atoms] = {}
        self.trajectories: list[TrajectorySummary] = []
        self.asked: list[list[str]] = []
        for i in range(n):
            group = groups[i % len(groups)]
            length = int(rng.integers(2, 15))
            energies = -5 + rng.exponential(0.2) + np.sort(rng.exponential(0.4, length))[::-1]
            volumes = rng.uniform(15, 22, length)
            frames = tuple(f"relax-{i:04d}/{k:03d}" for k in range(length))
            numbers = [14] * int(rng.integers(2, 5)) if group == "Si" else [14, 6]
            for frame in frames:
                self.store[frame] = random_atoms(rng, numbers)
            self.trajectories.append(
                TrajectorySummary(
                    f"relax-{i:04d}",
                    group,
                    bool(rng.random() < 0.8),
                    frames,
                    energies + 0.01,
                    energies,
                    volumes,
                )
            )

    def structures(self, ids: Sequence[str]) -> list[Atoms]:
        self.asked.append(list(ids))
        return [self.store[i] for i in ids]

    def run(
        self, generation: int = 1, cores: int = 1, weights: dict[str, float] | None = None, **changes: object
    ):
        values = {
            "labels_per_generation": 10,
            "held_out_per_generation": 4,
            "noise_cells": 3,
            **changes,
        }
        funnel = Funnel(SelectSettings.model_validate(values), SIMILARITY, (14, 6), weights, cores)
        return funnel.run(self.trajectories, self.structures, generation=generation, streams=streams)


def test_stages_and_picks() -> None:
    world = World()
    report: SelectionReport = world.run()
    stages = {s.stage: s for s in report.stages}
    assert list(stages) == ["minima-histogram", "minima-cur", "frames-histogram", "cur", "held-out"]
    by_id = {t.id: t for t in world.trajectories}
    converged = [t for t in world.trajectories if t.converged]
    assert stages["minima-histogram"].pool == len(converged) == report.counts["converged"]
    # 14 labels need 14 minima; the histogram keeps half of the pool
    assert stages["minima-histogram"].chosen == round(0.5 * len(converged))
    assert stages["minima-cur"].chosen == 14
    assert set(world.asked[0]) <= {t.frames[-1] for t in converged}
    assert len(world.asked[0]) == stages["minima-histogram"].chosen
    # descriptors only for survivors of the second histogram
    assert len(world.asked) == 2
    assert len(world.asked[1]) == stages["frames-histogram"].chosen < stages["frames-histogram"].pool
    origins = {frame.split("/")[0] for frame in world.asked[1]}
    assert len(origins) <= 14
    assert all(by_id[o].converged for o in origins)
    assert len(report.ids("training")) == 10
    assert len(report.ids("held-out")) == 4
    assert len(set(report.ids())) == 14
    assert set(report.ids()) <= set(world.asked[1])
    assert len(report.noise) == 3
    assert set(report.noise) <= set(report.ids("training"))
    assert report.notes == ()
    for pick in report.picks:
        frame = by_id[pick.trajectory].frames.index(pick.id)
        assert pick.energy_eV == by_id[pick.trajectory].enthalpies[frame]
        assert pick.group == "Si"
    for stage in report.stages:
        assert sum(stage.histogram.pool) == stage.pool
        assert sum(stage.histogram.chosen) == stage.chosen
    assert [s.kT_eV for s in report.stages] == [0.3, None, 0.3, None, None]
    assert stages["cur"].rank == 5
    used = {p.trajectory for p in report.picks if p.purpose == "training"}
    assert stages["held-out"].pool == sum(frame.split("/")[0] not in used for frame in world.asked[1])


def test_held_out_structures_come_from_relaxations_without_a_training_structure() -> None:
    world = World(n=200)
    report = world.run(labels_per_generation=12, held_out_per_generation=8, minima_cur_fraction=0.25)
    origins = {
        purpose: {p.trajectory for p in report.picks if p.purpose == purpose}
        for purpose in ("training", "held-out")
    }
    assert len(report.ids("held-out")) == 8
    assert not origins["training"] & origins["held-out"]
    assert report.notes == ()


def test_held_out_structures_do_not_move_training_ones_and_say_when_relaxations_are_shared() -> None:
    world = World(n=6)
    world.trajectories = [
        TrajectorySummary(t.id, t.group, True, t.frames, t.enthalpies, t.energies, t.volumes)
        for t in world.trajectories
    ]
    vectors = average_soap(
        [world.store[f] for t in world.trajectories for f in t.frames], species=[14], settings=SIMILARITY
    )
    pool = Pool(
        [f for t in world.trajectories for f in t.frames],
        np.concatenate([t.enthalpies for t in world.trajectories]),
        [t.id for t in world.trajectories for _ in t.frames],
    )

    def choose(training: int, held_out: int) -> tuple[list[Pick], list[str]]:
        picks, _, notes = choose_labels(
            pool,
            pool.ids,
            vectors,
            group="Si",
            sizes={"training": training, "held-out": held_out},
            settings=SelectSettings(),
            zeta=4,
            streams=streams,
            base=0,
            cores=1,
        )
        return picks, notes

    alone, notes = choose(3, 0)
    assert notes == []
    for held_out in (1, 3, 6):
        picks, notes = choose(3, held_out)
        assert [p for p in picks if p.purpose == "training"] == alone
        tested = [p for p in picks if p.purpose == "held-out"]
        assert len({p.id for p in picks}) == 3 + held_out
        used = {p.trajectory for p in alone}
        if 6 - len(used) >= held_out:
            assert notes == []
            assert not used & {p.trajectory for p in tested}
        else:
            assert len(notes) == 1
            assert f"fewer than {held_out} relaxations" in notes[0]


def test_paper_sizes() -> None:
    """10 000 relaxations -> 2 500 -> 1 000 -> frames -> 2 500 -> 100, seen through the sizes asked for."""
    rng = np.random.default_rng(0)
    atoms = Atoms("Si", cell=3 * np.eye(3), pbc=True)
    shifts = iter(rng.uniform(2.2, 4.0, 10**6))

    def structures(ids: Sequence[str]) -> list[Atoms]:
        return [Atoms(atoms, cell=next(shifts) * np.diag([1, 1.1, 1.2])) for _ in ids]

    trajectories = [
        TrajectorySummary(
            f"{i:05d}", "Si", True, tuple(f"{i:05d}/{k}" for k in range(8)), e, e, np.full(8, 20.0)
        )
        for i, e in enumerate(rng.exponential(0.2, (10000, 8)))
    ]
    settings = SelectSettings(method="random")
    similarity = SimilaritySettings(n_max=2, l_max=1, atom_sigma=0.5, cutoff=4.0)
    funnel = Funnel(settings, similarity, (14,))
    report = funnel.run(trajectories, structures, generation=3, streams=streams)
    assert [(s.stage, s.chosen) for s in report.stages] == [
        ("minima-histogram", 2500), ("minima-cur", 1000), ("frames-histogram", 2500), ("cur", 90), ("held-out", 10),
    ]  # fmt: skip
    assert report.stages[2].pool == 8000
    assert report.stages[0].kT_eV == 0.1


def test_order_of_input_and_cores_do_not_matter() -> None:
    world = World(groups=("Si", "CSi"))
    expected = world.run().to_json()
    rng = np.random.default_rng(1)
    for cores in (1, 2):
        world.trajectories = [world.trajectories[i] for i in rng.permutation(len(world.trajectories))]
        assert world.run(cores=cores).to_json() == expected


def test_streams_decide() -> None:
    world = World()
    settings = SelectSettings(labels_per_generation=10)
    funnel = Funnel(settings, SIMILARITY, (14,))
    reports = [
        funnel.run(
            world.trajectories,
            world.structures,
            generation=1,
            streams=lambda k, s=seed: stream(s, 1, Stage.SELECT, k),
        )
        for seed in (1, 1, 2)
    ]
    assert reports[0] == reports[1]
    assert reports[0].ids() != reports[2].ids()


def test_report_survives_json() -> None:
    plain = World().run().to_json()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain


def test_groups_get_their_share() -> None:
    world = World(n=120, groups=("Si", "CSi"))
    report = world.run(weights={"Si": 3.0, "CSi": 1.0}, labels_per_generation=12)
    by_group = {g: [p for p in report.picks if p.group == g] for g in ("Si", "CSi")}
    assert [sum(p.purpose == "training" for p in picks) for picks in by_group.values()] == [9, 3]
    assert [sum(p.purpose == "held-out" for p in picks) for picks in by_group.values()] == [3, 1]
    assert all((world.store[p.id].numbers == 6).any() == (p.group == "CSi") for p in report.picks)
    with pytest.raises(SelectionError, match="composition CSi has structures but no weight"):
        world.run(weights={"Si": 1.0})


def test_low_energies_are_preferred_more_at_lower_temperature() -> None:
    world = World(n=300)
    means = []
    for generation in (1, 3):
        stages = world.run(generation=generation, histogram_keeps_at_most=0.1).stages
        h = stages[0].histogram
        centres = 0.5 * (np.array(h.edges_eV[1:]) + np.array(h.edges_eV[:-1]))
        means.append((np.array(h.chosen) @ centres) / sum(h.chosen))
    assert means[1] < means[0]


def test_unconverged_relaxations() -> None:
    world = World()
    unconverged = {t.id for t in world.trajectories if not t.converged}
    assert unconverged
    assert not unconverged & {p.trajectory for p in world.run().picks}
    everything = world.run(minima="all")
    assert everything.stages[0].pool == len(world.trajectories)
    pool = sum(len(t.frames) for t in world.trajectories if not t.converged)
    wider = world.run(frames_of_unconverged=True)
    assert wider.stages[2].pool == world.run().stages[2].pool + pool
    world.trajectories = [t for t in world.trajectories if not t.converged]
    with pytest.raises(SelectionError, match=r"none of the .* usable minimum; allow more steps"):
        world.run()


def test_frames_without_finite_energy_are_left_out() -> None:
    world = World()
    for t in world.trajectories:
        t.enthalpies[0] = np.nan
    world.trajectories[3].enthalpies[:] = np.inf
    report = world.run()
    assert report.counts["frames without a finite energy"] >= len(world.trajectories)
    assert not any(pick.id.endswith("/000") for pick in report.picks)
    assert not any(frame.endswith("/000") for asked in world.asked for frame in asked)


@pytest.mark.parametrize("energy", ["enthalpy", "energy", "energy-at-volume"])
def test_kinds_of_energy(energy: str) -> None:
    report = World().run(energy=energy)
    assert len(report.picks) == 14
    if energy == "energy-at-volume":
        assert min(p.energy_eV for p in report.picks) >= 0.0
        assert report.stages[0].histogram.lowest_eV == 0.0


def test_pool_smaller_than_asked_is_said() -> None:
    world = World(n=2)
    world.trajectories = [
        TrajectorySummary(t.id, t.group, True, t.frames, t.enthalpies, t.energies, t.volumes)
        for t in world.trajectories
    ]
    frames = sum(len(t.frames) for t in world.trajectories)
    report = world.run(labels_per_generation=100)
    assert len(report.picks) == frames
    assert any("only" in note for note in report.notes)
    assert json.dumps(report.to_json(), allow_nan=False)


def test_held_out_structures_that_training_used_up_are_said() -> None:
    """The group has frames enough, but those of the chosen trajectories are fewer."""
    world = World(n=2)
    world.trajectories = [
        TrajectorySummary(t.id, t.group, i == 0, t.frames, t.enthalpies, t.energies, t.volumes)
        for i, t in enumerate(world.trajectories)
    ]
    frames = len(world.trajectories[0].frames)
    assert frames < frames + len(world.trajectories[1].frames) - 1
    report = world.run(labels_per_generation=frames, held_out_per_generation=1)
    assert len(report.ids("training")) == frames
    assert report.ids("held-out") == []
    assert any("held-out chose 0 of the 1" in note for note in report.notes)


def test_duplicates_leave_a_note() -> None:
    world = World(n=12)
    first = world.store["relax-0000/000"]
    for key in world.store:
        world.store[key] = first
    report = world.run()
    assert len(report.picks) == 1
    assert any("exact duplicates" in note for note in report.notes)


def test_inconsistent_input() -> None:
    world = World(n=4)
    one = world.trajectories[0]
    with pytest.raises(SelectionError, match="relax-0000 has"):
        TrajectorySummary(one.id, one.group, True, one.frames, one.enthalpies[1:], one.energies, one.volumes)
    world.trajectories.append(one)
    with pytest.raises(SelectionError, match="relaxation relax-0000 is listed twice"):
        world.run()


def test_initial_selection_is_cur_on_sorted_ids() -> None:
    rng = np.random.default_rng(2)
    cells = [random_atoms(rng, [14] * 3) for _ in range(60)]
    vectors = average_soap(cells, species=[14], settings=SIMILARITY)
    ids = [f"cell-{i:03d}" for i in range(60)]
    settings = SelectSettings(labels_per_generation=12, held_out_per_generation=5, noise_cells=2)
    report = select_initial(ids, vectors, settings=settings, zeta=4, streams=streams)
    assert len(report.ids("training")) == 12
    assert len(set(report.ids())) == 17
    assert len(report.noise) == 2
    assert [s.stage for s in report.stages] == ["cur", "held-out"]
    order = rng.permutation(60)
    shuffled = select_initial(
        [ids[i] for i in order], vectors[order], settings=settings, zeta=4, streams=streams
    )
    assert shuffled == report
    json.dumps(report.to_json(), allow_nan=False)
    groups = ["A" if i < 50 else "B" for i in range(60)]
    split = select_initial(
        ids, vectors, settings=settings, zeta=4, streams=streams, groups=groups, weights={"A": 0.0, "B": 1.0}
    )
    assert {p.group for p in split.picks} == {"B"}
    assert len(split.picks) == 10
    assert any("training structures asked for" in note for note in split.notes)


def test_initial_selection_errors() -> None:
    settings = SelectSettings()
    with pytest.raises(SelectionError, match="at least one cell"):
        select_initial([], np.zeros((0, 3)), settings=settings, zeta=4, streams=streams)
    with pytest.raises(SelectionError, match="1 ids, 2 vectors"):
        select_initial(["a"], np.eye(2), settings=settings, zeta=4, streams=streams)
    with pytest.raises(SelectionError, match="cell a is listed twice"):
        select_initial(["a", "a"], np.eye(2), settings=settings, zeta=4, streams=streams)


@pytest.mark.parametrize(
    ("total", "weights", "capacity", "expected"),
    [
        (10, {"A": 1, "B": 1, "C": 1}, {"A": 9, "B": 9, "C": 9}, {"A": 4, "B": 3, "C": 3}),
        (10, {"A": 1, "B": 1}, {"A": 2, "B": 9}, {"A": 2, "B": 8}),
        (10, {"A": 1, "B": 1}, {"A": 2, "B": 3}, {"A": 2, "B": 3}),
        (5, {"A": 0, "B": 1}, {"A": 9, "B": 3}, {"A": 0, "B": 3}),
        (1, {"A": 0.2, "B": 0.8}, {"A": 1, "B": 1}, {"A": 0, "B": 1}),
        (0, {"A": 1}, {"A": 1}, {"A": 0}),
        (7, {"A": 1}, {"B": 4}, {"B": 0}),
    ],
)
def test_shares(
    total: int, weights: dict[str, float], capacity: dict[str, int], expected: dict[str, int]
) -> None:
    assert share_out(total, weights, capacity) == expected


def test_negative_weight() -> None:
    with pytest.raises(SelectionError, match="weight of composition A is -1"):
        share_out(1, {"A": -1.0}, {"A": 1})


def test_temperatures_by_generation() -> None:
    settings = SelectSettings()
    assert [settings.kt(g) for g in (1, 2, 3, 4, 25)] == [0.3, 0.2, 0.1, 0.1, 0.1]
    with pytest.raises(ValueError, match="greater than 0"):
        SelectSettings(kt_eV=(0.3, 0.0))
