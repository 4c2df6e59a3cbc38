"""Who wins a row, which power law a cost follows, and what the page says of both."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def peers():
    """Return the modules of the comparisons; the scripts' directory is on the path meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        names = ("tables", "page", "places", "loop", "selection")
        modules = {name: importlib.import_module(f"peers.{name}") for name in names}
        modules["bench_peers"] = importlib.import_module("bench_peers")
        yield type("Modules", (), modules)
        for name in [n for n in sys.modules if n.split(".")[0] in ("peers", "bench_peers", "bench_all")]:
            del sys.modules[name]


def row(peers, ours, theirs, **more):
    return peers.tables.Row("task", "size", "Peer", "s", ours, theirs, **more)


@pytest.mark.parametrize(
    ("ours", "theirs", "more_is_better", "ratio", "winner"),
    [
        (1.0, 20.0, False, 20.0, "gapfactory"),
        (20.0, 1.0, False, 0.05, "Peer"),
        (20.0, 1.0, True, 20.0, "gapfactory"),
        (1.0, 20.0, True, 0.05, "Peer"),
        (1.0, 1.04, False, 1.04, "tie"),
        (1.04, 1.0, False, 1 / 1.04, "tie"),
        (1.06, 1.0, False, 1 / 1.06, "Peer"),
    ],
)
def test_the_better_figure_wins(peers, ours, theirs, more_is_better, ratio, winner):
    found = row(peers, ours, theirs, more_is_better=more_is_better)
    assert found.ratio == pytest.approx(ratio)
    assert found.winner == winner
    assert bool(peers.tables.losses([found])) == (winner == "Peer")


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf")])
def test_a_figure_that_gives_no_ratio_is_refused(peers, value):
    with pytest.raises(ValueError, match="no ratio"):
        _ = row(peers, 1.0, value).ratio


def test_exponent_is_numpys_slope_of_the_logarithms(peers):
    sizes = [3.0, 10.0, 20.0, 77.0]
    assert peers.tables.exponent(sizes, [5 * s**1.7 for s in sizes]) == pytest.approx(1.7)
    costs = [1.0, 2.5, 9.0, 11.0]
    slope = np.polyfit(np.log(sizes), np.log(costs), 1)[0]
    assert peers.tables.exponent(sizes, costs) == pytest.approx(slope)
    with pytest.raises(ValueError, match="two different sizes"):
        peers.tables.exponent([2.0, 2.0], [1.0, 1.0])
    with pytest.raises(ValueError, match="positive"):
        peers.tables.exponent([1.0, 2.0], [0.0, 1.0])


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.01234, "0.0123"), (1.0, "1.00"), (123.4, "123"), (99999.0, "99999"), (2e6, "2.00e+06")],
)
def test_figures_have_three_digits(peers, value, text):
    assert peers.tables.figure_text(value) == text


def test_a_lost_row_stays_in_the_table_and_on_the_page(peers, tmp_path):
    found = peers.tables.Comparison(
        [row(peers, 1.0, 3.0), row(peers, 2.0, 1.0)],
        [
            peers.tables.Series("fit", "cells", "s", name, ((1.0, 1.0), (10.0, 100.0)))
            for name in ("gapfactory", "Peer")
        ],
        ["Other (no wheel)"],
    )
    document = {
        "comparisons": {
            "cells": {**found.document(), "date": "d", "quick": True, "seconds": 3, "load": [1.0, 2.0]}
        },
        "peers": {"PyXtal": {"pyxtal": "1.1"}},
    }
    document = json.loads(json.dumps(document))
    assert peers.tables.Comparison.of(document["comparisons"]["cells"]) == found
    rows = peers.page.write(document, list(peers.bench_peers.COMPARISONS), tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert rows == found.rows
    assert "| 2.00 s | 1.00 s | 0.500 | **Peer** |" in text
    assert "A peer is better in 1 of 2 rows" in text
    assert "| fit: s | cells | Peer | 1 - 10 | 2.00 |" in text
    assert "Other (no wheel)" in text
    assert (tmp_path / "ratios.png").stat().st_size > 1000
    assert (tmp_path / "growth.png").stat().st_size > 1000


def test_the_sides_of_a_comparison_take_turns(peers, tmp_path):
    called = []
    places = peers.places.Places(tmp_path, tmp_path)
    sides = {name: lambda name=name: called.append(name) or {"cpu_s": len(called)} for name in "ab"}
    found = places.by_turns(sides, 3)
    assert called == ["a", "b", "b", "a", "a", "b"]
    assert peers.places.median(found["a"], "cpu_s") == 4


def test_a_peer_that_is_not_installed_is_named(peers, tmp_path):
    places = peers.places.Places(tmp_path, tmp_path)
    places.prepare(["wfl"], install=False)
    assert places.missing == {"wfl": "not installed (--no-install)"}
    assert not places.versions


def test_a_peer_that_fails_is_told_from_a_failure_of_ours(peers, tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    places = peers.places.Places(tmp_path, scratch)
    place = places.python("wfl")
    place.parent.mkdir(parents=True)
    place.symlink_to(sys.executable)  # an environment without wfl
    with pytest.raises(peers.places.PeerFailedError, match="wfl_steps ended with status 1"):
        places.run("wfl", "wfl_steps", {"kind": "cur"})
    with pytest.raises(RuntimeError, match="ours ended with status 1") as failure:
        places.run(None, "ours", {"kind": "nothing of the kind"})
    assert not isinstance(failure.value, peers.places.PeerFailedError)


def test_wall_times_count_only_where_the_machine_was_free(peers):
    given = peers.loop.task(quick=True, seed=1)
    run = {"cpu_s": 1.0, "wall_s": 2.0, "rmse": 30.0, "labels": 20, "quiet": True}
    found = peers.loop.rows({"gapfactory": [run], "autoplex": [{**run, "rmse": 60.0}]}, "autoplex", given, 51)
    assert [row.unit for row in found] == ["CPU s", "s", "meV per atom"]
    assert found[2].ratio == 2.0
    found = peers.loop.rows(
        {"gapfactory": [{**run, "quiet": False}], "autoplex": [run]}, "autoplex", given, 51
    )
    assert [row.unit for row in found] == ["CPU s", "meV per atom"]


def test_every_side_that_is_named_exists(peers):
    names = ["ours", "ours_loop", *peers.loop.SIDES.values(), *peers.selection.SIDES.values()]
    assert all((peers.places.SIDES / f"{name}.py").is_file() for name in names)
    assert {p for _, needed in peers.bench_peers.COMPARISONS.values() for p in needed} == set(
        peers.places.PEERS
    )


def test_quip_and_ours_have_the_same_reference(peers):
    """The loops differ by the programs only if labels are the same."""
    quippy = pytest.importorskip("quippy.potential")
    from ase.build import bulk

    from gapfactory.reference.analytic import StillingerWeberSilicon

    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.2, seed=1)
    results = []
    for calculator in (quippy.Potential("IP SW", param_str=peers.loop.REFERENCE), StillingerWeberSilicon()):
        atoms.calc = calculator
        results.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    for one, other in zip(*results, strict=True):
        assert one == pytest.approx(other, abs=1e-10)


def test_what_is_not_spanned_falls_with_what_is_chosen(peers):
    vectors = np.abs(np.random.default_rng(1).normal(size=(20, 6)))
    vectors /= np.linalg.norm(vectors, axis=1)[:, None]
    values = [peers.selection.loss(vectors, list(range(n))) for n in (2, 8, 20)]
    assert values[0] > values[1] > values[2]
    assert values[2] < 1e-8
