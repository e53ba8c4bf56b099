"""`python -m visualindex_jobs`: claims one job of an index and carries it out: the entrypoint of a RayJob, of a submitted
job, or of a process by itself.

Credentials come from the environment, as for every part of the service; the index from a spec file, or as JSON from the
variable VISUALINDEX_SPEC. SIGTERM is a notice: the chunk under way is committed and the job given back, to go on elsewhere.
"""

import argparse
import asyncio
import json
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

from visualindex import credentials
from visualindex.catalog import LEASE_S, Catalog, JobRecord
from visualindex.encoders import backbone_of
from visualindex.encoders.patch_packing import load_packing
from visualindex.errors import ProblemError
from visualindex.spec import SpecError, VisualIndex, load_specs, parse_spec
from visualindex_jobs import notice
from visualindex_jobs.encoder_tools import fetching
from visualindex_jobs.kinds import KINDS

_FAILED, _NOTHING, _LEFT = 1, 3, 4
_SPEC_VARIABLE = "VISUALINDEX_SPEC"
_SUBMITTED = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Set by Ray for the processes of jobs that were submitted to it."""
_LOOK_S = 1.0
_OPEN = ("queued", "running")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code 0 when the job is done, 1 when it failed or was cancelled, 2 for wrong arguments, 3 when there was none,
    4 when it was given back because this process is to end."""
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
    parser.add_argument("--job", type=UUID, help="carry this one out, which was asked for, and ask for none")
    parser.add_argument("--spec", type=Path, help=f"YAML file with the index; default: in {_SPEC_VARIABLE}")
    parser.add_argument("--index", help="its name, if the file has several")
    parser.add_argument("--place", choices=["here", "beside", "own"], default="here")
    parser.add_argument("--activate", action="store_true", help="serve the generation if it is good enough")
    parser.add_argument(
        "--wait", type=float, default=2 * LEASE_S, help="seconds for another's lease on the job to end"
    )
    return parser


async def _run(asked: argparse.Namespace) -> int:
    resource = _resource(asked)
    access = await credentials.from_environment()
    catalog = await Catalog.open(access.dsn, max_connections=1, application_name="visualindex-jobs")
    try:
        wanted = await _wanted(catalog, resource, asked)
        job = await _claimed(catalog, wanted, asked.wait) if wanted.state in _OPEN else wanted
        if job is None:
            print(f"job {wanted.job_id} is held by another process", file=sys.stderr)  # noqa: T201
            return _NOTHING
        if wanted.state in _OPEN and not await _carried_out(catalog, resource, job, access, asked):
            print(f"job {wanted.job_id} is given back", file=sys.stderr)  # noqa: T201
            return _LEFT
        ended = await catalog.get_job(resource.name, job.job_id)
    finally:
        await catalog.close()
    print(json.dumps({"state": ended.state, "problem": ended.problem, "result": ended.result}))  # noqa: T201
    return 0 if ended.state == "done" else _FAILED


async def _carried_out(
    catalog: Catalog,
    resource: VisualIndex,
    job: JobRecord,
    access: credentials.Credentials,
    asked: argparse.Namespace,
) -> bool:
    """Whether the job has come to an end here. It has not when this process was given notice: then it is given back."""
    with notice.at_work():
        if asked.place != "here":
            _join_ray()
        notice.heed_signals()  # after Ray, which takes the signal for itself
        await KINDS[asked.kind](resource, job, _features(resource, access), asked.place)
        given_back = notice.given() and await catalog.release_job(job.fence, "its process is to end")
    return not given_back


async def _wanted(catalog: Catalog, resource: VisualIndex, asked: argparse.Namespace) -> JobRecord:
    if asked.job is not None:
        return await catalog.get_job(resource.name, asked.job)
    parameters = {"activate": asked.activate, "attempts": resource.spec.reindex.attempts}
    return (await catalog.request_job(resource.name, asked.kind, parameters))[0]


def _resource(asked: argparse.Namespace) -> VisualIndex:
    if asked.spec is not None:
        return _named(load_specs([asked.spec]), asked.index)
    document = os.environ.get(_SPEC_VARIABLE)
    if not document:
        raise SystemExit(f"which index? Give --spec FILE, or its resource as JSON in {_SPEC_VARIABLE}")
    return parse_spec(json.loads(document), _SPEC_VARIABLE)


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

    ray.init(ignore_reinit_error=True, log_to_driver=False, runtime_env={"env_vars": _handed_on()})


def _handed_on() -> dict[str, str]:
    """The variables that the cluster's processes get from this one; none where it was submitted with them.

    Its nodes have them then, or Ray hands on those of the submission, and refuses to be told of them twice.
    """
    if _SUBMITTED in os.environ:
        return {}
    own_alone = (_SPEC_VARIABLE, notice.FOLDER_VARIABLE)  # read here, and each node's own
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("VISUALINDEX_") and name not in own_alone
    }


if __name__ == "__main__":
    sys.exit(main())
