"""The results page's tables, every number over several seeds: `python scripts/results.py --seeds 3`."""

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
from common import run, say
from runs import RESULT, SETTINGS

SCRIPTS = Path(__file__).parent

RATINGS = {
    "SGD": "--method sgd",
    "ALS": "--method als",
    "ALS, implicit features": "--method als --features implicit",
    "Gibbs": "--method gibbs --epochs 200",
    "Gibbs, implicit features": "--method gibbs --epochs 300 --features implicit",
}
NEW_USERS = {
    "ALS": "--method als",
    "Gibbs, implicit features": "--method gibbs --features implicit",
}

Row = dict[str, float]


@dataclasses.dataclass
class Results:
    """Run every setting of a table once a seed, on the same splits, and write the table."""

    seeds: int = 3
    """Seeds of training: 0, 1, …"""
    only: Literal["ratings", "new_users"] | None = None
    """One table alone: held-out ratings of known users, or new users."""
    options: str = ""
    """Options for every run, such as `--folds 2 --data ratings.csv`."""
    out: Path = Path("results/results")
    """Folder for the runs and for `results.md`; a run that is there already is not repeated."""

    def __post_init__(self) -> None:
        if not self.seeds >= 1:
            raise ValueError(f"--seeds must be 1 or more, got {self.seeds}")


def accuracy(result: dict[str, Any]) -> Row:
    """What `train.py` measured."""
    seconds = float(np.median([fold["fit_seconds"] for fold in result["folds"]]))
    return {"RMSE": result["rmse"], "MAE": result["mae"], "seconds a fit": seconds}


def online(result: dict[str, Any]) -> Row:
    """What `fold_in_timing.py` measured."""
    rmse = result["rmse"]
    return {
        "RMSE, folded in": rmse["fold_in"],
        "RMSE, full retrain": rmse["full_retrain"],
        "one user, ms": result["latency_ms"]["single_p50"],
    }


def measured(folder: Path, script: str, options: str) -> dict[str, Any]:
    """The result of a run, which is run if it isn't there, and again where it was interrupted."""
    if not (folder / RESULT).exists():
        if (folder / SETTINGS).exists():
            shutil.rmtree(folder)
        command = [sys.executable, SCRIPTS / script, *shlex.split(options), "--run", folder]
        done = subprocess.run(command, check=False, stdout=subprocess.DEVNULL)
        if done.returncode:
            raise ValueError(f"{script} {options} failed (status {done.returncode}): its message is above")
    return json.loads((folder / RESULT).read_text())


def table(args: Results, script: str, settings: dict[str, str], row: Callable[[dict[str, Any]], Row]) -> str:
    """A Markdown table, mean ± standard deviation over the seeds, and the commands under it."""
    rows, commands = [], []
    for name, of_setting in settings.items():
        options = shlex.join(shlex.split(f"{of_setting} {args.options}"))
        commands.append(f"python scripts/{script} {options} --split-seed 0 --seed 0".replace("  ", " "))
        found = []
        for seed in range(args.seeds):
            say(f"{name}, seed {seed}")
            folder = args.out / f"{Path(script).stem}-{name.replace(', ', '-').replace(' ', '_')}-{seed}"
            found.append(row(measured(folder, script, f"{options} --split-seed 0 --seed {seed}")))
        frame = pd.DataFrame(found)
        cells = {column: f"{values.mean():.4f} ± {values.std():.4f}" for column, values in frame.items()}
        rows.append({"": name, **cells})
    text = pd.DataFrame(rows).to_markdown(index=False, disable_numparse=True)
    return f"{text}\n\n```shell\n" + "\n".join(commands) + "\n```\n"


def main(args: Results) -> None:
    """Write the tables asked for."""
    args.out.mkdir(parents=True, exist_ok=True)
    tables = {
        "ratings": ("Held-out ratings", "train.py", RATINGS, accuracy),
        "new_users": ("New users", "fold_in_timing.py", NEW_USERS, online),
    }
    chosen = [args.only] if args.only else list(tables)
    parts = []
    for name in chosen:
        title, script, settings, row = tables[name]
        parts.append(f"## {title}\n\nMean ± standard deviation over {args.seeds} seeds of training.\n\n")
        parts.append(table(args, script, settings, row) + "\n")
    page = args.out / "results.md"
    page.write_text("".join(parts))
    say(f"{page}")


if __name__ == "__main__":
    run(main, Results)
