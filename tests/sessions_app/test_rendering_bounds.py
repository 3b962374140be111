"""However long, deep or crooked a text is, it becomes a page in bounded time."""

from __future__ import annotations

import json
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from sessions_app.models import Event
from sessions_app.rendering import pieces
from sessions_app.rendering.cache import TextCache
from sessions_app.rendering.code import _LANGUAGES, MAX_HIGHLIGHTED, code_html
from sessions_app.rendering.entries import _called
from sessions_app.rendering.markdown import MAX_MARKDOWN, MAX_PLAIN, is_excessive, markdown_html
from sessions_app.rendering.maths import MAX_TEX, mathml
from sessions_app.rendering.pieces import render_pieces
from tests.sessions_app.hostile_texts import Tags

ENOUGH = 40.0  # seconds of processor time: what is not bounded takes minutes
PATTERNS = (
    *(
        "[",
        "![",
        "[a](",
        "[a][b]",
        "**",
        "*a ",
        "_a",
        "`",
        "``a` ",
        "<",
        "&",
        "$",
        "$$ a",
        "\\(",
        "\\[x",
    ),
    *(
        "> x\n",
        "- ",
        "- a\n  - b\n",
        "a\n",
        "=\n",
        "|a",
        "\\begin{align}\n",
        "\\[\nx\n",
        "$$\nx\n",
        "[a]: b\n",
    ),
    *("\\begin{align}\nx\n\\begin{gather}\nx\n", "***a", "~~", "\\", "\t", "[\\\\", "<!--", "]"),
)


def within_bounds(pattern: str) -> str:
    """As much of it as is looked into at all."""
    text = pattern * (MAX_MARKDOWN // len(pattern))
    while is_excessive(text):
        text = text[: len(text) * 9 // 10]
    return text


@pytest.mark.parametrize("pattern", PATTERNS)
def test_the_longest_text_that_is_looked_into(pattern: str) -> None:
    text, began = within_bounds(pattern), time.process_time()
    markdown_html(text)
    assert time.process_time() - began < ENOUGH


@pytest.mark.parametrize(
    "text",
    [
        "word " * 200_000,
        ">" * 10_000 + "x",
        "[" * 10_000,
        "[" * 10_000 + "]" * 10_000,
        "(" * 10_000,
        "\n".join("  " * depth + "- x" for depth in range(1000)),
        ("|" + "a|" * 100 + "\n|" + "-|" * 100 + "\n") + ("|" + "a|" * 100 + "\n") * 1000,
        "*" * 1_000_000,
        "\x00" * 10_000,
    ],
    ids=[
        "1 MB",
        "quotes",
        "brackets",
        "pairs",
        "parentheses",
        "lists",
        "10^5 cells",
        "stars",
        "NUL",
    ],
)
def test_what_nobody_writes_neither_hangs_nor_raises(text: str) -> None:
    began = time.process_time()
    assert Tags(markdown_html(text)).text.strip()
    assert time.process_time() - began < ENOUGH


def test_what_is_too_long_is_shown_as_it_is() -> None:
    text = "**x** <b>" + "y" * MAX_MARKDOWN
    html = markdown_html(text)
    assert html.startswith('<pre class="plain"')
    assert Tags(html).text == text


def test_what_is_far_too_long_says_how_much_is_left_out() -> None:
    text = Tags(markdown_html("z" * (MAX_PLAIN + 1234))).text
    assert (text.count("z"), text.endswith("… 1,234 more characters")) == (MAX_PLAIN, True)


@pytest.mark.parametrize("language", _LANGUAGES)
def test_code_takes_no_longer_than_its_length(language: str) -> None:
    began = time.process_time()
    for pattern in ("(", "{", '"', "'", "/*", "a:", "a.", "<<", "$(", "[[", "-", "\\", 'R"('):
        line = (pattern * 390)[:390] + "\n"
        code_html(line * (MAX_HIGHLIGHTED // 20 // len(line)), language)
    assert time.process_time() - began < ENOUGH


@pytest.mark.parametrize(
    ("language", "begun", "written"),
    [("cpp", 'R"(', 'auto x = R"(a)";'), ("rust", 'r#"', 'let x = r#"a"#;')],
)
def test_raw_text_that_is_never_closed_is_looked_for_a_few_times_only(
    language: str, begun: str, written: str
) -> None:
    line = begun * 130 + "\n"
    code = line * (MAX_HIGHLIGHTED // len(line))
    assert "<span" not in code_html(code, language)
    assert "<span" in code_html(f"{written}\n" * 20, language)


def test_code_that_nobody_wrote_is_not_looked_into() -> None:
    for code in ("x = 1\n" + "y" * 500, "a\n" + "\n" * 30 + "b", "x = 1\n" * MAX_HIGHLIGHTED):
        assert "<span" not in code_html(code, "python")


@pytest.mark.parametrize(
    "piece",
    [
        "{",
        "^",
        "a'",
        "&",
        "\\\\",
        "\\frac",
        "\\left(",
        "\\sqrt[",
        "\\begin{matrix}",
        "\\text{",
        "$",
    ],
)
def test_a_formula_takes_no_longer_than_its_length(piece: str) -> None:
    began = time.process_time()
    assert mathml((piece * MAX_TEX)[:MAX_TEX], is_block=True)
    assert time.process_time() - began < ENOUGH


# -- the cache --------------------------------------------------------------------------------
def message(content: str, **fields: Any) -> Event:
    known = {"session_id": uuid.UUID(int=1), "seq": 1, "created_at": datetime.now(UTC)}
    data = {"agent": "engineer", "content": content}
    return Event(event_type="agent_message", data=data, **{**known, **fields})


def test_an_event_is_rendered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    events = [message("*one*", seq=1), message("*two*", seq=2)]
    first = render_pieces(events)
    monkeypatch.setattr(pieces, "make_entries", None)  # would raise
    assert render_pieces(events) == first
    assert "<em>two</em>" in first[1].html


@pytest.mark.parametrize(
    "other",
    [
        {"seq": 2},
        {"session_id": uuid.UUID(int=2)},
        {"created_at": datetime.now(UTC) + timedelta(microseconds=1)},
    ],
)
def test_another_event_is_not_taken_for_it(other: dict[str, Any]) -> None:
    """A restored backup may give a number again: at another moment."""
    at = datetime.now(UTC)
    (before,) = render_pieces([message("before", created_at=at)])
    (after,) = render_pieces([message("after", **{"created_at": at, **other})])
    assert ("before" in before.html, "after" in after.html) == (True, True)


def test_the_cache_is_bounded_in_bytes_and_drops_what_was_not_used() -> None:
    cache = TextCache(max_bytes=100_000)
    for number in range(200):
        cache.put(number, "x" * 1000)
        cache.get(0)
    assert cache.size <= 100_000
    assert cache.get(0) is not None
    assert cache.get(1) is None
    cache.put("huge", "x" * 50_000)
    assert cache.get("huge") is None
    assert cache.get(199) is not None


def test_many_threads_share_the_cache() -> None:
    cache = TextCache(max_bytes=50_000)
    start = threading.Barrier(8)

    def work(seed: int) -> None:
        start.wait()
        for number in range(500):
            key = (number * seed) % 97
            if (found := cache.get(key)) is not None:
                assert found == f"{key}" * 100
            cache.put(key, f"{key}" * 100)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(1, 9)))
    assert cache.size <= 50_000


def test_many_threads_render_alike() -> None:
    text = "# A\n\n$x$ `y` *z*\n\n```python\nx = 1\n```\n"
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: markdown_html(text), range(64)))) == 1


def test_a_result_is_not_blown_up_by_its_indents() -> None:
    """32 KB of an event would become 27 MB of spaces, for everybody who looks."""
    deep = "[" * 900 + ",".join("1" * 15_000) + "]" * 900
    data = {"tool_name": "t", "arguments": {"x": json.loads(deep)}, "result": deep}
    for fold in _called(data).folds:
        assert len(fold.code) < 100_000


def test_what_looks_like_a_sum_of_money_is_looked_at_once() -> None:
    """Half a minute in one regular expression: nothing else in the process moves meanwhile."""
    began = time.process_time()
    markdown_html("$1" + "ab" * 49_000 + "^$")
    assert time.process_time() - began < ENOUGH / 4
