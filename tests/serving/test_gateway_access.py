"""Keys: what each scope, index and filter lets through, and that nothing reaches beyond them."""

import asyncio
import datetime as dt
import json
from typing import Any

import pytest

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving.access import Authenticator

from .conftest import Served, problem, put, spec_document
from .pictures import picture

KEYS = {"mode": "keys"}
IMAGE = {"image": ("p.jpg", picture(1))}
NOWHERE = "00000000-0000-4000-8000-000000000000"


async def key(served: Served, *scopes: str, **limits: Any) -> dict[str, str]:
    secret, _ = await served.app.state.service.catalog.create_key(list(scopes), name="test", **limits)
    return {"Authorization": f"Bearer {secret}"}


ROUTES = (
    ("search", "POST", "/api/search"),
    ("search", "POST", "/api/feedback"),
    ("search", "GET", "/api/images"),
    ("search", "GET", f"/api/images/{NOWHERE}"),
    ("search", "GET", f"/api/images/{NOWHERE}/content"),
    ("search", "GET", "/api/indexes"),
    ("search", "GET", "/api/indexes/things"),
    ("write", "POST", "/api/images"),
    ("write", "POST", "/api/images/batch"),
    ("write", "PATCH", f"/api/images/{NOWHERE}"),
    ("write", "DELETE", f"/api/images/{NOWHERE}"),
    ("admin", "POST", "/internal/embedding"),
    ("admin", "POST", "/internal/index"),
    ("admin", "GET", "/metrics"),
)


async def test_every_call_needs_a_key_with_its_scope(serve: Any) -> None:
    async with serve(spec_document(access=KEYS)) as served:
        client = served.client
        keys = {scope: await key(served, scope) for scope in ("search", "write", "admin")}
        for scope, method, path in ROUTES:
            bare = await client.request(method, path)
            problem(bare, 401, "unauthenticated")
            assert bare.headers["www-authenticate"].startswith("Bearer")
            for wrong in ("vi_unknown", "x" * 5000, "vi_\u00e9"):
                answer = await client.request(method, path, headers={"X-API-Key": wrong.encode("latin-1")})
                problem(answer, 401, "unauthenticated")
            for given, headers in keys.items():
                answer = await client.request(method, path, headers=headers)
                assert (answer.status_code == 403) == (given not in (scope, "admin")), (path, given)
                assert answer.status_code != 401
        for path in ("/healthz", "/", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 200
        sent = {"X-API-Key": keys["search"]["Authorization"].removeprefix("Bearer ")}
        assert (await client.get("/api/images", headers=sent)).status_code == 200


async def test_open_access_ends_where_the_machine_does(serve: Any) -> None:
    for host, status in (("127.0.0.1", 200), ("0.0.0.0", 401)):  # noqa: S104
        async with serve(spec_document(), host=host) as served:
            assert (await served.client.get("/api/images")).status_code == status


async def test_expired_and_revoked_keys_end(serve: Any) -> None:
    async with serve(spec_document(access=KEYS)) as served:
        service = served.app.state.service
        soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2)
        expiring = await key(served, "search", expires_at=soon)
        assert (await served.client.get("/api/images", headers=expiring)).status_code == 200
        secret, record = await service.catalog.create_key(["search"], name="revoked")
        revoked = {"Authorization": f"Bearer {secret}"}
        assert (await served.client.get("/api/images", headers=revoked)).status_code == 200
        await service.catalog.revoke_key(record.key_id)
        ended = asyncio.get_running_loop().time() + 5.5
        for headers in (expiring, revoked):
            while (answer := await served.client.get("/api/images", headers=headers)).status_code == 200:
                assert asyncio.get_running_loop().time() < ended
                await asyncio.sleep(0.1)
            problem(answer, 401, "unauthenticated")


async def test_a_wrong_name_is_answered_with_the_names_that_the_caller_may_use(serve: Any) -> None:
    async with serve(spec_document("furniture"), spec_document("furnishings", access=KEYS)) as served:
        asked = {"query": {"vector": [1.0] * 256}}

        async def detail(name: str, headers: dict[str, str] | None = None) -> str:
            answer = await served.client.post("/api/search", json={**asked, "index": name}, headers=headers)
            return str(problem(answer, 404, "index-not-found")["detail"])

        admin = await key(served, "admin")
        assert "did you mean furnishings?" in await detail("furnishing", admin)
        assert await detail("nope", admin) == (
            "There is no index nope in this service: it has furnishings, furniture."
        )
        assert "did you mean furniture?" in await detail("furnitur")
        assert await detail("nope") == "There is no index nope in this service: it has furniture."
        assert "furnishings" not in await detail("furnishing")


async def test_each_index_has_its_own_access_and_limits(serve: Any) -> None:
    documents = (
        spec_document("open", limits={"searchLimit": 5}),
        spec_document("closed", access=KEYS, limits={"searchLimit": 7, "requestBytes": 50_000}),
    )
    async with serve(*documents) as served:
        client = served.client
        assert [i["name"] for i in (await client.get("/api/indexes")).json()] == ["open"]
        query = {"query": {"vector": [1.0] * 256}}
        answer = await client.post("/api/search", json=query)
        assert answer.json().get("index") == "open", answer.text
        problem(await client.post("/api/search", json={**query, "index": "closed"}), 401, "unauthenticated")
        problem(await client.get("/metrics"), 403, "forbidden")
        both, only = await key(served, "admin"), await key(served, "admin", indexes=["closed"])
        answer = await client.post("/api/search", json=query, headers=both)
        assert "closed, open" in problem(answer, 422, "invalid-request")["detail"]
        assert (await client.post("/api/search", json=query, headers=only)).json()["index"] == "closed"
        for name in ("open", "nowhere"):
            answer = await client.post("/api/search", json={**query, "index": name}, headers=only)
            problem(answer, 403, "forbidden")
        problem(await client.get("/metrics", headers=only), 403, "forbidden")
        for name, limit in (("open", 5), ("closed", 7)):
            asked = {**query, "index": name}
            answer = await client.post("/api/search", json={**asked, "limit": limit}, headers=both)
            assert answer.status_code == 200
            answer = await client.post("/api/search", json={**asked, "limit": limit + 1}, headers=both)
            assert f"at most {limit}" in problem(answer, 422, "invalid-request")["detail"]
        padded = json.dumps({**query, "index": "closed"}).ljust(50_001).encode()
        headers = {**both, "Content-Type": "application/json"}
        problem(await client.post("/api/search", content=padded, headers=headers), 413, "request-too-large")
        path = f"/api/images/{NOWHERE}?index=closed"
        problem(await client.patch(path, content=padded, headers=headers), 413, "request-too-large")
        one = {"key": "same", "index": "open"}
        first = await client.post("/api/images", files=IMAGE, data=one)
        other = await client.post("/api/images", files=IMAGE, data={**one, "index": "closed"}, headers=both)
        assert first.json()["image_id"] != other.json()["image_id"]
        found = await client.post("/api/search", json={**query, "index": "open", "consistency": "strong"})
        assert [hit["image_id"] for hit in found.json()["hits"]] == [first.json()["image_id"]]


async def test_no_request_reaches_beyond_the_filter_of_its_key(served: Served) -> None:
    client = served.client
    written = [
        await put(served, seed, category="ours" if seed % 2 else "theirs", metadata=json.dumps({"n": seed}))
        for seed in range(8)
    ]
    ours, theirs = written[1]["image_id"], written[0]["image_id"]
    limited = await key(served, "search", "write", filter={"eq": {"category": "ours"}})

    async def ask(**request: Any) -> Any:
        return await client.post("/api/search", json=request, headers=limited)

    async def found(**request: Any) -> set[str]:
        answer = await ask(**request)
        assert answer.status_code == 200, answer.text
        return {hit["key"] for hit in answer.json()["hits"]}

    vector = {"vector": [1.0] * 256}
    own = {"k1", "k3", "k5", "k7"}
    assert await found(query=vector, consistency="strong") == own
    for wider in (
        {},
        {"exists": "category"},
        {"or": [{"eq": {"category": "theirs"}}, {"eq": {"category": "ours"}}]},
        {"not": {"eq": {"category": "none"}}},
    ):
        assert await found(query=vector, filter=wider) == own
    assert await found(query=vector, filter={"eq": {"category": "theirs"}}) == set()
    box = {"x": 0, "y": 0, "width": 1, "height": 1}
    for query in ({"image_id": theirs}, {"image_id": theirs, "box": box}):
        problem(await ask(query=query), 404, "image-not-found")
    assert await found(query={"image_id": ours}) == own - {"k1"}

    foreign = (await client.post("/api/search", json={"query": vector, "limit": 1})).json()["next_cursor"]
    assert await found(cursor=foreign, limit=20) <= own

    for path in (f"/api/images/{theirs}", f"/api/images/{theirs}/content"):
        problem(await client.get(path, headers=limited), 404, "image-not-found")
    assert (await client.get(f"/api/images/{ours}", headers=limited)).status_code == 200
    problem(await client.get("/api/images", headers=limited), 403, "forbidden")

    theirs_path, ours_path = f"/api/images/{theirs}", f"/api/images/{ours}"
    problem(await client.delete(theirs_path, headers=limited), 404, "image-not-found")
    answer = await client.patch(theirs_path, json={"category": "ours"}, headers=limited)
    problem(answer, 404, "image-not-found")
    for moved in ({"category": "theirs"}, {"category": None}):
        problem(await client.patch(ours_path, json=moved, headers=limited), 403, "forbidden")
    assert (await client.patch(ours_path, json={"metadata": {"x": 1}}, headers=limited)).status_code == 200

    async def store(**fields: str) -> Any:
        return await client.post("/api/images", files=IMAGE, data=fields, headers=limited)

    problem(await store(key="new"), 403, "forbidden")
    problem(await store(key="new", category="theirs"), 403, "forbidden")
    problem(await store(key="k0", category="ours"), 403, "forbidden")
    problem(await store(image_id=theirs, category="ours"), 403, "forbidden")
    assert (await store(key="new", category="ours")).status_code == 201
    batch = await client.post(
        "/api/images/batch",
        files={
            "images": ("k0", picture(1)),
            "request": (None, '{"images": [{"key": "k0", "category": "ours"}]}'),
        },
        headers=limited,
    )
    assert batch.json()["items"][0]["problem"]["status"] == 403
    assert (await client.get(theirs_path)).json()["category"] == "theirs"
    assert (await client.delete(ours_path, headers=limited)).status_code == 200


async def test_thumbnails_follow_the_access_spec(serve: Any) -> None:
    for mode, bare, cache in (("capability", 200, "public"), ("key", 401, "private")):
        async with serve(spec_document(access={**KEYS, "thumbnails": mode})) as served:
            admin = await key(served, "admin")
            written = (await served.client.post("/api/images", files=IMAGE, headers=admin)).json()
            view = await served.client.get(f"/api/images/{written['image_id']}", headers=admin)
            path = view.json()["thumbnails"]["320"]
            assert (await served.client.get(path)).status_code == bare
            answer = await served.client.get(path, headers=await key(served, "search"))
            assert (answer.status_code, answer.headers["cache-control"].split(",")[0]) == (200, cache)


class Answers:
    """What a database would say of a key; `down` makes it unreachable."""

    def __init__(self) -> None:
        self.down = False
        self.asked = 0

    async def __call__(self, secret: str) -> None:
        self.asked += 1
        if self.down:
            raise ProblemError(ProblemType.UNAVAILABLE, "away")


class Presented:
    """A request with a key."""

    def __init__(self, secret: str) -> None:
        self.headers = {"x-api-key": secret}


async def test_guesses_are_bounded_and_asked_once_at_a_time() -> None:
    answers = Answers()
    authenticator = Authenticator(answers)
    attempts = [authenticator.grant(Presented("vi_same")) for _ in range(20)]  # type: ignore[arg-type]
    outcomes = await asyncio.gather(*attempts, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} == {ProblemError}
    assert answers.asked == 1
    for guess in range(5000):
        with pytest.raises(ProblemError):
            await authenticator.grant(Presented(f"vi_{guess}"))  # type: ignore[arg-type]
    assert len(authenticator._bad) <= 4096


async def test_a_key_in_use_goes_on_while_the_database_is_away(serve: Any) -> None:
    async with serve(spec_document(access=KEYS)) as served:
        headers = await key(served, "search")
        query = {"query": {"vector": [1.0] * 256}}
        assert (await served.client.post("/api/search", json=query, headers=headers)).status_code == 200
        service = served.app.state.service
        for known in service.authenticator._good.values():
            known.ask_at = 0.0  # its answer is no longer fresh
        await service.catalog.connections.close()
        assert (await served.client.post("/api/search", json=query, headers=headers)).status_code == 200
        stranger = await served.client.post("/api/search", json=query, headers={"X-API-Key": "vi_new"})
        problem(stranger, 503, "unavailable")
