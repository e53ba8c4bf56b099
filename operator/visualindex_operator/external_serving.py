"""How the applications of one index stand on a cluster of others, and what they were given there."""

from visualindex.credentials import (
    ACCESS_KEY_VARIABLE,
    DSN_VARIABLE,
    SECRET_KEY_VARIABLE,
    Credentials,
    buckets_told,
)
from visualindex.planning.observations import Serving
from visualindex.serve_config import gateway_application, index_application
from visualindex_operator.external_layouts import beside, encoders
from visualindex_operator.serve_merge import OWNER, REDACTED, owner_of
from visualindex_operator.serve_state import ApplicationState, ServeState
from visualindex_operator.trouble import trouble

_BESIDE = "{} holds the shards beside the index, whose number of shards changes"
MESSAGE = 500
"""Most characters of a message."""


def applications_of(name: str) -> list[str]:
    """The names of an index's applications."""
    return [index_application(name), gateway_application(name)]


def serving(state: ServeState, name: str, owner: str, endpoint: str, answers: str | None) -> Serving:
    """How they stand. `answers` is what was heard at `endpoint`: None when searches are answered."""
    names = applications_of(name)
    own = _own(state, name, owner)
    complete = len(own) == len(names)  # encoders apart: which ones there are is the database's word
    changing = {app: state.applications[app] for app in beside(state, name, owner)}
    own |= changing
    own |= {app: state.applications[app] for app in encoders(state, name, owner)}
    states = [one.status for one in own.values()]
    settled = complete and not changing and all(status == "RUNNING" for status in states)
    used = credentials_in_use(state, name, owner)
    told = [_line(app, one) for app, one in own.items() if one.status != "RUNNING"]
    lines = "; ".join([*map(_BESIDE.format, changing), *told])[:MESSAGE]
    return Serving(
        exists=True,
        running=settled or (complete and answers is None),
        settled=settled,
        failed=any(status in ("DEPLOY_FAILED", "UNHEALTHY") for status in states),
        message=lines if own else "the cluster has not been told of the index yet",
        answers=answers if complete else answers or "the applications are not on the cluster",
        missing="" if settled else lines,
        deployed=bool(own),
        credentials=used.digest() if used else "",
        endpoint=endpoint,
    )


def credentials_in_use(state: ServeState, name: str, owner: str) -> Credentials | None:
    """Those that the applications were last told to use; None where there are none, or Ray does not tell."""
    application = _own(state, name, owner).get(gateway_application(name))
    if application is None or application.deployed_app_config is None:
        return None
    variables = application.deployed_app_config["runtime_env"]["env_vars"]
    dsn, access, secret = (
        variables.get(variable) for variable in (DSN_VARIABLE, ACCESS_KEY_VARIABLE, SECRET_KEY_VARIABLE)
    )
    buckets = buckets_told(variables)
    values = (dsn, access, secret, *(key for one in buckets for key in (one.access_key, one.secret_key)))
    if not dsn or REDACTED in values:
        return None
    return Credentials(dsn, access, secret, buckets)


def environment(credentials: Credentials, owner: str) -> dict[str, str]:
    """The variables of an index's applications."""
    return {**credentials.environment(), OWNER: owner}


def _own(state: ServeState, name: str, owner: str) -> dict[str, ApplicationState]:
    found = {app: state.applications.get(app) for app in applications_of(name)}
    return {
        app: one
        for app, one in found.items()
        if one is not None and owner_of(one.deployed_app_config) == owner
    }


def _line(app: str, state: ApplicationState) -> str:
    deployments = {name: (one.status, one.message) for name, one in state.deployments.items()}
    return trouble(app, state.status, state.message, deployments)
