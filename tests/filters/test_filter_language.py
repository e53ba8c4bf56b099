"""What a filter document means, and what a caller learns from a wrong one."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import (
    EVERYTHING,
    MAX_IN_VALUES,
    MAX_TEXT,
    And,
    Eq,
    Filter,
    Not,
    Or,
    conjoin,
    matches,
    parse_filter,
    to_json,
)

SOFA = {
    "category": "Sofa",
    "key": "sku-17",
    "metadata": {
        "price": 399.5,
        "stock": 3,
        "sale": True,
        "colours": ["red", "dark blue"],
        "size": {"width": 210, "feet": {"count": 4}},
        "a.b": "dotted",
        "reviews": [{"stars": 5}, {"stars": 2, "text": None}],
        "nothing": None,
        "empty": [],
        "void": {},
        "added": "2026-03-01",
    },
}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"eq": {"category": "Sofa"}},
        {"eq": {"key": "sku-17"}},
        {"eq": {"metadata.stock": 3.0}},
        {"eq": {"metadata.sale": True}},
        {"eq": {"metadata.colours": "red"}},
        {"eq": {"metadata.size.feet.count": 4}},
        {"eq": {"metadata.a.b": "dotted"}},
        {"eq": {"metadata.reviews.stars": 2}},
        {"eq": {"category": "Sofa", "metadata.stock": 3}},
        {"eq": {"category": "Sofa"}, "range": {"metadata.price": {"lt": 400}}},
        {"in": {"category": ["Bed", "Sofa"]}},
        {"range": {"metadata.price": {"gt": 399, "lte": 399.5}}},
        {"range": {"metadata.added": {"gte": "2026-03", "lt": "2026-04"}}},
        {"exists": "metadata.void"},
        {"exists": "metadata.size.feet"},
        {"prefix": {"category": "So"}},
        {"prefix": {"metadata.colours": "dark"}},
        {"not": {"eq": {"category": "Bed"}}},
        {"or": [{"eq": {"category": "Bed"}}, {"exists": "metadata.sale"}]},
        {"and": [{"exists": "category"}, {"not": {"exists": "metadata.nothing"}}]},
    ],
)
def test_passes(document: dict[str, Any]) -> None:
    assert matches(parse_filter(document), SOFA)


@pytest.mark.parametrize(
    "document",
    [
        {"eq": {"category": "sofa"}},
        {"eq": {"metadata.sale": 1}},
        {"eq": {"metadata.stock": "3"}},
        {"eq": {"metadata.missing": 0}},
        {"eq": {"category": "Sofa", "metadata.stock": 4}},
        {"in": {"metadata.sale": [1, "true"]}},
        {"range": {"metadata.stock": {"gt": 3}}},
        {"range": {"metadata.stock": {"gt": "0"}}},
        {"range": {"metadata.sale": {"gte": 0}}},
        {"range": {"metadata.reviews.stars": {"gt": 2, "lt": 5}}},
        {"exists": "metadata.nothing"},
        {"exists": "metadata.empty"},
        {"exists": "metadata.reviews.text"},
        {"prefix": {"metadata.price": "3"}},
        {"not": {"exists": "category"}},
        {"or": [{"eq": {"category": "Bed"}}]},
    ],
)
def test_does_not_pass(document: dict[str, Any]) -> None:
    assert not matches(parse_filter(document), SOFA)


@pytest.mark.parametrize(
    ("document", "pointer", "hint"),
    [
        (None, "", "got null"),
        ([], "", "got an empty list"),
        ("category:Bed", "", "got a string"),
        ({"equals": {"category": "Bed"}}, "/equals", "use one of"),
        ({"and": []}, "/and", "at least one"),
        ({"and": {"eq": {"category": "Bed"}}}, "/and", "got an object"),
        ({"and": [{"eq": {"category": "x"}}, {"eq": 3}]}, "/and/1/eq", "got a number"),
        ({"not": {}}, "/not", "name an operator"),
        ({"eq": {"colour": "red"}}, "/eq/colour", "metadata.<path>"),
        ({"eq": {"metadata.": "red"}}, "/eq/metadata.", "unknown field"),
        ({"eq": {"metadata.a/b~c..d": 1}}, "/eq/metadata.a~1b~0c..d", "unknown field"),
        ({"eq": {"category": None}}, "/eq/category", "exists"),
        ({"eq": {"category": ["Bed"]}}, "/eq/category", "got a list"),
        ({"eq": {"metadata.x": float("nan")}}, "/eq/metadata.x", "not finite"),
        ({"in": {"category": "Bed"}}, "/in/category", "got a string"),
        ({"in": {"category": ["Bed", {}]}}, "/in/category/1", "an empty object"),
        ({"in": {"category": ["x"] * (MAX_IN_VALUES + 1)}}, "/in/category", str(MAX_IN_VALUES)),
        ({"range": {"metadata.x": 3}}, "/range/metadata.x", "bounds"),
        ({"range": {"metadata.x": {"above": 3}}}, "/range/metadata.x/above", "gte"),
        ({"range": {"metadata.x": {"gt": True}}}, "/range/metadata.x/gt", "boolean"),
        ({"range": {"metadata.x": {"gt": 1, "lt": "b"}}}, "/range/metadata.x", "mix"),
        ({"prefix": {"category": ""}}, "/prefix/category", "empty string"),
        ({"prefix": {"category": 3}}, "/prefix/category", "got a number"),
        ({"exists": {"category": True}}, "/exists", "field name"),
        ({"exists": "colour"}, "/exists", "colour"),
        ({"eq": {"category": "x" * (MAX_TEXT + 1)}}, "/eq/category", str(MAX_TEXT)),
    ],
)
def test_a_wrong_filter_is_refused_with_a_pointer_and_a_hint(document: Any, pointer: str, hint: str) -> None:
    with pytest.raises(ProblemError, match=hint.replace(".", r"\.")) as caught:
        parse_filter(document)
    assert caught.value.type is ProblemType.INVALID_FILTER
    assert caught.value.extra["pointer"] == pointer


def nested(levels: int) -> dict[str, Any]:
    document: dict[str, Any] = {"exists": "category"}
    for _ in range(levels):
        document = {"not": document}
    return document


def test_depth_is_bounded() -> None:
    assert matches(parse_filter(nested(6), max_depth=7), SOFA)
    with pytest.raises(ProblemError, match="deeper than 7"):
        parse_filter(nested(7), max_depth=7)
    with pytest.raises(ProblemError, match="deeper than 8"):
        parse_filter(nested(900))


def test_terms_are_bounded_over_the_whole_filter() -> None:
    half = [{"exists": "category"}] * 4
    assert matches(parse_filter({"and": [{"or": half}, {"or": half}]}, max_terms=8), SOFA)
    with pytest.raises(ProblemError, match="more than 7 comparisons"):
        parse_filter({"and": [{"or": half}, {"or": half}]}, max_terms=7)
    with pytest.raises(ProblemError, match="more than 1 comparisons"):
        parse_filter({"eq": {"category": "a", "key": "b"}}, max_terms=1)


def test_conjunction_passes_only_what_both_pass() -> None:
    key = parse_filter({"or": [{"eq": {"category": "Bed"}}, {"eq": {"category": "Cot"}}]})
    request = parse_filter({"or": [{"eq": {"category": "Sofa"}}, {"eq": {"metadata.stock": 3}}]})
    assert matches(request, SOFA)
    assert not matches(conjoin(key, request), SOFA)
    assert not matches(conjoin(request, key), SOFA)
    assert conjoin(key, None) == key
    assert conjoin(None, None) == EVERYTHING
    assert conjoin(EVERYTHING, key) == key


def test_an_image_without_attributes_matches_only_negations() -> None:
    assert matches(parse_filter({"not": {"exists": "category"}}), {})
    assert not matches(parse_filter({"eq": {"category": "Bed"}}), {})


fields = st.sampled_from(["category", "key", "metadata.x", "metadata.x.y"])
values = st.one_of(
    st.text(max_size=3), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans()
)
leaves = st.one_of(
    st.builds(Eq, fields, values),
    st.builds(lambda f, p: parse_filter({"prefix": {f: p}}), fields, st.text(min_size=1, max_size=3)),
    st.builds(
        lambda f, low, high: parse_filter({"range": {f: {"gte": low, "lt": high}}}),
        fields,
        st.integers(),
        st.integers(),
    ),
    st.builds(lambda f, v: parse_filter({"in": {f: v}}), fields, st.lists(values, min_size=1, max_size=3)),
    st.builds(lambda f: parse_filter({"exists": f}), fields),
)
trees: st.SearchStrategy[Filter] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(lambda terms: And(tuple(terms)), st.lists(inner, min_size=2, max_size=3)),
        st.builds(lambda terms: Or(tuple(terms)), st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=5,
)


@given(trees)
def test_a_filter_survives_its_journey_through_json(tree: Filter) -> None:
    assert parse_filter(to_json(tree), max_depth=99) == tree


@given(trees, trees, st.sampled_from([SOFA, {}, {"category": "a", "metadata": {"x": {"y": 0}}}]))
def test_conjunction_is_logical_and(first: Filter, second: Filter, image: dict[str, Any]) -> None:
    assert matches(conjoin(first, second), image) == (matches(first, image) and matches(second, image))


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["and", "or", "not", "eq", "in", "range", "exists", "prefix", "category", "gt"]),
            inner,
            max_size=3,
        ),
    ),
)


@given(json_values)
def test_any_json_is_a_filter_or_a_problem(document: Any) -> None:
    """Nothing but a problem leaves the parser, and whatever it takes can be evaluated."""
    with contextlib.suppress(ProblemError):
        assert matches(parse_filter(document), SOFA) in (True, False)
