"""A real browser against a real `manage.py serve`, with a data folder and a port of its own."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, Protocol

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, sync_playwright

from tests.deployment import Deployment, children, command_line, wait_until
from tests.endpoint import CONTRARY, Endpoint

CHROMIUM = ("/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome")
# without these it asks hosts of its maker at every start
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
READY = 60.0
TOKEN_OF_ADMIN = """
from django.contrib.auth.models import User
from sessions_app.services import create_token
print(create_token(user=User.objects.get()))
"""
Scheme = Literal["light", "dark"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.browser)


class House(Deployment):
    """Everything started by the one command that people use."""

    @property
    def serve(self) -> subprocess.Popen[bytes]:
        return self.processes["serve"]

    def printed_link(self) -> str | None:
        found = re.search(r"^Sign in: (\S+)$", self.log.read_text(), re.MULTILINE)
        return found[1] if found else None

    def web_pid(self) -> int | None:
        """The process that owns the port."""
        below = children(self.serve.pid)
        return next((pid for pid in below if "daphne" in command_line(pid)), None)

    def kill_web(self) -> None:
        """kill -9; the parent starts another."""
        pid = wait_until(self.web_pid, within=READY, what="a web process")
        os.kill(pid, signal.SIGKILL)


@pytest.fixture(scope="package")
def served() -> Iterator[Endpoint]:
    with Endpoint.running(CONTRARY) as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(served: Endpoint) -> Iterator[Endpoint]:
    """A model that the house's sessions may name; those that name none use no AI."""
    yield served
    served.forget()


@pytest.fixture(scope="package")
def house(served: Endpoint) -> Iterator[House]:
    connection = {name: served.environment[name] for name in ("OPENAI_BASE_URL", "OPENAI_API_KEY")}
    made = House("embedded", workers=3, env=connection)
    try:
        made.start("serve", "manage.py", "serve")
        wait_until(made.printed_link, within=READY, what="the sign-in link")
        made.token = made.python(TOKEN_OF_ADMIN)
        yield made
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            made.kill("serve", signal.SIGTERM)
        made.remove()


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """Of this package, not of the session as pytest-playwright's: its event loop would stay in the
    main thread, where Django then refuses the database to every test that comes after."""
    path = next(path for path in CHROMIUM if Path(path).exists())
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def signed_in(chromium: Browser, house: House, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cookies of a person who opened the printed link and pressed Continue."""
    context = chromium.new_context()
    page = context.new_page()
    page.goto(house.printed_link() or "")
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url("**/welcome/")  # nothing was begun yet
    kept = tmp_path_factory.mktemp("browser") / "cookies.json"
    context.storage_state(path=kept)
    context.close()
    return kept


class OpenTab(Protocol):
    def __call__(self, path: str, *, width: int = ..., scheme: Scheme = ...) -> Page: ...


@pytest.fixture
def open_tab(chromium: Browser, house: House, signed_in: Path) -> Iterator[OpenTab]:
    """`open_tab("/sessions/", width=390)`. No tab may break the security policy or a script."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def note(message: ConsoleMessage) -> None:
        if "Failed to fetch" in message.text:
            return  # the server is away: no fault of the page
        if "Content Security Policy" in message.text or "htmx" in message.text:
            complaints.append(message.text)

    def tab(path: str, *, width: int = 1280, scheme: Scheme = "light") -> Page:
        context = chromium.new_context(
            base_url=house.url,
            storage_state=signed_in,
            viewport={"width": width, "height": 844 if width < 760 else 800},
            color_scheme=scheme,
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(path)
        return page

    yield tab
    for context in contexts:
        context.close()
    assert not complaints
