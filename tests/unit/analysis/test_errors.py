"""Error tables, intervals, learning curves and the decision to stop, on numbers with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from gapfactory.analysis.errors import ErrorRecord, bootstrap_interval, error_table, pick_row, summarise
from gapfactory.analysis.learning import (
    ConvergenceSettings,
    Evidence,
    decide_stop,
    fit_power_law,
    low_energy_rmse,
)
from gapfactory.errors import EvidenceError


def record(name, energy, error, kind="crystal", n=4, forces=None):
    reference = np.zeros((n, 3)) if forces is not None else None
    ours = np.full((n, 3), forces) if forces is not None else None
    return ErrorRecord(name, kind, n, n * energy, n * (energy + error), reference, ours)


def test_summary_of_known_numbers():
    s = summarise([3.0, -4.0])
    assert (s.n, s.mae, s.max) == (2, 3.5, 4.0)
    assert s.rmse == pytest.approx(np.sqrt(12.5))
    with pytest.raises(EvidenceError, match="empty"):
        summarise([])
    with pytest.raises(EvidenceError, match="1 of 2"):
        summarise([1.0, np.nan])


def test_table_by_window_and_kind():
    records = [
        record("a", -5.0, 0.001, forces=0.1),
        record("b", -4.95, -0.003, forces=0.2),
        record("c", -4.5, 0.05),
        record("d", -3.0, 0.4),
        record("e", 20.0, 5.0, kind="dimer", n=2),
    ]
    rows = error_table(records)
    assert pick_row(rows, "energy", "0-0.1 eV").n_structures == 2
    assert pick_row(rows, "energy", "0-0.1 eV").summary.rmse == pytest.approx(np.sqrt((1e-6 + 9e-6) / 2))
    assert pick_row(rows, "energy", "0.1-1 eV").summary.rmse == pytest.approx(0.05)
    assert pick_row(rows, "energy", "above 1 eV").summary.rmse == pytest.approx(0.4)
    assert pick_row(rows, "energy", "kind:dimer").summary.rmse == pytest.approx(5.0)
    assert pick_row(rows, "energy").n_structures == 5
    forces = pick_row(rows, "forces")
    assert forces.n_structures == 2
    assert forces.summary.n == 24
    assert forces.summary.rmse == pytest.approx(np.sqrt(0.025))
    assert pick_row(rows, "virial") is None
    assert error_table(records[::-1]) == rows


def test_windows_count_from_the_lowest_known_energy():
    rows = error_table([record("a", -5.0, 0.01)], lowest_energy=-5.5)
    assert pick_row(rows, "energy", "0-0.1 eV") is None
    assert pick_row(rows, "energy", "0.1-1 eV") is not None
    # a structure below the lowest known one still belongs to the lowest window
    rows = error_table([record("a", -5.6, 0.01)], lowest_energy=-5.5)
    assert pick_row(rows, "energy", "0-0.1 eV") is not None


def test_virial_per_atom():
    r = ErrorRecord("a", "crystal", 5, 0.0, 0.0, None, None, np.zeros(6), np.full(6, 0.5))
    assert pick_row(error_table([r]), "virial").summary.rmse == pytest.approx(0.1)


def test_bad_records_are_refused():
    with pytest.raises(EvidenceError, match="at least one"):
        error_table([])
    with pytest.raises(EvidenceError, match="'a' is given twice"):
        error_table([record("a", 0, 0), record("a", 0, 0)])
    bad = ErrorRecord("a", "crystal", 2, 0.0, 0.0, np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(EvidenceError, match="do not pair up"):
        error_table([bad])


def test_interval_covers_the_truth_and_respects_correlation():
    rng = np.random.default_rng(7)
    covered, widths = 0, []
    for _ in range(100):
        # all components of a structure share one error: the worst case of correlation
        groups = [np.full(24, rng.normal()) for _ in range(60)]
        low, high = bootstrap_interval(groups, rng, draws=300)
        covered += low <= 1.0 <= high
        widths.append(high - low)
    assert covered >= 85
    single = bootstrap_interval([np.array([x]) for g in groups for x in g], rng, draws=300)
    assert np.mean(widths) > 3 * (single[1] - single[0])


def test_interval_is_reproducible():
    groups = [np.array([1.0, 2.0]), np.array([0.5]), np.array([3.0])]
    one = bootstrap_interval(groups, np.random.default_rng(1))
    assert one == bootstrap_interval(groups, np.random.default_rng(1))
    with pytest.raises(EvidenceError, match="empty"):
        bootstrap_interval([np.empty(0)], np.random.default_rng(1))


def test_power_law_is_recovered():
    n = np.array([50, 100, 200, 400])
    law = fit_power_law(n, 3.0 * n**-0.7)
    assert law.prefactor == pytest.approx(3.0)
    assert law.exponent == pytest.approx(0.7)
    assert law.scatter == pytest.approx(0.0, abs=1e-12)
    assert law.predict(800) == pytest.approx(3.0 * 800**-0.7)
    assert law.labels_for(3.0 * 800**-0.7) == pytest.approx(800)
    assert fit_power_law(n, n * 1.0).labels_for(1e-3) is None
    with pytest.raises(EvidenceError, match="at least 3"):
        fit_power_law([1, 1, 2], [1, 1, 1])
    with pytest.raises(EvidenceError, match="positive"):
        fit_power_law([1, 2, 3], [1, 0, 1])


def history(*errors, n=20):
    return [Evidence(g, 100 * (g + 1), n, e) for g, e in enumerate(errors)]


CRITERION = ConvergenceSettings(energy_error_in_eV=0.010, plateau_improvement=0.05, generations=3)


@pytest.mark.parametrize(
    ("errors", "stop", "words"),
    [
        ((0.1, 0.009, 0.008, 0.007), True, "at most 10 meV/atom"),
        ((0.1, 0.05, 0.009, 0.008), False, "not converged"),
        ((0.1, 0.050, 0.049, 0.0485), True, "no longer falls"),
        ((0.1, 0.05), False, "are needed"),
        ((0.009, 0.008, 0.007, float("nan")), False, "incomplete"),
    ],
)
def test_stop_on_evidence(errors, stop, words):
    decision = decide_stop(history(*errors), label_budget=10_000, labels_spent=500, settings=CRITERION)
    assert decision.stop is stop
    assert words in decision.reason
    again = decide_stop(history(*errors)[::-1], label_budget=10_000, labels_spent=500, settings=CRITERION)
    assert again == decision


def test_stop_on_budget_and_without_criterion():
    assert decide_stop([], label_budget=10, labels_spent=10, settings=CRITERION).stop
    plain = decide_stop(
        history(0.001, 0.001, 0.001), label_budget=10, labels_spent=9, settings=ConvergenceSettings()
    )
    assert not plain.stop
    assert "no convergence criterion" in plain.reason


def test_few_structures_do_not_count_as_evidence():
    decision = decide_stop(
        history(0.001, 0.001, 0.001, n=3), label_budget=10_000, labels_spent=5, settings=CRITERION
    )
    assert not decision.stop
    assert "10 held-out structures" in decision.reason


def test_low_energy_rmse_measures_its_window_from_the_lowest_label():
    records = [record("b", -5.0, 0.03), record("a", -4.5, -0.04, n=3), record("c", -3.0, 9.0)]
    n, rmse = low_energy_rmse(records, -5.0, 1.0)
    assert n == 2
    assert rmse == pytest.approx(np.sqrt((0.03**2 + 0.04**2) / 2))
    assert low_energy_rmse(records[::-1], -5.0, 1.0) == (n, rmse)
    # a lower label elsewhere, trained on, moves the window; the held-out set alone would not tell
    assert low_energy_rmse(records, -5.6, 1.0) == (1, pytest.approx(0.03))
    none, missing = low_energy_rmse(records, -9.0, 1.0)
    assert none == 0
    assert np.isnan(missing)
    with pytest.raises(EvidenceError, match="lowest energy known"):
        low_energy_rmse(records, float("nan"), 1.0)


def along(prefactor, exponent, *noise):
    """Return generations of 50 labels more each whose errors are on a power law, times a factor each."""
    return [
        Evidence(g, 50 * (g + 1), 20, prefactor * (50 * (g + 1)) ** -exponent * factor)
        for g, factor in enumerate(noise)
    ]


def test_a_forecast_says_how_many_labels_are_left():
    wanted = ConvergenceSettings(energy_error_in_eV=0.02)
    # 0.4 n^-0.5 is 0.02 at 400 labels
    told = decide_stop(along(0.4, 0.5, 1, 1, 1, 1), label_budget=1000, labels_spent=200, settings=wanted)
    assert not told.stop
    assert told.reason.endswith("20 meV/atom is expected after 2e+02 labels more (2e+02 to 2e+02)")
    # three sizes say nothing of a scatter
    told = decide_stop(along(0.4, 0.5, 1, 1, 1), label_budget=1000, labels_spent=150, settings=wanted)
    assert told.reason.endswith("not converged yet")
    told = decide_stop(along(0.4, -0.1, 1, 1, 1, 1), label_budget=1000, labels_spent=200, settings=wanted)
    assert told.reason.endswith("20 meV/atom is not expected from more labels of this kind")


def test_a_target_out_of_reach_ends_a_campaign_when_the_scatter_allows_no_hope():
    def stops(target, *noise, times=1.0):
        wanted = ConvergenceSettings(energy_error_in_eV=target, out_of_reach=times)
        return decide_stop(along(0.4, 0.5, *noise), label_budget=400, labels_spent=200, settings=wanted)

    # at the budget of 400 labels the error is 0.02
    assert not stops(0.021, 1, 1, 1, 1).stop
    told = stops(0.019, 1, 1, 1, 1)
    assert told.stop
    assert told.reason.startswith(
        "19 meV/atom is out of reach: after 400 labels the learning curve expects 20.0"
    )
    # what four times the budget would bring is within reach
    assert not stops(0.019, 1, 1, 1, 1, times=4.0).stop
    # errors that scatter leave the question open
    assert not stops(0.019, 1.2, 0.8, 1.2, 0.9).stop
    # too few generations decide nothing
    assert not stops(0.001, 1, 1, 1).stop


def test_what_is_out_of_reach_needs_a_target():
    with pytest.raises(ValueError, match="out_of_reach needs an error to reach"):
        ConvergenceSettings(out_of_reach=2.0)


def test_a_generation_without_labels_of_its_own_is_no_point_of_the_curve():
    history = [Evidence(0, 0, 20, 0.5), *along(0.4, 0.5, 1, 1, 1)]
    history = [Evidence(k, e.n_labels, 20, e.energy_rmse) for k, e in enumerate(history)]
    wanted = ConvergenceSettings(energy_error_in_eV=0.02)
    assert decide_stop(history, label_budget=1000, labels_spent=150, settings=wanted).reason.endswith("yet")
