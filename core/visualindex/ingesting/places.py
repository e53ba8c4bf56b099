"""Where pictures may be read from: the buckets and folders that the spec names, and nothing else."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from visualindex.credentials import Credentials, bucket_variables
from visualindex.errors import ProblemError, ProblemType
from visualindex.ingesting.naming import is_own
from visualindex.objectstore.sources import FolderObjects, SourceObjects
from visualindex.spec import Spec
from visualindex.spec.models import IngestBucketSpec, S3Spec

_SCHEME = "s3://"


@dataclass(frozen=True)
class NamedBucket:
    """A bucket and what locations call it; `declared` in `spec.ingest.buckets`, or the index's own."""

    name: str
    s3: S3Spec
    declared: bool
    own_keys: bool = False
    """Whether the spec says that it has keys of its own: those of the index's bucket are not tried then."""


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
            bucket = find_bucket(self._spec, name)
            own = partial(is_own, self._spec.storage.s3, bucket.s3)
            return Located(self._bucket(bucket), key, bucket.s3, own)
        path = Path(location.removeprefix("file://"))
        if not path.is_absolute():
            detail = f"{location} is neither s3://BUCKET/key nor an absolute path"
            raise ProblemError(ProblemType.INVALID_REQUEST, detail)
        return self._in_folder(path, location)

    async def close(self) -> None:
        """Close what was opened."""
        for objects in self._open.values():
            await objects.close()

    def _bucket(self, bucket: NamedBucket) -> SourceObjects:
        if bucket.name not in self._open:
            from visualindex.objectstore.source_bucket import (
                BucketObjects,  # its client is slow to import
            )

            access_key, secret_key = bucket_keys(bucket, self._credentials, self._environment)
            self._open[bucket.name] = BucketObjects(bucket.s3, access_key, secret_key)
        return self._open[bucket.name]

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


def find_bucket(spec: Spec, name: str | None) -> NamedBucket:
    """The bucket of that name, None for the index's own. Raises ProblemError FORBIDDEN when the spec names none."""
    known = {bucket.name: _declared(bucket) for bucket in spec.ingest.buckets}
    if spec.storage.s3 is not None:
        own = NamedBucket(spec.storage.s3.bucket, spec.storage.s3, declared=False)
        if name is None:
            return own
        known.setdefault(own.name, own)
    if name is None or name not in known:
        told = ", ".join(known) or "there is none"
        detail = f"pictures may not be taken from bucket {name!r} ({told}): add it to spec.ingest.buckets"
        raise ProblemError(ProblemType.FORBIDDEN, detail)
    return known[name]


def bucket_keys(
    bucket: NamedBucket, credentials: Credentials, environment: Mapping[str, str]
) -> tuple[str, str]:
    """Access key and secret key: the bucket's own from variables, files or a Secret, else those of the index's store.

    Raises ProblemError UNAVAILABLE where there are none.
    """
    variables = bucket_variables(bucket.name)
    for access_key, secret_key in _candidates(bucket, credentials, environment, variables):
        if access_key and secret_key:
            return access_key, secret_key
        if access_key or secret_key:
            break
    names = " and ".join(variables)
    detail = (
        f"bucket {bucket.name} has no credentials here: set {names}, or with _FILE behind them name files"
    )
    raise ProblemError(ProblemType.UNAVAILABLE, detail)


def _candidates(
    bucket: NamedBucket,
    credentials: Credentials,
    environment: Mapping[str, str],
    variables: tuple[str, str],
) -> Iterator[tuple[str | None, str | None]]:
    if bucket.declared:
        access_key, secret_key = (_value(environment, variable) for variable in variables)
        yield access_key, secret_key
        yield from (
            (one.access_key, one.secret_key) for one in credentials.buckets if one.bucket == bucket.name
        )
    if not bucket.own_keys:
        yield credentials.access_key, credentials.secret_key


def _declared(bucket: IngestBucketSpec) -> NamedBucket:
    s3 = S3Spec(endpoint=bucket.endpoint, bucket=bucket.bucket, region=bucket.region, secure=bucket.secure)
    return NamedBucket(bucket.name, s3, declared=True, own_keys=bucket.credentials_secret_ref is not None)


def _value(environment: Mapping[str, str], variable: str) -> str | None:
    """What a variable holds, or the file that VARIABLE_FILE names. Raises ProblemError UNAVAILABLE naming that file."""
    file = environment.get(f"{variable}_FILE")
    if environment.get(variable) or not file:
        return environment.get(variable)
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        detail = f"{variable}_FILE names {file}, which cannot be read: {error.strerror or error}"
        raise ProblemError(ProblemType.UNAVAILABLE, detail) from None


def _nothing(_: str) -> bool:
    return False
