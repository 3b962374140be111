"""What axe says of a page as it is shown now."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from tests.browser.conftest import Scheme

RULES = [
    *("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"),
    "best-practice",
]
SCHEMES: tuple[Scheme, ...] = ("light", "dark")
WIDTHS = (1280, 390)
_axe = Axe()


def violations(page: Page) -> list[str]:
    """Each with the rule, the element and what is wrong with it."""
    options: dict[str, Any] = {
        "runOnly": {"type": "tag", "values": RULES},
        "resultTypes": ["violations"],
    }
    found = _axe.run(page, options=options).response["violations"]
    return [
        f"{rule['id']} {node['html'][:200]} {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]


def violations_everywhere(page: Page) -> dict[str, list[str]]:
    """In both themes and at both widths; empty when there is none."""
    found = {}
    for scheme in SCHEMES:
        for width in WIDTHS:
            page.emulate_media(color_scheme=scheme)
            page.set_viewport_size({"width": width, "height": 844 if width < 760 else 800})
            if said := violations(page):
                found[f"{scheme} {width}"] = said
    return found


def overflow_at(page: Page, width: int) -> int:
    """Pixels by which the page is wider than a screen of this width."""
    page.set_viewport_size({"width": width, "height": 640})
    return int(page.evaluate("document.documentElement.scrollWidth - innerWidth"))
