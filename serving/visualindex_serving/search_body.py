"""A search's body as a request: a vector that is in order is not written out and read again to find that out."""

from dataclasses import replace
from typing import Any

from visualindex.api.search import SearchRequest
from visualindex_serving.bodies import Body

_NUMBERS = {float, int}
_MOST = 4096
"""Beyond it the model says what is wrong."""

_STAND_IN = [1.0]


def read_search(body: Body) -> SearchRequest:
    """As `body.read(SearchRequest)`. Raises ProblemError INVALID_REQUEST listing every mistake."""
    query = body.document.get("query")
    if not body.typed or not isinstance(query, dict) or not _in_order(query.get("vector")):
        return body.read(SearchRequest)
    rest = {**body.document, "query": {**query, "vector": _STAND_IN}}
    request = replace(body, document=rest).read(SearchRequest)
    return request.model_copy(update={"query": request.query.model_copy(update={"vector": query["vector"]})})


def _in_order(vector: Any) -> bool:
    """Whether the model has nothing to say against it."""
    return isinstance(vector, list) and 0 < len(vector) <= _MOST and _NUMBERS.issuperset(map(type, vector))
