"""Settings of Sphinx. docs/index.md is the only list of pages: the site's navigation is made of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import gapfactory

if TYPE_CHECKING:
    from sphinx.application import Sphinx

project = "gapfactory"
author = "the authors of gapfactory"
copyright = author  # noqa: A001 - Sphinx's name
version = release = gapfactory.__version__

extensions = ["myst_parser"]
# a page that cannot be reached, or leads nowhere, is an error: build with `-W --keep-going`
nitpicky = True
exclude_patterns = ["_build"]
myst_heading_anchors = 4
html_theme = "furo"
html_title = f"gapfactory {version}"
html_copy_source = False
html_show_sphinx = False


def with_navigation(_app: Sphinx, name: str, source: list[str]) -> None:
    """Append what docs/index.md lists to it as Sphinx's own tables of contents, a hidden one for each section."""
    if name != "index":
        return
    sections: dict[str, list[str]] = {}
    title = "gapfactory"
    for line in source[0].splitlines():
        if heading := re.match(r"([A-Z][A-Za-z ]+):$", line):
            title = heading[1]
        elif page := re.match(r"- \[[^]]+\]\(([^)]+)\.md\)", line):
            sections.setdefault(title, []).append(page[1])
    for title, pages in sections.items():
        source[0] += "\n".join(["", "```{toctree}", ":hidden:", f":caption: {title}", "", *pages, "```", ""])


def setup(app: Sphinx) -> None:
    """Register what is above."""
    app.connect("source-read", with_navigation)
