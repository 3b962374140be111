"""`python -m cmbagent`: what it is told, what it refuses, how it ends."""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import math
import os
import sys
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cmbagent import __version__, workflows
from cmbagent.errors import EngineError
from cmbagent.models.choosing import ModelChoiceInvalid, choose_models
from cmbagent.models.proxies import proxies_of
from cmbagent.terminal.asking import AnswerInvalid, Asker, checked_answer
from cmbagent.terminal.collecting import Collector, listing_of, stamps_of
from cmbagent.terminal.config import ConfigInvalid, check_config
from cmbagent.terminal.console import Console
from cmbagent.terminal.journal_file import FORMAT, JournalFile, JournalUnusable
from cmbagent.terminal.place import Machine, Place, PlaceUnusable, prepared, start_message
from cmbagent.terminal.running import FAILED, Link, Stopped, Task, drive
from cmbagent.terminal.screen import JsonScreen, Screen, TextScreen

USAGE = 2
_MAX_TASK_BYTES = 1_000_000

DESCRIPTION = """\
Run a task here, without a server: the same agents, recipes, sandbox and journal.

The model comes from the environment, as for the server (CMBAGENT_MODEL, OPENAI_API_KEY,
OPENAI_BASE_URL, …). Without one no AI is used: Python in fenced blocks runs as it stands, and
recipes answer what they know."""

EPILOG = """\
Started again with the same journal it goes on where it was; what was finished is not done again.
The work directory holds journal.jsonl, engine.jsonl (the engine's log) and files/, where the code
works.

exit status: 0 completed · 1 failed · 2 used wrongly · 3 a person must decide: the question is one
JSON object on stdout, the same command with --answer goes on · 75 postponed: go on later, or use
--wait · 130 interrupted"""


class Refused(Exception):
    """Used in a way that cannot be; the text says what to change."""


def main(arguments: Sequence[str], environ: Mapping[str, str]) -> int:
    """The exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return _run(options, environ)
    except (
        *(Refused, PlaceUnusable, JournalUnusable, AnswerInvalid),
        *(ConfigInvalid, ModelChoiceInvalid, EngineError),
    ) as refusal:
        return _complain(refusal)
    except Stopped as stopped:
        return 128 + stopped.signum


def _complain(refusal: Exception) -> int:
    suggestion = f"\n{refusal.suggestion}" if isinstance(refusal, EngineError) else ""
    sys.stderr.write(f"{refusal}{suggestion}\n")
    return FAILED if isinstance(refusal, EngineError) else USAGE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m cmbagent",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("task", nargs="?", help="the task; - reads it from the standard input")
    add("--file", type=Path, metavar="TASK.md", help="a file that holds the task")
    add(
        "--work-dir",
        type=Path,
        metavar="DIR",
        help="the task's folder (default: cmbagent-… here, a name that follows from the task)",
    )
    add("--journal", type=Path, metavar="PATH", help="default: DIR/journal.jsonl")
    add("--mode", choices=sorted(workflows.WORKFLOWS), help="the workflow (default: one-shot)")
    add("--config", metavar="JSON", help='of the mode, like {"maxRounds": 5}')
    add("--model", metavar="NAME", help="like gpt-4o, anthropic:claude-…, or no-model")
    add("--approve-code", action="store_true", help="ask before each execution")
    add("--answer", metavar="JSON", help='to the last question: {"resolution": "approve"}')
    add("--wait", action="store_true", help="wait here when the run is postponed")
    add("--json", action="store_true", help="one JSON object a line for each event")
    add("--version", action="version", version=__version__)
    return parser


def _run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    wanted = _wanted(options)
    if wanted["task"] is None and options.work_dir is None and options.journal is None:
        raise Refused("There is no task: name one, or the --work-dir of one to go on with.")
    place = prepared(_work_dir(options, wanted), options.journal)
    with JournalFile(place.journal) as journal:
        task = _task(journal, wanted, place, approve_code=options.approve_code)
        return _with_console(options, environ, place, journal, task)


def _with_console(
    options: argparse.Namespace,
    environ: Mapping[str, str],
    place: Place,
    journal: JournalFile,
    task: dict[str, Any],
) -> int:
    try:
        machine = Machine.of(environ)
    except ValueError as error:
        raise Refused(str(error)) from error
    start = start_message(
        place,
        machine,
        task,
        models=choose_models(environ, _config_for_models(task, options.model)),
        attempt=journal.attempts + 1,
        approve_code=options.approve_code or task["approve_code"],
    )
    given = _answer(options.answer, journal)
    with Console() as console:
        asker = Asker(journal, given, console.stderr if sys.stdin.isatty() else None)
        screen: Screen = (
            JsonScreen(console.stdout, task["run_id"])
            if options.json
            else TextScreen(console.stdout, console.stderr)
        )
        collector = Collector(place.files, task["files_before"])
        link = Link(screen, console, journal, collector, place.log)
        return asyncio.run(drive(Task(start, link, asker, options.wait)))


# -- what is asked for --------------------------------------------------------------------------
def _wanted(options: argparse.Namespace) -> dict[str, Any]:
    """What was said on the command line; None for what was not."""
    return {
        "task": _task_text(options),
        "mode": options.mode,
        "config": _json_object("--config", options.config),
    }


def _task_text(options: argparse.Namespace) -> str | None:
    if options.task is not None and options.file is not None:
        raise Refused("Name the task or --file, not both.")
    text = options.task
    if options.file is not None:
        text = _read(options.file)
    elif text == "-":
        text = sys.stdin.read()
    if text is None:
        return None
    if not text.strip():
        raise Refused("The task is empty.")
    if len(text.encode("utf-8", "surrogatepass")) > _MAX_TASK_BYTES:
        raise Refused("The task is longer than a megabyte: put the data in a file of its own.")
    return str(text)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise Refused(f"{path} cannot be read: {error}.") from error


def _json_object(option: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        value = json.loads(text, parse_constant=_refused, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise Refused(f"{option} is not JSON: {error}.") from error
    if not isinstance(value, dict):
        raise Refused(f"{option} is not a JSON object.")
    return value


def _refused(constant: str) -> float:
    raise ValueError(f"{constant} is no number")


def _finite(text: str) -> float:
    return number if math.isfinite(number := float(text)) else _refused(text)


def _work_dir(options: argparse.Namespace, wanted: Mapping[str, Any]) -> Path:
    """The same command finds the same folder."""
    if options.work_dir is not None:
        return Path(options.work_dir)
    if options.journal is not None:
        return Path(options.journal).absolute().with_suffix(".work")
    said = json.dumps(wanted, sort_keys=True).encode()
    return Path(f"cmbagent-{hashlib.sha256(said).hexdigest()[:12]}")


def _task(
    journal: JournalFile, wanted: Mapping[str, Any], place: Place, *, approve_code: bool
) -> dict[str, Any]:
    """The journal's task: the one that is asked for, written into a new journal."""
    if journal.task is not None:
        _check_same(journal, wanted)
        return journal.task
    if wanted["task"] is None:
        raise Refused(f"{journal.path} holds no task yet: name one.")
    mode, config = wanted["mode"] or "one-shot", wanted["config"] or {}
    check_config(mode, config)
    task = {
        "t": "task",
        "format": FORMAT,
        "run_id": str(uuid.uuid4()),
        "task": wanted["task"],
        "mode": mode,
        "config": config,
        "approve_code": approve_code,  # a later start must not run what nobody allowed
        "files_before": stamps_of(listing_of(place.files)),
    }
    journal.append(task)
    return task


def _check_same(journal: JournalFile, wanted: Mapping[str, Any]) -> None:
    held = journal.task or {}
    if held.get("format") != FORMAT:
        raise JournalUnusable(f"{journal.path} was written by another version.")
    for name, value in wanted.items():
        if value is not None and value != held[name]:
            raise Refused(
                f"The journal {journal.path} belongs to another {name}.\n"
                "Choose another --work-dir (or --journal), or go on without naming it."
            )


def _config_for_models(task: Mapping[str, Any], model: str | None) -> dict[str, Any]:
    return {**task["config"], "model": model} if model else task["config"]


def _answer(text: str | None, journal: JournalFile) -> dict[str, Any] | None:
    given = _json_object("--answer", text)
    if given is None:
        return None
    if journal.question is None:
        raise Refused("--answer: this journal holds no open question.")
    return checked_answer(journal.question, given)


def run_and_leave() -> None:
    """The process's whole life. Not sys.exit: a thread that waits for a person's answer would
    hold up the end."""
    os.environ.update(proxies_of(os.environ))
    status = main(sys.argv[1:], os.environ)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
