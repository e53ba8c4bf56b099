"""What `helm test` runs in the cluster: VisualIndex is served by the API server, and the operator is up."""

import json
import os
import ssl
import sys
import time
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
API = "https://kubernetes.default.svc/apis/visualindex.dev/v1alpha1"
PATIENCE_S = 60


def served_resources() -> set[str]:
    """Names of what the API server offers in the group."""
    token = (ACCOUNT / "token").read_text()
    request = Request(API, headers={"Authorization": f"Bearer {token}"})
    trust = ssl.create_default_context(cafile=str(ACCOUNT / "ca.crt"))
    with urlopen(request, timeout=10, context=trust) as answer:  # noqa: S310
        return {resource["name"] for resource in json.load(answer)["resources"]}


def operator_metrics() -> str:
    """The operator's metrics page; it may still be starting."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            with urlopen(os.environ["METRICS_URL"], timeout=5) as answer:  # noqa: S310 - the release's own Service
                return str(answer.read(1 << 20), "utf-8")
        except (URLError, TimeoutError) as error:
            if time.monotonic() > deadline:
                sys.exit(f"the operator's metrics do not answer at {os.environ['METRICS_URL']}: {error}")
            time.sleep(1)


if "visualindexes" not in served_resources():
    sys.exit("the API server does not serve visualindexes.visualindex.dev: install the CRD (crds.install)")
print("the API server serves visualindexes.visualindex.dev")  # noqa: T201
if "# HELP" not in operator_metrics():
    sys.exit("the operator's metrics are not in Prometheus' format")
print("the operator's metrics answer")  # noqa: T201
