"""Settings of Sphinx. docs/index.md is the only list of pages: the site's navigation is made of it."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

import gapfactory

if TYPE_CHECKING:
    from docutils.nodes import Element
    from sphinx.application import Sphinx
    from sphinx.writers.html import HTMLWriter

project = "gapfactory"
author = "the authors of gapfactory"
copyright = author  # noqa: A001 - Sphinx's name
version = release = gapfactory.__version__

extensions = ["myst_parser"]
# equations are written as LaTeX, which code forges show; here they become drawn paths: see `picture_of`
myst_enable_extensions = ["dollarmath"]
html_math_renderer = "paths"
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


def picture_of(equation: str) -> str:
    """Return an equation as an SVG of one path in the colour of the text, on the baseline of its line.

    matplotlib's own typesetting does it: no script, no font and no program beyond what is installed anyway, where
    Sphinx's MathJax is loaded from another host and its `imgmath` needs LaTeX. What it cannot set (matrices, aligned
    lines) raises ValueError and ends the build.
    """
    from matplotlib import rc_context
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextToPath

    # in units of 1/100 em; the parser takes one line
    text, font, paths = f"${' '.join(equation.split())}$", FontProperties(size=100), TextToPath()
    with rc_context({"mathtext.fontset": "stix"}):
        # get_text_path and the metrics work at 72 dpi, where a point is a unit
        vertices, codes = paths.get_text_path(font, text, ismath=True)
        width, height, descent = paths.get_text_width_height_descent(text, font, ismath=True)
    # matplotlib's codes: move, line, quadratic and cubic curve (a code for each of its points), close
    letters, before = {1: "M", 2: "L", 3: "Q", 4: "C", 79: "Z"}, (0, 0)
    drawn: list[str] = []
    for (x, y), code in zip(vertices, codes, strict=True):
        run = before[1] % {3: 2, 4: 3}.get(code, 1) if before[0] == code else 0
        drawn.append("Z" if code == 79 else f"{'' if run else letters[code]}{x:.1f} {-y:.1f}")
        before = (code, run + 1)
    return (
        f'<svg class="math" role="img" aria-label="{html.escape(equation)}" xmlns="http://www.w3.org/2000/svg" '
        f'viewBox="0 {descent - height:.1f} {width:.1f} {height:.1f}" '
        f'style="width:{width / 100:.3f}em;height:{height / 100:.3f}em;max-width:none;overflow:visible;'
        f'vertical-align:{-descent / 100:.3f}em"><path fill="currentColor" d="{" ".join(drawn)}"/></svg>'
    )


def in_line(writer: HTMLWriter, node: Element) -> None:
    """Write an equation inside a line; the node has no more to say."""
    from docutils import nodes

    writer.body.append(picture_of(node.astext()))
    raise nodes.SkipNode


def on_its_own(writer: HTMLWriter, node: Element) -> None:
    """Write an equation that stands on its own lines."""
    from docutils import nodes

    # as every typesetter does: fractions of full size where there is room
    picture = picture_of(node.astext().replace(r"\frac", r"\dfrac"))
    writer.body.append(f'<div class="math-block" style="margin:1em 2em;overflow-x:auto">{picture}</div>\n')
    raise nodes.SkipNode


def with_style(_app: Sphinx, name: str, _template: str, context: dict[str, Any], _tree: object) -> None:
    """Let long names of tests break in the tables that list them."""
    if name.startswith("explanation/") or name == "development":
        rule = "white-space: normal; overflow-wrap: anywhere"
        style = f"<style>td:nth-child(2):last-child code.literal {{ {rule} }}</style>"
        context["metatags"] = context.get("metatags", "") + style


def setup(app: Sphinx) -> None:
    """Register what is above."""
    app.add_html_math_renderer("paths", (in_line, None), (on_its_own, None))
    app.connect("source-read", with_navigation)
    app.connect("html-page-context", with_style)
