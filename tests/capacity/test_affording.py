"""A build that cannot end well does not begin."""

import re
from pathlib import Path
from typing import Any

import pytest

from visualindex.building.affording import afford
from visualindex.building.measuring import measured_by
from visualindex.capacity.coefficients import DEFAULTS
from visualindex.capacity.fitting import misfit
from visualindex.capacity.formulas import build_memory, rows_of_largest, scratch_bytes
from visualindex.capacity.machine import Room, available_cpus, available_memory
from visualindex.errors import ProblemError, ProblemType
from visualindex.spec.models import ReindexSpec, Spec

GIB = 1024**3
PLENTY = Room(memory=1 << 50, disk=1 << 50)


def spec(**index: Any) -> Spec:
    return Spec.model_validate({"index": index})


def refusal(images: int, available: Room, **index: Any) -> str:
    with pytest.raises(ProblemError) as caught:
        afford(spec(**index), 256, images, available)
    assert caught.value.type is ProblemType.STORAGE_FULL
    return caught.value.detail


def test_what_fits_is_built() -> None:
    afford(spec(), 256, 1_000_000, PLENTY)
    afford(spec(), 256, 0, Room(memory=0, disk=0))


def test_a_shard_beyond_its_memory_is_refused_with_what_would_fit() -> None:
    told = refusal(200_000_000, PLENTY)
    planned = misfit(spec(), 200_000_000, DEFAULTS)
    assert planned is not None
    assert told.startswith("a generation of 200,000,000 images of 256 dimensions")
    assert told.endswith(planned)
    afford(spec(shards=1024), 256, 200_000_000, PLENTY)


def test_attributes_are_counted_as_the_rows_have_them() -> None:
    rows = [{"metadata": {f"field{n}": f"{row}-{n}" for n in range(30)}} for row in range(500)]
    measured = measured_by(rows)
    assert measured.attribute_bytes > 2 * DEFAULTS.attribute_bytes
    afford(spec(), 256, 1_500_000, PLENTY)
    with pytest.raises(ProblemError, match="of attributes each does not fit") as caught:
        afford(spec(), 256, 1_500_000, PLENTY, measured)
    shards = int(re.findall(r"(\d+) shards", caught.value.detail)[0])
    afford(spec(shards=shards), 256, 1_500_000, PLENTY, measured)


def test_a_disk_that_cannot_hold_the_files_is_refused_with_the_bytes() -> None:
    told = refusal(1_000_000, Room(memory=PLENTY.memory, disk=GIB // 4))
    assert told.startswith("a generation of 1,000,000 images needs ")
    assert "bytes of disk" in told
    assert f"and {GIB // 4} are available" in told


def test_a_machine_without_the_memory_is_refused_and_more_shards_help() -> None:
    room = Room(memory=GIB, disk=PLENTY.disk)
    assert "use more than 1 shards" in refusal(1_000_000, room)
    afford(spec(shards=4), 256, 1_000_000, room)


def of_one_shard(images: int, shards: int) -> tuple[int, int]:
    """Bytes of memory and of disk that one builder takes."""
    rows = rows_of_largest(images, shards)
    return (
        build_memory(spec(shards=shards), "hnsw-fp16", rows, DEFAULTS),
        int(scratch_bytes(spec(shards=shards), "hnsw-fp16", rows, DEFAULTS) * 1.02),
    )


def test_as_many_shards_are_built_at_once_as_there_are_cpus_and_half_of_the_room_for() -> None:
    memory, disk = of_one_shard(1_000_000, 8)

    def at_once(room: Room, cpus: int = 4, machines: int = 1) -> int:
        return afford(spec(shards=8), 256, 1_000_000, room, cpus=cpus, machines=machines)

    assert at_once(PLENTY) == 4
    assert at_once(PLENTY, cpus=64) == 8
    assert at_once(PLENTY, cpus=2, machines=3) == 6
    assert at_once(PLENTY, cpus=2, machines=20) == 8
    assert at_once(Room(memory=6 * memory, disk=PLENTY.disk)) == 3
    assert at_once(Room(memory=PLENTY.memory, disk=4 * disk + 8)) == 2
    assert at_once(Room(memory=memory, disk=disk)) == 1
    assert at_once(PLENTY, cpus=1) == 1


def test_the_disk_holds_one_shard_for_each_builder_and_not_the_index() -> None:
    memory, disk = of_one_shard(1_000_000, 8)
    just_two = Room(memory=2 * memory, disk=2 * disk)
    asked = spec(shards=8).model_copy(update={"reindex": ReindexSpec(builders=2)})
    assert afford(asked, 256, 1_000_000, just_two) == 2
    more = spec(shards=8).model_copy(update={"reindex": ReindexSpec(builders=3)})
    with pytest.raises(
        ProblemError, match=r"3 shards are built at once: set reindex\.builders to 1"
    ) as caught:
        afford(more, 256, 1_000_000, just_two)
    assert f"needs {3 * disk} bytes of disk" in caught.value.detail
    assert afford(more, 256, 1_000_000, just_two, machines=2) == 3


def test_a_container_limit_counts_as_the_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text(f"{GIB}\n")
    (tmp_path / "memory.current").write_text(f"{GIB // 4}\n")
    assert available_memory(tmp_path) == GIB - GIB // 4
    (tmp_path / "memory.stat").write_text(f"anon 7\ninactive_file {GIB // 8}\nactive_file {GIB // 16}\n")
    assert available_memory(tmp_path) == GIB - GIB // 16
    (tmp_path / "memory.max").write_text("max\n")
    assert available_memory(tmp_path) > GIB // 4


def test_a_container_limit_counts_as_the_cpus(tmp_path: Path) -> None:
    every = available_cpus(tmp_path)
    (tmp_path / "cpu.max").write_text("100000 100000\n")
    assert available_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("20000 100000\n")
    assert available_cpus(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert available_cpus(tmp_path) == every
