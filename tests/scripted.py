"""A local endpoint that does what a test tells it, and counts what it was asked."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Request = dict[str, Any]


@dataclass
class Answer:
    """What the endpoint sends.

    Attributes:
        content: text of the chat answer; None: null. usage: tokens, or None: not counted.
        status, headers, body: of a response that is no chat answer; `body` replaces what is made of `content`.
        wait: seconds before it answers. drip: seconds between two bytes. stream: MiB of an endless body.
        cut: close the connection after so many bytes of the body.
    """

    content: Any = ""
    usage: dict[str, Any] | None = field(default_factory=lambda: {"prompt_tokens": 100, "completion_tokens": 50})
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    wait: float = 0.0
    drip: float = 0.0
    stream: int = 0
    cut: int | None = None

    def bytes(self) -> bytes:
        if self.body is not None:
            return self.body
        told: dict[str, Any] = {"choices": [{"message": {"role": "assistant", "content": self.content}}]}
        return json.dumps(told | ({"usage": self.usage} if self.usage is not None else {})).encode()


@dataclass
class Endpoint:
    """A running endpoint: where it is, and what it was asked in the order of arrival."""

    url: str
    asked: list[Request] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    at_once: int = 0


class Server(ThreadingHTTPServer):
    """The endpoint at work."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, script: Callable[[Request, int], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.lock, self.under_way = script, threading.Lock(), 0
        self.state = Endpoint(f"http://127.0.0.1:{self.server_port}/v1")


class Handler(BaseHTTPRequestHandler):
    """Answers one request as the script says."""

    server: Server

    def do_POST(self) -> None:
        request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server, state = self.server, self.server.state
        with server.lock:
            number = len(state.asked)
            state.asked.append({**request, "path": self.path})
            state.headers.append(dict(self.headers))
            server.under_way += 1
            state.at_once = max(state.at_once, server.under_way)
        try:
            self._send(server.script(request, number))
        except (BrokenPipeError, ConnectionResetError):
            pass
        finally:
            with server.lock:
                server.under_way -= 1

    def do_CONNECT(self) -> None:
        self.server.state.asked.append({"path": self.path})
        self.send_error(403)

    def _send(self, answer: Answer) -> None:
        time.sleep(answer.wait)
        body = answer.bytes()
        self.send_response(answer.status)
        for name, value in ({"Content-Type": "application/json"} | answer.headers).items():
            self.send_header(name, value)
        if not answer.stream:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        for place in range(len(body) if answer.drip else 0):
            self.wfile.write(body[place : place + 1])
            time.sleep(answer.drip)
        for _ in range(answer.stream):
            self.wfile.write(b"x" * (1 << 20))
        if not answer.drip:
            self.wfile.write(body[: answer.cut])
        self.close_connection = self.close_connection or answer.cut is not None

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def endpoint(script: Callable[[Request, int], Answer], tls: ssl.SSLContext | None = None) -> Iterator[Endpoint]:
    """Serve answers; `script` is called with the request and its number from 0."""
    server = Server(script)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server.state
    finally:
        server.shutdown()
        server.server_close()


def prompt_of(request: Request) -> str:
    """Return what the last message of a request says."""
    return str(request["messages"][-1]["content"])
