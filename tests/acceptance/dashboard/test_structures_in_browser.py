"""A person looks at a structure in three dimensions: copies, colours by what is known of each atom, its relaxation."""

from __future__ import annotations

import io

import pytest
from gf_browser import another_picture, colours, settled

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(900)]


def test_copies_and_colours_are_drawn(ended, visit):
    from playwright.sync_api import expect

    page = visit("viewer", "structures/of/silicon/g000/cell/000000")
    settled(page)
    viewer = page.locator("#viewer")
    plain = viewer.screenshot()
    atoms = int(viewer.get_attribute("data-drawn"))
    page.get_by_label("Copies").select_option("2")
    expect(viewer).to_have_attribute("data-drawn", str(8 * atoms))
    copied = another_picture(viewer, plain, "copies are seen")
    assert colours(copied) > 200
    page.get_by_label("Colour").select_option("local_energy")
    page.wait_for_selector("#legend .ramp", timeout=240_000)
    assert "potential of generation" in page.locator("#legend").inner_text()
    another_picture(viewer, copied, "other colours are seen")


def test_a_relaxation_is_played_and_its_file_is_what_is_shown(ended, visit):
    from ase.io import read
    from playwright.sync_api import expect

    page = visit("viewer", "structures/?view=relaxation&generation=1")
    page.locator("#structures tbody a").first.click()
    settled(page)
    first = page.locator("#viewer").screenshot()
    page.get_by_role("button", name="Play").click()
    expect(page.locator("[data-play]")).to_have_text("Play", timeout=240_000)
    page.get_by_label("Frame").press("Home")
    another_picture(page.locator("#viewer"), first, "another frame is seen")
    with page.expect_download() as started:
        page.get_by_role("link", name="the whole relaxation").click()
    frames = read(io.StringIO(started.value.path().read_text()), ":", format="extxyz")
    assert len(frames) == 1 + int(page.locator("[data-frame]").get_attribute("max"))


def test_two_structures_side_by_side_have_one_scale(ended, visit):
    from playwright.sync_api import expect

    found = ended.database.labels.find({"status": "done", "kind": "crystal"}, {"structure_hash": 1}).limit(2)
    hashes = [label["structure_hash"] for label in found]
    keys = [ended.database.structures.find_one({"hash": h}, {"_id": 1})["_id"] for h in hashes]
    page = visit("viewer", f"structures/of/{keys[0]}")
    page.get_by_label("Beside this one").fill(keys[1])
    page.get_by_role("button", name="Compare their local energies").click()
    for n in (1, 2):
        page.wait_for_selector(f"#viewer{n}[data-drawn]")
        page.wait_for_selector(f"#legend{n} .ramp", timeout=240_000)
    # once both are known, both say the same two numbers
    first = page.locator("#legend1").inner_text()
    expect(page.locator("#legend2")).to_have_text(first, use_inner_text=True)
    drawn = page.locator("#viewer1").screenshot()
    page.get_by_label("Colour").select_option("element")
    expect(page.locator("#legend2")).to_have_text("Si")
    assert page.locator("#viewer1").screenshot() != drawn
