from __future__ import annotations

import uuid

import pytest
from pytest_django import Settings

from execution_app import sandbox


@pytest.mark.parametrize(
    ("found", "operator_accepts", "used"),
    [
        (1, 2, 1),
        (2, 2, 2),
        (None, 2, None),
        (1, 1, 1),
        (2, 1, None),  # the operator wants bubblewrap or nothing
        (1, 3, 1),  # accepting the risk does not take it without need
        (2, 3, 2),
        (None, 3, 3),
    ],
)
def test_the_level_in_use(
    settings: Settings, found: int | None, operator_accepts: int, used: int | None
) -> None:
    settings.SANDBOX_ACCEPTED_LEVEL = operator_accepts

    assert sandbox.accepted(found) == used


def test_each_session_is_a_user_of_its_own_where_we_are_root(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 0)
    first, second = uuid.uuid4(), uuid.uuid4()

    assert sandbox.code_uid(first) == sandbox.code_uid(first)
    assert sandbox.code_uid(first) != sandbox.code_uid(second)
    assert (sandbox.code_uid(first) or 0) > 1_000_000
