"""A local HTTP server that speaks the chat-completions protocol and answers from what it was sent.

    with Endpoint.running() as endpoint:
        ...                                    # OPENAI_BASE_URL=endpoint.url, key endpoint.key
        assert len(endpoint.requests) == 3

At the end it raises AssertionError when it had to refuse a request.
"""

from __future__ import annotations

import contextlib
import json
import secrets
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from tests.endpoint import conversation, faults, minds
from tests.endpoint.conversation import Conversation, Refused
from tests.endpoint.faults import Fault, HttpError
from tests.endpoint.personalities import PLAIN, Answer, Personality, Tokens

MAX_STALL_SECONDS = 600


@dataclass
class Request:
    """One request as the endpoint saw it."""

    at: float  # time.monotonic
    conversation: Conversation
    authorized: bool
    stream: bool
    fault: str = ""
    refusal: str = ""
    answer: Answer | None = None
    answered_at: float | None = None  # when its last byte was handed to the kernel
    broken: bool = False  # the client was gone before that

    @property
    def digest(self) -> str:
        return self.conversation.digest


Hook = Callable[[Request], None]


def _nothing(request: Request) -> None:
    del request


class Endpoint:
    """`on_arrival` is called when a request was read, `on_half` in the middle of its answer,
    `on_answer` right after the last byte: all in the thread that serves the request."""

    def __init__(
        self,
        style: Personality = PLAIN,
        *,
        port: int = 0,
        key: str = "",
        delay_ms: float = 0,
        chunk_ms: float = 0,
    ) -> None:
        self.style, self.delay_ms, self.chunk_ms = style, delay_ms, chunk_ms
        self.key = key or f"sk-test-{secrets.token_hex(16)}"
        self.requests: list[Request] = []
        self.faults: list[Fault] = []
        self.on_arrival = self.on_half = self.on_answer = _nothing
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", port), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @classmethod
    @contextmanager
    def running(cls, style: Personality = PLAIN, **options: Any) -> Iterator[Self]:
        endpoint = cls(style, **options)
        endpoint.start()
        try:
            yield endpoint
        finally:
            endpoint.stop()
        endpoint.check()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    @property
    def environment(self) -> dict[str, str]:
        """What a deployment needs to use it."""
        return {
            "OPENAI_BASE_URL": self.url,
            "OPENAI_API_KEY": self.key,
            "CMBAGENT_MODEL": self.style.model,
        }

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def check(self) -> None:
        refusals = [request.refusal for request in self.requests if request.refusal]
        assert not refusals, f"the endpoint refused: {refusals}"

    def forget(self) -> None:
        """Begin anew: no requests seen, no faults, no hooks."""
        self.check()
        with self._lock:
            self.requests, self.faults = [], []
            self.on_arrival = self.on_half = self.on_answer = _nothing

    def misbehave(self, kind: str, **when: Any) -> Fault:
        fault = Fault(kind, **when)
        self.faults.append(fault)
        return fault

    def requests_about(self, words: str) -> list[Request]:
        """Requests whose task has these words, in the order of their arrival."""
        return [r for r in list(self.requests) if words in r.conversation.task]

    # -- for the handler ----------------------------------------------------------------------
    def note(self, request: Request) -> Fault | None:
        """The request is on record; the fault that it is to meet."""
        with self._lock:
            self.requests.append(request)
            for fault in self.faults:
                if fault.fits(request.conversation):
                    fault.use_up()
                    request.fault = fault.kind
                    return fault
        return None

    def answer(self, request: Request, fault: Fault | None) -> Answer:
        """Raises Refused."""
        spoken = request.conversation
        if spoken.model != self.style.model:
            raise Refused(f"no model {spoken.model}: {self.style.model} is here")
        if not request.authorized:
            raise Refused("the Authorization header is missing or wrong")
        reply = minds.answer(spoken, parallel=self.style.parallel_calls)
        if reply.calls and not self.style.text_before_calls:
            reply.text = ""
        if fault is not None:
            reply = faults.reply_of(fault, spoken, reply)
        tokens = Tokens(prompt=100 * spoken.number, completion=10 + spoken.number)
        request.answer = Answer.to(reply, self.style, tokens)
        if fault is not None:
            request.answer.finish = {"filtered": "content_filter", "too_long": "length"}.get(
                fault.kind
            )
        return request.answer


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def __init__(self, address: tuple[str, int], endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is what tests do; anything else is a refusal with its reason."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's name
        pass

    @property
    def endpoint(self) -> Endpoint:
        return self.server.endpoint

    def do_GET(self) -> None:
        model = {"id": self.endpoint.style.model, "object": "model", "owned_by": "tests"}
        self._json(200, {"object": "list", "data": [model]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path != "/v1/chat/completions":
            self._json(404, {"error": {"message": f"no such path: {self.path}"}})
            return
        authorization = self.headers.get("Authorization", "")
        try:
            spoken = conversation.read(body)
        except Refused as refusal:
            spoken = Conversation(str(body.get("model")), "", "", [], [], "")
            self._refuse(Request(time.monotonic(), spoken, True, False), refusal)
            return
        right = authorization == f"Bearer {self.endpoint.key}"
        request = Request(time.monotonic(), spoken, right, bool(body.get("stream")))
        fault = self.endpoint.note(request)
        self.endpoint.on_arrival(request)
        with self._a_client_that_may_be_gone(request):
            self._serve(request, fault, authorization)

    def _serve(self, request: Request, fault: Fault | None, authorization: str) -> None:
        time.sleep(self.endpoint.delay_ms / 1000)
        error = faults.http_error(fault, authorization) if fault else None
        if error is not None:
            self._http_error(error)
        elif fault is not None and fault.kind in faults.TRANSPORT:
            self._spoil(request, fault)
        else:
            self._answer(request, fault)
        request.answered_at = time.monotonic()
        self.endpoint.on_answer(request)

    def _answer(self, request: Request, fault: Fault | None) -> None:
        try:
            answer = self.endpoint.answer(request, fault)
        except Refused as refusal:
            self._refuse(request, refusal)
            return
        if not request.stream:
            self._json(200, answer.whole())
            return
        self._begin_stream()
        lines = [self._event(chunk) for chunk in answer.chunks()]
        for number, line in enumerate(lines):
            if number == len(lines) // 2:
                self.endpoint.on_half(request)
            self._chunk(line)
            time.sleep(self.endpoint.chunk_ms / 1000)
        self._chunk(f"data: [DONE]{self._end}{self._end}")
        self._chunk("")

    # -- misbehaviour -------------------------------------------------------------------------
    def _spoil(self, request: Request, fault: Fault) -> None:
        match fault.kind:
            case "silent":
                self._wait_until_the_client_leaves()
            case "stalled" | "cut":
                self._half_an_answer(request, fault)
            case "not_json":
                self._send(200, "text/html", b"<html><h1>Welcome to the proxy</h1></html>")
            case "wrong_shape":
                self._wrong_shape(request)
            case "slow":
                self.endpoint.closing.wait(fault.seconds)
                self._answer(request, fault)

    def _half_an_answer(self, request: Request, fault: Fault) -> None:
        answer = self.endpoint.answer(request, fault)
        self.close_connection = True
        if request.stream:
            self._begin_stream()
            lines = [self._event(chunk) for chunk in answer.chunks()]
            for line in lines[: max(1, len(lines) // 2)]:
                self._chunk(line)
        else:
            body = json.dumps(answer.whole()).encode()
            self._head(200, "application/json", len(body))
            self.wfile.write(body[: len(body) // 2])
        if fault.kind == "stalled":
            self._wait_until_the_client_leaves()

    def _wrong_shape(self, request: Request) -> None:
        shape = {"weather": "fine", "choices": "none"}
        if not request.stream:
            self._json(200, shape)
            return
        self._begin_stream()
        self._chunk(self._event(shape))
        self._chunk(f"data: [DONE]{self._end}{self._end}")
        self._chunk("")

    def _wait_until_the_client_leaves(self) -> None:
        self.close_connection = True
        deadline = time.monotonic() + MAX_STALL_SECONDS
        while time.monotonic() < deadline and not self.endpoint.closing.is_set():
            readable, _, _ = select.select([self.connection], [], [], 0.05)
            if readable and not self.connection.recv(1, socket.MSG_PEEK):
                return

    def _refuse(self, request: Request, refusal: Refused) -> None:
        request.refusal = str(refusal)
        if request not in self.endpoint.requests:
            self.endpoint.requests.append(request)
        kind = {"type": "invalid_request_error", "code": "refused_by_the_test"}
        self._json(400, {"error": {"message": str(refusal), **kind}})

    # -- bytes --------------------------------------------------------------------------------
    @contextlib.contextmanager
    def _a_client_that_may_be_gone(self, request: Request) -> Iterator[None]:
        try:
            yield
        except OSError:
            request.broken = True
            self.close_connection = True
        except Exception as error:
            request.refusal = f"the endpoint failed: {error!r}"
            raise

    @property
    def _end(self) -> str:
        return self.endpoint.style.line_end

    def _event(self, chunk: dict[str, Any]) -> str:
        comment = f": keep-alive{self._end}{self._end}" if self.endpoint.style.keep_alive else ""
        return f"{comment}data: {json.dumps(chunk)}{self._end}{self._end}"

    def _http_error(self, error: HttpError) -> None:
        self._json(error.status, error.body, error.headers)

    def _json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        self._send(status, "application/json", json.dumps(body).encode(), headers)

    def _send(
        self, status: int, kind: str, body: bytes, headers: dict[str, str] | None = None
    ) -> None:
        self._head(status, kind, len(body), headers)
        self.wfile.write(body)

    def _head(
        self, status: int, kind: str, size: int, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(size))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def _begin_stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, text: str) -> None:
        """One HTTP chunk; the empty one ends the body."""
        data = text.encode()
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
