"""Numbers of images, as people write them."""

import pytest

from visualindex.capacity.counts import parse_count, short_count


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("200M", 200_000_000),
        ("1.5B", 1_500_000_000),
        ("10k", 10_000),
        ("12,345", 12_345),
        ("7", 7),
        (" 2 m ", 2_000_000),
    ],
)
def test_a_number_is_read(text: str, count: int) -> None:
    assert parse_count(text) == count


@pytest.mark.parametrize("text", ["", "0", "ten", "10x", "-5", "1.5", "2000B", "1e6"])
def test_what_is_no_number_of_images_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(ValueError, match="images"):
        parse_count(text)


def test_a_number_is_told_shortly() -> None:
    assert [short_count(n) for n in (200_000_000, 1_500_000_000, 10_000, 12_345, 7)] == [
        "200M",
        "1.5B",
        "10k",
        "12,345",
        "7",
    ]
