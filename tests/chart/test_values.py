"""values.yaml is the whole list of values: the schema refuses others, the README repeats it, the defaults are valid."""

import copy
import importlib.util
import json
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import helm_python as helm
import pytest
import yaml
from tests.chart.rendering import CHART, ROOT, render

DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
OF_HELM = {"global", "kopf-peering"}
FREE = {"commonLabels", "annotations", "nodeSelector", "affinity", "podAnnotations", "podLabels", "labels"}


def levels(values: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path of every object in the values whose keys the chart fixes."""
    if isinstance(values, dict) and not FREE & set(above):
        yield above
        for key, value in values.items():
            yield from levels(value, (*above, key))


def objects(schema: Any) -> Iterator[dict[str, Any]]:
    """Every schema that declares properties."""
    if isinstance(schema, dict):
        if "properties" in schema and schema.get("type") == "object":
            yield schema
        for part in schema.values():
            yield from objects(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from objects(part)


def generator() -> ModuleType:
    """scripts/chart_values.py."""
    spec = importlib.util.spec_from_file_location("chart_values", ROOT / "scripts/chart_values.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", list(levels(DEFAULTS)), ids=lambda path: ".".join(path) or "top")
def test_an_unknown_key_is_refused_at_every_level(path: tuple[str, ...]) -> None:
    values = copy.deepcopy(DEFAULTS)
    level = values
    for key in path:
        level = level[key]
    level["unheardOf"] = True
    with pytest.raises(helm.HelmError, match="unheardOf"):
        render(values)


def test_no_object_of_the_schema_is_open() -> None:
    assert [part for part in objects(SCHEMA) if part.get("additionalProperties") is not False] == []


def test_the_schema_knows_exactly_the_values() -> None:
    assert set(SCHEMA["properties"]) - OF_HELM == set(DEFAULTS)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"operator": {"replicas": 3}}, "/operator/replicas"),
        ({"operator": {"logFormat": "xml"}}, "/operator/logFormat"),
        ({"operator": {"namespaces": ["Not A Namespace"]}}, "/operator/namespaces/0"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"image": {"pullPolicy": "Sometimes"}}, "/image/pullPolicy"),
        ({"redis": {"address": "redis://x"}}, "/redis/address"),
        ({"dev": {"objectStore": {"bucket": "Not_A_Bucket"}}}, "/dev/objectStore/bucket"),
        ({"routes": [{"index": "a", "host": "a.b"}]}, "/routes/0"),
        ({"routes": [{"index": "a", "host": "a.b", "className": "nginx"}]}, "tlsSecret"),
        ({"routes": [{"index": "a", "host": "a.b", "tlsSecret": "t", "gateway": {"name": "g"}}]}, "/routes/0"),
        ({"operator": {"replicas": 2}}, "operator.replicas: 2 needs peering.enabled"),
        ({"redis": {"enabled": True, "address": "a:1"}}, "redis.enabled and redis.address exclude each other"),
        ({"serviceAccount": {"create": False}}, "needs serviceAccount.name"),
    ],
    ids=str,
)  # fmt: skip
def test_a_value_that_cannot_work_is_refused_by_its_name(values: dict[str, Any], complaint: str) -> None:
    with pytest.raises(helm.HelmError, match=complaint):
        render(values)


def test_every_value_is_described() -> None:
    values = generator().read_values((CHART / "values.yaml").read_text())
    assert [value.path for value in values if value.default is not None and not value.description] == []


def test_the_readme_repeats_the_values() -> None:
    readme = (CHART / "README.md").read_text()
    assert generator().with_table(readme, (CHART / "values.yaml").read_text()) == readme, "stale: make chart"
