"""A trainer by name, as what a recommender answers from."""

from typing import Literal, get_args

import jax
from jaxtyping import Array, Key

from jaxmf.data.features import Sides, implicit_sides
from jaxmf.data.ratings import Ratings
from jaxmf.model.kernels import Kernel
from jaxmf.model.priors import DEFAULT, Prior, Priors, both_sides
from jaxmf.serving.models import Point, Posterior
from jaxmf.training import als, gibbs, sgd
from jaxmf.training.loop import Watch

Method = Literal["sgd", "als", "gibbs"]

SWEEPS, KEPT = 300, 40


def fit_model(
    key: Key[Array, ""],
    ratings: Ratings,
    *,
    kernel: Kernel,
    method: Method = "als",
    rank: int = 32,
    prior: Prior | Priors | None = None,
    epochs: int | None = None,
    implicit: bool = False,
    progress: bool = False,
) -> Point | Posterior:
    """The model that a trainer makes of the ratings; arguments as in `Recommender.fit`.

    A sixth of a chain's sweeps are burnt.

    Raises:
        ValueError: If there is no such method, or a setting is another method's.
    """
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {get_args(Method)}, got {method!r}")
    watch = Watch(progress=progress)
    features = implicit_sides(ratings) if implicit else Sides()
    if method == "gibbs":
        if prior is not None:
            raise ValueError('prior is given and method="gibbs" samples it: leave it out, or use "als" or "sgd"')
        sweeps = SWEEPS if epochs is None else epochs
        burn = sweeps // 6
        settings = {"features": features, "sweeps": sweeps, "burn": burn, "keep": max(1, min(KEPT, sweeps - burn))}
        fitted = gibbs.fit(key, ratings, kernel=kernel, rank=rank, watch=watch, **settings)
        return Posterior(fitted.posterior, kernel, jax.random.fold_in(key, 1))
    priors = both_sides(DEFAULT if prior is None else prior)
    trainer = als if method == "als" else sgd
    settings = {"features": features} if epochs is None else {"features": features, "epochs": epochs}
    fitted = trainer.fit(key, ratings, kernel=kernel, rank=rank, prior=priors, watch=watch, **settings)
    return Point(fitted.params, kernel, priors, fitted.links)
