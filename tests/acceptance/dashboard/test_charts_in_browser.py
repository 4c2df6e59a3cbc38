"""The charts of a campaign as a browser draws them."""

from __future__ import annotations

import gf_browser
import pytest

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(900)]
DRAWN = (
    "learning_curve",
    "energy_scatter",
    "error_windows",
    "training_set",
    "fit_errors",
    "energy_volume",
    "hull",
)


#: Of each chart that is drawn: its name, the height of its place and its own.
HEIGHTS = """() => [...document.querySelectorAll('.plot[data-drawn]')].map(e =>
  [e.closest('section').id, e.getBoundingClientRect().height, e._fullLayout.height])"""
NARROW = "() => [...document.querySelectorAll('.plot[data-drawn]')].every(e => e._fullLayout.width < 500)"


@pytest.fixture
def page(ended, visit):
    return visit("viewer", "campaigns/silicon/", color_scheme="light")


def plot(page, key):
    """Return a chart once it is drawn."""
    page.locator(f"#{key}").scroll_into_view_if_needed()
    page.locator(f"#{key} .plot[data-drawn]").wait_for(timeout=240_000)
    return page.locator(f"#{key} .plot")


@pytest.mark.parametrize("colour", ["light", "dark"])
def test_something_is_drawn_and_stays_inside_the_page(ended, visit, colour):
    page = visit("viewer", "campaigns/silicon/", color_scheme=colour)
    for key in DRAWN:
        shown = plot(page, key)
        assert gf_browser.colours(shown.screenshot()) > 20, key
        assert "WebGL" not in shown.inner_text(), key
        assert shown.locator(".xtitle, .x2title").first.text_content(), f"{key} has an axis without a name"
        assert shown.bounding_box()["width"] <= page.locator(f"#{key}").bounding_box()["width"] + 1, key
    assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0


@pytest.mark.parametrize("path", ["campaigns/silicon/", "campaigns/silicon/figures/"])
def test_charts_keep_their_height_when_the_window_changes(ended, visit, path):
    page = visit("viewer", path)
    for chart in page.locator("[data-chart]").all()[:4]:
        chart.scroll_into_view_if_needed()
        gf_browser.settled(page)
    before = page.evaluate(HEIGHTS)
    assert len(before) >= 2
    assert all(place == drawn >= 240 for _, place, drawn in before), before
    page.set_viewport_size({"width": 500, "height": 700})
    page.wait_for_function(NARROW)
    # others that came near may have been drawn meanwhile
    after = page.evaluate(HEIGHTS)
    assert [row for row in after if row[0] in {name for name, _, _ in before}] == before


def test_zoom_survives_the_other_colours(page):
    plot(page, "hull")
    page.evaluate("Plotly.relayout(document.querySelector('#hull .plot'), {'xaxis.range': [18, 21]})")
    before = page.evaluate("getComputedStyle(document.querySelector('#hull .plot .xtitle')).fill")
    page.locator("[data-theme-toggle]").click()
    page.wait_for_function(
        "before => getComputedStyle(document.querySelector('#hull .plot .xtitle')).fill !== before",
        arg=before,
    )
    assert page.evaluate("document.querySelector('#hull .plot').layout.xaxis.range") == [18, 21]


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
    gf_browser.wait_until(page, lambda: page.evaluate(ticks) != bent, "other marks at the axis")


def test_the_numbers_can_be_read_without_the_picture(page):
    plot(page, "learning_curve")
    page.locator("#learning_curve summary").click()
    table = page.locator("#learning_curve table")
    assert table.locator("tbody tr").count() >= 6
    assert "held-out energy" in table.inner_text()
