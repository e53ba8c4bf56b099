"""How far a change is, in the plugin's words."""

import pytest

from visualindex.spec.status import Plan
from visualindex_operator.kubectl.planned import approval


def _plan(state: str) -> Plan:
    return Plan.model_validate({"id": "abc-3", "change": "NewCluster", "state": state})


@pytest.mark.parametrize(("state", "why"), [("Waiting", "waits for approval"), ("Blocked", "GPU budget")])
def test_a_change_that_waits_for_a_person_comes_with_the_command_that_approves_it(
    state: str, why: str
) -> None:
    text = approval(_plan(state), "shop", "search")
    assert why in text
    assert "kubectl visualindex approve shop -n search" in text


@pytest.mark.parametrize("state", ["Pending", "Proceeding"])
def test_of_a_change_that_nobody_can_approve_no_approval_is_asked(state: str) -> None:
    text = approval(_plan(state), "shop", "search")
    assert "approve shop" not in text
