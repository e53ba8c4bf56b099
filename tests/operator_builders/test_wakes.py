"""Which daemon of a group looks, and when."""

import asyncio
from typing import Any

from visualindex_operator.wakes import Wakes, looks_for_all, within

_SHOP, _TOYS = ("default", "KubeRay", "shop"), ("default", "KubeRay", "toys")


def _body(name: str, **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}}


def test_one_resource_of_a_group_looks_for_all_of_them() -> None:
    group = [_body("toys"), _body("shop"), _body("books")]
    assert [one["metadata"]["name"] for one in group if looks_for_all(one, group)] == ["books"]


def test_another_looks_once_the_first_is_being_deleted() -> None:
    group = [_body("books", deletionTimestamp="2026-11-24T12:00:00Z"), _body("shop"), _body("toys")]
    assert [looks_for_all(one, group) for one in group[1:]] == [True, False]


async def test_a_change_wakes_all_daemons_of_its_group_and_nobody_else() -> None:
    wakes = Wakes()
    ours, also_ours, others = wakes.next_change(_SHOP), wakes.next_change(_SHOP), wakes.next_change(_TOYS)
    wakes.wake("default", "shop")
    assert ours.is_set()
    assert also_ours.is_set()
    assert not others.is_set()


async def test_a_change_during_a_look_is_not_missed() -> None:
    wakes = Wakes()
    change = wakes.next_change(_SHOP)
    wakes.wake("default", "shop")
    wakes.next_change(_SHOP)  # another daemon of the group asks meanwhile
    async with asyncio.timeout(5):
        await within(change, 60)


async def test_without_a_change_the_time_passes() -> None:
    async with asyncio.timeout(5):
        await within(Wakes().next_change(_SHOP), 0.01)
