"""Good specs load as written; files are read as data, in order, and quantities mean what Kubernetes means."""

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visualindex.errors import ProblemError
from visualindex.spec import SpecError, VisualIndex, from_live, load_specs, parse_spec
from visualindex.spec.quantities import format_bytes, parse_bytes

EXAMPLES = Path(__file__).parents[2] / "examples"
HEAD = "apiVersion: visualindex.dev/v1alpha1\nkind: VisualIndex\nmetadata:\n  name: {name}\n"


def write(path: Path, text: str) -> Path:
    """A spec file at `path` with the given text."""
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(EXAMPLES.rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_is_a_valid_spec(path: Path) -> None:
    assert load_specs([path])


def test_the_examples_that_the_docs_promise_exist() -> None:
    names = {path.stem for path in EXAMPLES.glob("*.yaml")}
    assert {"furniture", "small", "open-clip-gpu", "two-indexes", "s3"} <= names


def test_documents_keep_their_order_across_files(tmp_path: Path) -> None:
    two = write(tmp_path / "two.yaml", HEAD.format(name="b") + "---\n" + HEAD.format(name="a"))
    one = write(tmp_path / "one.yaml", HEAD.format(name="c"))
    assert [spec.name for spec in load_specs([two, one])] == ["b", "a", "c"]


def test_an_anchor_may_be_shared_and_merged(tmp_path: Path) -> None:
    text = (
        HEAD.format(name="a")
        + "spec:\n  gateway: &n {replicas: 3}\n  encoder:\n    <<: *n\n    dimension: 64\n"
    )
    spec = load_specs([write(tmp_path / "a.yaml", text)])[0].spec
    assert (spec.gateway.replicas, spec.encoder.replicas, spec.encoder.dimension) == (3, 3, 64)


def test_metadata_of_kubernetes_passes_through(tmp_path: Path) -> None:
    text = (
        HEAD.format(name="a")
        + "  namespace: shop\n  labels: {team: search}\n  annotations: {since: 2026-01-01}\n"
    )
    metadata = load_specs([write(tmp_path / "a.yaml", text)])[0].metadata
    assert metadata.model_extra == {
        "namespace": "shop",
        "labels": {"team": "search"},
        "annotations": {"since": "2026-01-01"},
    }


def test_the_same_postgres_section_in_two_specs_is_no_conflict(tmp_path: Path) -> None:
    tail = "spec:\n  postgres: {dsn: 'postgresql://db/x'}\n"
    text = HEAD.format(name="a") + tail + "---\n" + HEAD.format(name="b") + tail
    assert len(load_specs([write(tmp_path / "a.yaml", text)])) == 2


def test_mistakes_of_all_files_come_in_one_report(tmp_path: Path) -> None:
    first = write(tmp_path / "first.yaml", HEAD.format(name="a") + "spec: {profil: small}\n")
    missing = tmp_path / "missing.yaml"
    binary = tmp_path / "picture.yaml"
    binary.write_bytes(b"\xff\xd8\xff\xe0 not text")
    with pytest.raises(SpecError) as caught:
        load_specs([first, missing, binary, tmp_path])
    report = str(caught.value).splitlines()
    assert report[0].startswith(f"{first}:5: spec.profil:")
    assert report[1] == f"{missing}: the file cannot be read: No such file or directory"
    assert report[2].startswith(f"{binary}: the file is not UTF-8 text")
    assert report[3] == f"{tmp_path}: the file cannot be read: Is a directory"


def test_a_valid_document_after_a_wrong_one_is_still_checked_for_its_name(tmp_path: Path) -> None:
    text = "\n---\n".join([HEAD.format(name="a"), HEAD.format(name="b") + "spec: 3", HEAD.format(name="a")])
    with pytest.raises(SpecError) as caught:
        load_specs([write(tmp_path / "a.yaml", text)])
    assert [(problem.document, problem.path) for problem in caught.value.problems] == [
        (2, "spec"),
        (3, "metadata.name"),
    ]


def test_an_endless_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="larger than 1048576 bytes"):
        load_specs([write(tmp_path / "a.yaml", "a: " + "x" * 1_100_000)])


@pytest.mark.parametrize("text", ["[" * 50_000, "spec: 1" + "0" * 10_000, "a: \x00", "%YAML 9.9\n---\na: 1"])
def test_hostile_text_is_a_spec_error_and_nothing_else(tmp_path: Path, text: str) -> None:
    with pytest.raises(SpecError):
        load_specs([write(tmp_path / "a.yaml", text)])


@given(st.text(max_size=200))
def test_any_text_is_a_spec_or_a_spec_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(text)
    with pytest.raises(SpecError):
        load_specs([path])


def test_no_file_at_all_is_an_error() -> None:
    with pytest.raises(SpecError, match="no VisualIndex document"):
        load_specs([])


def test_a_spec_error_is_a_problem_that_every_command_prints() -> None:
    with pytest.raises(ProblemError, match="the key `apiVersion` is required"):
        parse_spec({"kind": "VisualIndex"}, "stdin")


def test_a_spec_error_crosses_processes() -> None:
    with pytest.raises(SpecError) as caught:
        parse_spec({"kind": "VisualIndex"}, "stdin")
    assert pickle.loads(pickle.dumps(caught.value)).problems == caught.value.problems  # noqa: S301 - our own bytes
    assert json.dumps([problem.as_dict() for problem in caught.value.problems])


def test_the_python_form_of_a_spec_round_trips_through_the_reader() -> None:
    for path in EXAMPLES.glob("*.yaml"):
        for spec in load_specs([path]):
            again = parse_spec(json.loads(spec.model_dump_json(by_alias=True)), "round trip")
            assert isinstance(again, VisualIndex)
            assert again == spec


def test_a_live_object_is_its_name_and_its_spec_whatever_else_it_carries() -> None:
    metadata = {"name": "a", "namespace": "shop", "managedFields": [{"manager": "kubectl"}], "generation": 3}
    live = {
        "apiVersion": "visualindex.dev/v1alpha1",
        "kind": "VisualIndex",
        "metadata": metadata,
        "spec": {"profile": "small"},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    found = from_live(live)
    assert (found.name, found.spec.profile, found.metadata.model_extra) == ("a", "small", {})


def test_a_live_object_of_a_newer_definition_is_refused_by_its_key() -> None:
    with pytest.raises(SpecError, match=r"shop/a: spec\.sharpness: unknown key"):
        from_live({"metadata": {"name": "a", "namespace": "shop"}, "spec": {"sharpness": 3}})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2Gi", 2 * 1024**3),
        ("512Mi", 512 * 1024**2),
        ("1G", 10**9),
        ("1.5Gi", 3 * 512 * 1024**2),
        ("250k", 250_000),
        ("0.5Ki", 512),
        ("123", 123),
        (" 4Ki ", 4096),
    ],
)
def test_byte_sizes_are_kubernetes_quantities(text: str, expected: int) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize(
    "text", ["", "Gi", "-1Gi", "1 Gi", "1gi", "1e3", "0x10", "100m", "1.1", "٣Gi", "9" * 19]
)
def test_what_is_no_byte_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="byte"):
        parse_bytes(text)


@given(st.integers(min_value=0, max_value=2**62))
def test_a_written_byte_size_reads_back_as_itself(count: int) -> None:
    assert parse_bytes(format_bytes(count)) == count
