"""Which paths of the machine executed code gets to see, symbolic links followed to their ends."""

from __future__ import annotations

import os

# not /usr itself: people keep servers and data below /usr/src and /usr/local
SYSTEM_DIRECTORIES = (
    *("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/usr/bin", "/usr/sbin", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/libx32"),
    *("/usr/libexec", "/usr/share", "/usr/include"),
    *("/usr/local/bin", "/usr/local/lib", "/usr/local/lib64", "/usr/local/share"),
    *("/nix/store", "/gnu/store"),
)
SYSTEM_FILES = (
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/alternatives"),
    *("/etc/fonts", "/etc/localtime", "/etc/timezone", "/etc/mime.types"),
    *("/sys/devices/system/cpu", "/sys/devices/system/node"),
    "/sys/kernel/mm/transparent_hugepage",
)
# of /proc where it is the machine's own; besides these only what belongs to the process itself
PROC_FILES = tuple(
    f"/proc/{name}"
    for name in (
        *("cpuinfo", "meminfo", "stat", "loadavg", "uptime", "version", "filesystems"),
        *("sys/kernel", "sys/vm", "sys/fs"),
    )
)
DEVICES = tuple(f"/dev/{name}" for name in ("null", "zero", "full", "random", "urandom"))
MAX_LINKS = 40  # as the kernel has it


class View:
    """`places` are real paths, parents first, none below another; `links` are the symbolic links
    on the way to them that lie outside of them (path: target)."""

    def __init__(self, paths: list[str]) -> None:
        links: dict[str, str] = {}
        found = sorted({follow(path, links) for path in paths if os.path.lexists(path)})
        self.places: list[str] = []
        for place in found:
            if not below_any(place, self.places) and os.path.exists(place):
                self.places.append(place)
        self.links = {
            path: target for path, target in links.items() if not below_any(path, self.places)
        }


def follow(path: str, links: dict[str, str]) -> str:
    """The real path; every symbolic link on the way is added to `links`."""
    done, todo, followed = "/", _parts(path), 0
    while todo:
        candidate = os.path.normpath(os.path.join(done, todo.pop(0)))
        if followed == MAX_LINKS or not os.path.islink(candidate):
            done = candidate
            continue
        target = links[candidate] = os.readlink(candidate)
        done = "/" if target.startswith("/") else done
        todo = _parts(target) + todo
        followed += 1
    return done


def _parts(path: str) -> list[str]:
    return [part for part in path.split("/") if part]


def below_any(path: str, places: list[str]) -> bool:
    """A path counts as below itself."""
    return any(path == place or path.startswith(f"{place.rstrip('/')}/") for place in places)


def of_interpreter(program: str) -> list[str]:
    """What a Python at this path needs besides its environment: not its whole prefix, which can
    be somebody's home. Nothing for other programs."""
    real = os.path.realpath(program)
    if not os.path.basename(real).startswith("python"):
        return [program]
    homes = {os.path.dirname(real), *_home_of_environment(program)}
    return [program] + [
        os.path.join(os.path.dirname(home), name)
        for home in homes
        for name in (os.path.basename(home), "lib", "lib64")
    ]


def _home_of_environment(program: str) -> list[str]:
    """The base interpreter's folder, if this is the Python of a virtual environment."""
    settings = os.path.join(os.path.dirname(os.path.dirname(program)), "pyvenv.cfg")
    try:
        with open(settings, encoding="utf-8") as file:
            pairs = [line.partition("=") for line in file]
    except (OSError, UnicodeDecodeError):
        return []
    return [value.strip() for key, _, value in pairs if key.strip() == "home" and value.strip()]
