"""What is done for a rebuild with a place of its own: one run at a time, again after a loss, and an end."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from tests.planning.world import BEGINNING, World

from visualindex.planning.observations import MemberObserved, ReindexJob, ReindexRun
from visualindex.planning.plan import AskReindex
from visualindex.planning.reindexing import (
    NAME_LENGTH,
    SILENT,
    BeginReindex,
    EndReindexRun,
    FailReindex,
    ReindexAction,
    reindex_actions,
    run_name,
)
from visualindex.spec import Spec

JOB = "7e2f1234-0000-4000-8000-000000000000"
OTHER = "aaaa1234-0000-4000-8000-000000000000"
NOW = BEGINNING + timedelta(days=1)
WAITS = ReindexJob(JOB, "queued", apart=True, requested=NOW)
RUNS = replace(WAITS, state="running", held=True, released=NOW + timedelta(seconds=20), started=NOW)
SPEC = Spec.model_validate({"reindex": {"placement": "Job", "attempts": 3}})


def run(number: int = 1, **otherwise: Any) -> ReindexRun:
    """A run that is under way since an hour."""
    found = ReindexRun(
        run_name("shop", JOB, number),
        JOB,
        number,
        1,
        0,
        "running",
        "Running",
        created=NOW - timedelta(hours=1),
    )
    return replace(found, **otherwise)


def ended(number: int = 1, **otherwise: Any) -> ReindexRun:
    """A run that came to nothing some time ago."""
    past = NOW - timedelta(minutes=10)
    fields = {"state": "ended", "stage": "Failed", "problem": "AppFailed: gone", "ended": past}
    return run(number, **{**fields, **otherwise})


def actions(
    job: ReindexJob | None, *runs: ReindexRun, last: ReindexJob | None = None, may_begin: bool = True
) -> list[ReindexAction]:
    world = World().serving()
    seen = replace(world.seen["shop"], reindex=job, reindexed=last, runs=runs, generations=())
    return list(reindex_actions("shop", SPEC, seen, NOW, may_begin=may_begin))


def begun(*found: ReindexAction) -> list[tuple[str, int]]:
    return [(one.run, one.attempt) for one in found if isinstance(one, BeginReindex)]


def gone(*found: ReindexAction) -> list[str]:
    return [one.run for one in found if isinstance(one, EndReindexRun)]


def test_a_job_that_waits_for_a_place_of_its_own_gets_one() -> None:
    assert begun(*actions(WAITS)) == [("shop-reindex-7e2f1234-1", 1)]


def test_a_job_of_the_gateways_is_theirs() -> None:
    assert actions(replace(WAITS, apart=False)) == []


def test_nothing_begins_where_nothing_may_run_or_nothing_is_known() -> None:
    assert actions(WAITS, may_begin=False) == []
    world = World().serving()
    for unknown in ({"runs": None, "generations": ()}, {"runs": (), "generations": None}):
        seen: MemberObserved = replace(world.seen["shop"], reindex=WAITS, **unknown)
        assert list(reindex_actions("shop", SPEC, seen, NOW, may_begin=True)) == []


def test_what_is_under_way_is_left_alone() -> None:
    assert actions(WAITS, run(), may_begin=False) == []
    assert actions(RUNS, run()) == []
    assert actions(WAITS, run(state="starting", stage="Initializing")) == []
    assert actions(RUNS, run(state="starting", stage="Initializing")) == []


def test_a_run_that_came_to_nothing_is_followed_by_another_ever_later() -> None:
    assert begun(*actions(WAITS, ended())) == [("shop-reindex-7e2f1234-2", 2)]
    moments_ago = ended(ended=NOW - timedelta(seconds=5))
    assert actions(WAITS, moments_ago) == []
    assert begun(*actions(WAITS, ended(1), ended(2, attempt=2))) == [("shop-reindex-7e2f1234-3", 3)]


def test_chunks_that_were_committed_meanwhile_begin_the_count_anew() -> None:
    assert begun(*actions(replace(WAITS, chunks=4), ended(3, attempt=3))) == [("shop-reindex-7e2f1234-4", 1)]
    same = actions(replace(WAITS, chunks=4), ended(3, attempt=3, chunks=4))
    assert begun(*same) == []


def test_a_job_is_given_up_with_the_reason_of_its_last_run() -> None:
    *cleared, failed = actions(WAITS, ended(1), ended(2, attempt=2), ended(3, attempt=3))
    assert isinstance(failed, FailReindex)
    assert failed.job == JOB
    assert "3 times in a row" in failed.problem
    assert "AppFailed: gone" in failed.problem
    assert len(gone(*cleared)) == 3


def test_what_kuberay_refuses_is_not_tried_again() -> None:
    refused = ended(stage="ValidationFailed", problem="ValidationFailed: name too long")
    *_, failed = actions(WAITS, refused)
    assert isinstance(failed, FailReindex)
    assert "was refused: ValidationFailed: name too long" in failed.problem


def test_a_run_whose_job_nobody_holds_any_more_is_lost() -> None:
    silent = replace(RUNS, held=False, released=NOW - SILENT - timedelta(seconds=1))
    found = actions(silent, run())
    assert (gone(*found), begun(*found)) == (["shop-reindex-7e2f1234-1"], [("shop-reindex-7e2f1234-2", 2)])
    assert actions(replace(silent, released=NOW - timedelta(seconds=40)), run()) == []
    assert actions(replace(silent, held=True), run()) == []


def test_a_job_that_has_ended_has_no_run() -> None:
    cancelled = replace(WAITS, state="cancelled", ended=NOW)
    assert gone(*actions(None, run(), last=cancelled)) == ["shop-reindex-7e2f1234-1"]
    assert gone(*actions(replace(WAITS, state="paused"), run())) == ["shop-reindex-7e2f1234-1"]


def test_a_run_whose_job_is_done_may_end_by_itself() -> None:
    done = replace(WAITS, state="done", ended=NOW - timedelta(seconds=5))
    assert actions(None, run(), last=done) == []
    long_ago = replace(done, ended=NOW - timedelta(minutes=5))
    assert gone(*actions(None, run(), last=long_ago)) == ["shop-reindex-7e2f1234-1"]


def test_runs_that_ended_are_kept_for_a_look_and_then_forgotten() -> None:
    done = replace(WAITS, state="done", ended=NOW)
    assert actions(None, ended(), last=done) == []
    assert gone(*actions(None, ended(ended=NOW - timedelta(hours=2)), last=done)) == [
        "shop-reindex-7e2f1234-1"
    ]


def test_a_job_that_was_resumed_begins_beside_what_is_on_its_way_out() -> None:
    assert begun(*actions(WAITS, run(state="leaving"))) == [("shop-reindex-7e2f1234-2", 1)]


def test_names_fit_and_tell_jobs_apart() -> None:
    longest = run_name("a" * 40, JOB, 1_000)
    assert len(longest) == NAME_LENGTH
    assert longest.endswith("-reindex-7e2f1234-1000")
    assert run_name("shop", JOB, 1) != run_name("shop", OTHER, 1)


def test_an_annotation_is_heard_once_and_when_the_service_answers() -> None:
    world = World().serving()
    world.change(reindex="monday")
    asked = [one for one in world.look().actions if isinstance(one, AskReindex)]
    assert [one.value for one in asked] == ["monday"]
    assert not [one for one in world.look().actions if isinstance(one, AskReindex)]
    paused = World().serving()
    paused.change(reindex="monday", paused=True)
    assert not [one for one in paused.look().actions if isinstance(one, AskReindex)]


def test_a_suspended_index_ends_its_runs() -> None:
    world = World().serving(reindex={"placement": "Job"})
    world.see(generations=(), reindex=WAITS, runs=(run(),))
    world.edit(reindex={"placement": "Job"}, suspend=True)
    assert gone(*(one for one in world.look().actions if isinstance(one, EndReindexRun))) == [
        "shop-reindex-7e2f1234-1"
    ]


def test_progress_is_told_while_it_runs_and_the_outcome_afterwards() -> None:
    world = World().serving()
    busy = replace(RUNS, phase="encoding, round 2", done=300, total=1_000)
    world.see(generations=(), reindex=busy, runs=(run(2),))
    world.look()
    condition = world.condition("Reindexing")
    assert (condition.status, condition.reason) == ("True", "ReindexRuns")
    assert condition.message == "encoding, round 2: chunks 2/4, images 300/1,000"
    told = world.status().reindex
    assert told is not None
    assert (told.job, told.run, told.state) == (JOB, "shop-reindex-7e2f1234-2", "running")
    world.see(reindex=None, reindexed=replace(WAITS, state="failed", problem="no room", ended=NOW), runs=())
    world.look()
    condition = world.condition("Reindexing")
    assert (condition.status, condition.reason) == ("False", "ReindexFailed")
    assert condition.message.endswith("no room")
    before = world.condition("Reindexing"), world.status().reindex
    world.see(generations=None, reindex=None, reindexed=None)
    world.look()
    assert (world.condition("Reindexing"), world.status().reindex) == before


def test_what_a_job_waits_for_is_named() -> None:
    world = World().serving()
    for runs, said in (
        ((), "waits for a place of its own"),
        ((run(state="starting", stage="Initializing"),), "waits for shop-reindex-7e2f1234-1 (Initializing)"),
        ((ended(),), "waits for a repetition: shop-reindex-7e2f1234-1 ended (Failed): AppFailed: gone"),
    ):
        world.see(generations=(), reindex=WAITS, runs=runs)
        world.look()
        assert world.condition("Reindexing").message == said


def test_a_home_that_does_not_tell_is_what_a_job_waits_for() -> None:
    world = World().serving()
    world.see(generations=(), reindex=WAITS, runs=None, runs_untold="The Ray cluster answers with status 500")
    world.look()
    said = "waits for a place of its own: The Ray cluster answers with status 500"
    assert world.condition("Reindexing").message == said
    told = world.status().reindex
    assert told is not None
    assert told.progress == said
    world.see(reindex=RUNS)
    world.look()
    assert world.condition("Reindexing").reason == "ReindexRuns"


def test_a_run_beyond_its_job_stays_in_the_status_until_it_is_gone() -> None:
    world = World().serving()
    world.see(
        generations=(), reindex=None, reindexed=replace(WAITS, state="cancelled", ended=NOW), runs=(run(),)
    )
    for runs, name in (((run(),), run().name), (None, run().name), ((), "")):
        world.see(runs=runs)
        world.look()
        told = world.status().reindex
        assert told is not None
        assert (told.job, told.run) == ("", name)
