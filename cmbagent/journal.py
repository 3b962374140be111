"""What a run remembers: one entry per finished call, replayed instead of made again.

A key is the path of scopes with an ordinal for each name in its scope, so the same workflow finds
the same entries whichever process runs it. Calls of one scope come one after the other; what runs
at the same time is a branch with a name of its own.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import hashlib
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from cmbagent import wire
from cmbagent.errors import JournalMismatch, PayloadTooLarge

Keep = Callable[[wire.Entry], Awaitable[None]]

_scope: ContextVar[str] = ContextVar("scope", default="")


@dataclass
class Announcement:
    """What is stored together with an entry."""

    events: list[wire.Announced] = field(default_factory=list)
    usage: wire.Usage | None = None


Announce = Callable[[Any], Announcement]


class Journal:
    """`keep` returns when an entry is stored for good, or never."""

    def __init__(
        self, entries: Iterable[wire.Entry], keep: Keep, spent: Iterable[wire.Usage] = ()
    ) -> None:
        """`spent`: by calls that a retry forgot."""
        self._entries = {entry["key"]: entry for entry in entries}
        self._keep = keep
        self._spent = list(spent)
        self._ordinals: collections.Counter[str] = collections.Counter()
        self._open: set[str] = set()  # scopes in which a call is under way
        self._is_halted = False
        self._executions: set[asyncio.Task[Any]] = set()
        self._models = 0  # model calls that have begun and have no entry yet
        self._no_models = asyncio.Event()

    def payloads(self, kind: wire.EntryKind) -> list[Any]:
        """Of all finished calls of a kind, whatever attempt made them."""
        return [entry["payload"] for entry in self._entries.values() if entry["kind"] == kind]

    def first_key(self) -> str | None:
        """Of what was finished in the scope where this is asked."""
        return next((key for key in self._entries if key.startswith(_scope.get())), None)

    def last_key(self, kind: wire.EntryKind) -> str | None:
        """Of all finished calls of a kind."""
        keys = [key for key, entry in self._entries.items() if entry["kind"] == kind]
        return keys[-1] if keys else None

    def usages(self) -> list[wire.Usage]:
        """Of all calls that were paid, also of those that are forgotten."""
        kept = [entry["usage"] for entry in self._entries.values() if entry["usage"]]
        return [*self._spent, *kept]

    async def once(
        self,
        kind: wire.EntryKind,
        name: str,
        arguments: Any,
        body: Callable[[], Awaitable[Any]],
        *,
        announce: Announce = lambda _: Announcement(),
    ) -> Any:
        """The JSON that `body` returns, from the journal if it returned before. Calls that body
        makes are in a scope of their own. What body raises is not remembered: it is tried again.

        Raises JournalMismatch when the call that finished had other arguments.
        """
        scope = _scope.get()
        key = self._next_key(f"{scope}{name}")
        digest = digest_of(arguments)
        if key in self._entries:
            return self._finished(key, digest)
        if self._is_halted:
            await _for_ever()
        with self._counted(kind):
            with self._under_way(scope, kind), _inside(f"{key}/"):
                payload = await (self._executed(body) if kind == "execution" else body())
            entry = self._entry(kind, key, digest, payload, announce(payload))
            await self._keep(entry)
        self._entries[key] = entry
        return payload

    async def halt(self) -> None:
        """Begin no call any more and stop executions now. Returns when they are stopped and no
        model call is in flight: each has reached its entry, or failed."""
        self._is_halted = True
        for execution in self._executions:
            execution.cancel()
        if self._executions:
            await asyncio.wait(self._executions)
        while self._models:
            self._no_models.clear()
            await self._no_models.wait()

    async def _executed(self, body: Callable[[], Awaitable[Any]]) -> Any:
        """In a task of its own: a halt stops the code and not its caller, beside whom a model call
        may be in flight."""
        execution = asyncio.ensure_future(body())
        self._executions.add(execution)
        try:
            return await execution
        except asyncio.CancelledError:
            if self._is_halted and not _is_cancelled():
                await _for_ever()
            raise
        finally:
            self._executions.discard(execution)

    def _next_key(self, name: str) -> str:
        ordinal = self._ordinals[name]
        self._ordinals[name] += 1
        return f"{name}#{ordinal}"

    def _finished(self, key: str, digest: str) -> Any:
        entry = self._entries[key]
        if entry["digest"] != digest:
            raise JournalMismatch(key)
        return entry["payload"]

    @contextlib.contextmanager
    def _counted(self, kind: wire.EntryKind) -> Iterator[None]:
        self._models += kind == "model"
        try:
            yield
        finally:
            self._models -= kind == "model"
            if not self._models:
                self._no_models.set()

    @contextlib.contextmanager
    def _under_way(self, scope: str, kind: wire.EntryKind) -> Iterator[None]:
        if kind == "branch":
            yield
            return
        if scope in self._open:
            raise RuntimeError(f"two calls at once in {scope or 'the workflow'!r}: use run.branch")
        self._open.add(scope)
        try:
            yield
        finally:
            self._open.discard(scope)

    def _entry(
        self, kind: wire.EntryKind, key: str, digest: str, payload: Any, said: Announcement
    ) -> wire.Entry:
        size = len(json.dumps(payload, allow_nan=False))
        if size > wire.MAX_PAYLOAD_BYTES:
            raise PayloadTooLarge(key, size)
        return {
            "t": "entry",
            "key": key,
            "kind": kind,
            "digest": digest,
            "payload": payload,
            "usage": said.usage,
            "events": said.events,
        }


async def _for_ever() -> None:
    """Who halts us ends us."""
    await asyncio.Event().wait()


def _is_cancelled() -> bool:
    """We, not only whom we wait for."""
    task = asyncio.current_task()
    return bool(task and task.cancelling())


@contextlib.contextmanager
def _inside(scope: str) -> Iterator[None]:
    token = _scope.set(scope)
    try:
        yield
    finally:
        _scope.reset(token)


def digest_of(arguments: Any) -> str:
    """sha256 of the arguments as JSON with sorted keys."""
    text = json.dumps(arguments, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
