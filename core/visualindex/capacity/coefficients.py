"""What one row, write, build and picture takes: the measured numbers that all formulas of capacity stand on.

Each field says its unit and where its default comes from. `benchmarks/coefficients.py` measures them again on your own
machine and rows, and prints the file that `visualindex plan --coefficients` takes.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from visualindex.errors import ProblemError, ProblemType

MEASURED_ON = "two shared cores of an x86-64 server at a load average of 20 to 70, Postgres 18, November 2026"
"""Where the defaults were measured. Bytes do not depend on it; times are CPU seconds."""


@dataclass(frozen=True)
class BuildCost:
    """CPU seconds of building and tuning one segment, for 1,000 rows of the reference dimension on one thread.

    Each row added costs fixed + growing x size; each row that codebooks and centroids are learned from, learning +
    learning_growing x size. The size is log2 of the rows for graphs, whose searches grow so (Malkov and Yashunin,
    "Efficient and robust approximate nearest neighbor search using Hierarchical Navigable Small World graphs", TPAMI 42,
    2020), and the number of inverted lists for the other families, which compare each row with every centroid.
    """

    fixed: float
    growing: float
    learning: float = 0.0
    learning_growing: float = 0.0


@dataclass(frozen=True)
class Coefficients:
    """The numbers behind a plan."""

    metadata_bytes: float = 214.0
    """Bytes of an image's metadata as JSON, that the bytes of attributes below were measured with."""
    attribute_bytes: float = 231.0
    """Bytes of an image's attributes in a segment: counted in `attributes.arrow`."""
    fresh_row_bytes: float = 1082.0
    """Bytes of a fresh row in a shard's memory beside vector and links: what `ShardIndex` counts of itself."""
    spool_bytes: float = 372.0
    """Bytes of a row's attributes on disk while a segment is built."""
    image_row_bytes: float = 1505.0
    """Bytes of a row of `images` and its entries in four indexes: `pg_total_relation_size`."""
    embedding_row_bytes: float = 92.0
    """Bytes of a row of `image_embeddings` beside the vector, in its page."""
    embedding_index_bytes: float = 107.0
    """Bytes of an embedding's entries in two indexes: `pg_indexes_size`."""
    change_bytes: float = 118.0
    """Bytes of a row of the change log and its index entries: `pg_total_relation_size`."""
    patch_row_bytes: float = 1694.0
    """Bytes of a row of `image_patches` beside the patches: `pg_total_relation_size`."""
    wal_bytes: float = 2710.0
    """Bytes of Postgres' write-ahead log that a write makes beside the vector: `pg_current_wal_lsn` before and after."""
    reference_dimension: int = 512
    """Dimension of the vectors that `build` was measured with: CPU time is proportional to it."""
    build: Mapping[str, BuildCost] = field(
        default_factory=lambda: {
            "flat": BuildCost(0.046, 0.0),
            "hnsw-fp16": BuildCost(0.0, 0.0329),
            "hnsw-sq8": BuildCost(0.0, 0.0270, learning=0.0015),
            "ivf-sq8": BuildCost(0.24, 1.44e-5, learning_growing=1.44e-4),
            "ivf-pq": BuildCost(0.42, 1.3e-5, learning_growing=1.3e-4),
            "rabitq": BuildCost(0.98, 1.61e-5, learning_growing=1.61e-4),
        }
    )
    """CPU seconds of building and tuning 1,000 rows by family, on one thread."""
    build_row_bytes: float = 560.0
    """Bytes of memory that a row takes while its segment is built, beside the index: ids, attributes, orders. Sampled from
    the process's own memory (`RssAnon`)."""
    read_rows_per_s: float = 11_200.0
    """Rows a build reads from Postgres in a second, wall-clock, of the reference dimension."""
    decode_cpu_s: float = 0.0132
    """CPU seconds of decoding a picture of 1600 x 1200 pixels to the encoder's input, colours included."""
    encode_cpu_s: float = 0.0103
    """CPU seconds of the bundled encoder for a picture."""
    write_cpu_s: float = 0.0050
    """CPU seconds of everything else that a write in a batch takes: docs/performance.md, `write 16, 2 at once`."""
    rebuild_cpu_s: float = 0.0020
    """CPU seconds of everything else that a rebuild takes for an image: fetching it, planning, ledger, commits and the
    database. `benchmarks/reindex_size.py`."""
    commit_rows_per_s: float = 11_100.0
    """Images of chunks that the driver of a rebuild commits in a second, wall-clock, of the reference dimension."""
    ledger_row_bytes: float = 145.0
    """Bytes of an image in the ledger of a rebuild beside vector and patches: in its chunk's list, and in what was made."""
    ledger_chunk_bytes: float = 1680.0
    """Bytes of a chunk's two objects beside its images."""
    torch_cpu_s: float = 0.25
    """CPU seconds of a torch model for a picture. An assumption, for ViT-B/32; measure your model with
    `benchmarks/encoders.py`."""
    gpu_images_per_s: float = 1_000.0
    """Pictures one whole GPU encodes in a second. An assumption: no GPU was there to measure it on."""
    thumbnail_scale: float = 2.70
    """Bytes of a WebP thumbnail of a photograph are thumbnail_scale x (longest edge in pixels) ^ thumbnail_power."""
    thumbnail_power: float = 1.553
    """See `thumbnail_scale`."""

    @classmethod
    def read(cls, path: Path) -> "Coefficients":
        """The defaults with what a JSON file says in their place. Raises ProblemError INVALID_REQUEST naming the mistake."""
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return dataclasses.replace(DEFAULTS, **_given(document))
        except OSError as error:
            raise _wrong(path, f"it cannot be read: {error.strerror}") from error
        except (ValueError, TypeError, KeyError) as error:
            raise _wrong(path, str(error)) from error

    def to_json(self) -> dict[str, Any]:
        """As the file has it."""
        return dataclasses.asdict(self)


def _given(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise ValueError("it is no JSON object")
    given = {name: value for name, value in document.items() if name != "measured"}
    known = {one.name for one in fields(Coefficients)}
    if unknown := sorted(given.keys() - known):
        raise ValueError(f"it has the unknown coefficient {unknown[0]}: known are {', '.join(sorted(known))}")
    for name, value in given.items():
        if name != "build":
            _check_number(name, value)
    if "build" in given:
        given["build"] = {
            **DEFAULTS.build,
            **{name: _cost(name, cost) for name, cost in given["build"].items()},
        }
    return given


def _cost(family: str, cost: Any) -> BuildCost:
    if family not in DEFAULTS.build:
        raise ValueError(f"build names the unknown family {family}: known are {', '.join(DEFAULTS.build)}")
    built = BuildCost(**cost)
    for name, value in vars(built).items():
        _check_number(f"build.{family}.{name}", value)
    return built


def _check_number(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < float("inf"):
        raise ValueError(f"{name} is {value!r}: it must be a number that is not negative")


def _wrong(path: Path, why: str) -> ProblemError:
    return ProblemError(ProblemType.INVALID_REQUEST, f"the coefficients {path} cannot be used: {why}")


DEFAULTS = Coefficients()
"""As measured; see `MEASURED_ON`."""
