"""When an application cannot be deployed, the head names the exception behind it in one line."""

import os
from pathlib import Path

from visualindex_serving.head import reason

_MESSAGE = """The deployment failed to start 3 times in a row. See controller logs for details. Error:
ray::ServeReplica:gateway:gateway.initialize_and_get_metadata() (pid=1, ip=127.0.0.1)
  File "replica.py", line 1, in initialize_and_get_metadata
RuntimeError: Traceback (most recent call last):
  File "replica.py", line 2, in start
RuntimeError: ASGI lifespan startup failed. Check replica logs for details.
"""
_LOG = """ERROR 2026-11-24 09:33:15,554 gateway_gateway u1z -- Traceback (most recent call last):
  File "loading.py", line 77, in _lite0_weights
    raise EncoderConfigError("ValueError: not at the start of a line")
visualindex.encoders.base.EncoderConfigError: encoder.checkpoint /w.pth is no file on this machine: check the path

ERROR 2026-11-24 09:33:15,554 gateway_gateway u1z -- Application startup failed. Exiting.
"""


def test_the_latest_replica_log_says_why(tmp_path: Path) -> None:
    """Serve's own message stops at the failed start."""
    for age, text in ((0, _LOG), (60, "KeyError: 'of an earlier replica'\n")):
        log = tmp_path / f"replica_gateway_gateway_{age}.log"
        log.write_text(text)
        os.utime(log, (1_000_000 - age, 1_000_000 - age))
    (tmp_path / "replica_index-shop_shard-0_a.log").write_text("OSError: of another deployment\n")
    assert reason("gateway_gateway", _MESSAGE, tmp_path) == (
        "visualindex.encoders.base.EncoderConfigError: "
        "encoder.checkpoint /w.pth is no file on this machine: check the path"
    )


def test_without_a_log_serves_message_is_searched(tmp_path: Path) -> None:
    assert reason("gateway_gateway", _MESSAGE, tmp_path) == (
        "RuntimeError: ASGI lifespan startup failed. Check replica logs for details."
    )


def test_a_message_without_an_exception_is_told_in_one_line(tmp_path: Path) -> None:
    assert reason("gateway_gateway", "Waited\n  too long.", tmp_path) == "Waited too long."
