"""Every part of a running service killed once under load: nothing acknowledged is lost, and it heals by itself."""

import pytest
from benchmarks.chaos import run
from benchmarks.faults import Fault, kills
from benchmarks.ledger import Ledger
from benchmarks.stack import Stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]

_SEED = 11
_RATE = 0.5
_ALONE = {"none", "gateway", "decode worker", "shard"}
"""Faults of one of two (and the control): the other goes on, so most requests must succeed."""


@pytest.mark.parametrize("fault", kills(), ids=lambda fault: fault.name)
async def test_a_killed_part_loses_nothing_and_comes_back(stack: Stack, ledger: Ledger, fault: Fault) -> None:
    (row,) = await run(stack, [fault], rounds=1, seed=_SEED, ledger=ledger, rate=_RATE)
    assert row.lost == []
    assert row.half_there == []
    assert row.acknowledged > 0
    assert row.whole_s is not None, f"{fault.name} did not come back within {fault.limit_s:.0f} s: {row}"
    if fault.name in _ALONE:
        assert sum(row.failed.values()) <= row.sent / 3, row.failed
