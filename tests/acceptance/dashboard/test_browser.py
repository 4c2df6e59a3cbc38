"""A person watches a campaign that runs, in a browser."""

from __future__ import annotations

import re

import pytest
from gf_browser import screenshot

pytestmark = [pytest.mark.database, pytest.mark.slow, pytest.mark.timeout(300)]
PASSWORD = "correct horse battery"  # noqa: S105


def test_a_generation_is_followed_to_its_end_without_a_reload(running, visit):
    from playwright.sync_api import expect

    page = visit("viewer", viewport={"width": 900, "height": 260})
    row = page.get_by_role("row", name=re.compile("silicon"))
    expect(row.get_by_text("0 of 18").or_(row.get_by_text("running")).first).to_be_visible()
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
