"""An index moves to another encoder while it is searched and written to: no request fails, no answer mixes two encoders."""

import asyncio
import contextlib
import itertools
import json
import shutil
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import pytest

from visualindex.api.images import IndexView
from visualindex.catalog import Catalog, EmbeddedPostgres, migrate
from visualindex.cli.index_pages import page
from visualindex.encoders import Encoder, load_encoder
from visualindex.encoders.lite0 import bundled_weights
from visualindex.imaging import DecodeJob, DecodePool
from visualindex.spec import EncoderSpec
from visualindex.spec.models import LimitsSpec

from .conftest import Served, found_keys, problem, put, serving_on, spec_document
from .pictures import fresh_database, picture
from .test_generations import finished

STILL = range(12)
"""Images that nobody touches: what searches of this category must answer is known."""
AMONG = {"eq": {"category": "still"}}
BASE: dict[str, Any] = {
    "index": {"shards": 2, "pollIntervalMs": 20, "fold": "never"},
    "limits": {"searchTimeoutMs": 60_000, "writeTimeoutMs": 120_000},
    "reindex": {"chunkImages": 8, "batchSize": 4},
}
BEFORE = {"dimension": 64}
PATIENCE_S = 240
_LOOK_S = 0.1
TOLERANCE = 3e-3
"""Vectors are stored in half precision, and batches of other sizes give other last bits."""


@pytest.fixture(scope="session")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a small model of another family, made up."""
    import timm
    import torch

    torch.manual_seed(7)
    path = tmp_path_factory.mktemp("timm") / "resnet10t.pt"
    torch.save(timm.create_model("resnet10t", pretrained=False).state_dict(), path)
    return path


def document(encoder: Mapping[str, Any], gate: str = "enforce") -> dict[str, Any]:
    return spec_document(
        **{**BASE, "reindex": {**BASE["reindex"], "gate": {"mode": gate}}, "encoder": encoder}
    )


class Home:
    """A database, an object store and the gateways over them; requests go to `latest`."""

    def __init__(self, dsn: str, state: Path, cache: Path) -> None:
        self.dsn, self.state, self.cache = dsn, state, cache
        self.latest: Served
        self._under_way: Counter[Served] = Counter()

    @contextlib.contextmanager
    def asking(self) -> Iterator[httpx.AsyncClient]:
        """The client of the gateway that requests go to now."""
        served = self.latest
        self._under_way[served] += 1
        try:
            yield served.client
        finally:
            self._under_way[served] -= 1

    async def quiet(self, served: Served) -> None:
        """Until a gateway that requests do not go to any more has answered all that it was asked."""
        while self._under_way[served]:  # noqa: ASYNC110 - requests of this process
            await asyncio.sleep(_LOOK_S)

    def gateway(self, doc: dict[str, Any]) -> Any:
        return serving_on(self.dsn, self.state, self.cache, doc)

    async def view(self) -> dict[str, Any]:
        answer = await self.latest.client.get("/api/indexes/things")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def encoders(self) -> dict[str, tuple[str, bool]]:
        found = (await self.view())["encoders"]
        return {one["fingerprint"]: (one["state"], one["searched"]) for one in found}


@pytest.fixture
async def home(postgres: EmbeddedPostgres, tmp_path: Path, cache_dir: Path) -> AsyncIterator[Home]:
    # A gateway that ends takes what it set back, while a later one still reads it: here it is set all along.
    with fresh_database(postgres) as dsn, pytest.MonkeyPatch.context() as environment:
        environment.setenv("VISUALINDEX_MODE", "local")
        environment.setenv("VISUALINDEX_LISTEN_HOST", "127.0.0.1")
        environment.setenv("VISUALINDEX_POSTGRES_DSN", dsn)
        environment.setenv("VISUALINDEX_STATE_DIR", str(tmp_path))
        await migrate(dsn)
        yield Home(dsn, tmp_path, cache_dir)


class Truth:
    """What an encoder makes of pictures, computed apart from the service, and the exact ranking of the still images."""

    def __init__(self, spec: dict[str, Any], cache: Path) -> None:
        self.encoder: Encoder = load_encoder(EncoderSpec.model_validate(spec), cache_dir=cache)
        self.vectors: dict[int, npt.NDArray[np.float32]] = {}

    async def see(self, pool: DecodePool, seeds: Sequence[int]) -> None:
        for seed in seeds:
            job = DecodeJob(picture(seed), self.encoder.input)
            decoded = await pool.decode(job, deadline=time.time() + PATIENCE_S)
            assert decoded.pixels is not None
            self.vectors[seed] = self.encoder.encode(decoded.pixels[None]).vectors[0]

    def scores(self, seed: int) -> dict[str, float]:
        return {f"k{one}": float(self.vectors[one] @ self.vectors[seed]) for one in STILL}


@contextlib.asynccontextmanager
async def truths(cache: Path, *specs: dict[str, Any]) -> AsyncIterator[dict[str, Truth]]:
    pool = DecodePool(1, LimitsSpec())
    await pool.start()
    try:
        found = [Truth(spec, cache) for spec in specs]
        for truth in found:
            await truth.see(pool, STILL)
        yield {truth.encoder.fingerprint: truth for truth in found}
        for truth in found:
            truth.encoder.close()
    finally:
        await pool.close()


class Load:
    """Searches and uploads that go on, and everything that was not as it must be."""

    def __init__(self, home: Home, truth: Mapping[str, Truth], ids: Mapping[int, str]) -> None:
        self.home, self.truth, self.ids = home, truth, ids
        self.failures: list[str] = []
        self.answers: Counter[tuple[str, str, str]] = Counter()
        self.uploaded: dict[int, str] = {}
        self.ended = False

    async def searching(self, kind: str) -> None:
        for turn in itertools.count():
            if self.ended:
                return
            seed = STILL[turn % len(STILL)]
            try:
                await getattr(self, kind)(seed)
            except AssertionError as wrong:
                self.failures.append(f"{kind} {seed}: {str(wrong)[:400]}")
            await asyncio.sleep(0.01)

    async def by_picture(self, seed: int) -> None:
        form = {"limit": str(len(STILL)), "filter": json.dumps(AMONG)}
        image = {"image": ("q.jpg", picture(seed))}
        with self.home.asking() as client:
            answer = await client.post("/api/search", files=image, data=form)
        self.check("picture", answer, seed)

    async def by_id(self, seed: int) -> None:
        query = {"query": {"image_id": self.ids[seed]}, "include_self": True}
        self.check("id", await self.searched({**query, "limit": len(STILL)}), seed)

    async def in_pages(self, seed: int) -> None:
        """The second page belongs to the first, whatever became active between the two."""
        query = {"query": {"image_id": self.ids[seed]}, "include_self": True, "limit": 6}
        first = await self.searched(query)
        assert first.status_code == 200, first.text
        await asyncio.sleep(0.05)
        rest = await self.searched({"cursor": first.json()["next_cursor"], "limit": 6}, within=False)
        assert rest.status_code == 200, rest.text
        one, two = first.json(), rest.json()
        assert one["fingerprint"] == two["fingerprint"]
        self.compare("pages", two, one["hits"] + two["hits"], seed)

    async def searched(self, body: dict[str, Any], *, within: bool = True) -> Any:
        filtered = {"filter": AMONG} if within else {}
        with self.home.asking() as client:
            return await client.post("/api/search", json={**filtered, **body})

    def check(self, kind: str, answer: Any, seed: int) -> None:
        assert answer.status_code == 200, answer.text
        found = answer.json()
        assert found["complete"], found
        self.compare(kind, found, found["hits"], seed)

    def compare(self, kind: str, found: dict[str, Any], hits: list[dict[str, Any]], seed: int) -> None:
        """The answer is what exact search says of that one encoder's vectors: every hit, every score."""
        self.answers[kind, found["fingerprint"], found["generation"]] += 1
        wanted = self.truth[found["fingerprint"]].scores(seed)
        given = {hit["key"]: hit["score"] for hit in hits}
        assert given.keys() == wanted.keys()
        off = max(abs(given[key] - wanted[key]) for key in wanted)
        assert off < TOLERANCE, f"{off} off with {found['fingerprint']}, generation {found['generation']}"
        assert [hit["score"] for hit in hits] == sorted(given.values(), reverse=True)

    async def uploading(self) -> None:
        for seed in itertools.count(1000):
            if self.ended:
                return
            image = {"image": ("p.jpg", picture(seed))}
            with self.home.asking() as client:
                answer = await client.post("/api/images", files=image, data={"key": f"k{seed}"})
            if answer.is_success:
                self.uploaded[seed] = answer.json()["image_id"]
            else:
                self.failures.append(f"upload {seed}: {answer.status_code} {answer.text[:300]}")
            await asyncio.sleep(0.1)

    async def all_found(self) -> None:
        """Every upload is found by its own picture, at a score of nearly 1."""
        for seed, image_id in list(self.uploaded.items()):
            answer = await self.home.latest.client.post(
                "/api/search",
                files={"image": ("q.jpg", picture(seed))},
                data={"limit": "3", "consistency": "strong"},
            )
            hit = answer.json()["hits"][0]
            assert (hit["image_id"], round(hit["score"], 2)) == (image_id, 1.0), seed


@contextlib.asynccontextmanager
async def under(load: Load) -> AsyncIterator[None]:
    kinds = ("by_picture", "by_id", "in_pages")
    async with asyncio.TaskGroup() as tasks:
        for kind in kinds:
            tasks.create_task(load.searching(kind))
        tasks.create_task(load.uploading())
        try:
            yield
        finally:
            load.ended = True


async def job_of(served: Served, path: str, **body: Any) -> dict[str, Any]:
    answer = await served.client.post(f"/api/indexes/things/{path}", json=body)
    assert answer.status_code == 202, answer.text
    job = await finished(served, answer.json(), PATIENCE_S)
    assert (job["state"], job["problem"]) == ("done", None), job
    result: dict[str, Any] = job["result"]
    return result


async def served_by(served: Served, generation: str) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while (await served.client.get("/api/indexes/things")).json()["generation"] != generation:  # noqa: ASYNC110 - another process is asked
            await asyncio.sleep(_LOOK_S)


async def until(home: Home, wanted: dict[str, tuple[str, bool]]) -> None:
    try:
        async with asyncio.timeout(PATIENCE_S):
            while await home.encoders() != wanted:  # noqa: ASYNC110 - another process is asked
                await asyncio.sleep(_LOOK_S)
    except TimeoutError:
        pytest.fail(f"encoders are {await home.encoders()}, not {wanted}")


async def filled(served: Served) -> dict[int, str]:
    ids = {seed: (await put(served, seed, category="still"))["image_id"] for seed in STILL}
    await searched(served)
    return ids


async def searched(served: Served) -> None:
    """The shards of a gateway are there once one was asked for."""
    assert await found_keys(served, STILL[0], consistency="strong")


@pytest.mark.parametrize("change", ["dimension", "family"])
async def test_the_whole_move_under_load(
    home: Home, cache_dir: Path, request: pytest.FixtureRequest, change: str
) -> None:
    """Old gateways, both, the rebuild, the switch, the way back, the switch again; then the old encoder is let go of."""
    after: dict[str, Any] = {"dimension": 24}
    if change == "family":
        weights = request.getfixturevalue("resnet")
        after = {"family": "timm", "model": "resnet10t", "checkpoint": str(weights), "dimension": 512}
    gate = "measure" if change == "family" else "enforce"  # made-up weights are no better encoder
    async with truths(cache_dir, BEFORE, after) as truth, contextlib.AsyncExitStack() as earlier:
        old, new = truth
        first = home.latest = await earlier.enter_async_context(home.gateway(document(BEFORE)))
        ids = await filled(first)
        before = (await job_of(first, "generations", activate=True))["generation"]
        await served_by(first, before)
        load = Load(home, truth, ids)
        async with contextlib.AsyncExitStack() as later, under(load):
            second = await later.enter_async_context(home.gateway(document(after, gate)))
            await until(home, {old: ("required", True), new: ("required", False)})
            home.latest = second
            await home.quiet(first)
            await earlier.aclose()
            view = await home.view()
            assert (view["fingerprint"], view["migration"]["phase"]) == (old, "BothServed")
            shown = page(IndexView.model_validate(view))
            assert all(text in shown for text in (old, new, "BothServed: searches use the old encoder"))
            moved = await job_of(second, "reindex", activate=True)
            assert moved["activating"], moved
            await served_by(second, moved["generation"])
            view = await home.view()
            assert (view["fingerprint"], view["migration"]) == (new, None)
            await asyncio.sleep(1)
            back = await second.client.post("/api/indexes/things/rollback", json={"wait_s": 60})
            assert back.json()["state"] == "active", back.text
            await served_by(second, before)
            await asyncio.sleep(1)
            again = f"/api/indexes/things/generations/{moved['generation']}/activate"
            assert (await second.client.post(again, json={"wait_s": 60})).json()["state"] == "active"
            await served_by(second, moved["generation"])
            await asyncio.sleep(1)
            load.ended = True
            await load.all_found()
            await lets_go(home, old, new)
            await load.all_found()
    assert not load.failures, load.failures[:5]
    assert load.uploaded
    pairs = {(fingerprint, generation) for _, fingerprint, generation in load.answers}
    assert pairs == {(old, before), (new, moved["generation"])}
    for kind in ("picture", "id", "pages"):
        assert all(load.answers[kind, *pair] for pair in pairs), load.answers


async def lets_go(home: Home, old: str, new: str) -> None:
    """The next generation of the new encoder pushes the last one of the old out of those kept, and its encoder with it."""
    newest = await job_of(home.latest, "generations", activate=True)
    await served_by(home.latest, newest["generation"])
    await until(home, {new: ("required", True)})
    held = home.latest.app.state.service.indexes["things"].encoders
    await held.refresh()
    assert [one.fingerprint for one in held.held] == [new]
    catalog = await Catalog.open(home.dsn, max_connections=1)
    ids = [image["image_id"] for image in (await home.latest.client.get("/api/images")).json()["images"]]
    assert await catalog.get_vectors("things", ids, old) == {}
    assert len(await catalog.get_vectors("things", ids, new)) == len(ids)
    await catalog.close()


async def moved_from(home: Home, weights: Path, stack: contextlib.AsyncExitStack) -> tuple[str, str]:
    """An index that began with the weights in that file and another dimension; both generations."""
    async with home.gateway(document({"checkpoint": str(weights), "dimension": 32}, "off")) as first:
        home.latest = first
        await filled(first)
        before = (await job_of(first, "generations", activate=True))["generation"]
        await served_by(first, before)
    home.latest = await stack.enter_async_context(home.gateway(document(BEFORE, "off")))
    await searched(home.latest)
    moved = await job_of(home.latest, "reindex", activate=True)
    await served_by(home.latest, moved["generation"])
    return before, moved["generation"]


async def test_no_way_back_to_an_encoder_that_cannot_be_loaded(home: Home, tmp_path: Path) -> None:
    """The gateway says why and what helps, goes on with the new encoder, and takes writes."""
    weights = tmp_path / "weights.pt"
    shutil.copy(bundled_weights(), weights)
    async with contextlib.AsyncExitStack() as stack:
        _, after = await moved_from(home, weights, stack)
    weights.unlink()
    async with home.gateway(document(BEFORE, "off")) as later:
        home.latest = later
        await put(later, 77)
        assert "k77" in await found_keys(later, 77, consistency="strong")
        refused = await later.client.post("/api/indexes/things/rollback", json={"wait_s": 60})
        detail = problem(refused, 409, "conflict")["detail"]
        assert "cannot be loaded" in detail
        assert str(weights) in detail
        assert (await home.view())["generation"] == after


async def test_an_index_whose_own_encoder_is_gone_says_so(home: Home, tmp_path: Path) -> None:
    """Before the switch searches need it: a gateway that cannot load it does not start in its place."""
    weights = tmp_path / "weights.pt"
    shutil.copy(bundled_weights(), weights)
    model = {"checkpoint": str(weights), "dimension": 32}
    async with home.gateway(document(model, "off")) as first:
        await put(first, 1)
    weights.unlink()
    with pytest.raises(Exception, match=r"is searched with encoder [0-9a-f]{16} .* cannot be loaded"):
        async with home.gateway(document(BEFORE, "off")):
            pass


async def test_a_candidate_that_the_gate_refuses_leaves_the_old_encoder_serving(
    home: Home,
) -> None:
    """Both go on being served, the phase says what waits for whom, and a forced activation switches all the same."""
    strict = document({"dimension": 8})
    strict["spec"]["reindex"]["gate"] = {"mode": "enforce", "selfRetrieval": 1.0, "encoderAgreement": 1.0}
    async with home.gateway(document(BEFORE)) as first:
        home.latest = first
        await filled(first)
        before = (await job_of(first, "generations", activate=True))["generation"]
        await served_by(first, before)
    async with home.gateway(strict) as second:
        home.latest = second
        await searched(second)
        refused = await job_of(second, "reindex", activate=True)
        assert (refused["gate"], refused["activating"]) == ("refused", False)
        view = await home.view()
        assert (view["generation"], view["migration"]["phase"]) == (before, "CandidateRefused")
        path = f"/api/indexes/things/generations/{refused['generation']}/activate"
        forced = await second.client.post(path, json={"wait_s": 60, "force": True})
        assert forced.json()["state"] == "active", forced.text
        assert (await home.view())["fingerprint"] == forced.json()["fingerprint"]


async def test_a_vector_of_the_old_encoder_is_searched_with_while_its_generation_is_kept(
    home: Home,
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        before, after = await moved_from(home, bundled_weights(), stack)
        client = home.latest.client
        generations = (await client.get("/api/indexes/things/generations")).json()
        old = next(one["fingerprint"] for one in generations if one["generation"] == before)
        query = {"vector": [1.0] * 32, "fingerprint": old}
        answer = await client.post("/api/search", json={"query": query})
        assert (answer.status_code, answer.json()["generation"]) == (200, before)
        problem(
            await client.post("/api/search", json={"query": {"vector": [1.0] * 32}}),
            422,
            "fingerprint-mismatch",
        )
        assert (await home.view())["generation"] == after
