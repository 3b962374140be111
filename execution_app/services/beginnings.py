"""A session with its first task, and the files that the task needs, in one step."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from cmbagent import workdir
from execution_app.sandbox import code_uid
from execution_app.services.files import (
    FoundFile,
    blob_path,
    keep_upload,
    record_upload,
    session_folder,
    work_dir,
)
from execution_app.services.retention import remove_folder
from execution_app.services.runs import start_run
from sessions_app.services import Answer, Ask, answer_once, create_session, earlier_answer

Upload = tuple[str, Iterable[bytes]]  # a file's name and its bytes


def begin_session(
    *,
    ask: Ask,
    mode: str,
    name: str,
    config: Mapping[str, Any],
    task: str,
    files: Sequence[Upload] = (),
) -> str:
    """The id of a session in which the task is queued; the same ask again gives the same one.
    Raises ConfigInvalid, TaskInvalid, UploadInvalid, UploadTooLarge, and then nothing is made.

    The bytes lie in the work directory before the rows are written: a worker may claim the run as
    soon as these are committed, and no transaction waits for a disk.
    """
    if earlier := earlier_answer(ask):
        return earlier.content
    found = [keep_upload(name=name, chunks=chunks) for name, chunks in files]
    session_id = uuid.uuid4()

    def effect() -> Answer:
        session = create_session(
            owner=ask.user, mode=mode, name=name, config=config, session_id=session_id
        )
        for each in found:
            record_upload(session, each, by=ask.user)
        start_run(session=session, task=task, by=ask.user)
        return Answer(303, str(session_id))

    answer = ""
    try:
        _place(session_id, found)
        answer = answer_once(ask, effect).content
    finally:
        if found and answer != str(session_id):  # refused, or the same ask came first
            remove_folder(session_folder(session_id))
    return answer


def _place(session_id: uuid.UUID, found: Iterable[FoundFile]) -> None:
    for each in found:
        source = blob_path(each.sha256)
        workdir.copy_in(work_dir(session_id), each.path, source, code_uid(session_id))
