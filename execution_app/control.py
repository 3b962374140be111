"""How another process of this host wakes a supervisor: a datagram to the socket it keeps.

A nudge carries no truth: "look" means look at your row now, "drain" that this host hands its
runs over. Lost, it is found by the supervisor's timer. Sockets are addressed through a
descriptor of their folder, because the path of a data folder may be longer than a socket's.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings

LOOK, DRAIN = b"look", b"drain"
BACKLOG = 1024


def owner_name(pid: int) -> str:
    """Who holds a lease: a supervisor's process on this host since its last boot."""
    return f"{settings.HOST_NAME}:{pid}"


def runtime_dir() -> Path:
    path = Path(settings.RUNTIME_DIR)
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.chmod(0o700)
    return path


@contextlib.contextmanager
def short_path(name: str) -> Iterator[str]:
    folder = os.open(runtime_dir(), os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{name}"
    finally:
        os.close(folder)


def socket_name(pid: int) -> str:
    return f"supervisor-{pid}.sock"


def listen() -> socket.socket:
    """The socket of this process's supervisor."""
    remove_socket(os.getpid())
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with short_path(socket_name(os.getpid())) as path:
        listener.bind(path)
    return listener


def remove_socket(pid: int) -> None:
    (Path(settings.RUNTIME_DIR) / socket_name(pid)).unlink(missing_ok=True)


def supervisor_pids() -> list[int]:
    """Processes of this host that supervise a run now, or did when they were killed."""
    found = Path(settings.RUNTIME_DIR).glob("supervisor-*.sock")
    return [int(path.stem.removeprefix("supervisor-")) for path in found]


def is_supervising(pid: int) -> bool:
    """Ask its socket: a number alone may be another process's by now."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as asker,
        short_path(socket_name(pid)) as path,
    ):
        try:
            asker.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:  # its queue is full: somebody is there
            return True
    return True


def nudge(owner: str, word: bytes = LOOK) -> None:
    """Wake the supervisor if it is on this host; on another its timer finds out."""
    host, _, pid = owner.rpartition(":")
    if host == settings.HOST_NAME and pid.isdigit():
        _send(int(pid), word)


def _send(pid: int, word: bytes) -> None:
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender,
        contextlib.suppress(OSError),
        short_path(socket_name(pid)) as path,
    ):
        sender.sendto(word, path)


# -- processes that serve the supervisors of this host ------------------------------------------
def listen_for_packets(name: str) -> socket.socket:
    """The socket of this name in the runtime folder, in place of one that a dead process left."""
    (runtime_dir() / name).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
    with short_path(name) as path:
        listener.bind(path)
    listener.listen(BACKLOG)
    return listener


# -- draining ---------------------------------------------------------------------------------
def _drain_file() -> Path:
    return Path(settings.RUNTIME_DIR) / "draining"


def start_draining() -> None:
    _drain_file().touch()
    drain_supervisors()


def stop_draining() -> None:
    _drain_file().unlink(missing_ok=True)


def is_draining() -> bool:
    return _drain_file().exists()


def drain_supervisors() -> None:
    for pid in supervisor_pids():
        _send(pid, DRAIN)
