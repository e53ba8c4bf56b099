"""An index told to a person: is it ready, and if not, what is missing and where."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from visualindex.planning.conditions import Reason
from visualindex.spec.status import Condition
from visualindex_operator.kubectl.ages import age
from visualindex_operator.kubectl.cluster import Object
from visualindex_operator.kubectl.event_lines import event_table
from visualindex_operator.kubectl.planned import approval, plan_lines
from visualindex_operator.kubectl.pods import is_ready, phase, restarts, role, troubles
from visualindex_operator.kubectl.ray_services import sides
from visualindex_operator.kubectl.surroundings import Surroundings
from visualindex_operator.kubectl.waiting import condition, waits_for

_GOOD_WHEN_FALSE = frozenset({"Degraded", "Paused", "UpgradeBlocked", "ReindexRequired"})
_NEITHER = "Reindexing"
_MOST_WARNINGS = 10


def account(found: Surroundings, now: datetime) -> Iterator[RenderableType]:
    """The whole account, from what matters most to what explains it."""
    yield headline(found, now)
    if missing := waits_for(found):
        yield Text.assemble(("waits for ", "yellow"), missing)
    yield from _section("Conditions", _conditions(found, now))
    yield from _section("Serves", _serves(found))
    yield from _section("Change", _change(found))
    yield from _section("Reindexing", _reindexing(found, now))
    yield from _section(f"RayService {found.cluster}", _ray_service(found))
    yield from _section("Pods", _pods(found, now))
    yield from _section("Jobs", _jobs(found, now))
    yield from _section("Guards", _guards(found))
    yield from _section("Warnings", _warnings(found, now))
    yield from _section("Not shown", (Text(line) for line in found.unreadable))


def headline(found: Surroundings, now: datetime) -> Text:
    """One line: ready or not, since when, and the reason."""
    ready = condition(found, "Ready")
    name = f"{found.name} (namespace {found.namespace})"
    if ready is None:
        return Text.assemble((name, "bold"), " is ", ("not ready", "red"))
    state = ("ready", "green") if ready.status == "True" else ("not ready", "red")
    since = age(ready.last_transition_time, now)
    return Text.assemble((name, "bold"), " is ", state, f" since {since}: " if since else ": ", ready.reason)


def _section(title: str, content: Iterable[RenderableType]) -> Iterator[RenderableType]:
    parts = list(content)
    if parts:
        yield Text()
        yield Text(title, "bold")
        yield from (Padding(part, (0, 0, 0, 2), expand=False) for part in parts)


def _conditions(found: Surroundings, now: datetime) -> Iterator[RenderableType]:
    if not found.status.conditions:
        return
    table = _table("", "condition", "reason", "since", "message")
    for state in found.status.conditions:
        since = age(state.last_transition_time, now)
        table.add_row(symbol(state), state.type, state.reason, since, Text(state.message))
    yield table


def symbol(state: Condition) -> Text:
    """`✓` for what is as it should be, `✗` for what is not, `!` for what wants attention, `…` for what is under way, and `?`
    for what is unknown."""
    if state.status == "Unknown":
        return Text("?", "yellow")
    if state.type == _NEITHER:
        failed = state.reason == Reason.REINDEX_FAILED
        return Text("!", "yellow") if failed else Text("…" if state.status == "True" else "✓", "green")
    if state.type in _GOOD_WHEN_FALSE:
        return Text("✓", "green") if state.status == "False" else Text("!", "yellow")
    return Text("✓", "green") if state.status == "True" else Text("✗", "red")


def _serves(found: Surroundings) -> Iterator[RenderableType]:
    status = found.status
    rows = []
    if status.images is not None:
        rows.append(("images", f"{status.images:,}"))
    if status.encoder and status.encoder.fingerprint:
        rows.append(("encoder", f"{status.encoder.fingerprint}, {status.encoder.dimension} dimensions"))
    if status.generation and status.generation.id:
        recall = f", recall@10 {status.generation.recall}" if status.generation.recall else ""
        rows.append(("generation", f"{status.generation.id}{recall}"))
    if status.generation and (following := status.generation.next):
        problem = f": {following.problem}" if following.problem else ""
        rows.append(("next", f"{following.id} is {following.state}{problem}"))
    if status.endpoints:
        rows += [("search", status.endpoints.search), ("dashboard", status.endpoints.dashboard)]
    if shown := [row for row in rows if row[1]]:
        table = Table(box=None, show_header=False, pad_edge=False)
        for label, value in shown:
            table.add_row(Text(label, "dim"), Text(value))
        yield table


def _change(found: Surroundings) -> Iterator[RenderableType]:
    if plan := found.status.plan:
        yield from plan_lines(plan)
        yield Text(approval(plan, found.name, found.namespace), "yellow")


def _reindexing(found: Surroundings, now: datetime) -> Iterator[RenderableType]:
    reindex = found.status.reindex
    if reindex is None:
        return
    if reindex.job:
        since = f", begun {age(reindex.started_at, now)} ago" if reindex.started_at else ""
        where = f" in {reindex.run}" if reindex.run else ""
        yield Text.assemble((f"job {reindex.job}{where}{since}: ", ""), (reindex.progress, "yellow"))
    if last := reindex.last:
        colour = {"done": "green", "failed": "red"}.get(last.state, "yellow")
        said = f" {age(last.ended_at, now)} ago" if last.ended_at else ""
        outcome = f": {last.outcome}" if last.outcome else ""
        yield Text.assemble(f"last: job {last.job} ", (last.state, colour), f"{said}{outcome}")


def _ray_service(found: Surroundings) -> Iterator[RenderableType]:
    if found.ray_service is None:
        return
    table = _table("", "cluster", "application", "status", "message")
    for side in sides(found.ray_service):
        for number, application in enumerate(side.applications):
            colour = "green" if application.runs else "yellow"
            first = (side.role, side.cluster) if number == 0 else ("", "")
            table.add_row(
                *first, application.name, Text(application.status, colour), Text(application.message)
            )
        if not side.applications:
            table.add_row(side.role, side.cluster, Text("none yet", "yellow"))
    yield table if table.row_count else Text("has no cluster yet", "yellow")


def _pods(found: Surroundings, now: datetime) -> Iterator[RenderableType]:
    if not found.pods:
        return
    table = _table("pod", "group", "phase", "ready", "restarts", "node", "age")
    for pod in found.pods:
        colour = "green" if is_ready(pod) else "yellow"
        table.add_row(
            pod["metadata"]["name"],
            role(pod),
            phase(pod),
            Text("yes" if is_ready(pod) else "no", colour),
            str(restarts(pod)),
            pod.get("spec", {}).get("nodeName", ""),
            age(pod["metadata"].get("creationTimestamp"), now),
        )
    yield table
    for pod in found.pods:
        for trouble in troubles(pod):
            yield Text.assemble((pod["metadata"]["name"], "yellow"), f": {trouble}")


def _jobs(found: Surroundings, now: datetime) -> Iterator[RenderableType]:
    if not found.jobs:
        return
    table = _table("job", "outcome", "age")
    for job in found.jobs:
        name = job["metadata"]["name"]
        table.add_row(name, outcome(job), age(job["metadata"].get("creationTimestamp"), now))
    yield table


def outcome(job: Object) -> Text:
    """How a Job ended, or how far it is."""
    status = job.get("status", {})
    for state in status.get("conditions") or []:
        if state["type"] == "Complete" and state["status"] == "True":
            return Text("done", "green")
        if state["type"] == "Failed" and state["status"] == "True":
            return Text(f"failed: {state.get('reason', '')}: {state.get('message', '')}", "red")
    tries = status.get("failed", 0)
    failed = f", {tries} failed before" if tries else ""
    return Text(f"runs{failed}" if status.get("active") else "has not started", "yellow")


def _guards(found: Surroundings) -> Iterator[RenderableType]:
    for policy in found.network_policies:
        yield Text(f"NetworkPolicy {policy['metadata']['name']}")
    for budget in found.disruption_budgets:
        status = budget.get("status", {})
        counts = f"{status.get('currentHealthy', 0)} of {status.get('expectedPods', 0)} pods healthy"
        allowed = status.get("disruptionsAllowed", 0)
        yield Text(
            f"PodDisruptionBudget {budget['metadata']['name']}: {counts}, {allowed} may be evicted now"
        )


def _warnings(found: Surroundings, now: datetime) -> Iterator[RenderableType]:
    warnings = [event for event in found.events if event.get("type") == "Warning"]
    if warnings:
        yield event_table(warnings[-_MOST_WARNINGS:], now)


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, pad_edge=False, header_style="dim")
