"""Search settings, many fits at once: `python scripts/tune.py --grid 64 --folds 5 --compare`."""

import dataclasses
import os
import tempfile
import time
from functools import partial
from typing import Any, Literal

import jax
import numpy as np
import pandas as pd
from common import Run, features_of, run, say, show

import jaxmf
from jaxmf import tune
from jaxmf.data.ratings import Ratings
from jaxmf.data.splits import Split
from jaxmf.model.kernels import Kernel

RANGES = {"item_factor_reg": (1.75, 28.0), "bias_reg": (1.0, 16.0)}
"""Around the trainers' defaults, 7 and 4. The users' factors keep theirs: of the two sides' regularisations only the
product matters, since one side's factors can shrink as the other's grow."""

SIDES = {side**3: side for side in (1, 2, 3, 4)}
"""Grids and how many values each of the three settings has."""

SURPRISE = {
    "n_factors": [25, 50, 100, 150],
    "n_epochs": [20, 30, 40, 60],
    "lr_all": [0.005, 0.01],
    "reg_all": [0.02, 0.08],
}
"""Around `SVD`'s defaults (100, 20, 0.005, 0.02) and the settings that do best on MovieLens latest-small."""


@dataclasses.dataclass
class Tune(Run):
    """Search the settings of alternating least squares by cross-validation."""

    grid: int | None = None
    """Configurations of a grid over `item_factor_reg`, `bias_reg` and `rank`: 1, 8, 27 or 64, the default."""
    random: int | None = None
    """Random configurations instead."""
    optuna: int | None = None
    """Trials of Optuna instead, a batch of fits on all folds each: for spaces that don't batch."""
    seeds: int = 1
    """Seeds of each configuration."""
    folds: int = 5
    """Random folds of cross-validation."""
    kernel: Literal["linear", "logistic", "polynomial", "rbf"] | None = None
    """Kernel; else the linear one, and for Optuna whichever a trial chooses."""
    features: Literal["none", "implicit"] = "none"
    """What the prior's mean is made of: nothing, or which items a user rated and which users an item (SVD++)."""
    epochs: int = 10
    """Sweeps of each fit."""
    halving: bool = False
    """Successive halving: a third of the configurations goes on after 2 epochs, and a third of those after 6."""
    chunk: int | None = None
    """Fits side by side on a device."""
    compare: bool = False
    """Fit the same one after another too, and let Surprise's GridSearchCV search 64 configurations of SVD."""

    def __post_init__(self) -> None:
        searches = [f"--{name}" for name in ("grid", "random", "optuna") if getattr(self, name) is not None]
        if len(searches) > 1:
            raise ValueError(f"{' and '.join(searches)} are different searches: ask for one of them")
        if not searches:
            self.grid = 64
        if self.grid is not None and self.grid not in SIDES:
            raise ValueError(f"--grid must be 1, 8, 27 or 64, got {self.grid}: it is a cube; or use --random")
        counted = {"random": "configurations", "optuna": "trials", "seeds": "seeds of each configuration"}
        for name, what in counted.items():
            number = getattr(self, name)
            if number is not None and number < 1:
                raise ValueError(f"--{name} must be 1 or more, got {number}: it is how many {what}; or leave it out")
        if self.optuna is None:
            self.kernel = self.kernel or "linear"
            return
        idle = {"kernel": self.kernel, "seeds": self.seeds > 1, "halving": self.halving, "compare": self.compare}
        given = [name for name, value in idle.items() if value]
        if given:
            raise ValueError(
                f"--{given[0]} can't be had with --optuna {self.optuna}, whose trials are a configuration each and "
                f"choose the kernel: leave it out, or search with --random {self.optuna}"
            )


def configurations(args: Tune) -> pd.DataFrame:
    """What is asked for, a row each."""
    if args.grid is None:
        return tune.random(args.seed, args.random, RANGES | {"rank": [4, 8, 16, 32]})
    side = SIDES[args.grid]
    regs = {name: np.geomspace(*ends, side).round(2).tolist() for name, ends in RANGES.items()}
    return tune.grid(regs | {"rank": [8, 16, 32, 4][:side]})


def search(args: Tune, ratings: Ratings, folds: list[Split], table: pd.DataFrame, kernel: Kernel) -> tune.Sweep:
    """All fits of a table."""
    trainer, halving = tune.ALS(epochs=args.epochs, chunk=args.chunk), tune.Halving(2, 3) if args.halving else None
    features = partial(features_of, args.features)
    return tune.sweep(ratings, folds, table, kernel=kernel, trainer=trainer, features=features, halving=halving)


def log(args: Tune, found: tune.Sweep, **where: int) -> None:
    """Keep each fit's RMSE by epoch, as far as it was trained or until it diverged."""
    fits = found.history.reshape(len(found.frame), -1)
    for fit, rmse in zip(found.frame.to_dict("records"), fits, strict=True):
        place = {name: fit[name] for name in ("configuration", "seed") if name in fit} | {"fold": fit["fold"] + 1}
        args.log({"validation_rmse": rmse[np.isfinite(rmse)]}, **(place | where))


def rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """A table as JSON can say it: what diverged has no number."""
    return table.astype(object).where(table.notna(), None).to_dict("records")


def one_after_another(args: Tune, ratings: Ratings, folds: list[Split], table: pd.DataFrame, kernel: Kernel) -> float:
    """Seconds of the same fits by `als.fit`, compilation apart."""
    seconds = 0.0
    for row in table.to_dict("records"):
        settings = {"rank": int(row["rank"]), "prior": tune.priors(row), "epochs": args.epochs}
        for split in folds:
            watch = jaxmf.Watch(validation=ratings.take(split.test))
            key, train = jax.random.key(int(row["seed"])), ratings.take(split.train)
            fit = jaxmf.als.fit(
                key, train, kernel=kernel, features=features_of(args.features, train), watch=watch, **settings
            )
            seconds += fit.seconds
    return seconds


def surprise_search(ratings: Ratings, folds: int) -> tuple[float, float]:
    """Seconds of Surprise's grid search on all cores, and its best RMSE."""
    from surprise import SVD
    from surprise.model_selection import GridSearchCV

    data = jaxmf.surprise.dataset(ratings)
    start = time.perf_counter()
    search = GridSearchCV(SVD, SURPRISE, measures=["rmse"], cv=folds, n_jobs=-1)
    search.fit(data)
    return time.perf_counter() - start, float(search.best_score["rmse"])


def optuna_search(args: Tune, ratings: Ratings, folds: list[Split]) -> dict[str, Any]:
    """A study whose trials choose the kernel too, which is no number: each is a sweep of one configuration."""
    try:
        import optuna
    except ImportError as error:
        raise ValueError("--optuna needs the extra `tune`: pip install 'jaxmf[tune]'") from error
    ends = (float(ratings.rating.min()), float(ratings.rating.max()))

    def objective(trial: optuna.Trial) -> float:
        kind = trial.suggest_categorical("kernel", ["linear", "logistic", "rbf"])
        row = {name: [trial.suggest_float(name, *limits, log=True)] for name, limits in RANGES.items()}
        row["rank"] = [trial.suggest_int("rank", 4, 32, log=True)]
        kernel = jaxmf.kernels.for_range(*ends, kind)
        found = search(args, ratings, folds, tune.grid(row), kernel)
        log(args, found, configuration=trial.number)
        return float(found.frame.rmse.mean(skipna=False))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=args.seed))
    start = time.perf_counter()
    study.optimize(objective, n_trials=args.optuna)
    seconds = time.perf_counter() - start
    trials = pd.DataFrame([{"configuration": one.number, **one.params, "rmse": one.value} for one in study.trials])
    if trials.rmse.isna().all():
        raise ValueError("every trial diverged on some fold: check the ratings, or search with --random")
    with args.plot("tune", f"Optuna, mean of {args.folds} folds", "trial", "RMSE") as axes:
        axes.plot(trials.configuration, trials.rmse, "o", alpha=0.7, label="trial")
        axes.plot(trials.configuration, trials.rmse.cummin(), label="best so far")
    ranking = trials.sort_values("rmse", ignore_index=True)
    show(f"Best of {args.optuna} trials on {args.folds} folds", ranking.head(10).to_dict("records"))
    of = {"configurations": args.optuna, "folds": args.folds, "epochs": args.epochs, "seconds": seconds}
    return of | {"best": study.best_params, "rmse": study.best_value, "ranking": rows(ranking)}


def compare(args: Tune, ratings: Ratings, folds: list[Split], table: pd.DataFrame, kernel: Kernel) -> dict[str, Any]:
    """What the others took."""
    with tempfile.TemporaryDirectory() as cache:  # als.fit compiles anew each time, which is not counted: save the wait
        jax.config.update("jax_compilation_cache_dir", cache)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        sequential = one_after_another(args, ratings, folds, table, kernel)
    jax.config.update("jax_compilation_cache_dir", None)
    seconds, rmse = surprise_search(ratings, args.folds)
    return {"seconds_sequential": sequential, "surprise_seconds": seconds, "surprise_rmse": rmse}


def report(args: Tune, found: tune.Sweep) -> dict[str, Any]:
    """Print and plot what was found, and give the numbers."""
    over = ["fold", "seed"]
    ranking = tune.summary(found.frame, over)
    n = len(ranking)
    show(f"Best of {n} configurations on {args.folds} folds", ranking.head(10).to_dict("records"))
    title = f"ALS, {args.kernel} kernel, mean of {args.folds} folds"
    with args.plot("tune_by_epoch", title, "epoch", "RMSE") as axes:
        number = found.frame["configuration"].to_numpy()[:: args.folds]
        for one in ranking["configuration"][::-1]:
            best = one == ranking["configuration"][0]
            style = {"label": "best"} if best else {"color": "grey", "lw": 0.5}
            axes.plot(np.arange(1, args.epochs + 1), found.history[number == one].mean((0, 1)), **style)
    with args.plot("tune", title, "item_factor_reg", "RMSE") as axes:
        for rank, part in ranking.groupby("rank"):
            axes.plot(part.item_factor_reg, part.rmse, "o", alpha=0.7, label=f"rank {rank}")
        axes.set_xscale("log")
    return {
        "configurations": n,
        "seeds": args.seeds,
        "folds": args.folds,
        "epochs": args.epochs,
        "compile_seconds": found.compile_seconds,
        "best": tune.best(found.frame, over),
        "rmse": ranking.rmse[0],
        "sd": ranking.sd[0],
        "ranking": rows(ranking),
    }


def main(args: Tune) -> None:
    """Search, then print, plot and save."""
    jax.config.update("jax_num_cpu_devices", os.cpu_count() or 1)
    ratings = args.load().ratings
    folds = jaxmf.splits.k_fold(len(ratings), args.folds, seed=args.seed_of_splits())
    if args.optuna is not None:
        args.save(optuna_search(args, ratings, folds))
        return
    seeds = pd.DataFrame({"seed": args.seed + np.arange(args.seeds)})
    table = configurations(args).merge(seeds, how="cross")
    kernel = jaxmf.kernels.for_range(float(ratings.rating.min()), float(ratings.rating.max()), args.kernel)
    start = time.perf_counter()
    found = search(args, ratings, folds, table, kernel)
    seconds = time.perf_counter() - start
    log(args, found)
    result = report(args, found) | {"seconds": seconds}
    say(f"\n{len(found.frame)} fits in {seconds:.1f} s, of which {found.compile_seconds:.1f} s compilation")
    if args.compare:
        result |= compare(args, ratings, folds, table, kernel)
        names = ("seconds", "seconds_sequential", "surprise_seconds")
        show("Seconds", [{name: result[name] for name in names}])
    args.save(result)


if __name__ == "__main__":
    run(main, Tune)
