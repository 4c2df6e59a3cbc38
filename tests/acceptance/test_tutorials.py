"""Each tutorial as it is written, and with it a demonstration of each protocol from its name alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from gf_yardstick import stretched

from gapfactory.campaign.demos import DEMOS

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(900)]

PAGES = Path(__file__).parents[2] / "docs" / "tutorials"


def evidence(database, name: str) -> list[dict]:
    """Return what is known after each generation."""
    return [one["evidence"] for one in database.metrics.find({"campaign": name}).sort("generation", 1)]


def de_novo(database, name: str) -> None:
    assert database.potentials.count_documents({"campaign": name}) == 5
    after = evidence(database, name)
    errors = [one["headline"]["energy_rmse_meV"] for one in after]
    assert errors[-1] < errors[0]
    # diamond, which it was never given
    assert after[-1]["phases"]["Si-diamond"]["comparison"]["passes"]


def boron(database, name: str) -> None:
    after = evidence(database, name)
    counted = [one["searches"]["look"] for one in after if one.get("searches")]
    assert [one["cells"] for one in counted] == [30] * 2
    crystals = [one["crystals"]["diamond"] for one in after]
    assert [one["trained"] for one in crystals] == [False] * 3 + [True] * 2
    assert crystals[-1]["energy_rmse_meV"] < crystals[0]["energy_rmse_meV"]


def ndsc(database, name: str) -> None:
    (after,) = evidence(database, name)
    (crystal,) = after["vibrations"].values()
    assert 0 < crystal["rmse_THz"] < 0.5


def hot_airss(database, name: str) -> None:
    annealed = [
        row for row in database.relaxations.find({"campaign": name, "generation": 0}) if row["anneal"]
    ]
    assert {row["anneal"]["n_steps"] for row in annealed if row["status"] != "failed"} == {500}
    assert evidence(database, name)[-1]["ranking"]["considered"] >= 1


def datum_derived(database, name: str) -> None:
    assert database.potentials.count_documents({}) == 0
    last = evidence(database, name)[-1]["ranking"]
    # relatives of diamond, and diamond itself the lowest by the potential that ranks
    assert last["rows"][0]["space_group"] == "Fd-3m (227)"
    assert last["rows"][0]["energy_eV_per_atom"] == pytest.approx(-4.3364, abs=2e-3)


CHECKS = {
    "demo-de-novo": de_novo,
    "demo-boron-2018": boron,
    "demo-ndsc": ndsc,
    "demo-hot-airss": hot_airss,
    "demo-datum-derived": datum_derived,
}


#: Pages in the order they are read, and the demonstration that they run.
TUTORIALS = {
    "demo-de-novo": ("quickstart", "de-novo-2019"),
    "demo-boron-2018": ("boron-2018",),
    "demo-ndsc": ("non-diagonal-supercells-2022",),
    "demo-hot-airss": ("hot-random-search-2024",),
    "demo-datum-derived": ("datum-derived-2024",),
}
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_WRITES = re.compile(r" (?:--out|-o) (\S+)| campaign init (\S+)")


def run_as_written(place, page: str) -> None:
    """Run a tutorial's blocks in their order, as a reader would; whatever it says is written must be there."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    programs = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    blocks = _BLOCK.findall(text)
    assert any("--preset demo-" in block for _, block in blocks)
    for language, block in blocks:
        done = subprocess.run(
            [*programs[language], block],
            cwd=place.directory,
            env=place.environment | {"PATH": path},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=stretched(300),
            check=False,
        )
        assert done.returncode == 0, f"{page}: {block}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        for found in _WRITES.finditer(block):
            assert (place.directory / (found[1] or found[2])).exists(), f"{page}: {found[0]} wrote nothing"


def test_every_demonstration_and_page_has_its_turn() -> None:
    assert set(TUTORIALS) == set(CHECKS) == set(DEMOS)
    assert {page for pages in TUTORIALS.values() for page in pages} == {p.stem for p in PAGES.glob("*.md")}


@pytest.mark.parametrize("name", DEMOS)
def test_tutorials_run_as_written(place, stored, name) -> None:
    for page in TUTORIALS[name]:
        run_as_written(place, page)
    assert place.json("campaign", "status", name)["state"] == "done"
    assert (place.directory / f"{name}-report" / "index.html").exists()
    CHECKS[name](stored(place), name)


def test_the_file_of_a_preset_is_written_once_and_never_over_another(place) -> None:
    place.write("demo-ndsc.yaml", "element: Si\n")
    assert "demo-ndsc.yaml exists and was changed" in place.refused(
        "campaign", "run", "--preset", "demo-ndsc"
    )
    assert place.directory.joinpath("demo-ndsc.yaml").read_text() == "element: Si\n"
    both = place.refused("campaign", "run", "demo-ndsc.yaml", "--preset", "demo-ndsc")
    assert "exclude each other" in both
    assert "campaign file or a preset" in place.refused("campaign", "run")
