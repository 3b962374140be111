"""Shows what happens: as text for people, or each event as a line of JSON.

As text, stdout has what the code printed and the answer, stderr how it came about: so the answer
can be piped, and a question is all that stdout holds when nothing was printed before it.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Protocol, TextIO

from cmbagent.models.choosing import NO_MODEL
from cmbagent.terminal.words import clock_time, harmless, harmless_output, money

Data = Mapping[str, Any]

_LEVELS = {
    None: "no sandbox",
    1: "sandbox level 1, bubblewrap",
    2: "sandbox level 2, Landlock and seccomp",
    3: "sandbox level 3: limits only, not confined",
}
_EXECUTING = {"run_python", "run_recipe"}
_MAX_RESULT = 600  # characters of a tool's result that are shown


class Screen(Protocol):
    def show(self, event_type: str, data: Data, step: str | None = None) -> None:
        """An event of docs/events.md, or one of the terminal's own."""

    def ask(self, question: Data) -> None:
        """A question that nobody could be asked."""


class JsonScreen:
    """One JSON object a line, as in the server's log (docs/events.md). There is no session; `seq`
    counts this process's lines. What the server does not say is of a type `terminal_…`."""

    def __init__(self, stdout: TextIO, run_id: str) -> None:
        self._stdout = stdout
        self._run_id = run_id
        self._seq = 0

    def show(self, event_type: str, data: Data, step: str | None = None) -> None:
        self._seq += 1
        event = {
            "seq": self._seq,
            "event_type": event_type,
            "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "session_id": None,
            "run_id": self._run_id,
            "step": step,
            "data": data,
        }
        _write(self._stdout, json.dumps(event, default=str) + "\n")

    def ask(self, question: Data) -> None:
        self.show("terminal_question", question)


class TextScreen:
    """What an agent says comes as it is written where somebody watches, else when it is whole."""

    def __init__(self, stdout: TextIO, stderr: TextIO) -> None:
        self._stdout, self._stderr = stdout, stderr
        self._is_watched = stderr.isatty()
        self._same_terminal = stderr.isatty() and stdout.isatty()
        self._partial: tuple[str, str] = ("", "")  # who is speaking, and what came of it so far
        self._last_words = ""
        self._result: Data = {}  # of the terminal_result that comes before the end
        self._is_mid_line = False  # the code's output ended without a newline

    def show(self, event_type: str, data: Data, step: str | None = None) -> None:
        if event_type == "output":
            self._output(data["stream"], data["text"])
        elif event_type == "agent_delta":
            self._delta(data["agent"], data["content"])
        elif event_type == "agent_message":
            self._message(data["agent"], data["content"])
        elif event_type == "terminal_result":
            self._result = data
        elif event_type == "run_completed":
            self._completed({**data, **self._result})
        elif made := _LINES.get(event_type):
            self._lines(made(data))

    def ask(self, question: Data) -> None:
        self._break_line()
        _write(self._stdout, json.dumps(question) + "\n")

    # -- what is said -------------------------------------------------------------------------
    def _delta(self, agent: str, content: str) -> None:
        if not self._is_watched:
            return
        speaker, said = self._partial
        if speaker != agent or not said:
            self._break_line()
            _write(self._stderr, f"\n{harmless(agent)}: ")
            said = ""
        self._partial = (agent, said + content)
        _write(self._stderr, harmless(content))

    def _message(self, agent: str, content: str) -> None:
        """Where its parts stand on the screen already, only what is missing of it is added."""
        speaker, said = self._partial
        self._partial, self._last_words = ("", ""), content
        if speaker == agent and said and content.startswith(said):
            _write(self._stderr, harmless(content[len(said) :]) + "\n")
            return
        self._break_line()
        _write(self._stderr, "\n" * bool(said) + f"{harmless(agent)}: {harmless(content)}\n")

    def _completed(self, data: Data) -> None:
        """The answer, once: who watched has read the agent's last words."""
        self._break_line()
        answer = data["answer"] or data["summary"]
        if not (self._same_terminal and answer == self._last_words):
            _write(self._stdout, harmless(answer) + "\n")
        self._lines([*data["costs"], *_ended(data)])

    # -- what happens -------------------------------------------------------------------------
    def _output(self, stream: str, text: str) -> None:
        self._end_partial()
        file = self._stdout if stream == "stdout" else self._stderr
        _write(file, harmless_output(text))
        self._is_mid_line = not text.endswith("\n")

    def _lines(self, lines: list[str]) -> None:
        self._break_line()
        for line in lines:
            _write(self._stderr, f"· {harmless(line)}\n")

    def _break_line(self) -> None:
        self._end_partial()
        if self._is_mid_line:
            _write(self._stdout, "\n")
            self._is_mid_line = False

    def _end_partial(self) -> None:
        if self._partial[1]:
            _write(self._stderr, "\n")
            self._partial = ("", "")


def _write(file: TextIO, text: str) -> None:
    """At once; a reader that went away does not end the run, its journal has everything."""
    with contextlib.suppress(BrokenPipeError):
        file.write(text)
        file.flush()


# -- events in a line or two ------------------------------------------------------------------
def _started(data: Data) -> list[str]:
    model = "No AI is used." if data["model"] == NO_MODEL else f"Model {data['model']}."
    return [f"{model} {_LEVELS[data['sandbox_level']].capitalize()}."]


def _remembered(data: Data) -> list[str]:
    calls = data["finished_calls"]
    number = "1 finished call is" if calls == 1 else f"{calls} finished calls are"
    return [f"Going on from the journal: {number} not made again."]


def _executed(data: Data) -> list[str]:
    if data["ended_by"] == "exit":
        ending = f"exit code {data['exit_code']}"
    else:
        ending = f"ended by {data['ended_by'].replace('_', ' ')}"
    return [f"Ran {data['path']}: {ending} after {data['duration_s']:.1f} s"]


def _called(data: Data) -> list[str]:
    if data["tool_name"] in _EXECUTING:
        return []  # what was executed has been told, and what it printed
    result = str(data["result"])
    cut = result[:_MAX_RESULT] + " […]" * (len(result) > _MAX_RESULT)
    return [f"{data['tool_name']}: {cut}"] if cut else [str(data["tool_name"])]


def _collected(data: Data) -> list[str]:
    made = [f"File {file['path']} ({file['size']:,} bytes)" for file in data["files"]]
    left_out = [f"Left out {item['path']}: {item['reason']}" for item in data["skipped"]]
    return made + left_out


def _failed(data: Data) -> list[str]:
    return [f"Failed: {data['message']}", *filter(None, [data["suggestion"]])]


def _postponed(data: Data) -> list[str]:
    until = clock_time(datetime.fromisoformat(data["until"]))
    return [f"Waiting until {until} because: {data['message']}"]


def _cost(data: Data) -> list[str]:
    if data["model"] == NO_MODEL:
        return []
    told = f"{data['input_tokens']:,} tokens in, {data['output_tokens']:,} out"
    cost = f"{money(data['cost_usd'])}, so far {money(data['total_cost_usd'])}"
    return [f"{data['model']}: {told}, {cost}"]


def _ended(data: Data) -> list[str]:
    ai = " No AI was used." * (data["model"] == NO_MODEL)
    cost = money(data["cost_usd"])
    files = [f"The files are in {data['work_dir']}."] if data["files"] else []
    return [*files, f"Completed in {data['execution_time_s']:.1f} s, cost {cost}.{ai}"]


_LINES: dict[str, Callable[[Data], list[str]]] = {
    "run_started": _started,
    "terminal_journal": _remembered,
    "run_failed": _failed,
    "run_postponed": _postponed,
    "run_cancelled": lambda _: ["Stopped. The same command goes on from here."],
    "phase_changed": lambda data: [data["phase"]],
    "step_started": lambda data: [f"Step {data['index']}: {data['title']}"],
    "step_completed": lambda data: [f"Step {data['index']} done: {data['title']}"],
    "step_failed": lambda data: [f"Step {data['index']} failed: {data['error']}"],
    "step_skipped": lambda data: [f"Step {data['index']} skipped: {data['title']}"],
    "code_execution": _executed,
    "tool_call": _called,
    "files_updated": _collected,
    "cost_update": _cost,
    "error": lambda data: [f"{data['error_type']}: {data['message']}"],
}
