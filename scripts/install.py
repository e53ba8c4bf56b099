"""Installs the project into the interpreter's own environment, at the versions of constraints.txt.

uv does it in seconds where pip takes a minute. uv does not read pip's settings, so those a person may have made (an
index of their own, certificates, a proxy) are handed to it; where uv cannot be had or fails, pip does the work.
Run it with the environment's python and the extras: `.venv/bin/python scripts/install.py cpu,local`.
"""

import ast
import importlib.util
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")

_UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
}
_COMMA_SEPARATED = ("UV_FIND_LINKS",)


def main(extras: str) -> int:
    """Install `.[extras]`; the exit status of the installer that did it."""
    target = ["--constraint", "constraints.txt", "--editable", f".[{extras}]"]
    if _has_uv():
        # Ray's start-up limits are too short for a first start that compiles every module on the way.
        options = ["--python", sys.executable, "--compile-bytecode", "--build-constraints", "constraints.txt"]
        uv = [sys.executable, "-m", "uv", "pip", "install", *options, *target]
        if subprocess.run(uv, cwd=ROOT, env=_uv_environment(), check=False).returncode == 0:
            return 0
        sys.stderr.write("uv could not install it; trying with pip\n")
    return subprocess.run([*PIP, "install", *target], cwd=ROOT, check=False).returncode


def _has_uv() -> bool:
    """Whether uv is there, after an attempt to get it."""
    if importlib.util.find_spec("uv") is None:
        command = [*PIP, "install", "--quiet", "--constraint", "constraints.txt", "uv"]
        return subprocess.run(command, cwd=ROOT, check=False).returncode == 0
    return True


def _uv_environment() -> dict[str, str]:
    """This environment with pip's settings under uv's names; a uv setting that was made already stays."""
    listing = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
    return {**uv_settings(listing), **os.environ}


def uv_settings(pip_config: str) -> Mapping[str, str]:
    """uv's variables for the output of `pip config list`, where the environment wins over files."""
    settings: dict[str, str] = {}
    for line in sorted(pip_config.splitlines(), key=lambda line: line.startswith(":env:")):
        place, _, literal = line.partition("=")
        variable = _UV_NAMES.get(place.rpartition(".")[2])
        if variable:
            value = " ".join(str(ast.literal_eval(literal)).split())
            settings[variable] = value.replace(" ", ",") if variable in _COMMA_SEPARATED else value
    return settings


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
