"""Two operators that know of each other: the one of lower priority waits."""

from pathlib import Path

import pytest
import yaml
from tests.kubernetes.api_server import APPLY, ApiServer
from tests.operator_api.conftest import NewOperator
from tests.operator_api.documents import index
from tests.operator_api.namespace import Namespace
from tests.operator_api.scenarios import prepare
from tests.operator_api.versions import ready
from tests.operator_api.waiting import until

_CRDS = Path(__file__).parents[2] / "charts/visualindex/charts/kopf-peering/crds/peering.yaml"
_PEERS = "/apis/kopf.dev/v1/namespaces/{}/kopfpeerings"
_LIFETIME_S = 60
"""kopf's own: after it, an operator that does not report is taken for dead."""
_LOOKS = "visualindex_operator_reconciles_total"


@pytest.fixture
async def peering(simulated: ApiServer, namespace: Namespace) -> str:
    """A peering, as the chart makes it."""
    for document in yaml.safe_load_all(_CRDS.read_text()):
        path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{document['metadata']['name']}"
        simulated.request("PATCH", path, document, content_type=APPLY, fieldManager="tests", force="true")
    body = {"apiVersion": "kopf.dev/v1", "kind": "KopfPeering", "metadata": {"name": "visualindex"}}

    async def made() -> bool:
        return simulated.request("POST", _PEERS.format(namespace.name), body).status in (201, 409)

    await until(made, 30, "the peering is made")
    return "visualindex"


async def test_the_operator_of_lower_priority_takes_over_when_the_other_dies(
    peering: str, namespace: Namespace, new_operator: NewOperator
) -> None:
    higher, lower = (_operator(new_operator, peering, priority) for priority in (100, 1))
    await prepare(namespace, [index()])
    await higher.start()
    await until(lambda: ready(namespace, "shop"), 60, "shop is ready")
    await lower.start()
    await namespace.delete("NetworkPolicy", "shop-ray")
    await until(lambda: _has_policy(namespace), 15, "the higher one repairs")
    assert await lower.counted(_LOOKS) == 0
    higher.kill()
    await namespace.delete("NetworkPolicy", "shop-ray")
    took = await until(lambda: _has_policy(namespace), _LIFETIME_S + 15, "the lower one repairs")
    print(f"the lower one took over within {took:.1f} s")
    assert await lower.counted(_LOOKS) > 0


def _operator(new_operator: NewOperator, peering: str, priority: int):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return new_operator(VISUALINDEX_OPERATOR_PEERING=peering, VISUALINDEX_OPERATOR_PRIORITY=str(priority))


async def _has_policy(namespace: Namespace) -> bool:
    return any(one["metadata"]["name"] == "shop-ray" for one in await namespace.all("NetworkPolicy"))
