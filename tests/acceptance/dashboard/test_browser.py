"""A person watches a campaign that runs, in a browser."""

from __future__ import annotations

import re

import pytest
from gf_browser import colours, screenshot

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(300)]
PASSWORD = "correct horse battery"  # noqa: S105
#: Where on the screen the map's loneliest point is, and what the map calls it.
POINT = """async chart => {
  const points = chart.data.find(trace => (trace.x || []).length > 3);
  const { xaxis, yaxis } = chart._fullLayout, box = chart.getBoundingClientRect();
  const answer = await fetch(document.getElementById("map").dataset.map);
  const spots = (await answer.json()).properties.structure.values.map((id, k) => ({ id,
    x: box.left + xaxis._offset + xaxis.d2p(points.x[k]), y: box.top + yaxis._offset + yaxis.d2p(points.y[k]) }));
  const room = spot => Math.min(...spots.filter(s => s !== spot).map(s => Math.hypot(s.x - spot.x, s.y - spot.y)));
  return spots.slice(1).sort((a, b) => room(b) - room(a))[0];
}"""


def test_a_generation_is_followed_to_its_end_without_a_reload(running, visit):
    from playwright.sync_api import expect

    page = visit("viewer", viewport={"width": 900, "height": 260})
    row = page.get_by_role("row", name=re.compile("silicon")).first
    expect(row).to_be_visible()
    expect(row.get_by_text("done")).to_have_count(0)
    page.evaluate("() => { window.marker = 'the same page'; window.scrollTo(0, 120); }")
    expect(row.get_by_text("done")).to_be_attached(timeout=180_000)
    assert page.evaluate("() => window.marker") == "the same page"
    assert page.evaluate("() => window.scrollY") == 120
    assert page.url == running.url()
    assert running.campaign.wait(60) == 0


def test_a_wrong_password_is_told_and_the_right_one_leads_back(running, visit):
    from playwright.sync_api import expect

    page = visit(None, "?from=here")
    page.watch.expected += [r"answer 401: POST", r"console error: Failed to load resource.* 401"]
    screenshot(page, "login", height=520)
    page.get_by_label("Name").fill("viewer")
    page.get_by_label("Password").fill("not this one")
    page.get_by_label("Password").press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("wrong")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_label("Password").press("Enter")
    page.wait_for_url(running.url("?from=here"))
    page.get_by_role("button", name="Log out").click()
    page.goto(running.url())
    expect(page.get_by_role("heading", name="Log in")).to_be_visible()


def test_charts_are_drawn(ended, visit):
    from playwright.sync_api import expect

    page = visit("viewer", "campaigns/silicon/")
    curve = page.get_by_role("region", name="Learning curve")
    expect(curve.locator("path.js-line").first).to_be_visible()
    assert curve.locator("text.xtitle, text.ytitle").first.text_content()
    volumes = page.get_by_role("region", name="Labelled structures: energy over volume")
    volumes.scroll_into_view_if_needed()
    expect(volumes.locator(".main-svg").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    assert volumes.get_by_text("WebGL is not supported").count() == 0
    assert colours(volumes.locator(".plot").screenshot()) > 100
    page.evaluate("() => window.scrollTo(0, 0)")
    screenshot(page, "campaign")
    page.get_by_role("button", name="Switch between light and dark").click()
    screenshot(page, "campaign-dark")


def test_a_structure_is_opened_from_the_map(ended, visit):
    from playwright.sync_api import expect

    page = visit("viewer", "structures/", viewport={"width": 1200, "height": 1000})
    # chemiscope's own drawing library says this of itself
    page.watch.expected.append(r"/structures/map/.* console warning: Canvas2D")
    page.get_by_role("link", name="Similarity map").click()
    page.get_by_role("link", name="Generation 1").click()
    page.locator("#map[data-drawn]").wait_for(timeout=60_000)
    chart = page.locator("#map .js-plotly-plot").first
    chart.scroll_into_view_if_needed()
    spot = chart.evaluate(POINT)
    page.mouse.move(spot["x"] - 3, spot["y"])
    page.mouse.move(spot["x"], spot["y"])
    expect(chart.locator(".hovertext").first).to_be_visible()
    assert page.get_by_text("WebGL is not supported").count() == 0
    page.mouse.click(spot["x"], spot["y"])
    chosen = page.locator("#chosen a")
    expect(chosen).to_have_text(spot["id"])
    assert colours(chart.screenshot()) > 200
    screenshot(page, "map")
    chosen.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(spot["id"])
    page.wait_for_load_state("networkidle")
    viewer = page.locator("#viewer")
    assert colours(viewer.screenshot()) > 200, "no shaded balls are drawn"
    before = viewer.screenshot()
    page.get_by_role("checkbox", name="cell").uncheck()
    assert viewer.screenshot() != before
    page.get_by_role("checkbox", name="cell").check()
    screenshot(page, "structure")


def test_a_filter_survives_a_reload(ended, visit):
    from playwright.sync_api import expect

    page = visit("viewer", "structures/")
    table = page.get_by_role("table", name="of campaign silicon")
    for _ in range(60):  # the table is computed when somebody looks at it for the first time
        if table.count():
            break
        page.wait_for_timeout(500)
        page.reload()
    every = table.get_by_role("row").count()
    screenshot(page, "structures", height=700)
    page.get_by_label("Purpose").select_option("held-out")
    expect(page).to_have_url(re.compile("purpose=held-out"))
    for _ in range(2):
        expect(page.get_by_label("Purpose")).to_have_value("held-out")
        rows = table.locator("tbody tr")
        assert 0 < rows.count() < every
        assert set(rows.locator("td:nth-child(3)").all_text_contents()) == {"held-out"}
        page.reload()


@pytest.fixture(scope="module")
def failed(ended):
    """A task that has failed for real, with a worker that would take it again; and how to let it succeed."""
    from fireworks import Firework, ScriptTask

    from launchpad.queue import Queue

    mark = ended.place.directory / "mended"
    task = Firework(
        ScriptTask(script=f"echo the disk is not there >&2; test -e {mark}"),
        name="look for the disk",
        spec={"_category": "build", "campaign": "silicon", "generation": 1, "_priority": 20},
    )
    with Queue.from_uri(ended.uri) as queue:
        (fw_id,) = queue.add_wf(task).values()
    worker = ended.place.start("worker", "start", "-n", "1", "--allow", "ScriptTask", log="worker.log")
    yield fw_id, mark
    worker.terminate()
    worker.wait(60)


def test_a_failed_task_is_run_again_by_an_operator_and_not_by_a_viewer(ended, failed, visit):
    from playwright.sync_api import expect

    fw_id, mark = failed
    page = visit("operator", "queue")
    again = page.get_by_role("button", name=f"Run task {fw_id} again")
    expect(again).to_be_visible(timeout=60_000)
    expect(page.get_by_role("listitem").filter(has=again)).to_contain_text("ScriptTask")
    screenshot(page, "queue")
    page.goto(ended.url())
    screenshot(page, "overview")
    page.goto(ended.url("workers"))
    screenshot(page, "workers", height=420)

    other = visit("viewer", f"tasks/{fw_id}")
    expect(other.get_by_role("heading", name=f"Task {fw_id}")).to_be_visible()
    assert other.get_by_role("button", name="Run again").count() == 0
    other.watch.expected += [r"answer 403: POST", r"console error: Failed to load resource.* 403"]
    refused = other.evaluate(
        """async ([url, id]) => { const body = new FormData();
             for (const [k, v] of [["action", "rerun"], ["id", id], ["confirmed", "yes"]]) body.append(k, v);
             return (await fetch(url, { method: "POST", body })).status; }""",
        [ended.url("queue/act"), fw_id],
    )
    assert refused == 403
    assert ended.database.fireworks.find_one({"fw_id": fw_id})["state"] == "FIZZLED"

    page.goto(ended.url(f"tasks/{fw_id}"))
    screenshot(page, "task", height=585)
    mark.touch()
    page.get_by_role("button", name="Run again").click()
    question = page.get_by_role("dialog", name="Run again: 1 task?")
    expect(question).to_be_visible()
    screenshot(page, "confirm", height=520)
    question.get_by_role("button", name="Run again").click()
    expect(page.get_by_role("status").filter(has_text="1 task").first).to_be_visible()
    # seen without a reload when the worker has run it
    expect(page.locator("#task-now dd").first).to_have_text(re.compile("completed"), timeout=60_000)
    trail = [str(entry) for entry in ended.database["audit"].find()]
    assert any("operator" in entry and str(fw_id) in entry for entry in trail), trail


def test_the_generation_s_ladder_leads_to_its_tasks(ended, visit):
    from playwright.sync_api import expect

    page = visit("viewer", "campaigns/silicon/generations/1/tasks")
    screenshot(page, "ladder", height=620)
    page.get_by_role("link", name=re.compile("fit.*: completed")).first.press("Enter")
    expect(page.get_by_role("heading", level=1)).to_contain_text("fit")
