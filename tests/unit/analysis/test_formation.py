"""Formation energies and hull of two elements: against ASE's phase diagram, and cases that can be told by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from ase.formula import Formula
from ase.phasediagram import PhaseDiagram

from gapfactory.analysis.formation import formation_hull
from gapfactory.errors import EvidenceError
from gapfactory.figures import formation_energies

#: eV per formula unit: the elements, a stable compound, one above the hull, one on the line between two others
BRASS = [("Cu", 0.0), ("Zn", 0.0), ("Cu3Zn", -0.8), ("CuZn", -0.2), ("CuZn3", -0.4), ("Cu2Zn2", -0.1)]


def found(entries):
    counts = [Counter(Formula(name).count()) for name, _ in entries]
    return formation_hull(
        counts, [energy / sum(c.values()) for c, (_, energy) in zip(counts, entries, strict=True)]
    )


def test_hull_and_distances_are_those_of_ase() -> None:
    rng = np.random.default_rng(2)
    names = ["Cu", "Zn", *(f"Cu{a}Zn{b}" for a in range(1, 6) for b in range(1, 6))]
    entries = [(name, float(rng.normal(scale=0.3)) * Formula(name).count().get("Cu", 1)) for name in names]
    hull = found(entries)
    diagram = PhaseDiagram(entries, verbose=False)
    assert hull.elements == ("Cu", "Zn")
    for k, (name, energy) in enumerate(entries):
        lowest, _, _ = diagram.decompose(name)
        assert hull.above[k] == pytest.approx(
            (energy - lowest) / sum(Formula(name).count().values()), abs=1e-9
        )
    assert (hull.above[hull.corners] == 0.0).all()
    assert (np.diff(hull.fractions[hull.corners]) > 0).all()


def test_energies_count_from_the_elements_or_else_from_the_outermost_compositions() -> None:
    hull = found(BRASS)
    assert hull.ends == (0.0, 1.0)
    assert hull.energies == pytest.approx([0, 0, -0.2, -0.1, -0.1, -0.025])
    # CuZn lies above the line between Cu3Zn and CuZn3
    assert hull.corners.tolist() == [0, 2, 4, 1]
    assert hull.above == pytest.approx([0, 0, 0, 0.05, 0, 0.125])
    without = found(BRASS[2:])
    assert without.ends == (0.25, 0.75)
    assert without.energies[[0, 2]] == pytest.approx([0, 0])
    assert without.energy(0.5, -0.15) == pytest.approx(0.0)
    # shifting the energy of an element changes no formation energy
    shifted = [(name, e + 7.0 * Formula(name).count().get("Zn", 0)) for name, e in BRASS]
    assert found(shifted).energies == pytest.approx(hull.energies)


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("Cu", 0.0), ("Cu2", 0.1)], "two elements, and there are Cu"),
        ([("CuZn", 0.0), ("Cu2Zn2", 0.1)], "one composition"),
        ([("CuZnAu", 0.0), ("Cu", 0.1)], "Au, Cu, Zn"),
        ([("Cu", float("nan")), ("Zn", 0.1)], "finite"),
    ],
)
def test_what_has_no_formation_energy_is_told(entries, words) -> None:
    with pytest.raises(EvidenceError, match=words):
        found(entries)


def test_the_figure_shows_structures_hull_and_known_crystals() -> None:
    figure = formation_energies(found(BRASS), {"B2": (0.5, -0.12, -0.31), "L12": (0.25, -0.21, None)})
    (axes,) = figure.axes
    drawn = {line.get_label(): line for line in axes.lines}
    assert drawn["labelled (6)"].get_xdata().tolist() == pytest.approx([0, 1, 0.25, 0.5, 0.75, 0.5])
    assert drawn["hull"].get_ydata().tolist() == pytest.approx([0, -0.2, -0.1, 0])
    assert {text.get_text() for text in axes.texts} == {"B2", "L12"}
    assert axes.get_xlabel() == "fraction of Zn in Cu-Zn"
    # what the potential makes of a crystal is never below the axis
    assert axes.get_ylim()[0] < -0.31
