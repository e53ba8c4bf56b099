"""What an index needs to open its database and its bucket, and how it travels to a replica on a cluster.

A Secret with an entry per value is mounted as files. The kubelet brings files up to date within a minute or two of a
change, and old replicas go on serving meanwhile: a new replica is told the digest of the values it is to use, and waits
until the files are those.
"""

import asyncio
import hashlib
import json
import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from visualindex.errors import ProblemError, ProblemType

FILES_VARIABLE = "VISUALINDEX_CREDENTIALS"
"""Names the files, without their endings: /etc/visualindex/credentials/NAME."""
DIGEST_VARIABLE = "VISUALINDEX_CREDENTIALS_DIGEST"
DSN_VARIABLE = "VISUALINDEX_POSTGRES_DSN"
ACCESS_KEY_VARIABLE = "VISUALINDEX_S3_ACCESS_KEY"
SECRET_KEY_VARIABLE = "VISUALINDEX_S3_SECRET_KEY"  # noqa: S105 - the name of a variable, not a secret
DIRECTORY = "/etc/visualindex/credentials"
"""Where a cluster's pods have the files."""
PATIENCE_S = 180.0
_LOOK_AGAIN_S = 1.0
_BUCKET_VARIABLE = re.compile(r"VISUALINDEX_INGEST_([A-Z0-9_]+)_ACCESS_KEY")


@dataclass(frozen=True)
class BucketKeys:
    """The keys of a bucket that pictures are taken from, by the name that `spec.ingest.buckets` gives it."""

    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)

    def environment(self) -> dict[str, str]:
        """The variables that hold the values themselves."""
        values = zip(bucket_variables(self.bucket), (self.access_key, self.secret_key), strict=True)
        return dict(values)


def bucket_variables(bucket: str) -> tuple[str, str]:
    """The variables with the keys of a bucket of that name."""
    prefix = f"VISUALINDEX_INGEST_{bucket.upper().replace('-', '_')}"
    return f"{prefix}_ACCESS_KEY", f"{prefix}_SECRET_KEY"


@dataclass(frozen=True)
class Credentials:
    """The database's address, and the bucket's keys where there is one. Not shown in a `repr`.

    White space around a value is no part of it: Secrets made from files end with a newline.
    """

    dsn: str = field(repr=False)
    access_key: str | None = field(default=None, repr=False)
    secret_key: str | None = field(default=None, repr=False)
    buckets: tuple[BucketKeys, ...] = field(default=(), repr=False)
    """Of the buckets that pictures are taken from, those with keys of their own."""

    def __post_init__(self) -> None:
        """Strip the values, and count an empty key as none."""
        object.__setattr__(self, "dsn", self.dsn.strip())
        object.__setattr__(self, "access_key", (self.access_key or "").strip() or None)
        object.__setattr__(self, "secret_key", (self.secret_key or "").strip() or None)

    def digest(self) -> str:
        """SHA-256 over all values, in hexadecimal."""
        buckets = [self._buckets()] if self.buckets else []
        values = json.dumps([self.dsn, self.access_key, self.secret_key, *buckets])
        return hashlib.sha256(values.encode()).hexdigest()

    def entries(self, index: str) -> dict[str, str]:
        """The entries of a cluster's Secret that hold an index's credentials."""
        values = (self.dsn, self.access_key, self.secret_key)
        names = entry_names(index)
        found = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        return found | ({buckets_entry(index): self._buckets()} if self.buckets else {})

    def environment(self) -> dict[str, str]:
        """The variables that hold the values themselves, where no file can be mounted."""
        values = {
            DSN_VARIABLE: self.dsn,
            ACCESS_KEY_VARIABLE: self.access_key,
            SECRET_KEY_VARIABLE: self.secret_key,
        }
        given = {name: value for name, value in values.items() if value is not None}
        for bucket in self.buckets:
            given |= bucket.environment()
        return given

    def _buckets(self) -> str:
        ordered = sorted(self.buckets, key=lambda one: one.bucket)
        return json.dumps({one.bucket: [one.access_key, one.secret_key] for one in ordered})


def buckets_entry(index: str) -> str:
    """The Secret's key with the keys of the buckets that pictures are taken from: a JSON object, by bucket."""
    return f"{index}.buckets"


def read_buckets(text: str | None) -> tuple[BucketKeys, ...]:
    """The keys in such an entry; none without."""
    named = json.loads(text) if text else {}
    return tuple(BucketKeys(bucket, *keys) for bucket, keys in sorted(named.items()))


def buckets_told(variables: Mapping[str, str]) -> tuple[BucketKeys, ...]:
    """The keys of buckets that are in variables: what `BucketKeys.environment` made of them."""
    found = []
    for variable in sorted(variables):
        told = _BUCKET_VARIABLE.fullmatch(variable)
        if told is not None:
            bucket = told[1].lower().replace("_", "-")
            access_key, secret_key = (variables.get(name, "") for name in bucket_variables(bucket))
            found.append(BucketKeys(bucket, access_key, secret_key))
    return tuple(found)


def entry_names(index: str) -> tuple[str, str, str]:
    """The Secret's keys of an index: database, access key, secret key."""
    return f"{index}.dsn", f"{index}.accessKey", f"{index}.secretKey"


def files_environment(index: str, credentials: Credentials) -> dict[str, str]:
    """The variables that name an index's mounted files and what is to be in them."""
    return {FILES_VARIABLE: f"{DIRECTORY}/{index}", DIGEST_VARIABLE: credentials.digest()}


async def from_environment(environment: Mapping[str, str] = os.environ) -> Credentials:
    """The credentials of this process: of the files it is told of, else out of its variables.

    Raises ProblemError UNAVAILABLE when the files do not become those of the digest in three minutes, or when neither
    is given.
    """
    prefix = environment.get(FILES_VARIABLE)
    if prefix is not None:
        return await read(Path(prefix), environment.get(DIGEST_VARIABLE))
    dsn = environment.get(DSN_VARIABLE)
    if not dsn:
        detail = f"Neither {FILES_VARIABLE} nor {DSN_VARIABLE} is set: this process has no database to open."
        raise ProblemError(ProblemType.UNAVAILABLE, detail)
    return Credentials(dsn, environment.get(ACCESS_KEY_VARIABLE), environment.get(SECRET_KEY_VARIABLE))


async def read(prefix: Path, digest: str | None, *, patience_s: float = PATIENCE_S) -> Credentials:
    """The credentials in PREFIX.dsn, .accessKey, .secretKey and .buckets, once their digest is `digest` (None: any).

    Raises ProblemError UNAVAILABLE when that has not come true after `patience_s` seconds.
    """
    until = time.monotonic() + patience_s
    while True:
        found = await asyncio.to_thread(_read, prefix)
        if found is not None and digest in (None, found.digest()):
            return found
        if time.monotonic() >= until:
            raise _not_there(prefix, found, patience_s)
        await asyncio.sleep(_LOOK_AGAIN_S)


def _read(prefix: Path) -> Credentials | None:
    dsn, access_key, secret_key = (_text(prefix.with_name(name)) for name in entry_names(prefix.name))
    buckets = read_buckets(_text(prefix.with_name(buckets_entry(prefix.name))))
    return None if dsn is None else Credentials(dsn, access_key, secret_key, buckets)


def _text(file: Path) -> str | None:
    try:
        return file.read_text()
    except FileNotFoundError:
        return None


def _not_there(prefix: Path, found: Credentials | None, patience_s: float) -> ProblemError:
    what = (
        f"{prefix}.dsn is missing"
        if found is None
        else f"{prefix}.* are not the files of this deployment's digest"
    )
    detail = f"{what}, after {patience_s:g} s: is the cluster's Secret mounted, and does it have entries of this index?"
    return ProblemError(ProblemType.UNAVAILABLE, detail)
