"""`python -m cmbagent`, as people and programs use it: real processes, a real endpoint, kill -9."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cmbagent import wire
from cmbagent.sandbox.probing import Probe
from cmbagent.terminal import place
from cmbagent.terminal.journal_file import JournalFile, JournalUnusable
from cmbagent.terminal.place import Machine
from cmbagent.terminal.words import harmless
from tests.cmbagent.supervision import CHECKOUT, fenced
from tests.endpoint import Endpoint, Request, sum_of_squares, task_of

PATIENCE_S = 90.0
COUNT = fenced("open('count', 'a').write('x')\nprint('counted')")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.fixture(scope="module")
def served() -> Iterator[Endpoint]:
    with Endpoint.running() as endpoint:
        yield endpoint


@pytest.fixture
def endpoint(served: Endpoint) -> Iterator[Endpoint]:
    yield served
    served.forget()


def environment(**settings: str) -> dict[str, str]:
    clean = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": "/nonexistent", "LANG": "C.UTF-8"}
    return {**clean, "PYTHONPATH": str(CHECKOUT), **settings}


def command(*words: str) -> list[str]:
    return [sys.executable, "-P", "-m", "cmbagent", *words]


def started(folder: Path, *words: str, **settings: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*words),
        cwd=folder,
        env=environment(**settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def cmbagent(
    folder: Path, *words: str, given: str | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        cwd=folder,
        env=environment(**settings),
        input=given or "",
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def events(stdout: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stdout.splitlines()]


def types(stdout: str) -> list[str]:
    return [event["event_type"] for event in events(stdout)]


def waited_for(what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := what():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not come")


def journal_text(folder: Path) -> str:
    return (folder / "journal.jsonl").read_text()


# -- without a model ----------------------------------------------------------------------------
def test_it_runs_code_and_says_that_no_ai_was_used(folder: Path) -> None:
    done = cmbagent(folder, fenced("open('a.txt', 'w').write('1')\nprint(6 * 7)"))
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    assert first == "42"
    assert "without AI" in last
    assert "No AI is used." in done.stderr
    assert "No AI was used." in done.stderr
    assert "a.txt" in done.stderr
    assert "exit code 0" in done.stderr
    (made,) = folder.glob("cmbagent-*/files/a.txt")  # a folder whose name follows from the task
    assert made.read_text() == "1"


def test_code_is_confined_and_the_level_is_said(folder: Path) -> None:
    secret = folder / "secret"
    secret.write_text("hidden")
    outcome = cmbagent(folder, fenced(f"print(open({str(secret)!r}).read())"), "--work-dir", "w")
    assert outcome.returncode == 1
    assert "hidden" not in outcome.stdout
    assert "andbox level" in outcome.stderr
    assert "Traceback" not in outcome.stderr.split("Failed:")[1]


def test_code_cannot_touch_its_journal(folder: Path) -> None:
    task = fenced("open('../journal.jsonl', 'a').write('x')")
    assert cmbagent(folder, task, "--work-dir", "w").returncode == 1
    assert json.loads(journal_text(folder / "w").splitlines()[-1])["t"] == "entry"


def test_as_json_each_event_is_a_line(folder: Path) -> None:
    done = cmbagent(folder, fenced("print(1)"), "--work-dir", "w", "--json")
    assert done.returncode == 0
    seen = types(done.stdout)
    assert seen[0] == "run_started"
    assert seen[-1] == "run_completed"
    assert {"agent_message", "code_execution", "tool_call", "output", "files_updated"} <= {*seen}
    assert seen.index("output") < seen.index("code_execution")  # what was printed comes before
    assert events(done.stdout)[-1]["data"]["cost_usd"] == 0
    assert not done.stderr


def test_the_task_may_come_from_a_file_or_the_input(folder: Path) -> None:
    (folder / "task.md").write_text(fenced("print('from a file')"))
    assert "from a file" in cmbagent(folder, "--file", "task.md", "--work-dir", "a").stdout
    given = cmbagent(folder, "-", "--work-dir", "b", given=fenced("print('from the input')"))
    assert "from the input" in given.stdout


def test_a_failure_is_a_sentence_and_what_to_do(folder: Path) -> None:
    failed = cmbagent(folder, "Sing me a song.", "--work-dir", "w")
    assert failed.returncode == 1
    assert "Failed: No model is connected" in failed.stderr
    assert "Traceback" not in failed.stderr
    assert not failed.stdout


def test_links_that_code_leaves_behind_are_named_and_not_followed(folder: Path) -> None:
    done = cmbagent(folder, fenced("import os; os.symlink('/etc/passwd', 'p')"), "--work-dir", "w")
    assert "Left out p: not a regular file but a symbolic link" in done.stderr
    assert "File p " not in done.stderr


# -- used wrongly -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "There is no task"),
        (["  "], "The task is empty"),
        (["x", "--config", "[1]"], "not a JSON object"),
        (["x", "--config", "{"], "not JSON"),
        (["x", "--mode", "sorcery"], "invalid choice"),
        (["x", "--answer", "{}", "--work-dir", "w"], "no open question"),
        (["x", "--model", "gpt-4o", "--work-dir", "w"], "There is no key for openai"),
        (["--file", "nowhere.md"], "cannot be read"),
        (["x", "--work-dir", "w", "--journal", "w/files/j"], "must not lie in"),
    ],
)
def test_what_cannot_be_is_refused(folder: Path, words: list[str], said: str) -> None:
    refused = cmbagent(folder, *words)
    assert refused.returncode == 2
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_journal_of_another_task_is_refused(folder: Path) -> None:
    cmbagent(folder, COUNT, "--work-dir", "w")
    before = journal_text(folder / "w")
    refused = cmbagent(folder, "Another task", "--work-dir", "w")
    assert refused.returncode == 2
    assert "belongs to another task" in refused.stderr
    assert journal_text(folder / "w") == before


def test_two_cannot_use_one_journal(folder: Path) -> None:
    first = started(folder, fenced("import time; time.sleep(60)"), "--work-dir", "w")
    waited_for((folder / "w/journal.jsonl").exists)
    waited_for(lambda: "start" in journal_text(folder / "w"))
    second = cmbagent(folder, "--work-dir", "w")
    ended(first, signal.SIGKILL)
    assert second.returncode == 2
    assert "Another process works with the journal" in second.stderr


def ended(process: subprocess.Popen[str], signum: int) -> tuple[int, str, str]:
    process.send_signal(signum)
    out, err = process.communicate(timeout=PATIENCE_S)
    return process.returncode, out, err


# -- the journal --------------------------------------------------------------------------------
def test_a_second_start_does_nothing_again(folder: Path) -> None:
    first = cmbagent(folder, COUNT, "--work-dir", "w")
    again = cmbagent(folder, COUNT, "--work-dir", "w")
    assert again.returncode == 0
    assert "are not made again" in again.stderr
    assert again.stdout == first.stdout.replace("counted\n", "")
    assert (folder / "w/files/count").read_text() == "x"


def test_a_torn_last_line_is_dropped_and_its_call_made_again(folder: Path) -> None:
    cmbagent(folder, COUNT, "--work-dir", "w")
    path = folder / "w/journal.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    position = next(n for n, line in enumerate(lines) if '"kind":"execution"' in line)
    path.write_text("".join(lines[:position]) + lines[position][:-40])
    again = cmbagent(folder, "--work-dir", "w")
    assert again.returncode == 0, again.stderr
    assert (folder / "w/files/count").read_text() == "xx"
    assert all(json.loads(line) for line in path.read_text().splitlines())


def test_a_damaged_journal_is_refused(folder: Path) -> None:
    cmbagent(folder, COUNT, "--work-dir", "w")
    path = folder / "w/journal.jsonl"
    path.write_text(path.read_text().replace('"t":"start"', '"t:"start"', 1))
    refused = cmbagent(folder, "--work-dir", "w")
    assert refused.returncode == 2
    assert "is no journal: line 2" in refused.stderr


def test_an_entry_that_is_forgotten_takes_what_came_after_with_it(folder: Path) -> None:
    with JournalFile(folder / "j") as journal:
        journal.append({"t": "task"})
        for key in ("a#0", "b#0/x#0", "b#0", "c#0"):
            usage = {"agent": key}
            journal.append({"t": "entry", "key": key, "kind": "tool", "usage": usage, "events": []})
        journal.append({"t": "forget", "key": "b#0"})
        assert [entry["key"] for entry in journal.entries] == ["a#0"]
    with JournalFile(folder / "j") as again:
        assert [entry["key"] for entry in again.entries] == ["a#0"]
        paid = [usage["agent"] for usage in again.spent]
        assert paid == ["b#0/x#0", "b#0", "c#0"], "what is forgotten was paid"


def test_a_file_of_something_else_is_no_journal(folder: Path) -> None:
    (folder / "j").write_text('{"t": "other"}\n')
    with pytest.raises(JournalUnusable, match="no journal of a task"):
        JournalFile(folder / "j")
    assert (folder / "j").read_text() == '{"t": "other"}\n'


# -- killed -------------------------------------------------------------------------------------
@pytest.mark.parametrize("moment", ["arrival", "half", "answer"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_at_any_moment_nothing_acknowledged_is_repeated(
    folder: Path, endpoint: Endpoint, moment: str, number: int
) -> None:
    """kill -9 while a model answers, or right after: at most that one call is made again."""
    task = task_of(40 + number, parts=2)
    kill: list[Callable[[], None]] = []

    def strike(request: Request) -> None:
        if request.conversation.number == number and kill:
            kill.pop()()

    setattr(endpoint, f"on_{moment}", strike)
    process = started(folder, task, "--work-dir", "w", **endpoint.environment)
    kill.append(process.kill)
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == -signal.SIGKILL
    done = cmbagent(folder, task, "--work-dir", "w", **endpoint.environment)
    assert done.returncode == 0, done.stderr
    assert str(sum_of_squares(40 + number)) in done.stdout
    assert len(endpoint.requests) <= 4 + 1
    assert calls_in(folder / "w") == 4
    assert endpoint.key not in journal_text(folder / "w") + done.stdout + done.stderr


def calls_in(work_dir: Path) -> int:
    """Model calls that are in the journal, each once."""
    lines = [json.loads(line) for line in journal_text(work_dir).splitlines()]
    keys = [line["key"] for line in lines if line["t"] == "entry" and line["usage"]]
    assert len(keys) == len(set(keys))
    return len(keys)


def test_killed_while_code_runs_its_tree_ends_and_the_code_runs_again(folder: Path) -> None:
    task = fenced(
        "import os, subprocess, time\n"
        "open('tries', 'a').write('x')\n"
        "if len(open('tries').read()) == 1:\n"
        "    subprocess.Popen(['sleep', '4321.5'])\n"
        "    open('begun', 'w').close()\n"
        "    time.sleep(4321)\n"
        "print('second time')"
    )
    process = started(folder, task, "--work-dir", "w")
    waited_for((folder / "w/files/begun").exists)
    ended(process, signal.SIGKILL)
    waited_for(lambda: not sleepers())
    done = cmbagent(folder, "--work-dir", "w")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("second time\n")


def sleepers() -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found += [str(entry)] * (b"4321.5" in entry.read_bytes().split(b"\0"))
    return found


@pytest.mark.parametrize(("signum", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal_the_whole_tree_ends_first(
    folder: Path, signum: int, status: int
) -> None:
    task = fenced(
        "import subprocess\n"
        "sleeper = subprocess.Popen(['sleep', '4321.5'])\n"
        "open('begun', 'w').close()\n"
        "sleeper.wait()"
    )
    process = started(folder, task, "--work-dir", "w")
    waited_for((folder / "w/files/begun").exists)
    code, _, err = ended(process, signum)
    assert code == status
    assert not sleepers()
    assert "Stopped." in err
    assert "Traceback" not in err


# -- questions ----------------------------------------------------------------------------------
def test_nobody_to_ask_is_exit_3_and_an_answer_goes_on(folder: Path) -> None:
    asked = cmbagent(folder, COUNT, "--work-dir", "w", "--approve-code")
    assert asked.returncode == 3
    question = json.loads(asked.stdout)
    assert [option["id"] for option in question["options"]] == ["approve", "reject"]
    assert "open('count', 'a')" in question["context"]["code"]
    assert not (folder / "w/files/count").exists()
    still = cmbagent(folder, "--work-dir", "w")  # without the option: it is not forgotten
    assert (still.returncode, json.loads(still.stdout)) == (3, question)
    answered = cmbagent(folder, "--work-dir", "w", "--answer", '{"resolution": "approve"}')
    assert answered.returncode == 0, answered.stderr
    assert answered.stdout.startswith("counted\n")


def test_no_is_no(folder: Path) -> None:
    cmbagent(folder, COUNT, "--work-dir", "w", "--approve-code")
    answer = '{"resolution": "reject", "feedback": "not today"}'
    refused = cmbagent(folder, "--work-dir", "w", "--answer", answer)
    assert refused.returncode == 1
    assert "not today" in refused.stderr
    assert not (folder / "w/files/count").exists()


def test_an_answer_that_was_not_offered_is_refused(folder: Path) -> None:
    cmbagent(folder, COUNT, "--work-dir", "w", "--approve-code")
    refused = cmbagent(folder, "--work-dir", "w", "--answer", '{"resolution": "perhaps"}')
    assert refused.returncode == 2
    assert "approve, reject" in refused.stderr


def test_an_answer_is_for_one_question(folder: Path) -> None:
    task = fenced("print('one')", "print('two')")
    cmbagent(folder, task, "--work-dir", "w", "--approve-code")
    asked = cmbagent(folder, "--work-dir", "w", "--answer", '{"resolution": "approve"}')
    assert asked.returncode == 3
    *_, question = asked.stdout.splitlines()
    assert "two" in json.loads(question)["context"]["code"]
    assert asked.stdout.splitlines()[0] == "one"


def test_a_person_at_the_terminal_is_asked(folder: Path) -> None:
    words = [COUNT, "--work-dir", "w", "--approve-code"]
    status, said = on_a_terminal(
        folder, words, [("> ", b"7\n"), ("please", b"1\n"), ("none)", b"\n")]
    )
    assert status == 0, said
    assert "1  Run it" in said
    assert (folder / "w/files/count").read_text() == "x"


def test_the_end_of_the_persons_input_is_nobody(folder: Path) -> None:
    words = [COUNT, "--work-dir", "w", "--approve-code"]
    assert on_a_terminal(folder, words, [("> ", b"\x04")])[0] == 3


def test_an_interrupt_while_a_person_is_asked(folder: Path) -> None:
    words = [COUNT, "--work-dir", "w", "--approve-code"]
    assert on_a_terminal(folder, words, [("> ", b"\x03")])[0] == 130


def on_a_terminal(
    folder: Path, words: list[str], dialogue: list[tuple[str, bytes]]
) -> tuple[int, str]:
    """Exit status and all that stood on the screen; each answer is typed when its cue was read."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", _WITH_TERMINAL, *command(*words)],
        cwd=folder,
        env=environment(),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    said, read_until, todo = "", 0, list(dialogue)
    deadline = time.monotonic() + PATIENCE_S
    with contextlib.suppress(OSError):  # the terminal is gone with its process
        while time.monotonic() < deadline:
            if select.select([ours], [], [], 0.1)[0]:
                data = os.read(ours, 65536)
                if not data:
                    break
                said += data.decode(errors="replace")
            if todo and todo[0][0] in said[read_until:]:
                read_until = len(said)
                os.write(ours, todo.pop(0)[1])
    os.close(ours)
    return process.wait(PATIENCE_S), said


# makes it the controlling terminal, so that its Ctrl-C is a signal
_WITH_TERMINAL = """
import os, sys
os.close(os.open(os.ttyname(0), os.O_RDWR))
os.execv(sys.argv[1], sys.argv[1:])
"""


# -- no confinement -----------------------------------------------------------------------------
def test_where_nothing_confines_a_person_must_allow_each_execution() -> None:
    machine = Machine.of({})
    level_3: wire.Sandbox = {"level": 3, "remedy": "", "uid": None, "readable": []}
    level_2: wire.Sandbox = {**level_3, "level": 2}
    assert machine.must_ask(level_3)
    assert not Machine.of({"CMBAGENT_SANDBOX": "3"}).must_ask(level_3)
    assert not machine.must_ask(level_2)


@pytest.mark.parametrize(
    ("accepted", "works", "used"),
    [
        *[("2", 1, 1), ("2", 2, 2), ("2", None, 3)],
        *[("3", None, 3), ("3", 2, 2)],
        *[("1", 1, 1), ("1", 2, None), ("1", None, None)],
    ],
)
def test_the_best_level_that_works_and_is_accepted_is_used(
    monkeypatch: pytest.MonkeyPatch, accepted: str, works: Any, used: int | None
) -> None:
    monkeypatch.setattr(place, "probe", lambda _: Probe(works, {}, "" if works else "Install it."))
    sandbox = Machine.of({"CMBAGENT_SANDBOX": accepted}).sandbox(uuid.uuid4())
    assert sandbox["level"] == used
    assert bool(sandbox["remedy"]) == (works is None or used is None)


def test_without_the_sandbox_that_is_demanded_code_is_refused(folder: Path) -> None:
    (folder / "bin").mkdir()
    bare = {"CMBAGENT_SANDBOX": "1", "PATH": str(folder / "bin")}
    refused = cmbagent(folder, fenced("print(1)"), "--work-dir", "w", **bare)
    assert refused.returncode == 1
    assert "No sandbox works on this machine" in refused.stderr
    assert "Install bubblewrap" in refused.stderr


# -- models -------------------------------------------------------------------------------------
def test_a_model_writes_code_mends_it_and_reports(folder: Path, endpoint: Endpoint) -> None:
    task = task_of(30, parts=2, plot=True)
    done = cmbagent(folder, task, "--work-dir", "w", **endpoint.environment)
    assert done.returncode == 0, done.stderr
    assert str(sum_of_squares(30)) in done.stdout.splitlines()[-1]
    assert "NameError" in done.stderr
    assert "squares-30.png" in done.stderr
    assert f"{endpoint.style.model}: 4 calls" in done.stderr
    assert "cost unknown" in done.stderr
    assert "No AI" not in done.stdout + done.stderr


def test_a_price_makes_the_cost_known(folder: Path, endpoint: Endpoint) -> None:
    prices = {"CMBAGENT_MODEL_PRICES": f"{endpoint.style.model}=1000/1000"}
    settings = {**endpoint.environment, **prices}
    done = cmbagent(folder, task_of(8), "--work-dir", "w", "--json", **settings)
    finished = events(done.stdout)[-1]["data"]
    updates = [e["data"] for e in events(done.stdout) if e["event_type"] == "cost_update"]
    assert finished["cost_usd"] == pytest.approx(updates[-1]["total_cost_usd"])
    assert finished["cost_usd"] > 0


def test_deltas_come_before_the_message_that_replaces_them(
    folder: Path, endpoint: Endpoint
) -> None:
    done = cmbagent(folder, task_of(9), "--work-dir", "w", "--json", **endpoint.environment)
    seen = events(done.stdout)
    deltas = [e["data"]["content"] for e in seen if e["event_type"] == "agent_delta"]
    messages = [e["data"]["content"] for e in seen if e["event_type"] == "agent_message"]
    assert "".join(deltas) == "".join(messages)
    again = cmbagent(folder, task_of(9), "--work-dir", "w", "--json", **endpoint.environment)
    assert not {"agent_delta", "agent_message"} & {*types(again.stdout)}


def test_postponed_is_exit_75_and_the_next_start_goes_on(folder: Path, endpoint: Endpoint) -> None:
    endpoint.misbehave("rate_limited", number=2, times=1)
    task = task_of(12)
    later = cmbagent(folder, task, "--work-dir", "w", **endpoint.environment)
    assert later.returncode == 75
    assert "Waiting until" in later.stderr
    assert "UTC" in later.stderr
    done = cmbagent(folder, task, "--work-dir", "w", **endpoint.environment)
    assert done.returncode == 0
    assert len(endpoint.requests) == calls_in(folder / "w") + 1


def test_it_waits_itself_when_told_so(folder: Path, endpoint: Endpoint) -> None:
    endpoint.misbehave("rate_limited", number=2, times=1)
    done = cmbagent(folder, task_of(13), "--work-dir", "w", "--wait", **endpoint.environment)
    assert done.returncode == 0, done.stderr
    assert "Waiting until" in done.stderr


def test_a_wrong_key_is_a_sentence_without_the_key(folder: Path, endpoint: Endpoint) -> None:
    endpoint.misbehave("unauthorized")
    failed = cmbagent(folder, task_of(14), "--work-dir", "w", **endpoint.environment)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert endpoint.key not in failed.stderr + failed.stdout + journal_text(folder / "w")


# -- words --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b]0;title\x07", "\\u001b]0;title\\u0007"),
        ("a\u202eb", "a\\u202eb"),
        ("line\n\ttab µK²", "line\n\ttab µK²"),
    ],
)
def test_text_of_strangers_does_not_drive_the_terminal(hostile: str, shown: str) -> None:
    assert harmless(hostile) == shown
