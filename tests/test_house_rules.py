"""Rules of the house that no other tool holds; those that one does are asked of that tool."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db.models import CheckConstraint, Field, Model, Q

from cmbagent import context
from execution_app.models import Run
from execution_app.statuses import EDGES as RUN_EDGES
from execution_app.statuses import RunStatus
from sessions_app.event_types import ENGINE_EVENT_TYPES, EVENT_TYPES, EventData
from sessions_app.models import Session
from sessions_app.statuses import EDGES as SESSION_EDGES
from sessions_app.statuses import SessionStatus

BASE_DIR = Path(__file__).resolve().parent.parent
PACKAGES = ("cmbagent_site", "sessions_app", "approvals_app", "execution_app", "cmbagent")
APPS = ("sessions_app", "approvals_app", "execution_app")
MODULES = sorted(
    file
    for package in PACKAGES
    for file in (BASE_DIR / package).rglob("*.py")
    if "migrations" not in file.parts
)
LONGEST = 400
# Names that say nothing of what is inside.
NAMELESS = {"utils", "util", "common", "helpers", "helper", "core", "misc", "lib", "tools", "base"}
# The plan's own count, letter for letter.
PRINTS = (
    'grep -rn "print(" manage.py cmbagent_site sessions_app approvals_app execution_app cmbagent '
    '--include="*.py" | wc -l'
)
# (file, module): why it is not imported at the top
IMPORTED_LATE = {
    ("cmbagent_site/apps.py", "cmbagent_site.checks"): "Django wants checks registered by then",
    ("tests/conftest.py", "django.conf"): "settings are not loaded before the fixture runs",
}


def relative(file: Path) -> str:
    return str(file.relative_to(BASE_DIR))


# -- modules ----------------------------------------------------------------------------------
def test_no_module_is_longer_than_one_can_read() -> None:
    lengths = {relative(file): len(file.read_text().splitlines()) for file in MODULES}
    assert {file: length for file, length in lengths.items() if length > LONGEST} == {}


def test_no_module_is_called_after_nothing() -> None:
    assert [relative(f) for f in MODULES if NAMELESS & {f.stem, *f.parent.parts}] == []


def test_nothing_is_printed() -> None:
    counted = subprocess.run(
        ["sh", "-c", PRINTS], cwd=BASE_DIR, capture_output=True, text=True, check=True
    )
    assert counted.stdout.strip() == "0"


@pytest.mark.parametrize("app", APPS)
def test_every_file_of_an_app_has_a_known_meaning(app: str) -> None:
    """The table in docs/architecture.md says what each name means, in every app."""
    section = (BASE_DIR / "docs/architecture.md").read_text().split("### Files of an app")[1]
    known = set(re.findall(r"`(\w+)(?:\.py|/)`", section.split("\n#")[0]))
    found = {entry.stem for entry in (BASE_DIR / app).iterdir() if entry.stem != "__pycache__"}
    assert found - known == {"__init__"}


def late_imports(file: Path) -> Iterator[str]:
    for function in ast.walk(ast.parse(file.read_text())):
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            for node in ast.walk(function):
                if isinstance(node, ast.Import):
                    yield from (name.name for name in node.names)
                elif isinstance(node, ast.ImportFrom):
                    yield node.module or "."


def test_imports_stand_at_the_top() -> None:
    files = [*MODULES, BASE_DIR / "manage.py", *(BASE_DIR / "tests").rglob("*.py")]
    late = {(relative(file), module) for file in files for module in late_imports(file)}
    assert late == set(IMPORTED_LATE)


def test_no_tracked_file_names_an_index_or_a_folder_of_one_machine() -> None:
    looked = subprocess.run(
        ["scripts/check-addresses"], cwd=BASE_DIR, capture_output=True, text=True, check=False
    )
    assert (looked.returncode, looked.stdout) == (0, "")


# -- words ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("model", "statuses", "edges", "constraint"),
    [
        (Session, SessionStatus, SESSION_EDGES, "session_status_known"),
        (Run, RunStatus, RUN_EDGES, "run_status_known"),
    ],
)
def test_statuses_are_one_list(
    model: type[Model], statuses: Any, edges: dict[Any, Any], constraint: str
) -> None:
    """Vocabulary, edges, the column's choices and the database's constraint agree."""
    assert set(edges) == set(statuses)
    column = model._meta.get_field("status")
    assert isinstance(column, Field)
    assert column.choices == statuses.choices
    (check,) = [c for c in model._meta.constraints if c.name == constraint]
    assert isinstance(check, CheckConstraint)
    assert check.condition == Q(status__in=statuses.values)


def test_every_status_is_reached_and_every_edge_leads_to_one() -> None:
    begin = {SessionStatus: SessionStatus.ACTIVE, RunStatus: RunStatus.QUEUED}
    for statuses, edges in ((SessionStatus, SESSION_EDGES), (RunStatus, RUN_EDGES)):
        targets = {target for each in edges.values() for target in each}
        assert targets | {begin[statuses]} == set(statuses)


def test_every_type_of_event_has_a_class_and_a_line_in_the_catalogue() -> None:
    catalogue = (BASE_DIR / "docs/events.md").read_text()
    listed = re.findall(r"^\| `(\w+)` \|", catalogue, flags=re.MULTILINE)
    assert listed == list(EVENT_TYPES)
    assert set(EVENT_TYPES.values()) == set(EventData.__subclasses__())
    assert set(EVENT_TYPES) >= ENGINE_EVENT_TYPES


def test_an_engine_says_only_what_it_may() -> None:
    source = "".join(file.read_text() for file in (BASE_DIR / "cmbagent").rglob("*.py"))
    said = set(re.findall(r'\.emit\(\s*"(\w+)"', source))
    assert said
    assert said <= ENGINE_EVENT_TYPES
    assert hasattr(context.Run, "emit")
