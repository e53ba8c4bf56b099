"""A local service starts what the planner says, in its order."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.postgres import running_postgres

from visualindex.errors import ProblemError
from visualindex.local.planned import next_steps, what_is_missing
from visualindex.local.supervisor import Options, Supervisor
from visualindex.planning.plan import Migrate, Serve
from visualindex.spec import VisualIndex

_NOBODY = "postgresql://127.0.0.1:1/nothing"


@pytest.fixture(scope="module")
def dsn() -> Iterator[str]:
    with running_postgres() as server:
        yield server.dsn


def _index(name: str, **spec: object) -> VisualIndex:
    document = {"apiVersion": "visualindex.dev/v1alpha1", "kind": "VisualIndex", "metadata": {"name": name}}
    return VisualIndex.model_validate(document | {"spec": spec})


async def test_the_database_is_migrated_before_anything_is_served(dsn: str) -> None:
    told = await next_steps([_index("shop"), _index("side")], dsn, migrated=False)
    assert {type(action) for action in told.actions} == {Migrate}


async def test_then_all_indexes_are_served(dsn: str) -> None:
    told = await next_steps([_index("shop"), _index("side")], dsn, migrated=True)
    [serve] = told.actions
    assert isinstance(serve, Serve)
    assert [one.name for one in serve.served] == ["shop", "side"]


async def test_a_suspended_index_is_served_by_whoever_starts_it_by_hand(dsn: str) -> None:
    [serve] = (await next_steps([_index("shop", suspend=True)], dsn, migrated=True)).actions
    assert isinstance(serve, Serve)


@pytest.mark.parametrize("migrated", [False, True])
async def test_without_its_database_nothing_happens_and_the_reason_is_known(migrated: bool) -> None:
    told = await next_steps([_index("shop")], _NOBODY, migrated=migrated)
    assert told.actions == ()
    assert "MetadataReady: the database does not answer within 5 s" in what_is_missing(told)


def test_a_service_says_that_its_database_is_gone_and_leaves_nothing_running(tmp_path: Path) -> None:
    resources = [_index("shop", postgres={"dsn": _NOBODY})]
    supervisor = Supervisor(resources, Options(tmp_path / "state", port=8473), lambda line: None)
    with pytest.raises(ProblemError, match="the database does not answer within 5 s"):
        supervisor.run(lambda url: None)
    assert not (tmp_path / "state" / "logs").exists()
