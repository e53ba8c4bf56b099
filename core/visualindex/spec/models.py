"""The `VisualIndex` resource: one set of models for the CRD, the operator and `visualindex up`.

Every field has a description (it becomes `kubectl explain` text) and a default that serves a laptop. Keys are
camelCase in YAML, as Kubernetes users expect, and snake_case in Python.
"""

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)
from pydantic.alias_generators import to_camel

from visualindex.scheduling import Schedule, checked_cron, checked_time_zone
from visualindex.spec.quantities import parse_bytes

API_VERSION = "visualindex.dev/v1alpha1"
KIND = "VisualIndex"

Name = Annotated[str, Field(pattern=r"^[a-z]([-a-z0-9]{0,38}[a-z0-9])?$", max_length=40)]
ByteSize = Annotated[int, BeforeValidator(parse_bytes, json_schema_input_type=int | str), Field(ge=1)]
Port = Annotated[int, Field(ge=1, le=65_535)]
Cpu = Annotated[str, Field(pattern=r"^([0-9]+(\.[0-9]{1,3})?|[0-9]+m)$", max_length=16)]
HttpUrl = Annotated[str, Field(pattern=r"^https?://[^\s/@?#]+(/[^\s?#]*)?$", max_length=512)]


class SpecModel(BaseModel):
    """Strict base: an unknown key is an error, and models are immutable once read."""

    model_config = ConfigDict(alias_generator=to_camel, validate_by_name=True, extra="forbid", frozen=True)


class SecretKeyRef(SpecModel):
    """One key of a Secret in the resource's own namespace."""

    name: str = Field(description="Name of the Secret.")
    key: str = Field(description="Key inside the Secret that holds the value.")


def _refuse_one_and_a_half(field: str, gpus: float) -> None:
    if gpus > 1 and gpus != int(gpus):
        raise ValueError(
            f"{field} is a fraction below 1 or a whole number: Ray shares one GPU, never one and a half"
        )


class EncoderSpec(SpecModel):
    """The model that turns pictures into vectors."""

    family: Literal["efficientnet-lite0", "open_clip", "timm"] = Field(
        default="efficientnet-lite0",
        description="Encoder family. `efficientnet-lite0` needs no download and no GPU; `open_clip` is "
        "the production recommendation; `timm` serves any timm or torchvision backbone from a checkpoint.",
    )
    model: str | None = Field(
        default=None,
        description="Model name within the family, e.g. `ViT-B-32` (open_clip) or `resnet50` (timm).",
    )
    checkpoint: str | None = Field(
        default=None,
        description="Weights: a file path, an `s3://bucket/key` URL, or `hub:TAG` for a pretrained tag "
        "of a model hub.",
    )
    dimension: int = Field(
        default=256,
        ge=8,
        le=4096,
        description="Dimension of the stored vectors. Below the model's own dimension a PCA projection "
        "reduces it.",
    )
    projection: str | None = Field(
        default=None,
        description="PCA projection file (path or `s3://` URL) fitted by `visualindex encoder fit`; the "
        "default encoder ships its own.",
    )
    runtime: Literal["auto", "openvino", "onnxruntime", "torch"] = Field(
        default="auto", description="Inference runtime; `auto` takes the fastest measured one for the device."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where the encoder runs; `auto` is CUDA when `numGpus` is above 0, else CPU.",
    )
    precision: Literal["auto", "float32", "float16", "bfloat16"] = Field(
        default="auto", description="Arithmetic precision; `auto` is float16 on GPU and float32 on CPU."
    )
    placement: Literal["auto", "gateway", "deployment"] = Field(
        default="auto",
        description="Run the encoder inside the gateway processes (saves a hop on CPU) or as a "
        "deployment of its own (GPU). `auto` chooses by device.",
    )
    replicas: int = Field(
        default=2, ge=1, le=1024, description="Encoder replicas when it is its own deployment."
    )
    num_gpus: float = Field(
        default=0.0, ge=0, le=8, description="GPUs per encoder replica: whole, or a fraction below 1."
    )
    max_batch_size: int = Field(
        default=32, ge=1, le=1024, description="Most images encoded in one forward pass."
    )
    batch_deadline_ms: float = Field(
        default=5.0, ge=0, le=1000, description="Longest wait in milliseconds for a batch to fill."
    )

    @model_validator(mode="after")
    def _model_is_named(self) -> "EncoderSpec":
        if self.family != "efficientnet-lite0" and not self.model:
            raise ValueError(
                f"encoder.model is required for family {self.family}: name the model, e.g. "
                + ("ViT-B-32" if self.family == "open_clip" else "resnet50")
            )
        return self

    @model_validator(mode="after")
    def _checkpoint_is_named(self) -> "EncoderSpec":
        if self.family != "efficientnet-lite0" and not self.checkpoint:
            raise ValueError(
                f"encoder.checkpoint is required for family {self.family}: give a file path, an s3:// URL, "
                "or hub:TAG"
            )
        return self

    @property
    def in_gateway(self) -> bool:
        """Whether the encoder lives in the gateways: on CPU that saves a hop, on GPU it would waste GPUs."""
        if self.placement == "auto":
            return self.num_gpus == 0 and self.device != "cuda"
        return self.placement == "gateway"

    @model_validator(mode="after")
    def _gpus_can_be_shared_so(self) -> "EncoderSpec":
        _refuse_one_and_a_half("encoder.numGpus", self.num_gpus)
        return self


class HnswSpec(SpecModel):
    """Parameters of the HNSW graph used above `flatBelow` rows."""

    m: int = Field(default=32, ge=4, le=128, description="Links per node.")
    ef_construction: int = Field(
        default=120, ge=8, le=2000, description="Candidate list size while building; not below `m`."
    )
    ef_search: int = Field(default=96, ge=8, le=4096, description="Candidate list size while searching.")

    @model_validator(mode="after")
    def _enough_candidates(self) -> "HnswSpec":
        if self.ef_construction < self.m:
            raise ValueError(
                "hnsw.efConstruction must not be below hnsw.m: raise it, or a node finds fewer neighbours than it "
                "has links"
            )
        return self


class IndexSpec(SpecModel):
    """How vectors are sharded and searched."""

    shards: int = Field(
        default=1, ge=1, le=1024, description="Number of shards; each owns a range of 1,024 buckets."
    )
    replicas: int = Field(default=2, ge=1, le=64, description="Replicas of each shard.")
    metric: Literal["cosine"] = Field(
        default="cosine", description="Similarity: cosine of L2-normalised vectors."
    )
    family: Literal["auto", "flat", "hnsw", "hnsw-sq8", "ivf-sq8", "ivf-pq", "rabitq"] = Field(
        default="auto",
        description="Kind of index over the vectors of a shard. `auto` takes `flat` up to `flatBelow` rows, above it the "
        "first of `hnsw`, `hnsw-sq8`, `ivf-sq8`, `ivf-pq` and `rabitq` that fits `memoryPerShard`: each takes less memory "
        "than the one before it, and more time. Whatever the family, scores are exact.",
    )
    target_recall: float = Field(
        default=0.95,
        ge=0.5,
        le=1,
        description="Share of the true ten nearest that a search finds. Each build measures it against exact search, and "
        "takes the least effort that reaches it.",
    )
    flat_below: int = Field(
        default=20_000,
        ge=0,
        description="Rows per shard up to which search is exact (flat) whatever the family; above it an index is built.",
    )
    hnsw: HnswSpec = Field(default=HnswSpec(), description="HNSW parameters.")
    memory_per_shard: ByteSize = Field(
        default=2 * 1024**3,
        description="Memory budget in bytes of each generation that a shard replica has loaded: index, attributes, ids and "
        "the rows written since. Pods are given it once, and a quarter more for each of the other generations "
        "(`keepGenerations`), whose files the kernel may drop. A full shard keeps answering, with `complete: false`; what "
        "does not fit is stored but not found until a tenth of the shard is deleted or the budget raised (metric "
        "`visualindex_shard_full`).",
    )
    num_gpus: float = Field(
        default=0.0,
        ge=0,
        le=8,
        description="GPUs per shard replica: whole, or a fraction below 1. Needs `family: ivf-sq8`, the one that is "
        "searched on a GPU, and an image with faiss-gpu. Pods that hold shards ask for as many of "
        "`ray.gpuWorkers.resource`.",
    )
    keep_generations: int = Field(
        default=2,
        ge=1,
        le=32,
        description="Generations that stay loaded, the active one among them: the others can be rolled back to at once, and "
        "each takes memory (`memoryPerShard`).",
    )
    fold: Literal["auto", "never"] = Field(
        default="auto",
        description="`auto`: when a shard holds more fresh rows than `flatBelow`, and a fifth of its rows are fresh, a new "
        "generation that takes them in is built and activated; so it is when as many of the rows that were built are dead, "
        "or when as many changes were logged since; not after a rollback. `never`: generations are made on demand only.",
    )
    live_recall_sample: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of searches that shards repeat exactly, at the lowest priority and one at a time, to tell the "
        "recall that users get; 0 turns it off.",
    )
    poll_interval_ms: int = Field(
        default=100,
        ge=10,
        le=10_000,
        description="How often a shard asks the change log for news, in milliseconds.",
    )

    @model_validator(mode="after")
    def _gpus_can_be_shared_so(self) -> "IndexSpec":
        _refuse_one_and_a_half("index.numGpus", self.num_gpus)
        return self

    @model_validator(mode="after")
    def _gpus_are_of_use(self) -> "IndexSpec":
        if self.num_gpus and self.family != "ivf-sq8":
            raise ValueError(
                "index.numGpus needs index.family: ivf-sq8, which alone is searched on a GPU: set that family, or remove "
                "index.numGpus"
            )
        return self


class GatewaySpec(SpecModel):
    """The HTTP front."""

    replicas: int = Field(default=2, ge=1, le=256, description="Gateway replicas.")
    max_concurrent_requests: int = Field(
        default=64,
        ge=1,
        description="Requests one gateway replica works on at once; beyond it answers 503. Twice as many for "
        "thumbnails come beside them.",
    )
    decode_workers: int = Field(
        default=0,
        ge=0,
        le=256,
        description="Image decoding processes per gateway; 0 takes one per two CPU cores, and 2 on a cluster.",
    )
    record_cache: ByteSize = Field(
        default=128 * 1024**2,
        description="Memory in which a gateway remembers images' metadata, of about 200,000 images by default. Where all "
        "of an index fit, they are read ahead and a search asks Postgres for nothing; else those last needed are kept.",
    )


class PostgresSpec(SpecModel):
    """Where metadata, vectors and the change log live. Without a DSN, `visualindex up` embeds a server."""

    dsn: str | None = Field(
        default=None,
        description="Connection string. Kubernetes refuses one with a password: use `dsnSecretRef`.",
    )
    dsn_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Secret key holding the connection string."
    )
    max_connections: int = Field(
        default=4,
        ge=1,
        le=100,
        description="Connections one gateway process may hold; a shard replica holds at most two.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> "PostgresSpec":
        if self.dsn and self.dsn_secret_ref:
            raise ValueError("postgres.dsn and postgres.dsnSecretRef exclude each other: keep one")
        return self


class S3Spec(SpecModel):
    """An S3-compatible bucket."""

    endpoint: str = Field(description="Host and port, e.g. `minio:9000`, without scheme.")
    bucket: str = Field(description="Bucket; it must exist.")
    prefix: str = Field(default="", description="Key prefix inside the bucket.")
    region: str = Field(default="us-east-1", description="Region name.")
    secure: bool = Field(default=True, description="Use TLS.")
    credentials_secret_ref: str | None = Field(
        default=None,
        description="Secret with `accessKey` and `secretKey`; locally the environment variables "
        "VISUALINDEX_S3_ACCESS_KEY and VISUALINDEX_S3_SECRET_KEY are read.",
    )


class StorageSpec(SpecModel):
    """Where originals and thumbnails live. Without `s3`, a local folder."""

    folder: str | None = Field(
        default=None, description="Local folder; default: `objects` in the state directory."
    )
    s3: S3Spec | None = Field(default=None, description="S3-compatible bucket.")
    thumbnail_sizes: tuple[int, int, int] = Field(
        default=(128, 320, 640),
        description="Longest edges in pixels of the three WebP thumbnails, ascending; each is made when it is first "
        "asked for. Erasing an image deletes those of the present and of the default sizes.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "StorageSpec":
        if self.folder and self.s3:
            raise ValueError("storage.folder and storage.s3 exclude each other: keep one")
        return self

    @model_validator(mode="after")
    def _sizes_ascend(self) -> "StorageSpec":
        if list(self.thumbnail_sizes) != sorted(set(self.thumbnail_sizes)) or self.thumbnail_sizes[0] < 16:
            raise ValueError("storage.thumbnailSizes must be three ascending sizes of at least 16 pixels")
        return self


class LimitsSpec(SpecModel):
    """What one request may ask for. Everything beyond is refused with a problem that names the limit."""

    image_bytes: ByteSize = Field(default=32 * 1024**2, description="Largest image file in bytes.")
    image_pixels: int = Field(
        default=64_000_000, ge=1, description="Most pixels (width x height) of an image."
    )
    image_frames: int = Field(
        default=256, ge=1, description="Most frames of an animated image; the first is used."
    )
    decode_timeout_ms: int = Field(
        default=5_000, ge=10, description="Longest decode before its process is killed."
    )
    request_bytes: ByteSize = Field(default=256 * 1024**2, description="Largest request body in bytes.")
    metadata_bytes: ByteSize = Field(default=16 * 1024, description="Largest metadata document in bytes.")
    batch_images: int = Field(default=256, ge=1, description="Most images in one batch request.")
    search_limit: int = Field(default=200, ge=1, le=10_000, description="Most hits one search may ask for.")
    search_timeout_ms: int = Field(default=2_000, ge=50, description="Deadline of a search in milliseconds.")
    write_timeout_ms: int = Field(default=20_000, ge=100, description="Deadline of a write in milliseconds.")


class FetchSpec(SpecModel):
    """Rules for fetching images by URL."""

    enabled: bool = Field(default=True, description="Whether callers may pass URLs at all.")
    schemes: tuple[Literal["http", "https"], ...] = Field(
        default=("https", "http"), description="Allowed schemes."
    )
    ports: tuple[Port, ...] = Field(default=(80, 443), description="Allowed ports.")
    allow_hosts: tuple[str, ...] = Field(
        default=(),
        description="Private image hosts that may be fetched although they resolve to private addresses: "
        "`host`, `host:port` or a CIDR block.",
    )
    max_redirects: int = Field(
        default=3, ge=0, le=10, description="Most redirects followed; each is checked again."
    )
    timeout_ms: int = Field(default=5_000, ge=50, description="Longest whole fetch in milliseconds.")


class AccessSpec(SpecModel):
    """Who may call the API."""

    mode: Literal["auto", "keys", "open"] = Field(
        default="auto",
        description="`keys` needs an API key on every call; `open` needs none and is refused unless the "
        "service listens on loopback; `auto` is open on loopback in local mode and keys everywhere else.",
    )
    keys_secret_ref: str | None = Field(
        default=None,
        description="On Kubernetes: Secret with one API key per entry, the text `vi_…` or JSON with `key`, `scopes` and "
        "`filter`. Default: the operator makes the Secret `NAME-api-keys` with the entry `admin`.",
    )
    thumbnails: Literal["capability", "key"] = Field(
        default="capability",
        description="`capability` serves a thumbnail to whoever knows its address (a 256-bit content digest; lets a CDN "
        "stand in front); `key` needs a key with the search scope.",
    )


class SearchLogSpec(SpecModel):
    """The log of searches in `user_search_logs`."""

    enabled: bool = Field(default=True, description="Whether searches are logged (off the request path).")
    retention_days: int = Field(default=90, ge=1, description="Days after which log rows are deleted.")


class CrossScorerSpec(SpecModel):
    """A torch model of your own that scores a query against candidates by their patches."""

    checkpoint: str = Field(
        min_length=1,
        max_length=1024,
        description="TorchScript, or with `module` a state dict: a file path or an `s3://bucket/key` URL.",
    )
    module: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$",
        max_length=256,
        description="Import path `package.module:callable` of what makes the torch module whose state dict `checkpoint` is.",
    )
    weight: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="Weight of its standardised score against the first stage's, until one was fitted.",
    )


class RerankSpec(SpecModel):
    """Reordering the first hits by local features. They take about 12.5 KB per image in the database and in generations."""

    mode: Literal["never", "auto", "always"] = Field(
        default="never",
        description="`never` keeps no patches. `always` reranks searches unless they say no. `auto` keeps "
        "patches, and reranks once a measurement on this index showed a gain that is sure. Images from before it was "
        "switched on have no patches until they are written again.",
    )
    candidates: int = Field(
        default=50, ge=2, le=200, description="Hits of the first stage that are reordered."
    )
    budget_ms: int = Field(
        default=80,
        ge=5,
        le=10_000,
        description="Longest wait for the reranker in milliseconds; past it the first stage's order is answered.",
    )
    exact_image: bool = Field(
        default=False,
        description="Whether a search may ask for `exact`: the first ten hits are then verified by geometry, and copies of "
        "the query's very picture come first.",
    )
    projection: str | None = Field(
        default=None,
        min_length=1,
        max_length=1024,
        description="PCA projection of patches (path or `s3://` URL) fitted by `visualindex encoder fit-patches`; the "
        "default encoder ships its own.",
    )
    cross_scorer: CrossScorerSpec | None = Field(
        default=None, description="A scorer of your own beside the built-in one; needs the extra `torch`."
    )
    replicas: int = Field(default=2, ge=1, le=256, description="Reranker replicas.")
    memory: ByteSize = Field(
        default=256 * 1024**2,
        description="Bytes of patches that a replica keeps in memory, 12.5 KB per image; the others are read when needed.",
    )

    @property
    def kept(self) -> bool:
        """Whether patches are made and kept, and rerankers run."""
        return self.mode != "never"


class PodSpec(SpecModel):
    """What the pods of one group ask for, and where they may run."""

    cpu: Cpu | None = Field(
        default=None,
        description="CPU request, e.g. `2` or `500m`; default: what the replicas placed on the pod reserve.",
    )
    memory: ByteSize | None = Field(
        default=None,
        description="Memory request and limit in bytes; default: derived from what the replicas placed on the pod need.",
    )
    node_selector: dict[str, str] = Field(default={}, description="Labels a node must have.")
    tolerations: tuple[dict[str, Any], ...] = Field(
        default=(), max_length=32, description="Kubernetes tolerations of the pods."
    )
    priority_class_name: str | None = Field(default=None, description="PriorityClass of the pods.")
    template: dict[str, Any] | None = Field(
        default=None,
        description="A pod template (`metadata`, `spec`) merged over the one the operator builds; containers, volumes and "
        "environment variables are merged by name. The Ray container is called `ray`.",
    )


class WorkersSpec(PodSpec):
    """The worker pods, which carry every replica of the service."""

    replicas: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Worker pods (of each role under `layout: ByRole`); default 2, 1 in profile `small`, and more where "
        "the memory of the shards asks for it.",
    )
    layout: Literal["Together", "ByRole"] = Field(
        default="Together",
        description="`Together`: gateways and shards share workers. `ByRole`: gateways and shards have workers of their "
        "own. Encoders with GPUs always have.",
    )
    max_replicas: int | None = Field(
        default=None,
        ge=1,
        le=4096,
        description="Turns Ray's autoscaler on: most worker pods of a group. Without it the groups have a fixed size.",
    )


class GpuWorkersSpec(PodSpec):
    """The worker pods of encoders that run on GPUs."""

    gpus_per_pod: int = Field(default=1, ge=1, le=16, description="GPUs of one pod.")
    resource: str = Field(
        default="nvidia.com/gpu", description="Name of the extended resource that stands for a GPU."
    )


class RedisSpec(SpecModel):
    """A Redis or Valkey that keeps the state of the Ray head, so that losing the head ends nothing."""

    address: str = Field(
        min_length=3, max_length=253, pattern=r"^[^\s/@]+:[0-9]+$", description="`host:port` of the server."
    )
    password_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Secret key holding the password."
    )


class CacheSpec(SpecModel):
    """The volume of every Ray pod for weights and index files: it can be filled again from the object store."""

    size: ByteSize = Field(
        default=10 * 1024**3,
        description="Most bytes on the volume of one pod. Generations take 60 % of it at most; the rest is for weights and "
        "for generations that are being built.",
    )
    storage_class: str | None = Field(
        default=None,
        description="StorageClass of a volume that lives as long as its pod; default: the node's own disk (emptyDir).",
    )


class ExternalRaySpec(SpecModel):
    """An existing Ray cluster with this release of VisualIndex in its image."""

    address: HttpUrl = Field(
        description="URL of the cluster's dashboard, e.g. `http://ray-head:8265`. Changes only while the index is suspended."
    )
    serve_url: HttpUrl = Field(
        description="URL where the cluster's Serve proxy answers, e.g. `http://ray-serve:8000`."
    )
    token_secret_ref: SecretKeyRef | None = Field(
        default=None, description="Secret key holding the cluster's authentication token."
    )


class RaySpec(SpecModel):
    """Where the service runs. Read by the operator; `visualindex up` brings its own Ray."""

    mode: Literal["KubeRay", "External"] = Field(
        default="KubeRay",
        description="`KubeRay`: the operator makes a Ray cluster. `External`: it uses the one that `external` names.",
    )
    cluster: Name | None = Field(
        default=None,
        description="KubeRay mode: name of the Ray cluster, default the resource's own name. Resources of a namespace that "
        "name the same cluster share it; the settings below are then read from the oldest of them.",
    )
    external: ExternalRaySpec | None = Field(default=None, description="The cluster of mode `External`.")
    image: str | None = Field(
        default=None,
        min_length=1,
        max_length=512,
        description="Container image of the Ray pods; default: the operator's own.",
    )
    image_pull_policy: Literal["Always", "IfNotPresent", "Never"] | None = Field(
        default=None, description="When the image is pulled; default: as the operator was installed with."
    )
    image_pull_secrets: tuple[str, ...] = Field(
        default=(), max_length=16, description="Secrets with the credentials of the image's registry."
    )
    head: PodSpec = Field(
        default=PodSpec(), description="The head pod, which runs no replica of the service."
    )
    workers: WorkersSpec = Field(default=WorkersSpec(), description="The worker pods.")
    gpu_workers: GpuWorkersSpec = Field(
        default=GpuWorkersSpec(), description="The worker pods of GPU encoders."
    )
    redis: RedisSpec | None = Field(
        default=None,
        description="Where the head's state is kept; default: what the operator was installed with. Without any, losing the "
        "head restarts the workers.",
    )
    cache: CacheSpec = Field(default=CacheSpec(), description="The cache volume of every pod.")
    upgrade: Literal["BlueGreen", "Recreate"] = Field(
        default="BlueGreen",
        description="How a change of the pods is made. `BlueGreen`: a second cluster, then a switch. `Recreate`: the old "
        "cluster ends first, which is an outage and waits for approval.",
    )
    gpu_budget: int | None = Field(
        default=None,
        ge=0,
        le=100_000,
        description="Most GPUs the service may hold at any time. A change for which two clusters do not fit waits "
        "(condition UpgradeBlocked) until it is approved, and then recreates.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> "RaySpec":
        if (self.mode == "External") != (self.external is not None):
            raise ValueError("ray.external is required in mode External, and only there")
        return self

    @model_validator(mode="after")
    def _cluster_is_of_the_mode(self) -> "RaySpec":
        if self.mode == "External" and self.cluster:
            raise ValueError("ray.cluster belongs to mode KubeRay: remove it, ray.external names the cluster")
        return self

    @model_validator(mode="after")
    def _workers_have_room(self) -> "RaySpec":
        workers = self.workers
        if workers.max_replicas is not None and workers.max_replicas < (workers.replicas or 1):
            raise ValueError("ray.workers.maxReplicas must not be below ray.workers.replicas")
        return self


AttributeType = Literal["keyword", "tags", "number", "boolean", "time", "path", "colour"]
"""What the values of a declared attribute are."""

_NOT_NAMES = frozenset(
    {
        "category",
        "key",
        "metadata",
        "and",
        "or",
        "not",
        "in",
        "exists",
        "within",
        "true",
        "false",
        "null",
        "now",
    }
)


class AttributeSpec(SpecModel):
    """A name and a type for values in the images' metadata: filters may use the name, and check their operands."""

    name: str = Field(
        min_length=1,
        max_length=63,
        pattern=r"^[a-z][a-z0-9_]*$",
        description="What filters call it: lower-case letters, digits and underscores.",
    )
    type: AttributeType = Field(
        description="`keyword`: one string. `tags`: any number of strings. `number`, `boolean`. `time`: an RFC 3339 date or "
        "date-time, or seconds since 1970. `path`: the names from the top of a hierarchy down, in one string. `colour`: "
        "the dominant colours found in the picture.",
    )
    source: str | None = Field(
        default=None,
        max_length=253,
        pattern=r"^(category|metadata(\.[^.]+)+)$",
        description="Where the values are: `category` or `metadata.PATH`; default `metadata.NAME`.",
    )
    separator: str = Field(
        default=" > ",
        min_length=1,
        max_length=8,
        description="What stands between the levels of a `path`, as in product feeds; names in them may contain slashes.",
    )

    @model_validator(mode="after")
    def _name_is_free(self) -> "AttributeSpec":
        if self.name in _NOT_NAMES:
            raise ValueError(f"attributes: {self.name} is a word of the filter language: choose another name")
        return self

    @model_validator(mode="after")
    def _category_is_text(self) -> "AttributeSpec":
        if self.source == "category" and self.type not in ("keyword", "path"):
            raise ValueError(
                f"attributes: {self.name}: a category is a string, so its type is keyword or path"
            )
        return self

    @model_validator(mode="after")
    def _colours_are_the_pictures(self) -> "AttributeSpec":
        if self.type == "colour" and self.source is not None:
            raise ValueError(
                f"attributes: {self.name}: the colours are those found in the picture: leave source out"
            )
        return self

    @property
    def field(self) -> str:
        """The field that holds the values."""
        return self.source or f"metadata.{self.name}"


class DomainSpec(SpecModel):
    """A part of the images that searches can name: which images it has, and what such searches want by default."""

    name: Name = Field(description="What a search calls it: lower-case letters, digits and dashes.")
    filter: Annotated[Any, WithJsonSchema({"x-kubernetes-preserve-unknown-fields": True})] = Field(
        default=None,
        description="The images of the domain: a filter in either form of docs/filters.md. Default: all.",
    )
    attributes: tuple[Annotated[str, Field(min_length=1, max_length=253)], ...] = Field(
        default=(),
        max_length=16,
        description="What to show beside its hits, declared attributes or fields: the facets of a search that names the "
        "domain and says none.",
    )
    min_score: float | None = Field(
        default=None, ge=-1, le=1, description="Least score of its hits where the search says none."
    )
    limit: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description="Most hits of a search that names the domain and says none; at most `limits.searchLimit`.",
    )


class BucketKeysRef(SpecModel):
    """A Secret in the resource's own namespace with the two keys of a bucket."""

    name: str = Field(min_length=1, max_length=253, description="Name of the Secret.")
    access_key: str = Field(
        default="accessKey",
        min_length=1,
        max_length=253,
        description="Key inside it that holds the access key.",
    )
    secret_key: str = Field(
        default="secretKey",
        min_length=1,
        max_length=253,
        description="Key inside it that holds the secret key.",
    )


class IngestBucketSpec(SpecModel):
    """A bucket that pictures may be taken from, with keys of its own or those of `storage.s3`."""

    name: Name = Field(description="What sources call it: `s3://NAME/prefix/`.")
    endpoint: str = Field(description="Host and port, e.g. `minio:9000`, without scheme.")
    bucket: str = Field(description="Bucket.")
    region: str = Field(default="us-east-1", description="Region name.")
    secure: bool = Field(default=True, description="Use TLS.")
    credentials_secret_ref: BucketKeysRef | None = Field(
        default=None,
        description="Secret with the bucket's keys. Default: those of `storage.s3`. Locally the environment variables "
        "VISUALINDEX_INGEST_NAME_ACCESS_KEY and VISUALINDEX_INGEST_NAME_SECRET_KEY are read, or the files that these names "
        "with `_FILE` behind them name.",
    )


class IngestEventsSpec(SpecModel):
    """Objects that a bucket tells of are taken in as they come and deleted as they go."""

    bucket: str | None = Field(
        default=None,
        max_length=40,
        description="A name of `ingest.buckets`; without it the bucket of `storage.s3`.",
    )
    prefix: str = Field(
        default="",
        max_length=512,
        description="Objects below this prefix; other events are ignored.",
    )
    key: Literal["path", "name", "stem"] = Field(
        default="path",
        description="The image's key: the object's `path` below the prefix, its file `name`, or that without its ending "
        "(`stem`).",
    )
    category: Literal["none", "folder"] = Field(
        default="none",
        description="`folder`: the first folder below the prefix is the image's category.",
    )
    sweep_minutes: int = Field(
        default=1440,
        ge=0,
        le=525_600,
        description="Minutes between two looks through the whole prefix for what no event told of; 0 looks never.",
    )


class IngestSpec(SpecModel):
    """Where jobs and events may take pictures from, beside requests that carry them."""

    buckets: tuple[IngestBucketSpec, ...] = Field(
        default=(),
        max_length=16,
        description="Buckets beside that of `storage.s3` that pictures may be taken from.",
    )
    folders: tuple[str, ...] = Field(
        default=(),
        max_length=16,
        description="Folders, by absolute path, that jobs may read pictures from; nothing outside of them is read.",
    )
    events: IngestEventsSpec | None = Field(
        default=None,
        description="Notifications of a bucket; without this field they are refused.",
    )


class ScheduleSpec(SpecModel):
    """Work that is asked for again and again (docs/schedules.md)."""

    name: Name = Field(description="What it is called: lower-case letters, digits and dashes.")
    cron: Annotated[
        str,
        Field(min_length=9, max_length=100, pattern=r"^\S+( +\S+){4}$"),
        AfterValidator(checked_cron),
    ] = Field(
        description="When: minute, hour, day of month, month and day of week, such as `0 3 * * *`. Where clocks change, a "
        "time that is skipped comes when the clock was put forward, and one that is repeated comes once.",
    )
    time_zone: Annotated[
        str,
        Field(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9_+/-]*$"),
        AfterValidator(checked_time_zone),
    ] = Field(default="UTC", description="Time zone of `cron`, such as `Europe/Berlin`.")
    kind: Literal["refresh", "full", "check"] = Field(
        description="`refresh` folds what was written since into a new generation and activates it; `full` rebuilds the "
        "index from its originals; `check` compares all parts of the index and mends what differs."
    )
    concurrency_policy: Literal["Forbid", "Replace"] = Field(
        default="Forbid",
        description="While the last job of this kind is under way: `Forbid` skips the new one, `Replace` cancels the old.",
    )
    starting_deadline_seconds: int | None = Field(
        default=None,
        ge=10,
        le=31_536_000,
        description="Longest time after its own that a missed run may still begin. Default: until the next one's time.",
    )
    suspend: bool = Field(
        default=False, description="Ask for nothing; what passes meanwhile does not run later."
    )

    @property
    def schedule(self) -> Schedule:
        """Its times and rules."""
        return Schedule(
            self.name,
            self.cron,
            self.time_zone,
            self.kind,
            self.concurrency_policy,
            self.starting_deadline_seconds,
            self.suspend,
        )


class ShadowSpec(SpecModel):
    """A new generation answers a share of the live searches, unseen, before it is activated."""

    share: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Share of the searches that is asked of both generations once more, after it was answered and at the "
        "lowest priority. A gateway does so one by one and passes over what comes meanwhile.",
    )
    min_queries: int = Field(
        default=200, ge=10, le=10_000, description="Searches that are enough: they end the wait."
    )
    for_minutes: int = Field(
        default=60,
        ge=1,
        le=10_080,
        description="Longest wait for them, in minutes from when every shard has loaded the generation. Then those that "
        "came decide; fewer than 20 decide nothing.",
    )
    min_overlap: float = Field(
        default=0.8,
        ge=0,
        le=1,
        description="Least mean share of the active generation's first ten hits that the new one has, too.",
    )


class GateSpec(SpecModel):
    """What a new generation must reach before it is activated by itself."""

    mode: Literal["off", "measure", "enforce"] = Field(
        default="enforce",
        description="`enforce`: a generation that misses a limit is kept for inspection and activated by force only. "
        "`measure`: it is measured and reported, and activated all the same. `off`: nothing is measured.",
    )
    probes: int = Field(
        default=200, ge=10, le=5000, description="Images of the index that a new generation is asked for."
    )
    missing: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Largest share of the images that it ought to hold that may be missing. Images in quarantine, and those "
        "written or deleted since the build began, are not counted.",
    )
    recall: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="Least recall@10 against exact search. Without it, `index.targetRecall` less 0.05, because these are "
        "other queries than those that the build measured with.",
    )
    self_retrieval: float = Field(
        default=0.7,
        ge=0,
        le=1,
        description="Least share of changed copies of its images that find their image among the first ten.",
    )
    agreement: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="Least share of the first ten hits that are those of the active generation, of the same encoder and "
        "among images that both hold unchanged.",
    )
    encoder_agreement: float = Field(
        default=0.05, ge=0, le=1, description="The same when the encoder changes, which may well know better."
    )
    precision_drop: float = Field(
        default=0.05,
        ge=0,
        le=1,
        description="Largest loss of precision@10 against the active generation, by what people found relevant or else by "
        "category, beyond its own standard error.",
    )
    score_shift: float = Field(
        default=0.05,
        ge=0,
        le=2,
        description="Largest change of the mean score of the first ten hits, which callers' `min_score` relies on. Another "
        "encoder has other scores: then it is reported alone.",
    )
    latency_ratio: float = Field(
        default=3.0,
        ge=1,
        le=1000,
        description="Most CPU time of a search, as a multiple of the active generation's; what stays below 5 ms passes.",
    )
    shadow: ShadowSpec | None = Field(
        default=None,
        description="Have a generation that passed and is to be activated answer live searches beside the active one "
        "first. Without it, none does.",
    )


class PricesSpec(SpecModel):
    """What machines and storage cost, in any one currency: jobs then say what they cost."""

    cpu_hour: float = Field(default=0.0, ge=0, description="An hour of one CPU core.")
    gpu_hour: float = Field(default=0.0, ge=0, description="An hour of one GPU.")
    gib_month: float = Field(
        default=0.0,
        ge=0,
        description="A GiB in the object store for a month, for the generation that is built.",
    )


class ReindexWorkersSpec(PodSpec):
    """The pods of a rebuild that fetch, decode and encode: losing one costs the chunk it was at."""

    spot: dict[str, str] = Field(
        default={},
        description='Labels of nodes that may be taken away, such as `cloud.google.com/gke-spot: "true"`: workers run on '
        "such nodes, and the head on none that has one of them.",
    )


class ReindexClusterSpec(SpecModel):
    """The Ray cluster that a rebuild has to itself in mode KubeRay; it ends with the rebuild."""

    head: PodSpec = Field(
        default=PodSpec(),
        description="The head pod, which plans, builds the generation and judges it. It never runs on a node that may be "
        "taken away: not on one with a label of `workers.spot`, nor with one by which clouds mark theirs.",
    )
    workers: ReindexWorkersSpec = Field(
        default=ReindexWorkersSpec(),
        description="The worker pods: `reindex.workers` encoders, one in a pod without GPUs, as many as fit "
        "`ray.gpuWorkers.gpusPerPod` in one with.",
    )
    keep_seconds: int = Field(
        default=60,
        ge=0,
        le=86_400,
        description="How long in seconds the pods stay after the end, for a look at their logs.",
    )


class ReindexSpec(SpecModel):
    """Rebuilding the index from its originals, and when, and what its generations must reach."""

    placement: Literal["Service", "Job"] = Field(
        default="Service",
        description="On Kubernetes: where rebuilds run. `Service`: beside the replicas of the service, with what they "
        "leave. `Job`: in mode KubeRay as a RayJob with a Ray cluster of its own, which `cluster` describes; in mode "
        "External as a job submitted to that cluster. `visualindex up` runs them itself.",
    )
    cluster: ReindexClusterSpec = Field(
        default=ReindexClusterSpec(), description="The pods of rebuilds with `placement: Job`."
    )

    gate: GateSpec = Field(
        default=GateSpec(), description="What a new generation must reach before it is activated."
    )
    schedules: tuple[ScheduleSpec, ...] = Field(
        default=(), max_length=32, description="Rebuilds and checks that are asked for by the clock."
    )

    chunk_images: int = Field(
        default=256,
        ge=1,
        le=16_384,
        description="Images of a chunk: what is stored at once, and what a worker that is lost repeats. The pixels of a few "
        "chunks are in memory: 150 kB an image at 224x224.",
    )
    batch_size: int | None = Field(
        default=None,
        ge=1,
        le=1024,
        description="Images in one forward pass. Default: measured when a job begins, up to `encoder.maxBatchSize`, and "
        "kept until it ends.",
    )
    workers: int = Field(
        default=1, ge=1, le=1024, description="Encoders at work at once, each with `encoder.numGpus` GPUs."
    )
    decoders: int = Field(
        default=0,
        ge=0,
        le=4096,
        description="Processes apart from the encoders that fetch originals and decode, on any node of a cluster. 0: each "
        "encoder's process does that beside, and no pixels travel.",
    )
    decode_workers: int = Field(
        default=2, ge=1, le=256, description="Sandboxed decoders of each process that decodes."
    )
    builders: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="Shards of a generation that are built at once. 0: as many as there are CPUs for (beside a service half "
        "of them) and as half of the memory and disk that are left can take.",
    )
    cpus: float | None = Field(
        default=None,
        ge=0,
        le=256,
        description="Logical CPUs that each process reserves of Ray. Default: next to nothing beside a service, whose "
        "searches go first; on a cluster of a job's own one for the encoder, and one for each decoder.",
    )
    max_quarantined: int = Field(
        default=1_000,
        ge=0,
        description="Images that cannot be read or decoded: each is set aside with its reason, and a job that meets more of "
        "them fails.",
    )
    max_rounds: int = Field(
        default=5,
        ge=1,
        le=100,
        description="Rounds over images that came while earlier ones were made; what then still lacks something waits for "
        "the next job.",
    )
    attempts: int = Field(
        default=10,
        ge=1,
        le=1000,
        description="Times in a row that a job may lose its process without a chunk done in between, and times that one "
        "chunk may lose the process that makes it.",
    )
    patience_seconds: int = Field(
        default=300,
        ge=1,
        le=86_400,
        description="Longest time in seconds that an object store which does not answer is asked again.",
    )
    prices: PricesSpec = Field(default=PricesSpec(), description="What machines cost.")

    @model_validator(mode="after")
    def _schedules_have_names_of_their_own(self) -> "ReindexSpec":
        names = [schedule.name for schedule in self.schedules]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"schedules: {twice} is defined twice: keep one")
        return self


class Spec(SpecModel):
    """The desired state of one visual search index."""

    profile: Literal["standard", "small"] = Field(
        default="standard",
        description="`small` runs one replica of everything: less memory, an outage per restart.",
    )
    encoder: EncoderSpec = Field(default=EncoderSpec(), description="The encoder.")
    index: IndexSpec = Field(default=IndexSpec(), description="Sharding and search.")
    gateway: GatewaySpec = Field(default=GatewaySpec(), description="The HTTP front.")
    postgres: PostgresSpec = Field(default=PostgresSpec(), description="Metadata database.")
    storage: StorageSpec = Field(default=StorageSpec(), description="Object store.")
    limits: LimitsSpec = Field(default=LimitsSpec(), description="Limits per request.")
    fetch: FetchSpec = Field(default=FetchSpec(), description="Fetching images by URL.")
    ingest: IngestSpec = Field(
        default=IngestSpec(), description="Taking in pictures from buckets and folders."
    )
    access: AccessSpec = Field(default=AccessSpec(), description="Access control.")
    search_log: SearchLogSpec = Field(default=SearchLogSpec(), description="Search logging.")
    attributes: tuple[AttributeSpec, ...] = Field(
        default=(),
        max_length=64,
        description="Typed attributes that filters may name; other metadata can be filtered by its path.",
    )
    domains: tuple[DomainSpec, ...] = Field(
        default=(),
        max_length=64,
        description="Parts of the images that searches can name, such as clothes, furniture, landmarks.",
    )
    rerank: RerankSpec = Field(default=RerankSpec(), description="Reordering the first hits.")
    reindex: ReindexSpec = Field(
        default=ReindexSpec(), description="Rebuilding the index, and what its generations must reach."
    )
    ray: RaySpec = Field(default=RaySpec(), description="Where the service runs on Kubernetes.")
    generation: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{16}$",
        description="Pins this generation: it is activated, and the API refuses to activate or roll back to another one. "
        "Without it, applying the spec again never changes what is served.",
    )
    suspend: bool = Field(
        default=False,
        description="On Kubernetes: end everything that runs and keep all data, until this is false again.",
    )
    change_policy: Literal["Automatic", "Approve"] = Field(
        default="Automatic",
        description="On Kubernetes: whether a changed spec is carried out at once, or waits until the annotation "
        "`visualindex.dev/approve` repeats the `id` in `status.plan`.",
    )
    deletion_policy: Literal["Retain", "Delete"] = Field(
        default="Retain",
        description="On Kubernetes: what deleting the resource does to its pictures, vectors and rows. `Retain`: a resource "
        "of the same name finds them again.",
    )
    deletion_timeout_seconds: int = Field(
        default=600,
        ge=30,
        le=86_400,
        description="Longest time in seconds that deleting data may hold the resource; what is left is reported then.",
    )

    @model_validator(mode="after")
    def _attributes_have_names_of_their_own(self) -> "Spec":
        names = [attribute.name for attribute in self.attributes]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"attributes: {twice} is declared twice: keep one")
        return self

    @model_validator(mode="after")
    def _domains_have_names_of_their_own(self) -> "Spec":
        names = [domain.name for domain in self.domains]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice:
            raise ValueError(f"domains: {twice} is defined twice: keep one")
        return self

    @model_validator(mode="after")
    def _events_come_from_a_bucket(self) -> "Spec":
        names = [bucket.name for bucket in self.ingest.buckets]
        if len(set(names)) < len(names):
            raise ValueError("ingest.buckets: a name is given twice: keep one")
        events = self.ingest.events
        if events is not None and events.bucket is None and self.storage.s3 is None:
            raise ValueError(
                "ingest.events needs a bucket: name one of ingest.buckets, or configure storage.s3"
            )
        if events is not None and events.bucket is not None and events.bucket not in names:
            raise ValueError("ingest.events.bucket is not a name of ingest.buckets: add it there")
        return self

    @model_validator(mode="after")
    def _patches_can_be_packed(self) -> "Spec":
        shipped = self.encoder.family == "efficientnet-lite0" and self.encoder.checkpoint is None
        if self.rerank.kept and not shipped and self.rerank.projection is None:
            raise ValueError(
                "rerank.projection is required for this encoder: fit one with `visualindex encoder fit-patches`, or set "
                "rerank.mode: never"
            )
        return self

    def replicas(self, wanted: int) -> int:
        """The replica count after the profile: 1 under `small`, else what the field says."""
        return 1 if self.profile == "small" else wanted


class ObjectMeta(BaseModel):
    """Kubernetes object metadata; only the name matters here, the rest passes through."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: Name = Field(description="Name of the index: at most 40 lower-case letters, digits and dashes.")


class VisualIndex(SpecModel):
    """The whole resource, as `kubectl apply` and `visualindex up -f` take it."""

    api_version: Literal["visualindex.dev/v1alpha1"] = Field(description="Always visualindex.dev/v1alpha1.")
    kind: Literal["VisualIndex"] = Field(description="Always VisualIndex.")
    metadata: ObjectMeta = Field(description="Object metadata; `name` is the index name.")
    spec: Spec = Field(default=Spec(), description="Desired state.")

    @property
    def name(self) -> str:
        """The index name."""
        return self.metadata.name
