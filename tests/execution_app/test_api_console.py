"""The console over REST: the whole log as text, its tail, its lines with a word."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import AsyncRequestFactory

from execution_app.downloads import text_response
from execution_app.models import Run
from execution_app.transcript import transcript
from sessions_app.event_types import Output
from sessions_app.services import append_events
from tests.api_client import refusal
from tests.conftest import As, MakeRun, MakeSession


@pytest.fixture
def run(alice: User, make_session: MakeSession, make_run: MakeRun) -> Run:
    return make_run(make_session(alice), status="running")


def _print(run: Run, *printed: tuple[str, str] | tuple[str, str, bool]) -> None:
    """(stream, text[, continues]) for each event."""
    events = [
        Output(stream=stream, line=1, text=text, cont=bool(rest and rest[0]))
        for stream, text, *rest in printed
    ]
    append_events(run.session_id, events, run_id=run.pk)


def _console(api: As, user: User, run: Run, **query: Any) -> str:
    response = api(user).get(f"/api/runs/{run.pk}/console", query)
    assert response.status_code == 200
    assert response["Content-Type"] == "text/plain; charset=utf-8"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in response["Content-Security-Policy"]
    return b"".join(response).decode()


def test_events_join_to_what_was_printed(api: As, alice: User, run: Run) -> None:
    _print(run, ("stdout", "one\ntw"), ("stdout", "o\n", True), ("stdout", "ü\n"))
    assert _console(api, alice, run) == "one\ntwo\nü\n"


def test_a_newline_stands_where_a_line_is_broken_into(api: As, alice: User, run: Run) -> None:
    _print(run, ("stdout", "half"), ("stderr", "warning\n"), ("stdout", " a line\n", True))
    assert _console(api, alice, run) == "half\nwarning\n a line\n"


def test_a_new_attempt_begins_a_new_line(api: As, alice: User, run: Run) -> None:
    _print(run, ("stdout", "interrup"), ("stdout", "again\n"))
    assert _console(api, alice, run) == "interrup\nagain\n"


def test_an_empty_console(api: As, alice: User, run: Run) -> None:
    assert _console(api, alice, run) == ""
    assert _console(api, alice, run, tail=5) == ""
    assert _console(api, alice, run, grep="x", tail=5) == ""


@pytest.mark.parametrize("tail", [1, 2, 3, 4, 5, 6, 7, 99])
@pytest.mark.parametrize("end", ["\n", ""])
def test_the_tail_is_the_last_lines(api: As, alice: User, run: Run, tail: int, end: str) -> None:
    _print(run, ("stdout", "1\n2\n3"), ("stderr", "4\n5"), ("stderr", "5\n", True))
    _print(run, ("stdout", f"6\n7{end}"))
    whole = _console(api, alice, run)
    assert whole == f"1\n2\n3\n4\n55\n6\n7{end}"
    expected = "".join(whole.splitlines(keepends=True)[-tail:])
    assert _console(api, alice, run, tail=tail) == expected


def test_the_lines_with_a_text(api: As, alice: User, run: Run) -> None:
    _print(
        run, ("stdout", "H0 = 60\nomega\nH0"), ("stdout", " = 70\n", True), ("stdout", "H0 = 75")
    )
    assert _console(api, alice, run, grep="H0") == "H0 = 60\nH0 = 70\nH0 = 75\n"
    assert _console(api, alice, run, grep="H0 = 7", tail=1) == "H0 = 75\n"
    assert _console(api, alice, run, grep=".*") == ""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tail", "0"),
        ("tail", "-1"),
        ("tail", "many"),
        ("grep", ""),
        ("grep", "\0"),
        ("grep", "x" * 1001),
    ],
)
def test_a_filter_that_is_none_is_named(
    api: As, alice: User, run: Run, name: str, value: str
) -> None:
    response = api(alice).get(f"/api/runs/{run.pk}/console", {name: value})
    assert list(refusal(response, 422, "invalid")["fields"]) == [name]


def test_head_sends_no_text(api: As, alice: User, run: Run) -> None:
    _print(run, ("stdout", "one\n"))
    response = api(alice).head(f"/api/runs/{run.pk}/console")
    assert (response.status_code, response.content) == (200, b"")


@pytest.mark.parametrize(
    "options", [{}, {"tail": 300_000}, {"grep": "7"}, {"grep": "7", "tail": 9}]
)
def test_memory_is_bounded_whatever_was_printed(run: Run, options: dict[str, Any]) -> None:
    text = "".join(f"line {n:07}\n" for n in range(2000))
    for _ in range(20):
        _print(run, *[("stdout", text)] * 10)  # 400,000 lines, 5 MB
    one_line = [("stdout", "x" * 24_000, n > 0) for n in range(200)]  # and one of 4.8 MB
    _print(run, *one_line)
    tracemalloc.start()
    size = sum(len(chunk) for chunk in transcript(run.pk, **options))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size > 100
    assert peak < 12 * 2**20


async def test_under_asgi_it_is_streamed_too() -> None:
    request = AsyncRequestFactory().get("/")
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"more"

    async for chunk in text_response(request, endless()):  # type: ignore[attr-defined]
        assert chunk == b"more"
        break
    assert taken == 1


@pytest.mark.parametrize(
    ("model", "said"), [("no-model", "no AI was used"), ("lab/seven-1", "model lab/seven-1")]
)
def test_it_says_whose_words_it_follows_from_when_it_is_asked(
    api: As, alice: User, run: Run, model: str, said: str
) -> None:
    _print(run, ("stdout", "one\n"))
    Run.objects.filter(pk=run.pk).update(model=model)
    first, second = _console(api, alice, run, about="true").splitlines()
    assert first == f"# run 1 of session {run.session_id}: {said}"
    assert second == "one"
    assert _console(api, alice, run) == "one\n"
