"""The documentation as a site: whatever Sphinx would only warn of is an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path) -> None:
    built = tmp_path / "site"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(tmp_path / "state")]
    done = subprocess.run(
        [*command, str(DOCS), str(built)], capture_output=True, text=True, timeout=500, check=False
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
    index = (built / "index.html").read_text(encoding="utf-8")
    # the navigation has every page that docs/index.md lists
    for page in DOCS.rglob("*.md"):
        address = page.relative_to(DOCS).with_suffix(".html").as_posix()
        assert page.name == "index.md" or f'class="reference internal" href="{address}"' in index, address
    # and nothing is loaded from anywhere else
    assert 'src="http' not in index
    assert 'rel="stylesheet" type="text/css" href="http' not in index


def test_a_link_that_leads_nowhere_fails(tmp_path) -> None:
    small = tmp_path / "docs"
    small.mkdir()
    small.joinpath("conf.py").write_text((DOCS / "conf.py").read_text())
    small.joinpath("index.md").write_text("# Pages\n\n- [a](a.md): a page\n")
    small.joinpath("a.md").write_text("# A page\n\n[another](b.md)\n")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", str(small), str(tmp_path / "site")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    assert "b" in done.stderr
