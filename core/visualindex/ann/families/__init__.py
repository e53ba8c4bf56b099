"""Index families: how one approximate index over a segment's vectors is built, tuned, written, opened and searched."""

from pathlib import Path

from visualindex.ann.codes import Codes
from visualindex.ann.families import files, graphs, lists
from visualindex.ann.families.base import Ann, Effort, Parameters
from visualindex.ann.families.building import CLASSES, adopted, build_ann, gpus
from visualindex.ann.families.tuning import (
    Measured,
    RecallReport,
    build_and_tune,
    held_out,
    held_out_last,
)
from visualindex.capacity.choosing import choose_family
from visualindex.capacity.formulas import shard_bytes
from visualindex.capacity.sizes import disk_bytes, resident_bytes
from visualindex.mapped_files import damaged

__all__ = [
    "Ann",
    "Effort",
    "Measured",
    "Parameters",
    "RecallReport",
    "build_and_tune",
    "build_ann",
    "choose_family",
    "disk_bytes",
    "gpus",
    "held_out",
    "held_out_last",
    "open_ann",
    "resident_bytes",
    "shard_bytes",
]


def open_ann(directory: Path, codes: Codes, *, verified: bool = False, gpu: bool = False) -> Ann | None:
    """The index of a segment, memory-mapped over its codes (which may be mapped too); None when it has none (flat).

    `verified`: the files' checksums were compared a moment ago, so that the pass over `ann.faiss` can be saved.
    `gpu`: this process was given a GPU for the searches of segments.
    Raises `ProblemError(INTERNAL)` naming the file that is damaged, or does not belong to these codes.
    """
    opened = files.read(directory, codes, CLASSES, verified=verified)
    if opened is None:
        return None
    for kind in (lists, graphs):
        if (why := kind.fault(opened.family, opened.index, codes, opened.parameters)) is not None:
            raise damaged(directory / files.INDEX, why)
    return adopted(opened.family, opened.index, codes, opened.parameters, opened.effort, gpu=gpu)
