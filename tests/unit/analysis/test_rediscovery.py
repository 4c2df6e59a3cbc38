"""The rediscovery score: what was found, at how many labels, how often."""

from __future__ import annotations

import numpy as np
import pytest

from gapfactory.analysis.phases import named_phase
from gapfactory.analysis.rediscovery import Minimum, rate_interval, rediscovery
from gapfactory.errors import EvidenceError


def minimum(name: str, phase: str, labels: int, energy: float | None = None, scale: float = 1.0) -> Minimum:
    atoms = named_phase(phase).atoms
    atoms.set_cell(atoms.cell * scale, scale_atoms=True)
    return Minimum(name, atoms, labels, energy)


MINIMA = [
    minimum("g1/0", "Si-beta-tin", 100, -5.0),
    minimum("g1/1", "Si-oS24", 100, -5.2),
    minimum("g2/0", "Si-diamond", 200, -5.3, scale=1.01),
    minimum("g2/1", "Si-beta-tin", 200, -5.4),
    minimum("g3/0", "Si-diamond", 300, -5.5, scale=0.99),
    minimum("g3/1", "Si-diamond", 300, -5.6),
]
TARGETS = {name: named_phase(f"Si-{name}").atoms for name in ("diamond", "beta-tin", "oS24")}
TARGETS["fcc"] = named_phase("Ti-bcc").atoms


def test_table():
    by_name = {r.target: r for r in rediscovery(MINIMA, TARGETS)}
    assert list(by_name) == list(TARGETS)
    diamond = by_name["diamond"]
    assert (diamond.found, diamond.attempts) == (3, 6)
    assert diamond.by_labels == ((100, 2, 0), (200, 2, 1), (300, 2, 2))
    assert (diamond.first_labels, diamond.first) == (200, "g2/0")
    assert diamond.names == ("g2/0", "g3/0", "g3/1")
    # beta-tin of the same label count has the lower energy
    assert diamond.rank == 2
    assert by_name["beta-tin"].first == "g1/0"
    assert by_name["beta-tin"].rank == 2
    assert by_name["oS24"].rank == 1
    missed = by_name["fcc"]
    assert (missed.found, missed.first_labels, missed.first, missed.rank) == (0, None, "", None)
    assert "not found in 6 minima" in missed.sentence()
    assert "first with 200 labels (g2/0)" in diamond.sentence()


def test_the_first_of_one_label_count_is_the_lowest_in_energy():
    assert rediscovery(MINIMA[4:], {"diamond": TARGETS["diamond"]})[0].first == "g3/1"
    unknown = [Minimum(m.name, m.atoms, m.labels) for m in MINIMA[4:]]
    found = rediscovery(unknown, {"diamond": TARGETS["diamond"]})[0]
    assert (found.first, found.rank) == ("g3/0", None)


def test_order_of_minima_does_not_matter():
    shuffled = [MINIMA[k] for k in np.random.default_rng(0).permutation(len(MINIMA))]
    for a, b in zip(rediscovery(MINIMA, TARGETS), rediscovery(shuffled, TARGETS), strict=True):
        assert a.as_dict() == b.as_dict()


def test_wilson_interval():
    """Against the roots of (p - f)^2 = z^2 p (1 - p) / n, which define it."""
    z = 1.959963984540054
    for found, n in ((0, 5000), (1, 5000), (17, 5000), (3, 6), (6, 6)):
        f = found / n
        roots = np.sort(np.roots([1 + z * z / n, -(2 * f + z * z / n), f * f]).real)
        assert rate_interval(found, n) == pytest.approx(tuple(np.clip(roots, 0, 1)), abs=1e-9)
    assert rate_interval(0, 0) == (0.0, 1.0)
    with pytest.raises(EvidenceError, match="7 found in 6"):
        rate_interval(7, 6)


def test_bad_input():
    with pytest.raises(EvidenceError, match="same name"):
        rediscovery([MINIMA[0], MINIMA[0]], TARGETS)
    assert rediscovery(MINIMA, {}) == ()
    empty = rediscovery([], {"diamond": TARGETS["diamond"]})[0]
    assert (empty.attempts, empty.rate, empty.by_labels) == (0, 0.0, ())
