"""Pictures made on the spot, and databases for one test."""

import io
import secrets
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import psycopg
from PIL import Image, ImageDraw
from psycopg.conninfo import make_conninfo

from visualindex.catalog import EmbeddedPostgres


@contextmanager
def fresh_database(server: EmbeddedPostgres) -> Iterator[str]:
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield make_conninfo(server.dsn, dbname=name)
    with psycopg.connect(server.dsn, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


def picture(seed: int, size: tuple[int, int] = (320, 240), kind: str = "JPEG") -> bytes:
    """A picture of coloured shapes: equal seeds give equal pictures, different ones look different."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(int(c) for c in rng.integers(0, 256, 3)))
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.integers(0, size[0]), rng.integers(0, size[1])
        w, h = rng.integers(10, size[0] // 2), rng.integers(10, size[1] // 2)
        colour = tuple(int(c) for c in rng.integers(0, 256, 3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape((int(x), int(y), int(x + w), int(y + h)), fill=colour)
    out = io.BytesIO()
    image.save(out, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return out.getvalue()
