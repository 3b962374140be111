"""One task, one answer: an engineer writes and runs code, or a researcher writes a text.

Without a model the same engineer runs the Python in the task, or a recipe it asks for.
"""

from __future__ import annotations

from dataclasses import asdict

from cmbagent.context import Run
from cmbagent.execution import Execution
from cmbagent.models.choosing import NO_MODEL, agent_of
from cmbagent.report import Report, about_models, about_work, made_by, result_value

REPORT = "report.md"
_MAX_FILES = 200  # named in the result; all are artifacts of the run
_MAX_ANSWER = 8_000  # characters of the answer in the result


async def one_shot(run: Run) -> Report:
    agent = agent_of(run.config)
    answer = await run.agent(agent, run.task)
    if agent == "researcher":
        await run.keep_text(REPORT, answer)
    return _report(run, answer)


def _report(run: Run, answer: str) -> Report:
    """Without AI the answer is a summary already, and says that none was used."""
    executions = run.executions
    files = made_by(executions, run.files)
    result = {
        "answer": answer[:_MAX_ANSWER],
        "blocks": [_block_result(execution) for execution in executions],
        "files": files[:_MAX_FILES],
        **result_value(run.work_dir, files),
    }
    asked = [usage for usage in run.journal.usages() if usage["provider"] != NO_MODEL]
    work = about_work(executions, run.files)
    return Report(f"Done ({about_models(asked)}). {work}" if asked else answer, result)


def _block_result(execution: Execution) -> dict[str, object]:
    shown = ("path", "exit_code", "duration_s", "ended_by")
    return {name: value for name, value in asdict(execution).items() if name in shown}
