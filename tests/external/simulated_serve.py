"""A simulation of the Serve REST API of a Ray dashboard, on a loopback port: no Ray runs.

It validates with Ray's own schema and answers as a dashboard of Ray 2.60 was seen to: a PUT states the whole, deletes
declarative applications that it does not list, takes over imperative ones that it does, and gives configurations back
without defaults. Replicas are only counted, and nothing happens by itself: `settle()` lets applications arrive.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from aiohttp import web
from pydantic import ValidationError
from ray.serve.schema import ServeDeploySchema

from visualindex_operator.serve_state import ServeState, parse

from .simulated_jobs import SimulatedJobs

HTTP_OPTIONS = {"host": "127.0.0.1", "port": 8000, "root_path": "", "request_timeout_s": None}


class Fault(Enum):
    """What goes wrong with one request."""

    TIMEOUT = "no answer"
    ERROR = "status 500"
    RESET = "connection reset"
    NO_AGENT = "status 500, while the agent that begins jobs has not begun itself"


@dataclass
class Application:
    """One application as the simulated controller keeps it."""

    config: dict[str, Any] | None
    source: str = "declarative"
    status: str = "DEPLOYING"
    message: str = ""
    route: str | None = None
    generation: int = 1
    """Counts how often its replicas were replaced."""


@dataclass
class SimulatedServe:
    """The dashboard of one simulated cluster."""

    token: str | None = None
    ray_version: str = "2.60.0"
    url: str = ""
    applications: dict[str, Application] = field(default_factory=dict)
    target_capacity: float | None = None
    running: bool = False
    """Whether Serve was started: the first PUT does that."""
    broken: dict[str, str] = field(default_factory=dict)
    """Applications that will fail to deploy → the message of that."""
    calls: list[str] = field(default_factory=list)
    faults: dict[int, Fault] = field(default_factory=dict)
    """Number of the request, from 1 → what goes wrong with it."""
    before_put: Callable[[], None] | None = None
    after_put: Callable[[], None] | None = None
    """Another writer, who comes in between."""
    user_agents: set[str] = field(default_factory=set)
    jobs: SimulatedJobs = field(default_factory=SimulatedJobs)
    _hanging: asyncio.Event = field(default_factory=asyncio.Event)

    # What other programs and time do to the cluster

    def put(self, config: dict[str, Any]) -> None:
        """Another program states its whole configuration. Raises pydantic's ValidationError as the API answers 400."""
        schema = ServeDeploySchema.model_validate(config)
        self.running = True
        self.target_capacity = schema.target_capacity
        for app in schema.applications:
            if app.logging_config is None and schema.logging_config:
                app.logging_config = schema.logging_config
            self._declare(app.name, app.model_dump(exclude_unset=True, mode="json"))
        listed = {app.name for app in schema.applications}
        for name, app in self.applications.items():
            if app.source == "declarative" and name not in listed:
                app.status, app.config = "DELETING", None

    def serve_run(self, name: str, route: str | None = "/imperative") -> None:
        """Another program calls `serve.run`."""
        self.running = True
        self.applications[name] = Application(None, "imperative", "RUNNING", route=route)

    def serve_delete(self, name: str) -> None:
        """Another program calls `serve.delete`, which keeps the configuration until the next PUT."""
        self.applications[name].status = "DELETING"

    def settle(self) -> None:
        """Let every application arrive where it goes."""
        for name, app in list(self.applications.items()):
            if app.status == "DELETING":
                del self.applications[name]
            elif name in self.broken:
                app.status, app.message = "DEPLOY_FAILED", self.broken[name]
            elif app.config is not None:
                app.status, app.message = "RUNNING", ""
                app.route = app.config.get("route_prefix", "/")

    def declared(self) -> dict[str, dict[str, Any]]:
        """The configurations of the declarative applications that are to stay."""
        return {n: a.config for n, a in self.applications.items() if a.config and a.status != "DELETING"}

    def fail_next(self, fault: Fault, after: int = 0) -> None:
        """Let the request go wrong that comes after so many others."""
        self.faults[len(self.calls) + 1 + after] = fault

    # The API

    def _declare(self, name: str, config: dict[str, Any]) -> None:
        present = self.applications.get(name)
        if present is None:
            self.applications[name] = Application(config)
            return
        if _code(present.config) != _code(config):
            present.generation += 1
        present.config, present.source, present.status = config, "declarative", "DEPLOYING"

    def _refusal(self, request: web.Request) -> web.Response | None:
        header = request.headers.get("authorization") or request.headers.get("x-ray-authorization")
        if self.token is None or header == f"Bearer {self.token}":
            return None
        if not header:
            return web.Response(status=401, text="Unauthorized: Missing authentication token")
        return web.Response(status=403, text="Forbidden: Invalid authentication token")

    @web.middleware
    async def _door(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.calls.append(request.method)
        self.user_agents.add(request.headers.get("user-agent", ""))
        match self.faults.pop(len(self.calls), None):
            case Fault.TIMEOUT:
                await self._hanging.wait()
            case Fault.ERROR:
                return web.Response(
                    status=500, text="Traceback (most recent call last):\nray.exceptions.X: no"
                )
            case Fault.NO_AGENT:
                text = "No available agent to submit job, please try again later."
                return web.Response(status=500, text=text)
            case Fault.RESET:
                assert request.transport is not None
                request.transport.abort()
        return self._refusal(request) or await handler(request)

    async def _version(self, _: web.Request) -> web.Response:
        return web.json_response({"version": "4", "ray_version": self.ray_version, "session_name": "s"})

    def answer(self, api_type: str | None = None) -> dict[str, Any]:
        """The document that a GET answers."""
        applications = {
            name: _details(name, app)
            for name, app in self.applications.items()
            if api_type in (None, app.source)
        }
        answer: dict[str, Any] = {"controller_info": {}, "proxies": {}, "applications": applications}
        if self.running:
            answer |= {
                "proxy_location": "EveryNode",
                "http_options": HTTP_OPTIONS,
                "grpc_options": {"port": 9000},
            }
        return {**answer, "target_capacity": self.target_capacity}

    async def _get(self, request: web.Request) -> web.Response:
        return web.json_response(self.answer(request.query.get("api_type")))

    async def _put(self, request: web.Request) -> web.Response:
        config = await request.json()
        if self.before_put:
            self.before_put()
        try:
            self.put(config)
        except ValidationError as error:
            return web.Response(status=400, text=repr(error))
        if self.after_put:
            self.after_put()
        return web.Response()

    def app(self) -> web.Application:
        """The routes."""
        app = web.Application(middlewares=[self._door], client_max_size=64 * 1024**2)
        app.router.add_get("/api/ray/version", self._version)
        app.router.add_get("/api/serve/applications/", self._get)
        app.router.add_put("/api/serve/applications/", self._put)
        self.jobs.routes(app)
        return app


@asynccontextmanager
async def simulated_serve(**settings: Any) -> AsyncIterator[SimulatedServe]:
    """A simulated cluster, listening on `url` until the block ends."""
    cluster = SimulatedServe(**settings)
    runner = web.AppRunner(cluster.app(), shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    cluster.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield cluster
    finally:
        cluster._hanging.set()
        await runner.cleanup()


def state_of(cluster: SimulatedServe) -> ServeState:
    """What a reader of the cluster sees."""
    return parse(json.dumps(cluster.answer()).encode())


def _code(config: dict[str, Any] | None) -> tuple[Any, ...]:
    """What of a configuration replaces replicas when it changes."""
    config = config or {}
    return config.get("import_path"), config.get("runtime_env"), config.get("args")


def _details(name: str, app: Application) -> dict[str, Any]:
    return {
        "name": name,
        "status": app.status,
        "message": app.message,
        "source": app.source,
        "route_prefix": app.route,
        "docs_path": None,
        "last_deployed_time_s": 1.0,
        "deployed_app_config": app.config,
        "deployments": {
            d["name"]: {
                "name": d["name"],
                "status": "HEALTHY" if app.status == "RUNNING" else "UPDATING",
                "status_trigger": "CONFIG_UPDATE_COMPLETED",
                "message": "",
                "target_num_replicas": d.get("num_replicas", 1),
                "replicas": [
                    {"replica_id": str(i), "state": "RUNNING" if app.status == "RUNNING" else "STARTING"}
                    for i in range(int(d.get("num_replicas", 1)))
                ],
            }
            for d in (app.config or {}).get("deployments", [])
        },
        "external_scaler_enabled": False,
    }
