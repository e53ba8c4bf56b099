"""Every spec in `bad/` is refused with the message its `# expect:` lines state."""

from pathlib import Path

import pytest

from visualindex.spec import SpecError, load_specs

BAD = sorted((Path(__file__).parent / "bad").glob("*.yaml"))


def expectations(path: Path) -> list[str]:
    """The fragments after `# expect: ` in the head of a bad spec."""
    return [
        line.removeprefix("# expect: ")
        for line in path.read_text().splitlines()
        if line.startswith("# expect: ")
    ]


def test_there_are_many_bad_specs() -> None:
    assert len(BAD) >= 40


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_a_bad_spec_is_refused_with_a_message_that_helps(path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_specs([path])
    fragments = expectations(path)
    assert fragments, f"{path} states no expectation"
    for fragment in fragments:
        assert fragment in str(caught.value)


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_every_problem_names_the_file_and_speaks_no_pydantic(path: Path) -> None:
    with pytest.raises(SpecError) as caught:
        load_specs([path])
    for problem in caught.value.problems:
        assert problem.source == str(path)
        assert str(path) in str(problem)
        assert "Input should" not in problem.message
        assert "Value error" not in problem.message
