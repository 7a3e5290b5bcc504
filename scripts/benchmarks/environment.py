"""The peers' environment: each is installed by itself, so that one that can't be built is known by its error."""

import json
import os
import subprocess
import sys
from pathlib import Path

from common import say

REQUIREMENTS = Path(__file__).parents[2] / "requirements-peers.txt"
BASE = ("numpy", "pandas", "setuptools")
"""What peers need but do not say, in the versions that suit all of them."""
FROM_SOURCE = ("cmfrec",)
DROPPED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "JAX_COMPILATION_CACHE_DIR")
"""Variables that would slow NumPy down, or hide what compiling costs."""


def variables() -> dict[str, str]:
    """The environment that every system runs in."""
    return {name: value for name, value in os.environ.items() if name not in DROPPED}


def install(folder: Path, peers: list[str]) -> dict[str, str]:
    """Make the environment where it isn't complete yet.

    Returns:
        For each peer that could not be installed the last line of its error.
    """
    python, done = interpreter(folder), folder / "installed.txt"
    if done.exists() and done.read_text() == REQUIREMENTS.read_text():
        return {}
    if not python.exists():
        say(f"making {folder.name} for the peers")
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    failed = {}
    for peer in (*BASE, *peers):
        say(f"installing {peer}")
        source = ["--no-binary", peer] if peer in FROM_SOURCE else []
        command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *source]
        command += ["--constraint", REQUIREMENTS, peer]
        result = subprocess.run(command, check=False, capture_output=True, text=True)
        if result.returncode:
            failed[peer] = last_line(result.stderr)
            say(f"{peer} could not be installed: {failed[peer]}")
    if not failed:
        done.write_text(REQUIREMENTS.read_text())
    return failed


def versions(python: Path | str, names: list[str]) -> dict[str, str]:
    """Versions of those of `names` that are installed."""
    listing = subprocess.run(
        [python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True
    ).stdout
    found = {one["name"].lower().replace("_", "-"): one["version"] for one in json.loads(listing)}
    return {name: found[name] for name in names if name in found}


def interpreter(folder: Path) -> Path:
    """The environment's Python."""
    return folder / "bin" / "python"


def last_line(text: str) -> str:
    """The last line that names an error; else the last that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no message"])[-1]
