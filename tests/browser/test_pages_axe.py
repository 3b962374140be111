"""Every page, in both themes, at 1280 and 390 pixels: axe finds nothing, and 320 pixels reflow."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.accessibility import overflow_at, violations, violations_everywhere
from tests.browser.conftest import House, OpenTab

LONG = 90_000
PLOT = """Draw it:
```python
import sys
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
plt.plot([1, 2, 3])
plt.savefig("line.png")
files = {
    "table.csv": "a,b\\n1,2\\n",
    "report.md": "# Report\\n\\n$x^2$\\n\\n| a | b |\\n|---|--:|\\n| c | 1 |",
    "code.py": "x = 1  # one",
}
for name, text in files.items():
    open(name, "w").write(text)
print("drawn")
print("a warning", file=sys.stderr)
```"""
FAILS = "```python\nraise ValueError('no')\n```"
SLOW = "```python\nimport time\nprint('on', flush=True)\ntime.sleep(600)\n```"


def check(page: Page) -> None:
    assert violations_everywhere(page) == {}
    assert overflow_at(page, 320) <= 0


# -- without a name ---------------------------------------------------------------------------
@pytest.mark.parametrize("path", ["/sign-in/", "/sign-in/link/?token=x", "/no-such-page/"])
def test_the_door_and_the_error_pages(chromium: Browser, house: House, path: str) -> None:
    page = chromium.new_page(base_url=house.url)
    page.goto(path)
    check(page)
    page.close()


def test_a_wrong_password(chromium: Browser, house: House) -> None:
    page = chromium.new_page(base_url=house.url)
    page.goto("/sign-in/")
    page.get_by_label("User name").fill("admin")
    page.get_by_label("Password").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("do not match")
    check(page)
    page.close()


# -- pages ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "path",
    ["/welcome/", "/account/", "/account/password/", "/system/", "/sessions/?q=nothing-is-so"],
)
def test_a_page_as_it_stands(open_tab: OpenTab, path: str) -> None:
    check(open_tab(path))


def test_a_new_session_with_what_is_wrong(open_tab: OpenTab) -> None:
    page = open_tab("/sessions/new/")
    page.get_by_text("Settings", exact=True).click()
    check(page)
    page.get_by_label("Task", exact=True).fill("x")
    page.get_by_label("Model", exact=True).fill("anthropic:none")
    page.get_by_role("button", name="Start").click()
    expect(page.locator("#id_config-one-shot-model_error")).to_be_visible()
    check(page)


def test_tokens_and_menus(open_tab: OpenTab) -> None:
    page = open_tab("/account/")
    page.get_by_label("Name of a new token").fill("axe")
    page.get_by_role("button", name="Create token").click()
    expect(page.locator("#made-token")).to_be_visible()
    page.locator(".tokens summary").first.click()
    check(page)
    page.keyboard.press("Escape")
    page.locator(".user summary").click()
    expect(page.get_by_role("radio", name="Dark")).to_be_visible()
    check(page)


def test_a_part_that_could_not_be_loaded(open_tab: OpenTab) -> None:
    page = open_tab("/system/")
    page.route("**/system/_state/", lambda route: route.fulfill(status=500, body="no"))
    expect(page.get_by_role("alert")).to_contain_text("could not be loaded", timeout=LONG)
    check(page)


# -- sessions ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("task", "status"), [(PLOT, "completed"), (FAILS, "failed"), (SLOW, "running")]
)
def test_a_session(open_tab: OpenTab, house: House, task: str, status: str) -> None:
    run = house.start_run(task)
    house.wait_for(run, status)
    session = house.run(run)["session_id"]
    page = open_tab(f"/sessions/{session}/")
    expect(page.locator("html")).to_have_attribute("data-conn", "live", timeout=LONG)
    if status == "running":
        expect(page.locator("#log")).to_contain_text("on", timeout=LONG)
    check(page)
    if status == "completed":
        check_panels(page)
        check_files(page)
    if status == "running":
        page.goto("/sessions/")
        expect(page.locator(".list .chip.moving").first).to_be_visible()
        check(page)
        house.post(f"runs/{run}/cancel")


def check_panels(page: Page) -> None:
    """What the other tabs show."""
    page.set_viewport_size({"width": 1280, "height": 800})
    for tab in page.get_by_role("tablist", name="Output").get_by_role("tab").all()[1:]:
        tab.click()
        assert violations(page) == []


def check_files(page: Page) -> None:
    files = page.locator("#files td.path a").evaluate_all("all => all.map(a => a.href)")
    assert len(files) >= 4
    for address in files:
        page.goto(address)
        check(page)


def test_the_administration_opens(open_tab: OpenTab) -> None:
    page = open_tab("/admin/")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    lists = page.locator("main th[scope=row] a").evaluate_all("all => all.map(a => a.href)")
    assert len(lists) > 10
    for address in lists:
        page.goto(address)
        expect(page.locator("#changelist")).to_be_visible()
