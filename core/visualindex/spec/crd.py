"""The CustomResourceDefinition, written from the models:

`python -m visualindex.spec.crd > crds/visualindexes.visualindex.dev.yaml`.
"""

import sys
from typing import Any

import yaml

from visualindex.spec.models import API_VERSION, KIND, Spec
from visualindex.spec.rules import ruled_paths, rules_at
from visualindex.spec.status import Status
from visualindex.spec.structural import Schema, desired_schema, observed_schema

GROUP, VERSION = API_VERSION.split("/")
PLURAL = "visualindexes"

_HEAD = "# Written from the models by `python -m visualindex.spec.crd > crds/visualindexes.visualindex.dev.yaml`.\n"
_READY = '.status.conditions[?(@.type=="Ready")]'
# name, type, path, priority (1: `kubectl get -o wide` alone), description
_COLUMNS = (
    ("Ready", "string", f"{_READY}.status", 0, "Whether a search is answered."),
    ("Images", "integer", ".status.images", 0, "Images that can be found."),
    ("Generation", "string", ".status.generation.id", 0, "The snapshot of the index that is served."),
    ("Recall", "string", ".status.generation.recall", 0, "Measured recall@10 against exact search."),
    ("Age", "date", ".metadata.creationTimestamp", 0, "Time since the resource was made."),
    ("Reason", "string", f"{_READY}.reason", 1, "Why it is ready or not."),
    ("Search", "string", ".status.endpoints.search", 1, "Base URL of the HTTP API, inside the cluster."),
    ("Cluster", "string", ".status.cluster", 1, "The Ray cluster that serves it."),
)


def definition() -> dict[str, Any]:
    """The CustomResourceDefinition as plain data."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["vi"],
                "categories": ["all"],
            },
            "scope": "Namespaced",
            "versions": [_version()],
        },
    }


def document() -> str:
    """The file as YAML."""
    return _HEAD + yaml.safe_dump(definition(), sort_keys=False, width=120, allow_unicode=True)


def _version() -> dict[str, Any]:
    return {
        "name": VERSION,
        "served": True,
        "storage": True,
        # No `scale` subresource: gateways, encoders, shards and worker pods have counts of their own, and an autoscaler
        # that turned one of them would take it for the whole.
        "subresources": {"status": {}},
        "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
        "schema": {"openAPIV3Schema": resource_schema()},
    }


def _column(name: str, kind: str, path: str, priority: int, description: str) -> dict[str, Any]:
    column: dict[str, Any] = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return column | ({"priority": priority} if priority else {})


def resource_schema() -> Schema:
    """The structural schema of the whole resource, with the rules at their places."""
    schema: Schema = {
        "description": "One visual search index: pictures go in, and items that look like a picture come out.",
        "type": "object",
        "properties": {
            "apiVersion": {"description": f"Always {API_VERSION}.", "type": "string"},
            "kind": {"description": f"Always {KIND}.", "type": "string"},
            "metadata": {"type": "object"},
            # A resource without a spec is a whole one: the defaults fill it.
            "spec": desired_schema(Spec) | {"default": {}},
            "status": observed_schema(Status),
        },
    }
    for path in sorted(ruled_paths()):
        node = _node(schema, path)
        node["x-kubernetes-validations"] = [
            *node.get("x-kubernetes-validations", []),
            *(rule.as_schema() for rule in rules_at(path)),
        ]
    return schema


def _node(schema: Schema, path: str) -> Schema:
    """The schema of the field at a dotted path; KeyError when no field is there."""
    for key in filter(None, path.split(".")):
        schema = schema["properties"][key]
    return schema


if __name__ == "__main__":
    sys.stdout.write(document())
