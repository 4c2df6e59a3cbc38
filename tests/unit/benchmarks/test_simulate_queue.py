"""The simulation of the queue against what queueing theory knows."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "simulate_queue.py"


@pytest.fixture(scope="module")
def simulation():
    spec = importlib.util.spec_from_file_location("gf_simulate_queue", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_waiting_is_that_of_a_queue_with_random_arrivals_and_equal_services(simulation):
    """Many workers with long tasks of random length, one command each: M/D/1, mean wait = u s / (2 (1 - u))."""
    service, utilisation = 0.01, 0.7
    server = simulation.Server("one", lanes=1, service_s=service)
    case = simulation.Case(
        server,
        3000,
        3000 * service / utilisation,
        take=1,
        store=0,
        aside=0,
        own_s=0.0,
        spread=1.0,
        report_s=1e9,
    )
    found = simulation.simulate(case, rounds=40)
    assert found.utilisation == pytest.approx(utilisation, rel=0.02)
    expected = 1000 * utilisation * service / (2 * (1 - utilisation))
    assert found.waiting_ms == pytest.approx(expected, rel=0.12)


def test_nobody_waits_where_there_is_one_worker(simulation):
    server = simulation.Server("near", lanes=1, service_s=0.001, wait_s=0.002)
    case = simulation.Case(
        server, 1, 2.0, 0.05, take=5, store=5, aside=0, spread=0.0, own_s=0.0, report_s=1e9
    )
    found = simulation.simulate(case, rounds=50)
    assert found.waiting_ms == 0.0
    assert found.tasks_per_s == pytest.approx(1 / (2.0 + 10 * 0.053), rel=0.01)


def test_a_full_server_is_the_limit_and_shards_multiply_it(simulation):
    server = simulation.Server("full", lanes=4, service_s=0.002)
    case = simulation.Case(server, 800, 0.01, take=5, store=4, aside=1, spread=0.0, report_s=1e9)
    one = simulation.simulate(case)
    assert one.tasks_per_s == pytest.approx(4 / 0.002 / 10, rel=0.01)
    assert one.utilisation == pytest.approx(1.0, rel=0.01)
    two = simulation.simulate(replace(case, workers=1600, shards=2))
    assert two.tasks_per_s == pytest.approx(2 * one.tasks_per_s, rel=0.01)
    # checkouts that exclude each other are the limit before the lanes are
    slow = simulation.simulate(replace(case, server=replace(server, serial_s=0.01)))
    assert slow.tasks_per_s == pytest.approx(100, rel=0.02)


def test_the_same_seed_gives_the_same_numbers(simulation):
    case = simulation.Case(simulation.EMBEDDED, 50, 1.0, 0.01)
    assert simulation.simulate(case, seed=3) == simulation.simulate(case, seed=3)
    assert simulation.simulate(case, seed=3) != simulation.simulate(case, seed=4)


def test_reports_load_the_server_too(simulation):
    case = simulation.Case(simulation.EMBEDDED, 200, 60.0, spread=0.3, report_s=2.0)
    often, seldom = (simulation.simulate(replace(case, report_s=s)) for s in (2.0, 30.0))
    assert often.commands_per_s - seldom.commands_per_s == pytest.approx(200 / 2 - 200 / 30, rel=0.05)
