"""What people do to indexes: a namespace that has settled, and then one step after the other."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tests.operator_api.documents import SECRETS, index, secret
from tests.operator_api.namespace import Namespace, Object

from visualindex_operator import names

Step = Callable[[Namespace], Awaitable[Any]]


@dataclass(frozen=True)
class Scenario:
    """`given` before the faults, `steps` under them; `ready` are the indexes that answer in the end."""

    name: str
    given: Sequence[Object]
    steps: Sequence[Step]
    ready: Sequence[str] = ("shop",)

    def __str__(self) -> str:
        return self.name


async def prepare(namespace: Namespace, given: Sequence[Object]) -> None:
    """The Secrets of all scenarios, then the indexes of this one."""
    for name, values in SECRETS.items():
        await namespace.create("Secret", secret(name, **values))
    for document in given:
        await namespace.create("VisualIndex", document)


def create(document: Object) -> Step:
    return lambda namespace: namespace.create("VisualIndex", document)


def change(name: str = "shop", **spec: Any) -> Step:
    return lambda namespace: namespace.merge("VisualIndex", name, {"spec": spec})


def annotate(**annotations: str | None) -> Step:
    found = {f"visualindex.dev/{key}": value for key, value in annotations.items()}
    return lambda namespace: namespace.merge("VisualIndex", "shop", {"metadata": {"annotations": found}})


def delete(kind: str, name: str) -> Step:
    return lambda namespace: namespace.delete(kind, name)


def rotate(name: str, **values: str) -> Step:
    data = secret(name, **values)["data"]
    return lambda namespace: namespace.merge("Secret", name, {"data": data})


async def approve(namespace: Namespace) -> None:
    """Repeat the id of the change that waits."""
    plan = (await namespace.get("VisualIndex", "shop"))["status"]["plan"]
    assert plan["state"] == "Waiting", plan
    await annotate(approve=plan["id"])(namespace)


async def delete_job(namespace: Namespace) -> None:
    [job] = await namespace.all("Job")
    await namespace.delete("Job", job["metadata"]["name"])


_BIGGER = {"workers": {"memory": "6Gi"}}
_REBUILT = index(reindex={"placement": "Job"})
_GENERATED = index(access={})
_SHARED = [index("shop"), index("toys", ray={"cluster": "shop"})]

SCENARIOS = [
    Scenario("create", [], [create(_GENERATED)]),
    Scenario("create suspended", [], [create(index(suspend=True))], ()),
    Scenario("change in place", [index()], [change(gateway={"maxConcurrentRequests": 32})]),
    Scenario("change to a new cluster", [index()], [change(ray=_BIGGER)]),
    Scenario("recreate after approval", [index(ray={"upgrade": "Recreate"})], [change(ray=_BIGGER), approve]),
    Scenario("approve every change", [index(changePolicy="Approve")], [change(ray=_BIGGER), approve]),
    Scenario("suspend", [index()], [change(suspend=True)], ()),
    Scenario("resume", [index(suspend=True)], [change(suspend=False)]),
    Scenario(
        "rotate the database's password", [index()], [rotate("postgres", dsn="postgresql://shop:new@db/shop")]
    ),
    Scenario("rotate the bucket's keys", [index()], [rotate("bucket", accessKey="AKNEW", secretKey="new")]),
    Scenario("rotate the API keys", [index()], [rotate("keys", web="vi_search_new")]),
    Scenario(
        "pause, change, go on",
        [index()],
        [annotate(paused="true"), change(ray=_BIGGER), annotate(paused=None)],
    ),
    Scenario("rebuild by annotation", [_REBUILT], [annotate(reindex="monday")]),
    Scenario("suspend during a rebuild", [_REBUILT], [annotate(reindex="monday"), change(suspend=True)], ()),
    Scenario("another encoder", [index()], [change(encoder={"dimension": 512})]),
    Scenario("delete and retain", [index()], [delete("VisualIndex", "shop")], ()),
    Scenario("delete with the data", [index(deletionPolicy="Delete")], [delete("VisualIndex", "shop")], ()),
    Scenario("join a shared cluster", [index()], [create(_SHARED[1])], ("shop", "toys")),
    Scenario("leave a shared cluster", _SHARED, [delete("VisualIndex", "toys")]),
    Scenario(
        "leave a shared cluster with the data",
        [_SHARED[0], index("toys", ray={"cluster": "shop"}, deletionPolicy="Delete")],
        [delete("VisualIndex", "toys")],
    ),
    Scenario("the oldest leaves", _SHARED, [delete("VisualIndex", "shop")], ("toys",)),
    Scenario("lose the RayService", [index()], [delete("RayService", "shop")]),
    Scenario("lose the NetworkPolicy", [index()], [delete("NetworkPolicy", "shop-ray")]),
    Scenario("lose the disruption budget", [index()], [delete("PodDisruptionBudget", "shop-worker")]),
    Scenario("lose the mounted Secret", [index()], [delete("Secret", names.credentials_secret("shop"))]),
    Scenario("lose the generated keys", [_GENERATED], [delete("Secret", names.api_keys_secret("shop"))]),
    Scenario("lose the migration", [index()], [delete_job]),
    Scenario("lose the Service", [index()], [delete("Service", names.serve_service("shop"))]),
]
