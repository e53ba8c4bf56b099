"""The cluster a command talks to, found as kubectl finds it, and its objects as the plain JSON they are."""

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import (
    ConfigException,
    list_kube_config_contexts,
    load_incluster_config,
    load_kube_config,
)

from visualindex.errors import ProblemError, ProblemType
from visualindex_operator.kubectl.refusals import refusal

T = TypeVar("T")
Object = dict[str, Any]
Query = dict[str, str | int | bool | Sequence[str] | None]

_POD_NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
_REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)
_STREAM_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=10)
_OPENING_S = 15.0
"""Longest wait for a pod's side of a connection: a node that is gone answers never."""
_GOODBYE_S = 0.1
"""aiohttp says goodbye to a web socket's TLS in the background, and tells nobody when it is done: it needs a moment."""
_CHANNELS = "v4.channel.k8s.io"
_MOST_MESSAGE = 16 * 1024**2


class Cluster:
    """The API server, as one user and with one default namespace."""

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self.namespace = namespace
        self._api = api
        self._used_sockets = False

    @classmethod
    @asynccontextmanager
    async def open(cls, context: str | None, namespace: str | None) -> AsyncIterator[Self]:
        """The cluster of the kubeconfig, or of the pod this runs in. ProblemError where there is neither."""
        configuration, default = await _found(context)
        configuration.connection_pool_maxsize = (
            0  # a forwarded connection holds one of ours as long as it lasts
        )
        async with ApiClient(configuration) as api:
            api.user_agent = "kubectl-visualindex"
            cluster = cls(api, namespace or default)
            yield cluster
        if cluster._used_sockets:
            await asyncio.sleep(_GOODBYE_S)

    async def get(self, path: str, what: str, **query: Any) -> Object:
        """The JSON behind a path. ProblemError when it is refused or not there."""
        async with self._answer("GET", path, what, query) as response:
            found: Object = await response.json()
        return found

    async def items(self, path: str, what: str, **query: Any) -> list[Object]:
        """The items of a list."""
        return list((await self.get(path, what, **query))["items"])

    async def merge(self, path: str, what: str, body: Object) -> Object:
        """Merge `body` into an object."""
        async with self._answer("PATCH", path, what, {}, body) as response:
            found: Object = await response.json()
        return found

    async def lines(self, path: str, what: str, **query: Any) -> AsyncIterator[bytes]:
        """The lines of a log or a watch as they come, without their ends."""
        async with self._answer("GET", path, what, query, timeout=_STREAM_TIMEOUT) as response:
            async for line in _lines(response.content):
                yield line

    @asynccontextmanager
    async def socket(
        self, path: str, what: str, wants: str, query: Query
    ) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A web socket into a pod: `exec` or `portforward`."""
        _, url, headers, _ = await self._request("GET", path, query, None)
        headers.pop("Content-Type", None)
        session = self._session()
        try:
            async with asyncio.timeout(_OPENING_S):
                socket = await session.ws_connect(
                    url, headers=headers, protocols=(_CHANNELS,), max_msg_size=_MOST_MESSAGE, heartbeat=30
                )
        except aiohttp.WSServerHandshakeError as error:
            raise refusal(error.status, b"", what, wants) from None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise self._unreachable(error) from None
        self._used_sockets = True
        async with socket:
            yield socket

    @asynccontextmanager
    async def _answer(
        self,
        method: str,
        path: str,
        what: str,
        query: Query,
        body: Object | None = None,
        timeout: aiohttp.ClientTimeout = _REQUEST_TIMEOUT,  # noqa: ASYNC109 - aiohttp's own, per phase
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        _, url, headers, content = await self._request(method, path, query, body)
        try:
            answer = await self._api.call_api(method, url, headers, content, _request_timeout=timeout)
            response = answer.response
            async with response:
                if response.status >= 300:
                    wants = f"{'patch' if body else 'get'} {path.rsplit('/', 1)[-1]}"
                    raise refusal(response.status, await response.read(), what, wants)
                yield response
        except (aiohttp.ClientError, TimeoutError, ssl.SSLError, OSError) as error:
            raise self._unreachable(error) from None

    async def _request(self, method: str, path: str, query: Query, body: Object | None) -> tuple[Any, ...]:
        pairs = [
            (key, "true" if value is True else value) for key, value in query.items() if value is not None
        ]
        address = f"{path}?{urlencode(pairs, doseq=True)}" if pairs else path
        headers = {"Accept": "application/json, */*"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        serialized = await self._api.param_serialize(
            method, address, header_params=headers, body=body, auth_settings=["BearerToken"]
        )
        return tuple(serialized[:4])

    def _session(self) -> aiohttp.ClientSession:
        rest = self._api.rest_client
        if rest.pool_manager is None:
            rest.pool_manager = rest._create_pool_manager()
        session: aiohttp.ClientSession = rest.pool_manager
        return session

    def _unreachable(self, error: BaseException) -> ProblemError:
        host = self._api.configuration.host
        reason = str(error) or type(error).__name__
        detail = f"the cluster {host} cannot be reached ({reason}): is it up, and is this the right context?"
        return ProblemError(ProblemType.UNAVAILABLE, detail)


def ask(work: Callable[[Cluster], Awaitable[T]], context: str | None, namespace: str | None) -> T:
    """Do `work` with the cluster, and return when it is done; Ctrl-C ends the program with exit code 130."""

    async def whole() -> T:
        async with Cluster.open(context, namespace) as cluster:
            return await work(cluster)

    try:
        return asyncio.run(whole())
    except KeyboardInterrupt:
        raise SystemExit(130) from None


async def _lines(stream: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Lines of any length: those of a watch are whole objects, longer than a stream reader's own limit."""
    rest = b""
    async for chunk in stream.iter_any():
        *whole, rest = (rest + chunk).split(b"\n")
        for line in whole:
            yield line
    if rest:
        yield rest


async def _found(context: str | None) -> tuple[Configuration, str]:
    """How to reach the API server, and the namespace to take where none is given."""
    files = _kubeconfigs()
    configuration = Configuration()
    try:
        if files:
            await load_kube_config(files, context, configuration, persist_config=False)  # type: ignore[no-untyped-call]
            return configuration, _context_namespace(files, context)
        if "KUBERNETES_SERVICE_HOST" in os.environ:
            load_incluster_config(configuration)  # type: ignore[no-untyped-call]
            return configuration, _namespace_of_pod()
    except (ConfigException, OSError) as error:
        raise ProblemError(ProblemType.INVALID_REQUEST, f"the kubeconfig cannot be used: {error}") from None
    detail = "there is no cluster to talk to: set KUBECONFIG, or write ~/.kube/config"
    raise ProblemError(ProblemType.INVALID_REQUEST, detail)


def _namespace_of_pod() -> str:
    return _POD_NAMESPACE.read_text().strip()


def _kubeconfigs() -> str:
    """The kubeconfig files that exist, joined as the variable joins them."""
    wanted = os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    paths = [Path(path).expanduser() for path in wanted.split(os.pathsep) if path]
    return os.pathsep.join(str(path) for path in paths if path.exists())


def _context_namespace(files: str, context: str | None) -> str:
    contexts, current = list_kube_config_contexts(files)  # type: ignore[no-untyped-call]
    chosen = next((entry for entry in contexts if entry["name"] == context), current)
    return str(chosen.get("context", {}).get("namespace") or "default")


def decoded(line: bytes) -> Object:
    """One line of a watch."""
    event: Object = json.loads(line)
    return event
