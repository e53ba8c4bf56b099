"""`python -m visualindex_jobs`: claims one job of an index and carries it out: the entrypoint of a RayJob, of a submitted
job, or of a process by itself.

Credentials come from the environment, as for every part of the service; the index from a spec file.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from visualindex import credentials
from visualindex.catalog import LEASE_S, Catalog, JobRecord
from visualindex.encoders import backbone_of
from visualindex.encoders.patch_packing import load_packing
from visualindex.errors import ProblemError
from visualindex.spec import SpecError, VisualIndex, load_specs
from visualindex_jobs.encoder_tools import fetching
from visualindex_jobs.kinds import KINDS

_FAILED, _NOTHING = 1, 3
_LOOK_S = 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the job is done, 1 when it failed or was cancelled, 2 for wrong arguments, 3 when there was none."""
    asked = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        return asyncio.run(_run(asked))
    except (ProblemError, SpecError) as problem:
        print(f"error: {problem}", file=sys.stderr)  # noqa: T201 - a command line
        return _FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("visualindex_jobs", description="Carry one job of an index out.")
    parser.add_argument("kind", choices=sorted(KINDS), help="the job to ask for, unless one is open")
    parser.add_argument("--spec", type=Path, required=True, help="YAML file with the index")
    parser.add_argument("--index", help="its name, if the file has several")
    parser.add_argument("--place", choices=["here", "beside", "own"], default="here")
    parser.add_argument("--activate", action="store_true", help="serve the generation if it is good enough")
    parser.add_argument(
        "--wait", type=float, default=2 * LEASE_S, help="seconds for another's lease on the job to end"
    )
    return parser


async def _run(asked: argparse.Namespace) -> int:
    resource = _named(load_specs([asked.spec]), asked.index)
    access = await credentials.from_environment()
    catalog = await Catalog.open(access.dsn, max_connections=1, application_name="visualindex-jobs")
    try:
        parameters = {"activate": asked.activate, "attempts": resource.spec.reindex.attempts}
        wanted, _ = await catalog.request_job(resource.name, asked.kind, parameters)
        job = await _claimed(catalog, wanted, asked.wait)
        if job is None:
            print(f"job {wanted.job_id} is held by another process", file=sys.stderr)  # noqa: T201
            return _NOTHING
        if asked.place != "here":
            _join_ray()
        await KINDS[asked.kind](resource, job, _features(resource, access), asked.place)
        ended = await catalog.get_job(resource.name, job.job_id)
    finally:
        await catalog.close()
    print(json.dumps({"state": ended.state, "problem": ended.problem, "result": ended.result}))  # noqa: T201
    return 0 if ended.state == "done" else _FAILED


def _named(resources: Sequence[VisualIndex], name: str | None) -> VisualIndex:
    for resource in resources:
        if name in (None, resource.name):
            return resource
    raise SystemExit(f"the spec file has no index {name}: it has {', '.join(r.name for r in resources)}")


async def _claimed(catalog: Catalog, wanted: JobRecord, wait_s: float) -> JobRecord | None:
    """The job once nobody else holds it."""
    loop = asyncio.get_running_loop()
    until = loop.time() + wait_s
    while True:
        job = await catalog.claim_job(wanted.index, LEASE_S, job_id=wanted.job_id)
        if job is not None or loop.time() >= until:
            return job
        await asyncio.sleep(_LOOK_S)


def _features(resource: VisualIndex, access: credentials.Credentials) -> str | None:
    """The fingerprint of the patches that the index keeps."""
    if not resource.spec.rerank.kept:
        return None
    cache = Path(os.environ.get("VISUALINDEX_STATE_DIR", "/var/lib/visualindex")) / "cache"
    fetch = fetching(resource, access)
    backbone = backbone_of(resource.spec.encoder, cache, fetch)
    packing = load_packing(resource.spec.rerank, backbone, cache_dir=cache, fetch=fetch)
    return None if packing is None else packing.fingerprint


def _join_ray() -> None:
    """The cluster in RAY_ADDRESS, or one on this machine. Its processes open what this one does."""
    import ray

    own = {name: value for name, value in os.environ.items() if name.startswith("VISUALINDEX_")}
    ray.init(ignore_reinit_error=True, log_to_driver=False, runtime_env={"env_vars": own})


if __name__ == "__main__":
    sys.exit(main())
