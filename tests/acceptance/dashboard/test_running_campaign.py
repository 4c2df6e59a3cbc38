"""A person watches a campaign that runs: every page changes by itself and takes nothing away from its reader."""

from __future__ import annotations

import re

import pytest
from gf_browser import PASSWORD, another_picture, colours, log_in, settled, wait_until

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(900)]
#: Number of points of each line of the learning curve, as they are drawn.
POINTS = """() => Object.fromEntries([...document.querySelectorAll("#learning_curve .scatterlayer .trace")]
  .map(line => [line.__data__[0].trace.name, line.querySelectorAll(".points path.point").length])
  .filter(([, n]) => n > 0))"""
#: The middle of the newest point of a line.
NEWEST = """name => {
  const line = [...document.querySelectorAll("#learning_curve .scatterlayer .trace")]
    .find(one => one.__data__[0].trace.name === name && one.querySelector(".points path.point"));
  const point = [...line.querySelectorAll(".points path.point")].at(-1);
  point.scrollIntoView({ block: "center" });
  const box = point.getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
}"""
#: Where on the screen the map's loneliest point is, and what the map calls it.
LONELIEST = """async chart => {
  const points = chart.data.find(trace => (trace.x || []).length > 3);
  const { xaxis, yaxis } = chart._fullLayout, box = chart.getBoundingClientRect();
  const answer = await fetch(document.getElementById("map").dataset.map);
  const spots = (await answer.json()).properties.structure.values.map((id, k) => ({ id,
    x: box.left + xaxis._offset + xaxis.d2p(points.x[k]), y: box.top + yaxis._offset + yaxis.d2p(points.y[k]) }));
  const room = spot => Math.min(...spots.filter(s => s !== spot).map(s => Math.hypot(s.x - spot.x, s.y - spot.y)));
  return spots.slice(1).sort((a, b) => room(b) - room(a))[0];
}"""


def drawn_generations(page) -> int:
    """Return how many points the learning curve shows."""
    return page.evaluate(POINTS).get("held-out energy", 0)


def wait_for_points(page, number: int) -> None:
    """Wait until the learning curve has so many points, or more."""
    for _ in range(1200):
        if drawn_generations(page) >= number:
            return
        page.wait_for_timeout(100)
    raise AssertionError(f"{drawn_generations(page)} points are drawn, not {number}")


def labels_of(running, generation: int) -> int:
    """Return how many labels the database says that a generation's potential was fitted to."""
    return running.database.metrics.find_one({"campaign": "silicon", "generation": generation})["labels"]


def said_of_the_newest(page) -> re.Match[str] | None:
    """Return generation and labels of the newest point of the learning curve; it may just be drawn anew."""
    x, y = page.evaluate(NEWEST, "held-out energy")
    page.mouse.move(x - 4, y)
    page.mouse.move(x, y)
    page.wait_for_timeout(300)
    told = page.locator("#learning_curve .hoverlayer .hovertext").all_text_contents()
    return re.search(r"generation (\d+), (\d+) labels", told[0]) if told else None


def first_number(page, name: str) -> int:
    """Return the first number beside a name among the facts."""
    return int(re.search(r"\d+", fact(page, name).inner_text())[0])


def fact(page, name: str):
    """Return what stands beside a name among the facts of a campaign's page."""
    return (
        page.locator("#standing dl.facts > div")
        .filter(has=page.locator("dt", has_text=re.compile(f"^{name}$")))
        .locator("dd")
    )


def test_a_generation_is_followed_to_its_end_without_a_reload(running):
    from playwright.sync_api import expect

    overview, page = running.overview, running.curve
    row = overview.get_by_role("row", name=re.compile("silicon")).first
    expect(row.get_by_text("running")).to_be_attached(timeout=240_000)
    expect(fact(page, "State")).to_contain_text("running")
    page.locator("#learning_curve").scroll_into_view_if_needed()
    wait_for_points(page, 1)
    before = drawn_generations(page)
    # one more generation comes to its end while the page is only looked at
    wait_for_points(page, before + 1)
    now = drawn_generations(page)
    said = wait_until(page, lambda: said_of_the_newest(page), "what the chart says of its newest point")
    assert int(said[1]) >= now - 1
    assert int(said[2]) == labels_of(running, int(said[1]))
    page.mouse.move(0, 0)
    expect(fact(page, "Generation")).to_have_text(re.compile(r"\d+ of 60"))
    expect(fact(page, "Labels of budget")).to_have_text(re.compile(r"\d+ of 600"))
    wait_until(
        page, lambda: first_number(page, "Generation") >= now, "the generation that the curve has come to"
    )
    wait_until(
        page, lambda: first_number(page, "Labels of budget") >= int(said[2]), "the labels of the curve"
    )
    told = first_number(page, "Generation")
    assert told <= running.database.campaigns.find_one({"_id": "silicon"})["generation"] + 1
    for one in (overview, page):
        assert one.evaluate("() => window.marker") == "the same page"
    assert overview.evaluate("() => window.scrollY") == 120, "news scrolled the page"
    assert running.campaign.poll() is None, "the campaign has ended: nothing was followed"


def test_news_take_away_neither_scroll_nor_zoom_nor_what_is_unfolded_nor_focus(running, visit):
    from playwright.sync_api import expect

    wait_for_points(running.curve, 1)
    page = visit("viewer", "campaigns/silicon/", viewport={"width": 900, "height": 500})
    chart = page.locator("#learning_curve .plot[data-drawn]")
    chart.wait_for()
    summary = page.get_by_text("Assessments", exact=True)
    summary.focus()
    page.keyboard.press("Enter")
    table = page.locator("#standing details table")
    expect(table).to_be_visible()
    area = page.locator("#learning_curve .nsewdrag").first
    area.scroll_into_view_if_needed()
    box = area.bounding_box()
    page.mouse.move(box["x"] + 0.1 * box["width"], box["y"] + 0.1 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 0.8 * box["height"], steps=4)
    zoom = "() => { const a = document.querySelector('#learning_curve .plot').layout; return [...a.xaxis.range]; }"
    whole = page.evaluate(zoom)
    page.mouse.up()
    wait_until(page, lambda: page.evaluate(zoom) != whole, "the zoom")
    # what is looked at stays where it is, though what stands above it may grow
    zoomed, seen_at = page.evaluate(zoom), area.bounding_box()["y"]
    drawn = chart.get_attribute("data-drawn")
    page.locator("#standing dl.facts").evaluate("e => e.setAttribute('data-old', '')")
    # the campaign itself makes the news: of its facts, and of the curve
    page.locator("[data-old]").wait_for(state="detached", timeout=240_000)
    expect(page.locator("#learning_curve .plot")).not_to_have_attribute("data-drawn", drawn, timeout=240_000)
    page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.evaluate(zoom) == zoomed, "the zoom is lost"
    assert abs(area.bounding_box()["y"] - seen_at) <= 1, "what is looked at was scrolled away"
    expect(table).to_be_visible()
    expect(summary).to_be_focused()


def test_a_wrong_password_is_told_and_the_right_one_leads_back(running, visit):
    from playwright.sync_api import expect

    page = visit(None, "?from=here")
    page.watch.expected += [r"answer 401: POST", r"console error: Failed to load resource.* 401"]
    log_in(page, "viewer", "not this one")
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Password").press("Enter")
    page.wait_for_url(running.url("?from=here"))
    page.get_by_role("button", name="Log out").click()
    page.goto(running.url())
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def lonely_spot(page, chart):
    """Return the map's loneliest point once the pointer is on it; the map may still move while it is drawn."""
    spot = chart.evaluate(LONELIEST)
    page.mouse.move(spot["x"] - 3, spot["y"])
    page.mouse.move(spot["x"], spot["y"])
    page.wait_for_timeout(200)
    shown = chart.locator(".hovertext").count() and chart.evaluate(LONELIEST) == spot
    return spot if shown else None


@pytest.mark.parametrize("colour", ["light", "dark"])
def test_a_structure_is_opened_from_the_map(running, visit, colour):
    from playwright.sync_api import expect

    wait_for_points(running.curve, 1)
    page = visit("viewer", "structures/", viewport={"width": 1200, "height": 1000}, color_scheme=colour)
    page.get_by_role("link", name="Similarity map").click()
    page.goto(running.url("structures/map/silicon/0"))
    page.locator("#map[data-drawn]").wait_for(timeout=240_000)
    chart = page.locator("#map .js-plotly-plot").first
    chart.scroll_into_view_if_needed()
    spot = wait_until(page, lambda: lonely_spot(page, chart), "what the map says of a point")
    assert page.get_by_text("WebGL is not supported").count() == 0
    page.mouse.click(spot["x"], spot["y"])
    chosen = page.locator("#chosen a")
    expect(chosen).to_have_text(spot["id"])
    # a grey box with a sentence has few colours
    assert colours(chart.screenshot()) > 300
    assert colours(page.locator("#map-structure").screenshot()) > 100
    chosen.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(spot["id"])
    settled(page)
    viewer = page.locator("#viewer")
    before = viewer.screenshot()
    assert colours(before) > 200, "no shaded balls are drawn"
    page.get_by_role("checkbox", name="cell").uncheck()
    another_picture(viewer, before, "the cell is gone")


def test_a_filter_lives_in_the_address_and_survives_a_reload(running, visit):
    from playwright.sync_api import expect

    wait_for_points(running.curve, 1)
    page = visit("viewer", "structures/")
    table = page.get_by_role("table", name="of campaign silicon")
    rows = table.locator("tbody tr")
    rows.first.wait_for(timeout=240_000)
    # the table is worked out when somebody looks at it for the first time; rows made before are shown meanwhile
    expect(page.get_by_text("worked out for the first time")).to_have_count(0, timeout=240_000)
    page.get_by_label("Purpose").select_option("held-out")
    page.wait_for_url(re.compile("purpose=held-out"))
    generation = page.get_by_role("combobox", name="Generation")
    generation.select_option("0")
    page.wait_for_url(re.compile("generation=0"))
    page.get_by_role("link", name="Energy (eV/atom)").click()
    page.wait_for_url(re.compile("sort=energy"))
    shown = table.inner_text()
    for address in (None, page.url):  # a reload, and a link that a colleague was sent
        if address:
            page.goto("about:blank")
            page.goto(address)
        else:
            page.reload()
        assert {"purpose=held-out", "generation=0"} < set(page.url.partition("?")[2].split("&")), page.url
        expect(page.get_by_label("Purpose")).to_have_value("held-out")
        expect(generation).to_have_value("0")
        assert set(rows.locator("td:nth-child(3)").all_text_contents()) == {"held-out"}
        assert table.inner_text() == shown
    energies = [float(text.replace("−", "-")) for text in rows.locator("td:nth-child(7)").all_text_contents()]
    assert energies == sorted(energies)
    assert len(energies) == 3


def test_a_failed_task_is_run_again_by_an_operator_and_not_by_a_viewer(running, failed, visit):
    from playwright.sync_api import expect

    (fw_id, _), mark, seen = failed
    page = visit("operator", "queue")
    again = page.get_by_role("button", name=f"Run again: task {fw_id}")
    expect(again).to_be_visible(timeout=240_000)
    expect(page.get_by_role("listitem").filter(has=again)).to_contain_text("ScriptTask")
    page.goto(running.url(f"tasks/{fw_id}"))

    other = visit("viewer", "queue")
    expect(other.get_by_role("link", name=f"Task {fw_id}", exact=True)).to_be_visible()
    assert other.get_by_role("button", name=re.compile("again")).count() == 0
    other.goto(running.url(f"tasks/{fw_id}"))
    expect(other.get_by_role("heading", name=f"Task {fw_id}")).to_be_visible()
    assert other.locator("main button").count() == 0
    other.watch.expected += [r"answer 403: POST", r"console error: Failed to load resource.* 403"]
    refused = other.evaluate(
        """async ([url, id]) => { const body = new FormData();
             for (const [k, v] of [["action", "rerun"], ["ids", id], ["confirmed", "yes"]]) body.append(k, v);
             return (await fetch(url, { method: "POST", body })).status; }""",
        [running.url("queue/act"), fw_id],
    )
    assert refused == 403
    assert running.database.fireworks.find_one({"fw_id": fw_id})["state"] == "FIZZLED"

    mark.touch()
    page.locator("#task-now").get_by_role("button", name="Run again").click()
    asked = page.get_by_role("dialog")
    expect(asked).to_contain_text("1 task")
    expect(asked).to_contain_text("look for the disk")
    asked.get_by_role("button", name="Run again").click()
    expect(page.locator("#toasts")).to_contain_text("1 task")
    # seen without a reload when the worker takes it, and when it is done; by the viewer as well
    for one in (page, other):
        state = one.locator("#task-now dd").first
        expect(state).to_have_text(re.compile("running"), timeout=240_000)
    seen.touch()
    for one in (page, other):
        expect(one.locator("#task-now dd").first).to_have_text(re.compile("completed"), timeout=240_000)
    trail = [str(entry) for entry in running.database["audit"].find()]
    assert any("operator" in entry and str(fw_id) in entry for entry in trail), trail


def test_without_scripts_people_log_in_and_read(running, visit):
    from playwright.sync_api import expect

    wait_for_points(running.curve, 1)
    page = visit(None, java_script_enabled=False)
    log_in(page, "viewer")
    assert "silicon" in page.get_by_role("table").first.inner_text()
    for path, words in {
        "campaigns/": "running",
        "campaigns/silicon/": "CSV",
        "campaigns/silicon/settings": "schedule.generations",
        "structures/?view=cell&generation=0": "g000/cell/000000",
        "structures/of/silicon/g000/cell/000000": "Random cell",
        "structures/map/silicon/0": "Generation 0",
        "queue": "look for the disk",
        "campaigns/silicon/generations/0/tasks": "build",
        "workers": "worker",
    }.items():
        answer = page.goto(running.url(path))
        assert answer.ok, path
        text = page.locator("main").inner_text()
        assert words in text, (path, text)
        assert not re.search(r"[Cc]omputing…|appears here by itself", text), (
            f"{path} promises what never comes"
        )
    page.get_by_role("button", name="Log out").click()
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()
