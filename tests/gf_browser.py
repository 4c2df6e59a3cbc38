"""Debian's Chromium for the tests, watched: what pages write to the console, what fails, what leaves this machine."""

from __future__ import annotations

import os
import re
import shutil
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, BrowserContext, Locator, Page

#: No sandbox as root; WebGL on the processor; nothing of the browser's own talks to anybody.
FLAGS = (
    "--no-sandbox",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
#: Of every account that the tests make.
PASSWORD = "correct horse battery"  # noqa: S105
#: Milliseconds that anything in a page may take on a busy machine.
PATIENCE_MS = 120_000
_LOOPBACK = {"127.0.0.1", "localhost", "::1"}
#: What a page's policy forbids is told on the console, also by what is silent about it.
_TELL_POLICY = """addEventListener("securitypolicyviolation", e => console.error(
  `the policy forbids ${e.violatedDirective}: ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));"""
#: What is in sight and neither drawn nor said to have nothing to draw.
_UNDRAWN = """() => [...document.querySelectorAll("[data-chart], .viewer, #map, #waiting")].filter(e => {
  const box = e.getBoundingClientRect();
  if (box.top > innerHeight || box.bottom < 0) return false;
  if (!e.dataset.chart) return !e.dataset.drawn;
  const note = e.querySelector(".note").textContent;
  return !e.querySelector(".plot[data-drawn]") && (note === "" || /^(Computing|Being worked out)/.test(note));
}).map(e => e.id)"""
#: Comes back when the page has been painted: a new size of the window is told to scripts when that is done.
_PAINTED = "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
_AXE = Path(__file__).parents[1] / "launchpad" / "dashboard" / "static" / "vendor" / "axe.min.js"


def chromium() -> str | None:
    """Return the browser's path."""
    return shutil.which("chromium")


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Start the browser."""
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        yield started
        started.close()


@dataclass
class Watch:
    """What went wrong in the pages of a context.

    Attributes
    ----------
    expected
        Regular expressions of what the test provokes.
    """

    found: list[str] = field(default_factory=list)
    # somebody may type before the page has put the cursor where it wants it; plotly says that it stops to shift margins
    expected: list[str] = field(
        default_factory=lambda: [
            "console info: Autofocus processing was blocked",
            "console trace: WARN: Too many auto-margin redraws",
        ]
    )

    def check(self) -> None:
        """Fail if anything went wrong that was not expected."""
        wrong = [text for text in self.found if not any(re.search(e, text) for e in self.expected)]
        assert not wrong, "\n".join(wrong)


def watched(context: BrowserContext) -> Watch:
    """Record everything that pages of this context must not do."""
    watch = Watch()

    def request(sent: Any) -> None:
        parts = urlsplit(sent.url)
        if parts.scheme not in ("data", "blob") and parts.hostname not in _LOOPBACK:
            watch.found.append(f"a request left this machine: {sent.url}")

    def console(message: Any) -> None:
        # of whatever level: pages print nothing
        watch.found.append(
            f"{message.page.url if message.page else ''} console {message.type}: {message.text}"
        )

    def answer(received: Any) -> None:
        if received.status >= 400:
            watch.found.append(f"answer {received.status}: {received.request.method} {received.url}")

    context.add_init_script(_TELL_POLICY)
    context.on("request", request)
    context.on("console", console)
    context.on("response", answer)
    context.on("weberror", lambda error: watch.found.append(f"script: {error.error}"))
    context.set_default_timeout(PATIENCE_MS)
    return watch


def audit(page: Page, *rules: str) -> list[str]:
    """Return the serious and critical findings of axe-core, in the page as painted; all rules unless some are named."""
    page.evaluate(_PAINTED)
    if not page.evaluate("'axe' in window"):
        page.add_script_tag(path=_AXE)
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": list(rules)}
    found = page.evaluate("options => axe.run(document, options)", options)["violations"]
    return [
        f"{page.url}: {f['id']} ({f['impact']}): {f['help']}: {f['nodes'][0]['html'][:200]} "
        f"{f['nodes'][0]['failureSummary'][:300]}"
        for f in found
        if f["impact"] in ("serious", "critical")
    ]


def colours(png: bytes) -> int:
    """Return how many different colours a picture has: a grey box with a sentence has few."""
    import io

    import numpy as np
    from matplotlib.image import imread

    pixels = (imread(io.BytesIO(png))[..., :3] * 255).astype(np.uint32)
    return len(np.unique(pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]))


def log_in(page: Page, name: str, password: str = PASSWORD) -> None:
    """Log in by the form that is shown."""
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Log in").click()


def settled(page: Page) -> None:
    """Wait until charts, map and structure that are in sight are drawn, or say why there is nothing to draw."""
    from playwright.sync_api import Error

    until = time.monotonic() + PATIENCE_MS / 1000
    undrawn = ["the page"]
    while undrawn:
        assert time.monotonic() < until, f"{page.url}: not drawn: {', '.join(undrawn)}"
        page.wait_for_load_state("load")
        try:
            undrawn = page.evaluate(_UNDRAWN)
        except Error as error:
            if "navigation" not in str(error):
                raise
            continue  # it loads itself again, because a map is there now
        if undrawn:
            page.wait_for_timeout(100)


def wait_until(page: Page, holds: Callable[[], Any], what: str) -> Any:
    """Wait until something holds while the page goes on, and return what it is then."""
    until = time.monotonic() + PATIENCE_MS / 1000
    while not (found := holds()):
        assert time.monotonic() < until, f"{page.url}: not within {PATIENCE_MS / 1000:.0f} s: {what}"
        page.wait_for_timeout(100)
    return found


def another_picture(shown: Locator, before: bytes, what: str) -> bytes:
    """Wait until something looks otherwise than before, and return its picture."""

    def changed() -> bytes | None:
        now = shown.screenshot()
        return now if now != before else None

    picture: bytes = wait_until(shown.page, changed, what)
    return picture


def pictures() -> Path | None:
    """Return where pictures for the documentation are to be written: what GAPFACTORY_SCREENSHOTS names, else None."""
    place = os.environ.get("GAPFACTORY_SCREENSHOTS")
    return Path(place) if place else None


def screenshot(page: Page, name: str, *, highest: int = 1000) -> None:
    """Write a picture of a page, down to its end or `highest` pixels, if pictures are asked for."""
    place = pictures()
    if place is None:
        return
    before = page.viewport_size
    page.set_viewport_size({"width": 1200, "height": highest})
    settled(page)
    end = page.evaluate(
        "() => Math.ceil(document.querySelector('main').getBoundingClientRect().bottom + scrollY)"
    )
    page.set_viewport_size({"width": 1200, "height": min(max(end, 520), highest)})
    page.evaluate("() => window.scrollTo(0, 0)")
    page.wait_for_timeout(1500)  # charts are drawn again at the new size
    page.screenshot(path=place / f"{name}.png")
    if before:
        page.set_viewport_size(before)
