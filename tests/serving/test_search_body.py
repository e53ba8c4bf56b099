"""A search's request is the same whether its vector is checked by itself or by the model."""

from typing import Any

import orjson
import pytest

from visualindex.api.search import SearchRequest
from visualindex.errors import ProblemError
from visualindex_serving.bodies import Body
from visualindex_serving.search_body import read_search


def body(**document: Any) -> Body:
    return Body(document, [], len(orjson.dumps(document)), True)


@pytest.mark.parametrize("vector", [[0.5, -0.25], [1, 0], [3], [1e300, 2]])
def test_numbers_are_taken_as_they_are(vector: list[float]) -> None:
    given = body(query={"vector": vector, "fingerprint": "f"}, limit=3)
    asked = read_search(given)
    assert asked == given.read(SearchRequest)
    assert asked.model_fields_set == {"query", "limit"}
    assert asked.query.model_fields_set == {"vector", "fingerprint"}


@pytest.mark.parametrize(
    "query",
    [
        {"vector": []},
        {"vector": [1.0] * 4097},
        {"vector": [True, 1.0]},
        {"vector": ["1"]},
        {"vector": [None]},
        {"vector": 1.0},
        {"vector": [1.0], "image_url": "https://example.com/a.jpg"},
        {"vector": [1.0], "box": [0, 0, 1, 1]},
        {"vector": [1.0], "unknown": 1},
        "vector",
    ],
)
def test_mistakes_are_told_as_the_model_tells_them(query: Any) -> None:
    given = body(query=query, limit=0)
    with pytest.raises(ProblemError) as ours:
        read_search(given)
    with pytest.raises(ProblemError) as models:
        given.read(SearchRequest)
    assert (ours.value.type, ours.value.detail, ours.value.extra) == (
        models.value.type,
        models.value.detail,
        models.value.extra,
    )
