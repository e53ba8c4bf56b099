"""A local service as the planner sees it: the indexes of one machine, and the one database that they share.

`visualindex up` knows nothing of earlier runs, so that every start is a first one: nothing of an index runs, and whoever
starts it says whether this run has brought the database to its schema, which also marks one that was restored.
"""

from datetime import UTC, datetime

from visualindex.catalog import reach
from visualindex.errors import ProblemError
from visualindex.planning.conditions import Reason
from visualindex.planning.observations import Check, Dependencies, GroupObserved, Member, MemberObserved
from visualindex.planning.plan import GroupPlan, plan
from visualindex.spec import VisualIndex

_CLUSTER = "local"
_PATIENCE_S = 5.0
"""How long a database of the user's own may take that starts at the same time."""
_NOT_ASKED = Check(
    True, Reason.CONNECTED, "a local service makes its keys and asks its store when it needs them"
)


async def next_steps(resources: list[VisualIndex], dsn: str, *, migrated: bool) -> GroupPlan:
    """What may happen now, with the reasons for what may not."""
    now = datetime.now(UTC)
    needs = Dependencies(
        metadata=await _database(dsn),
        storage=_NOT_ASKED,
        keys=_NOT_ASKED,
        migration="done" if migrated else "absent",
    )
    observed = GroupObserved({resource.name: MemberObserved(needs) for resource in resources})
    return plan([_member(resource, now) for resource in resources], observed, cluster=_CLUSTER, now=now)


def what_is_missing(told: GroupPlan) -> str:
    """Why a plan has nothing started, in one line."""
    ready = [c for status in told.statuses.values() for c in status.conditions if c.type == "Ready"]
    return ready[0].message


def _member(resource: VisualIndex, now: datetime) -> Member:
    """The resource as a member; to start a suspended one by hand is to resume it."""
    return Member(resource.name, 1, now, resource.spec.model_copy(update={"suspend": False}))


async def _database(dsn: str) -> Check:
    try:
        await reach(dsn, wait_s=_PATIENCE_S)
    except ProblemError as problem:
        return Check(False, Reason.UNREACHABLE, problem.detail)
    return Check(True, Reason.CONNECTED, "the database answers")
