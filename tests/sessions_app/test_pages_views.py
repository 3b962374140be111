"""The pages over HTTP: what they show, what they refuse, what a stranger sees."""

from __future__ import annotations

import re
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, Settings

from execution_app.models import Artifact, Run, Usage
from execution_app.services import start_run
from execution_app.statuses import RunStatus
from sessions_app import event_types
from sessions_app.models import Server, Session
from sessions_app.services import (
    append_events,
    create_session,
    create_sign_in_link,
    register_server,
)

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}
FRAGMENTS = ("status", "talk", "console", "search", "plots", "files")
COMMANDS = ("stop", "pause", "resume", "retry", "delete", "start_run", "upload")


@pytest.fixture(autouse=True)
def _folders(settings: Settings, tmp_path: Path) -> None:
    settings.SESSIONS_DIR = tmp_path / "sessions"
    settings.BLOBS_DIR = tmp_path / "blobs"


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password="correct horse")


@pytest.fixture
def tab(client: Client, alice: User) -> Client:
    """A browser in which alice is signed in."""
    client.force_login(alice)
    return client


@pytest.fixture
def session(alice: User) -> Session:
    made = create_session(owner=alice, mode="one-shot", name="Power spectrum")
    start_run(session=made, task="```python\nprint(1)\n```", by=alice)
    return Session.objects.get(pk=made.pk)


def the_run(session: Session) -> Run:
    return Run.objects.get(session=session)


def move(session: Session, status: RunStatus) -> Run:
    """What a worker does to the run, without a worker."""
    run, now = the_run(session), timezone.now()
    fields: dict[str, Any] = {"status": status, "attempt": 1, "started_at": now}
    if status == RunStatus.RUNNING:
        fields |= {"lease_owner": "test", "lease_expires_at": now, "sandbox_level": 2}
    elif status in {RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}:
        fields |= {"finished_at": now, "lease_owner": "", "lease_expires_at": None}
    Run.objects.filter(pk=run.pk).update(**fields)
    return the_run(session)


def at(name: str, session: Session) -> str:
    return reverse(f"sessions:{name}", args=[session.pk])


def without_csrf(html: str) -> str:
    return re.sub(r'(name="csrfmiddlewaretoken" value)="\w+"', r"\1", html)


def buttons(html: str) -> list[str]:
    return re.findall(r'id="act-(\w+)"', html)


# -- the door ---------------------------------------------------------------------------------
def test_a_visitor_is_sent_to_sign_in_and_comes_back(client: Client, alice: User) -> None:
    answer = client.get("/sessions/?q=x")
    assert (answer.status_code, answer.headers["Location"]) == (
        302,
        "/sign-in/?next=/sessions/%3Fq%3Dx",
    )
    form = {"username": "alice", "password": "correct horse", "next": "/sessions/?q=x"}
    answer = client.post("/sign-in/", form)
    assert answer.headers["Location"] == "/sessions/?q=x"


def test_within_a_fragment_the_whole_page_goes_to_sign_in(client: Client, session: Session) -> None:
    answer = client.get(
        at("status", session),
        headers={**HTMX, "HX-Current-URL": f"http://testserver{at('detail', session)}"},
    )
    assert answer.headers["HX-Redirect"] == f"/sign-in/?next={at('detail', session)}"


def test_what_is_no_address_is_no_way_back(client: Client, session: Session) -> None:
    answer = client.get(at("status", session), headers={**HTMX, "HX-Current-URL": "http://["})
    assert answer.headers["HX-Redirect"] == "/sign-in/?next=/"


def test_the_way_back_stays_one_value(client: Client, session: Session) -> None:
    here = f"http://testserver{at('detail', session)}?a=1&next=//evil.example#x"
    answer = client.get(at("status", session), headers={**HTMX, "HX-Current-URL": here})
    query = parse_qs(urlsplit(answer.headers["HX-Redirect"]).query)
    assert query == {"next": [here.removeprefix("http://testserver")]}


def test_a_wrong_password_is_said(client: Client, alice: User) -> None:
    answer = client.post("/sign-in/", {"username": "alice", "password": "wrong"})
    assert "User name and password do not match" in answer.text


def test_opening_the_sign_in_link_burns_nothing(client: Client, alice: User) -> None:
    token = create_sign_in_link(alice)
    for _ in range(3):
        answer = client.get(reverse("sessions:sign_in_link"), {"token": token})
        assert answer.status_code == 200
        assert "Continue" in answer.text
        assert answer.headers["Referrer-Policy"] == "strict-origin"
        assert "no-store" in answer.headers["Cache-Control"]
    answer = client.post(reverse("sessions:sign_in_link"), {"token": token})
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert client.get("/sessions/").status_code == 200


def test_a_sign_in_link_works_once(client: Client, alice: User) -> None:
    token = create_sign_in_link(alice)
    Client().post(reverse("sessions:sign_in_link"), {"token": token})
    answer = client.post(reverse("sessions:sign_in_link"), {"token": token})
    assert answer.status_code == 410
    assert "This link is spent" in answer.text
    assert client.get("/sessions/").status_code == 302


def test_the_sign_in_form_is_protected_from_other_sites(alice: User) -> None:
    answer = Client(enforce_csrf_checks=True).post(
        reverse("sessions:sign_in_link"), {"token": create_sign_in_link(alice)}
    )
    assert answer.status_code == 403
    assert "The form is too old" in answer.text


def test_signing_out(tab: Client) -> None:
    assert tab.get(reverse("sessions:sign_out")).status_code == 405
    tab.post(reverse("sessions:sign_out"))
    assert tab.get("/sessions/").status_code == 302


# -- what is not yours does not exist ---------------------------------------------------------
@pytest.mark.parametrize("name", ["detail", *FRAGMENTS])
def test_a_strangers_session_cannot_be_seen(client: Client, session: Session, name: str) -> None:
    client.force_login(User.objects.create_user("mallory"))
    assert client.get(at(name, session)).status_code == 404


@pytest.mark.parametrize("name", COMMANDS)
def test_a_strangers_session_cannot_be_touched_whatever_is_sent(
    client: Client, session: Session, name: str
) -> None:
    client.force_login(User.objects.create_user("mallory"))
    theirs, none = (
        client.post(at(name, session)),
        client.post(reverse(f"sessions:{name}", args=[uuid.uuid4()])),
    )
    assert (theirs.status_code, none.status_code) == (404, 404)
    assert without_csrf(theirs.text) == without_csrf(none.text)
    assert the_run(session).status == RunStatus.QUEUED


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_are_posts(tab: Client, session: Session, name: str) -> None:
    assert tab.get(at(name, session)).status_code == 405


def test_the_list_shows_only_what_is_yours(client: Client, session: Session) -> None:
    client.force_login(User.objects.create_user("mallory"))
    assert "Power spectrum" not in client.get("/sessions/").text


# -- the list ---------------------------------------------------------------------------------
def test_the_list_is_filtered_by_words_and_status(
    tab: Client, alice: User, session: Session
) -> None:
    create_session(owner=alice, mode="one-shot", name="Lensing")
    for query, shown, hidden in [
        ({"q": "lens"}, "Lensing", "Power spectrum"),
        ({"status": "queued"}, "Power spectrum", "Lensing"),
        ({"status": "none"}, "Lensing", "Power spectrum"),
    ]:
        text = tab.get("/sessions/", query).text
        assert shown in text
        assert hidden not in text


def test_an_unknown_status_is_named(tab: Client, session: Session) -> None:
    answer = tab.get("/sessions/", {"status": "asleep"})
    assert answer.status_code == 422
    assert "asleep" in answer.text


def test_the_list_is_paged_and_keeps_its_filter(tab: Client, alice: User) -> None:
    for number in range(30):
        create_session(owner=alice, mode="one-shot", name=f"walk {number:02}")
    first = tab.get("/sessions/", {"q": "walk"})
    assert "1–25 of 30" in first.text  # noqa: RUF001  as people write ranges
    assert "?q=walk&amp;page=2" in first.text
    assert "walk 04" in tab.get("/sessions/", {"q": "walk", "page": "2"}).text
    assert tab.get("/sessions/", {"page": "nonsense"}).status_code == 200


def test_htmx_gets_the_list_alone(tab: Client, session: Session) -> None:
    answer = tab.get("/sessions/", headers=HTMX)
    assert "<html" not in answer.text
    assert "Power spectrum" in answer.text
    assert "HX-Request" in answer.headers["Vary"]


def test_the_list_costs_the_same_however_long(
    tab: Client, alice: User, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    for _ in range(20):
        made = create_session(owner=alice, mode="one-shot")
        start_run(session=made, task="x", by=alice)
    with django_assert_max_num_queries(6):
        assert tab.get("/sessions/").text.count(">Queued</span>") == 20


# -- a new session ----------------------------------------------------------------------------
def new_form(**changes: str) -> dict[str, str]:
    return {
        "mode": "one-shot",
        "task": "```python\nprint(1)\n```",
        "name": "",
        "once": str(uuid.uuid4()),
    } | changes


def test_the_new_page_explains_the_mode_and_offers_examples(tab: Client) -> None:
    text = tab.get("/sessions/new/").text
    assert "One shot" in text
    assert "CMB temperature power spectrum" in text
    assert "Draw a random walk" in tab.get("/sessions/new/", {"example": "2"}).text


def test_starting_makes_a_session_with_a_queued_run(tab: Client, alice: User) -> None:
    answer = tab.post("/sessions/new/", new_form(name="Walk"))
    made = Session.objects.get()
    assert (answer.status_code, answer.headers["Location"]) == (303, at("detail", made))
    assert (made.name, made.owner) == ("Walk", alice)
    assert the_run(made).status == RunStatus.QUEUED


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("task", " \n ", "The task is empty"),
        ("task", "a\x00b", "Null characters"),
        ("task", "x" * 200_001, "longer than 200,000"),
        ("mode", "telepathy", "telepathy is not one of the available choices"),
        ("name", "x" * 201, "at most 200 characters"),
    ],
)
def test_a_form_with_a_mistake_names_the_field_and_makes_nothing(
    tab: Client, field: str, value: str, said: str
) -> None:
    answer = tab.post("/sessions/new/", new_form(**{field: value}))
    assert answer.status_code == 422
    assert f'id="id_{field}_error"' in answer.text
    assert said in answer.text
    assert not Session.objects.exists()


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("Draw a walk:\n```python\nprint(1)\n```", "Draw a walk"),
        ("```python\nprint(1)\n```", "one-shot_"),
        ("word " * 50, "word word word"),
    ],
)
def test_a_session_without_a_name_is_called_after_its_task(
    tab: Client, task: str, name: str
) -> None:
    tab.post("/sessions/new/", new_form(task=task))
    made = Session.objects.get()
    assert made.name.startswith(name)
    assert len(made.name) <= 80


def test_the_same_form_sent_twice_makes_one_session(tab: Client) -> None:
    form = new_form()
    first, second = tab.post("/sessions/new/", form), tab.post("/sessions/new/", form)
    assert first.headers["Location"] == second.headers["Location"]
    assert Session.objects.count() == 1
    edited = tab.post("/sessions/new/", form | {"task": "another"})  # after the back button
    assert edited.headers["Location"] != first.headers["Location"]


# -- the session page -------------------------------------------------------------------------
def test_the_page_is_rendered_with_everything_up_to_its_cursor(
    tab: Client, session: Session
) -> None:
    run = move(session, RunStatus.RUNNING)
    events: list[event_types.EventData] = [
        event_types.AgentMessage(agent="engineer", content="<script>alert(1)</script>"),
        event_types.Output(stream="stdout", line=1, text="<b>one</b>\ntwo"),
    ]
    append_events(session.pk, events, run_id=run.pk)
    session.refresh_from_db()
    text = tab.get(at("detail", session)).text
    assert f'data-after="{session.last_seq}"' in text
    assert f'data-epoch="{session.epoch}"' in text
    assert "&lt;script&gt;alert(1)" in text
    assert "<script>alert" not in text
    assert re.search(r'data-n="1" data-t="[0-9:]{8}Z">&lt;b&gt;one&lt;/b&gt;</div>', text)
    assert re.search(r'data-n="2" data-t="[0-9:]{8}Z" data-open="two" data-pen="">two</div>', text)
    assert f'href="/api/runs/{run.pk}/console?about=true"' in text
    assert "level 2" in text


def test_the_settings_of_a_new_session_are_its_modes(tab: Client) -> None:
    text = tab.get("/sessions/new/").text
    for field in ("agent", "model", "maxRounds", "maxAttempts"):
        assert f'name="config-one-shot-{field}"' in text
    assert "No model is connected" in text


def test_what_was_set_is_the_sessions_configuration(tab: Client) -> None:
    settings = {"maxRounds": "7", "agent": "engineer", "model": "no-model", "options": '{"a": "b"}'}
    sent = {f"config-one-shot-{name}": value for name, value in settings.items()}
    tab.post("/sessions/new/", new_form(**sent))
    config = Session.objects.get().config
    assert config == {
        "maxRounds": 7,
        "agent": "engineer",
        "model": "no-model",
        "options": {"a": "b"},
    }


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("maxRounds", "0"),
        ("maxRounds", "many"),
        ("agent", "wizard"),
        ("model", "gpt-4o"),
        ("parameters", "H0"),
        ("options", "[1]"),
    ],
)
def test_a_setting_that_cannot_be_is_named_beside_it(tab: Client, field: str, value: str) -> None:
    answer = tab.post("/sessions/new/", new_form(**{f"config-one-shot-{field}": value}))
    assert answer.status_code == 422
    assert f'id="id_config-one-shot-{field}_error"' in answer.text
    assert not Run.objects.exists()


def test_what_each_model_cost_is_shown_and_unknown_is_not_zero(
    tab: Client, session: Session
) -> None:
    run = move(session, RunStatus.RUNNING)
    Run.objects.filter(pk=run.pk).update(model="lab/seven-1", attempt=1)
    used = {"agent": "engineer", "provider": "openai", "output_tokens": 10, "cached_tokens": 0}
    for key, model, cost in (
        ("a", "lab/seven-1", "0.02"),
        ("b", "lab/seven-1", "0.03"),
        ("c", "other-2", None),
    ):
        Usage.objects.create(
            run=run, key=key, model=model, cost_usd=cost, input_tokens=1000, **used
        )
    text = tab.get(at("detail", session)).text
    assert re.search(r"lab/seven-1</td><td[^>]*>\$0\.0500</td><td[^>]*>2</td><td[^>]*>2,000", text)
    assert re.search(r"other-2</td><td[^>]*>unknown</td>", text)
    assert "<dt>Cost</dt><dd>unknown</dd>" in text
    assert "No AI is used" not in text


def test_a_run_without_a_model_says_so_in_its_head(tab: Client, session: Session) -> None:
    run = move(session, RunStatus.RUNNING)
    Run.objects.filter(pk=run.pk).update(model="no-model", attempt=1)
    assert '<span class="badge">No AI is used</span>' in tab.get(at("status", session)).text


def test_a_postponed_run_says_when_it_goes_on(tab: Client, session: Session) -> None:
    run = move(session, RunStatus.QUEUED)
    later = timezone.now() + timedelta(hours=1)
    Run.objects.filter(pk=run.pk).update(not_before=later, postponements=1)
    text = tab.get(at("status", session)).text
    assert "Postponed" in text
    assert f"{later:%H:%M} UTC" in text


def test_no_page_carries_inline_script_or_style(tab: Client, session: Session) -> None:
    for path in ("/sign-in/", "/sessions/", "/sessions/new/", at("detail", session), "/nowhere/"):
        text = tab.get(path, follow=True).text
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text), path


@pytest.mark.parametrize(
    ("status", "offered"),
    [
        (RunStatus.QUEUED, ["pause", "stop"]),
        (RunStatus.RUNNING, ["pause", "stop"]),
        (RunStatus.PAUSED, ["resume", "stop"]),
        (RunStatus.COMPLETED, []),
        (RunStatus.FAILED, ["retry"]),
        (RunStatus.CANCELLED, ["retry"]),
    ],
)
def test_each_status_offers_what_can_be_done(
    tab: Client, session: Session, status: RunStatus, offered: list[str]
) -> None:
    move(session, status)
    assert buttons(tab.get(at("status", session)).text) == offered


def test_without_a_worker_a_queued_task_says_so(tab: Client, session: Session) -> None:
    assert "No worker is running" in tab.get(at("detail", session)).text
    register_server(Server.Kind.WORKER)
    assert "No worker is running" not in tab.get(at("status", session)).text


def test_the_conversation_before_an_event_comes_in_pages(tab: Client, session: Session) -> None:
    said = [event_types.AgentMessage(agent="engineer", content=f"number {n}.") for n in range(450)]
    append_events(session.pk, said)
    session.refresh_from_db()
    before = session.last_seq + 1
    shown: list[int] = []
    while before:
        text = tab.get(at("talk", session), {"before": str(before)}).text
        shown = [int(n) for n in re.findall(r"number (\d+)\.", text)] + shown
        earlier = re.search(r'data-before="(\d+)"', text)
        before = int(earlier[1]) if earlier else 0
    assert shown == list(range(450))
    assert tab.get(at("talk", session), {"before": "2"}).status_code == 204
    for nonsense in ("x", "-1", "9" * 30, "²", ""):
        assert tab.get(at("talk", session), {"before": nonsense}).status_code == 400


def test_a_conversation_far_above_the_output_is_found(tab: Client, session: Session) -> None:
    run = the_run(session)
    said = event_types.AgentMessage(agent="engineer", content="far above")
    printed = [event_types.Output(stream="stdout", line=n, text=f"{n}\n") for n in range(1, 6000)]
    append_events(session.pk, [said, *printed], run_id=run.pk)
    assert "far above" in tab.get(at("detail", session)).text


def test_plots_and_files_come_from_the_artifacts(tab: Client, session: Session) -> None:
    run = the_run(session)
    for path, kind in [("plots/tt spectrum.png", "plot"), ("tt.csv", "data")]:
        Artifact.objects.create(
            session=session, run=run, path=path, kind=kind, mime="", size=2048, sha256="ab" * 32
        )
    plots, files = tab.get(at("plots", session)).text, tab.get(at("files", session)).text
    assert f'src="/api/runs/{run.pk}/files/plots/tt%20spectrum.png?v=abababababab"' in plots
    assert "tt.csv" not in plots
    assert f'href="/api/runs/{run.pk}/files/tt.csv?v=abababababab"' in files
    assert "2.0\xa0KB" in files


def test_the_risk_of_running_without_a_sandbox_is_on_every_page(
    tab: Client, session: Session, settings: Settings
) -> None:
    paths = ("/sessions/", "/sessions/new/", at("detail", session))
    assert not any("CMBAGENT_SANDBOX=3" in tab.get(path).text for path in paths)
    settings.SANDBOX_ACCEPTED_LEVEL = 3
    assert all("CMBAGENT_SANDBOX=3" in tab.get(path).text for path in paths)


# -- commands ---------------------------------------------------------------------------------
def test_stop_answers_a_fragment_or_a_redirect_and_says_what_it_did(
    tab: Client, session: Session
) -> None:
    move(session, RunStatus.RUNNING)
    answer = tab.post(at("stop", session), headers=HTMX)
    assert "Stopping: its processes are being ended." in answer.text
    assert "<html" not in answer.text
    assert the_run(session).is_stopping
    answer = tab.post(at("stop", session))
    assert (answer.status_code, answer.headers["Location"]) == (303, at("detail", session))
    assert "Stopping" in tab.get(at("detail", session)).text


def test_stopping_what_has_ended_is_refused_with_the_reason(tab: Client, session: Session) -> None:
    move(session, RunStatus.COMPLETED)
    answer = tab.post(at("stop", session), headers=HTMX)
    assert answer.status_code == 409
    assert "Nothing is running here." in answer.text


def test_pause_resume_stop_retry(tab: Client, session: Session) -> None:
    for command, said, status in [
        ("pause", "Paused.", RunStatus.PAUSED),
        ("resume", "Resumed", RunStatus.QUEUED),
        ("stop", "Stopped.", RunStatus.CANCELLED),
        ("retry", "Trying again", RunStatus.QUEUED),
    ]:
        answer = tab.post(at(command, session), headers=HTMX)
        assert answer.status_code == 200
        assert said in answer.text
        assert the_run(session).status == status
    answer = tab.post(at("retry", session), headers=HTMX)
    assert answer.status_code == 409
    assert "Only a failed or cancelled run can be retried" in answer.text


def test_a_new_task_is_refused_while_a_run_is_live(tab: Client, session: Session) -> None:
    answer = tab.post(at("start_run", session), {"task": "again"}, headers=HTMX)
    assert answer.status_code == 409
    assert "A run of this session is live" in answer.text
    assert ">again</textarea>" in answer.text  # nothing typed is lost
    answer = tab.post(at("start_run", session), {"task": "again"})
    assert answer.status_code == 409
    assert "<html" in answer.text


def test_a_new_task_starts_the_next_run(tab: Client, session: Session) -> None:
    move(session, RunStatus.COMPLETED)
    answer = tab.post(at("start_run", session), {"task": " "}, headers=HTMX)
    assert answer.status_code == 422
    assert "The task is empty" in answer.text
    answer = tab.post(at("start_run", session), {"task": "again"}, headers=HTMX)
    assert answer.status_code == 200
    assert "Started." in answer.text
    assert Run.objects.filter(session=session).count() == 2


def test_an_upload_is_listed_and_kept(tab: Client, session: Session) -> None:
    file = SimpleUploadedFile("data.txt", b"1 2 3")
    answer = tab.post(at("upload", session), {"file": file}, headers=HTMX)
    assert "Uploaded data.txt." in answer.text
    assert Artifact.objects.get(session=session).size == 5


@pytest.mark.parametrize(
    ("files", "said"),
    [({}, "Choose a file"), ({"file": SimpleUploadedFile("..hidden", b"x")}, "begins with no dot")],
)
def test_an_upload_that_cannot_be_says_why(
    tab: Client, session: Session, files: dict[str, SimpleUploadedFile], said: str
) -> None:
    answer = tab.post(at("upload", session), files, headers=HTMX)
    assert answer.status_code == 422
    assert said in answer.text


def test_delete_takes_the_session_out_of_sight(tab: Client, session: Session) -> None:
    answer = tab.post(at("delete", session), headers=HTMX)
    assert answer.headers["HX-Redirect"] == "/sessions/"
    assert "Deleted “Power spectrum”." in tab.get("/sessions/").text
    assert tab.get(at("detail", session)).status_code == 404
    assert the_run(session).status == RunStatus.CANCELLED


# -- errors -----------------------------------------------------------------------------------
def test_a_broken_page_is_a_page_without_a_traceback(
    tab: Client, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(session: Session) -> dict[str, Any]:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("sessions_app.views.session.session_context", broken)
    tab.raise_request_exception = False
    answer = tab.get(at("detail", session))
    assert answer.status_code == 500
    assert "Something broke" in answer.text
    assert "secret detail" not in answer.text


def test_an_address_that_is_none_is_a_page(client: Client) -> None:
    answer = client.get("/nowhere/")
    assert answer.status_code == 404
    assert "Nothing here" in answer.text
