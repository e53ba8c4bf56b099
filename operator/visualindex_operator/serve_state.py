"""What a Ray cluster says it is serving, reduced to what we decide by."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BeforeValidator, TypeAdapter

DECLARATIVE = "declarative"
IMPERATIVE = "imperative"
DELETING = "DELETING"


def _by_state(replicas: Any) -> Any:
    """The replicas of a deployment counted by their state."""
    if isinstance(replicas, list):
        return Counter(replica.get("state", "UNKNOWN") for replica in replicas if isinstance(replica, dict))
    return replicas


@dataclass(frozen=True)
class DeploymentState:
    """One deployment of an application."""

    name: str
    status: str
    """HEALTHY, UPDATING, UPSCALING, UNHEALTHY, DEPLOY_FAILED …"""
    message: str = ""
    target_num_replicas: int = 0
    replicas: Annotated[Mapping[str, int], BeforeValidator(_by_state)] = field(default_factory=dict)
    """State (RUNNING, STARTING, …) → number of replicas."""


@dataclass(frozen=True)
class ApplicationState:
    """One application, whoever put it there."""

    name: str
    status: str
    """NOT_STARTED, DEPLOYING, DEPLOY_FAILED, RUNNING, UNHEALTHY or DELETING."""
    source: str
    """`declarative`: by a PUT like ours. `imperative`: by `serve.run`; a PUT leaves it alone unless it names it."""
    message: str = ""
    route_prefix: str | None = None
    """Where it answers now; None while it is being built, or when it answers nowhere."""
    deployed_app_config: Mapping[str, Any] | None = None
    """What was PUT for it, without defaults; None for imperative applications and those being deleted."""
    deployments: Mapping[str, DeploymentState] = field(default_factory=dict)

    @property
    def leaving(self) -> bool:
        """Whether it is being deleted: nobody wants it any more, and its name and route come free."""
        return self.status == DELETING

    @property
    def routes(self) -> frozenset[str]:
        """The route prefixes it has or will have: while it changes, both."""
        declared = self._declared_route()
        return frozenset(route for route in (self.route_prefix, declared) if route is not None)

    def _declared_route(self) -> str | None:
        config = self.deployed_app_config
        if config is None:
            return None
        route: str | None = config.get("route_prefix", self.route_prefix or "/")
        return route


@dataclass(frozen=True)
class ServeState:
    """All applications of a cluster and the settings a write has to repeat."""

    applications: Mapping[str, ApplicationState] = field(default_factory=dict)
    proxy_location: str | None = None
    http_options: Mapping[str, Any] | None = None
    grpc_options: Mapping[str, Any] | None = None
    target_capacity: float | None = None


_STATE = TypeAdapter(ServeState)


def parse(document: bytes) -> ServeState:
    """The state in an answer of `GET /api/serve/applications/`. Raises pydantic's ValidationError for any other answer."""
    return _STATE.validate_json(document)
