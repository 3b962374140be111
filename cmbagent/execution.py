"""Runs one block of Python in the sandbox, its output on the run's console."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cmbagent import environment, wire
from cmbagent.background import in_thread
from cmbagent.errors import EnvironmentFailed, SandboxUnavailable
from cmbagent.relay import CONSOLE, Relay
from cmbagent.sandbox import Ending, Jail, Launched, Limits, SandboxFailed, launch

LOCKFILE = Path(__file__).resolve().parent.parent / "requirements" / "science.txt"
LIMITS = {  # by how the sandbox calls them: what the code did, and what to do about it
    "time_limit": ("it ran longer than it may", "Give it less to do, or split it into blocks."),
    "cpu_limit": ("it used more CPU time than it may", "Give it less to do."),
    "memory_limit": ("it used more memory than it may", "Work on smaller pieces of the data."),
    "disk_limit": ("it wrote more than it may to the disk", "Write less, or remove what it made."),
    "process_limit": ("it started more processes than it may", "Start fewer processes."),
    "output_limit": ("it printed more than it may", "Print less, or write it to a file."),
}
_POLL_S = 0.25
_TELL_EVERY_S = 3.0


@dataclass(frozen=True)
class Block:
    """Python to be run; a recipe's block has parameters, which it reads from its environment."""

    code: str
    parameters: dict[str, Any] | None = None


@dataclass(frozen=True)
class Execution:
    """How the block of this number ended. `path` is relative to the work directory; a block that
    was killed has no exit code; `error` is the last line it wrote to stderr, if it ended by itself;
    of `stdout` and `stderr` the begin and the end; `files` are new or changed since the block
    before."""

    number: int
    path: str
    exit_code: int | None
    duration_s: float
    ended_by: str
    signal: int | None
    error: str
    stdout: str
    stderr: str
    files: list[wire.CollectedFile] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        return self.ended_by == "exit" and self.exit_code == 0

    @property
    def was_killed(self) -> bool:
        """By somebody outside: an operator, the kernel short of memory. Limits say so instead."""
        return self.ended_by == "signal" and self.signal == signal.SIGKILL

    @property
    def ending(self) -> str:
        """For people and models; goes on after the name of the code."""
        if self.ended_by in LIMITS:
            limit, (fact, _) = self.ended_by.replace("_", " "), LIMITS[self.ended_by]
            return f"was ended after {self.duration_s:.1f} s by the {limit}: {fact}."
        if self.ended_by == "stopped":
            return f"was stopped after {self.duration_s:.1f} s."
        if self.signal is not None:
            return f"died of {_signal_name(self.signal)}."
        error = f": {self.error}" if self.error else "."
        return f"ended with exit code {self.exit_code}{error}"

    @property
    def remedy(self) -> str:
        """What a person may do about a failure."""
        if self.ended_by in LIMITS:
            return LIMITS[self.ended_by][1]
        if self.ended_by == "stopped":
            return "Retry the run."
        return "Read the end of the console, mend the code and start it again."


def refuse_without_sandbox(sandbox: wire.Sandbox) -> None:
    if sandbox["level"] is None:
        raise SandboxUnavailable(
            "No sandbox works on this machine, so code is not run.", sandbox["remedy"]
        )


async def science_environment(path: Path, tell: Callable[[str], None]) -> None:
    """Returns when executed code can import what it needs. Raises EnvironmentFailed."""
    told, next_telling = "", 0.0
    while (found := environment.state(path, LOCKFILE)).state == "installing":
        if found.detail != told and time.monotonic() >= next_telling:
            told, next_telling = found.detail, time.monotonic() + _TELL_EVERY_S
            tell(f"Preparing the science environment: {found.detail}")
        await asyncio.sleep(_POLL_S)
    if found.state != "ready":
        raise EnvironmentFailed(
            f"The science environment is not there ({found.state}): {found.detail}",
            f"Run `{found.remedy}` in the checkout, then retry this run.",
        )


async def run_block(
    start: wire.Start, number: int, path: str, parameters: dict[str, Any] | None
) -> Execution:
    """Run the file at `path` (relative to the work directory) until its whole tree has ended.
    Cancelling stops it."""
    limits = Limits(**start["limits"])
    relay = Relay(limits.output_bytes)
    launched = launch(
        [f"{start['science_env']}/bin/python", "-P", "-u", path],
        jail=_jail(start),
        limits=limits,
        env=_environment(start, parameters),
        stdout=relay.stdout,
        stderr=relay.stderr,
        cwd=start["work_dir"],
    )
    relay.launched()
    ending = await _until_the_end(launched, relay)
    stdout, stderr = (relay.printed[stream] for stream in CONSOLE)
    return Execution(
        number=number,
        path=path,
        exit_code=ending.exit_code,
        duration_s=round(ending.duration_s, 3),
        ended_by=ending.ended_by,
        signal=ending.signal,
        error=_last_line(stderr.end()) if ending.ended_by == "exit" else "",
        stdout=stdout.text(),
        stderr=stderr.text(),
    )


async def _until_the_end(launched: Launched, relay: Relay) -> Ending:
    relaying = in_thread(
        lambda: relay.run(on_limit=lambda: launched.stop("output_limit")), name="relay"
    )
    waiting = in_thread(launched.wait, name="wait")
    try:
        ending = await asyncio.shield(waiting)
    except SandboxFailed as error:
        raise SandboxUnavailable(
            f"The sandbox could not be set up: {error}",
            "Retry the run; if it fails again, the server's sandbox check says what is missing.",
        ) from error
    except asyncio.CancelledError:
        launched.stop("stopped")
        with contextlib.suppress(SandboxFailed):
            await waiting
        raise
    finally:
        relay.tree_ended()
    await relaying
    if relay.is_over_limit:  # also when the code had ended before its last bytes were counted
        return Ending(None, None, "output_limit", ending.duration_s)
    return ending


def _jail(start: wire.Start) -> Jail:
    sandbox, science_env = start["sandbox"], start["science_env"]
    readable = [*sandbox["readable"], science_env, *_interpreter(Path(science_env))]
    return Jail(
        level=sandbox["level"] or 3,  # none: a person approved it, or it was refused before
        work_dir=start["work_dir"],
        readable=tuple(dict.fromkeys([*readable, *start["data_roots"]])),
        uid=sandbox["uid"],
    )


def _interpreter(science_env: Path) -> list[str]:
    """Where the environment's base interpreter lives: not its whole prefix, which can be a home."""
    executable = (science_env / "bin" / "python").resolve()
    prefix = executable.parent.parent
    places = [executable.parent, *(prefix / name for name in ("lib", "lib64"))]
    return [str(place) for place in places if place.is_dir()]


def _environment(start: wire.Start, parameters: dict[str, Any] | None) -> dict[str, str]:
    """All that executed code is told, but for TMPDIR, which comes from the launcher. Matplotlib
    keeps its list of fonts, which takes it long to make, for the session's next block."""
    env = {
        "PATH": f"{start['science_env']}/bin:/usr/local/bin:/usr/bin:/bin",
        "HOME": start["work_dir"],
        "LANG": "C.UTF-8",
        "MPLBACKEND": "Agg",
        "MPLCONFIGDIR": f"{start['work_dir']}/.cache/matplotlib",
        "PYTHONUNBUFFERED": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if threads := start["code_threads"]:
        env |= {"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    if parameters is not None:
        env["CMBAGENT_PARAMETERS"] = json.dumps(parameters)
    return env


def _signal_name(signum: int) -> str:
    known = {each.value: each.name for each in signal.Signals}
    return f"signal {signum} ({known.get(signum, 'real-time')})"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    visible = "".join(char if char.isprintable() else " " for char in lines[-1]) if lines else ""
    return visible[:300]
