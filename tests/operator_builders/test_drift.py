"""Whether a live object lacks something of the wanted one."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.operator_builders.built import built, spec

from visualindex_operator import names
from visualindex_operator.drift import lacks

_WANTED = {
    "text": "a",
    "number": 2,
    "yes": True,
    "no": False,
    "list": [{"name": "x"}, {"name": "y"}],
    "deep": {"in": {"there": 1}},
}


def _with(**changes: Any) -> dict[str, Any]:
    return {**deepcopy(_WANTED), **changes}


@pytest.mark.parametrize(
    "live",
    [
        _with(),
        _with(added={"by": "others"}),
        _with(deep={"in": {"there": 1, "too": 2}, "beside": 3}),
        _with(list=[{"name": "x", "protocol": "TCP"}, {"name": "y"}]),
        _with(number="2"),
        _with(number=2.0),
    ],
)
def test_what_others_added_and_how_numbers_are_written_does_not_matter(live: dict[str, Any]) -> None:
    assert not lacks(live, _WANTED)


@pytest.mark.parametrize(
    "live",
    [
        {},
        None,
        _with(text="b"),
        _with(text=None),
        _with(number=3),
        _with(number="2Gi"),
        _with(number=None),
        _with(yes=False),
        _with(yes="true"),
        _with(no=True),
        _with(no=None),
        _with(list=[{"name": "x"}]),
        _with(list=[{"name": "x"}, {"name": "y"}, {"name": "z"}]),
        _with(list=[{"name": "y"}, {"name": "x"}]),
        _with(list=None),
        _with(list={}),
        _with(deep={"in": {}}),
        _with(deep="in"),
    ],
)
def test_what_is_missing_or_otherwise_is_found(live: Any) -> None:
    assert lacks(live, _WANTED)


@pytest.mark.parametrize("empty", [None, "", []])
def test_what_is_empty_may_be_left_out(empty: Any) -> None:
    assert not lacks({}, {"field": empty})
    assert lacks({"field": ["something"]}, {"field": empty})


def test_an_empty_mapping_is_a_statement() -> None:
    """`namespaceSelector: {}` is every namespace, and none is the own one."""
    assert lacks({}, {"namespaceSelector": {}})
    assert not lacks({"namespaceSelector": {}}, {"namespaceSelector": {}})
    assert not lacks({"emptyDir": {"medium": ""}}, {"emptyDir": {}})


def test_a_field_that_is_wanted_no_longer_is_found_by_the_digest() -> None:
    before = built(shop=spec(ray={"image_pull_secrets": ["registry"]}))
    after = built(shop=spec())
    assert lacks(before, after)
    for manifest in (before, after):
        del manifest["metadata"]["annotations"][names.DIGEST]
        del manifest["metadata"]["annotations"][names.SHAPE]
    assert not lacks(before, after), "the digest alone tells"


def test_a_manifest_lacks_nothing_of_itself() -> None:
    assert not lacks(built(shop=spec()), built(shop=spec()))


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=8,
)


@given(_JSON)
@settings(deadline=None)
def test_nothing_lacks_itself(value: Any) -> None:
    assert not lacks(value, deepcopy(value))


@given(st.dictionaries(st.text(max_size=2), _JSON, max_size=3), st.text(min_size=3, max_size=4), _JSON)
@settings(deadline=None)
def test_an_addition_is_no_lack(wanted: dict[str, Any], key: str, value: Any) -> None:
    assert not lacks({**wanted, key: value}, wanted)
