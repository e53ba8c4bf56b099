"""What an index needs before it can serve: its Secrets, its database, its object store, and a migrated schema."""

import asyncio
import base64
import binascii
import time
from collections.abc import Mapping
from dataclasses import dataclass

from visualindex.catalog.inspection import Inspection
from visualindex.credentials import BucketKeys, Credentials
from visualindex.planning.conditions import Reason
from visualindex.planning.observations import Check
from visualindex.spec import Spec
from visualindex.spec.models import SecretKeyRef
from visualindex_operator import names
from visualindex_operator.kube import Kube, Manifest
from visualindex_operator.probes import Clock, Probes, Remembered

_SECRET_S = 8.0
_OWN_SECRET_S = 4.0
_GOOD_S, _BAD_S = 15.0, 4.0
_STORE_S = 30.0

SecretData = Mapping[str, str]


@dataclass(frozen=True)
class Checked:
    """The outcome for one index. `credentials` is None unless every Secret has what it should have."""

    metadata: Check
    storage: Check
    keys: Check
    redis: Check
    credentials: Credentials | None = None
    keys_digest: str = ""
    inspection: Inspection | None = None


@dataclass(frozen=True)
class Missing:
    """A value that could not be had, as the check that failed."""

    check: Check


class DependencyChecks:
    """Reads Secrets and asks databases and stores, each no more often than it can have changed."""

    def __init__(self, kube: Kube, probes: Probes, clock: Clock = time.monotonic) -> None:
        self._kube, self._probes = kube, probes
        self._remembered = Remembered(clock)

    async def check(self, namespace: str, index: str, spec: Spec) -> Checked:
        """Everything about one index. Raises KubeError when the API server does not tell."""
        dsn, keys, pair, buckets = await asyncio.gather(
            self._dsn(namespace, spec),
            self._keys(namespace, index, spec),
            self._s3(namespace, spec),
            self._buckets(namespace, spec),
        )
        (metadata, inspection), storage, redis = await asyncio.gather(
            self._database(index, dsn), self._storage(spec, pair), self._redis(namespace, spec)
        )
        return Checked(
            metadata=metadata,
            storage=buckets.check if isinstance(buckets, Missing) and storage.ok else storage,
            keys=keys.check if isinstance(keys, Missing) else Check(True, Reason.CONNECTED),
            redis=redis,
            credentials=_complete(dsn, pair, buckets),
            keys_digest="" if isinstance(keys, Missing) else names.digest(dict(keys)),
            inspection=inspection,
        )

    async def secret(self, namespace: str, name: str, *, own: bool = False) -> SecretData | None:
        """The data of a Secret, in base64; None when there is none."""
        found = await self.whole_secret(namespace, name, own=own)
        return None if found is None else dict(found.get("data") or {})

    async def whole_secret(self, namespace: str, name: str, *, own: bool = False) -> Manifest | None:
        """A Secret; `own` is for those of the operator, which every look has to compare with what they should be."""

        async def ask() -> Manifest | None:
            return await self._kube.get("Secret", namespace, name)

        return await self._remembered.get(
            ("secret", namespace, name),
            ask,
            good_s=_OWN_SECRET_S if own else _SECRET_S,
            bad_s=2.0,
            bad=lambda found: found is None,
        )

    def forget_secret(self, namespace: str, name: str) -> None:
        """Read a Secret again that the operator has just written."""
        self._remembered.forget(("secret", namespace, name))

    async def value(self, namespace: str, reference: SecretKeyRef, what: str) -> str | Missing:
        """One value of a Secret, or the check that failed; `what` names the field that refers to it."""
        data = await self.secret(namespace, reference.name)
        if data is None:
            return Missing(_no_secret(reference.name, what))
        if reference.key not in data:
            return Missing(_no_key(reference.name, reference.key, what, data))
        text = decoded(data[reference.key])
        if text is None:
            message = f"Secret {reference.name}, key {reference.key} is not text: store the plain value"
            return Missing(Check(False, Reason.SECRET_KEY_MISSING, message))
        return text

    async def _dsn(self, namespace: str, spec: Spec) -> str | Missing:
        if spec.postgres.dsn_secret_ref is not None:
            return await self.value(namespace, spec.postgres.dsn_secret_ref, "spec.postgres.dsnSecretRef")
        if spec.postgres.dsn:
            return spec.postgres.dsn
        message = (
            "a database is needed: name a Secret with its connection string in spec.postgres.dsnSecretRef"
        )
        return Missing(Check(False, Reason.NOT_CONFIGURED, message))

    async def _keys(self, namespace: str, index: str, spec: Spec) -> SecretData | Missing:
        name = spec.access.keys_secret_ref or names.api_keys_secret(index)
        data = await self.secret(namespace, name)
        if data is None:
            return Missing(_no_secret(name, "spec.access.keysSecretRef"))
        if not data:
            message = f"Secret {name} has no entry: add an API key (vi_…) under any name"
            return Missing(Check(False, Reason.SECRET_KEY_MISSING, message))
        return data

    async def _s3(self, namespace: str, spec: Spec) -> tuple[str | None, str | None] | Missing:
        s3 = spec.storage.s3
        if s3 is None:
            return (None, None)
        where = "spec.storage.s3.credentialsSecretRef"
        if s3.credentials_secret_ref is None:
            message = f"the bucket's keys are needed: name a Secret with accessKey and secretKey in {where}"
            return Missing(Check(False, Reason.NOT_CONFIGURED, message))
        name = s3.credentials_secret_ref
        found = [
            await self.value(namespace, SecretKeyRef(name=name, key=key), where)
            for key in ("accessKey", "secretKey")
        ]
        for value in found:
            if isinstance(value, Missing):
                return value
        access, secret = found
        return (str(access), str(secret))

    async def _buckets(self, namespace: str, spec: Spec) -> tuple[BucketKeys, ...] | Missing:
        """The keys of the buckets that pictures are taken from, where they have their own."""
        found = []
        for bucket in spec.ingest.buckets:
            reference = bucket.credentials_secret_ref
            if reference is None:
                continue
            where = f"spec.ingest.buckets, {bucket.name}: credentialsSecretRef"
            pair = []
            for key in (reference.access_key, reference.secret_key):
                value = await self.value(namespace, SecretKeyRef(name=reference.name, key=key), where)
                if isinstance(value, Missing):
                    return value
                pair.append(value)
            found.append(BucketKeys(bucket.name, *pair))
        return tuple(found)

    async def _database(self, index: str, dsn: str | Missing) -> tuple[Check, Inspection | None]:
        if isinstance(dsn, Missing):
            return dsn.check, None

        async def ask() -> Inspection | str:
            return await self._probes.database(dsn, index)

        key = ("database", dsn, index)
        found = await self._remembered.get(
            key, ask, good_s=_GOOD_S, bad_s=_BAD_S, bad=lambda answer: isinstance(answer, str)
        )
        if isinstance(found, str):
            return Check(False, Reason.UNREACHABLE, found), None
        return Check(True, Reason.CONNECTED, "the database answers"), found

    async def _redis(self, namespace: str, spec: Spec) -> Check:
        redis = spec.ray.redis
        if redis is None or spec.ray.mode == "External":
            return Check(True, Reason.NOT_CONFIGURED)
        password: str | Missing | None = None
        if redis.password_secret_ref is not None:
            password = await self.value(
                namespace, redis.password_secret_ref, "spec.ray.redis.passwordSecretRef"
            )
        if isinstance(password, Missing):
            return password.check

        async def ask() -> str | None:
            return await self._probes.redis(redis.address, password)

        key = ("redis", redis.address, password)
        problem = await self._remembered.get(
            key, ask, good_s=_STORE_S, bad_s=_BAD_S, bad=lambda answer: answer is not None
        )
        return Check(True, Reason.CONNECTED) if problem is None else Check(False, Reason.UNREACHABLE, problem)

    async def _storage(self, spec: Spec, pair: tuple[str | None, str | None] | Missing) -> Check:
        if isinstance(pair, Missing):
            return pair.check
        if spec.storage.s3 is None:
            return _folder(spec)

        async def ask() -> str | None:
            return await self._probes.store(spec.storage, Credentials("", *pair))

        key = ("store", spec.storage.model_dump_json(), pair)
        problem = await self._remembered.get(
            key, ask, good_s=_STORE_S, bad_s=_BAD_S, bad=lambda answer: answer is not None
        )
        if problem is not None:
            return Check(False, Reason.UNREACHABLE, problem)
        return Check(True, Reason.CONNECTED, "the object store takes writes")


def _complete(
    dsn: str | Missing,
    pair: tuple[str | None, str | None] | Missing,
    buckets: tuple[BucketKeys, ...] | Missing,
) -> Credentials | None:
    if isinstance(dsn, Missing) or isinstance(pair, Missing) or isinstance(buckets, Missing):
        return None
    return Credentials(dsn, *pair, buckets)


def _folder(spec: Spec) -> Check:
    if spec.storage.folder:
        message = (
            f"{spec.storage.folder} has to be a volume that all worker pods share (spec.ray.workers.template)"
        )
        return Check(True, Reason.FOLDER_DECLARED, message)
    message = "an object store is needed: describe a bucket in spec.storage.s3"
    return Check(False, Reason.NOT_CONFIGURED, message)


def _no_secret(name: str, what: str) -> Check:
    return Check(
        False, Reason.SECRET_MISSING, f"there is no Secret {name} ({what}): create it, or name another"
    )


def _no_key(name: str, key: str, what: str, data: SecretData) -> Check:
    present = f"it has {', '.join(sorted(data))}" if data else "it is empty"
    return Check(False, Reason.SECRET_KEY_MISSING, f"Secret {name} ({what}) has no key {key}; {present}")


def decoded(text: str) -> str | None:
    """The text of a Secret's value; None where it is not text."""
    try:
        return base64.b64decode(text, validate=True).decode().strip()
    except (binascii.Error, UnicodeDecodeError):
        return None
