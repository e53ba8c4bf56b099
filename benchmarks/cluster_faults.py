"""Break the parts of an index on Kubernetes one by one under steady searches: what fails, what is late, when it is whole.

    python -m benchmarks.cluster_faults --namespace NS [--index furniture] [--only "head pod,s3"] [--json FILE]

The index must be there, with two replicas of everything, and the chart's database and object store for trials in the same
namespace; the machine must reach the addresses of Services. `make e2e` runs it in its story. Whole again means: the pods
are back and ready, and the VisualIndex is Ready, not Degraded, for five seconds on end.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.cluster import Cluster, KubectlError, until
from benchmarks.steady import searches, told
from benchmarks.traffic import Outcome

DEV_POD = "visualindex-dev-0"
_CALM_S = 5.0
_SETTLED_S = 5.0
_LIMIT_S = 300.0
_DRAIN_S = 600.0


@dataclass(frozen=True)
class Scene:
    """An index on a cluster, with as many worker pods as there should be."""

    cluster: Cluster
    index: str
    workers: int

    def whole(self) -> bool:
        """Every pod is there and ready, and the index says so of itself."""
        ready = self.cluster.ready(self.index, "worker"), self.cluster.ready(self.index, "head")
        return tuple(map(len, ready)) == (self.workers, 1) and self.cluster.whole(self.index)

    def worker(self) -> str:
        """A worker pod."""
        return min(self.cluster.ready(self.index, "worker"))


@dataclass(frozen=True)
class Fault:
    """`strike` breaks something; it may take as long as what it imitates takes."""

    name: str
    strike: Callable[[Scene], None]


@dataclass(frozen=True)
class Row:
    """What one fault did; times in seconds from the strike."""

    fault: str
    sent: int
    failed: str
    late: int
    last_failure_s: float
    whole_s: float | None

    @property
    def failures(self) -> int:
        """How many searches failed."""
        return 0 if self.failed == "0" else sum(int(part.split()[0]) for part in self.failed.split(", "))


def delete_pod(part: str) -> Callable[[Scene], None]:
    """Delete a pod as `kubectl delete pod` does: it is asked to end and has its grace period."""

    def strike(scene: Scene) -> None:
        pod = min(scene.cluster.ready(scene.index, part))
        scene.cluster.kubectl("delete", "pod", pod, "--wait=false")

    return strike


def delete_operator(scene: Scene) -> None:
    """Delete the operator's pod."""
    scene.cluster.kubectl(
        "delete", "pod", "--selector", "app.kubernetes.io/component=operator", "--wait=false"
    )


def kill(pattern: str) -> Callable[[Scene], None]:
    """SIGKILL the processes in a worker pod whose name matches."""

    def strike(scene: Scene) -> None:
        _kill(scene.cluster, scene.worker(), "ray", pattern)

    return strike


def kill_server(container: str, pattern: str) -> Callable[[Scene], None]:
    """End the server in a container of the pod for trials."""

    def strike(scene: Scene) -> None:
        _kill(scene.cluster, DEV_POD, container, pattern)

    return strike


def _kill(cluster: Cluster, pod: str, container: str, pattern: str) -> None:
    """By /proc: there is no `ps` in the image. A container's first process hears no SIGKILL from inside: it is asked."""
    script = (
        "for d in /proc/[0-9]*; do p=${d#/proc/}; [ $p = $$ ] && continue; [ $p = 1 ] && s=15 || s=9; "
        f'tr "\\0" " " <$d/cmdline 2>/dev/null | grep -q "^{pattern}" && kill -$s $p && echo $p; done; true'
    )
    if not cluster.execute(pod, container, script).strip():
        raise KubectlError(f"no process of {pod} begins with {pattern}")


def evict(scene: Scene) -> None:
    """Evict a worker pod, as the drain of a node does."""
    _evict(scene, scene.worker())


def evict_all(scene: Scene) -> None:
    """Evict every worker pod, each as soon as the disruption budget allows it: the drain of the node they are on."""
    for pod in scene.cluster.ready(scene.index, "worker"):
        until(lambda pod=pod: _try_evict(scene, pod), f"{pod} may be evicted", _DRAIN_S)  # type: ignore[misc]


def _try_evict(scene: Scene, pod: str) -> bool:
    try:
        _evict(scene, pod)
    except KubectlError as refused:
        if "disruption budget" not in str(refused):
            raise
        return False
    return True


def _evict(scene: Scene, pod: str) -> None:
    namespace = scene.cluster.namespace
    body = {
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace},
    }
    path = f"/api/v1/namespaces/{namespace}/pods/{pod}/eviction"
    scene.cluster.kubectl("create", "--raw", path, "--filename", "-", stdin=json.dumps(body))


def nothing(_: Scene) -> None:
    """The control."""


FAULTS = [
    Fault("none", nothing),
    Fault("operator pod deleted", delete_operator),
    Fault("shard process killed", kill("ray::ServeReplica:index-")),
    Fault("gateway process killed", kill("ray::ServeReplica:gateway-")),
    Fault("HAProxy killed", kill("/.*haproxy ")),
    Fault("worker pod deleted", delete_pod("worker")),
    Fault("worker pod evicted", evict),
    Fault("all workers evicted in turn", evict_all),
    Fault("head pod deleted", delete_pod("head")),
    Fault("Postgres killed", kill_server("postgres", "/.*/bin/postgres ")),
    Fault("S3 ended", kill_server("objectstore", "minio server")),
]
SHORT = ("worker pod deleted", "operator pod deleted")


def strike(scene: Scene, fault: Fault) -> Row:
    """Send searches, strike, wait until everything is whole again and stays so."""
    until(scene.whole, f"the index is whole before: {fault.name}", _LIMIT_S)
    with searches(scene.cluster.url(scene.index), scene.cluster.key(scene.index)) as outcomes:
        time.sleep(_CALM_S)
        struck = time.monotonic()
        fault.strike(scene)
        whole_s = _settled(scene, struck)
        time.sleep(_CALM_S)
    return _row(fault, outcomes, struck, whole_s)


def _settled(scene: Scene, struck: float) -> float | None:
    """Seconds from the strike to the beginning of the first calm; None without one."""
    calm: float | None = None
    while time.monotonic() - struck < _LIMIT_S:
        if not scene.whole():
            calm = None
        elif calm is None:
            calm = time.monotonic()
        elif time.monotonic() - calm > _SETTLED_S:
            return calm - struck
        time.sleep(0.2)
    return None


def _row(fault: Fault, outcomes: list[Outcome], struck: float, whole_s: float | None) -> Row:
    since = [one for one in outcomes if one.ended > struck]
    last = max((one.ended for one in since if not one.ok), default=struck)
    late = sum(one.late for one in since)
    return Row(fault.name, len(since), told(since), late, last - struck, whole_s)


HEADER = "| fault | searches | failed | late | last failure s | whole again s |\n|---|---|---|---|---|---|"


def line(row: Row) -> str:
    """One row of the table."""
    whole = "never" if row.whole_s is None else f"{row.whole_s:.1f}"
    return f"| {row.fault} | {row.sent} | {row.failed} | {row.late} | {row.last_failure_s:.1f} | {whole} |"


def main() -> None:
    """Run, print the table, exit with 1 when something did not heal."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--namespace", required=True, help="where the index is")
    parser.add_argument("--index", default="furniture", help="its name; the Ray cluster has the same")
    parser.add_argument("--workers", type=int, default=2, help="worker pods of the cluster")
    parser.add_argument("--only", help="names of faults, separated by commas")
    parser.add_argument("--json", type=Path, help="file to write the rows to")
    arguments = parser.parse_args()
    scene = Scene(Cluster(arguments.namespace), arguments.index, arguments.workers)
    only = None if arguments.only is None else set(arguments.only.split(","))
    rows = []
    print(HEADER, flush=True)
    for fault in FAULTS:
        if only is None or fault.name in only:
            rows.append(strike(scene, fault))
            print(line(rows[-1]), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=2))
    if any(row.whole_s is None for row in rows):
        sys.exit("something did not heal: see the table")


if __name__ == "__main__":
    main()
