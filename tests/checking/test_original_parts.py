"""Originals by parts: what is missing, what nobody wants, and what is no original at all."""

from visualindex.checking import Originals, split
from visualindex.checking.originals import digest_of
from visualindex.objectstore import original_key

A, B, C = (bytes([n]) * 32 for n in range(3))


def test_what_is_not_shared_is_missing_or_orphaned() -> None:
    assert split({A, B}, {B, C}) == Originals(frozenset({A}), frozenset({C}))


def test_a_key_tells_its_digest_and_other_keys_tell_none() -> None:
    assert digest_of(original_key("shop", A)) == A
    assert digest_of("shop/originals/00/readme") is None
    assert digest_of("shop/originals/00/00ff") is None
