"""`auto` is decided by a measurement on the index's own pictures, which is asked for when it would tell something new."""

import datetime as dt
import uuid
from typing import Any

import httpx
import numpy as np
import pytest

from visualindex.catalog import RERANK_TRIAL, Catalog, Fence, JobRecord
from visualindex.rerank.fusion import Fusion
from visualindex.rerank.profile import Profile
from visualindex.rerank.verdict import worth_it
from visualindex_serving.rerank_trials import due

from .conftest import Served, put, spec_document
from .test_generations import finished
from .test_reranked_generations import build, following
from .test_reranking import PATIENT, ask, crop

AUTO = {**PATIENT, "mode": "auto"}
NOW = dt.datetime.now(dt.UTC)
FEATURES = "patches-a"


async def measured(served: Served) -> dict[str, Any]:
    """The ended job of a measurement."""
    catalog = await Catalog.open(served.dsn, max_connections=1)
    try:
        job, _ = await catalog.request_job("things", RERANK_TRIAL, {})
    finally:
        await catalog.close()
    return await finished(served, {"state": "queued", "job_id": str(job.job_id)}, within_s=300)


async def told(served: Served) -> dict[str, Any]:
    answer: httpx.Response = await served.client.get("/api/indexes/things")
    said: dict[str, Any] = answer.json()["rerank"]
    return said


async def test_a_measurement_on_own_pictures_decides_and_is_told(serve: Any) -> None:
    async with serve(spec_document(rerank=AUTO)) as served:
        written = [await put(served, seed) for seed in range(62)]
        await ask(served, crop(3), token=written[-1]["token"], rerank=True)
        assert await told(served) == {
            "mode": "auto",
            "on": False,
            "gain": None,
            "lower_bound": None,
            "weight": None,
            "reason": None,
        }
        await build(served)
        await following(served).forget()  # the measurement reads patches where searches do
        job = await measured(served)
        assert (job["state"], job["problem"]) == ("done", None)
        assert (job["result"]["verdict"]["queries"], job["result"]["images"]) == (31, 62)
        said = await told(served)
        assert said["on"] is (said["lower_bound"] > 0)
        assert said["lower_bound"] <= said["gain"] <= 1
        assert (said["weight"], said["reason"]) == (
            job["result"]["fusion"]["weights"]["maxsim"],
            job["result"]["verdict"]["reason"],
        )


async def test_an_index_with_few_pictures_stays_off_and_says_why(serve: Any) -> None:
    async with serve(spec_document(rerank=AUTO)) as served:
        for seed in range(4):
            await put(served, seed)
        assert (await measured(served))["state"] == "done"
        said = await told(served)
        assert (said["on"], said["reason"]) == (
            False,
            "off: 2 held-out queries are too few to tell, 30 are needed",
        )


async def test_an_index_without_patches_cannot_be_measured(served: Served) -> None:
    job = await measured(served)
    assert (job["state"], job["problem"]) == ("failed", "index things keeps no patches (spec.rerank.mode)")
    assert (await told(served))["mode"] == "never"


def job(ended_at: dt.datetime | None) -> JobRecord:
    job_id = uuid.UUID(int=1)
    return JobRecord(
        job_id,
        "things",
        RERANK_TRIAL,
        "done",
        {},
        "ended",
        0,
        0,
        None,
        None,
        1,
        Fence(job_id, 1),
        NOW,
        NOW,
        ended_at,
    )


PROFILE = Profile.of(FEATURES, Fusion(), worth_it(np.ones(100)), images=1000).to_json()
UNSURE = Profile.of(FEATURES, Fusion(), worth_it(np.ones(0)), images=1000).to_json()


@pytest.mark.parametrize(
    ("profile", "features", "images", "jobs", "expected"),
    [
        (None, FEATURES, 59, [], False),
        (None, FEATURES, 60, [], True),
        (None, FEATURES, 60, [job(None)], False),
        (None, FEATURES, 60, [job(NOW)], False),
        (None, FEATURES, 60, [job(NOW - dt.timedelta(hours=2))], True),
        (PROFILE, FEATURES, 1999, [], False),
        (PROFILE, FEATURES, 2000, [], True),
        (PROFILE, "patches-b", 1000, [], True),
        (UNSURE, FEATURES, 1000, [], True),
    ],
)
def test_when_a_measurement_is_due(
    profile: Any, features: str, images: int, jobs: list[JobRecord], expected: bool
) -> None:
    assert due(profile, features, images, jobs) is expected
