"""What an encoder wants to be fed: the one thing encoders and decoders must agree on."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class InputSpec:
    """The pixels an encoder takes: a `height` x `width` RGB image and how a picture is brought to that size.

    `squash` ignores the aspect ratio; `center_crop` scales the picture to cover the size and cuts the centre out.
    """

    height: int
    width: int
    resize: Literal["squash", "center_crop"]
    interpolation: Literal["bicubic", "bilinear"]
