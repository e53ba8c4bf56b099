"""`visualindex jobs` asks for jobs, follows them to their end, and tells what came of them."""

from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from visualindex.cli import app
from visualindex.errors import ProblemError

from .scripted_service import ScriptedService, reply, serving
from .test_index_command import CHECKED, DONE, JOB, RUNNING, Service

REBUILDING = {**RUNNING, "kind": "reindex", "phase": "encoding, round 1", "done": 256, "total": 820}
REBUILT = {
    **DONE,
    "kind": "reindex",
    "result": {"images": 820, "cpu_s": 12.5, "retries": 2, "cost": {"compute": 0.01, "storage_month": 0.02}},
}
LINES: list[dict[str, Any]] = [
    {"number": 4, "told_at": "2026-03-01T09:30:00Z", "line": "begun, the 1. time"},
    {"number": 9, "told_at": "2026-03-01T09:30:07Z", "line": "encoding, round 1"},
]


@pytest.fixture
def script() -> Service:
    return Service()


@pytest.fixture
def service(script: Service) -> Iterator[ScriptedService]:
    with serving(script) as running:
        yield running


def run(service: ScriptedService, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["jobs", *arguments, "--service", service.url])


def test_a_rebuild_is_followed_to_its_end(script: Service, service: ScriptedService) -> None:
    script.says("POST /api/indexes/shop/reindex", reply(REBUILDING, 202))
    script.says(f"GET /api/indexes/shop/jobs/{JOB}", reply(REBUILDING), reply(REBUILT))
    result = run(service, "run", "reindex", "shop", "--activate")
    assert result.output.splitlines() == [
        f"{JOB}  reindex done",
        "  images         820",
        "  cpu_s          12.5",
        "  retries        2",
        "  cost           compute 0.01, storage_month 0.02",
    ]
    assert service.received[0].request() == {"activate": True}


KEPT_BACK = {
    "generation": "a" * 16,
    "gate": "refused",
    "activating": False,
    "kept_back": "the quality gate refused it: 0.1 of the hits are those of the active generation",
}


def test_a_rebuild_that_is_not_activated_is_an_error_that_says_why(
    script: Service, service: ScriptedService
) -> None:
    script.says("POST /api/indexes/shop/reindex", reply(REBUILDING, 202))
    script.says(f"GET /api/indexes/shop/jobs/{JOB}", reply({**REBUILT, "result": KEPT_BACK}))
    result = run(service, "run", "reindex", "shop", "--activate")
    assert isinstance(result.exception, ProblemError)
    assert KEPT_BACK["kept_back"] in result.exception.detail
    assert f"visualindex index activate shop {'a' * 16} --force" in result.exception.detail


def test_what_keeps_it_back_may_be_another_thing_than_the_gate(
    script: Service, service: ScriptedService
) -> None:
    missed = {**KEPT_BACK, "gate": "passed", "kept_back": "its measured recall of 0.700 misses the target"}
    script.says("POST /api/indexes/shop/generations", reply({**DONE, "result": missed}, 202))
    result = run(service, "run", "build", "shop", "--activate")
    assert isinstance(result.exception, ProblemError)
    assert str(missed["kept_back"]) in result.exception.detail
    assert "--force" not in result.exception.detail


def test_a_job_that_stays_queued_says_what_it_waits_for(
    script: Service, service: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("visualindex.cli.watching._LOOK_S", 0.01)
    waiting = "waiting; running now: check of shop (originals)"
    queued = {**REBUILDING, "state": "queued", "phase": waiting, "done": 0, "total": 0}
    script.says("POST /api/indexes/shop/reindex", reply(queued, 202))
    script.says(f"GET /api/indexes/shop/jobs/{JOB}", *[reply(queued)] * 8, reply(REBUILT))
    result = run(service, "run", "reindex", "shop")
    assert result.stderr.split("\n") == [f"reindex is queued: {waiting}", ""]
    assert f"{JOB}  reindex done" in result.stdout


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        (["jobs", "show", "shop", "deadbeef"], ["'deadbeef' is no job", "visualindex jobs list"]),
        (["jobs", "run", "check", "shop"], ["reindex", "full", "visualindex index check"]),
        (["index", "activate", "shop", "1234"], ["16 hexadecimal digits", "visualindex index generations"]),
        (["index", "compare", "shop", "0123456789abcdef", "live"], ["'live' is no generation"]),
        (["keys", "revoke", "deadbeef"], ["'deadbeef' is no key", "visualindex keys list"]),
    ],
)
def test_a_wrong_id_is_told_what_one_looks_like_and_where_they_are_listed(
    typed: list[str], told: list[str]
) -> None:
    result = CliRunner().invoke(app, typed)
    output = " ".join(result.output.replace("│", " ").split())  # what the frame around it has broken
    assert result.exit_code == 2
    assert all(words in output for words in told), output
    assert "pattern" not in output


@pytest.mark.parametrize(("kind", "called"), [("full", "reindex"), ("refresh", "generations")])
def test_jobs_are_run_under_the_names_that_schedules_have_for_them(
    script: Service, service: ScriptedService, kind: str, called: str
) -> None:
    script.says(f"POST /api/indexes/shop/{called}", reply(REBUILDING, 202))
    assert run(service, "run", kind, "shop", "--detach").exit_code == 0


def test_detached_it_is_only_asked_for(script: Service, service: ScriptedService) -> None:
    script.says("POST /api/indexes/shop/reindex", reply(REBUILDING, 202))
    assert "encoding, round 1 256 of 820" in run(service, "run", "reindex", "shop", "--detach").output
    assert [one.method for one in service.received] == ["POST"]


def test_a_build_can_be_run_as_well_and_a_failure_is_an_error(
    script: Service, service: ScriptedService
) -> None:
    failed = {**RUNNING, "state": "failed", "problem": "no disk"}
    script.says("POST /api/indexes/shop/generations", reply(failed, 202))
    result = run(service, "run", "build", "shop")
    assert "no disk" in result.output
    assert isinstance(result.exception, ProblemError)


def test_jobs_are_listed_shown_and_cancelled(script: Service, service: ScriptedService) -> None:
    script.says("GET /api/indexes/shop/jobs", reply([REBUILDING, REBUILT]))
    script.says(f"GET /api/indexes/shop/jobs/{JOB}", reply(REBUILDING))
    script.says(f"POST /api/indexes/shop/jobs/{JOB}/cancel", reply({**REBUILDING, "state": "cancelled"}))
    assert [line.split()[2] for line in run(service, "list", "shop").output.splitlines()] == [
        "running",
        "done",
    ]
    assert "256 of 820" in run(service, "show", "shop", JOB).output
    assert run(service, "cancel", "shop", JOB).output.split()[2] == "cancelled"


def test_a_job_is_paused_and_goes_on(script: Service, service: ScriptedService) -> None:
    script.says(f"POST /api/indexes/shop/jobs/{JOB}/pause", reply({**REBUILDING, "state": "paused"}))
    script.says(f"POST /api/indexes/shop/jobs/{JOB}/resume", reply({**REBUILDING, "state": "queued"}))
    assert run(service, "pause", "shop", JOB).output.split()[2] == "paused"
    assert run(service, "resume", "shop", JOB).output.split()[2] == "queued"


def test_a_job_with_a_long_result_stays_a_line(script: Service, service: ScriptedService) -> None:
    script.says("GET /api/indexes/shop/jobs", reply([{**DONE, "kind": "check", "result": CHECKED}]))
    (line,) = run(service, "list", "shop").output.splitlines()
    assert "found 4, mended 3" in line
    assert "lost-row" not in line


def test_a_batch_is_shown_with_a_row_for_each_source(script: Service, service: ScriptedService) -> None:
    counts = {"read": 4, "created": 2, "replaced": 0, "unchanged": 1, "refused": 1}
    refused = {"place": "a.jpg", "key": "a.jpg", "type": "invalid-image", "reason": "The bytes are cut off."}
    broken = {
        "place": "/data/b.csv",
        "key": None,
        "type": "not-found",
        "reason": "/data/b.csv does not exist",
    }
    sources = [
        {"location": "s3://shop/chairs/", **counts, "examples": [refused]},
        {"location": "/data/b.csv", "refused": 1, "examples": [broken], "state": "broken-off"},
    ]
    batch = {**DONE, "kind": "ingest", "result": {"read": 4, "refused": 2, "sources": sources}}
    script.says(f"GET /api/indexes/shop/jobs/{JOB}", reply(batch))
    assert run(service, "show", "shop", JOB).output.splitlines() == [
        f"{JOB}  ingest done",
        "  read           4",
        "  refused        2",
        "",
        "location           read  new  replaced  unchanged  refused  state",
        "s3://shop/chairs/  4     2    0         1          1        done",
        "/data/b.csv        0     0    0         0          1        broken-off",
        "",
        "refused, for example:",
        "  a.jpg: The bytes are cut off.",
        "  /data/b.csv: /data/b.csv does not exist",
    ]


def test_a_check_is_shown_with_a_row_for_each_fault(script: Service, service: ScriptedService) -> None:
    script.says(f"GET /api/indexes/shop/jobs/{JOB}", reply({**DONE, "kind": "check", "result": CHECKED}))
    lines = run(service, "show", "shop", JOB).output.splitlines()
    assert lines[lines.index("") + 1].split()[:3] == ["fault", "found", "mended"]
    assert "{" not in "".join(lines)


def test_a_batch_that_runs_says_how_many_it_has_read(script: Service, service: ScriptedService) -> None:
    running = {**RUNNING, "kind": "ingest", "phase": "/data/shop", "done": 256, "total": 0}
    script.says(f"GET /api/indexes/shop/jobs/{JOB}", reply(running))
    assert run(service, "show", "shop", JOB).output.splitlines()[1] == "/data/shop 256 so far"


def test_of_jobs_of_one_second_those_that_have_not_ended_come_first(
    script: Service, service: ScriptedService
) -> None:
    ended = {**DONE, "requested_at": "2026-03-01T09:30:00.7Z", "ended_at": "2026-03-01T09:31:00Z"}
    before = {**RUNNING, "state": "queued", "requested_at": "2026-03-01T09:29:59Z"}
    script.says("GET /api/indexes/shop/jobs", reply([ended, {**REBUILDING, "done": 0}, before]))
    lines = run(service, "list", "shop").output.splitlines()
    assert [line.split()[2] for line in lines] == ["running", "done", "queued"]


def test_the_log_is_followed_until_the_job_ends(script: Service, service: ScriptedService) -> None:
    log = f"/api/indexes/shop/jobs/{JOB}/log"
    paused = {**REBUILDING, "state": "paused"}
    script.says(f"GET /api/indexes/shop/jobs/{JOB}", reply(REBUILDING), reply(paused), reply(REBUILT))
    script.says(f"GET {log}?after=0", reply(LINES[:1]))
    script.says(f"GET {log}?after=4", reply([]), reply([]), reply(LINES[1:]), reply([]))
    script.says(f"GET {log}?after=9", reply([]))
    assert run(service, "logs", "shop", JOB, "--follow").output.splitlines() == [
        "2026-03-01 09:30:00  begun, the 1. time",
        "2026-03-01 09:30:07  encoding, round 1",
    ]


def test_the_quarantine_is_listed(script: Service, service: ScriptedService) -> None:
    aside = {
        "image_id": JOB,
        "reason": "invalid-image",
        "detail": "The bytes are cut off.",
        "job_id": JOB,
        "noted_at": "2026-03-01T09:30:00Z",
    }
    script.says("GET /api/indexes/shop/quarantine", reply([aside]), reply([]))
    assert run(service, "quarantine", "shop").output.split()[1] == "invalid-image"
    assert run(service, "quarantine", "shop").output == "no image is in quarantine\n"
