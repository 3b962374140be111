"""What the documents say is so: names of tests, commands, settings, files and links are looked up."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from django.core.management import get_commands

from cmbagent.models.choosing import VARIABLES
from execution_app.statuses import RunStatus
from sessions_app.event_types import EVENT_TYPES
from sessions_app.management.commands.event_catalogue import event_catalogue
from sessions_app.statuses import SessionStatus

BASE_DIR = Path(__file__).resolve().parent.parent
DOCS = BASE_DIR / "docs"
PACKAGES = ("cmbagent_site", "sessions_app", "approvals_app", "execution_app", "cmbagent")
PAGES = sorted([*BASE_DIR.glob("*.md"), *DOCS.rglob("*.md")])
STAGES = [*map(str, range(1, 12)), "11B", "11C", "12", "13", "14"]
TEST = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PATH = re.compile(
    r"`((?:cmbagent|sessions_app|approvals_app|execution_app|cmbagent_site|docs|tests|bench"
    r"|static|templates|requirements|scripts)/[\w./-]+)`"
)
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def read(name: str) -> str:
    return (BASE_DIR / name).read_text()


def relative(page: Path) -> str:
    return str(page.relative_to(BASE_DIR))


def every_page(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=relative)


@cache
def names_in(file: str) -> frozenset[str]:
    """The names of the tests in a file, found without importing it."""
    path = BASE_DIR / file
    nodes = ast.walk(ast.parse(path.read_text())) if path.exists() else ()
    functions = [node for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


def rows_of(text: str) -> list[list[str]]:
    """The cells of a Markdown table's rows, without its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    bare = [line.replace(r"\|", "\0").strip("|").split("|") for line in lines[2:]]
    return [[cell.replace("\0", "|").strip() for cell in row] for row in bare]


# -- the plan ---------------------------------------------------------------------------------
def stages() -> dict[str, str]:
    parts = re.split(r"^## Stage (\w+): ", read("docs/plan.md"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_plan_has_all_its_stages() -> None:
    assert list(stages()) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_each_criterion_has_its_proof_or_says_not_yet(stage: str) -> None:
    rows = rows_of(stages()[stage])
    assert rows
    bare = [row for row in rows if len(row) != 2 or not row[0]]
    unproved = [row for row in rows if not TEST.search(row[-1]) and "not yet:" not in row[-1]]
    assert (bare, unproved) == ([], [])


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_says_how_to_roll_it_back(stage: str) -> None:
    assert re.search(r"^\*\*Roll back\.\*\* \S", stages()[stage], re.MULTILINE)


@every_page(PAGES)
def test_every_test_that_a_page_names_exists(page: Path) -> None:
    named = TEST.findall(page.read_text())
    assert [(file, name) for file, name in named if name not in names_in(file)] == []


def test_the_promises_stand_with_their_proofs() -> None:
    section = read("docs/architecture.md").split("## Promises")[1].split("\n## ")[0]
    rows = rows_of(section)
    assert [row[0] for row in rows] == [str(number) for number in range(1, 9)]
    assert all(TEST.search(row[2]) or "not yet:" in row[2] for row in rows)


# -- made from code ---------------------------------------------------------------------------
def test_the_catalogue_of_events_is_current() -> None:
    assert read("docs/events.md") == event_catalogue(), (
        "run: .venv/bin/python manage.py event_catalogue > docs/events.md"
    )


@pytest.mark.parametrize("event_type", EVENT_TYPES)
def test_every_event_says_what_it_means(event_type: str) -> None:
    assert EVENT_TYPES[event_type].__doc__


def test_statuses_are_listed_as_they_are() -> None:
    text = read("docs/architecture.md")
    for statuses in (SessionStatus, RunStatus):
        assert f"`{', '.join(statuses.values)}`" in text


# -- settings, verbs, commands ----------------------------------------------------------------
def settings_read() -> set[str]:
    source = read("cmbagent_site/settings.py") + read("cmbagent_site/environment.py")
    return set(re.findall(r'\benv\.\w+\(\s*"([A-Z_]+)"', source)) | VARIABLES


def test_every_setting_is_in_the_operators_table_and_no_other() -> None:
    section = read("docs/operations.md").split("## Settings")[1].split("\n## ")[0]
    named = {name for row in rows_of(section) for name in re.findall(r"`([A-Z_]+)`", row[0])}
    assert named == settings_read()


def test_the_example_names_settings_that_exist() -> None:
    named = re.findall(r"^#?([A-Z_]+)=", read(".env.example"), flags=re.MULTILINE)
    assert named
    assert set(named) <= settings_read()


@every_page(PAGES)
def test_every_verb_is_one_of_make(page: Path) -> None:
    verbs = set(re.findall(r"^([a-z]+):", read("Makefile"), flags=re.MULTILINE))
    text = page.read_text()
    said = set(re.findall(r"(?:^ {4}|`)make ([a-z]+)\b", text, flags=re.MULTILINE))
    assert said - verbs == set()


def test_the_readme_shows_both_commands() -> None:
    shown = re.findall(r"^ {4}make (\w+)$", read("README.md"), flags=re.MULTILINE)
    assert {"run", "test"} <= set(shown)


@every_page(PAGES)
def test_every_management_command_exists(page: Path) -> None:
    said = set(re.findall(r"manage\.py ([a-z_]+)", page.read_text()))
    assert said - set(get_commands()) == set()


def test_every_command_of_ours_is_in_the_operators_table() -> None:
    ours = {name for name, app in get_commands().items() if app in PACKAGES}
    text = read("docs/operations.md")
    assert {name for name in ours if f"`{name}" not in text} == set()


def test_every_system_check_is_explained() -> None:
    ids = set(re.findall(r"cmbagent\.E\d{3}", read("cmbagent_site/checks.py")))
    assert ids == set(re.findall(r"cmbagent\.E\d{3}", read("docs/operations.md")))


# -- files and links --------------------------------------------------------------------------
def anchors(page: Path) -> set[str]:
    """Of a page's headings, as Markdown viewers make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", page.read_text()), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def is_broken(page: Path, link: str) -> bool:
    if re.match(r"[a-z]+:", link):
        return False
    file, _, anchor = link.partition("#")
    target = (page.parent / file).resolve() if file else page
    return not target.exists() or (bool(anchor) and anchor not in anchors(target))


@every_page(PAGES)
def test_no_link_to_a_file_is_broken(page: Path) -> None:
    links = LINK.findall(FENCE.sub("", page.read_text()))
    assert [link for link in links if is_broken(page, link)] == []


@every_page(PAGES)
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    named = PATH.findall(FENCE.sub("", page.read_text()))
    assert [path for path in named if not (BASE_DIR / path).exists()] == []


def test_what_code_says_about_documents_is_there() -> None:
    sources = [BASE_DIR / "Makefile", BASE_DIR / "manage.py"]
    sources += [file for package in PACKAGES for file in (BASE_DIR / package).rglob("*.py")]
    named = {
        (relative(file), name)
        for file in sources
        for name in re.findall(r"\bdocs/[\w/-]+(?:\.\w+)*", file.read_text())
    }
    assert sorted((file, name) for file, name in named if not list(BASE_DIR.glob(f"{name}*"))) == []


def test_every_decision_is_in_the_index() -> None:
    files = {file.name for file in DOCS.glob("decisions/[0-9]*.md")}
    listed = LINK.findall(read("docs/decisions/README.md"))
    assert sorted(listed) == sorted(files)


def test_every_dependency_that_was_chosen_has_a_reason() -> None:
    """Beyond what the house was asked to stand on, and what that brings with it."""
    asked_for = {"django", "django-q2", "channels", "channels-redis", "daphne", "django-structlog"}
    asked_for |= {"asgiref", "redis", "structlog"}
    lines = re.findall(r"^([a-z0-9-]+)", read("requirements/server.in"), flags=re.MULTILINE)
    written = " ".join(file.read_text().lower() for file in DOCS.glob("decisions/[0-9]*.md"))
    assert [name for name in set(lines) - asked_for if name not in written] == []
