"""The page of vibrations as a browser draws it: bands and states, what the pointer tells, a phone, nothing to show."""

from __future__ import annotations

import threading

import gf_browser
import pytest
from gf_vibrations import aluminium, bain_path, named_database, stored_campaign

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(600)]
TICKET = "t" * 32
#: The words at the pointer when it is at a point of a chart's first series.
HOVER = """async ([id, point]) => {
  const plot = document.querySelector(`#${id} .plot`);
  Plotly.Fx.hover(plot, [{curveNumber: 0, pointNumber: point}], ["xy"]);
  for (let k = 0; k < 200 && !plot.querySelector(".hovertext"); k += 1) await new Promise(done => setTimeout(done, 50));
  return [...plot.querySelectorAll(".hovertext")].map(e => e.textContent).join(" ");
}"""
#: Of each chart: how many axes it has, and whether one sticks out of its figure.
AXES = """() => [...document.querySelectorAll(".plot[data-drawn]")].map(e =>
  [e.closest("section").id, e._fullLayout._subplots.cartesian.length,
   [...e.querySelectorAll(".xtick text, .ytick text, .xtitle, .ytitle")].some(t =>
     t.getBoundingClientRect().right > e.getBoundingClientRect().right + 2
     || t.getBoundingClientRect().left < e.getBoundingClientRect().left - 2)])"""


@pytest.fixture(scope="module")
def address(database_server):
    """A dashboard of a campaign with vibrations and of one without."""
    from werkzeug.serving import make_server

    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

    with named_database(database_server, "gf_test_vibrations_in_browser") as (uri, database):
        crystals = [aluminium({"": 1.04, "learning-0008-all": 0.9, "learning-0008-own": 0.5}, name="fcc")]
        crystals += bain_path((0.25, 0.5), 1.02, names={0.25: "quarter", 0.5: "half"})
        stored_campaign(database, "al", "ndsc-2022-Al-Bain", crystals)
        stored_campaign(database, "plain", "quickstart-Si-analytic", [])
        group = Group("al", uri)
        app = create_app([group], DashboardSettings(), b"k" * 32, ticket=TICKET)
        server = make_server("127.0.0.1", 0, app, threaded=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.port}"
        server.shutdown()
        thread.join()
        server.server_close()
        group.close()


@pytest.fixture
def visit(browser, address):
    """Return a function that opens a page; whatever goes wrong in it fails the test."""
    opened = []

    def enter(path, **options):
        context = browser.new_context(bypass_csp=True, **options)
        opened.append((context, gf_browser.watched(context)))
        page = context.new_page()
        page.goto(f"{address}/login?ticket={TICKET}")
        page.goto(f"{address}/g/al/{path}")
        return page

    yield enter
    for context, watch in opened:
        context.close()
        watch.check()


def drawn(page):
    for chart in page.locator("[data-chart]").all():
        chart.scroll_into_view_if_needed()
        gf_browser.settled(page)


def test_bands_and_states_are_drawn_and_the_pointer_tells_both(visit):
    page = visit("campaigns/al/vibrations/", viewport={"width": 1200, "height": 900}, color_scheme="light")
    drawn(page)
    shown = {name: (axes, out) for name, axes, out in page.evaluate(AXES)}
    # two pairs of axes for each crystal: bands, and states beside them; fcc is an end of the path
    assert {name: axes for name, (axes, _) in shown.items()} == {
        "phonons": 2,
        "elastic": 1,
        "phonons-learning": 1,
        "phonons-bain": 6,
    }
    assert not [name for name, (_, out) in shown.items() if out]
    for name in shown:
        assert gf_browser.colours(page.locator(f"#{name} .plot").screenshot()) > 20, name
    said = page.evaluate(HOVER, ["phonons", 3])
    assert "THz" in said
    assert "q = (" in said
    assert "GPa, reference" in page.evaluate(HOVER, ["elastic", 0])
    legend = page.locator("#phonons .legendtext").all_text_contents()
    assert legend == ["potential", "reference"]
    # a table without a figure is open
    assert page.locator("#elastic-constants tbody tr").count() == 3
    assert "Vallin" in page.locator("#elastic-constants table").inner_text()
    assert not gf_browser.audit(page)


def test_it_fits_a_phone_in_dark_colours(visit):
    page = visit("campaigns/al/vibrations/", viewport={"width": 360, "height": 740}, color_scheme="dark")
    drawn(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert not [name for name, _, out in page.evaluate(AXES) if out]
    assert not gf_browser.audit(page)


def test_a_campaign_without_them_says_how_to_get_them(visit):
    page = visit("campaigns/plain/vibrations/", viewport={"width": 360, "height": 740})
    assert "This campaign measures no vibrations" in page.locator("main").inner_text()
    assert page.locator('nav.tabs [aria-current="page"]').inner_text() == "Vibrations"
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert not gf_browser.audit(page)
