"""The pods a group of indexes needs: what `kubectl` would call the shape of the cluster, derived from specs alone.

Sizes come from what one index needs per pod, counts from how often it is replicated, so that more replicas mean more pods
of the same kind: that is a change within a running cluster, while another size of pod needs a new one.
"""

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from visualindex.footprint import (
    ENCODER_CPUS,
    GATEWAY_CPUS,
    RERANKER_CPUS,
    SHARD_CPUS,
    encoder_memory,
    encoder_replicas,
    gateway_memory,
    gateway_replicas,
    gpus_of,
    reranker_memory,
    reranker_replicas,
    shard_memory,
    shard_replicas,
)
from visualindex.serve_config import ROLES, serve_environment
from visualindex.spec import EncoderSpec, Spec, VisualIndex
from visualindex.spec.models import ObjectMeta, PodSpec, RaySpec
from visualindex.spec.quantities import format_bytes, format_cpus, parse_cpus
from visualindex.spec.status import Footprint

MIB = 1024**2
HEAD_MEMORY = 2048 * MIB
NODE_MEMORY = 768 * MIB
"""A worker's own processes: raylet, agents, proxy."""
_GATEWAYS_PER_POD = 2
_MEMORY_STEP = 256 * MIB  # a small change of a limit is no reason for other pods
_HEAD_CPU_MILLIS = 300
_FEW_INDEXES = 4


@dataclass(frozen=True)
class Group:
    """Pods of one kind. `cpu_millis` and `memory` (bytes) are of one pod; `logical_cpus` is what Ray may hand out of it."""

    name: str
    replicas: int
    cpu_millis: int
    memory: int
    logical_cpus: int
    pod: PodSpec = field(default_factory=PodSpec)
    gpus: int = 0
    gpu_resource: str = ""
    max_replicas: int | None = None
    roles: tuple[str, ...] = ()
    """The roles whose replicas the pods take: keys of `serve_config.ROLES`."""


@dataclass(frozen=True)
class ClusterShape:
    """Everything about a group's pods that does not depend on Kubernetes."""

    ray: RaySpec
    head: Group
    groups: tuple[Group, ...]
    environment: Mapping[str, str]

    def identity(self) -> str:
        """Changes exactly when running pods cannot be kept: counts and tolerations may change without."""
        if self.ray.mode == "External":  # no pods of ours
            return "external"
        groups = [_lasting(group) for group in (self.head, *self.groups)]
        ray = self.ray.model_dump(
            mode="json", exclude={"head", "workers", "gpu_workers", "gpu_budget", "upgrade", "cluster"}
        )
        text = json.dumps([ray, groups, dict(self.environment)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def workers(self) -> int:
        """Pods that carry replicas of gateways or shards, the fewest of a group."""
        return min((group.replicas for group in self.groups if group.name != "gpu"), default=1)

    @property
    def gpus(self) -> int:
        """GPUs of all pods together."""
        return sum(group.gpus * group.replicas for group in self.groups)

    def footprint(self, specs: Sequence[Spec], others: Sequence[EncoderSpec] = ()) -> Footprint:
        """What the pods take together, with the replicas of `specs`, and of encoders besides theirs, on them."""
        pods = (self.head, *self.groups)
        millis = sum(group.cpu_millis * group.replicas for group in pods)
        memory = sum(group.memory * group.replicas for group in pods)
        return Footprint(
            pods=sum(group.replicas for group in pods),
            replicas=sum(replica_count(spec) for spec in specs)
            + sum(encoder_replicas(with_encoder(specs[0], one)) for one in others),
            cpus=format_cpus(millis),
            memory=format_bytes(memory),
            gpus=self.gpus,
        )


def as_resource(name: str, spec: Spec) -> VisualIndex:
    """The resource of that name."""
    return VisualIndex(
        api_version="visualindex.dev/v1alpha1", kind="VisualIndex", metadata=ObjectMeta(name=name), spec=spec
    )


def with_encoder(spec: Spec, encoder: EncoderSpec) -> Spec:
    """The spec with another encoder."""
    return spec.model_copy(update={"encoder": encoder})


def cluster_shape(
    members: Sequence[VisualIndex], others: Mapping[str, Sequence[EncoderSpec]] = MappingProxyType({})
) -> ClusterShape:
    """The pods for `members`, oldest first: the first one's `spec.ray` holds for all.

    `others` are, by index, encoders that it is served with besides that of its spec: there has to be room for them.
    """
    ray = members[0].spec.ray
    if ray.mode == "External":
        return ClusterShape(ray, Group("head", 0, 0, 0, 0), (), {})
    specs = [member.spec for member in members]
    beside = [others.get(member.name, ()) for member in members]
    by_role = ray.workers.layout == "ByRole"
    groups = _by_role(ray, specs, beside) if by_role else [_together(ray, specs, beside)]
    gpu = _gpu(ray, [*specs, *_with_others(specs, beside)])
    environment = {**serve_environment(list(members)), **_layout_marker(members)}
    return ClusterShape(ray, _head(ray), (*groups, *([gpu] if gpu else [])), environment)


def resolved(spec: Spec, image: str, redis: Any = None) -> Spec:
    """The spec with what the operator was installed with in place of what it leaves open."""
    ray = spec.ray
    changed = ray.model_copy(update={"image": ray.image or image, "redis": ray.redis or redis})
    return spec.model_copy(update={"ray": changed})


def replica_count(spec: Spec) -> int:
    """Replicas of gateways, shards, encoder deployments and rerankers."""
    return gateway_replicas(spec) + shard_replicas(spec) + encoder_replicas(spec) + reranker_replicas(spec)


def _uses_gpu(spec: Spec) -> bool:
    return gpus_of(spec) > 0


def _encodes_on_cpu_workers(spec: Spec) -> bool:
    return encoder_replicas(spec) > 0 and not _uses_gpu(spec)


def _on_cpu_workers(spec: Spec, others: Sequence[EncoderSpec]) -> list[Spec]:
    """The spec once for each encoder of its index that is a deployment on the CPU."""
    return [one for one in (spec, *_with_others([spec], [others])) if _encodes_on_cpu_workers(one)]


def _head(ray: RaySpec) -> Group:
    return sized(Group("head", 1, _HEAD_CPU_MILLIS, HEAD_MEMORY, 0, ray.head))


Beside = Sequence[Sequence[EncoderSpec]]
"""For each of some specs the encoders that its index is served with besides."""


def _with_others(specs: Sequence[Spec], beside: Beside) -> list[Spec]:
    """Each spec once more for each encoder beside its own."""
    return [with_encoder(spec, one) for spec, others in zip(specs, beside, strict=True) for one in others]


def _together(ray: RaySpec, specs: Sequence[Spec], beside: Beside) -> Group:
    gateway, shard = _gateway_pod(specs, beside), _shard_pod(ray, specs, lambda spec: spec.index.shards)
    pods = ray.workers.replicas or sum(copies(spec) for spec in specs)
    whole = Group(
        name="worker",
        replicas=pods,
        cpu_millis=gateway.cpu_millis + shard.cpu_millis,
        memory=gateway.memory + shard.memory - NODE_MEMORY,
        logical_cpus=gateway.logical_cpus + shard.logical_cpus,
        pod=ray.workers,
        gpus=shard.gpus,
        gpu_resource=shard.gpu_resource,
        max_replicas=ray.workers.max_replicas,
        roles=tuple(ROLES),
    )
    if shard.gpus and _encoders_by_gpus([*specs, *_with_others(specs, beside)]):
        whole = replace(whole, roles=("gateway", "shard"))  # or encoders would take the GPUs of shards
    return sized(whole)


def _by_role(ray: RaySpec, specs: Sequence[Spec], beside: Beside) -> list[Group]:
    workers = ray.workers
    gateways = workers.replicas or sum(
        math.ceil(gateway_replicas(spec) / _GATEWAYS_PER_POD) for spec in specs
    )
    shards = workers.replicas or sum(shard_replicas(spec) for spec in specs)
    pair = (
        replace(_gateway_pod(specs, beside), name="gateway", replicas=max(gateways, _least(specs))),
        replace(_shard_pod(ray, specs, lambda _: 1), name="shard", replicas=shards),
    )
    return [sized(replace(group, pod=workers, max_replicas=workers.max_replicas)) for group in pair]


def _gateway_pod(specs: Sequence[Spec], beside: Beside) -> Group:
    """A pod with room for the gateways, and encoders on the CPU, of the largest index."""
    each = list(zip(specs, beside, strict=True))
    encoders = max(len(_on_cpu_workers(spec, others)) for spec, others in each)
    largest = max(
        gateway_memory(spec, others) + sum(map(encoder_memory, _on_cpu_workers(spec, others)))
        for spec, others in each
    )
    memory = NODE_MEMORY + _GATEWAYS_PER_POD * largest
    cpus = _GATEWAYS_PER_POD * (GATEWAY_CPUS + encoders * ENCODER_CPUS)
    return Group("gateway", 1, int(cpus * 1000), memory, _logical(cpus, specs), roles=("gateway", "encoder"))


def _shard_pod(ray: RaySpec, specs: Sequence[Spec], shards_on_a_pod: Any) -> Group:
    """A pod with room, and GPUs, for `shards_on_a_pod` shards of the largest index, and for a reranker of it."""
    memory = max(
        shards_on_a_pod(s) * shard_memory(s) + (reranker_memory(s) if s.rerank.kept else 0) for s in specs
    )
    rerankers = 1 if any(s.rerank.kept for s in specs) else 0
    cpus = max(shards_on_a_pod(s) for s in specs) * SHARD_CPUS + rerankers * RERANKER_CPUS
    gpus = max(_whole_gpus(shards_on_a_pod(s), s.index.num_gpus) for s in specs)
    return Group(
        name="shard",
        replicas=1,
        cpu_millis=int(cpus * 1000),
        memory=NODE_MEMORY + memory,
        logical_cpus=_logical(cpus, specs),
        gpus=gpus,
        gpu_resource=ray.gpu_workers.resource if gpus else "",
        roles=("shard",),
    )


def _logical(cpus: float, specs: Sequence[Spec]) -> int:
    """What Ray may hand out of a pod: room for all indexes, for 4, 16, 64 of them, so that few that join change the pods."""
    room = _FEW_INDEXES
    while room < len(specs):
        room *= _FEW_INDEXES
    return math.ceil(cpus * room) + 1


def _gpu(ray: RaySpec, specs: Sequence[Spec]) -> Group | None:
    encoders = _encoders_by_gpus(specs)
    if not encoders:
        return None
    per_pod = max(ray.gpu_workers.gpus_per_pod, math.ceil(max(encoders)))
    most = max(fitting(per_pod, gpus) for gpus in encoders)
    group = Group(
        name="gpu",
        replicas=sum(math.ceil(count / fitting(per_pod, gpus)) for gpus, count in encoders.items()),
        cpu_millis=most * 1000,
        memory=NODE_MEMORY + most * max(encoder_memory(s) for s in specs if _uses_gpu(s)),
        logical_cpus=most + 1,
        pod=ray.gpu_workers,
        gpus=per_pod,
        gpu_resource=ray.gpu_workers.resource,
        roles=("encoder",),
    )
    return sized(group)


def _encoders_by_gpus(specs: Sequence[Spec]) -> Counter[float]:
    """How many encoder replicas there are of each size in GPUs."""
    sizes: Counter[float] = Counter()
    for spec in specs:
        if _uses_gpu(spec):
            sizes[spec.encoder.num_gpus] += encoder_replicas(spec)
    return sizes


def fitting(per_pod: int, gpus: float) -> int:
    """Replicas of that size on one pod. Ray splits a GPU, but gives nobody the rests of two."""
    return per_pod // int(gpus) if gpus >= 1 else per_pod * int(1 / gpus + 1e-9)


def _whole_gpus(replicas: int, gpus: float) -> int:
    """The fewest GPUs of a pod on which so many replicas of that size fit."""
    if gpus >= 1:
        return replicas * int(gpus)
    return math.ceil(replicas / fitting(1, gpus)) if gpus else 0


def copies(spec: Spec) -> int:
    """Workers of one index: each holds one replica of every shard, and at most two gateways."""
    return max(
        spec.replicas(spec.index.replicas),
        math.ceil(gateway_replicas(spec) / _GATEWAYS_PER_POD),
        _least([spec]),
    )


def _least(specs: Sequence[Spec]) -> int:
    return 1 if all(spec.profile == "small" for spec in specs) else 2


def sized(group: Group) -> Group:
    """The group with the sizes that the spec states for its pods in place of the derived ones."""
    pod = group.pod
    millis = parse_cpus(pod.cpu) if pod.cpu is not None else group.cpu_millis
    whole = math.ceil(group.memory / _MEMORY_STEP) * _MEMORY_STEP
    return replace(group, cpu_millis=millis, memory=pod.memory or whole)


def _lasting(group: Group) -> dict[str, Any]:
    pod = group.pod.model_dump(mode="json", include={"node_selector", "priority_class_name", "template"})
    roles = group.roles
    numbers = (group.cpu_millis, group.memory, group.logical_cpus, group.gpus, group.gpu_resource)
    return {
        "name": group.name,
        "pod": pod,
        "numbers": numbers,
        "roles": roles,
        "autoscaled": group.max_replicas is not None,
    }


def _layout_marker(members: Sequence[VisualIndex]) -> dict[str, str]:
    """Another number of shards needs a new cluster: gateways and shards of two layouts cannot be mixed within one."""
    sharded = sorted(f"{m.name}={m.spec.index.shards}" for m in members if m.spec.index.shards > 1)
    return {"VISUALINDEX_SHARDS": ",".join(sharded)} if sharded else {}
