"""Fields that somebody else set in an object of ours are found, whatever the object has of its own accord."""

from typing import Any

from visualindex_operator.live import lean
from visualindex_operator.names import FIELD_MANAGER
from visualindex_operator.ownership import foreign_paths, set_by_others

WANTED = {"spec": {"config": {"version": "2", "groups": [{"name": "worker"}]}}}


def live(spec: dict[str, Any], fields: dict[str, Any], **entry: Any) -> dict[str, Any]:
    """An object whose `fields` of the spec another manager set."""
    entries = [
        {"manager": FIELD_MANAGER, "fieldsV1": {"f:spec": {"f:config": {"f:version": {}, "f:groups": {}}}}},
        {"manager": "kubectl-edit", "fieldsV1": {"f:spec": fields}, **entry},
    ]
    return {"metadata": {"name": "shop", "managedFields": entries}, "spec": spec}


def test_a_field_that_was_added_is_found_also_in_the_lean_copy() -> None:
    spec = {"config": {"version": "2", "groups": [{"name": "worker"}], "suspend": True}}
    present = live(spec, {"f:config": {"f:suspend": {}}})
    assert foreign_paths(present) == (("config", "suspend"),)
    assert set_by_others(present, WANTED)
    assert set_by_others(lean(present), WANTED)


def test_what_is_inside_a_list_that_was_replaced_whole_is_found() -> None:
    spec = {"config": {"version": "2", "groups": [{"name": "worker", "suspend": True}]}}
    assert set_by_others(live(spec, {"f:config": {"f:groups": {}}}), WANTED)


def test_a_field_that_is_as_wanted_whoever_set_it_is_nothing_to_mend() -> None:
    assert not set_by_others(live(WANTED["spec"], {"f:config": {"f:version": {}}}), WANTED)


def test_defaults_of_the_api_server_belong_to_nobody() -> None:
    spec = {"config": {"version": "2", "groups": [{"name": "worker", "hosts": 1}], "delay": 60}}
    assert not set_by_others(live(spec, {"f:config": {"f:version": {}}}), WANTED)


def test_what_was_set_in_the_status_is_not_about_the_spec() -> None:
    spec = {"config": {"version": "2", "groups": [{"name": "worker"}], "suspend": True}}
    present = live(spec, {"f:config": {"f:suspend": {}}}, subresource="status")
    assert foreign_paths(present) == ()
