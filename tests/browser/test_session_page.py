"""What people must be able to count on, with their own eyes: a browser, a server, accidents."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from tests.browser.conftest import House, OpenTab
from tests.deployment import wait_until

LONG = 90_000  # ms: a first CAMB run on a busy machine
AT_END = "(l => l.scrollHeight - l.scrollTop - l.clientHeight < 5)(document.getElementById('log'))"
COUNTING = """```python
import sys, time
for number in range({lines}):
    print("line", number, flush=number % 7 == 0)
    time.sleep({pause})
```"""


def start(page: Page, task: str, name: str) -> str:
    """Start a task on the new page; the id of its session."""
    page.goto("/sessions/new/")
    page.get_by_label("Task", exact=True).fill(task)
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Start").click()
    page.wait_for_url(re.compile(r"/sessions/[0-9a-f-]{36}/"))
    return page.url.rstrip("/").rpartition("/")[2]


def chip(page: Page) -> str:
    return page.locator("#status .chip").inner_text()


def wait_for_status(page: Page, label: str, timeout: float = LONG) -> None:
    expect(page.locator("#status .chip")).to_have_text(label, timeout=timeout)


def wait_for_connection(page: Page, state: str, timeout: float = 30_000) -> None:
    expect(page.locator("html")).to_have_attribute("data-conn", state, timeout=timeout)


def lines(page: Page) -> list[str]:
    return page.locator(
        "#log .ln"
    ).all_text_contents()  # inner_text leaves out what is scrolled away


def numbers(page: Page) -> list[int]:
    found: list[int] = page.eval_on_selector_all("#log .ln", "all => all.map(l => +l.dataset.n)")
    return found


def wait_for_lines(page: Page, more_than: int) -> None:
    """Not by wait_for_function, which evaluates in the page: its security policy forbids that."""
    wait_until(
        lambda: page.locator("#log .ln").count() > more_than, within=LONG / 1000, what="lines"
    )


def run_of(house: House, session: str) -> str:
    return str(house.get(f"sessions/{session}/runs")["runs"][0]["run_id"])


def overflow(page: Page) -> int:
    """Pixels by which the page is wider than the screen."""
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))


# -- the door ---------------------------------------------------------------------------------
def test_the_printed_link_signs_in_once(chromium: Browser, house: House, signed_in: Path) -> None:
    context = chromium.new_context()
    page = context.new_page()
    page.goto(house.printed_link() or "")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("heading", name="This link is spent")).to_be_visible()
    page.goto(f"{house.url}/sessions/")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    context.close()


# -- the main job -----------------------------------------------------------------------------
def test_the_camb_example_shows_its_lines_and_its_plot(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/sessions/new/")
    page.get_by_role("link", name="Compute the CMB temperature power spectrum").click()
    expect(page.get_by_label("Task", exact=True)).to_have_value(re.compile("H0 = 67.4"))
    page.get_by_role("button", name="Start").click()
    page.wait_for_url(re.compile(r"/sessions/[0-9a-f-]{36}/"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("CMB temperature power spectrum")
    expect(page.locator("#log .ln").first).to_be_visible(timeout=LONG)
    assert chip(page) == "Running"  # the lines come while it runs
    wait_for_status(page, "Completed")
    page.get_by_role("tab", name="Plots").click()
    plot = page.locator("#plots img").first
    expect(plot).to_have_js_property("complete", value=True)
    assert plot.evaluate("image => image.naturalWidth") > 300
    page.get_by_role("tab", name="Files").click()
    expect(page.get_by_role("cell", name="cmb_power_spectrum.csv", exact=True)).to_be_visible()
    expect(page.locator(".msg", has_text="No AI is used")).to_be_visible()


def test_the_plot_appears_although_the_worker_is_shot(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    session = start(page, "Compute the CMB power spectrum for H0 = 70 and plot it.", "shot")
    expect(page.locator("#log .ln").first).to_be_visible(timeout=LONG)
    os.kill(house.worker_of(run_of(house, session)), signal.SIGKILL)
    expect(page.locator(".note", has_text="Interrupted, going on by itself")).to_be_visible(
        timeout=LONG
    )
    wait_for_status(page, "Completed")
    expect(page.locator("#log .mark")).to_have_text("Interrupted: what was under way begins again")
    page.get_by_role("tab", name="Plots").click()
    expect(page.locator("#plots img")).to_have_count(1)


# -- nothing is lost, nothing comes twice -----------------------------------------------------
def test_every_line_comes_once_although_the_web_process_is_killed(
    open_tab: OpenTab, house: House
) -> None:
    page = open_tab("/")
    start(page, COUNTING.format(lines=1500, pause=0.004), "killed web")
    wait_for_lines(page, 100)
    house.kill_web()
    wait_for_connection(page, "reconnecting")
    expect(page.get_by_role("button", name="Retry now")).to_be_visible()
    wait_for_connection(page, "live")
    wait_for_status(page, "Completed")
    expect(page.locator("#log .ln")).to_have_count(1500, timeout=LONG)
    assert lines(page) == [f"line {number}" for number in range(1500)]
    assert numbers(page) == list(range(1, 1501))
    seen = page.eval_on_selector_all("#thread [data-seq]", "all => all.map(e => +e.dataset.seq)")
    assert seen == sorted(set(seen))


def test_who_comes_later_sees_the_same(open_tab: OpenTab, house: House) -> None:
    first = open_tab("/")
    session = start(first, COUNTING.format(lines=900, pause=0.003), "two tabs")
    wait_for_lines(first, 200)
    second = open_tab(f"/sessions/{session}/")
    for page in (first, second):
        wait_for_status(page, "Completed")
        expect(page.locator("#log .ln")).to_have_count(900)
    third = open_tab(f"/sessions/{session}/")
    assert lines(first) == lines(second) == lines(third)


def test_a_line_in_pieces_is_one_line(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    task = """```python
import sys, time
for part in ["10%\\r", "50%\\r", "100%", " do", "ne\\n", "<b>bold</b>\\n"]:
    print(part, end="", flush=True)
    time.sleep(0.2)
```"""
    start(page, task, "pieces")
    wait_for_status(page, "Completed")
    expect(page.locator("#log .ln")).to_have_count(2)
    assert lines(page) == ["100% done", "<b>bold</b>"]
    page.reload()
    assert lines(page) == ["100% done", "<b>bold</b>"]


def test_what_is_said_and_printed_is_shown_as_text(open_tab: OpenTab, house: House) -> None:
    hostile = (
        "<img src=x onerror=\"document.title='broken'\"><script>document.title='broken'</script>"
    )
    page = open_tab("/")
    start(page, f"{hostile}\n```python\nprint({hostile!r})\n```", hostile)
    wait_for_status(page, "Completed")
    expect(page.locator("#log .ln")).to_have_text(hostile)
    expect(page.locator(".msg.you p")).to_have_text(hostile)
    assert page.locator("#thread img, #log img, h1 img").count() == 0
    assert "broken" not in page.title().replace(hostile, "")


# -- commands ---------------------------------------------------------------------------------
def test_stop_stops_and_says_so(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    session = start(page, COUNTING.format(lines=100_000, pause=0.01), "stopped")
    expect(page.locator("#log .ln").first).to_be_visible(timeout=LONG)
    page.get_by_role("button", name="Stop").click()
    wait_for_status(page, "Stopped", timeout=20_000)
    expect(page.locator(".note", has_text="by admin")).to_be_visible()
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)
    expect(page.get_by_role("button", name="Retry")).to_be_visible()
    assert house.run(run_of(house, session))["status"] == "cancelled"


def test_stop_works_while_the_socket_is_down(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    page.route_web_socket(re.compile("/ws/"), lambda socket: socket.close())
    session = start(page, COUNTING.format(lines=100_000, pause=0.01), "no socket")
    wait_for_connection(page, "reconnecting")
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#status .said")).to_contain_text("Stop")
    house.wait_for(run_of(house, session), "cancelled", within=30)
    wait_for_status(page, "Stopped")
    page.get_by_label("New task").fill("```python\nprint('sent over HTTP')\n```")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#composer-said")).to_have_text("Started.")


def test_a_new_task_in_the_same_session(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    start(page, "```python\nprint('first')\n```", "two runs")
    wait_for_status(page, "Completed")
    page.get_by_label("New task").fill("```python\nprint('second')\n```")
    page.locator("#composer-button").click()
    expect(page.locator("#log .mark")).to_have_text("Run 2", timeout=LONG)
    expect(page.locator("#log .ln")).to_have_text(["first", "second"], timeout=LONG)
    expect(page.get_by_label("New task")).to_have_value("")
    wait_for_status(page, "Completed")


def test_delete_asks_and_leads_back_to_the_list(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    start(page, "```python\nprint(1)\n```", "to be deleted")
    page.get_by_label("More actions").click()
    page.get_by_role("button", name="Delete session").click()
    page.wait_for_url("**/sessions/")
    expect(page.get_by_text("Deleted “to be deleted”.")).to_be_visible()


# -- reading ----------------------------------------------------------------------------------
def test_follow_stops_when_one_scrolls_up_and_resumes_at_the_end(
    open_tab: OpenTab, house: House
) -> None:
    page = open_tab("/")
    start(page, COUNTING.format(lines=1500, pause=0.004), "follow")
    wait_for_lines(page, 200)
    follow = page.get_by_role("button", name="Follow")
    expect(follow).to_have_attribute("aria-pressed", "true")
    page.evaluate("document.getElementById('log').scrollTop = 0")
    expect(follow).to_have_attribute("aria-pressed", "false")
    wait_for_status(page, "Completed")
    assert page.evaluate("document.getElementById('log').scrollTop") == 0
    follow.click()
    wait_until(lambda: page.evaluate(AT_END), within=5, what="the end of the console")


def test_a_hundred_thousand_lines_keep_the_page_small(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    start(page, "```python\nfor n in range(100_000): print('line', n)\n```", "many lines")
    wait_for_status(page, "Completed")
    expect(page.locator("#log .ln").last).to_have_text("line 99999", timeout=LONG)
    shown = numbers(page)
    assert len(shown) <= 5000
    assert shown == list(range(shown[0], 100_001))


def test_tabs_work_by_keyboard(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/")
    start(page, "```python\nprint(1)\n```", "keys")
    page.get_by_role("tab", name="Console").last.focus()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Plots")).to_be_focused()
    expect(page.locator("#plots-panel")).to_be_visible()
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#plots-panel")).to_be_hidden()


# -- screens ----------------------------------------------------------------------------------
def test_no_page_is_wider_than_a_phone(open_tab: OpenTab, house: House) -> None:
    session = start(open_tab("/"), COUNTING.format(lines=30, pause=0.01), "a name " * 20)
    for width in (390, 320):
        for path in ("/sessions/", "/sessions/new/", f"/sessions/{session}/", "/nowhere/"):
            page = open_tab(path, width=width)
            assert overflow(page) <= 0, (path, width)


def test_a_phone_shows_one_part_at_a_time(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/", width=390)
    start(page, COUNTING.format(lines=300, pause=0.002), "phone")
    expect(page.get_by_role("button", name=re.compile("Stop"))).to_be_in_viewport()
    expect(page.locator("#thread")).to_be_in_viewport()
    page.get_by_role("tab", name="Output").click()
    expect(page.locator("#thread")).to_be_hidden()
    wait_for_status(page, "Completed")
    expect(page.locator("#log .ln").last).to_be_in_viewport()  # it follows once it is seen
    page.get_by_role("tab", name="Files").click()
    expect(page.get_by_role("tab", name="Files")).to_be_in_viewport()
    assert overflow(page) <= 0


# -- the list ---------------------------------------------------------------------------------
def test_the_list_filters_while_one_types_and_keeps_the_focus(
    open_tab: OpenTab, house: House
) -> None:
    page = open_tab("/")
    start(page, "```python\nprint(1)\n```", "zebra crossing")
    wait_for_status(page, "Completed")
    page.goto("/sessions/")
    field = page.get_by_label("Search")
    field.click()
    field.press_sequentially("zebra", delay=30)
    expect(page.locator("#list li")).to_have_count(1)
    expect(field).to_be_focused()
    expect(field).to_have_value("zebra")
    page.wait_for_url("**/sessions/?q=zebra**")
    expect(page.locator("#list .chip")).to_have_text("Completed")
