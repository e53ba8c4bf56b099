"""The plugin's commands, run against the API server of the tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from tests.kubernetes.api_server import ApiServer
from tests.kubernetes.conftest import defined, indexes  # noqa: F401 - fixtures
from typer.testing import CliRunner

from visualindex_operator.kubectl.main import app

Run = Callable[..., Result]


@pytest.fixture
def run(api_server: ApiServer, namespace: str, tmp_path: Path) -> Run:
    """Run a command in the test's namespace."""

    def run(*arguments: str, answer: str = "", kubeconfig: Path | None = None) -> Result:
        environment = {
            "KUBECONFIG": str(kubeconfig or api_server.kubeconfig),
            "NO_COLOR": "1",
            "XDG_STATE_HOME": str(tmp_path),
        }
        return CliRunner().invoke(app, [*arguments, "-n", namespace], input=answer, env=environment)

    return run
