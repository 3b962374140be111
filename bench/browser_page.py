"""The session page in Chromium: a long log opened, and many lines arriving through a server kill."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, sync_playwright

from bench.crowd import Writer
from bench.figures import Figure
from bench.idle_sockets import only_web, pss_kb
from tests.browser.conftest import CHROMIUM, QUIET
from tests.deployment import Deployment, all_pids, command_line, wait_until

LONG_LOG = 100_000  # events
OPENINGS = 5
PROMISED_INTERACTIVE_S = 1.0
BURSTS = (20_000, 100_000)  # lines
LINES_AN_EVENT, LINES_A_SECOND = 100, 10_000
SIGN_IN = """
import json, sys
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
client = Client()
client.force_login(User.objects.get(username="alice"))
name = settings.SESSION_COOKIE_NAME
sys.stdout.write(json.dumps({"name": name, "value": client.cookies[name].value}))
"""
# from the start of the navigation, by the browser's clock
OBSERVE = """
addEventListener("DOMContentLoaded", () => {
  const root = document.documentElement;
  const note = () => { if (root.dataset.conn === "live") window.liveAt ??= performance.now(); };
  new MutationObserver(note).observe(root, { attributes: true });
  note();
});
window.longTasks = [];
new PerformanceObserver((list) => window.longTasks.push(...list.getEntries().map((e) => e.duration)))
  .observe({ type: "longtask", buffered: true });
"""
TIMES = """() => {
  const [page] = performance.getEntriesByType("navigation");
  return { interactive: page.domInteractive, answered: page.responseEnd - page.requestStart,
    loaded: page.domContentLoadedEventEnd, live: window.liveAt ?? 0, bytes: page.encodedBodySize };
}"""
SHOWN = "all => all.map(line => +line.dataset.n)"


@dataclass(frozen=True)
class Tab:
    page: Page
    cdp: CDPSession
    url: str

    def metric(self, name: str) -> float:
        found = self.cdp.send("Performance.getMetrics")["metrics"]
        return float(next(each["value"] for each in found if each["name"] == name))

    def open(self) -> dict[str, float]:
        """The times of one opening, once the page is live."""
        self.page.goto(self.url)
        self.wait_until_live()
        times: dict[str, float] = self.page.evaluate(TIMES)
        return times

    def wait_until_live(self) -> None:
        live = self.page.locator("html[data-conn=live]")
        wait_until(live.count, within=60, what="a live page")

    def last_line(self) -> int:
        return int(self.page.locator("#log .ln").last.get_attribute("data-n") or 0)


def measure() -> Iterator[Figure]:
    with sync_playwright() as playwright, only_web("embedded") as house, Writer(house) as writer:
        path = next(path for path in CHROMIUM if Path(path).exists())
        browser = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield from opening(browser, house, writer)
        for lines in BURSTS:
            yield from burst(browser, house, writer, lines)
        browser.close()


@contextmanager
def tab(browser: Browser, house: Deployment, session: str) -> Iterator[Tab]:
    context: BrowserContext = browser.new_context(viewport={"width": 1280, "height": 800})
    cookie = json.loads(house.python(SIGN_IN))
    context.add_cookies([{"name": cookie["name"], "value": cookie["value"], "url": house.url}])
    context.add_init_script(OBSERVE)
    page = context.new_page()
    cdp = context.new_cdp_session(page)
    cdp.send("Performance.enable")
    yield Tab(page, cdp, f"{house.url}/sessions/{session}/")
    context.close()


def opening(browser: Browser, house: Deployment, writer: Writer) -> Iterator[Figure]:
    """A session of 100,000 events, as a person meets it who comes back."""
    session = writer.order("make", number=1)[0]
    writer.order("fill", session=session, events=LONG_LOG)
    what = f"opening {LONG_LOG:,} events"
    with tab(browser, house, session) as opened:
        cookies = {c["name"]: c["value"] for c in opened.page.context.cookies()}
        opened.open()  # style and script are in the browser's cache from here on
        times = [opened.open() for _ in range(OPENINGS)]
        answers = [seconds_of(opened.url, cookies) for _ in range(OPENINGS)]
    yield Figure(f"{what}: the page, by the server", "embedded", "s", answers)
    yield Figure(f"{what}: its size", "embedded", "KB", [times[0]["bytes"] / 1024])
    for name, key, bound in (
        ("interactive", "loaded", PROMISED_INTERACTIVE_S),
        ("live", "live", None),
    ):
        yield Figure(f"{what}: {name}", "embedded", "s", [t[key] / 1000 for t in times], bound)


def seconds_of(url: str, cookies: dict[str, str]) -> float:
    began = time.perf_counter()
    httpx.get(url, cookies=cookies, timeout=60).raise_for_status()
    return time.perf_counter() - began


def burst(browser: Browser, house: Deployment, writer: Writer, lines: int) -> Iterator[Figure]:
    """Lines arrive while the page is open; at half of them the web process is killed."""
    session = writer.order("make", number=1)[0]
    with tab(browser, house, session) as opened:
        opened.open()
        busy, began = opened.metric("TaskDuration"), time.time()
        writer.send(
            "print_lines", session=session, lines=lines, rate=LINES_A_SECOND, each=LINES_AN_EVENT
        )
        time.sleep(lines / LINES_A_SECOND / 2)
        house.kill("web")
        house.start_web()
        writer.answer()
        wait_until(lambda: opened.last_line() >= lines, within=180, what="the last line", every=0.5)
        took = time.time() - began
        opened.wait_until_live()
        busy = opened.metric("TaskDuration") - busy
        shown = opened.page.eval_on_selector_all("#log .ln", SHOWN)
        wrong = sum(
            1 for number, line in enumerate(shown, lines - len(shown) + 1) if number != line
        )
        longest = opened.page.evaluate("Math.max(0, ...window.longTasks)")
        heap, renderer = opened.metric("JSHeapUsedSize"), renderer_kb()
    what = f"Chromium, {lines:,} lines and a server kill"
    yield Figure(f"{what}: lines shown that are not the next", "embedded", "lines", [wrong], 0)
    yield Figure(f"{what}: all there", "embedded", "s", [took])
    yield Figure(f"{what}: main thread", "embedded", "s", [busy])
    yield Figure(f"{what}: its longest task", "embedded", "ms", [longest])
    yield Figure(f"{what}: renderer, PSS", "embedded", "MB", [renderer / 1024])
    yield Figure(f"{what}: JavaScript heap", "embedded", "MB", [heap / 2**20])


def renderer_kb() -> int:
    """Of the largest renderer: the one with the page."""
    return max(pss_kb(pid) for pid in all_pids() if "--type=renderer" in command_line(pid))
