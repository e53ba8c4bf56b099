"""Domains: a search names one, several or none, and each keeps its own images and least score."""

import pytest

from visualindex.api.search import SearchRequest
from visualindex.errors import ProblemError
from visualindex.filters import Colour, Eq, Or, matches
from visualindex.spec import Spec
from visualindex_serving.domains import NO_SCOPE, scope_of, with_defaults

SPEC = Spec.model_validate(
    {
        "attributes": [{"name": "brand", "type": "keyword"}],
        "domains": [
            {
                "name": "clothes",
                "filter": 'category = "Clothes"',
                "attributes": ["brand", "metadata.size"],
                "minScore": 0.6,
                "limit": 5,
            },
            {"name": "furniture", "filter": {"eq": {"category": "Furniture"}}, "minScore": 0.3, "limit": 30},
            {"name": "red", "filter": 'colour("red")', "attributes": ["category", "brand"]},
            {"name": "everything", "minScore": 0.1},
        ],
    }
)


def test_no_domain_changes_nothing() -> None:
    assert scope_of([], SPEC) == NO_SCOPE
    assert NO_SCOPE.keeps({}, -1.0)
    request = SearchRequest()
    assert with_defaults(request, SPEC) is request


def test_one_domain_is_its_filter_and_its_least_score() -> None:
    scope = scope_of(["clothes"], SPEC)
    assert scope.filter == Eq("category", "Clothes")
    assert (scope.min_score, scope.thresholds) == (0.6, ())


def test_several_domains_are_their_union_each_with_its_own_least_score() -> None:
    scope = scope_of(["furniture", "clothes"], SPEC)
    assert scope.filter == Or((Eq("category", "Furniture"), Eq("category", "Clothes")))
    assert scope.min_score == 0.3
    sofa, dress = {"category": "Furniture"}, {"category": "Clothes"}
    assert [scope.keeps(sofa, 0.4), scope.keeps(dress, 0.4), scope.keeps(dress, 0.7)] == [True, False, True]
    assert scope.sure_above == 0.6


def test_a_domain_without_a_least_score_takes_any() -> None:
    scope = scope_of(["clothes", "red"], SPEC)
    assert scope.min_score is None
    assert scope.keeps({"category": "Clothes", "colours": [[200, 20, 20, 99]]}, -0.5)
    assert not scope.keeps({"category": "Clothes"}, 0.5)
    assert isinstance(scope.filter, Or)
    assert scope.filter.terms[1] == Colour(name="red")


def test_a_union_with_everything_is_everything() -> None:
    scope = scope_of(["clothes", "everything"], SPEC)
    assert scope.filter is None
    assert [scope.keeps({"category": "Clothes"}, score) for score in (0.05, 0.2)] == [False, True]


def test_a_score_of_the_caller_stands_for_all_domains() -> None:
    scope = scope_of(["furniture", "clothes"], SPEC, own_scores=False)
    assert (scope.min_score, scope.thresholds) == (None, ())
    assert scope.filter is not None
    assert matches(scope.filter, {"category": "Clothes"})


def test_domains_give_a_limit_and_facets_where_the_search_says_none() -> None:
    asked = with_defaults(SearchRequest(domain=["clothes", "furniture", "red"]), SPEC)
    assert (asked.limit, asked.facets) == (30, ["brand", "metadata.size", "category"])
    own = with_defaults(SearchRequest(domain="clothes", limit=7, facets=["key"]), SPEC)
    assert (own.limit, own.facets) == (7, ["key"])


@pytest.mark.parametrize(
    ("name", "hint"),
    [("furnitur", "did you mean 'furniture'"), ("xyz", "use one of clothes, furniture, red, everything")],
)
def test_an_unknown_domain_is_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ProblemError, match=hint):
        scope_of([name], SPEC)


def test_an_index_without_domains_says_so() -> None:
    with pytest.raises(ProblemError, match="this index has no domains"):
        scope_of(["furniture"], Spec())
