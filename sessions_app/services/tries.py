"""Nobody guesses passwords by the thousand: tries are counted, for all web processes together."""

from __future__ import annotations

import ipaddress
from datetime import timedelta

from django.utils import timezone

from sessions_app.errors import TooManyTries
from sessions_app.models import PasswordTry
from sessions_app.services.keys import digest

WINDOW = timedelta(minutes=10)
TRIES_OF_A_NAME = 10  # from one address
TRIES_OF_AN_ADDRESS = 50


def begin_try(*, name: str, address: str) -> None:
    """Before the password is looked at, so that tries at the same time count each other.
    Raises TooManyTries."""
    house, name_digest = _house(address), digest(name)
    recent = PasswordTry.objects.filter(address=house, created_at__gt=timezone.now() - WINDOW)
    of_name = recent.filter(name_digest=name_digest)
    for tries, limit in ((of_name, TRIES_OF_A_NAME), (recent, TRIES_OF_AN_ADDRESS)):
        times = list(tries.order_by("-created_at").values_list("created_at", flat=True)[:limit])
        if len(times) == limit:
            raise TooManyTries(times[-1] + WINDOW - timezone.now())
    PasswordTry.objects.create(name_digest=name_digest, address=house)


def end_tries(*, name: str, address: str) -> None:
    """The password was right: what went wrong before it counts no longer."""
    PasswordTry.objects.filter(name_digest=digest(name), address=_house(address)).delete()


def _house(address: str) -> str:
    """Whoever has one IPv6 address has 2^64 of them: they count as one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv4Address) or parsed.ipv4_mapped:
        return address
    return str(ipaddress.ip_network((int(parsed), 64), strict=False).network_address)
