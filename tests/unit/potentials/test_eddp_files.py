"""Files of networks and ensembles: exact round trips, the published layout, and what must be refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import gf_eddp
import numpy as np
import pytest

from gapfactory.errors import PotentialError
from gapfactory.potentials.eddp import Baseline, Ensemble, Features, read_ddp, read_eddp, write_eddp
from gapfactory.potentials.eddp.files import format_ddp, parse_ddp

if TYPE_CHECKING:
    from pathlib import Path

VECTORS = {
    "one species": gf_eddp.features("Li", cutoff=5.0),
    "another scale": gf_eddp.features("Li", cutoff=np.pi, three_body_scale=1 / 3),
    "three species": gf_eddp.features("Mg", "O", "Si", three_body=2),
    "pairs only": gf_eddp.features("Mg", "O", three_body=0, two_body=16),
    "other exponents": gf_eddp.features("C", two_body=16, three_body=4, three_body_scale=0.25),
}


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("core", [Baseline(), Baseline(1.0 / 7, 0.3)])
def test_a_network_is_read_back_to_the_bit(name: str, core: Baseline) -> None:
    network = gf_eddp.network(VECTORS[name], 4, hidden=(20, 20))
    text = format_ddp(network, core)
    found, found_core = parse_ddp(text, "x.ddp")
    assert found == network
    assert (found_core.radius, found_core.radius and found_core.strength) == (
        core.radius,
        core.radius and 0.3,
    )
    assert format_ddp(found, found_core) == text


def test_an_ensemble_is_read_back_to_the_bit(tmp_path: Path) -> None:
    members = tuple(gf_eddp.network(VECTORS["three species"], seed) for seed in range(3))
    parts = np.random.default_rng(1).dirichlet(np.ones(3))
    ensemble = Ensemble(
        members, tuple(float(part) for part in parts), Baseline(1.1, 0.7, (-1.0 / 3, -432.1, 2.5))
    )
    files = write_eddp(ensemble, tmp_path / "MgSiO3.eddp")
    assert [path.name for path in files] == ["MgSiO3.eddp", *(f"MgSiO3-00{k}.ddp" for k in (1, 2, 3))]
    assert read_eddp(files[0]) == ensemble
    again = tmp_path / "again"
    again.mkdir()
    for first, second in zip(files, write_eddp(read_eddp(files[0]), again / "MgSiO3.eddp"), strict=True):
        assert first.read_bytes() == second.read_bytes()


def published(cutoff: str = " 5.000", powers: str = "2.000 3.162 5.000", length: str = "3 9 0 0") -> str:
    """Write a network as Fortran does: 14 decimals, no zero before the point, nothing about the scale."""
    rng = np.random.default_rng(7)

    def fixed(values: np.ndarray) -> str:
        return " " + " ".join(
            f"{v:.14f}".replace("0.", ".", 1) if abs(v) < 1 else f"{v:.14f}" for v in values
        )

    weights, mean, spread = rng.normal(size=31), rng.uniform(size=13), rng.uniform(0.5, 2, size=13)
    mean[0], spread[0] = 1.0, 1.0371e-10
    return "\n".join(
        [
            " 3 13 1 31 18", " 13 2 1", fixed(weights), fixed(np.ones(31)), *[fixed(np.zeros(18))] * 4,
            " tanh       tanh       linear    ", fixed(mean), fixed(spread), " -198.23747082258788", " .09936077102395",
            f"composition: Li rmax: {cutoff} length: {length}  powers: {powers}   ", "",
        ]
    )  # fmt: skip


def test_the_published_layout_is_read() -> None:
    network, core = parse_ddp(published(cutoff="3.000"), "Li.ddp")
    assert core == Baseline()
    assert network.features == Features(("Li",), 3.0, *[np.array([2.0, 3.162, 5.0])] * 2, 1 / 3)
    assert network.sizes == (13, 2, 1)
    assert network.output_mean == -198.23747082258788
    assert network.output_scale == 0.09936077102395
    assert network.weights[0] == round(np.random.default_rng(7).normal(), 14)
    x = np.random.default_rng(3).uniform(0, 2, 13)
    x[0] = 1.0
    z = (x - network.input_mean) / network.input_scale
    w = network.weights
    hidden = [sum(w[h + 2 * d] * z[d] for d in range(13)) + w[26 + h] for h in range(2)]
    hidden = [2 * np.tanh(u) + 1e-6 * u for u in hidden]
    expected = -198.23747082258788 + 0.09936077102395 * (w[28] * hidden[0] + w[29] * hidden[1] + w[30])
    assert network.energies(x[None], np.array([0, 1]))[0] == pytest.approx(expected, abs=1e-11)


def test_an_undetermined_scale_is_refused_and_can_be_given() -> None:
    with pytest.raises(
        PotentialError, match=r"give three_body_scale, which is 1/3 = 0.333333 .* and 0.2 where"
    ):
        parse_ddp(published(), "Li.ddp")
    for scale in (1 / 3, 0.2):
        assert parse_ddp(published(), "Li.ddp", three_body_scale=scale)[0].features.three_body_scale == scale
    stated = format_ddp(gf_eddp.network(VECTORS["another scale"], 0))
    with pytest.raises(PotentialError, match="states three_body_scale"):
        parse_ddp(stated, "x.ddp", three_body_scale=0.2)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (" 13 2 1", " 13 2 2", "do not fit together"),
        (" 13 2 1", " 12 2 1", "do not fit together"),
        (" 3 13 1 31 18", " 3 13 1 30 18", "31 values instead of 30"),
        ("tanh       linear", "sigmoid    linear", "only tanh"),
        ("3 9 0 0", "3 3 0 0", "which exponents"),
        ("3 9 0 0", "3 9 27 0", "only two and three bodies"),
        ("-198.23747082258788", "NaN", "not finite"),
        ("-198.23747082258788", "x", "no number"),
        (" .09936077102395", " -.09936077102395", "spread"),
        ("rmax:", "r:", "unknown or repeated key 'r:'"),
        ("composition: Li", "composition: Li-Li", "each once"),
        ("composition: Li", "", "does not state composition"),
    ],
)
def test_damaged_networks_are_refused(old: str, new: str, message: str) -> None:
    text = published(cutoff="3.000")
    assert old in text
    with pytest.raises(PotentialError, match=message):
        parse_ddp(text.replace(old, new, 1), "Li.ddp")


def test_every_truncation_is_refused() -> None:
    text = published(cutoff="3.000").rstrip()
    for stop in range(0, len(text) - 1, 7):
        with pytest.raises(PotentialError):
            parse_ddp(text[:stop], "Li.ddp")


def test_damaged_ensembles_are_refused(tmp_path: Path) -> None:
    ensemble = Ensemble((gf_eddp.network(VECTORS["one species"], 0),), (1.0,))
    path, member = write_eddp(ensemble, tmp_path / "Li.eddp")
    for text, message in (
        ("", "lists 0 networks"),
        ("Li-001.ddp", "expected a file and a weight"),
        ("Li-001.ddp -1", "must be positive"),
        ("/Li-001.ddp 1", "not below the file"),
        ("../Li-001.ddp 1", "not below the file"),
        ("Li-002.ddp 1", "cannot be read"),
    ):
        path.write_text(text)
        with pytest.raises(PotentialError, match=message):
            read_eddp(path)
    path.write_text("Li-001.ddp 0.3\nLi-001.ddp 0.9\n")
    assert read_eddp(path).parts == pytest.approx((0.25, 0.75), abs=1e-15)
    other = tmp_path / "other.ddp"
    other.write_text(format_ddp(read_ddp(member)[0], Baseline(1.0, 1.0)))
    path.write_text("Li-001.ddp 0.3\nother.ddp 0.9\n")
    with pytest.raises(PotentialError, match="different baselines"):
        read_eddp(path)
