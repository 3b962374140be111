"""Which confinement this host offers to executed code, probed once per worker host."""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
from typing import TYPE_CHECKING

from django.conf import settings

from cmbagent.sandbox import Limits, probe

if TYPE_CHECKING:
    from cmbagent import wire

# The worker command probes and tells its children; a process without it probes for itself.
PROBED = "CMBAGENT_SANDBOX_PROBED"
ONLY_BUBBLEWRAP = "Install bubblewrap and start again, or set CMBAGENT_SANDBOX=2."
_FIRST_UID = 1_900_000_000  # far above every account of a machine
_UIDS = 100_000_000


def probe_host() -> dict[str, int | str | None]:
    """Really runs something confined in each level. Remembered for this process's children."""
    found = probe(_readable())
    level = accepted(found.level)
    report: dict[str, int | str | None] = {
        "level": level,
        "remedy": "" if level else found.remedy or ONLY_BUBBLEWRAP,
        "report": "; ".join(f"level {level}: {how}" for level, how in found.tried.items()),
    }
    os.environ[PROBED] = json.dumps(report)
    return report


def accepted(found: int | None) -> int | None:
    """The level to use: what was found, unless the operator asks for better (CMBAGENT_SANDBOX=1)
    or, where nothing confines, accepts the risk (3)."""
    if found is not None and found <= settings.SANDBOX_ACCEPTED_LEVEL:
        return found
    return 3 if settings.SANDBOX_ACCEPTED_LEVEL == 3 else None


def _report() -> dict[str, int | str | None]:
    known = os.environ.get(PROBED)
    report: dict[str, int | str | None] = json.loads(known) if known else probe_host()
    return report


def level_of_host() -> int | None:
    level = _report()["level"]
    return int(level) if level is not None else None


def code_uid(session_id: uuid.UUID) -> int | None:
    """As whom a session's code runs when we are root; None: as we do."""
    return _FIRST_UID + session_id.int % _UIDS if os.geteuid() == 0 else None


def for_session(session_id: uuid.UUID) -> wire.Sandbox:
    """What an engine is told. As root, each session's code is a user of its own."""
    report = _report()
    return {
        "level": report["level"],  # type: ignore[typeddict-item]  # 1, 2, 3 or None
        "remedy": str(report["remedy"]),
        "uid": code_uid(session_id),
        "readable": list(_readable()),
    }


def _readable() -> tuple[str, ...]:
    return (str(settings.SCIENCE_ENV), *(str(root) for root in settings.DATA_ROOTS))


def limits() -> dict[str, int]:
    """What one execution may use; settings.CODE_LIMITS changes single values."""
    limits = Limits()
    by_cores = {"cpu_s": limits.wall_s * (os.cpu_count() or 1)}  # CPU time is summed over cores
    return dataclasses.asdict(dataclasses.replace(limits, **by_cores | settings.CODE_LIMITS))
