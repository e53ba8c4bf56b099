"""A pydantic model as a structural schema: the dialect of OpenAPI that a CustomResourceDefinition takes.

Structural schemas have no references, no `anyOf` of types, no titles; each list says how server-side apply merges it.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from visualindex.spec.quantities import format_bytes

Schema = dict[str, Any]

QUANTITY = r"^[0-9]{1,19}(\.[0-9]{1,18})?(Ki|Mi|Gi|Ti|Pi|Ei|k|M|G|T|P|E)?$"
_KEPT = (
    "description",
    "enum",
    "format",
    "maximum",
    "maxItems",
    "maxLength",
    "minimum",
    "minItems",
    "minLength",
    "pattern",
    "type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-preserve-unknown-fields",
)
_WHOLE_BYTES: Schema = {
    # What is no quantity at all is refused by the pattern. `isInteger()` is of no use: it denies 1.5Gi.
    "rule": "type(self) == int || !isQuantity(self) || (quantity(self).compareTo(quantity('0')) > 0 && "
    "quantity(self).compareTo(quantity('8Ei')) < 0 && "
    "quantity(self).asApproximateFloat() == double(int(quantity(self).asApproximateFloat())))",
    "message": "is not a whole number of bytes above 0 and below 8Ei: write a number of bytes or a quantity such as "
    "512Mi or 2Gi",
}


def desired_schema(model: type[BaseModel]) -> Schema:
    """The schema of what users write. The API server stores its defaults: a resource goes on meaning what it meant
    when it was made, whatever a later release would choose."""
    return _translated(model, defaults=True, enums=True)


def observed_schema(model: type[BaseModel]) -> Schema:
    """The schema of what the operator reports: no defaults, for nothing is reported that was not seen, and no lists of
    allowed words, for a newer operator must be able to write under an older definition."""
    return _translated(model, defaults=False, enums=False)


def _translated(model: type[BaseModel], *, defaults: bool, enums: bool) -> Schema:
    document = model.model_json_schema(by_alias=True)
    return _Translation(document.get("$defs", {}), defaults, enums).schema(document)


class _Translation:
    """One pass over a JSON schema of pydantic, with its definitions put in place of the references."""

    def __init__(self, definitions: Mapping[str, Schema], defaults: bool, enums: bool) -> None:
        self._definitions = definitions
        self._defaults = defaults
        self._enums = enums

    def schema(self, node: Schema) -> Schema:
        """One node and all below it."""
        node = self._resolved(node)
        arms = {arm.get("type") for arm in node.get("anyOf", ())}
        if arms == {"integer", "string"}:
            return self._byte_size(node)
        found: Schema = {key: node[key] for key in _KEPT if key in node}
        if "const" in node:
            found["enum"] = [node["const"]]
        if not self._enums:
            found.pop("enum", None)
        match node.get("type"):
            case "object":
                self._object(node, found)
            case "array":
                found["items"] = self.schema(
                    node["prefixItems"][0] if "prefixItems" in node else node["items"]
                )
                found.setdefault("x-kubernetes-list-type", "atomic")
            case "integer":
                found["format"] = "int64"
        return found | self._default(node)

    def _resolved(self, node: Schema) -> Schema:
        """The node with a reference or the one arm beside `null` merged into it; its own keys win."""
        arms = [arm for arm in node.get("anyOf", ()) if arm.get("type") != "null"]
        if len(arms) == 1:
            return self._resolved(arms[0] | {key: value for key, value in node.items() if key != "anyOf"})
        if "$ref" in node:
            name = node["$ref"].rsplit("/", 1)[-1]
            return self._definitions[name] | {"title": name} | node
        return node

    def _object(self, node: Schema, found: Schema) -> None:
        values = node.get("additionalProperties")
        if values is True:
            found["x-kubernetes-preserve-unknown-fields"] = True
        elif isinstance(values, dict):
            found["additionalProperties"] = self.schema(values)
        if "properties" in node:
            found["properties"] = {key: self.schema(value) for key, value in node["properties"].items()}
        if node.get("required"):
            found["required"] = sorted(node["required"])
        if node.get("title") == "SecretKeyRef":
            found["x-kubernetes-map-type"] = "atomic"  # name and key are one value: never one of each writer

    def _byte_size(self, node: Schema) -> Schema:
        default = node.get("default")
        stored = {"default": format_bytes(default)} if self._defaults and default is not None else {}
        return {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "description": node["description"],
            "minimum": 1,
            "pattern": QUANTITY,
            "x-kubernetes-int-or-string": True,
            "x-kubernetes-validations": [dict(_WHOLE_BYTES)],
        } | stored

    def _default(self, node: Schema) -> Schema:
        """What the API server fills in. A section gets `{}`, so that the defaults below it apply; empty values say no
        more than their absence and are left out."""
        default = node.get("default")
        if not self._defaults or default is None or default in ("", [], ()):
            return {}
        if node.get("type") == "object":
            return {"default": {}} if "properties" in node else {}
        return {"default": default}
