"""PCA projections: shorter vectors that keep nearly all of a model's retrieval quality.

Principal component analysis (Pearson, 1901) over L2-normalised features, without whitening, which would amplify the
noise in the small components.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import resources
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from visualindex.encoders.base import Encoder, EncoderConfigError, Images, Vectors, l2_normalise

FIT_BATCH = 16


@dataclass(frozen=True)
class Projection:
    """`mean` float32[d_in] and `components` float32[rows, d_in], orthonormal rows by falling variance.

    `encoder` is the fingerprint of the unprojected encoder it was fitted on and fits alone; `explained` is the share
    of the variance (0 … 1) that each row carries, float32[rows].
    """

    encoder: str
    mean: npt.NDArray[np.float32]
    components: npt.NDArray[np.float32]
    explained: npt.NDArray[np.float32]

    @property
    def rows(self) -> int:
        """The largest dimension it projects to."""
        return len(self.components)

    @property
    def digest(self) -> str:
        """SHA-256 in hex of mean and components: their part of an encoder's fingerprint."""
        parts = (self.mean, self.components)
        return hashlib.sha256(b"".join(np.ascontiguousarray(p, "<f4").tobytes() for p in parts)).hexdigest()

    def truncated(self, dimension: int) -> "Projection":
        """The projection to the first `dimension` components. Raises EncoderConfigError when it has fewer."""
        if dimension > self.rows:
            raise EncoderConfigError(
                f"encoder.dimension is {dimension}, but the projection has {self.rows} components: ask for "
                f"{self.rows} or fewer, or fit a larger one"
            )
        return Projection(self.encoder, self.mean, self.components[:dimension], self.explained[:dimension])

    def apply(self, vectors: Vectors) -> Vectors:
        """Project L2-normalised float32[n, d_in] to L2-normalised float32[n, rows]."""
        centred = vectors - self.mean
        return l2_normalise(np.asarray(centred @ self.components.T, np.float32))

    def save(self, path: Path) -> None:
        """Write a `.npz` file in half precision, which moves cosines by about 1e-4."""
        parts: dict[str, Any] = {
            "mean": self.mean,
            "components": self.components.astype(np.float16),
            "explained": self.explained,
        }
        with path.open("wb") as file:
            np.savez_compressed(file, encoder=np.array(self.encoder), **parts)


def load_projection(path: Path) -> Projection:
    """Read a `.npz` file. Raises EncoderConfigError when it is not a projection."""
    with path.open("rb") as file:
        return _read(file, str(path))


def load_shipped_projection(name: str) -> Projection:
    """Read a projection that is part of this package."""
    with resources.files("visualindex.encoders").joinpath("data", name).open("rb") as file:
        return _read(file, name)


def _read(file: IO[bytes], name: str) -> Projection:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            encoder, mean, components, explained = (
                arrays[key] for key in ("encoder", "mean", "components", "explained")
            )
    except Exception as e:  # zip, zlib and numpy each have their own
        raise EncoderConfigError(
            f"{name} is not a projection ({e}): give a file written by `visualindex encoder fit`"
        ) from e
    return Projection(str(encoder), *(part.astype(np.float32) for part in (mean, components, explained)))


def fit_projection(
    encoder: Encoder, images: Iterable[npt.NDArray[np.uint8]], *, rows: int = 512
) -> Projection:
    """Fit a projection of up to `rows` components for an unprojected `encoder` on uint8[height, width, 3] images.

    One pass, in memory of the covariance alone; the same images in the same order give the same file. Raises
    EncoderConfigError when there are fewer images than components.
    """
    return fit_vectors(encoder.fingerprint, (encoder.encode(b).vectors for b in _batches(images)), rows=rows)


def fit_vectors(fingerprint: str, batches: Iterable[Vectors], *, rows: int = 512) -> Projection:
    """As `fit_projection`, on L2-normalised vectors float32[n, d] that were computed before."""
    count = 0
    total: Any = 0.0
    products: Any = 0.0
    for batch in batches:
        wide = batch.astype(np.float64)
        count += len(wide)
        total = total + wide.sum(axis=0)
        products = products + wide.T @ wide
    if count <= rows:
        raise EncoderConfigError(f"{count} images cannot fix {rows} components: fit on more images")
    mean = np.asarray(total / count)
    return _principal(fingerprint, mean, np.asarray(products / count) - np.outer(mean, mean), rows)


def _principal(
    fingerprint: str, mean: npt.NDArray[Any], covariance: npt.NDArray[Any], rows: int
) -> Projection:
    variances, vectors = np.linalg.eigh(covariance)
    order = np.argsort(variances)[::-1][:rows]
    components = vectors[:, order].T
    explained = np.maximum(variances[order], 0.0) / variances.sum()
    parts = (mean, components * _signs(components), explained)
    return Projection(fingerprint, *(part.astype(np.float32) for part in parts))


def _signs(components: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Eigenvectors are known up to sign: make each one's largest entry positive, so that fits repeat."""
    largest = np.abs(components).argmax(axis=1)
    signs: npt.NDArray[Any] = np.sign(components[np.arange(len(components)), largest])[:, None]
    return signs


def _batches(images: Iterable[npt.NDArray[np.uint8]]) -> Iterator[Images]:
    pending = iter(images)
    while batch := list(islice(pending, FIT_BATCH)):
        yield np.stack(batch)
