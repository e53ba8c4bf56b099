"""`visualindex jobs`: background jobs of an index, with how far they are and what they told."""

import time
import uuid
from typing import TYPE_CHECKING, Annotated

import typer

from visualindex.cli import ids
from visualindex.cli.answers import AsJson, print_all, raise_failed, tell_joined
from visualindex.cli.connection import DEFAULT_SERVICE, ApiKey, Name, ServiceUrl, connected

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from visualindex.api.generations import JobLineView, JobView, QuarantineView
    from visualindex.client import Client

jobs = typer.Typer(no_args_is_help=True, help="Background jobs: run, list, show, logs, cancel.")

JobId = Annotated[
    uuid.UUID,
    typer.Argument(parser=ids.job, help="The job, from `jobs list`.", show_default=False),
]
_LOOK_S = 1.0
_AS_SCHEDULES_CALL_IT = {"full": "reindex", "refresh": "build"}


def _kind(typed: str) -> str:
    kind = _AS_SCHEDULES_CALL_IT.get(typed, typed)
    if kind not in ("reindex", "build"):
        raise typer.BadParameter(
            f"{typed!r} is no job to run from here: `reindex` (or `full`) and `build` (or `refresh`) are; "
            "`visualindex index check` and `visualindex ingest --server-side` run theirs"
        )
    return kind


@jobs.command()
def run(
    kind: Annotated[
        str,
        typer.Argument(
            parser=_kind,
            help="`reindex` (in schedules `full`): make what images lack, then build. `build` (`refresh`): build alone.",
            show_default=False,
        ),
    ],
    name: Name,
    activate: Annotated[
        bool, typer.Option("--activate", help="Activate the generation if it is good enough.")
    ] = False,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end.")] = False,
    service: ServiceUrl = DEFAULT_SERVICE,
    api_key: ApiKey = None,
    as_json: AsJson = False,
) -> None:
    """Run a job and show how far it is. Interrupting this leaves the job alone."""
    from visualindex.cli.watching import watch

    with connected(service, api_key) as client:
        job = _asked(client, kind, name, activate)
        tell_joined(job, activate)
        if not detach:
            job = watch(client, name, job, quiet=as_json)
    _print(job, as_json)
    raise_failed(job, name)


@jobs.command("list")
def list_(
    name: Name, service: ServiceUrl = DEFAULT_SERVICE, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """List the latest jobs of an index, the newest first."""
    from visualindex.cli.index_pages import job_table

    with connected(service, api_key) as client:
        views = client.list_jobs(name)
    print_all(views, job_table, as_json)


def _about_one(act: "Callable[[Client, str, uuid.UUID], JobView]") -> "Callable[..., None]":
    """A command about one job, which prints what the service says of it then."""

    def command(
        name: Name,
        job_id: JobId,
        service: ServiceUrl = DEFAULT_SERVICE,
        api_key: ApiKey = None,
        as_json: AsJson = False,
    ) -> None:
        with connected(service, api_key) as client:
            _print(act(client, name, job_id), as_json)

    return command


_ABOUT_ONE: "dict[str, tuple[str, Callable[[Client, str, uuid.UUID], JobView]]]" = {
    "show": (
        "Show a job: how far it is, or what came of it and what it took.",
        lambda client, name, job_id: client.get_job(name, job_id),
    ),
    "cancel": (
        "Cancel a job that has not ended. What it made of images so far stays and is not made again.",
        lambda client, name, job_id: client.cancel_job(name, job_id),
    ),
    "pause": (
        "Pause a job that waits or runs; it goes on where it was.",
        lambda client, name, job_id: client.pause_job(name, job_id),
    ),
    "resume": (
        "Have a job go on that was paused, or that failed.",
        lambda client, name, job_id: client.resume_job(name, job_id),
    ),
}
for _command, (_help, _act) in _ABOUT_ONE.items():
    jobs.command(_command, help=_help)(_about_one(_act))


@jobs.command()
def logs(
    name: Name,
    job_id: JobId,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the job has ended.")] = False,
    service: ServiceUrl = DEFAULT_SERVICE,
    api_key: ApiKey = None,
) -> None:
    """Print what a job told of itself."""
    after = 0
    with connected(service, api_key) as client:
        while True:
            ended = client.get_job(name, job_id).state in ("done", "failed", "cancelled")
            while lines := client.job_log(name, job_id, after=after):
                for line in lines:
                    typer.echo(_line(line))
                after = lines[-1].number
            if ended or not follow:
                return
            time.sleep(_LOOK_S)


@jobs.command()
def quarantine(
    name: Name, service: ServiceUrl = DEFAULT_SERVICE, api_key: ApiKey = None, as_json: AsJson = False
) -> None:
    """List the images that jobs could not read or decode, with the reasons."""
    with connected(service, api_key) as client:
        views = client.quarantine(name)
    print_all(views, _quarantine_table, as_json)


def _asked(client: "Client", kind: str, name: str, activate: bool) -> "JobView":
    if kind == "reindex":
        return client.reindex(name, activate=activate)
    return client.build_generation(name, activate=activate)


def _quarantine_table(views: "Sequence[QuarantineView]") -> str:
    lines = [f"{view.image_id}  {view.reason:<18} {view.detail}" for view in views]
    return "\n".join(lines) or "no image is in quarantine"


def _line(line: "JobLineView") -> str:
    return f"{line.told_at:%Y-%m-%d %H:%M:%S}  {line.line}"


def _print(job: "JobView", as_json: bool) -> None:
    from visualindex.cli.index_pages import job_page

    typer.echo(job.model_dump_json(indent=2) if as_json else job_page(job))
