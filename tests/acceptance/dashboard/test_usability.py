"""Every page is usable by everybody: axe-core's audit in light and dark, the keyboard, a phone."""

from __future__ import annotations

from collections import Counter
from urllib.parse import urlsplit

import pytest
from gf_browser import audit

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(300)]
PHONE = {"width": 360, "height": 740}
#: Pages that links lead to from the first one; one of each kind is looked at.
EXPECTED = {"overview.page", "login.form"}


@pytest.fixture(scope="module")
def kinds(ended):
    """Return a function that names the kind of page at an address."""
    from launchpad.dashboard.app import create_app
    from launchpad.dashboard.groups import Group
    from launchpad.dashboard.settings import DashboardSettings

    # no request is ever made of it: it only knows the addresses
    app = create_app([Group(ended.group, "mongodb://127.0.0.1:1/")], DashboardSettings(), b"k" * 32)
    routes = app.url_map.bind("127.0.0.1")

    def kind(address: str) -> str:
        return routes.match(urlsplit(address).path, method="GET")[0]

    return kind


def follow(page, running, kinds):
    """Open one page of each kind that links lead to; yield the kinds."""
    seen, waiting = set(), [running.url()]
    while waiting:
        address = waiting.pop(0)
        if kinds(address) in seen or kinds(address) == "static":
            continue
        seen.add(kinds(address))
        answer = page.request.get(address)
        assert answer.ok, (address, answer.status)
        if not answer.headers["content-type"].startswith("text/html"):
            continue
        page.goto(address)
        page.wait_for_load_state("networkidle")
        yield kinds(address)
        hrefs = page.eval_on_selector_all(  # links of drawings know no absolute address
            "a[href]", "links => links.map(link => new URL(link.getAttribute('href'), document.baseURI).href)"
        )
        waiting += [href for href in hrefs if href.startswith(running.url()) and "#" not in href]


def test_every_page_passes_the_audit_and_fits_a_phone(ended, visit, kinds):
    page = visit("admin", bypass_csp=True, color_scheme="light")
    wrong, seen = [], set()
    for kind in follow(page, ended, kinds):
        seen.add(kind)
        wrong += audit(page)
        page.evaluate("() => { document.documentElement.dataset.theme = 'dark'; }")
        wrong += [f"dark: {text}" for text in audit(page, "color-contrast")]
        wide = page.viewport_size
        page.set_viewport_size(PHONE)
        width = settled_width(page)
        if width > PHONE["width"]:
            wrong.append(f"{page.url}: {width} pixels wide on a phone of {PHONE['width']}: {too_wide(page)}")
        page.set_viewport_size(wide)
    page = visit(None, bypass_csp=True)
    seen.add(kinds(page.url))
    wrong += audit(page)
    assert not wrong, "\n".join(wrong)
    assert seen >= EXPECTED, seen


def settled_width(page) -> int:
    """Width of the page, once charts that were drawn for a wider window are drawn anew (5 s at most)."""
    for _ in range(25):
        width = page.evaluate("() => document.documentElement.scrollWidth")
        if width <= PHONE["width"]:
            break
        page.wait_for_timeout(200)
    return width


def too_wide(page) -> str:
    """Return the innermost elements that stick out."""
    return page.evaluate(
        """() => [...document.querySelectorAll("main *, header *")].filter(e => !e.closest(".wide, pre, svg")
             && e.getBoundingClientRect().right > innerWidth + 1)
             .slice(-3).map(e => e.outerHTML.slice(0, 120)).join(" | ")"""
    )


def test_everything_can_be_reached_and_seen_with_the_keyboard(ended, visit):
    page = visit("operator")
    page.keyboard.press("Tab")
    skip = page.get_by_role("link", name="Skip to the content")
    assert skip.evaluate("e => e === document.activeElement && e.getBoundingClientRect().left >= 0")
    page.keyboard.press("Enter")
    assert page.evaluate("() => document.activeElement.id") == "main"
    page.evaluate("() => document.activeElement.blur()")
    page.goto(ended.url())
    wanted = page.evaluate(
        """() => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary")]
             .filter(e => !e.disabled && e.checkVisibility()).map(e => e.textContent.trim())"""
    )
    reached = []
    for _ in range(len(wanted) + 10):
        page.keyboard.press("Tab")
        found = page.evaluate(
            """() => { const e = document.activeElement, s = getComputedStyle(e);
                 const seen = parseFloat(s.outlineWidth) >= 2 && s.outlineStyle !== "none";
                 return [e.textContent.trim(), e === document.body || seen]; }"""
        )
        assert found[1], f"one does not see where one is: {found[0]!r}"
        reached.append(found[0])
    assert not Counter(wanted) - Counter(reached), Counter(wanted) - Counter(reached)


def test_a_swap_takes_away_neither_focus_nor_what_is_unfolded_nor_sideways_scroll(ended, visit):
    page = visit("operator", viewport=PHONE)
    part = page.locator("#overview")
    link = part.get_by_role("link", name="silicon", exact=True)
    link.focus()
    box = part.locator(".wide").first
    box.evaluate("e => { e.scrollLeft = 60; }")
    # something is new: the server's answer differs from what is shown
    part.evaluate("e => { e.querySelector('table').insertAdjacentHTML('afterend', '<p id=old>old</p>'); }")
    page.locator("#old").wait_for(state="detached")
    assert link.evaluate("e => e === document.activeElement"), "the focus is lost"
    assert box.evaluate("e => e.scrollLeft") == 60


def test_light_and_dark_are_kept(ended, visit):
    page = visit("viewer", color_scheme="light")
    paper = "() => getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(paper)
    page.get_by_role("button", name="Switch between light and dark").click()
    dark = page.evaluate(paper)
    page.reload()
    assert page.evaluate(paper) == dark != light
