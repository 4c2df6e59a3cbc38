"""The notebooks of docs/examples, cell by cell, in a fresh directory and process.

Their cells are plain Python without a line of Jupyter's own language, so nothing of Jupyter is needed to run them; what
a notebook claims, its own cells assert.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import gapfactory as gf

DOCS = Path(__file__).parents[3] / "docs"
NOTEBOOKS = sorted((DOCS / "examples").glob("*.ipynb"))
#: Needs a stored campaign.
LOOK = "look-at-a-campaign"

#: Runs the cells of a notebook one after another in one name space, as a kernel does.
RUNNER = """
import json, sys
for number, cell in enumerate(json.load(open(sys.argv[1], encoding="utf-8"))["cells"]):
    if cell["cell_type"] == "code":
        exec(compile("".join(cell["source"]), f"cell {number}", "exec"), globals())
"""


def cells(notebook: Path, kind: str) -> list[str]:
    return ["".join(c["source"]) for c in json.loads(notebook.read_text())["cells"] if c["cell_type"] == kind]


def run(notebook: Path, place: Path, **more: str) -> str:
    """Run a notebook where nothing is but what it makes; return what it printed."""
    place.mkdir()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GAPFACTORY_")}
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", RUNNER, str(notebook)],
        cwd=place,
        env=kept | {"MPLBACKEND": "Agg", "OMP_NUM_THREADS": "1"} | more,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, f"{notebook.name}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_there_are_notebooks() -> None:
    assert LOOK in [notebook.stem for notebook in NOTEBOOKS]
    assert len(NOTEBOOKS) >= 3


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_small_plain_and_clean(notebook: Path) -> None:
    content = json.loads(notebook.read_text(encoding="utf-8"))
    assert content["nbformat"] == 4
    assert len(notebook.read_bytes()) < 20_000
    for cell in content["cells"]:
        assert cell.get("outputs", []) == []
        assert cell.get("execution_count") is None
    code = cells(notebook, "code")
    for source in code:
        ast.parse(source)
    assert sum(source.count("assert ") for source in code) >= 4, "it claims nothing that could be wrong"
    # links lead somewhere, and the two pages that list notebooks have this one
    links = [link for text in cells(notebook, "markdown") for link in re.findall(r"\]\(([^)#]+)\)", text)]
    assert [link for link in links if not (notebook.parent / link).is_file()] == []
    for page in ("index.md", "how-to/notebooks.md"):
        assert f"examples/{notebook.name})" in (DOCS / page).read_text(encoding="utf-8")


def test_a_claim_that_is_wrong_fails(tmp_path: Path) -> None:
    """The runner itself: cells share their names, and an assertion that fails is seen."""
    for last, code in (("assert x == 2", 0), ("assert x == 3", 1)):
        made = [{"cell_type": "code", "source": [line]} for line in ("x = 2", last)]
        (tmp_path / "made.ipynb").write_text(json.dumps({"cells": made}))
        done = subprocess.run(
            [sys.executable, "-c", RUNNER, str(tmp_path / "made.ipynb")], capture_output=True
        )
        assert done.returncode == code


@pytest.mark.slow
@pytest.mark.parametrize("notebook", [n for n in NOTEBOOKS if n.stem != LOOK], ids=lambda path: path.stem)
def test_a_notebook_runs(notebook: Path, tmp_path: Path) -> None:
    # no database is there, and none is needed
    said = run(notebook, tmp_path / "fresh", GAPFACTORY_DB="mongodb://127.0.0.1:1/nothing")
    assert len(said.splitlines()) > 5


@pytest.mark.slow
@pytest.mark.database
def test_a_campaign_is_looked_at(tiny_campaign, tmp_path: Path) -> None:
    notebook = DOCS / "examples" / f"{LOOK}.ipynb"
    said = run(
        notebook,
        tmp_path / "fresh",
        GAPFACTORY_DATA=str(tiny_campaign.data),
        GAPFACTORY_CACHE=str(tmp_path / "cache"),
    )
    assert said.startswith("['tiny']\ntiny: done")
    for name in ("energy-volume.png", "learning.png", "exported/potential/manifest.json"):
        assert (tmp_path / "fresh" / name).stat().st_size > 500
    # the last error is that of the campaign's own assessment
    found = float(re.findall(r"generation 1: ([\d.]+) meV/atom", said)[0])
    with gf.open_campaign("tiny", data=tiny_campaign.data) as campaign:
        assessed = campaign.metrics()[-1]["evidence"]["headline"]["energy_rmse_meV"]
    assert found == pytest.approx(assessed, rel=0.01)
