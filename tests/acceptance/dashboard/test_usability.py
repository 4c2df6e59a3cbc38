"""Every page is usable by everybody: axe-core's audit in light and dark and on a phone, and the keyboard alone."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from gf_browser import another_picture, audit, pictures, screenshot, settled, wait_until

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[3]
PHONE = {"width": 360, "height": 740}
#: How wide the page is.
WIDTH = "() => document.documentElement.scrollWidth"
#: What depends on the colours.
COLOURS = ("color-contrast", "link-in-text-block")
#: What the button of the frame does.
IN = """async theme => {
  const before = Date.now();
  document.documentElement.dataset.theme = theme;
  document.dispatchEvent(new CustomEvent("theme"));
  const old = () => [...document.querySelectorAll("[data-chart]:not(.bare) .plot[data-drawn]")]
    .some(e => Number(e.dataset.drawn) < before);
  while (old()) await new Promise(done => setTimeout(done, 50));
}"""
#: Names a stop of the tab key.
STOP = """e => `${e.tagName} ${e.ariaLabel || e.textContent.trim().slice(0, 40) || e.name}`"""
#: The names of all of them.
STOPS = f"""() => [...document.querySelectorAll(
    "a[href], button, input:not([type=hidden]), select, summary, [tabindex='0']")]
  .filter(e => !e.disabled && e.tabIndex >= 0 && e.checkVisibility() && !(e.type === "radio" && !e.checked))
  .map({STOP})"""
#: The name of the one with the focus, and whether one sees that.
FOCUSED = f"""() => {{
  const e = document.activeElement, s = getComputedStyle(e), box = e.getBoundingClientRect();
  const seen = parseFloat(s.outlineWidth) >= 2 && s.outlineStyle !== "none";
  return [e === document.body ? "" : ({STOP})(e),
          e === document.body || (seen && box.bottom > 0 && box.top < innerHeight)];
}}"""
#: Page, by the name of its template -> where it is.
PAGES = {
    "overview": "",
    "campaigns": "campaigns/",
    "campaign": "campaigns/silicon/",
    "campaign_figures": "campaigns/silicon/figures/",
    "campaign_vibrations": "campaigns/silicon/vibrations/",
    "campaign_settings": "campaigns/silicon/settings?from=0&to=1",
    "campaign_recoveries": "campaigns/silicon/recoveries",
    "structures": "structures/",
    "structure": "structures/of/silicon/g001/relaxation/000001",
    "structures_beside": "structures/beside?a=silicon/g001/relaxation/000001&b=silicon/g001/relaxation/000002",
    "structure_map": "structures/map/silicon/1",
    "queue": "queue",
    "task": "tasks/{licence}",
    "graph": "campaigns/silicon/generations/1/tasks",
    "workers": "workers",
    "users": "users/",
    "account": "account/",
    "audit": "audit/",
    "api": "/api/v1/",
    "login": "/login",
    "error": "campaigns/none/",
}
#: Page that asks whether something is meant -> where one acts, what one ticks there, and the button.
QUESTIONS = {
    "confirm_tasks": ("queue?state=FIZZLED", "table.tasks tbody input", "Run again"),
    "confirm_campaign": ("", None, re.compile(": silicon$")),
    "confirm_account": ("users/", None, "Remove operator"),
    "confirm_workers": ("workers", "tbody input[type=checkbox]", "Ask the ticked ones to stop"),
}
#: What stands for the variable parts of addresses.
EXAMPLES = {
    "campaign": "silicon",
    "name": "silicon",
    "generation": 0,
    "number": 0,
    "key": "silicon/g000/cell/000000",
    "structure": "silicon/g000/cell/000000",
    "fw_id": 1,
    "kind": "extxyz",
    "filename": "app.css",
}


@pytest.fixture(scope="module")
def routes(ended):
    """The dashboard's addresses."""
    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

    # no request is ever made of it: it only knows the addresses
    app = create_app([Group(ended.group, "mongodb://127.0.0.1:1/")], DashboardSettings(), b"k" * 32)
    return app.url_map


def test_no_page_is_left_out(ended, visit, routes):
    layout = 'extends "layout.html"'
    templates = (ROOT / "launchpad" / "dashboard" / "templates").glob("*.html")
    pages = {path.stem for path in templates if layout in path.read_text(encoding="utf-8")}
    assert pages == {*PAGES, *QUESTIONS}, "a page is not audited: say above where it is"
    bound = routes.bind("127.0.0.1")
    known = {
        bound.match(urlsplit(ended.url(path.format(licence=1))).path, method="GET")[0]
        for path in PAGES.values()
    }
    page = visit("admin")
    for rule in routes.iter_rules():
        if "GET" not in rule.methods or rule.endpoint in known or rule.endpoint.startswith("api."):
            continue
        values = {name: EXAMPLES.get(name) for name in rule.arguments} | {"group": ended.group}
        if rule.endpoint.startswith("campaigns.") and "key" in values:
            values |= {"key": "learning_curve", "kind": "svg"}
            if rule.endpoint == "campaigns.published":
                values |= {"key": "polymorphs"}
        assert None not in values.values(), f"{rule.rule}: give an example of its variable parts above"
        address = bound.build(rule.endpoint, {k: v for k, v in values.items() if k in rule.arguments})
        answer = page.request.get(ended.address + address, max_redirects=0)
        assert answer.status in (200, 202, 302, 303), (address, answer.status)
        assert answer.status != 200 or "<html" not in answer.text()[:2000], (
            f"{rule.endpoint} is a page that is not audited"
        )
    assert (ROOT / "docs" / "images" / "dashboard").is_dir()
    shown = {path.stem for path in (ROOT / "docs" / "images" / "dashboard").glob("*.png")}
    assert pictures() or shown >= pages, f"without a picture in docs/images/dashboard: {pages - shown}"


@pytest.mark.parametrize("name", [*PAGES, *QUESTIONS])
def test_every_page_passes_the_audit_and_fits_a_phone(ended, failed, visit, name):
    if pictures() and name == "confirm_campaign":
        return  # the campaign of the pictures has ended by itself, and nothing can be asked about it
    path, tick, button = (PAGES[name], None, None) if name in PAGES else QUESTIONS[name]
    page = visit(
        None if name == "login" else "admin",
        # a picture shows no place of one machine, as the log of what failed does
        path.format(licence=3 if pictures() else failed[0][1]) if name != "error" else "campaigns/",
        bypass_csp=True,  # the audit is a script of its own that pages would not run
        color_scheme="light",
    )
    if name == "error":
        page.watch.expected += [r"answer 404", r"console error: Failed to load resource.* 404"]
        page.goto(ended.url(path))
    if tick:
        page.locator(tick).first.check()
    if button:
        page.get_by_role("button", name=button).first.click()
        page.locator(".act").last.wait_for()
    if name == "structures":  # the table is worked out when somebody looks at it for the first time
        page.locator("#structures tbody tr").first.wait_for()
    draw_all(page)
    if name == "structures_beside":  # colours are worked out when somebody looks for the first time
        page.locator("#legend1 .ramp").wait_for()
        page.locator("#legend2 .ramp").wait_for()
    wrong = audit(page)
    if pictures():
        screenshot(page, name)
        if name == "campaign":
            screenshot(page, "campaign-charts", highest=6000)
        elif name == "campaign_figures":
            screenshot(page, name, highest=3000)
    page.evaluate(IN, "dark")
    if name == "campaign":
        screenshot(page, "campaign-dark")
    wrong += [f"dark: {text}" for text in audit(page, *COLOURS)]
    page.set_viewport_size(PHONE)
    # charts that were drawn for a wider window are drawn anew
    wait_until(
        page, lambda: page.evaluate(WIDTH) <= PHONE["width"], f"as narrow as a phone: {too_wide(page)}"
    )
    wrong += [f"dark on a phone: {text}" for text in audit(page)]
    page.evaluate(IN, "light")
    wrong += [f"on a phone: {text}" for text in audit(page, *COLOURS)]
    assert not wrong, "\n".join(wrong)


def draw_all(page) -> None:
    """Let everything be drawn that is drawn when one comes near it."""
    settled(page)
    for chart in page.locator("[data-chart]").all():
        chart.scroll_into_view_if_needed()
        settled(page)


def too_wide(page) -> str:
    """Return the innermost elements that stick out."""
    return page.evaluate(
        """() => [...document.querySelectorAll("main *, header *")].filter(e => !e.closest(".wide, pre, svg")
             && e.getBoundingClientRect().right > innerWidth + 1)
             .slice(-3).map(e => e.outerHTML.slice(0, 120)).join(" | ")"""
    )


def test_the_first_stop_skips_the_menu(ended, visit):
    page = visit("operator")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    assert skip.evaluate("e => e === document.activeElement && e.getBoundingClientRect().left >= 0")
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"


@pytest.mark.parametrize(
    "name",
    [
        "overview",
        "campaign",
        "campaign_figures",
        "structures",
        "structure",
        "structures_beside",
        "queue",
        "task",
        "workers",
    ],
)
def test_everything_can_be_reached_and_seen_with_the_keyboard(ended, failed, visit, name):
    page = visit("operator", PAGES[name].format(licence=failed[0][1]))
    draw_all(page)
    page.evaluate("() => window.scrollTo(0, 0)")
    wanted = Counter(page.evaluate(STOPS))
    reached = Counter()
    for _ in range(2 * sum(wanted.values()) + 50):
        page.keyboard.press("Tab")
        stop, seen = page.evaluate(FOCUSED)
        assert seen, f"one does not see where one is: {stop!r}"
        reached[stop] += 1
        if not wanted - reached:
            break
    assert not wanted - reached, wanted - reached


def test_who_is_among_the_tasks_stays_there_while_another_one_fails(ended, failed, fails, visit):
    page = visit("operator", "queue")
    tick = page.get_by_label("Tick every task of this page")
    tick.focus()
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Tab")
    before = tick.bounding_box()["y"]
    news = fails("key", "echo the key is not there >&2; exit 4")
    page.get_by_role("button", name=f"Run again: task {news}").wait_for()
    stop, seen = page.evaluate(FOCUSED)
    assert (stop, seen) == ("INPUT Tick every task of this page", True)
    assert abs(tick.bounding_box()["y"] - before) <= 1


def test_a_table_is_sorted_and_a_structure_is_looked_at_with_the_keyboard(ended, visit):
    from playwright.sync_api import expect

    page = visit("viewer", "structures/?view=relaxation&generation=1")
    page.get_by_role("link", name="Energy (eV/atom)").press("Enter")
    page.wait_for_url(re.compile("sort="))
    expect(page.get_by_role("columnheader", name="Energy (eV/atom)")).to_have_attribute(
        "aria-sort", re.compile("ending")
    )
    first = page.locator("#structures tbody a").first
    first.focus()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#structures tbody a").nth(1)).to_be_focused()
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    settled(page)
    viewer = page.locator("#viewer")
    viewer.focus()
    before = viewer.screenshot()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    turned = another_picture(viewer, before, "arrow keys turn it")
    page.keyboard.press("+")
    another_picture(viewer, turned, "it is nearer")


def test_a_question_is_answered_with_the_keyboard(ended, failed, visit):
    from playwright.sync_api import expect

    page = visit("operator", f"tasks/{failed[0][1]}")
    button = page.locator("#task-now").get_by_role("button", name="Run again")
    for key in ("Escape", "Enter"):
        button.press("Enter")
        page.locator("dialog .act").wait_for()
        stops = []
        for _ in range(7):  # the tab key does not leave the question
            stops.append(page.evaluate("() => document.activeElement.textContent.trim()"))
            if key == "Enter" and stops[-1] == "Back without doing it":
                break
            page.keyboard.press("Tab")
        assert {"Run again", "Back without doing it"} <= {*stops, "Run again"}, stops
        page.keyboard.press(key)
        page.locator("dialog .act").wait_for(state="detached")
        expect(button).to_be_focused()
    assert ended.database.fireworks.find_one({"fw_id": failed[0][1]})["state"] == "FIZZLED"


def test_a_state_is_never_told_by_its_colour_alone(ended, failed, visit):
    page = visit("viewer")
    for path in (
        "",
        "queue",
        "campaigns/silicon/generations/0/tasks",
        "campaigns/silicon/generations/1/tasks",
    ):
        page.goto(ended.url(path))
        mute = page.evaluate(
            """() => [...document.querySelectorAll("[class*='state-']")].filter(e => {
                 const state = [...e.classList].find(c => c.startsWith("state-")).slice(6);
                 return !e.matches("svg *") ? !e.textContent.toLowerCase().includes(state)
                   : !/[✓▶▷○·!‖×−]/.test(e.querySelector("text").textContent);
               }).map(e => e.outerHTML.slice(0, 200))"""
        )
        assert mute == [], path


def test_light_and_dark_are_kept(ended, visit):
    page = visit("viewer", color_scheme="light")
    paper = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Switch between light and dark").click()
    dark = page.evaluate(paper)
    page.reload()
    assert page.evaluate(paper) == dark != light
