"""Fetches one object into a file: model weights and projections of clusters without access to a model hub."""

import os
from pathlib import Path
from urllib.parse import urlsplit

from minio import Minio
from minio.error import MinioException
from urllib3.exceptions import HTTPError

from visualindex.errors import ProblemError, ProblemType


def download(url: str, path: Path) -> None:
    """Fetch `s3://bucket/key` into `path`, whole or not at all. Blocks.

    The endpoint comes from VISUALINDEX_S3_ENDPOINT (`https://host:port`), credentials from VISUALINDEX_S3_ACCESS_KEY
    and VISUALINDEX_S3_SECRET_KEY. Raises ProblemError UNAVAILABLE naming what is wrong.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3" or not parts.netloc or not parts.path.strip("/"):
        raise _unavailable(url, "is not of the form s3://bucket/key")
    partial = path.with_suffix(path.suffix + ".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        _client(url).fget_object(parts.netloc, parts.path.lstrip("/"), str(partial))
    except (MinioException, HTTPError, OSError) as exc:
        raise _unavailable(url, f"cannot be fetched: {exc}") from exc
    partial.replace(path)


def _client(url: str) -> Minio:
    endpoint = os.environ.get("VISUALINDEX_S3_ENDPOINT")
    if not endpoint:
        raise _unavailable(
            url, "needs the environment variable VISUALINDEX_S3_ENDPOINT, e.g. https://minio:9000"
        )
    parts = urlsplit(endpoint if "://" in endpoint else f"https://{endpoint}")
    return Minio(
        parts.netloc,
        access_key=os.environ.get("VISUALINDEX_S3_ACCESS_KEY"),
        secret_key=os.environ.get("VISUALINDEX_S3_SECRET_KEY"),
        secure=parts.scheme == "https",
    )


def _unavailable(url: str, why: str) -> ProblemError:
    return ProblemError(ProblemType.UNAVAILABLE, f"{url} {why}.")
