"""Whatever goes wrong with any one request, the operator ends where it would have ended without."""

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
from tests.operator_api.conftest import NewNamespace
from tests.operator_api.end_state import difference, end_state
from tests.operator_api.faults import AT_READS, AT_WRITES, REFUSALS, Fault, FaultyClient
from tests.operator_api.in_hand import OperatorInHand
from tests.operator_api.scenarios import SCENARIOS, Scenario, prepare

_AT_ONCE = 8


@pytest.mark.parametrize("scenario", SCENARIOS, ids=str)
async def test_a_fault_at_any_request_changes_nothing_in_the_end(
    scenario: Scenario, new_namespace: NewNamespace
) -> None:
    calls, wanted = await _run(scenario, new_namespace)
    turns = asyncio.Semaphore(_AT_ONCE)

    async def differs(at: int, fault: Fault) -> str:
        async with turns:
            _, found = await _run(scenario, new_namespace, at, fault)
        found_difference = difference(wanted, found)
        where = f"{fault.value} at call {at} ({calls[at]})"
        return f"{where}:\n{found_difference}" if found_difference else ""

    cases = list(_cases(calls))
    differing = [text for text in await asyncio.gather(*(differs(*case) for case in cases)) if text]
    print(f"{scenario}: {len(calls)} calls, {len(cases)} faults")
    assert not differing, "\n".join(differing)


def _cases(calls: list[str]) -> Iterator[tuple[int, Fault]]:
    """At a write: a conflict, another refusal, an answer that got lost, and the end of the process before and after it.
    At a read, which changes nothing, one of the faults. The refusals, which the operator does not tell apart, take turns.

    That takes ten minutes of CPU. Unless VISUALINDEX_FAULTS is `all`, the faults take turns at writes too, and one read
    of eight gets one: three minutes.
    """
    thorough = os.environ.get("VISUALINDEX_FAULTS") == "all"
    for at, call in enumerate(calls):
        if call.startswith("GET "):
            if thorough or at % 8 == 0:
                yield at, AT_READS[(at if thorough else at // 8) % len(AT_READS)]
            continue
        faults = (*AT_WRITES, REFUSALS[at % len(REFUSALS)])
        yield from ((at, fault) for fault in (faults if thorough else [faults[at % len(faults)]]))


async def _run(
    scenario: Scenario, new_namespace: NewNamespace, at: int = -1, fault: Fault | None = None
) -> tuple[list[str], dict[str, Any]]:
    """The requests under fault, and what there is in the end."""
    namespace = await new_namespace()
    client = FaultyClient(namespace.api)
    operator = OperatorInHand(namespace, client)
    await prepare(namespace, scenario.given)
    await operator.settle()
    client.calls.clear()
    client.at, client.fault = at, fault
    for step in scenario.steps:
        await step(namespace)
        await operator.settle()
    state = await end_state(namespace)
    _assert_ready(scenario, state)
    return client.calls, state


def _assert_ready(scenario: Scenario, state: dict[str, Any]) -> None:
    for name in scenario.ready:
        conditions = {c["type"]: c for c in state[f"VisualIndex/{name}"]["status"]["conditions"]}
        assert conditions["Ready"]["status"] == "True", conditions
