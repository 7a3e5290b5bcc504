"""Ratings of six kinds and every method as it comes, no setting touched: `python scripts/anywhere.py`."""

import dataclasses
import importlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict, cast

import jax
import numpy as np
import pandas as pd
from common import features_of, refuse_idle, run, say, show
from kinds import SETS, TRUTH, Held, Kinds, at_hand
from scipy import sparse

import jaxmf
from jaxmf.data.history import History
from jaxmf.data.ratings import Ratings
from jaxmf.serving import models

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEVEL = 0.9
"""Share of the ratings that an interval should hold."""
DAMPING, ROUNDS = 5, 20


class Score(TypedDict):
    """How good an answer is, the share that its intervals hold where it gives some, and the seconds of its fit."""

    rmse: float
    coverage: float | None
    seconds: float


Result = dict[str, dict[str, Score]]
Name = Literal[
    "movielens",
    "movielens_5",
    "movielens_10",
    "movielens_20",
    "movielens_times_4",
    "movielens_minus_3",
    "movielens_100k",
    "movietweetings",
    "lectures",
    "synthetic",
    "data",
]


@dataclasses.dataclass
class Anywhere(Kinds):
    """Fit every method with its defaults to ratings of six kinds."""

    only: Name | None = None
    """One set alone."""

    def __post_init__(self) -> None:
        if self.data is None:
            refuse_idle(self, ("user", "item", "rating", "timestamp"), "without a file of ratings: name it with --data")
        if self.only is None:
            return
        for name in ("movielens_100k", "movietweetings", "data"):
            if self.only != name:
                refuse_idle(self, (name,), f"for the set {self.only}: drop --only")
            elif getattr(self, name) is None:
                raise ValueError(f"the set {name} needs its ratings: name them with --{name.replace('_', '-')}")
        if self.only == "movielens_100k":
            refuse_idle(self, ("split_seed",), "for the set movielens_100k, whose split is given: drop --only")


class Spread(NamedTuple):
    """Standard deviations of the held-out ratings about their predictions, noise included, and of the noise alone."""

    std: np.ndarray
    noise: np.ndarray

    @property
    def model_std(self) -> np.ndarray:
        """Of the predictions alone."""
        return np.sqrt(np.maximum(self.std**2 - self.noise**2, np.finfo(np.float32).tiny))


class Answer(NamedTuple):
    """What a method says of the held-out ratings.

    Attributes:
        predicted: Predictions, not clipped.
        seconds: Seconds of its fit, compilation apart.
        spread: How sure it is, where it says that.
        history: Its numbers by epoch, where it has some.
    """

    predicted: np.ndarray
    seconds: float
    spread: Spread | None = None
    history: Mapping[str, np.ndarray] = {}


def damped_biases(_args: Anywhere, held: Held) -> Answer:
    """μ + bᵤ + bᵢ, where a bias is the sum of what is left of its ratings by their number and `DAMPING`."""
    began = time.perf_counter()
    train, test = held.train, held.test
    mean, of_user, of_item = float(train.rating.mean()), np.zeros(train.n_users), np.zeros(train.n_items)
    for _ in range(ROUNDS):
        of_item = _damped(train.item, train.rating - mean - of_user[train.user], train.n_items)
        of_user = _damped(train.user, train.rating - mean - of_item[train.item], train.n_users)
    return Answer(mean + of_user[test.user] + of_item[test.item], time.perf_counter() - began)


def _damped(rows: np.ndarray, left: np.ndarray, size: int) -> np.ndarray:
    return np.bincount(rows, left, size) / (np.bincount(rows, minlength=size) + DAMPING)


def surprise(args: Anywhere, held: Held, *, tuned: bool = False) -> Answer:
    """Surprise's SVD."""
    algorithm = jaxmf.surprise.svd(tuned=tuned, seed=args.seed)
    known = jaxmf.surprise.dataset(held.train).build_full_trainset()
    began = time.perf_counter()
    algorithm.fit(known)
    seconds = time.perf_counter() - began
    pairs = zip(held.test.user, held.test.item, strict=True)
    return Answer(np.array([algorithm.predict(*pair).est for pair in pairs]), seconds)


def my_fm(args: Anywhere, held: Held) -> Answer:
    """MyFM at rank 10, 200 iterations, users and items a group each."""
    myfm = importlib.import_module("myfm")
    groups = [held.train.n_users, held.train.n_items]

    def one_hot(ratings: Ratings) -> sparse.csr_matrix:
        sides = zip(groups, (ratings.user, ratings.item), strict=True)
        return sparse.csr_matrix(sparse.hstack([sparse.csr_matrix(sparse.identity(n))[rows] for n, rows in sides]))

    model = myfm.MyFMRegressor(rank=10, random_seed=args.seed)
    began = time.perf_counter()
    model.fit(one_hot(held.train), np.asarray(held.train.rating, float), n_iter=200, group_shapes=groups)
    seconds = time.perf_counter() - began
    return Answer(np.asarray(model.predict(one_hot(held.test))), seconds)


def point(
    args: Anywhere,
    held: Held,
    *,
    trainer: Any,  # noqa: ANN401 a module with `fit`
    kernel: str = "logistic",
    features: str = "none",
) -> Answer:
    """A point model, its spread by Laplace's method as a `Recommender`'s is."""
    scaled, sides = jaxmf.kernels.for_range(*held.scale, kernel), features_of(features, held.train)
    fit = trainer.fit(jax.random.key(args.seed), held.train, kernel=scaled, features=sides)
    known, (user, item) = History(held.train), (held.test.user, held.test.item)
    noise = models.noise(fit.model, known)
    std = models.std(fit.model, known, noise, user, item)
    spread = Spread(std, np.full_like(std, np.sqrt(noise)))
    return Answer(np.asarray(fit.model.predict(user, item)), fit.seconds, spread, fit.history)


def gibbs(args: Anywhere, held: Held, *, features: str = "none") -> Answer:
    """A posterior: the mean over all sweeps after burn-in, and the spread over the draws that are kept."""
    sides, watch = features_of(features, held.train), jaxmf.Watch(validation=held.test)
    fit = jaxmf.gibbs.fit(jax.random.key(args.seed), held.train, features=sides, watch=watch)
    pairs = held.test.user, held.test.item
    std = np.asarray(jaxmf.posterior.predictive(fit.posterior, *pairs).std)
    noise = np.sqrt(jaxmf.posterior.noise_variance(fit.posterior, *pairs))
    return Answer(fit.predicted, fit.seconds, Spread(std, np.broadcast_to(noise, std.shape)), fit.history)


BASE = "damped biases"
OTHERS = (BASE, "Surprise SVD", "Surprise SVD, tuned", "myFM")
METHODS: dict[str, Callable[[Anywhere, Held], Answer]] = {
    BASE: damped_biases,
    "Surprise SVD": surprise,
    "Surprise SVD, tuned": partial(surprise, tuned=True),
    "myFM": my_fm,
    "SGD": partial(point, trainer=jaxmf.sgd),
    "ALS": partial(point, trainer=jaxmf.als),
    "ALS, linear": partial(point, trainer=jaxmf.als, kernel="linear"),
    "ALS, implicit": partial(point, trainer=jaxmf.als, features="implicit"),
    "Gibbs": gibbs,
    "Gibbs, implicit": partial(gibbs, features="implicit"),
}


def scores(held: Held, answer: Answer) -> dict[str, Score]:
    """How good an answer is; where the truth is known, also as one about the truth and about the noise.

    `rmse` of the truth is the clipped predictions' error about the ratings without their noise, and `coverage` that of
    intervals for these. `rmse` of the noise is the error of its standard deviation.
    """
    clipped, spread = np.clip(answer.predicted, *held.scale), answer.spread

    def score(rating: np.ndarray, std: np.ndarray | None) -> Score:
        inside = None if std is None else jaxmf.metrics.interval_coverage(answer.predicted, std, rating, LEVEL)
        return {"rmse": jaxmf.metrics.rmse(clipped, rating), "coverage": inside, "seconds": answer.seconds}

    found = {"": score(held.test.rating, spread and spread.std)}
    if held.truth is not None:
        found["_truth"] = score(held.truth, spread and spread.model_std)
        if spread is not None:
            error = jaxmf.metrics.rmse(spread.noise, np.full_like(spread.noise, TRUTH["noise"]))
            found["_noise"] = {"rmse": error, "coverage": None, "seconds": answer.seconds}
    return found


def measured(args: Anywhere, name: str, held: Held) -> Result:
    """Every method's scores on a set; a method whose package is not installed is left out."""
    result: Result = {}
    for method, fit in METHODS.items():
        try:
            answer = fit(args, held)
        except ImportError as error:
            say(f"{method} is left out: {error}")
            continue
        args.log(answer.history, set=name, method=method)
        for kind, score in scores(held, answer).items():
            result.setdefault(name + kind, {})[method] = score
    return result


def main(args: Anywhere) -> None:
    """Measure every method on every set, then print, plot and save."""
    names = [args.only] if args.only else [name for name in SETS if name != "data" or args.data]
    result: Result = {}
    for name in names:
        held = at_hand(args, name)
        if held is None:
            continue
        for one, found in measured(args, name, held).items():
            rows = [{"method": method, **score} for method, score in found.items()]
            show(f"{one}: {len(held.train):,} training ratings", rows)
            result[one] = found
    draw(args, result)
    args.save(result)


def draw(args: Anywhere, result: Result) -> None:
    """RMSE by that of damped biases, a row a set."""
    rows = [name for name in result if name in SETS]
    with args.plot("anywhere", "No setting touched", f"RMSE / RMSE of {BASE}", "") as axes:
        cast("Figure", axes.figure).set_size_inches(9, 5)
        for method in METHODS:
            at = [row for row, name in enumerate(rows) if method in result[name]]
            ratio = [result[rows[row]][method]["rmse"] / result[rows[row]][BASE]["rmse"] for row in at]
            axes.plot(ratio, at, "o", label=method)
        axes.set_yticks(range(len(rows)), rows)
        axes.invert_yaxis()
        axes.margins(x=0.2)


def tables(result: Result) -> str:
    """What `main` saved, as Markdown: errors, coverages and seconds, a row a method, then how the truth was found."""
    names = [name for name in SETS if name in result]
    columns = {SETS[name][0]: result[name] for name in names}
    parts = {
        "RMSE": _table({title: _column(of, "rmse", ".4f") for title, of in columns.items()}),
        "Share of the held-out ratings inside their 90 % intervals": _table(
            {title: _column(of, "coverage", ".3f") for title, of in columns.items()}
        ),
        "Seconds of a fit": _table({title: _column(of, "seconds", ".3g") for title, of in columns.items()}),
    }
    if "synthetic" in result:
        truth, noise = result["synthetic_truth"], result["synthetic_noise"]
        found = {
            "RMSE of the true expectation": _column(truth, "rmse", ".4f"),
            "the true expectation inside its 90 % interval": _column(truth, "coverage", ".3f"),
            "error of the noise's standard deviation": _column(noise, "rmse", ".3f"),
        }
        parts[f"The synthetic truth, whose noise has a standard deviation of {TRUTH['noise']:g}"] = _table(found)
    absent = [SETS[name][0] for name in SETS if name not in result and name != "data"]
    told = f"Not measured in this run, as the ratings were not at hand: {', '.join(absent)}.\n\n" * bool(absent)
    return told + "\n".join(f"### {title}\n\n{text}\n" for title, text in parts.items())


def _column(scores: dict[str, Score], field: Literal["rmse", "coverage", "seconds"], style: str) -> dict[str, str]:
    """A column's texts by method, of those that have the number."""
    return {method: format(score[field], style) for method, score in scores.items() if score[field] is not None}


def _table(columns: Mapping[str, Mapping[str, str]]) -> str:
    """Markdown of columns of texts, a row a method that is in one."""
    rows = [method for method in METHODS if any(method in column for column in columns.values())]
    named = [method if method in OTHERS else f"**jaxmf**, {method}" for method in rows]
    texts = {title: [column.get(method, "") for method in rows] for title, column in columns.items()}
    return pd.DataFrame({"method": named, **texts}).to_markdown(index=False, disable_numparse=True)


if __name__ == "__main__":
    run(main, Anywhere)
