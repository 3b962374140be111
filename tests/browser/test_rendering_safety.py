"""Probes of a model in a real browser: nothing runs, nobody else is asked, the policy is not tried."""

from __future__ import annotations

import json
import re

import pytest
from playwright.sync_api import Dialog, Page, expect

from tests.browser.accessibility import violations_everywhere
from tests.browser.conftest import House, OpenTab
from tests.sessions_app.hostile_texts import PROBES

SESSION_FULL_OF_PROBES = """
import json
from django.contrib.auth.models import User
from execution_app.services import record_artifacts
from execution_app.services.files import store_bytes
from execution_app.models import Run
from sessions_app import event_types
from sessions_app.services import append_events, create_session
from django.utils import timezone
texts = json.loads({texts!r})
session = create_session(owner=User.objects.first(), mode="one-shot", name={name!r})
run = Run.objects.create(session=session, number=1, task="x", status="completed", attempt=1,
                         started_at=timezone.now(), finished_at=timezone.now())
for path, text in json.loads({files!r}).items():
    record_artifacts(session.pk, run.pk, [store_bytes(path, text.encode())])
said = [event_types.AgentMessage(agent="engineer", content=text) for text in texts]
said += [event_types.UserMessage(content=text) for text in texts]
said += [event_types.StepCompleted(index=1, title=text[:200], summary=text) for text in texts]
said += [event_types.ToolCall(tool_name="t", arguments={{"code": text}}, result=text) for text in texts]
append_events(session.pk, said, run_id=run.pk)
print(session.pk)
"""
SHOWN = r"""# A result

The grid gives $H_0 = 67.38 \pm 0.55\ \mathrm{km\,s^{-1}\,Mpc^{-1}}$, and the sound horizon is

\[
r_s = \int_{z_*}^{\infty} \frac{c_s(z)}{H(z)}\,dz, \qquad \boldsymbol{\theta}_* = \frac{r_s(z_*)}{D_A(z_*)}
\]

| Model | $H_0$ | $\Omega_m$ |
|:--|--:|--:|
| LCDM | 67.38 | 0.3155 |

```python
f_ede = np.linspace(0.0, 0.15, 16)  # fraction at z_c
```

![A drawing](drawing.svg)
"""
SVG = "<svg xmlns='http://www.w3.org/2000/svg' width='64' height='64'><script>fetch('/ran')</script><rect style='fill:#369' width='64' height='64'/></svg>"


class Asked:
    """What a page asked for, and what it said."""

    def __init__(self, page: Page, house: House) -> None:
        self.foreign: list[str] = []
        self.ran: list[str] = []
        self._house = house
        page.on("request", lambda request: self._note(request.url))
        page.on("dialog", self._dismiss)

    def _dismiss(self, dialog: Dialog) -> None:
        self.ran.append(dialog.message)
        dialog.dismiss()

    def _note(self, url: str) -> None:
        if url.startswith(("data:", "blob:")):
            return
        if not url.startswith(self._house.url):
            self.foreign.append(url)
        if "/ran" in url or "sign-out" in url:
            self.ran.append(url)


def session_with(house: House, texts: list[str], files: dict[str, str], name: str) -> str:
    program = SESSION_FULL_OF_PROBES.format(
        texts=json.dumps(texts), files=json.dumps(files), name=name
    )
    return house.python(program)


@pytest.fixture(scope="module")
def probed(house: House) -> str:
    return session_with(house, list(PROBES), {"evil.md": "\n\n".join(PROBES)}, "Probes")


def test_a_message_full_of_probes_runs_nothing(
    open_tab: OpenTab, house: House, probed: str
) -> None:
    page = open_tab("/sessions/")
    asked = Asked(page, house)
    for path in (f"/sessions/{probed}/", f"/sessions/{probed}/files/evil.md"):
        page.goto(path)
        page.wait_for_load_state("networkidle")
        page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
        page.mouse.move(400, 400)
        page.wait_for_timeout(500)
    assert (asked.foreign, asked.ran) == ([], [])
    assert page.locator("script[src]").count() > 0  # the page's own, and only those
    assert page.locator("script:not([src])").count() == 0


def test_what_comes_over_the_socket_is_as_safe(open_tab: OpenTab, house: House) -> None:
    session = session_with(house, ["before"], {}, "Probes that come")
    page = open_tab(f"/sessions/{session}/")
    asked = Asked(page, house)
    expect(page.locator("html")).to_have_attribute("data-conn", "live", timeout=30_000)
    more = f"""
import json
from sessions_app import event_types
from sessions_app.models import Session
from sessions_app.services import append_events
session = Session.objects.get(pk={session!r})
texts = json.loads({json.dumps(list(PROBES))!r})
append_events(session.pk, [event_types.AgentMessage(agent="engineer", content=t) for t in texts])
"""
    before = page.locator("#entries .msg").count()
    house.python(more)
    expect(page.locator("#entries .msg")).to_have_count(before + len(PROBES), timeout=30_000)
    page.wait_for_timeout(500)
    assert (asked.foreign, asked.ran) == ([], [])


def test_formulas_tables_code_and_pictures_are_drawn(open_tab: OpenTab, house: House) -> None:
    session = session_with(house, [SHOWN], {"runs/1/drawing.svg": SVG}, "A result")
    page = open_tab(f"/sessions/{session}/")
    asked = Asked(page, house)
    page.reload()
    message = page.locator(".msg.agent").first
    formula = message.locator("math[display=block]")
    expect(formula).to_be_visible()
    box, fraction = formula.bounding_box(), formula.locator("mfrac").first.bounding_box()
    assert box
    assert fraction
    assert fraction["height"] > 20  # a fraction, not a line of letters
    assert page.evaluate("document.fonts.check('16px \"CMBAgent Math\"')")
    number = message.locator("td").nth(1)
    assert number.evaluate("cell => getComputedStyle(cell).textAlign") == "right"
    word = message.locator("pre.code .mf").first
    plain = message.locator("pre.code .n").first
    colour = "element => getComputedStyle(element).color"
    assert word.evaluate(colour) != plain.evaluate(colour)
    picture = message.get_by_alt_text("A drawing")
    picture.scroll_into_view_if_needed()
    expect(picture).to_have_js_property("naturalWidth", 64)
    assert (asked.foreign, asked.ran) == ([], [])
    assert violations_everywhere(page) == {}


def test_a_page_without_a_formula_does_not_ask_for_the_font(
    open_tab: OpenTab, house: House
) -> None:
    session = session_with(house, ["no formula"], {}, "Plain")
    page = open_tab("/sessions/")
    urls: list[str] = []
    page.on("request", lambda request: urls.append(request.url))
    page.goto(f"/sessions/{session}/")
    page.wait_for_load_state("networkidle")
    assert not [url for url in urls if re.search("cmbagent-math", url)]


def test_the_page_of_a_file_is_for_everybody(open_tab: OpenTab, house: House) -> None:
    files = {
        "t.csv": "name,value\n" + "a long name that goes on and on,1.5\n" * 300,
        "a.py": "def f(x):\n    return x  # " + "long " * 60 + "\n",
        "report.md": SHOWN,
        "drawing.svg": SVG,
        "paper.pdf": "%PDF-1.4",
    }
    session = session_with(house, ["files"], files, "Files")
    page = open_tab(f"/sessions/{session}/")
    page.get_by_role("tab", name="Files").click()
    page.get_by_role("link", name="t.csv", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("t.csv")
    for name in files:
        page.goto(f"/sessions/{session}/files/{name}")
        assert violations_everywhere(page) == {}, name
        page.set_viewport_size({"width": 320, "height": 640})
        assert page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0, name
    page.get_by_role("link", name="← Files").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Files")


# -- other pages under the policy -------------------------------------------------------------
@pytest.mark.parametrize(
    "path", ["/admin/", "/admin/sessions_app/session/", "/api/docs", "/nowhere/"]
)
def test_every_page_works_under_the_policy(open_tab: OpenTab, house: House, path: str) -> None:
    """open_tab fails on any complaint of the policy."""
    page = open_tab(path)
    asked = Asked(page, house)
    page.reload()
    page.wait_for_load_state("networkidle")
    assert asked.foreign == []
    if path == "/api/docs":
        expect(page.locator(".opblock").first).to_be_visible(timeout=30_000)
