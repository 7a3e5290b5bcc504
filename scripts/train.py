"""Train a model and measure it: `python scripts/train.py --method sgd --folds 5`."""

import dataclasses
from typing import Literal

import jax
import numpy as np
from common import Run, arguments, say, show

import jaxmf

METHODS = {"sgd": jaxmf.sgd, "als": jaxmf.als}


@dataclasses.dataclass
class Train(Run):
    """Cross-validate one model."""

    method: Literal["sgd", "als"] = "sgd"
    """Trainer."""
    kernel: Literal["linear", "logistic", "polynomial", "rbf"] = "logistic"
    """Kernel."""
    rank: int = 32
    """Number of factors."""
    epochs: int | None = None
    """Passes over the ratings; else the trainer's default."""
    folds: int = 5
    """Random folds of cross-validation."""
    official: bool = False
    """ML-100K only: the official folds u1 … u5 instead."""
    progress: bool = True
    """Show progress on a terminal."""


def fit(
    args: Train, kernel: jaxmf.kernels.Kernel, train: jaxmf.ratings.Ratings, test: jaxmf.ratings.Ratings
) -> jaxmf.Fit:
    """One fold's model; the test part is only looked at for the plot of the learning curve."""
    watch = jaxmf.Watch(validation=test if args.plots else None, progress=args.progress)
    settings = {} if args.epochs is None else {"epochs": args.epochs}
    key = jax.random.key(args.seed)
    return METHODS[args.method].fit(key, train, kernel=kernel, rank=args.rank, watch=watch, **settings)


def splits(args: Train, n: int) -> list[jaxmf.splits.Split]:
    """The folds asked for."""
    if args.official:
        official = jaxmf.datasets.movielens_100k_folds(args.data)
        return [official[f"u{fold}"] for fold in range(1, 6)]
    return jaxmf.splits.k_fold(n, args.folds, seed=args.seed)


def main(args: Train) -> None:
    """Fit and measure every fold, then print, plot and save."""
    data = args.load()
    ratings = data.ratings
    low, high = float(ratings.rating.min()), float(ratings.rating.max())
    kernel = jaxmf.kernels.for_range(low, high, args.kernel)
    say(
        f"{len(ratings):,} ratings of {ratings.n_items:,} items by {ratings.n_users:,} users; "
        f"{args.method}, {kernel}, rank {args.rank}"
    )
    folds, curves, compile_seconds = [], [], 0.0
    for split in splits(args, len(ratings)):
        train, test = ratings.take(split.train), ratings.take(split.test)
        result = fit(args, kernel, train, test)
        predicted = jaxmf.params.predict(result.params, kernel, test.user, test.item)
        predicted = np.clip(predicted, low, high)
        errors = {"rmse": jaxmf.metrics.rmse(predicted, test.rating), "mae": jaxmf.metrics.mae(predicted, test.rating)}
        folds.append(errors | {"fit_seconds": result.seconds})
        curves.append(result.history)
        compile_seconds += result.compile_seconds
    means = {name: float(np.mean([fold[name] for fold in folds])) for name in folds[0]}
    show("By fold", [{"fold": str(at + 1), **fold} for at, fold in enumerate(folds)] + [{"fold": "mean", **means}])
    with args.plot(
        "learning_curve", f"{args.method}, {args.kernel} kernel, rank {args.rank}", "epoch", "test RMSE"
    ) as axes:
        for at, curve in enumerate(curves):
            values = curve.get("rmse", [])
            axes.plot(np.arange(1, len(values) + 1), values, label=f"fold {at + 1}")
    args.save(
        {
            "data": {"ratings": len(ratings), "users": ratings.n_users, "items": ratings.n_items},
            "method": args.method,
            "kernel": args.kernel,
            "rank": args.rank,
            "folds": folds,
            **means,
            "compile_seconds": compile_seconds,
        }
    )


if __name__ == "__main__":
    main(arguments(Train))
