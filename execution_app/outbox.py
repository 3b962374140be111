"""What an engine said and nobody has stored yet: collected, bounded, flushed in batches.

Batches are self-clocking: what has arrived goes when the batch before is committed, 5 to 50 ms
apart: the slower the database, the larger the batches. One is in flight at a time, so a slow
database fills the pipes and so slows the engine; nothing grows here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from django.conf import settings

from execution_app import services
from execution_app.console import Console, Stream
from execution_app.group_commit import Committer
from execution_app.patience import Patience
from execution_app.services import Batch, Claim, Finished, FoundFile, Unstorable
from execution_app.truncation import bounded
from sessions_app.event_types import EventData

MIN_GAP_SECONDS, MAX_GAP_SECONDS = 0.005, 0.05
FULL_BYTES = 512 * 1024
RENEWALS_PER_LEASE = 5


class Outbox:
    """The events and journal entries of one claim on their way into the database, in order.
    `acknowledge` is called with the key of each entry, when it is committed and not before."""

    def __init__(
        self,
        claim: Claim,
        console: Console,
        patience: Patience,
        acknowledge: Callable[[str], None],
        committer: Committer,
    ) -> None:
        self._claim = claim
        self._console = console
        self._patience = patience
        self._acknowledge = acknowledge
        self._committer = committer
        self._items: list[EventData | Finished | Unstorable] = []
        self._files: list[FoundFile] = []
        self._bytes = 0
        self._next_flush = 0.0
        self._period = settings.LEASE_SECONDS / RENEWALS_PER_LEASE
        self._next_renewal = time.monotonic() + self._period

    # -- in -----------------------------------------------------------------------------------
    def add_output(self, stream: Stream, data: bytes) -> None:
        self._console.feed(stream, data, now=time.monotonic())
        self._bytes += len(data)

    def close_stream(self, stream: Stream) -> None:
        self._console.close(stream)

    def add_event(self, event: EventData) -> None:
        """After all output that came before it."""
        self._items.extend(self._console.take(now=time.monotonic(), everything=True))
        self._items.append(self._bounded(event))
        self._bytes += 1_000

    def add_entry(self, told: Finished | Unstorable) -> None:
        """After all that came before it; the engine waits for it, so it goes at once."""
        self._items.extend(self._console.take(now=time.monotonic(), everything=True))
        if isinstance(told, Finished):
            told = replace(told, events=[self._bounded(event) for event in told.events])
        self._items.append(told)
        self._next_flush = 0.0

    def add_files(self, files: Sequence[FoundFile]) -> None:
        self._files.extend(files)

    def _bounded(self, event: EventData) -> EventData:
        event, cut = bounded(event, folder=f"runs/{self._claim.number}")
        self._files.extend(cut)
        return event

    # -- when ---------------------------------------------------------------------------------
    def is_full(self) -> bool:
        return self._bytes >= FULL_BYTES

    def is_due(self) -> bool:
        now = time.monotonic()
        if self.is_full():
            return True
        return now >= self._next_flush and (bool(self._items) or self._console.size > 0)

    def next_due(self) -> float:
        """When the loop must look here again, whatever arrives."""
        if self._items or self._console.size:
            return min(self._next_flush, self._next_renewal)
        return self._next_renewal

    def is_renewal_due(self) -> bool:
        return time.monotonic() >= self._next_renewal

    def look_soon(self) -> None:
        self._next_renewal = 0.0

    def renewed(self) -> None:
        self._next_renewal = time.monotonic() + self._period

    # -- out ----------------------------------------------------------------------------------
    def flush(self, *, everything: bool = False) -> None:
        """Store what is here. Raises LeaseLost."""
        started = time.monotonic()
        self._items.extend(self._console.take(now=started, everything=everything))
        if self._items or self._files:
            self._patience(self._store)
        stored, self._items, self._files = self._items, [], []
        self._bytes = self._console.size
        for item in stored:
            if isinstance(item, Finished):
                self._acknowledge(item.entry["key"])
        ended = time.monotonic()
        gap = min(max(ended - started, MIN_GAP_SECONDS), MAX_GAP_SECONDS)
        self._next_flush = ended + gap

    def _store(self) -> None:
        batch = None if self._files else Batch.of(self._claim, self._items)
        if batch and self._committer.takes(batch):
            self._claim.batch += 1
        else:
            services.record_batch(self._claim, self._items, self._files)
