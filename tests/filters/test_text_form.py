"""The short text form of filters: the same trees as the JSON form, and errors that show the place."""

import contextlib
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import (
    EVERYTHING,
    And,
    Eq,
    Exists,
    Filter,
    In,
    Not,
    Or,
    Prefix,
    Range,
    Schema,
    Within,
    matches,
    parse_filter,
    parse_filter_text,
    to_json,
    to_text,
)
from visualindex.spec.models import AttributeSpec

SCHEMA = Schema.of(
    AttributeSpec.model_validate(one)
    for one in (
        {"name": "price", "type": "number"},
        {"name": "tags", "type": "tags"},
        {"name": "name", "type": "keyword"},
        {"name": "size", "type": "keyword"},
        {"name": "added", "type": "time"},
    )
)


@pytest.mark.parametrize(
    ("text", "document"),
    [
        ("", {}),
        ('category = "Bed"', {"eq": {"category": "Bed"}}),
        ("category = 'Bed'", {"eq": {"category": "Bed"}}),
        ("metadata.sale = TRUE", {"eq": {"metadata.sale": True}}),
        ('category != "Bed"', {"not": {"eq": {"category": "Bed"}}}),
        ("metadata.x <= -1.5e3", {"range": {"metadata.x": {"lte": -1500.0}}}),
        ("1 <= metadata.x < 3", {"range": {"metadata.x": {"gte": 1, "lt": 3}}}),
        ("3 > metadata.x >= 1", {"range": {"metadata.x": {"gte": 1, "lt": 3}}}),
        ('category ^= "So"', {"prefix": {"category": "So"}}),
        ("metadata.n in (1, 2)", {"in": {"metadata.n": [1, 2]}}),
        ("metadata.n not in (1)", {"not": {"in": {"metadata.n": [1]}}}),
        ("exists(metadata.n)", {"exists": "metadata.n"}),
        ("not exists(key)", {"not": {"exists": "key"}}),
        ("`metadata.a b.``c` = 1", {"eq": {"metadata.a b.`c": 1}}),
        ("metadata.product-id = 1", {"eq": {"metadata.product-id": 1}}),
        ("metadata.größe.in = 1", {"eq": {"metadata.größe.in": 1}}),
        (r"""key = "a\"\\\u00e9\ud83d\udecb" """, {"eq": {"key": 'a"\\é\U0001f6cb'}}),
        (
            'category = "a" or category = "b" and key = "c"',
            {"or": [{"eq": {"category": "a"}}, {"and": [{"eq": {"category": "b"}}, {"eq": {"key": "c"}}]}]},
        ),
        (
            'not (category = "a" or key = "b") and exists(key)',
            {
                "and": [
                    {"not": {"or": [{"eq": {"category": "a"}}, {"eq": {"key": "b"}}]}},
                    {"exists": "key"},
                ]
            },
        ),
        (
            'metadata.t within ("2026-01-01".."2026-02-01", 1772323200..)',
            {"within": {"metadata.t": [["2026-01-01", "2026-02-01"], [1772323200, None]]}},
        ),
    ],
)
def test_the_text_form_means_what_the_json_form_means(text: str, document: Any) -> None:
    assert parse_filter_text(text) == parse_filter(document)


def test_declared_names_are_understood() -> None:
    text = (
        'category = "Bed" and price < 100 and not tags in ("red","blue") and name ^= "So" and exists(size) '
        "and added >= now-7d"
    )
    document = {
        "and": [
            {"eq": {"category": "Bed"}},
            {"range": {"price": {"lt": 100}}},
            {"not": {"in": {"tags": ["red", "blue"]}}},
            {"prefix": {"name": "So"}},
            {"exists": "size"},
            {"range": {"added": {"gte": "now-7d"}}},
        ]
    }
    now = 1_773_576_000_000_000
    assert parse_filter_text(text, schema=SCHEMA, now=now) == parse_filter(document, schema=SCHEMA, now=now)


@pytest.mark.parametrize(
    ("text", "part", "hint"),
    [
        ('category == "Bed"', '= "Bed"', "expected a value"),
        ("category = Bed", "Bed", 'put a string into quotes: "Bed"'),
        ('category = "Bed', '"Bed', "not closed"),
        ('category "Bed"', '"Bed"', "expected an operator"),
        ('category = "Bed" key = "x"', 'key = "x"', "'and', 'or' or the end"),
        ('category = "Bed" and', "", "the text ends"),
        ('(category = "Bed"', "", "expected ')'"),
        ('category = "Bed" and colour = 3', "colour", "unknown field 'colour'"),
        ("metadata.x in ()", ")", "expected a value"),
        ("metadata.x in (1, 2 3)", "3)", "',' or ')'"),
        ("metadata.x = null", "null", "not exists(FIELD)"),
        ("metadata.x < true", "true", "a bound must be"),
        ('1 < metadata.x < "b"', "metadata.x", "mix"),
        ("1 < metadata.x > 0", "> 0", "same way"),
        ('"Bed" = category', '"Bed"', "before this value"),
        ("metadata.x = 1e999", "1e999", "not finite"),
        ("metadata.x ^= 3", "3", "prefix needs a string"),
        ("price < 'a'", "'a'", "without quotes"),
        ("added > now-7y", "now-7y", "put a string into quotes"),
        ("tags < 3", "tags", "no range"),
        ('price ^= "1"', "price", "no prefix"),
        ("key = 'a' and exists(seize)", "seize", "unknown field"),
        ("category = \"Bed\" & key = 'a'", "& key", "expected a field"),
        (r'key = "a\q"', r'\q"', "unknown escape"),
        (r'key = "\ud800"', r'"\ud800"', "surrogate"),
        ("not " * 70 + "exists(key)", None, "deeper than 64"),
        ("not " * 20 + "exists(key)", None, "deeper than 8"),
        ("(" * 100_000, None, "at most 65536"),
        ("(" * 60_000, None, "deeper than 64"),
    ],
)
def test_a_wrong_text_is_refused_with_the_place_and_a_caret(text: str, part: str | None, hint: str) -> None:
    with pytest.raises(ProblemError) as caught:
        parse_filter_text(text, schema=SCHEMA)
    problem = caught.value
    assert problem.type is ProblemType.INVALID_FILTER
    assert hint in problem.detail
    assert problem.extra["pointer"] == ""
    if part is not None:
        assert problem.extra["offset"] == (text.rindex(part) if part else len(text))
        _, shown, caret = problem.detail.split("\n")
        assert shown[caret.index("^") :].startswith(part[:20])


def test_a_long_text_is_shown_around_the_mistake() -> None:
    text = " or ".join(['category = "Bed"'] * 60) + "\nor x"
    with pytest.raises(ProblemError) as caught:
        parse_filter_text(text)
    _, shown, caret = caught.value.detail.split("\n")
    assert len(shown) < 130
    assert caret.index("^") == len(shown)


fields = st.sampled_from(["category", "key", "metadata.x", "metadata.a b", "metadata.`.in", "metadata.é-1"])
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=6)
numbers = st.one_of(st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False, allow_infinity=False))
values = st.one_of(texts, numbers, st.booleans())
lows = st.sampled_from([{}, {"gt": 1}, {"gte": 1}])
leaves = st.one_of(
    st.builds(Eq, fields, values),
    st.builds(lambda f, v: In(f, tuple(v)), fields, st.lists(values, min_size=1, max_size=3)),
    st.builds(Prefix, fields, texts.filter(bool)),
    st.builds(Exists, fields),
    st.builds(
        lambda f, b: Range(f, **b),
        fields,
        st.one_of(
            st.fixed_dictionaries({side: kind})
            for side in ("gt", "gte", "lt", "lte")
            for kind in (numbers, texts)
        ),
    ),
    st.builds(lambda f, a, b: Range(f, gte=a, lt=b), fields, numbers, numbers),
    st.builds(lambda f, a, b: Range(f, gt=a, lte=b), fields, texts, texts),
    st.builds(
        lambda f, spans: parse_filter({"within": {f: spans}}),
        fields,
        st.lists(
            st.tuples(st.integers(-(10**10), 10**10), st.none() | st.integers(0, 10**10)).map(list),
            min_size=1,
            max_size=3,
        ),
    ).filter(lambda tree: bool(tree.spans)),
)
trees: st.SearchStrategy[Filter] = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        st.builds(lambda terms: And(tuple(terms)), st.lists(inner, min_size=2, max_size=3)),
        st.builds(lambda terms: Or(tuple(terms)), st.lists(inner, min_size=2, max_size=3)),
    ),
    max_leaves=6,
)


@given(trees)
def test_a_filter_survives_its_journey_through_text_and_json(tree: Filter) -> None:
    assert parse_filter_text(to_text(tree), max_depth=99) == tree
    assert parse_filter(to_json(tree), max_depth=99) == tree


def test_what_says_nothing_is_not_written() -> None:
    assert to_text(EVERYTHING) == ""
    assert to_text(And((Exists("key"),))) == "exists(key)"
    assert to_text(Range("key", gt="a", gte="b", lt="x", lte="x")) == '"b" <= key < "x"'
    assert to_text(Within("metadata.t", ((None, 0),))) == 'metadata.t within (.."1970-01-01T00:00:00Z")'


SIGNS = ["(", ")", ",", "..", "=", "!=", "<", "<=", ">", ">=", "^=", "`", "\\", '"', "'", "\n"]
NAMES = ["category", "metadata.x", "price", "added", "tags", "é", "now", "now-7d", "true", "null"]
WORDS = ["and", "or", "not", "in", "exists", "within", "1", "-2.5", "1e400", '"a"', "'b'"]
words = st.sampled_from([*SIGNS, *NAMES, *WORDS])


@given(st.one_of(st.text(max_size=30), st.lists(words, max_size=12).map(" ".join)))
@example('key = "\\ud83d"')
def test_any_text_is_a_filter_or_a_problem_with_a_place_in_it(text: str) -> None:
    with contextlib.suppress(ProblemError):
        try:
            tree = parse_filter_text(text, schema=SCHEMA)
        except ProblemError as problem:
            place: Any = problem.extra["offset"]
            if problem.type is not ProblemType.INVALID_FILTER or not 0 <= place <= len(text):
                raise AssertionError(problem.detail) from problem
            raise
        assert matches(tree, {"category": "a", "metadata": {"x": 1, "price": 2}}) in (True, False)
        assert parse_filter_text(to_text(tree), max_depth=99, max_terms=999) == tree or not tree
