"""One write for a cluster that is not ours alone: our applications as wanted, everybody else's as they are.

`PUT /api/serve/applications/` states the whole: what it does not list is deleted, and what it lists under the name or route
of another application silently takes its place.

Ray gives back what was PUT for an application exactly, without defaults (seen with 2.60; numbers may turn from 1 to 1.0),
with one exception: a top-level `logging_config` of whoever wrote last is filled into applications that have none. So equal
settings are recognised by comparing them, that one aside. (A digest kept in the application's environment would do too, but
a new digest replaces every replica, also where only a replica count changed.)
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from visualindex_operator.serve_environments import environment_values
from visualindex_operator.serve_problems import NameTaken, NotRestatable
from visualindex_operator.serve_state import DECLARATIVE, IMPERATIVE, ApplicationState, ServeState

OWNER = "VISUALINDEX_OWNER"
"""Environment variable of our applications: `namespace/name` of the resource they belong to."""

REDACTED = "<redacted>"
"""What Ray shows in place of the values of environment variables to whom it takes for a browser."""


def merged(
    state: ServeState, ours: Sequence[Mapping[str, Any]], gone: Mapping[str, str]
) -> dict[str, Any] | None:
    """The configuration to PUT so that `ours` are as wanted and `gone` (application → its owner) disappear.

    Returns None when nothing would change. An application in `gone` that has another owner stays. Raises NameTaken when
    a name or route is somebody else's, and NotRestatable when writing would end a foreign application.
    """
    wanted = {app["name"]: _plain(app) for app in ours}
    leaving = {name for name, owner in gone.items() if name not in wanted and _is_of(state, name, owner)}
    others = [app for name, app in state.applications.items() if name not in wanted and name not in leaving]
    for app in wanted.values():
        _require_free_name(state, app)
        _require_free_route(others, app)
    if not leaving and all(_as_wanted(state, app) for app in wanted.values()):
        return None
    kept = [_restated(app) for app in others if app.source != IMPERATIVE and not app.leaving]
    applications = sorted([*wanted.values(), *kept], key=lambda app: app["name"])
    return {**_settings(state), "applications": applications}


def overwritten(before: ServeState, after: ServeState) -> list[str]:
    """Applications that somebody deployed between our reading and our writing, and that our writing deleted."""
    return sorted(
        name
        for name, app in after.applications.items()
        if name not in before.applications and app.leaving and app.source == DECLARATIVE
    )


def unsettled(state: ServeState, ours: Sequence[Mapping[str, Any]], gone: Mapping[str, str]) -> list[str]:
    """The names of those applications that are not as wanted."""
    differing = [app["name"] for app in ours if not _as_wanted(state, _plain(app))]
    return sorted({*differing, *(name for name, owner in gone.items() if _is_of(state, name, owner))})


def owner_of(config: Mapping[str, Any] | None) -> str | None:
    """The resource an application's configuration names as its owner; None when it is not one of ours."""
    environment = ((config or {}).get("runtime_env") or {}).get("env_vars") or {}
    owner: str | None = environment.get(OWNER)
    return owner


def _plain(app: Mapping[str, Any]) -> dict[str, Any]:
    """The application as it looks after a trip through JSON. Raises ValueError when it names no owner."""
    if not owner_of(app):
        raise ValueError(f"application {app['name']} names no owner: set {OWNER} in its runtime_env.env_vars")
    plain: dict[str, Any] = json.loads(json.dumps(app, sort_keys=True))
    return plain


def _is_of(state: ServeState, name: str, owner: str) -> bool:
    """Whether an application exists, is to stay, and belongs to the owner."""
    app = state.applications.get(name)
    if app is None or app.leaving or app.source == IMPERATIVE:
        return False
    return owner_of(app.deployed_app_config) == owner


def _as_wanted(state: ServeState, wanted: Mapping[str, Any]) -> bool:
    present = state.applications.get(wanted["name"])
    if present is None or present.leaving or present.deployed_app_config is None:
        return False
    deployed = dict(present.deployed_app_config)
    if "logging_config" not in wanted:
        deployed.pop("logging_config", None)
    return deployed == wanted


def _require_free_name(state: ServeState, wanted: Mapping[str, Any]) -> None:
    present = state.applications.get(wanted["name"])
    if present is None or present.leaving:
        return
    if present.source != IMPERATIVE and present.deployed_app_config is None:
        raise NotRestatable(present.name, "Ray does not tell its configuration, so whose it is is not known")
    if present.source == IMPERATIVE or owner_of(present.deployed_app_config) != owner_of(wanted):
        raise NameTaken(present.name, _describe(present))


def _require_free_route(others: Sequence[ApplicationState], wanted: Mapping[str, Any]) -> None:
    route = wanted.get("route_prefix", "/")
    for other in others:
        if route in other.routes and not other.leaving:
            raise NameTaken(route, _describe(other))


def _describe(app: ApplicationState) -> str:
    if app.source == IMPERATIVE:
        return f"the application {app.name}, started with serve.run"
    if owner := owner_of(app.deployed_app_config):
        return f"the application {app.name} of the VisualIndex {owner}"
    return f"the application {app.name}, which is none of a VisualIndex"


def _restated(app: ApplicationState) -> dict[str, Any]:
    """The configuration of a foreign application, as it was deployed."""
    if app.deployed_app_config is None:
        raise NotRestatable(app.name, f"Ray does not tell its configuration (it is {app.status})")
    if REDACTED in environment_values(app.deployed_app_config):
        raise NotRestatable(app.name, "Ray hides the values of its environment variables")
    return dict(app.deployed_app_config)


def _settings(state: ServeState) -> dict[str, Any]:
    """The cluster's own settings: those left out would be reset (target_capacity) or complained about in Ray's log."""
    present = {
        "proxy_location": state.proxy_location,
        "http_options": state.http_options,
        "grpc_options": state.grpc_options,
        "target_capacity": state.target_capacity,
    }
    return {key: value for key, value in present.items() if value is not None}
