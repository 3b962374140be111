# ruff: noqa: PTH101, PTH103, PTH104, PTH108, PTH109, PTH110, PTH116, PTH123, PTH208, PTH211
"""Code that tries to get out, by every way we know. It runs inside the sandbox and prints, as JSON,
what came of each attempt: "done", a value, or the name of the error."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import multiprocessing
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

PLACES: dict[str, Any] = json.loads(sys.argv[1])
ENGINE = int(sys.argv[2])
LAUNCHER = os.getppid()  # in level 1 it cannot be seen: this is 1 there
ATTEMPTS: dict[str, Callable[[], Any]] = {}
X86 = os.uname().machine == "x86_64"
LIBC = ctypes.CDLL(None, use_errno=True)


def attempt(function: Callable[[], Any]) -> Callable[[], Any]:
    ATTEMPTS[function.__name__] = function
    return function


def call(x86: int, arm: int, *arguments: int) -> str:
    if LIBC.syscall(x86 if X86 else arm, *map(ctypes.c_long, arguments)) < 0:
        return errno.errorcode[ctypes.get_errno()]
    return "done"


def reach(kind: int, family: int, address: Any) -> None:
    with socket.socket(family, kind) as client:
        client.settimeout(2)
        client.connect(address)
        client.send(b"from the sandbox")


@attempt
def read_secret() -> str:
    with open(PLACES["secret"]) as file:
        return file.read() and "done"


@attempt
def read_neighbour() -> str:
    with open(PLACES["neighbour"] + "/result.csv") as file:
        return file.read() and "done"


@attempt
def list_sessions() -> str:
    return "done" if "b" in os.listdir(PLACES["server"]) else "only its own"


@attempt
def read_shadow() -> str:
    with open("/etc/shadow") as file:
        return file.read() and "done"


@attempt
def read_accounts_of_host() -> str:
    with open("/etc/passwd") as file:
        return "done" if "root:" in file.read() else "a small one"


@attempt
def write_server() -> None:
    with open(PLACES["server"] + "/from-the-sandbox", "w"):
        pass


@attempt
def empty_secret() -> None:
    os.truncate(PLACES["secret"], 0)


@attempt
def empty_secret_by_reading() -> None:
    os.close(os.open(PLACES["secret"], os.O_RDONLY | os.O_TRUNC))


@attempt
def remove_secret() -> None:
    os.unlink(PLACES["secret"])


@attempt
def move_secret_here() -> None:
    os.rename(PLACES["secret"], "mine")


@attempt
def link_secret_here() -> None:
    os.link(PLACES["secret"], "linked")


@attempt
def read_secret_through_link() -> str:
    os.symlink(PLACES["secret"], "pointer")
    with open("pointer") as file:
        return file.read() and "done"


@attempt
def open_secret_to_all() -> None:
    os.chmod(PLACES["secret"], 0o777)


@attempt
def change_interpreter() -> None:
    with open(os.path.realpath(os.__file__), "a"):
        pass


@attempt
def make_set_uid_file() -> None:
    with open("tool", "w"):
        pass
    os.chmod("tool", 0o4755)


@attempt
def create_set_uid_file() -> str:
    os.close(os.open("tool2", os.O_CREAT | os.O_WRONLY, 0o4755))
    return "done" if os.stat("tool2").st_mode & stat.S_ISUID else "without the bit"


@attempt
def make_device() -> None:
    os.mknod("disk", stat.S_IFBLK | 0o600, os.makedev(254, 0))


@attempt
def read_disk() -> None:
    for name in ("vda", "sda", "nvme0n1", "mem", "kmsg"):
        if os.path.exists(f"/dev/{name}"):
            open(f"/dev/{name}", "rb").close()
            return
    raise FileNotFoundError


@attempt
def read_environment_of_others() -> str:
    found = "none"
    for name in [*filter(str.isdigit, os.listdir("/proc")), str(ENGINE), str(LAUNCHER)]:
        try:
            with open(f"/proc/{name}/environ", "rb") as file:
                found = "done" if b"SECRET=" in file.read() else found
        except OSError:
            continue
    return found


def read_whole(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


ATTEMPTS["read_environment_of_engine"] = lambda: read_whole(f"/proc/{ENGINE}/environ") and "done"
ATTEMPTS["read_command_of_engine"] = lambda: (
    "done" if b"sandbox_engine" in read_whole(f"/proc/{ENGINE}/cmdline") else "another"
)
ATTEMPTS["see_files_of_engine"] = lambda: os.listdir(f"/proc/{ENGINE}/cwd/") and "done"


def trace(pid: int) -> str:
    """Who is traced stands still: where nothing forbids it, the tests would."""
    return call(101, 117, 16, pid, 0, 0) if PLACES["harmless"] else "not tried"


def may_signal_launcher() -> str:
    if LAUNCHER == 1:
        return "not to be seen"
    os.kill(LAUNCHER, 0)
    os.killpg(os.getpgid(LAUNCHER), 0)
    return "done"


ATTEMPTS["trace_engine"] = lambda: trace(ENGINE)
ATTEMPTS["trace_launcher"] = lambda: trace(LAUNCHER) if LAUNCHER != 1 else "not to be seen"
ATTEMPTS["signal_engine"] = lambda: os.kill(ENGINE, 0)
ATTEMPTS["signal_launcher"] = may_signal_launcher
ATTEMPTS["limit_engine"] = partial(resource.prlimit, ENGINE, resource.RLIMIT_NOFILE, (1024, 1024))
ATTEMPTS["slow_engine"] = lambda: os.setpriority(os.PRIO_PROCESS, ENGINE, 19)


@attempt
def read_memory_of_engine() -> str:
    buffer = ctypes.create_string_buffer(8)
    vector = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 8)
    return call(310, 270, ENGINE, ctypes.addressof(vector), 1, ctypes.addressof(vector), 1, 0)


@attempt
def signal_by_pidfd() -> None:
    signal.pidfd_send_signal(os.pidfd_open(ENGINE), 0)


@attempt
def signal_by_descriptor() -> None:
    """The engine would die of it, and with it this run."""
    if not PLACES["harmless"]:
        return
    read, write = os.pipe()
    fcntl.fcntl(read, fcntl.F_SETOWN, ENGINE)
    fcntl.fcntl(read, 10, signal.SIGUSR1)
    fcntl.fcntl(read, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    os.write(write, b"x")


ATTEMPTS["tcp_to_server"] = lambda: reach(
    socket.SOCK_STREAM, socket.AF_INET, ("127.0.0.1", PLACES["tcp"])
)
ATTEMPTS["udp_to_server"] = lambda: reach(
    socket.SOCK_DGRAM, socket.AF_INET, ("127.0.0.1", PLACES["udp"])
)
for _name, _address in (("abstract", "\0" + PLACES["abstract"]), ("path", PLACES["socket"])):
    for _kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        ATTEMPTS[f"unix_{_name}_{_kind.name}"] = partial(
            reach,
            _kind,
            socket.AF_UNIX,
            _address + ("-dgram" if _kind == socket.SOCK_DGRAM else ""),
        )


def pair_to(address: str) -> None:
    """A socket that was never made by socket() can be sent from, too."""
    first, _ = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    first.sendto(b"from the sandbox", address)


ATTEMPTS["pair_to_abstract"] = lambda: pair_to("\0" + PLACES["abstract"] + "-dgram")
ATTEMPTS["pair_to_path"] = lambda: pair_to(PLACES["socket"] + "-dgram")
ATTEMPTS["vsock"] = lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM).close()
ATTEMPTS["netlink"] = lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close()
ATTEMPTS["packet"] = lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM).close()


@attempt
def interfaces() -> list[str]:
    return [name for _, name in socket.if_nameindex()]


_ATTRIBUTES = ctypes.create_string_buffer(256)
for _name, _call in {
    "new_user_namespace": (272, 97, 0x10000000),
    "mount": (165, 40, 0, 0, 0, 0x20, 0),
    "keyring": (250, 219, 0, -3, 1),
    "bpf": (321, 280, 0, ctypes.addressof(_ATTRIBUTES), 72),
    "io_uring": (425, 425, 4, ctypes.addressof(_ATTRIBUTES)),
    "perf_events": (298, 241, ctypes.addressof(_ATTRIBUTES), 0, -1, -1, 0),
    "userfaultfd": (323, 282, 1),
    "memfd": (319, 279, ctypes.addressof(_ATTRIBUTES), 0),
    "open_by_handle": (304, 265, -100, ctypes.addressof(_ATTRIBUTES), 0),
    "shared_memory": (29, 194, 0, 4096, 0o1600),
    "chroot": (161, 51, ctypes.addressof(ctypes.create_string_buffer(b"."))),
    "hide_memory_size": (157, 167, 4, 0),
}.items():
    ATTEMPTS[_name] = partial(call, *_call)
ATTEMPTS["clone_with_namespace"] = lambda: call(56, 220, 0x10000000 | signal.SIGCHLD, 0, 0, 0, 0)
ATTEMPTS["type_into_terminal"] = lambda: call(16, 29, 0, 0x5412, ctypes.addressof(_ATTRIBUTES))
ATTEMPTS["other_architecture"] = lambda: call(0x40000000 + 39, 172) if X86 else "ENOSYS"


@attempt
def leave_a_file_for_all() -> str:
    """Allowed where it is a folder of the sandbox's own; the test looks for it outside."""
    for folder in ("/tmp", "/dev/shm", "/var/tmp", "/run"):
        try:
            with open(f"{folder}/{PLACES['abstract']}", "w"):
                pass
        except OSError:
            continue
    return "tried"


def fill(folder: str) -> None:
    """Where a folder is memory, and writable, it is memory that no limit counts."""
    with open(f"{folder}/{PLACES['abstract']}", "w"):
        pass


for _name in ("/", "/dev", "/etc", "/usr/share"):
    ATTEMPTS[f"fill_{_name}"] = partial(fill, _name)


# what code needs for its work
ATTEMPTS["ok_user"] = lambda: [os.getuid(), os.geteuid(), os.getgid(), os.getgroups()]
ATTEMPTS["ok_descriptors"] = lambda: sorted(map(int, os.listdir("/proc/self/fd")))[:-1]
ATTEMPTS["ok_environment"] = lambda: sorted(os.environ)
ATTEMPTS["ok_temporary"] = lambda: os.path.relpath(os.environ["TMPDIR"], os.getcwd())
ATTEMPTS["ok_input"] = sys.stdin.read
ATTEMPTS["ok_session_of_engine"] = lambda: os.getsid(0) == ENGINE


@attempt
def ok_memory_folders() -> list[int]:
    """Sizes of those that are writable."""
    folders = [name for name in ("/dev/shm", "/tmp") if os.access(name, os.W_OK)]
    return [found.f_blocks * found.f_frsize for found in map(os.statvfs, folders)]


@attempt
def ok_capabilities() -> str:
    with open("/proc/self/status") as file:
        words = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    return (
        "".join(words[f"Cap{name}"] for name in ("Prm", "Eff", "Amb")).strip("0")
        + words["NoNewPrivs"]
    )


@attempt
def ok_machine_facts() -> list[bool]:
    names = ("/proc/cpuinfo", "/proc/meminfo", "/proc/self/maps", "/proc/sys/vm/overcommit_memory")
    return [bool(read_whole(name)) for name in (*names, "/sys/devices/system/cpu/online")]


@attempt
def ok_work_dir() -> str:
    os.makedirs("a/b")
    with open("a/file", "w") as file:
        file.write("x")
    os.rename("a/file", "a/b/moved")
    os.symlink("b/moved", "a/link")
    os.chmod("a/b/moved", 0o700)
    with open("a/link", "r+") as file:
        file.truncate(0)
    os.mkfifo("a/pipe")
    os.utime("a/b/moved")
    os.unlink("a/b/moved")
    return "done"


@attempt
def ok_processes() -> list[Any]:
    with multiprocessing.Pool(2) as pool:
        squares = pool.map(abs, [-1, -2])
    said = subprocess.run(["ls", "a"], capture_output=True, text=True, check=True).stdout.split()
    sleeper = subprocess.Popen(["sleep", "60"])
    sleeper.terminate()
    numbers: list[int] = []
    thread = threading.Thread(target=numbers.append, args=(1,))
    thread.start()
    thread.join()
    return [squares, said, sleeper.wait(), numbers, len(socket.socketpair())]


def outcome(function: Callable[[], Any]) -> Any:
    try:
        found = function()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, repr(error))
    except Exception as error:  # noqa: BLE001  # whatever it was, it is the outcome
        return repr(error)
    return "done" if found is None or isinstance(found, tuple) else found


def is_attempt(name: str) -> bool:
    return not name.startswith("ok_")


if __name__ == "__main__":
    # only the first process: the others that Pool starts must not try all of it again
    # and before anything is spoilt by an attempt that nothing forbids, the ordinary is looked at
    print(json.dumps({name: outcome(ATTEMPTS[name]) for name in sorted(ATTEMPTS, key=is_attempt)}))
