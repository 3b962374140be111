"""Executed code's confinement: started by `launch`, in a `Jail`, within `Limits`, until its `Ending`.

Level 1 is bubblewrap, level 2 Landlock with seccomp, level 3 limits only. `probe` finds the first
of 1 and 2 that works here. Linux only. The reasons stand in docs/decisions/0010-sandbox-levels.md.
"""

from cmbagent.sandbox.jail import EndedBy, Ending, Jail, Level, Limits, SandboxFailed
from cmbagent.sandbox.launching import Launched, launch
from cmbagent.sandbox.probing import Probe, probe

__all__ = [
    "EndedBy",
    "Ending",
    "Jail",
    "Launched",
    "Level",
    "Limits",
    "Probe",
    "SandboxFailed",
    "launch",
    "probe",
]
