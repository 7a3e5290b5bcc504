"""Our rows of the results page: which runs they are of, and what is read off each."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

Row = dict[str, float]


class Table(NamedTuple):
    """Runs of ours, by name, and the row or rows that are read off each."""

    script: str
    settings: dict[str, str]
    rows: Callable[[str, dict[str, Any]], dict[str, Row]]
    repeated: bool = True
    """Whether every seed is run."""


def accuracy(name: str, result: dict[str, Any]) -> dict[str, Row]:
    """What `train.py` measured."""
    seconds = float(np.median([fold["fit_seconds"] for fold in result["folds"]]))
    return {f"**jaxmf**, {name}": {"RMSE": result["rmse"], "MAE": result["mae"], "seconds a fit": seconds}}


def online(name: str, result: dict[str, Any]) -> dict[str, Row]:
    """What `fold_in_timing.py` measured."""
    rmse, one, many = result["rmse"], result["latency_ms"]["single_p50"], result["batch_us_per_user"]
    return {
        f"**jaxmf**, {name}, folded in": {
            "RMSE": rmse["fold_in"],
            "one user, ms": one,
            "many at once, µs a user": many,
        },
        f"**jaxmf**, {name}, full retrain": {"RMSE": rmse["full_retrain"]},
    }


def searched(name: str, result: dict[str, Any]) -> dict[str, Row]:
    """What `tune.py` took."""
    fits = result["configurations"] * result["folds"]
    fields = {
        f"**jaxmf**, {fits} fits of {name} as one program, compilation included": "seconds",
        "the same one after another, compilation not counted": "seconds_sequential",
        f"Surprise, {fits} fits of SVD by GridSearchCV on all cores": "surprise_seconds",
    }
    return {system: {"seconds": result[field]} for system, field in fields.items()}


def ranked(name: str, result: dict[str, Any]) -> dict[str, Row]:
    """What `train.py --feedback clicks` measured."""
    row = {"NDCG@10": result["ndcg10"], "recall@20": result["recall20"], "seconds a sweep": result["sweep_seconds"]}
    return {f"**jaxmf**, {name}": row}


TABLES = {
    "ratings": Table(
        "train.py",
        {
            "SGD, logistic kernel, rank 32": "--method sgd",
            "ALS, logistic kernel, rank 32": "--method als",
            "ALS, implicit features of both sides": "--method als --features implicit",
            "Gibbs, rank 10, 200 sweeps": "--method gibbs --epochs 200",
            "Gibbs, implicit features of both sides, 300 sweeps": "--method gibbs --epochs 300 --features implicit",
        },
        accuracy,
    ),
    "new_users": Table(
        "fold_in_timing.py",
        {
            "ALS, logistic kernel, rank 64": "--method als --retrains",
            "Gibbs, implicit features, 80 draws": "--method gibbs --features implicit",
        },
        online,
    ),
    "ml_100k": Table(
        "train.py",
        {
            "ALS, linear kernel, rank 64, u1 … u5": "--official --method als --kernel linear --rank 64",
            "Gibbs, implicit features of both sides, 250 sweeps, u1 … u5": (
                "--official --method gibbs --epochs 250 --features implicit"
            ),
        },
        accuracy,
    ),
    "clicks": Table(
        "train.py",
        {
            "rank 128": "--feedback clicks",
            "rank 128, settings searched": "--feedback clicks --search",
            "rank 256": "--feedback clicks --rank 256",
        },
        ranked,
    ),
    "search": Table("tune.py", {"ALS": "--grid 64 --folds 5 --compare"}, searched, repeated=False),
}
