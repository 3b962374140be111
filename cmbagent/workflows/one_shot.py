"""One task, one answer: without a model, the Python in the task or a recipe it asks for."""

from __future__ import annotations

import signal
from dataclasses import asdict

from cmbagent import recipes
from cmbagent.blocks import has_fence, python_blocks
from cmbagent.context import Run
from cmbagent.errors import CodeFailed, NoRecipe
from cmbagent.execution import Block, Execution
from cmbagent.report import Report, ResultFile

SPEAKER = "cmbagent"
_MAX_FILES = 200  # named in the result; all are artifacts of the run
_MAX_NAMED = 12  # named in the summary

_LIMITS = {
    "time_limit": ("it ran longer than it may", "Give it less to do, or split it into blocks."),
    "cpu_limit": ("it used more CPU time than it may", "Give it less to do."),
    "memory_limit": ("it used more memory than it may", "Work on smaller pieces of the data."),
    "disk_limit": ("it wrote more than it may to the disk", "Write less, or remove what it made."),
    "process_limit": ("it started more processes than it may", "Start fewer processes."),
    "output_limit": ("it printed more than it may", "Print less, or write it to a file."),
    "stopped": ("it was stopped", "Retry the run."),
}


async def one_shot(run: Run) -> Report:
    blocks = _blocks_to_run(run)
    result_file = ResultFile(run.work_dir)
    executions = [
        await _execute(run, block, number, len(blocks))
        for number, block in enumerate(blocks, start=1)
    ]
    report = _report(run, executions, result_file)
    run.say(SPEAKER, report.summary)
    return report


def _blocks_to_run(run: Run) -> list[Block]:
    if codes := python_blocks(run.task):
        run.say(SPEAKER, _about_blocks(len(codes), run.config))
        return [Block(code) for code in codes]
    recipe = recipes.find(run.task)
    if recipe is None:
        raise _nothing_to_run(run.task)
    parameters = recipes.read_parameters(recipe, run.task, run.config.get("parameters", {}))
    run.say(SPEAKER, _about_recipe(recipe, parameters))
    return [Block(recipe.code, parameters)]


def _about_blocks(count: int, config: dict[str, object]) -> str:
    number = "the Python block" if count == 1 else f"the {count} Python blocks"
    text = f"No AI is used: running {number} of your task as written."
    if config.get("parameters"):
        text += " The parameters of the configuration are for recipes; your code does not get them."
    return text


def _about_recipe(recipe: recipes.Recipe, parameters: dict[str, float]) -> str:
    values = ", ".join(
        f"{parameter.name} = {parameters[parameter.name]:.6g} {parameter.unit}".rstrip()
        for parameter in recipe.parameters
    )
    return f"No AI is used: running the recipe “{recipe.title}” with {values}."


def _nothing_to_run(task: str) -> NoRecipe:
    offers = "; ".join(
        f"the recipe “{recipe.title}”, asked for by, say, “{'” or “'.join(recipe.examples)}”"
        for recipe in recipes.known()
    )
    hint = " A fence without a language is not run: begin it with ```python." * has_fence(task)
    return NoRecipe(
        "No model is connected, and the task holds no Python block and asks for no known recipe.",
        f"What can be run: Python between a line ```python and a line ```; {offers}.{hint}",
    )


async def _execute(run: Run, block: Block, number: int, count: int) -> Execution:
    """Raises CodeFailed, so that the blocks after it do not run."""
    execution = await run.execute(block, phase=f"Running block {number} of {count}")
    if not execution.succeeded:
        raise _code_failed(execution, f"Block {number} of {count} ({execution.path})")
    return execution


def _code_failed(execution: Execution, block: str) -> CodeFailed:
    if execution.ended_by in _LIMITS:
        fact, suggestion = _LIMITS[execution.ended_by]
        limit = execution.ended_by.replace("_", " ")
        return CodeFailed(
            f"{block} was ended after {execution.duration_s:.1f} s by the {limit}: {fact}.",
            suggestion,
        )
    suggestion = "Read the end of the console, mend the code and start it again."
    if execution.signal is not None:
        return CodeFailed(f"{block} died of {_signal_name(execution.signal)}.", suggestion)
    error = f": {execution.error}" if execution.error else "."
    return CodeFailed(f"{block} ended with exit code {execution.exit_code}{error}", suggestion)


def _signal_name(signum: int) -> str:
    known = {each.value: each.name for each in signal.Signals}
    return f"signal {signum} ({known.get(signum, 'real-time')})"


def _report(run: Run, executions: list[Execution], result_file: ResultFile) -> Report:
    code = {execution.path for execution in executions}
    files = [file["path"] for file in run.files if file["path"] not in code]
    result = {
        "blocks": [_block_result(execution) for execution in executions],
        "files": files[:_MAX_FILES],
        **result_file.value(),
    }
    return Report(_summary(executions, files), result)


def _block_result(execution: Execution) -> dict[str, object]:
    shown = ("path", "exit_code", "duration_s", "ended_by")
    return {name: value for name, value in asdict(execution).items() if name in shown}


def _summary(executions: list[Execution], files: list[str]) -> str:
    seconds = sum(execution.duration_s for execution in executions)
    blocks = "1 block" if len(executions) == 1 else f"{len(executions)} blocks"
    made = ", ".join(files[:_MAX_NAMED]) or "none"
    more = f" and {len(files) - _MAX_NAMED} more" if len(files) > _MAX_NAMED else ""
    return f"Done without AI: {blocks} ran in {seconds:.1f} s. Files made: {made}{more}."
