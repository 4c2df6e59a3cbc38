"""What is told of vibrations: rows, words and pictures, where energies times f mean frequencies times the root of f."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO

import numpy as np
import pytest
from ase.build import bulk
from gf_vibrations import LATTICE, aluminium, bain_path

from gapfactory.analysis.elastic_measured import measured_constants
from gapfactory.analysis.vibration_overview import (
    CrystalVibrations,
    LearningFit,
    elastic_rows,
    elastic_table,
    fit_table,
    learning_rows,
    phonon_rows,
    place_on_path,
    stability_sentence,
    variant_words,
    verdict,
)
from gapfactory.analysis.vibration_settings import VibrationLimits
from gapfactory.errors import EvidenceError
from gapfactory.figures.vibration_studies import bain_picture, phonon_learning_picture
from gapfactory.figures.vibrations import PhononPanel, phonon_pictures

FACTORS = {
    "": 1.04,
    "primitives": 0.25,
    "learning-0004-all": 0.64,
    "learning-0004-own": -0.36,
    "learning-0016-all": 1.0,
}


@pytest.fixture(scope="module")
def crystal() -> CrystalVibrations:
    return aluminium(FACTORS)


@pytest.fixture(scope="module")
def path() -> list[CrystalVibrations]:
    return bain_path((0.5, 0.25, 1.0), 1.21)


def size(crystal: CrystalVibrations) -> float:
    """Root mean square of the reference's frequencies on the mesh, THz."""
    found = crystal.reference.phonons
    return float(np.sqrt(found.weights @ (found.mesh_frequencies**2).mean(axis=1)))


def test_rows_of_phonons_hold_every_frequency(crystal: CrystalVibrations) -> None:
    reference = crystal.reference.phonons
    potential = crystal.by("")
    assert potential is not None
    methods = [("reference", reference), ("potential", potential.vibrations.phonons)]
    rows = phonon_rows(methods, crystal="Al-fcc")
    points, branches = reference.bands.shape
    assert len(rows) == 2 * (points * branches + len(reference.dos))
    shown = {}
    for row in rows:
        if row["kind"] == "bands":
            shown.setdefault(row["method"], []).append(row["frequency_THz"])
    np.testing.assert_allclose(shown["potential"], np.sqrt(1.04) * np.array(shown["reference"]), atol=1e-4)
    first = [row for row in rows if row["method"] == "reference" and row["branch"] == 0]
    assert [row["point"] for row in first if row["point"]] == [*"ΓXWKΓLUWLKUX"]
    # U and K, at the break, are at the same distance in two pieces
    k, u = [row for row in first if row["piece"] != 0 or row["point"] == "K"][1:3]
    assert (k["piece"], u["piece"], k["distance_per_A"]) == (0, 1, u["distance_per_A"])
    states = [row for row in rows if row["kind"] == "states" and row["method"] == "reference"]
    axis = [row["frequency_THz"] for row in states]
    assert np.trapezoid([row["states_per_THz"] for row in states], axis) == pytest.approx(3, rel=0.02)
    assert {tuple(row) for row in rows} == {tuple(rows[0])}


def test_verdict_says_limits_and_both_errors(crystal: CrystalVibrations) -> None:
    expected = (np.sqrt(1.04) - 1) * size(crystal)
    judged = verdict(crystal, VibrationLimits())
    assert judged is not None
    passes, words = judged
    assert passes
    assert words.startswith(
        f"Al-fcc passes: frequencies on a 4x4x4 mesh differ by {expected:.3f} THz RMS (limit 0.5)"
    )
    assert "elastic constants agree to 4.0 %" in words
    assert "(limit 6 %)" in words
    assert "imaginary" not in words
    judged = verdict(crystal, VibrationLimits(elastic_percent=3.9))
    assert judged is not None
    assert not judged[0]
    assert verdict(crystal, VibrationLimits(), "static") is None


def test_imaginary_modes_are_said_with_their_place(
    crystal: CrystalVibrations, path: list[CrystalVibrations]
) -> None:
    judged = verdict(crystal, VibrationLimits(), "learning-0004-own")
    assert judged is not None
    assert not judged[0]
    assert "imaginary frequencies (below zero): by the reference none; by the potential 9" in judged[1]
    assert "at X" in judged[1] or "at L" in judged[1]
    quarter = path[1]
    potential = quarter.potentials[0].vibrations.phonons
    words = stability_sentence(quarter.reference.phonons, potential)
    lowest = quarter.reference.phonons.lowest
    assert f"down to {lowest:.2f} THz at N; by the potential" in words
    assert f"down to {1.1 * lowest:.2f} THz at N" in words
    fcc = crystal.reference.phonons
    assert stability_sentence(fcc, None) == ""
    x, w = (k for k, name in fcc.path.labels[1:3])
    assert place_on_path(fcc.path, (x + w) // 2) == "between X and W"
    assert place_on_path(fcc.path, 1) == "near Γ"


def test_learning_fits_are_in_order_with_their_errors(crystal: CrystalVibrations) -> None:
    rows = learning_rows(crystal)
    assert [(r["labels"], r["sparse_points_of"], r["sparse_points"]) for r in rows] == [
        (4, "all frames", 150),
        (4, "the labelled frames", 8),
        (16, "all frames", 150),
        (64, "all frames", 128),
        (64, "the labelled frames", 128),
    ]
    assert rows[0]["rmse_THz"] == pytest.approx(0.2 * size(crystal), rel=1e-3)
    assert rows[2]["rmse_THz"] == pytest.approx(0.0, abs=1e-6)
    assert rows[1]["lowest_THz"] == pytest.approx(-0.6 * crystal.reference.phonons.highest, rel=1e-3)
    figure = phonon_learning_picture(crystal, LearningFit.of(crystal))
    figure.savefig(BytesIO())
    assert len(figure.axes) == 9
    own = figure.axes[5]
    assert "not fitted" in [text.get_text() for text in own.texts]
    low, high = figure.axes[0].get_ylim()
    assert low < -0.6 * crystal.reference.phonons.highest < 0 < high
    numbers = [text.get_text() for text in figure.axes[1].texts]
    assert numbers == ["4", "150", f"{rows[0]['rmse_THz']:.1f}", "8", f"{rows[1]['rmse_THz']:.1f}"]
    widths = [abs(bar.get_width()) for bar in figure.axes[1].patches]
    assert widths[1] / widths[3] == pytest.approx(150 / 8)
    assert widths[2] / widths[4] == pytest.approx(rows[0]["rmse_THz"] / rows[1]["rmse_THz"])
    with pytest.raises(EvidenceError, match="no fits to parts"):
        phonon_learning_picture(crystal, ())


def test_a_wild_fit_does_not_squeeze_the_others(crystal: CrystalVibrations) -> None:
    (wild, *others) = LearningFit.of(crystal)
    far = replace(wild.found.vibrations.phonons, bands=50.0 * wild.found.vibrations.phonons.bands)
    wild = replace(wild, found=replace(wild.found, vibrations=replace(wild.found.vibrations, phonons=far)))
    top = crystal.reference.phonons.highest
    figure = phonon_learning_picture(crystal, [wild, *others])
    assert top < figure.axes[0].get_ylim()[1] < 1.6 * top


def test_the_path_runs_from_bcc_down_to_fcc(path: list[CrystalVibrations]) -> None:
    figure = bain_picture([path[1], path[0], path[2]])
    figure.savefig(BytesIO())
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [
        "η = 0.25, not trained on",
        "η = 0.5, trained on",
        "η = 1, face-centred cubic, trained on",
    ]
    assert figure.axes[0].get_ylim()[0] < path[1].reference.phonons.lowest < 0
    assert figure.axes[2].get_ylim()[0] == 0
    error = 0.1 * size(path[2])
    assert figure.axes[2].get_title(loc="right") == f"RMSE {error:.2f} THz"
    with pytest.raises(EvidenceError, match="Bain"):
        bain_picture([replace(path[0], eta=None)])


def test_errors_and_tables_of_elastic_constants(
    crystal: CrystalVibrations, path: list[CrystalVibrations]
) -> None:
    names = {"": "potential", "primitives": "primitive cells only"}
    rows, missing = elastic_rows([crystal, path[1]], names)
    assert [row["constant"] for row in rows] == ["B", "G", "C11", "C12", "C44"] * 2
    assert [row["error_percent"] for row in rows] == pytest.approx([4.0] * 5 + [-75.0] * 5, abs=1e-6)
    assert len(missing) == 1
    assert missing[0].startswith(
        "Al-bain-0.25 by potential: no elastic constants by the reference: not stable against strain"
    )
    table = elastic_table([crystal], names)
    assert [row["method"] for row in table] == [
        "potential",
        "primitive cells only",
        "reference",
        "measured: Vallin et al. 1964",
    ]
    # EMT of ASE: bulk modulus of aluminium about 40 GPa
    assert table[2]["B_GPa"] == pytest.approx((table[2]["C11_GPa"] + 2 * table[2]["C12_GPa"]) / 3)
    assert 38 < table[2]["B_GPa"] < 42
    assert (table[3]["C44_GPa"], table[3]["G_GPa"]) == (30.9, None)
    with pytest.raises(EvidenceError, match="no crystal has elastic"):
        elastic_table([path[1]], names)


def test_settings_data_and_lattice_are_one_row(crystal: CrystalVibrations) -> None:
    (row,) = fit_table([crystal], {"": {"cutoff_A": 10.0, "n_max": 10}})
    assert (row["crystal"], row["cutoff_A"], row["n_max"]) == ("Al-fcc", 10.0, 10)
    assert (row["n_energies"], row["n_atoms"], row["n_sparse"]) == (64, 192, 128)
    assert row["a_reference_A"] == pytest.approx(LATTICE, abs=1e-3)
    assert "c_reference_A" not in row
    with pytest.raises(EvidenceError, match="constant sigmas"):
        fit_table([crystal], {}, "static")


def test_measured_constants_are_those_of_the_crystal() -> None:
    assert measured_constants(bulk("W", a=3.2)).constants["C44"] == 163.3
    assert measured_constants(bulk("Mg", "hcp", a=3.2, c=5.2)).constants["C13"] == 21.7
    assert measured_constants(bulk("Al", "bcc", a=3.2)) is None
    assert measured_constants(bulk("NaCl", "rocksalt", a=5.6)) is None


def test_fits_have_names_in_words() -> None:
    assert variant_words("primitives") == "primitive cells only"
    assert variant_words("learning-0012-all") == "12 labels, sparse points of all frames"
    assert variant_words("mine") == "mine"


def test_crystals_are_drawn_below_each_other(
    crystal: CrystalVibrations, path: list[CrystalVibrations]
) -> None:
    panels = [
        PhononPanel(c.title, c.reference.phonons, tuple(p.vibrations.phonons for p in c.potentials[:1]))
        for c in (crystal, path[1])
    ]
    figure = phonon_pictures(panels)
    figure.savefig(BytesIO())
    upper, _, lower, states = figure.axes
    assert upper.get_ylim()[0] == 0
    assert "imaginary" not in upper.get_ylabel()
    assert "imaginary" in lower.get_ylabel()
    assert states.get_ylim() == lower.get_ylim()
    with pytest.raises(EvidenceError, match="no phonons"):
        phonon_pictures([])
