"""What the planner is told of the world: values, gathered by whoever plans."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from visualindex.spec import Spec
from visualindex.spec.status import EncoderStatus, Status

MigrationState = Literal["absent", "running", "done", "failed"]


@dataclass(frozen=True)
class Member:
    """One resource, as it was read. `spec` is None when it cannot be understood; `problem` says why."""

    name: str
    generation: int
    created: datetime
    spec: Spec | None
    problem: str = ""
    paused: bool = False
    approved: str = ""
    """The plan id that a person approved."""
    deleting: bool = False
    status: Status = field(default_factory=Status)


@dataclass(frozen=True)
class Check:
    """Whether something that an index depends on is there. `reason` and `message` are those of a condition."""

    ok: bool
    reason: str
    message: str = ""


@dataclass(frozen=True)
class Dependencies:
    """What an index needs before it can serve."""

    metadata: Check
    storage: Check
    keys: Check
    credentials: str = ""
    """Digest of the secrets that the checks were made with."""
    migration: MigrationState = "absent"
    """Of the job that brings this database to this release, for these credentials and keys."""
    migration_message: str = ""
    redis: Check = Check(True, "NotConfigured")
    """Of the Redis that keeps the state of the Ray head, where there is one."""


@dataclass(frozen=True)
class Serving:
    """How the applications of an index stand on the cluster that is in use.

    `settled` when the cluster runs what was last asked of it; `answers` is None when a search through the Service was
    answered, else why not.
    """

    exists: bool = False
    running: bool = False
    settled: bool = False
    failed: bool = False
    message: str = ""
    reason: str = ""
    answers: str | None = "nothing was asked yet"
    missing: str = ""
    """What is not as wanted although searches are answered: replicas, pods."""
    deployed: bool = False
    """Whether the cluster has applications of the index at all."""
    credentials: str = ""
    """Digest of the secrets that the running applications were given."""
    endpoint: str = ""
    """Base URL of the Serve proxy that answers for this index, where members of a group may name their own."""


@dataclass(frozen=True)
class MemberObserved:
    """Everything about one index."""

    dependencies: Dependencies
    serving: Serving = Serving()
    images: int | None = None
    encoder: EncoderStatus | None = None


@dataclass(frozen=True)
class GroupObserved:
    """Everything about a group of indexes that share a cluster."""

    members: Mapping[str, MemberObserved]
    cluster_shape: str = ""
    """Identity of the shape that the cluster was last asked to have; empty when there is no cluster."""
    cluster_endpoint: str = ""
    """Base URL of the cluster's Serve proxy."""
    dashboard: str = ""
