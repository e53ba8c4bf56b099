"""When nothing is folded by itself, because somebody has to look at the last attempt first."""

import datetime as dt
from typing import Any

import pytest

from visualindex.catalog import GenerationRecord, Position
from visualindex.spec import VisualIndex
from visualindex_serving.folding import left_to_people

from .conftest import spec_document

JUDGED = {"verdict": "refused"}


def record(state: Any, gate: dict[str, str] | None) -> GenerationRecord:
    now = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    nowhere = Position.of_snapshot(0, "1:1:")
    return GenerationRecord("things", "a" * 16, state, "f", {}, nowhere, now, None, None, gate)


@pytest.mark.parametrize(
    ("state", "gate", "mode", "left"),
    [
        ("ready", JUDGED, "enforce", True),
        ("ready", None, "enforce", False),
        ("ready", None, "off", True),
        ("preparing", None, "enforce", True),
        ("failed", JUDGED, "enforce", True),
        ("active", JUDGED, "enforce", False),
    ],
)
def test_a_generation_that_was_judged_and_not_activated_is_left_to_people(
    state: str, gate: dict[str, str] | None, mode: str, left: bool
) -> None:
    resource = VisualIndex.model_validate(spec_document(reindex={"gate": {"mode": mode}}))
    assert left_to_people(resource, record(state, gate)) is left
