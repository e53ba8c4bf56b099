"""Images that only the catalog knows: vectors in clusters, which are their categories. No picture is encoded for them."""

import uuid
from collections.abc import Callable, Sequence

import numpy as np
import psycopg
from numpy.typing import NDArray

from visualindex.catalog import Catalog, ImageWrite
from visualindex.identity import content_digest

from .conftest import Served

CLUSTERS = 10
Vectors = NDArray[np.float32]


def clustered(numbers: Sequence[int], dimension: int = 256) -> Vectors:
    """A vector for each number, near the centre of its cluster; equal numbers have equal vectors."""
    return np.stack([_one(number, dimension) for number in numbers])


def image_id(number: int) -> uuid.UUID:
    """The id of the image of a number."""
    return uuid.uuid5(uuid.NAMESPACE_OID, f"image {number}")


async def write(served: Served, numbers: Sequence[int], **more: Callable[[Vectors], Vectors]) -> None:
    """Store the images of these numbers; `more` names further fingerprints with what turns the vectors into theirs."""
    catalog = await Catalog.open(served.dsn, max_connections=1)
    try:
        record = await catalog.get_index("things")
        assert record is not None
        vectors = clustered(numbers, record.dimension)
        of = {record.fingerprint: vectors, **{name: turn(vectors) for name, turn in more.items()}}
        writes = [_write(number, {(0, f): v[at] for f, v in of.items()}) for at, number in enumerate(numbers)]
        await catalog.put_images("things", writes)
    finally:
        await catalog.close()


async def change_encoder(served: Served, fingerprint: str, dimension: int = 256) -> None:
    """Make the index one of another encoder, whose vectors are there already."""
    await _run(served, "UPDATE indexes SET fingerprint = %s, dimension = %s", fingerprint, dimension)


async def shuffle_half(served: Served) -> None:
    """Exchange the vectors of every other image among themselves, as a worker that mixes its batches up would."""
    query = """WITH half AS (SELECT image_id, vector, row_number() OVER (ORDER BY image_id) AS place
                FROM image_embeddings WHERE get_byte(uuid_send(image_id), 15) %% 2 = 0),
            exchanged AS (SELECT one.image_id, other.vector FROM half one
                JOIN half other ON other.place = 1 + (one.place + 7) %% (SELECT count(*) FROM half))
        UPDATE image_embeddings e SET vector = exchanged.vector FROM exchanged WHERE e.image_id = exchanged.image_id"""
    await _run(served, query)


async def without_vectors(served: Served, numbers: Sequence[int]) -> None:
    """Lose the vectors of these images, as a database whose table was damaged."""
    images = [image_id(number) for number in numbers]
    await _run(served, "DELETE FROM image_embeddings WHERE image_id = ANY(%s)", images)


async def quarantine(served: Served, numbers: Sequence[int]) -> None:
    """Note of these images that nothing can be made of them."""
    query = """INSERT INTO quarantine (index_name, image_id, content_digest, reason, detail, job_id)
        SELECT index_name, image_id, content_digest, 'invalid-image', 'it is cut off', gen_random_uuid()
        FROM images WHERE image_id = ANY(%s)"""
    await _run(served, query, [image_id(number) for number in numbers])


async def _run(served: Served, query: str, *values: object) -> None:
    async with await psycopg.AsyncConnection.connect(served.dsn, autocommit=True) as connection:
        await connection.execute(query.encode(), values)


def _one(number: int, dimension: int) -> Vectors:
    centre = np.random.default_rng(1000 + number % CLUSTERS).standard_normal(dimension)
    own = np.random.default_rng(100_000 + number).standard_normal(dimension)
    vector = (centre + own).astype(np.float32)
    return vector / np.linalg.norm(vector)


def _write(number: int, embeddings: dict[tuple[int, str], Vectors]) -> ImageWrite:
    return ImageWrite(
        image_id=image_id(number),
        content_digest=content_digest(f"picture {number}".encode()),
        media_type="image/jpeg",
        width=640,
        height=480,
        size_bytes=1000,
        embeddings=embeddings,
        category=f"cluster {number % CLUSTERS}",
    )
