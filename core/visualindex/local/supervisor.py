"""`visualindex up`: starts Postgres and Ray, tells Serve what to run, and heals what dies until it is stopped."""

import asyncio
import contextlib
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import httpx

from visualindex.catalog import EmbeddedPostgres, migrate
from visualindex.errors import ProblemError, ProblemType
from visualindex.footprint import gateway_replicas, local_cpus
from visualindex.local.other_encoders import other_encoders, told
from visualindex.local.planned import next_steps, what_is_missing
from visualindex.local.ports import pick, require_free
from visualindex.local.preflight import refuse_unrunnable
from visualindex.local.processes import kill_stack, with_children
from visualindex.local.ray_head import METRICS_PORT, RayHead
from visualindex.local.state import MARK, STATE_VARIABLE, Running, StateDir
from visualindex.planning.plan import Serve
from visualindex.serve_config import serve_config, serve_environment
from visualindex.spec import VisualIndex

logger = logging.getLogger(__name__)

_LOOPBACK = ("127.0.0.1", "localhost")
_START_S = 180.0
_MOST_PATIENCE = 4
"""Times as long a start may take after several in vain."""
_WATCH_S = 0.2
_PROBE_S = 2.0
_SILENT_S = 20.0
_CALM_S = 300.0
_DATABASE_PAUSE_S = 3.0
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_SERVE_PORTS = {
    "RAY_SERVE_HAPROXY_METRICS_PORT": 9101,
    "RAY_SERVE_HAPROXY_STATS_PORT": 8404,
    "RAY_SERVE_FALLBACK_PROXY_HTTP_PORT": 8500,
}
_SERVE_PORTS_APART = 90


@dataclass(frozen=True)
class Options:
    """How a local service is to run."""

    state: Path
    host: str = "127.0.0.1"
    port: int = 8000

    def __post_init__(self) -> None:
        """Raise ProblemError INVALID_REQUEST for an address that the proxy cannot listen on."""
        if ":" in self.host:
            detail = f"The service listens on IPv4 only, not on {self.host}: use --host 127.0.0.1 or --host 0.0.0.0."
            raise ProblemError(ProblemType.INVALID_REQUEST, detail)


class Stopped(Exception):  # noqa: N818 - a request, not an error
    """Somebody asked the service to stop."""


class DeploymentFailed(ProblemError):  # noqa: N818 - a problem like any other, told apart to not try again
    """Ray runs, but Serve cannot deploy an application: starting it again would not help."""


class Supervisor:
    """Runs one local service. `say` receives one line of news at a time."""

    def __init__(self, resources: list[VisualIndex], options: Options, say: Callable[[str], None]) -> None:
        self._resources = resources
        self._options = options
        self._say = say
        self._state = StateDir.at(options.state)
        self._postgres: EmbeddedPostgres | None = None
        self._ray: RayHead | None = None
        self._http = httpx.Client(timeout=_PROBE_S, trust_env=False, verify=False)  # noqa: S501 - plain HTTP to itself
        self._restarts = 0
        self._restarted_at = -math.inf
        self._database_tried_at = -math.inf

    @property
    def url(self) -> str:
        """Where the service answers."""
        host = self._options.host if self._options.host != "0.0.0.0" else "127.0.0.1"  # noqa: S104 - compared
        return f"http://{host}:{self._options.port}"

    def run(self, on_ready: Callable[[str], None], on_stop: Callable[[], None] = lambda: None) -> None:
        """Start, call `on_ready(url)` once searches are answered, watch until a signal comes, end every process.

        `on_stop` is called before the processes are ended, whatever the reason, with signals ignored.
        """
        self._refuse_open_access()
        for line in refuse_unrunnable(self._resources):
            self._say(line)
        with self._state.locked():
            self._state.running_file.unlink(missing_ok=True)  # of a run that was killed
            kill_stack(self._state.mark, keep=frozenset({os.getpid()}))
            os.environ[MARK] = self._state.mark
            previous = {s: signal.signal(s, _stop) for s in _STOP_SIGNALS}
            try:
                with contextlib.suppress(Stopped):
                    self._start()
                    on_ready(self.url)
                    self._watch()
            finally:
                for number in previous:
                    signal.signal(number, signal.SIG_IGN)
                self._say("stopping")
                on_stop()
                self._stop_all()
                for number, handler in previous.items():
                    signal.signal(number, handler)

    def _refuse_open_access(self) -> None:
        if self._options.host in _LOOPBACK:
            return
        open_to_all = [r.name for r in self._resources if r.spec.access.mode == "open"]
        if open_to_all:
            detail = (
                f"Index {open_to_all[0]} says access.mode: open, but the service would listen on {self._options.host}: "
                "use keys, or listen on 127.0.0.1."
            )
            raise ProblemError(ProblemType.INVALID_REQUEST, detail)

    def _start(self) -> None:
        require_free(self._options.port, self._options.host)
        dsn = self._start_postgres()
        self._start_as_planned(dsn)
        self._publish(dsn)

    def _start_as_planned(self, dsn: str) -> None:
        """Ask the planner what may happen, and do that, until the service runs."""
        migrated = False
        while self._ray is None:
            planned = asyncio.run(next_steps(self._resources, dsn, migrated=migrated))
            if not planned.actions:
                raise ProblemError(ProblemType.UNAVAILABLE, what_is_missing(planned))
            for action in planned.actions:
                if isinstance(action, Serve):
                    self._start_ray_patiently(dsn)
                elif not migrated:  # once for all indexes: they share the database
                    asyncio.run(migrate(dsn))
                    migrated = True

    def _publish(self, dsn: str) -> None:
        """Tell the other commands what runs here."""
        assert self._ray is not None  # noqa: S101 - started before
        names = [r.name for r in self._resources]
        self._state.write_running(Running(os.getpid(), self.url, dsn, self._ray.metrics_port, names))

    def _start_postgres(self) -> str:
        given = self._resources[0].spec.postgres.dsn
        if given:
            return given
        self._say("starting the database")
        self._postgres = EmbeddedPostgres(self._state.path)
        self._postgres.start()
        return self._postgres.dsn

    def _start_ray_patiently(self, dsn: str) -> None:
        """Start Ray; on a machine too busy for its start-up limits, once more."""
        try:
            self._start_ray(dsn)
            self._await_ready()
        except DeploymentFailed:
            raise
        except ProblemError as problem:
            self._say(f"Ray Serve did not start, trying once more: {problem.detail[-300:]}")
            self._kill_ray()
            self._start_ray(dsn)
            self._await_ready()

    def _start_ray(self, dsn: str) -> None:
        self._say("starting Ray Serve")
        others = asyncio.run(other_encoders(self._resources, dsn))
        for line in told(others):
            self._say(line)
        cpus = max(os.cpu_count() or 1, math.ceil(local_cpus(self._resources, others)) + 1)
        metrics_port = METRICS_PORT if self._ray is None else self._ray.metrics_port
        self._ray = RayHead(self._state, self._environment(dsn), cpus, metrics_port)
        host, port = self._options.host, self._options.port
        self._ray.start(serve_config(self._resources, host=host, port=port, others=others))

    def _environment(self, dsn: str) -> dict[str, str]:
        own = {
            MARK: self._state.mark,
            "VISUALINDEX_MODE": "local",
            "VISUALINDEX_LISTEN_HOST": self._options.host,
            "VISUALINDEX_GATEWAYS_HERE": str(max(gateway_replicas(r.spec) for r in self._resources)),
            "VISUALINDEX_POSTGRES_DSN": dsn,
            STATE_VARIABLE: str(self._state.path),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._state.token(),
            "RAY_SERVE_HAPROXY_BINARY_PATH": str(Path(sys.executable).with_name("visualindex-haproxy")),
            "RAY_SERVE_HAPROXY_CONFIG_FILE_LOC": str(self._state.sockets / "haproxy.cfg"),
            "RAY_SERVE_HAPROXY_SOCKET_PATH": str(self._state.sockets / "admin.sock"),
            "RAY_SERVE_HAPROXY_SERVER_STATE_BASE": str(self._state.sockets),
            "RAY_SERVE_HAPROXY_SERVER_STATE_FILE": str(self._state.sockets / "server-state"),
            "RAY_SERVE_HAPROXY_METRICS_SOCKET_PATH": str(self._state.sockets / "metrics.sock"),
        }
        return {
            **os.environ,
            **serve_environment(self._resources),
            **_proxy_ports(self._options.port),
            **own,
        }

    def _await_ready(self) -> None:
        """Wait until a probe search of every index succeeds, longer after tries in vain: the machine may be busy."""
        assert self._ray is not None  # noqa: S101 - started before
        patience_s = _START_S * min(1 + self._restarts, _MOST_PATIENCE)
        until = time.monotonic() + patience_s
        while time.monotonic() < until:
            if not self._ray.alive():
                raise self._ended(self._ray)
            if self._answers("/readyz"):
                return
            self._heal_postgres()
            time.sleep(0.2)
        raise self._failed(f"the service did not answer within {patience_s:.0f} s")

    def _ended(self, ray: RayHead) -> ProblemError:
        """Why the head's process ended."""
        refusal = ray.refusal()
        if refusal is not None:
            detail = f"{refusal}\nThe logs of the replicas are in {self._state.replica_logs}."
            return DeploymentFailed(ProblemType.UNAVAILABLE, detail)
        return self._failed(f"Ray stopped while starting: {ray.last_words().strip()}")

    def _failed(self, why: str) -> ProblemError:
        logs = f"The logs are in {self._state.logs}, those of the replicas in {self._state.replica_logs}."
        return ProblemError(ProblemType.UNAVAILABLE, f"{why}. {logs}")

    def _answers(self, path: str) -> bool:
        try:
            return self._http.get(self.url + path).status_code == 200
        except httpx.HTTPError:
            return False

    def _watch(self) -> None:
        """Heal the database at once, and the Ray stack when its head is gone or nothing answers for 20 s."""
        heard_at = probed_at = time.monotonic()
        while True:
            time.sleep(_WATCH_S)
            self._heal_postgres()
            now = time.monotonic()
            if now - probed_at >= _PROBE_S:
                probed_at = now
                heard_at = now if self._answers("/healthz") else heard_at
            assert self._ray is not None  # noqa: S101 - started before
            if not self._ray.alive() or now - heard_at > _SILENT_S:
                self._restart_ray()
                heard_at = probed_at = time.monotonic()

    def _heal_postgres(self) -> None:
        """Start a database that died. One that cannot start, on a full disk perhaps, is tried again every few seconds."""
        if self._postgres is None or self._postgres.pid is not None:
            return
        if time.monotonic() - self._database_tried_at < _DATABASE_PAUSE_S:
            return
        self._say("the database died: starting it again")
        self._database_tried_at = time.monotonic()
        try:
            self._postgres.start()
            self._database_tried_at = -math.inf
        except (ProblemError, OSError) as problem:
            self._say(f"the database does not start: {problem}")

    def _restart_ray(self) -> None:
        """Start the Ray stack again; after repeated failures wait longer before each try and for it, and say so."""
        calm = time.monotonic() - self._restarted_at > _CALM_S
        self._restarts = 0 if calm else self._restarts + 1
        pause = min(30.0, 2.0**self._restarts) if self._restarts > 1 else 0.0
        self._say(f"Ray Serve died: starting it again{f' in {pause:.0f} s' if pause else ''}")
        time.sleep(pause)
        self._kill_ray()
        dsn = self._postgres.dsn if self._postgres is not None else str(self._resources[0].spec.postgres.dsn)
        try:
            self._start_ray(dsn)
            self._await_ready()
            self._publish(dsn)
            self._say("Ray Serve answers again")
        except (ProblemError, OSError) as problem:
            self._say(f"Ray Serve did not come back: {problem}")
        self._restarted_at = time.monotonic()

    def _kill_ray(self) -> None:
        keep = frozenset() if self._postgres is None else with_children(self._postgres.pid)
        if self._ray is not None:
            self._ray.kill(keep=keep)

    def _stop_all(self) -> None:
        self._kill_ray()
        if self._postgres is not None:
            with contextlib.suppress(ProblemError):
                self._postgres.stop()
        kill_stack(self._state.mark, keep=frozenset({os.getpid()}))
        self._state.running_file.unlink(missing_ok=True)  # last: without it the service counts as starting


def _stop(_signal: int, _frame: FrameType | None) -> None:
    raise Stopped


def _proxy_ports(port: int) -> dict[str, str]:
    """The proxy's other ports. They move with the service's own, because they are free for most of a minute after they
    were picked: services that start side by side would otherwise all pick the same."""
    shift = (port - 8000) % _SERVE_PORTS_APART
    return {
        name: str(pick(preferred + shift, taken=frozenset({port})))
        for name, preferred in _SERVE_PORTS.items()
    }
