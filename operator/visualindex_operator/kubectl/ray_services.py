"""What a RayService says of its clusters and the applications on them."""

from collections.abc import Iterator
from dataclasses import dataclass

from visualindex_operator.kubectl.cluster import Object


@dataclass(frozen=True)
class Application:
    """A Serve application on one of the clusters."""

    name: str
    status: str
    message: str

    @property
    def runs(self) -> bool:
        """Whether all its deployments are as wanted."""
        return self.status == "RUNNING"


@dataclass(frozen=True)
class Side:
    """The active cluster of a RayService, or the pending one that is to take over."""

    role: str
    cluster: str
    applications: list[Application]


def sides(ray_service: Object) -> Iterator[Side]:
    """The clusters there are, the active one first."""
    status = ray_service.get("status") or {}
    for role in ("active", "pending"):
        side = status.get(f"{role}ServiceStatus") or {}
        if name := side.get("rayClusterName"):
            yield Side(role, str(name), list(_applications(side)))


def serving_side(ray_service: Object) -> Side | None:
    """The active cluster; while there is none, the pending one."""
    return next(sides(ray_service), None)


def _applications(side: Object) -> Iterator[Application]:
    for name, application in sorted((side.get("applicationStatuses") or {}).items()):
        messages = [application.get("message")]
        messages += [
            f"{deployment} {state.get('status')}: {state['message']}"
            for deployment, state in sorted((application.get("serveDeploymentStatuses") or {}).items())
            if state.get("message") and state.get("status") != "HEALTHY"
        ]
        text = "; ".join(" ".join(str(message).split()) for message in messages if message)
        yield Application(name, str(application.get("status", "UNKNOWN")), text)
