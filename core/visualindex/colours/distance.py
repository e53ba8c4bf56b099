"""How different two colours look.

Colours are compared in OKLab (B. Ottosson, "A perceptual color space for image processing", 2020) with its a and b axes
doubled: the distance that CSS Color 4 discusses as ΔE-OK2, for which Ottosson found a scale of 2.016 to 2.045 to fit the
COMBVD and OSA-UCS sets of judged differences best. It was chosen over CIELAB because CIELAB bends blue towards purple, so
that means of blue pixels get another hue, and over CIEDE2000 because that is no Euclidean distance: clusters need means.

Here everything is times 100: black and white lie 100 apart, as in CIELAB.
"""

from typing import Final

import numpy as np
import numpy.typing as npt

Float32 = npt.NDArray[np.float32]
UInt8 = npt.NDArray[np.uint8]

JUST_NOTICEABLE: Final = 2.0
"""About the least difference that shows (CSS Color 4, section "Color Difference": 0.02 in OKLab's own units)."""

_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
_SCALE = np.array([100.0, 200.0, 200.0])


def to_lab(rgb: npt.NDArray[np.integer]) -> Float32:
    """sRGB uint8 [..., 3] as float32 [..., 3]: OKLab with L 0 to 100, and a and b doubled. ΔE is the Euclidean distance."""
    encoded = np.asarray(rgb, np.float64) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    lab: Float32 = ((np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T) * _SCALE).astype(np.float32)
    return lab


def to_rgb(lab: npt.NDArray[np.floating]) -> UInt8:
    """The inverse of `to_lab`, float [..., 3] to sRGB uint8 [..., 3]; what lies outside sRGB is clipped."""
    cones = (np.asarray(lab, np.float64) / _SCALE) @ np.linalg.inv(_TO_LAB).T
    linear = np.clip(cones**3 @ np.linalg.inv(_TO_CONES).T, 0, 1)
    encoded = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    rgb: UInt8 = np.rint(encoded * 255).astype(np.uint8)
    return rgb


def delta_e(first: npt.NDArray[np.integer], second: npt.NDArray[np.integer]) -> Float32:
    """The difference of sRGB colours uint8 [..., 3], float32 [...]: 0 for the same colour, 100 from black to white."""
    difference = to_lab(first) - to_lab(second)
    found: Float32 = np.sqrt((difference * difference).sum(-1))
    return found
