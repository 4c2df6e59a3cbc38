"""The documentation as a site: whatever Sphinx would only warn of is an error."""

from __future__ import annotations

import re
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
    # and nothing is loaded from anywhere else, by equations neither
    page = (built / "explanation/gap.html").read_text(encoding="utf-8")
    source = (DOCS / "explanation/gap.md").read_text(encoding="utf-8")
    written = re.findall(r"\$\$.+?\$\$|\$[^$]+\$", source, flags=re.DOTALL)
    assert page.count('<svg class="math"') == len(written) > 30
    for text in (index, page):
        assert 'src="http' not in text
        assert 'rel="stylesheet" type="text/css" href="http' not in text


def built_of(text: str, place: Path) -> subprocess.CompletedProcess[str]:
    """Build a site of one page beside its index."""
    small = place / "docs"
    small.mkdir()
    small.joinpath("conf.py").write_text((DOCS / "conf.py").read_text())
    small.joinpath("index.md").write_text("# Pages\n\n- [a](a.md): a page\n")
    small.joinpath("a.md").write_text(f"# A page\n\n{text}\n")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", str(small), str(place / "site")]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_link_that_leads_nowhere_fails(tmp_path) -> None:
    done = built_of("[another](b.md)", tmp_path)
    assert done.returncode != 0
    assert "b" in done.stderr


def test_equations_are_drawn_and_keep_their_text(tmp_path) -> None:
    done = built_of("Here $x < y^2$.\n\n$$ \\frac{a}{b} $$", tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    page = (tmp_path / "site/a.html").read_text(encoding="utf-8")
    assert page.count('<svg class="math" role="img"') == 2
    assert 'aria-label="x &lt; y^2"' in page
    # a baseline: y reaches below it
    assert re.search(r"vertical-align:-0\.[1-9]", page)
    assert '<path fill="currentColor" d="M' in page


def test_an_equation_that_cannot_be_drawn_fails(tmp_path) -> None:
    done = built_of(r"$\begin{matrix} a & b \end{matrix}$", tmp_path)
    assert done.returncode != 0
    assert "matrix" in done.stderr + done.stdout
