"""The OpenAPI document says everything a client needs: every field, parameter, example and problem."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from visualindex.errors import ProblemType
from visualindex_serving.gateway import create_app

from .conftest import spec_document

ROOT = Path(__file__).parents[2]
API = (ROOT / "docs/api.md").read_text()
UNGUARDED = ("/healthz", "/readyz")


def unconnected(index: str, shard: int) -> Any:
    raise AssertionError("no test here searches")


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    return create_app([spec_document()], unconnected).openapi()


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def properties(schema: Any, at: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every property of a schema, with its place."""
    if isinstance(schema, list):
        for one in schema:
            yield from properties(one, at)
    if isinstance(schema, dict):
        for name, inner in schema.get("properties", {}).items():
            yield f"{at}.{name}", inner
        for name, inner in schema.items():
            if name not in ("example", "examples"):
                yield from properties(inner, at)


def test_every_field_is_described(document: dict[str, Any]) -> None:
    bare = [
        place
        for name, schema in document["components"]["schemas"].items()
        for place, field in properties(schema, name)
        if not field.get("description")
    ]
    assert bare == []
    assert [n for n, s in document["components"]["schemas"].items() if not s.get("description")] == []


def test_every_call_and_parameter_is_described(document: dict[str, Any]) -> None:
    bare = []
    for method, path, operation in operations(document):
        bare += [f"{method} {path}"] if not operation.get("description") else []
        parameters = operation.get("parameters", [])
        bare += [f"{method} {path} {p['name']}" for p in parameters if not p.get("description")]
        body = operation.get("requestBody", {}).get("content", {})
        bare += [
            place for place, field in properties(body, f"{method} {path}") if not field.get("description")
        ]
    assert bare == []


def test_every_body_has_an_example_or_a_form(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        for media, content in operation.get("requestBody", {}).get("content", {}).items():
            assert media == "multipart/form-data" or content.get("examples"), f"{method} {path} {media}"


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert references <= set(document["components"]["schemas"])


def test_every_call_lists_its_problems_as_problem_documents(document: dict[str, Any]) -> None:
    for method, path, operation in operations(document):
        responses = operation["responses"]
        assert "HTTPValidationError" not in str(responses)
        if path in UNGUARDED:
            continue
        for status in ("401", "403", "404", "422", "503", "504"):
            assert list(responses[status]["content"]) == ["application/problem+json"], (
                f"{method} {path} {status}"
            )


def test_every_problem_of_the_api_is_an_answer_of_some_call(document: dict[str, Any]) -> None:
    listed = str(document["paths"])
    routing = {ProblemType.METHOD_NOT_ALLOWED, ProblemType.INTERNAL}
    assert [
        kind for kind in ProblemType if f"`{kind.value.slug}`" not in listed and kind not in routing
    ] == []


def test_keys_are_declared(document: dict[str, Any]) -> None:
    assert set(document["components"]["securitySchemes"]) == {"bearer", "apiKey"}
    assert {"bearer": []} in document["security"]


def test_every_call_is_in_the_guide_with_an_example(document: dict[str, Any]) -> None:
    missing = [f"{m} {p}" for m, p, _ in operations(document) if f"`{m} {p}`" not in API]
    assert missing == []
    sections = re.split(r"^## ", API, flags=re.MULTILINE)[1:]
    calls = [section for section in sections if re.match(r"`[A-Z]+ /", section)]
    assert calls
    assert [section.splitlines()[0] for section in calls if "curl " not in section] == []
