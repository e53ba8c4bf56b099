"""Waiting for a background job, with a bar on the terminal that says how far it is."""

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from visualindex.api.generations import JobView
from visualindex.client import Client

_LOOK_S = 0.5
_SOON = 6
"""Looks after which a job that is still queued is worth a word."""


def watch(client: Client, index: str, job: JobView, *, quiet: bool) -> JobView:
    """The job once it has ended. Interrupting it leaves the job alone. Raises ProblemError as the client does."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task(job.state, total=None)
        queued = 0
        while job.state in ("queued", "running"):
            time.sleep(_LOOK_S)
            job = client.get_job(index, job.job_id)
            queued += job.state == "queued"
            if queued == _SOON and job.state == "queued" and not quiet:
                console.print(f"{job.kind} is {job.state}: {job.phase}", highlight=False)
            bar.update(task, description=job.phase or job.state, completed=job.done, total=job.total or None)
    return job
