"""Our trainers beside Surprise's SVD, same folds, same measure: `python scripts/compare_surprise.py`."""

import dataclasses

import jax
import numpy as np
from common import Run, run, show

import jaxmf


@dataclasses.dataclass
class Compare(Run):
    """Compare with Surprise."""

    folds: int = 5
    """Random folds of cross-validation."""


def main(args: Compare) -> None:
    """Fit every system on every fold, taking turns."""
    ratings = args.load().ratings
    low, high = float(ratings.rating.min()), float(ratings.rating.max())
    kernel = jaxmf.kernels.for_range(low, high)
    surprise = {
        "Surprise SVD, defaults": jaxmf.surprise.svd(seed=args.seed),
        "Surprise SVD, tuned": jaxmf.surprise.svd(tuned=True, seed=args.seed),
    }
    ours = {"jaxmf SGD": jaxmf.sgd, "jaxmf ALS": jaxmf.als}
    scores = {name: [] for name in [*surprise, *ours]}
    for fold, split in enumerate(jaxmf.splits.k_fold(len(ratings), args.folds, seed=args.seed_of_splits()), 1):
        for name, algorithm in surprise.items():
            scores[name].append(jaxmf.surprise.evaluate(algorithm, ratings, split))
        train, test = ratings.take(split.train), ratings.take(split.test)
        for name, trainer in ours.items():
            result = trainer.fit(jax.random.key(args.seed), train, kernel=kernel)
            args.log(result.history, system=name, fold=fold)
            predicted = np.clip(result.model.predict(test.user, test.item), low, high)
            errors = jaxmf.metrics.rmse(predicted, test.rating), jaxmf.metrics.mae(predicted, test.rating)
            scores[name].append(jaxmf.surprise.Score(*errors, result.seconds))
    means = {
        name: dict(zip(folds[0]._fields, np.mean(folds, 0).tolist(), strict=True)) for name, folds in scores.items()
    }
    show(f"Mean over {args.folds} folds", [{"system": name, **mean} for name, mean in means.items()])
    with args.plot("compare", f"Mean over {args.folds} folds", "seconds of a fit", "RMSE") as axes:
        for name, mean in means.items():
            axes.plot(mean["fit_seconds"], mean["rmse"], "o", label=name)
        axes.set_xscale("log")
    args.save({"folds": args.folds, "systems": means})


if __name__ == "__main__":
    run(main, Compare)
