"""What agents can do. The docstrings are what the model reads."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat
from pydantic_ai import ModelRetry, RunContext, Tool

from cmbagent import recipes, workdir
from cmbagent.background import in_thread
from cmbagent.context import Run
from cmbagent.errors import EngineError
from cmbagent.execution import Block, Execution

MAX_FILES = 200  # named in one answer
MAX_LINES = 400
MAX_BYTES = 32_000
MAX_PASSED_BYTES = 64 * 2**20  # before the first line that is read
_LINE_COST = 16  # bytes that could be passed in the time that a line takes
_WHEEL = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:==[0-9][A-Za-z0-9.+!-]*)?")


async def run_python(ctx: RunContext[Run], code: str) -> dict[str, Any]:
    """Run a complete Python program in a fresh interpreter and wait for its end.

    It runs in the session's work directory, without network. Nothing is kept in memory between
    calls: what a later program needs must be written to a file. The code is kept as a file.

    Args:
        code: The whole program, imports included.

    Returns:
        Whether it succeeded, how it ended, the begin and the end of what it printed, and the
        files that it made or changed.
    """
    return outcome(await ctx.deps.execute(Block(code)))


async def run_recipe(
    ctx: RunContext[Run], recipe: str, parameters: dict[str, FiniteFloat | str | None]
) -> dict[str, Any]:
    """Run one of the tested recipes, as run_python would; list_recipes names them.

    Args:
        recipe: The recipe's id.
        parameters: Values for its parameters; those not given have their defaults.
    """
    try:
        found = recipes.named(recipe)
        given = {name: value for name, value in parameters.items() if value is not None}
        files = recipes.data_files(ctx.deps.work_dir)
        values = recipes.read_parameters(found, "", given, files=files)
    except EngineError as error:
        raise ModelRetry(f"{error.message} {error.suggestion}") from error
    return outcome(await ctx.deps.execute(Block(found.script(values), values)))


async def list_recipes(ctx: RunContext[Run]) -> list[dict[str, Any]]:
    """The tested recipes with their parameters, ranges, units and defaults."""
    return [_described(recipe) for recipe in recipes.known()]


async def list_files(ctx: RunContext[Run], folder: str = "") -> dict[str, Any]:
    """The files of the session's work directory with their sizes in bytes: uploads, and what this
    and earlier runs made.

    Args:
        folder: Only what is below it; empty for all.
    """
    root = ctx.deps.work_dir
    found = await in_thread(
        lambda: workdir.list_files(root, max_files=workdir.MAX_LISTED), name="list"
    )
    below = folder.strip("/") + "/" if folder.strip("/") else ""
    paths = [path for path in sorted(found.files) if path.startswith(below)]
    files = [{"path": path, "size": found.files[path].size} for path in paths[:MAX_FILES]]
    return {"files": files, "not_shown": len(paths) - len(files)}


async def read_file(
    ctx: RunContext[Run], path: str, first_line: int = 1, lines: int = 200
) -> dict[str, Any]:
    """Read a part of a text file of the work directory.

    Args:
        path: As list_files gives it.
        first_line: Where to begin; the first line of the file is 1.
        lines: How many lines, at most 400.
    """
    root, count = ctx.deps.work_dir, max(1, min(lines, MAX_LINES))
    try:
        return await in_thread(lambda: _part(root, path, max(first_line, 1), count), name="read")
    except (workdir.Unsafe, OSError) as error:
        raise ModelRetry(f"{workdir.visible(path)} cannot be read: {error}.") from error


async def install(ctx: RunContext[Run], packages: list[str]) -> str:
    """Ask for Python packages that run_python cannot import.

    Args:
        packages: Names of packages as the Python Package Index has them, maybe with ==version.
    """
    if wrong := [package for package in packages if not _WHEEL.fullmatch(package)]:
        raise ModelRetry(f"Only names like 'healpy' or 'healpy==1.18.0' are taken, not {wrong!r}.")
    return (
        f"Nothing was installed ({', '.join(packages) or 'nothing was named'}). A person must "
        "approve packages, and this server does not ask for that yet. Go on with the packages that "
        "are there, or say in your answer what is missing."
    )


def outcome(execution: Execution) -> dict[str, Any]:
    """What a model is told of an execution. `ending` goes on after the name of the code."""
    return {
        "succeeded": execution.succeeded,
        "path": execution.path,
        "ending": execution.ending,
        "exit_code": execution.exit_code,
        "duration_s": execution.duration_s,
        "stdout": execution.stdout,
        "stderr": execution.stderr,
        "files": [
            {"path": file["path"], "kind": file["kind"], "size": file["size"]}
            for file in execution.files[:MAX_FILES]
            if file["path"] != execution.path
        ],
    }


def _described(recipe: recipes.Recipe) -> dict[str, Any]:
    fields = [
        {"name": field.name, "description": field.description, "range": field.range}
        | {
            "default": getattr(field, "default", None)
        }  # null: it follows from others, or must be given
        for field in recipe.fields
    ]
    return {"recipe": recipe.id, "title": recipe.title, "parameters": fields}


def _part(root: Path, path: str, first: int, count: int) -> dict[str, Any]:
    """Raises Unsafe, OSError, ModelRetry."""
    text: list[str] = []
    size = passed = 0
    with os.fdopen(workdir.open_regular(root, path), "rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_BYTES), b""), start=1):
            if number < first:
                passed += len(line) + _LINE_COST
                if passed > MAX_PASSED_BYTES:
                    raise ModelRetry(_too_far(path, first))
                continue
            size += len(line)
            if len(text) == count or size > MAX_BYTES:
                return _shown(text, first, more=True)
            text.append(line.decode("utf-8", "backslashreplace").replace("\0", "\ufffd"))
    return _shown(text, first, more=False)


def _too_far(path: str, first: int) -> str:
    return (
        f"Line {first} of {workdir.visible(path)} is too far from its begin: read_file passes "
        f"{MAX_PASSED_BYTES // 2**20} MB. Print what you need with run_python."
    )


def _shown(text: list[str], first: int, *, more: bool) -> dict[str, Any]:
    return {"first_line": first, "text": "".join(text), "more": more}


_ALL: tuple[Callable[..., Any], ...] = (
    run_python,
    run_recipe,
    list_recipes,
    list_files,
    read_file,
    install,
)
TOOLS: dict[str, Tool[Run]] = {tool.__name__: Tool(tool, takes_ctx=True) for tool in _ALL}
