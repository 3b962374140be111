"""What a person sees of agents that think: words as they are written, code, cost, waiting, no AI."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import House, OpenTab
from tests.browser.test_session_page import (
    LONG,
    overflow,
    run_of,
    start,
    wait_for_status,
)
from tests.endpoint import Endpoint, Request, sum_of_squares, task_of


class Held:
    """Holds the endpoint in the middle of its answers until it is let go."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self.came = threading.Event()

    def __call__(self, request: Request) -> None:
        del request
        self.came.set()
        self._go.wait(LONG / 1000)

    def let_go(self) -> None:
        self._go.set()


@pytest.fixture
def held(endpoint: Endpoint) -> Iterator[Held]:
    made = Held()
    endpoint.on_half = made
    yield made
    made.let_go()


def think(page: Page, endpoint: Endpoint, task: str, name: str, **settings: str) -> str:
    """Start a task for the model; the id of its session."""
    page.goto("/sessions/new/")
    page.get_by_label("Task", exact=True).fill(task)
    page.get_by_label("Name").fill(name)
    page.get_by_text("Settings").click()
    page.get_by_label("Model", exact=True).fill(endpoint.style.model)
    for label, value in settings.items():
        page.get_by_label(label, exact=True).select_option(value)
    page.get_by_role("button", name="Start").click()
    page.wait_for_url(re.compile(r"/sessions/[0-9a-f-]{36}/"))
    return page.url.rstrip("/").rpartition("/")[2]


def said(page: Page) -> list[str]:
    """By agents, whole and partial, in the order of the page."""
    return page.locator("#thread .msg.agent .prose").all_text_contents()


# -- words as they are written ------------------------------------------------------------------
def test_words_come_while_they_are_written_and_once(
    open_tab: OpenTab, house: House, endpoint: Endpoint, held: Held
) -> None:
    page = open_tab("/")
    session = think(page, endpoint, "Explain the drag scale.", "live", Agent="researcher")
    expect(page.locator(".msg.draft")).to_contain_text("What matters", timeout=LONG)
    assert len(said(page)) == 1
    late = open_tab(f"/sessions/{session}/")  # opened in the middle
    expect(late.locator(".msg.draft")).to_contain_text("What matters")
    held.let_go()
    for tab in (page, late):
        wait_for_status(tab, "Completed")
        expect(tab.locator(".msg.draft")).to_have_count(0)
        (whole,) = said(tab)
        assert whole.count("What matters") == 1
        assert "multipole" in whole
    assert said(page) == said(late) == said(open_tab(f"/sessions/{session}/"))


def test_words_that_a_kill_cut_off_do_not_stay(
    open_tab: OpenTab, house: House, endpoint: Endpoint, held: Held
) -> None:
    page = open_tab("/")
    session = think(page, endpoint, "Explain the silk damping.", "cut", Agent="researcher")
    expect(page.locator(".msg.draft")).to_contain_text("What matters", timeout=LONG)
    os.kill(house.engine_of(run_of(house, session)), signal.SIGKILL)
    held.let_go()
    wait_for_status(page, "Completed")
    expect(page.locator(".note", has_text="Interrupted, going on by itself")).to_be_visible()
    expect(page.locator(".msg.draft")).to_have_count(0)
    (whole,) = said(page)
    assert whole.count("What matters") == 1
    page.reload()
    assert said(page) == [whole]


# -- work ---------------------------------------------------------------------------------------
def test_code_its_end_and_what_it_cost_are_seen(
    open_tab: OpenTab, house: House, endpoint: Endpoint
) -> None:
    page = open_tab("/")
    think(page, endpoint, task_of(21, parts=1, plot=True), "work")
    wait_for_status(page, "Completed")
    failed = page.locator(".note.bad", has_text="Ran block-1.py")
    expect(failed).to_contain_text(re.compile(r"exit code 1 · sandbox level [12]"))
    expect(page.locator(".note.ok", has_text="Ran block-2.py")).to_contain_text("exit code 0")
    call = page.locator(".note.tool", has_text="run_python").first
    expect(call.get_by_label("Code")).to_be_hidden()
    call.get_by_text("Code", exact=True).focus()
    page.keyboard.press("Enter")  # folds open by keyboard
    expect(call.get_by_label("Code")).to_contain_text("sum_of_sqares")
    expect(page.locator(".msg.agent").last).to_contain_text(str(sum_of_squares(21)))
    expect(page.locator(".msg.agent header b").last).to_have_text("engineer")
    page.get_by_role("tab", name="Cost").click()
    row = page.locator("#cost tbody tr")
    expect(row).to_have_count(1)
    expect(row).to_contain_text(endpoint.style.model)
    expect(row).to_contain_text("unknown")
    expect(page.locator("#status .facts")).to_contain_text(endpoint.style.model)
    expect(page.locator("#status .facts")).to_contain_text("unknown")
    expect(page.locator("#status .badge")).to_have_count(0)
    page.get_by_role("tab", name="Details").click()
    expect(page.locator("#details")).to_contain_text(endpoint.style.model)


def test_a_postponed_run_says_until_when_and_goes_on(
    open_tab: OpenTab, house: House, endpoint: Endpoint
) -> None:
    endpoint.misbehave("rate_limited", number=1, times=1, seconds=6)
    page = open_tab("/")
    think(page, endpoint, task_of(22), "later")
    note = page.locator(".note", has_text=re.compile(r"Waiting until \d\d:\d\d UTC"))
    expect(note).to_be_visible(timeout=LONG)
    expect(note).to_contain_text("Because:")
    expect(page.locator("#status .chip")).to_have_text("Postponed")
    expect(page.locator("#status .facts")).to_contain_text("Goes on at")
    wait_for_status(page, "Completed")
    expect(page.locator("#status .facts")).not_to_contain_text("Goes on at")


def test_after_a_kill_what_was_finished_is_not_done_again(
    open_tab: OpenTab, house: House, endpoint: Endpoint
) -> None:
    page = open_tab("/")
    session = think(page, endpoint, task_of(23, parts=2, seconds=3), "killed")
    expect(page.locator(".note.ok", has_text="Ran block-2.py")).to_be_visible(timeout=LONG)
    os.kill(house.engine_of(run_of(house, session)), signal.SIGKILL)
    wait_for_status(page, "Completed")
    expect(page.locator(".note", has_text="What was finished stays")).to_be_visible()
    expect(page.locator(".note", has_text="Ran block-1.py")).to_have_count(1)
    expect(page.locator(".note", has_text="Ran block-2.py")).to_have_count(1)


# -- no model -----------------------------------------------------------------------------------
def test_every_part_of_a_page_without_a_model_says_so(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    start(page, "```python\nprint(1)\n```", "no AI")
    wait_for_status(page, "Completed")
    expect(page.locator("#status .badge")).to_have_text("No AI is used")
    expect(page.locator(".note", has_text="no AI is used")).to_be_visible()
    expect(page.locator("#status .facts")).to_contain_text("$0.00")
    for tab in ("Plots", "Files", "Cost", "Details"):
        page.get_by_role("tab", name=tab).click()
        expect(page.locator("#status .badge")).to_be_visible()
    expect(page.locator("#details")).to_contain_text("no AI")


def test_the_new_page_says_which_model_is_connected(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/sessions/new/")
    expect(page.locator(".connected")).to_contain_text("No AI is used")


def test_a_setting_that_cannot_be_is_refused_beside_it(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/sessions/new/")
    page.get_by_label("Task", exact=True).fill("Explain recombination.")
    page.get_by_text("Settings").click()
    page.get_by_label("Model", exact=True).fill("anthropic:claude-sonnet-4-5")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#id_config-one-shot-model_error")).to_be_visible()
    expect(page.get_by_label("Model", exact=True)).to_have_value("anthropic:claude-sonnet-4-5")


# -- strangers and screens ----------------------------------------------------------------------
def test_what_a_model_writes_does_not_run(
    open_tab: OpenTab, house: House, endpoint: Endpoint
) -> None:
    hostile = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    alerts: list[str] = []
    page = open_tab("/")
    page.on("dialog", lambda dialog: alerts.append(dialog.message))
    think(page, endpoint, f"Explain {hostile}", "hostile", Agent="researcher")
    wait_for_status(page, "Completed")
    expect(page.locator(".msg.agent")).to_contain_text("<script>")
    assert page.locator("#thread img, #thread script").count() == 0
    assert not alerts


def test_no_part_is_wider_than_a_phone(open_tab: OpenTab, house: House, endpoint: Endpoint) -> None:
    session = think(open_tab("/"), endpoint, task_of(24, plot=True), "narrow")
    house.wait_for(run_of(house, session), "completed")
    for width in (390, 320):
        page = open_tab(f"/sessions/{session}/", width=width)
        for fold in page.locator(".fold > summary").all():
            fold.click()
        assert overflow(page) <= 0
        page.get_by_role("tab", name="Output").click()
        for tab in ("Cost", "Details"):
            page.get_by_role("tab", name=tab).click()
            assert overflow(page) <= 0, (width, tab)
        new = open_tab("/sessions/new/", width=width)
        new.get_by_text("Settings").click()
        assert overflow(new) <= 0
