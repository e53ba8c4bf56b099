"""One namespace of a Kubernetes cluster as measurements and tests of the whole product see it: through kubectl."""

import base64
import json
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]
_LOOK_S = 0.3
CLUSTER_LABEL = "visualindex.dev/cluster"
PART_LABEL = "app.kubernetes.io/component"


class KubectlError(RuntimeError):
    """A kubectl command that failed, with what it said."""


@dataclass(frozen=True)
class Cluster:
    """The cluster that kubectl reaches, in one namespace."""

    namespace: str

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """What the command prints. Raises `KubectlError`."""
        command = ["kubectl", "--namespace", self.namespace, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            raise KubectlError(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
        return done.stdout

    def get(self, kind: str, name: str) -> Object | None:
        """One object, None where it is not there."""
        text = self.kubectl("get", kind, name, "--ignore-not-found", "--output", "json")
        return json.loads(text) if text else None

    def items(self, kind: str, **labels: str) -> list[Object]:
        """The objects of a kind with these labels."""
        selector = ",".join(f"{name}={value}" for name, value in labels.items())
        listing = json.loads(self.kubectl("get", kind, "--selector", selector, "--output", "json"))
        return list(listing["items"])

    def apply(self, document: Object) -> str:
        """`kubectl apply` of one document."""
        return self.kubectl("apply", "--filename", "-", stdin=json.dumps(document))

    def patch(self, kind: str, name: str, change: Object) -> None:
        """A merge patch."""
        self.kubectl("patch", kind, name, "--type", "merge", "--patch", json.dumps(change))

    def secret(self, name: str) -> dict[str, str]:
        """The texts in a Secret."""
        found = self.get("secret", name)
        data = (found or {}).get("data") or {}
        return {key: base64.b64decode(value).decode() for key, value in data.items()}

    def write_secret(self, name: str, texts: dict[str, str]) -> None:
        """A Secret with these texts, whatever it held before."""
        metadata = {"name": name, "namespace": self.namespace}
        document = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": texts}
        self.kubectl(
            "apply", "--server-side", "--force-conflicts", "--filename", "-", stdin=json.dumps(document)
        )

    def execute(self, pod: str, container: str, script: str) -> str:
        """What a shell script prints in a container."""
        return self.kubectl("exec", pod, "--container", container, "--", "sh", "-c", script)

    def pods(self, cluster: str, part: str) -> list[Object]:
        """The pods of a part (`head`, `worker`) of a Ray cluster that are not ending."""
        found = self.items("pods", **{CLUSTER_LABEL: cluster, PART_LABEL: part})
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def ready(self, cluster: str, part: str) -> dict[str, str]:
        """Uids of the pods of a part that are ready, by name."""
        pods = [pod for pod in self.pods(cluster, part) if _holds(pod, "Ready")]
        return {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in pods}

    def address(self, service: str) -> str:
        """The IP address of a Service; for one without, that of a pod behind it."""
        found = self.get("service", service)
        address = (found or {}).get("spec", {}).get("clusterIP", "")
        if address not in ("", "None"):
            return str(address)
        slices = self.items("endpointslices", **{"kubernetes.io/service-name": service})
        addresses = [one["addresses"][0] for each in slices for one in each.get("endpoints") or []]
        return str(addresses[0])

    def whole(self, index: str) -> bool:
        """Whether the index is ready, not degraded, and this was observed of its present spec."""
        found = self.get("visualindex", index)
        return found is not None and is_whole(found)

    def key(self, index: str) -> str:
        """The API key that the operator made for an index."""
        return self.secret(f"{index}-api-keys")["admin"]

    def url(self, index: str, cluster: str | None = None) -> str:
        """Where the index answers, for a machine that reaches the addresses of Services."""
        base = f"http://{self.address(f'{cluster or index}-serve-svc')}:8000"
        return base if cluster in (None, index) else f"{base}/{index}"


def until(condition: Callable[[], bool], what: str, limit_s: float) -> float:
    """Seconds until the condition held. Raises TimeoutError."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() - began > limit_s:
            raise TimeoutError(f"not within {limit_s:.0f} s: {what}")
        time.sleep(_LOOK_S)
    return time.monotonic() - began


def condition(resource: Object, kind: str) -> Object:
    """One condition of an object; empty where there is none."""
    conditions = (resource.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == kind), {})


def is_whole(resource: Object) -> bool:
    """Whether a VisualIndex is ready, not degraded and not changing, as of its present spec."""
    status = resource.get("status") or {}
    return (
        status.get("observedGeneration") == resource["metadata"]["generation"]
        and _holds(resource, "Ready")
        and not _holds(resource, "Degraded")
        and not status.get("plan")
    )


def _holds(resource: Object, kind: str) -> bool:
    return bool(condition(resource, kind).get("status") == "True")
