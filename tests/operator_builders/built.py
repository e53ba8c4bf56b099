"""Manifests as the operator builds them, for tests that look at them, and the golden files of some.

`python -m tests.operator_builders.built` writes the golden files anew.
"""

from pathlib import Path
from typing import Any

import yaml

from visualindex.credentials import Credentials
from visualindex.planning.plan import Serve, Served, route_prefix
from visualindex.planning.shape import cluster_shape, resolved
from visualindex.spec import Spec
from visualindex_operator.rayservice import ray_service
from visualindex_operator.settings import Settings

Manifest = dict[str, Any]
SETTINGS = Settings(image="visualindex:1", image_pull_policy="IfNotPresent", ray_version="2.60.0")
DATABASE = {"dsn_secret_ref": {"name": "database", "key": "dsn"}}
BUCKET = {"s3": {"endpoint": "minio:9000", "bucket": "pictures", "credentials_secret_ref": "bucket-keys"}}
LONGEST_NAME = "a" + 38 * "-" + "z"
GOLDEN = Path(__file__).with_name("golden")
CLIP = {"family": "open_clip", "model": "ViT-B-32", "checkpoint": "hub:laion2b_s34b_b79k", "dimension": 512}


def spec(**sections: Any) -> Spec:
    """A spec as the operator sees it: with a database and a bucket, and completed by the installation."""
    whole = {"postgres": DATABASE, "storage": BUCKET, **sections}
    return resolved(Spec.model_validate(whole), SETTINGS.image)


def owner(name: str = "shop") -> Manifest:
    """A resource, as far as owner references go."""
    return {"metadata": {"name": name, "namespace": "search", "uid": f"uid-of-{name}"}}


def serve(cluster: str = "shop", **indexes: Spec) -> Serve:
    """The action that has these indexes served."""
    found = tuple(Served(name, one, route_prefix(name, cluster), True) for name, one in indexes.items())
    return Serve(found, cluster_shape([one.resource for one in found]))


def built(cluster: str = "shop", **indexes: Spec) -> Manifest:
    """The RayService of a cluster with these indexes."""
    action = serve(cluster, **indexes)
    credentials = {name: Credentials(f"postgresql://{name}", "access", "secret") for name in indexes}
    return ray_service("search", cluster, action, [owner(name) for name in indexes], credentials, SETTINGS)


def golden() -> dict[str, Manifest]:
    """What the golden files hold."""
    gpu = spec(
        encoder={**CLIP, "num_gpus": 0.5, "replicas": 4},
        ray={"gpu_workers": {"node_selector": {"pool": "gpu"}, "tolerations": [{"key": "nvidia.com/gpu"}]}},
    )
    by_role = spec(index={"shards": 3}, ray={"workers": {"layout": "ByRole", "max_replicas": 12}})
    return {
        "default": built(shop=spec()),
        "gpu": built(shop=gpu),
        "by-role": built(shop=by_role),
        "shared": built(shop=spec(), side=spec(index={"memory_per_shard": "512Mi"})),
    }


def text_of(manifest: Manifest) -> str:
    """A manifest as it is kept: the Serve configuration inside of it as a block that can be read."""
    dumper = type("Dumper", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True})
    dumper.add_representer(str, _represented)  # type: ignore[attr-defined]
    return yaml.dump(manifest, Dumper=dumper, sort_keys=True, width=110)


def _represented(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


def main() -> None:
    """Write the golden files."""
    for name, manifest in golden().items():
        (GOLDEN / f"{name}.yaml").write_text(text_of(manifest))


if __name__ == "__main__":
    main()
