"""Where pictures may be read from: the buckets and folders that the spec names, and nothing else."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from visualindex.credentials import Credentials
from visualindex.errors import ProblemError, ProblemType
from visualindex.ingesting.naming import is_own
from visualindex.objectstore.sources import FolderObjects, SourceObjects
from visualindex.spec import Spec
from visualindex.spec.models import IngestBucketSpec, S3Spec

_SCHEME = "s3://"


@dataclass(frozen=True)
class Located:
    """What a location means: objects, the key below which, and which of them are the service's own."""

    objects: SourceObjects
    key: str
    bucket: S3Spec | None
    own: Callable[[str], bool]


class Places:
    """Opens each bucket or folder once."""

    def __init__(
        self,
        spec: Spec,
        credentials: Credentials,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        self._spec = spec
        self._credentials = credentials
        self._environment = environment
        self._open: dict[str, SourceObjects] = {}

    def locate(self, location: str) -> Located:
        """What `s3://BUCKET/key` or an absolute path means. Raises ProblemError FORBIDDEN for what the spec does not name,
        INVALID_REQUEST for what is neither."""
        if location.startswith(_SCHEME):
            name, _, key = location.removeprefix(_SCHEME).partition("/")
            spec = find_bucket(self._spec, name)
            return Located(self._bucket(spec), key, spec, partial(is_own, self._spec.storage.s3, spec))
        path = Path(location.removeprefix("file://"))
        if not path.is_absolute():
            detail = f"{location} is neither s3://BUCKET/key nor an absolute path"
            raise ProblemError(ProblemType.INVALID_REQUEST, detail)
        return self._in_folder(path, location)

    async def close(self) -> None:
        """Close what was opened."""
        for objects in self._open.values():
            await objects.close()

    def _bucket(self, spec: S3Spec) -> SourceObjects:
        name = f"{spec.endpoint}/{spec.bucket}"
        if name not in self._open:
            from visualindex.objectstore.source_bucket import (
                BucketObjects,  # its client is slow to import
            )

            access_key, secret_key = self._keys(spec)
            self._open[name] = BucketObjects(spec, access_key, secret_key)
        return self._open[name]

    def _keys(self, spec: S3Spec) -> tuple[str, str]:
        access_key, secret_key = self._credentials.access_key, self._credentials.secret_key
        if isinstance(spec, IngestBucketSpec):
            variable = f"VISUALINDEX_INGEST_{spec.name.upper().replace('-', '_')}"
            access_key = self._environment.get(f"{variable}_ACCESS_KEY") or access_key
            secret_key = self._environment.get(f"{variable}_SECRET_KEY") or secret_key
        if not access_key or not secret_key:
            detail = f"bucket {spec.bucket} at {spec.endpoint} has no credentials here: set them as docs/ingest.md says"
            raise ProblemError(ProblemType.UNAVAILABLE, detail)
        return access_key, secret_key

    def _in_folder(self, path: Path, location: str) -> Located:
        resolved = path.resolve()
        for root in self._spec.ingest.folders:
            if resolved.is_relative_to(Path(root).resolve()):
                objects = self._open.setdefault(root, FolderObjects(Path(root)))
                below = resolved.relative_to(Path(root).resolve()).as_posix()
                key = "" if below == "." else f"{below}/" if resolved.is_dir() else below
                return Located(objects, key, None, _nothing)
        allowed = ", ".join(self._spec.ingest.folders) or "it names none"
        detail = f"{location} lies in no folder of spec.ingest.folders ({allowed})"
        raise ProblemError(ProblemType.FORBIDDEN, detail)


def find_bucket(spec: Spec, name: str) -> S3Spec:
    """The bucket of that name; empty means the index's own. Raises ProblemError FORBIDDEN when the spec names none."""
    own = spec.storage.s3
    for bucket in spec.ingest.buckets:
        if name == bucket.name:
            return bucket
    for one in (own, *spec.ingest.buckets):
        if one is not None and name in (one.bucket, "" if one is own else one.bucket):
            return one
    known = [bucket.name for bucket in spec.ingest.buckets] + ([own.bucket] if own is not None else [])
    told = ", ".join(known) or "there is none"
    detail = f"pictures may not be taken from bucket {name!r} ({told}): add it to spec.ingest.buckets"
    raise ProblemError(ProblemType.FORBIDDEN, detail)


def _nothing(_: str) -> bool:
    return False
