"""Searches: every kind of query, filters, pages, consistency, and answers while parts are missing."""

import asyncio
import io
import json
import time
import uuid
from typing import Any

import psycopg
from PIL import Image

from visualindex.api.search import SearchResponse
from visualindex.filters import matches, parse_filter

from .conftest import Served, found_keys, problem, put, spec_document
from .pictures import picture

COUNT = 12


async def fill(served: Served, count: int = COUNT, **fields: str) -> list[dict[str, Any]]:
    return [
        await put(
            served,
            seed,
            category="even" if seed % 2 == 0 else "odd",
            metadata=json.dumps({"seed": seed}),
            **fields,
        )
        for seed in range(count)
    ]


async def ask(served: Served, **request: Any) -> dict[str, Any]:
    answer = await served.client.post("/api/search", json=request)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    SearchResponse.model_validate_json(answer.content, strict=True)
    assert set(found) == set(SearchResponse.model_fields)
    return found


def keys(found: dict[str, Any]) -> list[str]:
    return [hit["key"] for hit in found["hits"]]


async def test_every_kind_of_query_finds_the_same(served: Served) -> None:
    written = await fill(served)
    token = written[-1]["token"]
    by_upload = await found_keys(served, 4, token=token, limit=5)
    embedded = await served.client.post("/internal/embedding", files={"image": ("p.jpg", picture(4))})
    vector = embedded.json()
    assert (len(vector["vector"]), vector["dimension"]) == (256, 256)
    by_vector = await ask(
        served,
        query={"vector": [2 * x for x in vector["vector"]], "fingerprint": vector["fingerprint"]},
        limit=5,
    )
    by_id = await ask(served, query={"image_id": written[4]["image_id"]}, include_self=True, limit=5)
    as_part = await served.client.post(
        "/api/search", files={"image": ("q.jpg", picture(4)), "request": (None, '{"limit": 5}')}
    )
    assert by_upload[0] == "k4"
    assert len(by_upload) == 5
    assert keys(by_vector) == keys(by_id) == keys(as_part.json()) == by_upload
    without_self = await ask(served, query={"image_id": written[4]["image_id"]}, limit=4)
    assert keys(without_self) == by_upload[1:]
    hit = by_id["hits"][0]
    assert hit["category"] == "even"
    assert hit["metadata"] == {"seed": 4}
    assert (await served.client.get(hit["thumbnails"]["128"])).status_code == 200


async def test_a_box_searches_with_a_region_of_the_picture(served: Served) -> None:
    await fill(served, 6)
    last = await put(served, 6)
    left, right = (Image.open(io.BytesIO(picture(seed))) for seed in (2, 5))
    pasted = Image.new("RGB", (640, 240))
    pasted.paste(left, (0, 0))
    pasted.paste(right, (320, 0))
    out = io.BytesIO()
    pasted.save(out, "PNG")
    for x, expected in ((0.0, "k2"), (0.5, "k5")):
        answer = await served.client.post(
            "/api/search",
            files={"image": ("q.png", out.getvalue())},
            data={
                "box": json.dumps({"x": x, "y": 0, "width": 0.5, "height": 1}),
                "token": last["token"],
                "limit": "1",
            },
        )
        assert [hit["key"] for hit in answer.json()["hits"]] == [expected]
    whole = await ask(
        served,
        query={"image_id": last["image_id"], "box": {"x": 0, "y": 0, "width": 1, "height": 1}},
        include_self=True,
        limit=1,
    )
    assert keys(whole) == ["k6"]


async def test_filters_and_least_scores_bound_the_hits(served: Served) -> None:
    written = await fill(served)
    token = written[-1]["token"]
    odd = await ask(
        served,
        query={"image_id": written[0]["image_id"]},
        filter={"eq": {"category": "odd"}, "range": {"metadata.seed": {"gte": 5}}},
        token=token,
    )
    assert sorted(keys(odd)) == ["k11", "k5", "k7", "k9"]
    everything = await ask(served, query={"image_id": written[0]["image_id"]})
    bound = everything["hits"][3]["score"] - 1e-5
    above = await ask(served, query={"image_id": written[0]["image_id"]}, min_score=bound)
    assert keys(above) == keys(everything)[:4]
    assert above["next_cursor"] is None


async def test_pages_go_on_where_the_last_one_ended(served: Served) -> None:
    written = await fill(served)
    query = {"image_id": written[0]["image_id"]}
    whole = keys(await ask(served, query=query, filter={"exists": "category"}, token=written[-1]["token"]))
    assert len(whole) == COUNT - 1
    page = await ask(served, query=query, filter={"exists": "category"}, limit=3)
    seen = keys(page)
    while page["next_cursor"]:
        page = await ask(served, cursor=page["next_cursor"], limit=4)
        seen += keys(page)
    assert seen == whole


async def test_a_page_is_whole_although_nearer_images_came_in_between(served: Served) -> None:
    written = await fill(served)
    query = {"image_id": written[0]["image_id"]}
    whole = keys(await ask(served, query=query, token=written[-1]["token"]))
    first = await ask(served, query=query, limit=2)
    token = ""
    for copy in range(8):  # more than a page of images that rank before the cursor
        answer = await served.client.post(
            "/api/images", files={"image": ("p.jpg", picture(0))}, data={"key": f"copy{copy}"}
        )
        token = answer.json()["token"]
    second = await ask(served, cursor=first["next_cursor"], limit=3, token=token)
    assert keys(second) == whole[2:5]
    third = await ask(served, cursor=second["next_cursor"], limit=20)
    assert keys(third) == whole[5:]
    assert third["next_cursor"] is None


async def test_equal_pictures_are_paged_without_loss(served: Served) -> None:
    token = ""
    for copy in range(7):
        answer = await served.client.post(
            "/api/images", files={"image": ("p.jpg", picture(1))}, data={"key": f"copy{copy}"}
        )
        token = answer.json()["token"]
    page = await served.client.post(
        "/api/search", files={"image": ("q.jpg", picture(1))}, data={"token": token, "limit": "2"}
    )
    seen, found = keys(page.json()), page.json()
    while found["next_cursor"]:
        found = await ask(served, cursor=found["next_cursor"], limit=2)
        seen += keys(found)
    assert sorted(seen) == [f"copy{copy}" for copy in range(7)]


async def test_a_cursor_carries_its_query_alone(served: Served) -> None:
    written = await fill(served, 4)
    query = {"image_id": written[0]["image_id"]}
    page = await ask(served, query=query, limit=1, token=written[-1]["token"])
    for extra in ({"query": query}, {"filter": {}}, {"min_score": 0.1}, {"include_self": True}):
        answer = await served.client.post("/api/search", json={"cursor": page["next_cursor"], **extra})
        assert "/cursor" in problem(answer, 422, "invalid-request")["detail"]
    cut = await served.client.post("/api/search", json={"cursor": page["next_cursor"][:-8]})
    problem(cut, 422, "invalid-request")


async def test_a_token_makes_its_write_visible_and_one_from_the_future_does_not(served: Served) -> None:
    for seed in range(5):
        token = (await put(served, seed))["token"]
        assert (await found_keys(served, seed, token=token, limit=1)) == [f"k{seed}"]
    epoch, _, xid = token.partition(".")
    ahead = f"{epoch}.{int(xid, 16) + 100_000:x}"
    query = {"vector": [1.0] * 256}
    answer = await served.client.post("/api/search", json={"query": query, "token": ahead, "timeout_ms": 500})
    assert problem(answer, 412, "not-caught-up")["behind_ms"] >= 0
    assert answer.headers["retry-after"]
    assert (await ask(served, query=query, token=ahead, consistency="eventual"))["complete"]
    strong = await ask(served, query=query, consistency="strong", explain=True)
    assert strong["explain"]["shards"][0]["rows"] == 5


async def test_strong_consistency_sees_every_acknowledged_write(served: Served) -> None:
    for seed in range(4):
        await put(served, seed)
        assert (await found_keys(served, seed, consistency="strong", limit=1)) == [f"k{seed}"]


async def test_a_missing_shard_makes_an_answer_incomplete_and_none_makes_it_a_problem(serve: Any) -> None:
    async with serve(spec_document(index={"shards": 2}, limits={"searchTimeoutMs": 1000})) as served:
        written = await fill(served)
        query = {"image_id": written[0]["image_id"]}
        assert (await ask(served, query=query, consistency="strong"))["complete"]
        served.shards.broken.add(("things", 0))
        half = await ask(served, query=query, explain=True)
        assert not half["complete"]
        assert half["explain"]["shards"][0]["error"] == "A part of the service is unavailable"
        assert 0 < len(half["hits"]) < COUNT
        assert all(hit["metadata"] for hit in half["hits"])
        served.shards.broken.clear()
        served.shards.stalled.add(("things", 1))
        stalled = await ask(served, query=query, explain=True)
        assert [shard["answered"] for shard in stalled["explain"]["shards"]] == [True, False]
        assert stalled["explain"]["shards"][1]["error"] == "The deadline passed before the answer was ready"
        assert not stalled["complete"]
        assert stalled["degraded"] == []
        assert all(hit["metadata"] for hit in stalled["hits"])
        served.shards.stalled.add(("things", 0))
        problem(await served.client.post("/api/search", json={"query": query}), 504, "deadline-exceeded")
        served.shards.stalled.clear()
        served.shards.broken.update({("things", 0), ("things", 1)})
        problem(await served.client.post("/api/search", json={"query": query}), 503, "unavailable")
        readiness = await served.client.get("/readyz")
        assert (readiness.status_code, readiness.json()["status"]) == (503, "unready")
        assert readiness.json()["reasons"] == {"things": "no shard answers"}


class Unresolving:
    """A resolver whose name server never answers."""

    async def resolve(self, host: str, port: int) -> Any:
        await asyncio.Event().wait()

    async def close(self) -> None:
        pass


async def test_no_search_outlives_its_deadline(served: Served) -> None:
    fetcher = served.app.state.service.indexes["things"].fetcher
    fetcher._pool._network_backend._resolver = Unresolving()
    start = time.monotonic()
    answer = await served.client.post(
        "/api/search", json={"query": {"image_url": "http://slow.example/p.jpg"}, "timeout_ms": 300}
    )
    assert answer.status_code in (422, 504)
    assert time.monotonic() - start < 60  # it returned at all: nothing else would have ended it
    problem(answer, answer.status_code, "deadline-exceeded" if answer.status_code == 504 else "fetch-failed")


async def test_hits_come_with_what_is_remembered_of_them_while_the_database_is_away(serve: Any) -> None:
    async with serve(spec_document()) as served:
        written = await fill(served, 4)
        assert await found_keys(served, 1, token=written[-1]["token"], limit=1) == ["k1"]
        catalog = served.app.state.service.catalog
        await catalog.connections.close()
        answer = await served.client.post("/api/search", files={"image": ("q.jpg", picture(1))})
        found = answer.json()
        assert found["degraded"] == ["metadata"]
        assert found["hits"][0]["image_id"] == written[1]["image_id"]
        remembered, *others = [hit["metadata"] for hit in found["hits"]]
        assert (remembered, others) == ({"seed": 1}, [None] * 3)
        problem(await served.client.get(f"/api/images/{written[1]['image_id']}"), 503, "unavailable")
        assert (await served.client.get("/healthz")).json() == {"status": "ok"}
        readiness = await served.client.get("/readyz")
        assert readiness.status_code == 503
        assert readiness.json()["reasons"] == {"database": "the database does not answer"}


async def test_what_was_remembered_of_a_hit_never_hides_a_change(served: Served) -> None:
    written = await put(served, 1, metadata=json.dumps({"price": 1}))
    path = f"/api/images/{written['image_id']}"

    async def prices(token: str) -> list[int]:
        found = await ask(served, query={"image_id": written["image_id"]}, include_self=True, token=token)
        return [hit["metadata"]["price"] for hit in found["hits"]]

    assert await prices(written["token"]) == [1]
    patched = (await served.client.patch(path, json={"metadata": {"price": 2}})).json()
    assert await prices(patched["token"]) == [2]
    other = await put(served, 2, metadata=json.dumps({"price": 3}))
    gone = (await served.client.delete(path)).json()
    found = await ask(served, query={"image_id": other["image_id"]}, include_self=True, token=gone["token"])
    assert keys(found) == ["k2"]


async def test_searches_are_logged_under_a_pseudonym(served: Served) -> None:
    written = await fill(served, 3)
    found = await ask(
        served, query={"image_id": written[0]["image_id"]}, user_id="alice", token=written[-1]["token"]
    )
    again = await ask(served, query={"vector": [1.0] * 256}, user_id="alice", filter={"exists": "category"})
    await served.app.state.service.search_log.close()
    with psycopg.connect(served.dsn) as connection:
        rows = connection.execute(
            "SELECT query_id, user_id, image_id, matched_ids, query_kind, filter FROM user_search_logs "
            "ORDER BY search_time"
        ).fetchall()
    assert [str(row[0]) for row in rows] == [found["query_id"], again["query_id"]]
    assert rows[0][1] == rows[1][1] != "alice"
    assert [str(i) for i in rows[0][3]] == [hit["image_id"] for hit in found["hits"]]
    assert (str(rows[0][2]), rows[0][4], rows[1][4]) == (written[0]["image_id"], "image_id", "vector")
    assert rows[1][5] == {"exists": "category"}


async def test_feedback_is_stored_and_bounded(served: Served) -> None:
    event = {"query_id": str(uuid.uuid4()), "image_id": str(uuid.uuid4()), "event": "click", "position": 2}
    answer = await served.client.post(
        "/api/feedback", json={"events": [event, {**event, "event": "purchase"}]}
    )
    assert (answer.status_code, answer.json()) == (202, {"accepted": 2})
    with psycopg.connect(served.dsn) as connection:
        rows = connection.execute("SELECT kind, position FROM feedback_events ORDER BY kind").fetchall()
    assert rows == [("click", 2), ("purchase", 2)]
    headers = {"Idempotency-Key": "clicks-1"}
    for _ in range(2):
        await served.client.post("/api/feedback", json={"events": [event, event]}, headers=headers)
    with psycopg.connect(served.dsn) as connection:
        (count,) = connection.execute("SELECT count(*) FROM feedback_events").fetchone() or (0,)
    assert count == 4
    wrong = [
        {"events": []},
        {"events": [event] * 1001},
        {"events": [{**event, "event": "shrug"}]},
        {"events": [{**event, "position": -1}]},
        {"events": [{**event, "at": "0001-01-01T00:00:00+14:00"}]},
        {"events": [{**event, "at": "9999-12-31T23:59:59Z"}]},
        {"events": [{**event, "at": "yesterday"}]},
    ]
    for document in wrong:
        problem(await served.client.post("/api/feedback", json=document), 422, "invalid-request")


async def test_hits_match_the_filter_as_its_language_says(served: Served) -> None:
    written = await fill(served)
    token = written[-1]["token"]
    for document in (
        {"not": {"eq": {"category": "odd"}}},
        {"or": [{"eq": {"metadata.seed": 3}}, {"in": {"metadata.seed": [5, 8]}}]},
        {"prefix": {"category": "ev"}, "range": {"metadata.seed": {"lt": 5}}},
        {},
    ):
        found = await ask(served, query={"vector": [1.0] * 256}, filter=document, token=token, limit=50)
        tree = parse_filter(document)
        expected = {
            f"k{seed}"
            for seed in range(COUNT)
            if matches(tree, {"category": "odd" if seed % 2 else "even", "metadata": {"seed": seed}})
        }
        assert set(keys(found)) == expected


async def test_numbers_beyond_64_bits_come_back_in_the_hits(served: Served) -> None:
    written = await put(served, 3, metadata='{"mass_kg": 5.97e24}')
    found = await ask(
        served, query={"image_id": written["image_id"]}, include_self=True, token=written["token"]
    )
    assert [hit["metadata"] for hit in found["hits"]] == [{"mass_kg": 5.97e24}]
