"""Charts that lead to structures, the player of a relaxation, the map of a campaign, actions on the same page."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from gf_browser import another_picture, colours, wait_until

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(900)]

#: Where on the screen a point of a chart is, and the structure that it stands for.
SPOT = """plot => {
  const trace = plot._fullData.find(one => one.meta && one.meta.structures);
  const { xaxis, yaxis } = plot._fullLayout;
  const box = plot.getBoundingClientRect();
  const inside = trace.x.findIndex((x, k) => {
    const [a, b] = [xaxis.d2p(x), yaxis.d2p(trace.y[k])];
    return a > 5 && b > 5 && a < xaxis._length - 5 && b < yaxis._length - 5;
  });
  return { x: box.left + xaxis._offset + xaxis.d2p(trace.x[inside]),
           y: box.top + yaxis._offset + yaxis.d2p(trace.y[inside]), id: trace.customdata[inside] };
}"""


def chart(page, key):
    from playwright.sync_api import expect

    section = page.locator(f"#{key}")
    section.scroll_into_view_if_needed()
    expect(section.locator(".plot")).to_have_attribute("data-drawn", re.compile(r"\d"), timeout=240_000)
    return section


def clicked(page, plot):
    """Return whether a point was hit."""
    plot.scroll_into_view_if_needed()
    spot = plot.evaluate(SPOT)
    page.mouse.move(spot["x"] - 2, spot["y"])
    page.mouse.move(spot["x"], spot["y"])
    page.wait_for_timeout(200)
    if "leads" not in plot.get_attribute("class") or plot.evaluate(SPOT) != spot:
        return False
    page.mouse.click(spot["x"], spot["y"])
    return True


@pytest.mark.parametrize("key", ["hull", "energy_scatter", "training_set"])
def test_a_point_of_a_chart_leads_to_its_structure_by_click_and_by_keyboard(ended, visit, key):
    from playwright.sync_api import expect

    page = visit("viewer", "campaigns/silicon/")
    section = chart(page, key)
    section.get_by_text("Data as a table").press("Enter")
    link = section.locator("td a").first
    wanted = link.inner_text()
    link.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text(wanted)
    page.go_back()
    section = chart(page, key)
    plot = section.locator(".plot")
    # other charts may come above it meanwhile, and move it
    wait_until(page, lambda: clicked(page, plot), "a point of the chart is clicked")
    page.wait_for_url(re.compile("/structures/of/"))
    # another point may lie on top of it
    assert unquote(page.url.partition("/structures/of/")[2]).startswith("silicon/g")


def test_colours_of_a_chart_are_switched_to_origins_and_stay_so(ended, visit):
    from playwright.sync_api import expect

    page = visit("viewer", "campaigns/silicon/")
    section = chart(page, "training_set")
    plot = section.locator(".plot")
    assert plot.locator(".colorbar").count() == 1
    section.get_by_label("Colour by").select_option("origin")
    page.wait_for_function("() => !document.querySelector('#training_set .colorbar')")
    used = plot.evaluate("plot => plot._fullData.map(one => one.marker.color)")
    assert len(set(used)) == len(used)
    drawn = plot.get_attribute("data-drawn")
    page.get_by_role("button", name="Switch between light and dark").click()
    expect(plot).not_to_have_attribute("data-drawn", drawn)
    assert plot.locator(".colorbar").count() == 0


def test_a_relaxation_is_stepped_through_beside_its_curve(ended, visit):
    from playwright.sync_api import expect

    key = "silicon/g001/relaxation/000002"
    page = visit("viewer", f"structures/of/{key}")
    viewer = page.locator("#viewer[data-drawn]")
    viewer.wait_for()
    frames = int(page.locator("[data-frame]").get_attribute("max")) + 1
    mark = page.locator("#curve [data-mark]").first
    at = float(mark.get_attribute("cx"))
    text = page.locator("[data-frame-text]")
    expect(text).to_contain_text(f"frame {frames - 1}, step")
    expect(text).to_contain_text("Å³/atom")
    page.get_by_role("button", name="Step back").click()
    expect(text).to_contain_text(f"frame {frames - 2}, step")
    assert float(mark.get_attribute("cx")) < at
    link = page.get_by_role("link", name="CIF")
    assert f"frame/{frames - 2:04d}" in unquote(link.get_attribute("href"))
    viewer.focus()
    page.keyboard.press(".")
    expect(text).to_contain_text(f"frame {frames - 1}, step")
    page.keyboard.press(",")
    page.get_by_label("Speed").select_option("20")
    viewer.focus()
    page.keyboard.press(" ")
    expect(page.locator("[data-play]")).to_have_text("Play")
    expect(text).to_contain_text(f"frame {frames - 1}, step")
    with page.expect_download() as download:
        link.click()
    assert download.value.suggested_filename.endswith(".cif")
    box = page.locator("#curve").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 64 / 420, box["y"] + box["height"] / 2)
    expect(text).to_contain_text("frame 0, step 0")


def test_every_atom_of_a_stretched_cell_is_joined_to_another(ended, visit):
    """Periodic images count: a cell of two atoms with all neighbours in the next cells has bonds as well."""
    from playwright.sync_api import expect

    keys = [row["_id"] for row in ended.database.relaxations.find({}, {"_id": 1}).sort("_id", 1).limit(6)]
    page = visit("viewer", f"structures/of/{keys[0]}")
    for key in keys:
        page.goto(ended.url(f"structures/of/{key}"))
        page.locator("#viewer[data-drawn]").wait_for()
        viewer = page.locator("#viewer")
        assert int(viewer.get_attribute("data-sticks")) >= int(viewer.get_attribute("data-drawn")), key
    page.get_by_role("checkbox", name="bonds").uncheck()
    assert viewer.get_attribute("data-sticks") == "0"
    bare = viewer.screenshot()
    page.get_by_role("checkbox", name="bonds").check()
    # as many again, drawn in whatever colours and for whatever number of copies
    sticks = int(viewer.get_attribute("data-sticks"))
    assert sticks >= int(viewer.get_attribute("data-drawn"))
    another_picture(viewer, bare, "bonds are seen")
    page.get_by_label("Copies").select_option("2")
    expect(viewer).to_have_attribute("data-sticks", str(8 * sticks))
    page.get_by_label("Colour").select_option("local_energy")
    page.wait_for_selector("#legend .ramp", timeout=240_000)
    assert "Local energy (eV)" in page.locator("#legend").inner_text()
    assert viewer.get_attribute("data-sticks") == str(8 * sticks)
    page.get_by_label("Colour").select_option("element")
    expected = page.locator("#legend")
    assert expected.inner_text().strip() == "Si"


def test_the_map_of_the_whole_campaign_is_coloured_as_asked(ended, visit):
    from playwright.sync_api import expect

    page = visit("viewer", "structures/map/silicon/")
    page.watch.expected.append(r"/structures/map/.* console warning: Canvas2D")
    page.wait_for_selector("#map[data-drawn]", timeout=240_000)
    assert page.get_by_text("WebGL is not supported").count() == 0
    expect(page.locator("#map-map").get_by_text("random cell").first).to_be_visible()
    page.get_by_label("Colour").first.select_option("coordination")
    page.wait_for_url(re.compile("colour=coordination"))
    page.wait_for_selector("#map[data-drawn]", timeout=240_000)
    expect(page.locator("#map-map").get_by_text("coordination").first).to_be_visible()
    points = page.locator("#map-map")
    wait_until(page, lambda: colours(points.screenshot()) > 200, "coloured points of the map")
    generations = {
        part.split("/")[1]
        for part in page.evaluate(
            "async url => (await (await fetch(url)).json()).properties.structure.values",
            ended.url("structures/map/silicon/data"),
        )
    }
    assert generations >= {"g000", "g001"}


@pytest.fixture
def waiting(ended):
    """A task that nobody takes."""
    from fireworks import Firework, ScriptTask

    from launchpad.queue import Queue

    task = Firework(
        ScriptTask(script="true"), name="nobody takes it", spec={"_category": "other", "_priority": 5}
    )
    with Queue.from_uri(ended.uri) as queue:
        (fw_id,) = queue.add_wf(task).values()
    return fw_id


def test_an_action_is_asked_in_a_dialog_and_told_in_a_message_on_the_same_page(ended, waiting, visit):
    from playwright.sync_api import expect

    page = visit("operator", f"tasks/{waiting}")
    address = page.url
    state = page.locator("#task-now dd").first
    page.get_by_role("button", name="Pause").click()
    dialog = page.get_by_role("dialog", name="Pause: 1 task?")
    expect(dialog).to_contain_text("nobody takes it")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    page.get_by_role("button", name="Pause").click()
    dialog.get_by_role("link", name="Back without doing it").click()
    expect(dialog).to_have_count(0)
    assert ended.database.fireworks.find_one({"fw_id": waiting})["state"] == "READY"
    page.get_by_role("button", name="Pause").click()
    dialog.get_by_role("button", name="Pause").click()
    expect(page.locator("#toasts")).to_contain_text("1 task paused.")
    # it goes by itself after a while
    page.get_by_role("button", name="Close this message").click()
    expect(page.locator("#toasts p")).to_have_count(0)
    expect(dialog).to_have_count(0)
    expect(state).to_contain_text("paused")
    assert page.url == address
    # a number that the action needs is asked for in the same dialog; nonsense is told and changes nothing
    page.get_by_role("button", name="Set priority").click()
    asked = page.get_by_role("dialog")
    asked.get_by_label("New priority").fill("33")
    asked.get_by_role("button", name="Set priority").click()
    expect(page.locator("#toasts")).to_contain_text("given another priority")
    assert ended.database.fireworks.find_one({"fw_id": waiting})["spec"]["_priority"] == 33


def test_without_a_script_the_question_is_a_page(ended, waiting, visit):
    from playwright.sync_api import expect

    page = visit("operator", f"tasks/{waiting}", java_script_enabled=False)
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Pause: 1 task?")
    page.get_by_role("button", name="Pause").click()
    page.wait_for_url(re.compile(f"/tasks/{waiting}$"))
    expect(page.get_by_role("status").filter(has_text="1 task paused.").first).to_be_visible()


def test_the_overview_fits_and_says_everything(ended, visit):
    page = visit("operator", "")
    assert page.evaluate(
        "() => [...document.querySelectorAll('.wide')].every(b => b.scrollWidth <= b.clientWidth + 1)"
    )
    row = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="silicon"))
    text = row.inner_text()
    for wanted in ("cancelled", "of 60", "of 600", "meV/atom", "eV/Å", "it has ended"):
        assert wanted in text, wanted
    assert row.get_by_role("link").count() >= 4
