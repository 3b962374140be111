"""The way to a model's provider when it leads through a proxy."""

from __future__ import annotations

from collections.abc import Mapping

_WAYS = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
_EXCEPTIONS = ("NO_PROXY", "no_proxy")
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def proxies_of(environ: Mapping[str, str]) -> dict[str, str]:
    """Of an environment, what says how to reach a provider. A model's server on this machine is
    reached directly: a proxy would get the key, in the clear, and never finds that server."""
    ways = {
        name: environ[name] for way in _WAYS for name in (way, way.lower()) if environ.get(name)
    }
    if not ways:
        return {}
    given = environ.get("no_proxy", environ.get("NO_PROXY", ""))  # the lower case wins, as in curl
    exceptions = ",".join([*filter(None, [given]), *_LOOPBACK])
    return ways | dict.fromkeys(_EXCEPTIONS, exceptions)
