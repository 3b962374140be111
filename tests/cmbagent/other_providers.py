"""A local server that speaks the protocols of Anthropic, Google and Mistral, as far as a task that
is answered with its own last words needs them. It refuses whoever brings the wrong key."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "key-of-tests-0123456789abcdef"
USED = (12, 5)  # tokens in, out


class OtherProviders:
    """`refuse_next` is a status, a body and headers that the next request gets instead."""

    def __init__(self) -> None:
        self.headers: list[dict[str, str]] = []
        self.refuse_next: tuple[int, Any, dict[str, str]] | None = None
        self._server = _Server(("127.0.0.1", 0), self)

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[OtherProviders]:
        house = cls()
        thread = threading.Thread(target=house._server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield house
        finally:
            house._server.shutdown()
            thread.join()
            house._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"


class _Server(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], house: OtherProviders) -> None:
        self.house = house
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's name
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        house = self.server.house
        house.headers.append({name.lower(): value for name, value in self.headers.items()})
        if house.refuse_next:
            status, answer, headers = house.refuse_next
            house.refuse_next = None
            self._send(status, json.dumps(answer), headers)
            return
        if KEY not in {self._key(), self._key().removeprefix("Bearer ")}:
            self._send(401, json.dumps(_UNAUTHORIZED), {})
            return
        path = self.path.partition("?")[0]
        speak = {"messages": _anthropic, "completions": _mistral}.get(path.rpartition("/")[2])
        if speak is None:
            body |= {"stream": "streamGenerateContent" in path, "model": "gemini"}
            speak = _google
        self._send(200, speak(body, words_of(body)), {}, stream=body.get("stream", False))

    def _key(self) -> str:
        names = ("x-api-key", "x-goog-api-key", "authorization")
        return next((self.headers[name] for name in names if name in self.headers), "")

    def _send(
        self, status: int, text: str, headers: dict[str, str], *, stream: bool = False
    ) -> None:
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/event-stream" if stream else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)


_UNAUTHORIZED = {
    "type": "error",
    "error": {"type": "authentication_error", "message": "invalid x-api-key", "code": 401},
}


def words_of(body: dict[str, Any]) -> str:
    """The last thing that was said in the request."""
    last = (body.get("messages") or body["contents"])[-1]
    content = last.get("content") or last["parts"]
    return content if isinstance(content, str) else str(content[-1]["text"])


def _anthropic(body: dict[str, Any], words: str) -> str:
    whole = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [{"type": "text", "text": words}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": USED[0], "output_tokens": USED[1]},
    }
    if not body.get("stream"):
        return json.dumps(whole)
    begun = whole | {"content": [], "stop_reason": None}
    delta = {"type": "text_delta", "text": words}
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": USED[1]},
        },
        {"type": "message_stop"},
    ]
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)


def _google(body: dict[str, Any], words: str) -> str:
    content = {"role": "model", "parts": [{"text": words}]}
    counts = dict(zip(("promptTokenCount", "candidatesTokenCount"), USED, strict=True))
    whole = {
        "candidates": [{"content": content, "finishReason": "STOP", "index": 0}],
        "usageMetadata": {**counts, "totalTokenCount": sum(USED)},
        "modelVersion": body["model"],
    }
    return f"data: {json.dumps(whole)}\r\n\r\n" if body["stream"] else json.dumps(whole)


def _mistral(body: dict[str, Any], words: str) -> str:
    said = {"role": "assistant", "content": words}
    whole = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "usage": {
            "prompt_tokens": USED[0],
            "completion_tokens": USED[1],
            "total_tokens": sum(USED),
        },
    }
    choice = {"index": 0, "finish_reason": "stop"}
    if not body.get("stream"):
        return json.dumps(whole | {"choices": [choice | {"message": said}]})
    chunk = whole | {"object": "chat.completion.chunk", "choices": [choice | {"delta": said}]}
    return f"data: {json.dumps(chunk)}\n\ndata: [DONE]\n\n"
