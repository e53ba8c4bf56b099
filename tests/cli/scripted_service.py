"""A real HTTP server on loopback that answers as a test tells it: what the client meets on the wire."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = tuple[int, dict[str, str], bytes]


@dataclass
class Received:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def part(self, name: str) -> bytes:
        """The content of a multipart part."""
        boundary = self.headers["content-type"].split("boundary=")[1].encode()
        for part in self.body.split(b"--" + boundary):
            head, _, content = part.partition(b"\r\n\r\n")
            if f'name="{name}"'.encode() in head:
                return content.removesuffix(b"\r\n")
        raise AssertionError(f"no part {name} in {self.body[:200]!r}")

    def request(self) -> dict[str, Any]:
        """The JSON of the body, or of the form's `request` part."""
        multipart = self.headers.get("content-type", "").startswith("multipart/")
        document = json.loads(self.part("request") if multipart else self.body)
        assert isinstance(document, dict)
        return document


@dataclass
class ScriptedService:
    """The server: `answer` decides each reply, `received` keeps each request."""

    answer: Callable[[Received], Reply]
    url: str = ""
    received: list[Received] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


def reply(document: Any, status: int = 200, **headers: str) -> Reply:
    """A JSON answer."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return status, {"Content-Type": "application/json", **named}, json.dumps(document).encode()


def problem(slug: str, status: int, detail: str, **headers: str) -> Reply:
    """A problem document."""
    document = {"type": f"https://visualindex.dev/problems/{slug}", "status": status, "detail": detail}
    code, sent, body = reply({**document, "title": "A title"}, status, **headers)
    return code, {**sent, "Content-Type": "application/problem+json"}, body


@contextmanager
def serving(answer: Callable[[Received], Reply]) -> Iterator[ScriptedService]:
    """Serve on a free port of loopback."""
    service = ScriptedService(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            length = int(self.headers.get("content-length", 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            received = Received(self.command, self.path, headers, self.rfile.read(length))
            with service.lock:
                service.received.append(received)
                status, sent, body = service.answer(received)
            self.send_response(status)
            for name, value in sent.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = do_PATCH = handle_one  # noqa: N815 - names of the base class

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - name of the base class
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        service.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield service
        finally:
            server.shutdown()
            thread.join()
