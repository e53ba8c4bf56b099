"""Several writers on one cluster: ours take turns, and what another program overwrites is written again."""

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

from visualindex_operator.cluster_locks import ClusterLocks, normalised
from visualindex_operator.serve_api import ServeAPI
from visualindex_operator.serve_converge import converge
from visualindex_operator.serve_problems import ClusterRefused, ClusterUnreachable, NameTaken

from .applications import foreign, ours
from .conftest import TOKEN
from .simulated_serve import Fault, SimulatedServe


@pytest.fixture
def locks() -> ClusterLocks:
    return ClusterLocks()


@pytest.fixture
async def other_api(cluster: SimulatedServe) -> AsyncIterator[ServeAPI]:
    async with ServeAPI(f"{cluster.url}/", TOKEN) as api:
        yield api


def _puts(cluster: SimulatedServe) -> int:
    return cluster.calls.count("PUT")


async def test_ours_come_and_go_beside_a_foreign_application(
    api: ServeAPI, locks: ClusterLocks, cluster: SimulatedServe
) -> None:
    cluster.put({"applications": [foreign("theirs", route="/")], "target_capacity": 80})
    state = await converge(api, locks, [ours("index-a")], {})
    assert set(state.applications) == {"index-a", "theirs"}
    assert cluster.target_capacity == 80
    await converge(api, locks, [], {"index-a": "shop/chairs"})
    cluster.settle()
    assert cluster.declared() == {"theirs": foreign("theirs", route="/")}


async def test_a_cluster_that_is_as_wanted_is_only_read(
    api: ServeAPI, locks: ClusterLocks, cluster: SimulatedServe
) -> None:
    await converge(api, locks, [ours("index-a")], {})
    await converge(api, locks, [ours("index-a")], {})
    assert _puts(cluster) == 1


async def test_a_replica_count_replaces_no_replica(
    api: ServeAPI, locks: ClusterLocks, cluster: SimulatedServe
) -> None:
    for replicas in (1, 3):
        deployments = [{"name": "D", "num_replicas": replicas}]
        await converge(api, locks, [ours("index-a", deployments=deployments)], {})
    assert cluster.declared()["index-a"]["deployments"][0]["num_replicas"] == 3
    assert cluster.applications["index-a"].generation == 1


async def test_many_resources_that_write_at_once_all_get_their_applications(
    api: ServeAPI, other_api: ServeAPI, locks: ClusterLocks, cluster: SimulatedServe
) -> None:
    """With different spellings of the address; without taking turns, most would be overwritten by the last."""
    apis = [api, other_api] * 10
    wanted = [ours(f"index-{i}", f"shop/{i}") for i in range(20)]
    await asyncio.gather(*(converge(a, locks, [app], {}) for a, app in zip(apis, wanted, strict=True)))
    assert set(cluster.declared()) == {app["name"] for app in wanted}
    assert _puts(cluster) == 20


async def test_two_operators_that_share_no_lock_both_end_with_their_applications(
    api: ServeAPI, other_api: ServeAPI, cluster: SimulatedServe
) -> None:
    """The second comes in between the first one's reading and writing, and writes over it right after."""
    theirs = ours("index-b", "shop/tables")

    def overwrite() -> None:
        cluster.after_put = None
        cluster.put({"applications": [theirs]})

    cluster.after_put = overwrite
    state = await converge(api, ClusterLocks(), [ours("index-a")], {})
    assert {name for name, app in state.applications.items() if not app.leaving} == {"index-a", "index-b"}
    await converge(other_api, ClusterLocks(), [theirs], {})
    assert set(cluster.declared()) == {"index-a", "index-b"}
    assert _puts(cluster) == 2


async def test_two_writers_at_once_without_a_lock_converge_by_coming_again(
    api: ServeAPI, other_api: ServeAPI, cluster: SimulatedServe
) -> None:
    one, two = ours("index-a", "shop/a"), ours("index-b", "shop/b")
    for _ in range(2):
        await asyncio.gather(
            converge(api, ClusterLocks(), [one], {}), converge(other_api, ClusterLocks(), [two], {})
        )
    assert set(cluster.declared()) == {"index-a", "index-b"}


async def test_a_program_that_undoes_every_write_is_reported_after_three(
    api: ServeAPI, locks: ClusterLocks, cluster: SimulatedServe
) -> None:
    cluster.after_put = lambda: cluster.put({"applications": [foreign("theirs")]})
    with pytest.raises(ClusterRefused, match=r"does not keep .*index-a.*another program") as caught:
        await converge(api, locks, [ours("index-a")], {})
    assert cluster.url in str(caught.value)
    assert _puts(cluster) == 3
    assert set(cluster.declared()) == {"theirs"}


async def test_an_application_that_our_writing_caught_is_told(
    api: ServeAPI, locks: ClusterLocks, cluster: SimulatedServe, caplog: pytest.LogCaptureFixture
) -> None:
    cluster.before_put = lambda: cluster.put({"applications": [foreign("late")]})
    with caplog.at_level(logging.WARNING):
        await converge(api, locks, [ours("index-a")], {})
    assert "late was deployed" in caplog.text


async def test_a_taken_name_writes_nothing(
    api: ServeAPI, locks: ClusterLocks, cluster: SimulatedServe
) -> None:
    cluster.serve_run("index-a")
    with pytest.raises(NameTaken):
        await converge(api, locks, [ours("index-a")], {})
    assert _puts(cluster) == 0


@pytest.mark.parametrize("after", [0, 1, 2, 3], ids=["version", "read", "write", "verifying read"])
@pytest.mark.parametrize("fault", [Fault.ERROR, Fault.RESET])
async def test_a_fault_at_any_call_is_reported_and_healed_by_the_next_attempt(
    api: ServeAPI, locks: ClusterLocks, cluster: SimulatedServe, after: int, fault: Fault
) -> None:
    cluster.put({"applications": [foreign("theirs")]})
    cluster.fail_next(fault, after)
    with pytest.raises(ClusterUnreachable):
        await converge(api, locks, [ours("index-a")], {})
    await asyncio.wait_for(converge(api, locks, [ours("index-a")], {}), 5)
    assert set(cluster.declared()) == {"index-a", "theirs"}


async def test_a_cluster_that_hangs_does_not_hold_up_another(
    cluster: SimulatedServe, locks: ClusterLocks
) -> None:
    async with locks.of("http://hanging:8265"), ServeAPI(cluster.url, TOKEN) as api:
        await asyncio.wait_for(converge(api, locks, [ours("index-a")], {}), 5)
    assert set(cluster.declared()) == {"index-a"}


@pytest.mark.parametrize(
    "spelling", ["http://Ray-Head:8265/", "HTTP://ray-head:8265", "http://ray-head:8265//"]
)
def test_spellings_of_an_address_have_one_lock(locks: ClusterLocks, spelling: str) -> None:
    lock = locks.of("http://ray-head:8265")
    assert locks.of(spelling) is lock
    assert locks.of("http://ray-head:8266") is not lock


@pytest.mark.parametrize(
    ("address", "spelled"),
    [
        ("http://ray", "http://ray:80"),
        ("https://ray/dash/", "https://ray:443/dash"),
        ("http://[::1]:8265", "http://[::1]:8265"),
    ],
)
def test_an_address_keeps_its_path_and_gets_its_port(address: str, spelled: str) -> None:
    assert normalised(address) == spelled
