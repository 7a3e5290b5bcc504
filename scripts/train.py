"""Train a model and measure it: `python scripts/train.py --method sgd --folds 5`."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import clicks
import jax
import numpy as np
from common import Run, features_of, refuse_idle, run, say, show

import jaxmf
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Kernel
from jaxmf.model.params import Params

IDLE = ("method", "kernel", "features", "likelihood", "folds", "keep", "every")
"""Options of ratings."""


@dataclasses.dataclass
class Train(clicks.Settings, Run):
    """Cross-validate one model."""

    feedback: Literal["ratings", "clicks"] = "ratings"
    """What the data are: ratings to be predicted, or clicks, whose held-out part is to be ranked high."""
    method: Literal["sgd", "als", "gibbs"] = "sgd"
    """Trainer."""
    kernel: Literal["linear", "logistic", "polynomial", "rbf"] | None = None
    """Kernel; else the logistic one, and the linear one for Gibbs sampling."""
    rank: int | None = None
    """Number of factors; else 32, and 10 for Gibbs sampling."""
    epochs: int | None = None
    """Passes over the ratings, or sweeps; else the trainer's default."""
    features: Literal["none", "implicit"] = "none"
    """Features of users and items; implicit feedback of both sides is SVD++ and SVD++ flipped."""
    likelihood: Literal["gaussian", "ordinal"] | None = None
    """Gibbs sampling only: ratings as numbers with noise (the default), or as ordered steps. Where it is given, the
    log-likelihood of the held-out ratings' steps is measured too."""
    folds: int = 5
    """Random folds of cross-validation."""
    official: bool = False
    """ML-100K only: the official folds u1 … u5 instead; of clicks the part ua."""
    progress: bool = True
    """Show progress on a terminal."""
    keep: Path | None = None
    """Folder where the state of each fold's fit is kept, to go on from where a run with the same options ended. The
    learning curve and the seconds are then of the epochs that were left."""
    every: int = 5
    """Epochs between two states that are kept."""

    def __post_init__(self) -> None:
        if self.feedback == "clicks":
            refuse_idle(self, IDLE, "for clicks: drop --feedback clicks")
            self.rank = 128 if self.rank is None else self.rank
            return
        refuse_idle(self, clicks.SETTINGS, "for ratings: add --feedback clicks")
        if self.official:
            refuse_idle(self, ("folds", "split_seed"), "with --official, whose folds are given: leave that out")
        if self.keep is None:
            refuse_idle(self, ("every",), "where no state is kept: name a folder with --keep")
        bayes = self.method == "gibbs"
        if self.kernel is None:
            self.kernel = "linear" if bayes else "logistic"
        if self.rank is None:
            self.rank = 10 if bayes else 32
        if self.likelihood is not None and not (bayes and self.kernel == "linear"):
            raise ValueError(
                f"--likelihood {self.likelihood} needs --method gibbs and the linear kernel, "
                f"got --method {self.method} --kernel {self.kernel}"
            )


def fit(
    args: Train, kernel: Kernel, fold: int, train: Ratings, test: Ratings
) -> tuple[np.ndarray, jaxmf.loop.Log, dict[str, float]]:
    """One fold's predictions of the test part, which training looks at for the plot of the learning curve alone.

    Then the log, and what was measured besides.
    """
    key = jax.random.key(args.seed)
    settings = {} if args.epochs is None else {"sweeps" if args.method == "gibbs" else "epochs": args.epochs}
    features = features_of(args.features, train)
    looks = args.method == "gibbs" or args.pictures
    epochs: list[int] = []
    watch = jaxmf.Watch(
        validation=test if looks else None,
        progress=args.progress,
        callback=follow(args, fold, epochs),
        keeper=None if args.keep is None else jaxmf.checkpoint.Keeper(args.keep / f"fold-{fold}", args.every),
    )
    if args.method == "gibbs":
        levels = np.unique(train.rating)
        ordinal = args.likelihood == "ordinal"
        likelihood = jaxmf.likelihoods.Ordinal(levels) if ordinal else jaxmf.likelihoods.Gaussian()
        settings |= {"kernel": kernel, "likelihood": likelihood, "rank": args.rank}
        result = jaxmf.gibbs.fit(key, train, features=features, watch=watch, **settings)
        measures = {} if args.likelihood is None else {"log_likelihood": likelihood_of(result.posterior, levels, test)}
        return result.predicted, log_of(result, epochs), measures
    trainer = {"sgd": jaxmf.sgd, "als": jaxmf.als}[args.method]
    result = trainer.fit(key, train, kernel=kernel, rank=args.rank, features=features, watch=watch, **settings)
    return np.asarray(result.model.predict(test.user, test.item)), log_of(result, epochs), {}


def follow(args: Train, fold: int, epochs: list[int]) -> Callable[[int, dict[str, float], Params], None] | None:
    """What notes a fold's epochs, the first of which is not 1 where a kept state is gone on from; else nothing."""
    if args.run is None and args.keep is None:
        return None

    def look(epoch: int, numbers: dict[str, float], _: Params) -> None:
        epochs.append(epoch)
        args.log_epoch(epoch, numbers, fold=fold)

    return look


def log_of(result: jaxmf.loop.Fit | jaxmf.gibbs.GibbsFit, epochs: list[int]) -> jaxmf.loop.Log:
    """A fit's log, with the epochs that its history is of where they were noted."""
    history = result.history | ({"epoch": np.array(epochs)} if epochs else {})
    return jaxmf.loop.Log(history, result.seconds, result.compile_seconds)


def likelihood_of(posterior: jaxmf.Posterior, levels: np.ndarray, test: Ratings) -> float:
    """Mean log-likelihood of the held-out ratings' steps; numbers are rounded to the nearest step."""
    if isinstance(posterior.draws.likelihood, jaxmf.likelihoods.Gaussian):
        posterior = jaxmf.posterior.rounded(posterior, levels)
    probabilities = jaxmf.posterior.class_probabilities(posterior, test.user, test.item)
    return jaxmf.metrics.log_likelihood_of_classes(np.asarray(probabilities), levels, test.rating)


def splits(args: Train, n: int) -> list[jaxmf.splits.Split]:
    """The folds asked for."""
    if args.official:
        if args.data is None:
            raise ValueError("--official needs ML-100K: give its folder with --data")
        official = jaxmf.datasets.movielens_100k_folds(args.data)
        return [official[f"u{fold}"] for fold in range(1, 6)]
    return jaxmf.splits.k_fold(n, args.folds, seed=args.seed_of_splits())


def main(args: Train) -> None:
    """Fit and measure every fold, then print, plot and save."""
    if args.feedback == "clicks":
        clicks.main(args)
        return
    data = args.load()
    ratings = data.ratings
    low, high = float(ratings.rating.min()), float(ratings.rating.max())
    kernel = jaxmf.kernels.for_range(low, high, args.kernel)
    say(
        f"{len(ratings):,} ratings of {ratings.n_items:,} items by {ratings.n_users:,} users; "
        f"{args.method}, {kernel}, rank {args.rank}"
    )
    folds, curves, compile_seconds = [], [], 0.0
    for fold, split in enumerate(splits(args, len(ratings)), 1):
        train, test = ratings.take(split.train), ratings.take(split.test)
        predicted, log, measures = fit(args, kernel, fold, train, test)
        predicted = np.clip(predicted, low, high)
        errors = {"rmse": jaxmf.metrics.rmse(predicted, test.rating), "mae": jaxmf.metrics.mae(predicted, test.rating)}
        folds.append(errors | measures | {"fit_seconds": log.seconds})
        curves.append(log.history)
        compile_seconds += log.compile_seconds
    means = {name: float(np.mean([fold[name] for fold in folds])) for name in folds[0]}
    show("By fold", [{"fold": str(at + 1), **fold} for at, fold in enumerate(folds)] + [{"fold": "mean", **means}])
    with args.plot(
        "learning_curve", f"{args.method}, {args.kernel} kernel, rank {args.rank}", "epoch", "test RMSE"
    ) as axes:
        for at, curve in enumerate(curves):
            values = curve.get("rmse", [])
            axes.plot(curve.get("epoch", np.arange(1, len(values) + 1)), values, label=f"fold {at + 1}")
    args.save(
        {
            "data": {"ratings": len(ratings), "users": ratings.n_users, "items": ratings.n_items},
            "method": args.method,
            "kernel": args.kernel,
            "likelihood": args.likelihood or "gaussian",
            "features": args.features,
            "rank": args.rank,
            "folds": folds,
            **means,
            "compile_seconds": compile_seconds,
        }
    )


if __name__ == "__main__":
    run(main, Train)
