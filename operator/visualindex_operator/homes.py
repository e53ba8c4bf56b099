"""What a home of a group is: where its applications run, how they stand there, and how a plan is carried out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from visualindex.credentials import Credentials
from visualindex.planning.observations import GroupObserved, Member, Serving
from visualindex.planning.plan import EndCluster, Serve, StopServing
from visualindex_operator.live import Live, Object

HomeAction = Serve | StopServing | EndCluster
"""What a home carries out; migrations run as Jobs wherever an index is served."""
ROTATED = "other secrets for"
"""How a line begins that tells of new credentials, among what `carry_out` says it wrote."""


@dataclass(frozen=True)
class Standing:
    """How the applications of a group stand in their home."""

    serving: Mapping[str, Serving]
    shape: str = ""
    endpoint: str = ""
    dashboard: str = ""
    kept: Mapping[str, Credentials] = field(default_factory=dict)
    """Credentials that the running applications were given."""


@dataclass(frozen=True)
class Seen:
    """The observations for the planner, and what carrying out its plan needs besides."""

    observed: GroupObserved
    standing: Standing
    fresh: Mapping[str, Credentials]
    """Credentials from the Secrets that specs name, where complete."""
    migration_inputs: Mapping[str, Any]


class Home(Protocol):
    """KubeRay, or a Ray cluster that somebody else runs."""

    async def look(self, namespace: str, cluster: str, members: Sequence[Member], live: Live) -> Standing:
        """How the group's applications stand. Raises KubeError when the API server does not tell."""

    async def carry_out(
        self,
        namespace: str,
        cluster: str,
        action: HomeAction,
        bodies: Mapping[str, Object],
        seen: Seen,
        live: Live,
    ) -> list[str]:
        """Do what one action says; returns what was written, a line each. Raises KubeError."""
