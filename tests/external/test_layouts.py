"""Another number of shards on a cluster of others: searches always have a whole layout to ask."""

from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from visualindex.planning.shape import as_resource
from visualindex.serve_config import shards_application
from visualindex.spec import Spec
from visualindex_operator.external_layouts import Layouts, beside
from visualindex_operator.external_serving import serving
from visualindex_operator.serve_merge import OWNER, merged
from visualindex_operator.serve_state import ApplicationState, ServeState

from .applications import foreign

CHAIRS = "shop/chairs"


class Cluster:
    """A cluster that does what is written to it when `arrive` says so, and the looks of an operator that keeps nothing."""

    def __init__(self, shards: int = 1) -> None:
        self.state = ServeState()
        self.asked: set[int] = set()
        """The numbers of shards that gateways may be asking for."""
        self.want(shards)

    def want(self, shards: int, **environment: str) -> None:
        spec = Spec.model_validate({"index": {"shards": shards}})
        self.resource = as_resource("chairs", spec)
        self.environment = {OWNER: CHAIRS, **environment}

    def look(self) -> bool:
        """One look and its write; False when nothing was to be written."""
        layouts = Layouts(self.state, CHAIRS, self.resource, "/chairs", self.environment)
        config = merged(self.state, layouts.wanted(), layouts.gone())
        if config is not None:
            self.put(config["applications"])
        return config is not None

    def put(self, configs: list[dict[str, Any]]) -> None:
        before = self.state.applications
        self.state = ServeState({one["name"]: _deployed(before.get(one["name"]), one) for one in configs})
        gateway = self.state.applications.get("gateway-chairs")
        if gateway is not None:
            self.asked.add(_layout(gateway))

    def arrive(self, *names: str) -> None:
        """Let applications run, all or these."""
        found = dict(self.state.applications)
        for name in names or list(found):
            if name in found:
                found[name] = replace(found[name], status="RUNNING")
        self.state = ServeState(found)
        gateway = found.get("gateway-chairs")
        if gateway is not None and gateway.status == "RUNNING":
            self.asked = {_layout(gateway)}

    def rest(self) -> None:
        while self.look():
            self.arrive()

    def layouts(self) -> dict[str, int]:
        return {name: _layout(one) for name, one in self.state.applications.items()}

    def held(self) -> set[int]:
        """The layouts whose shards run, undisturbed."""
        return {
            _layout(one)
            for name, one in self.state.applications.items()
            if name != "gateway-chairs" and one.status == "RUNNING"
        }


def _deployed(present: ApplicationState | None, config: dict[str, Any]) -> ApplicationState:
    if present is not None and present.deployed_app_config == config:
        return present
    return ApplicationState(config["name"], "DEPLOYING", "declarative", deployed_app_config=config)


def _layout(app: ApplicationState) -> int:
    arguments = (app.deployed_app_config or {})["args"]
    document = arguments.get("index") or arguments["indexes"][0]
    return int(document["spec"].get("index", {}).get("shards", 1))


def served(shards: int) -> Cluster:
    """An index that is served with so many shards."""
    cluster = Cluster(shards)
    cluster.rest()
    return cluster


def test_an_index_starts_with_nothing_beside_it() -> None:
    cluster = Cluster(2)
    cluster.look()
    assert cluster.layouts() == {"index-chairs": 2, "gateway-chairs": 2}
    cluster.look()
    assert cluster.layouts() == {"index-chairs": 2, "gateway-chairs": 2}


def test_the_new_layout_stands_before_gateways_ask_for_it_and_the_old_one_ends_after() -> None:
    cluster = served(1)
    cluster.want(2)
    beside_it = {"shards-chairs-2": 2}
    steps = []
    while cluster.look():
        assert not cluster.look(), "nothing more happens before the cluster has done what it was told"
        steps.append(cluster.layouts())
        cluster.arrive()
    assert steps == [
        {"index-chairs": 1, "gateway-chairs": 1} | beside_it,
        {"index-chairs": 1, "gateway-chairs": 2} | beside_it,
        {"index-chairs": 2, "gateway-chairs": 2} | beside_it,
        {"index-chairs": 2, "gateway-chairs": 2},
    ]


def test_a_new_layout_that_finds_no_room_leaves_everything_as_it_is() -> None:
    cluster = served(2)
    cluster.want(4)
    cluster.look()
    for _ in range(3):
        cluster.arrive("index-chairs", "gateway-chairs")
        assert not cluster.look()
    assert cluster.layouts() == {"index-chairs": 2, "gateway-chairs": 2, "shards-chairs-4": 4}
    told = serving(cluster.state, "chairs", CHAIRS, "http://ray:8000", None)
    assert (told.running, told.settled) == (True, False)
    assert "shards-chairs-4 holds the shards beside the index" in told.missing


def test_other_changes_do_not_wait_for_the_new_layout() -> None:
    cluster = served(1)
    cluster.want(2)
    cluster.look()
    cluster.want(2, A="1")
    cluster.look()
    for app in cluster.state.applications.values():
        assert (app.deployed_app_config or {})["runtime_env"]["env_vars"]["A"] == "1"
    assert cluster.layouts() == {"index-chairs": 1, "gateway-chairs": 1, "shards-chairs-2": 2}


def test_what_others_deployed_under_such_a_name_is_theirs() -> None:
    theirs = ApplicationState("shards-chairs-2", "RUNNING", "declarative", deployed_app_config=foreign("x"))
    state = ServeState({theirs.name: theirs})
    assert beside(state, "chairs", CHAIRS) == {}


def test_names_of_two_indexes_are_never_one() -> None:
    assert shards_application("a-2", 4) != shards_application("a", 2)
    of_another = ApplicationState(
        "shards-a-2-4",
        "RUNNING",
        "declarative",
        deployed_app_config={"runtime_env": {"env_vars": {OWNER: "shop/a-2"}}},
    )
    assert beside(ServeState({of_another.name: of_another}), "a", "shop/a") == {}


NAMES = st.sampled_from(["index-chairs", "gateway-chairs", *(f"shards-chairs-{n}" for n in (1, 2, 3))])
EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("want"), st.sampled_from([1, 2, 3])),
        st.tuples(st.just("look"), st.none()),
        st.tuples(st.just("arrive"), NAMES),
    ),
    max_size=40,
)


@given(EVENTS)
@settings(max_examples=500, deadline=None)
def test_whenever_the_spec_changes_gateways_have_a_whole_layout(events: list[tuple[str, Any]]) -> None:
    """Changed, changed back or changed once more: at each moment every layout that may be asked for runs undisturbed."""
    cluster = served(1)
    for event, value in events:
        match event:
            case "want":
                cluster.want(value)
            case "look":
                cluster.look()
            case "arrive":
                cluster.arrive(value)
        assert cluster.asked <= cluster.held()
    cluster.arrive()
    cluster.rest()
    wanted = cluster.resource.spec.index.shards
    assert cluster.layouts() == {"index-chairs": wanted, "gateway-chairs": wanted}
