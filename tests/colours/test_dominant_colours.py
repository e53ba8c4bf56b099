"""The colours of a picture are those that a person would name, and a studio's background is not one of them."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from visualindex.colours import (
    JUST_NOTICEABLE,
    Colour,
    delta_e,
    dominant_colours,
    name_of,
    pack,
    packed_array,
    parse_hex,
    to_hex,
    unpack,
)

WHITE, RED, BLUE = (255, 255, 255), (200, 20, 20), (20, 40, 200)


def shot(product: tuple[int, int, int], background: tuple[int, int, int] = WHITE) -> Image.Image:
    """A product that fills a quarter of the picture, on a plain background."""
    picture = Image.new("RGB", (96, 96), background)
    ImageDraw.Draw(picture).rectangle((24, 24, 71, 71), fill=product)
    return picture


def colours(picture: Image.Image) -> tuple[Colour, ...]:
    return dominant_colours(np.asarray(picture))


def named(picture: Image.Image) -> list[tuple[str, float]]:
    return [(name_of(*colour[:3]), colour.share / 255) for colour in colours(picture)]


def test_a_plain_picture_has_one_colour_and_all_of_it() -> None:
    (colour,) = colours(Image.new("RGB", (40, 30), RED))
    assert delta_e(np.array(colour[:3]), np.array(RED)) < JUST_NOTICEABLE
    assert colour.share >= 254


def test_the_background_of_a_product_shot_counts_for_a_tenth() -> None:
    (product, share), (background, rest) = named(shot(RED))
    assert (product, background) == ("red", "white")
    assert share == pytest.approx(0.9, abs=0.01)
    assert rest == pytest.approx(0.1, abs=0.01)


def test_a_soft_shadow_belongs_to_the_background() -> None:
    picture = shot(BLUE)
    ImageDraw.Draw(picture).ellipse((10, 72, 86, 92), fill=(236, 236, 236))
    assert named(picture)[0] == ("blue", pytest.approx(0.9, abs=0.02))


def test_what_shows_through_a_product_is_background_too() -> None:
    picture = shot(RED)
    ImageDraw.Draw(picture).rectangle((36, 36, 59, 59), fill=WHITE)
    assert dict(named(picture))["red"] == pytest.approx(0.9, abs=0.01)


def test_a_picture_that_is_all_background_shows_its_background() -> None:
    assert named(Image.new("RGB", (96, 96), WHITE))[0] == ("white", pytest.approx(1, abs=0.01))


def test_a_busy_border_is_no_background() -> None:
    picture = Image.new("RGB", (96, 96), RED)
    picture.paste(BLUE, (0, 0, 48, 96))
    assert dict(named(picture)) == {
        "red": pytest.approx(0.5, abs=0.02),
        "blue": pytest.approx(0.5, abs=0.02),
    }


def test_the_background_is_found_at_any_shape_of_its_edge() -> None:
    """A corridor with turns joins the inside to the border: only a step-wise fill reaches it."""
    picture = Image.new("RGB", (96, 96), WHITE)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((10, 10, 85, 85), fill=BLUE)
    draw.line([(48, 0), (48, 30), (20, 30), (20, 60), (70, 60)], fill=(248, 248, 248), width=10)
    assert dict(named(picture))["blue"] == pytest.approx(0.9, abs=0.02)


def test_noise_and_shading_make_no_new_colours() -> None:
    random = np.random.default_rng(1)
    flat = np.asarray(Image.new("RGB", (96, 96), BLUE)).astype(np.int64)
    noisy = (flat + random.normal(0, 6, flat.shape)).clip(0, 255).astype(np.uint8)
    found = dominant_colours(noisy)
    assert len(found) == 1
    assert delta_e(np.array(found[0][:3]), np.array(BLUE)) < 2 * JUST_NOTICEABLE


def test_there_are_at_most_five_and_the_largest_comes_first() -> None:
    picture = np.random.default_rng(2).integers(0, 256, (8, 8, 3), np.uint8).repeat(12, 0).repeat(12, 1)
    found = dominant_colours(picture)
    assert 2 <= len(found) <= 5
    shares = [colour.share for colour in found]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) <= 255
    assert found == dominant_colours(picture.copy())


@pytest.mark.parametrize("shape", [(1, 1), (1, 96), (96, 1), (2, 3)])
def test_a_picture_of_any_shape_has_colours(shape: tuple[int, int]) -> None:
    assert named(Image.new("RGB", shape, RED))[0][0] == "red"


def test_a_picture_without_pixels_has_none() -> None:
    assert dominant_colours(np.zeros((0, 5, 3), np.uint8)) == ()


@pytest.mark.parametrize(
    ("hex_", "name"),
    [
        ("#000000", "black"),
        ("#ffffff", "white"),
        ("#808080", "grey"),
        ("#ff0000", "red"),
        ("#8b0000", "red"),
        ("#ffa500", "orange"),
        ("#ffff00", "yellow"),
        ("#008000", "green"),
        ("#000080", "blue"),
        ("#87ceeb", "blue"),
        ("#800080", "purple"),
        ("#ffc0cb", "pink"),
        ("#8b4513", "brown"),
        ("#d2b48c", "beige"),
        ("#40e0d0", "turquoise"),
    ],
)
def test_colours_have_the_names_that_people_give_them(hex_: str, name: str) -> None:
    assert name_of(*parse_hex(hex_)) == name


def test_differences_are_those_that_the_eye_sees() -> None:
    black, white, navy, blue = (np.array(parse_hex(text)) for text in ("#000", "#fff", "#000080", "#0000ff"))
    assert delta_e(black, black) == 0
    assert delta_e(black, white) == pytest.approx(100, abs=0.01)
    assert delta_e(navy, blue) < delta_e(navy, white)


def test_hex_is_read_in_every_spelling() -> None:
    assert parse_hex("#AA3322") == parse_hex("aa3322") == parse_hex("#a32") == (170, 51, 34)
    assert to_hex(170, 51, 34) == "#aa3322"


@pytest.mark.parametrize("text", ["", "#", "red", "#aa33", "#aa33221", "##aa3322", "#ggg", " #aa3322"])
def test_what_is_no_hex_colour_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no colour"):
        parse_hex(text)


def test_packed_colours_come_back() -> None:
    given = (Colour(1, 2, 3, 200), Colour(4, 5, 6, 55))
    assert unpack(pack(given)) == given
    assert unpack(pack(given).ljust(20, b"\0")) == given
    assert unpack(packed_array([given])[0].tobytes()) == given


@pytest.mark.parametrize(
    "wrong",
    [[Colour(0, 0, 0, 1)] * 6, [Colour(0, 0, 0, 0)], [Colour(0, 0, 0, 128)] * 2, [Colour(0, 0, 256, 1)]],
)
def test_what_is_no_set_of_colours_is_not_packed(wrong: list[Colour]) -> None:
    with pytest.raises(ValueError, match=r"colours|shares|bytes"):
        pack(wrong)


def test_colours_from_elsewhere_are_bounded() -> None:
    array = packed_array([[[1, 2, 3, 255], [4, 5, 6, 255]], [[9, 9, 9, 10]] * 7])
    assert array[:, :, 3].sum(1).tolist() == [255, 50]
