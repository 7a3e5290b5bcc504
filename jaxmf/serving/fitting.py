"""A trainer by name, as what a recommender answers from."""

import warnings
from typing import Literal, NamedTuple

from jaxtyping import Array, Key

from jaxmf.data.features import Sides, implicit_sides
from jaxmf.data.ratings import Ratings, hint
from jaxmf.data.settings import check_choice, check_whole
from jaxmf.model.kernels import Clicks, Kernel, for_range
from jaxmf.model.model import Model
from jaxmf.model.posterior import Posterior
from jaxmf.model.priors import Prior, Priors
from jaxmf.training import als, gibbs, sgd
from jaxmf.training.loop import Watch

Method = Literal["sgd", "als", "gibbs"]

SWEEPS, KEPT = 300, 40


def kernel_of(kernel: Kernel | str | None, ratings: Ratings, *, rated: bool = True) -> Kernel:
    """The kernel, or the one of that name for these ratings; where none is named logistic, and for clicks `Clicks`.

    Args:
        kernel: The kernel, or its name.
        ratings: The ratings.
        rated: Whether they were given as ratings, and not as events.

    Raises:
        ValueError: If it is no kernel, not one for clicks where there are no ratings, or all ratings are alike and
            leave its scale open.
    """
    low, high = float(ratings.rating.min()), float(ratings.rating.max())
    if not rated:
        if kernel is None or kernel == "clicks" or isinstance(kernel, Clicks):
            return kernel if isinstance(kernel, Clicks) else Clicks()
        raise ValueError(
            f"rating=None takes each row for a click, and kernel {kernel!r} is for ratings: name their column, or "
            "leave the kernel out"
        )
    if low == high and kernel in (None, "logistic", "polynomial", "rbf"):
        raise ValueError(
            f"every rating is {low}, which does not say what scale they are on: pass rating=None where these are "
            "clicks, or kernel=, such as jaxmf.kernels.Logistic(1.0, 5.0) or jaxmf.kernels.Linear()"
        )
    if kernel is None and (meant := hint(ratings)):
        warnings.warn(meant, UserWarning, stacklevel=3)
    if kernel is None or isinstance(kernel, str):
        return for_range(low, high, kernel or "logistic")
    if isinstance(kernel, type) or not isinstance(kernel, Kernel):
        raise ValueError(
            f"kernel must be a kernel or the name of one, got {kernel!r}: pass such as jaxmf.kernels.Linear()"
        )
    return kernel


def scale_of(kernel: Kernel, ratings: Ratings) -> tuple[float, float]:
    """What predictions are clipped to: the range of the ratings, and for clicks that of a probability."""
    if isinstance(kernel, Clicks):
        return kernel.low, kernel.high
    return float(ratings.rating.min()), float(ratings.rating.max())


class Settings(NamedTuple):
    """How a model is fitted: the arguments of `Recommender.fit` of the same names."""

    kernel: Kernel
    method: Method = "als"
    rank: int = 32
    prior: Prior | Priors | None = None
    epochs: int | None = None
    implicit: bool = False
    watch: Watch = Watch()


def fit_model(key: Key[Array, ""], ratings: Ratings, settings: Settings) -> Model | Posterior:
    """The model that a trainer makes of the ratings.

    A sixth of a chain's sweeps are burnt.

    Raises:
        ValueError: If there is no such method, or a setting is another method's or makes no sense.
    """
    _check(settings)
    kernel, method, rank, prior, epochs, implicit, watch = settings
    features = implicit_sides(ratings) if implicit else Sides()
    if method == "gibbs":
        sweeps = SWEEPS if epochs is None else epochs
        burn = sweeps // 6
        chain = {"features": features, "sweeps": sweeps, "burn": burn, "keep": max(1, min(KEPT, sweeps - burn))}
        return gibbs.fit(key, ratings, kernel=kernel, rank=rank, watch=watch, **chain).posterior
    trainer = als if method == "als" else sgd
    few = {"features": features} if epochs is None else {"features": features, "epochs": epochs}
    return trainer.fit(key, ratings, kernel=kernel, rank=rank, prior=prior, watch=watch, **few).model


def _check(settings: Settings) -> None:
    _, method, rank, prior, epochs, *_ = settings
    check_choice("method", method, Method)
    check_whole("rank", rank, least=1, meaning="the number of factors a row")
    if epochs is not None:
        check_whole("epochs", epochs, least=1, meaning="the number of passes over the ratings")
    if prior is not None and not isinstance(prior, Prior | Priors):
        raise ValueError(
            f"prior must be a Prior or Priors of jaxmf.priors, got {prior!r}: pass such as Prior(factor_reg=2.0)"
        )
    if prior is not None and method == "gibbs":
        raise ValueError('prior is given and method="gibbs" samples it: leave it out, or use "als" or "sgd"')
