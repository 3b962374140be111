"""Files over REST: brought by people, made by runs, served so that nothing in them runs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from pytest_django import Settings

from execution_app.errors import UploadInvalid
from execution_app.models import Artifact, Run
from execution_app.services import (
    artifact_file,
    record_artifacts,
    store_bytes,
    store_upload,
    work_dir,
)
from sessions_app.models import Session
from tests.api_client import answer, refusal
from tests.conftest import As, MakeRun, MakeSession

PNG = b"\x89PNG not really"


@pytest.fixture
def session(alice: User, make_session: MakeSession) -> Session:
    return make_session(alice)


@pytest.fixture
def run(session: Session, make_run: MakeRun) -> Run:
    return make_run(session)


def _made(run: Run, path: str, data: bytes) -> Artifact:
    record_artifacts(run.session_id, run.pk, [store_bytes(path, data)])
    return Artifact.objects.get(run=run, path=path)


def _bytes(response: Any) -> bytes:
    assert response.status_code == 200
    return b"".join(response)


# -- bringing files ---------------------------------------------------------------------------
def test_an_upload_lies_in_the_work_directory(api: As, alice: User, session: Session) -> None:
    file = SimpleUploadedFile("values.csv", b"1,2\n")
    body = answer(api(alice).upload(f"/api/sessions/{session.pk}/files", {"file": file}), 201)
    assert body == {
        "path": "values.csv",
        "kind": "data",
        "mime": "text/csv",
        "size": 4,
        "sha256": hashlib.sha256(b"1,2\n").hexdigest(),
    }
    assert (work_dir(session.pk) / body["path"]).read_bytes() == b"1,2\n"


def test_a_name_cannot_lead_elsewhere(api: As, alice: User, session: Session) -> None:
    file = SimpleUploadedFile("x", b"1")
    file.name = "../../../etc/passwd.csv"
    body = answer(api(alice).upload(f"/api/sessions/{session.pk}/files", {"file": file}), 201)
    assert body["path"] == "passwd.csv"


@pytest.mark.parametrize("name", ["runs", "__pycache__", ".tmp", ".cache", "x/runs"])
def test_a_name_that_runs_use_is_refused(api: As, alice: User, session: Session, name: str) -> None:
    with pytest.raises(UploadInvalid, match="name"):
        store_upload(session, name=name, chunks=[b"x"], by=alice)
    assert not work_dir(session.pk).joinpath(name).exists()


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({}, "file"),
        ({"file": "text"}, "file"),
        ({"other": SimpleUploadedFile("a", b"1")}, "other"),
        ({"file": SimpleUploadedFile("a", b"1"), "path": "/etc"}, "path"),
        ({"file": SimpleUploadedFile(".bashrc", b"1")}, "file"),
    ],
)
def test_what_is_not_valid_is_named(
    api: As, alice: User, session: Session, fields: dict[str, Any], named: str
) -> None:
    response = api(alice).upload(f"/api/sessions/{session.pk}/files", fields)
    assert named in refusal(response, 422, "invalid")["fields"]
    assert not Artifact.objects.exists()


def test_too_large_is_refused_before_it_is_read(
    api: As, alice: User, session: Session, settings: Settings
) -> None:
    settings.MAX_UPLOAD_BYTES = 1000
    path = f"/api/sessions/{session.pk}/files"
    for size in (1001, 200_000):  # found while it is stored; refused by its length
        file = SimpleUploadedFile("big.bin", b"x" * size)
        refusal(api(alice).upload(path, {"file": file}), 413, "too_large")
    assert not Artifact.objects.exists()
    assert not [p for p in Path(settings.BLOBS_DIR).rglob("*") if p.is_file()]


def test_an_upload_is_multipart(api: As, alice: User, session: Session) -> None:
    response = api(alice).post(f"/api/sessions/{session.pk}/files", {"file": "x"})
    refusal(response, 415, "unsupported_media_type")


def test_a_broken_form_is_unparsable(api: As, alice: User, session: Session) -> None:
    response = api(alice).post(
        f"/api/sessions/{session.pk}/files", b"nonsense", content_type="multipart/form-data"
    )
    refusal(response, 400, "unparsable")


# -- listing ----------------------------------------------------------------------------------
def test_lists(api: As, alice: User, session: Session, run: Run) -> None:
    _made(run, "runs/1/plot.png", PNG)
    file = SimpleUploadedFile("in.csv", b"1")
    answer(api(alice).upload(f"/api/sessions/{session.pk}/files", {"file": file}), 201)
    files = answer(api(alice).get(f"/api/sessions/{session.pk}/files"))["files"]
    assert {(f["path"], f["run_id"]) for f in files} == {
        ("in.csv", None),
        ("runs/1/plot.png", str(run.pk)),
    }
    (made,) = answer(api(alice).get(f"/api/runs/{run.pk}/files"))["files"]
    assert set(made) == {"path", "kind", "mime", "size", "sha256", "run_id", "created_at"}
    assert (made["kind"], made["size"]) == ("plot", len(PNG))


# -- bytes ------------------------------------------------------------------------------------
def test_a_plot_is_shown(api: As, alice: User, run: Run) -> None:
    _made(run, "runs/1/tt.png", PNG)
    response = api(alice).get(f"/api/runs/{run.pk}/files/runs/1/tt.png")
    assert _bytes(response) == PNG
    assert response["Content-Type"] == "image/png"
    assert response["Content-Length"] == str(len(PNG))
    assert response["Content-Disposition"].startswith("inline")
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"


@pytest.mark.parametrize("name", ["page.html", "code.py", "data", "no.xhtml"])
def test_what_could_run_is_handed_to_the_downloads(
    api: As, alice: User, run: Run, name: str
) -> None:
    _made(run, name, b"<script>alert(1)</script>")
    response = api(alice).get(f"/api/runs/{run.pk}/files/{name}")
    assert response["Content-Type"] == "application/octet-stream"
    assert response["Content-Disposition"] == f'attachment; filename="{name}"'
    assert _bytes(response) == b"<script>alert(1)</script>"


def test_a_drawing_is_a_picture_in_a_page_and_a_download_elsewhere(
    api: As, alice: User, run: Run
) -> None:
    _made(run, "drawing.svg", b"<svg onload='alert(1)'/>")
    response = api(alice).get(f"/api/runs/{run.pk}/files/drawing.svg")
    assert response["Content-Type"] == "image/svg+xml"
    assert response["Content-Disposition"] == 'attachment; filename="drawing.svg"'
    assert response["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert _bytes(response)


def test_a_pdf_opens_in_the_viewer_of_the_browser_and_in_no_frame(
    api: As, alice: User, run: Run
) -> None:
    _made(run, "paper.pdf", b"%PDF-1.4")
    response = api(alice).get(f"/api/runs/{run.pk}/files/paper.pdf")
    assert (response["Content-Type"], response["X-Frame-Options"]) == ("application/pdf", "DENY")
    assert response["Content-Disposition"].startswith("inline")
    assert "sandbox" not in response["Content-Security-Policy"]  # the viewer refuses to work in one
    assert "default-src 'none'" in response["Content-Security-Policy"]
    assert _bytes(response)


def test_what_is_named_by_its_digest_is_not_asked_for_again(api: As, alice: User, run: Run) -> None:
    digest = _made(run, "tt.png", PNG).sha256
    path = f"/api/runs/{run.pk}/files/tt.png"
    cached = {
        query: api(alice).head(path + query)["Cache-Control"]
        for query in ("", "?v=", f"?v={digest[:11]}", f"?v={digest[:12]}", f"?v={'0' * 12}")
    }
    assert [query for query, said in cached.items() if "immutable" in said] == [f"?v={digest[:12]}"]
    assert all("private" in said for said in cached.values())


def test_a_file_is_found_by_the_name_that_the_runs_code_gave_it(
    api: As, alice: User, run: Run
) -> None:
    _made(run, f"{run.folder}/tt.png", PNG)
    assert _bytes(api(alice).get(f"/api/runs/{run.pk}/files/tt.png")) == PNG


def test_a_name_cannot_break_the_header(api: As, alice: User, run: Run) -> None:
    _made(run, 'a"; b=ü.csv', b"1")
    response = api(alice).get(f"/api/runs/{run.pk}/files/a%22; b=ü.csv")
    assert response["Content-Disposition"].startswith("attachment; filename*=utf-8''a%22%3B")
    assert _bytes(response) == b"1"


def test_head_and_a_known_digest_send_no_bytes(api: As, alice: User, run: Run) -> None:
    _made(run, "tt.png", PNG)
    path = f"/api/runs/{run.pk}/files/tt.png"
    head = api(alice).head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head["Content-Length"] == str(len(PNG))
    again = api(alice).get(path, If_None_Match=head["ETag"])
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("path", ["nothing.png", "../1/tt.png", "/etc/passwd", "a%00b", "tt.png/"])
def test_what_is_no_artifact_of_the_run_is_not_found(
    api: As, alice: User, session: Session, run: Run, make_run: MakeRun, path: str
) -> None:
    other = make_run(session)
    _made(other, "nothing.png", PNG)
    _made(run, "tt.png", PNG)
    refusal(api(alice).get(f"/api/runs/{run.pk}/files/{path}"), 404, "not_found")


def test_bytes_that_somebody_removed(api: As, alice: User, run: Run) -> None:
    artifact_file(_made(run, "tt.png", PNG)).unlink()
    refusal(api(alice).get(f"/api/runs/{run.pk}/files/tt.png"), 404, "not_found")
