"""Generations as the plugin shows them."""

import json
from datetime import datetime
from typing import Any

import pytest

from visualindex.api.generations import GenerationView
from visualindex_operator.kubectl.generation_table import served, show_all, table
from visualindex_operator.kubectl.options import Output

from .recorded import NOW, text

REFUSED = {
    "verdict": "refused",
    "candidate": {"generation": "3f0c9a1be2d47586", "fingerprint": "f", "images": 42_002},
    "probes": 200,
}


def view(**otherwise: Any) -> GenerationView:
    """An active one, but for what is said otherwise."""
    usual: dict[str, Any] = {
        "generation": "a81d2f0c77e61b39",
        "state": "active",
        "fingerprint": "f",
        "images": 42_002,
        "shards": 2,
        "bytes": 82 * 1024**2,
        "families": ["hnsw-fp16"],
        "recall": {"recall": 0.976, "target": 0.95, "met": True},
        "created_at": datetime.fromisoformat("2026-11-21T11:05:00Z"),
        "activated_at": datetime.fromisoformat("2026-11-24T10:05:00Z"),
    }
    return GenerationView.model_validate(usual | otherwise)


def test_each_has_a_line() -> None:
    missed = view(
        generation="3f0c9a1be2d47586",
        state="failed",
        recall={"recall": 0.9, "target": 0.95, "met": False},
        activated_at=None,
        problem="no room",
        gate=REFUSED,
    )
    assert text(table([missed, view()], NOW), width=160).splitlines()[1:] == [
        "3f0c9a1be2d47586  failed  0.900 of 0.95  refused  42,002  2       hnsw-fp16  82Mi   3d                no room",
        "a81d2f0c77e61b39  active  0.976                   42,002  2       hnsw-fp16  82Mi   3d     60m",
    ]


def test_what_came_of_an_activation_is_one_line() -> None:
    assert served(view()) == "generation a81d2f0c77e61b39 is served"
    assert "as soon as every shard has loaded it" in served(view(state="preparing"))


def test_programs_get_json(capsys: pytest.CaptureFixture[str]) -> None:
    show_all([view()], Output.JSON)
    assert json.loads(capsys.readouterr().out)[0]["generation"] == "a81d2f0c77e61b39"


def test_where_there_is_none_the_way_to_one_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    show_all([], None)
    assert "--build" in capsys.readouterr().err
