"""What the planner is told of the world: values, gathered by whoever plans."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from visualindex.spec import EncoderSpec, Spec
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
    reindex: str = ""
    """The value of the annotation that asks for a rebuild, once for each value."""
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
    url: str = ""
    """Where the index was asked whether it answers: the base URL of its HTTP API, as the operator reaches it."""
    endpoint: str = ""
    """Base URL of the Serve proxy that answers for this index, where members of a group may name their own."""


@dataclass(frozen=True)
class Generation:
    """A generation that the database has. `recall` and `target` are shares of the exact hits; None: not measured."""

    id: str
    state: Literal["ready", "preparing", "active", "kept", "failed"]
    created: datetime
    recall: float | None = None
    target: float | None = None
    met: bool = True
    problem: str = ""

    @property
    def measured(self) -> str:
        """The recall as people read it; empty where none was measured."""
        return "" if self.recall is None else f"{self.recall:.3f}"

    @property
    def figures(self) -> str:
        """What was measured and what was asked for: `0.962 of 0.95`."""
        return f"{self.measured or 'nothing measured'} of {0 if self.target is None else self.target:g}"


@dataclass(frozen=True)
class EncoderSeen:
    """An encoder that an index is served with (`planning.encoder_phase.ServedEncoder`); `section` is that of the spec."""

    fingerprint: str
    section: EncoderSpec
    state: str
    problem: str | None = None
    searched: bool = False
    generations: Sequence[str] = ()
    held_by: int = 0
    gateways: int = 0


@dataclass(frozen=True)
class LastCheck:
    """The last check of an index for consistency; `faults` are those that are left, in half a sentence."""

    ended: datetime
    consistent: bool
    faults: str = ""


@dataclass(frozen=True)
class ReindexJob:
    """A rebuild, as the database has it. `apart`: the operator finds it a place; `held` while a process holds it."""

    id: str
    state: Literal["queued", "running", "paused", "done", "failed", "cancelled"]
    apart: bool = False
    phase: str = ""
    done: int = 0
    total: int = 0
    held: bool = False
    released: datetime | None = None
    """When the last lease on it ended, or ends; None while nobody had one."""
    chunks: int = 0
    """Chunks that are committed."""
    requested: datetime | None = None
    started: datetime | None = None
    ended: datetime | None = None
    problem: str = ""
    outcome: str = ""
    """What came of it, in half a sentence."""

    @property
    def waits_or_runs(self) -> bool:
        """Whether somebody is to carry it out now."""
        return self.state in ("queued", "running")


@dataclass(frozen=True)
class ReindexRun:
    """A RayJob, or a job submitted to a cluster of others, that was begun for a rebuild.

    It is the `number`th of its job, and the `attempt`th since a chunk was last committed; `chunks` were when it began.
    """

    name: str
    job: str
    number: int
    attempt: int
    chunks: int
    state: Literal["starting", "running", "ended", "leaving"]
    """`leaving`: it was told to end, and is on its way."""
    stage: str = ""
    """How its home calls that."""
    problem: str = ""
    created: datetime | None = None
    ended: datetime | None = None


@dataclass(frozen=True)
class MemberObserved:
    """Everything about one index."""

    dependencies: Dependencies
    serving: Serving = Serving()
    images: int | None = None
    encoder: EncoderStatus | None = None
    generations: Sequence[Generation] | None = None
    """Those that are there, the newest first; None while the database does not tell."""
    check: LastCheck | None = None
    encoders: Sequence[EncoderSeen] = ()
    """What the database knows of the encoders that it is served with: two or more while it moves to another."""
    reindex: ReindexJob | None = None
    """The rebuild that is under way."""
    reindexed: ReindexJob | None = None
    """The one that ended last."""
    runs: Sequence[ReindexRun] | None = ()
    """What was begun for rebuilds with a place of their own; None while their home does not tell."""
    runs_untold: str = ""
    """Why not, in its own words."""

    @property
    def generation(self) -> Generation | None:
        """The one that is served."""
        return next((one for one in self.generations or () if one.state == "active"), None)

    @property
    def next_generation(self) -> Generation | None:
        """One that is being prepared; else the newest of those that came after the served one.

        One that was `kept` when the index went back to an earlier one is told, too.
        """
        found = [one for one in self.generations or () if one.state != "active"]
        served = self.generation
        newer = [one for one in found if served is None or one.created > served.created]
        return next((one for one in found if one.state == "preparing"), newer[0] if newer else None)


@dataclass(frozen=True)
class GroupObserved:
    """Everything about a group of indexes that share a cluster."""

    members: Mapping[str, MemberObserved]
    cluster_shape: str = ""
    """Identity of the shape that the cluster was last asked to have; empty when there is no cluster."""
    cluster_endpoint: str = ""
    """Base URL of the cluster's Serve proxy."""
    dashboard: str = ""
