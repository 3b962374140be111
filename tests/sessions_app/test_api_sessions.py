"""Sessions over REST: create, list, look, delete."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User

from execution_app.models import Run
from sessions_app import event_types
from sessions_app.models import Session
from sessions_app.modes import MODES
from sessions_app.services import append_events
from tests.api_client import answer, refusal
from tests.conftest import As, MakeRun, MakeSession


def test_a_session_is_created_with_its_summary(api: As, alice: User) -> None:
    body = answer(api(alice).post("/api/sessions", {"mode": "one-shot", "name": "First"}), 201)
    assert set(body) == {
        "session_id", "name", "mode", "status", "current_phase", "current_step",
        "created_at", "updated_at",
    }  # fmt: skip
    assert (body["name"], body["mode"], body["status"]) == ("First", "one-shot", "active")
    assert Session.objects.get(pk=body["session_id"]).owner == alice
    assert body["created_at"].endswith("Z")


def test_a_session_without_a_name_gets_one(api: As, alice: User) -> None:
    body = answer(api(alice).post("/api/sessions", {"mode": "one-shot"}), 201)
    assert body["name"].startswith("one-shot_")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "mode"),
        ({"mode": "no-such"}, "mode"),
        ({"mode": 7}, "mode"),
        ({"mode": "one-shot", "name": "x" * 201}, "name"),
        ({"mode": "one-shot", "name": "a\0b"}, "name"),
        ({"mode": "one-shot", "name": "\ud800"}, "name"),
        ({"mode": "one-shot", "task": "print(1)"}, "task"),
        ({"mode": "one-shot", "config": {"nonsense": 1}}, "config.nonsense"),
        ({"mode": "one-shot", "config": {"parameters": {"H0": "\0"}}}, "config"),
        *(
            ({"mode": "one-shot", "config": {"parameters": {"H0": bad}}}, "config.parameters.H0")
            for bad in ("warm", "inf", "-Infinity", "nan", "1e999", 10**400)
        ),
        *(
            ({"mode": "one-shot", "config": {field: value}}, f"config.{place}")
            for field, value, place in [
                ("parameters", {f"p{n}": n for n in range(101)}, "parameters"),
                ("parameters", {"p" * 101: 1}, "parameters." + "p" * 100),
                ("options", {f"o{n}": "" for n in range(101)}, "options"),
                ("options", {"o" * 101: ""}, "options." + "o" * 100),
                ("options", {"spectra": "x" * 201}, "options.spectra"),
                ("instructions", "x" * 8_001, "instructions"),
            ]
        ),
    ],
)
def test_what_is_not_valid_is_named(
    api: As, alice: User, body: dict[str, object], field: str
) -> None:
    refused = refusal(api(alice).post("/api/sessions", body), 422, "invalid")
    assert field in refused["fields"]
    assert not Session.objects.exists()


def test_everybody_sees_their_own_and_staff_see_all(
    api: As, alice: User, bob: User, charlie: User, staff: User, make_session: MakeSession
) -> None:
    make_session(alice, name="hers")
    make_session(bob, name="his")
    names = {
        user.username: {s["name"] for s in answer(api(user).get("/api/sessions"))["sessions"]}
        for user in (alice, bob, charlie, staff)
    }
    assert names == {"alice": {"hers"}, "bob": {"his"}, "charlie": set(), "staff": {"hers", "his"}}


def test_newest_update_comes_first(api: As, alice: User, make_session: MakeSession) -> None:
    first, second = make_session(alice, name="first"), make_session(alice, name="second")
    append_events(first.pk, [event_types.UserMessage(content="again")])
    listed = answer(api(alice).get("/api/sessions"))["sessions"]
    assert [s["session_id"] for s in listed] == [str(first.pk), str(second.pk)]


@pytest.mark.parametrize("by", ["cursor", "offset"])
def test_pages_show_each_session_once(
    api: As, alice: User, make_session: MakeSession, by: str
) -> None:
    made = [make_session(alice, name=str(n)) for n in range(5)]
    same = made[0].updated_at
    Session.objects.update(updated_at=same)  # ties are broken by id
    Session.objects.filter(pk=made[2].pk).update(updated_at=same + timedelta(seconds=1))
    client, seen, query = api(alice), [], {"limit": 2}
    for _ in range(3):
        page = answer(client.get("/api/sessions", query))
        seen += [s["name"] for s in page["sessions"]]
        assert (page["total"], page["total_at_least"]) == (5, False)
        query = {"limit": 2} | (
            {"cursor": page["next_cursor"]} if by == "cursor" else {"offset": len(seen)}
        )
    assert query.get("cursor") is None
    assert sorted(seen) == ["0", "1", "2", "3", "4"]
    assert seen[0] == "2"


def test_filters(api: As, alice: User, make_session: MakeSession) -> None:
    make_session(alice, name="Dark matter")
    done = make_session(alice, name="Dark energy")
    Session.objects.filter(pk=done.pk).update(status="completed")
    client = api(alice)

    def names(**query: str) -> set[str]:
        return {s["name"] for s in answer(client.get("/api/sessions", query))["sessions"]}

    assert names(q="dark") == {"Dark matter", "Dark energy"}
    assert names(q="ENERGY") == {"Dark energy"}
    assert names(status="completed") == {"Dark energy"}
    assert names(mode="one-shot", status="active") == {"Dark matter"}
    assert names(q="50%") == set()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "done"), ("mode", "no-such"), ("limit", "0"), ("limit", "201"),
        ("limit", "many"), ("offset", "-1"), ("offset", "9" * 30), ("q", "\0"),
        ("cursor", "nonsense"), ("cursor", "w6k="), ("cursor", "OTk5OTk5OTk5OTk5OTk5OTk5OTkgMQ=="),
    ],
)  # fmt: skip
def test_a_filter_outside_its_vocabulary_is_named(
    api: As, alice: User, name: str, value: str
) -> None:
    refused = refusal(api(alice).get("/api/sessions", {name: value}), 422, "invalid")
    assert list(refused["fields"]) == [name]


def test_the_total_is_counted_only_so_far(
    api: As, alice: User, make_session: MakeSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sessions_app.api.COUNTED", 2)
    for _ in range(3):
        make_session(alice)
    page = answer(api(alice).get("/api/sessions"))
    assert (page["total"], page["total_at_least"], len(page["sessions"])) == (2, True, 3)


def test_a_session_shows_its_state_and_its_talk(
    api: As, alice: User, make_session: MakeSession
) -> None:
    session = make_session(alice, name="Talk")
    said = [event_types.UserMessage(content=f"m{n}") for n in range(100)]
    append_events(session.pk, [*said, event_types.AgentMessage(agent="coder", content="done")])
    body = answer(api(alice).get(f"/api/sessions/{session.pk}"))
    assert body["last_seq"] == 102
    assert (body["config"], body["context_variables"], body["plan_data"]) == ({}, {}, None)
    assert (body["pending_approvals"], body["version"]) == ([], 1)
    assert body["epoch"] == session.epoch
    talk = body["conversation_history"]
    assert len(talk) == 100
    assert (talk[0]["role"], talk[0]["content"], talk[0]["agent"]) == ("user", "m1", None)
    assert (talk[-1]["role"], talk[-1]["agent"], talk[-1]["seq"]) == ("assistant", "coder", 102)


def test_a_deleted_session_is_gone_for_everybody(
    api: As, alice: User, staff: User, make_session: MakeSession, make_run: MakeRun
) -> None:
    session = make_session(alice)
    run = make_run(session, status="queued")
    response = api(alice).delete(f"/api/sessions/{session.pk}")
    assert (response.status_code, response.content) == (204, b"")
    for user in (alice, staff):
        refusal(api(user).get(f"/api/sessions/{session.pk}"), 404, "not_found")
        refusal(api(user).get(f"/api/runs/{run.pk}"), 404, "not_found")
    assert Run.objects.get(pk=run.pk).status == "cancelled"


def test_modes_are_listed_with_examples_that_fit(api: As, alice: User) -> None:
    body = answer(api(alice).get("/api/sessions/modes/list"))
    assert body["total"] == len(MODES)
    mode = body["modes"][0]
    assert set(mode) == {
        "id", "label", "description", "supports_resume", "supports_hitl", "config_schema",
        "examples",
    }  # fmt: skip
    assert mode["config_schema"]["additionalProperties"] is False
    for example in mode["examples"]:
        made = answer(api(alice).post("/api/sessions", {"mode": mode["id"]}), 201)
        answer(api(alice).post(f"/api/sessions/{made['session_id']}/runs", example), 202)
