"""Which frames and settings the studies of a vibrations database are fitted to."""

from __future__ import annotations

import numpy as np
import pytest

from gapfactory.analysis.vibration_settings import StudySettings
from gapfactory.analysis.vibration_study import StudyFit, StudyFrame, study_fits
from gapfactory.elements import species
from gapfactory.errors import InputError
from gapfactory.potentials.gap.presets import allen_2022
from gapfactory.potentials.gap.settings import GapSettings

GAP = allen_2022(species("Al"))


def database(parent: str = "fcc", variants: int = 6) -> list[StudyFrame]:
    """Return frames as of fcc aluminium on a 4x4x4 grid: k-points are in proportion to the reciprocal volume."""
    frames = [StudyFrame(f"{parent}-crystal", "crystal", 1, (8, 8, 8), parent)]
    frames += [StudyFrame(f"{parent}-p{k}", "primitive", 1, (8, 8, 8), parent) for k in range(5)]
    for variant in range(variants):
        frames += [
            StudyFrame(f"{parent}-s{variant}-{cell}", "supercell", 4, (8, 8, 2), parent) for cell in range(5)
        ]
    frames.append(StudyFrame(f"{parent}-d", "diagonal", 64, (2, 2, 2), parent))
    return frames


def fits(frames: list[StudyFrame], seed: int = 0, **studies: object) -> dict[str, StudyFit]:
    found = study_fits(frames, StudySettings(**studies), GAP, np.random.default_rng(seed))
    assert len({fit.variant for fit in found}) == len(found)
    return {fit.variant: fit for fit in found}


def test_none_by_default() -> None:
    assert fits(database()) == {}


def test_primitive_cells_alone() -> None:
    (fit,) = fits(database(), primitives=True).values()
    assert fit.variant == "primitives"
    assert fit.ids == ("fcc-crystal", *(f"fcc-p{k}" for k in range(5)))
    assert fit.gap == GAP
    assert fit.unlabelled == ()
    assert fit.cost.total == 6 * 512


def test_diagonal_supercells_and_others_of_the_same_cost() -> None:
    # one of 64 atoms costs 8 x 64^3; one of 4 atoms 128 x 4^3: 256 of these
    found = fits(database(variants=60), diagonal=True)
    assert list(found) == ["diagonal", "equal-cost"]
    large, small = found["diagonal"], found["equal-cost"]
    assert large.ids == ("fcc-crystal", "fcc-d")
    assert large.cost.total == 512 + 8 * 64**3
    assert small.cost.total == 512 + 256 * 128 * 4**3 == large.cost.total
    # the first of every supercell, then the second ...
    assert len(small.ids) == 257
    assert small.ids[:7] == ("fcc-crystal", *(f"fcc-s0-{k}" for k in range(5)), "fcc-s1-0")
    # all there are, where these cost less
    assert len(fits(database(), diagonal=True)["equal-cost"].ids) == 31


def test_equal_cost_is_equal_for_each_crystal() -> None:
    both = fits(database("fcc", 60) + database("bcc", 60), diagonal=True)
    ids = both["equal-cost"].ids
    assert sum(name.startswith("fcc") for name in ids) == sum(name.startswith("bcc") for name in ids) == 257
    assert both["equal-cost"].cost.total == both["diagonal"].cost.total


def test_constant_errors() -> None:
    (fit,) = fits(database(), static=True, static_virial=0.02).values()
    assert len(fit.ids) == 36
    assert "fcc-d" not in fit.ids
    assert fit.gap.sigma.adaptive.force_fraction == 0
    assert fit.gap.sigma.adaptive.force_floor == 0.01
    assert fit.gap.sigma.adaptive.virial_fraction == 0
    assert fit.gap.sigma.adaptive.virial_floor == 0.02
    # nothing else
    assert fit.gap.sigma.adaptive.energy == GAP.sigma.adaptive.energy
    assert fit.gap.model_copy(update={"sigma": GAP.sigma}) == GAP
    with pytest.raises(InputError, match=r"gap\.sigma\.rule is 'hull'"):
        study_fits(database(), StudySettings(static=True), GapSettings(), np.random.default_rng(0))


def test_learning_curve() -> None:
    found = fits(database(), learning=(20, 5, 36, 100))
    # 36 are all there are
    assert list(found) == ["learning-0005-own", "learning-0005-all", "learning-0020-own", "learning-0020-all"]
    every = {frame.id for frame in database() if frame.kind != "diagonal"}
    for size in (5, 20):
        own, all_ = found[f"learning-{size:04d}-own"], found[f"learning-{size:04d}-all"]
        assert len(own.ids) == size
        assert own.unlabelled == ()
        assert own.ids == all_.ids
        assert "fcc-crystal" in own.ids
        assert set(all_.ids) | set(all_.unlabelled) == every
        assert not set(all_.ids) & set(all_.unlabelled)
        assert own.cost == all_.cost
    assert set(found["learning-0005-own"].ids) < set(found["learning-0020-own"].ids)
    again, other = fits(database(), learning=(20,)), fits(database(), seed=1, learning=(20,))
    assert again["learning-0020-own"] == found["learning-0020-own"]
    assert other["learning-0020-own"].ids != found["learning-0020-own"].ids


def test_what_was_not_labelled_is_left_out() -> None:
    few = [frame for frame in database() if frame.kind in ("crystal", "supercell")]
    found = fits(few, primitives=True, diagonal=True, static=True)
    assert list(found) == ["static"]
    with pytest.raises(InputError, match="same id"):
        fits([*few, few[0]])
