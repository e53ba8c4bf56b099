"""A world in miniature for the planner: resources, what is seen of them, and a cluster that does at once what it is told."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from visualindex.planning.observations import (
    Check,
    Dependencies,
    GroupObserved,
    Member,
    MemberObserved,
    Serving,
)
from visualindex.planning.plan import EndCluster, GroupPlan, Migrate, Serve, StopServing, plan
from visualindex.spec import Spec
from visualindex.spec.status import Condition, Status

BEGINNING = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
THERE = Check(True, "Connected", "it answers")
GONE = Check(False, "Unreachable", "connection refused")
GPU = {"encoder": {"num_gpus": 1}}


def spec(**sections: Any) -> Spec:
    """A spec that states these sections."""
    return Spec.model_validate(sections)


def dependencies(**otherwise: Any) -> Dependencies:
    """Everything an index needs is there, but for what is said otherwise."""
    found = Dependencies(THERE, THERE, THERE, credentials="first", migration="done")
    return replace(found, **otherwise)


def missing(what: str) -> dict[str, Any]:
    """How `dependencies` differ where one thing is missing."""
    return {what: "absent" if what == "migration" else GONE}


SERVES = Serving(exists=True, running=True, settled=True, answers=None, deployed=True, credentials="first")
SERVES_NOT = Serving(message="there is no Ray cluster yet")


class World:
    """The resources of a group. `look` plans, keeps the statuses, and tells the plan; `obey` is the cluster's part."""

    def __init__(self, cluster: str = "shop") -> None:
        self.cluster = cluster
        self.now = BEGINNING
        self.members: dict[str, Member] = {}
        self.seen: dict[str, MemberObserved] = {}
        self.shape = ""

    def add(self, name: str = "shop", **sections: Any) -> "World":
        """A new resource, younger than those before."""
        created = BEGINNING + timedelta(seconds=len(self.members))
        self.members[name] = Member(name, 1, created, spec(**sections))
        self.seen[name] = MemberObserved(dependencies(), SERVES_NOT, images=0)
        return self

    def serving(self, name: str = "shop", *, images: int | None = 0, **sections: Any) -> "World":
        """A new resource that is served already."""
        self.add(name, **sections)
        self.settle()
        self.see(name, images=images)
        self.look()
        return self

    def settle(self) -> None:
        """Look and obey until nothing is told any more."""
        for _ in range(4):
            self.obey(self.look())

    def edit(self, name: str = "shop", **sections: Any) -> None:
        """Another spec for a resource."""
        before = self.members[name]
        self.change(name, spec=spec(**sections), generation=before.generation + 1)

    def change(self, name: str = "shop", **fields: Any) -> None:
        """Other fields of a member."""
        self.members[name] = replace(self.members[name], **fields)

    def see(self, name: str = "shop", **fields: Any) -> None:
        """Other observations of an index."""
        self.seen[name] = replace(self.seen[name], **fields)

    def depend(self, name: str = "shop", **otherwise: Any) -> None:
        """Other dependencies of an index."""
        self.see(name, dependencies=replace(self.seen[name].dependencies, **otherwise))

    def look(self) -> GroupPlan:
        """Plan, and write the statuses as the API server would keep them."""
        self.now += timedelta(seconds=5)
        found = plan(list(self.members.values()), self.observed(), cluster=self.cluster, now=self.now)
        for name, status in found.statuses.items():
            written = status.model_dump(mode="json", by_alias=True, exclude_none=True)
            self.change(name, status=Status.model_validate(written))
        return found

    def observed(self) -> GroupObserved:
        """What the planner is told."""
        return GroupObserved(self.seen, self.shape, f"http://{self.cluster}-serve-svc:8000")

    def obey(self, told: GroupPlan) -> None:
        """Do what a plan says, in its order."""
        for action in told.actions:
            match action:
                case Migrate():
                    self.depend(action.index, migration="done")
                case Serve():
                    self.shape = action.shape.identity()
                    self._serve({one.name for one in action.served})
                case StopServing() | EndCluster():
                    self.shape = ""
                    self._serve(set())

    def _serve(self, names: set[str]) -> None:
        for name in self.members:
            self.see(name, serving=SERVES if name in names else SERVES_NOT)

    def status(self, name: str = "shop") -> Status:
        """What was last written of a resource."""
        return self.members[name].status

    def condition(self, type_: str, name: str = "shop") -> Condition:
        """One of its conditions."""
        return next(c for c in self.status(name).conditions if c.type == type_)


def served(told: GroupPlan) -> dict[str, Spec]:
    """The indexes that a plan has served, with their specs; empty where it says nothing of serving."""
    return {
        one.name: one.spec for action in told.actions if isinstance(action, Serve) for one in action.served
    }


def kinds(told: GroupPlan) -> list[str]:
    """The actions by name."""
    return [type(action).__name__ for action in told.actions]
