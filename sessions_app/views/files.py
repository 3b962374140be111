"""The page of a file: what it shows of itself, and its bytes. What a run made, what a person brought."""

from __future__ import annotations

import uuid
from urllib.parse import quote

from django.db.models import F
from django.http import Http404, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_GET, require_safe

from execution_app.downloads import DIGITS, BytesMissing, file_response
from execution_app.models import Artifact
from sessions_app.models import Session
from sessions_app.rendering.previews import preview_of
from sessions_app.views.access import PageRequest, for_members, get_session


@require_GET
@for_members
def show_file(request: PageRequest, session_id: uuid.UUID, path: str) -> HttpResponse:
    """The newest file of that path, or the one of `?run=`."""
    session = get_session(request, session_id)
    artifact = _find(request, session, path)
    try:
        preview = preview_of(artifact)
    except FileNotFoundError as error:
        raise Http404 from error
    context = {
        "section": "sessions",
        "session": session,
        "file": artifact,
        "name": path.rpartition("/")[2],
        "bytes_url": bytes_url(artifact),
        "preview": preview,
    }
    return render(request, "sessions/file.html", context)


@require_safe
@for_members
def send_file(request: PageRequest, session_id: uuid.UUID, path: str) -> HttpResponseBase:
    artifact = _find(request, get_session(request, session_id), path)
    try:
        return file_response(request, artifact)
    except BytesMissing as error:
        raise Http404 from error


def _find(request: PageRequest, session: Session, path: str) -> Artifact:
    found = Artifact.objects.filter(session=session, path=path)
    if "run" in request.GET:
        run_id = _run_id(request.GET["run"])
        found = found.filter(run_id=run_id) if run_id else found.filter(run__isnull=True)
    # several runs may have made it, and a person may have brought one of the same name
    newest = found.order_by(F("run__number").desc(nulls_last=True), "-pk")
    artifact = None if "\0" in path else newest.first()
    if artifact is None:
        raise Http404
    return artifact


def _run_id(text: str) -> uuid.UUID | None:
    """None stands for what a person brought."""
    if not text:
        return None
    try:
        return uuid.UUID(text)
    except ValueError as error:
        raise Http404 from error


def page_url(artifact: Artifact) -> str:
    return _url("file", artifact)


def bytes_url(artifact: Artifact) -> str:
    """With the digest: a plot drawn again under its old name is another picture."""
    version = f"v={artifact.sha256[:DIGITS]}"
    if artifact.run_id is None:
        return f"{_url('file_bytes', artifact)}&{version}"
    return f"/api/runs/{artifact.run_id}/files/{quote(artifact.path)}?{version}"


def _url(name: str, artifact: Artifact) -> str:
    address = reverse(f"sessions:{name}", args=[artifact.session_id, artifact.path])
    return f"{address}?run={artifact.run_id or ''}"
