"""Many fits at once: a grid or a random search over folds and seeds as one compiled program.

A job is the fit of one configuration on one fold. Jobs are spread over the devices, each device takes its own in
chunks, and the jobs of a chunk run side by side (`vmap`). Every fold is the same ratings under other weights, 0 where a
rating is held out, so that one set of indices and one compiled shape serve them all.

On a CPU a core is best used as a device of its own: `jax.config.update("jax_num_cpu_devices", os.cpu_count())` before
anything else touches JAX.
"""

import itertools
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from jaxmf.data.features import Sides
from jaxmf.data.ratings import Ratings
from jaxmf.data.settings import check_whole
from jaxmf.data.splits import Split
from jaxmf.model.kernels import Clicks, Kernel
from jaxmf.training import jobs, loop
from jaxmf.training.configurations import check as check_settings
from jaxmf.training.configurations import grid, numbers, priors, random
from jaxmf.training.folds import gather
from jaxmf.training.loop import Watch
from jaxmf.training.trainers import ALS, SGD, Trainer

__all__ = ["ALS", "SGD", "Halving", "Sweep", "Trainer", "best", "grid", "priors", "random", "summary", "sweep"]

MEASURED = ["configuration", "fold", "epoch", "rmse"]


class Halving(NamedTuple):
    """Successive halving (Jamieson & Talwalkar 2016): a rung's best 1/`eta` are trained for `eta` times its epochs.

    Configurations are ranked by their mean over folds and seeds, and all seeds of one are kept or dropped together.

    Attributes:
        first: Epochs of the first rung.
        eta: Of so many configurations one goes on.
    """

    first: int = 3
    eta: int = 3


class Sweep(NamedTuple):
    """What a sweep found.

    Attributes:
        frame: A row a fit: the configuration's number, the same for all its seeds, its settings, the fold, the epochs
            that it was trained for and the validation RMSE after the last of them; NaN where the fit diverged.
        history: Validation RMSE of each row that was asked for on each fold, after every epoch; NaN after the last one.
        seconds: Wall time of all fits, compilation apart.
        compile_seconds: Wall time of tracing and compiling.
    """

    frame: pd.DataFrame
    history: Float[np.ndarray, "rows folds epochs"]
    seconds: float
    compile_seconds: float


def sweep(
    ratings: Ratings,
    folds: Sequence[Split],
    configurations: pd.DataFrame,
    *,
    kernel: Kernel,
    trainer: Trainer = ALS(),
    features: Callable[[Ratings], Sides] = lambda _: Sides(),
    halving: Halving | None = None,
) -> Sweep:
    """Fit every configuration on every fold, and measure it on what the fold holds out after every epoch.

    A fit is that of the trainer's `fit` on the ratings with the held-out ones at weight 0. One that diverges has
    RMSE NaN, and the others don't notice.

    Args:
        ratings: All ratings, on the host.
        folds: Positions to train on and to test on, a fold each.
        configurations: A row each (see `grid` and `random`). The columns: `rank` (else 32), `seed` (else 0), a prior's
            `bias_reg`, `factor_reg`, `power` and `link_reg`, of one side where they begin with `user_` or `item_`, and
            for SGD `learning_rate`.
        kernel: The kernel.
        trainer: `ALS(…)` or `SGD(…)`, with the settings that all fits share.
        features: Features of a fold's ratings, of which those held out have weight 0: `features.implicit_sides`, or for
            a table that no fold changes `lambda _: sides`.
        halving: Fit on with the best of each rung alone, by the same program. No fit's state is kept: a rung starts
            anew.

    Raises:
        ValueError: If a setting, a rating or a fold is out of range, or a column is unknown.

    Example:
        >>> from jaxmf.data.splits import k_fold
        >>> from jaxmf.model.kernels import Linear
        >>> user, item = np.divmod(np.arange(12), 4)
        >>> ratings = Ratings(user, item, 1.0 + (user + item) % 5, np.ones(12), n_users=3, n_items=4)
        >>> found = sweep(ratings, k_fold(12, 2), grid({"rank": [1, 2], "factor_reg": [0.1, 1.0]}), kernel=Linear())
        >>> len(found.frame), found.history.shape, sorted(best(found.frame))
        (8, (4, 2, 15), ['factor_reg', 'rank'])
    """
    _check(trainer, halving)
    if isinstance(kernel, Clicks):
        raise ValueError("an error says nothing of clicks, whose zeros were not observed: use jaxmf.choosing.sweep")
    epochs = trainer.epochs
    loop.check(ratings, kernel, 1, epochs, Watch())
    of_each = check_settings(configurations, trainer)
    data, todo = gather(ratings, folds, kernel, features), jobs.make(configurations, of_each, len(folds))
    start = time.perf_counter()
    program = jobs.compiled(data, todo, kernel=kernel, trainer=trainer)
    compile_seconds = time.perf_counter() - start
    history = np.full((len(configurations), len(folds), epochs), np.nan, np.float32)
    trained = np.zeros(len(configurations), int)
    number, alive = numbers(configurations), np.arange(len(configurations))
    for rung in _rungs(halving, epochs):
        wanted = np.repeat(np.isin(np.arange(len(configurations)), alive), len(folds))
        history[alive] = program(wanted, rung).reshape(history.shape)[alive]
        trained[alive] = rung
        if halving is not None and rung < epochs:
            alive = alive[_survive(number[alive], history[alive, :, rung - 1], halving.eta)]
    seconds = time.perf_counter() - start - compile_seconds
    return Sweep(_tidy(configurations, number, trained, history), history, seconds, compile_seconds)


def summary(frame: pd.DataFrame, over: Sequence[str] = ("fold",)) -> pd.DataFrame:
    """Mean and standard deviation of the RMSE, a row for each combination of the settings, the best first.

    Those that halving trained longest stand before the others, and those that diverged on any fold last of all.

    Args:
        frame: A sweep's.
        over: What the mean is over: `fold`, `seed`, or both.

    Raises:
        ValueError: If `over` names anything else, or a `seed` that the sweep had no column of.

    Example:
        >>> frame = pd.DataFrame({"configuration": 0, "seed": [0, 1], "fold": 0, "epoch": 5, "rmse": [0.8, 0.9]})
        >>> summary(frame, ["fold", "seed"]).round(3)
           configuration  epoch  rmse     sd  fits
        0              0      5  0.85  0.071     2
    """
    known = [name for name in ("fold", "seed") if name in frame]
    if isinstance(over, str):
        raise ValueError(f"over must be a list of names, got {over!r}: write [{over!r}]")
    unknown = [name for name in over if name not in known]
    if unknown:
        raise ValueError(f"no mean over {unknown[0]!r} of this frame: over may name {' and '.join(known)}")
    keys = [name for name in frame if name not in ("rmse", *over)]
    groups = frame.groupby(keys, sort=False, dropna=False)["rmse"]
    table = groups.agg(rmse=lambda x: x.mean(skipna=False), sd="std", fits="size").reset_index()
    order = table.assign(diverged=~np.isfinite(table["rmse"])).sort_values(
        ["diverged", "epoch", "rmse"], ascending=[True, False, True], ignore_index=True
    )
    return order.drop(columns="diverged")


def best(frame: pd.DataFrame, over: Sequence[str] = ("fold",)) -> dict[str, int | float]:
    """The settings that stand first in the `summary`: of those trained longest, the lowest mean RMSE.

    Raises:
        ValueError: If every configuration diverged, or `over` names what the frame has no column of.
    """
    first = summary(frame, over).iloc[0]
    if not np.isfinite(first["rmse"]):
        raise ValueError("every configuration diverged on some fold: raise `factor_reg`, or lower `learning_rate`")
    names = [name for name in frame if name not in (*MEASURED, *over)]
    return {name: frame[name].dtype.type(first[name]).item() for name in names}


def _survive(
    number: Int[np.ndarray, " rows"], rmse: Float[np.ndarray, "rows folds"], eta: int
) -> Bool[np.ndarray, " rows"]:
    """Which rows are of the best 1/`eta` of the configurations; one that diverged on any fold or seed is the worst."""
    names, of = np.unique(number, return_inverse=True)
    score = np.bincount(of, rmse.mean(1)) / np.bincount(of)
    return np.isin(number, names[np.argsort(score, kind="stable")[: max(1, len(names) // eta)]])


def _tidy(
    configurations: pd.DataFrame,
    number: Int[np.ndarray, " rows"],
    trained: Int[np.ndarray, " rows"],
    history: Float[np.ndarray, "rows folds epochs"],
) -> pd.DataFrame:
    n, folds, _ = history.shape
    row, fold = np.divmod(np.arange(n * folds), folds)
    measured = {"fold": fold, "epoch": trained[row], "rmse": history[row, fold, trained[row] - 1]}
    settings = configurations.iloc[row].reset_index(drop=True)
    return pd.concat([pd.DataFrame({"configuration": number[row]}), settings, pd.DataFrame(measured)], axis=1)


def _rungs(halving: Halving | None, epochs: int) -> list[int]:
    """Epochs of each rung."""
    rungs = [epochs]
    if halving is not None:
        steps = itertools.takewhile(lambda e: e < epochs, (halving.first * halving.eta**i for i in itertools.count()))
        rungs = [*steps, epochs]
    return rungs


def _check(trainer: object, halving: Halving | None) -> None:
    """Refuse settings of a sweep that are out of range."""
    if not isinstance(trainer, Trainer):
        raise ValueError(f"trainer must be an instance such as ALS() or SGD(batch_size=256), got {trainer!r}: call it")
    if halving is not None:
        check_whole("halving.first", halving.first, least=1, meaning="the epochs of the first rung")
        check_whole("halving.eta", halving.eta, least=2, meaning="of how many configurations one goes on")
