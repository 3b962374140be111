"""`python -m cmbagent "task…"`: see cmbagent.terminal.command."""

from cmbagent.terminal.command import run_and_leave

if __name__ == "__main__":
    run_and_leave()
