"""Cores that a process may use: a container's limit counts."""

import os
from pathlib import Path

import pytest

from visualindex_serving.cores import cores


@pytest.mark.parametrize(
    ("text", "found"),
    [("50000 100000\n", 1), ("100000 100000\n", 1), ("max 100000\n", None), ("99999900000 100000\n", None)],
)
def test_a_containers_limit_counts_and_cannot_add_cores(tmp_path: Path, text: str, found: int | None) -> None:
    limit = tmp_path / "cpu.max"
    limit.write_text(text)
    assert cores(limit) == (found or os.cpu_count())


def test_without_a_limit_the_machines_cores_count(tmp_path: Path) -> None:
    assert cores(tmp_path / "absent") == os.cpu_count()
