"""From `helm install` to the last picture deleted, in order, on a real cluster: each step stands on the ones before."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import helm_python as helm
import httpx
import pytest
from benchmarks.cluster import condition, is_whole, until
from tests.e2e.conftest import CHART, INDEX, RELEASE, Story, example, values

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]
PICTURES, SHORT_PICTURES = 820, 200


def search(story: Story, picture: bytes, key: str | None = None) -> httpx.Response:
    """One search by picture."""
    headers = {"Authorization": f"Bearer {key or story.cluster.key(INDEX)}"}
    form = {"files": {"image": ("picture", picture)}, "data": {"limit": "5"}}
    return httpx.post(
        f"{story.cluster.url(INDEX)}/api/search", headers=headers, timeout=10, trust_env=False, **form
    )


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
    story.seen.update(items=items, count=count)


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
