"""Many fits at once: a grid or a random search over folds and seeds as one compiled program.

A job is the fit of one configuration on one fold. Jobs are spread over the devices, each device takes its own in
chunks, and the jobs of a chunk run side by side (`vmap`). Every fold is the same ratings under other weights, 0 where a
rating is held out, so that one set of indices and one compiled shape serve them all.

On a CPU a core is best used as a device of its own: `jax.config.update("jax_num_cpu_devices", os.cpu_count())` before
anything else touches JAX.
"""

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
import pandas as pd
from jaxtyping import Float, ScalarLike

from jaxmf.data.features import Sides
from jaxmf.data.ratings import Ratings
from jaxmf.data.splits import Split
from jaxmf.model.kernels import Kernel
from jaxmf.model.priors import DEFAULT, Prior, Priors, both_sides
from jaxmf.model.priors import check as check_prior
from jaxmf.training import jobs, loop
from jaxmf.training.folds import gather
from jaxmf.training.jobs import ALS, SGD, Trainer
from jaxmf.training.loop import Watch

__all__ = ["ALS", "SGD", "Halving", "Sweep", "best", "grid", "priors", "random", "summary", "sweep"]

PRIOR = ("bias_reg", "factor_reg", "power", "link_reg")
MEASURED = ["configuration", "fold", "epoch", "rmse"]


class Halving(NamedTuple):
    """Successive halving (Jamieson & Talwalkar 2016): a rung's best 1/`eta` go on to `eta` times its epochs.

    Attributes:
        first: Epochs of the first rung.
        eta: How many configurations one of them survives.
    """

    first: int = 3
    eta: int = 3


class Sweep(NamedTuple):
    """What a sweep found.

    Attributes:
        frame: A row a configuration and fold: its number, its settings, the fold, the epochs that it was trained for
            and the validation RMSE after the last of them; NaN where the fit diverged.
        history: Validation RMSE after every epoch; NaN after the last one.
        seconds: Wall time of all fits, compilation apart.
        compile_seconds: Wall time of tracing and compiling.
    """

    frame: pd.DataFrame
    history: Float[np.ndarray, "configurations folds epochs"]
    seconds: float
    compile_seconds: float


def grid(values: Mapping[str, Sequence[ScalarLike]]) -> pd.DataFrame:
    """Every combination of the values, a row each.

    Example:
        >>> grid({"rank": [8, 16], "factor_reg": [1.0, 4.0]})
           rank  factor_reg
        0     8         1.0
        1     8         4.0
        2    16         1.0
        3    16         4.0
    """
    return pd.DataFrame(list(itertools.product(*values.values())), columns=list(values))


def random(seed: int, n: int, ranges: Mapping[str, tuple[float, float] | Sequence[ScalarLike]]) -> pd.DataFrame:
    """`n` random configurations: a pair (low, high) is drawn from log-uniformly, of a list one value is picked.

    Raises:
        ValueError: If a pair is not ascending and positive.

    Example:
        >>> random(0, 2, {"rank": [8, 16], "factor_reg": (0.1, 10.0)}).round(3)
           rank  factor_reg
        0    16       0.346
        1    16       0.121
    """
    rng = np.random.default_rng(seed)
    columns = {}
    for name, values in ranges.items():
        if isinstance(values, tuple):
            low, high = (float(end) for end in values)
            if not 0 < low < high < np.inf:
                raise ValueError(
                    f"{name} can't be drawn log-uniformly from {values}: give 0 < low < high, or a list to pick from"
                )
            columns[name] = np.exp(rng.uniform(np.log(low), np.log(high), n))
        else:
            columns[name] = rng.choice(np.asarray(values), n)
    return pd.DataFrame(columns)


def sweep(
    ratings: Ratings,
    folds: Sequence[Split],
    configurations: pd.DataFrame,
    *,
    kernel: Kernel,
    trainer: Trainer = ALS(),
    prior: Prior | Priors = DEFAULT,
    features: Callable[[Ratings], Sides] = lambda _: Sides(),
    epochs: int = 15,
    halving: Halving | None = None,
    chunk: int | None = None,
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
        prior: What the columns leave out.
        features: Features of a fold's ratings, of which those held out have weight 0: `features.implicit_sides`, or for
            a table that no fold changes `lambda _: sides`.
        epochs: Sweeps or passes of each fit.
        halving: Fit on with the best of each rung alone, by the same program. No fit's state is kept: a rung starts
            anew.
        chunk: Fits side by side on a device, which holds the memory of that many at a time; else 1 on a CPU, whose
            caches hold one and where `vmap` costs twice the time, and 16 elsewhere.

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
    of_each = _check(ratings, configurations, kernel, trainer, prior, epochs, halving, chunk)
    data, todo = gather(ratings, folds, kernel, features), jobs.make(configurations, of_each, len(folds))
    start = time.perf_counter()
    settings = {"kernel": kernel, "trainer": trainer, "epochs": epochs, "chunk": chunk or _chunk()}
    program = jobs.compiled(data, todo, **settings)
    compile_seconds = time.perf_counter() - start
    history = np.full((len(configurations), len(folds), epochs), np.nan, np.float32)
    trained = np.zeros(len(configurations), int)
    alive = np.arange(len(configurations))
    for rung in _rungs(halving, epochs):
        wanted = np.repeat(np.isin(np.arange(len(configurations)), alive), len(folds))
        history[alive] = program(wanted, rung).reshape(history.shape)[alive]
        trained[alive] = rung
        if halving is not None and rung < epochs:
            score = np.nan_to_num(history[alive, :, rung - 1].mean(1), nan=np.inf)
            alive = alive[np.argsort(score, kind="stable")[: max(1, len(alive) // halving.eta)]]
    seconds = time.perf_counter() - start - compile_seconds
    return Sweep(_tidy(configurations, trained, history), history, seconds, compile_seconds)


def summary(frame: pd.DataFrame, over: Sequence[str] = ("fold",)) -> pd.DataFrame:
    """Mean and standard deviation of the RMSE, a row for each combination of the settings, the best first.

    Those that halving trained longest stand before the others, and those that diverged on any fold last.

    Args:
        frame: A sweep's.
        over: What the mean is over: `fold`, `seed`, or both.

    Example:
        >>> frame = pd.DataFrame({"configuration": 0, "seed": [0, 1], "fold": 0, "epoch": 5, "rmse": [0.8, 0.9]})
        >>> summary(frame, ["fold", "seed"]).round(3)
           epoch  rmse     sd  fits
        0      5  0.85  0.071     2
    """
    keys = [name for name in frame if name not in ("rmse", *over) and (name != "configuration" or "seed" not in over)]
    groups = frame.groupby(keys, sort=False)["rmse"]
    table = groups.agg(rmse=lambda x: x.mean(skipna=False), sd="std", fits="size").reset_index()
    return table.sort_values(["epoch", "rmse"], ascending=[False, True], ignore_index=True)


def best(frame: pd.DataFrame, over: Sequence[str] = ("fold",)) -> dict[str, int | float]:
    """The settings with the lowest mean RMSE.

    Raises:
        ValueError: If every fit diverged.
    """
    first = summary(frame, over).iloc[0]
    if not np.isfinite(first["rmse"]):
        raise ValueError("every configuration diverged on some fold: raise `factor_reg`, or lower `learning_rate`")
    names = [name for name in frame if name not in (*MEASURED, *over)]
    return {name: frame[name].dtype.type(first[name]).item() for name in names}


def priors(settings: Mapping[str, ScalarLike], prior: Prior | Priors = DEFAULT) -> Priors:
    """A configuration's priors, for a `fit` with its settings; `prior` is what they leave out.

    Raises:
        ValueError: If a value is out of range.

    Example:
        >>> found = priors({"rank": 8, "bias_reg": 3.0, "item_factor_reg": 2.0})
        >>> found.user.bias_reg, found.item.bias_reg, found.item.factor_reg
        (3.0, 3.0, 2.0)
    """

    def side(name: str, one: Prior) -> Prior:
        fields = {field: settings.get(field, getattr(one, field)) for field in PRIOR}
        return one.replace(**{field: settings.get(f"{name}_{field}", value) for field, value in fields.items()})

    default = both_sides(prior)
    return check_prior(Priors(side("user", default.user), side("item", default.item)))


def _tidy(
    configurations: pd.DataFrame, trained: np.ndarray, history: Float[np.ndarray, "configurations folds epochs"]
) -> pd.DataFrame:
    n, folds, _ = history.shape
    number, fold = np.divmod(np.arange(n * folds), folds)
    measured = {"fold": fold, "epoch": trained[number], "rmse": history[number, fold, trained[number] - 1]}
    settings = configurations.iloc[number].reset_index(drop=True)
    return pd.concat([pd.DataFrame({"configuration": number}), settings, pd.DataFrame(measured)], axis=1)


def _rungs(halving: Halving | None, epochs: int) -> list[int]:
    """Epochs of each rung."""
    rungs = [epochs]
    if halving is not None:
        steps = itertools.takewhile(lambda e: e < epochs, (halving.first * halving.eta**i for i in itertools.count()))
        rungs = [*steps, epochs]
    return rungs


def _chunk() -> int:
    return 1 if jax.default_backend() == "cpu" else 16


def _check(
    ratings: Ratings,
    configurations: pd.DataFrame,
    kernel: Kernel,
    trainer: Trainer,
    prior: Prior | Priors,
    epochs: int,
    halving: Halving | None,
    chunk: int | None,
) -> list[Priors]:
    """Each configuration's priors, when all settings are in range."""
    if not len(configurations):
        raise ValueError("no configuration: give one row or more, from `grid` or `random`")
    known = ["rank", "seed", *trainer.settings, *(side + name for side in ("", "user_", "item_") for name in PRIOR)]
    unknown = [name for name in configurations if name not in known]
    if unknown:
        raise ValueError(
            f"no setting {unknown[0]!r} of {type(trainer).__name__}: the columns may be {', '.join(known)}"
        )
    for name, lowest in (("rank", 1), ("seed", 0)):
        values = configurations[name].to_numpy() if name in configurations else np.array([lowest])
        bad = ~((values >= lowest) & (values < 2**31) & (values % 1 == 0))
        if bad.any():
            raise ValueError(f"{name} must be a whole number of {lowest} or more, got {values[bad][0]}")
    if "learning_rate" in configurations and not configurations["learning_rate"].between(0, np.inf, "neither").all():
        raise ValueError(f"learning_rate must be positive and finite, got {configurations['learning_rate'].min()}")
    if halving is not None and not (halving.first >= 1 and halving.eta >= 2):
        raise ValueError(f"halving needs first ≥ 1 and eta ≥ 2, got {halving}")
    if chunk is not None and not chunk >= 1:
        raise ValueError(f"chunk must be 1 or more, got {chunk}: it is how many fits run side by side")
    loop.check(ratings, kernel, 1, epochs, Watch())
    return [priors(row, prior) for row in configurations.to_dict("records")]
