"""Which servers are asked through a proxy."""

from __future__ import annotations

import os

import httpx2
import pytest

from cmbagent.models.proxies import proxies_of

PROXY = "http://proxy:3128"


@pytest.mark.parametrize("way", ["HTTP_PROXY", "http_proxy", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    ("exceptions", "kept"),
    [
        ({}, ""),
        ({"NO_PROXY": "intranet"}, "intranet,"),
        ({"no_proxy": "intranet"}, "intranet,"),
        ({"no_proxy": "intranet", "NO_PROXY": "other"}, "intranet,"),
        ({"no_proxy": "", "NO_PROXY": "other"}, ""),
    ],
)
def test_this_machine_is_an_exception_beside_those_that_were_given(
    way: str, exceptions: dict[str, str], kept: str
) -> None:
    found = proxies_of({way: PROXY, "OPENAI_API_KEY": "secret", **exceptions})

    assert found == {
        way: PROXY,
        "NO_PROXY": f"{kept}127.0.0.1,localhost,::1",
        "no_proxy": f"{kept}127.0.0.1,localhost,::1",
    }


def test_without_a_proxy_nothing_is_said() -> None:
    assert proxies_of({"NO_PROXY": "intranet", "HTTP_PROXY": ""}) == {}


@pytest.mark.parametrize(
    ("url", "is_direct"),
    [
        ("http://127.0.0.1:8000/v1", True),
        ("http://localhost:8000/v1", True),
        ("http://[::1]:8000/v1", True),
        ("https://api.intranet/v1", True),
        ("https://api.openai.com/v1", False),
    ],
)
def test_the_client_of_the_models_keeps_to_it(
    url: str, is_direct: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    given = {"HTTP_PROXY": PROXY, "https_proxy": PROXY, "NO_PROXY": "intranet"}
    for name, value in proxies_of(given).items():
        monkeypatch.setenv(name, value)
    client = httpx2.Client()

    transport = client._transport_for_url(httpx2.URL(url))

    assert (transport is client._transport) == is_direct
