"""From the spec to a store: the one place that decides between folder and bucket."""

from pathlib import Path

from visualindex.credentials import ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE, Credentials
from visualindex.errors import ProblemError, ProblemType
from visualindex.objectstore.base import ObjectStore
from visualindex.objectstore.local import LocalObjectStore
from visualindex.spec.models import StorageSpec


def open_store(spec: StorageSpec, *, default_folder: Path, credentials: Credentials) -> ObjectStore:
    """The store that `spec` describes; `default_folder` serves when it names neither folder nor bucket.

    Raises `ProblemError` UNAVAILABLE when the folder cannot be used or `credentials` has no keys for the bucket. Whether
    a bucket answers is for `ObjectStore.check` to say.
    """
    if spec.s3 is None:
        return LocalObjectStore(Path(spec.folder).expanduser() if spec.folder else default_folder)
    from visualindex.objectstore.s3 import S3ObjectStore  # its client takes a third of a second to import

    access_key = _given(credentials.access_key, ACCESS_KEY_VARIABLE)
    return S3ObjectStore(spec.s3, access_key, _given(credentials.secret_key, SECRET_KEY_VARIABLE))


def _given(value: str | None, variable: str) -> str:
    if not value:
        raise ProblemError(
            ProblemType.UNAVAILABLE,
            f"storage.s3 is configured but {variable} is not set: set {ACCESS_KEY_VARIABLE} and "
            f"{SECRET_KEY_VARIABLE} in the environment, "
            "or on a cluster name a Secret in storage.s3.credentialsSecretRef",
        )
    return value
