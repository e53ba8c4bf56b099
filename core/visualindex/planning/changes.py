"""What a changed spec will cause, before it happens."""

import hashlib
import json
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from visualindex.capacity.estimate import capacity
from visualindex.capacity.formulas import Load
from visualindex.capacity.telling import status_lines
from visualindex.footprint import (
    encoder_bytes,
    encoder_memory,
    encoder_replicas,
    gateway_replicas,
    shard_replicas,
)
from visualindex.planning.shape import ClusterShape, as_resource, cluster_shape
from visualindex.spec import EncoderSpec, Spec
from visualindex.spec.quantities import format_bytes, format_cpus, parse_bytes, parse_cpus
from visualindex.spec.served_encoder import IDENTITY, same_space
from visualindex.spec.status import ChangeKind, Footprint, Plan

_MOST_LINES = 20
_IMAGES_TO_COME = 1_000_000
_START_LATER = "nothing starts while spec.suspend is true"


def same_encoder(one: Spec, other: Spec) -> bool:
    """Whether both specs name the same space of vectors."""
    return same_space(one.encoder, other.encoder)


def with_encoder_of(wanted: Spec, served: Spec) -> Spec:
    """`wanted`, with the space of vectors that `served` has: what can be carried out before everything is encoded anew."""
    kept = {key: getattr(served.encoder, key) for key in IDENTITY}
    return wanted.model_copy(update={"encoder": wanted.encoder.model_copy(update=kept)})


Room = Sequence[EncoderSpec]
"""Encoders that there is room for in the pods besides that of the spec."""


def describe_change(
    applied: Spec,
    wanted: Spec,
    images: int | None,
    name: str,
    *,
    room: tuple[Room, Room] = ((), ()),
    beside: bool = False,
    moves: bool = False,
) -> Plan | None:
    """What going from `applied` to `wanted` causes; None when nothing that runs or is stored changes.

    `images` is the number of images in the index, None when it is not known; then there may be some. `room` is what the
    pods have room for besides, before and afterwards. `beside`: the encoder that searches use can be served beside that of
    `wanted`; without that the index keeps that of `applied`. `moves`: it has to move to that of `wanted`.
    """
    lines = list(_differences(_plain(applied), _plain(wanted)))
    if not lines:
        return None
    before, after = _shape(applied, name, room[0]), _shape(wanted, name, room[1])
    kind = _kind(applied, wanted, images, before, after, beside=beside)
    footprints = _footprints(kind, (applied, before), (wanted, after), room)
    return Plan(
        id=_identifier(applied, wanted),
        change=kind,
        state="Proceeding",
        summary=_shortened(
            [
                *_consequences(kind, wanted, images),
                *(_moving(applied, wanted, images) if moves else ()),
                *_resharding(kind, applied, wanted),
                *lines,
            ]
        ),
        before=footprints[0],
        during=footprints[1],
        after=footprints[2],
        capacity=_capacity(wanted, images),
    )


def propose_change(applied: Spec, wanted: Spec, images: int | None, name: str) -> Plan | None:
    """`describe_change` as a service of this release carries it out, before it was asked to: with both encoders."""
    if images == 0 or same_encoder(applied, wanted):
        return describe_change(applied, wanted, images, name)
    room = (), (applied.encoder,)
    found = describe_change(applied, wanted, images, name, room=room, beside=True, moves=True)
    return None if found is None else found.model_copy(update={"change": "Reindex"})


def describe_creation(wanted: Spec, name: str) -> Plan:
    """What starting to serve an index causes."""
    after = Footprint() if wanted.suspend else _shape(wanted, name).footprint([wanted])
    return Plan(
        id=_identifier(wanted, wanted),
        change="Create",
        state="Proceeding",
        summary=[_START_LATER if wanted.suspend else "the service starts for the first time"],
        during=after,
        after=after,
        capacity=_capacity(wanted, None),
    )


def _capacity(wanted: Spec, images: int | None) -> list[str]:
    return status_lines(capacity(wanted, Load(images or _IMAGES_TO_COME)))


def _kind(
    applied: Spec,
    wanted: Spec,
    images: int | None,
    before: ClusterShape,
    after: ClusterShape,
    *,
    beside: bool,
) -> ChangeKind:
    if applied.suspend != wanted.suspend:
        return "Suspend" if wanted.suspend else "Resume"
    if images != 0 and not beside and not same_encoder(applied, wanted):
        return "Reindex"
    if wanted.suspend or before.identity() == after.identity():
        return "InPlace"
    return "Recreate" if wanted.ray.upgrade == "Recreate" else "NewCluster"


def _footprints(
    kind: ChangeKind, old: tuple[Spec, ClusterShape], new: tuple[Spec, ClusterShape], room: tuple[Room, Room]
) -> tuple[Footprint, Footprint, Footprint]:
    nothing = Footprint()
    before = nothing if old[0].suspend else old[1].footprint([old[0]], room[0])
    after = nothing if new[0].suspend else new[1].footprint([new[0]], room[1])
    if kind in ("Suspend", "Resume"):
        return before, before if kind == "Suspend" else after, after
    if kind == "NewCluster":
        return before, sum_of(before, after), after
    if kind == "InPlace" and within_a_cluster(old[0], new[0]):
        most = _combined(before, after, max)
        both = most.replicas + min(shard_replicas(old[0]), shard_replicas(new[0]))
        return before, most.model_copy(update={"replicas": both}), after
    return before, _combined(before, after, max), after


def sum_of(one: Footprint, other: Footprint) -> Footprint:
    """Both together: what two clusters side by side take."""
    return _combined(one, other, operator.add)


def _combined(one: Footprint, other: Footprint, combine: Callable[[int, int], int]) -> Footprint:
    return Footprint(
        pods=combine(one.pods, other.pods),
        replicas=combine(one.replicas, other.replicas),
        cpus=format_cpus(combine(parse_cpus(one.cpus), parse_cpus(other.cpus))),
        memory=format_bytes(combine(parse_bytes(one.memory), parse_bytes(other.memory))),
        gpus=combine(one.gpus, other.gpus),
    )


def _consequences(kind: ChangeKind, wanted: Spec, images: int | None) -> Iterator[str]:
    if kind == "Reindex":
        count = "all images" if images is None else f"{images:,} images"
        yield f"{count} must be encoded again; until then the old encoder serves"
    if kind == "NewCluster":
        yield "a second cluster starts beside the first and takes over: no search fails"
    if kind == "Recreate":
        yield "the cluster ends and starts again: searches fail for a minute or more"
    if kind == "Suspend":
        yield "everything that runs ends; data stays"
    if kind == "InPlace":
        yield _START_LATER if wanted.suspend else "within the running cluster"


def _moving(applied: Spec, wanted: Spec, images: int | None) -> Iterator[str]:
    """What a change of the encoder takes, and for how long."""
    count = "all images are" if images is None else f"{images:,} images are"
    yield (
        f"searches use the old encoder until {count} encoded with the new one and its generation is activated; what is "
        "written meanwhile is encoded with both"
    )
    yield f"both are loaded until the last generation of the old one is retired: {_beside(applied, wanted)}"


def _beside(applied: Spec, wanted: Spec) -> str:
    old = applied.encoder
    if old.in_gateway:
        more = format_bytes(encoder_bytes(old))
        return f"{more} more in each of {gateway_replicas(wanted)} gateways"
    replicas = encoder_replicas(applied)
    gpus = f" and {replicas * old.num_gpus:g} GPUs" if old.num_gpus else ""
    return f"{replicas} replicas of {format_bytes(encoder_memory(applied))}{gpus} more"


def room_afterwards(
    applied: Spec, wanted: Spec, name: str, room: Room, others: Room
) -> tuple[EncoderSpec, ...]:
    """The encoders that there is to be room for from now on, of which there was `room` and now `others` are served.

    Pods are not replaced because an encoder is gone: its memory stays theirs until they are replaced for another reason.
    """
    if others:
        return tuple(others)
    kept = tuple(one for one in room if not one.num_gpus)
    same = _shape(applied, name, room).identity() == _shape(wanted, name, kept).identity()
    return kept if same else ()


def _resharding(kind: ChangeKind, applied: Spec, wanted: Spec) -> Iterator[str]:
    """What becomes of the shards where there are to be more or fewer of them. The files of generations are kept."""
    old, new = applied.index.shards, wanted.index.shards
    if old == new or wanted.suspend or kind in ("Suspend", "Resume"):
        return
    if kind == "Recreate":
        yield f"the images are loaded again into {_shards(new)}"
        return
    yield f"the images are loaded into {_shards(new)} beside {_shards(old)}, which are searched until those are ready"
    if within_a_cluster(applied, wanted):
        yield "the cluster needs room for both; then gateways are replaced, and at last the shards of before"


def within_a_cluster(applied: Spec, wanted: Spec) -> bool:
    """Whether a change of the number of shards happens on one cluster: one that somebody else runs has no second one."""
    return wanted.ray.mode == "External" and applied.index.shards != wanted.index.shards


def _shards(count: int) -> str:
    return "1 shard" if count == 1 else f"{count} shards"


def _shape(spec: Spec, name: str, room: Room = ()) -> ClusterShape:
    return cluster_shape([as_resource(name, spec)], {name: room})


def _plain(spec: Spec) -> dict[str, Any]:
    """What is compared: policies say how to change, and change nothing themselves."""
    policies = {"change_policy", "deletion_policy", "deletion_timeout_seconds"}
    plain: dict[str, Any] = spec.model_dump(mode="json", by_alias=True, exclude=policies)
    for key in ("upgrade", "gpuBudget"):
        plain["ray"].pop(key, None)
    return plain


def _differences(before: Any, after: Any, path: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(after, dict):
        for key in sorted({*before, *after}):
            below = f"{path}.{key}" if path else key
            yield from _differences(before.get(key), after.get(key), below)
    elif before != after:
        yield f"{path}: {_text(before)} → {_text(after)}"


def _text(value: Any) -> str:
    text = "unset" if value is None else value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _shortened(lines: list[str]) -> list[str]:
    if len(lines) <= _MOST_LINES:
        return lines
    return [*lines[: _MOST_LINES - 1], f"and {len(lines) - _MOST_LINES + 1} more"]


def _identifier(applied: Spec, wanted: Spec) -> str:
    text = json.dumps([_plain(applied), _plain(wanted)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
