"""Guessing passwords: slow, counted for a name and for an address, and no way to lock others out."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client, RequestFactory
from django.utils import timezone
from pytest_django import Settings

from sessions_app.models import PasswordTry
from sessions_app.services import create_sign_in_link
from sessions_app.services.tries import TRIES_OF_A_NAME, TRIES_OF_AN_ADDRESS, WINDOW
from sessions_app.views.door import client_address

pytestmark = pytest.mark.django_db
RIGHT = "correct horse"


@pytest.fixture(autouse=True)
def _quick(settings: Settings) -> None:
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password=RIGHT, is_staff=True)


def sign_in(
    password: str = "wrong", *, name: str = "alice", door: str = "/sign-in/", **meta: Any
) -> Any:
    return Client(**meta).post(door, {"username": name, "password": password})


def wrong(times: int, **of: Any) -> list[int]:
    return [sign_in(**of).status_code for _ in range(times)]


@pytest.mark.parametrize("door", ["/sign-in/", "/admin/login/"])
def test_after_ten_wrong_ones_even_the_right_one_waits(alice: User, door: str) -> None:
    assert wrong(TRIES_OF_A_NAME, door=door) == [200] * TRIES_OF_A_NAME
    answer = sign_in(RIGHT, door=door)
    assert answer.status_code == 429
    assert 590 < int(answer["Retry-After"]) <= 600
    assert "Come again in 10 minutes." in answer.text
    PasswordTry.objects.update(created_at=timezone.now() - WINDOW + timedelta(seconds=30))
    assert "Come again in 1 minute." in sign_in(RIGHT).text
    PasswordTry.objects.update(created_at=timezone.now() - WINDOW)
    assert sign_in(RIGHT, door=door).status_code == 302


def test_what_is_refused_is_not_hashed(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong(TRIES_OF_A_NAME)
    monkeypatch.setattr(User, "check_password", None)
    assert sign_in().status_code == 429
    assert PasswordTry.objects.count() == TRIES_OF_A_NAME


def test_the_right_one_forgets_the_wrong_ones(alice: User) -> None:
    for _ in range(3):
        wrong(TRIES_OF_A_NAME - 1)
        assert sign_in(RIGHT).status_code == 302
    assert not PasswordTry.objects.exists()


def test_who_is_signed_in_forgets_nothing(alice: User) -> None:
    bob = Client()
    bob.force_login(User.objects.create_user("bob"))
    wrong(TRIES_OF_A_NAME - 1)
    bob.post("/sign-in/", {"username": "alice", "password": "wrong"})
    assert sign_in().status_code == 429


def test_elsewhere_and_under_another_name_nothing_is_lost(alice: User) -> None:
    wrong(TRIES_OF_A_NAME)
    assert sign_in(RIGHT, REMOTE_ADDR="192.0.2.7").status_code == 302
    assert sign_in(name="bob").status_code == 200


def test_an_address_has_fifty_for_all_names(alice: User) -> None:
    answers = [sign_in(name=f"n{n}").status_code for n in range(TRIES_OF_AN_ADDRESS)]
    assert set(answers) == {200}
    assert sign_in(RIGHT).status_code == 429


def test_a_house_full_of_addresses_is_one(alice: User) -> None:
    for n in range(TRIES_OF_A_NAME):
        sign_in(REMOTE_ADDR=f"2001:db8::{n}")
    assert sign_in(RIGHT, REMOTE_ADDR="2001:db8::ffff").status_code == 429
    assert sign_in(RIGHT, REMOTE_ADDR="2001:db8:0:1::1").status_code == 302


def test_a_link_signs_in_all_the_same(alice: User) -> None:
    wrong(TRIES_OF_A_NAME + 1)
    answer = Client().post("/sign-in/link/", {"token": create_sign_in_link(alice)})
    assert answer.status_code == 303


def test_only_a_proxy_of_ours_names_the_address(settings: Settings) -> None:
    request = RequestFactory().get(
        "/", REMOTE_ADDR="127.0.0.1", headers={"X-Forwarded-For": "198.51.100.1, 192.0.2.7"}
    )
    settings.SECURE_PROXY_SSL_HEADER = None
    assert client_address(request) == "127.0.0.1"
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert client_address(request) == "192.0.2.7"
