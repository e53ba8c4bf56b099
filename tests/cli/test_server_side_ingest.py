"""`visualindex ingest --server-side` starts a batch, waits for it, and tells what came of it."""

import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from visualindex.cli import app

from .scripted_service import Received, Reply, ScriptedService, reply, serving
from .test_index_command import VIEW

JOB: dict[str, Any] = {
    "job_id": str(uuid.uuid4()), "kind": "ingest", "state": "queued", "phase": "", "done": 0, "total": 0, "result": None,
    "problem": None, "requested_at": "2026-11-24T10:00:00Z", "started_at": None, "ended_at": None,
}  # fmt: skip
DONE = {**JOB, "state": "done", "result": {"read": 3, "created": 3, "refused": 0, "sources": [{}]}}
REFUSED = {**DONE, "result": {"read": 3, "created": 2, "refused": 1, "sources": [{}]}}
LINE = {"place": "a.jpg", "key": "a.jpg", "type": "invalid-image", "reason": "cut off"}


def answering(*jobs: dict[str, Any]) -> ScriptedService:
    states = iter(jobs)

    def answer(received: Received) -> Reply:
        if received.path == "/api/indexes":
            return reply([VIEW])
        if received.path.endswith("/refused"):
            return reply(LINE)
        return reply(next(states))

    return serving(answer)


def run(service: ScriptedService, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["ingest", "--server-side", "--service", service.url, *arguments])


def test_a_batch_is_started_and_waited_for() -> None:
    with answering(JOB, {**JOB, "state": "running"}, DONE) as service:
        result = run(service, "s3://shop/chairs/", "--category-from", "folder", "--remove-missing")
    assert (result.exit_code, result.stdout.split(maxsplit=3)[1:]) == (
        0,
        ["ingest", "done", "read 3, created 3, refused 0\n"],
    )
    (sent,) = [received for received in service.received if received.method == "POST"]
    assert (sent.path, json.loads(sent.body)) == (
        "/internal/index",
        {
            "index": "shop",
            "sources": [{"location": "s3://shop/chairs/", "category": "folder", "remove_missing": True}],
        },
    )


def test_a_batch_can_be_left_to_itself() -> None:
    with answering(JOB) as service:
        result = run(service, "/data/shop", "--no-wait", "--json")
    assert (result.exit_code, json.loads(result.stdout)["state"]) == (0, "queued")


def test_what_was_refused_is_listed(tmp_path: Path) -> None:
    with answering(JOB, REFUSED) as service:
        result = run(service, "/data/shop", "--failures", str(tmp_path / "refused.jsonl"))
    assert result.exit_code == 1
    assert json.loads((tmp_path / "refused.jsonl").read_text()) == LINE


@pytest.mark.parametrize("state", ["failed", "cancelled"])
def test_a_batch_that_does_not_come_to_its_end_is_an_error(state: str) -> None:
    with answering(JOB, {**JOB, "state": state, "problem": "the bucket does not answer"}) as service:
        result = run(service, "/data/shop")
    assert (result.exit_code, "the bucket does not answer" in result.stdout) == (1, True)


def test_an_option_that_nobody_knows_is_refused_before_anything_is_asked() -> None:
    with answering() as service:
        result = run(service, "/data/shop", "--key-from", "folder")
    assert "key" in str(result.exception)
    assert [received.method for received in service.received] == ["GET"]
