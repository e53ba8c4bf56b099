"""What is accepted on the first page is accepted on the next one, and by shards."""

from collections.abc import Iterator

import pytest

from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import schema_of
from visualindex.spec import VisualIndex
from visualindex_serving.accepted_filters import reread
from visualindex_serving.asked import _checked_filter
from visualindex_serving.domains import scope_of

from .conftest import spec_document

PATHS = 60
OWN = "place in (" + ", ".join(f'"x/{n}"' for n in range(PATHS)) + ")"


@pytest.fixture(scope="module")
def resource() -> VisualIndex:
    attributes = [{"name": "place", "type": "path", "source": "metadata.place"}]
    return VisualIndex.model_validate(spec_document(attributes=attributes, domains=list(domains())))


def domains() -> Iterator[dict[str, str]]:
    for number in range(20):
        places = ", ".join(f'"p{number}/{n}"' for n in range(PATHS))
        yield {"name": f"d{number}", "filter": f"place in ({places})"}


@pytest.mark.parametrize("count", range(1, 13, 3))
def test_a_filter_with_domains_is_accepted_on_every_page(resource: VisualIndex, count: int) -> None:
    scope = scope_of([f"d{number}" for number in range(count)], resource.spec)
    first = _checked_filter(OWN, schema_of(resource.spec.attributes), within=scope.filter)
    assert first is not None
    assert _checked_filter(first, again=True) == first
    reread(first)


@pytest.mark.parametrize("given", [OWN, None])
def test_one_that_would_be_refused_later_is_refused_at_once(resource: VisualIndex, given: str | None) -> None:
    scope = scope_of([f"d{number}" for number in range(20)], resource.spec)
    with pytest.raises(ProblemError, match="domains and paths") as refused:
        _checked_filter(given, schema_of(resource.spec.attributes), within=scope.filter)
    assert refused.value.type is ProblemType.INVALID_FILTER
