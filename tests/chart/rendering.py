"""Renders the chart as `helm template` does, into documents."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts/visualindex"
RELEASE, NAMESPACE = "visualindex", "indexes"

Document = dict[str, Any]


def render(values: dict[str, Any] | None = None, *, namespace: str = NAMESPACE) -> list[Document]:
    """Every object of a release, the test hook included."""
    with helm.Chart.load(CHART) as chart:
        pages = chart.render(values or {}, name=RELEASE, namespace=namespace)
    templates = [text for name, text in pages.items() if not name.endswith("NOTES.txt")]
    return [document for text in templates for document in yaml.safe_load_all(text) if document]


def notes(values: dict[str, Any] | None = None) -> str:
    """What Helm prints after an installation."""
    with helm.Chart.load(CHART) as chart:
        return chart.render(values or {}, name=RELEASE, namespace=NAMESPACE)[
            "visualindex/templates/NOTES.txt"
        ]


def only(documents: list[Document], kind: str, name: str | None = None) -> Document:
    """The one object of a kind, or of a kind and a name."""
    found = [
        document
        for document in documents
        if document["kind"] == kind and name in (None, document["metadata"]["name"])
    ]
    assert len(found) == 1, [(document["kind"], document["metadata"]["name"]) for document in documents]
    return found[0]


def kinds(documents: list[Document]) -> set[str]:
    return {document["kind"] for document in documents}


def pods(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Every pod that the objects would start, by the name of its owner."""
    for document in documents:
        name = document["metadata"]["name"]
        if document["kind"] == "Pod":
            yield name, document
        elif template := document.get("spec", {}).get("template"):
            yield name, template


def containers(pod: Document) -> list[Document]:
    """The containers of a pod, those that only prepare it included."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def environment(deployment: Document) -> dict[str, str]:
    """The variables of the first container that have plain values."""
    first = deployment["spec"]["template"]["spec"]["containers"][0]
    return {variable["name"]: variable["value"] for variable in first["env"] if "value" in variable}
