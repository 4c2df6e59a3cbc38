"""From networks to a potential on disk: files of each family, errors by relatives, what decides a network."""

from __future__ import annotations

from dataclasses import replace

import gf_eddp
import numpy as np
import pytest

from gapfactory.errors import FitError, PotentialError
from gapfactory.potentials import load_potential
from gapfactory.potentials.eddp import (
    EddpCalculator,
    EddpSettings,
    fit_eddp,
    split_structures,
    train_network,
    training_key,
    training_set,
)
from gapfactory.potentials.eddp.settings import TrainingSettings
from gapfactory.potentials.gap import GapCalculator, write_manifest

SETTINGS = EddpSettings.model_validate(
    {
        "features": {"cutoff": 4.0, "two_body": 3, "three_body": 2},
        "network": {"hidden": [3]},
        "training": {"max_steps": 25, "fractions": [0.6, 0.2, 0.2], "split": "plain"},
        "ensemble": {"members": 3, "outlier": 20.0},
    }
)


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A small potential, with what it was made from."""
    data, parents = gf_eddp.silicon(20, 3)
    # a half of them are no copies of anything
    related = {key: parent for key, parent in parents.items() if key < "si-010"}
    training = training_set(data, ["Si"], SETTINGS, parents=related)
    split = split_structures(training.parents, SETTINGS.training, np.random.default_rng(0))
    networks = [
        train_network(training, split, SETTINGS, np.random.default_rng(k)).network
        for k in range(SETTINGS.ensemble.members)
    ]
    directory = tmp_path_factory.mktemp("eddp") / "fit"
    return data, training, split, networks, fit_eddp(networks, data, training, split, SETTINGS, directory)


def test_the_files_tell_the_family_and_give_the_energies(fitted) -> None:
    data, training, split, networks, fit = fitted
    calculator = load_potential(fit.directory)
    assert isinstance(calculator, EddpCalculator)
    assert calculator.digest == fit.digest
    item = next(item for item in data if item.id == training.ids[split.test[0]])
    atoms = item.atoms.copy()
    atoms.calc = calculator
    rows, offsets = training.rows(split.test[:1])
    parts = np.array(fit.parts)
    members = np.array([networks[k].energies(rows, offsets)[0] for k in fit.kept])
    assert atoms.get_potential_energy() == pytest.approx(float(parts @ members), abs=1e-9)
    error, force = fit.residuals[item.id]
    assert error == pytest.approx((atoms.get_potential_energy() - item.energy) / len(atoms), abs=1e-12)
    assert force == pytest.approx(float(np.sqrt(np.mean((atoms.get_forces() - item.forces) ** 2))), abs=1e-9)


def test_a_gap_is_loaded_by_the_same_call(tmp_path) -> None:
    from gapfactory.potentials.gap.model import GapModel, empty_term, with_points
    from gapfactory.potentials.gap.xml import write_gap

    empty = empty_term(
        "distance_2b Z1=14 Z2=14 cutoff=4.0 cutoff_transition_width=0.5",
        "covariance_type=ard_se theta_uniform=1.0",
        1.0,
    )
    term = with_points(empty, np.array([[2.0], [3.0]]), np.array([0.1, -0.2]))
    write_gap(GapModel((term,), {14: -1.0}, None), tmp_path / "gap.xml")
    write_manifest(tmp_path)
    assert isinstance(load_potential(tmp_path), GapCalculator)


def test_files_of_no_family_and_altered_files_are_refused(fitted, tmp_path) -> None:
    import shutil

    from gapfactory.potentials.manifest import seal

    with pytest.raises(PotentialError, match=r"no manifest\.json"):
        load_potential(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    seal(tmp_path, ["notes.txt"], "")
    with pytest.raises(PotentialError, match=r"notes\.txt\) are no potential"):
        load_potential(tmp_path)
    copied = tmp_path / "copied"
    shutil.copytree(fitted[-1].directory, copied)
    part = next(copied.glob("*-001.ddp"))
    part.write_text(part.read_text().replace("tanh", "tanH", 1))
    with pytest.raises(PotentialError, match="truncated or altered"):
        load_potential(copied)


def test_errors_are_given_for_structures_without_relatives_too(fitted) -> None:
    data, training, split, _, fit = fitted
    seen = {training.parents[k] for k in [*split.train, *split.validation]}
    alone = [training.ids[k] for k in split.test if training.parents[k] not in seen]
    assert 0 < len(alone) < len(split.test)
    found = fit.errors["unrelated"]
    assert found.n_structures == len(alone)
    assert found.mae == pytest.approx(np.mean([abs(fit.residuals[key][0]) for key in alone]))
    assert fit.errors["test"].mae == pytest.approx(
        np.mean([abs(fit.residuals[key][0]) for key in fit.tested_on]), abs=1e-9
    )
    assert set(fit.trained_on) | set(fit.tested_on) == set(training.ids)
    assert not set(fit.trained_on) & set(fit.tested_on)
    judged = [abs(fit.residuals[key][0]) for key in fit.trained_on]
    assert fit.train_errors.energy_mae == pytest.approx(np.mean(judged))
    assert len(data) >= len(training.ids)


def test_networks_of_other_energies_than_the_files_are_refused(fitted, tmp_path, monkeypatch) -> None:
    from gapfactory.potentials.eddp import fit as module

    data, training, split, networks, _ = fitted
    write = module.write_eddp

    def other(ensemble, path):
        moved = tuple(replace(m, output_mean=m.output_mean + 1e-3) for m in ensemble.members)
        return write(replace(ensemble, members=moved), path)

    monkeypatch.setattr(module, "write_eddp", other)
    with pytest.raises(FitError, match=r"0\.001 eV/atom off"):
        fit_eddp(networks, data, training, split, SETTINGS, tmp_path / "fit")


def test_a_family_larger_than_the_test_set_is_trained_on() -> None:
    settings = TrainingSettings()
    parents = ["big"] * 60 + [f"{k}" for k in range(140)]
    for seed in range(8):
        split = split_structures(parents, settings, np.random.default_rng(seed))
        assert set(range(60)) <= set(split.train.tolist())
        # the shares are as asked for all the same
        assert len(split.test) == pytest.approx(20, abs=2)
        assert len(split.validation) == pytest.approx(20, abs=2)


def test_the_key_of_networks_knows_what_decides_them() -> None:
    data, parents = gf_eddp.silicon(4, 2)
    key = training_key(data, SETTINGS, parents)
    assert training_key(data[::-1], SETTINGS, parents) == key
    more = SETTINGS.model_copy(update={"ensemble": SETTINGS.ensemble.model_copy(update={"members": 9})})
    assert training_key(data, more, parents) == key
    wider = SETTINGS.model_copy(update={"network": SETTINGS.network.model_copy(update={"hidden": (4,)})})
    changed = [replace(data[0], energy=data[0].energy + 1e-9), *data[1:]]
    others = [
        training_key(data[1:], SETTINGS, parents),
        training_key(changed, SETTINGS, parents),
        training_key(data, wider, parents),
        training_key(data, SETTINGS, {**parents, data[0].id: "another"}),
    ]
    assert len({key, *others}) == 5
