"""What an engine prints is shown without the models' keys, and nothing else of it waits."""

from __future__ import annotations

import random
from itertools import pairwise
from typing import Any

import pytest

from execution_app.hiding import HIDDEN, TELLS_NOTHING, Secrets, Veil

KEY = "sk-sk-of-one-provider-\u20ac\"'"
LONGER = "sk-another-key-sk-"
LONGEST = f"{LONGER}and-more"
FORMS = (KEY.encode(), b"sk-sk-of-one-provider-\\u20ac\\\"'", LONGER.encode(), LONGEST.encode())


def secrets(*keys: str) -> Secrets:
    models: Any = {str(n): {"api_key": key} for n, key in enumerate(keys)}
    return Secrets(models)


@pytest.fixture
def veil() -> Veil:
    return Veil(secrets(KEY, LONGER, LONGEST))


def shown(veil: Veil, *pieces: bytes) -> bytes:
    return b"".join(map(veil.feed, pieces)) + veil.rest()


@pytest.mark.parametrize("key", FORMS)
def test_a_key_is_hidden_whole_and_in_any_two_pieces(veil: Veil, key: bytes) -> None:
    assert shown(veil, b"a " + key + b" b\n") == b"a [hidden] b\n"
    for cut in range(1, len(key)):
        assert shown(veil, b"a " + key[:cut], key[cut:] + b" b\n") in {
            b"a [hidden] b\n",
            b"a " + key[: min(cut, TELLS_NOTHING)] + b"[hidden] b\n",
        }


@pytest.mark.parametrize("key", FORMS)
def test_a_key_is_hidden_byte_by_byte_and_beside_itself(veil: Veil, key: bytes) -> None:
    printed = b"s" + key + b"sk-" + key + b"\n"
    said = shown(veil, *(printed[at : at + 1] for at in range(len(printed))))
    assert said.count(HIDDEN) == 2
    assert key[TELLS_NOTHING:-1] not in said
    assert len(said) < 2 * len(HIDDEN) + 15


def test_what_a_key_only_begins_like_is_shown_at_once(veil: Veil) -> None:
    for text in (b"a question? ", b"50 % of s", b"risks", b"task sk-", b"sk-sk", b" ask\n"):
        said = veil.feed(text)
        assert said, text
    assert veil.feed(b"") == b""
    assert veil.rest() == b""


def test_half_a_key_is_shown_when_it_becomes_something_else(veil: Veil) -> None:
    assert veil.feed(b"an sk-another") == b"an sk-"
    assert veil.feed(b" thing\n") == b"another thing\n"
    assert veil.rest() == b""


def test_half_a_key_at_the_end_stays_hidden(veil: Veil) -> None:
    assert shown(veil, b"an " + LONGER.encode()[:-1]) == b"an sk-" + HIDDEN


@pytest.mark.parametrize("keys", [(), ("",), ("EMPTY",)])
def test_without_a_secret_all_is_shown(keys: tuple[str, ...]) -> None:
    veil = Veil(secrets(*keys))
    assert veil.feed(b"EMPTY [hid") == b"EMPTY [hid"
    assert veil.rest() == b""


def test_whatever_way_bytes_arrive_nothing_but_keys_is_missing(veil: Veil) -> None:
    rng = random.Random(5)
    words = [
        *FORMS,
        b"sk-",
        b"s",
        b"sk-another-",
        b"\n",
        b"words ",
        b"k-",
        "\u20ac".encode(),
        b"\xff",
    ]
    for _ in range(300):
        printed = b"".join(rng.choices(words, k=40))
        cuts = [0, *sorted(rng.sample(range(len(printed)), 12)), len(printed)]
        said = shown(veil, *(printed[a:b] for a, b in pairwise(cuts)), b"!")
        assert not [key for key in FORMS if key[:-1] in said]
        assert sum(map(said.count, (b"\n", b"words", b"\xff"))) == sum(
            map(printed.count, (b"\n", b"words", b"\xff"))
        )
