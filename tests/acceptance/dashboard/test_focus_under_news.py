"""Somebody works with the keyboard on a page while its parts are replaced: the focus stays, and stays in sight."""

from __future__ import annotations

from pathlib import Path

import gf_browser
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STATIC = Path(gf_browser.__file__).parents[1] / "launchpad" / "dashboard" / "static"
SITE = "http://127.0.0.1:9"
#: Fetched again when the test says so only.
PAGE = """<!doctype html><html lang="en" data-refresh="3600"><head><title>test</title>
<link rel="stylesheet" href="/static/app.css"></head><body><main id="main"><h1>Queue</h1>
<div id="now" data-live hx-get="/now" hx-trigger="refresh">%s</div>
<label>Kind <input id="kind"></label>
<p style="height: 3000px">Much more</p></main><div id="toasts" role="status"></div><div id="news"></div>
<script src="/static/vendor/htmx.min.js"></script><script src="/static/app.js"></script></body></html>"""
TASK = """<li><p><a href="/tasks/{0}">Task {0}</a></p><p style="height: 200px">Cause</p>
<details id="failure-{0}"><summary>End of the log</summary><pre tabindex="0">Trace</pre></details>
<form><button aria-label="Run again: task {0}">Run again</button></form></li>"""
#: What has the focus, whether that is marked, and where it is in the window.
FOCUS = """() => { const e = document.activeElement, box = e.getBoundingClientRect();
  return [e.id || e.ariaLabel || e.textContent.trim(), parseFloat(getComputedStyle(e).outlineWidth) >= 2,
          box.top >= 0 && box.bottom <= innerHeight, box.top]; }"""


def tasks(*numbers: int) -> str:
    """Return the part of the page that has these failed tasks."""
    return f"<ul>{''.join(TASK.format(number) for number in numbers)}</ul>" if numbers else "<p>None.</p>"


class Desk:
    """A page, and what its server has to say next."""

    def __init__(self, page, now: str) -> None:
        self.page, self.now = page, now

    def news(self, *numbers: int) -> None:
        """Let the part be fetched again and wait until it is replaced."""
        self.now = tasks(*numbers)
        self.page.evaluate(
            """() => new Promise(done => {
                 const part = document.getElementById("now");
                 part.addEventListener("htmx:afterSettle",
                   () => requestAnimationFrame(() => setTimeout(done)), { once: true });
                 part.dispatchEvent(new Event("refresh")); })"""
        )

    def focus(self) -> list:
        """Return what has the focus, and whether one sees that."""
        return self.page.evaluate(FOCUS)


@pytest.fixture
def desk(browser):
    """Return a function that opens the page with these failed tasks."""
    context = browser.new_context(viewport={"width": 900, "height": 500})
    watch = gf_browser.watched(context)

    def show(*numbers: int) -> Desk:
        desk = Desk(context.new_page(), tasks(*numbers))

        def served(route) -> None:
            path = route.request.url.removeprefix(SITE)
            if path.startswith("/static/"):
                route.fulfill(path=STATIC / path.removeprefix("/static/"))
            else:
                body = desk.now if path == "/now" else PAGE % desk.now
                route.fulfill(content_type="text/html; charset=utf-8", body=body)

        context.route("**/*", served)
        desk.page.goto(f"{SITE}/")
        desk.page.keyboard.press(
            "Tab"
        )  # from now on the focus is shown, as to everybody who uses the keyboard
        return desk

    yield show
    context.close()
    watch.check()


@pytest.mark.parametrize("scrolled", [0, 90])
@pytest.mark.parametrize(("before", "after"), [((), (1, 2, 3)), ((1,), (2, 1)), ((3, 2, 1), ())])
def test_what_has_the_focus_stays_where_it_is_when_something_above_comes_or_goes(
    desk, before, after, scrolled
):
    one = desk(*before)
    one.page.locator("#kind").focus()
    one.page.evaluate("by => scrollBy(0, by)", scrolled)
    *seen, top = one.focus()
    assert seen == ["kind", True, True]
    one.news(*after)
    *seen, now = one.focus()
    assert seen == ["kind", True, True]
    if after:  # the page cannot be scrolled above its beginning
        assert abs(now - top) <= 1


@pytest.mark.parametrize("what", ["link", "summary", "log", "button"])
def test_the_focus_stays_on_the_same_one_of_many_that_are_alike(desk, what):
    one = desk(3, 2, 1)
    item = one.page.locator("li").nth(1)
    one.page.evaluate("() => { document.getElementById('failure-2').open = true; }")
    item.locator({"link": "a", "summary": "summary", "log": "pre", "button": "button"}[what]).focus()
    *seen, top = one.focus()
    assert seen[1:] == [True, True]
    mine = "() => document.activeElement.closest('li').querySelector('a').textContent"
    assert one.page.evaluate(mine) == "Task 2"
    for numbers in ((5, 4, 3, 2), (2,), (6, 2, 0)):  # as many before it, fewer, more
        one.news(*numbers)
        assert one.page.evaluate(mine) == "Task 2"
        *same, now = one.focus()
        assert same == seen
        if numbers != (2,):  # the page cannot be scrolled above its beginning
            assert abs(now - top) <= 1
        top = now
        assert one.page.locator("details[open]").evaluate_all("all => all.map(e => e.id)") == ["failure-2"]


def test_when_what_had_the_focus_is_gone_its_neighbour_has_it(desk):
    one = desk(3, 2, 1)
    one.page.get_by_role("button", name="Run again: task 1").focus()
    one.news(3, 2)
    assert one.focus()[:3] == ["Run again: task 2", True, True]
    one.news()
    assert one.focus()[:3] == ["now", True, True]
    one.page.keyboard.press("Tab")
    assert one.focus()[:3] == ["kind", True, True]


def test_whoever_has_scrolled_away_from_the_focus_is_left_there(desk):
    one = desk(2, 1)
    one.page.get_by_role("link", name="Task 1").focus()
    one.page.evaluate("() => scrollTo(0, 2000)")
    below = "() => document.querySelector('main').getBoundingClientRect().bottom"
    before = one.page.evaluate(below)
    one.news(3, 2, 1)
    assert one.focus()[0] == "Task 1"
    assert abs(one.page.evaluate(below) - before) <= 1
