"""The quality gate seen from outside: a better generation is let in, a worse one is kept out and says why."""

import asyncio
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import psycopg
import pytest

from visualindex.catalog import Catalog, Feedback, SearchLog
from visualindex.encoders import load_encoder
from visualindex.gate import compare
from visualindex.generations import NodeCache
from visualindex.imaging import DecodePool
from visualindex.objectstore import open_store
from visualindex.spec import VisualIndex
from visualindex_jobs.changed_copies import copies_encoder

from .conftest import NONE, Served, problem, put, spec_document
from .vectors import (
    CLUSTERS,
    Vectors,
    change_encoder,
    image_id,
    quarantine,
    shuffle_half,
    without_vectors,
    write,
)

GENERATIONS = "/api/indexes/things/generations"


async def built(served: Served) -> tuple[dict[str, Any], dict[str, Any]]:
    """The job that builds and is to activate a generation, once it has ended; and the generation."""
    job = await ended(served, (await served.client.post(GENERATIONS, json={"activate": True})).json())
    assert job["state"] == "done", job["problem"]
    return job["result"], await shown(served, job["result"]["generation"])


async def ended(served: Served, job: dict[str, Any]) -> dict[str, Any]:
    """The job once it has ended."""
    async with asyncio.timeout(60):
        while job["state"] in ("queued", "running"):
            await asyncio.sleep(0.05)
            job = (await served.client.get(f"/api/indexes/things/jobs/{job['job_id']}")).json()
    return job


async def shown(served: Served, generation: str) -> dict[str, Any]:
    answer = await served.client.get(f"{GENERATIONS}/{generation}")
    assert answer.status_code == 200, answer.text
    return answer.json()


async def activated(served: Served, generation: str) -> None:
    """Return once the generation is the active one. Shards are opened when they are first asked."""
    await served.shards.replica("things", 0)
    answer = await served.client.post(f"{GENERATIONS}/{generation}/activate", json={"wait_s": 20})
    assert (answer.status_code, answer.json()["state"]) == (200, "active"), answer.text


async def first_generation(served: Served, count: int = 200) -> dict[str, Any]:
    await write(served, range(count))
    result, generation = await built(served)
    await activated(served, result["generation"])
    return generation


async def test_a_first_generation_and_one_that_takes_new_images_in_pass(served: Served) -> None:
    first = await first_generation(served)
    gate = first["gate"]
    assert (gate["verdict"], gate["active"], gate["failures"], gate["worse"]) == ("passed", None, [], [])
    assert (gate["candidate"]["recall"], gate["candidate"]["self_in_ten"]) == (1.0, 1.0)

    await write(served, range(200, 300))
    result, second = await built(served)
    assert (result["gate"], result["activating"]) == ("passed", True)
    gate = second["gate"]
    assert gate["active"]["generation"] == first["generation"]
    assert (gate["agreement"], gate["score_shift"], gate["precision_drop"]) == (1.0, 0.0, 0.0)
    assert (gate["labels"], gate["failures"], gate["worse"]) == ("category", [], [])
    assert 100 <= gate["compared"] < gate["probes"] <= 200
    await activated(served, second["generation"])


async def test_a_generation_of_mixed_up_vectors_is_refused_and_names_the_queries_that_got_worse(
    served: Served,
) -> None:
    first = await first_generation(served)
    await shuffle_half(served)
    result, worse = await built(served)
    assert (result["gate"], result["activating"]) == ("refused", False)
    assert result["kept_back"] == worse["problem"]
    assert worse["state"] == "ready"
    gate = worse["gate"]
    assert {failure["measure"] for failure in gate["failures"]} >= {"agreement", "precision"}
    assert worse["problem"].startswith("the quality gate refused it: ")
    mixed_up = {str(image_id(n)) for n in range(200) if image_id(n).bytes[15] % 2 == 0}
    named = {query["image_id"] for query in gate["worse"]}
    assert len(named) == 20 <= gate["worse_count"]
    assert named <= mixed_up
    active = await shown(served, first["generation"])
    assert active["state"] == "active"


async def test_a_refused_generation_is_activated_by_force_only(served: Served) -> None:
    await first_generation(served)
    await shuffle_half(served)
    _, worse = await built(served)
    activate = f"{GENERATIONS}/{worse['generation']}/activate"
    refused = problem(await served.client.post(activate, json={"wait_s": 20}), 409, "conflict")
    assert "the quality gate refused it: " in refused["detail"]
    assert "of the hits are those of the active generation" in refused["detail"]
    forced = await served.client.post(activate, json={"wait_s": 20, "force": True})
    assert (forced.status_code, forced.json()["state"]) == (200, "active")
    assert forced.json()["gate"]["verdict"] == "refused"


async def test_a_generation_that_was_not_judged_is_activated_by_force_only(served: Served) -> None:
    """As one is whose job was cancelled while it was judged."""
    await write(served, range(40))
    _, generation = await built(served)
    async with await psycopg.AsyncConnection.connect(served.dsn, autocommit=True) as connection:
        await connection.execute("UPDATE generations SET gate = NULL, state = 'ready'")
    activate = f"{GENERATIONS}/{generation['generation']}/activate"
    refused = problem(await served.client.post(activate, json={"wait_s": 20}), 409, "conflict")
    assert "the quality gate has not judged it" in refused["detail"]
    await served.shards.replica("things", 0)
    forced = await served.client.post(activate, json={"wait_s": 20, "force": True})
    assert (forced.status_code, forced.json()["state"]) == (200, "active")


async def test_a_refused_generation_can_be_discarded(served: Served) -> None:
    await first_generation(served)
    await shuffle_half(served)
    _, worse = await built(served)
    discarded = await served.client.delete(f"{GENERATIONS}/{worse['generation']}")
    assert discarded.status_code == 204
    assert [one["state"] for one in (await served.client.get(GENERATIONS)).json()] == ["active"]


async def test_two_generations_are_compared_when_asked_for(served: Served) -> None:
    first = await first_generation(served)
    await shuffle_half(served)
    _, worse = await built(served)
    judged = f"{GENERATIONS}/{worse['generation']}/compare/{first['generation']}"
    assert (await served.client.get(judged)).json() == worse["gate"]

    other_way = f"{GENERATIONS}/{first['generation']}/compare/{worse['generation']}"
    problem(await served.client.get(other_way), 404, "not-found")
    asked = await served.client.post(other_way)
    assert asked.status_code == 202
    job = await ended(served, asked.json())
    assert (job["kind"], job["state"]) == ("compare", "done"), job["problem"]
    report = (await served.client.get(other_way)).json()
    assert report == job["result"]
    assert report["candidate"]["generation"] == first["generation"]
    assert report["active"]["generation"] == worse["generation"]
    assert await shown(served, first["generation"]) == {**first, "state": "active", "activated_at": ANY}


def turned(vectors: Vectors) -> Vectors:
    """What an encoder as good as the other would make: the same neighbours elsewhere."""
    rng = np.random.default_rng(1)
    turn, _ = np.linalg.qr(rng.standard_normal((vectors.shape[1], vectors.shape[1])))
    return (vectors @ turn).astype(np.float32)


def noise(vectors: Vectors) -> Vectors:
    """What an encoder makes that sees nothing."""
    return np.random.default_rng(2).standard_normal(vectors.shape).astype(np.float32)


async def test_a_worse_encoder_is_refused(served: Served) -> None:
    await write(served, range(200), worse=noise)
    result, _ = await built(served)
    await activated(served, result["generation"])
    await change_encoder(served, "worse")
    result, worse = await built(served)
    assert result["gate"] == "refused"
    assert "precision" in {failure["measure"] for failure in worse["gate"]["failures"]}
    told = worse["gate"]["worse"][0]
    assert told["precision_before"] - told["precision_after"] >= 0.5


async def test_an_encoder_as_good_as_the_other_passes_whatever_its_scores_are(served: Served) -> None:
    await write(served, range(200), other=turned)
    result, _ = await built(served)
    await activated(served, result["generation"])
    await change_encoder(served, "other")
    result, good = await built(served)
    assert result["gate"] == "passed"
    assert good["gate"]["agreement"] > 0.95


async def test_a_gate_that_only_measures_lets_a_worse_one_in_and_says_so(serve: Any) -> None:
    async with serve(spec_document(reindex={"gate": {"mode": "measure"}})) as served:
        await first_generation(served)
        await shuffle_half(served)
        result, worse = await built(served)
        assert (result["gate"], result["activating"]) == ("warned", True)
        assert worse["gate"]["failures"]
        assert worse["problem"] is None


async def test_a_gate_that_is_off_measures_nothing(serve: Any) -> None:
    async with serve(spec_document(reindex={"gate": {"mode": "off"}})) as served:
        generation = await first_generation(served)  # which activates it without force
        assert generation["gate"] is None


async def test_changed_pictures_tell_an_encoder_that_sees_nothing_from_one_that_sees(
    served: Served, tmp_path: Path
) -> None:
    for seed in range(24):
        await put(served, seed)
    result, _ = await built(served)
    resource = VisualIndex.model_validate(spec_document())
    catalog = await Catalog.open(served.dsn, max_connections=2)
    store = open_store(resource.spec.storage, default_folder=served.state / "objects", credentials=NONE)
    encoder = load_encoder(resource.spec.encoder, cache_dir=served.state / "cache")
    pool = DecodePool(1, resource.spec.limits)
    try:
        await pool.start()
        cache = NodeCache(tmp_path / "cache", 1 << 30)
        encode = copies_encoder(catalog, store, "things", encoder, pool)

        async def blind(images: Sequence[uuid.UUID]) -> dict[uuid.UUID, Vectors]:
            return {one: noise(vectors) for one, vectors in (await encode(images)).items()}

        record = await catalog.get_generation("things", result["generation"])
        sees = await compare(catalog, store, cache, resource, record, None, encode=encode)
        sees_nothing = await compare(catalog, store, cache, resource, record, None, encode=blind)
    finally:
        await pool.close()
        encoder.close()
        await store.close()
        await catalog.close()
    assert (sees.copies, sees.probes, sees.verdict) == ("encoded", 24, "passed")
    assert "selfRetrieval" in {failure.measure for failure in sees_nothing.failures}
    assert (sees_nothing.verdict, sees_nothing.worse_count) == ("refused", 24)


async def test_what_people_found_relevant_counts_more_than_categories(served: Served) -> None:
    await first_generation(served)
    catalog = await Catalog.open(served.dsn, max_connections=1)
    try:
        searches = [uuid.uuid4() for _ in range(40)]
        await catalog.log_searches(
            [
                SearchLog("things", query, [], 5.0, "image_id", image_id=image_id(number))
                for number, query in enumerate(searches)
            ]
        )
        await catalog.add_feedback(
            [
                Feedback("things", query, image_id(number + CLUSTERS), "click")
                for number, query in enumerate(searches)
            ]
        )
    finally:
        await catalog.close()
    await write(served, range(200, 220))
    _, second = await built(served)
    gate = second["gate"]
    assert (gate["labels"], gate["verdict"], gate["precision_drop"]) == ("feedback", "passed", 0.0)
    assert gate["candidate"]["precision"] == gate["active"]["precision"] > 0


async def test_an_index_without_images_has_nothing_to_judge_and_says_so(served: Served) -> None:
    result, generation = await built(served)
    assert (result["gate"], result["images"]) == ("passed", 0)
    assert generation["gate"]["probes"] == 0
    assert generation["gate"]["remark"] == "nothing was judged: the generation holds no image"


@pytest.mark.parametrize("lost", [200, 60, 3])
async def test_a_candidate_without_images_whose_vectors_were_lost_is_refused(
    served: Served, lost: int
) -> None:
    await first_generation(served)
    await without_vectors(served, range(lost))
    result, fewer = await built(served)
    assert (result["images"], result["gate"], result["activating"]) == (200 - lost, "refused", False)
    gate = fewer["gate"]
    assert (gate["expected"], gate["missing"]) == (200, lost)
    assert [failure["measure"] for failure in gate["failures"]] == ["images"]
    assert f"it lacks {lost} of 200 images that it ought to hold" in fewer["problem"]


async def test_images_that_cannot_be_had_or_were_written_and_deleted_meanwhile_are_none_that_were_lost(
    served: Served,
) -> None:
    await first_generation(served)
    await without_vectors(served, range(60))
    await quarantine(served, range(60))
    result, second = await built(served)
    assert (result["images"], result["gate"]) == (140, "passed")
    assert (second["gate"]["expected"], second["gate"]["missing"]) == (140, 0)
    await activated(served, second["generation"])

    for number in range(60, 90):
        assert (await served.client.delete(f"/api/images/{image_id(number)}")).is_success
    await write(served, range(200, 240))
    compared = f"{GENERATIONS}/{second['generation']}/compare/{second['generation']}"
    report = (await ended(served, (await served.client.post(compared)).json()))["result"]
    assert (report["expected"], report["missing"]) == (110, 0)


async def test_how_many_images_may_be_missing_is_said_by_the_spec(serve: Any) -> None:
    async with serve(spec_document(reindex={"gate": {"missing": 0.3}})) as served:
        await first_generation(served)
        await without_vectors(served, range(60))
        result, second = await built(served)
        assert (result["gate"], second["gate"]["missing"]) == ("passed", 60)


async def test_an_index_that_was_emptied_is_none_that_lost_its_images(served: Served) -> None:
    await first_generation(served, count=10)
    for number in range(10):
        assert (await served.client.delete(f"/api/images/{image_id(number)}")).is_success
    result, empty = await built(served)
    assert (result["images"], result["gate"], result["activating"]) == (0, "passed", True)
    assert empty["gate"]["remark"]
