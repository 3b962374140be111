"""The page of a file: what it shows of itself, whatever is inside, and to whom."""

from __future__ import annotations

import struct
import time
import uuid
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client

from execution_app.models import Artifact, Run
from execution_app.services import artifact_file, record_artifacts, record_upload
from execution_app.services.files import store_bytes
from sessions_app.models import Session
from sessions_app.rendering.pictures import size_of
from tests.conftest import MakeRun, MakeSession
from tests.sessions_app.hostile_texts import Tags

pytestmark = pytest.mark.django_db

PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 640, 480) + b"rest"


@pytest.fixture
def session(alice: User, make_session: MakeSession) -> Session:
    return make_session(alice, name="Files")


@pytest.fixture
def run(session: Session, make_run: MakeRun) -> Run:
    return make_run(session)


@pytest.fixture
def tab(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def made(run: Run, path: str, data: bytes) -> Artifact:
    record_artifacts(run.session_id, run.pk, [store_bytes(path, data)])
    return Artifact.objects.get(run=run, path=path)


def page(tab: Client, run: Run, path: str, data: bytes) -> str:
    made(run, path, data)
    answer = tab.get(f"/sessions/{run.session_id}/files/{path}")
    assert answer.status_code == 200
    return answer.text


def cells(html: str) -> list[list[str]]:
    body = html.partition("<tbody>")[2].partition("</tbody>")[0]
    rows = body.split("<tr>")[1:]
    return [[Tags("<td" + cell).text for cell in row.split("<td")[1:]] for row in rows]


# -- who sees what ----------------------------------------------------------------------------
def test_a_strangers_file_does_not_exist(client: Client, bob: User, run: Run) -> None:
    made(run, "a.txt", b"secret")
    client.force_login(bob)
    for place in ("files", "bytes"):
        assert client.get(f"/sessions/{run.session_id}/{place}/a.txt").status_code == 404


def test_a_visitor_is_sent_to_sign_in(client: Client, run: Run) -> None:
    made(run, "a.txt", b"secret")
    assert client.get(f"/sessions/{run.session_id}/files/a.txt").status_code == 302


@pytest.mark.parametrize(
    "address", ["files/b.txt", "files/a.txt?run=x", f"files/a.txt?run={uuid.uuid4()}", "files/a%00"]
)
def test_what_is_no_file_is_not_found(tab: Client, run: Run, address: str) -> None:
    made(run, "a.txt", b"x")
    assert tab.get(f"/sessions/{run.session_id}/{address}").status_code == 404


def test_bytes_that_somebody_removed(tab: Client, run: Run) -> None:
    artifact_file(made(run, "a.txt", b"x")).unlink()
    for place in ("files", "bytes"):
        assert tab.get(f"/sessions/{run.session_id}/{place}/a.txt").status_code == 404


def test_the_newest_of_a_path_is_shown_and_an_older_one_by_its_run(
    tab: Client, session: Session, run: Run, make_run: MakeRun
) -> None:
    made(run, "a.txt", b"older")
    made(make_run(session), "a.txt", b"newer")
    address = f"/sessions/{session.pk}/files/a.txt"
    assert "newer" in tab.get(address).text
    assert "older" in tab.get(f"{address}?run={run.pk}").text


def test_what_a_person_brought_can_be_taken_away_again(
    tab: Client, alice: User, session: Session
) -> None:
    record_upload(session, store_bytes("in.csv", b"a,b\n1,2\n"), by=alice)
    assert "a person" in tab.get(f"/sessions/{session.pk}/files/in.csv?run=").text
    answer = tab.get(f"/sessions/{session.pk}/bytes/in.csv?run=")
    assert b"".join(answer.streaming_content) == b"a,b\n1,2\n"  # type: ignore[attr-defined]
    assert "sandbox" in answer["Content-Security-Policy"]


# -- what it shows ----------------------------------------------------------------------------
def test_a_picture_has_its_size(tab: Client, run: Run) -> None:
    html = page(tab, run, "runs/1/tt.png", PNG)
    assert 'width="640" height="480"' in html
    assert "640 \N{MULTIPLICATION SIGN} 480 pixels" in html


def test_a_table_shows_its_beginning_and_says_how_much_there_is(tab: Client, run: Run) -> None:
    lines = ["name," + ",".join(f"c{n}" for n in range(40))]
    lines += [f"row {n}," + ",".join(["1.5"] * 40) for n in range(500)]
    html = page(tab, run, "t.csv", "\n".join(lines).encode())
    assert (len(cells(html)), len(cells(html)[0])) == (200, 30)
    assert "500 rows, 41 columns. The first 200 rows and 30 columns are shown." in html
    assert 'tabindex="0" role="group" aria-label="Table"' in html


@pytest.mark.parametrize(
    ("name", "data", "first"),
    [
        ("a.csv", b"1,2\n3,4\n", ["1", "2"]),
        ("a.csv", b"x;y\n3;4", ["3", "4"]),
        ("a.tsv", b"x\ty\n3\t4\n", ["3", "4"]),
        ("a.csv", b"\xef\xbb\xbfx,y\n\xff\xfe,\xe9\n", ["\ufffd\ufffd", "\ufffd"]),
        ("a.csv", "x,y\nä,b\n".encode("utf-16"), ["ä", "b"]),
        ("a.csv", b'x,y\n"never closed,1\n2,3\n', ["never closed,1\n2,3\n"]),
        ("a.csv", b"x,y\n" + b"z" * 1000 + b",1\n", ["z" * 200 + "…", "1"]),
        ("a.csv", b"x,y\n<script>alert(1)</script>,1\n", ["<script>alert(1)</script>", "1"]),
    ],
)
def test_tables_of_any_sort(
    tab: Client, run: Run, name: str, data: bytes, first: list[str]
) -> None:
    assert cells(page(tab, run, name, data))[0] == first


@pytest.mark.parametrize("data", [b"", b"\n\n", b"one\n", b'"' + b"a,b\n" * 60_000, b"\r\r\r,"])
def test_what_is_called_a_table_and_is_none(tab: Client, run: Run, data: bytes) -> None:
    assert "<h1>a.csv</h1>" in page(tab, run, "a.csv", data)


@pytest.mark.parametrize(
    ("name", "data", "shown"),
    [
        ("a.py", b"def f(): pass\n", '<span class="nf">f</span>'),
        ("a.log", b"one\r\n\x1b[31mtwo\n", "two"),
        ("a.txt", b"caf\xe9 <b>", "caf\ufffd &lt;b&gt;"),
        ("a.json", b'{"a":[1]}', '<span class="nt">'),
        ("a.json", b"[" * 50_000, "[[["),
        ("README", b"text", "text"),
        ("a.md", b"# A\n\n*b* ![x](https://e.example/p.png)", "<h2>A</h2>"),
        ("a.html", b"<script>alert(1)</script>", "&lt;script&gt;"),
        ("a.txt", "a\u202eb".encode(), "a[U+202E]b"),
    ],
)
def test_text_is_shown_as_text(tab: Client, run: Run, name: str, data: bytes, shown: str) -> None:
    html = page(tab, run, name, data)
    assert shown in html
    assert "<script>alert" not in html
    assert 'e.example/p.png"' not in html


def test_of_a_long_text_the_beginning_is_shown(tab: Client, run: Run) -> None:
    html = page(tab, run, "a.log", b"x" * 50 + b"\n" * 1 + b"line\n" * 100_000)
    assert "The first 200 KB of 500,051 bytes." in html
    assert len(html) < 300_000


@pytest.mark.parametrize("name", ["a.fits", "a.txt", "a.csv", "a.md", "noname"])
def test_what_is_no_text_says_its_size_and_digest(tab: Client, run: Run, name: str) -> None:
    html = page(tab, run, name, b"\x00\x01\x02" * 100)
    assert "300" in html
    assert Artifact.objects.get(path=name).sha256 in html
    assert "Download it to look inside." in html


def test_a_pdf_opens_in_a_tab_of_its_own(tab: Client, run: Run) -> None:
    assert 'target="_blank" rel="noopener">Open in a new tab' in page(
        tab, run, "a.pdf", b"%PDF-1.4"
    )


# -- pictures ---------------------------------------------------------------------------------
JPEG = (
    b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc0\x00\x11\x08" + struct.pack(">HH", 480, 640) + b"\x03"
)


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (PNG, (640, 480)),
        (JPEG, (640, 480)),
        (b"GIF89a" + struct.pack("<HH", 640, 480), (640, 480)),
        (b"RIFF\0\0\0\0WEBPVP8X" + b"\0" * 8 + b"\x7f\x02\0" + b"\xdf\x01\0", (640, 480)),
        (PNG[:20], None),
        (JPEG[:12], None),
        (b"\xff\xd8" + b"\xff" * 100_000, None),
        (b"\xff\xd8" + b"\xff\xe0\x00\x00" * 10_000, None),
        (b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 2**31, 1), None),
        (b"", None),
        (b"<svg/>", None),
    ],
)
def test_the_size_of_a_picture_is_read_or_unknown(head: bytes, size: Any) -> None:
    assert size_of(head) == size


def test_a_cell_of_digits_hangs_no_page(tab: Client, run: Run) -> None:
    """A pattern that looks at all of it takes minutes of the processor, and the process with it."""
    began = time.process_time()
    assert 'class="r"' in page(tab, run, "n.csv", b"1" * 100_000 + b"x,1\n2,3\n")
    assert time.process_time() - began < 20


@pytest.mark.parametrize("text", ["[" * 900 + ",".join("1" * 60_000) + "]" * 900, "[" * 99_000])
def test_json_is_not_blown_up_by_its_indents(tab: Client, run: Run, text: str) -> None:
    assert len(page(tab, run, "deep.json", text.encode())) < 2_000_000
