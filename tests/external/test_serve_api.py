"""Reading and writing the Serve configuration of a cluster, and every way in which that can fail."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from visualindex.local.ports import pick
from visualindex_operator.serve_api import ServeAPI
from visualindex_operator.serve_problems import ClusterRefused, ClusterUnreachable
from visualindex_operator.serve_state import DeploymentState

from .applications import foreign, ours
from .conftest import TOKEN
from .raw_server import raw_server, reply
from .simulated_serve import Fault, SimulatedServe


async def test_a_cluster_without_serve_has_no_applications(api: ServeAPI) -> None:
    state = await api.read()
    assert dict(state.applications) == {}
    assert state.http_options is None


async def test_applications_are_seen_whoever_put_them_there(api: ServeAPI, cluster: SimulatedServe) -> None:
    cluster.put({"applications": [foreign("a", route="/a", deployments=[{"name": "D", "num_replicas": 2}])]})
    cluster.serve_run("b", "/b")
    cluster.settle()
    state = await api.read()
    declared, started = state.applications["a"], state.applications["b"]
    assert (declared.status, declared.source, declared.route_prefix) == ("RUNNING", "declarative", "/a")
    assert declared.deployments["D"] == DeploymentState("D", "HEALTHY", "", 2, {"RUNNING": 2})
    assert declared.deployed_app_config == cluster.declared()["a"]
    assert (started.status, started.source, started.deployed_app_config) == ("RUNNING", "imperative", None)
    assert state.proxy_location == "EveryNode"
    assert state.http_options is not None


async def test_a_failed_deployment_says_why(api: ServeAPI, cluster: SimulatedServe) -> None:
    cluster.broken["index-a"] = "ModuleNotFoundError: no visualindex_serving"
    await api.write({"applications": [ours("index-a")]})
    cluster.settle()
    app = (await api.read()).applications["index-a"]
    assert (app.status, app.message) == ("DEPLOY_FAILED", "ModuleNotFoundError: no visualindex_serving")


async def test_the_client_does_not_look_like_a_browser(api: ServeAPI, cluster: SimulatedServe) -> None:
    """Ray shows browsers `<redacted>` in place of environment variables, and writing that back would destroy them."""
    await api.read()
    assert cluster.user_agents == {"visualindex-operator"}


@pytest.mark.parametrize("call", [lambda api: api.read(), lambda api: api.write({"applications": []})])
@pytest.mark.parametrize(
    ("fault", "cause"),
    [
        (Fault.ERROR, r"status 500: ray\.exceptions\.X: no"),
        (Fault.RESET, "disconnected"),
        (Fault.TIMEOUT, "within 0.2 s"),
    ],
)
async def test_a_cluster_that_fails_is_unreachable(
    cluster: SimulatedServe, call: Callable[[ServeAPI], Any], fault: Fault, cause: str
) -> None:
    cluster.fail_next(fault)
    async with ServeAPI(cluster.url, TOKEN, read_s=0.2, write_s=0.2) as api:
        with pytest.raises(ClusterUnreachable, match=cause) as caught:
            await call(api)
    _names_address_and_remedy(caught.value, cluster.url)


async def test_a_failure_after_the_version_was_seen_is_unreachable_too(
    api: ServeAPI, cluster: SimulatedServe
) -> None:
    cluster.fail_next(Fault.ERROR, after=1)
    with pytest.raises(ClusterUnreachable):
        await api.read()
    assert dict((await api.read()).applications) == {}


async def test_nobody_listening_is_unreachable() -> None:
    url = f"http://127.0.0.1:{pick(26870)}"
    async with ServeAPI(url) as api:
        with pytest.raises(ClusterUnreachable) as caught:
            await api.read()
    _names_address_and_remedy(caught.value, url)


async def test_an_answer_that_never_ends_is_unreachable() -> None:
    async def drip(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)  # the pace of the drip, not a wait

    async with raw_server(drip) as url, ServeAPI(url, read_s=0.3) as api:
        with pytest.raises(ClusterUnreachable, match=r"within 0\.3 s"):
            await api.read()


async def test_a_missing_token_is_refused_with_where_to_put_it(cluster: SimulatedServe) -> None:
    async with ServeAPI(cluster.url) as api:
        with pytest.raises(ClusterRefused, match=r"wants a token.*tokenSecretRef") as caught:
            await api.write({"applications": []})
    assert cluster.url in str(caught.value)
    assert cluster.running is False


async def test_a_wrong_token_is_refused_without_being_shown(cluster: SimulatedServe) -> None:
    async with ServeAPI(cluster.url, "outdated-token") as api:
        with pytest.raises(ClusterRefused, match=r"refuses the token.*403.*Secret") as caught:
            await api.read()
    assert "outdated-token" not in str(caught.value)


async def test_a_refused_configuration_carries_rays_reason(api: ServeAPI) -> None:
    bad = ours("index-a", deployments=[{"name": "D", "num_replicas": -1}])
    with pytest.raises(ClusterRefused, match=r"num_replicas.*greater than 0") as caught:
        await api.write({"applications": [bad]})
    assert "pydantic.dev" not in str(caught.value)


async def test_a_refusal_shows_nothing_of_the_configurations_secrets(api: ServeAPI) -> None:
    """On an external cluster the database's address and password are in the application's environment."""
    secret = "postgresql://u:hunter22@db/x"
    bad = ours("index-a", runtime_env={"env_vars": {"DSN": secret}, "working_dir": secret})
    with pytest.raises(ClusterRefused) as caught:
        await api.write({"applications": [bad, {"name": "b", "runtime_env": {"env_vars": {"DSN": secret}}}]})
    assert "2 validation errors" in str(caught.value)
    assert "hunter22" not in str(caught.value)


async def test_an_older_ray_is_refused(api: ServeAPI, cluster: SimulatedServe) -> None:
    cluster.ray_version = "2.9.3"
    with pytest.raises(ClusterRefused, match=r"runs Ray 2\.9\.3: it needs 2\.60"):
        await api.read()


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        ("404 Not Found", b"404: Not Found", "no Serve API"),
        ("501 Not Implemented", b"", r"ray\[serve\]"),
        ("302 Found", b"", "status 302"),
        ("200 OK", b"<html>", "not the dashboard"),
        ("200 OK", b'{"ray_version": "new"}', "not the dashboard"),
    ],
)
async def test_what_is_no_dashboard_is_refused(status: str, body: bytes, cause: str) -> None:
    async with raw_server(reply(status, body)) as url, ServeAPI(url) as api:
        with pytest.raises(ClusterRefused, match=cause) as caught:
            await api.read()
    assert url in str(caught.value)


def _names_address_and_remedy(error: Exception, url: str) -> None:
    assert url in str(error)
    assert "spec.ray.external.address" in str(error)
