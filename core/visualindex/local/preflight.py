"""What a local service cannot run, found before anything is started: starting takes a while, and its errors are far away.

Only looks: nothing here imports a runtime or touches a device.
"""

import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

from visualindex.credentials import ACCESS_KEY_VARIABLE as ACCESS_KEY
from visualindex.credentials import SECRET_KEY_VARIABLE as SECRET_KEY
from visualindex.credentials import bucket_variables
from visualindex.errors import ProblemError, ProblemType
from visualindex.footprint import shard_gpus
from visualindex.spec import VisualIndex
from visualindex.spec.models import EncoderSpec

_TORCH_PACKAGES = {"open_clip": "open_clip", "timm": "timm"}
"""What a family on torch imports besides torch."""
_WITHOUT_GPUS = (
    "set encoder.device: cpu and encoder.numGpus: 0 (with encoder.precision: auto), and index.numGpus: 0"
)


def refuse_unrunnable(resources: list[VisualIndex], gpus: int | None = None) -> list[str]:
    """Raise ProblemError for specs that this machine cannot run; returns lines on what of the specs is ignored here.

    `gpus` is the number of GPUs here; None counts them.
    """
    for resource in resources:
        _refuse_secret_dsn(resource)
        _refuse_missing_credentials(resource)
        _refuse_missing_runtime(resource)
    _refuse_missing_gpus(resources, gpus)
    return [line for resource in resources for line in _ignored(resource)]


def _refuse_secret_dsn(resource: VisualIndex) -> None:
    """The embedded database in its place would be another one than the user means."""
    if resource.spec.postgres.dsn_secret_ref:
        raise _invalid(
            resource,
            "postgres.dsnSecretRef names a Secret of a cluster, and there is none here: write the connection string "
            "into postgres.dsn, or remove it to use the embedded Postgres",
        )


def _refuse_missing_credentials(resource: VisualIndex) -> None:
    absent = [name for name in (ACCESS_KEY, SECRET_KEY) if not os.environ.get(name)]
    if resource.spec.storage.s3 and absent:
        raise _invalid(
            resource,
            f"storage.s3 needs its credentials in the environment: set {' and '.join(absent)}, "
            "or remove storage.s3 to keep pictures in the state folder",
        )


def _refuse_missing_runtime(resource: VisualIndex) -> None:
    from visualindex.encoders.base import EncoderConfigError  # takes a quarter of a second to import
    from visualindex.encoders.placement import placement_of

    try:
        runtime = placement_of(resource.spec.encoder).runtime
    except EncoderConfigError as error:
        raise _invalid(resource, str(error)) from error
    family = resource.spec.encoder.family
    needed = [runtime, *([_TORCH_PACKAGES[family]] if family in _TORCH_PACKAGES else [])]
    absent = [module for module in needed if importlib.util.find_spec(module) is None]
    if absent:
        extra = "torch" if runtime == "torch" else "cpu"
        what = f"encoder {family} needs {' and '.join(absent)}, not installed here"
        raise _invalid(resource, f"{what}: pip install 'visualindex[{extra}]'")


def _refuse_missing_gpus(resources: list[VisualIndex], gpus: int | None) -> None:
    wanting = [r for r in resources if _on_gpu(r.spec.encoder) or r.spec.index.num_gpus]
    if not wanting:
        return
    here = count_gpus() if gpus is None else gpus
    encoders = sum(r.spec.encoder.num_gpus * r.spec.replicas(r.spec.encoder.replicas) for r in wanting)
    needed = encoders + sum(shard_gpus(r.spec) for r in wanting)
    if here == 0:
        raise _invalid(wanting[0], f"{_gpu_wanted(wanting[0])}, and this machine has none: {_WITHOUT_GPUS}")
    if needed > here:
        remedy = "lower numGpus or replicas of encoder or index"
        raise _invalid(
            wanting[0],
            f"encoders and shards want {needed:g} GPUs together, and this machine has {here}: {remedy}",
        )


def _gpu_wanted(resource: VisualIndex) -> str:
    return f"{'the encoder' if _on_gpu(resource.spec.encoder) else 'a shard'} wants a GPU"


def _on_gpu(encoder: EncoderSpec) -> bool:
    return encoder.num_gpus > 0 or encoder.device == "cuda"


def count_gpus(devices: Path = Path("/dev")) -> int:
    """NVIDIA GPUs that processes started here may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len(list(devices.glob("nvidia[0-9]*"))) or _listed_gpus()


def _listed_gpus() -> int:
    """What nvidia-smi lists: under WSL there are GPUs without device files of their own."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return 0
    try:
        listed = subprocess.run([command, "-L"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    return sum(line.startswith("GPU ") for line in listed.stdout.splitlines())


def _ignored(resource: VisualIndex) -> list[str]:
    s3 = resource.spec.storage.s3
    lines = []
    if s3 is not None and s3.credentials_secret_ref is not None:
        variables = f"{ACCESS_KEY} and {SECRET_KEY}"
        lines.append(
            f"index {resource.name}: storage.s3.credentialsSecretRef is ignored here, {variables} are used"
        )
    for bucket in resource.spec.ingest.buckets:
        if bucket.credentials_secret_ref is not None:
            variables = " and ".join(bucket_variables(bucket.name))
            where = f"ingest.buckets, {bucket.name}: credentialsSecretRef"
            lines.append(f"index {resource.name}: {where} is ignored here, {variables} are used")
    return lines


def _invalid(resource: VisualIndex, why: str) -> ProblemError:
    return ProblemError(ProblemType.INVALID_REQUEST, f"Index {resource.name}: {why}.")
