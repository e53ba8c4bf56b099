"""The client speaks the HTTP contract, raises the service's own problems, and repeats only what may heal."""

import email.utils
import json
import socket
import time
import uuid
from typing import Any

import pytest

from visualindex.api.images import ImagePatch, ImageRequest
from visualindex.api.search import Query, SearchRequest
from visualindex.client import LONGEST_WAIT_S, AsyncClient, Client
from visualindex.errors import ProblemError, ProblemType

from .scripted_service import Received, Reply, problem, reply, serving

IMAGE_ID = uuid.UUID("0f8fad5b-d9cb-569f-a165-70867728950e")
WRITTEN = {
    "image_id": str(IMAGE_ID),
    "created": True,
    "embedding": {"state": "stored", "fingerprint": "f", "dimension": 256},
    "token": "t",
}
ANSWER = {
    "query_id": str(uuid.uuid4()),
    "index": "shop",
    "hits": [{"image_id": str(IMAGE_ID), "score": 0.5}],
    "complete": True,
    "generation": "live",
    "fingerprint": "f",
    "took_ms": 12.5,
}


def answers(*replies: Reply) -> Any:
    """Each request takes the next reply, the last one for ever."""
    queue = list(replies)
    return lambda received: queue.pop(0) if len(queue) > 1 else queue[0]


def test_a_search_with_a_picture_is_a_form_with_the_picture_beside_the_request() -> None:
    with serving(answers(reply(ANSWER))) as service, Client(service.url, api_key="vi_x") as client:
        answer = client.search(SearchRequest(limit=3), image=b"\xff\xd8picture")
    assert answer.hits[0].image_id == IMAGE_ID
    sent = service.received[0]
    assert (sent.method, sent.path, sent.headers["authorization"]) == ("POST", "/api/search", "Bearer vi_x")
    assert sent.part("image") == b"\xff\xd8picture"
    assert sent.request() == {"limit": 3}


def test_a_search_by_id_is_json() -> None:
    with serving(answers(reply(ANSWER))) as service, Client(service.url) as client:
        client.search(SearchRequest(index="shop", query=Query(image_id=IMAGE_ID)))
    assert service.received[0].headers["content-type"] == "application/json"
    assert service.received[0].request() == {"index": "shop", "query": {"image_id": str(IMAGE_ID)}}


def test_every_other_call_goes_where_the_contract_says() -> None:
    def answer(received: Received) -> Reply:
        changed = {"image_id": str(IMAGE_ID), "token": "t"}
        if received.method in ("PATCH", "DELETE"):
            return reply(changed)
        if received.path.startswith("/api/thumbnails"):
            return 200, {"Content-Type": "image/webp"}, b"RIFF"
        return reply([] if received.path == "/api/indexes" else {"images": []})

    with serving(answer) as service, Client(service.url) as client:
        client.patch_image(IMAGE_ID, ImagePatch(category=None), index="shop")
        client.delete_image(IMAGE_ID)
        client.list_images(category="Chairs", limit=5)
        assert client.list_indexes() == []
        assert client.file("/api/thumbnails/shop/128/aa.webp") == b"RIFF"
    assert [(sent.method, sent.path) for sent in service.received] == [
        ("PATCH", f"/api/images/{IMAGE_ID}?index=shop"),
        ("DELETE", f"/api/images/{IMAGE_ID}"),
        ("GET", "/api/images?category=Chairs&limit=5"),
        ("GET", "/api/indexes"),
        ("GET", "/api/thumbnails/shop/128/aa.webp"),
    ]
    assert json.loads(service.received[0].body) == {"category": None}


def test_generations_are_asked_for_where_the_contract_says() -> None:
    one = "0123456789abcdef"
    view = {
        "generation": one, "state": "active", "fingerprint": "f", "images": 1, "shards": 1, "bytes": 1, "families": [],
        "recall": {}, "created_at": "2026-11-24T10:00:00Z", "activated_at": None,
    }  # fmt: skip
    job = {
        "job_id": str(IMAGE_ID), "kind": "build", "state": "queued", "phase": "", "done": 0, "total": 0, "result": None,
        "problem": None, "requested_at": "2026-11-24T10:00:00Z", "started_at": None, "ended_at": None,
    }  # fmt: skip

    def answer(received: Received) -> Reply:
        if "/jobs/" in received.path or (received.method, received.path[-12:]) == ("POST", "/generations"):
            return reply(job)
        return reply([view] if received.method == "GET" else view)

    with serving(answer) as service, Client(service.url, api_key="vi_x") as client:
        assert [found.generation for found in client.list_generations("shop")] == [one]
        assert client.build_generation("shop", activate=True).job_id == IMAGE_ID
        assert client.get_job("shop", IMAGE_ID).state == "queued"
        assert client.activate_generation("shop", one, wait_s=5).state == "active"
        assert client.roll_back("shop").state == "active"
    assert [(sent.method, sent.path) for sent in service.received] == [
        ("GET", "/api/indexes/shop/generations"),
        ("POST", "/api/indexes/shop/generations"),
        ("GET", f"/api/indexes/shop/jobs/{IMAGE_ID}"),
        ("POST", f"/api/indexes/shop/generations/{one}/activate"),
        ("POST", "/api/indexes/shop/rollback"),
    ]
    assert [json.loads(service.received[n].body) for n in (1, 3)] == [{"activate": True}, {"wait_s": 5.0}]


def test_a_write_is_repeated_on_503_under_one_idempotency_key() -> None:
    busy = problem("overloaded", 503, "a queue is full")
    with serving(answers(busy, busy, reply(WRITTEN, 201))) as service, Client(service.url) as client:
        assert client.put_image(ImageRequest(key="a"), image=b"x").token == "t"
    keys = {sent.headers["idempotency-key"] for sent in service.received}
    assert (len(service.received), len(keys)) == (3, 1)


def test_a_repeat_waits_as_long_as_the_service_asks() -> None:
    busy = problem("overloaded", 503, "a queue is full", Retry_After="1")
    with serving(answers(busy, reply(ANSWER))) as service, Client(service.url) as client:
        begun = time.monotonic()
        client.search(SearchRequest())
        assert time.monotonic() - begun >= 1.0
    assert len(service.received) == 2


def test_repeats_end_and_the_services_own_problem_comes_out() -> None:
    busy = problem("overloaded", 503, "a queue is full")
    with (
        serving(answers(busy)) as service,
        Client(service.url, attempts=2) as client,
        pytest.raises(ProblemError, match="a queue is full") as caught,
    ):
        client.search(SearchRequest())
    assert caught.value.type is ProblemType.OVERLOADED
    assert len(service.received) == 2


def test_a_refusal_is_not_repeated_and_keeps_its_members() -> None:
    refusal = problem("invalid-filter", 422, "no such operator")
    body = {**json.loads(refusal[2]), "pointer": "/and/1"}
    refused = (refusal[0], refusal[1], json.dumps(body).encode())
    with (
        serving(answers(refused)) as service,
        Client(service.url) as client,
        pytest.raises(ProblemError) as caught,
    ):
        client.search(SearchRequest())
    assert (caught.value.type, caught.value.extra) == (ProblemType.INVALID_FILTER, {"pointer": "/and/1"})
    assert len(service.received) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, ProblemType.UNAUTHENTICATED),
        (404, ProblemType.NOT_FOUND),
        (502, ProblemType.UNAVAILABLE),
        (504, ProblemType.DEADLINE_EXCEEDED),
        (500, ProblemType.UNAVAILABLE),
        (418, ProblemType.INTERNAL),
    ],
)
def test_a_proxys_answer_becomes_the_nearest_problem(status: int, kind: ProblemType) -> None:
    page = (status, {"Content-Type": "text/html"}, b"<h1>sorry</h1>")
    with (
        serving(answers(page)) as service,
        Client(service.url, attempts=1) as client,
        pytest.raises(ProblemError, match=f"answered {status}") as caught,
    ):
        client.search(SearchRequest())
    assert caught.value.type is kind


def test_a_retry_date_in_the_past_and_nonsense_do_no_harm() -> None:
    past = email.utils.formatdate(time.time() - 60, usegmt=True)
    replies = [problem("unavailable", 503, "x", Retry_After=value) for value in (past, "soon")]
    with serving(answers(*replies, reply(ANSWER))) as service, Client(service.url) as client:
        client.search(SearchRequest())
    assert len(service.received) == 3


def test_no_answer_makes_it_wait_longer_than_half_a_minute() -> None:
    assert LONGEST_WAIT_S == 30.0


def test_a_service_that_is_down_is_named_with_the_remedy() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with (
        Client(f"http://127.0.0.1:{port}", attempts=2) as client,
        pytest.raises(ProblemError, match=f"127.0.0.1:{port} cannot be reached .*visualindex up") as caught,
    ):
        client.list_indexes()
    assert caught.value.type is ProblemType.UNAVAILABLE


def test_a_service_that_never_answers_is_a_deadline() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        Client(f"http://127.0.0.1:{server.getsockname()[1]}", timeout_s=0.2) as client,
        pytest.raises(ProblemError, match="did not answer in time") as caught,
    ):
        client.list_indexes()
    assert caught.value.type is ProblemType.DEADLINE_EXCEEDED


async def test_the_async_client_says_and_repeats_the_same() -> None:
    busy = problem("unavailable", 503, "x")
    with serving(answers(busy, reply(WRITTEN, 201))) as service:
        async with AsyncClient(service.url) as client:
            written = await client.put_image(ImageRequest(key="a"), image=b"x", idempotency_key="mine")
    assert written.image_id == IMAGE_ID
    assert [sent.headers["idempotency-key"] for sent in service.received] == ["mine", "mine"]


async def test_the_async_client_raises_the_same_problems() -> None:
    with serving(answers(problem("image-not-found", 404, "no such image"))) as service:
        async with AsyncClient(service.url) as client:
            with pytest.raises(ProblemError, match="no such image"):
                await client.get_image(IMAGE_ID)
            with pytest.raises(ProblemError, match="no such image"):
                await client.delete_image(IMAGE_ID)


def test_an_answer_of_something_else_is_a_problem_that_names_what_is_missing() -> None:
    with (
        serving(answers(reply({"hits": "none"}))) as service,
        Client(service.url) as client,
        pytest.raises(ProblemError, match=r"does not understand .*query_id.* of the same release"),
    ):
        client.search(SearchRequest())
