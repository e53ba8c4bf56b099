"""A real Ray cluster with a token: ours come, change and go, and the applications of others do not notice."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from tenacity import retry, retry_if_exception_type, stop_after_delay, wait_fixed

from visualindex_operator.cluster_locks import ClusterLocks
from visualindex_operator.serve_api import TOKEN_HEADER, ServeAPI
from visualindex_operator.serve_converge import converge
from visualindex_operator.serve_problems import ClusterRefused, NameTaken

from .applications import foreign, ours
from .real_ray import TOKEN, RealRay, real_ray

pytestmark = [pytest.mark.stack, pytest.mark.timeout(2400)]

OWNER = "shop/chairs"


@pytest.fixture(scope="module")
def ray() -> Iterator[RealRay]:
    with real_ray() as running:
        yield running


def _chairs(replicas: int = 1, *, name: str = "gateway-chairs", route: str = "/chairs") -> dict[str, Any]:
    deployments = [{"name": "Toy", "num_replicas": replicas, "graceful_shutdown_timeout_s": 1}]
    toy = {"import_path": "toy_application:build", "args": {"word": "ours"}, "deployments": deployments}
    return ours(name, OWNER, route=route, **toy)


def _theirs() -> dict[str, Any]:
    toy = {"import_path": "toy_application:build", "args": {"word": "theirs"}}
    environment = {"runtime_env": {"env_vars": {"THEIR_SECRET": "kept"}}}
    return foreign("theirs", route="/theirs", **toy, **environment)


def _put(ray: RealRay, config: dict[str, Any], headers: dict[str, str]) -> httpx.Response:
    url = f"{ray.dashboard}/api/serve/applications/"
    return httpx.put(url, json=config, headers=headers, timeout=90, trust_env=False)


@retry(
    retry=retry_if_exception_type((AssertionError, httpx.HTTPError)),
    stop=stop_after_delay(300),
    wait=wait_fixed(0.2),
    reraise=True,
)
def _said(ray: RealRay, route: str, status: int = 200) -> dict[str, Any]:
    answer = httpx.get(f"http://127.0.0.1:{ray.serve_port}{route}", timeout=5, trust_env=False)
    assert answer.status_code == status
    return answer.json() if status == httpx.codes.OK else {}


@retry(
    retry=retry_if_exception_type(AssertionError),
    stop=stop_after_delay(300),
    wait=wait_fixed(0.2),
    reraise=True,
)
async def _until(api: ServeAPI, name: str, status: str | None, replicas: int | None = None) -> None:
    app = (await api.read()).applications.get(name)
    assert (app.status if app else None) == status
    if app and replicas is not None:
        assert app.deployments["Toy"].replicas == {"RUNNING": replicas}


async def test_whoever_has_no_token_is_refused(ray: RealRay) -> None:
    assert _put(ray, {"applications": []}, {}).status_code == 401
    assert _put(ray, {"applications": []}, {TOKEN_HEADER: "Bearer wrong"}).status_code == 403
    async with ServeAPI(ray.dashboard) as nobody, ServeAPI(ray.dashboard, "wrong") as stranger:
        for api, cause in ((nobody, "wants a token"), (stranger, "refuses the token")):
            with pytest.raises(ClusterRefused, match=cause):
                await api.write({"applications": []})
            with pytest.raises(ClusterRefused, match=cause):
                await api.read()


async def test_ours_come_change_and_go_beside_the_applications_of_others(ray: RealRay) -> None:
    locks = ClusterLocks()
    options = {
        "http_options": {"host": "127.0.0.1", "port": ray.serve_port},
        "logging_config": {"encoding": "JSON"},
    }
    stated = _put(ray, {**options, "applications": [_theirs()]}, {TOKEN_HEADER: f"Bearer {TOKEN}"})
    assert stated.status_code == 200, stated.text
    ray.run("toy_application.py")
    theirs, started = _said(ray, "/theirs"), _said(ray, "/started")

    async with ServeAPI(ray.dashboard, TOKEN) as api:
        await _until(api, "theirs", "RUNNING", 1)
        declared = (await api.read()).applications["theirs"].deployed_app_config
        assert declared == {**_theirs(), "logging_config": {"encoding": "JSON"}}

        await converge(api, locks, [_chairs()], {})
        await _until(api, "gateway-chairs", "RUNNING", 1)
        first = _said(ray, "/chairs")
        assert first["word"] == "ours"
        state = await converge(api, locks, [_chairs()], {})
        assert state.applications["gateway-chairs"].status == "RUNNING", "a second write would deploy again"

        await converge(api, locks, [_chairs(2)], {})
        await _until(api, "gateway-chairs", "RUNNING", 2)
        assert first["pid"] in {_said(ray, "/chairs")["pid"] for _ in range(50)}

        for taken in (
            _chairs(name="theirs"),
            _chairs(route="/theirs"),
            _chairs(name="started"),
            _chairs(route="/started"),
        ):
            with pytest.raises(NameTaken):
                await converge(api, locks, [taken], {})
        with pytest.raises(ClusterRefused, match=r"num_replicas.*greater than 0"):
            await converge(api, locks, [_chairs(-1)], {})

        await converge(api, locks, [], {"gateway-chairs": OWNER})
        await _until(api, "gateway-chairs", None)
        _said(ray, "/chairs", 404)
        state = await api.read()
        assert set(state.applications) == {"theirs", "started"}
        assert state.applications["theirs"].deployed_app_config == declared
    assert (_said(ray, "/theirs"), _said(ray, "/started")) == (theirs, started), (
        "their processes were not replaced"
    )
