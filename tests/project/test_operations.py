"""docs/operations.md and docs/kubectl.md name what the operator says and reads: all of it, and nothing that is gone."""

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer.main
import yaml
from prometheus_client import Counter, Gauge, Histogram

from visualindex.footprint import postgres_connections
from visualindex.planning.changes import describe_change
from visualindex.planning.conditions import Reason
from visualindex.planning.shape import resolved
from visualindex.spec import Spec, parse_spec
from visualindex.spec.status import ConditionType
from visualindex_operator import main, names, telemetry
from visualindex_operator.kubectl.main import app as plugin
from visualindex_operator.reasons import EventReason
from visualindex_operator.settings import Settings

ROOT = Path(__file__).parents[2]
MANUAL = (ROOT / "docs/operations.md").read_text()
PLUGIN = (ROOT / "docs/kubectl.md").read_text()
PRODUCTION = yaml.safe_load((ROOT / "examples/kubernetes/production.yaml").read_text())
IMAGES = 1000


def section(title: str) -> str:
    """What stands below a heading, up to the next one of its level or above."""
    level = title.split()[0]
    _, _, rest = MANUAL.partition(f"\n{title}\n")
    assert rest, f"docs/operations.md has no heading '{title}'"
    return re.split(rf"^#{{1,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> Iterator[list[str]]:
    """The cells of every table row whose first cell begins with code."""
    for line in text.splitlines():
        if line.startswith("| `"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def named(text: str) -> set[str]:
    """What the first cells of the tables of a text name."""
    return {name for cells in rows(text) for name in re.findall(r"`([^`]+)`", cells[0])}


def test_every_reason_of_a_condition_is_documented_and_no_other() -> None:
    assert named(section("## Conditions")) == {reason.value for reason in Reason}


def test_every_reason_of_an_event_is_documented_and_no_other() -> None:
    assert named(section("## Events")) == {reason.value for reason in EventReason}


def test_what_is_wrong_comes_with_what_to_do() -> None:
    for title in ("## Conditions", "## Events"):
        for cells in rows(section(title)):
            assert len(cells) >= 3, f"{cells[0]} has no remedy column"


def metrics_of_the_operator() -> dict[str, set[str]]:
    """Name → labels, as Prometheus reads them."""
    found = {}
    for one in vars(telemetry).values():
        if isinstance(one, Counter | Gauge | Histogram):
            suffix = "_total" if isinstance(one, Counter) else ""
            found[next(iter(one.describe())).name + suffix] = set(one._labelnames)
    return found


def test_every_metric_is_documented_with_its_labels_and_no_other() -> None:
    documented = {
        cells[0].strip("`"): set(re.findall(r"`([a-z]+)`", cells[1].split(":")[0]))
        for cells in rows(section("## The operator's metrics"))
    }
    assert documented == metrics_of_the_operator()


def test_alerts_ask_for_metrics_and_conditions_that_exist() -> None:
    text = section("## The operator's metrics").split("```yaml")[1].split("```")[0]
    rules = yaml.safe_load(text)["spec"]["groups"][0]["rules"]
    expressions = " ".join(rule["expr"] for rule in rules)
    asked = set(re.findall(r"\bvisualindex_operator_\w+", expressions))
    assert {re.sub("_bucket$", "", name) for name in asked} <= set(metrics_of_the_operator())
    types = {type_ for found in re.findall(r'type=~?"([^"]+)"', expressions) for type_ in found.split("|")}
    assert types <= set(get_args(ConditionType))


class Asked(dict[str, str]):
    """An environment that remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def test_every_setting_is_documented_and_no_other() -> None:
    environment = Asked()
    Settings.from_env(environment)
    (run,) = typer.main.get_group(main.app).commands.values()
    options = {str(parameter.envvar) for parameter in run.params if getattr(parameter, "envvar", None)}
    assert named(section("## The operator's settings")) == environment.names | options


def test_the_chart_sets_no_setting_that_does_not_exist() -> None:
    template = (ROOT / "charts/visualindex/templates/operator-deployment.yaml").read_text()
    known = named(section("## The operator's settings"))
    assert set(re.findall(r"name: (VISUALINDEX_OPERATOR_\w+)", template)) <= known


def test_every_label_and_annotation_is_documented_and_no_other() -> None:
    keys = {
        value
        for name, value in vars(names).items()
        if name.isupper() and isinstance(value, str) and re.fullmatch(r"[a-z.]+/[a-z-]+", value)
    }
    assert named(section("## Labels and annotations")) == keys


def test_every_command_of_the_plugin_is_documented_and_no_other() -> None:
    headings = re.findall(r"^## `kubectl visualindex (\S+?)`?(?: .*)?$", PLUGIN, re.MULTILINE)
    assert set(headings) == set(typer.main.get_group(plugin).commands)


@pytest.mark.parametrize("page", ["README.md", "docs/operations.md", "docs/helm.md", "docs/kubectl.md"])
def test_pages_use_commands_of_the_plugin_that_exist(page: str) -> None:
    used = re.findall(r"kubectl visualindex ([a-z][a-z-]*)", (ROOT / page).read_text())
    assert set(used) <= set(typer.main.get_group(plugin).commands)


def test_health_rules_of_gitops_tools_use_reasons_and_conditions_that_exist() -> None:
    text = section("## GitOps")
    fields = set(re.findall(r"(\w+) = true", text))
    words = set(
        re.findall(r"""["']([A-Z]\w+)["']""", text.replace('"Progressing"', "").replace('"Healthy"', ""))
    )
    states = {"True", "False", "Proceeding", "Suspended", "Degraded"}
    assert fields | words <= {reason.value for reason in Reason} | set(get_args(ConditionType)) | states


def production(**changed: Any) -> Spec:
    """The production example as the operator reads it, with fields (dotted paths) changed."""
    document = copy.deepcopy(PRODUCTION)
    for path, value in changed.items():
        *sections, field = path.split(".")
        at = document["spec"]
        for name in sections:
            at = at.setdefault(name, {})
        at[field] = value
    return resolved(parse_spec(document, "production").spec, "visualindex:0.1.0")


CHANGES = [
    (cells[0].strip("`"), cells[1])
    for cells in rows(MANUAL.split("<!-- changes:")[1].split("\n\nThe rule")[0])
]


def test_there_are_examples_of_changes() -> None:
    assert len(CHANGES) > 20


@pytest.mark.parametrize(("changed", "kind"), CHANGES, ids=[changed for changed, _ in CHANGES])
def test_a_changed_field_causes_what_the_manual_says(changed: str, kind: str) -> None:
    path, _, value = changed.partition(": ")
    before, after = production(), production(**{path: yaml.safe_load(value)})
    planned = describe_change(before, after, IMAGES, "catalogue")
    assert planned is not None
    assert planned.change == kind


def test_the_worked_example_of_connections_is_right() -> None:
    told = re.search(r"<!-- connections -->(\d+)<!-- -->", MANUAL)
    assert told
    assert int(told[1]) == postgres_connections(production())
    assert f"both clusters hold theirs: {2 * postgres_connections(production())}." in MANUAL
