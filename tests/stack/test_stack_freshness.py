"""Acknowledged writes of every kind reach every replica of a running service while searches go on."""

import pytest
from benchmarks.freshness import measure
from benchmarks.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(600)]


async def test_every_kind_of_write_becomes_visible_at_every_replica(stack: Stack) -> None:
    found = await measure(stack.url, writes=10)
    assert {kind: len(taken) for kind, taken in found.taken_ms.items()} == {
        "insert": 2,
        "replace": 2,
        "patch": 2,
        "erase": 2,
        "insert again": 2,
    }
