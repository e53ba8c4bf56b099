"""Originals by parts: what is missing, what nobody wants, and what is no original at all."""

import hashlib
import uuid

from visualindex.checking import Originals, split
from visualindex.checking.originals import digest_of, drawn
from visualindex.objectstore import original_key

A, B, C = (bytes([n]) * 32 for n in range(3))


def test_what_is_not_shared_is_missing_or_orphaned() -> None:
    assert split({A, B}, {B, C}) == Originals(frozenset({A}), frozenset({C}))


def test_a_key_tells_its_digest_and_other_keys_tell_none() -> None:
    assert digest_of(original_key("shop", A)) == A
    assert digest_of("shop/originals/00/readme") is None
    assert digest_of("shop/originals/00/00ff") is None


def test_a_share_is_drawn_the_same_for_one_check_and_another_for_the_next() -> None:
    digests = {hashlib.sha256(bytes([n])).digest() for n in range(256)}
    one, other = uuid.UUID(int=1), uuid.UUID(int=2)
    some = drawn(digests, 0.25, one)
    assert 32 <= len(some) <= 96
    assert drawn(digests, 0.25, one) == some != drawn(digests, 0.25, other)
    assert (drawn(digests, 0, one), drawn(digests, 1, one)) == ([], sorted(digests))
