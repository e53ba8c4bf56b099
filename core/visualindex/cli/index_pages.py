"""What `visualindex index` prints for people: plain text, one line a thing, the same in a terminal and in a pipe."""

import datetime as dt
from collections.abc import Iterable, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from visualindex.api.checks import CheckView, FindingView
from visualindex.api.generations import GenerationView, JobView
from visualindex.api.images import EncoderView, IndexView, ReplicaView
from visualindex.api.ingesting import SourceResult
from visualindex.api.schedules import ScheduleRunView, ScheduleView
from visualindex.cli.recall_plot import Curve, in_characters, read_curve

_EXAMPLES = 5


def overview(views: Sequence[IndexView]) -> str:
    """A line for each index."""
    head = ("index", "images", "generation", "shards", "replicas", "recall", "encoder")
    return table(
        head,
        [
            (
                view.name,
                str(view.images),
                view.generation,
                str(view.shards),
                str(len(view.replicas)),
                "" if view.recall is None else f"{view.recall.recall:.3f}",
                view.encoder,
            )
            for view in views
        ],
    )


def page(view: IndexView) -> str:
    """Everything about one index, with its recall curves drawn."""
    facts = [
        ("index", view.name),
        ("encoder", f"{view.encoder}, {view.dimension} dimensions"),
        ("images", str(view.images)),
        ("generation", view.generation if view.generation != "live" else "live: none was activated yet"),
        ("families", ", ".join(view.families) or "none: the rows of the catalog are served"),
        ("recall", _recall(view)),
        ("live recall", _live(view)),
    ]
    if view.rolled_back_at is not None:
        until = "nothing is folded by itself until a later one is activated, or built with --activate"
        facts.append(("rolled back", f"{view.rolled_back_at:%Y-%m-%d %H:%M %Z}: {until}"))
    lines = [f"{name:<12} {text}" for name, text in facts]
    if len(view.encoders) > 1 or view.migration is not None:
        lines += ["", *_encoder_table(view).splitlines()]
    lines += ["", *_replica_table(view.replicas).splitlines()]
    curves = [] if view.recall is None else view.recall.curves
    for number, document in enumerate(curves):
        lines += ["", *_curve(number, read_curve(document))]
    return "\n".join(lines)


def _recall(view: IndexView) -> str:
    if view.recall is None:
        return "not measured: `visualindex index build` measures it"
    verdict = "met" if view.recall.met else "MISSED"
    return f"{view.recall.recall:.3f} measured, {view.recall.target:g} wanted: {verdict}"


def _live(view: IndexView) -> str:
    if view.live_recall is None:
        return "no search was sampled yet"
    return f"{view.live_recall.recall:.3f} in {view.live_recall.samples} sampled searches"


def _encoder_table(view: IndexView) -> str:
    """Every encoder, and how far the move to the one that the spec names is."""
    head = ("encoder", "fingerprint", "dimensions", "used for", "gateways", "complete", "generations")
    listed = table(
        head,
        [
            (
                one.encoder,
                one.fingerprint,
                str(one.dimension),
                _used_for(one),
                f"{one.held_by} of {one.gateways}",
                "yes" if one.complete else "no",
                ", ".join(one.generations),
            )
            for one in view.encoders
        ],
    )
    problems = [f"{one.fingerprint}: {one.problem}" for one in view.encoders if one.problem]
    move = [] if view.migration is None else [f"{view.migration.phase}: {view.migration.message}"]
    return "\n".join([listed, *problems, *move])


def _used_for(one: EncoderView) -> str:
    if one.searched:
        return "searches, writes"
    return {"joining": "is loaded", "required": "writes", "leaving": "nothing more"}[one.state]


def _replica_table(replicas: Sequence[ReplicaView]) -> str:
    head = ("shard", "replica", "rows", "fresh", "live recall", "loaded")
    return table(
        head,
        [
            (
                f"{one.shard} of {one.shards}" if one.shards else str(one.shard),
                one.replica,
                str(one.rows),
                str(one.fresh),
                "" if one.live_recall is None else f"{one.live_recall:.3f} ({one.live_recall_samples})",
                ", ".join(one.generations),
            )
            for one in replicas
        ],
    )


def _curve(number: int, curve: Curve) -> list[str]:
    head = f"segment {number}: {curve.family}"
    drawn = in_characters(curve)
    if not drawn:
        return [f"{head}, every row is scanned: recall is 1"]
    measured = f"{curve.queries} held-out queries; an exact search takes {curve.exact_latency_ms:.2f} ms"
    return [f"{head}, {measured}", *drawn]


def generation_table(views: Sequence[GenerationView]) -> str:
    """A line for each generation, and why failed and refused ones are."""
    if not views:
        return "no generation was built yet: `visualindex index build` makes one"
    head = ("generation", "state", "images", "shards", "MiB", "families", "recall", "gate", "created")
    listed = table(
        head,
        [
            (
                view.generation,
                view.state,
                str(view.images),
                str(view.shards),
                f"{view.bytes / 2**20:.1f}",
                ", ".join(view.families),
                f"{view.recall['recall']:.3f}" if "recall" in view.recall else "",
                "" if view.gate is None else view.gate.verdict,
                f"{view.created_at:%Y-%m-%d %H:%M:%S}",
            )
            for view in views
        ],
    )
    problems = [f"{view.generation}: {view.problem}" for view in views if view.problem]
    return "\n".join([listed, *problems])


def job_table(views: Sequence[JobView]) -> str:
    """A line for each job."""
    if not views:
        return "no job was asked for yet"
    return "\n".join(job_line(view) for view in sorted(views, key=_place_in_list, reverse=True))


def _place_in_list(job: JobView) -> tuple[dt.datetime, bool]:
    """By the second in which it was asked for; of one second, what has not ended is before what has."""
    return job.requested_at.replace(microsecond=0), job.ended_at is None


def job_page(job: JobView) -> str:
    """One job, and what came of it, a line for each figure."""
    lines = [f"{job.job_id}  {job.kind} {job.state}"]
    if job.problem:
        return "\n".join([*lines, job.problem])
    if not job.result:
        return "\n".join([*lines, _outcome(job)]).rstrip()
    sources = [SourceResult.model_validate(one) for one in job.result.get("sources", [])]
    findings = [FindingView.model_validate(one) for one in job.result.get("findings", [])]
    figures = {name: value for name, value in job.result.items() if name not in ("sources", "findings")}
    lines += [f"  {name:<14} {_figure(value)}" for name, value in figures.items()]
    lines += ["", *_sources_page(sources)] if sources else []
    lines += ["", *_findings_page(findings)] if findings else []
    return "\n".join(lines)


def _sources_page(sources: Sequence[SourceResult]) -> list[str]:
    """A line for each source of a batch, and below them some of what was refused."""
    counted = ("read", "created", "replaced", "unchanged", "refused")
    rows = [(one.location, *(str(getattr(one, name)) for name in counted), one.state) for one in sources]
    lines = [table(("location", "read", "new", *counted[2:], "state"), rows)]
    lines += [f"{one.location}: {one.note}" for one in sources if one.note]
    refused = [example for one in sources for example in one.examples[:_EXAMPLES]]
    if refused:
        lines += ["", "refused, for example:", *(f"  {one['place']}: {one['reason']}" for one in refused)]
    return lines


def _findings_page(findings: Sequence[FindingView]) -> list[str]:
    """A line for each kind of fault in each place, and examples below."""
    rows = [(one.kind, str(one.count), str(one.mended), one.place, one.action) for one in findings]
    lines = [table(("fault", "found", "mended", "where", "what to do, or was done"), rows)]
    shown = [(one, one.examples[:_EXAMPLES]) for one in findings if one.examples]
    return [*lines, "", *(f"{one.kind}: {', '.join(some)}" for one, some in shown)] if shown else lines


def _figure(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return str(value)


def job_line(job: JobView) -> str:
    """One job: what it is, where it stands, and what came of it."""
    return f"{job.job_id}  {job.kind:<6} {job.state:<9} {_outcome(job)}".rstrip()


def _outcome(job: JobView) -> str:
    if job.problem:
        return job.problem
    if job.result:
        told = {name: value for name, value in job.result.items() if not isinstance(value, (list, dict))}
        return ", ".join(f"{name} {value}" for name, value in told.items())
    if job.state in ("queued", "running", "paused"):
        counts = f"{job.done} of {job.total}" if job.total else f"{job.done} so far" if job.done else ""
        return f"{job.phase} {counts}".rstrip()
    return ""


def check_page(view: CheckView) -> str:
    """What a check found: a line for each kind of fault in each place, with examples below."""
    left = view.found - view.mended
    verdict = "consistent" if view.consistent else f"{left} fault{'' if left == 1 else 's'} left"
    replicas = f"{view.replicas} generation{'' if view.replicas == 1 else 's'} of replicas"
    compared = f"{view.images} images, {view.originals} originals, {replicas} compared"
    lines = [f"{verdict}: {compared}, {view.checked_at:%Y-%m-%d %H:%M:%S}"]
    if not view.findings:
        return lines[0]
    return "\n".join([*lines, "", *_findings_page(view.findings)])


def schedule_table(views: Sequence[ScheduleView]) -> str:
    """A line for each schedule, and below it one for each of its last times."""
    if not views:
        return "no schedule is declared: spec.reindex.schedules has them"
    lines = []
    for view in views:
        zone = ZoneInfo(view.time_zone)
        upcoming = "suspended" if view.next_at is None else f"next {_minute(view.next_at, zone)}"
        lines.append(f"{view.name}  {view.kind}  {view.cron} ({view.time_zone})  {upcoming}")
        lines += [f"  {_schedule_run(run, zone)}" for run in view.runs]
    return "\n".join(lines)


def _schedule_run(run: ScheduleRunView, zone: ZoneInfo) -> str:
    missed = f", {run.missed} before it missed" if run.missed else ""
    became = "" if run.became is None else f" {run.became}"
    problem = "" if run.problem is None else f": {run.problem}"
    job = f"  job {run.job_id}{became}{problem}" if run.job_id else ""
    return f"{_minute(run.scheduled_at, zone)}  {run.outcome}{missed}{job}"


def _minute(moment: dt.datetime, zone: ZoneInfo) -> str:
    """As its schedule counts: `2026-03-01 03:00+01:00`."""
    return moment.astimezone(zone).isoformat(" ", "minutes")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Columns as wide as their widest cell."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
