"""Pictures of phonons and elastic constants: what is drawn is what was computed."""

from __future__ import annotations

from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT

from gapfactory.analysis.elastic_tensor import ElasticTensor
from gapfactory.analysis.elasticity import compare_elasticity, elastic_constants_by
from gapfactory.analysis.force_constants import displacement_set, force_constants, forces_of
from gapfactory.analysis.phonon_settings import PhononSettings
from gapfactory.analysis.phonons import Phonons, phonons
from gapfactory.errors import EvidenceError
from gapfactory.figures.vibrations import elastic_errors_picture, phonon_picture
from gapfactory.reference.analytic import SecondMomentTitanium

SETTINGS = PhononSettings(grid=(2, 2, 2), compare_mesh=(4, 4, 4), dos_mesh=(8, 8, 8), path_density=10.0)


@pytest.fixture(scope="module")
def pair() -> tuple[Phonons, Phonons]:
    planned = displacement_set(bulk("Al", a=4.0), SETTINGS)
    forces = forces_of(planned.cells, EMT())
    reference = phonons(force_constants(planned, forces), method="reference", settings=SETTINGS)
    other = force_constants(planned, [1.1 * f for f in forces])
    return reference, phonons(other, method="potential $3", like=reference, settings=SETTINGS)


def test_bands_and_density(pair: tuple[Phonons, Phonons]) -> None:
    reference, potential = pair
    figure = phonon_picture(reference, [potential], title="fcc Al, 1$ each")
    figure.savefig(BytesIO())
    bands, dos = figure.axes
    curves = [line for line in bands.lines if len(line.get_xdata()) > 2]
    pieces = len(reference.path.breaks) + 1
    assert len(curves) == 2 * 3 * pieces
    assert {line.get_linestyle() for line in curves} == {"-", "--"}
    drawn = np.concatenate([line.get_ydata() for line in curves if line.get_linestyle() == "--"])
    np.testing.assert_allclose(np.sort(drawn), np.sort(reference.bands.ravel()))
    assert " ".join(label.get_text() for label in bands.get_xticklabels()) == "Γ X W K Γ L U W L K|U X"
    assert bands.get_ylim()[0] == 0
    np.testing.assert_array_equal(dos.lines[0].get_xdata(), potential.dos)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [r"potential \$3", "reference"]


def test_imaginary_modes_are_below_zero(pair: tuple[Phonons, Phonons]) -> None:
    reference, potential = pair
    unstable = replace(potential, bands=potential.bands - 3.0)
    figure = phonon_picture(reference, [unstable])
    bands = figure.axes[0]
    assert bands.get_ylim()[0] < -3
    assert "imaginary" in bands.get_ylabel()
    assert "imaginary" not in phonon_picture(reference).axes[0].get_ylabel()


def test_nothing_and_another_path(pair: tuple[Phonons, Phonons]) -> None:
    with pytest.raises(EvidenceError, match="no phonons"):
        phonon_picture(None)
    reference, potential = pair
    moved = replace(reference.path, wave_vectors=reference.path.wave_vectors + 0.1)
    with pytest.raises(EvidenceError, match="another path"):
        phonon_picture(reference, [replace(potential, path=moved)])
    with pytest.raises(EvidenceError, match="no elastic constants"):
        elastic_errors_picture({})


def test_errors_of_elastic_constants() -> None:
    found: dict[str, Any] = {}
    for name, crystal, calculator in (
        ("Al", bulk("Al", a=4.0), EMT()),
        ("Ti", bulk("Ti", "hcp", a=2.93, c=4.66), SecondMomentTitanium()),
    ):
        reference = elastic_constants_by(calculator, crystal)
        changed = reference.tensor.values.copy()
        changed[3:, 3:] *= 1.04
        found[name] = compare_elasticity(replace(reference, tensor=ElasticTensor(changed)), reference)
    figure = elastic_errors_picture(found)
    figure.savefig(BytesIO())
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [
        "B", "G", "$C_{11}$", "$C_{12}$", "$C_{13}$", "$C_{33}$", "$C_{44}$"
    ]  # fmt: skip
    heights = [bar.get_height() for bar in axes.patches]
    assert len(heights) == 5 + 7
    assert heights[4] == pytest.approx(4)
    assert heights[2] == pytest.approx(0, abs=1e-9)
