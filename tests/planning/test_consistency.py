"""What the status says of the last comparison of an index's parts."""

from dataclasses import replace

from tests.planning.world import BEGINNING, World

from visualindex.planning.observations import LastCheck


def seen(check: LastCheck | None) -> World:
    """An index that is served, and its last check."""
    world = World().serving()
    world.see(generations=(), check=check)
    world.look()
    return world


GOOD = LastCheck(BEGINNING, True)
BAD = LastCheck(BEGINNING, False, "3 lost-row in shard 0 of 1, replica a1")


def test_an_index_that_was_never_checked_says_so() -> None:
    condition = seen(None).condition("Consistent")
    assert (condition.status, condition.reason) == ("Unknown", "NeverChecked")


def test_the_last_check_is_told_with_its_time() -> None:
    condition = seen(GOOD).condition("Consistent")
    assert (condition.status, condition.reason) == ("True", "NothingDiffers")
    assert condition.message == f"compared at {BEGINNING:%Y-%m-%d %H:%M} UTC"


def test_faults_that_are_left_are_told_and_take_nothing_from_readiness() -> None:
    world = seen(BAD)
    condition = world.condition("Consistent")
    assert (condition.status, condition.reason) == ("False", "FaultsLeft")
    assert (
        "3 lost-row in shard 0 of 1, replica a1; mend them with visualindex index check" in condition.message
    )
    assert world.condition("Ready").status == "True"
    assert world.condition("Degraded").status == "False"


def test_what_was_seen_last_holds_while_the_database_does_not_tell() -> None:
    world = seen(replace(BAD, faults="1 stray-vector"))
    before = world.condition("Consistent")
    world.see(generations=None, check=None)
    world.look()
    assert world.condition("Consistent") == before
