"""Charts of a campaign that ran, as a browser draws them."""

from __future__ import annotations

import re
import signal
import time
from contextlib import contextmanager

import gf_browser
import pytest

pytestmark = [
    pytest.mark.database,
    pytest.mark.slow,
    pytest.mark.skipif(gf_browser.chromium() is None, reason="needs Debian's chromium"),
]
DRAWN = (
    "learning_curve",
    "energy_scatter",
    "error_windows",
    "training_set",
    "fit_errors",
    "energy_volume",
    "hull",
)


@pytest.fixture(scope="module")
def address(tiny_campaign):
    """The link that a dashboard of this person prints."""
    served = tiny_campaign.start("dashboard", "run", "--port", "0", "--processes", "1", log="dashboard.log")
    log = tiny_campaign.directory / "dashboard.log"
    end = time.monotonic() + 60
    while not (found := re.search(r"http://\S+", log.read_text() if log.exists() else "")):
        assert time.monotonic() < end, log.read_text()
        assert served.poll() is None, log.read_text()
        time.sleep(0.1)
    yield found[0]
    served.send_signal(signal.SIGTERM)
    assert served.wait(30) in {0, -signal.SIGTERM}


@pytest.fixture(scope="module")
def browser():
    with gf_browser.open_browser() as started:
        yield started


@contextmanager
def watched_page(browser, address, **options):
    """Open the campaign's page; nothing may have gone wrong in it at the end."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, color_scheme="light", **options)
    watch = gf_browser.watched(context)
    opened = context.new_page()
    opened.goto(address)
    opened.goto(f"{address.partition('/login')[0]}{opened.evaluate('location.pathname')}campaigns/tiny/")
    yield opened
    watch.check()
    context.close()


@pytest.fixture
def page(browser, address):
    with watched_page(browser, address) as opened:
        yield opened


def plot(page, key):
    """Return a chart once it is drawn."""
    page.locator(f"#{key}").scroll_into_view_if_needed()
    page.locator(f"#{key} .plot[data-drawn]").wait_for(timeout=60_000)
    return page.locator(f"#{key} .plot")


def zoomed(page, key):
    return page.evaluate(f"document.querySelector('#{key} .plot').layout.xaxis.range")


def test_something_is_drawn_and_stays_inside_the_page(page):
    for key in DRAWN:
        shown = plot(page, key)
        assert gf_browser.colours(shown.screenshot()) > 20, key
        assert "WebGL" not in shown.inner_text(), key
        assert shown.bounding_box()["width"] <= page.locator(f"#{key}").bounding_box()["width"] + 1, key
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


def test_what_cannot_be_drawn_says_why(page):
    from playwright.sync_api import expect

    page.locator("#dynamics").scroll_into_view_if_needed()
    note = page.locator("#dynamics .note")
    expect(note).to_contain_text("no molecular dynamics", timeout=60_000)
    assert page.locator("#dynamics .plot").inner_html() == ""


def test_zoom_survives_news_and_the_other_colours(page):
    from playwright.sync_api import expect

    plot(page, "hull")
    page.evaluate("Plotly.relayout(document.querySelector('#hull .plot'), {'xaxis.range': [18, 21]})")
    before = page.evaluate("getComputedStyle(document.querySelector('#hull .plot .xtitle')).fill")
    drawn = page.locator("#hull .plot").get_attribute("data-drawn")
    page.locator("[data-theme-toggle]").click()
    expect(page.locator("#hull .plot")).not_to_have_attribute("data-drawn", drawn)
    assert zoomed(page, "hull") == [18, 21]
    assert page.evaluate("getComputedStyle(document.querySelector('#hull .plot .xtitle')).fill") != before


def test_axes_are_bent_or_straight_as_asked(page):
    from playwright.sync_api import expect

    plot(page, "energy_scatter")
    ticks = "() => [...document.querySelectorAll('#energy_scatter .xtick text')].map(t => t.textContent)"
    bent = page.evaluate(ticks)
    assert "0.1" in bent
    button = page.locator("#energy_scatter [data-scale]")
    assert button.inner_text() == "Linear axes"
    button.click()
    expect(button).to_have_text("Logarithmic axes")
    page.wait_for_timeout(500)
    assert page.evaluate(ticks) != bent


def test_a_point_leads_to_its_structure(page):
    for key in DRAWN:  # what comes later would move it
        plot(page, key)
    plot(page, "training_set")
    box = page.evaluate(
        """() => {
          const plot = document.querySelector('#training_set .plot');
          const last = [...plot.querySelectorAll('.scatterlayer .trace')].at(-1);
          const point = last.querySelector('.point').getBoundingClientRect();
          return [point.x + point.width / 2, point.y + point.height / 2];
        }"""
    )
    page.mouse.move(box[0] - 5, box[1])
    page.mouse.move(*box, steps=3)
    page.locator("#training_set .hoverlayer .hovertext").first.wait_for()
    assert "tiny/g00" in page.locator("#training_set .hoverlayer").text_content()
    page.mouse.click(*box)
    page.wait_for_url(re.compile(r"/structures/of/tiny/g00"))


def test_the_numbers_can_be_read_without_the_picture(page):
    plot(page, "learning_curve")
    page.locator("#learning_curve summary").click()
    table = page.locator("#learning_curve table")
    assert table.locator("tbody tr").count() == 6
    assert "held-out energy" in table.inner_text()


def test_the_pages_have_no_serious_findings(browser, address):
    # the audit is a script of its own that the pages would not run
    with watched_page(browser, address, bypass_csp=True) as page:
        for key in DRAWN:
            plot(page, key)
        root = page.url.removesuffix("tiny/")
        assert gf_browser.audit(page) == []
        for part in ("tiny/settings", "tiny/recoveries", "tiny/settings?from=0&to=1", ""):
            page.goto(root + part)
            assert gf_browser.audit(page) == []
