"""daphne's look over all connections costs a share of the processor, not a second's work a second."""

from __future__ import annotations

from typing import Any

import pytest

from cmbagent_site import many_sockets


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class Asked:
    """A reactor and a server at once: notes what is asked of them."""

    def __init__(self) -> None:
        self.later: list[float] = []

    def callLater(self, seconds: float, _: object) -> None:  # noqa: N802  Twisted's name
        self.later.append(seconds)

    def application_checker(self) -> None:
        """What is asked for later."""


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(many_sockets, "time", made)
    return made


def test_a_look_that_took_long_is_not_repeated_soon(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Asked()
    looks: list[float] = []

    def look(_: Any) -> None:
        looks.append(clock.now)
        clock.now += 0.2

    monkeypatch.setattr(many_sockets, "_look", look)
    monkeypatch.setattr(many_sockets, "reactor", server)
    for _ in range(30):
        many_sockets.look_in_proportion(server)
        clock.now += 1
    assert len(looks) == 3
    assert looks[1] - looks[0] >= 0.2 / many_sockets.SHARE_OF_LOOKING
    assert server.later.count(1) == 27  # asked again each time, by daphne itself after a look


def test_a_quick_look_is_taken_each_time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Asked()
    looks: list[Any] = []
    monkeypatch.setattr(many_sockets, "_look", looks.append)
    for _ in range(5):
        many_sockets.look_in_proportion(server)
        clock.now += 1
    assert len(looks) == 5
