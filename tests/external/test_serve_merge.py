"""What is written to a shared cluster: ours as wanted, everybody else's as it is."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from visualindex_operator.serve_merge import merged, overwritten, owner_of
from visualindex_operator.serve_problems import NameTaken, NotRestatable
from visualindex_operator.serve_state import ApplicationState, ServeState

from .applications import foreign, ours
from .simulated_serve import SimulatedServe, state_of


def _declared(config: dict[str, Any], **more: Any) -> ApplicationState:
    known = {"status": "RUNNING", "source": "declarative", "route_prefix": config.get("route_prefix", "/")}
    return ApplicationState(config["name"], **{**known, "deployed_app_config": config, **more})


def _imperative(name: str, route: str | None, **more: Any) -> ApplicationState:
    return ApplicationState(name, "RUNNING", "imperative", route_prefix=route, **more)


def _state(*applications: ApplicationState, **settings: Any) -> ServeState:
    return ServeState({app.name: app for app in applications}, **settings)


def _names(config: dict[str, Any] | None) -> list[str]:
    assert config is not None
    return [app["name"] for app in config["applications"]]


def test_on_an_empty_cluster_only_ours_is_written() -> None:
    assert merged(_state(), [ours("index-a")], {}) == {"applications": [ours("index-a")]}


def test_a_foreign_application_is_restated_as_it_was_deployed() -> None:
    theirs = foreign(
        "theirs", route="/", deployments=[{"name": "D", "autoscaling_config": {"max_replicas": 3}}]
    )
    config = merged(_state(_declared(theirs)), [ours("index-a")], {})
    assert config == {"applications": [ours("index-a"), theirs]}


def test_the_clusters_own_settings_are_restated() -> None:
    settings: dict[str, Any] = {
        "proxy_location": "HeadOnly",
        "http_options": {"port": 9},
        "grpc_options": {"port": 0},
        "target_capacity": 50.0,
    }
    config = merged(_state(**settings), [ours("index-a")], {})
    assert config == {**settings, "applications": [ours("index-a")]}


def test_nothing_is_written_when_all_is_as_wanted() -> None:
    state = _state(_declared(ours("index-a")), _declared(foreign("theirs")))
    assert merged(state, [ours("index-a")], {"index-b": "shop/b"}) is None


def test_numbers_and_the_order_of_keys_do_not_count_as_a_change() -> None:
    wanted = ours("index-a", deployments=[{"name": "D", "graceful_shutdown_timeout_s": 3, "num_replicas": 2}])
    deployed = ours(
        "index-a", deployments=[{"num_replicas": 2, "graceful_shutdown_timeout_s": 3.0, "name": "D"}]
    )
    assert merged(_state(_declared(deployed)), [wanted], {}) is None


def test_a_logging_config_filled_in_by_another_writer_does_not_count_as_a_change() -> None:
    deployed = ours("index-a", logging_config={"log_level": "INFO"})
    assert merged(_state(_declared(deployed)), [ours("index-a")], {}) is None


def test_a_logging_config_of_ours_counts() -> None:
    state = _state(_declared(ours("index-a", logging_config={"log_level": "INFO"})))
    assert merged(state, [ours("index-a", logging_config={"log_level": "DEBUG"})], {}) is not None


def test_a_setting_that_was_taken_away_counts_as_a_change() -> None:
    state = _state(_declared(ours("index-a", deployments=[{"name": "D", "num_replicas": 2}])))
    assert merged(state, [ours("index-a", deployments=[{"name": "D"}])], {}) is not None


def test_equal_states_give_equal_bytes() -> None:
    theirs = [_declared(foreign(name)) for name in "cab"]
    one = merged(_state(*theirs), [ours("y"), ours("x")], {})
    two = merged(_state(*reversed(theirs)), [ours("x"), ours("y")], {})
    assert json.dumps(one) == json.dumps(two)


def test_what_is_gone_is_left_out() -> None:
    state = _state(_declared(ours("index-a")), _declared(ours("gateway-a")), _declared(foreign("theirs")))
    gone = {"index-a": "shop/chairs", "gateway-a": "shop/chairs"}
    assert _names(merged(state, [], gone)) == ["theirs"]


def test_what_is_gone_already_needs_no_writing() -> None:
    leaving = _declared(ours("index-a"), status="DELETING", deployed_app_config=None)
    assert merged(_state(leaving), [], {"index-a": "shop/chairs"}) is None


def test_an_application_of_another_resource_does_not_go_with_ours() -> None:
    """A resource that never got its name must not take the other's application with it when it is deleted."""
    state = _state(_declared(ours("index-a", "other/chairs")), _declared(foreign("index-b")))
    gone = {"index-a": "shop/chairs", "index-b": "shop/chairs"}
    assert merged(state, [], gone) is None


def test_an_imperative_application_is_never_listed() -> None:
    """Listing it would take it over; not listing it leaves it alone."""
    stale = _imperative("theirs", "/theirs", deployed_app_config=foreign("theirs"))
    assert _names(merged(_state(stale), [ours("index-a")], {})) == ["index-a"]


def test_an_application_being_deleted_is_not_revived() -> None:
    leaving = _declared(foreign("theirs"), status="DELETING")
    assert _names(merged(_state(leaving), [ours("index-a")], {})) == ["index-a"]


def test_an_application_being_deleted_gives_its_name_and_route_free() -> None:
    state = _state(
        _declared(foreign("gateway-a", route="/a"), status="DELETING", deployed_app_config=None),
        replace(_imperative("theirs", "/b"), status="DELETING"),
    )
    wanted = [ours("gateway-a", route="/a"), ours("gateway-b", route="/b")]
    assert _names(merged(state, wanted, {})) == ["gateway-a", "gateway-b"]


@pytest.mark.parametrize(
    ("present", "owner"),
    [
        (_declared(foreign("index-a")), "none of a VisualIndex"),
        (_declared(ours("index-a", "other/chairs")), "VisualIndex other/chairs"),
        (_imperative("index-a", None), "serve.run"),
        (_imperative("index-a", None, deployed_app_config=ours("index-a")), "serve.run"),
    ],
    ids=["foreign", "another resource", "imperative", "imperative over ours"],
)
def test_a_name_that_is_taken_names_who_has_it(present: ApplicationState, owner: str) -> None:
    with pytest.raises(NameTaken, match=r"application name index-a is taken") as caught:
        merged(_state(present), [ours("index-a")], {})
    assert caught.value.name == "index-a"
    assert owner in caught.value.owner


@pytest.mark.parametrize(
    "present",
    [
        _declared(foreign("theirs", route="/a")),
        _declared(foreign("theirs", route="/a"), status="DEPLOYING", route_prefix=None),
        _declared(foreign("theirs", route="/b"), status="DEPLOYING", route_prefix="/a"),
        _declared(foreign("theirs", route="/a"), status="DEPLOYING", route_prefix="/b"),
        _imperative("theirs", "/a"),
        _declared(ours("gateway-a", "other/chairs", route="/a")),
    ],
    ids=[
        "running",
        "deploying",
        "leaving the route",
        "coming to the route",
        "imperative",
        "another resource",
    ],
)
def test_a_route_that_is_taken_names_who_has_it(present: ApplicationState) -> None:
    """Ray answers 200 and lets both have the route, so that the older silently loses it."""
    with pytest.raises(NameTaken, match=r"route prefix /a is taken") as caught:
        merged(_state(present), [ours("gateway-b", route="/a")], {})
    assert caught.value.name == "/a"
    assert present.name in caught.value.owner


def test_an_application_without_a_route_of_its_own_has_the_root() -> None:
    config = foreign("theirs")
    del config["route_prefix"]
    deploying = _declared(config, status="DEPLOYING", route_prefix=None)
    with pytest.raises(NameTaken):
        merged(_state(deploying), [ours("gateway-a", route="/")], {})


def test_a_route_may_move_from_one_of_ours_to_another() -> None:
    state = _state(_declared(ours("gateway-a", route="/")))
    wanted = [ours("gateway-a", route="/a"), ours("gateway-b", route="/")]
    assert _names(merged(state, wanted, {})) == ["gateway-a", "gateway-b"]
    assert _names(merged(state, wanted[1:], {"gateway-a": "shop/chairs"})) == ["gateway-b"]


@pytest.mark.parametrize(
    ("config", "cause"),
    [
        (None, "does not tell"),
        (foreign("theirs", runtime_env={"env_vars": {"A": "<redacted>"}}), "hides"),
        (
            foreign(
                "theirs",
                deployments=[{"ray_actor_options": {"runtime_env": {"env_vars": {"A": "<redacted>"}}}}],
            ),
            "hides",
        ),
    ],
    ids=["no configuration", "redacted", "redacted in a deployment"],
)
def test_nothing_is_written_when_a_foreign_application_cannot_be_restated(
    config: dict[str, Any] | None, cause: str
) -> None:
    present = replace(_declared(foreign("theirs")), deployed_app_config=config)
    with pytest.raises(NotRestatable, match=cause) as caught:
        merged(_state(present), [ours("index-a")], {})
    assert caught.value.name == "theirs"


def test_an_application_of_our_name_without_a_configuration_is_not_overwritten() -> None:
    present = replace(_declared(ours("index-a")), deployed_app_config=None)
    with pytest.raises(NotRestatable):
        merged(_state(present), [ours("index-a")], {})


def test_an_application_without_an_owner_is_a_mistake_of_ours() -> None:
    with pytest.raises(ValueError, match="names no owner"):
        merged(_state(), [foreign("index-a")], {})


def test_an_application_that_came_and_went_with_our_writing_is_seen() -> None:
    leaving = _declared(foreign("late"), status="DELETING", deployed_app_config=None)
    assert overwritten(_state(), _state(leaving)) == ["late"]
    assert overwritten(_state(leaving), _state(leaving)) == []


NAMES = st.sampled_from(["index-a", "gateway-a", "index-b", "theirs", "other"])
ROUTES = st.sampled_from([None, "/", "/a", "/b"])
OWNERS = st.sampled_from(["shop/a", "shop/b"])
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("ours"), NAMES, ROUTES, OWNERS, st.integers(1, 3)),
        st.tuples(st.just("gone"), NAMES, OWNERS),
        st.tuples(st.just("foreign"), NAMES, ROUTES),
        st.tuples(st.just("imperative"), NAMES, ROUTES),
        st.tuples(st.just("delete"), NAMES),
        st.tuples(st.just("settle")),
    ),
    max_size=25,
)


@settings(deadline=None)
@given(EVENTS)
def test_whatever_happens_our_writes_leave_foreign_applications_as_they_are(
    events: list[tuple[Any, ...]],
) -> None:
    cluster = SimulatedServe()
    for event in events:
        _play(cluster, *event)


def _play(cluster: SimulatedServe, kind: str, *what: Any) -> None:
    match kind, what:
        case "ours", (name, route, owner, replicas):
            app = ours(name, owner, route=route, deployments=[{"name": "D", "num_replicas": replicas}])
            _write(cluster, [app], {}, owner)
        case "gone", (name, owner):
            _write(cluster, [], {name: owner}, owner)
        case "foreign", (name, route):
            _another_program_adds(cluster, foreign(name, route=route))
        case "imperative", (name, route):
            cluster.serve_run(name, route)
        case "delete", (name,) if name in cluster.applications:
            cluster.serve_delete(name)
        case "settle", _:
            cluster.settle()


def _another_program_adds(cluster: SimulatedServe, app: dict[str, Any]) -> None:
    """It merges as well, and checks routes among declarative applications, as Ray does."""
    kept = [config for name, config in cluster.declared().items() if name != app["name"]]
    if app["route_prefix"] is None or app["route_prefix"] not in {c.get("route_prefix") for c in kept}:
        kept = [c for c in kept if cluster.applications[c["name"]].source == "declarative"]
        cluster.put({"applications": [*kept, app]})


def _write(cluster: SimulatedServe, wanted: list[dict[str, Any]], gone: dict[str, str], owner: str) -> None:
    before = _not_of(owner, cluster)
    try:
        config = merged(state_of(cluster), wanted, gone)
    except (NameTaken, NotRestatable):
        return
    if config is not None:
        cluster.put(config)
    after = _not_of(owner, cluster)
    assert {name: after.get(name) for name in before} == before
    assert merged(state_of(cluster), wanted, gone) is None


def _not_of(owner: str, cluster: SimulatedServe) -> dict[str, tuple[Any, ...]]:
    """What must stay of each application that is to stay and is not the owner's; DEPLOYING again is no change."""
    return {
        name: (app.source, json.dumps(app.config, sort_keys=True), app.route, app.generation)
        for name, app in cluster.applications.items()
        if app.status != "DELETING" and owner_of(app.config) != owner
    }
