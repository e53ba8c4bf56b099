"""`visualindex index` tells how an index does, and builds, activates, rolls back and discards its generations."""

import json
import uuid
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from visualindex.cli import app
from visualindex.errors import ProblemError

from .scripted_service import Received, Reply, ScriptedService, problem, reply, serving

GENERATION, EARLIER = "5d0c3f6a7b1e9a42", "0123456789abcdef"
JOB = str(uuid.uuid4())
EFFORTS = [{"ef_search": n, "nprobe": None, "rescore": 1} for n in (16, 32, 64)]
CURVE: dict[str, Any] = {
    "family": "hnsw-fp16",
    "target": 0.95,
    "recall": 0.974,
    "met": True,
    "queries": 82,
    "k": 10,
    "exact_latency_ms": 1.25,
    "chosen": EFFORTS[1],
    "curve": [
        {"effort": effort, "recall": recall, "deviation": 0.01, "latency_ms": latency}
        for effort, recall, latency in zip(EFFORTS, (0.91, 0.974, 0.999), (0.1, 0.15, 0.3), strict=True)
    ],
}
REPLICA: dict[str, Any] = {
    "shard": 0,
    "shards": 2,
    "replica": "a1b2c3",
    "rows": 410,
    "fresh": 3,
    "seen_at": "2026-03-01T09:30:00Z",
    "generations": [EARLIER, GENERATION],
    "live_recall": 0.97,
    "live_recall_samples": 12,
}
VIEW: dict[str, Any] = {
    "name": "shop",
    "encoder": "efficientnet-lite0",
    "fingerprint": "f",
    "dimension": 1280,
    "images": 820,
    "shards": 2,
    "generation": GENERATION,
    "families": ["hnsw-fp16"],
    "recall": {"recall": 0.974, "target": 0.95, "met": True, "curves": [CURVE]},
    "live_recall": {"recall": 0.97, "samples": 12},
    "replicas": [REPLICA, {**REPLICA, "shard": 1, "replica": "d4e5f6", "live_recall": None}],
}
LIVE: dict[str, Any] = {**VIEW, "generation": "live", "families": [], "recall": None, "live_recall": None}
STORED: dict[str, Any] = {
    "generation": GENERATION,
    "state": "active",
    "fingerprint": "f",
    "images": 820,
    "shards": 2,
    "bytes": 3 * 2**20,
    "families": ["hnsw-fp16"],
    "recall": {"recall": 0.974, "target": 0.95, "met": True},
    "created_at": "2026-03-01T09:30:00Z",
    "activated_at": None,
}
FAILED = {**STORED, "generation": EARLIER, "state": "failed", "problem": "shard 1 has no room"}
RUNNING: dict[str, Any] = {
    "job_id": JOB,
    "kind": "build",
    "state": "running",
    "phase": "indexing",
    "done": 1,
    "total": 2,
    "result": None,
    "problem": None,
    "requested_at": "2026-03-01T09:30:00Z",
    "started_at": None,
    "ended_at": None,
}
IMAGE = str(uuid.uuid4())
FIGURES: dict[str, Any] = {
    "fingerprint": "f",
    "images": 820,
    "recall": 1.0,
    "self_first": 0.5,
    "self_in_ten": 0.5,
}
REPORT: dict[str, Any] = {
    "verdict": "refused",
    "candidate": {"generation": GENERATION, **FIGURES},
    "active": {"generation": EARLIER, **FIGURES},
    "probes": 200,
    "compared": 180,
    "labels": "category",
    "agreement": 0.31,
    "failures": [
        {
            "measure": "agreement",
            "value": 0.31,
            "limit": 0.5,
            "detail": "0.310 of the hits are those of the active generation",
        }
    ],
    "worse": [
        {
            "image_id": IMAGE,
            "rank_before": 1,
            "rank_after": None,
            "recall": 1.0,
            "overlap": 0.1,
            "precision_before": 0.9,
            "precision_after": 0.2,
        }
    ],
    "worse_count": 1,
}
DONE = {**RUNNING, "state": "done", "result": {"generation": GENERATION, "images": 820, "met": True}}


SHADOW: dict[str, Any] = {
    "ended": "enough",
    "generation": GENERATION,
    "active": EARLIER,
    "queries": 300,
    "wanted": 300,
    "unanswered": 2,
    "share": 0.1,
    "overlap": 0.31,
    "min_overlap": 0.8,
    "score_shift": -0.02,
    "latency_before_ms": 0.4,
    "latency_ms": 0.5,
    "worst": [
        {
            "query_id": JOB,
            "image_id": IMAGE,
            "overlap": 0.1,
            "score_before": 0.9,
            "score_after": 0.7,
            "ms_before": 0.4,
            "ms_after": 0.5,
            "lost": [IMAGE],
        }
    ],
    "worst_count": 250,
    "failure": "in 300 live searches 0.310 of the hits were those of the active generation",
    "began_at": "2026-03-01T09:30:00Z",
    "ended_at": "2026-03-01T09:40:00Z",
}


class Service:
    """Answers each call with what is queued for it, the last of it again and again."""

    def __init__(self) -> None:
        self.answers: dict[str, list[Reply]] = {}

    def says(self, call: str, *replies: Reply) -> None:
        self.answers[call] = list(replies)

    def __call__(self, received: Received) -> Reply:
        queued = self.answers[f"{received.method} {received.path}"]
        return queued.pop(0) if len(queued) > 1 else queued[0]


@pytest.fixture
def script() -> Service:
    return Service()


@pytest.fixture
def service(script: Service) -> Iterator[ScriptedService]:
    with serving(script) as running:
        yield running


def run(service: ScriptedService, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["index", *arguments, "--service", service.url])


def test_the_indexes_are_listed(script: Service, service: ScriptedService) -> None:
    script.says("GET /api/indexes", reply([VIEW, {**LIVE, "name": "new"}]))
    head, first, second = run(service, "list").output.splitlines()
    assert head.split()[:3] == ["index", "images", "generation"]
    assert first.split() == ["shop", "820", GENERATION, "2", "2", "0.974", "efficientnet-lite0"]
    assert second.split() == ["new", "820", "live", "2", "2", "efficientnet-lite0"]
    assert json.loads(run(service, "list", "--json").output)[0]["generation"] == GENERATION


def test_an_index_is_shown_with_its_replicas_its_recall_and_its_curve(
    script: Service, service: ScriptedService
) -> None:
    script.says("GET /api/indexes/shop", reply(VIEW))
    shown = run(service, "show", "shop").output
    assert "0.974 measured, 0.95 wanted: met" in shown
    assert "0.970 in 12 sampled searches" in shown
    (row,) = [line for line in shown.splitlines() if "a1b2c3" in line]
    assert "0 of 2" in row
    assert f"{EARLIER}, {GENERATION}" in row
    drawn = [line for line in shown.splitlines() if "│" in line]
    assert sum(line.count("●") for line in drawn) == 2
    assert sum(line.count("◆") for line in drawn) == 1
    assert "chosen: ef_search 32 (0.974 in 0.15 ms)" in shown


def test_the_plot_rises_to_the_right_and_marks_the_target(script: Service, service: ScriptedService) -> None:
    script.says("GET /api/indexes/shop", reply(VIEW))
    drawn = [line for line in run(service, "show", "shop").output.splitlines() if "│" in line]
    marks = [(row, line.index(mark)) for row, line in enumerate(drawn) for mark in "●◆" if mark in line]
    assert [column for _, column in sorted(marks, reverse=True)] == sorted(column for _, column in marks)
    (target,) = [row for row, line in enumerate(drawn) if "┄" in line]
    assert len([row for row, _ in marks if row < target]) == 2


def test_an_index_without_a_generation_says_so(
    script: Service, service: ScriptedService, tmp_path: Path
) -> None:
    script.says("GET /api/indexes/shop", reply(LIVE))
    assert "live: none was activated yet" in run(service, "show", "shop").output
    result = run(service, "show", "shop", "--plot", str(tmp_path / "curve.svg"))
    assert isinstance(result.exception, ProblemError)
    assert "index build" in result.exception.detail


def test_the_plot_is_written_as_a_picture_one_for_each_shard(
    script: Service, service: ScriptedService, tmp_path: Path
) -> None:
    script.says("GET /api/indexes/shop", reply(VIEW))
    assert run(service, "show", "shop", "--plot", str(tmp_path / "one.svg")).exit_code == 0
    picture = ElementTree.parse(tmp_path / "one.svg").getroot()  # noqa: S314 - our own file
    assert len(picture.findall("{http://www.w3.org/2000/svg}circle")) == 3
    two = {**VIEW, "recall": {**VIEW["recall"], "curves": [CURVE, {**CURVE, "family": "flat", "curve": []}]}}
    script.says("GET /api/indexes/shop", reply(two))
    run(service, "show", "shop", "--plot", str(tmp_path / "two.svg"))
    assert "every row is scanned" in (tmp_path / "two-1.svg").read_text()


def test_the_generations_are_listed_with_what_is_wrong(script: Service, service: ScriptedService) -> None:
    script.says("GET /api/indexes/shop/generations", reply([STORED, FAILED]))
    lines = run(service, "generations", "shop").output.splitlines()
    assert lines[1].split()[:6] == [GENERATION, "active", "820", "2", "3.0", "hnsw-fp16"]
    assert lines[-1] == f"{EARLIER}: shard 1 has no room"


def test_a_generation_that_the_gate_refused_says_so(script: Service, service: ScriptedService) -> None:
    refused = {**STORED, "state": "ready", "gate": REPORT, "problem": "the quality gate refused it: …"}
    script.says("GET /api/indexes/shop/generations", reply([refused]))
    lines = run(service, "generations", "shop").output.splitlines()
    assert lines[1].split()[7] == "refused"
    assert lines[-1] == f"{GENERATION}: the quality gate refused it: …"


def test_a_comparison_that_was_made_is_shown(script: Service, service: ScriptedService) -> None:
    script.says(f"GET /api/indexes/shop/generations/{GENERATION}/compare/{EARLIER}", reply(REPORT))
    lines = run(service, "compare", "shop", GENERATION, EARLIER).output.splitlines()
    assert lines[0] == "verdict      refused"
    assert "MISSED  agreement: 0.310 of the hits are those of the active generation" in lines
    assert lines[-1].split() == [IMAGE, "1", ">10", "1.000", "0.100", "0.900", "0.200"]


def test_across_encoders_nothing_is_said_of_ranks_before(script: Service, service: ScriptedService) -> None:
    """The active generation cannot be asked for copies that its encoder has not seen."""
    worse = {**REPORT["worse"][0], "rank_before": None, "overlap": 1.0}
    active = {**REPORT["active"], "self_first": None, "self_in_ten": None}
    report = {**REPORT, "active": active, "worse": [worse]}
    script.says(f"GET /api/indexes/shop/generations/{GENERATION}/compare/{EARLIER}", reply(report))
    *_, told, head, line = run(service, "compare", "shop", GENERATION, EARLIER).output.splitlines()
    assert told.startswith("1 searches got worse or are found badly (nothing is known of their rank before)")
    assert "rank before" not in head
    assert line.split() == [IMAGE, ">10", "1.000", "1.000", "0.900", "0.200"]


def test_a_comparison_that_was_not_made_is_made(script: Service, service: ScriptedService) -> None:
    path = f"/api/indexes/shop/generations/{GENERATION}/compare/{EARLIER}"
    script.says(f"GET {path}", problem("not-found", 404, "was not measured"))
    script.says(f"POST {path}", reply({**RUNNING, "kind": "compare"}, 202))
    script.says(f"GET /api/indexes/shop/jobs/{JOB}", reply({**DONE, "kind": "compare", "result": REPORT}))
    shown = json.loads(run(service, "compare", "shop", GENERATION, EARLIER, "--json").output)
    assert (shown["verdict"], shown["agreement"]) == ("refused", 0.31)
    assert [one.method for one in service.received] == ["GET", "POST", "GET"]
    run(service, "compare", "shop", GENERATION, EARLIER, "--again")
    assert [one.method for one in service.received[3:]] == ["POST", "GET"]


def test_a_shadow_is_asked_for_and_shown(script: Service, service: ScriptedService) -> None:
    call = f"POST /api/indexes/shop/generations/{GENERATION}/shadow"
    script.says(call, reply({**RUNNING, "kind": "shadow"}, 202))
    script.says(f"GET /api/indexes/shop/jobs/{JOB}", reply({**DONE, "kind": "shadow", "result": SHADOW}))
    asked = ("shadow", "shop", GENERATION, "--share", "0.1", "--queries", "300")
    assert "shadow" in run(service, *asked).output
    assert service.received[0].request() == {"share": 0.1, "min_queries": 300}
    lines = run(service, *asked, "--wait").output.splitlines()
    assert lines[0] == f"shadow       {GENERATION} beside {EARLIER}, 0.1 of the searches"
    assert lines[2] == "searches     300 compared, 300 wanted, 2 not answered by it in time"
    assert f"MISSED  shadow: {SHADOW['failure']}" in lines
    assert lines[-1].split() == [JOB, IMAGE, "0.100", "0.900", "0.700", "1"]


def test_a_comparison_tells_of_the_shadow(script: Service, service: ScriptedService) -> None:
    path = f"/api/indexes/shop/generations/{GENERATION}/compare/{EARLIER}"
    script.says(f"GET {path}", reply({**REPORT, "shadow": SHADOW}))
    lines = run(service, "compare", "shop", GENERATION, EARLIER).output.splitlines()
    assert "overlap@10   0.310, at least 0.8 is wanted" in lines


def test_the_gate_is_overruled_when_asked_to(script: Service, service: ScriptedService) -> None:
    script.says(f"POST /api/indexes/shop/generations/{GENERATION}/activate", reply(STORED))
    assert run(service, "activate", "shop", GENERATION, "--force").exit_code == 0
    assert service.received[0].request() == {"wait_s": 30.0, "force": True}


def test_a_build_is_asked_for_and_waited_for(script: Service, service: ScriptedService) -> None:
    script.says("POST /api/indexes/shop/generations", reply(RUNNING, 202))
    script.says(f"GET /api/indexes/shop/jobs/{JOB}", reply(RUNNING), reply(DONE))
    assert "indexing 1 of 2" in run(service, "build", "shop").output
    assert service.received[-1].request() == {"activate": False}
    result = run(service, "build", "shop", "--activate", "--wait")
    assert f"done      generation {GENERATION}" in result.output
    assert [one.method for one in service.received[1:]] == ["POST", "GET", "GET"]
    assert service.received[1].request() == {"activate": True}


def test_a_build_that_somebody_else_has_activated_is_told_as_such(
    script: Service, service: ScriptedService
) -> None:
    script.says("POST /api/indexes/shop/generations", reply({**RUNNING, "activate": True}, 202))
    assert "was under way already, and what it builds is activated" in run(service, "build", "shop").output
    assert "under way" not in run(service, "build", "shop", "--activate").output


def test_a_build_that_fails_is_an_error(script: Service, service: ScriptedService) -> None:
    script.says(
        "POST /api/indexes/shop/generations", reply({**RUNNING, "state": "failed", "problem": "no disk"})
    )
    result = run(service, "build", "shop", "--wait")
    assert isinstance(result.exception, ProblemError)
    assert result.exception.detail == "no disk"


def test_an_activation_ends_with_the_state_it_reached(script: Service, service: ScriptedService) -> None:
    call = f"POST /api/indexes/shop/generations/{GENERATION}/activate"
    script.says(call, reply(STORED), reply({**STORED, "state": "preparing"}, 202))
    result = run(service, "activate", "shop", GENERATION, "--within", "5")
    assert (result.exit_code, result.output) == (0, f"{GENERATION} is active: 820 images, recall 0.974\n")
    assert service.received[0].request() == {"wait_s": 5.0}
    late = run(service, "activate", "shop", GENERATION)
    assert late.exit_code == 4
    assert "becomes active by itself" in late.output


def test_a_rollback_is_sent_once_even_when_the_service_is_away(
    script: Service, service: ScriptedService
) -> None:
    script.says(
        "POST /api/indexes/shop/rollback", reply(STORED), problem("unavailable", 503, "away", Retry_After="0")
    )
    assert run(service, "rollback", "shop").exit_code == 0
    result = run(service, "rollback", "shop")
    assert isinstance(result.exception, ProblemError)
    assert len(service.received) == 2


def test_a_generation_is_discarded_and_what_stands_in_the_way_is_said(
    script: Service, service: ScriptedService
) -> None:
    call = f"DELETE /api/indexes/shop/generations/{GENERATION}"
    script.says(call, (204, {}, b""), problem("conflict", 409, "it is active"))
    assert run(service, "discard", "shop", GENERATION).output == f"discarded {GENERATION}\n"
    result = run(service, "discard", "shop", GENERATION)
    assert isinstance(result.exception, ProblemError)
    assert result.exception.detail == "it is active"


CHECKED: dict[str, Any] = {
    "job_id": JOB,
    "checked_at": "2026-03-01T03:12:44Z",
    "consistent": False,
    "repair": True,
    "images": 820,
    "originals": 819,
    "replicas": 2,
    "buckets_compared": 4,
    "found": 4,
    "mended": 3,
    "findings": [
        {
            "kind": "lost-row",
            "place": "shard 0 of 2, replica a1b2c3",
            "count": 3,
            "mended": 3,
            "examples": [f"image-{n}" for n in range(9)],
            "action": "read again from the database",
        },
        {
            "kind": "no-answer",
            "place": "shard 1",
            "count": 1,
            "mended": 0,
            "examples": [],
            "action": "look at its log",
        },
    ],
}


def test_a_check_is_waited_for_and_its_findings_are_a_table(
    script: Service, service: ScriptedService
) -> None:
    job = {**RUNNING, "kind": "check"}
    script.says("POST /api/indexes/shop/check", reply(job, 202))
    script.says(f"GET /api/indexes/shop/jobs/{JOB}", reply({**job, "state": "done", "result": CHECKED}))
    script.says("GET /api/indexes/shop/check", reply(CHECKED))
    assert "check  running" in run(service, "check", "shop").output
    assert service.received[-1].request() == {"repair": False, "vectors": True, "originals_share": 0.01}
    result = run(service, "check", "shop", "--repair", "--no-vectors", "--wait")
    assert service.received[1].request() == {"repair": True, "vectors": False, "originals_share": 0.01}
    assert result.exit_code == 1
    first, _, _, lost, silent, _, examples = result.output.splitlines()
    assert first.startswith("1 fault left: 820 images, 819 originals, 2 generations of replicas compared")
    assert lost.split()[:3] == ["lost-row", "3", "3"]
    assert lost.endswith("read again from the database")
    assert silent.split()[:3] == ["no-answer", "1", "0"]
    assert examples == "lost-row: image-0, image-1, image-2, image-3, image-4"


def test_the_last_check_is_shown_without_beginning_one(script: Service, service: ScriptedService) -> None:
    sound = {**CHECKED, "consistent": True, "findings": [], "replicas": 1}
    script.says("GET /api/indexes/shop/check", reply(sound))
    result = run(service, "check", "shop", "--last")
    assert "1 generation of replicas compared" in result.output
    assert (result.exit_code, result.output.splitlines()[0][:11]) == (0, "consistent:")
    assert json.loads(run(service, "check", "shop", "--last", "--json").output)["images"] == 820
    assert {one.method for one in service.received} == {"GET"}


def test_schedules_are_listed_with_their_last_times(script: Service, service: ScriptedService) -> None:
    run_of = {"scheduled_at": "2026-03-01T08:45:00Z", "decided_at": "2026-03-01T08:45:04Z"}
    asked = {**run_of, "outcome": "requested", "missed": 6, "job_id": JOB}
    kept = {"became": "refused", "problem": "the quality gate refused it: too little is found"}
    refused = {**asked, "missed": 0, **kept}
    late = {**run_of, "outcome": "late", "missed": 0, "job_id": None}
    hourly = {"name": "hourly", "kind": "refresh", "cron": "15 * * * *", "time_zone": "Asia/Kolkata"}
    script.says(
        "GET /api/indexes/shop/schedules",
        reply(
            [
                {
                    **hourly,
                    "suspended": False,
                    "next_at": "2026-03-01T15:15:00+05:30",
                    "runs": [asked, refused, late],
                },
                {**hourly, "suspended": True, "next_at": None, "runs": []},
            ]
        ),
        reply([]),
    )
    assert run(service, "schedules", "shop").output.splitlines() == [
        "hourly  refresh  15 * * * * (Asia/Kolkata)  next 2026-03-01 15:15+05:30",
        f"  2026-03-01 14:15+05:30  requested, 6 before it missed  job {JOB}",
        f"  2026-03-01 14:15+05:30  requested  job {JOB} refused: the quality gate refused it: too little is found",
        "  2026-03-01 14:15+05:30  late",
        "hourly  refresh  15 * * * * (Asia/Kolkata)  suspended",
    ]
    assert "spec.reindex.schedules" in run(service, "schedules", "shop").output
