"""A simulation of the job API of a Ray dashboard, as Ray 2.60 answers: jobs begin at once, and end when a test says so."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

_RELAYED = (
    "Traceback (most recent call last):\n"
    '  File "job_head.py", line 421, in submit_job\n'
    "    resp = await job_agent_client.submit_job_internal(submit_request)\n"
    "RuntimeError: Request failed with status code {status}: Traceback (most recent call last):\n"
    '  File "job_agent.py", line 42, in submit_job\n'
    "    submission_id = await self.get_job_manager().submit_job(\n"
    "{words}\n.\n"
)


def relayed(status: int, words: str) -> web.Response:
    """What an agent refused, as the dashboard gives it back."""
    return web.Response(status=500, text=_RELAYED.format(status=status, words=words))


@dataclass
class SimulatedJobs:
    """The jobs of one simulated cluster."""

    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)
    """Jobs whose submission is carried out and never answered."""
    stopped: list[str] = field(default_factory=list)
    refuses: str = ""
    """What the agent says of a runtime environment that it does not take."""

    def routes(self, app: web.Application) -> None:
        """The API, for an application."""
        app.router.add_get("/api/jobs/", self._list)
        app.router.add_post("/api/jobs/", self._submit)
        app.router.add_post("/api/jobs/{name}/stop", self._stop)
        app.router.add_delete("/api/jobs/{name}", self._delete)

    def ends(self, name: str, status: str, message: str = "") -> None:
        """A job comes to an end, which is long ago already."""
        self.jobs[name] |= {"status": status, "message": message, "end_time": 2000}

    async def _list(self, _: web.Request) -> web.Response:
        return web.json_response(list(self.jobs.values()))

    async def _submit(self, request: web.Request) -> web.Response:
        job = await request.json()
        name = job["submission_id"]
        if self.refuses:
            return relayed(400, f"ValueError: {self.refuses}")
        if name in self.jobs:
            said = f"Job with submission_id {name} already exists. Please use a different submission_id."
            return relayed(400, f"ValueError: {said}")
        self.jobs[name] = {
            **job,
            "type": "SUBMISSION",
            "status": "RUNNING",
            "start_time": int(time.time() * 1000),
        }
        if name in self.lost:
            await asyncio.Event().wait()
        return web.json_response({"job_id": name, "submission_id": name})

    async def _stop(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.jobs:
            return web.Response(status=404, text=f"Job {name} does not exist")
        if running := self.jobs[name]["status"] == "RUNNING":
            self.ends(name, "STOPPED")
            self.stopped.append(name)
        return web.json_response({"stopped": running})

    async def _delete(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name not in self.jobs:
            return web.Response(status=404, text=f"Job {name} does not exist")
        if self.jobs[name]["status"] == "RUNNING":
            return relayed(
                500, f"RuntimeError: Attempted to delete job '{name}', but it is in a non-terminal state"
            )
        del self.jobs[name]
        return web.json_response({"deleted": True})
