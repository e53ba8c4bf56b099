"""The Serve REST API of a Ray cluster that somebody else runs (`spec.ray.mode: External`)."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Self

import httpx
from pydantic import ValidationError

from visualindex_operator.bounded_bodies import body_of
from visualindex_operator.cluster_locks import normalised
from visualindex_operator.serve_problems import ClusterFailed, ClusterRefused, ClusterUnreachable
from visualindex_operator.serve_refusals import reason_in, status_in
from visualindex_operator.serve_state import ServeState, parse
from visualindex_operator.submitted_jobs import SubmittedJob, submitted

TOKEN_HEADER = "x-ray-authorization"  # noqa: S105 - a header's name
OLDEST_RAY = (2, 60)
"""Older versions keep settings of a deployment that a new configuration no longer has."""

_APPLICATIONS = "/api/serve/applications/"
_VERSION = "/api/ray/version"
_JOBS = "/api/jobs/"
_READ_S = 10.0
_WRITE_S = 60.0  # the first write to a cluster starts its proxies
_CONNECT_S = 3.0
_MOST_BYTES = 64 * 1024**2
_USER_AGENT = "visualindex-operator"  # what looks like a browser is shown no values of environment variables


class ServeAPI:
    """Reads and writes the whole Serve configuration of one cluster.

    Every method raises ClusterUnreachable or ClusterRefused, with a message that names the address, the cause and what to
    do; ClusterFailed, a kind of the first, where it answers with a failure of its own. Nothing is tried twice here: a
    reconciliation comes back by itself.
    """

    def __init__(
        self, address: str, token: str | None = None, *, read_s: float = _READ_S, write_s: float = _WRITE_S
    ) -> None:
        self.address = normalised(address)
        self._read_s, self._write_s = read_s, write_s
        self._version_is_known = False
        headers = {"user-agent": _USER_AGENT}
        if token:
            headers[TOKEN_HEADER] = f"Bearer {token.strip()}"
        self._has_token = bool(token)
        # trust_env would put a password of ~/.netrc before the token.
        self._client = httpx.AsyncClient(headers=headers, trust_env=False, verify=_tls())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.aclose()

    async def read(self) -> ServeState:
        """All applications of the cluster, ours and foreign, declarative and imperative: no `api_type` is asked for."""
        if not self._version_is_known:
            await self._require_version()
        document = await self._call("GET", _APPLICATIONS)
        try:
            return parse(document)
        except ValidationError as error:
            raise self._foreign_answer(error) from error

    async def write(self, config: Mapping[str, Any]) -> None:
        """State the whole configuration. Ray has accepted it then; the applications follow."""
        await self._call("PUT", _APPLICATIONS, config)

    async def jobs(self) -> list[SubmittedJob]:
        """The jobs that were submitted to the cluster, whoever did."""
        document = await self._call("GET", _JOBS)
        try:
            return submitted(document)
        except ValidationError as error:
            raise self._foreign_answer(error) from error

    async def submit(self, job: Mapping[str, Any]) -> None:
        """Submit a job, which begins when a place for its process is found. One of that name that is there is refused."""
        await self._call("POST", _JOBS, job)

    async def stop_job(self, submission: str) -> None:
        """Have a job's process ended, by SIGTERM and later by force. One that is not there, or has ended, is left alone."""
        await self._call("POST", f"{_JOBS}{submission}/stop", may_lack=True)

    async def forget_job(self, submission: str) -> None:
        """Have a job that has ended listed no more. One that is not there is left alone."""
        await self._call("DELETE", f"{_JOBS}{submission}", may_lack=True)

    async def _require_version(self) -> None:
        document = await self._call("GET", _VERSION)
        try:
            version = str(json.loads(document)["ray_version"])
            release = tuple(int(part) for part in version.split(".")[:2])
        except (ValueError, KeyError, TypeError) as error:
            raise self._foreign_answer(error) from error
        if release < OLDEST_RAY:
            oldest = ".".join(map(str, OLDEST_RAY))
            raise ClusterRefused(
                f"The Ray cluster {self.address} runs Ray {version}: it needs {oldest} or newer, with this release of "
                "VisualIndex in its image."
            )
        self._version_is_known = True

    async def _call(
        self, method: str, path: str, config: Mapping[str, Any] | None = None, *, may_lack: bool = False
    ) -> bytes:
        limit_s = self._read_s if config is None else self._write_s
        async with self._answered(limit_s), asyncio.timeout(limit_s):
            timeout = httpx.Timeout(limit_s, connect=min(_CONNECT_S, limit_s))
            url = self.address + path
            async with self._client.stream(method, url, json=config, timeout=timeout) as response:
                body = await body_of(response, _MOST_BYTES)
        if not may_lack or response.status_code != httpx.codes.NOT_FOUND:
            self._require_success(response, body, config or {})
        return body

    @asynccontextmanager
    async def _answered(self, limit_s: float) -> AsyncIterator[None]:
        """Turns every way of not answering into ClusterUnreachable."""
        try:
            yield
        except (TimeoutError, httpx.TimeoutException) as error:
            raise self._unreachable(f"it does not answer within {limit_s:g} s") from error
        except httpx.RequestError as error:
            cause = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            raise self._unreachable(cause) from error

    def _unreachable(self, cause: str) -> ClusterUnreachable:
        return ClusterUnreachable(
            f"The Ray cluster {self.address} cannot be reached: {cause}. Check that its head runs and that "
            "spec.ray.external.address is the URL of its dashboard, reachable from the operator."
        )

    def _foreign_answer(self, error: Exception) -> ClusterRefused:
        return ClusterRefused(
            f"What answers at {self.address} is not the dashboard of a Ray cluster we know ({type(error).__name__}): "
            "set spec.ray.external.address to the URL of the dashboard."
        )

    def _require_success(self, response: httpx.Response, body: bytes, config: Mapping[str, Any]) -> None:
        if response.is_success:
            return
        text = body.decode(errors="replace")
        status = status_in(response.status_code, text)
        if httpx.codes.is_server_error(status) and status != httpx.codes.NOT_IMPLEMENTED:
            raise self._failed(status, reason_in(text, config))
        raise ClusterRefused(f"The Ray cluster {self.address} {self._refusal(status, text, config)}")

    def _failed(self, status: int, words: str) -> ClusterFailed:
        said = f"status {status}: {words}" if words else f"status {status}"
        return ClusterFailed(
            f"The Ray cluster {self.address} cannot do now what it is asked: it answers with {said}. This is tried again; "
            "if it stays, read dashboard*.log among the logs of its head, and check that spec.ray.external.address is the "
            "URL of its dashboard."
        )

    def _refusal(self, status: int, text: str, config: Mapping[str, Any]) -> str:
        match status:
            case 401 | 403 if not self._has_token:
                return "wants a token: name the Secret that holds it in spec.ray.external.tokenSecretRef."
            case 401 | 403:
                return (
                    f"refuses the token of spec.ray.external.tokenSecretRef (status {status}): store the cluster's "
                    "present token in that Secret."
                )
            case 400 | 422:
                return (
                    f"refuses the configuration: {reason_in(text, config)}. Its image must hold this release of "
                    "VisualIndex; correct the spec if the reason names one of its fields."
                )
            case 404:
                return (
                    "has no Serve API (status 404): set spec.ray.external.address to the URL of the dashboard of a "
                    "cluster with Ray 2.60 or newer."
                )
            case 501:
                return "has no Ray Serve installed: use an image with ray[serve]."
            case _:
                return f"answers with status {status}: set spec.ray.external.address to the URL of the dashboard itself."


@cache
def _tls() -> ssl.SSLContext:
    """One context for all clusters: reading the certificates takes longer than a request."""
    return httpx.create_ssl_context(trust_env=False)
