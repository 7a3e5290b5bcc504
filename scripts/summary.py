"""What `make train` found, in words: `python scripts/summary.py --results results`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from common import run, say


@dataclasses.dataclass
class Summary:
    """Read the numbers of the other scripts and say what they mean."""

    results: Path = Path("results")
    """Folder with train.json, compare.json and fold_in.json."""


def read(path: Path) -> dict[str, Any]:
    """The numbers that a script left with `--json`.

    Raises:
        ValueError: If they are not there.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, json.JSONDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(
            f"{path} can't be read ({reason}): `make train` writes it; name the folder that it wrote to with --results"
        ) from None


def main(args: Summary) -> None:
    """Print it."""
    train, compare, fold_in = (read(args.results / f"{name}.json") for name in ("train", "compare", "fold_in"))
    surprise = compare["systems"]["Surprise SVD, tuned"]
    als, rmse = compare["systems"]["jaxmf ALS"], fold_in["rmse"]
    milliseconds = fold_in["latency_ms"]["single_p50"]
    say(f"""
Summary

- Data: {train["data"]["ratings"]:,} ratings of {train["data"]["items"]:,} films by {train["data"]["users"]:,} users.
- How far off is a predicted rating? RMSE {train["rmse"]:.4f} stars by SGD, {als["rmse"]:.4f} by ALS, on ratings that
  training did not see (5 folds). Surprise's tuned SVD on the same folds: {surprise["rmse"]:.4f}.
- How long does training take? ALS {als["fit_seconds"]:.2f} s, Surprise's tuned SVD {surprise["fit_seconds"]:.2f} s \
(compilation, {train["compile_seconds"] / len(train["folds"]):.1f} s a program, apart).
- Can a new user be added without retraining? Yes, in {milliseconds:.2f} ms: 1/{fold_in["speedup"]:,.0f} of a retrain.
  Their RMSE is {rmse["fold_in"]:.4f}; {rmse["full_retrain"]:.4f} with a full retrain, {rmse["no_fold_in"]:.4f} if they
  stay unknown.
- Plots and numbers: {args.results}/""")


if __name__ == "__main__":
    run(main, Summary)
