"""What the API server refuses beyond types and ranges: rules in CEL, each with the remedy in its message.

The first group says what the validators of the models say. The second holds on Kubernetes alone: `visualindex up` on a
laptop may do these things. The third compares a spec with the one before it.

Fields with a default are there whenever a resource is judged. They are asked for with `has()` all the same, because the
API server judges the default of a section, `{}`, before it fills in the defaults below it.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Rule:
    """One `x-kubernetes-validations` entry."""

    rule: str
    """A CEL expression that must be true; `self` is the value at the rule's place, `oldSelf` the one before."""
    message: str
    field: str = ""
    """The field below the rule's place that the message is about, such as `.model`."""

    def as_schema(self) -> dict[str, Any]:
        """The entry as the API server takes it."""
        entry = {"rule": self.rule, "message": self.message}
        return entry | ({"fieldPath": self.field} if self.field else {})


def _named(field: str, example: str) -> Rule:
    return Rule(
        f"!has(self.family) || self.family == 'efficientnet-lite0' || (has(self.{field}) && self.{field} != '')",
        f"encoder.{field} is required for the families open_clip and timm: {example}",
        f".{field}",
    )


def _gpus_shared(section: str) -> Rule:
    return Rule(
        "!has(self.numGpus) || self.numGpus <= 1.0 || self.numGpus == double(int(self.numGpus))",
        f"{section}.numGpus is a fraction below 1 or a whole number: Ray shares one GPU, never one and a half",
        ".numGpus",
    )


SAME_AS_MODELS: dict[str, tuple[Rule, ...]] = {
    "": (
        Rule(
            "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$')",
            "metadata.name is not a valid index name: use at most 40 lower-case letters, digits and dashes, starting with a "
            "letter and not ending with a dash",
        ),
    ),
    "spec": (
        Rule(
            "!has(self.ingest) || !has(self.ingest.events) || has(self.ingest.events.bucket) || "
            "(has(self.storage) && has(self.storage.s3))",
            "ingest.events needs a bucket: name one of ingest.buckets, or configure storage.s3",
            ".ingest.events",
        ),
        Rule(
            "!has(self.rerank) || !has(self.rerank.mode) || self.rerank.mode == 'never' || has(self.rerank.projection) || "
            "!has(self.encoder) || !has(self.encoder.family) || "
            "(self.encoder.family == 'efficientnet-lite0' && !has(self.encoder.checkpoint))",
            "rerank.projection is required for this encoder: fit one with `visualindex encoder fit-patches`, or set "
            "rerank.mode: never",
            ".rerank.projection",
        ),
    ),
    "spec.ingest": (
        Rule(
            "!has(self.buckets) || self.buckets.all(a, self.buckets.exists_one(b, b.name == a.name))",
            "ingest.buckets: a name is given twice: keep one",
            ".buckets",
        ),
        Rule(
            "!has(self.events) || !has(self.events.bucket) || "
            "(has(self.buckets) && self.buckets.exists(b, b.name == self.events.bucket))",
            "ingest.events.bucket is not a name of ingest.buckets: add it there",
            ".events.bucket",
        ),
    ),
    "spec.encoder": (
        _named("model", "name the model, e.g. ViT-B-32 (open_clip) or resnet50 (timm)"),
        _named("checkpoint", "give a file path, an s3:// URL, or hub:TAG"),
        _gpus_shared("encoder"),
    ),
    "spec.index": (
        _gpus_shared("index"),
        Rule(
            "!has(self.numGpus) || self.numGpus == 0.0 || (has(self.family) && self.family == 'ivf-sq8')",
            "index.numGpus needs index.family: ivf-sq8, which alone is searched on a GPU: set that family, or remove "
            "index.numGpus",
            ".numGpus",
        ),
    ),
    "spec.index.hnsw": (
        Rule(
            "!has(self.efConstruction) || !has(self.m) || self.efConstruction >= self.m",
            "hnsw.efConstruction must not be below hnsw.m: raise it, or a node finds fewer neighbours than it has links",
            ".efConstruction",
        ),
    ),
    "spec.postgres": (
        Rule(
            "!(has(self.dsn) && self.dsn != '' && has(self.dsnSecretRef))",
            "postgres.dsn and postgres.dsnSecretRef exclude each other: keep one",
            ".dsn",
        ),
    ),
    "spec.storage": (
        Rule(
            "!(has(self.folder) && self.folder != '' && has(self.s3))",
            "storage.folder and storage.s3 exclude each other: keep one",
            ".folder",
        ),
    ),
    "spec.storage.thumbnailSizes": (
        Rule(
            "size(self) == 3 && self[0] >= 16 && self[0] < self[1] && self[1] < self[2]",
            "must be three ascending sizes of at least 16 pixels, e.g. [128, 320, 640]",
        ),
    ),
    "spec.attributes": (
        Rule(
            "self.all(a, self.exists_one(b, b.name == a.name))",
            "attributes: a name is declared twice: keep one",
        ),
        Rule(
            "self.all(a, !(a.name in ['category', 'key', 'metadata', 'and', 'or', 'not', 'in', 'exists', 'within', 'true', "
            "'false', 'null', 'now']))",
            "attributes: a name is a word of the filter language: choose another name",
        ),
        Rule(
            "self.all(a, !has(a.source) || a.source != 'category' || a.type in ['keyword', 'path'])",
            "attributes: a category is a string, so its type is keyword or path",
        ),
        Rule(
            "self.all(a, !has(a.source) || a.type != 'colour')",
            "attributes: colours are those found in the picture: leave source out",
        ),
    ),
    "spec.domains": (
        Rule(
            "self.all(a, self.exists_one(b, b.name == a.name))",
            "domains: a name is defined twice: keep one",
        ),
    ),
    "spec.reindex.schedules": (
        Rule(
            "self.all(a, self.exists_one(b, b.name == a.name))",
            "schedules: a name is defined twice: keep one",
        ),
    ),
    "spec.ray": (
        Rule(
            "!has(self.mode) || (self.mode == 'External') == has(self.external)",
            "ray.external is required in mode External, and only there: add it, or remove it in mode KubeRay",
            ".external",
        ),
        Rule(
            "!has(self.mode) || self.mode == 'KubeRay' || !has(self.cluster)",
            "ray.cluster belongs to mode KubeRay: remove it, ray.external names the cluster",
            ".cluster",
        ),
    ),
    "spec.ray.workers": (
        Rule(
            "!has(self.maxReplicas) || !has(self.replicas) || self.maxReplicas >= self.replicas",
            "ray.workers.maxReplicas must not be below ray.workers.replicas: raise it, or remove it for a fixed size",
            ".maxReplicas",
        ),
    ),
}

ON_KUBERNETES: dict[str, tuple[Rule, ...]] = {
    "": (
        Rule(
            "!has(self.spec) || !has(self.spec.ray) || !has(self.spec.ray.cluster) || "
            "self.spec.ray.cluster == self.metadata.name || "
            "!(self.metadata.name in ['api', 'assets', 'docs', 'healthz', 'internal', 'metrics', 'readyz', 'static'])",
            "metadata.name is a path of the HTTP API, under which an index that joins a cluster would answer: use another "
            "name, or a cluster of its own",
        ),
    ),
    "spec": (
        Rule(
            "!has(self.ray) || !has(self.encoder) || self.ray.mode == 'External' || "
            "self.encoder.device != 'cuda' || self.encoder.numGpus > 0.0",
            "encoder.device: cuda needs a GPU: set encoder.numGpus (0.5 shares one), or device: auto",
            ".encoder.numGpus",
        ),
        Rule(
            "!has(self.ray) || !has(self.encoder) || self.ray.mode == 'External' || "
            "self.encoder.placement != 'gateway' || self.encoder.numGpus == 0.0",
            "encoder.placement: gateway runs the encoder on workers without GPUs: remove encoder.numGpus, or use placement: "
            "auto",
            ".encoder.placement",
        ),
    ),
    "spec.access.mode": (
        Rule(
            "self != 'open'",
            "access.mode: open is for a service that listens on loopback, which no pod does: use keys (or auto, which means "
            "keys on Kubernetes)",
        ),
    ),
    "spec.index.targetRecall": (
        Rule(
            # The schema's own minimum lets the integer 0 pass: API servers cut bounds of integers to integers.
            "self >= 0.5",
            "index.targetRecall must be at least 0.5: half of what a search should find",
        ),
    ),
    "spec.index.memoryPerShard": (
        Rule(
            # What is no quantity is refused by its pattern.
            "type(self) == int ? self >= 67108864 : !isQuantity(self) || quantity(self).compareTo(quantity('64Mi')) >= 0",
            "index.memoryPerShard must be at least 64Mi: a shard needs that before it holds its first vector",
        ),
    ),
    "spec.postgres.dsn": (
        Rule(
            "!self.matches('^[^/]*://[^/?#@]*:[^/?#@]*@') && !self.matches('(?i)(^|[\\\\s?&])(ssl)?password\\\\s*=')",
            "postgres.dsn holds a password, and whoever may read this resource would read it: put the connection string "
            "into a Secret and name it in postgres.dsnSecretRef",
        ),
    ),
}

OVER_TIME: dict[str, tuple[Rule, ...]] = {
    "": (
        Rule(
            "(has(self.spec.ray.cluster) ? self.spec.ray.cluster : self.metadata.name) == "
            "(has(oldSelf.spec.ray.cluster) ? oldSelf.spec.ray.cluster : oldSelf.metadata.name)",
            "ray.cluster cannot change: make a VisualIndex of another name in that cluster, then delete this one",
            ".spec.ray.cluster",
        ),
        Rule(
            "oldSelf.spec.suspend || !has(self.spec.ray.external) || !has(oldSelf.spec.ray.external) || "
            "self.spec.ray.external.address == oldSelf.spec.ray.external.address",
            "ray.external.address changes only while the index is suspended, or its applications stay on the old cluster "
            "with the credentials they hold: set suspend: true, wait until ServingReady says Suspended, change the address, "
            "then set suspend: false",
            ".spec.ray.external.address",
        ),
        Rule(
            # Without images nothing is left behind, and a mistyped bucket is mended by writing it again.
            "self.spec.suspend || oldSelf.spec.suspend || "
            "!has(oldSelf.status) || !has(oldSelf.status.images) || oldSelf.status.images == 0 || ("
            "(has(self.spec.storage.folder) ? self.spec.storage.folder : '') == "
            "(has(oldSelf.spec.storage.folder) ? oldSelf.spec.storage.folder : '') && "
            "has(self.spec.storage.s3) == has(oldSelf.spec.storage.s3) && (!has(self.spec.storage.s3) || ("
            "self.spec.storage.s3.bucket == oldSelf.spec.storage.s3.bucket && "
            "(has(self.spec.storage.s3.prefix) ? self.spec.storage.s3.prefix : '') == "
            "(has(oldSelf.spec.storage.s3.prefix) ? oldSelf.spec.storage.s3.prefix : ''))))",
            "storage of an index with images moves only while the index is suspended, or its pictures stay behind: set "
            "suspend: true, copy the objects, change storage, then set suspend: false",
            ".spec.storage",
        ),
    ),
    "spec.ray.mode": (
        Rule(
            "self == oldSelf",
            "ray.mode cannot change: make a VisualIndex of another name with the new mode, then delete this one",
        ),
    ),
}


def rules_at(path: str) -> tuple[Rule, ...]:
    """The rules of the field at a dotted path such as `spec.ray`; the empty path is the resource itself."""
    return tuple(rule for group in _GROUPS for rule in group.get(path, ()))


def ruled_paths() -> set[str]:
    """Every path that has a rule."""
    return {path for group in _GROUPS for path in group}


_GROUPS = (SAME_AS_MODELS, ON_KUBERNETES, OVER_TIME)
