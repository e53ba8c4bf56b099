"""Which object lies under which key: content addresses, so that equal pictures are stored once per index."""

from collections.abc import Iterable

_DIGEST_BYTES = 32


def index_prefix(index: str) -> str:
    """What the keys of all objects of an index start with, and no other index's keys do."""
    return f"{index}/"


def original_key(index: str, digest: bytes) -> str:
    """Key of an original; `digest` is the 32-byte SHA-256 of its bytes."""
    return f"{index_prefix(index)}originals/{_address(digest)}"


def thumbnail_key(index: str, digest: bytes, size: int) -> str:
    """Key of the WebP thumbnail whose longest edge is `size` pixels; `digest` is that of the original."""
    return f"{index_prefix(index)}thumbnails/{size}/{_address(digest)}.webp"


def thumbnail_keys(index: str, digest: bytes, sizes: Iterable[int]) -> list[str]:
    """The keys of an original's thumbnails of several sizes."""
    return [thumbnail_key(index, digest, size) for size in sizes]


def manifest_prefix(index: str) -> str:
    """What the keys of the manifests of an index's published generations start with."""
    return f"{index_prefix(index)}generations/manifests/"


def manifest_key(index: str, generation: str) -> str:
    """Key of a published generation's manifest."""
    return f"{manifest_prefix(index)}{generation}.json"


def pending_prefix(index: str) -> str:
    """What the keys of the manifests of generations start with whose parts are still being uploaded."""
    return f"{index_prefix(index)}generations/pending/"


def pending_key(index: str, generation: str) -> str:
    """Key of the manifest of a generation that is being published: it holds the parts that are there already."""
    return f"{pending_prefix(index)}{generation}.json"


def part_prefix(index: str) -> str:
    """What the keys of the parts of all generations of an index start with."""
    return f"{index_prefix(index)}generations/parts/"


def part_key(index: str, digest: bytes) -> str:
    """Key of a part of a generation's file; `digest` is the 32-byte SHA-256 of the part."""
    return f"{part_prefix(index)}{_address(digest)}"


def jobs_prefix(index: str) -> str:
    """What the keys of the ledgers of all jobs of an index start with."""
    return f"{index_prefix(index)}jobs/"


def job_prefix(index: str, job: str) -> str:
    """What the keys of a job's ledger start with."""
    return f"{jobs_prefix(index)}{job}/"


def plan_key(index: str, job: str, plan: str) -> str:
    """Key of what a plan of a job was made with and how many chunks it has."""
    return f"{job_prefix(index, job)}plan/{plan}/plan.json"


def todo_key(index: str, job: str, plan: str, chunk: int) -> str:
    """Key of the list of a chunk's images."""
    return f"{job_prefix(index, job)}plan/{plan}/{chunk:08}.arrow"


def done_prefix(index: str, job: str, plan: str) -> str:
    """What the keys of a plan's finished chunks start with."""
    return f"{job_prefix(index, job)}done/{plan}/"


def done_key(index: str, job: str, plan: str, chunk: int) -> str:
    """Key of what was made of a chunk's images."""
    return f"{done_prefix(index, job, plan)}{chunk:08}.arrow"


def _address(digest: bytes) -> str:
    if len(digest) != _DIGEST_BYTES:
        raise ValueError(
            f"a content digest has {_DIGEST_BYTES} bytes, this one {len(digest)}: pass content_digest()"
        )
    return f"{digest[:1].hex()}/{digest.hex()}"
