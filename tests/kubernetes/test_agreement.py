"""The models and the API server give the same verdict on the same spec, field by field."""

import copy
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.kubernetes.conftest import Indexes
from tests.kubernetes.documents import HERE, documents, field_values

from visualindex.spec import SpecError, parse_spec
from visualindex.spec.crd import resource_schema
from visualindex.spec.rules import ON_KUBERNETES

[EVERY_FIELD] = documents(HERE / "good" / "every-field.yaml")
[EXTERNAL] = documents(HERE / "good" / "external.yaml")
PROBES: tuple[Any, ...] = (
    "", "x y", "1", "1Gi", "1e3", "-1Gi", "a" * 600, -1, 0, 7, 2**31, 0.3, 1.5, True, [], ["x", "x"], [1, 2, 3], {},
    {"a": {"b": 1}},
)  # fmt: skip
SCHEMA = resource_schema()
# What `visualindex up` may do on a laptop, and no cluster.
KUBERNETES_ALONE = [rule.message for rules in ON_KUBERNETES.values() for rule in rules]


def probes(path: str) -> Iterator[Any]:
    """Values around the bounds of a field, and of every other type."""
    node = SCHEMA
    for key in path.split("."):
        node = node["properties"][key] if "properties" in node else {}
        node = node.get("items", node)
    for bound in ("minimum", "maximum"):
        if bound in node:
            yield from (node[bound] - 1, node[bound], node[bound] + 1)
    yield from node.get("enum", ())
    yield from PROBES


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """The document with another value at a dotted path."""
    document = copy.deepcopy(document)
    *sections, key = path.split(".")
    place = document
    for section in sections:
        place = place[section]
        if isinstance(place, list):
            place = place[0]
    place[key] = value
    return document


def models_accept(document: dict[str, Any]) -> bool:
    try:
        parse_spec(document, "probe")
    except SpecError:
        return False
    return True


def probed() -> Iterator[tuple[str, Any, dict[str, Any]]]:
    """Path, value and document of every probe; of an external cluster what is not in the other document."""
    for whole, below in ((EVERY_FIELD, "spec"), (EXTERNAL, "spec.ray.external")):
        for path, _ in field_values(whole["spec"], "spec"):
            # What is in a domain only the models can read: filters, and names of attributes.
            if path.startswith(below) and not path.startswith("spec.domains."):
                yield from ((path, value, changed(whole, path, value)) for value in probes(path))


def test_both_give_the_same_verdict_on_every_field(indexes: Indexes) -> None:
    found = list(probed())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda probe: indexes.try_create(probe[2]), found))
    disagreements = [
        (path, value, answer.status, answer.message)
        for (path, value, document), answer in zip(found, answers, strict=True)
        if (answer.status == 201) != models_accept(document)
        and not any(message in answer.message for message in KUBERNETES_ALONE)
    ]
    assert disagreements == []
    assert {answer.status for answer in answers} == {201, 400, 422}
    assert len(found) > 1500
