"""The stream through accidents: each line once, in order, and the page says truly how it is."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import time
from typing import Any

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.browser.conftest import READY, House, OpenTab
from tests.browser.test_session_page import (
    COUNTING,
    LONG,
    chip,
    lines,
    numbers,
    run_of,
    start,
    wait_for_connection,
    wait_for_lines,
    wait_for_status,
)
from tests.deployment import wait_until

LINES = 1500
TASK = COUNTING.format(lines=LINES, pause=0.004)


def expect_all_once(page: Page) -> None:
    wait_for_status(page, "Completed")
    expect(page.locator("#log .ln")).to_have_count(LINES, timeout=LONG)
    assert lines(page) == [f"line {number}" for number in range(LINES)]
    assert numbers(page) == list(range(1, LINES + 1))
    seen = page.eval_on_selector_all("#entries [data-seq]", "all => all.map(e => +e.dataset.seq)")
    assert seen == sorted(set(seen))


def test_a_web_process_that_is_asked_to_end(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    start(page, TASK, "asked to end")
    wait_for_lines(page, 100)
    pid = wait_until(house.web_pid, within=READY, what="a web process")
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: house.web_pid() not in (None, pid), within=READY, what="another one")
    expect_all_once(page)
    wait_for_connection(page, "live")


def test_a_connection_that_is_half_open_is_noticed(open_tab: OpenTab, house: House) -> None:
    """The web process stands still: its sockets are open and say nothing."""
    page = open_tab("/")
    page.route_web_socket(re.compile("/ws/"), impatient)
    start(page, TASK, "half open")
    wait_for_lines(page, 100)
    pid = wait_until(house.web_pid, within=READY, what="a web process")
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for_connection(page, "reconnecting")
        words = page.locator("#connection .words")
        expect(words).to_have_text(re.compile(r"^Reconnecting, \d+ s behind$"))
        expect(page.get_by_role("button", name="Retry now")).to_be_visible()
    finally:
        os.kill(pid, signal.SIGCONT)
    expect_all_once(page)
    wait_for_connection(page, "live")


def impatient(socket: WebSocketRoute) -> None:
    """The same server with a heartbeat of two seconds."""
    server = socket.connect_to_server()

    def pass_on(message: str | bytes) -> None:
        frame = json.loads(message)
        if frame["type"] == "hello":
            frame["heartbeat_s"] = 2
        socket.send(json.dumps(frame))

    server.on_message(pass_on)


def test_a_tab_that_was_frozen_catches_up(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    start(page, TASK, "frozen")
    wait_for_lines(page, 50)
    devtools = page.context.new_cdp_session(page)
    devtools.send("Page.setWebLifecycleState", {"state": "frozen"})
    time.sleep(4)
    devtools.send("Page.setWebLifecycleState", {"state": "active"})
    expect_all_once(page)
    wait_for_connection(page, "live")


def test_a_hidden_tab_goes_on(open_tab: OpenTab, house: House) -> None:
    """No animation frame comes there."""
    page = open_tab("/")
    page.add_init_script("window.requestAnimationFrame = () => 0")
    start(page, TASK, "hidden")
    expect_all_once(page)


class BadLine:
    """Frames that are lost, doubled and swapped on the way, by dice."""

    def __init__(self, seed: int) -> None:
        self.counts = {"lost": 0, "doubled": 0, "swapped": 0}
        self._dice = random.Random(seed)

    def __call__(self, socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        held: list[str | bytes] = []

        def pass_on(message: str | bytes) -> None:
            if '"events"' not in str(message)[:80]:
                socket.send(message)
                return
            fate = self._dice.choice([*self.counts, "fine", "fine", "fine"])
            if fate in self.counts:
                self.counts[fate] += 1
            if fate == "swapped":
                held.append(message)
                return
            for _ in range({"lost": 0, "doubled": 2}.get(fate, 1)):
                socket.send(message)
            while held:
                socket.send(held.pop())

        server.on_message(pass_on)


@pytest.mark.parametrize("seed", [11, 29])
def test_a_bad_line_loses_and_doubles_nothing(open_tab: OpenTab, house: House, seed: int) -> None:
    page = open_tab("/")
    bad = BadLine(seed)
    page.route_web_socket(re.compile("/ws/"), bad)
    start(page, TASK, f"bad line {seed}")
    expect_all_once(page)
    assert all(bad.counts.values()), bad.counts
    wait_for_connection(page, "live")


def test_the_last_frame_may_be_lost(open_tab: OpenTab, house: House) -> None:
    """Nothing comes after it: only what the server says it sent shows that it is missing."""
    page = open_tab("/")
    state: dict[str, Any] = {"lose": False, "lost": 0}

    def meddle(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            if state["lose"] and '"events"' in str(message)[:80]:
                state["lost"] += 1
                return
            socket.send(message)

        server.on_message(pass_on)

    page.route_web_socket(re.compile("/ws/"), meddle)
    session = start(page, COUNTING.format(lines=300, pause=0.01), "last frame")
    wait_for_lines(page, 20)
    state["lose"] = True
    house.wait_for(run_of(house, session), "completed")
    page.wait_for_timeout(2500)  # frames pass only while the browser is listened to
    assert state["lost"]
    state["lose"] = False
    page.evaluate("dispatchEvent(new Event('focus'))")  # somebody comes back to the tab
    wait_for_status(page, "Completed")
    expect(page.locator("#log .ln")).to_have_count(300, timeout=LONG)


def test_waking_up_reconnects_at_once(open_tab: OpenTab, house: House) -> None:
    """The socket died in the sleep and nobody said so: a sign of life within three seconds, or
    another one, however long the heartbeat."""
    page = open_tab("/")
    mute: dict[str, Any] = {"is": False, "sockets": 0}

    def meddle(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        mute["sockets"] += 1
        mine = mute["sockets"]
        server.on_message(lambda m: None if mute["is"] and mine == 1 else socket.send(m))

    page.route_web_socket(re.compile("/ws/"), meddle)
    start(page, COUNTING.format(lines=400, pause=0.02), "wake up")
    wait_for_lines(page, 20)
    mute["is"] = True
    page.evaluate("dispatchEvent(new Event('focus'))")
    begun = time.monotonic()
    wait_until(lambda: (page.title(), mute["sockets"] == 2)[1], within=12, what="another socket")
    assert time.monotonic() - begun < 12  # the heartbeat alone would take thirty
    wait_for_connection(page, "live")
    wait_for_status(page, "Completed")
    expect(page.locator("#log .ln")).to_have_count(400)


def test_the_network_goes_and_comes(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    start(page, TASK, "offline")
    wait_for_lines(page, 50)
    page.context.set_offline(True)
    wait_for_connection(page, "offline")
    page.context.set_offline(False)
    wait_for_connection(page, "live")
    expect_all_once(page)


def test_a_new_build_is_said_and_what_was_typed_stays(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    builds = iter(["one", "two", "two", "two"])
    sockets: list[WebSocketRoute] = []

    def meddle(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()
        sockets.append(socket)

        def pass_on(message: str | bytes) -> None:
            frame = json.loads(message)
            if frame["type"] == "hello":
                frame["build"] = next(builds)
            socket.send(json.dumps(frame))

        server.on_message(pass_on)

    page.route_web_socket(re.compile("/ws/"), meddle)
    start(page, "```python\nprint(1)\n```", "new build")
    wait_for_status(page, "Completed")
    field = page.get_by_label("New task")
    field.fill("half a thought")
    sockets[-1].close(code=1012)
    notice = page.locator("#notice")
    expect(notice).to_contain_text("newer version")
    expect(field).to_have_value("half a thought")
    wait_for_connection(page, "live")
    notice.get_by_role("button", name="Reload").click()
    expect(page.get_by_label("New task")).to_have_value("half a thought")
    expect(notice).to_be_hidden()


def test_sign_in_is_asked_for_and_nothing_is_tried_again(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    page.route_web_socket(re.compile("/ws/"), lambda socket: socket.close(code=4401))
    start(page, "```python\nprint(1)\n```", "signed out")
    wait_for_connection(page, "sign-in")
    expect(page.locator("#connection").get_by_role("link", name="Sign in")).to_be_visible()
    assert chip(page)
