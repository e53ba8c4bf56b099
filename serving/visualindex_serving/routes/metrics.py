"""GET /metrics: the node's Prometheus metrics, passed on from Ray's metrics agent, which listens on loopback only."""

import os

import httpx
from fastapi import APIRouter, Request, Response

from visualindex.errors import ProblemError, ProblemType
from visualindex_serving import openapi
from visualindex_serving.service import service_of

router = APIRouter(tags=["health"])

PORT_VARIABLE = "VISUALINDEX_METRICS_PORT"
_TIMEOUT_S = 5.0


@router.get(
    "/metrics",
    response_class=Response,
    responses={
        200: {
            "description": "Metrics in the Prometheus text format.",
            "content": {"text/plain": {"schema": {"type": "string"}}},
        },
        **openapi.problem_responses(),
    },
)
async def metrics(request: Request) -> Response:
    """Metrics of all parts of the service on this node. With API keys: the admin scope on every index."""
    service = service_of(request)
    caller = await service.caller(request, "admin")
    if len(caller.indexes()) < len(service.indexes):
        raise ProblemError(
            ProblemType.FORBIDDEN,
            "Metrics are of all indexes: use a key with the admin scope on all of them.",
        )
    answer = await _agent()
    media = answer.headers.get("content-type", "text/plain; version=0.0.4; charset=utf-8")
    return Response(answer.content, headers={"Content-Type": media, "Cache-Control": "no-store"})


async def _agent() -> httpx.Response:
    port = os.environ.get(PORT_VARIABLE, "")
    if not port.isdigit():
        raise _unavailable(f"{PORT_VARIABLE} does not name the port of Ray's metrics agent")
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT_S, trust_env=False) as client:
            answer = await client.get(f"http://127.0.0.1:{port}/metrics")
    except httpx.HTTPError as exc:
        raise _unavailable(f"Ray's metrics agent does not answer on port {port}") from exc
    if answer.status_code != 200:
        raise _unavailable(f"Ray's metrics agent on port {port} answers {answer.status_code}")
    return answer


def _unavailable(why: str) -> ProblemError:
    return ProblemError(ProblemType.UNAVAILABLE, f"There are no metrics: {why}.", retry_after_s=5)
