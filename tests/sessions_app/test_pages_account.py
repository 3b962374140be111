"""One's own tokens, password and connections; nobody else's."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone

from sessions_app.models import ApiToken, Connection, PasswordTry, Server
from sessions_app.services import create_session, create_token, find_token, register_server

pytestmark = pytest.mark.django_db

HTMX = {"HX-Request": "true"}
NEW = "a good deal of dust"


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password="correct horse")


@pytest.fixture
def tab(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def shown_token(text: str) -> str:
    found = re.search(r'id="made-token"[^>]*>(cmb_[\w-]+)<', text)
    assert found
    return found[1]


# -- tokens -----------------------------------------------------------------------------------
@pytest.mark.parametrize("headers", [{}, HTMX])
def test_a_token_is_shown_once_and_works(tab: Client, alice: User, headers: dict[str, str]) -> None:
    answer = tab.post("/account/tokens/", {"name": "laptop", "days": "30"}, headers=headers)
    token = shown_token(answer.text)
    assert "no-store" in answer.headers["Cache-Control"]
    found = find_token(token)
    assert found is not None
    assert (found.user, found.name) == (alice, "laptop")
    assert found.expires_at is not None
    assert timedelta(days=29) < found.expires_at - timezone.now() < timedelta(days=31)
    assert token not in tab.get("/account/").text


@pytest.mark.parametrize("form", [{"name": ""}, {"name": "x" * 101}, {"name": "x", "days": "7000"}])
def test_a_token_that_cannot_be_is_refused(tab: Client, form: dict[str, str]) -> None:
    assert tab.post("/account/tokens/", form).status_code == 422
    assert not ApiToken.objects.exists()


def test_revoked_it_is_refused_and_gone_from_the_page(tab: Client, alice: User) -> None:
    token = create_token(user=alice, name="old laptop")
    kept = ApiToken.objects.get()
    answer = tab.post(f"/account/tokens/{kept.pk}/revoke/", headers=HTMX)
    assert "Revoked “old laptop”" in answer.text
    assert f'id="token-{kept.pk}"' not in answer.text
    assert find_token(token) is None


def test_a_strangers_token_does_not_exist(tab: Client, bob: User) -> None:
    token = create_token(user=bob, name="bobs")
    theirs = ApiToken.objects.get()
    assert "bobs" not in tab.get("/account/").text
    assert tab.post(f"/account/tokens/{theirs.pk}/revoke/").status_code == 404
    assert tab.post("/account/tokens/999999/revoke/").status_code == 404
    assert find_token(token) is not None


@pytest.mark.parametrize("path", ["/account/", "/account/password/", "/welcome/"])
def test_a_visitor_is_sent_to_sign_in(client: Client, path: str) -> None:
    assert client.get(path).headers["Location"].startswith("/sign-in/")
    answer = client.get(path, headers=HTMX)
    assert answer.headers["HX-Redirect"].startswith("/sign-in/")
    assert "HX-Request" in answer.headers["Vary"]


# -- the password -----------------------------------------------------------------------------
def test_changing_the_password_keeps_this_browser_only(tab: Client, alice: User) -> None:
    elsewhere = Client()
    elsewhere.force_login(alice)
    form = {"old_password": "correct horse", "new_password1": NEW, "new_password2": NEW}
    assert tab.post("/account/password/", form).status_code == 303
    alice.refresh_from_db()
    assert alice.check_password(NEW)
    assert tab.get("/account/").status_code == 200
    assert elsewhere.get("/account/").status_code == 302
    assert not PasswordTry.objects.exists()


@pytest.mark.parametrize(
    ("old", "new", "again"),
    [("wrong", NEW, NEW), ("correct horse", NEW, "other"), ("correct horse", "short", "short")],
)
def test_a_password_that_cannot_be_is_said(tab: Client, old: str, new: str, again: str) -> None:
    form = {"old_password": old, "new_password1": new, "new_password2": again}
    answer = tab.post("/account/password/", form)
    assert answer.status_code == 422
    assert 'class="errors"' in answer.text
    assert User.objects.get().check_password("correct horse")


def test_nobody_guesses_the_password_with_a_cookie(tab: Client) -> None:
    form = {"old_password": "guess", "new_password1": NEW, "new_password2": NEW}
    answers = [tab.post("/account/password/", form).status_code for _ in range(11)]
    assert answers == [422] * 10 + [429]


def test_who_signed_in_by_a_link_chooses_a_first_password(client: Client, bob: User) -> None:
    bob.set_unusable_password()
    bob.save()
    client.force_login(bob)
    assert "old_password" not in client.get("/account/password/").text
    form = {"new_password1": NEW, "new_password2": NEW}
    assert client.post("/account/password/", form).status_code == 303
    bob.refresh_from_db()
    assert bob.check_password(NEW)


# -- connections ------------------------------------------------------------------------------
def test_open_connections_are_ones_own(tab: Client, alice: User, bob: User) -> None:
    server = register_server(kind=Server.Kind.WEB)
    for owner in (alice, bob):
        session = create_session(owner=owner, mode="one-shot", name=f"of {owner}")
        Connection.objects.create(user=owner, server=server, session=session)
    text = tab.get("/account/").text
    assert "of alice" in text
    assert "of bob" not in text
