"""Fetches one object into a file: model weights and projections of clusters without access to a model hub."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from minio import Minio
from minio.error import MinioException
from urllib3.exceptions import HTTPError

from visualindex.credentials import ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE, Credentials
from visualindex.errors import ProblemError, ProblemType
from visualindex.spec.models import S3Spec


def download(
    url: str, path: Path, *, s3: S3Spec | None = None, credentials: Credentials | None = None
) -> None:
    """Fetch `s3://bucket/key` into `path`, whole or not at all. Blocks.

    The endpoint is that of VISUALINDEX_S3_ENDPOINT (`https://host:port`), else of the index's own store `s3`; without
    `credentials` VISUALINDEX_S3_ACCESS_KEY and VISUALINDEX_S3_SECRET_KEY are read. Raises ProblemError UNAVAILABLE naming
    what is wrong.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc or not parts.path.strip("/"):
        raise _unavailable(url, "is not of the form s3://bucket/key")
    partial = path.with_suffix(path.suffix + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _client(url, s3, credentials).fget_object(parts.netloc, parts.path.lstrip("/"), str(partial))
    except (MinioException, HTTPError, OSError) as exc:
        raise _unavailable(url, f"cannot be fetched: {exc}") from exc
    partial.replace(path)


def _client(url: str, s3: S3Spec | None, credentials: Credentials | None) -> Minio:
    endpoint = os.environ.get("VISUALINDEX_S3_ENDPOINT") or _endpoint(s3)
    if not endpoint:
        raise _unavailable(
            url,
            "needs the environment variable VISUALINDEX_S3_ENDPOINT, e.g. https://minio:9000, or storage.s3",
        )
    parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    keys = credentials or Credentials(
        "", os.environ.get(ACCESS_KEY_VARIABLE), os.environ.get(SECRET_KEY_VARIABLE)
    )
    return Minio(
        parts.netloc,
        access_key=keys.access_key,
        secret_key=keys.secret_key,
        secure=parts.scheme == "https",
        region=s3.region if s3 and not os.environ.get("VISUALINDEX_S3_ENDPOINT") else None,
    )


def _endpoint(s3: S3Spec | None) -> str | None:
    return None if s3 is None else f"{'https' if s3.secure else 'http'}://{s3.endpoint}"


def _unavailable(url: str, why: str) -> ProblemError:
    return ProblemError(ProblemType.UNAVAILABLE, f"{url} {why}.")
