"""The console as a person reads it: older lines, search, errors, groups, links, colours, copying."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from tests.browser.accessibility import SCHEMES, violations
from tests.browser.conftest import House, OpenTab
from tests.browser.test_session_page import (
    COUNTING,
    LONG,
    lines,
    numbers,
    overflow,
    run_of,
    start,
    wait_for_lines,
    wait_for_status,
)
from tests.deployment import wait_until

MANY = 24_000
TASK = f"""```python
for n in range(1, {MANY + 1}): print("line", n, "needle" if n in (77, 12_000) else "")
```
```python
import sys
print("\\x1b[32mgreen\\x1b[0m and \\x1b[1;38;5;196mred\\x1b[0m")
for part in range(0, 101, 20): print(f"{{part}}%", end="\\r", flush=True)
print()
print("nearly the end")
def broken(): raise ValueError("the spectrum is negative")
broken()
```"""


@pytest.fixture(scope="module")
def session(house: House) -> str:
    """One whose run printed more than a page holds, and failed."""
    run = house.start_run(TASK)
    return str(house.wait_for(run, "failed")["session_id"])


def test_older_lines_come_on_demand_and_none_is_missing(open_tab: OpenTab, session: str) -> None:
    page = open_tab(f"/sessions/{session}/")
    before = numbers(page)
    assert len(before) == 1000
    for _ in range(3):
        first = page.locator("#lines .ln").first
        number = first.get_attribute("data-n") or ""
        page.get_by_role("button", name="Earlier lines").click()
        expect(page.locator("#lines .ln").first).not_to_have_attribute("data-n", number)
        expect(
            page.locator(f'#lines .ln[data-n="{number}"]')
        ).to_be_in_viewport()  # the place stays
    shown = numbers(page)
    assert shown == list(range(before[-1] - 3999, before[-1] + 1))
    assert page.locator("#lines .group").count() == 2  # pieces of one group are one
    texts = lines(page)
    assert texts[0].strip() == f"line {shown[0]}"


def test_search_finds_what_is_not_in_the_page(open_tab: OpenTab, session: str) -> None:
    page = open_tab(f"/sessions/{session}/")
    field = page.get_by_role("searchbox", name="Search the whole console")
    field.fill("NEEDLE")
    field.press("Enter")
    sum_of = page.locator("#found .sum")
    expect(sum_of).to_have_text("1 of 2")
    here = page.locator("#lines .ln.here")
    expect(here).to_have_attribute("data-n", "77")
    expect(here).to_be_in_viewport()
    field.press("Enter")
    expect(sum_of).to_have_text("2 of 2")
    expect(here).to_have_attribute("data-n", "12000")
    field.press("Shift+Enter")
    expect(here).to_have_attribute("data-n", "77")
    expect(field).to_be_focused()
    page.get_by_role("button", name="Later lines").click()
    expect(page.locator('#lines .ln[data-n="1500"]')).to_have_count(1)
    shown = numbers(page)
    assert shown == list(range(1, shown[-1] + 1))
    page.get_by_role("button", name="Go to the end").click()
    expect(page.locator("#lines .ln").last).to_contain_text("ValueError: the spectrum is negative")
    field.fill("nowhere to be found")
    field.press("Enter")
    expect(sum_of).to_have_text("Nothing found")


def test_the_error_is_one_press_away(open_tab: OpenTab, session: str) -> None:
    page = open_tab(f"/sessions/{session}/#L5")
    expect(page.locator("#lines .ln.here")).to_have_attribute("data-n", "5")
    page.get_by_role("button", name="1 error").click()
    expect(page.locator("#lines .ln.here")).to_have_text("ValueError: the spectrum is negative")
    expect(page.locator("#lines .ln.here")).to_be_in_viewport()
    expect(page.locator("#lines .group.bad .what")).to_have_text("block-2.py")


def test_a_link_opens_an_old_line_and_a_click_on_a_number_makes_one(
    open_tab: OpenTab, session: str
) -> None:
    page = open_tab(f"/sessions/{session}/#L9000")
    expect(page.locator("#lines .ln.here")).to_have_text(re.compile("line 9000"))
    expect(page.locator("#lines .ln.here")).to_be_in_viewport()
    page.locator('#lines .ln[data-n="9003"]').click(position={"x": 20, "y": 8})
    assert page.url.endswith("#L9003")
    page.reload()
    expect(page.locator("#lines .ln.here")).to_have_attribute("data-n", "9003")


def test_a_link_to_an_event_marks_its_entry(open_tab: OpenTab, session: str) -> None:
    page = open_tab(f"/sessions/{session}/#e2")
    expect(page.locator("#entries .here")).to_have_attribute("data-seq", "2")
    expect(page.locator("#entries .here")).to_be_in_viewport()


def test_the_rail_leads_to_what_it_lists(open_tab: OpenTab, session: str) -> None:
    page = open_tab(f"/sessions/{session}/")
    rail = page.get_by_role("complementary", name="Plan")
    expect(rail.locator("li.done")).to_have_text(re.compile("block-1.py"))
    expect(rail.locator("li.failed")).to_have_text(re.compile("block-2.py.*failed"))
    rail.get_by_role("link", name="block-1.py").click()
    expect(page.locator("#entries .here")).to_contain_text("block-1.py")


def test_colours_progress_and_times(open_tab: OpenTab, session: str) -> None:
    page = open_tab(f"/sessions/{session}/")
    expect(page.locator("#lines .a2")).to_have_text("green")
    expect(page.locator("#lines .a9.ab")).to_have_text("red")
    assert "100%" in lines(page)
    last = page.locator("#lines .ln").last
    shown = "line => getComputedStyle(line, '::after').content"
    assert last.evaluate(shown) == "none"
    page.get_by_role("button", name="Show times").click()
    assert re.fullmatch(r'"\d\d:\d\d:\d\dZ"', last.evaluate(shown))
    page.reload()
    expect(page.get_by_role("button", name="Show times")).to_have_attribute("aria-pressed", "true")


def test_groups_fold_and_stay_so(open_tab: OpenTab, session: str) -> None:
    page = open_tab(f"/sessions/{session}/")
    first = page.locator("#lines .group").first
    expect(first.locator(".what")).to_have_text("block-1.py")
    first.locator("summary").press("Enter")
    expect(first).not_to_have_attribute("open", "")
    page.reload()
    expect(page.locator("#lines .group").first).not_to_have_attribute("open", "")
    expect(page.locator("#lines .group.bad")).to_have_attribute("open", "")
    page.get_by_role("button", name="Earlier lines").click()
    wait_until(lambda: len(numbers(page)) == 2000, within=30, what="a thousand more")
    expect(page.locator("#lines .group").first).not_to_have_attribute("open", "")


def test_copied_lines_have_no_numbers(open_tab: OpenTab, session: str) -> None:
    page = open_tab(f"/sessions/{session}/")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy shown lines").click()
    expect(page.locator("#said-politely")).to_have_text("Copied all lines shown")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied.split("\n") == lines(page)
    page.evaluate(
        "line => getSelection().selectAllChildren(line)",
        page.locator("#lines .ln", has_text="nearly").element_handle(),
    )
    page.get_by_role("button", name="Copy shown lines").click()
    expect(page.locator("#said-politely")).to_have_text("Copied what is selected")
    assert page.evaluate("navigator.clipboard.readText()") == "nearly the end"


def test_the_whole_log_is_downloaded(open_tab: OpenTab, session: str) -> None:
    page = open_tab(f"/sessions/{session}/")
    with page.expect_download() as began:
        page.get_by_role("link", name="Download the whole console").click()
    assert began.value.suggested_filename.startswith("console-")
    text = began.value.path().read_text()
    assert text.count("\nline ") == MANY


# -- while it prints --------------------------------------------------------------------------
def read_older(page: Page) -> None:
    page.evaluate("document.getElementById('log').scrollTop = 0")
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "false")


def test_reading_older_lines_stops_nothing(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    many = "import time\nfor n in range(60_000): print('line', n) or n % 100 or time.sleep(0.01)"
    start(page, f"```python\n{many}\n```", "reading")
    wait_for_lines(page, 50)
    read_older(page)
    wait_for_status(page, "Completed")  # the conversation goes on
    more = page.get_by_role("button", name="new lines")
    expect(more).to_be_visible(timeout=LONG)
    held = numbers(page)
    assert len(held) < 30_000
    assert held == list(range(1, len(held) + 1))
    more.click()
    expect(page.locator("#lines .ln").last).to_have_text("line 59999")
    expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "true")
    shown = numbers(page)
    assert shown == list(range(shown[0], 60_001))


def test_the_end_is_exact_when_one_comes_back_while_it_prints(
    open_tab: OpenTab, house: House
) -> None:
    page = open_tab("/")
    session = start(page, COUNTING.format(lines=3000, pause=0.003), "coming back")
    wait_for_lines(page, 1200)
    page = open_tab(f"/sessions/{session}/#L3")
    expect(page.locator("#lines .ln.here")).to_have_attribute("data-n", "3")
    for _ in range(3):
        page.get_by_role("button", name="Follow").click()
        expect(page.get_by_role("button", name="Follow")).to_have_attribute("aria-pressed", "true")
        page.evaluate("location.hash = location.hash === '#L3' ? '#L4' : '#L3'")
        expect(page.locator("#lines .ln.here")).to_be_in_viewport()
    page.get_by_role("button", name="Follow").click()
    wait_for_status(page, "Completed")
    expect(page.locator("#lines .ln").last).to_have_text("line 2999", timeout=LONG)
    shown = numbers(page)
    assert shown == list(range(shown[0], 3001))


def test_a_stream_that_is_behind_the_end_that_was_fetched_adds_nothing_twice(
    open_tab: OpenTab, house: House
) -> None:
    page = open_tab("/")
    late: list[Callable[[], None]] = []
    state = {"holds": False}

    def hold_back(socket: WebSocketRoute) -> None:
        server = socket.connect_to_server()

        def pass_on(message: str | bytes) -> None:
            if state["holds"]:
                late.append(lambda: socket.send(message))
            else:
                socket.send(message)

        server.on_message(pass_on)

    page.route_web_socket(re.compile("/ws/"), hold_back)
    session = start(page, COUNTING.format(lines=1500, pause=0.004), "late stream")
    wait_for_lines(page, 1050)
    page.goto("about:blank")  # else it is the same page, which has that line
    page.goto(f"{house.url}/sessions/{session}/#L3")
    expect(page.locator("#lines .ln.here")).to_have_attribute("data-n", "3")
    state["holds"] = True
    house.wait_for(run_of(house, session), "completed")
    page.get_by_role("button", name="Follow").click()
    expect(page.locator("#lines .ln").last).to_have_text("line 1499", timeout=LONG)
    page.wait_for_timeout(500)  # frames pass only while the browser is listened to
    state["holds"] = False
    assert late, "the stream was not behind"
    for send in late:
        send()
    wait_for_status(page, "Completed")
    page.wait_for_timeout(1000)  # what would come twice would be there
    shown = numbers(page)
    assert shown == list(range(shown[0], 1501))


def test_axe_finds_nothing_in_any_part(open_tab: OpenTab, session: str) -> None:
    """Found lines, a marked one, colours, times, folded groups; on a phone one part after the other."""
    for scheme in SCHEMES:
        page = open_tab(f"/sessions/{session}/", scheme=scheme)
        field = page.get_by_role("searchbox", name="Search the whole console")
        field.fill("green")
        field.press("Enter")
        expect(page.locator("#lines .ln.here")).to_contain_text("green")
        page.get_by_role("button", name="Show times").click()
        page.locator("#lines .group summary").first.press("Enter")
        assert violations(page) == []
        page.set_viewport_size({"width": 390, "height": 844})
        for view in ("Plan", "Output"):
            page.get_by_role("tab", name=view).click()
            assert violations(page) == []
            assert overflow(page) <= 0
