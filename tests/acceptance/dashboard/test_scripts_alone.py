"""What the scripts of pages do when numbers are unusual or the server is away for a while."""

from __future__ import annotations

import json
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import gf_browser
import numpy as np
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STATIC = Path(gf_browser.__file__).parents[1] / "launchpad" / "dashboard" / "static"
SITE = "http://127.0.0.1:9"
HEAD = (
    '<!doctype html><html lang="en" data-refresh="1"><head><title>test</title></head><body><main id="main">'
)
END = '</main><div id="toasts" role="status"></div><div id="news"></div>'
SECTION = """<section class="chart" id="one" data-chart="/chart.json" data-structures="/of/"><h2></h2>
<p class="note">Computing…</p>
<div class="plot" style="width: 700px; height: 420px"></div><p class="caption"></p><button data-scale hidden></button>
<label data-by hidden><select></select></label><a data-table></a><a data-picture></a>
<details><summary>Data</summary><table></table></details></section>"""


@pytest.fixture
def opened(browser):
    """Return a function that opens a page of parts with scripts of ours, and answers what they ask."""
    context = browser.new_context(viewport={"width": 900, "height": 700})
    context.set_default_timeout(gf_browser.PATIENCE_MS)
    failures: list[str] = []
    context.on("weberror", lambda error: failures.append(str(error.error)))

    def show(body: str, scripts: list[str], answer: Any) -> Any:
        def served(route: Any) -> None:
            path = urlsplit(route.request.url).path
            if path == "/":
                tags = "".join(f'<script src="/static/{name}"></script>' for name in scripts)
                route.fulfill(content_type="text/html; charset=utf-8", body=HEAD + body + END + tags)
            elif path.startswith("/static/"):
                route.fulfill(path=STATIC / path.removeprefix("/static/"))
            else:
                answer(route, path)

        context.route("**/*", served)
        page = context.new_page()
        page.goto(f"{SITE}/")
        return page

    yield show
    context.close()
    assert not failures, failures


def as_chart(figure: dict[str, Any] | None) -> str:
    return json.dumps(
        {
            "title": "A chart", "caption": "", "missing": "", "figure": figure, "header": [], "rows": [], "n_rows": 0,
        }
    )  # fmt: skip


def hovered(page: Any, curve: int, point: int) -> str:
    """Return what the chart says at a point; a box has its own numbers at its axis as well."""
    plot = page.locator("#one .plot[data-drawn]")
    plot.wait_for()
    page.evaluate(
        "([curve, point]) => Plotly.Fx.hover("
        "document.querySelector('#one .plot'), [{curveNumber: curve, pointNumber: point}])",
        [curve, point],
    )
    page.locator("#one .hoverlayer .hovertext").first.wait_for()
    return " | ".join(page.locator("#one .hoverlayer .hovertext").all_text_contents())


def test_a_bent_chart_says_distance_and_energy(opened):
    from gapfactory.analysis.contacts import ContactCurve
    from launchpad.dashboard.charts.stability import close_contacts

    distances, energies = np.array([1.0 / 3, 1.5, 2.0]), np.array([123.0, 12.0, 0.5])
    curve = ContactCurve("dimer", "Si-Si", 2.35, distances, energies, (), 0.6, 0.33, 123.0, 0.0, 0.0)
    figure = close_contacts(SimpleNamespace(stability=SimpleNamespace(contacts=(curve,))))
    page = opened(
        SECTION,
        ["vendor/plotly.min.js", "charts.js"],
        lambda route, path: route.fulfill(content_type="application/json", body=as_chart(figure)),
    )
    text = hovered(page, 0, 0)
    assert "0.33333 Å: 123 eV" in text
    assert "%{" not in text


def test_a_bent_box_says_the_energies_themselves(opened):
    from launchpad.dashboard.charts.campaign import energy_distribution

    energies = {0: [0.0, 0.1, 0.2, 0.3, 70.0]}
    figure = energy_distribution(SimpleNamespace(energies=energies))
    page = opened(
        SECTION,
        ["vendor/plotly.min.js", "charts.js"],
        lambda route, path: route.fulfill(content_type="application/json", body=as_chart(figure)),
    )
    plot = page.locator("#one .plot[data-drawn]")
    plot.wait_for()
    # the highest point: at 70 eV/atom, of which the bent axis makes 2.8
    box = page.locator("#one .boxlayer path.point").evaluate_all(
        "all => { const at = all.map(e => e.getBoundingClientRect()).sort((a, b) => a.top - b.top)[0];"
        " return [at.x + at.width / 2, at.y + at.height / 2]; }"
    )
    page.mouse.move(box[0] - 40, box[1] + 40)
    page.mouse.move(*box, steps=5)
    page.locator("#one .hoverlayer .hovertext").first.wait_for()
    said = page.locator("#one .hoverlayer .hovertext").all_text_contents()
    assert any("70" in text for text in said), said


def test_a_chart_comes_when_the_server_is_back(opened):
    asked: list[str] = []
    figure = {
        "data": [{"type": "scatter", "x": [1, 2], "y": [1, 2]}],
        "layout": {"xaxis": {"title": {"text": "x"}}},
    }

    def answer(route: Any, path: str) -> None:
        asked.append(path)
        if len(asked) == 1:
            route.fulfill(status=202, headers={"Retry-After": "1"}, content_type="application/json",
                          body='{"progress": {"text": "", "done": 0, "total": 0}}')  # fmt: skip
        elif len(asked) == 2:
            route.abort()
        else:
            route.fulfill(content_type="application/json", body=as_chart(figure))

    page = opened(SECTION, ["vendor/plotly.min.js", "charts.js"], answer)
    page.locator("#one .plot[data-drawn]").wait_for()


def test_scrolling_to_and_fro_asks_no_more_often_for_a_chart_that_is_made(opened):
    asked: list[str] = []

    def answer(route: Any, path: str) -> None:
        asked.append(path)
        route.fulfill(status=202, headers={"Retry-After": "1"}, content_type="application/json",
                      body='{"progress": {"text": "", "done": 0, "total": 0}}')  # fmt: skip

    page = opened(
        SECTION + '<div style="height: 6000px"></div>', ["vendor/plotly.min.js", "charts.js"], answer
    )
    for _ in range(6):
        page.evaluate("scrollTo(0, 5000)")
        page.wait_for_timeout(120)
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(120)
    before, since = len(asked), time.monotonic()
    page.wait_for_timeout(3000)
    # once a second, however long these three seconds took
    assert len(asked) - before <= time.monotonic() - since + 1


def test_who_is_at_a_structure_of_the_numbers_stays_there_when_there_are_more(opened):
    from playwright.sync_api import expect

    rows = [["si/2"], ["si/1"]]

    def answer(route: Any, path: str) -> None:
        found = json.loads(as_chart(None)) | {"header": ["structure"], "rows": rows, "n_rows": len(rows)}
        headers = {"ETag": f'"{len(rows)}"'}
        route.fulfill(content_type="application/json", headers=headers, body=json.dumps(found))

    page = opened(SECTION, ["vendor/plotly.min.js", "charts.js"], answer)
    page.get_by_role("link", name="si/1").focus()  # numbers without a figure are unfolded when they come
    rows.insert(0, ["si/3"])
    expect(page.locator("#one tbody tr")).to_have_count(3)
    expect(page.get_by_role("link", name="si/1")).to_be_focused()


def test_a_table_that_grows_wider_than_its_place_can_be_scrolled_by_the_keyboard(opened):
    from playwright.sync_api import expect

    body = """<section><h2>Workers</h2><div class="wide" style="width: 200px; overflow: auto">
    <table><tr><td style="white-space: nowrap">5 s ago</td></tr></table></div></section>"""
    page = opened(body, ["app.js"], lambda route, path: route.abort())
    place = page.get_by_role("region", name="Workers")
    expect(place).to_have_count(0)
    page.evaluate("document.querySelector('td').textContent = 'a long word '.repeat(9)")
    expect(place).to_have_attribute("tabindex", "0")
    page.evaluate("document.querySelector('td').textContent = '6 s ago'")
    expect(place).to_have_count(0)


VIEWER = """<div class="viewer" id="viewer" style="width: 400px; height: 300px; position: relative" tabindex="0"
data-frames="/frames" data-values="/values"></div>
<div id="legend"></div><div id="controls"><select data-copies><option>1</option><option>2</option></select>
<input type="checkbox" data-bonds checked><input type="checkbox" data-cell checked>
<select data-colour><option value="element">element</option><option value="local_energy">local energy</option></select>
<button data-reset>Reset</button></div>
<div id="player" hidden><button data-back>Back</button><button data-play>Play</button><button data-on>On</button>
<input type="range" data-frame><select data-speed><option>20</option></select><output data-frame-text></output>
<svg id="curve"></svg></div>"""
ALONE = {
    "id": "a", "symbols": ["Si"], "radii": [1.11], "periodic": False, "start": 0, "left_out": 0,
    "frames": [{"number": 0, "positions": [[0, 0, 0]], "cell": [[0, 0, 0]] * 3}],
}  # fmt: skip


def test_colours_of_an_atom_come_when_the_server_is_back(opened):
    from playwright.sync_api import expect

    asked: list[str] = []

    def answer(route: Any, path: str) -> None:
        if path == "/frames":
            route.fulfill(content_type="application/json", body=json.dumps(ALONE))
            return
        asked.append(path)
        if len(asked) == 1:
            route.abort()
        elif len(asked) == 2:
            route.fulfill(status=502, content_type="text/html", body="<h1>Bad gateway</h1>")
        elif len(asked) == 3:
            route.fulfill(status=202, content_type="application/json", body="{}")
        else:
            values = {"local_energy": [-5.0], "force_error": None, "note": "by generation 3"}
            route.fulfill(content_type="application/json", body=json.dumps(values))

    page = opened(VIEWER, ["vendor/3Dmol.min.js", "viewer.js"], answer)
    page.locator("#viewer[data-drawn='1']").wait_for()
    page.locator("[data-colour]").select_option("local_energy")
    expect(page.locator("#legend")).to_contain_text("by generation 3")
