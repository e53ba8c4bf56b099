"""Images: stored once, seen at once, changed, listed, and erased everywhere."""

import asyncio
import io
import json
import threading
import uuid
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import httpx
import psycopg
import pytest
from PIL import Image

from visualindex.objectstore import original_key
from visualindex_serving.erasing import erase_objects

from .conftest import Served, found_keys, problem, put, spec_document
from .pictures import picture

Requests = list[dict[str, Any]]


async def view(served: Served, image_id: str) -> dict[str, Any]:
    answer = await served.client.get(f"/api/images/{image_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_an_image_is_stored_as_it_came(served: Served) -> None:
    fields = {
        "key": "SKU 1/ö",
        "category": "Chairs",
        "url": "https://shop.example/1",
        "metadata": {"price": 1.5},
    }
    parts = {"image": ("p.jpg", picture(1)), "request": (None, json.dumps(fields))}
    answer = await served.client.post("/api/images", files=parts)
    assert answer.status_code == 201
    written = answer.json()
    assert (written["created"], written["key"], written["embedding"]["state"]) == (True, "SKU 1/ö", "stored")
    found = await view(served, written["image_id"])
    assert {name: found[name] for name in fields} == fields
    assert (found["width"], found["height"], found["media_type"]) == (320, 240, "image/jpeg")
    assert found["size_bytes"] == len(picture(1))
    content = await served.client.get(f"/api/images/{written['image_id']}/content")
    assert content.content == picture(1)
    assert content.headers["cache-control"] == "private, no-cache"
    assert content.headers["x-content-type-options"] == "nosniff"
    etag = {"If-None-Match": content.headers["etag"]}
    again = await served.client.get(f"/api/images/{written['image_id']}/content", headers=etag)
    assert (again.status_code, again.content) == (304, b"")


async def test_an_image_and_hits_tell_its_colours(served: Served) -> None:
    out = io.BytesIO()
    Image.new("RGB", (120, 80), (200, 20, 20)).save(out, "PNG")
    answer = await served.client.post("/api/images", files={"image": ("red.png", out.getvalue())})
    written = answer.json()
    (colour,) = (await view(served, written["image_id"]))["colours"]
    assert colour == {"hex": "#ce1010", "share": 1.0, "name": "red"}
    query = {"query": {"image_id": written["image_id"]}, "include_self": True, "token": written["token"]}
    (hit,) = (await served.client.post("/api/search", json=query)).json()["hits"]
    assert hit["colours"] == [colour]


async def test_an_image_becomes_indexed(served: Served) -> None:
    written = await put(served, 1)
    assert await found_keys(served, 1, token=written["token"], limit=1) == ["k1"]
    replica = await served.shards.replica("things", 0)
    await replica._lease()
    assert (await view(served, written["image_id"]))["embedding"]["state"] == "indexed"


async def test_the_same_key_replaces_and_every_change_is_seen(served: Served) -> None:
    first = await put(served, 1)
    answer = await served.client.post(
        "/api/images", files={"image": ("p.jpg", picture(2))}, data={"key": "k1", "category": "new"}
    )
    assert answer.status_code == 200
    second = answer.json()
    assert (second["image_id"], second["created"]) == (first["image_id"], False)
    found = await served.client.post(
        "/api/search", files={"image": ("q.jpg", picture(2))}, data={"token": second["token"], "limit": "5"}
    )
    (hit,) = found.json()["hits"]
    assert (hit["category"], hit["score"] > 0.999) == ("new", True)
    gone = await served.client.delete(f"/api/images/{first['image_id']}")
    assert await found_keys(served, 2, token=gone.json()["token"]) == []
    back = await put(served, 1)
    assert (back["image_id"], back["created"]) == (first["image_id"], True)
    assert await found_keys(served, 1, token=back["token"]) == ["k1"]


async def test_an_image_whose_original_is_gone_is_there_and_says_what_to_do(served: Served) -> None:
    image_id = (await put(served, 1))["image_id"]
    store = served.app.state.service.indexes["things"].store
    digest = bytes.fromhex((await view(served, image_id))["content_digest"])
    await store.delete([original_key("things", digest)])
    answer = await served.client.get(f"/api/images/{image_id}/content")
    problem(answer, 404, "not-found")
    assert "is missing in the object store" in answer.json()["detail"]
    assert "Put it again" in answer.json()["detail"]
    await put(served, 1)
    assert (await served.client.get(f"/api/images/{image_id}/content")).content == picture(1)


async def test_a_deleted_image_is_erased_everywhere(served: Served) -> None:
    kept = await put(served, 2)
    written = await put(served, 1)
    image_id = written["image_id"]
    digest = bytes.fromhex((await view(served, image_id))["content_digest"])
    service = served.app.state.service
    index = service.indexes["things"]
    thumbnail = f"/api/thumbnails/things/128/{digest.hex()}.webp"
    assert (await served.client.get(thumbnail)).status_code == 200
    assert len([key async for key in index.store.list("things/") if digest.hex() in key]) == 2
    token = (await served.client.delete(f"/api/images/{image_id}")).json()["token"]
    for path in (f"/api/images/{image_id}", f"/api/images/{image_id}/content"):
        problem(await served.client.get(path), 404, "image-not-found")
    problem(await served.client.delete(f"/api/images/{image_id}"), 404, "image-not-found")
    problem(await served.client.patch(f"/api/images/{image_id}", json={}), 404, "image-not-found")
    by_id = await served.client.post("/api/search", json={"query": {"image_id": image_id}})
    problem(by_id, 404, "image-not-found")
    assert await found_keys(served, 1, token=token) == [kept["key"]]

    async def delete(name: str, gone: bytes) -> None:
        assert name == "things"
        await erase_objects(index, gone)

    assert await service.catalog.sweep_erasures(delete, ["things"]) == 1
    problem(await served.client.get(thumbnail), 404, "not-found")
    left = [key async for key in index.store.list("things/")]
    assert left == [original_key("things", sha256(picture(2)).digest())]
    with psycopg.connect(served.dsn) as connection:
        for table in ("images", "image_embeddings"):
            rows = connection.execute(f"SELECT image_id::text FROM {table}").fetchall()
            assert rows == [(kept["image_id"],)]


async def test_a_patch_merges_and_null_removes(served: Served) -> None:
    document = json.dumps({"a": 1, "b": {"c": 2, "d": 3}, "e": [1]})
    written = await put(served, 1, category="old", url="https://a.example", metadata=document)
    path = f"/api/images/{written['image_id']}"

    async def patch(**change: Any) -> dict[str, Any]:
        media = {"Content-Type": "application/merge-patch+json"}
        answer = await served.client.patch(path, content=json.dumps(change), headers=media)
        assert answer.status_code == 200, answer.text
        changed: dict[str, Any] = answer.json()
        return changed

    await patch(metadata={"a": None, "b": {"d": 4}, "f": "g"})
    found = await view(served, written["image_id"])
    assert found["metadata"] == {"b": {"c": 2, "d": 4}, "e": [1], "f": "g"}
    assert (found["category"], found["url"]) == ("old", "https://a.example")
    token = (await patch(category="new", url=None))["token"]
    assert await found_keys(served, 1, filter={"eq": {"category": "new"}}, token=token) == ["k1"]
    assert await found_keys(served, 1, filter={"eq": {"category": "old"}}) == []
    await patch(metadata=None, category=None)
    found = await view(served, written["image_id"])
    assert (found["metadata"], found["category"], found["url"]) == ({}, None, None)
    limited = await served.client.patch(path, json={"metadata": {"x": "y" * 10_000}})
    assert limited.status_code == 200
    grown = await served.client.patch(path, json={"metadata": {"z": "y" * 10_000}})
    problem(grown, 413, "request-too-large")
    for wrong in ({"metadata": []}, {"key": "k"}, {"image_url": "http://a"}, {"category": 1}):
        problem(await served.client.patch(path, json=wrong), 422, "invalid-request")


async def test_a_list_is_walked_from_new_to_old(served: Served) -> None:
    written = [await put(served, seed, category=str(seed % 2)) for seed in range(5)]
    newest_first = [one["image_id"] for one in reversed(written)]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = (
            await served.client.get(
                "/api/images", params={"limit": 2, **({"cursor": cursor} if cursor else {})}
            )
        ).json()
        assert len(page["images"]) <= 2
        seen += [image["image_id"] for image in page["images"]]
        cursor = page["next_cursor"]
    assert seen == newest_first
    odd = (await served.client.get("/api/images", params={"category": "1"})).json()
    assert [image["key"] for image in odd["images"]] == ["k3", "k1"]
    assert (await served.client.get("/api/images", params={"category": "\0"})).json()["images"] == []


async def create(served: Served, key: str, seed: int, **fields: str) -> httpx.Response:
    return await served.client.post(
        "/api/images",
        files={"image": ("p.jpg", picture(seed))},
        data=fields,
        headers={"Idempotency-Key": key},
    )


async def test_a_repeat_under_an_idempotency_key_hears_the_first_answer(served: Served) -> None:
    first = await create(served, "one", 1)
    again = await create(served, "one", 1)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    problem(await create(served, "one", 2), 409, "idempotency-conflict")
    problem(await create(served, "one", 1, category="other"), 409, "idempotency-conflict")
    other = await create(served, "two", 1)
    assert other.json()["image_id"] != first.json()["image_id"]
    for bad in ("k" * 256, "\t"):
        problem(await create(served, bad, 1), 422, "invalid-request")


async def test_concurrent_repeats_write_once(served: Served) -> None:
    answers = await asyncio.gather(*(create(served, "same", 1) for _ in range(5)))
    done = [answer.json()["image_id"] for answer in answers if answer.status_code == 201]
    for answer in answers:
        if answer.status_code != 201:
            problem(answer, 409, "idempotency-in-progress")
    assert done
    assert len(set(done)) == 1
    assert len((await served.client.get("/api/images")).json()["images"]) == 1


async def test_a_batch_of_files_answers_for_each(served: Served) -> None:
    files = [("images", (f"{seed}.jpg", picture(seed))) for seed in range(3)]
    files.insert(1, ("images", ("broken.jpg", b"no picture")))
    answer = await served.client.post("/api/images/batch", files=files)
    assert answer.status_code == 200, answer.text
    result = answer.json()
    assert (result["succeeded"], result["failed"]) == (3, 1)
    assert [item["position"] for item in result["items"]] == [0, 1, 2, 3]
    assert result["items"][1]["problem"]["type"].endswith("unsupported-image")
    assert [item["written"]["key"] for item in result["items"] if item["written"]] == [
        "0.jpg",
        "1.jpg",
        "2.jpg",
    ]
    token = result["items"][3]["written"]["token"]
    assert await found_keys(served, 2, token=token, limit=1) == ["2.jpg"]


async def test_a_batch_of_files_is_described_by_its_request(served: Served) -> None:
    images: Requests = [{"key": "a", "category": "x"}, {"kee": "b"}, {"key": "c", "metadata": {"n": 1}}]
    files: list[Any] = [("images", (f"{seed}.jpg", picture(seed))) for seed in range(3)]
    request = ("request", (None, json.dumps({"images": images}), "application/json"))
    result = (await served.client.post("/api/images/batch", files=[*files, request])).json()
    assert (result["succeeded"], result["failed"]) == (2, 1)
    assert "did you mean key?" in result["items"][1]["problem"]["detail"]
    answer = await served.client.post("/api/images/batch", files=[*files[:2], request])
    problem(answer, 422, "invalid-request")


@pytest.mark.parametrize("shape", ["lines", "list"])
async def test_a_batch_of_urls_answers_for_each(served: Served, shape: str) -> None:
    images: Requests = [
        {"key": "a", "image_url": "http://127.0.0.1/p.jpg"},
        {"key": "b"},
        {"key": "c", "image_url": 5},
    ]
    if shape == "lines":
        body = "\n".join(map(json.dumps, images)) + "\n\n{broken\n"
        media = {"Content-Type": "application/x-ndjson"}
        answer = await served.client.post("/api/images/batch", content=body, headers=media)
        expected = ["fetch-refused", "invalid-request", "invalid-request", "malformed-body"]
    else:
        answer = await served.client.post("/internal/index", json={"images": images})
        expected = ["fetch-refused", "invalid-request", "invalid-request"]
    result = answer.json()
    assert answer.status_code == 200, answer.text
    assert [item["problem"]["type"].rpartition("/")[2] for item in result["items"]] == expected
    assert (result["succeeded"], result["failed"]) == (0, len(expected))


class Pictures(BaseHTTPRequestHandler):
    """An image host that counts what it is asked for."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        body = picture(len(self.asked))
        self.send_response(200)
        self.send_header("Content-Type", "image/jpeg")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def image_host() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    Pictures.asked.clear()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


async def test_a_batch_of_urls_holds_no_more_than_a_request_may_have(serve: Any, image_host: str) -> None:
    limit = 3 * max(len(picture(seed)) for seed in range(1, 41))
    port = int(image_host.rpartition(":")[2])
    fetch = {"allowHosts": [image_host], "ports": [port]}
    async with serve(spec_document(limits={"requestBytes": limit}, fetch=fetch)) as served:
        images = [{"key": f"k{n}", "image_url": f"http://{image_host}/{n}.jpg"} for n in range(40)]
        answer = await served.client.post("/api/images/batch", json={"images": images})
        assert answer.status_code == 200, answer.text
        refused = [item["problem"] for item in answer.json()["items"] if item["problem"]]
        assert answer.json()["succeeded"] >= 3
        assert refused
        assert {(one["status"], one.get("limit")) for one in refused} == {(413, limit)}
        assert len(Pictures.asked) < 20


async def test_a_batch_is_bounded_and_repeatable(serve: Any) -> None:
    async with serve(spec_document(limits={"batchImages": 3})) as served:
        files = [("images", (f"{seed}.jpg", picture(seed))) for seed in range(4)]
        answer = await served.client.post("/api/images/batch", files=files)
        assert problem(answer, 413, "request-too-large")["limit"] == 3
        lines = b'{"key": "a", "image_url": "http://a.example/p.jpg"}\n' * 4
        media = {"Content-Type": "application/x-ndjson"}
        problem(
            await served.client.post("/api/images/batch", content=lines, headers=media),
            413,
            "request-too-large",
        )
        key = {"Idempotency-Key": "batch"}
        first = await served.client.post("/api/images/batch", files=files[:2], headers=key)
        again = await served.client.post("/api/images/batch", files=files[:2], headers=key)
        assert first.json() == again.json()
        assert first.json()["succeeded"] == 2
        conflict = await served.client.post("/api/images/batch", files=files[1:3], headers=key)
        problem(conflict, 409, "idempotency-conflict")


async def test_the_last_of_equal_keys_in_a_batch_counts(served: Served) -> None:
    images = {"images": [{"key": "same", "category": "first"}, {"key": "same", "category": "last"}]}
    files: list[Any] = [("images", (f"{seed}.jpg", picture(seed))) for seed in range(2)]
    result = (
        await served.client.post("/api/images/batch", files=[*files, ("request", (None, json.dumps(images)))])
    ).json()
    assert result["succeeded"] == 2
    assert (await view(served, result["items"][0]["written"]["image_id"]))["category"] == "last"


async def test_thumbnails_are_cached_for_ever_and_heads_are_answered(served: Served) -> None:
    written = await put(served, 1)
    thumbnails = (await view(served, written["image_id"]))["thumbnails"]
    assert sorted(thumbnails, key=int) == ["128", "320", "640"]
    path = thumbnails["128"]
    answer = await served.client.get(path)
    assert answer.headers["content-type"] == "image/webp"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.content[8:12] == b"WEBP"
    for tag in (answer.headers["etag"], f"W/{answer.headers['etag']}", '"x", ' + answer.headers["etag"], "*"):
        cached = await served.client.get(path, headers={"If-None-Match": tag})
        assert (cached.status_code, cached.content, cached.headers["etag"]) == (
            304,
            b"",
            answer.headers["etag"],
        )
    assert (await served.client.get(path, headers={"If-None-Match": '"x"'})).status_code == 200
    for known in (
        path,
        "/healthz",
        "/readyz",
        "/",
        f"/api/images/{written['image_id']}/content",
        "/api/images",
    ):
        got, head = await served.client.get(known), await served.client.head(known)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-length"] == got.headers["content-length"]
    digest = "0" * 64
    for wrong in (
        f"things/128/{digest}.webp",
        f"things/129/{digest}.webp",
        f"things/x/{digest}.webp",
        f"other/128/{digest}.webp",
        "things/128/..%2f.webp",
        f"things/128/{digest}.jpg",
    ):
        assert (await served.client.get(f"/api/thumbnails/{wrong}")).status_code in (401, 404)


async def test_an_index_tells_its_size(served: Served) -> None:
    await put(served, 1)
    (index,) = (await served.client.get("/api/indexes")).json()
    assert (index["name"], index["images"], index["dimension"]) == ("things", 1, 256)
    assert (await served.client.get("/api/indexes/things")).json()["fingerprint"] == index["fingerprint"]
    problem(await served.client.get("/api/indexes/other"), 404, "index-not-found")


async def test_an_image_id_of_the_callers_own_is_kept(served: Served) -> None:
    own = str(uuid.uuid4())
    for created in (True, False):
        answer = await served.client.post(
            "/api/images", files={"image": ("p.jpg", picture(1))}, data={"image_id": own}
        )
        assert (answer.json()["image_id"], answer.json()["created"]) == (own, created)
