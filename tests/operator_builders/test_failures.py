"""What one index cannot have written keeps no other from being seen to, and is told."""

import pytest
from tests.planning.world import World

from visualindex.planning.plan import Migrate, Serve
from visualindex_operator.failures import Failures, affected
from visualindex_operator.kube import KubeError


def test_work_goes_on_after_a_failure_and_the_first_is_raised_at_the_end() -> None:
    failures, done = Failures(), []
    with failures.of(["chairs"]):
        raise KubeError(403, "exceeded quota")
    with failures.of(["lamps"]):
        done.append("lamps")
    assert done == ["lamps"]
    with pytest.raises(KubeError, match="exceeded quota"):
        failures.raise_first()


def test_a_failure_that_concerns_no_index_is_raised_too() -> None:
    failures = Failures()
    with failures.of([]):
        raise KubeError(500, "etcd is away")
    with pytest.raises(KubeError, match="etcd is away"):
        failures.raise_first()


def test_the_status_says_what_was_not_taken_and_that_nothing_new_is_served() -> None:
    world = World().serving()
    world.edit(limits={"search_limit": 7})
    told = world.look()
    member = world.members["shop"]
    failures = Failures()
    with failures.of([member.name]):
        raise KubeError(422, "spec.x: Invalid value")
    status = failures.told(member, told.statuses[member.name])
    degraded = next(c for c in status.conditions if c.type == "Degraded")
    assert (degraded.status, degraded.reason) == ("True", "NotApplied")
    assert "spec.x: Invalid value" in degraded.message
    assert status.applied == member.status.applied


def test_actions_name_the_indexes_they_are_for() -> None:
    world = World().serving()
    (serve,) = (action for action in world.look().actions if isinstance(action, Serve))
    assert affected(serve) == ["shop"]
    assert affected(Migrate("chairs", serve.served[0].spec)) == ["chairs"]
