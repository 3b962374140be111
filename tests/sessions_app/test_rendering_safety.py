"""Nothing that a model writes runs, asks another host or leads to an address of ours."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest

from sessions_app.models import Event
from sessions_app.rendering import markdown, sanitising
from sessions_app.rendering.markdown import Setting, markdown_html, run_files
from sessions_app.rendering.maths import mathml
from sessions_app.rendering.pieces import render_pieces
from tests.sessions_app.hostile_texts import PROBES, Tags, dangers, random_text

RUN = uuid.UUID("4ab52335-0a3a-4ff4-a0c6-ed83cdb6ec0e")
SETTING = Setting(file_address=run_files(RUN))
FUZZED = 1500


@pytest.mark.parametrize("probe", PROBES, ids=range(len(PROBES)))
def test_no_probe_survives(probe: str) -> None:
    for text in (
        probe,
        f"text {probe} text",
        f"> {probe}",
        f"- {probe}",
        f"| a |\n|-|\n| {probe} |",
    ):
        assert dangers(markdown_html(text, SETTING)) == []


@pytest.mark.parametrize("probe", PROBES, ids=range(len(PROBES)))
def test_no_probe_survives_in_an_entry(probe: str) -> None:
    """As the page gets it: its own links, times and folds are all there is beside the prose."""
    run_id, at = uuid.uuid4(), datetime.now(UTC)
    said = [
        ("agent_message", {"agent": probe, "content": probe}),
        ("user_message", {"content": probe}),
        ("step_completed", {"index": 1, "title": probe, "summary": probe}),
        (
            "tool_call",
            {"tool_name": probe, "arguments": {"code": probe, probe: 1}, "result": probe},
        ),
        ("run_failed", {"error_type": probe, "message": probe, "suggestion": probe}),
        ("phase_changed", {"phase": probe}),
    ]
    events = [
        Event(session_id=RUN, seq=seq, run_id=run_id, event_type=kind, data=data, created_at=at)
        for seq, (kind, data) in enumerate(said, start=1)
    ]
    for piece in render_pieces(events):
        tags = {tag for tag, _ in Tags(piece.html).found}
        assert not tags & {"script", "svg", "iframe", "style", "form", "object", "base", "meta"}
        names = {name for _, attributes in Tags(piece.html).found for name in attributes}
        assert not [name for name in names if name.startswith(("on", "hx-on", "hx-get", "style"))]


def test_nothing_survives_of_what_a_generator_puts_together() -> None:
    for seed in range(FUZZED):
        text = random_text(seed)
        assert dangers(markdown_html(text, SETTING)) == [], f"seed {seed}: {text!r}"


@pytest.mark.parametrize("probe", PROBES, ids=range(len(PROBES)))
def test_the_last_step_alone_holds_too(probe: str) -> None:
    """Were all that comes before it to let HTML through as it is."""
    html = sanitising.sanitised(probe)
    assert [found for found in dangers(html) if not found.startswith(("U+", "img src"))] == []


def test_without_the_last_step_nothing_survives_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(markdown, "sanitised", lambda html: html)
    for probe in PROBES:
        assert dangers(markdown_html(probe, SETTING)) == [], probe


def test_a_formula_lets_no_tag_out() -> None:
    html = mathml(r"\text{</mtext><script>alert(1)</script>}", is_block=False)
    assert "<script" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize(
    ("tex", "shown"),
    [
        (r"\rule{9999em}{1em}", "9999"),
        (r"\hspace{-500em}x", "500"),
        (r"\color{red;x:y}a", "red;"),
    ],
)
def test_a_formula_stays_where_it_is(tex: str, shown: str) -> None:
    found = [
        value
        for _, attributes in Tags(mathml(tex, is_block=True)).found
        for value in attributes.values()
    ]
    assert not [value for value in found if value and shown in value]


def test_images_are_files_of_the_run_and_nothing_else() -> None:
    html = markdown_html(
        "![the plot](figures/t t.png)![a](<b c.png>)![x](https://e.example/p.png)", SETTING
    )
    assert [a["src"] for tag, a in Tags(html).found if tag == "img"] == [
        f"/api/runs/{RUN}/files/b%20c.png"
    ]
    assert "x (https://e.example/p.png)" in Tags(html).text
    assert "<img" not in markdown_html("![a](tt.png)")  # whose file would it be?


def test_links_tell_nothing_of_where_one_comes_from() -> None:
    ((_, attributes),) = [
        tag for tag in Tags(markdown_html("[a](https://e.example/?a=1&b=2)")).found if tag[0] == "a"
    ]
    assert attributes == {
        "href": "https://e.example/?a=1&b=2",
        "rel": "noopener noreferrer nofollow",
    }


def test_a_link_that_may_not_be_followed_is_read() -> None:
    assert Tags(markdown_html("[the *table*](/sessions/)")).text.strip() == "the table (/sessions/)"
