"""Runs, their console and their files over REST."""

from __future__ import annotations

import hashlib
from itertools import chain
from typing import Annotated, Any

import structlog
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.http.response import HttpResponseBase
from ninja import Query, Router
from ninja.responses import Status
from pydantic import PlainValidator, ValidationInfo, WithJsonSchema

from execution_app.downloads import file_response, text_response
from execution_app.errors import UploadTooLarge
from execution_app.models import Artifact, Run, Step
from execution_app.schemas import (
    ConsoleFilters,
    FileInfo,
    FileList,
    NewRun,
    RunAccepted,
    RunCosts,
    RunDetail,
    RunList,
    RunMoved,
    RunPageFilters,
    StepInfo,
    StepList,
)
from execution_app.services import (
    cancel_run,
    pause_run,
    receive_upload,
    record_upload,
    resume_run,
    retry_run,
    start_run,
)
from execution_app.transcript import transcript
from sessions_app.access import ApiRequest, NotVisible, VisibleSession, caller_of, parsed_id
from sessions_app.models import Session
from sessions_app.modes import NO_MODEL
from sessions_app.repetition import HEADER, answer_of, answers_by_itself, ask_of, response_of
from sessions_app.schemas import FieldsInvalid, NoFields, Problem
from sessions_app.services import Ask, answer_once, earlier_answer

ENVELOPE_BYTES = 64 * 1024  # what multipart adds around a file

router = Router(tags=["runs"])


class NotMultipart(Exception):
    """An upload is multipart/form-data with the file in the field `file`."""


def _find_run(value: Any, info: ValidationInfo) -> Run:
    run_id = parsed_id(value)
    visible = Session.objects.visible_to(caller_of(info))
    run = Run.objects.filter(pk=run_id, session__in=visible).select_related("session").first()
    if run is None:
        raise NotVisible
    structlog.contextvars.bind_contextvars(session_id=str(run.session_id), run_id=str(run_id))
    return run


VisibleRun = Annotated[
    Run, PlainValidator(_find_run), WithJsonSchema({"type": "string", "format": "uuid"})
]
SESSION_ERRORS = {404: Problem, 409: Problem, 422: Problem}
UPLOAD_SCHEMA = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            }
        },
    }
}


# -- the runs of a session --------------------------------------------------------------------
@router.get("/sessions/{session}/runs", response={200: RunList, 404: Problem})
def list_runs(
    request: ApiRequest, session: VisibleSession, filters: Query[RunPageFilters]
) -> RunList:
    """The runs of a session, oldest first."""
    found = Run.objects.filter(session=session).select_related("session").order_by("number")
    page = found.with_costs()[filters.offset : filters.offset + filters.limit]
    return RunList(
        session_id=session.pk,
        total_runs=found.count(),
        runs=[RunDetail.of(run) for run in page],
    )


@router.post("/sessions/{session}/runs", response={202: RunAccepted, **SESSION_ERRORS})
def start(request: ApiRequest, session: VisibleSession, body: NewRun) -> Status[RunAccepted]:
    """Queue a run of a task. While another run is live: 409, or `on_busy: "interrupt"`."""
    run = start_run(
        session=session,
        task=body.task,
        config=body.config,
        on_busy=body.on_busy,
        by=request.user,
    )
    return Status(202, RunAccepted.of(run))


# -- one run ----------------------------------------------------------------------------------
@router.get("/runs/{run}", response={200: RunDetail, 404: Problem})
def show(request: ApiRequest, run: VisibleRun) -> RunDetail:
    """Where a run is, and what became of it."""
    found = Run.objects.with_costs().select_related("session").filter(pk=run.pk).first()
    if found is None:  # erased at this moment
        raise NotVisible
    return RunDetail.of(found)


@router.get("/runs/{run}/steps", response={200: StepList, 404: Problem})
def list_steps(request: ApiRequest, run: VisibleRun) -> StepList:
    """The steps of its plan, and where each is."""
    steps = Step.objects.filter(run=run).order_by("index")
    return StepList(run_id=run.pk, steps=[StepInfo.of(step) for step in steps])


@router.get("/runs/{run}/costs", response={200: RunCosts, 404: Problem})
def show_costs(request: ApiRequest, run: VisibleRun) -> RunCosts:
    """What its model calls took: in all, per model and per step."""
    return RunCosts.of(run)


@router.post("/runs/{run}/cancel", response={200: RunMoved, **SESSION_ERRORS})
def cancel(request: ApiRequest, run: VisibleRun, body: NoFields | None = None) -> Status[RunMoved]:
    """Stop it for good; a running one is `stopping` until its processes are gone."""
    return _moved(cancel_run(run, by=request.user))


@router.post("/runs/{run}/pause", response={200: RunMoved, **SESSION_ERRORS})
def pause(request: ApiRequest, run: VisibleRun, body: NoFields | None = None) -> Status[RunMoved]:
    """Stop it so that it can go on later."""
    return _moved(pause_run(run, by=request.user))


@router.post("/runs/{run}/resume", response={200: RunMoved, **SESSION_ERRORS})
def resume(request: ApiRequest, run: VisibleRun, body: NoFields | None = None) -> Status[RunMoved]:
    """Let a paused run go on."""
    return _moved(resume_run(run, by=request.user))


@router.post("/runs/{run}/retry", response={200: RunMoved, **SESSION_ERRORS})
def retry(request: ApiRequest, run: VisibleRun, body: NoFields | None = None) -> Status[RunMoved]:
    """Try a failed or cancelled run again."""
    return _moved(retry_run(run, by=request.user))


def _moved(run: Run) -> Status[RunMoved]:
    return Status(200, RunMoved.of(run))


@router.api_operation(
    ["GET", "HEAD"], "/runs/{run}/console", response={200: str, 404: Problem, 422: Problem}
)
def console(
    request: ApiRequest, run: VisibleRun, filters: Query[ConsoleFilters]
) -> HttpResponseBase:
    """Everything it printed, as text: the whole log, or of it the lines with `grep`, the `tail`."""
    text = transcript(run.pk, tail=filters.tail, grep=filters.grep)
    return text_response(request, chain([_about(run)] * filters.about, text))


def _about(run: Run) -> bytes:
    """What a text that leaves the server says of itself."""
    model = "no AI was used" if run.model in {"", NO_MODEL} else f"model {run.model}"
    return f"# run {run.number} of session {run.session_id}: {model}\n".encode()


# -- files ------------------------------------------------------------------------------------
@router.get("/sessions/{session}/files", response={200: FileList, 404: Problem})
def list_files(request: ApiRequest, session: VisibleSession) -> FileList:
    """What people brought to a session and what its runs made."""
    return FileList.of_all(list(Artifact.objects.filter(session=session).order_by("path", "pk")))


@router.get("/runs/{run}/files", response={200: FileList, 404: Problem})
def list_run_files(request: ApiRequest, run: VisibleRun) -> FileList:
    """What a run made."""
    return FileList.of_all(list(Artifact.objects.filter(run=run).order_by("path")))


@router.api_operation(
    ["GET", "HEAD"], "/runs/{run}/files/{path:path}", response={200: bytes, 404: Problem}
)
def show_file(request: ApiRequest, run: VisibleRun, path: str) -> HttpResponseBase:
    """The bytes of a file that the run made; its path as listed, or relative to the run's folder."""
    artifact = None if "\0" in path else Artifact.objects.of_run(run, path)
    if artifact is None:
        raise NotVisible
    return file_response(request, artifact)


@router.post(
    "/sessions/{session}/files",
    response={201: FileInfo, 404: Problem, 413: Problem, 415: Problem, 422: Problem},
    openapi_extra=UPLOAD_SCHEMA,
)
@answers_by_itself
def upload(request: ApiRequest, session: VisibleSession) -> Any:
    """Bring a file, at most 200 MB; a task reads it by the `path` of the answer."""
    file = _uploaded_file(request)
    ask = _ask_of_upload(request, file)
    if ask is not None and (earlier := earlier_answer(ask)) is not None:
        return response_of(earlier)
    # bytes first, outside of any transaction: 200 MB must not hold the database
    found = receive_upload(session, name=file.name or "", chunks=file.chunks())

    def effect() -> Status[FileInfo]:
        return Status(201, FileInfo.of(record_upload(session, found, by=request.user)))

    return effect() if ask is None else response_of(answer_once(ask, lambda: answer_of(effect())))


def _uploaded_file(request: ApiRequest) -> UploadedFile[Any]:
    """The file of the form; what is too large is refused before any of it is parsed."""
    if request.content_type != "multipart/form-data":
        raise NotMultipart
    if int(request.META.get("CONTENT_LENGTH") or 0) > settings.MAX_UPLOAD_BYTES + ENVELOPE_BYTES:
        raise UploadTooLarge
    given = {*request.FILES, *request.POST} - {"csrfmiddlewaretoken"}
    problems = dict.fromkeys(given - {"file"}, "unknown field")
    if len(request.FILES.getlist("file")) != 1:
        problems["file"] = "exactly one file is needed"
    if problems:
        raise FieldsInvalid(problems)
    return request.FILES.getlist("file")[0]


def _ask_of_upload(request: ApiRequest, file: UploadedFile[Any]) -> Ask | None:
    """Two attempts to send one file differ in their boundaries: name and bytes identify it."""
    if HEADER not in request.headers:
        return None
    digest = hashlib.sha256(repr(file.name).encode())
    for chunk in file.chunks():
        digest.update(chunk)
    return ask_of(request, digest.hexdigest())
