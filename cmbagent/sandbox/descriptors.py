"""What the open descriptors of a tree hold that no process's size and no folder shows."""

from __future__ import annotations

import os
import stat

_BLOCK = 512  # what st_blocks counts in, whatever the file system
_PIPE_BYTES = 64 << 10
_SOCKET_BYTES = 212_992  # Linux' default, where the machine's own cannot be read


class Held:
    def __init__(self) -> None:
        self.deleted_bytes = 0  # of files without a name
        self.buffer_bytes = 0  # what pipes and sockets can hold, each in the kernel's default size


def held_by(pids: list[int], device: int, *, max_buffer_bytes: int) -> Held:
    """`device`: of the work directory. Stops counting beyond `max_buffer_bytes`."""
    held, seen, socket_bytes = Held(), set(), _default_of_sockets()
    for pid in pids:
        for found in _open_files(pid):
            if (found.st_dev, found.st_ino) not in seen:
                seen.add((found.st_dev, found.st_ino))
                _count(found, held, device, socket_bytes)
        if held.buffer_bytes > max_buffer_bytes:
            break
    held.buffer_bytes += _queued_in_own_network(pids)
    return held


def _queued_in_own_network(pids: list[int]) -> int:
    """What lies in TCP queues, which grow by themselves, if the tree has a network of its own."""
    ours = os.readlink("/proc/self/ns/net")
    for pid in pids:
        try:
            if os.readlink(f"/proc/{pid}/ns/net") != ours:
                return _queued(f"/proc/{pid}/net/tcp") + _queued(f"/proc/{pid}/net/tcp6")
        except OSError:  # it has just ended: ask the next
            continue
    return 0


def _queued(table: str) -> int:
    """The fifth column is sent:received, each in hexadecimal and not yet taken."""
    try:
        with open(table, encoding="ascii") as file:
            queues = [line.split()[4] for line in list(file)[1:]]
    except FileNotFoundError:  # a kernel without IPv6
        return 0
    return sum(int(size, 16) for queue in queues for size in queue.split(":"))


def _count(found: os.stat_result, held: Held, device: int, socket_bytes: int) -> None:
    if stat.S_ISSOCK(found.st_mode):
        held.buffer_bytes += socket_bytes
    elif stat.S_ISFIFO(found.st_mode):
        held.buffer_bytes += _PIPE_BYTES
    elif found.st_nlink == 0 and found.st_dev == device and stat.S_ISREG(found.st_mode):
        held.deleted_bytes += found.st_blocks * _BLOCK


def _open_files(pid: int) -> list[os.stat_result]:
    found = []
    for descriptor in _descriptors(pid):
        try:
            found.append(os.stat(f"/proc/{pid}/fd/{descriptor}"))
        except OSError:  # closed since
            continue
    return found


def _descriptors(pid: int) -> list[str]:
    try:
        return os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return []


def _default_of_sockets() -> int:
    """What lies unread is counted against the sender's buffer."""
    try:
        with open("/proc/sys/net/core/wmem_default", encoding="ascii") as file:
            return int(file.read())
    except OSError:
        return _SOCKET_BYTES
