"""What Serve is told of a gateway that cannot start."""

import pytest
from asgi_lifespan import LifespanManager

from visualindex.errors import ProblemError
from visualindex_serving.gateway import STARTUP, Gateway, Startup, create_app

DOCUMENT = {"apiVersion": "visualindex.dev/v1alpha1", "kind": "VisualIndex", "metadata": {"name": "chairs"}}


async def test_a_failed_start_is_raised_where_nobody_notes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUALINDEX_POSTGRES_DSN", raising=False)
    with pytest.raises(ProblemError, match="has no database to open"):
        async with LifespanManager(create_app([DOCUMENT])):
            pass


async def test_a_noted_failure_is_what_the_health_check_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VISUALINDEX_POSTGRES_DSN", raising=False)
    startup = Startup()
    async with LifespanManager(create_app([DOCUMENT], startup=startup)):
        pass
    monkeypatch.setattr(STARTUP, "failure", startup.failure)
    with pytest.raises(ProblemError, match="has no database to open"):
        Gateway().check_health()
