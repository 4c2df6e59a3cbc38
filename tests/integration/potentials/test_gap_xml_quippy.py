"""Potentials that we write, as quippy reads them: the same energies, forces and stresses as gap_fit's own files."""

from __future__ import annotations

import dataclasses
import sys
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from gapfactory.potentials.gap.model import CURRENT_VERSION, PairTerm, TripletTerm
from gapfactory.potentials.gap.xml import read_gap, write_gap

if TYPE_CHECKING:
    from types import ModuleType

pytest.importorskip("quippy", reason="the oracle")
pytestmark = pytest.mark.gap


def _module() -> ModuleType:
    spec = util.spec_from_file_location("gap_potentials", Path(__file__).parent / "gap_potentials.py")
    module = util.module_from_spec(spec)
    sys.modules["gap_potentials"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


shared = _module()


#: potentials that are also tried with the sparse points inside the XML: short, long and with a core
INLINE = ("si_nb3", "si_soap_linear", "si_core", "cuau_soap_all")


@pytest.mark.parametrize("numbers", [(14,), (29, 79)], ids=["Si", "Cu-Au"])
def test_quippy_reads_what_we_write(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    names = [name for name, recipe in shared.RECIPES.items() if recipe.numbers == numbers]
    directories, compared = [], []
    for name in names:
        model = read_gap(shared.potential(name) / "gap.xml")
        original = len(directories)
        directories.append(shared.potential(name))
        for inline in (False, True) if name in INLINE else (False,):
            place = tmp_path / f"{name}-{inline}"
            place.mkdir()
            if inline:  # and under the name and version that our own fits get
                own = {"label": "GAP_own", "root": "", "potential_label": "", "gap_version": CURRENT_VERSION}
                model = dataclasses.replace(model, **own)
            write_gap(model, place / "gap.xml", inline=inline)
            assert read_gap(place / "gap.xml") == model
            compared.append((name, original, len(directories)))
            directories.append(place)
    kinds = shared.structures(numbers)
    results = shared.oracle_of_many(directories, [kinds["strained"], kinds["slab"]])
    for name, original, copy in compared:
        for theirs, ours in zip(results[original], results[copy], strict=True):
            for key, values in theirs.items():
                assert np.abs(values - ours[key]).max() <= 1e-10, (name, key)
    # the potentials are not all the same
    energies = {round(float(results[original][0]["energy"]), 6) for _, original, _ in compared}
    assert len(energies) > len(names) - 2


def test_models_say_what_was_asked_for() -> None:
    model = read_gap(shared.potential("si_core") / "gap.xml")
    assert model.baseline is not None
    assert model.baseline.cutoff == 2.9
    assert model.training_data.startswith("1\nLattice=")
    assert "IP Glue" in model.command_line
    assert model.e0[14] == pytest.approx(-1.25, abs=1e-12)
    assert len(model.e0) > 100
    model = read_gap(shared.potential("cuau_soap12") / "gap.xml")
    assert model.numbers == (29, 79)
    assert [term.dimension for term in model.terms] == [1, 1, 1, 3901, 3901]
    assert {term.zeta for term in model.terms[3:]} == {2.0}
    model = read_gap(shared.potential("si_2b_f0") / "gap.xml")
    assert isinstance(model.terms[0], PairTerm)
    assert (model.terms[0].theta, model.terms[0].delta, model.terms[0].f0) == (0.8, 2.0, 0.3)
    model = read_gap(shared.potential("si_nb3_closed") / "gap.xml")
    assert isinstance(model.terms[1], TripletTerm)
    assert model.terms[1].compact_clusters is False


def test_a_truncated_file_ends_quippys_process_with_status_zero_and_ours_with_an_error(
    tmp_path: Path,
) -> None:
    """Why potentials are read here first."""
    raw = (shared.potential("si_2b_f0") / "gap.xml").read_bytes()
    (tmp_path / "gap.xml").write_bytes(raw[: len(raw) // 2])
    with pytest.raises(RuntimeError, match="quippy ended with status 0"):
        shared.oracle(tmp_path, [shared.structures((14,))["bulk"]])
