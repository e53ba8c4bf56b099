"""What applying a file would cause, worked out here by the planner that the operator asks."""

from pathlib import Path

from visualindex.errors import ProblemError, ProblemType
from visualindex.spec import Spec, SpecError, VisualIndex, load_specs
from visualindex.spec.load import parse_spec
from visualindex.spec.status import Plan
from visualindex_operator.kubectl.cluster import Object
from visualindex_operator.kubectl.surroundings import status_of


def proposed(index: Object, file: Path) -> Plan | None:
    """The change from what is being served to what the file says of this index; None when it changes nothing."""
    from visualindex.planning.changes import propose_change

    name, status = str(index["metadata"]["name"]), status_of(index)
    return propose_change(_served(index, status.applied), _wanted(file, name), status.images, name)


def _served(index: Object, applied: Object | None) -> Spec:
    document = {
        "apiVersion": index["apiVersion"],
        "kind": index["kind"],
        "metadata": {"name": index["metadata"]["name"]},
        "spec": applied if applied is not None else index.get("spec", {}),
    }
    try:
        return parse_spec(document, "the served spec").spec
    except SpecError as error:
        detail = f"the served spec is not understood ({error.problems[0]}): use the plugin of the operator's release"
        raise ProblemError(ProblemType.INVALID_REQUEST, detail) from None


def _wanted(file: Path, name: str) -> Spec:
    specs = _read(file)
    for resource in specs:
        if resource.name == name:
            return resource.spec
    names = ", ".join(resource.name for resource in specs) or "none"
    raise ProblemError(ProblemType.INVALID_REQUEST, f"{file} has no VisualIndex '{name}': it has {names}")


def _read(file: Path) -> list[VisualIndex]:
    try:
        return load_specs([file])
    except SpecError as error:
        lines = "\n".join(str(problem) for problem in error.problems)
        raise ProblemError(ProblemType.INVALID_REQUEST, lines) from None
