"""What every trainer minimises: Σ w (r − r̂)² + the rows' priors, a sum over ratings and rows."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, ScalarLike

from jaxmf.data.ratings import AnyArray, Ratings
from jaxmf.model.kernels import Kernel
from jaxmf.model.params import Params, predict
from jaxmf.model.priors import Prior, Priors
from jaxmf.model.tables import Table


class Weights(NamedTuple):
    """Total weight of the ratings of each user and of each item."""

    user: Float[AnyArray, " users"]
    item: Float[AnyArray, " items"]


def weights(ratings: Ratings) -> Weights:
    """How much each row was rated, counted on the host."""
    user = np.bincount(ratings.user, ratings.weight, ratings.n_users)
    item = np.bincount(ratings.item, ratings.weight, ratings.n_items)
    return Weights(jnp.asarray(user.astype(np.float32)), jnp.asarray(item.astype(np.float32)))


class Means(NamedTuple):
    """Prior means of the rows of each side."""

    user: Table
    item: Table


def loss(params: Params, kernel: Kernel, ratings: Ratings, priors: Priors, n: Weights) -> Float[Array, ""]:
    """Σ w (r − r̂)² + Σ priors over all ratings and all rows; `n` is `weights(ratings)`, the prior means are 0.

    Errors count in the kernel's unit.
    """
    return (
        squares(params, kernel, ratings) / kernel.unit**2
        + penalty(priors.user, params.user, n.user).sum()
        + penalty(priors.item, params.item, n.item).sum()
    )


def squares(params: Params, kernel: Kernel, ratings: Ratings) -> Float[Array, ""]:
    """Σ w (r − r̂)² over all ratings, in their own unit."""
    error = ratings.rating - predict(params, kernel, ratings.user, ratings.item)
    return jnp.sum(ratings.weight * error**2)


def batch_loss(
    params: Params,
    kernel: Kernel,
    batch: Ratings,
    priors: Priors,
    n_user: Float[AnyArray, " b"],
    n_item: Float[AnyArray, " b"],
    means: Means | None = None,
) -> Float[Array, ""]:
    """`loss` a unit of weight, estimated from a random batch of ratings.

    Each rating carries its share 1/n of its two rows' priors, so that with equal weights the estimate is unbiased.

    Args:
        params: Tables that the batch points into.
        kernel: The kernel.
        batch: The ratings.
        priors: The priors.
        n_user: Total weight of the ratings of each rating's user.
        n_item: The same of its item.
        means: Prior means of the tables' rows; else 0.
    """
    error = (batch.rating - predict(params, kernel, batch.user, batch.item)) / kernel.unit
    user, item = _away(params, means)
    share = penalty(priors.user, user[batch.user], n_user) / jnp.maximum(n_user, 1e-9)
    share += penalty(priors.item, item[batch.item], n_item) / jnp.maximum(n_item, 1e-9)
    total = jnp.sum(batch.weight)
    return jnp.sum(batch.weight * (error**2 + share)) / jnp.where(total > 0, total, 1)


def penalty(prior: Prior, table: Table, n: Float[AnyArray, " rows"]) -> Float[Array, " rows"]:
    """The prior's part of the objective, a row each.

    Args:
        prior: The prior.
        table: The rows, less their means.
        n: Total weight of each row's ratings.
    """
    return table.dot(table * prior.precision(n))


def _away(params: Params, means: Means | None) -> tuple[Table, Table]:
    """Each side's rows less their prior means."""
    return (params.user, params.item) if means is None else (params.user - means.user, params.item - means.item)


def rmse(params: Params, kernel: Kernel, ratings: Ratings, low: ScalarLike, high: ScalarLike) -> Float[Array, ""]:
    """Root mean squared error on `ratings` of predictions clipped to [`low`, `high`]."""
    predicted = jnp.clip(predict(params, kernel, ratings.user, ratings.item), low, high)
    return jnp.sqrt(jnp.sum(ratings.weight * (ratings.rating - predicted) ** 2) / jnp.sum(ratings.weight))
