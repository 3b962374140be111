"""Whole flows: by the keyboard alone, live, in a theme of one's own, and when something fails."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, FilePayload, Page, Request, Route, expect

from tests.browser.conftest import House, OpenTab

LONG = 90_000
KATE = """
from django.contrib.auth.models import User
User.objects.create_user("kate", password="dust and gas 42")
"""
QUICK = "```python\nprint('seen by the keyboard')\n```"
STATE = "**/system/_state/"


@pytest.fixture(scope="module")
def kate(house: House) -> str:
    """Somebody with a password, without a session, who is no staff."""
    house.python(KATE)
    return "dust and gas 42"


@pytest.fixture
def desk(chromium: Browser, house: House) -> Iterator[Page]:
    """Where nobody is signed in yet."""
    context = chromium.new_context(base_url=house.url)
    yield context.new_page()
    context.close()


def tab_to(page: Page, name: str, steps: int = 40) -> None:
    """Press Tab until what has this name has the focus, and shows that it has."""
    for _ in range(steps):
        page.keyboard.press("Tab")
        said = page.evaluate(
            "(e => e.labels?.[0]?.innerText ?? e.innerText ?? '')(document.activeElement)"
        )
        if re.match(name, said.strip()):
            style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert style != "none"
            return
    raise AssertionError(f"Tab does not reach {name!r}")


# -- by the keyboard alone --------------------------------------------------------------------
def test_sign_in_start_and_see(desk: Page, house: House, kate: str) -> None:
    desk.goto("/sign-in/")
    desk.keyboard.type("kate")  # the field has the focus
    desk.keyboard.press("Tab")
    desk.keyboard.type(kate)
    desk.keyboard.press("Enter")
    desk.wait_for_url("**/welcome/")
    desk.keyboard.press("Tab")
    expect(desk.get_by_role("link", name="Skip to content")).to_be_focused()
    desk.keyboard.press("Enter")
    expect(desk.locator("#main")).to_be_focused()
    desk.goto("/sessions/")
    tab_to(desk, "New$")
    desk.keyboard.press("Enter")
    desk.wait_for_url("**/sessions/new/")
    tab_to(desk, "Task")
    desk.keyboard.type(QUICK)
    desk.keyboard.press("Control+Enter")
    desk.wait_for_url(re.compile(r"/sessions/[0-9a-f-]{36}/"))
    expect(desk.locator("#status .chip")).to_have_text("Completed", timeout=LONG)
    expect(desk.locator("#log")).to_contain_text("seen by the keyboard")


def test_a_token_is_made_and_revoked(open_tab: OpenTab) -> None:
    page = open_tab("/account/")
    tab_to(page, "Name of a new token")
    page.keyboard.type("by hand")
    page.keyboard.press("Enter")
    expect(page.locator("#made-token")).to_contain_text("cmb_")
    tab_to(page, "Revoke by hand|Revoke\nby hand")
    page.keyboard.press("Enter")
    tab_to(page, "Revoke it")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").filter(has_text="Revoked “by hand”")).to_be_visible()
    expect(page.locator(".tokens", has_text="by hand")).to_have_count(0)


def test_a_double_click_makes_one_token(open_tab: OpenTab) -> None:
    page = open_tab("/account/")
    page.get_by_label("Name of a new token").fill("only once")
    page.get_by_role("button", name="Create token").dblclick()
    expect(page.locator("#made-token")).to_be_visible()
    page.wait_for_timeout(1000)
    page.reload()
    expect(page.locator(".tokens li", has_text="only once")).to_have_count(1)


def test_the_menu_opens_and_escape_closes_it(open_tab: OpenTab) -> None:
    page = open_tab("/sessions/")
    tab_to(page, "A?\\s*admin")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="Account")).to_be_visible()
    page.keyboard.press("Tab")
    page.keyboard.press("Escape")
    expect(page.get_by_role("link", name="Account")).to_be_hidden()
    expect(page.locator(".user summary")).to_be_focused()


# -- how it looks -----------------------------------------------------------------------------
def background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))


def test_a_theme_is_chosen_and_kept(open_tab: OpenTab) -> None:
    page = open_tab("/sessions/")
    light = background(page)
    page.locator(".user summary").click()
    page.get_by_role("radio", name="Dark").check()
    dark = background(page)
    assert dark != light
    other = page.context.new_page()
    other.goto("/account/")
    assert background(other) == dark
    other.locator(".user summary").click()
    expect(other.get_by_role("radio", name="Dark")).to_be_checked()
    other.get_by_role("radio", name="System").check()
    expect(page.locator("html")).not_to_have_attribute("data-theme", "dark")  # it follows
    page.emulate_media(color_scheme="dark")
    assert background(page) == dark


def test_it_works_where_nothing_can_be_kept(open_tab: OpenTab) -> None:
    page = open_tab("/sessions/")
    broken = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})"
    page.context.add_init_script(broken)
    page.reload()
    page.locator(".user summary").click()
    page.get_by_role("radio", name="Dark").check()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_nothing_moves_for_who_wants_it_still(open_tab: OpenTab, house: House) -> None:
    run = house.start_run("```python\nimport time\ntime.sleep(600)\n```")
    house.wait_for(run, "running")
    page = open_tab("/sessions/?status=running")
    moving = "getComputedStyle(document.querySelector('.chip.moving'), '::before').animationName"
    assert page.evaluate(moving) == "pulse"
    page.emulate_media(reduced_motion="reduce")
    assert page.evaluate(moving) == "none"
    house.post(f"runs/{run}/cancel")


# -- live -------------------------------------------------------------------------------------
def test_the_list_shows_what_becomes_of_a_task(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/sessions/")
    session = house.post("sessions", {"mode": "one-shot", "name": "comes while one looks"})
    row = page.locator(f"#session-{session['session_id']}")
    expect(row.locator(".chip")).to_have_text("No task yet", timeout=30_000)
    house.start_run(QUICK, str(session["session_id"]))
    expect(row.locator(".chip")).to_have_text("Completed", timeout=LONG)
    expect(row).to_contain_text("took 0:")


def test_a_quiet_list_is_asked_cheaply_and_not_at_all_when_hidden(open_tab: OpenTab) -> None:
    page = open_tab("/sessions/?q=nothing-is-called-so")
    page.evaluate(
        "Object.defineProperty(document, 'hidden', {get: () => 'asleep' in document.body.dataset})"
    )
    with page.expect_response("**/sessions/?*seen=*") as quiet:
        pass
    assert quiet.value.status == 204
    page.evaluate("document.body.dataset.asleep = ''")
    asked: list[Request] = []
    page.wait_for_timeout(1000)  # what was under way when it fell asleep

    def note(request: Request) -> None:
        asked.append(request)

    page.on("request", note)
    page.wait_for_timeout(5000)
    assert asked == []
    with page.expect_response("**/sessions/?*seen=*"):
        page.evaluate(
            "delete document.body.dataset.asleep;"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )


def test_an_answer_that_comes_late_does_not_undo_a_filter(open_tab: OpenTab, house: House) -> None:
    house.post("sessions", {"mode": "one-shot", "name": "kept by the filter"})
    page = open_tab("/sessions/")
    held: list[Route] = []

    def hold(route: Route) -> None:
        held.append(route)

    page.route("**/sessions/?*seen=*", hold)
    with page.expect_request("**/sessions/?*seen=*"):
        pass
    page.get_by_label("Search").press_sequentially("kept by")
    expect(page.locator(".list li")).to_have_count(1)
    assert held
    for route in held:
        route.fulfill(body="<p>what was before</p>", content_type="text/html")
    page.wait_for_timeout(500)
    expect(page.locator(".list li")).to_have_count(1)
    expect(page.get_by_label("Search")).to_be_focused()
    page.unroute_all(behavior="ignoreErrors")


def test_filters_stand_in_the_address(open_tab: OpenTab) -> None:
    page = open_tab("/sessions/")
    page.get_by_label("Status").select_option("Failed")
    page.wait_for_url("**status=failed*")
    expect(page.locator(".list .chip:not(.bad)")).to_have_count(0)
    page.reload()
    expect(page.get_by_label("Status")).to_have_value("failed")


# -- what fails -------------------------------------------------------------------------------
def test_what_could_not_be_loaded_is_said_and_tried_again(open_tab: OpenTab) -> None:
    page = open_tab("/system/")
    page.route(STATE, lambda route: route.fulfill(status=500, body="no"))
    notice = page.locator("#failure")
    expect(notice).to_be_visible(timeout=30_000)
    page.evaluate("document.querySelector('[data-live]').dataset.live = 9999")  # not by itself
    page.wait_for_timeout(1000)  # what was under way
    page.unroute(STATE)
    notice.get_by_role("button", name="Try again").click()
    expect(notice).to_be_hidden()
    expect(page.get_by_role("heading", name="Checks")).to_be_visible()


def test_it_goes_away_by_itself_when_the_server_is_back(open_tab: OpenTab) -> None:
    page = open_tab("/system/")
    page.route(STATE, lambda route: route.abort())
    expect(page.locator("#failure")).to_be_visible(timeout=30_000)
    page.unroute(STATE)
    expect(page.locator("#failure")).to_be_hidden(timeout=30_000)


def test_an_error_page_is_not_put_into_a_part_of_a_page(open_tab: OpenTab) -> None:
    page = open_tab("/system/")
    body = "<!doctype html><title>Nothing here</title><h1>Nothing here</h1>"
    page.route(STATE, lambda route: route.fulfill(status=404, body=body, content_type="text/html"))
    expect(page.locator("#failure")).to_contain_text("no longer yours", timeout=30_000)
    expect(page.get_by_role("heading", name="Nothing here")).to_have_count(0)


def test_who_was_signed_out_is_led_to_the_door_and_back(open_tab: OpenTab) -> None:
    page = open_tab("/sessions/")
    page.context.clear_cookies()
    page.wait_for_url("**/sign-in/?next=**", timeout=30_000)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_a_command_without_an_answer_is_told_until_it_has_one(
    open_tab: OpenTab, house: House
) -> None:
    run = house.start_run("```python\nimport time\ntime.sleep(600)\n```")
    house.wait_for(run, "running")
    page = open_tab(f"/sessions/{house.run(run)['session_id']}/")
    notice, stop = page.locator("#failure"), page.get_by_role("button", name="Stop")
    page.route("**/stop/", lambda route: route.abort())
    stop.click()
    expect(notice).to_contain_text("did not answer")
    # it would load the page anew: nothing is stopped by that, and there may be no server to answer
    expect(notice.get_by_role("button", name="Try again")).to_be_hidden()
    page.unroute("**/stop/")
    stop.click()
    expect(notice).to_be_hidden()
    house.wait_for(run, "cancelled")


@pytest.mark.parametrize("path", ["/welcome/", "/account/", "/system/", "/sessions/new/"])
def test_nothing_is_cut_off_on_a_phone(open_tab: OpenTab, path: str) -> None:
    page = open_tab(path, width=390)
    cut = "all => all.filter(e => e.scrollWidth > e.clientWidth).map(e => e.innerText)"
    assert page.locator(".card").evaluate_all(cut) == []


# -- a new session ----------------------------------------------------------------------------
def test_an_example_fills_everything(open_tab: OpenTab) -> None:
    page = open_tab("/sessions/new/")
    page.get_by_text("Settings", exact=True).click()
    page.get_by_label("Rounds at most").fill("3")
    page.get_by_role("link", name="Draw a random walk").click()
    expect(page.get_by_label("Task", exact=True)).to_have_value(re.compile("random"))
    expect(page.get_by_label("Rounds at most")).to_have_value("")  # as the example has it


def test_a_file_comes_with_the_task(open_tab: OpenTab) -> None:
    page = open_tab("/sessions/new/")
    table: FilePayload = {"name": "mine.csv", "mimeType": "text/csv", "buffer": b"a,b\n1,2\n"}
    page.get_by_label("Files for the task").set_input_files(table)
    page.get_by_label("Task", exact=True).fill("```python\nprint(open('mine.csv').read())\n```")
    page.get_by_label("Name").fill("brings a file")
    page.get_by_role("button", name="Start").dblclick(no_wait_after=True)
    page.wait_for_url(re.compile(r"/sessions/[0-9a-f-]{36}/"))
    expect(page.locator("#log")).to_contain_text("1,2", timeout=LONG)
    page.goto("/sessions/?q=brings+a+file")
    expect(page.locator(".list li")).to_have_count(1)


# -- first steps ------------------------------------------------------------------------------
def test_one_click_begins(open_tab: OpenTab, house: House) -> None:
    page = open_tab("/welcome/")
    expect(page.locator("#readiness")).to_contain_text("Ready", timeout=LONG)
    page.get_by_role("button", name="Run this example").click()
    page.wait_for_url(re.compile(r"/sessions/[0-9a-f-]{36}/"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("CMB temperature power spectrum")
    expect(page.locator("#status")).to_contain_text("no model")
    run = house.get(f"sessions/{page.url.rstrip('/').rpartition('/')[2]}/runs")["runs"][0]
    house.post(f"runs/{run['run_id']}/cancel")


def test_asking_for_a_model_says_that_there_is_none(open_tab: OpenTab) -> None:
    page = open_tab("/welcome/")
    page.get_by_role("button", name="Ask the connected model").click()
    expect(page.get_by_role("alert")).to_contain_text("No model is connected")
    assert page.url.endswith("/welcome/")  # a part of the page, not another
