"""A forwarded port and logs, against pods that run: a node is needed, so KUBECONFIG."""

import json
import os
import re
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.conftest import Indexes

from visualindex_operator.kubectl.forwarding import forwarded
from visualindex_operator.kubectl.services import Service

from .conftest import Run
from .recorded import with_conditions
from .test_commands import DOCUMENT

pytestmark = pytest.mark.skipif(
    not os.environ.get("KUBECONFIG"), reason="needs a cluster with a node: set KUBECONFIG"
)

IMAGE = os.environ.get("VISUALINDEX_TEST_IMAGE", "localhost/visualindex:dev")
BIG = 8_000_000
PROGRAM = f"""
import http.server, os, socket
folder = '/tmp/ray/session_latest/logs/serve'
os.makedirs(folder)
open(folder + '/replica_index-fashion_shard-0_gone.log', 'w').write('from a replica that ended\\n')
log = open(folder + '/replica_gateway-fashion_gateway_live.log', 'w')
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        log.write('GET ' + self.path + '\\n'); log.flush()
        body = b'x' * {BIG} if self.path.endswith('/big') else socket.gethostname().encode()
        self.send_response(200); self.end_headers(); self.wfile.write(body)
    def log_message(self, *arguments):
        print('answered', flush=True)
http.server.ThreadingHTTPServer(('', 8000), Answer).serve_forever()
"""


def pod(name: str) -> dict[str, Any]:
    container = {
        "name": "ray",
        "image": IMAGE,
        "imagePullPolicy": "Never",
        "command": ["python", "-c", PROGRAM],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
    }
    labels = {"ray.io/cluster": "fashion-bcdfg", "ray.io/node-type": "worker", "app": "fashion"}
    spec = {"containers": [container], "terminationGracePeriodSeconds": 0}
    return {"metadata": {"name": name, "labels": labels}, "spec": spec}


@pytest.fixture
def pods(indexes: Indexes) -> Iterator[Indexes]:
    """An index with two worker pods behind its Service; KubeRay is told to leave their RayCluster alone."""
    core = f"/api/v1/namespaces/{indexes.namespace}"
    indexes.create(DOCUMENT)
    url = f"http://fashion-serve-svc.{indexes.namespace}.svc:8000/shop"
    status = {**with_conditions()["status"], "endpoints": {"search": url}, "conditions": []}
    indexes.report("fashion", status).expect(200)
    template = {"spec": {"containers": [{"name": "ray", "image": IMAGE}]}}
    cluster = {
        "apiVersion": "ray.io/v1",
        "kind": "RayCluster",
        "metadata": {"name": "fashion-bcdfg", "labels": {"ray.io/originated-from-cr-name": "fashion"}},
        "spec": {
            "managedBy": "kueue.x-k8s.io/multikueue",
            "headGroupSpec": {"rayStartParams": {}, "template": template},
        },
    }
    path = f"/apis/ray.io/v1/namespaces/{indexes.namespace}/rayclusters"
    indexes.server.request("POST", path, cluster).expect(201)
    spec = {"selector": {"app": "fashion"}, "ports": [{"name": "serve", "port": 8000, "targetPort": 8000}]}
    service = {"metadata": {"name": "fashion-serve-svc"}, "spec": spec}
    indexes.server.request("POST", f"{core}/services", service).expect(201)
    for name in ("one", "two"):
        indexes.server.request("POST", f"{core}/pods", pod(name)).expect(201)
    eventually(lambda: ready_addresses(indexes) == 2)
    yield indexes
    indexes.server.request("DELETE", f"{path}/fashion-bcdfg").expect(200)


def ready_addresses(indexes: Indexes) -> int:
    path = f"/apis/discovery.k8s.io/v1/namespaces/{indexes.namespace}/endpointslices"
    found = indexes.server.request("GET", path).expect(200)["items"]
    return sum(bool(e["conditions"].get("ready")) for part in found for e in part.get("endpoints") or [])


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def get(port: int, path: str = "/") -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=20) as answer:
        content: bytes = answer.read()
    return content


def test_connections_reach_ready_pods_whole_and_survive_the_loss_of_one(
    pods: Indexes, monkeypatch: pytest.MonkeyPatch, api_server: ApiServer
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    told: list[str] = []
    service = Service(pods.namespace, "fashion-serve-svc", 8000)
    with forwarded(None, pods.namespace, service, told.append) as port:
        assert told == ["connections go to one, two"]
        assert set(Counter(get(port).decode() for _ in range(20))) == {"one", "two"}
        assert len(get(port, "/big")) == BIG
        pods.server.request("DELETE", f"/api/v1/namespaces/{pods.namespace}/pods/one").expect(200)
        eventually(lambda: ready_addresses(pods) == 1)
        assert {get(port) for _ in range(5)} == {b"two"}
        assert told[-1] == "connections go to two"


def test_logs_are_those_of_live_replicas_and_with_previous_those_of_ended_ones(
    pods: Indexes, run: Run, monkeypatch: pytest.MonkeyPatch, api_server: ApiServer
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    service = Service(pods.namespace, "fashion-serve-svc", 8000)
    with forwarded(None, pods.namespace, service, lambda _line: None) as port:
        pod_name = get(port, "/api/search").decode()
    assert f"{pod_name}/gateway/live GET /api/search\n" in run("logs", "fashion", "--part", "gateway").stdout
    assert "ended" not in run("logs", "fashion").stdout
    previous = run("logs", "fashion", "--previous").stdout
    assert sorted(previous.splitlines()) == [
        f"{n}/shard-0/gone from a replica that ended" for n in ("one", "two")
    ]
    assert f"{pod_name} answered" in run("logs", "fashion", "--part", "worker", "--tail", "1").stdout
    shown = json.loads(run("status", "fashion", "-o", "json").stdout)
    assert [re.sub("-.*", "", p["metadata"]["name"]) for p in shown["pods"]] == ["one", "two"]
