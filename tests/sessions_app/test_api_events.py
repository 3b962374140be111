"""The log over REST: every event once, in order, in pages that are not too big."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import User

from sessions_app import event_types
from sessions_app.models import Session
from sessions_app.services import append_events
from tests.api_client import ApiClient, answer, refusal
from tests.conftest import As, MakeSession


def _page(client: ApiClient, session: Session, **query: Any) -> Any:
    return answer(client.get(f"/api/sessions/{session.pk}/events", query))


def _said(count: int, size: int = 2) -> list[event_types.EventData]:
    return [event_types.UserMessage(content=f"{n}".ljust(size)) for n in range(count)]


def test_an_event_has_the_fields_it_has_on_the_socket(
    api: As, alice: User, make_session: MakeSession
) -> None:
    session = make_session(alice, name="One")
    page = _page(api(alice), session)
    assert (page["head"], page["epoch"], page["more"]) == (1, session.epoch, False)
    (event,) = page["events"]
    assert event.pop("timestamp").endswith("Z")
    assert event == {
        "seq": 1,
        "event_type": "session_created",
        "session_id": str(session.pk),
        "run_id": None,
        "step": None,
        "data": {"mode": "one-shot", "name": "One"},
    }


def test_following_the_pages_gives_the_whole_log(
    api: As, alice: User, make_session: MakeSession
) -> None:
    session, client, seen, after = make_session(alice), api(alice), [], 0
    append_events(session.pk, _said(250))
    while True:
        page = _page(client, session, after=after, limit=120)
        seen += [event["seq"] for event in page["events"]]
        after = seen[-1]
        if not page["more"]:
            break
    assert seen == list(range(1, 252))
    assert _page(client, session, after=251)["events"] == []
    assert _page(client, session, after=9_999)["events"] == []


def test_a_page_is_not_larger_than_four_megabytes(
    api: As, alice: User, make_session: MakeSession
) -> None:
    session = make_session(alice)
    append_events(session.pk, _said(160, size=30_000))
    response = api(alice).get(f"/api/sessions/{session.pk}/events", {"limit": 5000})
    page = answer(response)
    assert 3.9 * 2**20 < len(response.content) <= 4 * 2**20
    assert page["more"] is True
    rest = _page(api(alice), session, after=page["events"][-1]["seq"], limit=5000)
    assert (rest["events"][0]["seq"], rest["more"]) == (page["events"][-1]["seq"] + 1, False)


def test_one_type_alone(api: As, alice: User, make_session: MakeSession) -> None:
    session = make_session(alice)
    append_events(session.pk, [*_said(3), event_types.AgentMessage(agent="a", content="b")])
    page = _page(api(alice), session, event_type="user_message", limit=2)
    assert ([event["seq"] for event in page["events"]], page["more"]) == ([2, 3], True)
    assert page["head"] == 5


@pytest.mark.parametrize(
    ("name", "value"),
    [("after", -1), ("after", 2**64), ("limit", 0), ("limit", 5001), ("event_type", "nonsense")],
)
def test_a_filter_outside_its_vocabulary_is_named(
    api: As, alice: User, make_session: MakeSession, name: str, value: object
) -> None:
    session = make_session(alice)
    response = api(alice).get(f"/api/sessions/{session.pk}/events", {name: value})
    assert list(refusal(response, 422, "invalid")["fields"]) == [name]
