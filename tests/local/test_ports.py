"""A port that cannot be had: taken, not for everybody, or blamed for what is the address's fault."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from visualindex.errors import ProblemError, ProblemType
from visualindex.local.ports import is_free, require_free

UNPRIVILEGED = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
NOBODY = 65534


def test_a_port_that_somebody_listens_on_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert not is_free(port)
        with pytest.raises(ProblemError, match=f"Port {port} is in use") as refused:
            require_free(port)
    assert refused.value.type is ProblemType.UNAVAILABLE
    require_free(port)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid"])
def test_an_address_of_another_machine_is_not_blamed_on_the_port(host: str) -> None:
    with pytest.raises(ProblemError, match=f"{host} is not an IPv4 address of this machine"):
        is_free(8469, host)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_number_that_is_no_port(port: int) -> None:
    with pytest.raises(ProblemError, match=f"There is no port {port}"):
        is_free(port)


@pytest.mark.skipif(int(UNPRIVILEGED.read_text()) <= 80, reason="this machine lets everybody have port 80")
def test_a_port_for_root_is_not_called_in_use() -> None:
    code = "import os, sys; from visualindex.local.ports import require_free; os.setuid(int(sys.argv[1])); require_free(80)"
    user = NOBODY if os.geteuid() == 0 else os.geteuid()
    command = [sys.executable, "-c", code, str(user)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "ports below 1024 need root" in result.stderr
    assert "in use" not in result.stderr
