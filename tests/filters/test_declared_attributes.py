"""Declared attributes: names and types over the fields of an image."""

from datetime import UTC, datetime
from typing import Any

import pytest

from visualindex.errors import ProblemError, ProblemType
from visualindex.filters import (
    Colour,
    Eq,
    Exists,
    In,
    Prefix,
    Range,
    Schema,
    check_metadata,
    instant,
    matches,
    parse_filter,
    to_json,
)
from visualindex.spec.models import AttributeSpec

SCHEMA = Schema.of(
    AttributeSpec.model_validate(one)
    for one in (
        {"name": "brand", "type": "keyword"},
        {"name": "tags", "type": "tags", "source": "metadata.labels.all"},
        {"name": "price", "type": "number", "source": "metadata.offer.price"},
        {"name": "sale", "type": "boolean"},
        {"name": "added", "type": "time"},
        {"name": "shelf", "type": "path", "source": "category"},
        {"name": "place", "type": "path", "separator": "/"},
        {"name": "tint", "type": "colour"},
    )
)
NOW = int(datetime(2026, 3, 15, 12, tzinfo=UTC).timestamp()) * 1_000_000


def read(document: Any) -> Any:
    return parse_filter(document, schema=SCHEMA, now=NOW)


@pytest.mark.parametrize(
    ("document", "tree"),
    [
        ({"eq": {"brand": "Oakly"}}, Eq("metadata.brand", "Oakly")),
        ({"in": {"tags": ["a", "b"]}}, In("metadata.labels.all", ("a", "b"))),
        ({"range": {"price": {"lt": 100}}}, Range("metadata.offer.price", lt=100)),
        ({"eq": {"sale": True}}, Eq("metadata.sale", True)),
        ({"prefix": {"shelf": "Beds > D"}}, Prefix("category", "Beds > D")),
        ({"exists": "price"}, Exists("metadata.offer.price")),
        ({"eq": {"tint": "red"}}, Colour(name="red")),
    ],
)
def test_a_declared_name_stands_for_its_field(document: Any, tree: Any) -> None:
    assert read(document) == tree


def test_what_is_not_declared_can_be_filtered_as_before() -> None:
    for document in ({"range": {"metadata.brand": {"gt": "a"}}}, {"eq": {"metadata.price": "3"}}):
        assert read(document) == parse_filter(document)


@pytest.mark.parametrize(
    ("document", "pointer", "hint"),
    [
        ({"range": {"brand": {"gt": "a"}}}, "/range/brand", "brand is a keyword, which has no range"),
        ({"prefix": {"price": "3"}}, "/prefix/price", "use eq or in or range or exists"),
        ({"eq": {"price": "3"}}, "/eq/price", "without quotes, got '3'"),
        ({"eq": {"price": True}}, "/eq/price", "price is a number"),
        ({"range": {"price": {"gt": 1, "lt": 2, "gte": "x"}}}, "/range/price", "mix"),
        ({"range": {"price": {"gt": "1"}}}, "/range/price/gt", "without quotes"),
        ({"in": {"tags": ["a", 3]}}, "/in/tags/1", "compare it with a string"),
        ({"eq": {"sale": 1}}, "/eq/sale", "true or false"),
        ({"eq": {"added": "March"}}, "/eq/added", "'March' is none: write a date"),
        ({"in": {"added": ["2026-03-01", "x"]}}, "/in/added/1", "relative: now-7d"),
        ({"range": {"added": {"gte": "2026-02-30"}}}, "/range/added/gte", "is none"),
        ({"range": {"added": {"gte": 1772323200000}}}, "/range/added/gte", "seconds since 1970"),
        ({"eq": {"shelf": None}}, "/eq/shelf", "null"),
        ({"eq": {"tint": "scarlet"}}, "/eq/tint", "tint is a colour"),
        ({"eq": {"prise": 3}}, "/eq/prise", "use added, brand, place, price, sale"),
        ({"within": {"added": [["2026-01-01", None]]}}, "/within/added", "which has no within"),
        ({"in": {"shelf": [str(at) for at in range(65)]}}, "/in/shelf/64", "more than 64 comparisons"),
    ],
)
def test_an_operator_or_operand_of_the_wrong_type_is_refused_at_its_place(
    document: Any, pointer: str, hint: str
) -> None:
    with pytest.raises(ProblemError) as caught:
        read(document)
    assert caught.value.type is ProblemType.INVALID_FILTER
    assert caught.value.extra["pointer"] == pointer
    assert hint in caught.value.detail


@pytest.mark.parametrize(
    ("operand", "passing", "failing"),
    [
        ({"gte": "2026-03-14", "lte": "2026-03-15"}, ["2026-03-14", "2026-03-15T23:59:59Z"], ["2026-03-16"]),
        ({"gt": "2026-03-14"}, ["2026-03-15"], ["2026-03-14T23:59:59.999999Z"]),
        ({"lt": "2026-03-15"}, ["2026-03-14T23:59:59Z"], ["2026-03-15", "2026-03-15T00:30:00+00:00"]),
        ({"gte": "2026-03-15T01:00:00+01:00"}, ["2026-03-15", 1773532800], ["2026-03-14T23:59:59Z"]),
        ({"gte": "now-7d"}, ["2026-03-08T12:00:00Z"], ["2026-03-08T11:59:59Z", "yesterday", True]),
        ({"gt": "now"}, ["2026-03-15T12:00:00.000001Z"], ["2026-03-15T12:00:00Z"]),
        ({"gt": 1773576000, "lt": "now+1h"}, ["2026-03-15T12:30:00Z"], ["2026-03-15T13:00:00Z"]),
    ],
)
def test_times_compare_as_instants_and_a_date_is_its_whole_day(
    operand: Any, passing: list[Any], failing: list[Any]
) -> None:
    tree = read({"range": {"added": operand}})
    assert all(matches(tree, {"metadata": {"added": value}}) for value in passing)
    assert not any(matches(tree, {"metadata": {"added": value}}) for value in failing)
    assert parse_filter(to_json(tree)) == tree


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
        ("2026-03-01t10:00:00z", "2026-03-01 10:00:00"),
        ("2026-03-01T10:00:00.1234567+01:30", "2026-03-01T08:30:00.123456Z"),
        ("2026-03-01", 1772323200),
    ],
)
def test_times_that_are_written_differently_are_one_instant(text: str, same: Any) -> None:
    assert instant(text) == instant(same) is not None


@pytest.mark.parametrize(
    "value",
    ["2026-02-29", "2026-03", "26-03-01", "2026-03-01T25:00:00Z", "٢026-03-01", "", True, None, 1e300],
)
def test_what_is_no_time_is_no_instant(value: Any) -> None:
    assert instant(value) is None


def test_a_time_equals_a_day_when_it_is_in_it() -> None:
    day, days = read({"eq": {"added": "2026-03-01"}}), read({"in": {"added": ["2026-03-01", "2026-03-03"]}})
    late = {"metadata": {"added": "2026-03-01T22:00:00-01:00"}}
    assert matches(day, late)
    assert matches(days, {"metadata": {"added": "2026-03-03T10:00:00Z"}})
    assert not matches(days, {"metadata": {"added": "2026-03-02T10:00:00Z"}})


def test_a_node_of_a_path_stands_for_itself_and_all_below_it() -> None:
    beds = read({"eq": {"shelf": "Home > Beds"}})
    assert matches(beds, {"category": "Home > Beds"})
    assert matches(beds, {"category": "Home > Beds > Double"})
    assert not matches(beds, {"category": "Home > Bedside tables"})
    assert not matches(beds, {"category": "Home"})
    either = read({"in": {"place": ["north/1", "south"]}})
    assert matches(either, {"metadata": {"place": ["east", "south/4/b"]}})
    assert not matches(either, {"metadata": {"place": "north/12"}})


def test_what_was_written_before_its_declaration_may_stay() -> None:
    before = {"offer": {"price": "3"}, "brand": "a"}
    check_metadata(SCHEMA, {"offer": {"price": "3"}, "brand": "b"}, before)
    with pytest.raises(ProblemError, match="price"):
        check_metadata(SCHEMA, {"offer": {"price": "4"}}, before)


def test_what_is_written_is_held_to_the_declarations() -> None:
    check_metadata(SCHEMA, {})
    check_metadata(
        SCHEMA, {"brand": None, "labels": {"all": ["a", "b"]}, "offer": {"price": 3}, "other": [1]}
    )
    check_metadata(SCHEMA, {"labels": {"all": "one"}, "sale": False, "added": 1773532800.5, "place": "a/b"})
    wrong = {
        "brand": ["a", "b"],
        "labels": {"all": ["a", 3]},
        "offer": {"price": "3"},
        "sale": "yes",
        "added": "2026-13-01",
        "place": {"north": 1},
    }
    with pytest.raises(ProblemError, match="declared so") as caught:
        check_metadata(SCHEMA, wrong)
    assert caught.value.type is ProblemType.INVALID_REQUEST
    assert {error["pointer"] for error in caught.value.extra["errors"]} == {
        "/metadata/brand",
        "/metadata/labels/all",
        "/metadata/offer/price",
        "/metadata/sale",
        "/metadata/added",
        "/metadata/place",
    }
