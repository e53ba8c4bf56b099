"""Jobs: asked for once, held by one process at a time, given up after some attempts, and committed by their holder alone."""

import pytest

from visualindex.catalog import APART, BUILD, CHECK, PLACE, REINDEX, Catalog
from visualindex.catalog.jobs import MAX_ATTEMPTS
from visualindex.errors import ProblemError, ProblemType

from .scene import INDEX

NO_TIME = 0.0


async def test_a_job_is_asked_for_once_while_it_is_open(catalog: Catalog) -> None:
    first, made = await catalog.request_job(INDEX, BUILD, {"activate": True})
    again, made_again = await catalog.request_job(INDEX, BUILD, {"activate": False})
    assert (made, made_again) == (True, False)
    assert again == first
    other, made_other = await catalog.request_job(INDEX, CHECK, {})
    assert made_other
    assert other.job_id != first.job_id


async def test_who_wants_activation_joins_an_open_job_unless_it_joins_none(catalog: Catalog) -> None:
    first, _ = await catalog.request_job(INDEX, BUILD, {"activate": False, "reason": "to look at"})
    assert first.activates_since is None
    await catalog.request_job(INDEX, BUILD, {"activate": True}, joins=False)
    assert (await catalog.get_job(INDEX, first.job_id)).activates_since is None
    joined, made = await catalog.request_job(INDEX, BUILD, {"activate": True})
    assert (joined.job_id, made, joined.parameters["reason"]) == (first.job_id, False, "to look at")
    assert joined.activates_since is not None
    assert joined.activates_since > first.requested_at


async def test_the_oldest_job_is_claimed_by_one_process(catalog: Catalog) -> None:
    assert await catalog.claim_job(INDEX, 60) is None
    first, _ = await catalog.request_job(INDEX, BUILD, {})
    second, _ = await catalog.request_job(INDEX, CHECK, {})
    claimed = [await catalog.claim_job(INDEX, 60) for _ in range(3)]
    assert [None if one is None else one.job_id for one in claimed] == [first.job_id, second.job_id, None]


async def test_a_job_that_is_named_is_claimed_before_older_ones(catalog: Catalog) -> None:
    await catalog.request_job(INDEX, BUILD, {})
    wanted, _ = await catalog.request_job(INDEX, CHECK, {})
    claimed = await catalog.claim_job(INDEX, 60, job_id=wanted.job_id)
    assert claimed is not None
    assert claimed.job_id == wanted.job_id
    assert await catalog.claim_job(INDEX, 60, job_id=wanted.job_id) is None


async def test_who_wakes_late_has_lost_the_job_to_its_successor(catalog: Catalog) -> None:
    await catalog.request_job(INDEX, BUILD, {})
    late = await catalog.claim_job(INDEX, NO_TIME)
    successor = await catalog.claim_job(INDEX, 60)
    assert late is not None
    assert successor is not None
    assert successor.fence.number > late.fence.number
    assert not await catalog.renew_job(late.fence, "building", 1, 2, 60)
    assert not await catalog.end_job(late.fence, result={"of": "the late one"})
    assert await catalog.end_job(successor.fence, result={"of": "the successor"})
    ended = await catalog.get_job(INDEX, successor.job_id)
    assert (ended.state, ended.result) == ("done", {"of": "the successor"})


async def test_a_job_whose_process_keeps_ending_is_given_up(catalog: Catalog) -> None:
    asked, _ = await catalog.request_job(INDEX, BUILD, {})
    for _ in range(MAX_ATTEMPTS):
        assert await catalog.claim_job(INDEX, NO_TIME) is not None
    assert await catalog.claim_job(INDEX, NO_TIME) is None
    given_up = await catalog.get_job(INDEX, asked.job_id)
    assert given_up.state == "failed"
    assert given_up.problem is not None
    assert f"{MAX_ATTEMPTS} times" in given_up.problem


async def test_a_cancelled_job_is_nobodys(catalog: Catalog) -> None:
    asked, _ = await catalog.request_job(INDEX, BUILD, {})
    claimed = await catalog.claim_job(INDEX, 60)
    assert claimed is not None
    await catalog.cancel_job(INDEX, asked.job_id)
    assert not await catalog.renew_job(claimed.fence, "building", 1, 2, 60)
    with pytest.raises(ProblemError) as refused:
        await catalog.cancel_job(INDEX, asked.job_id)
    assert refused.value.type is ProblemType.CONFLICT


async def test_a_job_with_a_place_apart_is_claimed_by_who_names_it(catalog: Catalog) -> None:
    apart, _ = await catalog.request_job(INDEX, REINDEX, {PLACE: APART})
    assert await catalog.claim_job(INDEX, 60) is None
    other, _ = await catalog.request_job(INDEX, BUILD, {})
    claimed = await catalog.claim_job(INDEX, 60)
    assert claimed is not None
    assert claimed.job_id == other.job_id
    named = await catalog.claim_job(INDEX, 60, job_id=apart.job_id)
    assert named is not None
    assert named.job_id == apart.job_id


async def test_a_job_that_is_given_back_is_claimed_at_once_and_counts_no_attempt(catalog: Catalog) -> None:
    asked, _ = await catalog.request_job(INDEX, BUILD, {})
    for _ in range(MAX_ATTEMPTS + 1):
        held = await catalog.claim_job(INDEX, 60)
        assert held is not None
        assert await catalog.release_job(held.fence, "its process is to end")
        assert not await catalog.release_job(held.fence, "once more"), "it is nobody's"
        assert not await catalog.renew_job(held.fence, "building", 1, 2, 60)
    found = await catalog.get_job(INDEX, asked.job_id)
    assert (found.state, found.attempts) == ("queued", 0)
    lines = [line.line for line in await catalog.job_log(INDEX, asked.job_id)]
    assert "given back: its process is to end" in lines
