"""From the spec to a store: the one place that decides between folder and bucket and knows where credentials are."""

import os
from pathlib import Path

from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore.base import ObjectStore
from visualindex.objectstore.local import LocalObjectStore
from visualindex.spec.models import StorageSpec

ACCESS_KEY = "VISUALINDEX_S3_ACCESS_KEY"
SECRET_KEY = "VISUALINDEX_S3_SECRET_KEY"  # noqa: S105 - the name of a variable, not a secret


def open_store(spec: StorageSpec, *, default_folder: Path) -> ObjectStore:
    """The store that `spec` describes; `default_folder` serves when it names neither folder nor bucket.

    Raises `ProblemError` UNAVAILABLE when the folder cannot be used or the bucket's credentials are not in the
    environment. Whether a bucket answers is for `ObjectStore.check` to say.
    """
    if spec.s3 is None:
        return LocalObjectStore(Path(spec.folder).expanduser() if spec.folder else default_folder)
    from visualindex.objectstore.s3 import S3ObjectStore  # its client takes a third of a second to import

    return S3ObjectStore(spec.s3, _credential(ACCESS_KEY), _credential(SECRET_KEY))


def _credential(variable: str) -> str:
    value = os.environ.get(variable, "")
    if not value:
        raise ProblemError(
            ProblemType.UNAVAILABLE,
            f"storage.s3 is configured but {variable} is not set: set {ACCESS_KEY} and {SECRET_KEY} in the environment, "
            "or on a cluster name a Secret in storage.s3.credentialsSecretRef",
        )
    return value
