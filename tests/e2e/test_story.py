"""From `helm install` to the last picture deleted, in order, on a real cluster: each step stands on the ones before."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import helm_python as helm
import httpx
import pytest
from benchmarks.cluster import KubectlError, condition, is_whole, until
from benchmarks.cluster_faults import FAULTS, HEADER, SHORT, Scene, line, strike
from benchmarks.ledger import Ledger, verify
from benchmarks.steady import searches, told
from tests.e2e.conftest import ACCESS, CHART, INDEX, RELEASE, Story, example, long, values
from tests.e2e.servers import Database, ObjectStore

from visualindex.api.images import ImageRequest
from visualindex.client import Client

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
PICTURES, SHORT_PICTURES = 820, 200


def search(story: Story, picture: bytes, key: str | None = None) -> httpx.Response:
    """One search by picture."""
    headers = {"Authorization": f"Bearer {key or story.cluster.key(INDEX)}"}
    form = {"files": {"image": ("picture", picture)}, "data": {"limit": "5"}}
    return httpx.post(
        f"{story.cluster.url(INDEX)}/api/search", headers=headers, timeout=10, trust_env=False, **form
    )


@contextmanager
def under_load(
    story: Story, what: str, allowed: int = 0, *, writes_per_s: float = 0, ledger: Ledger | None = None
) -> Iterator[None]:
    """Searches all the while, told and counted: at most `allowed` of them fail, those in flight where a pod was lost."""
    cluster = story.cluster
    with searches(
        cluster.url(INDEX), cluster.key(INDEX), writes_per_s=writes_per_s, ledger=ledger
    ) as outcomes:
        yield
    failed = sum(not one.ok for one in outcomes)
    late = sum(one.late for one in outcomes)
    writes = sum(one.kind == "write" for one in outcomes)
    story.say(
        f"{what}: {len(outcomes) - writes} searches, {writes} writes, failed {told(outcomes)}, late {late}"
    )
    assert failed <= allowed, told(outcomes)


def wait_until_whole(story: Story, name: str = INDEX, limit_s: float = 300) -> float:
    """Seconds until the index is ready as its spec says now; what it said last where it is not."""
    try:
        return until(lambda: story.cluster.whole(name), f"{name} is ready", limit_s)
    except TimeoutError as exc:
        found = story.cluster.get("visualindex", name) or {}
        raise TimeoutError(f"{exc}: {json.dumps(found.get('status'), indent=1)[:4000]}") from exc


def test_the_chart_installs_into_a_restricted_namespace(story: Story, releases: helm.Config) -> None:
    installed = story.cluster.get("crd", "visualindexes.visualindex.dev")
    story.seen["installs_definition"] = installed is None
    began = time.monotonic()
    releases.install(
        CHART, RELEASE, values(story), namespace=story.cluster.namespace, wait="watcher", timeout=240
    )
    story.say(f"chart installed, pods ready: {time.monotonic() - began:.1f} s")


def test_an_applied_example_becomes_ready(story: Story) -> None:
    servers = story.cluster.secret("visualindex-dev")
    story.cluster.write_secret(ACCESS, {key: servers[key] for key in ("dsn", "accessKey", "secretKey")})
    story.cluster.apply(example())
    seconds = wait_until_whole(story)
    story.say(f"applied example Ready: {seconds:.1f} s")


def test_a_real_collection_is_ingested(story: Story) -> None:
    visualindex = str(Path(sys.executable).with_name("visualindex"))
    given = os.environ.get("VISUALINDEX_E2E_FURNITURE")
    folder = Path(given) if given else story.pictures
    if not given:
        subprocess.run([visualindex, "collections", "fetch", "furniture", str(folder)], check=True)
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    count = SHORT_PICTURES if story.short else PICTURES
    items = [{**item, "path": str(folder / item["path"])} for item in map(json.loads, lines[:count])]
    manifest = story.pictures / "some.jsonl"
    manifest.write_text("\n".join(map(json.dumps, items)))
    environment = {
        **os.environ,
        "VISUALINDEX_URL": story.cluster.url(INDEX),
        "VISUALINDEX_API_KEY": story.cluster.key(INDEX),
    }
    began = time.monotonic()
    done = subprocess.run(
        [visualindex, "ingest", str(manifest), "--json"],
        env=environment, capture_output=True, text=True, check=False, cwd=story.pictures,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    story.say(f"{count} pictures ingested: {time.monotonic() - began:.1f} s")
    more = json.loads(lines[count])
    more["path"] = str(folder / more["path"])
    story.seen.update(items=items, count=count, more=more)


def test_a_search_by_picture_finds_the_picture_itself_first(story: Story) -> None:
    for item in story.seen["items"][:: len(story.seen["items"]) // 10]:
        answer = search(story, Path(item["path"]).read_bytes())
        assert answer.status_code == 200, answer.text
        best = [hit for hit in answer.json()["hits"] if hit["score"] > 0.999]
        assert item["key"] in [hit["key"] for hit in best]


def test_a_wrong_key_is_refused(story: Story) -> None:
    answer = search(story, Path(story.seen["items"][0]["path"]).read_bytes(), key="vi_wrong")
    assert answer.status_code == 401


def test_the_status_counts_the_pictures(story: Story) -> None:
    def counted() -> bool:
        found = story.cluster.get("visualindex", INDEX) or {}
        return bool(found["status"].get("images") == story.seen["count"])

    story.say(f"status.images is right after {until(counted, 'status.images', 90):.1f} s")


def test_ray_takes_no_orders_without_its_token(story: Story) -> None:
    dashboard = f"http://{story.cluster.address(f'{INDEX}-head-svc')}:8265"
    job = httpx.post(f"{dashboard}/api/jobs/", json={"entrypoint": "id"}, timeout=10, trust_env=False)
    config = httpx.put(
        f"{dashboard}/api/serve/applications/", json={"applications": []}, timeout=10, trust_env=False
    )
    assert (job.status_code, config.status_code) == (401, 401)
    assert is_whole(story.cluster.get("visualindex", INDEX) or {})
    assert condition(story.cluster.get("visualindex", INDEX) or {}, "Degraded").get("status") == "False"


def plugin(story: Story, *arguments: str) -> str:
    """What a command of the kubectl plugin prints."""
    command = [str(Path(sys.executable).with_name("kubectl-visualindex")), *arguments]
    command += ["-n", story.cluster.namespace]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def generation(story: Story) -> dict[str, str]:
    """What the status says of the served generation."""
    found: dict[str, str] = (story.cluster.get("visualindex", INDEX) or {})["status"].get("generation") or {}
    return found


def built(story: Story) -> str:
    """The id of a generation that was built just now and is served."""
    listed = json.loads(plugin(story, "generations", INDEX, "--build", "-o", "json"))
    found = str(listed[0]["generation"])
    until(lambda: generation(story).get("id") == found, f"the status tells generation {found}", 90)
    return found


def test_generations_are_built_activated_and_rolled_back_under_load(story: Story) -> None:
    more = story.seen["more"]
    with under_load(story, "two generations built and activated, one rolled back"):
        began = time.monotonic()
        first = built(story)
        story.say(f"generation built, served and told: {time.monotonic() - began:.1f} s")
        with Client(story.cluster.url(INDEX), api_key=story.cluster.key(INDEX)) as client:
            request = ImageRequest(key=more["key"])
            written = client.put_image(request, image=Path(more["path"]).read_bytes())
        story.seen["count"] += 1
        second = built(story)
        assert second != first
        said = plugin(story, "rollback", INDEX)
        assert said.strip() == f"generation {first} is served"
        until(lambda: generation(story).get("id") == first, "the status tells the first again", 90)
    found = [hit["key"] for hit in search(story, Path(more["path"]).read_bytes()).json()["hits"]]
    assert more["key"] in found, written
    told_of_it = condition(story.cluster.get("visualindex", INDEX) or {}, "RecallMet")
    assert (told_of_it["status"], told_of_it["reason"]) == ("True", "TargetMet")
    assert generation(story)["recall"] in told_of_it["message"]
    events = plugin(story, "events", INDEX)
    assert "Activated" in events
    assert "RolledBack" in events
    story.say(f"status: generation {first}, recall@10 {told_of_it['message']}")


def test_a_rebuild_in_a_ray_job_that_loses_a_worker_is_activated_under_searches(story: Story) -> None:
    database, before = Database(story.cluster), generation(story).get("id", "")
    database.forget_vectors()
    with under_load(story, "rebuilt by a RayJob that lost a worker, and activated"):
        began = time.monotonic()
        job = json.loads(plugin(story, "reindex", INDEX, "--activate", "-o", "json"))["job_id"]
        until(lambda: len(story.cluster.ready(INDEX, "reindex-worker")) == 2, "two workers are ready", 300)
        worker = min(story.cluster.ready(INDEX, "reindex-worker"))
        until(lambda: database.chunks(job) >= 2, "two chunks are made", 120)
        seconds = time.monotonic() - began
        story.cluster.kubectl("delete", "pod", worker, "--wait=false")
        at = database.chunks(job)
        story.say(f"two chunks made by a RayJob: {seconds:.1f} s; pod {worker} deleted at chunk {at}")
        until(lambda: rebuild(story).get("job") != job, "the rebuild has ended", 400)
        ended = rebuild(story)["last"]
        assert (ended["job"], ended["state"]) == (job, "done"), ended
        found = story.cluster.get("visualindex", INDEX) or {}
        until(lambda: generation(story).get("id", "") not in ("", before), "the new generation is told", 90)
        story.say(f"rebuilt, activated and told: {time.monotonic() - began:.1f} s; {ended['outcome']}")
    assert generation(story)["id"] in ended["outcome"]
    assert condition(found, "Reindexing")["reason"] == "ReindexDone"
    assert f"{story.seen['count']} of them encoded" in ended["outcome"]
    assert database.vectors() == story.seen["count"]
    assert at < database.chunks(job) == story.seen["count"]
    events = plugin(story, "events", INDEX)
    assert "ReindexStarted" in events
    assert "ReindexFinished" in events
    until(lambda: not story.cluster.ready(INDEX, "reindex-head"), "its cluster ends", 180)
    for item in story.seen["items"][:: len(story.seen["items"]) // 10]:
        hits = search(story, Path(item["path"]).read_bytes()).json()["hits"]
        assert item["key"] in [hit["key"] for hit in hits if hit["score"] > 0.999]


def rebuild(story: Story) -> dict[str, Any]:
    """What the status says of rebuilds."""
    found: dict[str, Any] = (story.cluster.get("visualindex", INDEX) or {})["status"].get("reindex") or {}
    return found


def test_one_shard_becomes_two_under_searches_and_writes(story: Story) -> None:
    served, ledger = generation(story)["id"], Ledger()
    before = story.cluster.ready(INDEX, "worker")
    with under_load(story, "one shard becomes two", writes_per_s=1, ledger=ledger):
        story.cluster.patch("visualindex", INDEX, {"spec": {"index": {"shards": 2}}})
        until(lambda: plan_of(story) == "NewCluster", "the plan is told", 30)
        summary = (story.cluster.get("visualindex", INDEX) or {})["status"]["plan"]["summary"]
        assert "loaded into 2 shards beside 1 shard" in " ".join(summary)
        seconds = wait_until_whole(story, limit_s=600)
        until(
            lambda: not before.keys() & story.cluster.ready(INDEX, "worker").keys(),
            "the old cluster ends",
            180,
        )
    story.say(f"one shard became two: {seconds:.1f} s")
    headers = {"Authorization": f"Bearer {story.cluster.key(INDEX)}"}
    verdict = asyncio.run(verify(story.cluster.url(INDEX), ledger, headers=headers))
    story.say(f"{ledger.acknowledged} writes acknowledged meanwhile, lost {len(verdict.lost)}")
    assert (verdict.lost, verdict.half_there) == ([], [])
    story.seen["count"] = Database(story.cluster).images()
    until(lambda: finds_all(story), "the pictures are found and counted", 90)
    assert generation(story)["id"] == served
    for item in story.seen["items"][:: len(story.seen["items"]) // 10]:
        hits = search(story, Path(item["path"]).read_bytes()).json()["hits"]
        assert item["key"] in [hit["key"] for hit in hits if hit["score"] > 0.999]


def plan_of(story: Story) -> str:
    """The kind of the change that the status tells."""
    found = (story.cluster.get("visualindex", INDEX) or {})["status"].get("plan") or {}
    return str(found.get("change", ""))


def test_replicas_are_added_beside_the_pods_that_are_there(story: Story) -> None:
    before = story.cluster.ready(INDEX, "worker") | story.cluster.ready(INDEX, "head")
    with under_load(story, "one replica of everything becomes two"):
        change = {"profile": "standard", "ray": {"workers": {"replicas": 2}}}
        story.cluster.patch("visualindex", INDEX, {"spec": change})
        # The status may be of the old replicas for some seconds more: the pods are counted, too.
        seconds = until(Scene(story.cluster, INDEX, workers=2).whole, "two of everything", 300)
    after = story.cluster.ready(INDEX, "worker") | story.cluster.ready(INDEX, "head")
    assert (len(after), before.items() <= after.items()) == (3, True)
    story.say(f"second worker and replicas: {seconds:.1f} s")


def test_applying_a_manifest_again_changes_nothing(story: Story) -> None:
    document = example()
    document["spec"]["profile"] = "standard"
    document["spec"]["index"]["shards"] = 2
    document["spec"]["ray"]["workers"]["replicas"] = 2
    story.cluster.apply(document)
    wait_until_whole(story)

    def versions() -> list[str]:
        kinds = (("visualindex", INDEX), ("rayservice", INDEX), ("secret", f"{INDEX}-credentials"))
        found = [story.cluster.get(*one) or {} for one in kinds]
        return [
            found[0]["metadata"]["resourceVersion"],
            *(str(one["metadata"].get("generation")) for one in found),
        ]

    before = versions()
    for _ in range(20):
        story.cluster.apply(document)
    assert versions() == before


def test_faults_are_survived(story: Story) -> None:
    scene = Scene(story.cluster, INDEX, workers=2)
    story.say(HEADER)
    rows = []
    given = os.environ.get("VISUALINDEX_E2E_FAULTS")
    names = given.split(",") if given else SHORT if story.short else [fault.name for fault in FAULTS]
    for fault in FAULTS:
        if fault.name in names:
            rows.append(strike(scene, fault))
            story.say(line(rows[-1]))
    assert [row.fault for row in rows if row.whole_s is None] == []


@long
def test_the_release_is_upgraded_and_rolled_back_while_the_index_serves(
    story: Story, releases: helm.Config
) -> None:
    before = story.cluster.ready(INDEX, "worker")
    with under_load(story, "helm upgrade and rollback"):
        changed = values(story, logLevel="debug")
        releases.upgrade(
            CHART, RELEASE, changed, namespace=story.cluster.namespace, wait="watcher", timeout=180
        )
        wait_until_whole(story)
        releases.rollback(RELEASE, version=1, wait="watcher", timeout=180)
        wait_until_whole(story)
    assert story.cluster.ready(INDEX, "worker") == before


@long
def test_secrets_are_rotated_under_load(story: Story) -> None:
    """After the rollback: that one takes the Secret of the servers back, too."""
    database = Database(story.cluster)
    store = ObjectStore(story.cluster)
    before = story.cluster.get("rayservice", INDEX) or {}
    with under_load(story, "secrets rotated"):
        dsn = database.change_password()
        access, secret = store.new_keys()
        story.cluster.write_secret(ACCESS, {"dsn": dsn, "accessKey": access, "secretKey": secret})

        def moved() -> bool:
            now = story.cluster.get("rayservice", INDEX) or {}
            return bool(now["spec"]["serveConfigV2"] != before["spec"]["serveConfigV2"])

        waited = until(moved, "the new secrets are given to the applications", 300)
        seconds = waited + wait_until_whole(story)
    assert [pod["metadata"]["uid"] for pod in story.cluster.pods(INDEX, "worker")]
    story.say(f"secrets rotated: {seconds:.1f} s")


def test_a_paused_index_is_left_as_it_is(story: Story) -> None:
    policy = f"{INDEX}-ray"
    annotate(story, "true")
    until(lambda: holds(story, "Paused"), "the pause is reported", 30)
    story.cluster.kubectl("delete", "networkpolicy", policy)
    with pytest.raises(TimeoutError):
        until(lambda: story.cluster.get("networkpolicy", policy) is not None, "a repair", 8)
    annotate(story, None)
    until(lambda: story.cluster.get("networkpolicy", policy) is not None, "a repair", 30)
    wait_until_whole(story)


def annotate(story: Story, paused: str | None) -> None:
    change = {"metadata": {"annotations": {"visualindex.dev/paused": paused}}}
    story.cluster.patch("visualindex", INDEX, change)


def holds(story: Story, kind: str, name: str = INDEX) -> bool:
    found = story.cluster.get("visualindex", name) or {}
    return bool(condition(found, kind).get("status") == "True")


@long
def test_two_indexes_share_a_cluster_and_a_broken_third_harms_neither(story: Story) -> None:
    for name, more in (
        ("lamps", {}),
        ("broken", {"encoder": {"family": "timm", "model": "resnet50", "checkpoint": "/nowhere.pt"}}),
    ):
        document = example()
        document["metadata"]["name"] = name
        document["spec"]["ray"] = {"cluster": INDEX}
        document["spec"].update(more)
        story.cluster.apply(document)
        if name == "lamps":
            began = time.monotonic()
            until(lambda: holds(story, "Ready", "lamps"), "lamps is ready", 600)
            story.say(f"second index on the same cluster: {time.monotonic() - began:.1f} s")
    until(lambda: told_of(story, "broken"), "the broken index says that it is broken", 180)
    wait_until_whole(story)
    assert holds(story, "Ready", "lamps")
    key = story.cluster.key("lamps")
    answer = httpx.post(
        f"{story.cluster.url('lamps', INDEX)}/api/search",
        headers={"Authorization": f"Bearer {key}"},
        files={"image": ("picture", Path(story.seen["items"][0]["path"]).read_bytes())},
        timeout=10,
        trust_env=False,
    )
    assert (answer.status_code, answer.json()["hits"]) == (200, [])
    for name in ("broken", "lamps"):
        story.cluster.kubectl("delete", "visualindex", name, "--timeout=180s")
    wait_until_whole(story, limit_s=600)


def told_of(story: Story, name: str) -> bool:
    found = story.cluster.get("visualindex", name) or {}
    return bool(condition(found, "Ready").get("status") == "False") and bool(
        condition(found, "ServingReady").get("reason")
    )


def finds_all(story: Story) -> bool:
    """Whether the pictures that were ingested are there again."""
    found = story.cluster.get("visualindex", INDEX) or {}
    answer = search(story, Path(story.seen["items"][0]["path"]).read_bytes())
    return bool(
        found["status"].get("images") == story.seen["count"]
        and answer.status_code == 200
        and story.seen["items"][0]["key"] in [hit["key"] for hit in answer.json()["hits"]]
    )


@long
def test_a_suspended_index_runs_nothing_and_keeps_its_pictures(story: Story) -> None:
    story.cluster.patch("visualindex", INDEX, {"spec": {"suspend": True}})
    until(lambda: not story.cluster.pods(INDEX, "worker"), "the pods are gone", 180)
    story.cluster.patch("visualindex", INDEX, {"spec": {"suspend": False}})
    story.say(f"resumed: {wait_until_whole(story):.1f} s")
    until(lambda: finds_all(story), "the pictures are found", 60)


def test_what_is_deleted_with_retain_is_found_again(story: Story) -> None:
    story.cluster.kubectl("delete", "visualindex", INDEX, "--timeout=180s")
    until(lambda: story.cluster.get("rayservice", INDEX) is None, "the RayService is gone", 180)
    document = example()
    document["spec"]["deletionPolicy"] = "Delete"
    story.cluster.apply(document)
    story.say(f"applied again, Ready: {wait_until_whole(story):.1f} s")
    until(lambda: finds_all(story), "the pictures are found", 60)


def test_deleting_with_delete_leaves_no_object_and_no_row(story: Story) -> None:
    database, store = Database(story.cluster), ObjectStore(story.cluster)
    assert (database.images() > 0, store.objects() > 0) == (True, True)
    began = time.monotonic()
    story.cluster.kubectl("delete", "visualindex", INDEX, "--timeout=300s")
    story.say(f"deleted with its data: {time.monotonic() - began:.1f} s")
    assert (database.images(), store.objects()) == (0, 0)


def test_the_operator_needs_little_memory(story: Story) -> None:
    """What the container may not do without: the file cache of its image counts for its pod, and goes when asked for."""
    script = "grep -hE '^VmRSS' /proc/1/status"
    [pod] = story.cluster.items("pods", **{"app.kubernetes.io/component": "operator"})
    text = story.cluster.execute(pod["metadata"]["name"], "operator", script)
    mebibytes = int(text.split()[1]) / 1024
    story.say(f"operator pod: {mebibytes:.0f} MiB resident")
    assert mebibytes < 250


def test_uninstalling_keeps_the_definition(story: Story, releases: helm.Config) -> None:
    until(lambda: story.cluster.items("rayclusters") == [], "Ray clusters are gone", 240)
    releases.uninstall(RELEASE, wait="watcher", timeout=120)
    assert story.cluster.get("crd", "visualindexes.visualindex.dev") is not None
    with pytest.raises(KubectlError):
        story.cluster.kubectl("get", "deployment", "visualindex-operator")
