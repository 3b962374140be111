"""Hostile code, in every level that exists here, under an engine that is root and one that is not."""

from __future__ import annotations

import json
import os
import secrets
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cmbagent.sandbox_cases import (
    CASES,
    CONFINED,
    SMALL,
    Case,
    Place,
    every,
    place,
    run,
)

ATTEMPTS = Path(__file__).with_name("sandbox_attempts.py").read_text()

# each of these must fail in levels 1 and 2
FORBIDDEN = (
    *("read_secret", "read_neighbour", "list_sessions", "read_shadow", "read_accounts_of_host"),
    *("empty_secret", "empty_secret_by_reading", "remove_secret"),
    *("move_secret_here", "link_secret_here", "read_secret_through_link", "change_interpreter"),
    *("make_set_uid_file", "create_set_uid_file", "make_device", "read_disk"),
    *("read_environment_of_others", "read_environment_of_engine", "read_command_of_engine"),
    *("see_files_of_engine", "trace_engine", "trace_launcher", "signal_engine", "signal_launcher"),
    *("limit_engine", "slow_engine", "read_memory_of_engine"),
    *("signal_by_pidfd", "tcp_to_server", "unix_abstract_SOCK_STREAM"),
    *("unix_abstract_SOCK_DGRAM", "unix_path_SOCK_STREAM", "unix_path_SOCK_DGRAM"),
    *("pair_to_abstract", "pair_to_path", "vsock", "netlink", "packet", "new_user_namespace"),
    *("mount", "keyring", "bpf", "io_uring", "perf_events", "userfaultfd", "memfd"),
    *("open_by_handle", "shared_memory", "chroot", "hide_memory_size", "clone_with_namespace"),
    *("type_into_terminal", "other_architecture"),
    *("fill_/", "fill_/dev", "fill_/etc", "fill_/usr/share"),
)
# level 3 promises this much, and only under an engine that is root
FORBIDDEN_FOR_ANOTHER_USER = (
    *("read_secret", "read_neighbour", "read_shadow", "write_server", "remove_secret"),
    *("read_environment_of_engine", "trace_engine", "signal_engine", "limit_engine", "mount"),
)


@dataclass
class Outcome:
    answers: dict[str, Any]
    place: Place
    name: str
    received: list[str]


@pytest.fixture(scope="module")
def outcome(case: Case) -> Iterator[Outcome]:
    """All attempts are made once for each case; the tests look at what came of them."""
    name = f"cmbagent-{secrets.token_hex(6)}"
    with place(case) as found, ExitStack() as stack:
        listeners = _listen(found, name, stack)
        tcp, udp = (listeners[key].getsockname()[1] for key in ("tcp", "udp"))
        places = {
            "secret": str(found.secret),
            "neighbour": str(found.neighbour),
            "server": str(found.root),
            "socket": str(found.root / "socket"),
            "abstract": name,
            "tcp": tcp,
            "udp": udp,
            "harmless": case.level < 3 or case.root,
        }
        result = run(case, found.work, ATTEMPTS, json.dumps(places), "ENGINE")
        yield Outcome(result.answers(), found, name, _received(listeners))


def _listen(found: Place, name: str, stack: ExitStack) -> dict[str, socket.socket]:
    """The server's sockets, which anybody on the machine may connect to."""
    addresses: list[tuple[str, int, socket.SocketKind, Any]] = [
        ("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)),
        ("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)),
    ]
    for kind, ending in ((socket.SOCK_STREAM, ""), (socket.SOCK_DGRAM, "-dgram")):
        addresses.append((f"abstract{ending}", socket.AF_UNIX, kind, f"\0{name}{ending}"))
        addresses.append((f"path{ending}", socket.AF_UNIX, kind, f"{found.root}/socket{ending}"))
    listeners = {}
    for key, family, kind, address in addresses:
        listener = stack.enter_context(socket.socket(family, kind))
        listener.bind(address)
        listener.setblocking(False)
        if kind == socket.SOCK_STREAM:
            listener.listen()
        if key.startswith("path"):
            Path(address).chmod(0o777)
        listeners[key] = listener
    return listeners


def _received(listeners: dict[str, socket.socket]) -> list[str]:
    """The sockets to which something came."""
    return [key for key, listener in listeners.items() if _has_something(listener)]


def _has_something(listener: socket.socket) -> bool:
    try:
        if listener.type == socket.SOCK_DGRAM:
            listener.recv(100)
        else:
            listener.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@every(CONFINED)
@pytest.mark.parametrize("attempt", FORBIDDEN)
def test_it_does_not_get_out(outcome: Outcome, attempt: str) -> None:
    assert outcome.answers[attempt] != "done"


@every(CONFINED)
def test_nothing_arrived_outside(outcome: Outcome) -> None:
    """Level 1 has a /tmp and a loopback of its own, where such attempts only seem to succeed."""
    assert outcome.received == []
    assert outcome.place.secret.read_text() == "a secret\n"
    assert outcome.place.secret.stat().st_mode & 0o777 == 0o600
    assert not (outcome.place.root / "from-the-sandbox").exists()
    folders = ("/tmp", "/dev/shm", "/var/tmp", "/run")
    assert not [folder for folder in folders if Path(folder, outcome.name).exists()]


@every(CONFINED)
def test_it_has_no_network_but_its_own_loopback(case: Case, outcome: Outcome) -> None:
    assert outcome.answers["interfaces"] in ("EACCES", ["lo"])


@every([case for case in CONFINED if case.level == 1])
def test_folders_that_are_memory_are_small(outcome: Outcome) -> None:
    sizes = outcome.answers["ok_memory_folders"]
    assert len(sizes) == 2
    assert max(sizes) <= SMALL["memory_bytes"] // 4


@every([case for case in CASES if case.level == 3 and case.root])
@pytest.mark.parametrize("attempt", FORBIDDEN_FOR_ANOTHER_USER)
def test_level_3_is_at_least_another_user(outcome: Outcome, attempt: str) -> None:
    assert outcome.answers[attempt] != "done"


@every(CASES)
def test_it_is_no_root_and_has_no_capability(case: Case, outcome: Outcome) -> None:
    uid = case.code_user
    groups = [] if case.root or os.geteuid() == 0 else outcome.answers["ok_user"][3]
    assert outcome.answers["ok_user"] == [uid, uid, outcome.answers["ok_user"][2], groups]
    assert outcome.answers["ok_capabilities"] == "1"  # no_new_privs, and no bit besides


@every(CASES)
def test_it_inherits_nothing(outcome: Outcome) -> None:
    assert outcome.answers["ok_descriptors"] == [0, 1, 2]
    assert outcome.answers["ok_input"] == ""
    given = {"HOME", "LC_CTYPE", "MPLCONFIGDIR", "PATH", "TMPDIR"}
    assert set(outcome.answers["ok_environment"]) <= given
    assert outcome.answers["ok_temporary"] == ".tmp"


@every(CASES)
def test_it_stays_in_the_engines_session(case: Case, outcome: Outcome) -> None:
    assert case.level == 1 or outcome.answers["ok_session_of_engine"]


@every(CASES)
def test_ordinary_work_is_possible(outcome: Outcome) -> None:
    assert outcome.answers["ok_work_dir"] == "done"
    assert outcome.answers["ok_machine_facts"] == [True] * 5
    assert outcome.answers["ok_processes"] == [[1, 2], ["b", "link", "pipe"], -15, [1], 2]


@every(CASES)
def test_its_temporary_files_are_gone_afterwards(outcome: Outcome) -> None:
    assert not (outcome.place.work / ".tmp").exists()
    assert (outcome.place.work / "a").is_dir()
