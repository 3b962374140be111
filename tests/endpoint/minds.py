"""What the endpoint answers: rules over what it was sent, and refusals of what lacks it.

The engineer's task is a text like `task_of(30, parts=2, plot=True)`. It writes code with a
misspelt name, finds that name in the traceback, mends exactly it, goes on to the next part, and
reports the numbers and the tickets that the code printed: nobody knows a ticket who did not see
the output. The researcher writes Markdown with maths about what "Explain …" asks for.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import dataclass, field

from tests.endpoint.conversation import Call, Conversation, Refused

_LIMIT = re.compile(r"squares of the numbers up to (\d+)")
_PARTS = re.compile(r"in (\d+) parts")
_SECONDS = re.compile(r"each part takes ([\d.]+) s")
_EXPLAIN = re.compile(r"Explain ([^.\n]+)")
_RESULT = re.compile(r"part (\d+) of \d+: (\d+) ticket ([0-9a-f]{12})")
_UNDEFINED = re.compile(r"NameError: name '(\w+)' is not defined")

_CODE = """import secrets, time
time.sleep({seconds})
sum_of_squares = 0
for number in range({first}, {last} + 1):
    sum_of_squares += number**2
print("part {part} of {parts}:", sum_of_squares, "ticket", secrets.token_hex(6))
"""
_PLOT = """import matplotlib.pyplot as plt
plt.plot([number**2 for number in range({last} + 1)])
plt.savefig("squares-{last}.png")
"""


@dataclass
class Reply:
    """What the model says: text, calls of tools (name, arguments as text), or both."""

    text: str = ""
    calls: list[tuple[str, str]] = field(default_factory=list)


def task_of(limit: int, *, parts: int = 1, plot: bool = False, seconds: float = 0) -> str:
    """A task for the engineer; `limit` tells one conversation from another."""
    wish = f"Compute the sum of the squares of the numbers up to {limit} in {parts} parts"
    wish += f"; each part takes {seconds} s" if seconds else ""
    return wish + (". Plot the squares." if plot else ".")


def sum_of_squares(limit: int) -> int:
    return limit * (limit + 1) * (2 * limit + 1) // 6


def calls_for(parts: int, *, parallel: bool = False) -> int:
    """How many model calls a task of so many parts takes: one more for the mistake, one for the
    report; who calls in parallel asks for the parts after the first at once."""
    return 2 + (min(parts, 2) if parallel else parts)


def answer(spoken: Conversation, *, parallel: bool = False) -> Reply:
    """Raises Refused for a request without the task's words, the last error or the output."""
    for past in spoken.rounds:
        for call in past.calls:
            if call.result is None:
                raise Refused(f"the tool's output is not in the request ({call.id})")
    if spoken.role == "engineer":
        return _Engineer(spoken, parallel=parallel).reply()
    return _explanation(spoken)


def _explanation(spoken: Conversation) -> Reply:
    topic = _EXPLAIN.search(spoken.task)
    if topic is None:
        raise Refused("the task's words are not in the request: Explain …")
    return Reply(
        f"## {topic[1]}\n\nWhat matters about {topic[1]} is in one line:\n\n"
        "$$ C_\\ell = \\frac{1}{2\\ell+1} \\sum_m |a_{\\ell m}|^2 $$\n\n"
        "| symbol | meaning |\n|---|---|\n| $\\ell$ | multipole |\n"
    )


class _Engineer:
    def __init__(self, spoken: Conversation, *, parallel: bool) -> None:
        limit = _LIMIT.search(spoken.task)
        if limit is None:
            raise Refused("the task's words are not in the request: squares of the numbers up to …")
        self.limit = int(limit[1])
        parts, seconds = _PARTS.search(spoken.task), _SECONDS.search(spoken.task)
        self.parts = int(parts[1]) if parts else 1
        self.seconds = float(seconds[1]) if seconds else 0.0
        self.plot = "Plot" in spoken.task
        self.parallel = parallel
        self.mended = ""  # code that is to be run next
        self.results: dict[int, tuple[int, str]] = {}
        self.can_run = "run_python" in spoken.tools
        for past in spoken.rounds:
            for call in past.calls:
                self._see(call)

    def reply(self) -> Reply:
        if self.mended and self.can_run:
            return Reply("The name was misspelt.", [_run(self.mended)])
        missing = [part for part in range(1, self.parts + 1) if part not in self.results]
        if not missing or not self.can_run:
            return Reply(self._report(missing))
        if not self.results:
            return Reply("I shall compute it.", [_run(_with_mistake(self._code(1)))])
        chosen = missing if self.parallel else missing[:1]
        return Reply("On to the next.", [_run(self._code(part)) for part in chosen])

    def _see(self, call: Call) -> None:
        said, code = call.result or "", call.code
        if call.name != "run_python" or not code:
            if not said.strip():
                raise Refused(f"what was wrong with the call of {call.name} is not in the request")
            return
        if _has_mistake(code):
            undefined = _UNDEFINED.search(said)
            if undefined is None:
                raise Refused("the last error of the executed code is not in the request")
            self.mended = _mend(code, undefined[1])
            return
        self.mended = ""
        self._note(code, said)

    def _note(self, code: str, said: str) -> None:
        part = re.search(r"part (\d+) of", code)
        if part is None:  # not code of this part: an endless loop's, before it was let go
            return
        result = _RESULT.search(said)
        if result is None or result[1] != part[1]:
            raise Refused(f"the tool's output is not in the request (part {part[1]})")
        if self._has_plot(int(part[1])) and f"squares-{self.limit}.png" not in said:
            raise Refused("the plot's name is not in the request")
        self.results[int(part[1])] = (int(result[2]), result[3])

    def _report(self, missing: list[int]) -> str:
        if missing:
            return f"I was stopped before the parts {missing} of the squares were computed."
        total = sum(value for value, _ in self.results.values())
        tickets = " ".join(self.results[part][1] for part in sorted(self.results))
        plot = f" The plot is squares-{self.limit}.png." if self.plot else ""
        return f"The sum of the squares up to {self.limit} is **{total}**.{plot} Tickets: {tickets}"

    def _code(self, part: int) -> str:
        first = self.limit * (part - 1) // self.parts + 1
        last = self.limit * part // self.parts
        values = {"first": first, "last": last, "part": part, "parts": self.parts}
        code = _CODE.format(**values, seconds=self.seconds)
        return code + (_PLOT.format(last=self.limit) if self._has_plot(part) else "")

    def _has_plot(self, part: int) -> bool:
        return self.plot and part == self.parts


def _run(code: str) -> tuple[str, str]:
    return "run_python", json.dumps({"code": code})


def _with_mistake(code: str) -> str:
    return code.replace(':", sum_of_squares,', ':", sum_of_sqares,')


def _has_mistake(code: str) -> bool:
    return "sum_of_sqares" in code


def _mend(code: str, wrong: str) -> str:
    """The name that is nearest to the undefined one, in its place."""
    names = set(re.findall(r"[a-z_]{3,}", code)) - {wrong}
    nearest = difflib.get_close_matches(wrong, names, 1)
    if not nearest:
        raise Refused(f"nothing in the code is like {wrong}")
    return re.sub(rf"\b{wrong}\b", nearest[0], code)
