"""The benchmark scripts stay runnable: campaigns differ by the method only, outputs are still understood."""

from __future__ import annotations

import importlib.util
import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.calculator import Calculator, all_changes

from gapfactory.campaign import parse_campaign
from gapfactory.io.extxyz import LabelledFrame

SCRIPTS = Path(__file__).parents[2] / "benchmarks"


def load(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


experiment, bench_all, mutants = load("selection_experiment"), load("bench_all"), load("mutants")


def settings(arguments, method, seed=1):
    options = experiment.arguments_of(arguments)
    found = parse_campaign(json.dumps(experiment.campaign_content(options, method, seed))).model_dump()
    return {key: value for key, value in found.items() if key != "name"}


@pytest.mark.parametrize("arguments", [[], ["--quick"], ["--element", "Ti"]])
def test_runs_differ_by_the_method_only(arguments):
    kernel = settings(arguments, "cur-kernel")
    for method in ("random", "cur-vectors"):
        other = settings(arguments, method)
        assert other["select"].pop("method") == method
        assert other == {
            **kernel,
            "select": {k: v for k, v in kernel["select"].items() if k != "method"},
        }
    soft = settings(arguments, "cur-kernel-soft")
    assert soft["select"] == kernel["select"]
    assert soft["similarity"]["cutoff"] == 4.8
    assert {k for k in soft if soft[k] != kernel[k]} == {"similarity"}
    per_generation = kernel["select"]["labels_per_generation"] + kernel["select"]["held_out_per_generation"]
    assert kernel["stop"]["label_budget"] == per_generation * kernel["schedule"]["generations"]
    assert kernel["reference"]["engine"] == "ase"


def test_a_run_of_other_settings_is_not_continued(tmp_path):
    (tmp_path / "campaign.yaml").write_text("{}")
    with pytest.raises(SystemExit, match="other settings"):
        experiment.run_one(tmp_path, {"name": "x"}, 1)


def frame(name, a, energy):
    return LabelledFrame(name, bulk("Si", a=a), energy, np.zeros((2, 3)))


def test_the_common_test_set_holds_nothing_that_any_run_was_trained_on():
    first = SimpleNamespace(train=[frame("a", 5.1, -8.0)], held_out=[frame("b", 5.2, -8.0)])
    second = SimpleNamespace(
        train=[frame("c", 5.3, -8.0)],
        held_out=[frame("d", 5.1, -8.0), frame("e", 5.2, -8.0), frame("f", 5.4, -8.0)],
    )
    tests, key = experiment.common_test_set([first, second])
    assert sorted(round(2 * float(f.atoms.cell.array.max()), 6) for f in tests) == [5.2, 5.4]
    assert experiment.common_test_set([second, first])[1] == key


class Off(Calculator):
    implemented_properties = ("energy", "forces")

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        super().calculate(atoms, properties, system_changes)
        self.results = {"energy": -8.0 + 0.02, "forces": np.full((2, 3), 0.3)}


def test_errors_are_per_atom_and_low_energies_are_judged_apart():
    tests = [frame("low", 5.4, -8.0), frame("high", 4.0, 8.0)]
    errors = experiment.errors_on(tests, Off(), -4.3)
    assert errors["energy_rmse"] == pytest.approx(0.01)
    assert errors["energy_rmse_all"] > 1.0
    assert errors["force_rmse"] == pytest.approx(0.3)


def test_summary_says_when_ranges_overlap():
    rows = [
        {
            "method": method,
            "seed": seed,
            "ground_state_error_meV": value,
            "held_out_energy_rmse_meV": 1.0 + seed,
            "held_out_force_rmse_eV_A": None,
        }
        for method, values in (
            ("random", (-40.0, 50.0)),
            ("cur-kernel", (5.0, None)),
            ("cur-vectors", (3.0, 4.0)),
        )
        for seed, value in enumerate(values)
    ]
    found = experiment.summary_of(rows)
    assert found["ground_state_error_meV"]["random"] == {"median": 45.0, "best": 40.0, "worst": 50.0}
    assert found["ground_state_error_meV"]["cur-kernel"]["worst"] is None
    pairs = found["ground_state_error_meV: seeds in which the first is lower than the second"]
    assert pairs["cur-vectors < random"] == "2 of 2"
    assert pairs["cur-kernel < random"] == "1 of 2 (ranges overlap)"


def test_coordination_and_space_group_of_diamond():
    assert experiment.describe(bulk("Si"), 2.8) == (4.0, 227)


def test_outputs_of_the_benchmarks_are_understood():
    relax = bench_all.relax_lines(
        "Si none       : 6/6 converged, 101 calls, 20 frames each, 7897 relaxations/core-hour, "
        "2.80 ms potential + 1.72 ms rest per call\n"
    )
    assert relax["rows"][0]["per_hour"] == 7897
    assert "7897 per core-hour" in bench_all.relax_rows(relax)[0][1]
    with pytest.raises(SystemExit, match="no line"):
        bench_all.relax_lines("changed")
    assert bench_all.json_object('{"a": 1}\n10000 cells {}\n') == {"a": 1}
    line = {"launcher": "gapfactory", "preloaded": 0, "ms_per_task": 10.0, "commands_per_task": 6.0}
    stock = {**line, "launcher": "fireworks", "ms_per_task": 50.0}
    queue = bench_all.json_lines(f"{json.dumps(line)}\n{json.dumps(stock)}\n")
    assert "5 times faster" in bench_all.queue_rows(queue)[0][2]
    scores = {"test_mae_meV": 30.0, "test_spearman": 0.99, "cpu_s": 20.0, "us_per_atom": 12.0}
    other = scores | {"test_mae_meV": 15.0, "cpu_s": 300.0}
    line = {"structures": 1000, "split": "parent", "eddp": scores, "gap": other}
    what, found, words = bench_all.eddp_gap_rows({"rows": [line]})[0]
    assert "parent split" in what
    assert found == "test MAE 30.0 against 15.0 meV/atom in 20 against 300 s"
    assert words.startswith("**misses** the target of 1.5 times the GAP (2.00)")
    assert bench_all.times(0.5) == "2 times slower"


def test_every_benchmark_names_a_script_that_exists():
    assert {b.name for b in bench_all.BENCHMARKS} == {
        "build",
        "select",
        "relax",
        "relax-gap",
        "engine",
        "eddp",
        "eddp-gap",
        "fit",
        "fit-large",
        "queue",
    }
    for benchmark in bench_all.BENCHMARKS:
        assert (SCRIPTS / benchmark.script).is_file()
    output = io.StringIO()
    with redirect_stdout(output), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["bench_all.py", "--list", "--full"])
        bench_all.main()
    assert "bench_select.py" in output.getvalue()


def test_faults_are_put_where_they_are_said_to_be():
    source = "def f(x: int) -> int:\n    if x < 2:\n        raise ValueError(f'{x + 1} of {2}')\n    return x - 1\n"
    faults = mutants.faults_of(source)
    assert [(fault.line, fault.what) for fault in faults] == [
        (2, "x < 2 -> x <= 2"),
        (2, "x < 2 -> x >= 2"),
        (2, "2 -> 3"),
        (3, "raise ValueError(f'{x + 1} of {2}') -> pass"),
        (4, "return x - 1 -> return None"),
        (4, "x - 1 -> x + 1"),
        (4, "1 -> 2"),
    ]
    made = {mutants.with_fault(source, fault) for fault in faults}
    assert len(made) == len(faults)
    assert all(compile(text, "x", "exec") for text in made)
    for module, tests in mutants.TARGETS.values():
        assert (SCRIPTS.parents[1] / module).is_file()
        assert all((SCRIPTS.parents[1] / test).is_file() for test in tests)
