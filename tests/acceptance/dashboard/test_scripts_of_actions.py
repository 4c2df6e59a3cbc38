"""What an action leaves of the page on which it was asked for, and where its failure is said."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import gf_browser
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

STATIC = Path(gf_browser.__file__).parents[1] / "launchpad" / "dashboard" / "static"
PAGE = """<!doctype html><html lang="en" data-refresh="60"><head><title>test</title>
<link rel="stylesheet" href="/static/app.css"></head><body><main id="main">%s</main>
<div id="toasts" role="status"></div><div id="news"></div>
<script src="/static/vendor/htmx.min.js"></script><script src="/static/app.js"></script></body></html>"""
TABLE = """<input type="checkbox" name="id" value="1"><input type="checkbox" name="id" value="2">"""
START = f"""<form id="single" method="post" action="/act" data-dialog>
<button name="action" value="rerun">Run again</button></form>
<form id="bulk" method="post" action="/act" data-dialog><div id="table" data-live hx-get="/table" hx-trigger="refresh"
>{TABLE}</div><button name="action" value="pause">Pause</button></form>"""
QUESTION = """<h1>Is it meant?</h1><form method="post" action="/act"><input type="hidden" name="confirmed" value="yes">
<button class="act">Do it</button> <a href="/" data-close>Back</a></form>"""


@pytest.fixture
def site():
    """A server that asks before it acts; ``site.busy``: and then refuses."""

    class Handler(BaseHTTPRequestHandler):
        def send(self, body, status=200, kind="text/html", **headers):
            data = body if isinstance(body, bytes) else body.encode()
            self.send_response(status)
            for name, value in {"Content-Type": kind, "Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self):
            if self.path.startswith("/static/"):
                kind = "text/css" if self.path.endswith("css") else "text/javascript"
                self.send((STATIC / self.path.removeprefix("/static/")).read_bytes(), kind=kind)
            elif self.path == "/done":
                self.send(PAGE % '<p class="happened">1 task done.</p>')
            elif self.path == "/table":
                self.send(TABLE)
            else:
                self.send(PAGE % START)

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            if "confirmed" not in body:
                self.send(PAGE % QUESTION)
            elif self.server.busy:
                self.send(PAGE % '<p class="problem">others are acting on the queue</p>', 409)
            else:
                self.send("", 303, Location="/done")

        def log_message(self, *arguments):
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.busy = False
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def page(site, browser):
    context = browser.new_context()
    context.set_default_timeout(gf_browser.PATIENCE_MS)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{site.server_port}/")
    yield page
    context.close()


def test_what_was_refused_is_said_where_it_can_be_read_and_closed(site, page):
    from playwright.sync_api import expect

    site.busy = True
    page.locator("#single button").click()
    page.locator("dialog .act").click()
    said = page.get_by_text("others are acting on the queue")
    expect(said).to_be_visible()
    # what lies outside of an open question can be neither reached nor heard
    page.get_by_role("button", name="Close this message").click()
    expect(said).to_have_count(0)
    page.get_by_role("link", name="Back").click()
    expect(page.locator("#single button")).to_be_focused()


def test_an_action_on_one_task_keeps_the_ticks_of_others(page):
    from playwright.sync_api import expect

    page.locator("#table [value='2']").check()
    page.locator("#single button").click()
    page.locator("dialog .act").click()
    expect(page.locator("#toasts")).to_contain_text("1 task done.")
    expect(page.locator("#table [value='2']")).to_be_checked()
    page.locator("#bulk button").click()
    page.locator("dialog .act").click()
    expect(page.locator("#table [value='2']")).not_to_be_checked()
