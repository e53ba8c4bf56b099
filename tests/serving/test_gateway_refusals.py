"""Whatever is wrong with a request, it is told so in a problem document that names the place; nothing gives 500."""

import json
from typing import Any

import httpx
import pytest

from .conftest import Served, problem
from .pictures import picture

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"Content-Type": "application/json"}
IMAGE = {"image": ("p.jpg", picture(1))}
NOWHERE = "00000000-0000-4000-8000-000000000000"


async def send(served: Served, path: str, body: bytes, media: str = "application/json") -> httpx.Response:
    method = "PATCH" if path.startswith(f"/api/images/{NOWHERE}") else "POST"
    return await served.client.request(method, path, content=body, headers={"Content-Type": media})


BODY_PATHS = (
    "/api/search",
    "/api/images",
    "/api/images/batch",
    f"/api/images/{NOWHERE}",
    "/api/feedback",
    "/internal/embedding",
    "/internal/index",
)


@pytest.mark.parametrize("path", BODY_PATHS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"{",
        b'{"limit": NaN}',
        b'{"limit": Infinity}',
        b'{"limit": 1e999}',
        b'{"key": "\xff\xfe"}',
        b'{"key": "\\ud800"}',
        b"[" * 100_000,
        b'{"a":' * 5_000 + b"1" + b"}" * 5_000,
    ],
    ids=["empty", "blank", "cut", "nan", "infinity", "overflow", "not-utf8", "surrogate", "deep", "deeper"],
)
async def test_a_body_that_is_not_json_is_malformed(shared: Served, path: str, body: bytes) -> None:
    problem(await send(shared, path, body), 400, "malformed-body")


@pytest.mark.parametrize("path", BODY_PATHS)
@pytest.mark.parametrize(
    "body",
    [b"[]", b"null", b'"text"', b"17", b'{"index": "a\\u0000"}', b'{"\\u0000": 1}'],
    ids=["list", "null", "text", "number", "nul", "nul-key"],
)
async def test_a_body_that_is_json_but_not_what_is_asked_for_is_invalid(
    shared: Served, path: str, body: bytes
) -> None:
    problem(await send(shared, path, body), 422, "invalid-request")


@pytest.mark.parametrize("path", BODY_PATHS)
@pytest.mark.parametrize("media", ["", "text/plain", "application/x-www-form-urlencoded", "image/jpeg"])
async def test_another_media_type_is_refused_with_the_ones_that_are_read(
    shared: Served, path: str, media: str
) -> None:
    document = problem(await send(shared, path, b"{}", media), 415, "unsupported-media-type")
    assert "application/json" in document["detail"]


async def test_a_compressed_body_is_refused(shared: Served) -> None:
    answer = await shared.client.post(
        "/api/search", content=b"x", headers={**JSON, "Content-Encoding": "gzip"}
    )
    problem(answer, 415, "unsupported-media-type")


@pytest.mark.parametrize(
    ("path", "document", "pointer", "words"),
    [
        ("/api/search", {"querry": {}}, "/querry", "did you mean query?"),
        ("/api/search", {"query": {"img_url": "http://a"}}, "/query/img_url", "did you mean image_url?"),
        ("/api/search", {"zzz": 1}, "/zzz", "known are"),
        ("/api/images", {"keys": "a"}, "/keys", "did you mean key?"),
        ("/api/images", {"a/b~c": "a"}, "/a~1b~0c", "unknown key"),
        ("/api/feedback", {"events": [{"even": "click"}]}, "/events/0/even", "did you mean event?"),
    ],
)
async def test_an_unknown_key_is_named_with_the_nearest_known_one(
    shared: Served, path: str, document: dict[str, Any], pointer: str, words: str
) -> None:
    errors = problem(await send(shared, path, json.dumps(document).encode()), 422, "invalid-request")[
        "errors"
    ]
    assert words in next(e["message"] for e in errors if e["pointer"] == pointer)


VECTOR = {"vector": [1.0] * 256}


@pytest.mark.parametrize(
    ("document", "pointer"),
    [
        ({"query": VECTOR, "limit": 0}, "/limit"),
        ({"query": VECTOR, "limit": 201}, "/limit"),
        ({"query": VECTOR, "limit": "5"}, "/limit"),
        ({"query": VECTOR, "limit": True}, "/limit"),
        ({"query": VECTOR, "limit": 10**30}, "/limit"),
        ({"query": VECTOR, "min_score": 1.5}, "/min_score"),
        ({"query": VECTOR, "timeout_ms": 0}, "/timeout_ms"),
        ({"query": VECTOR, "consistency": "weak"}, "/consistency"),
        ({"query": VECTOR, "token": "garbage"}, "/token"),
        ({"query": VECTOR, "token": "-1.-1"}, "/token"),
        ({"query": VECTOR, "token": "1_0.1"}, "/token"),
        ({"query": VECTOR, "token": "1.2\n"}, "/token"),
        ({"query": VECTOR, "index": "Things"}, "/index"),
        ({"query": VECTOR, "user_id": "u" * 129}, "/user_id"),
        ({"query": {}}, "/query"),
        ({}, "/query"),
        ({"query": {**VECTOR, "image_url": "http://a/b.jpg"}}, "/query"),
        ({"query": {**VECTOR, "box": {"x": 0, "y": 0, "width": 1, "height": 1}}}, "/query"),
        ({"query": {"image_id": "not-a-uuid"}}, "/query/image_id"),
        ({"query": {"vector": [0.0] * 256}}, "/query/vector"),
        ({"query": {"vector": [1e300] * 256}}, "/query/vector"),
        ({"query": {"vector": ["1"] * 256}}, "/query/vector/0"),
        ({"query": {"image_url": "x" * 5000}}, "/query/image_url"),
        (
            {"query": {"image_id": NOWHERE, "box": {"x": 0.5, "y": 0, "width": 0.6, "height": 1}}},
            "/query/box",
        ),
        ({"cursor": "x"}, "/cursor"),
        ({"cursor": "é"}, "/cursor"),
        ({"cursor": "djEAAAAA"}, "/cursor"),
    ],
)
async def test_a_search_is_told_where_it_is_wrong(
    shared: Served, document: dict[str, Any], pointer: str
) -> None:
    found = problem(await shared.client.post("/api/search", json=document), 422, "invalid-request")
    assert found["errors"][0]["pointer"] == pointer
    assert len(found["errors"]) <= 20


async def test_a_vector_of_another_encoder_is_refused(shared: Served) -> None:
    for query in ({"vector": [1.0, 2.0]}, {**VECTOR, "fingerprint": "other"}):
        answer = await shared.client.post("/api/search", json={"query": query})
        problem(answer, 422, "fingerprint-mismatch")


@pytest.mark.parametrize(
    "filter_",
    [
        {"equals": {"category": "a"}},
        {"eq": {"colour": "a"}},
        {"eq": {"category": None}},
        {"and": []},
        {"in": {"category": ["x" * 1000] * 200}},
        {"not": {"not": {"not": {"not": {"not": {"not": {"not": {"not": {"eq": {"category": "a"}}}}}}}}}},
    ],
)
async def test_a_wrong_filter_is_refused(shared: Served, filter_: dict[str, Any]) -> None:
    answer = await shared.client.post("/api/search", json={"query": VECTOR, "filter": filter_})
    assert "pointer" in problem(answer, 422, "invalid-filter")


async def test_a_filter_at_the_limits_of_nesting_is_served(shared: Served) -> None:
    leaf: dict[str, Any] = {"eq": {"category": "a", "metadata.b": 1}}
    for _ in range(7):
        leaf = {"not": leaf}
    answer = await shared.client.post("/api/search", json={"query": VECTOR, "filter": leaf})
    assert answer.status_code == 200, answer.text


BOUNDARY = "multipart/form-data; boundary=b"


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("multipart/form-data", b"--b--"),
        (BOUNDARY, b""),
        (BOUNDARY, b"nothing like a form"),
        (BOUNDARY, b'--b\r\nContent-Disposition: form-data; name="limit"\r\n\r\n5'),
        (BOUNDARY, b"--b\r\nContent-Disposition: form-data\r\n\r\n5\r\n--b--\r\n"),
        (BOUNDARY, b'--b\r\nContent-Disposition: form-data; name="key"\r\n\r\n\xff\r\n--b--\r\n'),
        (BOUNDARY, b'--b\r\nContent-Disposition: form-data; name="box"\r\n\r\nNaN\r\n--b--\r\n'),
        (BOUNDARY, b'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\nabc\r\n--b--\r\n'),
        (BOUNDARY, b"--b\r\n" + b"X: y\r\n" * 500 + b"\r\n5\r\n--b--\r\n"),
        (BOUNDARY, b'--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n' * 3000 + b"--b--\r\n"),
    ],
    ids=[
        "no-boundary",
        "empty",
        "text",
        "cut",
        "nameless",
        "latin1",
        "not-json",
        "plain-image",
        "headers",
        "parts",
    ],
)
async def test_a_broken_form_is_malformed(shared: Served, media: str, body: bytes) -> None:
    for path in ("/api/search", "/api/images", "/api/images/batch", "/internal/embedding"):
        problem(await send(shared, path, body, media), 400, "malformed-body")


async def test_what_a_form_says_twice_or_misnames_is_malformed(shared: Served) -> None:
    forms: list[dict[str, Any]] = [
        {"files": {**IMAGE, "request": (None, '{"limit": 3}')}, "data": {"limit": "4"}},
        {"files": {"picture": ("p.jpg", picture(1))}},
        {"files": [("image", ("a.jpg", picture(1))), ("image", ("b.jpg", picture(2)))]},
        {"files": {**IMAGE, "request": (None, '{"query": {"box": null}}')}, "data": {"box": "null"}},
    ]
    for form in forms:
        problem(await shared.client.post("/api/search", **form), 400, "malformed-body")


async def test_a_form_whose_query_is_no_object_is_invalid(shared: Served) -> None:
    box = '{"x": 0, "y": 0, "width": 1, "height": 1}'
    answer = await shared.client.post("/api/search", files=IMAGE, data={"query": "5", "box": box})
    problem(answer, 422, "invalid-request")


@pytest.mark.parametrize(
    ("data", "status", "slug"),
    [
        (b"", 422, "invalid-image"),
        (b"no picture", 415, "unsupported-image"),
        (picture(1)[:200], 422, "invalid-image"),
    ],
)
async def test_a_bad_picture_is_told_apart(shared: Served, data: bytes, status: int, slug: str) -> None:
    for path in ("/api/search", "/api/images", "/internal/embedding"):
        problem(await shared.client.post(path, files={"image": ("p.jpg", data)}), status, slug)


async def test_one_picture_is_needed_and_not_two(shared: Served) -> None:
    both = {"files": IMAGE, "data": {"image_url": "http://example.com/p.jpg"}}
    for path in ("/api/search", "/api/images", "/internal/embedding", "/internal/index"):
        problem(await shared.client.post(path, **both), 422, "invalid-request")
        problem(await shared.client.post(path, json={}), 422, "invalid-request")


@pytest.mark.parametrize(
    ("metadata", "status", "slug"),
    [
        ({"a": "x" * 20_000}, 413, "request-too-large"),
        ({"a": [[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]}, 422, "invalid-request"),
        ({"a": "\0"}, 422, "invalid-request"),
        ({"a\0": 1}, 422, "invalid-request"),
        ([], 422, "invalid-request"),
        ("text", 422, "invalid-request"),
    ],
)
async def test_metadata_has_limits(shared: Served, metadata: Any, status: int, slug: str) -> None:
    answer = await shared.client.post("/api/images", files=IMAGE, data={"metadata": json.dumps(metadata)})
    problem(answer, status, slug)


async def test_a_private_address_is_not_fetched(shared: Served) -> None:
    for path, wrap in (("/api/search", True), ("/api/images", False), ("/internal/embedding", False)):
        asked = {"image_url": "http://127.0.0.1:9/p.jpg"}
        answer = await shared.client.post(path, json={"query": asked} if wrap else asked)
        problem(answer, 422, "fetch-refused")


async def test_paths_and_methods_that_do_not_exist_are_told_so(shared: Served) -> None:
    problem(await shared.client.get("/api/nothing"), 404, "not-found")
    problem(await shared.client.get("/static/nothing.js"), 404, "not-found")
    answer = await shared.client.get("/api/search")
    assert "POST" in problem(answer, 405, "method-not-allowed")["detail"]
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "path",
    [
        "/api/images/not-a-uuid",
        "/api/images?limit=0",
        "/api/images?limit=501",
        "/api/images?limit=x",
        "/api/images?cursor=x",
        "/api/images?cursor=%00",
        "/api/images?index=%00",
        "/api/indexes/A",
    ],
)
async def test_a_wrong_parameter_is_invalid(shared: Served, path: str) -> None:
    problem(await shared.client.get(path), 422, "invalid-request")


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("generations/1234", "16 hexadecimal digits; GET /api/indexes/{name}/generations"),
        ("jobs/deadbeef", "UUID; GET /api/indexes/{name}/jobs"),
    ],
)
async def test_a_wrong_id_is_told_where_ids_are_listed(shared: Served, path: str, told: str) -> None:
    answer = await shared.client.get(f"/api/indexes/things/{path}")
    assert told in problem(answer, 422, "invalid-request")["detail"]


async def test_what_is_not_there_is_not_found(shared: Served) -> None:
    for method, path in (
        ("GET", f"/api/images/{NOWHERE}"),
        ("GET", f"/api/images/{NOWHERE}/content"),
        ("DELETE", f"/api/images/{NOWHERE}"),
    ):
        problem(await shared.client.request(method, path), 404, "image-not-found")
    problem(await shared.client.patch(f"/api/images/{NOWHERE}", json={}), 404, "image-not-found")
    problem(
        await shared.client.post("/api/search", json={"query": {"image_id": NOWHERE}}), 404, "image-not-found"
    )
    problem(await shared.client.get("/api/images?index=other"), 404, "index-not-found")
    problem(await shared.client.post("/api/search", json={"index": "other"}), 404, "index-not-found")


async def test_json_is_bounded_before_it_is_parsed(shared: Served) -> None:
    long = b"[" + b"0," * (8 * 1024 * 1024) + b"0]"
    for path in ("/api/images", "/api/images/batch", "/api/feedback"):
        answer = await shared.client.post(path, content=long, headers=JSON)
        assert problem(answer, 413, "request-too-large")["limit"] == 16 * 1024 * 1024
    for lines in (b"{}\n" * 5_000_000, b"\n" * 16_000_000 + b"{}\n" * 257):
        answer = await shared.client.post(
            "/api/images/batch", content=lines, headers={"Content-Type": "application/x-ndjson"}
        )
        assert problem(answer, 413, "request-too-large")["limit"] == 256
    parts = {"request": ("request", long, "application/octet-stream")}
    problem(await shared.client.post("/api/images", files=parts), 413, "request-too-large")


async def test_a_body_beyond_the_limit_is_refused(serve: Any) -> None:
    from .conftest import spec_document

    async with serve(spec_document(limits={"requestBytes": 100_000})) as served:
        declared = await served.client.post("/api/search", content=b" " * 100_001, headers=JSON)
        assert problem(declared, 413, "request-too-large")["limit"] == 100_000

        async def chunks() -> Any:
            for _ in range(11):
                yield b" " * 10_000

        streamed = await served.client.post("/api/search", content=chunks(), headers=JSON)
        problem(streamed, 413, "request-too-large")
