"""What a queued job is said to wait for."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from visualindex.catalog import APART, BUILD, PLACE, REINDEX, Fence, JobRecord
from visualindex_serving.queueing import waits_for


def job(index: str, kind: str, phase: str = "", **parameters: Any) -> JobRecord:
    job_id: UUID = uuid4()
    counts: Any = (0, 0, None, None, 1)
    times: Any = (datetime.now(UTC), None, None)
    return JobRecord(job_id, index, kind, "running", parameters, phase, *counts, Fence(job_id, 1), *times)


def test_it_waits_for_those_that_run_and_names_only_what_the_caller_may_know() -> None:
    at_work = [
        job("shop", BUILD, "judging: asking"),
        job("hidden", REINDEX, "encoding, round 1"),
        job("shop", REINDEX, "building", **{PLACE: APART}),
    ]
    told = waits_for(job("shop", REINDEX), at_work, {"shop"})
    assert told == "waiting; running now: build of shop (judging: asking), 1 of other indexes"


def test_it_waits_for_a_gateway_where_none_runs() -> None:
    assert "a gateway" in waits_for(job("shop", BUILD), [], {"shop"})


def test_one_with_a_place_of_its_own_waits_for_the_operator() -> None:
    at_work = [job("shop", BUILD)]
    assert "the operator" in waits_for(job("shop", REINDEX, **{PLACE: APART}), at_work, {"shop"})
