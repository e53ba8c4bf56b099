"""The Ray head of a local service: one process that starts Ray, runs the applications and stays.

`python -m visualindex_serving.head CONFIG` reads the Serve configuration and the ports its supervisor wrote. It takes
the same builders and arguments that a cluster gets through the REST API; running them here saves the dashboard's
processes and two build workers, about half of the start on two cores. When an application cannot be deployed it exits with
CANNOT_DEPLOY and writes the reason as the last line to stderr.
"""

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import ray
from pydantic import ImportString, TypeAdapter
from ray import serve
from ray.serve.schema import ApplicationStatus, ApplicationStatusOverview

from visualindex.serve_config import CANNOT_DEPLOY

_STARTING_S = 0.5
_RUNNING_S = 15.0
_EXCEPTION = re.compile(r"^(?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*(?:Error|Exception): \S.*$", re.MULTILINE)


def start(config: dict[str, Any], node: dict[str, Any]) -> None:
    """Start Ray with `node`'s options and hand Serve the applications of `config`."""
    ray.init(
        "local",
        namespace="serve",
        include_dashboard=False,
        log_to_driver=False,
        configure_logging=False,
        _node_ip_address="127.0.0.1",
        **node,
    )
    serve.start(
        proxy_location=config["proxy_location"],
        http_options=config["http_options"],
        logging_config=config["logging_config"],
    )
    targets = [_target(application) for application in config["applications"]]
    serve.run_many(targets, wait_for_ingress_deployment_creation=False, wait_for_applications_running=False)


def _target(application: dict[str, Any]) -> serve.RunTarget:
    build = TypeAdapter(ImportString).validate_python(application["import_path"])
    built = build({**application["args"], "deployments": application["deployments"]})
    return serve.RunTarget(built, application["name"], application["route_prefix"])


def watch(logs: Path) -> str:
    """Wait until an application cannot be deployed; returns why, in one line, from what replicas wrote to `logs`.

    Asking costs, so it asks rarely once all run.
    """
    while True:
        applications = serve.status().applications
        for name, application in applications.items():
            if application.status == ApplicationStatus.DEPLOY_FAILED:
                return f"application {name} failed: {_why(name, application, logs)}"
        running = all(a.status == ApplicationStatus.RUNNING for a in applications.values())
        time.sleep(_RUNNING_S if running else _STARTING_S)


def _why(name: str, application: ApplicationStatusOverview, logs: Path) -> str:
    """What keeps each failed deployment from starting, or Serve's own words where no deployment failed."""
    failed = [
        f"{deployment}: {reason(f'{name}_{deployment}', status.message, logs)}"
        for deployment, status in application.deployments.items()
        if status.status.name == ApplicationStatus.DEPLOY_FAILED.name
    ]
    return "; ".join(failed) or " ".join(application.message.split())


def reason(deployment: str, message: str, logs: Path) -> str:
    """The last exception that the deployment's latest replica logged, else the last in Serve's message, else that message.

    Serve knows of a gateway only that its start failed; the cause is in the replica's log.
    """
    replicas = sorted(logs.glob(f"replica_{deployment}_*.log"), key=lambda file: file.stat().st_mtime)
    for text in (*(file.read_text(errors="replace") for file in replicas[-1:]), message):
        exceptions: list[str] = _EXCEPTION.findall(text)
        if exceptions:
            return exceptions[-1]
    return " ".join(message.split())


def main() -> None:
    """Start, then watch until an application fails for good or a signal ends the process."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    start(settings["serve"], settings["node"])
    why = watch(Path(settings["node"]["_temp_dir"]) / "session_latest" / "logs" / "serve")
    sys.stderr.write(f"{why}\n")
    sys.exit(CANNOT_DEPLOY)


if __name__ == "__main__":
    main()
