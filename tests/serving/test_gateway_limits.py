"""Under load and in trouble: bounded work, bounded waiting, and a log that never slows a search."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from visualindex.errors import ProblemError
from visualindex_serving.admission import Admission
from visualindex_serving.problems import problem_response
from visualindex_serving.routes.metrics import PORT_VARIABLE
from visualindex_serving.search_log import SearchLog, pseudonym

from .conftest import Served, problem, spec_document

QUERY = {"query": {"vector": [1.0] * 256}}


async def test_a_full_gateway_says_so_and_stays_alive(serve: Any) -> None:
    async with serve(spec_document(gateway={"maxConcurrentRequests": 1})) as served:
        served.shards.stalled.add(("things", 0))
        first = asyncio.create_task(served.client.post("/api/search", json={**QUERY, "timeout_ms": 1500}))
        await served.shards.reached.wait()
        answer = await served.client.post("/api/search", json=QUERY)
        problem(answer, 503, "overloaded")
        assert answer.headers["retry-after"] == "1"
        assert (await served.client.get("/healthz")).status_code == 200
        problem(await first, 504, "deadline-exceeded")
        served.shards.stalled.clear()
        assert (await served.client.post("/api/search", json=QUERY)).status_code == 200


async def test_a_body_that_does_not_arrive_is_given_up(served: Served) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        await asyncio.sleep(0.02)  # a trickle: every part comes soon, the whole never
        return {"type": "http.request", "body": b" ", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/search",
        "raw_path": b"/api/search",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "app": served.app,
    }
    bounded = Admission(
        served.app, limit=1, max_body=10**6, max_search_body=10**6, max_bytes=10**6, body_timeout_s=0.2
    )
    await bounded(scope, receive, send)
    assert sent[0]["status"] == 408
    assert b"body-timeout" in sent[1]["body"]
    assert bounded._requests.taken == 0


async def test_bodies_in_flight_are_bounded_together() -> None:
    waiting, go_on = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            while (await receive()).get("more_body"):
                pass
        except ProblemError as refused:
            await problem_response(refused)(scope, receive, send)
            return
        waiting.set()
        await go_on.wait()
        await Response("done")(scope, receive, send)

    limits = {"max_body": 60, "max_search_body": 20, "max_bytes": 100}
    bounded = Admission(app, limit=9, **limits)
    transport = httpx.ASGITransport(app=bounded)

    async def chunked(size: int) -> AsyncIterator[bytes]:
        for _ in range(size):
            yield b" "

    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        problem(await client.post("/api/search", content=b" " * 21), 413, "request-too-large")
        problem(await client.post("/api/search", content=chunked(21)), 413, "request-too-large")
        first = asyncio.create_task(client.post("/api/images", content=chunked(60)))
        await waiting.wait()
        for body in (b" " * 41, chunked(41)):
            answer = await client.post("/api/images", content=body)
            problem(answer, 503, "overloaded")
            assert answer.headers["retry-after"] == "1"
        second = asyncio.create_task(client.post("/api/images", content=b" " * 40))
        go_on.set()
        assert [(await one).status_code for one in (first, second)] == [200, 200]
    assert bounded._bytes == bounded._requests.taken == 0


class Agent(BaseHTTPRequestHandler):
    """Stands in for Ray's metrics agent, which speaks plain HTTP on loopback."""

    status = 200

    def do_GET(self) -> None:
        body = b"visualindex_requests_total 3\n"
        self.send_response(self.status if self.path == "/metrics" else 404)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def agent() -> Iterator[HTTPServer]:
    server = HTTPServer(("127.0.0.1", 0), Agent)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


async def test_metrics_are_passed_on(
    served: Served, agent: HTTPServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PORT_VARIABLE, str(agent.server_port))
    answer = await served.client.get("/metrics")
    assert (answer.status_code, answer.text) == (200, "visualindex_requests_total 3\n")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    monkeypatch.setattr(Agent, "status", 500)
    problem(await served.client.get("/metrics"), 503, "unavailable")
    monkeypatch.setenv(PORT_VARIABLE, "1")
    problem(await served.client.get("/metrics"), 503, "unavailable")
    monkeypatch.delenv(PORT_VARIABLE)
    problem(await served.client.get("/metrics"), 503, "unavailable")


async def test_a_slow_log_drops_and_counts_and_never_waits() -> None:
    blocked, done, written, dropped = asyncio.Event(), asyncio.Event(), [], []

    async def insert(rows: Any) -> None:
        await blocked.wait()
        written.extend(rows)
        if len(written) == 5000:
            done.set()

    log: SearchLog[int] = SearchLog(insert, dropped.append)
    log.start()
    for row in range(7000):
        log.offer(row)
    assert sum(dropped) == 2000
    blocked.set()
    await done.wait()
    assert written == list(range(5000))
    await log.close()


async def test_rows_that_cannot_be_written_are_counted_and_the_log_goes_on() -> None:
    failed, written, dropped = asyncio.Event(), [], []

    async def insert(rows: Any) -> None:
        if 13 in rows:
            raise RuntimeError("unlucky")
        written.extend(rows)

    def count(rows: int) -> None:
        dropped.append(rows)
        failed.set()

    log: SearchLog[int] = SearchLog(insert, count)
    log.start()
    log.offer(13)
    await failed.wait()
    log.offer(14)
    await log.close()
    assert (written, dropped) == ([14], [1])


def test_a_pseudonym_is_stable_and_keyed() -> None:
    assert pseudonym("alice", b"a") == pseudonym("alice", b"a")
    assert len({pseudonym("alice", b"a"), pseudonym("alice", b"b"), pseudonym("bob", b"a")}) == 3
