"""Each mistake is told with a JSON pointer into the request as it was sent."""

from typing import Any

import pytest

from visualindex.api.search import SearchRequest
from visualindex.errors import ProblemError
from visualindex_serving.bodies import parse_json, validate


@pytest.mark.parametrize(
    ("part", "pointer"),
    [
        ({"filter": 5}, "/filter"),
        ({"domain": [1]}, "/domain"),
        ({"rerank": "yes"}, "/rerank"),
        ({"limit": "ten"}, "/limit"),
        ({"group_by": {"size": 2}}, "/group_by/field"),
        ({"query": {"vector": [1, "x"]}}, "/query/vector/1"),
    ],
)
def test_a_pointer_leads_to_the_mistake(part: dict[str, Any], pointer: str) -> None:
    document = {"query": {"image_id": "00000000-0000-0000-0000-000000000001"}, **part}
    with pytest.raises(ProblemError) as caught:
        validate(SearchRequest, document)
    pointers = {error["pointer"] for error in caught.value.extra["errors"]}
    assert pointers <= {pointer, f"{pointer}/0"}, pointers


def test_a_nul_in_a_part_of_a_form_is_named_with_its_part() -> None:
    with pytest.raises(ProblemError) as caught:
        parse_json(b'{"a": "\\u0000"}', "form's field metadata", ("metadata",))
    assert caught.value.extra["errors"][0]["pointer"] == "/metadata/a"
