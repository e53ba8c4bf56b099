"""A service that is stopped and started again in the same folder serves what it had."""

import asyncio

import pytest
from benchmarks.ledger import Ledger, verify
from benchmarks.stack import Stack
from benchmarks.traffic import Traffic

from visualindex.local.processes import of_stack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(900)]


async def test_stopping_leaves_no_process_and_a_new_start_finds_the_data(stack: Stack) -> None:
    ledger = Ledger()
    async with Traffic(stack.url, ledger, seed=3) as traffic:
        assert await traffic.until(lambda: ledger.acknowledged >= 10, 60)
    await asyncio.to_thread(stack.stop)
    assert of_stack(stack.state.mark) == []
    await asyncio.to_thread(stack.start)
    verdict = await verify(stack.url, ledger)
    assert verdict.checked == len(ledger.entries)
    assert verdict.lost == []
    assert verdict.half_there == []
