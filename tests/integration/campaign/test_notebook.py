"""`import gapfactory as gf` in a notebook: a stored campaign's structures, labels, potentials and figures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.calculators.calculator import compare_atoms

import gapfactory as gf
from gapfactory.errors import InputError, NotFoundError
from gapfactory.io.extxyz import read_training_set

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def campaign(tiny_campaign):
    assert gf.list_campaigns(data=tiny_campaign.data) == ["tiny"]
    with gf.open_campaign("tiny", data=str(tiny_campaign.data)) as opened:
        yield opened


def test_the_names_are_these() -> None:
    """What others write into their notebooks stays; a change of this list is one of the interface."""
    assert gf.__all__ == [
        "GapFactoryError",
        "__version__",
        "load_campaign",
        "load_potential",
        "named_phase",
        "read_labelled",
        "list_campaigns",
        "open_campaign",
    ]
    assert dir(gf) == sorted(gf.__all__)
    for name in gf.__all__:
        assert getattr(gf, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'open_campaing'"):
        gf.open_campaing  # noqa: B018


def test_labels_are_those_of_the_export(campaign, tmp_path) -> None:
    campaign.export(tmp_path / "out")
    for held_out, name in ((False, "train.xyz"), (True, "held-out.xyz")):
        written = {frame.id: frame for frame in read_training_set(tmp_path / "out" / name)}
        found = {atoms.info["id"]: atoms for atoms in campaign.labelled(held_out=held_out)}
        assert set(written) <= set(found)
        for key, frame in written.items():
            assert not compare_atoms(frame.atoms, found[key], tol=0)
            assert found[key].get_potential_energy() == frame.energy
            np.testing.assert_array_equal(found[key].get_forces(), frame.forces)
    everything = campaign.labelled()
    assert len(everything) == len(campaign.labelled(0)) + len(campaign.labelled(1))
    assert {atoms.info["kind"] for atoms in campaign.labelled(1)} == {"crystal"}


def test_potential_and_minima(campaign) -> None:
    lowest, *others = found = campaign.minima(converged=False)
    assert len(campaign.minima()) <= len(found)
    assert all(atoms.info["pressure_GPa"] >= 0 for atoms in found)
    # the last search was relaxed with the potential before
    lowest.calc = campaign.potential(0)
    assert lowest.get_potential_energy() / len(lowest) == pytest.approx(
        lowest.info["energy_per_atom"], abs=1e-6
    )
    newest = campaign.potential()
    assert newest.get_potential_energy(others[0]) == campaign.potential(1).get_potential_energy(others[0])
    with pytest.raises(NotFoundError):
        campaign.potential(7)


def test_what_is_known_and_drawn(campaign, tmp_path) -> None:
    assert campaign.settings.element == "Si"
    assert campaign.status()["state"] == "done"
    assert [entry["generation"] for entry in campaign.metrics()] == [0, 1]
    drawn = campaign.figure("energy-volume", by="generation")
    assert drawn.figure.axes
    assert len(drawn.rows) == 12
    with pytest.raises(InputError, match="figures have no option 'colour'; there are generation, against"):
        campaign.figure("energy-volume", colour="red")
    with pytest.raises(InputError, match="there is no figure 'energy-volum'"):
        campaign.figure("energy-volum")
    assert campaign.report(tmp_path / "report").stat().st_size > 1000


def test_the_page_says_what_runs(campaign, capsys) -> None:
    text = (Path(__file__).parents[3] / "docs" / "how-to" / "notebooks.md").read_text(encoding="utf-8")
    _, block = re.findall(r"^```python\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL)
    exec(compile(block, "notebooks.md", "exec"), {"campaign": campaign})  # noqa: S102 - the page's own lines
    said = float(capsys.readouterr().out.split()[0])
    assert said == pytest.approx(campaign.metrics()[-1]["evidence"]["headline"]["energy_rmse_meV"], rel=0.01)


def test_what_is_not_there_is_said(campaign, tiny_campaign) -> None:
    with pytest.raises(gf.GapFactoryError, match="tinny"):
        gf.open_campaign("tinny", data=tiny_campaign.data)


def test_without_the_service_its_names_say_what_to_do() -> None:
    code = (
        "import importlib.metadata as m, json\nm.entry_points = lambda **_: ()\nimport gapfactory as gf\n"
        "try:\n    gf.open_campaign\nexcept AttributeError as error:\n    print(json.dumps(str(error)))\n"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "needs the service: install gapfactory" in json.loads(said.stdout)
