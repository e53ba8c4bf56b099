"""`visualindex plan`: what the indexes of a spec take for so many images, and whether that fits."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from visualindex.capacity.coefficients import Coefficients
    from visualindex.capacity.estimate import Capacity
    from visualindex.capacity.formulas import Load
    from visualindex.capacity.moving import Move
    from visualindex.spec import VisualIndex


def plan(
    files: Annotated[
        list[Path],
        typer.Option("--file", "-f", help="YAML files with VisualIndex documents.", show_default=False),
    ],
    images: Annotated[
        str, typer.Option("--images", "-n", help="Images per index: 10k, 200M, 1.5B.", show_default=False)
    ],
    original_bytes: Annotated[int, typer.Option(min=0, help="Mean bytes of an original.")] = 500_000,
    thumbnails: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the images whose thumbnails are asked for.")
    ] = 1.0,
    coefficients: Annotated[
        Path | None,
        typer.Option(
            help="JSON of benchmarks/coefficients.py in place of the shipped figures.", show_default=False
        ),
    ] = None,
    served: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            help="YAML files with what is served now: tells what a change of the encoder takes meanwhile.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON.")] = False,
) -> None:
    """Print what each index takes: shards, memory, disk, objects, build, encoder, Postgres, and what that rests on.

    Exit code 0: it fits; 1: it does not, or the spec is wrong. Each thing that does not fit says what would.
    """
    from visualindex.capacity.coefficients import DEFAULTS, Coefficients
    from visualindex.capacity.estimate import capacity
    from visualindex.capacity.formulas import Load

    load = Load(_count(images), original_bytes, thumbnails)
    measured = DEFAULTS if coefficients is None else Coefficients.read(coefficients)
    resources = _specs(files)
    found = {one.name: capacity(one.spec, load, measured) for one in resources}
    moves = _moves(_specs(served) if served else [], resources, load, measured)
    if as_json:
        document = _document(resources, found, load, measured)
        typer.echo(json.dumps({**document, "moves": [asdict(one) for one in moves]}, indent=2))
    else:
        _tell(resources, found, load, measured, own=coefficients is not None)
        _tell_moves(moves)
    if any(one.problems for one in found.values()):
        raise typer.Exit(1)


def _count(text: str) -> int:
    from visualindex.capacity.counts import parse_count

    try:
        return parse_count(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--images") from error


def _specs(files: list[Path]) -> "list[VisualIndex]":
    from visualindex.spec import SpecError, load_specs

    try:
        return load_specs(files)
    except SpecError as error:
        for problem in error.problems:
            typer.echo(str(problem), err=True)
        raise typer.Exit(1) from None


def _moves(
    served: "list[VisualIndex]", resources: "list[VisualIndex]", load: "Load", measured: "Coefficients"
) -> "list[Move]":
    from visualindex.capacity.moving import move

    before = {one.name: one.spec for one in served}
    found = [
        move(one.name, before[one.name], one.spec, load, measured) for one in resources if one.name in before
    ]
    return [one for one in found if one is not None]


def _tell_moves(moves: "list[Move]") -> None:
    from visualindex.capacity.telling import of_move

    for one in moves:
        typer.secho(f"While {one.index} moves from {one.before} to {one.after}", bold=True)
        for label, text in of_move(one):
            typer.echo(f"  {label:<16}{text}")


def _document(
    resources: "list[VisualIndex]", found: "dict[str, Capacity]", load: "Load", measured: "Coefficients"
) -> dict[str, Any]:
    indexes = [{"name": name, **one.to_json()} for name, one in found.items()]
    document = {"indexes": indexes, "load": asdict(load), "coefficients": measured.to_json()}
    return document | {"pods": _pods(resources)}


def _tell(
    resources: "list[VisualIndex]",
    found: "dict[str, Capacity]",
    load: "Load",
    measured: "Coefficients",
    *,
    own: bool,
) -> None:
    from visualindex.capacity.telling import assumptions, figures

    for name, one in found.items():
        typer.secho(name, bold=True)
        for label, text in figures(one):
            typer.echo(f"  {label:<16}{text}")
    for cluster in _pods(resources):
        indexes, pods = ", ".join(cluster["indexes"]), cluster["footprint"]
        typer.secho(f"On Kubernetes: {indexes}", bold=True)
        typer.echo(
            f"  {pods['pods']} pods with {pods['cpus']} CPUs, {pods['memory']} of memory and {pods['gpus']} GPUs"
        )
    typer.secho("Assumed", bold=True)
    for line in assumptions(load, measured, own=own):
        typer.echo(f"  {line}")
    for name, one in found.items():
        for problem in one.problems:
            typer.secho(f"{name} does not fit: {problem}", err=True, fg="red")


def _pods(resources: "list[VisualIndex]") -> list[dict[str, Any]]:
    """The pods of each Ray cluster of our own."""
    from visualindex.planning.shape import cluster_shape

    clusters: dict[str, list[VisualIndex]] = {}
    for one in resources:
        if one.spec.ray.mode == "KubeRay":
            clusters.setdefault(one.spec.ray.cluster or one.name, []).append(one)
    return [
        {
            "indexes": [one.name for one in members],
            "footprint": cluster_shape(members)
            .footprint([one.spec for one in members])
            .model_dump(mode="json"),
        }
        for members in clusters.values()
    ]
