"""A person looks for a structure: in the table, on the map, in three dimensions."""

from __future__ import annotations

import io
import re

import pytest
from gf_browser import colours, screenshot

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(300)]


def test_filters_survive_a_reload(ended, visit):
    from playwright.sync_api import expect

    page = visit("viewer", "structures/")
    rows = page.locator("#structures tbody tr")
    for _ in range(20):
        if rows.count():
            break
        page.wait_for_timeout(1000)
        page.reload()
    page.get_by_label("Purpose").select_option("held-out")
    page.wait_for_url(re.compile("purpose=held-out"))
    expect(rows.first).to_contain_text("held-out")
    shown = rows.count()
    page.get_by_role("link", name="Energy (eV/atom)").click()
    page.wait_for_url(re.compile("sort=energy"))
    page.reload()
    assert "purpose=held-out" in page.url
    assert rows.count() == shown
    expect(page.get_by_label("Purpose")).to_have_value("held-out")
    screenshot(page, "structures")


def test_a_point_of_the_map_leads_to_its_structure_in_three_dimensions(ended, visit):
    from playwright.sync_api import expect

    page = visit("viewer", "structures/map/silicon/0")
    page.wait_for_selector("#map[data-drawn]", timeout=120_000)
    page.wait_for_timeout(2500)
    # a grey box that says that WebGL is missing has few colours
    assert colours(page.locator("#map-map").screenshot()) > 300
    assert colours(page.locator("#map-structure").screenshot()) > 100
    screenshot(page, "map")
    page.locator("#chosen a").click()
    page.wait_for_selector("#viewer[data-drawn]")
    page.wait_for_timeout(500)
    assert colours(page.locator("#viewer").screenshot()) > 100
    atoms = int(page.locator("#viewer").get_attribute("data-drawn"))
    page.get_by_label("Copies").select_option("2")
    expect(page.locator("#viewer")).to_have_attribute("data-drawn", str(8 * atoms), timeout=30_000)
    page.get_by_label("Colour").select_option("local_energy")
    page.wait_for_selector("#legend .ramp", timeout=120_000)
    assert "potential of generation" in page.locator("#legend").inner_text()


def test_a_relaxation_is_played_and_its_file_is_what_is_shown(ended, visit):
    from ase.io import read
    from playwright.sync_api import expect

    page = visit("viewer", "structures/?view=relaxation&generation=1")
    page.locator("#structures tbody a").first.click()
    page.wait_for_selector("#viewer[data-drawn]")
    first = page.locator("#viewer").screenshot()
    page.get_by_role("button", name="Play").click()
    expect(page.locator("[data-play]")).to_have_text("Play", timeout=60_000)
    page.get_by_label("Frame").press("Home")
    assert page.locator("#viewer").screenshot() != first
    screenshot(page, "structure")
    with page.expect_download() as started:
        page.get_by_role("link", name="the whole relaxation").click()
    frames = read(io.StringIO(started.value.path().read_text()), ":", format="extxyz")
    assert len(frames) == 1 + int(page.locator("[data-frame]").get_attribute("max"))
