"""A connection to the API server on which one request goes wrong."""

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import aiohttp
from kubernetes.aio import client


class Killed(BaseException):
    """The operator's process ended: nothing of it goes on."""


class Fault(Enum):
    """What goes wrong with one request."""

    CONFLICT = "409"
    BUSY = "429"
    ERROR = "500"
    TIMEOUT = "no answer, and nothing was done"
    RESET = "connection reset, and nothing was done"
    ANSWER_LOST = "no answer, but it was done"
    KILLED_BEFORE = "operator killed right before"
    KILLED_AFTER = "operator killed right after"


ANSWERED = {Fault.CONFLICT: 409, Fault.BUSY: 429, Fault.ERROR: 500}
REFUSALS = (Fault.BUSY, Fault.ERROR, Fault.TIMEOUT, Fault.RESET)
AT_WRITES = (Fault.CONFLICT, Fault.ANSWER_LOST, Fault.KILLED_BEFORE, Fault.KILLED_AFTER)
AT_READS = (*REFUSALS, Fault.CONFLICT, Fault.KILLED_BEFORE)


@dataclass(frozen=True)
class _Refusal:
    """A response as the product's client reads one."""

    status: int
    reason: str = "refused"

    async def read(self) -> bytes:
        return json.dumps({"message": f"simulated {self.status}"}).encode()


@dataclass
class FaultyClient:
    """The official client's two calls that the operator makes, recorded; the `at`-th request gets the fault."""

    api: client.ApiClient
    at: int = -1
    fault: Fault | None = None
    calls: list[str] = field(default_factory=list)

    async def param_serialize(self, *arguments: Any, **keywords: Any) -> Any:
        return await self.api.param_serialize(*arguments, **keywords)

    async def call_api(self, method: str, url: str, *arguments: Any, **keywords: Any) -> Any:
        self.calls.append(f"{method} {url.split('?')[0].split('/namespaces/')[1].partition('/')[2]}")
        fault = self.fault if len(self.calls) - 1 == self.at else None
        match fault:
            case Fault.CONFLICT | Fault.BUSY | Fault.ERROR:
                return _Refusal(ANSWERED[fault])
            case Fault.TIMEOUT:
                raise TimeoutError
            case Fault.RESET:
                raise aiohttp.ClientOSError(104, "Connection reset by peer")
            case Fault.KILLED_BEFORE:
                raise Killed
        response = await self.api.call_api(method, url, *arguments, **keywords)
        if fault is Fault.ANSWER_LOST:
            raise aiohttp.ServerDisconnectedError
        if fault is Fault.KILLED_AFTER:
            raise Killed
        return response

    def writes(self) -> list[str]:
        """What was asked for beside reading."""
        return [call for call in self.calls if not call.startswith("GET ")]
