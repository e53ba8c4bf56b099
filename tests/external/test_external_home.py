"""Indexes on a cluster of others: which credentials they run with, and what is told where the cluster says no."""

import itertools
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import pytest
from tests.operator_api.fake_probes import FakeProbes

from visualindex.credentials import DSN_VARIABLE, Credentials
from visualindex.planning.observations import GroupObserved, Member, Serving
from visualindex.planning.plan import Action, Serve, Served, StopServing
from visualindex.planning.shape import cluster_shape
from visualindex.spec import EncoderSpec, Spec
from visualindex_operator.dependencies import DependencyChecks
from visualindex_operator.external_home import ExternalHome
from visualindex_operator.homes import Seen, Standing
from visualindex_operator.live import Live
from visualindex_operator.serve_merge import OWNER

from .applications import foreign
from .conftest import TOKEN
from .secrets_in_memory import SecretsInMemory
from .simulated_serve import Fault, SimulatedServe, simulated_serve

OLD, NEW = Credentials("postgresql://db/old"), Credentials("postgresql://db/new")
NOBODY = cast("Live", None)  # an external cluster has no children that watches would show


class Group:
    """The indexes of one cluster, looked at and served as the reconciler does it."""

    def __init__(self, cluster: SimulatedServe) -> None:
        self.cluster, self.kube = cluster, SecretsInMemory()
        self.kube.put("ray", token=TOKEN)
        hours = itertools.count(step=3600)  # no answer is kept from one look to the next
        probes = FakeProbes()
        checks = DependencyChecks(self.kube, probes, lambda: float(next(hours)))
        self.home = ExternalHome(probes, checks)
        self.externals: dict[str, dict[str, Any]] = {}
        self.shards = 1
        self.encoder: dict[str, Any] = {}
        self.others: tuple[EncoderSpec, ...] = ()

    def add(self, name: str, **otherwise: Any) -> None:
        """An index that names the cluster, but for what is said otherwise."""
        reference = {"name": "ray", "key": "token"}
        usual = {
            "address": self.cluster.url,
            "serveUrl": "http://ray-serve:8000",
            "tokenSecretRef": reference,
        }
        self.externals[name] = usual | otherwise

    def spec(self, name: str) -> Spec:
        ray = {"mode": "External", "external": self.externals[name]}
        return Spec.model_validate({"ray": ray, "index": {"shards": self.shards}, "encoder": self.encoder})

    async def look(self) -> Standing:
        members = [
            Member(name, 1, datetime(2026, 3, 1, tzinfo=UTC), self.spec(name)) for name in self.externals
        ]
        return await self.home.look("shop", self.cluster.url, members, NOBODY)

    async def serve(
        self, *names: str, fresh: dict[str, Credentials] | None = None, renewed: bool = True
    ) -> Standing:
        """One look, and the action that serves these indexes."""
        served = tuple(Served(name, self.spec(name), f"/{name}", renewed, self.others) for name in names)
        return await self.do(Serve(served, cluster_shape([one.resource for one in served])), fresh)

    async def do(self, action: Action, fresh: dict[str, Credentials] | None = None) -> Standing:
        standing = await self.look()
        bodies = {
            name: {"metadata": {"name": name}, "spec": {"ray": {"mode": "External", "external": external}}}
            for name, external in self.externals.items()
        }
        seen = Seen(GroupObserved({}), standing, fresh or {}, {})
        await self.home.carry_out("shop", self.cluster.url, action, bodies, seen, NOBODY)
        self.cluster.settle()
        return standing

    def dsn(self, name: str) -> str:
        """The database that an index's gateways were last told of."""
        return str(self.cluster.declared()[f"gateway-{name}"]["runtime_env"]["env_vars"][DSN_VARIABLE])


@pytest.fixture
async def group(cluster: SimulatedServe) -> AsyncIterator[Group]:
    group = Group(cluster)
    group.add("chairs")
    yield group
    await _close(group, *group.externals)


async def _close(group: Group, *names: str) -> None:
    for name in names:
        group.home.forget("shop", name)
    await group.home.clients._close_unused()


def _generations(cluster: SimulatedServe) -> Sequence[int]:
    return [cluster.applications[f"{part}-chairs"].generation for part in ("index", "gateway")]


async def test_an_index_whose_secret_is_gone_goes_on_with_the_credentials_it_has(group: Group) -> None:
    await group.serve("chairs", fresh={"chairs": OLD})
    standing = await group.serve("chairs", fresh={}, renewed=False)
    assert standing.kept["chairs"] == OLD
    assert standing.serving["chairs"].credentials == OLD.digest()
    assert group.dsn("chairs") == OLD.dsn
    assert _generations(group.cluster) == [1, 1]


async def test_a_changed_secret_goes_out_only_once_it_may_replace_the_one_in_use(group: Group) -> None:
    await group.serve("chairs", fresh={"chairs": OLD})
    await group.serve("chairs", fresh={"chairs": NEW}, renewed=False)
    assert group.dsn("chairs") == OLD.dsn
    await group.serve("chairs", fresh={"chairs": NEW}, renewed=True)
    assert group.dsn("chairs") == NEW.dsn


async def test_an_index_without_known_credentials_is_left_as_it_is_deployed(group: Group) -> None:
    await group.serve("chairs", fresh={"chairs": OLD})
    config = group.cluster.declared()["gateway-chairs"]
    del config["runtime_env"]["env_vars"][DSN_VARIABLE]
    before, puts = dict(group.cluster.declared()), group.cluster.calls.count("PUT")
    standing = await group.serve("chairs", fresh={})
    assert standing.kept == {}
    assert group.cluster.declared() == before
    assert group.cluster.calls.count("PUT") == puts


async def test_credentials_of_somebody_elses_application_are_not_ours(group: Group) -> None:
    variables = {DSN_VARIABLE: "postgresql://theirs", OWNER: "other/chairs"}
    group.cluster.put({"applications": [foreign("gateway-chairs", runtime_env={"env_vars": variables})]})
    assert (await group.look()).kept == {}


async def test_what_is_as_wanted_is_read_once_a_look(group: Group) -> None:
    await group.serve("chairs", fresh={"chairs": OLD})
    group.cluster.calls.clear()
    await group.serve("chairs", fresh={"chairs": OLD})
    assert group.cluster.calls == ["GET"]


async def test_another_number_of_shards_arrives_step_by_step_and_is_told_meanwhile(group: Group) -> None:
    await group.serve("chairs", fresh={"chairs": OLD})
    group.shards = 2
    names = []
    for _ in range(6):
        standing = await group.serve("chairs", fresh={"chairs": OLD})
        names.append(sorted(group.cluster.declared()))
        if "shards-chairs-2" in names[-1][-1] and len(names) > 1:
            assert not standing.serving["chairs"].settled
            assert "shards-chairs-2 holds the shards" in standing.serving["chairs"].missing
    both = ["gateway-chairs", "index-chairs"]
    assert names == [[*both, "shards-chairs-2"]] * 3 + [both] * 3
    assert (await group.look()).serving["chairs"].settled


async def test_a_name_that_is_taken_stops_a_reshard_and_nothing_else(group: Group) -> None:
    await group.serve("chairs", fresh={"chairs": OLD})
    others = [foreign("shards-chairs-2", route="/theirs"), *group.cluster.declared().values()]
    group.cluster.put({"applications": others})
    group.cluster.settle()
    group.shards = 2
    await group.serve("chairs", fresh={"chairs": OLD})
    assert "shards-chairs-2 is taken" in group.home.refusal("shop", "chairs")
    assert _generations(group.cluster) == [1, 1]


async def test_an_index_that_ends_while_it_reshards_leaves_nothing_behind(group: Group) -> None:
    await group.serve("chairs", fresh={"chairs": OLD})
    group.shards = 2
    await group.serve("chairs", fresh={"chairs": OLD})
    assert "shards-chairs-2" in group.cluster.declared()
    await group.do(StopServing())
    assert group.cluster.declared() == {}


async def test_a_refusal_is_told_until_the_cluster_takes_what_it_refused(group: Group) -> None:
    group.add("tables")
    group.cluster.put({"applications": [foreign("gateway-chairs", route="/theirs")]})
    both = {"chairs": OLD, "tables": OLD}
    await group.serve("chairs", "tables", fresh=both)
    assert "gateway-chairs is taken" in group.home.refusal("shop", "chairs")
    assert group.home.refusal("shop", "tables") == ""
    assert (await group.look()).serving["chairs"].reason == "NameTaken"
    group.cluster.put({"applications": []})
    group.cluster.settle()
    await group.serve("chairs", "tables", fresh=both)
    assert group.home.refusal("shop", "chairs") == ""
    assert set(group.cluster.declared()) >= {"gateway-chairs", "gateway-tables"}


async def test_an_application_that_ray_does_not_tell_of_refuses_the_write_with_a_reason(
    group: Group,
) -> None:
    variables = {"runtime_env": {"env_vars": {"A": "<redacted>"}}}
    group.cluster.put({"applications": [foreign("theirs", **variables)]})
    await group.serve("chairs", fresh={"chairs": OLD})
    serving = (await group.look()).serving["chairs"]
    assert serving.reason == "ClusterRefused"
    assert "theirs" in serving.message


async def test_what_a_cluster_that_does_not_answer_was_asked_counts_as_refused(group: Group) -> None:
    await group.serve("chairs", fresh={"chairs": OLD})
    group.cluster.fail_next(Fault.ERROR)
    await group.do(StopServing())
    assert "status 500" in group.home.refusal("shop", "chairs")
    assert set(group.cluster.declared()) == {"index-chairs", "gateway-chairs"}
    await group.do(StopServing())
    assert group.home.refusal("shop", "chairs") == ""
    assert group.cluster.declared() == {}


async def test_each_index_is_judged_by_its_own_token_and_url(group: Group) -> None:
    group.kube.put("outdated", token="another-token")
    group.add("tables", tokenSecretRef={"name": "outdated", "key": "token"}, serveUrl="http://own:80/")
    group.add("lamps", tokenSecretRef={"name": "nowhere", "key": "token"})
    serving = (await group.look()).serving
    assert {name: one.reason for name, one in serving.items()} == {
        "chairs": "",
        "tables": "ClusterRefused",
        "lamps": "ClusterRefused",
    }
    assert "there is no Secret nowhere" in serving["lamps"].message
    assert serving["chairs"].endpoint == "http://ray-serve:8000"
    assert serving["tables"].endpoint == "http://own:80"


async def test_indexes_with_one_token_share_one_reading(group: Group) -> None:
    for name in ("tables", "lamps"):
        group.add(name)
    await group.look()
    group.cluster.calls.clear()
    await group.look()
    assert group.cluster.calls == ["GET"]


@pytest.mark.parametrize("token", ["geheim-ü", "two\nlines-secret", "two words-secret", " "])
async def test_what_is_no_token_is_refused_without_being_shown(group: Group, token: str) -> None:
    group.kube.put("ray", token=token)
    serving = (await group.look()).serving["chairs"]
    assert serving.reason == "ClusterRefused"
    assert "Secret ray, key token (spec.ray.external.tokenSecretRef) is no token" in serving.message
    assert "secret" not in serving.message
    assert "geheim" not in serving.message


@pytest.mark.parametrize("address", ["http://ray:port", "http://ray:99999", "http://ray:0", "http://[zz]:80"])
async def test_an_address_that_cannot_be_asked_is_refused(group: Group, address: str) -> None:
    group.add("chairs", address=address)
    await group.serve("chairs", fresh={"chairs": OLD})
    assert (await group.look()).serving["chairs"].reason == "ClusterRefused"
    refusal = group.home.refusal("shop", "chairs")
    assert refusal.startswith(f"{address} is no address")
    assert "spec.ray.external.address" in refusal


async def test_a_rotated_token_leaves_no_client_behind(group: Group) -> None:
    group.add("tables")
    await group.look()
    [first] = [one.api for one in group.home.clients._open.values()]
    group.cluster.token = "the-next-token"
    group.kube.put("ray", token="the-next-token")
    serving: Serving = (await group.look()).serving["chairs"]
    assert serving.reason == ""
    assert len(group.home.clients._open) == 1
    assert first._client.is_closed


async def test_the_last_index_takes_its_client_with_it(group: Group) -> None:
    async with simulated_serve() as other:
        group.add("tables", address=other.url, tokenSecretRef=None)
        await group.look()
        assert len(group.home.clients._open) == 2
        del group.externals["tables"]
        group.home.forget("shop", "tables")
        await group.look()
        assert len(group.home.clients._open) == 1


def _encoders(group: Group) -> list[str]:
    return sorted(name for name in group.cluster.declared() if name.startswith("encoder-"))


async def test_both_encoders_stand_while_an_index_moves_and_its_shards_stay(group: Group) -> None:
    """The old one goes once nothing needs it, and with the index whatever it has."""
    group.encoder = {"placement": "deployment"}
    await group.serve("chairs", fresh={"chairs": OLD})
    (old,) = _encoders(group)
    shards = _generations(group.cluster)[0]
    group.encoder = {"placement": "deployment", "dimension": 128}
    group.others = (EncoderSpec(placement="deployment"),)
    await group.serve("chairs", fresh={"chairs": OLD})
    both = _encoders(group)
    assert len(both) == 2
    assert old in both
    assert _generations(group.cluster)[0] == shards
    group.others = ()
    await group.serve("chairs", fresh={"chairs": OLD})
    assert _encoders(group) == [name for name in both if name != old]
    await group.do(StopServing())
    assert _encoders(group) == []
