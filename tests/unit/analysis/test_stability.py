"""Molecular dynamics and close contacts: a sound potential survives, each kind of broken one is found out in words."""

from __future__ import annotations

import json

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes
from ase.neighborlist import neighbor_list

from gapfactory.analysis.contacts import judge_contacts
from gapfactory.analysis.dynamics import default_timestep, run_dynamics
from gapfactory.analysis.stability import (
    check_stability,
    stability_from_dict,
    trial_temperature,
)
from gapfactory.analysis.stability_settings import StabilitySettings
from gapfactory.errors import PotentialError
from gapfactory.reference.analytic import StillingerWeberSilicon

SHORT = StabilitySettings(duration_ps=0.2, nve_ps=0.04, n_atoms=8)
DIMER = {("Si", "Si"): 2.2}


class Tampered(Calculator):
    """Stillinger-Weber silicon with an addition to every pair's energy, a function of the distance."""

    implemented_properties = ["energy", "free_energy", "forces", "stress"]  # noqa: RUF012 - as in ASE

    def __init__(self, addition=None, *, force_error=0.0, refuse_below=0.0, nan_below=0.0):
        super().__init__()
        self.inner = StillingerWeberSilicon()
        self.addition, self.force_error = addition, force_error
        self.refuse_below, self.nan_below = refuse_below, nan_below

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.inner.calculate(atoms, properties, system_changes)
        self.results = dict(self.inner.results)
        first, distance, vector = neighbor_list("idD", atoms, 3.0)
        shortest = distance.min() if len(distance) else np.inf
        if shortest < self.refuse_below:
            raise PotentialError(f"two atoms at {shortest:.2f} Å: outside what the potential knows")
        if self.addition is not None:
            energy, slope = self.addition(distance)
            self.results["energy"] += 0.5 * energy.sum()
            self.results["free_energy"] = self.results["energy"]
            gradient = (slope / distance)[:, None] * vector
            np.add.at(self.results["forces"], first, gradient)
            if "stress" in self.results:
                tensor = 0.5 * vector.T @ gradient / atoms.get_volume()
                self.results["stress"] = self.results["stress"] + tensor.ravel()[[0, 4, 8, 5, 2, 1]]
        if shortest < self.nan_below:
            self.results["energy"] = float("nan")
        self.results["forces"] = self.results["forces"] * (1.0 + self.force_error)


def hole(centre, depth, width=0.12):
    """A Gaussian well of pairs at a distance: energy (eV) and its derivative."""

    def well(r):
        value = -depth * np.exp(-(((r - centre) / width) ** 2))
        return value, -2.0 * (r - centre) / width**2 * value

    return well


def tried(calculator, settings=SHORT, **more):
    return check_stability(
        bulk("Si"),
        "Si-diamond",
        calculator,
        settings=settings,
        rng=np.random.default_rng(3),
        **{"known_energy": -4.336, "dimer_lengths": DIMER} | more,
    )


@pytest.fixture(scope="module")
def sound():
    return tried(StillingerWeberSilicon(), SHORT.model_copy(update={"n_atoms": 64, "duration_ps": 0.3}))


def test_a_sound_potential_survives(sound):
    run = sound.dynamics
    assert sound.survives
    assert sound.survives_dynamics
    assert sound.repulsive
    assert sound.headline() == "survives 0.3 ps at 1350 K, and close contacts"
    assert (run.n_atoms, run.timestep_fs, run.kept_lattice) == (64, 2.0, True)
    assert run.reached_ps == pytest.approx(0.3)
    assert sound.temperature_K == pytest.approx(0.8 * 1687)
    assert 0.6 * 1350 < run.temperatures.mean() < 1.6 * 1350
    assert abs(run.drift_meV_per_ps) < 5
    assert 2.0 < run.shortest.min() < 2.352
    # heat: half of what the atoms were given
    assert 0.05 < run.energies[-20:].mean() < 0.3


def test_the_trace_covers_the_run_and_the_last_frames_are_there(sound):
    run = sound.dynamics
    assert run.times[-1] == pytest.approx(0.3)
    assert np.all(np.diff(run.times) > 0)
    assert len(run.frames) == 3
    assert run.frame_times == tuple(sorted(run.frame_times))
    again = run.frames[-1].copy()
    again.calc = StillingerWeberSilicon()
    assert again.get_potential_energy() / 64 < -4.0


def test_same_seed_same_numbers_other_seed_others():
    crystal = bulk("Si", cubic=True)

    def run(seed):
        return run_dynamics(
            crystal,
            StillingerWeberSilicon(),
            temperature_K=800.0,
            settings=SHORT.model_copy(update={"duration_ps": 0.05}),
            rng=np.random.default_rng(seed),
        )

    first, second, other = run(1), run(1), run(2)
    np.testing.assert_array_equal(first.energies, second.energies)
    assert not np.array_equal(first.energies, other.energies)
    np.testing.assert_array_equal(crystal.positions, bulk("Si", cubic=True).positions)


def test_a_hole_ends_the_run_early_and_says_so():
    # out of reach of the crystal at rest, within reach of heat
    found = tried(Tampered(hole(1.9, 40.0)))
    run = found.dynamics
    assert not found.survives
    assert 0 < run.reached_ps < run.duration_ps
    assert "hole of the potential" in run.reason
    assert "below the crystal at rest" in run.reason
    assert run.frames
    assert found.headline().startswith("does not survive molecular dynamics at 1350 K: after 0.")
    assert "nor close contacts" in found.headline()


def test_close_contacts_tell_how_deep_a_hole_is_and_where_it_begins():
    found = tried(Tampered(hole(1.5, 30.0)), SHORT.model_copy(update={"duration_ps": 0.01, "nve_ps": 0.0}))
    dimer, pair, whole = found.contacts
    assert (dimer.kind, pair.kind, whole.kind) == ("dimer", "pair", "crystal")
    # evenly compressed, the other neighbours hold the crystal apart
    assert [dimer.passes, pair.passes, whole.passes] == [False, False, True]
    assert 1.55 < pair.repulsive_to < 1.8
    assert dimer.hole > 15
    assert dimer.below_minimum > 5
    assert "only; behind a barrier of" in dimer.sentence()
    assert "below the minimum: a hole" in dimer.sentence()
    assert "but not close contacts (Si-Si alone, Si-Si in the crystal not repulsive" in found.headline()


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ({"refuse_below": 2.25}, "the potential refused a structure: two atoms at 2.2"),
        ({"nan_below": 2.25}, "energy, forces or positions are not finite numbers"),
        ({"addition": hole(1.9, 40.0)}, "hole of the potential"),
    ],
)
def test_what_ends_a_run_is_told_in_words(broken, words):
    found = tried(Tampered(**broken))
    assert not found.survives_dynamics
    assert words in found.dynamics.reason
    assert found.dynamics.frames


def test_two_atoms_too_close_end_the_run():
    settings = SHORT.model_copy(update={"closest_approach": 0.97})
    found = tried(StillingerWeberSilicon(), settings)
    assert "two atoms came as close as 2." in found.dynamics.reason
    assert "less than 0.97 of the crystal's shortest distance of 2.35 Å" in found.dynamics.reason


def test_forces_that_do_not_belong_to_the_energy_are_found_by_the_drift():
    settings = SHORT.model_copy(update={"duration_ps": 0.04, "nve_ps": 0.2})
    found = tried(Tampered(force_error=-0.2), settings)
    assert "drifted by" in found.dynamics.reason
    assert abs(found.dynamics.drift_meV_per_ps) > 5
    assert not found.survives


def test_a_crystal_that_begins_in_a_hole_is_not_run():
    found = tried(StillingerWeberSilicon(), known_energy=-3.0)
    assert found.dynamics is None
    assert "hole of the potential: 1.337 eV/atom below every known structure" in found.problem
    assert found.headline().startswith("does not survive: Si-diamond relaxed into a hole")
    assert not found.survives


def test_a_crystal_that_the_potential_refuses_is_a_result():
    found = tried(Tampered(refuse_below=3.0))
    assert found.dynamics is None
    assert "does not hold Si-diamond together" in found.problem
    assert found.sentences()[0].startswith("The potential does not hold")


def test_plain_data_keep_everything_but_the_frames(sound):
    data = json.loads(json.dumps(sound.as_dict()))
    back = stability_from_dict(data)
    assert back.as_dict() == sound.as_dict()
    assert back.headline() == sound.headline()
    assert back.sentences() == sound.sentences()
    assert back.dynamics.frames == ()


@pytest.mark.parametrize(
    ("symbols", "melting", "given", "temperature"),
    [
        (["Si"], 1687.0, None, 1349.6),
        (["Ti"], 1941.0, None, 1552.8),
        (["Si"], 2000.0, 2000.0, 1600.0),
        (["O", "Ti"], 1000.0, None, 800.0),
        (["He"], 1000.0, None, 800.0),
    ],
)
def test_temperature_of_the_run(symbols, melting, given, temperature):
    found = trial_temperature(symbols, StabilitySettings(melting_point_K=given))
    assert found[:2] == pytest.approx((temperature, melting))
    assumed = given is None and melting == 1000.0
    assert ("was assumed, give evidence.stability.melting_point_K" in found[2]) == assumed


def test_time_steps_follow_the_lightest_atom():
    assert default_timestep(np.array([28.085])) == 2.0
    assert default_timestep(np.array([47.867, 15.999])) == pytest.approx(2.0 * np.sqrt(15.999 / 28.085))
    assert default_timestep(np.array([1.008])) == pytest.approx(0.379, abs=1e-3)
    assert default_timestep(np.array([207.2])) == 3.0


R = np.linspace(1.0, 2.0, 101)


@pytest.mark.parametrize(
    ("energies", "passes", "to", "barrier", "hole_depth", "below"),
    [
        # rises all the way
        ((2.0 / R) ** 6, True, 1.0, 63.0, 0.0, 0.0),
        # turns over at 1.5 and falls by 2 to 1.0
        (10 - 8 * (R - 1.5) ** 2, False, 1.5, 2.0, 2.0, 0.0),
        # turns over, falls far below the minimum
        (10 - 8 * (R - 1.5) ** 2 - 400 * np.clip(1.3 - R, 0, None) ** 2, False, 1.5, 2.0, 38.0, 36.0),
        # turns over behind what was asked for
        (np.where(R > 1.1, 50 - 20 * R, 28 - 10 * (1.1 - R)), True, 1.1, 18.0, 1.0, 0.0),
    ],
)
def test_known_curves(energies, passes, to, barrier, hole_depth, below):
    found = judge_contacts("pair", "Si-Si", 2.0, R[::-1], energies[::-1], wanted=0.6)
    assert found.passes is passes
    assert found.repulsive_to == pytest.approx(to, abs=0.011)
    assert found.barrier == pytest.approx(barrier, abs=0.25)
    assert found.hole == pytest.approx(hole_depth, abs=0.05)
    assert found.below_minimum == pytest.approx(below, abs=0.05)


def test_a_refusal_ends_a_scan_and_counts_as_far_as_it_came():
    use = R > 1.4
    found = judge_contacts(
        "pair",
        "Si-Si",
        2.0,
        R[use],
        (2.0 / R[use]) ** 6,
        wanted=0.6,
        refused=((1.4, "beyond what it knows"),),
    )
    assert not found.passes
    assert "where the potential refuses: beyond what it knows" in found.sentence()


def test_contradicting_settings_are_refused():
    with pytest.raises(ValueError, match="ends the scan before repulsive_to"):
        StabilitySettings(contacts_to=0.7)
