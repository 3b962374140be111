"""A run's questions: to the person at the terminal, to an answer that was given, or to nobody."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, TextIO

from cmbagent.background import in_thread
from cmbagent.context import Answer, Question, nobody
from cmbagent.terminal.journal_file import JournalFile
from cmbagent.terminal.words import harmless


class AnswerInvalid(ValueError):
    """It does not answer the question; the text says what would."""


def checked_answer(question: Question, given: Any) -> Answer:
    """{resolution, feedback, modifications} as the run expects it. Raises AnswerInvalid."""
    if not isinstance(given, dict) or not given.keys() <= {"resolution", *_OPTIONAL}:
        raise AnswerInvalid('An answer is {"resolution": …} with "feedback" and "modifications".')
    options = {option["id"]: option for option in question["options"]}
    chosen = options.get(given.get("resolution"))
    if chosen is None:
        raise AnswerInvalid(f"The resolution is one of: {', '.join(options)}.")
    answer = {"resolution": chosen["id"], **_OPTIONAL, **given}
    if chosen.get("requires_feedback") and not str(answer["feedback"] or "").strip():
        raise AnswerInvalid(f"{chosen['id']} needs feedback.")
    return answer


_OPTIONAL: dict[str, Any] = {"feedback": "", "modifications": None}


class Asker:
    """What cmbagent.context.Run asks. `given` answers the question that the journal holds, and no
    other. `unanswered` is the one that nobody could be asked."""

    def __init__(self, journal: JournalFile, given: Answer | None, prompt: TextIO | None) -> None:
        self._journal = journal
        self._given = given
        self._prompt = prompt  # None: nobody sits at the terminal
        self._one_at_a_time = asyncio.Lock()
        self.unanswered: Question | None = None

    async def __call__(self, question: Question) -> Answer:
        if self._given is not None and question == self._journal.question:
            given, self._given = self._given, None
            return given
        if self._prompt is not None:
            async with self._one_at_a_time:
                answer = await in_thread(lambda: self._ask_person(question), name="question")
            if answer is not None:
                return answer
            self._say("\n")
        self.unanswered = question
        self._journal.append({"t": "question", "question": question})
        return await nobody(question)

    def _ask_person(self, question: Question) -> Answer | None:
        """None when the input is at its end."""
        assert self._prompt is not None
        self._say(_as_text(question))
        options = question["options"]
        while word := sys.stdin.readline():
            if chosen := _chosen(options, word.strip()):
                return self._with_feedback(chosen)
            self._say(f"A number from 1 to {len(options)}, please: ")
        return None

    def _with_feedback(self, option: dict[str, Any]) -> Answer | None:
        is_needed = bool(option.get("requires_feedback"))
        self._say("Feedback: " if is_needed else "Feedback (Enter for none): ")
        while line := sys.stdin.readline():
            if (feedback := line.strip()) or not is_needed:
                return {"resolution": option["id"], **_OPTIONAL, "feedback": feedback}
            self._say("This needs feedback: ")
        return None

    def _say(self, text: str) -> None:
        assert self._prompt is not None
        self._prompt.write(text)
        self._prompt.flush()


def _as_text(question: Question) -> str:
    """The question, what it is about, and its options with numbers."""
    about = question.get("context") or {}
    shown = [str(about["code"]).rstrip()] if about.get("code") else []
    if about.get("parameters") is not None:
        shown.append(f"Parameters: {json.dumps(about['parameters'], ensure_ascii=False)}")
    options = [
        f"  {number}  {option['label']}" for number, option in enumerate(question["options"], 1)
    ]
    lines = ["", question["message"], *shown, *options]
    return harmless("\n".join(lines)) + "\n> "


def _chosen(options: list[dict[str, Any]], word: str) -> dict[str, Any] | None:
    """By its number or its id."""
    by_word: dict[str, dict[str, Any]] = {option["id"]: option for option in options}
    by_word |= {str(number): option for number, option in enumerate(options, 1)}
    return by_word.get(word)
