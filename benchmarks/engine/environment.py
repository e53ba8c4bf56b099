"""The peers' own virtual environment: none of them is a dependency of the product."""

import hashlib
import subprocess
import sys
from pathlib import Path

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".venv-peers"


def python() -> Path:
    """The interpreter of the peers' environment, which is made anew when what it should hold has changed."""
    installed, wanted = FOLDER / "requirements.sha256", hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    interpreter = FOLDER / "bin" / "python"
    if not installed.is_file() or installed.read_text() != wanted:
        print(f"installing the peers into {FOLDER}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(FOLDER)], check=True)
        subprocess.run(
            [str(interpreter), "-m", "pip", "install", "--quiet", "-r", str(REQUIREMENTS)], check=True
        )
        installed.write_text(wanted)
    return interpreter
